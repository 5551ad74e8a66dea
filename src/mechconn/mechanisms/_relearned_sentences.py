"""What relearning found, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mechconn.connectivity import join_words
from mechconn.core import RAND_CUE
from mechconn.mechanisms._relearning_verdict import State
from mechconn.plotting import format_interval
from mechconn.stats import Interval

if TYPE_CHECKING:
    from mechconn.mechanisms._relearned import Relearned, RelearningRun

VERBS: Mapping[State, str] = {
    "uses": "uses",
    "avoids": "avoids",
    "hidden": "hides",
    "gone": "lacks",
    "undetermined": "may or may not have",
}

RELEARNED = "relearning"
"""Anchor of the section that holds the evidence."""
ONE_RUN = "This is a statement about one training run: another run of the same recipe may differ."


def describe_state(name: str, state: State, what: str = "the mechanism") -> str:
    """What a network does, in a few words.

    Example:
        >>> describe_state("CBFT", "hidden", "the cue")
        'CBFT hides the cue'
    """
    return f"{name} {VERBS[state]} {what}"


def write_points(value: float, interval: Interval | None = None, sign: str = "+") -> str:
    """A share in points, its interval behind it.

    Example:
        >>> write_points(0.372, (0.3, 0.44))
        '+37.2 points (+30.0 to +44.0)'
    """
    bounds = "" if interval is None else f" ({format_interval(interval, 100, f'{sign}.1f')})"
    return f"{100 * value:{sign}.1f} points{bounds}"


def write_headline(found: Relearned) -> str:
    """What the networks do with the mechanism."""
    if len(found.runs) == 1:
        return describe_run("The network", found)
    runs = len(found.runs)
    low, high = (f"{100 * bound:.0f}" for bound in found.share_interval("hidden"))
    counts = (f"{found.count(verdict)} {verdict}" for verdict in ("gone", "undetermined"))
    states = ", ".join(f"{found.states.count(state)} {state}" for state in VERBS if found.states.count(state))
    return (
        f"Relearning finds the mechanism hidden in {found.count('hidden')} of {runs} training runs (95 % interval of "
        f"the share: {low} to {high} %), {' and '.join(counts)}. States: {states}."
    )


def describe_run(name: str, found: Relearned, what: str = "the mechanism") -> str:
    """What the network of a single run does, and the numbers that say so."""
    return f"{describe_state(name, found.state, what)}: {_write_state(found, found.runs[0])}"


def describe_states(found: Mapping[str, Relearned]) -> Iterator[str]:
    """What each network of a single run does, by name, in a sentence; nothing where there are none."""
    if found:
        said = [describe_state(name, own.state, name_mechanism(own)) for name, own in found.items()]
        yield f"{join_words(said)}."


def describe_relearned(found: Mapping[str, Relearned]) -> Iterator[str]:
    """The numbers of each network of a single run, and what they rest on; nothing where there are none."""
    for name, own in found.items():
        (run,) = own.runs
        yield describe_run(name, own, name_mechanism(own))
        if run.to_settle is not None:
            yield f"{_write_plan(run)} would settle the relearning of {name}."
        yield from (f"Of the relearning of {name}: {note}." for note in own.notes)
    yield from describe_protocol(found)


def describe_protocol(found: Mapping[str, Relearned]) -> Iterator[str]:
    """What the verdicts on networks of one run each rest on; nothing where there are none."""
    if found:
        yield write_protocol(next(iter(found.values())))
        yield ONE_RUN


def name_mechanism(found: Relearned) -> str:
    """What the mechanism is called: the cue, where a random cue takes its information away."""
    return "the cue" if found.intervention == RAND_CUE else "the mechanism"


def _write_state(found: Relearned, run: RelearningRun) -> str:
    effect = run.before[found.intervention]
    amount = write_points(effect.effect, effect.interval)
    against = "its control" if found.compared_with == "control" else "the placebo"
    excess = f"its excess over {against} is {write_points(run.excess, run.interval)}"
    if found.state == "uses" and effect.verdict == "sensitive" and effect.effect < 0:
        return f"{found.intervention} changes its accuracy by {amount}."
    if found.state == "uses":
        start = write_points(run.at_start, run.at_start_interval)
        return f"before relearning it is more often right on {found.split} than {against}, by {start}."
    if found.state == "avoids":
        return f"{found.intervention} changes its accuracy by {amount}. Relearning says {run.verdict}: {excess}."
    known = f"{found.intervention} changes its accuracy by {amount}, {effect.verdict}"
    return f"{known}; while it relearns, {excess}: {run.verdict}."


def write_reason(found: Relearned) -> str:
    """What the verdict rests on."""
    return " ".join([write_protocol(found), *_write_unit(found)])


def write_protocol(found: Relearned) -> str:
    """What the excess is, and when a mechanism counts as gone or hidden."""
    steps = ", ".join(str(step) for step in found.steps if step)
    seeds, margin = found.settings["seeds"], write_points(found.margin, sign="")
    against = (
        "the control, a network that never met the mechanism and was tuned alike"
        if found.compared_with == "control"
        else "the same network with a placebo, a mechanism of the same kind that it never met (weaker than a control: "
        "what helps to learn the one may help to learn the other)"
    )
    return (
        f"Excess: accuracy on {found.split} less that of {against}; mean over steps {steps}, {seeds} relearning seeds "
        f"and the rows. Gone: upper bound at most {margin}; hidden: lower bound above."
    )


def _write_unit(found: Relearned) -> Iterator[str]:
    """What the unit of the statement is, and what would settle what is open."""
    if found.mean_excess is None:
        (run,) = found.runs
        if run.to_settle is not None:
            yield f"{_write_plan(run)} would settle it."
        yield f"{ONE_RUN} Pass lists of models for a statement about several."
        return
    yield f"Mean excess over runs: {write_points(found.excess, found.mean_excess)} (Student's t over training runs)."


def _write_plan(run: RelearningRun) -> str:
    assert run.to_settle is not None
    return "About " + " and ".join(
        f"{count:,} {'relearning seeds' if unit == 'seeds' else unit}" for unit, count in run.to_settle.items()
    )


def describe_plan(run: RelearningRun) -> str:
    """What would settle a run, for a table; empty where it is settled, or nothing would."""
    return "" if run.to_settle is None else _write_plan(run)
