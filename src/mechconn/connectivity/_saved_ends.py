"""The ends of a path as they were saved, and where the path ends at other networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class EndMeans:
    """What a network at an end of a path does as it was saved, with its own state.

    Attributes:
        loss: split -> mean loss.
        accuracy: split -> accuracy, in [0, 1]; only of splits whose task is a classification.
    """

    loss: Mapping[str, float]
    accuracy: Mapping[str, float]

    def to_plain(self) -> dict[str, dict[str, float | None]]:
        """Plain values; what is not finite is None."""
        return {
            on: {split: _to_finite(value) for split, value in means.items()}
            for on, means in (("loss", self.loss), ("accuracy", self.accuracy))
        }


class ShiftedEnd(NamedTuple):
    """An end of a path that is another network than the saved one: its statistics were replaced.

    Attributes:
        end: "A" or "B".
        split: the data on which the two differ.
        on: "accuracy", or "loss" where there is none.
        saved: the mean of the network as saved.
        evaluated: the mean of the network that the path ends at.
    """

    end: str
    split: str
    on: str
    saved: float
    evaluated: float

    def to_plain(self, name: str) -> dict[str, Any]:
        """Plain values, with the name of the end; what is not finite is None."""
        found = self._replace(end=name)._asdict()
        return {**found, "saved": _to_finite(self.saved), "evaluated": _to_finite(self.evaluated)}

    def __str__(self) -> str:
        return describe_shifted_end([self._asdict()], "{:.4g}".format)


def describe_shifted_end(shifted: Sequence[Mapping[str, Any]], show_loss: Callable[[float], str]) -> str:
    """One end and one measure in words, on every split on which the two networks differ.

    Args:
        shifted: fields of a `ShiftedEnd` on each split; None stands for what is not finite.
        show_loss: writes a finite loss with its unit.

    Example:
        >>> describe_shifted_end([ShiftedEnd("B", "cue", "loss", 0.4, math.inf)._asdict()], "{:.2f} nats".format)
        'B has a mean loss of 0.40 nats on cue as saved, and of no finite value on this path'
    """
    end, accuracy = shifted[0]["end"], shifted[0]["on"] == "accuracy"

    def show(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return "no finite value"
        return f"{100 * value:.1f} %" if accuracy else show_loss(value)

    what, of = ("is right on", "of") if accuracy else ("has a mean loss of", "on")
    named = join_words([f"{show(shift['saved'])} {of} {shift['split']}" for shift in shifted])
    here = join_words([show(shift["evaluated"]) for shift in shifted])
    return f"{end} {what} {named} as saved, and {'on' if accuracy else 'of'} {here} on this path"


def join_words(words: Sequence[str]) -> str:
    """Commas between words, and "and" before the last."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _to_finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
