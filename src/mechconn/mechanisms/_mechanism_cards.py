"""Cards of mechanisms: what a model relies on, and how much less another does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mechconn.connectivity import join_words
from mechconn.core import RAND_IMAGE
from mechconn.mechanisms._invariance_page import EFFECTS, Scale, choose_effect_scale
from mechconn.plotting import Answer, AnswerStyle, Card, make_card

if TYPE_CHECKING:
    from mechconn.mechanisms._comparison import Comparison
    from mechconn.mechanisms._effects import Effect, Invariance
    from mechconn.mechanisms._reduction import Reduction

STYLES: Mapping[str, AnswerStyle] = {"sensitive": "sensitive", "invariant": "invariant", "undetermined": "open"}
LESS: Mapping[str, AnswerStyle] = {"less": "invariant", "more": "sensitive", "not settled": "open"}
RANKS = {"sensitive": 0, "undetermined": 1, "invariant": 2}


def make_reliance_card(name: str, found: Invariance, anchor: str = EFFECTS) -> Card:
    """Does one model rely on it? The effect of every intervention, the sensitive ones first."""
    names = sorted(found.interventions, key=lambda split: (RANKS[found[split].verdict], -abs(found[split].effect)))
    answers = [describe_effect(found, split, about="" if len(names) == 1 else split) for split in names]
    question = f"Does {name} rely on {names[0]}?" if len(names) == 1 else f"What does {name} rely on?"
    return make_card(question, answers, _advise_on_effects(found), anchor)


def describe_effect(found: Invariance, split: str, about: str) -> Answer:
    """The verdict on one intervention with the effect and the interval that the verdict rests on."""
    effect, scale = found[split], choose_effect_scale(found)
    interval = f"{100 * effect.confidence:.4g} % interval {scale.write_interval(effect.adjusted_interval)}"
    return Answer(
        _name_verdict(found, effect),
        "open" if effect.caveat else STYLES[effect.verdict],
        about,
        f"{scale.write(effect.effect)} {scale.unit}",
        interval,
    )


def _name_verdict(found: Invariance, effect: Effect) -> str:
    """The verdict in a reader's words; "relies" only where the intervention harms."""
    if effect.verdict == "undetermined":
        return "not settled"
    if effect.verdict == "invariant":
        return "invariant, which says nothing here" if effect.caveat else "invariant"
    harms = {"accuracy": effect.effect < 0, "loss": effect.effect > 0}.get(found.on, False)
    return "relies on it" if harms and not effect.observational else "sensitive"


def _advise_on_effects(found: Invariance) -> str:
    """What to do next: rows for what is open, else change what is relied on, else look behind an invariance."""
    if found.uninformative and any(found[split].caveat for split in found.interventions):
        return f"Its invariance says nothing: {found.uninformative}. Measure a model that solves the task."
    needed = {split: found[split].to_settle for split in found.interventions if found[split].to_settle is not None}
    if needed:
        split = max(needed, key=lambda name: needed[name] or 0)
        unit = "rows" if found[split].clusters is None else "clusters"
        return f"About {needed[split]:,} {unit} would settle {split}."
    relied = [split for split in found.interventions if found[split].verdict == "sensitive" and split != RAND_IMAGE]
    if relied:
        return f"If {relied[0]} disturbs a shortcut, fine-tune it away (mechconn.fine_tune) and measure again."
    return "No effect today: whether a few steps bring it back, measure_relearning says ([relearn] in audit.toml)."


def list_less_cards(found: Comparison) -> Iterator[Card]:
    """How much less does B rely on what A is sensitive to? Nothing where A is sensitive to nothing."""
    (a, b), scale = found.names, choose_effect_scale(found.a)
    names = [split for split in found.a.interventions if split in found.less]
    if not names:
        return
    answers = [_answer_less(found.less[split], scale, "" if len(names) == 1 else split) for split in names]
    what = names[0] if len(names) == 1 else f"what {a} relies on"
    left = [split for split in names if found.b[split].verdict != "invariant"]
    advice = (
        f"Less is not none: {b} is not shown to be invariant to {join_words(left)}."
        if left
        else f"{b} is invariant: an effect beyond the margin is excluded."
    )
    yield make_card(f"How much less does {b} rely on {what}?", answers, advice, EFFECTS)


def _answer_less(less: Reduction, scale: Scale, about: str) -> Answer:
    low, high = less.interval
    if high < 0:
        amount = f"{scale.write(-less.amount, '')} {scale.unit} more than {scale.write(less.of, '')}"
        interval = f"95 % interval {scale.write_interval((-high, -low), '')}"
        return Answer("more", LESS["more"], about, amount, interval)
    verdict = "less" if low > 0 else "not settled"
    amount = f"{scale.write(less.amount, '')} of {scale.write(less.of, '')} {scale.unit}"
    return Answer(verdict, LESS[verdict], about, amount, f"95 % interval {scale.write_interval(less.interval, '')}")


def list_comparison_cards(found: Comparison) -> Iterator[Card]:
    """What does each rely on, and how much less the second."""
    for name, side in zip(found.names, (found.a, found.b), strict=True):
        yield make_reliance_card(name, side)
    yield from list_less_cards(found)
