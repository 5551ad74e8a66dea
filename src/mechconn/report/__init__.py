"""Pages that people open: one self-contained HTML file from a result alone, and sheets of samples."""

from mechconn.report._demo_record import DemoRecord as DemoRecord
from mechconn.report._page import flat as flat
from mechconn.report._page import render as render
from mechconn.report._page import save_report as save_report
from mechconn.report._page import source as source
from mechconn.report._samples import preview as preview
from mechconn.report._samples import strips as strips
