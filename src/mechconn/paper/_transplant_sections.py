"""What the page of the recipe `transplant` shows: shares of the way, accuracies, relearning, further tuning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechconn.plotting import Cell, Drawing, Section, Table, draw_marks, format_interval

if TYPE_CHECKING:
    from mechconn.paper._transplant_results import PairMean, TransplantSummary, WayMeans
    from mechconn.plotting import Axes, Figure

HOW = {
    "before": "before",
    "weights": "moved by weights",
    "activations": "moved by activations",
    "gradients": "moved by gradients",
    "none": "not aligned",
    "random": "random change",
    "tuned": "tuned itself",
}
"""Network -> how tables call it."""


def write_sentences(found: TransplantSummary) -> Iterator[str]:
    """What the numbers say, fix by fix."""
    for fix, networks in found.fixes.items():
        for name, means in networks.items():
            if name in ("before", "tuned"):
                continue
            shares = [f"{_write_percent(mean)} of the way on {split}" for split, mean in means.shares.items() if mean]
            count = means.verdicts.get("travels", 0)
            yield (
                f"{fix}, {HOW[name]}: {'; '.join(shares) or 'no share is defined in all pairs'}; it travels in {count} "
                f"of {found.pairs} pairs."
            )
    yield (
        f"Intervals are Student's t over {found.pairs} pairs of networks, 95 % each, conditional on the data; pairs "
        "that share a network are not independent, so they are approximate."
    )


def _write_percent(mean: PairMean) -> str:
    return f"{round(100 * mean.mean)} %{_write_bounds(mean)}"


def _write_bounds(mean: PairMean) -> str:
    return "" if mean.interval is None else f" ({round(100 * mean.interval[0])} to {round(100 * mean.interval[1])})"


def make_pair_sections(found: TransplantSummary) -> Iterator[Section]:
    """Shares of the way, accuracies, relearning, further tuning."""
    yield _make_shares_section(found)
    yield _make_accuracy_section(found)
    if any(means.excess is not None for networks in found.fixes.values() for means in networks.values()):
        yield _make_relearning_section(found)
    if any(means.further for networks in found.fixes.values() for means in networks.values()):
        yield _make_further_section(found)


def _iterate(found: TransplantSummary) -> Iterator[tuple[str, str, WayMeans]]:
    for fix, networks in found.fixes.items():
        for name, means in networks.items():
            yield fix, name, means


def _make_cell(mean: PairMean | None) -> Cell:
    if mean is None:
        return Cell("undefined")
    return Cell(f"{100 * mean.mean:.1f} %", format_interval(mean.interval, 100, ".1f"), key=str(mean.mean))


def _make_shares_section(found: TransplantSummary) -> Section:
    splits = found.list_interventions()
    rows = tuple(
        (
            f"{fix}, {HOW[name]}",
            *(_make_cell(means.shares.get(split)) for split in splits),
            Cell(f"{means.cosine.mean:.3f}" if means.cosine else ""),
            f"{means.verdicts.get('travels', 0)} of {found.pairs}",
            f"{means.verdicts.get('does not travel', 0)} of {found.pairs}",
        )
        for fix, name, means in _iterate(found)
        if name not in ("before", "tuned")
    )
    cosine = Cell("cosine", title="of the change as it was added and of the target's own")
    table = Table(("fix", *splits, cosine, "travels", "does not"), rows, sortable=True)
    note = (
        "Share of the way that tuning the target itself goes, on effects of interventions; small figures: 95 % "
        f"intervals, Student's t over {found.pairs} pairs. A fix travels where every share is shown to be "
        f"{100 * found.least:g} % or more and accuracy without the cue is kept; a pair's verdict holds with 95 % by "
        "itself. A network that a change destroys has no effects, and so goes the whole way: see the accuracies."
    )
    figure = Drawing(lambda: draw_shares_over_pairs(found), " ".join(write_sentences(found)))
    return Section("Share of the way", figures=(figure,), tables=(table,), note=note)


def _make_accuracy_section(found: TransplantSummary) -> Section:
    splits = found.list_splits()
    rows = tuple(
        (f"{fix}, {HOW[name]}", *(_make_cell(means.accuracy[split]) for split in splits))
        for fix, name, means in _iterate(found)
    )
    note = f"Mean over {found.pairs} targets, with 95 % intervals over them (Student's t)."
    return Section("Accuracy of the targets", tables=(Table(("network", *splits), rows, sortable=True),), note=note)


def _make_relearning_section(found: TransplantSummary) -> Section:
    rows = tuple(
        (
            f"{fix}, {HOW[name]}",
            _make_cell(means.excess),
            *(f"{means.states.get(state, 0)} of {found.pairs}" for state in ("uses", "hidden", "gone")),
        )
        for fix, name, means in _iterate(found)
    )
    table = Table(("network", "excess", "uses", "hidden", "gone"), rows, sortable=True)
    note = (
        "Excess: how much more often than a control that never met the cue, tuned alike, a network is right on rows in "
        "which the cue alone predicts, while both learn them; mean over steps."
    )
    figure = Drawing(lambda: _draw_excess(found), "Excess while relearning, network by network; the table holds it.")
    return Section("Is the cue gone, or hidden?", figures=(figure,), tables=(table,), note=note)


def _make_further_section(found: TransplantSummary) -> Section:
    splits = found.list_splits()
    rows = tuple(
        (f"{fix}, {HOW[name]}", *(_make_cell(means.further.get(split)) for split in splits))
        for fix, name, means in _iterate(found)
    )
    note = "Every network was tuned further in the same short way, by the recipe's setting `further`."
    return Section("After further tuning", tables=(Table(("network", *splits), rows, sortable=True),), note=note)


def _mark(mean: PairMean | None) -> tuple[float, float, float] | None:
    if mean is None:
        return None
    low, high = mean.interval or (mean.mean, mean.mean)
    return 100 * mean.mean, max(100 * low, -200.0), min(100 * high, 300.0)


def draw_shares_over_pairs(found: TransplantSummary, ax: Axes | None = None) -> Figure:
    """The share of the way by way of moving a fix; a series for each fix and intervention."""
    ways = [name for name in next(iter(found.fixes.values())) if name not in ("before", "tuned")]
    series = {
        f"{fix.rpartition(', ')[2]}, {split}": [_mark(networks[way].shares.get(split)) for way in ways]
        for fix, networks in found.fixes.items()
        for split in found.list_interventions()
    }
    figure = draw_marks(ways, series, "share of the way (%)", "moved by", ax)
    axes = figure.axes[0] if ax is None else ax
    axes.axhline(0.0, color="gray", linewidth=0.8)
    axes.axhline(100.0, color="gray", linewidth=0.8, linestyle=":")
    return figure


def _draw_excess(found: TransplantSummary) -> Figure:
    names = list(next(iter(found.fixes.values())))
    series = {
        fix.rpartition(", ")[2]: [_mark(networks[name].excess) for name in names]
        for fix, networks in found.fixes.items()
    }
    return draw_marks(names, series, "excess (points)", "network")
