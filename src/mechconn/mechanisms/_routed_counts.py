"""How often routed rows are right, group by group, and the regret of every candidate with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechconn.mechanisms._routed import ROUTED, Regret, RoutedGroup, judge_regret
from mechconn.stats import Interval, bound_count_difference, clopper_pearson

ALPHA = 0.05
LARGEST_SAMPLE = 10**6


@dataclass(frozen=True, eq=False)
class RoutedOutputs:
    """What a network gives on a split.

    Attributes:
        outputs: logits.
        labels: of the rows that count.
        correct: which predictions are right.
        features: the input of the head, where they are clustered.
    """

    outputs: Float[Tensor, "_ k"]
    labels: Int[Tensor, " _"]
    correct: Bool[Tensor, " _"]
    features: Float[Tensor, "_ d"] | None

    def are_those_of(self, other: RoutedOutputs) -> bool:
        """Whether the rows are the other's, by outputs and labels, bit for bit."""
        return torch.equal(self.outputs, other.outputs) and torch.equal(self.labels, other.labels)

    def measure_size(self) -> float:
        """Root mean square of a row's outputs around their mean, of finite ones; 1 where each row has but one value."""
        finite = self.outputs.masked_fill(~self.outputs.isfinite(), math.nan)
        return float((finite - finite.nanmean(1, keepdim=True)).square().nanmean().sqrt()) or 1.0


@dataclass(frozen=True)
class RoutedCounts:
    """Of the judged rows of a group.

    Attributes:
        rows: how many.
        used: rows that each network answers, by its number.
        right: candidate, the routing first -> rows that are right.
        gains: (candidate, network) -> (rows that the network alone is right on, rows that the candidate alone is).
    """

    rows: int
    used: Sequence[int]
    right: Sequence[int]
    gains: Mapping[tuple[int, int], tuple[int, int]]

    @classmethod
    def of(
        cls,
        read: Mapping[str, Mapping[str, RoutedOutputs]],
        routes: Mapping[str, Int[Tensor, " _"]],
        split: str,
        rows: Int[Tensor, " _"],
    ) -> RoutedCounts:
        """From what all networks gave on a split."""
        alone = torch.stack([own[split].correct[rows] for own in read.values()])
        chosen = routes[split][rows]
        candidates = torch.cat([alone.gather(0, chosen[None]), alone])
        gains = {
            (c, m): (int((alone[m] & ~candidates[c]).sum()), int((candidates[c] & ~alone[m]).sum()))
            for c in range(len(candidates))
            for m in range(len(alone))
        }
        used = chosen.bincount(minlength=len(alone)).tolist()
        return cls(len(rows), used, candidates.sum(1).tolist(), gains)

    def bound_regret(self, candidate: int, confidence: float, rows: float | None = None) -> Regret:
        """The largest of the differences to all networks: intervals that hold together give one for it."""
        found = [
            (gained, lost) for (c, m), (gained, lost) in self.gains.items() if c == candidate and m != candidate - 1
        ]
        n = self.rows if rows is None else rows
        bounds: list[Interval] = [
            bound_count_difference(g * n / self.rows, lost * n / self.rows, n, confidence) for g, lost in found
        ]
        values = [(gained - lost) / self.rows for gained, lost in found]
        if candidate:  # a network has no regret to itself
            bounds, values = [*bounds, (0.0, 0.0)], [*values, 0.0]
        return Regret(max(values), (max(low for low, _ in bounds), max(high for _, high in bounds)))


def judge_groups(found: Mapping[str, RoutedCounts], models: Sequence[str], margin: float) -> dict[str, RoutedGroup]:
    """Accuracies and regrets of every group; intervals of each kind hold together at 95 %."""
    candidates = [ROUTED, *models]
    for_accuracy = 1.0 - ALPHA / (len(found) * len(candidates))
    for_regret = 1.0 - ALPHA / (len(found) * len(models) ** 2)  # a pair for each network, but with itself
    judged = {}
    for name, own in found.items():
        regrets = {c: own.bound_regret(k, for_regret) for k, c in enumerate(candidates)}
        verdict = judge_regret(regrets[ROUTED].interval, margin)
        judged[name] = RoutedGroup(
            rows=own.rows,
            used={model: count / own.rows for model, count in zip(models, own.used, strict=True)},
            accuracy={c: right / own.rows for c, right in zip(candidates, own.right, strict=True)},
            intervals={
                c: clopper_pearson(right, own.rows, for_accuracy)
                for c, right in zip(candidates, own.right, strict=True)
            },
            regrets=regrets,
            verdict=verdict,
            to_settle=_count_to_settle(own, for_regret, margin) if verdict == "undetermined" else None,
        )
    return judged


def _count_to_settle(own: RoutedCounts, confidence: float, margin: float) -> int | None:
    """The fewest rows, of numbers that grow by a tenth, that settle the verdict at the same rates."""

    def settles(rows: int) -> bool:
        return judge_regret(own.bound_regret(0, confidence, rows).interval, margin) != "undetermined"

    rows = own.rows
    while rows < LARGEST_SAMPLE:
        rows = max(rows + 1, round(1.1 * rows))
        if settles(rows):
            return rows
    return None
