"""The base and its edits at every scale, each evaluated once on every split: for the change and for random changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from mechconn.connectivity import Evaluator
from mechconn.core import Compute, hash_content
from mechconn.datasets import Suite
from mechconn.mechanisms import Invariance, ModelOutcome, On, RowValues, measure_outcome, rows_correspond
from mechconn.merging._add_change import add_change
from mechconn.merging._merge_mechanisms import judge_together
from mechconn.merging._merge_parents import name_network
from mechconn.merging._scale_random import average_draws
from mechconn.merging._scale_rows import divide_rows, select_judging, select_values
from mechconn.merging._scale_verdict import ScaleQuestion, Values
from mechconn.network import (
    KeepNorm,
    Metric,
    NormPolicy,
    WeightChange,
    check_row_count,
    check_row_order,
    find_statistics_layers,
    resolve_norm,
    with_change,
)

WHAT = "evaluating scales"


@dataclass(eq=False)
class ScaleRuns:
    """A search under way.

    Attributes:
        base: the network that is edited.
        change: what is added.
        suite: the splits.
        choosing: the share of rows that choose, or a suite of other rows.
        grid: scales in order, 0 among them; once all are evaluated, without those that break a network.
        draws: random changes.
        norm: where normalisation statistics come from.
        on: what is measured.
        own: loss, metrics, clusters and seed, as `Evaluator` takes them.
        compute: how to compute.
        first: the evaluator of the base as saved.
        policy: where normalisation statistics come from, once that is settled.
        outcomes: scale -> outcomes on every split, of the change.
        broken: scale -> why neither it nor a random change of it can be evaluated.
    """

    base: nn.Module
    change: WeightChange
    suite: Suite
    choosing: float | Suite
    grid: tuple[float, ...]
    draws: int
    norm: NormPolicy | None
    on: On
    own: Mapping[str, Any]
    compute: Compute
    first: Evaluator = field(init=False)
    policy: NormPolicy = field(init=False)
    outcomes: dict[float, ModelOutcome] = field(default_factory=dict)
    broken: dict[float, str] = field(default_factory=dict)
    saved: ModelOutcome | None = None
    _values: dict[float, Values] = field(default_factory=dict)
    _chosen_on: dict[float, Values] = field(default_factory=dict)
    _random: dict[float, list[Values]] = field(default_factory=dict)
    _first_random: dict[float, ModelOutcome] = field(default_factory=dict)
    _sides: dict[str, Bool[Tensor, " n"]] | None = None
    _done: int = 0

    def __post_init__(self) -> None:
        with_change(self.base, self.change, 0.0)  # refuses other names and shapes before anything is computed
        self.first = self._make_evaluator(self.base, self.suite)
        self.policy = resolve_norm(self.norm, self.first.network)

    def measure(self, asked: ScaleQuestion, floor: float | None) -> ScaleQuestion:
        """Evaluate every scale of the change and of the random ones, and complete the question by range and floor.

        The base comes first: what is wrong with rows, loss or statistics raises there. A scale that takes a network so
        far that it cannot be evaluated is left out of the grid.

        Raises:
            ValueError: values of which a share is taken are negative, or no scale but 0 is left.
        """
        if self._keeps_statistics and not isinstance(self.policy, KeepNorm):
            self.saved = self._measure("the base", self.base)
        model = self.build(self.change, 0.0)
        whole = self._measure("scale 0", model)
        self._keep(0.0, whole, self._measure_choosing("scale 0", model))
        if not isinstance(self.choosing, Suite):
            self._sides = divide_rows(whole, self.suite, self.own["cluster"], self.choosing, self.own["seed"])
        for split in ((asked.target,) if asked.direction == "lower" else ()) + tuple(s for s, _ in asked.keep):
            if float(self._values[0.0][split].values.double().min()) < 0:
                raise ValueError(
                    f"keep= and enough= are shares of {self.on!r}, which is negative on rows of {split!r}; measure on "
                    "what is 0 or more"
                )
        changes = {None: self.change} | {n: self.change.random_like(self.own["seed"] + n) for n in range(self.draws)}
        for draw, change in changes.items():
            for scale in sorted(set(self.grid) - {0.0}, key=abs):
                self._measure_or_leave_out(scale, draw, change)
        least = self._find_floor(asked) if floor is None else floor
        return replace(asked, bounds=whole.bounds_on(self.on), floor=least)

    def _measure_or_leave_out(self, scale: float, draw: int | None, change: WeightChange) -> None:
        """Evaluate one scale of the change, or of a random one; of a network that has no values, leave the scale out.

        Raises:
            ValueError: no scale but 0 is left, or a network was evaluated on other rows than the base.
        """
        what = f"scale {scale:g}" if draw is None else f"random change {draw} at scale {scale:g}"
        try:
            model = self.build(change, scale)
            found = self._measure(what, model)
            choosing = self._measure_choosing(what, model) if draw is None else {}
        except ValueError as error:
            self.broken[scale] = str(error)
            self.grid = tuple(own for own in self.grid if own != scale)
            if self.grid == (0.0,):
                raise ValueError(f"no scale but 0 can be evaluated; take smaller scales= ({error})") from None
            return
        check_rows(what, self.outcomes[0.0], found)
        if draw is None:
            self._keep(scale, found, choosing)
            return
        self._random.setdefault(scale, []).append(list_values(found, self.on))
        if draw == 0:
            self._first_random[scale] = found

    def _keep(self, scale: float, found: ModelOutcome, choosing: Values) -> None:
        self.outcomes[scale], self._values[scale] = found, list_values(found, self.on)
        self._chosen_on[scale] = choosing

    @property
    def _keeps_statistics(self) -> bool:
        return bool(list(find_statistics_layers(self.first.network)))

    def _find_floor(self, asked: ScaleQuestion) -> float:
        known = self.on == "accuracy" and asked.direction == "lower"
        return find_chance(self.outcomes[0.0], asked.target) if known else 0.0

    def build(self, change: WeightChange, scale: float) -> nn.Module:
        """The network at base + scale change: a new module in evaluation mode with statistics that fit it."""
        return add_change(self.base, change, scale, self.policy, self.own["seed"], self.compute)

    @property
    def choosing_values(self) -> dict[float, Values]:
        """Scale -> split -> values of the rows that choose."""
        if self._sides is None:
            return {scale: self._chosen_on[scale] for scale in self.grid}
        return {scale: select_values(self._values[scale], self._sides, True) for scale in self.grid}

    @property
    def judging_values(self) -> dict[float, Values]:
        """Scale -> split -> values of the rows that judge."""
        return {scale: select_values(self._values[scale], self._sides, False) for scale in self.grid}

    @property
    def random_draws(self) -> dict[float, list[Values]]:
        """Scale -> draw by draw, split -> values of the rows that judge under a random change; the base's at 0."""
        found = self._random | {0.0: [self._values[0.0]] * self.draws}
        return {scale: [select_values(own, self._sides, False) for own in found[scale]] for scale in self.grid}

    @property
    def random_values(self) -> dict[float, Values]:
        """Scale -> split -> the mean over random changes of each row's value."""
        return {
            scale: {split: average_draws([own[split] for own in found]) for split in found[0]} if scale else found[0]
            for scale, found in self.random_draws.items()
        }

    def judge_effects(self, chosen: float, margin: float) -> dict[str, Invariance]:
        """Effects on the rows that judge: of the base, the edited network, and the first random one."""
        found = {"base": self.outcomes[0.0]}
        if chosen != 0:
            found |= {"edited": self.outcomes[chosen], "random change": self._first_random[chosen]}
        if self._sides is not None:
            found = {name: select_judging(outcome, self._sides) for name, outcome in found.items()}
        return judge_together(found, self.suite, margin, self.on)

    def count_rows(self) -> dict[str, tuple[int, int]]:
        """Split -> (rows that choose, rows that judge)."""
        judging = self.judging_values[0.0]
        choosing = self.choosing_values[0.0]
        return {
            split: (len(choosing[split].values) if split in choosing else 0, len(rows.values))
            for split, rows in judging.items()
        }

    def list_notes(self, asked: ScaleQuestion) -> Iterator[str]:
        """Which scales were left out, and where the statistics alone move the base."""
        yield from (f"scale {scale:g} is left out of the grid: {why}" for scale, why in sorted(self.broken.items()))
        if self.saved is None:
            return
        moves = {
            split: float(self._values[0.0][split].values.double().mean() - rows.values.double().mean())
            for split, rows in list_values(self.saved, self.on).items()
        }
        factor, unit = (100, "points") if self.on == "accuracy" else (1, self.on)
        if said := [f"{split} by {factor * move:+.3g}" for split, move in moves.items() if abs(move) > asked.margin]:
            yield (
                f"the statistics alone move the base as saved, in {unit}: {', '.join(said)}; scale 0 is the base with "
                "the statistics of norm=, so that no move of the curve is theirs"
            )

    def describe(self, asked: ScaleQuestion, metrics: Mapping[str, Metric]) -> dict[str, Any]:
        """Everything needed to repeat it."""
        return {
            "target": asked.target,
            "direction": asked.direction,
            "keep": [list(pair) for pair in asked.keep],
            "enough": asked.enough,
            "floor": asked.floor,
            "margin": asked.margin,
            "on": asked.on,
            "better": asked.better,
            "scales": sorted({*self.grid, *self.broken}),
            "choosing": self.choosing if isinstance(self.choosing, float) else self._identify_choosing(),
            "draws": self.draws,
            "change_norms": self.change.norms,
            "reference": self.suite.reference,
            "interventions": list(self.suite.interventions),
            "norm": self.describe_norm(),
            "metrics": {name: metric.bounds for name, metric in metrics.items()},
            **self.first.settings,
        }

    def describe_norm(self) -> dict[str, Any]:
        """Where normalisation statistics come from; empty of a network that keeps none."""
        return self.policy.describe() if self._keeps_statistics else {}

    def _identify_choosing(self) -> dict[str, Any]:
        """The rows of other data that choose: how many, and a hash of what the base does on them."""
        values = {split: rows.values for split, rows in self._chosen_on[0.0].items()}
        return {
            "rows": {split: len(own) for split, own in values.items()},
            "sha256": hash_content([part for split, own in values.items() for part in (split, own)]),
        }

    def _measure(self, what: str, model: nn.Module) -> ModelOutcome:
        """The outcomes of one network on every split; a ValueError says of which."""
        total = len(self.grid) + self.draws * (len(self.grid) - 1) + (self.saved is not None or what == "the base")
        self.compute.report(WHAT, self._done, total)
        evaluator = self.first if model is self.base else self._make_evaluator(model, self.suite)
        with name_network(what):
            found = measure_outcome(evaluator, self.on)
        self._done += 1
        self.compute.report(WHAT, self._done, total)
        return found

    def _measure_choosing(self, what: str, model: nn.Module) -> Values:
        """Values on the suite that chooses, whose rows count as independent; none where rows are divided."""
        if not isinstance(self.choosing, Suite):
            return {}
        how = {**self.own, "cluster": None}
        evaluator = Evaluator(model, self.choosing, **how, compute=self.compute.without_progress())
        with name_network(f"{what} on choosing="):
            return list_values(measure_outcome(evaluator, self.on), self.on)

    def _make_evaluator(self, model: nn.Module, suite: Suite) -> Evaluator:
        return Evaluator(model, suite, **self.own, compute=self.compute.without_progress())


def list_values(outcome: ModelOutcome, on: On) -> dict[str, RowValues]:
    """Split -> what is measured of every row."""
    return {split: result.rows(on) for split, result in outcome.splits.items()}


def check_rows(what: str, first: ModelOutcome, found: ModelOutcome) -> None:
    """Raise unless a network was evaluated on the rows of the base, in their order."""
    for split, result in first.splits.items():
        other = found.splits[split]
        check_row_count(split, what, len(result.loss), len(other.loss))
        check_row_order(split, what, rows_correspond(result, other))


def find_chance(outcome: ModelOutcome, target: str) -> float:
    """The accuracy of a guess that follows the labels' shares p, sum_k p_k^2, over all rows of a split.

    Of K classes of equal shares 1 / K. Of several labels or positions a row: that of the commonest answer.
    """
    answers = outcome.splits[target].answers
    if answers.labels is None:
        return answers.commonest
    shares = answers.labels.unique(return_counts=True)[1].double() / len(answers.labels)
    return float(shares.square().sum())
