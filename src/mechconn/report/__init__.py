"""One self-contained HTML page from any result, results read back from files, and sheets of samples."""

from mechconn.report._page import load_result as load_result
from mechconn.report._page import save_report as save_report
from mechconn.report._preview import draw_preview as draw_preview
from mechconn.report._preview_interventions import PICTURES as PICTURES
from mechconn.report._preview_interventions import InterventionPreview as InterventionPreview
from mechconn.report._preview_interventions import preview_interventions as preview_interventions
