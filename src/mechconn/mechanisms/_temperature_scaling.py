"""Temperature scaling: what a network's outputs are divided by, so that its confidence is as large as it is right."""

from __future__ import annotations

import math
from typing import Any

import torch

from mechconn.mechanisms._routed_counts import RoutedOutputs

COLDEST, HOTTEST = 0.01, 100.0
"""Temperatures that are searched where outputs are of size 1."""


def find_temperature(name: str, source: RoutedOutputs, notes: list[str]) -> float:
    """T of least mean cross-entropy; the notes say where it is at the end of the range.

    Raises:
        ValueError: a label has probability zero at every temperature.
    """
    from scipy.optimize import minimize_scalar

    rows = torch.arange(len(source.labels))
    if bool((source.outputs[rows, source.labels] == -math.inf).any()):
        raise ValueError(
            f"source: {name!r} gives the label of a row the output -infinity, so that no temperature has a finite "
            "cross-entropy; leave out rows of classes that it cannot answer"
        )
    size = source.measure_size()
    low, high = math.log(COLDEST * min(1.0, size)), math.log(HOTTEST * max(1.0, size))

    def loss_at(log_temperature: float) -> float:
        return -float((source.outputs / math.exp(log_temperature)).log_softmax(1)[rows, source.labels].mean())

    found: Any = minimize_scalar(loss_at, bounds=(low, high), method="bounded", options={"xatol": 1e-8})
    best = min((low, high, float(found.x)), key=loss_at)  # the loss may be flat towards an end
    if min(best - low, high - best) < 1e-3:
        cold = best - low < high - best
        why = "it is right on all rows of source" if cold else "its outputs tell nothing of the labels of source"
        why += ", or wrong by next to nothing" if cold and not source.correct.all() else ""
        other = "source rows that it was not trained on" if cold else "source rows like those that it learned from"
        notes.append(
            f"The temperature of {name} is {math.exp(best):.3g}, the end of the range searched, since {why}; "
            f"give {other}."
        )
    return math.exp(best)
