"""Pages that people open: one self-contained HTML file from a result alone, and sheets of samples."""

from mechconn.report._demo_record import DemoRecord as DemoRecord
from mechconn.report._page import flatten_settings as flatten_settings
from mechconn.report._page import make_data_url as make_data_url
from mechconn.report._page import render_template as render_template
from mechconn.report._page import save_report as save_report
from mechconn.report._path_figure import describe_path as describe_path
from mechconn.report._path_figure import draw_path_figure as draw_path_figure
from mechconn.report._sample_strips import draw_preview as draw_preview
from mechconn.report._sample_strips import make_strips as make_strips
