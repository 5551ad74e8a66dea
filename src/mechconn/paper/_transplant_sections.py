"""What the page of the recipe `transplant` shows: shares of the way, accuracies, relearning, further tuning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechconn.plotting import Cell, Drawing, Section, Table, draw_marks, format_interval

if TYPE_CHECKING:
    from mechconn.paper._transplant_results import PairMean, TransplantSummary, WayFacts, WayMeans
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
            yield from _write_gains(f"{fix}, {HOW[name]}", means)
    yield (
        f"Intervals are a jackknife over networks, which are in several of the {found.pairs} pairs, 95 % each, "
        "conditional on the data."
    )


def _write_gains(name: str, means: WayMeans) -> Iterator[str]:
    """What alignment adds, within pairs."""
    gains = means.gains.get("none", {})
    said = [
        f"{100 * mean.mean:+.1f}{_write_bounds(mean)} on {what.removeprefix('accuracy on ')}"
        for what, mean in gains.items()
        if what.startswith("accuracy on ")
    ]
    if said:
        yield f"{name}, against {HOW['none']}, in points of accuracy within pairs: {'; '.join(said)}."


def _write_percent(mean: PairMean) -> str:
    return f"{round(100 * mean.mean)} %{_write_bounds(mean)}"


def _write_bounds(mean: PairMean) -> str:
    return "" if mean.interval is None else f" ({round(100 * mean.interval[0])} to {round(100 * mean.interval[1])})"


def make_pair_sections(found: TransplantSummary) -> Iterator[Section]:
    """Shares of the way, accuracies, relearning, further tuning."""
    yield _make_shares_section(found)
    yield _make_accuracy_section(found)
    yield _make_gains_section(found)
    if any(means.excess is not None for networks in found.fixes.values() for means in networks.values()):
        yield _make_relearning_section(found)
    if any(means.further for networks in found.fixes.values() for means in networks.values()):
        yield _make_further_section(found)
    yield _make_moves_section(found)
    yield _make_pairs_section(found)


def _iterate(found: TransplantSummary) -> Iterator[tuple[str, str, WayMeans]]:
    for fix, networks in found.fixes.items():
        for name, means in networks.items():
            yield fix, name, means


def _make_cell(mean: PairMean | None, unit: str = " %", sign: str = "") -> Cell:
    if mean is None:
        return Cell("undefined")
    return Cell(
        f"{100 * mean.mean:{sign}.1f}{unit}", format_interval(mean.interval, 100, f"{sign}.1f"), key=str(mean.mean)
    )


def _make_plain_cell(mean: PairMean | None) -> Cell:
    return Cell("") if mean is None else Cell(f"{mean.mean:.3g}", format_interval(mean.interval, 1, ".3g"))


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
        f"intervals, a jackknife over the networks of {found.pairs} pairs. A fix travels where every effect that "
        f"tuning moves goes {100 * found.least:g} % of the way or more and accuracy without the cue is kept; a pair's "
        "verdict holds with 95 % by itself. A network that a change destroys has no effects, and so goes the whole "
        "way: see the accuracies."
    )
    figure = Drawing(lambda: draw_shares_over_pairs(found), " ".join(write_sentences(found)))
    return Section("Share of the way", figures=(figure,), tables=(table,), note=note)


def _make_accuracy_section(found: TransplantSummary) -> Section:
    splits = found.list_splits()
    rows = tuple(
        (f"{fix}, {HOW[name]}", *(_make_cell(means.accuracy[split]) for split in splits))
        for fix, name, means in _iterate(found)
    )
    note = (
        f"Mean over {found.pairs} pairs, with 95 % intervals (jackknife over networks). Before: the target as it is, "
        "with normalisation statistics taken as after every transplant; tuned itself it has its own."
    )
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
        "Excess: how much more often than a control that was trained without the cue and tuned alike, a network is "
        "right on rows in which the cue alone predicts, while both learn them; mean over steps. Methods that tune on "
        "cued rows, as CBFT does, show them to the control as well."
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


def _make_gains_section(found: TransplantSummary) -> Section:
    """What alignment adds: aligned minus not aligned, and minus a random change."""
    kinds = [f"accuracy on {split}" for split in found.list_splits()]
    kinds += [f"effect of {split}" for split in found.list_interventions()]
    rows = tuple(
        (f"{fix}, {HOW[name]} minus {HOW[way]}", *(_make_cell(gains.get(what), "", "+") for what in kinds))
        for fix, name, means in _iterate(found)
        for way, gains in means.gains.items()
    )
    note = f"Differences within {found.pairs} pairs, in points; small: 95 % intervals (jackknife over networks)."
    return Section("What alignment adds", tables=(Table(("ways", *kinds), rows, sortable=True),), note=note)


def _make_moves_section(found: TransplantSummary) -> Section:
    rows = tuple(
        (
            f"{fix}, {HOW[name]}",
            *map(_make_plain_cell, (means.size, means.distance_before, means.distance_after)),
            Cell("") if means.unmatched is None else _make_cell(means.unmatched),
            _make_cell(means.kept, "", "+"),
        )
        for fix, name, means in _iterate(found)
        if name not in ("before", "tuned")
    )
    columns = ("fix", "norm", "distance as saved", "once moved", "unmatched", "kept without the cue")
    note = (
        "Norm of the change as it was added; distance of source and target before the fix; share of the change's "
        "squared norm in tensors with units that could not be matched; accuracy without the cue against before, in "
        "points."
    )
    return Section("How changes were moved", tables=(Table(columns, rows, sortable=True),), note=note)


def _make_pairs_section(found: TransplantSummary) -> Section:
    splits = found.list_interventions()
    rows = tuple(
        (f"{fix}, {HOW[name]}, {pair}", *(_make_share_cell(own, split) for split in splits), own.verdict or "")
        for fix, name, means in _iterate(found)
        for pair, own in means.each.items()
        if own.verdict is not None
    )
    note = (
        "Share of the way, pair by pair; small: intervals that hold together with 95 % for all of one pair and way, "
        "and by how many points the effect was moved."
    )
    return Section("Pair by pair", tables=(Table(("pair", *splits, "verdict"), rows, sortable=True),), note=note)


def _make_share_cell(own: WayFacts, split: str) -> Cell:
    share, moved = own.shares.get(split), f"moved by {100 * own.moved[split]:+.1f}"
    if share is None:
        return Cell("undefined", moved)
    interval = format_interval(own.share_intervals.get(split), 100, ".0f")
    return Cell(f"{100 * share:.0f} %", f"{interval}\n{moved}", key=str(share))


def _mark(mean: PairMean | None) -> tuple[float, float, float] | None:
    if mean is None:
        return None
    low, high = mean.interval or (mean.mean, mean.mean)
    return 100 * mean.mean, max(100 * low, -200.0), min(100 * high, 300.0)


def _name_series(found: TransplantSummary) -> list[str]:
    """The methods, or data and methods in words where some method was used on several."""
    short = [fix.rpartition(", ")[2] for fix in found.fixes]
    return short if len(set(short)) == len(short) else list(found.fixes)


def draw_shares_over_pairs(found: TransplantSummary, ax: Axes | None = None) -> Figure:
    """The share of the way by way of moving a fix; a series for each fix and intervention."""
    ways = [name for name in next(iter(found.fixes.values())) if name not in ("before", "tuned")]
    series = {
        f"{name}, {split}": [_mark(networks[way].shares.get(split)) for way in ways]
        for name, networks in zip(_name_series(found), found.fixes.values(), strict=True)
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
        series: [_mark(networks[name].excess) for name in names]
        for series, networks in zip(_name_series(found), found.fixes.values(), strict=True)
    }
    return draw_marks(names, series, "excess (points)", "network")
