"""Which of the data a method reads as one heap of rows, whose groups are not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from mechconn.core import Data
from mechconn.descent import Method, Problem, require_cued_data

On: TypeAlias = Literal["cued", "clean", "both"]
CHOICES: tuple[On, ...] = ("cued", "clean", "both")


def take_cued_data(method: Method, on: On, cued: Mapping[str, Data]) -> Mapping[str, Data]:
    """The sources of data with a cue that are read, after refusing none where some are asked for."""
    return {} if on == "clean" else require_cued_data(method, cued)


def list_data(on: On, problem: Problem) -> list[tuple[str, Data]]:
    """(what errors call it, data) of everything that is read."""
    clean: list[tuple[str, Data]] = [] if on == "cued" else [("clean data", problem.clean)]
    return [*clean, *(("cued data", data) for data in problem.cued)]
