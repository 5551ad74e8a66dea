"""Figures of plain values: matplotlib figures, SVG for pages, and pictures as PNG."""

from mechconn.plotting._charts import LABELS as LABELS
from mechconn.plotting._charts import curves_on as curves_on
from mechconn.plotting._charts import draw_bars as draw_bars
from mechconn.plotting._charts import draw_curves as draw_curves
from mechconn.plotting._charts import draw_heat_map as draw_heat_map
from mechconn.plotting._charts import draw_histories as draw_histories
from mechconn.plotting._charts import draw_plane as draw_plane
from mechconn.plotting._charts import look as look
from mechconn.plotting._charts import panel_grid as panel_grid
from mechconn.plotting._charts import plain_axes as plain_axes
from mechconn.plotting._charts import plain_text as plain_text
from mechconn.plotting._charts import terms_of as terms_of
from mechconn.plotting._svg import gaps as gaps
from mechconn.plotting._svg import inline_svg as inline_svg
from mechconn.plotting._svg import png as png
from mechconn.plotting._svg import sheet as sheet
