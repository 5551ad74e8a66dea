"""Two models side by side: the table of accuracies, effects and their differences, and the picture of the effects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mechconn.mechanisms._invariance_page import (
    EFFECTS,
    HOLM,
    Scale,
    choose_effect_scale,
    describe_effect_intervals,
    describe_effects,
    draw_effects,
    make_effect_cell,
    make_level_cell,
    make_level_section,
    name_split,
)
from mechconn.plotting import Cell, Drawing, Section, Table

if TYPE_CHECKING:
    from mechconn.mechanisms._comparison import Comparison


def make_comparison_sections(found: Comparison) -> Iterator[Section]:
    """How good both are, then effects side by side, the differences of these, and how much less B relies on each."""
    a, b = found.names
    scale, sides = choose_effect_scale(found.a), {a: found.a, b: found.b}
    columns: list[str | Cell] = ["split", a, f"effect on {a}", b, f"effect on {b}", f"{b} \N{MINUS SIGN} {a}"]
    if found.less:
        meaning = f"|effect on {a}| less |effect on {b}|, where {a} is sensitive; of |effect on {a}|"
        columns.append(Cell(f"less on {b}", title=meaning))
    rows = []
    for split in found.a.samples:
        first = name_split(found.a, split)
        cells = [
            cell
            for side in sides.values()
            for cell in (make_level_cell(side, split), make_effect_cell(side.effects.get(split), scale))
        ]
        less = [_make_less_cell(found, split, scale)] if found.less else []
        rows.append((first, *cells, _make_difference_cell(found, split, scale), *less))
    yield make_level_section(sides)
    figure = Drawing(lambda: draw_effects(sides), describe_effects(sides))
    yield Section(
        "What each relies on",
        figures=(figure,),
        tables=(Table(tuple(columns), tuple(rows)),),
        note=_write_note(found),
        anchor=EFFECTS,
        half=True,
    )


def list_comparison_findings(found: Comparison) -> Iterator[str]:
    """The paper's verdict where it is another, what is noted of both models once, and of each one."""
    (a, b), (first, second) = found.names, (found.a, found.b)
    if found.same_invariances != found.verdict:
        yield f"by the paper's definition, equal sets of invariances, the mechanisms are {found.same_invariances}"
    yield from (note for note in first.notes if note in second.notes)
    for name, own, other in ((a, first, second), (b, second, first)):
        yield from (f"{name}: {note}" for note in own.notes if note not in other.notes)


def _write_note(found: Comparison) -> str:
    a, b = found.names
    less = (
        f" Less on {b}: |effect on {a}| \N{MINUS SIGN} |effect on {b}|, of |effect on {a}|, where {a} is sensitive."
        if found.less
        else ""
    )
    empty = "".join(
        f" Where {name} is invariant that says nothing about what it uses: {side.uninformative}."
        for name, side in ((a, found.a), (b, found.b))
        if side.uninformative
    )
    return f"{describe_effect_intervals(found.a)}{less} {HOLM}{empty}"


def _make_difference_cell(found: Comparison, split: str, scale: Scale) -> Cell:
    apart = found.differences.get(split)
    return Cell("") if apart is None else Cell(scale.write(apart.effect), scale.write_interval(apart.interval))


def _make_less_cell(found: Comparison, split: str, scale: Scale) -> Cell:
    less = found.less.get(split)
    if less is None:
        return Cell("")
    amount = f"{scale.write(less.amount, '')} of {scale.write(less.of, '')}"
    return Cell(amount, f"{scale.write_interval(less.interval, '')}; {100 * less.share:.0f} %")
