"""Probes: how well a class is read off frozen features by logistic regression, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mechconn.connectivity import number_clusters
from mechconn.core import (
    Compute,
    Data,
    Progress,
    as_data,
    check_count,
    check_is,
    check_positive,
    check_share,
    resolve_compute,
)
from mechconn.datasets import Clusters, read_clusters
from mechconn.descent import draw_fresh_state
from mechconn.mechanisms._layer_features import FeatureReader, LayerFeatures, Layers, NetworkFeatures
from mechconn.mechanisms._logistic import fit_and_predict
from mechconn.mechanisms._probe_result import CONTROL, FRESH, MODEL, Probe, ProbeScore
from mechconn.mechanisms._row_classes import RowClasses, Target, check_target, hold_out, read_classes
from mechconn.network import check_row_order, copy_with_state, fix_device, unwrap_module
from mechconn.stats import Interval, bound_paired_difference, clopper_pearson, cluster_mean_interval, total_clusters

CONFIDENCE = 0.95


def probe(
    model: nn.Module,
    data: Data,
    target: Target = "label",
    *,
    control: nn.Module | Mapping[str, nn.Module] | None = None,
    layers: Layers = None,
    fresh: bool = True,
    held_out: float = 0.3,
    l2: float = 0.01,
    width: int = 512,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Probe:
    r"""How well a class is read off each layer's frozen features, beside a control and fresh weights.

    For each layer a linear classifier is fitted on the features x of the rows that are not held out, standardised, by

        (1 / n) sum_i -log softmax(W x_i + b)[y_i] + l2 / 2 |W|^2,

    and measured on the rows held out, with an exact interval. The same rows serve every layer and network, so that the
    model and each other network are compared row by row.

    **Decodable does not mean used.** Fresh weights let much through, and a network may hold a cue that its answers do
    not depend on; `measure_invariance` says whether they do. What a probe adds is whether the model holds more than a
    network that never met the cue. Probe a cue on rows where it does not follow from content, such as
    `task.suite["rand_image"]`, or the probe may read the content instead.

    A layer of more than `width` values a row is reduced: positions ([N, channels, positions ...], as in
    `representation_similarity`) are averaged over the cells of the finest grid that fits, and what still has more
    values is sketched: each is added, with a random sign, to one of `width` sums, alike for layers of one name.

    Args:
        model: any network; it stays as it is.
        data: what to read, such as `task.suite["rand_image"]`.
        target: "label"; "cue", the value of the cue of a `CuedSet` or of scenes around one; a class for each row
            (numbers or text: a tensor, an array, a list); or a function of `data` that gives these.
        control: a network to compare with, such as one that never met the cue, or name -> network.
        layers: names of modules, whose output is read, or "input of NAME" for what the linear layer NAME receives.
            Default: the modules that own parameters and run once, and the features, the input of the head. "all": every
            module that runs once.
        fresh: whether to probe the model's architecture with fresh weights too; weights that are frozen stay.
        held_out: share of each class that probes are measured on, in (0, 1).
        l2: strength of the penalty; fixed, so that networks are compared at the same one.
        width: most features of a layer.
        cluster: a label for each row where rows come in clusters, such as patients: whole clusters are held out, and
            intervals are over them.
        seed: of the rows held out, the fresh weights, and layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts batches.

    Raises:
        ValueError: a layer that is not there, or that was asked for by name and does not run once; a target of one
            class, of another number of rows, of a class in one row alone, or of numbers that are not whole; weights
            that cannot be drawn.
        TypeError: "cue" of data without a cue, or a control that is no module.

    Example:
        A network that passes on one of two coordinates: the class of the other is not there to be read.

        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(25, 1)
        >>> first = nn.Linear(2, 1, bias=False)
        >>> with torch.no_grad():
        ...     _ = first.weight.copy_(torch.tensor([[1.0, 0.0]]))
        >>> found = {k: probe(first, (x, (x[:, k] > 0).long()), layers=[""], fresh=False) for k in (0, 1)}
        >>> found[0].scores["model"][""].accuracy, found[1].scores["model"][""].accuracy <= 0.75
        (1.0, True)

    Source: Alain & Bengio 2016 (probes by layer); Hewitt & Liang 2019 (a probe needs a control).
    """
    check_is("model", model, nn.Module)
    check_share("held_out", held_out)
    check_positive("l2", l2)
    check_count("width", width)
    source, controls = as_data("data", data), _read_controls(control)
    what = target if isinstance(target, str) else "target"
    given = check_target("target", target, source)
    clusters = read_clusters(cluster, {"data": source})
    compute = fix_device(resolve_compute(compute, device, progress), model)
    networks = {MODEL: model, **controls}
    readers = {name: FeatureReader(own, name, source, layers, width, seed, compute) for name, own in networks.items()}
    if fresh:
        readers[FRESH] = FeatureReader(_draw_fresh(model, seed), FRESH, source, layers, width, seed, compute)
    features = readers[MODEL].read()
    classes = read_classes("target", given, features.targets)
    numbers = number_clusters("data", [source], clusters, len(classes.numbers))
    held = hold_out("target", classes, numbers, held_out, seed)
    fitting = _Fitting(classes, held, None if numbers is None else numbers[held], l2, compute)
    right = {MODEL: fitting.fit(features, MODEL)}
    left_out = {MODEL: features.left_out}
    for name, reader in readers.items():
        if name != MODEL:
            found = reader.read()
            check_row_order("data", name, torch.equal(found.targets, features.targets))
            right[name], left_out[name] = fitting.fit(found, name), found.left_out
    common = int(classes.numbers[~held].bincount().argmax())
    return Probe(
        target=what,
        scores={name: {layer: fitting.score(right, name, layer) for layer in found} for name, found in right.items()},
        chance=float((classes.numbers[held] == common).double().mean()),
        classes=len(classes.names),
        rows_fitted=int((~held).sum()),
        rows_held_out=int(held.sum()),
        l2=float(l2),
        clusters=None if fitting.clusters is None else len(fitting.clusters.unique()),
        left_out={name: found for name, found in left_out.items() if found},
        compute=features.computed,
    )


@dataclass(frozen=True, eq=False)
class _Answers:
    """Which rows held out a probe gets right, bool [M], its share of those fitted, and what it read."""

    held: Tensor
    fitted: float
    features: LayerFeatures


@dataclass(frozen=True, eq=False)
class _Fitting:
    """Probes of all networks on the same rows; `clusters` are those of the rows held out."""

    classes: RowClasses
    held: Tensor
    clusters: Tensor | None
    l2: float
    compute: Compute

    def fit(self, found: NetworkFeatures, whose: str) -> dict[str, _Answers]:
        answers, numbers = {}, self.classes.numbers
        for count, (layer, features) in enumerate(found.layers.items(), 1):
            fitted, held = features.values[~self.held], features.values[self.held]
            predicted = fit_and_predict(fitted, numbers[~self.held], held, self.l2)
            right = predicted[0] == numbers[~self.held], predicted[1] == numbers[self.held]
            answers[layer] = _Answers(right[1], float(right[0].double().mean()), features)
            self.compute.report(f"probing {whose}", count, len(found.layers))
        return answers

    def score(self, right: Mapping[str, Mapping[str, _Answers]], name: str, layer: str) -> ProbeScore:
        own, first = right[name][layer], right[MODEL].get(layer)
        beside = None if name == MODEL or first is None else first.held
        features = own.features
        return ProbeScore(
            accuracy=float(own.held.double().mean()),
            interval=self._bound(own.held),
            fitted=own.fitted,
            units=features.units,
            features=features.values.shape[1],
            reduction=features.reduction,
            ahead=None if beside is None else float((beside.double() - own.held.double()).mean()),
            ahead_interval=None if beside is None else self._bound_difference(own.held, beside),
        )

    def _bound(self, right: Tensor) -> Interval:
        if self.clusters is None:
            return clopper_pearson(int(right.sum()), len(right), CONFIDENCE)
        return cluster_mean_interval(total_clusters(right, self.clusters), (0.0, 1.0), 1.0, CONFIDENCE)

    def _bound_difference(self, before: Tensor, after: Tensor) -> Interval:
        if self.clusters is None:
            return bound_paired_difference(before, after, CONFIDENCE)
        moves = after.double() - before.double()
        return cluster_mean_interval(total_clusters(moves, self.clusters), (-1.0, 1.0), 1.0, CONFIDENCE)


def _read_controls(control: nn.Module | Mapping[str, nn.Module] | None) -> dict[str, nn.Module]:
    """Name -> network."""
    found = {} if control is None else dict(control) if isinstance(control, Mapping) else {CONTROL: control}
    for name, own in found.items():
        whose = "control" if name == CONTROL else f"control {name!r}"
        check_is(whose, own, nn.Module, "; pass a network, or a mapping of names to networks")
        if name in (MODEL, FRESH):
            raise ValueError(f"a control is called {name!r}, a name that the result uses itself; give it another name")
    return found


def _draw_fresh(model: nn.Module, seed: int) -> nn.Module:
    params, buffers = draw_fresh_state(unwrap_module(model), seed, "probe", "pass fresh=False")
    return copy_with_state(unwrap_module(model), {**params, **buffers})
