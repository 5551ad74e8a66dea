"""What a search over scales looks like: records, tables, and curves with bands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mechconn.mechanisms import choose_effect_scale, draw_effects, make_effect_cell, name_split
from mechconn.merging._scale_sentences import (
    describe_claim,
    is_approximate,
    sort_interventions,
    write_to_settle,
    write_value,
)
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
    from mechconn.merging._scale_search import ScaleSearch
    from mechconn.plotting import Axes, Figure

STYLES = {"shown": "holds", "refuted": "does-not-hold", "open": ""}


def list_scale_rows(found: ScaleSearch) -> list[dict[str, Any]]:
    """One record per scale and split."""
    return [
        {
            "scale": scale,
            "split": split,
            "chosen": scale == found.scale,
            "keeps_on_choosing_rows": found.kept[number],
            "mean": curve.values[number],
            "low": curve.intervals[number][0],
            "high": curve.intervals[number][1],
            "random_mean": curve.random[number],
            "random_low": curve.random_intervals[number][0],
            "random_high": curve.random_intervals[number][1],
            "random_least": curve.random_range[number][0],
            "random_most": curve.random_range[number][1],
            "choosing_mean": None if curve.choosing is None else curve.choosing[number],
        }
        for number, scale in enumerate(found.scales)
        for split, curve in found.curves.items()
    ]


def make_scale_sections(found: ScaleSearch) -> Iterator[Section]:
    """Curves, claims, random changes, effects, and the whole table."""
    said = ", ".join(
        f"{split} {write_value(found, found.value(split, 0.0))} at scale 0 and "
        f"{write_value(found, found.value(split))} at {found.scale:g}"
        for split in found.curves
    )
    figure = Drawing(lambda: draw_scales(found), f"Means over scales on the rows that judge: {said}.")
    yield Section("The whole curve", figures=(figure,), note=_write_level(found))
    if found.claims:
        yield _make_claims_section(found)
    if found.random:
        yield _make_random_section(found)
    if found.effects["base"].interventions:
        yield _make_effects_section(found)
    yield _make_table_section(found)


def _write_level(found: ScaleSearch) -> str:
    count = len(found.curves) * (2 * len(found.scales) - 1)
    return (
        f"Bands: {count} intervals ({len(found.curves)} splits at {len(found.scales)} scales, change and random "
        f"changes), which cover together with 95 %; those of random changes are given the "
        f"{found.settings.get('draws', '')} draws. Over {found.over} that did not choose the scale."
    )


def _make_claims_section(found: ScaleSearch) -> Section:
    scale = choose_effect_scale(found.effects["base"])
    rows = [
        (
            describe_claim(found, claim),
            Cell(
                claim.standing,
                "" if claim.to_settle is None else f"{write_to_settle(found, claim.to_settle)} would settle it",
                STYLES[claim.standing],
            ),
            Cell(scale.write(claim.excess), scale.write_interval(claim.interval)),
            scale.write(claim.upper),
        )
        for claim in found.claims
    ]
    columns = (
        "claim",
        "on the rows that judge",
        Cell("excess", title="the mean that is positive where the claim holds, with its 95 % interval"),
        Cell("upper bound", title="the upper bound that refutes the claim where it lies below 0, or the margin"),
    )
    level = "about 5 % (Student's t)" if is_approximate(found) else "5 % at most"
    note = (
        "Shown: the lower end of the 95 % interval lies above 0; refuted: the upper bound at 95 % for all claims "
        "together lies below 0 (of the target's move: below the margin). The verdict over all of them is wrong with "
        f"probability {level}. In {scale.unit}."
    )
    return Section(f"At scale {found.scale:g}", tables=(Table(columns, tuple(rows)),), note=note)


def _make_random_section(found: ScaleSearch) -> Section:
    scale = choose_effect_scale(found.effects["base"])
    rows = [
        (
            effect.split,
            Cell(scale.write(effect.effect), scale.write_interval(effect.interval)),
            Cell(
                ", ".join(scale.write(move) for move in effect.draws), f"all in {scale.write_interval(effect.bounds)}"
            ),
            Cell(effect.verdict, style={"nothing": "invariant", "moves": "sensitive"}.get(effect.verdict, "")),
            Cell(scale.write(effect.further), scale.write_interval(effect.further_interval)),
        )
        for effect in found.random
    ]
    side = "down" if found.direction == "lower" else "up"
    columns = (
        "split",
        "mean over draws",
        "each draw",
        "verdict",
        f"the change, further ({side} on {found.target}, else up)",
    )
    note = (
        f"Random changes of the same norm in every tensor, {found.settings.get('draws', '')} draws, minus the base, "
        f"in {scale.unit}, given the draws. Nothing: every draw within a margin of {scale.write(found.margin, '')}; "
        "moves: some draw beyond it; the verdicts on all draws and splits are right together with 95 %."
    )
    return Section("Random changes of equal norms", tables=(Table(columns, tuple(rows)),), note=note)


def _make_effects_section(found: ScaleSearch) -> Section:
    base = found.effects["base"]
    scale = choose_effect_scale(base)
    rows = [
        (name_split(base, split), *(make_effect_cell(side.effects[split], scale) for side in found.effects.values()))
        for split in sort_interventions(base)
    ]
    note = (
        f"Effects in {scale.unit} against {base.reference} on the rows that judge, with 95 % intervals of each by "
        "itself; the verdicts are right for all networks and interventions together with 95 %."
    )
    figure = Drawing(
        lambda: draw_effects(found.effects, splits=sort_interventions(base)),
        f"Effects of the interventions on {', '.join(found.effects)}.",
    )
    table = Table(("intervention", *found.effects), tuple(rows))
    return Section("Effects of the interventions", figures=(figure,), tables=(table,), note=note)


def _make_table_section(found: ScaleSearch) -> Section:
    splits = list(found.curves)
    rows = [
        (
            Cell(f"{scale:g}", "chosen" if scale == found.scale else "", key=str(scale)),
            "yes" if found.kept[number] else "no",
            *(_make_curve_cell(found, split, number, random=False) for split in splits),
            *(_make_curve_cell(found, split, number, random=True) for split in splits),
        )
        for number, scale in enumerate(found.scales)
    ]
    columns = (
        "scale",
        Cell("keeps", title="on the rows that choose"),
        *(split for split in splits),
        *(f"{split}, random" for split in splits),
    )
    return Section("Every scale", tables=(Table(columns, tuple(rows), note=_write_level(found)),), folded=True)


def _make_curve_cell(found: ScaleSearch, split: str, number: int, random: bool) -> Cell:
    curve = found.curves[split]
    value, interval = (
        (curve.random[number], curve.random_intervals[number])
        if random
        else (curve.values[number], curve.intervals[number])
    )
    accuracy = found.on == "accuracy"
    small = format_interval(interval, 100 if accuracy else 1, ".1f" if accuracy else ".4g")
    return Cell(write_value(found, value), small, key=str(value))


def draw_scales(found: ScaleSearch, ax: Axes | None = None) -> Figure:
    """Means over scales with bands, random changes dashed, the chosen scale a vertical line."""
    figure, (axes,) = make_panels(1, (8.0, 4.0), ax)
    factor = 100 if found.on == "accuracy" else 1
    for number, (split, curve) in enumerate(found.curves.items()):
        style = choose_line_style(split, number)
        axes.plot(found.scales, [factor * value for value in curve.values], **style)
        axes.fill_between(
            found.scales,
            [factor * low for low, _ in curve.intervals],
            [factor * high for _, high in curve.intervals],
            alpha=0.12,
            linewidth=0,
            color=style["color"],
        )
        axes.plot(
            found.scales, [factor * value for value in curve.random], linestyle="--", linewidth=1, color=style["color"]
        )
    axes.plot([], [], linestyle="--", linewidth=1, color="gray", label="random changes")
    axes.axvline(found.scale, linestyle=":", color="gray", label=f"chosen, {found.scale:g}")
    axes.set_xlabel("scale")
    axes.set_ylabel("accuracy (%)" if found.on == "accuracy" else escape_label(found.on))
    strip_axes(axes)
    place_legend(figure, axes, ax is None)
    return figure
