"""What the barriers of a star show: by split with their intervals, the curves behind them, and the star by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mechconn.plotting import (
    Cell,
    Drawing,
    Mark,
    Section,
    Table,
    choose_line_style,
    draw_marks,
    escape_label,
    format_interval,
    make_panel_grid,
    place_legend,
    print_table,
    strip_axes,
)
from mechconn.stats import describe_clusters

if TYPE_CHECKING:
    from mechconn.connectivity._star_barriers import BarrierSummary, LineGroup, StarBarriers, StarLine
    from mechconn.connectivity._star_verdict import StarComparison, StarDifference
    from mechconn.plotting import Axes, Figure

GROUP_NAMES = {"held-out": "star to held-out runs", "source": "star to its sources", "pair": "between held-out runs"}
SHORT_NAMES = {"held-out": "to runs", "source": "to sources", "pair": "between runs"}
FORM = ".3g"
STYLES = {"nearer": "holds", "farther": "does-not-hold", "no solution": "does-not-hold", "not shown": ""}
CONDITIONAL = (
    "All intervals are conditional on this star, which is one draw: another, of other sources or another seed, may lie "
    "nearer or farther; and on the training rows that the runs share."
)


def write_star_headline(found: StarBarriers) -> str:
    """Where the star is no solution, and on how many splits it is nearer to runs than these are to each other."""
    splits, verdicts, measure = found.splits, found.verdicts, _name_measure(found)
    if found.reference in splits and verdicts[found.reference] == "no solution":
        return (
            f"The star is no solution as the held-out runs are, and its barriers prove nothing: its {measure} on "
            f"{found.reference} {_describe_excess(found, found.reference)}"
        )
    unlike, nearer, farther = (
        [split for split in splits if verdicts[split] == said] for said in ("no solution", "nearer", "farther")
    )
    if len(nearer) == len(splits):
        return f"In {measure} the star is nearer to held-out runs than these are to each other, on every split"
    parts = [f"no solution as the held-out runs are on {', '.join(unlike)}"] if unlike else []
    parts += [f"nearer to held-out runs than these are to each other on {', '.join(nearer)}"] if nearer else []
    parts += [f"farther from held-out runs than these are from each other on {', '.join(farther)}"] if farther else []
    if not nearer and not farther:
        shown = f"that in {measure} the star is nearer to held-out runs than these are to each other"
        return f"It is not shown {shown}" if not unlike else f"The star is {parts[0]}, and it is not shown {shown}"
    rest = "; of the other splits nothing is shown" if "not shown" in verdicts.values() else ""
    return f"In {measure} the star is {', and '.join(parts)}{rest}"


def _name_measure(found: StarBarriers) -> str:
    return "error rate" if found.on == "accuracy" else "loss"


def _describe_excess(found: StarBarriers, split: str) -> str:
    value = found.compare(split).excess.value
    return f"is above the mean of theirs by {value:.3g}, more than {found.tolerance:g}"


def write_star_findings(found: StarBarriers) -> Iterator[str]:
    """The mean barriers split by split, what they are conditional on, whether the star is a solution, and the notes."""
    yield from _describe_own(found)
    for split in found.splits:
        star, runs, compared = found.mean(split, "held-out"), found.mean(split, "pair"), found.compare(split)
        ratio = "" if compared.ratio is None else f", {compared.ratio:.2f} of it"
        judged = compared.barrier.judged_interval
        between = "" if judged is None else f" (difference {compared.barrier.value:.4g}, between {_between(judged)})"
        yield (
            f"On {split} the mean barrier is {runs.mean:.4g} between held-out runs and {star.mean:.4g} from the star "
            f"to them{ratio}: {compared.verdict}{between}. {_describe_runs(found, compared)}"
        )
    yield CONDITIONAL
    yield from found.notes


def _describe_runs(found: StarBarriers, compared: StarComparison) -> str:
    judged = compared.barrier.judged_interval
    why = " Most barriers are zero, so nothing is judged." if compared.mostly_zero else ""
    if not why and compared.verdict == "not shown" and judged is not None and judged[1] < 0.0:
        why = " The highest values on the lines are not shown to be lower, so neither is the star nearer."
    return (
        f"To {compared.runs_nearer} of {len(found.runs)} runs the star is nearer than the mean of that run's own "
        f"pairs.{why}"
    )


def _between(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4g} and {interval[1]:.4g}"


def _describe_own(found: StarBarriers) -> Iterator[str]:
    """Splits on which the star's own loss exceeds the runs' by more than the tolerance: there it is no solution."""
    worse = [s for s in found.splits if not found.compare(s).excess.value <= found.tolerance]
    if worse:
        said = "; ".join(f"on {split} it {_describe_excess(found, split)}" for split in worse)
        yield (
            f"The star's own {_name_measure(found)}: {said}. There it is no solution as the runs are, and a low "
            "barrier says nothing, since it is measured from the chord between both ends."
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
    said = "; ".join(f"{split}: {verdict}" for split, verdict in found.verdicts.items())
    yield Section(
        "Barriers by split",
        text=f"Mean barriers ({found.unit}) along straight lines, each after units were matched. {CONDITIONAL}",
        figures=(Drawing(lambda: draw_star_barriers(found), f"{_describe_marks(found)} {said}."),),
        tables=(make_star_table(found), make_evidence_table(found)),
    )
    if found.clusters:
        own_note = f"{_OWN_NOTE} {describe_clusters(found.clusters, tuple(found.star))}."
    else:
        own_note = _OWN_NOTE
    description = "The mean rise above the chord between the ends, with the range over lines."
    yield Section("Along the lines", figures=(Drawing(lambda: draw_star_curves(found), description),))
    yield Section("The star itself", tables=(_make_own_table(found),), note=own_note)


_OWN_NOTE = (
    "The star with 95 % intervals over rows (accuracy exact where rows are right or not, loss Student's t), or over "
    "their clusters; runs: mean, smallest and largest, as saved. A star need not be a solution itself."
)


def _describe_marks(found: StarBarriers) -> str:
    """What the marks of the first figure are: groups without an interval show the range over their lines."""
    groups = dict.fromkeys(
        GROUP_NAMES[group] for split in found.splits for group in found.groups if not found.mean(split, group).interval
    )
    if len(groups) == len(found.groups):
        return "Mean barriers with the range over lines."
    ranges = f"; {', '.join(groups)}: the range over lines where there is none" if groups else ""
    return f"Mean barriers with 95 % intervals{ranges}; cut off at zero, below which no barrier is."


def make_star_table(found: StarBarriers) -> Table:
    """A row for each split: the verdict, the mean barrier of each group, and their difference."""
    rows = []
    for split in found.splits:
        compared = found.compare(split)
        rows.append(
            (
                split,
                Cell(compared.verdict, describe_judged(compared), STYLES[compared.verdict]),
                *(_make_mean_cell(found.mean(split, group)) for group in found.groups),
                _make_difference_cell(compared.barrier),
                "" if compared.ratio is None else f"{compared.ratio:.2f}",
            )
        )
    groups = (Cell(SHORT_NAMES[group], title=GROUP_NAMES[group]) for group in found.groups)
    columns = ("split", "verdict", *groups, "difference", "ratio")
    note = (
        f"{len(found.runs)} held-out runs. Small print: 95 % intervals by a jackknife over held-out runs, each by "
        "itself; below a verdict that of the difference at the level at which all splits of this star hold together "
        "with 95 %, approximately (Student's t). No solution: the excess, there or on the reference, is above "
        f"{found.tolerance:g}. Nearer: this interval and the like of the highest {_name_measure(found)} on the lines, "
        "which has no chord, below, lie below zero; farther: the first lies above; else, or where most barriers are "
        "zero, not shown. Loss and error rate are judged apart: reading both doubles the claims. Of sources: smallest "
        "and largest, since the star was fitted on them."
    )
    return Table(columns, tuple(rows), note=note)


def make_evidence_table(found: StarBarriers) -> Table:
    """A row for each split: what stands beside the barriers, the highest values and the star's own."""
    rows = []
    for split in found.splits:
        compared = found.compare(split)
        star, runs = (fmean(found.highest(split, group).values()) for group in ("held-out", "pair"))
        rows.append(
            (
                split,
                f"{compared.runs_nearer} of {len(found.runs)}",
                f"{star:{FORM}}",
                f"{runs:{FORM}}",
                _make_difference_cell(compared.highest),
                _make_difference_cell(compared.excess),
            )
        )
    columns = (
        "split", Cell("runs nearer", title="runs to which the star is nearer than the mean of that run's own pairs"),
        "highest, to runs", "highest, between runs", "difference", "excess",
    )  # fmt: skip
    note = (
        "Runs nearer: those to which the star is nearer than the mean of that run's own pairs. Highest: the mean of "
        f"the highest {_name_measure(found)} on each line. Excess: the star's own {_name_measure(found)} over the mean "
        "of the held-out runs'. Small print as above, each by itself."
    )
    return Table(columns, tuple(rows), note=note)


def describe_judged(compared: StarComparison, form: str = FORM) -> str:
    """What stands below a verdict: the interval that was judged, or why none was."""
    judged = compared.barrier.judged_interval
    if compared.mostly_zero:
        return "mostly zero"
    open_ = compared.verdict == "not shown" and judged is not None and judged[1] < 0.0
    return format_interval(judged, form=form) + ("; highest not shown lower" if open_ else "")


def _make_difference_cell(found: StarDifference) -> Cell:
    return Cell(f"{found.value:+.3g}", format_interval(found.interval, form=FORM))


def _make_mean_cell(found: BarrierSummary) -> Cell:
    shown = format_interval(found.interval, form=FORM) or f"{found.low:{FORM}} ... {found.high:{FORM}}"
    return Cell(f"{found.mean:{FORM}}", shown)


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
        rows.append((split, *cells))
    columns = ("split", "accuracy of the star", "of the runs", "loss of the star", "of the runs")
    return Table(columns, tuple(rows))


def _make_range_cell(values: Sequence[float], scale: float, form: str) -> Cell:
    low, high = scale * min(values), scale * max(values)
    unit = " %" if scale != 1.0 else ""
    return Cell(f"{scale * fmean(values):{form}}{unit}", f"{low:{form}} ... {high:{form}}")


def draw_star_barriers(found: StarBarriers, ax: Axes | None = None) -> Figure:
    """Mean barriers on every split, a mark for each group."""
    splits = found.splits
    series = {
        GROUP_NAMES[group]: [mark_barrier(found.mean(split, group)) for split in splits] for group in found.groups
    }
    names = list(splits)
    return draw_marks(names, series, f"mean barrier ({found.unit})", "split", ax)


def mark_barrier(found: BarrierSummary) -> Mark:
    """The mean with its interval, cut off at zero, below which no barrier is; with the range where there is none."""
    if not math.isfinite(found.mean):
        return None
    low, high = found.interval or (found.low, found.high)
    return found.mean, max(low, 0.0), high


def draw_star_curves(found: StarBarriers) -> Figure:
    """A panel for each split: the mean rise above the chord of each group, with the range over its lines."""
    figure, panels = make_panel_grid(len(found.splits), 2.6)
    for axes, split in zip(panels, found.splits, strict=True):
        for number, group in enumerate(found.groups):
            colour = choose_line_style(GROUP_NAMES[group], number)["color"]  # that of the marks by split
            _draw_rises(axes, found, split, group, colour)
        axes.set_title(escape_label(split), fontsize=10, loc="left")
        axes.set_xlabel("t")
        axes.set_ylabel(escape_label(f"rise ({found.unit})"))
        strip_axes(axes)
    place_legend(figure, panels[0], True)
    return figure


def _draw_rises(axes: Axes, found: StarBarriers, split: str, group: LineGroup, colour: Any) -> None:
    lines = [_compute_rises(found, line, split) for line in found.lines if line.group == group]
    curves = [rises for rises in lines if all(map(math.isfinite, rises))]
    if not curves:
        return
    at = list(zip(*curves, strict=True))
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
    yield from (f"  {line}" for line in _describe_own(found))
    yield from print_table(make_star_table(found))
    yield from print_table(make_evidence_table(found))
    yield "  Verdicts hold together with 95 %, approximately (Student's t). " + CONDITIONAL
    yield from (f"  note: {note}" for note in found.notes)
