"""The card of relearning: is a mechanism gone, or hidden?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mechconn.mechanisms._invariance_page import choose_effect_scale
from mechconn.mechanisms._relearned_sentences import RELEARNED, describe_plan, name_mechanism, write_points
from mechconn.plotting import MOST_ANSWERS, Answer, AnswerStyle, Card, format_interval, make_card

if TYPE_CHECKING:
    from mechconn.mechanisms._relearned import Relearned, RelearningRun

STATES: Mapping[str, tuple[str, AnswerStyle]] = {
    "uses": ("in use", "sensitive"),
    "avoids": ("avoided", "sensitive"),
    "hidden": ("hidden", "sensitive"),
    "gone": ("gone", "invariant"),
    "undetermined": ("not settled", "open"),
}


def make_relearned_card(found: Mapping[str, Relearned], most: int = MOST_ANSWERS) -> Card:
    """Is it gone, or hidden? Of each network, and of several training runs of each."""
    answers = [answer for name, own in found.items() for answer in _answer_relearned(name, own, len(found) > 1)]
    return make_card(
        ask_about(next(iter(found.values()))), answers, advise_on_states(list(found.values())), RELEARNED, most
    )


def ask_about(found: Relearned) -> str:
    """The question."""
    return f"Is {name_mechanism(found)} gone, or hidden?"


def _answer_relearned(name: str, found: Relearned, several: bool) -> Iterator[Answer]:
    for number, run in enumerate(found.runs):
        about = " ".join(filter(None, (name if several else "", f"run {number}" if len(found.runs) > 1 else "")))
        yield _answer_run(found, run, about)


def _answer_run(found: Relearned, run: RelearningRun, about: str) -> Answer:
    """The state of one run's network, and the excess, or the effect where that says it."""
    state = found.find_state(run)
    verdict, style = STATES[state]
    effect = run.before[found.intervention]
    if state in ("uses", "avoids") and effect.verdict == "sensitive":
        scale = choose_effect_scale(run.before)
        number = f"effect {scale.write(effect.effect)} {scale.unit}"
        interval = f"{100 * effect.confidence:.4g} % interval {scale.write_interval(effect.adjusted_interval)}"
        return Answer(verdict, style, about, number, interval)
    value, bounds, what = (run.excess, run.interval, "after steps of relearning")
    if state == "uses":
        value, bounds, what = (run.at_start, run.at_start_interval, "before any step")
    number = f"{write_points(value)} over the {found.compared_with}"
    return Answer(verdict, style, about, number, f"{what}, 95 % interval {format_interval(bounds, 100, '+.1f')}")


def advise_on_states(found: Sequence[Relearned]) -> str:
    """What to do next, by the worst state among the networks."""
    states = {own.find_state(run) for own in found for run in own.runs}
    plans = [plan for own in found for run in own.runs if (plan := describe_plan(run))]
    if "hidden" in states:
        return "Hidden: a few steps bring it back. Try another method or more clean samples, then relearn again."
    if plans:
        return f"{plans[0]} would settle it."
    if states & {"uses", "avoids"}:
        return "Change what is in use first (mechconn.compare_methods), then ask again of the result."
    if states == {"gone"}:
        return "Gone at these rates and steps; others may still bring it back."
    return "More relearning seeds or rows narrow the interval."
