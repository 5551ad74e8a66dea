"""What is shown: the base of all results, tables, matplotlib figures, and HTML for pages and notebooks."""

from typing import TYPE_CHECKING

from mechconn.plotting._cards import MOST_ANSWERS as MOST_ANSWERS
from mechconn.plotting._cards import VERDICT_STYLES as VERDICT_STYLES
from mechconn.plotting._cards import Answer as Answer
from mechconn.plotting._cards import AnswerStyle as AnswerStyle
from mechconn.plotting._cards import Card as Card
from mechconn.plotting._cards import make_card as make_card
from mechconn.plotting._cards import write_sentence as write_sentence
from mechconn.plotting._charts import LABELS as LABELS
from mechconn.plotting._charts import Mark as Mark
from mechconn.plotting._charts import choose_line_style as choose_line_style
from mechconn.plotting._charts import draw_curves as draw_curves
from mechconn.plotting._charts import draw_histories as draw_histories
from mechconn.plotting._charts import draw_marks as draw_marks
from mechconn.plotting._charts import draw_plane as draw_plane
from mechconn.plotting._charts import draw_saved_ends as draw_saved_ends
from mechconn.plotting._charts import draw_split_curves as draw_split_curves
from mechconn.plotting._charts import draw_step_curves as draw_step_curves
from mechconn.plotting._charts import list_terms as list_terms
from mechconn.plotting._charts import make_figure as make_figure
from mechconn.plotting._charts import make_panel_grid as make_panel_grid
from mechconn.plotting._charts import make_panels as make_panels
from mechconn.plotting._charts import place_legend as place_legend
from mechconn.plotting._charts import strip_axes as strip_axes
from mechconn.plotting._effect_charts import draw_bands as draw_bands
from mechconn.plotting._effect_charts import draw_ranked_marks as draw_ranked_marks
from mechconn.plotting._examples import Examples as Examples
from mechconn.plotting._examples import make_examples_section as make_examples_section
from mechconn.plotting._histories import DescentResult as DescentResult
from mechconn.plotting._html import flatten_settings as flatten_settings
from mechconn.plotting._html import render_template as render_template
from mechconn.plotting._input_charts import draw_paths as draw_paths
from mechconn.plotting._input_charts import draw_sorted as draw_sorted
from mechconn.plotting._labels import escape_label as escape_label
from mechconn.plotting._left_out import leave_out as leave_out
from mechconn.plotting._map_charts import draw_embedding as draw_embedding
from mechconn.plotting._map_charts import draw_heat_map as draw_heat_map
from mechconn.plotting._map_charts import draw_labelled_tree as draw_labelled_tree
from mechconn.plotting._page_parts import make_page_parts as make_page_parts
from mechconn.plotting._result import Result as Result
from mechconn.plotting._result import read_result as read_result
from mechconn.plotting._result_figures import ResultFigure as ResultFigure
from mechconn.plotting._sections import Cell as Cell
from mechconn.plotting._sections import Drawing as Drawing
from mechconn.plotting._sections import Header as Header
from mechconn.plotting._sections import Section as Section
from mechconn.plotting._sections import Table as Table
from mechconn.plotting._sections import format_interval as format_interval
from mechconn.plotting._sections import print_table as print_table
from mechconn.plotting._svg import draw_sheet as draw_sheet

if TYPE_CHECKING:  # what pictures are, for annotations; matplotlib is imported when something is drawn
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
