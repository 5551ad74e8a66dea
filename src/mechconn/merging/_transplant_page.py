"""What a judged transplant shows: shares of the way, effects of all networks, relearning, the alignment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mechconn.mechanisms import (
    choose_effect_scale,
    describe_state,
    draw_effects,
    list_relearning_sections,
    make_effect_cell,
    name_mechanism,
    name_split,
)
from mechconn.merging._travelled import MovedEffect, TravelReason
from mechconn.plotting import Cell, Drawing, Section, Table, draw_marks, place_legend

if TYPE_CHECKING:
    from mechconn.merging._judged_transplant import JudgedTransplant
    from mechconn.plotting import Axes, Figure

WORDS = {"travels": "The fix travels", "does not travel": "The fix does not travel", "undetermined": "Undetermined"}
CONTROLS = {"unaligned": "the change added as it is", "random": "a change of random direction"}
WIDEST = 10.0
"""A share beyond this is drawn at the edge: its denominator is near zero."""


def write_answer(found: JudgedTransplant) -> str:
    """Does the fix travel? The answer, its reasons and numbers, and what controls and relearning say against it."""
    reason = found.reasons["transplanted"]
    own, scale = found.effects["transplanted"], choose_effect_scale(found.networks["before"])
    numbers = [
        f"{_write_share(effect)} of the way on {split}" for split, effect in own.items() if effect.beyond is not None
    ]
    kept, tuned = (found.kept[name] for name in ("transplanted", "tuned"))
    numbers.append(
        f"{scale.write(kept.effect)} {scale.unit} on {found.question.keep} ({scale.write_interval(kept.interval)}; "
        f"tuning itself {scale.write(tuned.effect)})"
    )
    why = "" if reason.verdict == "travels" else f" ({'; '.join(_list_reasons(found, reason))})"
    return " ".join([f"{WORDS[reason.verdict]}{why}: {'; '.join(numbers)}.", *_list_doubts(found)])


def _list_reasons(found: JudgedTransplant, reason: TravelReason) -> Iterator[str]:
    """Why it does not travel, or what is open."""
    where, percent = ", ".join(reason.splits), f"{100 * found.question.least:g} %"
    is_open = reason.verdict == "undetermined"
    if where:
        yield (
            f"whether it goes {percent} of the way is open on {where}"
            if is_open
            else f"it goes less than {percent} of the way on {where}"
        )
    if reason.kept:
        yield f"whether {_name_kept(found)} is kept is open" if is_open else f"{_name_kept(found)} is lost"
    if all(effect.beyond is None for effect in found.effects["tuned"].values()):
        yield (
            f"tuning itself is not shown to move any effect by more than {_write_margin(found)}, so there is no way to "
            "go"
        )


def _name_kept(found: JudgedTransplant) -> str:
    on = found.question.on
    return f"{on if on in ('accuracy', 'loss') else repr(on)} on {found.question.keep}"


def _write_margin(found: JudgedTransplant) -> str:
    scale = choose_effect_scale(found.networks["before"])
    return f"{scale.write(found.question.margin, '')} {scale.unit}"


def _list_doubts(found: JudgedTransplant) -> Iterator[str]:
    """What a reader of the verdict alone would miss: controls that travel, tuning that loses, what relearning says."""
    verdicts = found.verdicts
    for name in (name for name in CONTROLS if verdicts.get(name) == "travels"):
        yield f"{CONTROLS[name].capitalize()} travels as well."
    if found.reasons["tuned"].kept and verdicts["tuned"] == "does not travel":
        yield f"Tuning itself does not keep {_name_kept(found)}."
    if found.relearned:
        said = [
            describe_state(f"the {name} network", own.state, name_mechanism(own))
            for name, own in found.relearned.items()
        ]
        yield f"By relearning, {' and '.join(said)}."


def write_why(found: JudgedTransplant) -> str:
    """What the verdict rests on."""
    reason = found.reasons["transplanted"]
    if reason.verdict == "travels":
        percent, where = f"{100 * found.question.least:g} %", ", ".join(reason.splits)
        return f"{percent} of the way or more are shown on {where}, and {_name_kept(found)} is kept."
    return f"{'; '.join(_list_reasons(found, reason))}."


def describe_controls(found: JudgedTransplant) -> Iterator[str]:
    """What becomes of the other ways of adding a change, and what moving it first does to each effect."""
    for name, what in CONTROLS.items():
        if name in found.verdicts:
            yield f"{what.capitalize()}: {found.verdicts[name]}."
    scale = choose_effect_scale(found.networks["before"])
    for split, gain in found.gains.items():
        low, high = gain.interval
        if low > 0 or high < 0:
            ends = [abs(found.networks[name].effects[split].effect) for name in ("unaligned", "transplanted")]
            where = "towards none" if ends[1] < ends[0] else "away from none"
            yield (
                f"On {split} moving the change first shifts the effect by {scale.write(gain.effect)} {scale.unit} "
                f"({scale.write_interval(gain.interval)}), {where}."
            )


def _write_share(effect: MovedEffect) -> str:
    if effect.share is None or effect.interval is None:
        return "an unknown share"
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
            "beyond": None if effect.beyond is None else effect.beyond.effect,
            "beyond_low": None if effect.beyond is None else effect.beyond.interval[0],
            "beyond_high": None if effect.beyond is None else effect.beyond.interval[1],
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
    question = found.question
    table = Table(("network", *splits, f"kept on {question.keep}", "verdict"), tuple(rows))
    figure = Drawing(lambda: draw_shares(found), f"Share of the way by intervention: {write_answer(found)}")
    percent = f"{100 * question.least:g} %"
    note = (
        f"Share of the way: how far the effect was moved, of how far tuning the network itself moves it; below it the "
        f"move in {scale.unit}, and how far it lies beyond {percent} of the way, with the bounds that the verdict "
        f"rests on. Kept: {scale.unit} against the network before. The {found.intervals} intervals of shares, moves, "
        "gains and what is kept hold together with 95 %; each verdict is wrong with 5 % at most, by itself, and rests "
        f"on narrower bounds. A fix travels where every effect that tuning moves by more than {_write_margin(found)} "
        f"goes {percent} of the way or more, and no more than {scale.write(question.tolerance, '')} {scale.unit} are "
        f"lost on {question.keep}."
    )
    return Section("Share of the way", figures=(figure,), tables=(table,), note=note)


def _make_share_cell(effect: MovedEffect, scale: Any) -> Cell:
    moved = f"{scale.write(effect.moved.effect)} ({scale.write_interval(effect.moved.interval)})"
    if effect.beyond is None:
        known = "undefined" if effect.share is None else _write_share(effect)
        return Cell(known, f"{moved}\ndecides nothing", title="tuning is not shown to move it by more than the margin")
    beyond = f"beyond: {scale.write(effect.beyond.effect)} ({scale.write_interval(effect.beyond.interval)})"
    return Cell(_write_share(effect), f"{moved}\n{beyond}")


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

    series = {
        name: [
            mark(found.effects[name][split]) if name in found.effects and name != "tuned" else None for split in splits
        ]
        for name in found.networks
    }
    figure = draw_marks([split for split in splits], series, "share of the way", "intervention", ax)
    axes = figure.axes[0] if ax is None else ax
    axes.axhline(0.0, color="gray", linewidth=0.8)
    axes.axhline(1.0, color="gray", linewidth=0.8, linestyle=":")
    least = found.question.least
    axes.axhline(least, color="#D55E00", linestyle="--", label=f"travels from {least:g}")
    place_legend(figure, axes, ax is None)
    return figure
