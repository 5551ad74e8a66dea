"""What a path shows that was read until settled: rises with intervals, how much was read, and both in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mechconn.connectivity._profile_page import describe_norm, describe_shifts
from mechconn.connectivity._saved_ends import join_words
from mechconn.plotting import (
    Cell,
    Drawing,
    Section,
    Table,
    choose_line_style,
    escape_label,
    format_interval,
    make_panels,
    place_legend,
    strip_axes,
)

if TYPE_CHECKING:
    from mechconn.connectivity._settled_path import SettledPath, SettledPoint
    from mechconn.plotting import Axes, Figure

TABLE_NOTE = (
    "Small figures are 95 % intervals over {over} of the largest rise at the points allowed, whenever reading stopped. "
    "Connected: at every point allowed the upper bound is at most the tolerance; not connected: at some point the "
    "lower bound is above; else undetermined. What lies between the points was not looked at."
)
BIASED_AT_STOPPING = (
    "Rises, accuracies and means of a path that is read until settled are those of the rows read at the time of "
    "stopping, and biased: reading stops where a rise looks far from the tolerance. The intervals hold whenever it "
    "stops."
)


def make_settled_section(found: SettledPath, title: str, symmetry: str = "") -> Section:
    """The rises of a path with the table of its verdicts.

    Args:
        found: what was read.
        title: the heading.
        symmetry: which symmetries were removed, a sentence of the caption.
    """
    scale, form = _choose_form(found)
    rows = []
    for split, points in found.points.items():
        barrier = found.barrier(split)
        height = Cell(f"{scale * barrier.height:{form}}", format_interval(barrier.interval, scale, form))
        place = f"{barrier.t:.2g}" if points else ""
        inner = len(found.ts) - 2
        rows.append(
            (split, height, place, f"{len(points)} of {inner}", _show_rows(found, split),
             found.verdicts[split])
        )  # fmt: skip
    columns = (
        "split", f"largest rise ({_name_unit(found)})", "at t", "points visited", "rows read",
        f"within {scale * found.tolerance:g} {_name_unit(found)}",
    )  # fmt: skip
    over = "clusters of test samples" if found.clusters else "the test samples"
    table = Table(columns, tuple(rows), note=TABLE_NOTE.format(over=over))
    caption = (
        f"Rise of {_name_measure(found)} above the chord between the ends, at the points visited. Bars are intervals "
        f"that hold whenever reading stops.{describe_norm(found.settings.get('norm', {}))}"
    )
    picture = Drawing(
        lambda: draw_settled_path(found, None), _describe_picture(found), " ".join(filter(None, (caption, symmetry)))
    )
    return Section(title, figures=(picture,), tables=(table,), note=BIASED_AT_STOPPING)


def write_settled_findings(found: SettledPath) -> Iterator[str]:
    """The verdict, the rises, how much was read at which points, what estimates are worth, and shifted ends."""
    judged = found.judge()
    splits = ", ".join((found.reference, *found.interventions))
    other = "" if judged.evaluated == judged.verdict else f"; between the networks that it ends at: {judged.evaluated}"
    shifts = describe_shifts(judged.shifted, found.unit, found.names)
    at = " at these points" if judged.verdict == "connected" else ""
    yield f"Over {splits} the path is {judged.verdict}{at} ({describe_tolerance(found)}){other}.{shifts}"
    yield describe_rises(found)
    yield describe_reading(found)
    yield BIASED_AT_STOPPING
    yield from _describe_undefined(found)


def describe_tolerance(found: SettledPath) -> str:
    """The tolerance in words, with what it is of."""
    scale, _ = _choose_form(found)
    of = f" of {_name_measure(found)}" if found.on == "accuracy" else ""
    return f"tolerance {scale * found.tolerance:g} {_name_unit(found)}{of}"


def describe_rises(found: SettledPath) -> str:
    """The largest rise seen on every split with its place, its interval and its verdict."""
    scale, form = _choose_form(found)
    said = []
    for split, points in found.points.items():
        if not points:
            said.append(f"none seen on {split}")
            continue
        barrier = found.barrier(split)
        spread = format_interval(barrier.interval, scale, form)
        said.append(
            f"{scale * barrier.height:{form}} {_name_unit(found)} on {split} (t = {barrier.t:g}, 95 % interval "
            f"{spread}; {found.verdicts[split]})"
        )
    return f"Largest rises of {_name_measure(found)} seen: {'; '.join(said)}."


def describe_reading(found: SettledPath) -> str:
    """How many rows were read of each split, and at which points; of what lies between nothing is claimed."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for split in found.points:
        groups.setdefault(found.seen(split), []).append(f"{_show_rows(found, split)} rows of {split}")
    said = "; ".join(f"{join_words(rows)} at t = {', '.join(f'{t:g}' for t in at)}" for at, rows in groups.items())
    return (
        f"Read until settled, each split with 95 % confidence, at {len(found.ts)} points allowed: {said}. Of what lies "
        "between these points nothing is claimed."
    )


def write_settled_lines(found: SettledPath) -> Iterator[str]:
    """A heading, and a line for each split."""
    width, (scale, form) = max(map(len, found.points)), _choose_form(found)
    yield (
        f"{found.settings.get('path', 'a')} path, read until settled, {len(found.ts)} points allowed; largest rise of "
        f"{_name_measure(found)}, by split"
    )
    for split, points in found.points.items():
        barrier = found.barrier(split)
        spread = format_interval(barrier.interval, scale, form)
        yield (
            f"  {split:<{width}}  {found.verdicts[split]}: {scale * barrier.height:{form}} {_name_unit(found)} at "
            f"t = {barrier.t:g}, 95 % interval {spread}; {_show_rows(found, split)} rows at {len(points)} inner points"
        )
    yield from (f"  other ends: {shift}" for shift in found.shifted)
    yield from (f"  {sentence}" for sentence in _describe_undefined(found))


def draw_settled_path(found: SettledPath, ax: Axes | None) -> Figure:
    """The rise at every visited point with its interval, a colour a split, and the tolerance."""
    scale, _ = _choose_form(found)
    figure, (axes,) = make_panels(1, (7.0, 3.8), ax)
    axes.axhline(scale * found.tolerance, linestyle="--", linewidth=1, color="gray", label="tolerance")
    axes.axhline(0.0, linewidth=0.8, color="gray")
    step = min(after - t for t, after in zip(found.ts, found.ts[1:], strict=False))
    for number, (split, points) in enumerate(found.points.items()):
        shift = (number - (len(found.points) - 1) / 2) * 0.1 * step
        rises, spread = _list_marks(points, scale)
        across = [point.t + shift for point in points]
        axes.errorbar(across, rises, yerr=spread, linestyle="none", capsize=2, **choose_line_style(split, number))
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(found.ts if len(found.ts) <= 11 else [0.0, 0.25, 0.5, 0.75, 1.0])
    start, end = map(escape_label, found.names)
    axes.set_xlabel(f"t, from {start} (0) to {end} (1)")
    axes.set_ylabel(escape_label(f"rise of {_name_measure(found)} ({_name_unit(found)})"))
    strip_axes(axes)
    place_legend(figure, axes, ax is None)
    return figure


def _list_marks(points: Sequence[SettledPoint], scale: float) -> tuple[list[float], list[list[float]]]:
    """Rises, and how far their intervals reach below and above."""
    below = [scale * max(point.rise - point.interval[0], 0.0) for point in points]
    above = [scale * max(point.interval[1] - point.rise, 0.0) for point in points]
    return [scale * point.rise for point in points], [below, above]


def _describe_picture(found: SettledPath) -> str:
    return f"Rises along the path from {found.names[0]} to {found.names[1]}, with intervals. {describe_rises(found)}"


def _describe_undefined(found: SettledPath) -> Iterator[str]:
    for split, on, t, _ in found.undefined:
        yield f"Some row of {split} has no {on} at t = {t:g}, so that nothing more is claimed of {split}."


def _show_rows(found: SettledPath, split: str) -> str:
    total = found.samples[split]
    return f"{found.read[split]:,}" if total is None else f"{found.read[split]:,} of {total:,}"


def _choose_form(found: SettledPath) -> tuple[float, str]:
    """What rises are multiplied by, and how they are written."""
    return (100.0, ".2f") if found.on == "accuracy" else (1.0, ".3g")


def _name_measure(found: SettledPath) -> str:
    return "the error rate" if found.on == "accuracy" else found.on


def _name_unit(found: SettledPath) -> str:
    return "points" if found.on == "accuracy" else f"in {found.on}"
