"""Whether a path is connected on every split that decides, judged once for sentences, tables and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from mechconn.connectivity._barrier import ConnectionVerdict
from mechconn.connectivity._saved_ends import ShiftedEnd

TOLERANCE, MARGIN = 0.05, 0.05
"""By default: the largest barrier in loss that counts as none, and the largest move of an end that counts as none."""


@dataclass(frozen=True)
class PathVerdict:
    """The verdicts on a path at a tolerance.

    Attributes:
        verdict: over the reference and every intervention, on the networks as they were saved: "undetermined" in place
            of "connected" where an end is shifted.
        evaluated: the same on the networks that the path ends at.
        splits: split -> whether its barrier is at most the tolerance; see `Connection`, `SettledPath`. Where the loss
            is infinite between finite ends that is "not connected", where an end is not finite or any loss NaN
            "undetermined".
        shifted: the ends that are other networks than the saved ones.
        tolerance: the largest barrier that counts as none, in loss; of a path that was read until settled the largest
            rise, in error rate or in the units of its metric.
        margin: how far a mean may move before an end counts as shifted, in accuracy or loss; of a path that was read
            until settled in what it is judged on.
    """

    verdict: ConnectionVerdict
    evaluated: ConnectionVerdict
    splits: Mapping[str, ConnectionVerdict]
    shifted: tuple[ShiftedEnd, ...]
    tolerance: float
    margin: float


def combine_verdicts(verdicts: AbstractSet[str]) -> ConnectionVerdict:
    """One verdict for several splits: connected on all, or not on one, or not settled."""
    if "not connected" in verdicts:
        return "not connected"
    return "connected" if verdicts == {"connected"} else "undetermined"


def judge_not_finite(losses: Sequence[float]) -> ConnectionVerdict:
    """The verdict on a path where some loss is not finite: infinity above a finite chord is a barrier of any height."""
    defined = math.isfinite(losses[0]) and math.isfinite(losses[-1]) and not any(map(math.isnan, losses))
    return "not connected" if defined and math.inf in losses else "undetermined"
