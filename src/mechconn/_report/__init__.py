"""Reports that people open: one self-contained HTML file from a record alone, and sheets of samples."""

from mechconn._report._page import save_report as save_report
from mechconn._report._plots import bars as bars
from mechconn._report._plots import curves as curves
from mechconn._report._plots import heat_map as heat_map
from mechconn._report._plots import histories as histories
from mechconn._report._plots import plane as plane
from mechconn._report._run_page import save_runs as save_runs
from mechconn._report._svg import sheet as sheet

__all__ = ["bars", "curves", "heat_map", "histories", "plane", "save_report", "save_runs", "sheet"]
