"""Figures of plain values: matplotlib figures, SVG for pages, and pictures as PNG."""

from mechconn.plotting._charts import LABELS as LABELS
from mechconn.plotting._charts import choose_line_style as choose_line_style
from mechconn.plotting._charts import draw_bars as draw_bars
from mechconn.plotting._charts import draw_curves as draw_curves
from mechconn.plotting._charts import draw_heat_map as draw_heat_map
from mechconn.plotting._charts import draw_histories as draw_histories
from mechconn.plotting._charts import draw_plane as draw_plane
from mechconn.plotting._charts import draw_saved_ends as draw_saved_ends
from mechconn.plotting._charts import draw_split_curves as draw_split_curves
from mechconn.plotting._charts import escape_label as escape_label
from mechconn.plotting._charts import list_terms as list_terms
from mechconn.plotting._charts import make_panel_grid as make_panel_grid
from mechconn.plotting._charts import strip_axes as strip_axes
from mechconn.plotting._svg import draw_sheet as draw_sheet
from mechconn.plotting._svg import encode_png as encode_png
from mechconn.plotting._svg import inline_svg as inline_svg
from mechconn.plotting._svg import replace_not_finite as replace_not_finite
