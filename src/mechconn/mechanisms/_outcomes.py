"""One model's outcomes on every split of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mechconn.connectivity import Evaluator, shows_other_rows
from mechconn.datasets import Selection, compare_selection, find_selection, join_groups
from mechconn.losses import NATS, Each
from mechconn.mechanisms._difference_evidence import Correct
from mechconn.mechanisms._over_clusters import RowValues
from mechconn.mechanisms._rows_by_label import find_rows_by_label
from mechconn.network import (
    CLASSIFICATION,
    Answers,
    Outcomes,
    check_predictions,
    take_first_outcomes,
)
from mechconn.stats import Interval


@dataclass(frozen=True, eq=False)
class SplitOutcome:
    """One model's outcomes on a split, row by row, and on further draws of the intervention on the same rows.

    What rows have in common over several draws is their mean: a loss, and the share of draws in which a row is right.

    Attributes:
        draws: the split itself, then its further draws.
        observed: how its rows were chosen, where they were chosen by what was observed of them.
        clusters: the number of each row's cluster, int64 of shape [N]; None where rows are independent.
        linked: whether rows show something of each other, and are in one cluster for that.
        available: how many rows there are, where they are read until verdicts are settled: those of splits of unequal
            lengths come in other orders. None where all are read, and where that is not known.
    """

    draws: tuple[Outcomes, ...]
    observed: Selection | None = None
    clusters: Tensor | None = None
    linked: bool = False
    available: int | None = None

    @cached_property
    def targets(self) -> Tensor:
        """Labels, of shape [N, ...]."""
        return self.draws[0].targets

    def take_first(self, rows: int) -> SplitOutcome:
        """The same of the first rows."""
        if rows == len(self.loss):
            return self
        clusters = None if self.clusters is None else self.clusters[:rows]
        return replace(self, draws=tuple(take_first_outcomes(own, rows) for own in self.draws), clusters=clusters)

    @cached_property
    def rows_by_label(self) -> dict[Any, Tensor]:
        """Label -> its rows, of a classification of rows as wholes."""
        return find_rows_by_label(self.targets)

    @property
    def classified(self) -> bool:
        """Whether the task is a classification."""
        return all(result.answers is not None for result in self.draws)

    @property
    def answers(self) -> Answers:
        """What the model answered on the first draw; of a classification only."""
        found = self.draws[0].answers
        assert found is not None
        return found

    @property
    def each(self) -> Each:
        """What an accuracy is the share of."""
        return self.answers.each if self.classified else "rows"

    @cached_property
    def correct(self) -> Correct:
        """Whether each prediction is the label, bool; a share of labels, positions or draws, float64."""
        return _mean_over_draws([result.correct for result in self.draws])

    @cached_property
    def loss(self) -> Tensor:
        """Per-sample loss, float64 of shape [N]."""
        return _mean_over_draws([result.loss for result in self.draws])

    def values(self, on: str) -> Tensor:
        """What effects are measured on: correctness, the loss, or a metric."""
        if on == "loss":
            return self.loss
        return self.correct if on == "accuracy" else _mean_over_draws([result.metrics[on] for result in self.draws])

    def rows(self, on: str) -> RowValues:
        """What effects are measured on, with the cluster of each row."""
        return RowValues(self.values(on), self.clusters)

    def changed(self, before: SplitOutcome) -> Correct:
        """Whether each prediction is another than on a split of one draw, or the share of draws in which it is."""
        predicted = before.answers.predicted
        assert predicted is not None
        others = (result.answers for result in self.draws)
        return _mean_over_draws([predicted != other.predicted for other in others if other is not None])  # pyright: ignore


def join_clusters(before: SplitOutcome, after: SplitOutcome) -> tuple[SplitOutcome, SplitOutcome]:
    """Two splits with one numbering of clusters, where rows of either show something of each other.

    On the same rows those are together that are so on either split; of other rows, each that is in no cluster is one.

    Raises:
        ValueError: all rows are then in one cluster.
    """
    if not (before.linked or after.linked):
        return before, after
    sides = (before, after)
    known = [side.clusters for side in sides if side.clusters is not None]
    if compare_selection(before.observed, after.observed) is None and torch.equal(before.targets, after.targets):
        joined = known[0] if len(known) == 1 else join_groups(*known)
        if len(joined.unique()) < 2:
            raise ValueError(
                f"all {len(joined)} rows of two splits show something of each other, and an interval needs rows that "
                "do not; give more data, or rows to take from, donors="
            )
        return replace(before, clusters=joined), replace(after, clusters=joined)
    beyond = 1 + max(int(numbers.max()) for numbers in known)
    first, second = (
        side if side.clusters is not None else replace(side, clusters=beyond + torch.arange(len(side.loss)))
        for side in sides
    )
    return first, second


def _mean_over_draws(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).double().mean(0)


@dataclass(frozen=True)
class ReadSoFar:
    """How much of a split was read, look by look, where reading goes on until verdicts are settled.

    Attributes:
        rows: how many that count had been read after each look.
        shares: of the level, for a bound that holds at one sample size alone, at each look; see `RowReader.share`.
        whole: whether all had been read.
        total: how many rows there are; None where that is not known.
    """

    rows: tuple[int, ...]
    shares: tuple[float, ...]
    whole: tuple[bool, ...]
    total: int | None

    @property
    def look(self) -> int:
        """The look at which the split stands; the first is 0."""
        return len(self.rows) - 1

    @property
    def share(self) -> float:
        """The share of the level at this look."""
        return self.shares[-1]

    @property
    def complete(self) -> bool:
        """Whether all rows have been read."""
        return self.whole[-1]

    def at(self, look: int) -> ReadSoFar:
        """The same after an earlier look."""
        last = look + 1
        return replace(self, rows=self.rows[:last], shares=self.shares[:last], whole=self.whole[:last])

    def join(self, other: ReadSoFar) -> ReadSoFar:
        """The same of a comparison of two splits at one look, of which one may be longer than the other.

        It takes the smaller share of both. As long as one of them is read in part, it has at most as many looks as the
        longer one, each with that one's share, and all are read once: the shares add up to one.
        """
        both = zip(self.whole, other.whole, strict=True)
        return replace(self, shares=tuple(map(min, self.shares, other.shares)), whole=tuple(a and b for a, b in both))


@dataclass(frozen=True, eq=False)
class ModelOutcome:
    """One model's outcomes on every split, how they were computed, and the metrics' ranges.

    `said_paired` says that the user declared that rows correspond; `loss_unit` is what the loss is in. `read` is split
    -> how much of it was read; empty where all was.
    """

    splits: Mapping[str, SplitOutcome]
    compute: Mapping[str, Any]
    bounds: Mapping[str, Interval]
    said_paired: bool = False
    loss_unit: str = NATS
    read: Mapping[str, ReadSoFar] = field(default_factory=dict)

    def pair(self, reference: str, split: str) -> tuple[SplitOutcome, SplitOutcome]:
        """The reference and another split; of rows read in part both at the look at which the split stands.

        Rows in one order are cut to those that were read of both, as of loaders whose batches have other sizes.
        """
        before, after = self.splits[reference], self.splits[split]
        if not self.read:
            return before, after
        before = before.take_first(self.read[reference].at(self.read[split].look).rows[-1])
        if not self.share_order(reference, split):
            return before, after
        rows = min(len(before.loss), len(after.loss))
        return before.take_first(rows), after.take_first(rows)

    def share_order(self, reference: str, split: str) -> bool:
        """Whether rows read in part come in pairs: as many on both sides, in one order, of which the same count.

        That depends on how many rows there are, and not on what they hold. Differences within pairs are independent
        draws of the effect whether or not both rows of a pair show one sample.
        """
        first, second = (self.splits[name].draws[0].counted for name in (reference, split))
        rows = 0 if first is None or second is None else min(len(first), len(second))
        alike = first is second or bool(rows and torch.equal(first[:rows], second[:rows]))  # pyright: ignore
        return alike and self.read[reference].total == self.read[split].total

    def read_beside(self, split: str, reference: str) -> ReadSoFar | None:
        """How much was read of a split and the reference, which are compared; None where all was."""
        if not self.read:
            return None
        own = self.read[split]
        return own.join(self.read[reference].at(own.look))

    def adjust(self, split: str, confidence: float, reference: str | None = None) -> float:
        """The confidence of an interval that is to hold with another whenever reading stops.

        Of what two splits say with the `reference`.
        """
        if not self.read:
            return confidence
        known = self.read[split] if reference is None else self.read_beside(split, reference)
        assert known is not None
        return 1.0 - (1.0 - confidence) * known.share

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the user's metrics."""
        return tuple(next(iter(self.splits.values())).draws[0].metrics)

    def is_bounded(self, on: str) -> bool:
        """Whether what effects are measured on has a least and a largest value."""
        return on == "accuracy" or on in self.bounds

    def bounds_on(self, on: str) -> Interval | None:
        """The range of what effects are measured on; None where it has none, and where right rows are counted."""
        each = next(iter(self.splits.values())).each
        return (0.0, 1.0) if on == "accuracy" and each != "rows" else self.bounds.get(on)


def match_outcomes(a: ModelOutcome, b: ModelOutcome) -> tuple[ModelOutcome, ModelOutcome]:
    """Two models' outcomes at the look at which both stand, split by split; as they are where all were read."""
    if not (a.read and b.read):
        return a, b
    read = {name: own.at(min(own.look, b.read[name].look)) for name, own in a.read.items()}
    first, second = (
        {name: result.take_first(read[name].rows[-1]) for name, result in side.splits.items()} for side in (a, b)
    )
    return replace(a, splits=first, read=read), replace(b, splits=second, read=read)


def measure_outcome(
    evaluator: Evaluator, on: str, report_progress: Callable[[int], None] | None = None
) -> ModelOutcome:
    """One pass over every split; `report_progress`, where given, is called with the number of splits done.

    Raises:
        ValueError: what `on` asks for is not there on some split; another number of labels of clusters than rows, or
            fewer than two clusters.
    """
    suite, splits = evaluator.suite, {}
    for done, name in enumerate(suite):
        draws = evaluator.draws(name)
        for what, result in zip(suite.draws_of(name), draws, strict=True):
            check_outcomes(what, result, on)
        numbers = evaluator.number_clusters(name, len(draws[0].loss), draws[0].counted)
        splits[name] = SplitOutcome(draws, find_selection(suite[name]), numbers, shows_other_rows(suite, name))
        if report_progress is not None:
            report_progress(done + 1)
    return ModelOutcome(splits, evaluator.network.computed, evaluator.bounds, suite.paired is True, evaluator.loss.unit)


def explain_undefined_loss(name: str, result: Outcomes | SplitOutcome) -> str:
    """Why the loss has no mean on a split, in words; empty where it has one."""
    undefined = (~result.loss.isfinite()).nonzero().flatten()
    if not len(undefined):
        return ""
    first = int(undefined[0])
    return (
        f"the loss on {name} has no finite mean: it is {float(result.loss[first])} on {len(undefined)} of "
        f"{len(result.loss)} rows (first: row {first})"
    )


def check_outcomes(name: str, result: Outcomes, on: str) -> None:
    """Raise ValueError where what `on` asks for is not there on some row."""
    if result.answers is None and on == "accuracy":
        raise ValueError(f"{name}: on='accuracy' needs a classification ({CLASSIFICATION}); use on='loss'")
    check_predictions(name, result.answers)
    if on == "loss" and (reason := explain_undefined_loss(name, result)):
        raise ValueError(
            f"{reason}; a probability of exactly 0 for the true class gives inf; use on='accuracy', or a loss that "
            "is bounded"
        )
    for metric, values in result.metrics.items():
        if len(bad := (~values.isfinite()).nonzero()):
            raise ValueError(f"{name}: the metric {metric!r} is {float(values[bad[0]])} on row {int(bad[0])}")
