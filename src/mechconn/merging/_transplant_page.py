"""What a judged transplant shows: shares of the way, effects of all networks, relearning, the alignment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mechconn.core import abbreviate_split
from mechconn.mechanisms import (
    choose_effect_scale,
    draw_effects,
    list_relearning_sections,
    make_effect_cell,
    name_split,
)
from mechconn.merging._travelled import MovedEffect
from mechconn.plotting import Cell, Drawing, Section, Table, draw_marks, place_legend

if TYPE_CHECKING:
    from mechconn.merging._judged_transplant import JudgedTransplant
    from mechconn.plotting import Axes, Figure

WORDS = {"travels": "The fix travels", "does not travel": "The fix does not travel", "undetermined": "Undetermined"}
WIDEST = 10.0
"""A share beyond this is drawn at the edge: its denominator is near zero."""


def write_answer(found: JudgedTransplant) -> str:
    """Does the fix travel? The answer and its numbers."""
    verdict, decided = found.reasons["transplanted"]
    own = found.effects["transplanted"]
    known = {split: effect for split, effect in own.items() if effect.share is not None}
    said = [f"{_write_share(effect)} of the way on {split}" for split, effect in known.items()]
    kept = found.kept["transplanted"]
    scale = choose_effect_scale(found.networks["before"])
    said.append(f"{scale.write(kept.effect)} {scale.unit} on {found.keep} ({scale.write_interval(kept.interval)})")
    word = WORDS[verdict]
    if not known:
        return f"{word}: tuning itself is not shown to move any effect, so there is no way to go."
    if verdict == "undetermined":
        word += f": whether it goes {100 * found.least:g} % of the way is open on {_join(found, decided)}"
    return f"{word}: {'; '.join(said)}." if verdict != "undetermined" else f"{word}; {'; '.join(said)}."


def explain_verdict(found: JudgedTransplant) -> str:
    """What the verdict rests on."""
    verdict, decided = found.reasons["transplanted"]
    where, percent = _join(found, decided), f"{100 * found.least:g} %"
    if verdict == "travels":
        return f"{percent} of the way or more are shown on {where}, and accuracy on {found.keep} is kept."
    if verdict == "does not travel":
        return f"less than {percent} of the way, or a loss beyond the tolerance, is shown on {where}."
    return f"{where} cannot be told with these rows." if decided else "tuning itself is not shown to move any effect."


def _join(found: JudgedTransplant, splits: Sequence[str]) -> str:
    return ", ".join(found.keep if split == "kept" else split for split in splits)


def _write_share(effect: MovedEffect) -> str:
    assert effect.share is not None and effect.interval is not None
    low, high = effect.interval
    return f"{round(100 * effect.share)} % ({round(100 * low)} to {round(100 * high)})"


def list_judged_rows(found: JudgedTransplant) -> list[dict[str, Any]]:
    """One record per network and intervention."""
    return [
        {
            "network": name,
            "split": split,
            "moved": effect.moved.effect,
            "moved_low": effect.moved.interval[0],
            "moved_high": effect.moved.interval[1],
            "share": effect.share,
            "share_low": None if effect.interval is None else effect.interval[0],
            "share_high": None if effect.interval is None else effect.interval[1],
            "kept": found.kept[name].effect,
            "kept_low": found.kept[name].interval[0],
            "kept_high": found.kept[name].interval[1],
            "verdict": found.verdicts[name],
        }
        for name, own in found.effects.items()
        for split, effect in own.items()
    ]


def make_judged_sections(found: JudgedTransplant) -> Iterator[Section]:
    """The answer's numbers first, then what they rest on."""
    yield _make_shares_section(found)
    yield _make_effects_section(found)
    if found.relearned:
        yield from list_relearning_sections(found.relearned)
    yield from found.transplant.sections()


def _make_shares_section(found: JudgedTransplant) -> Section:
    scale = choose_effect_scale(found.networks["before"])
    splits = list(found.effects["transplanted"])
    rows = []
    for name, own in found.effects.items():
        kept = found.kept[name]
        cells = [_make_share_cell(own[split], scale) for split in splits]
        level = Cell(f"{scale.write(kept.effect)}", scale.write_interval(kept.interval))
        style = {"travels": "holds", "does not travel": "does-not-hold"}.get(found.verdicts[name], "")
        rows.append((name, *cells, level, Cell(found.verdicts[name], style=style)))
    table = Table(("network", *splits, f"kept on {found.keep}", "verdict"), tuple(rows))
    figure = Drawing(lambda: draw_shares(found), f"Share of the way by intervention: {write_answer(found)}")
    note = (
        f"Share of the way: how far the effect was moved, of how far tuning the network itself moves it; below it the "
        f"move in {scale.unit}. Kept: {scale.unit} against the network before. All {found.intervals} intervals hold "
        f"together with 95 %. A fix travels where every share that is known is {100 * found.least:g} % or more, and no "
        f"more than {scale.write(found.tolerance, '')} {scale.unit} are lost on {found.keep}."
    )
    return Section("Share of the way", figures=(figure,), tables=(table,), note=note)


def _make_share_cell(effect: MovedEffect, scale: Any) -> Cell:
    moved = f"{scale.write(effect.moved.effect)} ({scale.write_interval(effect.moved.interval)})"
    if effect.share is None:
        return Cell("undefined", moved, title="tuning itself is not shown to move this effect")
    return Cell(_write_share(effect), moved)


def _make_effects_section(found: JudgedTransplant) -> Section:
    sides = dict(found.networks)
    scale = choose_effect_scale(sides["before"])
    first = sides["before"]
    rows = [
        (name_split(first, split), *(make_effect_cell(side.effects[split], scale) for side in sides.values()))
        for split in first.effects
    ]
    levels = [
        (f"accuracy on {split}", *(f"{100 * side.accuracy[split]:.1f} %" for side in sides.values()))
        for split in first.accuracy
    ]
    figure = Drawing(lambda: draw_effects(sides), f"Effects of the interventions on {', '.join(sides)}.")
    note = (
        f"Effects in {scale.unit} against {first.reference}, with 95 % intervals of each by itself; verdicts are right "
        "for all networks and interventions together with 95 %."
    )
    return Section(
        "What each network relies on",
        figures=(figure,),
        tables=(Table(("intervention", *sides), tuple([*rows, *levels])),),
        note=note,
    )


def draw_shares(found: JudgedTransplant, ax: Axes | None = None) -> Figure:
    """The share of the way by intervention, network by network, with intervals; undefined ones are left out."""
    splits = list(found.effects["transplanted"])

    def mark(effect: MovedEffect) -> tuple[float, float, float] | None:
        if effect.share is None or effect.interval is None:
            return None
        low, high = (min(max(bound, -WIDEST), WIDEST) for bound in effect.interval)
        return min(max(effect.share, low), high), low, high

    series = {name: [mark(own[split]) for split in splits] for name, own in found.effects.items() if name != "tuned"}
    figure = draw_marks([abbreviate_split(split) for split in splits], series, "share of the way", "intervention", ax)
    axes = figure.axes[0] if ax is None else ax
    axes.axhline(0.0, color="gray", linewidth=0.8)
    axes.axhline(1.0, color="gray", linewidth=0.8, linestyle=":")
    axes.axhline(found.least, color="#D55E00", linestyle="--", label=f"travels from {found.least:g}")
    place_legend(figure, axes, ax is None)
    return figure
