"""What a forward pass does where its looks at values get other answers than on the example.

A check that raises for every other answer leaves one path. Any other look may lead to operations of its own: these are
read as well, and what the paths do not allow alike is frozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import nn

from mechconn.core import Inputs
from mechconn.symmetry._graph import Graph, export_graph
from mechconn.symmetry._looks import Look, LookKey
from mechconn.symmetry._origins import Origin
from mechconn.symmetry._recorded_runs import RecordedRun, record_run

RUNS = 40
"""Runs in which an answer is another one."""
PATHS = 3
"""Other paths that are read."""
STEPS = 16
"""Further whole numbers that are tried, each of which leads to tensors that none had led to."""
FAR = 1e30
"""A number beyond any threshold."""
OFTEN = 2
"""How many looks at one place of the code get other answers; layers and rows look at the same."""

RAISES, SAME, READ, UNREAD = "makes the model raise", "changes nothing", "was read as well", "was not tried"
WORDS = {"value": "a value", "nonzero": "the shape of what a mask selects", "bool": "whether a number is 0"}

Forced: TypeAlias = dict[LookKey, Any]


@dataclass
class OtherPaths:
    """What other answers led to.

    Attributes:
        graphs: the operations of every other path that was found and could be exported.
        notes: what is assumed of the input, one line for each place that looks at it.
    """

    graphs: list[Graph] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


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
        every = "every other answer" if all_tried else "not all other answers were tried; what was"
        yield f"what is seen in {', '.join(others)}: as on the example, {every} {RAISES} or {SAME}"


def read_other_paths(model: nn.Module, example: Inputs, graph: Graph) -> OtherPaths:
    """The operations of the paths that other answers to the looks of an export lead to."""
    found = OtherPaths()
    if not any(look.origin is Origin.INPUT for look in graph.looks):
        return found
    trials = _Trials(model, example)
    places: dict[tuple[str, str], _Place] = {}
    waiting: list[tuple[Graph, Forced]] = [(graph, {})]
    while waiting:
        graph, forced = waiting.pop(0)
        for look, other, trial in trials.list_from(graph.looks, forced):
            place = places.setdefault(look.key[:2], _Place())
            place.answers[str(look.answer)] = None
            outcome, new = _try(model, example, trial, trials)
            place.note(outcome, other)
            if new is not None:
                found.graphs.append(new)
                waiting.append((new, trial))
    found.notes += _describe(places)
    return found


def _try(model: nn.Module, example: Inputs, forced: Forced, trials: _Trials) -> tuple[str, Graph | None]:
    """What comes of other answers, and the operations where they are new and can be exported."""
    outcome = trials.run(forced)
    if outcome != READ:
        return outcome, None
    try:
        return READ, export_graph(model, example, forced)
    except ValueError:
        return UNREAD, None


def list_other_paths(model: nn.Module, example: Inputs) -> list[Forced]:
    """Answers that lead to other operations than on the example, each of one look alone."""
    trials = _Trials(model, example)
    looks = [] if trials.first is None else trials.first.looks
    return [trial for _, _, trial in trials.list_from(looks, {}) if trials.run(trial) == READ]


class _Trials:
    """Runs of a model with other answers than on the example.

    Attributes:
        first: the run on the example; None where the model raises.
    """

    def __init__(self, model: nn.Module, example: Inputs) -> None:
        self._model, self._example = model, example
        self.first = record_run(model, example)
        self._signs = set() if self.first is None else {_sign(self.first)}
        self._read = set() if self.first is None else set(self.first.read)
        self._runs = self._paths = self._steps = 0
        self._reads_more = False
        """Whether the last run read tensors that none had read before."""

    def list_from(self, looks: Sequence[Look], forced: Forced) -> Iterator[tuple[Look, Any, Forced]]:
        """Each look after the last one that is forced, another answer to it, and all that is then forced.

        Where a whole number leads to tensors that no answer had led to, as the number of a head does, the next one
        is tried as well.
        """
        for look, other, trial in _list_trials(looks, forced):
            yield look, other, trial
            while self._reads_more and type(other) is int and self._steps < STEPS:
                self._steps += 1
                self._paths -= 1
                other += 1 if other > look.answer else -1
                if other < 0:
                    break
                yield look, other, {**trial, look.key: other}

    def run(self, forced: Forced) -> str:
        """What comes of answers: READ where they lead to other operations, which are to be read."""
        self._reads_more = False
        self._runs += 1
        if self._runs > RUNS:
            return UNREAD
        run = record_run(self._model, self._example, forced)
        if run is None:
            return RAISES
        if _sign(run) in self._signs:
            return SAME
        self._signs.add(_sign(run))
        if self._paths >= PATHS:
            return UNREAD
        self._paths += 1
        self._reads_more = not run.read <= self._read
        self._read |= run.read
        return READ


def _list_trials(looks: Sequence[Look], forced: Mapping[LookKey, Any]) -> Iterator[tuple[Look, Any, Forced]]:
    """Each look after the last one that is forced, another answer to it, and all that is then forced."""
    places = [number for number, look in enumerate(looks) if look.key in forced]
    for look in looks[places[-1] + 1 if places else 0 :]:
        if look.origin is Origin.INPUT and look.key[2] <= OFTEN:
            for other in list_answers(look.answer):
                yield look, other, {**forced, look.key: other}


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


def _sign(run: RecordedRun) -> int:
    """A number for what a run did."""
    return hash(tuple(run.operations))
