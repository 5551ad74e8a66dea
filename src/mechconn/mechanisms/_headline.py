"""What a comparison found, in a sentence or a few: the first line of what is printed, and of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mechconn.connectivity import join_words
from mechconn.losses import NATS
from mechconn.mechanisms._amounts import POINTS, choose_scale
from mechconn.mechanisms._effects import Effect, Invariance, On
from mechconn.mechanisms._reduction import Reduction

MOST_NUMBERS = 3
"""With more interventions than this that need numbers, the headline names them only."""


class Clause(NamedTuple):
    """What one intervention showed; those of one head make a sentence.

    Attributes:
        rank: what stands first: 0 two that differ, 1 both rely, 2 one does, 3 not settled, 4 both are invariant.
        head: the words, with {x} for the interventions and {it} for a second mention.
        number: how much, in words; empty where nothing is to be said.
    """

    rank: int
    head: str
    number: str


class Wording(NamedTuple):
    """What the two models are called, what effects are measured on, and the unit of the loss."""

    a: str
    b: str
    on: On
    loss_unit: str


def write_headline(a: Invariance, b: Invariance, less: Mapping[str, Reduction], names: tuple[str, str]) -> str:
    """What both rely on, what one does and the other does not, what is not settled: in this order, with numbers."""
    words = Wording(*names, a.on, a.loss_unit)
    clauses = {name: _describe_pair(a[name], b[name], less.get(name), words) for name in a.interventions}
    brief = sum(bool(clause.number) for clause in clauses.values()) > MOST_NUMBERS
    groups: dict[tuple[int, str], list[str]] = {}
    for name, clause in clauses.items():
        groups.setdefault(clause[:2], []).append(name)
    sentences = [
        _join_clauses(head, {name: "" if brief else clauses[name].number for name in members})
        for (_, head), members in sorted(groups.items(), key=lambda group: group[0][0])
    ]
    return " ".join([*sentences, *_list_caveats((a, b), names)])


def _join_clauses(head: str, numbers: Mapping[str, str]) -> str:
    said = [f"{number} on {name}" if len(numbers) > 1 else number for name, number in numbers.items() if number]
    sentence = head.replace("{x}", join_words(list(numbers))).replace("{it}", "it" if len(numbers) == 1 else "them")
    return f"{sentence}: {'; '.join(said)}." if said else f"{sentence}."


def _list_caveats(sides: tuple[Invariance, Invariance], names: tuple[str, str]) -> Iterator[str]:
    """What the verdicts do not say: of an uninformative model, and of rows that were chosen and not intervened on."""
    empty = [
        name
        for name, side in zip(names, sides, strict=True)
        if side.uninformative and any(side[split].caveat for split in side.interventions)
    ]
    if empty:
        who = "either" if len(empty) > 1 else empty[0]
        yield f"What {who} is invariant to says nothing about what it uses."
    if any(sides[0][split].observational for split in sides[0].interventions):
        yield "This is observational: the splits hold other rows."


def _describe_pair(a: Effect, b: Effect, less: Reduction | None, words: Wording) -> Clause:
    found = a.verdict, b.verdict
    if found == ("sensitive", "sensitive"):
        return _describe_both(a, b, less, words)
    if "sensitive" in found:
        return _describe_one(a, b, less, words)
    if found == ("invariant", "invariant"):
        return Clause(4, "Both are invariant to {x}", "")
    if found == ("undetermined", "undetermined"):
        return Clause(3, f"Whether {words.a} or {words.b} is invariant to {{x}} is not settled", "")
    known, open_ = (words.a, words.b) if a.verdict == "invariant" else (words.b, words.a)
    return Clause(3, f"{known} is invariant to {{x}}; whether {open_} is, is not settled", "")


def _describe_both(a: Effect, b: Effect, less: Reduction | None, words: Wording) -> Clause:
    if a.effect * b.effect < 0:
        sides = [f"{name} by {_format(e.effect, words, '+')}" for name, e in ((words.a, a), (words.b, b))]
        head = "Both are sensitive to {x}, in opposite directions"
        return Clause(0, head, _say(f"{sides[0]}, {sides[1]}{_name_unit(words)}", words))
    both = "Both rely on {x}" if _relies(a, words.on) else "Both are sensitive to {x}"
    if less is None:
        return Clause(1, both, "")
    low, high = less.interval
    if low <= 0 <= high:
        return Clause(1, f"{both}; whether {words.b} does less is not settled", _describe_less(less, words))
    if low > 0:
        return Clause(1, f"{both}; {words.b} less", _describe_less(less, words))
    more, of, least, most = (_format(value, words) for value in (-less.amount, less.of, -high, -low))
    number = f"{more}{_name_unit(words)} more than {of} ({least} to {most})"
    return Clause(1, f"{both}; {words.b} more", _say(number, words))


def _describe_one(a: Effect, b: Effect, less: Reduction | None, words: Wording) -> Clause:
    """One is sensitive and the other is not, or is not known to be."""
    if a.verdict == "sensitive":
        name, other, effect, rest, number = words.a, words.b, a, b.verdict, _describe_less(less, words)
    else:
        low, high = (_format(bound, words, "+") for bound in b.interval)
        number = _say(f"{_format(b.effect, words, '+')}{_name_unit(words)} ({low} to {high})", words)
        name, other, effect, rest = words.b, words.a, b, a.verdict
    verb = "relies on" if _relies(effect, words.on) else "is sensitive to"
    if rest == "invariant":
        return Clause(0, f"{name} {verb} {{x}} and {other} is invariant to {{it}}", number)
    return Clause(2, f"{name} {verb} {{x}}; whether {other} is invariant to {{it}} is not settled", number)


def _relies(effect: Effect, on: On) -> bool:
    """Whether an intervention harms: accuracy falls or the loss rises. Of a metric it is not known what harm is."""
    harms = {"accuracy": effect.effect < 0, "loss": effect.effect > 0}.get(on, False)
    return harms and not effect.observational


def _describe_less(less: Reduction | None, words: Wording) -> str:
    """How much less B relies on it; nothing of comparisons that did not measure it, as those of release 0.1.0."""
    if less is None:
        return ""
    amount, of, low, high = (_format(value, words) for value in (less.amount, less.of, *less.interval))
    return _say(f"{amount} of {of}{_name_unit(words)} less ({low} to {high})", words)


def _say(text: str, words: Wording) -> str:
    """An amount, after the name of what it is of where that is a metric of the user's."""
    return text if words.on in ("accuracy", "loss") else f"in {words.on}, {text}"


def _name_unit(words: Wording) -> str:
    return f" {choose_scale(words.on, words.loss_unit)[1]}" if words.on in ("accuracy", "loss") else ""


def _format(value: float, words: Wording, sign: str = "") -> str:
    """Tenths of points, hundredths of nats, three digits of all else."""
    scale, unit = choose_scale(words.on, words.loss_unit)
    digits = {POINTS: ".1f", NATS: ".2f"}.get(unit, ".3g")
    return f"{scale * value:{sign}{digits}}"
