"""The verdict of relearning: whether a network is faster to follow a mechanism again than one that never met it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from mechconn.mechanisms._effects import CONFIDENCE, Effect
from mechconn.mechanisms._judge import LARGEST_SAMPLE
from mechconn.stats import CrossedMean, Interval

RelearningVerdict = Literal["gone", "hidden", "undetermined"]
State = Literal["uses", "avoids", "hidden", "gone", "undetermined"]

MOST_SEEDS = 1000
"""Relearning seeds beyond which no plan goes."""
LIMITS: Interval = (-1.0, 1.0)
"""Of a difference of accuracies."""


@dataclass(frozen=True, eq=False)
class Excess:
    """How much more right one network is than another while both relearn, row by row.

    Attributes:
        model: how right each row is, float of shape [seeds, steps, rows]; the first step is 0.
        against: the same of the network that never met the mechanism, with the same rows and seeds.
        clusters: the number of each row's cluster, int64 of shape [rows]; None where rows are independent.
        share: of the level, of intervals and verdicts; see `_relearning_looks`.
    """

    model: Float[Tensor, "s k r"]
    against: Float[Tensor, "s k r"]
    clusters: Int[Tensor, " r"] | None = None
    share: float = 1.0

    @property
    def confidence(self) -> float:
        """Of every interval."""
        return adjust_confidence(self.share)

    @property
    def interval(self) -> Interval:
        """Of the mean after step 0, over rows and seeds."""
        return self.after.interval(self.confidence)

    @cached_property
    def after(self) -> CrossedMean:
        """Mean over the steps after 0."""
        return CrossedMean((self.model - self.against)[:, 1:].double().mean(1), LIMITS, self.clusters)

    @cached_property
    def at_start(self) -> tuple[float, Interval]:
        """At step 0, where all seeds agree, with its interval over rows."""
        start = (self.model - self.against)[:1, 0].double()
        return float(start.mean()), CrossedMean(start, LIMITS, self.clusters).over_rows(self.confidence)

    @property
    def room(self) -> float:
        """The largest excess that any network could have: 1 less the other's mean accuracy after step 0."""
        return 1.0 - float(self.against[:, 1:].double().mean())

    def judge(self, margin: float) -> RelearningVerdict:
        """gone: the upper bound is at most the margin; hidden: the lower bound is above it.

        Where the other network leaves no room for an excess above the margin, none would be measured: undetermined.
        """
        return judge_excess(self.interval, margin) if self.room > margin else "undetermined"

    def plan(self, margin: float) -> Mapping[str, int] | None:
        """How many relearning seeds, or rows (clusters), or both, would settle it; None where a billion would not."""
        if self.room <= margin:
            return None
        seeds, rows = self.after.units
        unit = "rows" if self.clusters is None else "clusters"

        def settles(more_seeds: int, more_rows: int) -> bool:
            found = self.after.interval(self.confidence, more_seeds, more_rows)
            return judge_excess(found, margin) != "undetermined"

        if (found := _find_least(lambda n: settles(n, rows), seeds, MOST_SEEDS)) is not None:
            return {"seeds": found, unit: rows}
        if (found := _find_least(lambda n: settles(seeds, n), rows, LARGEST_SAMPLE)) is not None:
            return {"seeds": seeds, unit: found}
        found = _find_least(lambda n: settles(n * seeds, n * rows), 1, min(MOST_SEEDS, LARGEST_SAMPLE // rows))
        return None if found is None else {"seeds": found * seeds, unit: found * rows}


def judge_excess(interval: Interval, margin: float) -> RelearningVerdict:
    """The verdict by where the interval of the excess lies; slower than the control counts as gone."""
    low, high = interval
    return "gone" if high <= margin else "hidden" if low > margin else "undetermined"


def find_state(before: Effect, follows: bool, verdict: RelearningVerdict) -> State:
    """What a network does with the mechanism.

    uses: before relearning it is sensitive to the intervention, which costs accuracy; or it follows the mechanism where
    nothing else predicts. avoids: it is sensitive, and the intervention raises accuracy. hidden, gone: it is invariant,
    and relearning says so.
    """
    if (before.verdict == "sensitive" and before.effect < 0) or follows:
        return "uses"
    if before.verdict == "sensitive":
        return "avoids"
    return verdict if before.verdict == "invariant" else "undetermined"


def bound_steps(
    correct: Float[Tensor, "s k r"], clusters: Int[Tensor, " r"] | None, share: float = 1.0
) -> tuple[Interval, ...]:
    """The interval over rows, or clusters, of the accuracy at each step, a mean over seeds."""
    confidence = adjust_confidence(share)
    return tuple(CrossedMean(at, (0.0, 1.0), clusters).over_rows(confidence) for at in correct.unbind(1))


def adjust_confidence(share: float) -> float:
    """The confidence of an interval that has a share of the level."""
    return CONFIDENCE if share == 1.0 else 1.0 - (1.0 - CONFIDENCE) * share


def choose_rate(correct: Mapping[float, Float[Tensor, "s k r"]]) -> float:
    """The rate of the strongest attack: of the highest mean accuracy after step 0; of equal ones the first."""
    means = {rate: float(found[:, 1:].double().mean()) for rate, found in correct.items()}
    return max(means, key=means.__getitem__)


def _find_least(settles: Callable[[int], bool], few: int, most: int) -> int | None:
    """The least number from `few` to `most` at which it is settled, as doubling and halving find it."""
    low, high = few, few
    while not settles(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settles(middle) else (middle, high)
    return high
