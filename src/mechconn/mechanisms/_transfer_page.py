"""What a transfer looks like: its sentence, its table and its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mechconn.connectivity import join_words
from mechconn.mechanisms._invariance_page import (
    EFFECTS,
    HOLM,
    choose_effect_scale,
    describe_effect_intervals,
    describe_effects,
    draw_effects,
    make_effect_cell,
    make_level_section,
    name_split,
)
from mechconn.plotting import Answer, AnswerStyle, Card, Cell, Drawing, Section, Table, make_card

if TYPE_CHECKING:
    from mechconn.mechanisms._transfer import Transfer, TransferredEffect

STYLES: Mapping[str, AnswerStyle] = {
    "transfers": "holds",
    "does not transfer": "does-not-hold",
    "undetermined": "open",
}


def say_transfer(found: Transfer) -> str:
    """What comes over, what does not, and what is open, in a sentence."""
    groups = {
        "transfers": list(found.transferred),
        "does not transfer": list(found.left_behind),
        "may or may not transfer": [name for name, own in found.items() if own.verdict == "undetermined"],
    }
    said = [f"{join_words(names)} {verb}" for verb, names in groups.items() if names]
    if not said:
        return "The teacher is not shown to be sensitive to anything, so that no ratio is given"
    return f"Of the teacher's effects {'; '.join(said)}"


def list_transfer_cards(found: Transfer) -> Iterator[Card]:
    """Each effect of the teacher's, with its ratio; one answer where there are none."""
    known = [own for own in found.values() if own.ratio is not None]
    answers = [_answer(own, len(known) > 1) for own in known]
    if not answers:
        answers = [Answer(own.verdict, "open", own.split) for own in found.values()]
    question = f"Does {known[0].split} transfer?" if len(known) == 1 else "What transfers?"
    yield make_card(question, answers, advice=_advise(found), anchor=EFFECTS)


def _answer(own: TransferredEffect, several: bool) -> Answer:
    assert own.ratios is not None
    return Answer(
        own.verdict,
        STYLES.get(own.verdict, ""),
        own.split if several else "",
        f"{own.ratio:.2f} of the teacher's effect",
        f"Fieller: {own.ratios.describe('.2f')}",
    )


def _advise(found: Transfer) -> str:
    if not any(own.ratio is not None for own in found.values()):
        return "A ratio divides by the teacher's effect: give interventions that it is sensitive to, or more rows."
    if open_ones := [name for name, own in found.items() if own.verdict == "undetermined"]:
        return f"More rows would narrow {join_words(open_ones)}."
    if found.transferred:
        return f"The student relies on {join_words(list(found.transferred))} too: audit it as you would its teacher."
    return "A smaller effect may still be one: see what the student itself is invariant to."


def make_transfer_sections(found: Transfer) -> Iterator[Section]:
    """How good both are, then the effects and their ratios."""
    sides = {"teacher": found.teacher, "student": found.student}
    yield make_level_section(sides)
    scale = choose_effect_scale(found.teacher)
    rows = tuple(
        (
            name_split(found.teacher, name),
            *(make_effect_cell(side[name], scale) for side in sides.values()),
            *_list_cells(own),
        )
        for name, own in found.items()
    )
    columns = ("split", "effect on the teacher", "effect on the student", "ratio", "quotients of bounds", "verdict")
    figure = Drawing(lambda: draw_effects(sides), describe_effects(sides))
    yield Section(
        "What comes over",
        figures=(figure,),
        tables=(Table(columns, rows),),
        note=_write_note(found),
        anchor=EFFECTS,
        half=True,
    )


def _list_cells(own: TransferredEffect) -> Iterator[Cell]:
    if own.ratio is None or own.ratios is None:
        yield from (Cell(""), Cell(""), Cell(own.verdict))
        return
    yield Cell(f"{own.ratio:.2f}", own.ratios.describe(".2f"), title="Fieller's set, approximate")
    yield Cell("" if own.bounds is None else f"{own.bounds[0]:.2f} to {own.bounds[1]:.2f}")
    style = STYLES[own.verdict]
    yield Cell(own.verdict, style="" if style == "open" else style)


def _write_note(found: Transfer) -> str:
    noted = "".join(f" Note: {note}." for note in found.findings)
    return (
        f"{describe_effect_intervals(found.teacher)} {HOLM} The ratio is the effect on the student over that on the "
        f"teacher, given where the teacher is sensitive; it transfers where it is shown to be above {found.least:g}. "
        "Below a ratio stands Fieller's set, which is approximate (Student's t); quotients of bounds are as exact as "
        "the intervals that they come from. Sets of one kind hold for all interventions together with 95 % "
        f"(Bonferroni).{noted}"
    )
