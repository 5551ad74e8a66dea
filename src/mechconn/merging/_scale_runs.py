"""The base and its edits at every scale, each evaluated once on every split: for the change and for random changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from mechconn.connectivity import Evaluator
from mechconn.core import Compute
from mechconn.datasets import Suite
from mechconn.mechanisms import Invariance, ModelOutcome, On, RowValues, measure_outcome, rows_correspond
from mechconn.merging._merge_mechanisms import judge_together
from mechconn.merging._merge_parents import name_network
from mechconn.merging._scale_rows import divide_rows, select_judging, select_values
from mechconn.merging._scale_verdict import ScaleQuestion, Values, average_draws
from mechconn.network import (
    KeepNorm,
    Metric,
    NormPolicy,
    WeightChange,
    check_row_count,
    check_row_order,
    find_statistics_layers,
    parameters_of,
    point_of,
    resolve_norm,
    with_change,
)
from mechconn.paths import Spot, model_at

WHAT = "evaluating scales"


@dataclass(eq=False)
class ScaleRuns:
    """A search under way.

    Attributes:
        base: the network that is edited.
        change: what is added.
        suite: the splits.
        choosing: the share of rows that choose, or a suite of other rows.
        grid: scales in order, 0 among them.
        draws: random changes.
        norm: where normalisation statistics come from.
        on: what is measured.
        own: loss, metrics, clusters and seed, as `Evaluator` takes them.
        compute: how to compute.
        first: the evaluator of the base as saved.
        policy: where normalisation statistics come from, once that is settled.
        outcomes: scale -> outcomes on every split, of the change; after the choice of the base and the chosen one.
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
    saved: ModelOutcome | None = None
    _values: dict[float, Values] = field(default_factory=dict)
    _chosen_on: dict[float, Values] = field(default_factory=dict)
    _random: dict[float, list[Values]] = field(default_factory=dict)
    _random_outcome: ModelOutcome | None = None
    _sides: dict[str, Bool[Tensor, " n"]] | None = None
    _first_choosing: ModelOutcome | None = None
    _done: int = 0

    def __post_init__(self) -> None:
        with_change(self.base, self.change, 0.0)  # refuses other names and shapes before anything is computed
        self.first = self._make_evaluator(self.base, self.suite)
        self.policy = resolve_norm(self.norm, self.first.network)

    def measure_change(self, asked: ScaleQuestion, floor: float | None) -> ScaleQuestion:
        """Evaluate every scale, divide the rows, and complete the question by the range of values and the floor.

        Raises:
            ValueError: values are negative, of which no share is taken.
        """
        if not isinstance(self.policy, KeepNorm) and find_statistics_layers(self.first.network):
            self.saved = self._measure("the base", self.base)
        for scale in sorted(self.grid, key=abs):
            model = self.build(self.change, scale)
            self.outcomes[scale] = outcome = self._measure(f"scale {scale:g}", model)
            self._values[scale] = _list_values(outcome, self.on)
            if isinstance(self.choosing, Suite):
                self._chosen_on[scale] = self._measure_choosing(scale, model)
        whole = self.outcomes[0.0]
        if not isinstance(self.choosing, Suite):
            self._sides = divide_rows(whole, self.suite, self.own["cluster"], self.choosing, self.own["seed"])
        for split in (asked.target, *(split for split, _ in asked.keep)):
            if float(self._values[0.0][split].values.double().min()) < 0:
                raise ValueError(
                    f"keep= and enough= are shares of {self.on!r}, which is negative on rows of {split!r}; measure on "
                    "what is 0 or more, such as on='accuracy'"
                )
        least = self._find_chance(asked.target) if floor is None and asked.direction == "lower" else floor or 0.0
        return replace(asked, bounds=whole.bounds_on(self.on), floor=least)

    def _find_chance(self, target: str) -> float:
        """The accuracy of one answer for all rows that choose, of a split; 0 on other measures."""
        if self.on != "accuracy":
            return 0.0
        result = (self._first_choosing or self.outcomes[0.0]).splits[target]
        if result.each != "rows":
            return result.answers.commonest
        labels = result.targets if self._sides is None else result.targets[self._sides[target]]
        return float(labels.unique(return_counts=True)[1].max()) / len(labels)

    def measure_random(self, chosen: float) -> None:
        """Evaluate the random changes at every scale; of all outcomes those that are judged further are kept."""
        self.outcomes = {scale: self.outcomes[scale] for scale in {0.0, chosen}}
        self._random = {scale: [] for scale in self.grid}
        for draw in range(self.draws):
            change = self.change.random_like(self.own["seed"] + draw)
            for scale in self.grid:
                if scale == 0:
                    self._random[scale].append(self._values[0.0])
                    continue
                found = self._measure(f"random change {draw} at scale {scale:g}", self.build(change, scale))
                self._random[scale].append(_list_values(found, self.on))
                if draw == 0 and scale == chosen:
                    self._random_outcome = found

    def build(self, change: WeightChange, scale: float) -> nn.Module:
        """The network at base + scale change: a new module in evaluation mode with statistics that fit it."""
        params, here = parameters_of(with_change(self.base, change, scale)), point_of(self.base)
        spot = Spot(lambda: dict(params), [here], None, [1.0])
        quiet = self.compute.without_progress()
        return model_at(self.base, spot, 0.5, norm=self.policy, seed=self.own["seed"], compute=quiet)

    @property
    def choosing_values(self) -> dict[float, Values]:
        """Scale -> split -> values of the rows that choose."""
        if self._sides is None:
            return self._chosen_on
        return {scale: select_values(values, self._sides, True) for scale, values in self._values.items()}

    @property
    def judging_values(self) -> dict[float, Values]:
        """Scale -> split -> values of the rows that judge."""
        return {scale: select_values(values, self._sides, False) for scale, values in self._values.items()}

    @property
    def random_draws(self) -> dict[float, list[Values]]:
        """Scale -> draw by draw, split -> values of the rows that judge under a random change."""
        return {
            scale: [select_values(values, self._sides, False) for values in found]
            for scale, found in self._random.items()
        }

    @property
    def random_values(self) -> dict[float, Values]:
        """Scale -> split -> the mean over random changes of each row's value."""
        return {
            scale: {split: average_draws([values[split] for values in found]) for split in found[0]}
            if scale
            else found[0]
            for scale, found in self.random_draws.items()
        }

    def judge_effects(self, chosen: float, margin: float) -> dict[str, Invariance]:
        """Effects on the rows that judge: of the base, the edited network, and the first random one."""
        found = {"base": self.outcomes[0.0]}
        if chosen != 0:
            assert self._random_outcome is not None
            found |= {"edited": self.outcomes[chosen], "random change": self._random_outcome}
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
        """Where the statistics alone move the base."""
        if self.saved is None:
            return
        moves = {
            split: float(self._values[0.0][split].values.double().mean() - rows.values.double().mean())
            for split, rows in _list_values(self.saved, self.on).items()
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
            "scales": list(self.grid),
            "choosing": "a suite of other rows" if isinstance(self.choosing, Suite) else self.choosing,
            "draws": self.draws,
            "change_norms": self.change.norms,
            "reference": self.suite.reference,
            "interventions": list(self.suite.interventions),
            "norm": self.policy.describe(),
            "metrics": {name: metric.bounds for name, metric in metrics.items()},
            **self.first.settings,
        }

    def _measure(self, what: str, model: nn.Module) -> ModelOutcome:
        """The outcomes of one network on every split; a ValueError says of which."""
        total = len(self.grid) + self.draws * (len(self.grid) - 1) + (self.saved is not None or what == "the base")
        self.compute.report(WHAT, self._done, total)
        evaluator = self.first if model is self.base else self._make_evaluator(model, self.suite)
        with name_network(what):
            found = measure_outcome(evaluator, self.on)
        if self._values:
            _check_rows(what, self.outcomes[0.0], found)
        self._done += 1
        self.compute.report(WHAT, self._done, total)
        return found

    def _measure_choosing(self, scale: float, model: nn.Module) -> Values:
        assert isinstance(self.choosing, Suite)
        evaluator = Evaluator(
            model, self.choosing, **{**self.own, "cluster": None}, compute=self.compute.without_progress()
        )
        with name_network(f"scale {scale:g} on choosing="):
            found = measure_outcome(evaluator, self.on)
        self._first_choosing = self._first_choosing or found
        return _list_values(found, self.on)

    def _make_evaluator(self, model: nn.Module, suite: Suite) -> Evaluator:
        return Evaluator(model, suite, **self.own, compute=self.compute.without_progress())


def _list_values(outcome: ModelOutcome, on: On) -> dict[str, RowValues]:
    """Split -> what is measured of every row."""
    return {split: result.rows(on) for split, result in outcome.splits.items()}


def _check_rows(what: str, first: ModelOutcome, found: ModelOutcome) -> None:
    """Raise unless a network was evaluated on the rows of the base, in their order."""
    for split, result in first.splits.items():
        other = found.splits[split]
        check_row_count(split, what, len(result.loss), len(other.loss))
        check_row_order(split, what, rows_correspond(result, other))
