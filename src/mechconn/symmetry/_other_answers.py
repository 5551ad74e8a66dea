"""What a forward pass does where its looks at values get other answers than on the example.

A check that raises for every other answer leaves one path. Any other look may lead to operations of its own: these are
read as well, and what the paths do not allow alike is frozen. Truth values are tried in all combinations, as several
may lead elsewhere together of which none does alone. What is not tried, and what is hidden from the looks, is refused
or, where the user says so, assumed to be as on the example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mechconn.core import Inputs
from mechconn.symmetry._graph import Graph, export_graph
from mechconn.symmetry._looks import Forced, Look, OtherAnswerError
from mechconn.symmetry._origins import Origin
from mechconn.symmetry._recorded_runs import RecordedRun, record_run

RUNS = 64
"""Runs in which an answer is another one."""
PATHS = 6
"""Other paths that are read."""
STEPS = 16
"""Further whole numbers that are tried, each of which leads to tensors that none had led to."""
FAR = 1e30
"""A number beyond any threshold."""

RAISES, SAME, READ, UNREAD = "makes the model raise", "changes nothing", "was read as well", "was not tried"
WORDS = {"value": "a value", "nonzero": "the shape of what a mask selects", "bool": "whether a number is 0"}
AS_ON_EXAMPLE = "assumed to be as on the example"


@dataclass
class OtherPaths:
    """What other answers led to.

    Attributes:
        graphs: the operations of every other path that was found and could be exported.
        notes: what is assumed of the input, one line for each place that looks at it.
        untried: why other answers may lead elsewhere, one text for each place; empty where all was tried.
    """

    graphs: list[Graph] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)


@dataclass
class _Place:
    """What is known of the looks at one place of the code: answers on the example, and others by their outcome."""

    answers: dict[str, None] = field(default_factory=dict)
    outcomes: dict[str, dict[str, None]] = field(default_factory=dict)

    def note(self, outcome: str, answer: Any) -> None:
        """Keep what came of another answer."""
        self.outcomes.setdefault(outcome, {})[str(answer)] = None


def _describe(places: Mapping[tuple[str, str], _Place]) -> Iterator[str]:
    """A line for each place that leads elsewhere, and one for all places of which no other answer was read."""
    others = {where: place for (_, where), place in places.items() if READ not in place.outcomes}
    for (asked, where), place in places.items():
        if READ in place.outcomes:
            tried = "; ".join(f"{' or '.join(answers)} {what}" for what, answers in place.outcomes.items())
            yield f"{WORDS.get(asked, asked)} in {where}: {' or '.join(place.answers)} on the example, {tried}"
    if others:
        all_tried = not any(UNREAD in place.outcomes for place in others.values())
        every = "every other answer" if all_tried else f"{AS_ON_EXAMPLE}, as not all others were tried; what was"
        yield f"what is seen in {', '.join(others)}: as on the example, {every} {RAISES} or {SAME}"


def read_other_paths(model: nn.Module, example: Inputs, graph: Graph) -> OtherPaths:
    """The operations of the paths that other answers to the looks of an export lead to."""
    found = OtherPaths()
    if not any(look.origin is Origin.INPUT for look in graph.looks):
        return found
    trials = _Trials(model, example)
    places: dict[tuple[str, str], _Place] = {}
    for trial in trials.explore():
        place = places.setdefault(trial.look.key[:2], _Place())
        place.answers[str(trial.look.answer)] = None
        outcome = trial.outcome
        if outcome == READ:
            try:
                found.graphs.append(export_graph(model, example, trial.forced))
            except ValueError as error:
                # A number that the export knows is none of the input's values: it cannot be another one.
                outcome = RAISES if isinstance(error.__cause__, OtherAnswerError) else UNREAD
        place.note(outcome, trial.other)
    found.notes += _describe(places)
    found.notes += (f"what follows from {hidden}: {AS_ON_EXAMPLE}" for hidden in trials.hidden)
    cut = dict.fromkeys(where for (_, where), place in places.items() if UNREAD in place.outcomes)
    found.untried += (f"{hidden} hides how the value is used" for hidden in trials.hidden)
    found.untried += (f"not every other answer in {where} could be tried" for where in cut)
    return found


def list_other_paths(model: nn.Module, example: Inputs) -> list[Forced]:
    """Answers that lead to other operations than on the example, by the looks that get them."""
    return [
        {look.key: look.answer for look in trial.looks if look.question in trial.forced}
        for trial in _Trials(model, example).explore()
        if trial.outcome == READ
    ]


@dataclass(frozen=True)
class _Trial:
    """A run with other answers.

    Attributes:
        look: the last look that got another answer.
        other: that answer.
        forced: question -> answer, of all looks that got another one.
        outcome: what came of it.
        looks: what the run saw; empty where there was none.
    """

    look: Look
    other: Any
    forced: Forced
    outcome: str
    looks: list[Look] = field(default_factory=list)


class _Trials:
    """Runs of a model with other answers than on the example.

    Attributes:
        hidden: what hides values of the input in one of the runs, and where.
    """

    def __init__(self, model: nn.Module, example: Inputs) -> None:
        self._model, self._example = model, example
        self._first = record_run(model, example)
        self.hidden = dict.fromkeys(self._first.hidden)
        self._signs = {self._first.made}
        self._read = set(self._first.read)
        self._runs = self._paths = self._steps = 0
        self._reads_more = False
        """Whether the last run read tensors that none had read before."""

    def explore(self) -> Iterator[_Trial]:
        """Other answers to one look, then to several, each of which comes after the others.

        Later looks get other answers as well, as what they lead to may depend on both, also where the first one changes
        nothing; after a number at which the model raises, they do not.
        """
        waiting: list[tuple[list[Look], Forced]] = [(self._first.looks, {})]
        while waiting:
            looks, forced = waiting.pop(0)
            for look in _list_open(looks, forced):
                for other in list_answers(look.answer):
                    for trial in self._try(look, other, forced):
                        yield trial
                        if trial.outcome in (READ, SAME) or type(other) is bool:
                            waiting.append((trial.looks, trial.forced))

    def _try(self, look: Look, other: Any, forced: Forced) -> Iterator[_Trial]:
        """Another answer to a look.

        Where a whole number leads to tensors that no answer had led to, as the number of a head does, the next one
        is tried as well.
        """
        yield self._run(look, other, forced)
        while self._reads_more and type(other) is int:
            other += 1 if other > look.answer else -1
            if other < 0:
                return
            if self._steps >= STEPS:
                yield _Trial(look, other, forced, UNREAD)
                return
            self._steps += 1
            self._paths -= 1
            yield self._run(look, other, forced)

    def _run(self, look: Look, other: Any, forced: Forced) -> _Trial:
        """What comes of another answer: READ where it leads to other operations, which are to be read."""
        forced = {**forced, look.question: other}
        self._reads_more = False
        self._runs += 1
        if self._runs > RUNS:
            return _Trial(look, other, forced, UNREAD)
        run = record_run(self._model, self._example, forced)
        return _Trial(look, other, forced, self._judge(run), run.looks)

    def _judge(self, run: RecordedRun) -> str:
        if run.raised:
            return RAISES
        self.hidden |= dict.fromkeys(run.hidden)
        if run.made in self._signs:
            return SAME
        if self._paths >= PATHS:
            return UNREAD
        self._signs.add(run.made)
        self._paths += 1
        self._reads_more = not run.read <= self._read
        self._read |= run.read
        return READ


def _list_open(looks: Sequence[Look], forced: Forced) -> list[Look]:
    """The questions of the input that were first asked after all that are forced."""
    first: dict[int, Look] = {}
    for look in looks:
        first.setdefault(look.question, look)
    questions = list(first)
    start = max((questions.index(question) + 1 for question in forced if question in first), default=0)
    return [first[question] for question in questions[start:] if first[question].origin is Origin.INPUT]


def list_answers(answer: Any) -> list[Any]:
    """Other answers than this one.

    Example:
        >>> list_answers(True), list_answers(3), list_answers(0.5), list_answers([2, 4])
        ([False], [2, 4], [-0.5, 0.0, 1e+30, -1e+30], [[1, 4], [3, 4]])
    """
    if isinstance(answer, bool):
        return [not answer]
    if isinstance(answer, list):  # a shape
        return [[n, *answer[1:]] for n in list_answers(answer[0])]
    if isinstance(answer, int):
        return [n for n in (answer - 1, answer + 1) if n >= 0 or answer < 0]
    return [x for x in (-answer, 0.0, FAR, -FAR) if x != answer] if isinstance(answer, float) else []
