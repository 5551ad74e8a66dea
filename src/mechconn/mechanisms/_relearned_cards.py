"""The card of relearning: is a mechanism gone, or hidden?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from statistics import fmean
from typing import TYPE_CHECKING

from mechconn.connectivity import join_words
from mechconn.mechanisms._mechanism_cards import describe_effect
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
SEE_RELEARNING = "No effect beyond the margin; whether it is gone or hidden stands beside."


def make_relearned_card(found: Mapping[str, Relearned], most: int = MOST_ANSWERS) -> Card:
    """Is it gone, or hidden? Of each network; of several training runs how many have each state."""
    question = ask_about(next(iter(found.values())))
    answers = [_answer_network(name if len(found) > 1 else "", own) for name, own in found.items()]
    return make_card(question, answers, advice=_advise(found), anchor=RELEARNED, most=most)


def ask_about(found: Relearned) -> str:
    """The question."""
    return f"Is {name_mechanism(found)} gone, or hidden?"


def _answer_network(about: str, found: Relearned) -> Answer:
    """The state with the number that says it."""
    if len(found.runs) == 1:
        return _answer_run(found, found.runs[0], about)
    counts = Counter(found.states)
    said = ", ".join(f"{STATES[state][0]} in {count}" for state, count in counts.items())
    style = STATES[found.states[0]][1] if len(counts) == 1 else "open"
    if counts.keys() == {"uses"}:
        starts = [run.at_start for run in found.runs]
        number = f"{write_points(fmean(starts))} over the {found.compared_with} before any step"
        interval = f"runs from {format_interval((min(starts), max(starts)), 100, '+.1f')}"
        return Answer(f"{said} of {len(found.runs)}", style, about, number, interval)
    number = f"{write_points(found.excess)} over the {found.compared_with} after steps of relearning"
    interval = f"95 % interval over runs {format_interval(found.mean_excess, 100, '+.1f')}"
    return Answer(f"{said} of {len(found.runs)}", style, about, number, interval)


def _answer_run(found: Relearned, run: RelearningRun, about: str) -> Answer:
    """The state of one run's network, and the excess, or the effect where that says it."""
    state = found.find_state(run)
    verdict, style = STATES[state]
    effect = run.before[found.intervention]
    harmed = effect.verdict == "sensitive" and effect.effect < 0
    if state == "avoids" or (state == "uses" and harmed) or state == effect.verdict == "undetermined":
        shown = describe_effect(run.before, found.intervention, about)
        said = "leaves it open" if run.verdict == "undetermined" else f"says {run.verdict}"
        beside = f"; relearning by itself {said}" if effect.verdict == "undetermined" else ""
        return Answer(verdict, style, about, f"effect {shown.number}", shown.interval + beside)
    value, bounds, what = (run.excess, run.interval, "after steps of relearning")
    if state == "uses":
        value, bounds, what = (run.at_start, run.at_start_interval, "before any step")
    number = f"{write_points(value)} over the {found.compared_with}"
    return Answer(verdict, style, about, number, f"{what}, 95 % interval {format_interval(bounds, 100, '+.1f')}")


def _advise(found: Mapping[str, Relearned]) -> str:
    """What to do next: of what is hidden, else of what is open, else of what is gone, else of what is in use."""
    states = {name: set(own.states) for name, own in found.items()}
    if hidden := _name(states, "hidden"):
        return f"{hidden}a few steps bring it back. Try another method or more clean samples, then relearn again."
    if plans := list(_list_plans(found)):
        return plans[0]
    if gone := _name(states, "gone"):
        return f"{gone}nothing came back at these rates and steps; others may still bring it back."
    if (avoided := _name(states, "avoids")) and not _name(states, "uses"):
        return (
            f"{avoided}accuracy rises without the mechanism, so it has an effect; whether that is wanted, you decide."
        )
    return "Change what is in use first (mechconn.compare_methods), then ask again of the result."


def _name(states: Mapping[str, Collection[str]], state: str) -> str:
    """The networks with a state, as the beginning of a sentence; empty where there is none."""
    names = [name for name, own in states.items() if state in own]
    if not names:
        return ""
    return f"{STATES[state][0].capitalize()}{' in ' + join_words(names) if len(states) > 1 else ''}: "


def _list_plans(found: Mapping[str, Relearned]) -> Iterator[str]:
    """What would settle the networks that are open."""
    for name, own in found.items():
        whom = f" of {name}" if len(found) > 1 else ""
        for run in own.runs:
            if own.find_state(run) != "undetermined":
                continue
            effect = run.before[own.intervention]
            if effect.verdict == "undetermined" and effect.to_settle is not None:
                unit = "rows" if effect.clusters is None else "clusters"
                yield f"About {effect.to_settle:,} {unit} would settle the effect of {own.intervention}{whom}."
            elif plan := describe_plan(run):
                yield f"{plan} would settle the relearning{whom}."
            else:
                yield f"What would settle the relearning{whom} is not known; the notes below say what limits it."
