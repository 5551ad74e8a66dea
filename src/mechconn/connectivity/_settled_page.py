"""What a path shows that was read until settled: rises with intervals, how much was read, and both in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechconn.plotting import Section

if TYPE_CHECKING:
    from mechconn.connectivity._settled_path import SettledPath
    from mechconn.plotting import Axes, Figure


def make_settled_section(found: SettledPath, title: str, symmetry: str = "") -> Section:
    """The rises of a path with the table of its verdicts; `symmetry`: a sentence of the caption."""
    raise NotImplementedError


def write_settled_findings(found: SettledPath) -> Iterator[str]:
    """The verdict and at which points, how much was read, and what the estimates are worth."""
    raise NotImplementedError


def write_settled_lines(found: SettledPath) -> Iterator[str]:
    """A heading, and a line for each split."""
    raise NotImplementedError


def draw_settled_path(found: SettledPath, ax: Axes | None) -> Figure:
    """The rise at every visited point with its interval, a colour a split, and the tolerance."""
    raise NotImplementedError
