"""What the barriers of a star show: by split with their intervals, the curves behind them, and the star by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mechconn.core import abbreviate_split
from mechconn.plotting import (
    Cell,
    Drawing,
    Mark,
    Section,
    Table,
    draw_marks,
    format_interval,
    make_panel_grid,
    place_legend,
    print_table,
    strip_axes,
)

if TYPE_CHECKING:
    from mechconn.connectivity._star_barriers import BarrierSummary, LineGroup, StarBarriers, StarLine
    from mechconn.plotting import Axes, Figure

GROUP_NAMES = {"held-out": "star to held-out runs", "source": "star to its sources", "pair": "between held-out runs"}
COLOURS = {"held-out": "#0072B2", "source": "#009E73", "pair": "#D55E00"}
STYLES = {"nearer": "holds", "farther": "does-not-hold", "not shown": ""}
CONDITIONAL = (
    "All intervals are conditional on this star, which is one draw: another, of other sources or another seed, may lie "
    "nearer or farther."
)


def write_star_headline(found: StarBarriers) -> str:
    """On how many splits the star is nearer to held-out runs than these are to each other."""
    splits, verdicts = found.splits, found.verdicts
    nearer, farther = ([split for split in splits if verdicts[split] == said] for said in ("nearer", "farther"))
    if len(nearer) == len(splits):
        return "The star is nearer to held-out runs than these are to each other, on every split"
    parts = [f"nearer to held-out runs than these are to each other on {_join(nearer)}"] if nearer else []
    parts += [f"farther on {_join(farther)}"] if farther else []
    if not parts:
        return "It is not shown that the star is nearer to held-out runs than these are to each other"
    return (
        f"The star is {', and '.join(parts)}; of the other splits nothing is shown"
        if _some_open(found)
        else (f"The star is {', and '.join(parts)}")
    )


def _some_open(found: StarBarriers) -> bool:
    return "not shown" in found.verdicts.values()


def _join(splits: Sequence[str]) -> str:
    return ", ".join(map(abbreviate_split, splits))


def write_star_findings(found: StarBarriers) -> Iterator[str]:
    """The mean barriers split by split, what they are conditional on, whether the star is a solution, and the notes."""
    for split in found.splits:
        star, runs, compared = found.mean(split, "held-out"), found.mean(split, "pair"), found.compare(split)
        ratio = "" if compared.ratio is None else f", {compared.ratio:.2f} of it"
        between = (
            ""
            if compared.judged_interval is None
            else (f" (difference {compared.difference:.4g}, between {_between(compared.judged_interval)})")
        )
        yield (
            f"On {split} the mean barrier is {runs.mean:.4g} between held-out runs and {star.mean:.4g} from the star "
            f"to them{ratio}: {compared.verdict}{between}."
        )
    yield CONDITIONAL
    yield from _describe_own(found)
    yield from found.notes


def _between(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4g} and {interval[1]:.4g}"


def _describe_own(found: StarBarriers) -> Iterator[str]:
    """Splits on which the star's loss is above that of every held-out run: there it is no solution like them."""
    worse = [
        split for split, own in found.star.items() if own.loss > max(run.loss[split] for run in found.runs.values())
    ]
    if worse:
        yield (
            f"The star's own loss is above that of every held-out run on {_join(worse)}: there it is no solution as "
            "they are, and a low barrier says the less, since it is measured from the chord between both losses."
        )


def list_star_rows(found: StarBarriers) -> list[dict[str, Any]]:
    """One record per split, measure and line."""
    measured = [
        (on, line, split, values)
        for on in ("loss", "accuracy")
        for line in found.lines
        for split, values in getattr(line, on).items()
    ]
    return [
        {
            "split": split,
            "on": on,
            "group": line.group,
            "a": line.a,
            "b": line.b,
            "barrier": found.heights(split, line.group, on)[line.a, line.b],
            "at_a": values[0],
            "at_b": values[-1],
            "samples": found.samples[split],
        }
        for on, line, split, values in measured
    ]


def make_star_sections(found: StarBarriers) -> Iterator[Section]:
    """Barriers by split, then the curves, then the star itself."""
    table = make_star_table(found)
    said = "; ".join(f"{abbreviate_split(split)}: {verdict}" for split, verdict in found.verdicts.items())
    yield Section(
        "Barriers by split",
        text=f"Mean barriers ({found.unit}) along straight lines, each after units were matched. {CONDITIONAL}",
        figures=(Drawing(lambda: draw_star_barriers(found), f"Mean barriers with 95 % intervals. {said}."),),
        tables=(table,),
    )
    description = "The mean rise above the chord between the ends, with the range over lines."
    yield Section("Along the lines", figures=(Drawing(lambda: draw_star_curves(found), description),))
    yield Section("The star itself", tables=(_make_own_table(found),), note=_OWN_NOTE)


_OWN_NOTE = (
    "The star with 95 % intervals over rows (accuracy exact, loss Student's t); runs: mean, smallest and largest, "
    "as saved. A star need not be a solution itself."
)


def make_star_table(found: StarBarriers) -> Table:
    """A row for each split: the mean barrier of each group, the difference, and the verdict."""
    rows = []
    for split in found.splits:
        compared = found.compare(split)
        rows.append(
            (
                abbreviate_split(split),
                *(_make_mean_cell(found.mean(split, group)) for group in found.groups),
                Cell(f"{compared.difference:.4g}", format_interval(compared.interval)),
                "" if compared.ratio is None else f"{compared.ratio:.2f}",
                Cell(compared.verdict, format_interval(compared.judged_interval), STYLES[compared.verdict]),
            )
        )
    columns = ("split", *(GROUP_NAMES[group] for group in found.groups), "difference", "ratio", "verdict")
    note = (
        f"{len(found.runs)} held-out runs. Small print: 95 % intervals by a jackknife over held-out runs, each by "
        "itself; below a verdict that of the difference at the level at which all splits hold together with 95 %. "
        "Nearer: all of it is below zero; farther: above; else not shown. Of sources: smallest and largest, since the "
        "star was fitted on them."
    )
    return Table(columns, tuple(rows), note=note)


def _make_mean_cell(found: BarrierSummary) -> Cell:
    shown = format_interval(found.interval) if found.interval else f"{found.low:.4g} ... {found.high:.4g}"
    return Cell(f"{found.mean:.4g}", shown)


def _make_own_table(found: StarBarriers) -> Table:
    rows = []
    for split, own in found.star.items():
        losses = [run.loss[split] for run in found.runs.values()]
        cells = [Cell(f"{own.loss:.4g}", format_interval(own.loss_interval)), _make_range_cell(losses, 1.0, ".4g")]
        if own.accuracy is not None:
            accuracies = [run.accuracy[split] for run in found.runs.values()]
            shown = Cell(f"{100 * own.accuracy:.1f} %", format_interval(own.accuracy_interval, 100, ".1f"))
            cells = [shown, _make_range_cell(accuracies, 100.0, ".1f"), *cells]
        else:
            cells = ["", "", *cells]
        rows.append((abbreviate_split(split), *cells))
    columns = ("split", "accuracy of the star", "of the runs", "loss of the star", "of the runs")
    return Table(columns, tuple(rows))


def _make_range_cell(values: Sequence[float], scale: float, form: str) -> Cell:
    low, high = scale * min(values), scale * max(values)
    unit = " %" if scale != 1.0 else ""
    return Cell(f"{scale * fmean(values):{form}}{unit}", f"{low:{form}} ... {high:{form}}")


def draw_star_barriers(found: StarBarriers, ax: Axes | None = None) -> Figure:
    """Mean barriers on every split, a mark for each group."""
    splits = found.splits
    series = {GROUP_NAMES[group]: [_mark(found.mean(split, group)) for split in splits] for group in found.groups}
    names = [abbreviate_split(split) for split in splits]
    return draw_marks(names, series, f"mean barrier ({found.unit})", "split", ax)


def _mark(found: BarrierSummary) -> Mark:
    """The mean with its interval, or with the range where there is none."""
    if not math.isfinite(found.mean):
        return None
    low, high = found.interval or (found.low, found.high)
    return found.mean, low, high


def draw_star_curves(found: StarBarriers) -> Figure:
    """A panel for each split: the mean rise above the chord of each group, with the range over its lines."""
    figure, panels = make_panel_grid(len(found.splits), 2.6)
    for axes, split in zip(panels, found.splits, strict=True):
        for group in found.groups:
            _draw_rises(axes, found, split, group)
        axes.set_title(abbreviate_split(split), fontsize=10, loc="left")
        axes.set_xlabel("t")
        axes.set_ylabel(f"rise ({found.unit})")
        strip_axes(axes)
    place_legend(figure, panels[0], True)
    return figure


def _draw_rises(axes: Axes, found: StarBarriers, split: str, group: LineGroup) -> None:
    lines = [_compute_rises(found, line, split) for line in found.lines if line.group == group]
    curves = [rises for rises in lines if all(map(math.isfinite, rises))]
    if not curves:
        return
    at = list(zip(*curves, strict=True))
    colour = COLOURS[group]
    axes.plot(found.ts, [fmean(values) for values in at], color=colour, label=GROUP_NAMES[group])
    lows, highs = [min(values) for values in at], [max(values) for values in at]
    axes.fill_between(found.ts, lows, highs, color=colour, alpha=0.15, linewidth=0)


def _compute_rises(found: StarBarriers, line: StarLine, split: str) -> list[float]:
    values = getattr(line, found.on)[split]
    values = [1.0 - value for value in values] if found.on == "accuracy" else values
    return [value - (1 - t) * values[0] - t * values[-1] for t, value in zip(found.ts, values, strict=True)]


def print_star(found: StarBarriers) -> Iterator[str]:
    """The headline, the table, and the findings behind it."""
    yield found.headline
    yield from print_table(make_star_table(found))
    yield f"  {CONDITIONAL}"
    yield from (f"  {line}" for line in _describe_own(found))
    yield from (f"  note: {note}" for note in found.notes)
