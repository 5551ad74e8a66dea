"""Cards of mechanisms: what a model relies on, and how much less another does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mechconn.connectivity import join_words
from mechconn.core import RAND_IMAGE
from mechconn.mechanisms._explain_similarity import are_opposite
from mechconn.mechanisms._invariance_page import EFFECTS, Scale, choose_effect_scale
from mechconn.plotting import VERDICT_STYLES, Answer, AnswerStyle, Card, make_card

if TYPE_CHECKING:
    from mechconn.mechanisms._comparison import Comparison
    from mechconn.mechanisms._effects import Effect, Invariance

LESS: Mapping[str, AnswerStyle] = {
    "less": "invariant",
    "more": "sensitive",
    "in opposite directions": "sensitive",
    "not settled": "open",
}
UNITS = {"runs": "training runs", "clusters": "clusters"}
"""What intervals are over -> what more of would narrow them; others are over rows."""
RANKS = {"sensitive": 0, "undetermined": 1, "invariant": 2}
OBSERVATIONAL = "Observational: the splits hold other rows, so whatever else differs between them counts too."
ASK_RELEARNING = "No effect beyond the margin; whether a few steps bring one back, mechconn.measure_relearning says."


def list_reliance_cards(
    name: str, found: Invariance, anchor: str = EFFECTS, none: str = ASK_RELEARNING
) -> Iterator[Card]:
    """Does one model rely on it? The effect of every intervention, the sensitive ones first; nothing without any.

    Args:
        name: what the model is called.
        found: the effects on it.
        anchor: of the section that holds the evidence.
        none: what to do next where it is invariant to all of them.
    """
    names = sorted(found.interventions, key=lambda split: (RANKS[found[split].verdict], -abs(found[split].effect)))
    if not names:
        return
    answers = [describe_effect(found, split, about="" if len(names) == 1 else split) for split in names]
    verb = _choose_verb(found, names)
    question = f"Does {name} {verb} {names[0]}?" if len(names) == 1 else f"What does {name} {verb}?"
    why = OBSERVATIONAL if any(found[split].observational for split in names) else ""
    yield make_card(question, answers, why=why, advice=_advise_on_effects(found, none), anchor=anchor)


def describe_effect(found: Invariance, split: str, about: str) -> Answer:
    """The verdict on one intervention with the effect and the interval that the verdict rests on."""
    effect, scale = found[split], choose_effect_scale(found)
    interval = f"{100 * effect.confidence:.4g} % interval {scale.write_interval(effect.adjusted_interval)}"
    return Answer(
        _name_verdict(found, effect),
        "open" if effect.caveat else VERDICT_STYLES[effect.verdict],
        about,
        f"{scale.write(effect.effect)} {scale.unit}",
        interval,
    )


def _name_verdict(found: Invariance, effect: Effect) -> str:
    """The verdict in a reader's words."""
    if effect.verdict == "undetermined":
        return "not settled"
    if effect.verdict == "invariant":
        return "invariant, which says nothing here" if effect.caveat else "invariant"
    return "relies on it" if _harms(found, effect) else "sensitive"


def _harms(found: Invariance, effect: Effect) -> bool:
    """Whether an intervention harms; of a metric what harm is is not known, of chosen rows what caused it."""
    harms = {"accuracy": effect.effect < 0, "loss": effect.effect > 0}.get(found.on, False)
    return harms and not effect.observational


def _choose_verb(found: Invariance, names: Sequence[str]) -> str:
    """What is asked: whether a model relies on it where effects can show that, else whether it responds."""
    known = found.on in ("accuracy", "loss") and not any(found[split].observational for split in names)
    return "rely on" if known else "respond to"


def _advise_on_effects(found: Invariance, none: str) -> str:
    """What to do next: rows for what is open, else change what is relied on, else look behind an invariance."""
    if found.uninformative and any(found[split].caveat for split in found.interventions):
        return f"Its invariance says nothing: {found.uninformative}. Measure a model that solves the task."
    if unsettled := [split for split in found.interventions if found[split].verdict == "undetermined"]:
        return _advise_on_rows(found, unsettled)
    sensitive = [split for split in found.interventions if found[split].verdict == "sensitive"]
    harmed = [split for split in sensitive if _harms(found, found[split]) and split != RAND_IMAGE]
    if harmed:
        return f"If {harmed[0]} disturbs a shortcut, fine-tune it away (mechconn.fine_tune) and measure again."
    if sensitive:
        return f"Whether it should respond to {join_words(sensitive)}, you decide."
    return none


def _advise_on_rows(found: Invariance, unsettled: Sequence[str]) -> str:
    """How many rows, clusters or training runs would settle what is open."""
    needed = {split: count for split in unsettled if (count := found[split].to_settle) is not None}
    if not needed:
        said = f"would narrow the interval on {join_words(list(unsettled))}; how many settle it is not known."
        return f"More {name_units(found)} {said}"
    split, unit = max(needed, key=lambda name: needed[name]), name_units(found)
    return f"About {needed[split]:,} {unit} would settle {split}."


def name_units(found: Invariance) -> str:
    """What intervals are over, as what more of would narrow them."""
    return UNITS.get(found.over, "rows")


def list_less_cards(found: Comparison) -> Iterator[Card]:
    """How much less does B rely on what A is sensitive to? Nothing where A is sensitive to nothing."""
    (a, b), names = found.names, [split for split in found.a.interventions if split in found.less]
    if not names:
        return
    answers = {split: _answer_less(found, split, "" if len(names) == 1 else split) for split in names}
    verb = _choose_verb(found.a, names)
    what = names[0] if len(names) == 1 else f"what {a} {verb.replace('rely', 'relies').replace('respond', 'responds')}"
    question = f"How much less does {b} {verb} {what}?"
    yield make_card(question, list(answers.values()), advice=_advise_on_less(found, answers), anchor=EFFECTS)


def _answer_less(found: Comparison, split: str, about: str) -> Answer:
    """Less, more, or in another direction."""
    a, b, less, scale = found.a[split], found.b[split], found.less[split], choose_effect_scale(found.a)
    if are_opposite(a, b):
        number = f"{scale.write(a.effect)} and {scale.write(b.effect)} {scale.unit}"
        return Answer("in opposite directions", LESS["in opposite directions"], about, number)
    low, high = less.interval
    if high < 0:
        amount = f"{scale.write(-less.amount, '')} {scale.unit} more than {scale.write(less.of, '')}"
        return Answer("more", LESS["more"], about, amount, _write_bounds(scale, (-high, -low)))
    verdict = "less" if low > 0 else "not settled"
    amount = f"{scale.write(less.amount, '')} of {scale.write(less.of, '')} {scale.unit}"
    style = "open" if b.caveat else LESS[verdict]
    return Answer(verdict, style, about, amount, _write_bounds(scale, less.interval))


def _write_bounds(scale: Scale, interval: tuple[float, float]) -> str:
    return f"95 % interval {scale.write_interval(interval, '')}"


def _advise_on_less(found: Comparison, answers: Mapping[str, Answer]) -> str:
    """What the answers leave open, the worst first."""
    b, said = found.names[1], {split: answer.verdict for split, answer in answers.items()}
    if other := [split for split, verdict in said.items() if verdict in ("more", "in opposite directions")]:
        return f"What changed on {join_words(other)}, the effects of both side by side show."
    if unsettled := [split for split, verdict in said.items() if verdict == "not settled"]:
        return f"More {name_units(found.a)} would narrow the interval on {join_words(unsettled)}."
    if any(found.b[split].caveat for split in said):
        return f"The invariance of {b} says nothing: {found.b.uninformative}."
    if left := [split for split in said if found.b[split].verdict != "invariant"]:
        return f"Less is not none: {b} is not shown to be invariant to {join_words(left)}."
    return f"{b} is invariant: an effect beyond the margin is excluded."


def list_comparison_cards(found: Comparison, none: str = ASK_RELEARNING) -> Iterator[Card]:
    """What does each rely on, and how much less the second."""
    for name, side in zip(found.names, (found.a, found.b), strict=True):
        yield from list_reliance_cards(name, side, none=none)
    yield from list_less_cards(found)
