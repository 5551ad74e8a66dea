"""What a suite prints, and shows in notebooks: its splits, what each is for, the classes and the cue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mechconn.core import describe_classes, describe_rows
from mechconn.plotting import Header, Section, Table, render_template

if TYPE_CHECKING:
    from mechconn.datasets._suite import Suite

SHOWN = 8
"""Splits that are printed, so that a suite takes twelve lines at most."""


def print_suite(suite: Suite) -> str:
    """The suite in words, a line for each split."""
    names = list(suite)[:SHOWN]
    table = [(name, describe_rows(suite[name]), _find_role(suite, name)) for name in names]
    widths = [max(len(row[column]) for row in table) for column in (0, 1)]
    lines = [f"  {name:{widths[0]}}  {rows:{widths[1]}}  {role}".rstrip() for name, rows, role in table]
    more = len(suite) - len(names)
    lines += [f"  and {more} more"] if more else []
    head = f"Suite({len(suite)} splits, reference {suite.reference!r})"
    return "\n".join([head, *lines, *(f"  {fact}" for fact in _list_facts(suite))])


def render_suite(suite: Suite) -> str:
    """The suite as a table in HTML."""
    rows = tuple((name, describe_rows(suite[name]), _find_role(suite, name)) for name in suite)
    section = Section("splits", tables=(Table(("split", "data", "role"), rows),))
    return render_template("result.html.j2", header=Header("Suite"), findings=_list_facts(suite), sections=[section])


def _find_role(suite: Suite, name: str) -> str:
    """What a split is for; nothing where it is but evaluated."""
    if name == suite.reference:
        return "reference"
    if name not in suite.interventions:
        return ""
    draws = 1 + len(suite.redraws.get(name, ()))
    return "intervention" if draws == 1 else f"intervention, {draws} draws"


def _list_facts(suite: Suite) -> list[str]:
    """Classes and cue of the reference, where it has any."""
    scenes: Any = suite[suite.reference]
    cue = getattr(getattr(scenes, "scenes", scenes), "cue", None)  # through `Normalised`
    return [fact for fact in (describe_classes(scenes), "" if cue is None else f"cue {cue!r}") if fact]
