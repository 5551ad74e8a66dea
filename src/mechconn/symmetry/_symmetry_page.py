"""A symmetry as people read it: lines, tables, a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mechconn.plotting import Drawing, Section, Table, draw_marks
from mechconn.symmetry._action import KINDS, PLURAL
from mechconn.symmetry._coverage import NOT_HIDDEN, describe_coverage

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure
    from mechconn.symmetry._symmetry import Symmetry

LISTED = 6
"""Groups of a kind that `print` lists."""


def make_sections(symmetry: Symmetry) -> list[Section]:
    """The groups with their axes, why other axes stay fixed, and why units have no signs or scales."""
    groups = [
        (g.name, g.kind, str(g.size), ", ".join(f"{name} axis {k}" for name, k, _ in g.members))
        for g in symmetry.groups
    ]
    headings = ("group", "kind", "units", "moves")
    tables = [Table(headings, tuple(groups), words=frozenset({0, 1, 3}))] if groups else []
    figures = (Drawing(symmetry.plot, "Units of every group. The table below holds the numbers."),) if groups else ()
    found = [Section("Units that can be moved", f"{describe_coverage(symmetry)}.", figures, tuple(tables))]
    fixed = {"Axes that stay fixed": symmetry.frozen, "Axes of which some units stay fixed": symmetry.partly_frozen}
    for title, reasons in fixed.items():
        rows = tuple((reason, str(number)) for reason, number in _count(reasons).items())
        if rows:
            found.append(Section(title, tables=(Table(("reason", "axes"), rows),)))
    if symmetry.without:
        table = Table(("group", "reason"), tuple(symmetry.without.items()), words=frozenset({0, 1}))
        found.append(Section("Signs, scales and linear maps that there are not", tables=(table,)))
    if symmetry.assumed:
        rows = tuple((text,) for text in symmetry.assumed)
        found.append(Section("Assumed of the input", tables=(Table(("assumed",), rows, words=frozenset({0})),)))
    if symmetry.approximate:
        rows = tuple((a.name, "not measured" if a.error is None else f"{a.error:.1e}") for a in symmetry.approximate)
        table = Table(("scales", "relative change of the outputs"), rows, words=frozenset({0}))
        text = "They hold up to the epsilon of a normalisation, and are no part of what is proved."
        found.append(Section("Scales that hold approximately", text, tables=(table,)))
    return found


def draw_units(symmetry: Symmetry, ax: Axes | None) -> Figure:
    """How many units each group has, group by group."""
    marks = [(float(group.size), float(group.size), float(group.size)) for group in symmetry.groups]
    return draw_marks([group.name for group in symmetry.groups], {"units": marks}, "units", "group", ax)


def list_lines(symmetry: Symmetry) -> Iterator[str]:
    """What `print` says below the coverage."""
    for kind in KINDS:
        groups = [group for group in symmetry.groups if group.kind == kind]
        for g in groups[:LISTED]:
            said = (
                "units"
                if kind == "permutation"
                else f"{kind}s"
                if kind in ("sign", "scale")
                else f"units, {PLURAL[kind]}"
            )
            first, axis, _ = g.members[0]
            yield f"  {g.name}: {g.size} {said}, axes: {len(g.members)}, the first {first} axis {axis}"
        if len(groups) > LISTED:
            yield f"  and {len(groups) - LISTED} more groups{'' if kind == 'permutation' else f' of kind {kind}'}"
    yield from _list_missing(symmetry)
    yield from _list_approximate(symmetry)
    if symmetry.unknown:
        yield f"  operations without a rule: {', '.join(symmetry.unknown)}"
    yield from (f"  assumes: {assumed}" for assumed in symmetry.assumed)
    if symmetry.rules:
        yield f"  rules of the user's: {', '.join(symmetry.rules.values())}"


def _list_approximate(symmetry: Symmetry) -> Iterator[str]:
    """Scales that hold approximately, and by how much the outputs change."""
    for action in symmetry.approximate[:LISTED]:
        error = "not measured" if action.error is None else f"{action.error:.1e}"
        yield f"  {action.name}: approximate, error {error}"
    if len(symmetry.approximate) > LISTED:
        yield f"  and {len(symmetry.approximate) - LISTED} more approximate groups"


def _list_missing(symmetry: Symmetry) -> Iterator[str]:
    """What is fixed, and what is missing among hidden units."""
    fixed = [f"{reason} ({number})" for reason, number in _count(symmetry.frozen).items()]
    if fixed:
        yield f"  fixed axes: {'; '.join(fixed)}"
    missing = {
        place: reason
        for place, reason in (*symmetry.frozen.items(), *symmetry.partly_frozen.items())
        if reason not in NOT_HIDDEN
    }
    places = [
        f"{name} axis {axis}{_describe_part(symmetry, name, axis)} ({why})" for (name, axis), why in missing.items()
    ]
    if places:
        more = f", and {len(places) - LISTED} more" if len(places) > LISTED else ""
        yield f"  missing: {', '.join(places[:LISTED])}{more}"
    reasons = Counter((name.rpartition(":")[2], why) for name, why in symmetry.without.items())
    for (kind, why), number in reasons.most_common(LISTED):
        yield f"  no {kind}: {why} ({number} group{'s' * (number != 1)})"


def _describe_part(symmetry: Symmetry, name: str, axis: int) -> str:
    """Which places of a partly fixed axis stay: the number of heads whose dimensions move, for example."""
    if (name, axis) not in symmetry.partly_frozen:
        return ""
    fixed = [factor for factor in symmetry.axes[name][axis] if isinstance(factor, int)]
    return f", its {fixed[0]} blocks" if fixed else ", in part"


def _count(reasons: Mapping[tuple[str, int], str]) -> dict[str, int]:
    return dict(Counter(reasons.values()).most_common())
