"""Runs of fine-tuning that stop on the way, and how two runs are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from mechconn.descent import Method
from world import Delicate
from zoo import build, rows

CLEAN, CUED = rows(24), rows(28, 3)


class StoppedError(Exception):
    """The machine went away."""


class Counting:
    """Cross-entropy that stops the run at its call number `last`."""

    def __init__(self, last: int = -1) -> None:
        self.calls, self.last = 0, last

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.last:
            raise StoppedError
        return cross_entropy(outputs, targets, reduction="none")


def as_is(data: tuple[Tensor, Tensor]) -> Any:
    return data


def run(method: Method, form: Callable[[Any], Any] = as_is, model: nn.Module | None = None, **settings: Any) -> Any:
    model = build(Delicate) if model is None else model
    return mc.fine_tune(model, method, clean=form(CLEAN), cued=form(CUED), seed=2, **settings)


def check_same(a: mc.Trained, b: mc.Trained) -> None:
    assert a.history == b.history
    mine, other = a.model.state_dict(), b.model.state_dict()
    assert list(mine) == list(other)
    assert all(torch.equal(tensor, other[name]) for name, tensor in mine.items())
