"""Routing by confidence: of several networks the one that is surest of a cluster of rows answers there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechconn.core import (
    Compute,
    Data,
    PerSampleLoss,
    Progress,
    as_data,
    check_count,
    check_fraction,
    check_is,
    check_share,
    derive_seed,
    draws_rows,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    make_generator,
    move_inputs,
    resolve_compute,
)
from mechconn.datasets import Groups, Suite, check_label_names, natural_sort_key, read_group_names
from mechconn.descent import find_head, record_head_calls
from mechconn.losses import Loss, as_loss, cross_entropy, explain_labels_out_of_range
from mechconn.mechanisms._group_members import number_names
from mechconn.mechanisms._routed import ROUTED, Routed, RoutedCluster, join_regrets
from mechconn.mechanisms._routed_counts import RoutedCounts, RoutedOutputs, judge_groups
from mechconn.mechanisms._rows_by_label import find_rows_by_label
from mechconn.mechanisms._temperature_scaling import find_temperature
from mechconn.network import ROWS_ON_CPU, Network, fix_device, point_of, resolve_device

DATA = "data"
STARTS: Any = 10
"""Of k-means, of which the best is kept."""


def route(
    models: Mapping[str, nn.Module],
    data: Data | Suite,
    *,
    source: Data,
    clusters: int = 10,
    features: str | None = None,
    groups: Groups | None = None,
    margin: float = 0.05,
    share: float = 0.5,
    loss: PerSampleLoss = cross_entropy,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Routed:
    r"""Let the surest of several networks answer in each cluster of rows, and measure what that costs in each group.

    1. Each network m gets a temperature T_m > 0, that of least mean cross-entropy of softmax(outputs / T_m) on
       `source`, in 0.01 min(1, s) ... 100 max(1, s), s the root mean square of a row's outputs around their mean.
    2. k-means clusters the features of unlabelled rows, and in each cluster the network of the highest mean confidence,
       the probability of its most probable class at T_m, is chosen.
    3. A row is answered by the network that the nearest cluster chose.

    In group g the regret of a candidate c, the routing or a network, is

        max_m acc_g(m) - acc_g(c),

    below 0 where the routing is better than every network. Labels of `data`, and groups, judge and take no part in the
    routing. A random `share` of the rows makes clusters and choices, and the others are judged, so that the rule is
    fixed before and intervals are exact: row i of all splits of one length is on one side. Intervals hold together at
    95 %, those of accuracies and those of regrets (Bonferroni over groups and pairs of networks), for independent rows.

    Confidence says where a network is sure, not where it is right. A network that reads a shortcut is as sure where
    the shortcut misleads, so routing by confidence cannot see that: measure it where the cue is random.

    Args:
        models: name -> classifier, two or more, of the same classes; they stay as they are.
        data: rows to route; a suite's splits are routed as one heap, and each is a group.
        source: labelled rows of the training distribution, for the temperatures; neither those that the networks were
            trained on, of which they are too sure, nor rows of `data`, whose labels judge.
        clusters: K of k-means.
        features: the network whose features, the input of its last linear layer, are clustered; default: the first.
        groups: a label for each row, or several columns of them; see `measure_groups`. Not with a suite.
        margin: of regret, up to which routing keeps up.
        share: of the rows that make clusters and choices.
        loss: decides what is right: one of `mechconn.losses`, or a function.
        seed: of the rows that make clusters, of k-means, and of layers that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the models are.
        progress: short for `Compute(progress=...)`; counts networks.

    Raises:
        ValueError: fewer than two networks, groups beside a suite or of a loader that shuffles, a task that is no
            classification of whole rows, a label that names no output, outputs that hold NaN, networks of other
            classes, fewer different rows than clusters, a group all of
            whose rows make clusters, or no single linear layer that gives the output of `features`.
        TypeError: models that are no mapping of networks.

    Example:
        One network is right about positive numbers, one about negative ones, and each is unsure elsewhere:

        >>> def sure_where(sign):
        ...     layer = nn.Linear(2, 2)
        ...     _ = layer.weight.data.copy_(torch.tensor([[0.0, 0.0], [4.0, 4.0 * sign]])), layer.bias.data.zero_()
        ...     return layer
        >>> side = torch.linspace(-2, 2, 400)
        >>> x, y = torch.stack([side.abs(), side], 1), torch.ones(400).long()
        >>> y[::25] = 0
        >>> source, rows = (x[::2], y[::2]), (x[1::2], y[1::2])
        >>> found = route({"+": sure_where(1.0), "-": sure_where(-1.0)}, rows, source=source, clusters=2)
        >>> sorted(own.chosen for own in found.clusters)
        ['+', '-']

    Source: Chen et al. 2023, *Confidence-based model selection: when to take shortcuts for subpopulation shifts*
    (COSMOS), which clusters the batch that it answers; Guo et al. 2017 (temperature scaling).
    """
    _check_models(models, features)
    check_count("clusters", clusters)
    check_fraction("margin", margin)
    check_share("share", share)
    compute = resolve_compute(compute, device, progress)
    splits = _read_splits(data, groups)
    known = as_data("source", source)
    check_label_names(
        [(f"the model {name!r}", model) for name, model in models.items()], {**splits, "source": known}, loss
    )
    clustered = features or next(iter(models))
    reader = _Reader(as_loss(loss), seed, compute)
    read, temperatures, notes, classes = {}, {}, [], {}
    for number, (name, model) in enumerate(models.items()):
        own = reader.prepare(name, model, name == clustered, next(iter(splits.values())))
        told = own.read("source", known)
        temperatures[name] = find_temperature(name, told, notes)
        read[name] = {split: own.read(split, rows) for split, rows in splits.items()}
        if not number:
            notes += [_describe_shared(split) for split, rows in read[name].items() if rows.are_those_of(told)]
        classes[name] = next(iter(read[name].values())).outputs.shape[1]
        compute.report("routing", number + 1, len(models))
    if len(set(classes.values())) > 1:
        raise ValueError(f"models must have the same classes, got {classes}")
    rule = _Rule(clusters, seed, share, temperatures, clustered)
    routes = rule.fit(read)
    members = _list_groups(splits, groups, rule.makes)
    found = {name: RoutedCounts.of(read, routes, split, rows) for name, (split, rows) in members.items()}
    judged = judge_groups(found, list(models), margin)
    settings = {
        "clusters": clusters, "features": clustered, "share": share, "seed": seed,
        "rows": sum(len(own) for own in routes.values()), **reader.computed,
    }  # fmt: skip
    named = {split: tuple(list(models)[k] for k in own.tolist()) for split, own in routes.items()}
    average = {c: join_regrets([group.regrets[c] for group in judged.values()]) for c in (ROUTED, *models)}
    return Routed(rule.clusters, judged, average, temperatures, margin, settings, tuple(notes), named)


def _check_models(models: Mapping[str, nn.Module], features: str | None) -> None:
    check_is("models", models, Mapping, "; write {name: model, ...}")
    if len(models) < 2:
        raise ValueError(
            f"route chooses among networks and needs two or more, got {len(models)}; name another in models"
        )
    for name, model in models.items():
        check_is(f"the model {name!r}", model, nn.Module)
    if ROUTED in models:
        raise ValueError(f"the name {ROUTED!r} stands for the choice among the models; give the model another name")
    if features is not None and features not in models:
        raise ValueError(f"features={features!r} names none of the models; name one of {', '.join(models)}")


def _read_splits(data: Data | Suite, groups: Groups | None) -> dict[str, Data]:
    """Split -> rows; of rows that are no suite one split."""
    if isinstance(data, Suite):
        if groups is not None:
            raise ValueError("the splits of a suite are the groups; leave out groups=, or pass one split, suite[name]")
        found = {name: data[name] for name in data}
    else:
        found = {DATA: as_data(DATA, data)}
    for rows in found.values():
        if groups is not None and draws_rows(rows):
            raise ValueError(
                "the loader shuffles, so that groups cannot be matched to rows; pass one with shuffle=False"
            )
    return found


@dataclass(eq=False)
class _Reader:
    """Reads networks; `computed` is how the last one was."""

    loss: Loss
    seed: int
    compute: Compute

    def prepare(self, name: str, model: nn.Module, clustered: bool, first: Data) -> _NetworkReader:
        network = Network(model, fix_device(self.compute, model))
        self.computed = network.computed
        own = _NetworkReader(self, name, network, network.load(point_of(model).params), None)
        if clustered:
            own.head = self._find_head(name, model, own, first)
        return own

    def _find_head(self, name: str, model: nn.Module, own: _NetworkReader, first: Data) -> str:
        with keep_generator_states(first), isolate_rng(self.seed, "route"):
            inputs, _ = next(own.iterate(DATA, first))
            try:
                return find_head(model, move_inputs(inputs, resolve_device(model, None)))
            except ValueError as error:
                raise ValueError(
                    f"the features of {name!r} are the input of its last linear layer, and its output does not come "
                    "from exactly one; name another model in features="
                ) from error


@dataclass(eq=False)
class _NetworkReader:
    """One network that is read."""

    reader: _Reader
    name: str
    network: Network
    params: dict[str, Tensor]
    head: str | None

    def iterate(self, split: str, data: Data) -> Iterator[tuple[Any, Tensor]]:
        rows = self.network.compute.choose_batch_size(ROWS_ON_CPU)
        return iterate_batches(split, data, batch_size=rows, device=self.network.device, model=self.network.module)

    @torch.no_grad()
    def read(self, split: str, data: Data) -> RoutedOutputs:
        """Outputs and labels of all rows that count, in one pass."""
        parts: list[tuple[Tensor, ...]] = []
        done = 0
        with keep_generator_states(data), isolate_rng(self.reader.seed, "route"):
            for inputs, targets in self.iterate(split, data):
                parts.append(self._read_batch(split, inputs, targets, done))
                done += len(targets)
        outputs, labels, correct, *features = (torch.cat(own) for own in zip(*parts, strict=True))
        return RoutedOutputs(outputs, labels, correct, features[0] if features else None)

    def _read_batch(self, split: str, inputs: Any, targets: Tensor, done: int) -> tuple[Tensor, ...]:
        """Of the rows that count; `done` rows were read before."""
        taken: list[Tensor] = []
        if self.head is None:
            outputs = self.network(self.params, self.network.buffers, inputs)
        else:
            with record_head_calls(self.network.module, self.head) as calls:
                outputs = self.network(self.params, self.network.buffers, inputs)
                taken.append(calls.features(len(calls.calls) - 1, outputs).double().cpu())
        found = self.reader.loss.classify(outputs, targets)
        logits = outputs.reshape(len(outputs), -1).double()
        logits = torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
        if found is None or found.each != "rows" or found.classes != logits.shape[1]:
            raise ValueError(
                f"{split}: route needs a classification of whole rows, whole-number targets [N] and outputs [N, K] or "
                f"one logit a row, got outputs {list(outputs.shape)} of {self.name!r}"
            )
        counted = self.reader.loss.counted(targets)
        kept = torch.arange(len(targets)) if counted is None else counted.cpu().nonzero().flatten()
        whole = (logits, found.labels, found.predicted == found.labels, *taken)
        read = tuple(own.cpu()[kept] for own in whole)
        self._check_read(split, read, done + kept, found.classes)
        return read

    def _check_read(self, split: str, read: tuple[Tensor, ...], rows: Tensor, classes: int) -> None:
        """Raise where labels name no output, or outputs or features tell nothing."""
        outputs, labels, _, *features = read
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"{split}: {explain_labels_out_of_range(labels, classes, 'rows', 'CrossEntropy')}")
        broken = outputs.isnan().any(1) | (outputs.max(1).values.abs() == math.inf)  # single classes may have -inf
        for what, bad in (("outputs", broken), *(("features", ~own.isfinite().all(1)) for own in features)):
            if bool(bad.any()):
                raise ValueError(
                    f"{split}: the {what} of {self.name!r} on row {int(rows[bad][0])} hold NaN or infinity, so that "
                    "nothing can be routed by them; leave out the row, or the network"
                )


def _describe_shared(split: str) -> str:
    return (
        f"source holds the rows of {split}, some of which are judged: their labels chose the temperatures, of which "
        "the intervals know nothing; give other rows as source."
    )


@dataclass(eq=False)
class _Rule:
    """Clusters, and which network each chose."""

    count: int
    seed: int
    share: float
    temperatures: Mapping[str, float]
    clustered: str

    def fit(self, read: Mapping[str, Mapping[str, RoutedOutputs]]) -> dict[str, Int[Tensor, " _"]]:
        """Find clusters and choices; returns for each split the number of the network that answers each row."""
        with isolate_rng(self.seed, "scikit-learn"):  # the first import draws from Python's generator
            from sklearn.cluster import KMeans

        features = {split: own.features for split, own in read[self.clustered].items()}
        self.makes = {split: self._draw(len(own)) for split, own in features.items() if own is not None}
        made = torch.cat([features[split][makes] for split, makes in self.makes.items()])  # pyright: ignore
        if (different := len(made.unique(dim=0))) < self.count:
            raise ValueError(
                f"clusters must be at most the rows of different features that make them, {different}, got "
                f"{self.count}; set clusters= to {different} or fewer, or give more rows"
            )
        means = KMeans(self.count, n_init=STARTS, random_state=derive_seed(self.seed, "k-means") % 2**32)
        numbers = torch.from_numpy(means.fit_predict(made.numpy())).long()
        sure = {
            name: torch.cat([self._find_confidence(name, own[split])[makes] for split, makes in self.makes.items()])
            for name, own in read.items()
        }
        chosen, self.clusters = [], ()
        for number in range(self.count):
            inside = numbers == number
            confidence = {name: float(values[inside].mean()) for name, values in sure.items()}
            best = max(confidence, key=lambda name: confidence[name])  # the first of equals
            chosen.append(list(read).index(best))
            self.clusters += (RoutedCluster(int(inside.sum()), best, confidence),)
        return {
            split: torch.tensor(chosen)[torch.from_numpy(means.predict(own.numpy())).long()]
            for split, own in features.items()
            if own is not None
        }

    def _draw(self, rows: int) -> Bool[Tensor, " _"]:
        """Which rows make clusters; of splits of one length the same."""
        order = torch.randperm(rows, generator=make_generator(self.seed, "route", rows))
        makes = torch.zeros(rows, dtype=torch.bool)
        makes[order[: max(1, round(self.share * rows))]] = True
        return makes

    def _find_confidence(self, name: str, own: RoutedOutputs) -> Float[Tensor, " _"]:
        return (own.outputs / self.temperatures[name]).softmax(1).max(1).values


def _list_groups(
    splits: Mapping[str, Data], groups: Groups | None, makes: Mapping[str, Bool[Tensor, " _"]]
) -> dict[str, tuple[str, Int[Tensor, " _"]]]:
    """Group -> (its split, its rows that make no cluster)."""
    rows = {split: (~own).nonzero().flatten() for split, own in makes.items()}
    if groups is None:
        found = {("all rows" if split == DATA else split): (split, own) for split, own in rows.items()}
    else:
        names = read_group_names("groups", groups, len(makes[DATA]))
        numbers, order = number_names(names)
        by_label = find_rows_by_label(numbers)
        free = ~makes[DATA]
        found = {
            name: (DATA, by_label[order[name]][free[by_label[order[name]]]])
            for name in sorted(order, key=natural_sort_key)
        }
    if empty := [name for name, (_, own) in found.items() if not len(own)]:
        raise ValueError(
            f"all rows of {', '.join(empty)} make clusters, and none is left to judge; lower share=, or give more rows"
        )
    return found
