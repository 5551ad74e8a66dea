"""Copies of a network that were tuned with every seed, and how right they are on the rows that have been read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from mechconn.core import Data, isolate_rng, select_rows
from mechconn.mechanisms._relearned import RelearningCurve
from mechconn.mechanisms._relearning import Attack, KeptStates, Looks
from mechconn.mechanisms._relearning_looks import RelearningLooks
from mechconn.network import Inference, Outcomes, check_classified, check_predictions, compute_outcomes, join_outcomes


@dataclass(eq=False)
class TunedCopies(ABC):
    """One network's copies: what was measured of them, or what it takes to measure them on further rows.

    Attributes:
        rate: the learning rate.
        balanced: which groups of hidden units were rescaled beforehand.
        curves: look -> what was made of it.
    """

    rate: float
    balanced: tuple[str, ...]
    curves: dict[int, RelearningCurve] = field(default_factory=dict, kw_only=True)

    @abstractmethod
    def read(self, look: int) -> Looks:
        """How right each row is that has been read after a look."""


@dataclass(eq=False)
class MeasuredCopies(TunedCopies):
    """Copies that were measured on all rows while they were tuned."""

    looks: Looks

    def read(self, look: int) -> Looks:
        return self.looks


@dataclass(eq=False)
class KeptCopies(TunedCopies):
    """Copies that were kept at every step, and are measured on the rows of one look after another.

    Attributes:
        attack: how they were tuned, and what is measured.
        states: of every seed, at every step.
        rows: which come at each look.
    """

    attack: Attack
    states: Sequence[KeptStates]
    rows: RelearningLooks
    _parts: list[list[list[Outcomes]]] = field(default_factory=list)

    def read(self, look: int) -> Looks:
        """How right each row is that has been read after a look; what has been read is not read again."""
        while len(self._parts) <= look:
            rows = self.rows.list_rows(len(self._parts))
            data = select_rows(self.attack.measured, rows)  # pyright: ignore[reportArgumentType]
            self._parts.append(self._measure(data))
        parts = self._parts[: look + 1]
        found = [
            [join_outcomes([part[seed][step] for part in parts]) for step in range(len(own))]
            for seed, own in enumerate(self._parts[0])
        ]
        first = found[0][0]
        what = f"split {self.attack.split!r}"
        correct = torch.stack(
            [torch.stack([check_classified(what, at).right.float() for at in [first, *own[1:]]]) for own in found]
        )
        return Looks(correct, check_classified(what, first).commonest, first.counted)

    def _measure(self, data: Data) -> list[list[Outcomes]]:
        """Outcomes on some rows, of every seed at every step; step 0, where all seeds agree, is measured once."""
        start = self._evaluate(self.states[0], 0, data)
        steps = range(1, len(self.states[0].changed))
        return [[start, *(self._evaluate(own, step, data) for step in steps)] for own in self.states]

    @cached_property
    def _inference(self) -> Inference:
        return Inference(self.states[0].network)

    def _evaluate(self, states: KeptStates, step: int, data: Data) -> Outcomes:
        network, what = self.states[0].network, f"split {self.attack.split!r}"
        params, buffers = states.load(step, self.states[0].fixed, network.device)
        with isolate_rng(self.attack.seed, "look"):
            forward = self._inference.at(params, buffers)
            found = compute_outcomes(forward, network, data, what, self.attack.loss)
        check_predictions(what, check_classified(what, found))
        return found
