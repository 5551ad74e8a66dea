"""The ends of a path as they were saved, and where the path ends at other networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class EndMeans:
    """What a network at an end of a path does as it was saved, with its own state.

    Attributes:
        loss: split -> mean loss.
        accuracy: split -> accuracy, in [0, 1]; only of splits whose task is a classification.
    """

    loss: Mapping[str, float]
    accuracy: Mapping[str, float]


class ShiftedEnd(NamedTuple):
    """An end of a path that is another network than the saved one: its statistics were replaced.

    Attributes:
        end: "A" or "B".
        split: the data on which the two differ.
        on: "accuracy", or "loss" where there is none; on a path that is read until settled, what that is judged on:
            "accuracy" or a metric.
        saved: the mean of the network as saved.
        evaluated: the mean of the network that the path ends at.
    """

    end: str
    split: str
    on: str
    saved: float
    evaluated: float

    def __str__(self) -> str:
        return describe_shifted_end([self], "{:.4g}".format, self.end)


def describe_shifted_end(shifted: Sequence[ShiftedEnd], show_loss: Callable[[float], str], name: str) -> str:
    """One end and one measure in words, on every split on which the two networks differ.

    Args:
        shifted: the end on each split.
        show_loss: writes a finite loss with its unit; a metric has none.
        name: of the end.

    Example:
        >>> describe_shifted_end([ShiftedEnd("B", "cue", "loss", 0.4, math.inf)], "{:.2f} nats".format, "B")
        'B has a mean loss of 0.40 nats on cue as saved, and of no finite value on this path'
    """
    on = shifted[0].on

    def show(value: float) -> str:
        if not math.isfinite(value):
            return "no finite value"
        if on == "accuracy":
            return f"{100 * value:.1f} %"
        return show_loss(value) if on == "loss" else f"{value:.3g}"

    what, of, where = ("is right on", "of", "on") if on == "accuracy" else (f"has a mean {on} of", "on", "of")
    named = join_words([f"{show(shift.saved)} {of} {shift.split}" for shift in shifted])
    here = join_words([show(shift.evaluated) for shift in shifted])
    return f"{name} {what} {named} as saved, and {where} {here} on this path"


def join_words(words: Sequence[str]) -> str:
    """Commas between words, and "and" before the last."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
