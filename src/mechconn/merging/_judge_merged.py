"""A network that was merged before, judged as if it were merged here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mechconn.connectivity import Until
from mechconn.core import (
    Buffers,
    Compute,
    Params,
    PerSampleLoss,
    Progress,
    check_is,
    check_same_keys,
    check_same_shapes,
)
from mechconn.datasets import Clusters, Suite
from mechconn.losses import cross_entropy
from mechconn.mechanisms import On
from mechconn.merging._merge import merge
from mechconn.merging._merge_method import MergeMethod, MergeProblem
from mechconn.merging._merge_verdict import Better
from mechconn.merging._merged import Merged
from mechconn.network import (
    Curve,
    Metric,
    Network,
    NormPolicy,
    Point,
    has_adapters,
    merge_adapters,
    point_of,
    unwrap_module,
)

SAVED = "as saved"


def judge_merged(
    models: Mapping[str, nn.Module],
    merged: nn.Module,
    suite: Suite,
    *,
    method: Mapping[str, Any] | None = None,
    margin: float = 0.05,
    tolerance: float = 0.01,
    on: On = "accuracy",
    better: Better | None = None,
    splits: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    until: Until = "end",
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
    samples: bool = True,
) -> Merged:
    """Judge a network that was merged before against its parents, as `merge` judges what it merges.

    The network is taken as it is saved, with its own normalisation statistics. Rows that chose anything of it are not
    known here: judge on others. Adapters are merged into their bases first.

    Args:
        models: name -> parent, two or more; see `merge`.
        merged: the network that was made of them: the same module. It stays as it is.
        suite: the splits on which it is judged.
        method: how it was made, for the reader of the result: {"method": its name, ...}.
        margin: as in `merge`, and so are the others.
        tolerance: how much worse than a parent counts as none.
        on: "accuracy", "loss", or the name of a metric.
        better: of a metric, whether "higher" or "lower" values are better.
        splits: those that the verdict is over; default: every split of the suite.
        ignore: buffers and attributes of layers that are no part of what is computed.
        loss: one value per sample from (outputs, targets).
        metrics: name -> one value per sample, or a `Metric`.
        cluster: a label for each row where rows come in clusters.
        until: "end" reads all rows, "settled" as many as settle every verdict.
        seed: of everything that is drawn.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`.
        progress: short for `Compute(progress=...)`; counts networks, or looks.
        samples: whether the result holds the first samples of every split, which its page and its files show; False
            where they are private.

    Raises:
        ValueError: the merged network is another module than its parents, or as in `merge`.

    Example:
        A network that is one of its parents is not worse than that one.

        >>> a, b, c = (nn.Linear(1, 2).requires_grad_(False) for _ in range(3))
        >>> for model, limit in ((a, 0.0), (b, 2.0), (c, 0.0)):
        ...     _ = model.weight.copy_(torch.tensor([[0.0], [1.0]])), model.bias.copy_(torch.tensor([0.0, -limit]))
        >>> x = torch.linspace(-4, 4, 1600)[:, None]
        >>> found = judge_merged({"a": a, "b": b}, c, Suite({"rows": (x, (x[:, 0] > 2).long())}, "rows"))
        >>> found.verdict, [round(pair.difference, 3) for pair in found.before.differences]
        ('no', [0.0, -0.25])
    """
    check_is("models", models, Mapping, "; write {name: model, ...}, each name once")
    if any(map(has_adapters, (merged, *models.values()))):  # of other ranks
        merged, models = _drop_adapters(merged), {name: _drop_adapters(model) for name, model in models.items()}
    own = point_of(unwrap_module(merged, "merged"))
    for name, model in models.items():
        what, parent = f"the parameters of {name!r} and of the merged network", point_of(model)
        check_same_keys(what, parent.params, own.params)
        check_same_shapes(what, parent.params, own.params)
    return merge(
        models, _Given(own.params, {"method": "merged before"} if not method else dict(method)), suite,
        norm=_OwnStatistics(own.buffers), margin=margin, tolerance=tolerance, on=on, better=better, splits=splits,
        ignore=ignore, loss=loss, metrics=metrics, cluster=cluster, until=until, seed=seed, compute=compute,
        device=device, progress=progress, samples=samples,
    )  # fmt: skip


def _drop_adapters(model: nn.Module) -> nn.Module:
    """A copy with its adapter merged in; a network without one as it is."""
    return merge_adapters(model) if has_adapters(model) else model


@dataclass(frozen=True, eq=False)
class _Given(MergeMethod):
    """The parameters of a network that is there already."""

    params: Params
    told: dict[str, Any]

    def merge(self, problem: MergeProblem) -> Params:
        return {name: tensor.detach().clone() for name, tensor in self.params.items()}

    def describe(self) -> dict[str, Any]:
        return self.told


@dataclass(frozen=True, eq=False)
class _OwnStatistics(NormPolicy):
    """The buffers of a network that is there already."""

    buffers: Buffers

    def renew(self, network: Network, path: Curve, t: float, point: Point) -> Point:
        own = {name: tensor.clone().to(network.device) for name, tensor in self.buffers.items()}
        return Point(point.params, {**point.buffers, **own})

    def describe(self) -> dict[str, Any]:
        return {"policy": SAVED}
