"""What a merge shows: the differences to every parent, what becomes of each mechanism, what the rows can show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mechconn.mechanisms import (
    Invariance,
    choose_effect_scale,
    draw_effects,
    make_effect_cell,
    make_level_section,
    name_split,
)
from mechconn.merging._merge_sentences import FATES, describe_fate, describe_how, describe_statistics, name_units
from mechconn.merging._merge_verdict import ParentDifference
from mechconn.plotting import (
    Cell,
    Drawing,
    Mark,
    Section,
    Table,
    draw_marks,
    format_interval,
    make_examples_section,
    place_legend,
)

if TYPE_CHECKING:
    from mechconn.merging._merged import Merged, MergeJudgement
    from mechconn.plotting import Axes, Figure

STYLES = {"not worse": "holds", "worse": "does-not-hold", "undetermined": ""}
TITLES = {"before": "Merged of the parents as they are", "after": "Merged of the aligned parents"}


def list_merge_rows(found: Merged) -> list[dict[str, Any]]:
    """One record per merged network, parent and split."""
    return [
        {
            "network": which,
            "parent": pair.parent,
            "split": pair.split,
            "samples": pair.samples,
            "merged_mean": read_mean(judged.invariance, pair.split, found.on),
            "parent_mean": read_mean(found.parents[pair.parent], pair.split, found.on),
            "difference": pair.difference,
            "difference_low": pair.interval[0],
            "difference_high": pair.interval[1],
            "judged_low": pair.judged_interval[0],
            "judged_high": pair.judged_interval[1],
            "verdict": pair.verdict,
            "to_settle": pair.to_settle,
        }
        for which, judged in found.networks.items()
        for pair in judged.differences
    ]


def read_mean(side: Invariance, split: str, on: str) -> float | None:
    """The mean on a split of what is judged."""
    if on == "loss":
        return side.loss[split]
    return side.accuracy[split] if on == "accuracy" else side.metrics[on][split]


def make_merge_sections(found: Merged) -> Iterator[Section]:
    """Samples, how good every network is, differences and mechanisms of every merged one, then power."""
    yield from make_examples_section(found.examples)
    yield make_level_section({"merged": found.judged.invariance, **found.parents})
    for which, judged in found.networks.items():
        yield _make_differences_section(found, which, judged)
    for which, judged in found.networks.items():
        if judged.fates:
            yield _make_mechanisms_section(found, which, judged)
    if found.alignment is not None:
        yield from found.alignment.sections()
    if found.power:
        yield _make_power_section(found)


def _make_differences_section(found: Merged, which: str, judged: MergeJudgement) -> Section:
    scale = choose_effect_scale(judged.invariance)
    pairs = {(pair.parent, pair.split): pair for pair in judged.differences}
    rows = [
        (
            name_split(judged.invariance, split),
            _make_mean_cell(judged.invariance, split, found.on),
            *(_make_pair_cell(found, pairs[name, split]) for name in found.names),
        )
        for split in found.splits
    ]
    columns = ("split", "merged", *found.names)
    title = TITLES[which] if found.after is not None else "The merged network against every parent"
    said = "; ".join(
        f"{pair.split} against {pair.parent} {scale.write(pair.difference)} {scale.unit}, {pair.verdict}"
        for pair in judged.differences
    )
    figure = Drawing(lambda: draw_differences(found, judged), f"Differences with 95 % intervals: {said}.")
    note = (
        f"Merged network minus parent, in {scale.unit}, on the same rows, with 95 % intervals of each difference by "
        f"itself. Not worse: the lower bound at 95 %, one-sided, is not beyond the tolerance of "
        f"{scale.write(found.tolerance, '')} {scale.unit}; worse: the upper bound at 95 % for all "
        f"{len(judged.differences)} pairs together lies beyond it."
    ).replace("lower bound", "lower bound" if found.better == "higher" else "upper bound", 1)
    text = describe_statistics(found).strip() if which == "before" else describe_how(found)
    tables = (Table(columns, tuple(rows)),)
    return Section(title, text=text, figures=(figure,), tables=tables, note=note, anchor=f"merged-{which}")


def _make_mean_cell(side: Invariance, split: str, on: str) -> Cell:
    if on == "accuracy":
        return Cell(
            f"{100 * side.accuracy[split]:.1f} %", format_interval(side.accuracy_interval.get(split), 100, ".1f")
        )
    mean = read_mean(side, split, on)
    interval = side.loss_interval.get(split) if on == "loss" else side.metrics_interval[on][split]
    return Cell("not finite" if mean is None else f"{mean:.4g}", format_interval(interval))


def _make_pair_cell(found: Merged, pair: ParentDifference) -> Cell:
    scale = choose_effect_scale(found.parents[pair.parent])
    mean = read_mean(found.parents[pair.parent], pair.split, found.on)
    own = "" if mean is None else f"{100 * mean:.1f} %" if found.on == "accuracy" else f"{mean:.4g}"
    lines = [f"{scale.write(pair.difference)} ({scale.write_interval(pair.interval)})", f"parent {own}"]
    if pair.same_network:
        lines[0] = "the same network"
    if pair.to_settle is not None:
        lines.append(f"about {pair.to_settle:,} {name_units(found)} would settle it")
    return Cell(pair.verdict, "\n".join(lines), STYLES[pair.verdict])


def _make_mechanisms_section(found: Merged, which: str, judged: MergeJudgement) -> Section:
    """What became of each mechanism, then its effects; fates have no colour, since a lost cue may be what is wanted."""
    sides = {"merged": judged.invariance, **found.parents}
    scale = choose_effect_scale(judged.invariance)
    rows = [
        (
            name_split(judged.invariance, split),
            Cell(FATES[fate.fate], describe_fate(fate, name_units(found)).replace("between ", "between\n", 1)),
            *(make_effect_cell(side.effects[split], scale) for side in sides.values()),
        )
        for split, fate in judged.fates.items()
    ]
    columns = ("intervention", Cell("becomes", title="in the merged network"), *sides)
    how = "" if found.after is None else f", {TITLES[which][0].lower()}{TITLES[which][1:]}"
    note = (
        f"Effects in {scale.unit} against {judged.invariance.reference}, with 95 % intervals of each by itself. "
        "Verdicts on effects are right for all networks and interventions together with 95 %, and with them what is "
        "kept, lost or gained; that something is averaged rests on intervals of differences of effects besides, so "
        "that all of it is right together with 90 %."
    )
    figure = Drawing(
        lambda: draw_effects(sides, splits=list(judged.fates)), f"Effects of the interventions on {', '.join(sides)}."
    )
    return Section(
        f"What becomes of the mechanisms{how}",
        figures=(figure,),
        tables=(Table(columns, tuple(rows)),),
        note=note,
        anchor="fates" if judged is found.judged else f"fates-{which}",
    )


def _make_power_section(found: Merged) -> Section:
    scale = choose_effect_scale(found.judged.invariance)
    unit = "clusters" if found.judged.invariance.over == "clusters" else "rows"
    rows = [
        (
            part.split,
            f"{part.units:,}",
            "none" if part.smallest_loss is None else f"{scale.write(part.smallest_loss, '')} {scale.unit}",
            f"{scale.write(part.least_tolerance, '')} {scale.unit}",
            "" if part.units_for_yes is None else f"{part.units_for_yes:,}",
        )
        for part in found.power
    ]
    columns = (
        "split",
        unit,
        Cell("smallest loss", title="the smallest loss that would be called worse, where nothing is gained"),
        Cell(
            "least tolerance",
            title="the least tolerance at which a network with exactly its parent's values may take its place",
        ),
        Cell(f"{unit} for yes", title="how many are needed for that at the tolerance asked for"),
    )
    text = (
        "Before any network is looked at: the smallest loss against a parent that would be called worse, and the least "
        f"tolerance at which a network with exactly its parent's values on all {unit} would be called not worse. One "
        "that is better may need fewer; on a loss one whose values differ is judged by Student's t."
    )
    return Section("What these rows can show", text=text, tables=(Table(columns, tuple(rows)),))


def draw_differences(found: Merged, judged: MergeJudgement, ax: Axes | None = None) -> Figure:
    """The differences to every parent on every split, with their intervals and the tolerance."""
    scale = choose_effect_scale(judged.invariance)
    splits = found.splits
    pairs: Mapping[tuple[str, str], ParentDifference] = {(pair.parent, pair.split): pair for pair in judged.differences}

    def mark(pair: ParentDifference) -> Mark:
        low, high = pair.interval
        return scale.factor * pair.difference, scale.factor * low, scale.factor * high

    series = {f"against {name}": [mark(pairs[name, split]) for split in splits] for name in found.names}
    what = found.on if found.on in ("accuracy", "loss") else f"the metric {found.on}"
    label = f"merged \N{MINUS SIGN} parent, {what}" + ("" if scale.unit == found.on else f" ({scale.unit})")
    figure = draw_marks(list(splits), series, label, "split", ax)
    axes = figure.axes[0] if ax is None else ax
    limit = scale.factor * found.tolerance * (-1 if found.better == "higher" else 1)
    axes.axhline(0.0, color="gray", linewidth=0.8)
    axes.axhline(limit, color="#D55E00", linestyle="--", label=f"tolerance, {abs(limit):g}")
    place_legend(figure, axes, ax is None)
    return figure
