"""One network at many points of weight space: the loop that paths, blocks and planes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.core import Params, PerSampleLoss, check_is, isolate_rng
from mechconn.datasets import Suite
from mechconn.losses import Each, as_loss
from mechconn.network import (
    Inference,
    Metric,
    Network,
    NormPolicy,
    Outcomes,
    Precision,
    check_metrics,
    check_row_count,
    check_row_order,
    collect_bounds,
    compute_outcomes,
    resolve_norm,
)

MeansBySplit: TypeAlias = dict[str, dict[str, list[float]]]
"""What was measured ("loss", "accuracy", a metric) -> split -> its mean at each point."""


class PointEvaluator:
    """A network and a suite, evaluated at one point of weight space after another.

    One re-estimation of normalisation statistics serves all splits. At any time one point's parameters are in
    memory; in reduced precision they are taken apart, tensor by tensor, as its copy is made from them.
    """

    def __init__(
        self,
        model: nn.Module,
        suite: Suite,
        norm: NormPolicy | None,
        *,
        loss: PerSampleLoss,
        metrics: Mapping[str, PerSampleLoss | Metric] | None,
        seed: int,
        device: str | torch.device | None,
        precision: Precision,
    ) -> None:
        check_is("suite", suite, Suite, "; build one with Suite({name: data, ...})")
        self.network = Network(model, device, precision)
        norm = resolve_norm(norm, self.network)
        self.suite, self._norm, self._loss, self._seed = suite, norm, as_loss(loss), seed
        self._metrics = check_metrics(metrics)
        self.bounds = collect_bounds(self._metrics)
        self._inference = Inference(self.network)
        self.settings: dict[str, Any] = {
            "norm": norm.describe(),
            "device": str(self.network.device),
            "precision": self.network.number_type,
            "seed": seed,
        }

    def at(self, what: str, point: Callable[[], Params], t: float | None = None) -> dict[str, Outcomes]:
        """Split -> outcomes at the point that `point` builds.

        Built here so that the caller keeps no reference and the memory is freed.

        `t` says where on a path from A to B the point lies; None where it lies on none.
        """
        params = dict(point())
        self.network.check(what, params)
        self.network.load_in_place(params)
        with isolate_rng(self._seed, "evaluate_path"):
            forward = self._inference.at(*self._norm.state(self.network, params, t))
            network, how = self.network, (self._loss, self._metrics, self.network.module)
            return {
                name: compute_outcomes(forward, network.device, data, f"split {name!r}", *how)
                for name, data in self.suite.items()
            }


@dataclass
class PointResults:
    """Means point by point, and the samples' own values where they are to be kept.

    Attributes:
        keep: whether to keep the samples' values; their rows must then come in one order at every point.
        means: measure -> split -> mean at each point.
        rows: measure -> split -> the samples' values at each point, each of shape [N]; correctness for "accuracy".
        samples: split -> number of samples.
        each: what an accuracy is the share of; see `mechconn.Profile`.
        counted: split -> which rows of its data count; None where all do.
    """

    keep: bool = False
    means: MeansBySplit = field(default_factory=dict)
    rows: dict[str, dict[str, list[Tensor]]] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    each: Each = "rows"
    counted: dict[str, Tensor | None] = field(default_factory=dict)
    _targets: dict[str, Tensor] = field(default_factory=dict)

    def add(self, where: str, results: Mapping[str, Outcomes]) -> None:
        """One point's outcomes; `where` names the point in errors."""
        for split, result in results.items():
            check_row_count(split, where, self.samples.setdefault(split, len(result.loss)), len(result.loss))
            self.each = self.each if result.answers is None else result.answers.each
            for measure, mean in compute_means(result).items():
                self.means.setdefault(measure, {}).setdefault(split, []).append(mean)
            if not self.keep:
                continue
            self.counted[split] = result.counted
            before = self._targets.setdefault(split, result.targets)
            check_row_order(split, where, torch.equal(before, result.targets))
            for measure, values in _collect_per_sample(result).items():
                self.rows.setdefault(measure, {}).setdefault(split, []).append(values)


def compute_means(result: Outcomes) -> dict[str, float]:
    """Measure -> mean over samples; accuracy of a classification only."""
    accuracy = {} if result.answers is None else {"accuracy": result.accuracy}
    return {"loss": result.mean_loss, **accuracy, **{name: float(v.mean()) for name, v in result.metrics.items()}}


def _collect_per_sample(result: Outcomes) -> dict[str, Tensor]:
    correct = {} if result.answers is None else {"accuracy": result.correct}
    return {"loss": result.loss, **correct, **result.metrics}
