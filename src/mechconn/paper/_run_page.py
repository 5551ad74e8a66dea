"""The report of runs: one page from the store's records alone, our numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mechconn.core import write_atomically
from mechconn.paper._run_cards import make_overview_card
from mechconn.paper._run_record import RunRecord
from mechconn.paper._split_names import LEGEND
from mechconn.plotting import flatten_settings, make_page_parts, render_template


def save_runs(records: Sequence[RunRecord], file: str | Path) -> None:
    """Write the report of runs as one self-contained HTML page; the file appears whole or not at all.

    Args:
        records: of the store, in the order of the page; nothing else is read.
        file: where to write; an existing file is replaced.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    runs = [(record, make_page_parts(record, record.id), flatten_settings(dict(record.settings))) for record in records]
    cards = [make_overview_card(record) for record in records]
    of_paper = all(record.is_of_paper for record in records)
    page = render_template("runs.html.j2", "paper", runs=runs, cards=cards, legend=LEGEND, of_paper=of_paper)
    write_atomically(Path(file), page.encode())
