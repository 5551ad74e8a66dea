"""Reports that people open: one self-contained HTML file from a record alone, and sheets of samples."""

from mechconn._report._page import save_report as save_report
from mechconn._report._run_page import save_runs as save_runs
from mechconn._report._svg import sheet as sheet
