"""One network on one suite, at as many points of weight space as are asked for: what every measurement reads from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.connectivity._row_clusters import number_clusters
from mechconn.core import (
    Buffers,
    Compute,
    Inputs,
    PerSampleLoss,
    Progress,
    check_choice,
    check_is,
    check_same_keys,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    resolve_compute,
)
from mechconn.datasets import Clusters, Suite, read_clusters
from mechconn.losses import Each, as_loss, cross_entropy
from mechconn.network import (
    Forward,
    Inference,
    Metric,
    Network,
    NormPolicy,
    Outcomes,
    Point,
    are_equal,
    check_joined,
    check_metrics,
    check_row_count,
    check_row_order,
    check_same_rows,
    collect_bounds,
    compute_outcomes,
    copy_unless_held,
    load_point,
    point_of,
)
from mechconn.paths import Path

MeansBySplit: TypeAlias = dict[str, dict[str, list[float]]]
"""What was measured ("loss", "accuracy", a metric) -> split -> its mean at each point."""

_Key: TypeAlias = tuple[int, ...]
"""Identities of a point, of the policy that gave its statistics, and of both ends of the path where the policy reads
these; of the point alone where its state is its own."""


class Evaluator:
    """A network's architecture and a suite; outcomes row by row, at any point of weight space.

    What was computed at a point is kept and given again: of the network as saved, of each `Point` passed to `outcomes`,
    and of the ends of paths. Points between the ends are not kept. So the tensors of these points must stay as they
    are while the evaluator is used. At any time one point's parameters are in memory beside these; in reduced
    precision they are taken apart, tensor by tensor, as its copy is made.

    Args:
        model: gives the architecture, and the point `saved`; it stays as it is.
        suite: the splits.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`.
        metrics: name -> one value per sample, or a `Metric`.
        cluster: which rows belong together; see `measure_invariance`.
        keep_probabilities: whether outcomes hold every row's class probabilities too, float32 of shape [N, K].
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`.

    Attributes:
        network: the architecture as a function of points.

    Raises:
        TypeError: no `Suite`, a metric that is no function, or a TorchScript module.
        ValueError: a lazy module that was not run, or a device that is not there.

    Example:
        >>> y = torch.tensor([0, 1, 1, 1])
        >>> suite = Suite({"cue": (torch.eye(2)[y], y), "other": (torch.eye(2)[1 - y], y)})
        >>> evaluator = Evaluator(nn.Identity(), suite)
        >>> {split: found.accuracy for split, found in evaluator.outcomes().items()}
        {'cue': 1.0, 'other': 0.0}
    """

    def __init__(
        self,
        model: nn.Module,
        suite: Suite,
        *,
        loss: PerSampleLoss = cross_entropy,
        metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
        cluster: Clusters | None = None,
        keep_probabilities: bool = False,
        seed: int = 0,
        compute: Compute | None = None,
        device: str | torch.device | None = None,
        progress: Progress | bool | None = None,
    ) -> None:
        check_is("suite", suite, Suite, "; build one with Suite({name: data, ...})")
        self.compute = resolve_compute(compute, device, progress)
        self.network = Network(model, self.compute)
        self.suite, self.loss, self.metrics, self.seed = suite, as_loss(loss), check_metrics(metrics), seed
        self.bounds, self.clusters = collect_bounds(self.metrics), read_clusters(cluster, suite)
        self.keep_probabilities = keep_probabilities
        self._model = model
        self._inference = Inference(self.network)
        self._known: dict[tuple[_Key, str], Outcomes] = {}
        self._ends: dict[tuple[int, ...], tuple[_Key, Buffers]] = {}
        self._same: dict[int, Point] = {}
        self._held: dict[int, object] = {}  # what identities were taken of

    def on_rows(self, suite: Suite) -> Evaluator:
        """The same network on a suite of some rows of this one's splits; what is known of ends of paths is shared."""
        assert self.saved is not None  # one point for all
        own = copy(self)
        own.suite, own.clusters, own._known = suite, None, {}
        return own

    @cached_property
    def saved(self) -> Point:
        """Where the model stands, with all its state."""
        return point_of(self._model)

    @cached_property
    def example(self) -> Inputs:
        """Inputs of the first rows of the reference; see `read_first_rows`."""
        return read_first_rows(self.suite, self.network.device, self.seed, self.network.module)[0]

    @property
    def settings(self) -> dict[str, Any]:
        """The loss, how it computes, and the seed: plain values for the record."""
        own = {"loss": self.loss.describe(), "loss_unit": self.loss.unit}
        return {**own, **self.network.computed, "seed": self.seed}

    def outcomes(
        self, point: Point | nn.Module | None = None, splits: Iterable[str] | None = None
    ) -> dict[str, Outcomes]:
        """Split -> outcomes, row by row, of the network as saved, or at another point with all its state.

        Args:
            point: another network of this module, or a point of it; default: the model that the evaluator was made
                with. What is computed at a `Point` is kept, of a network that is passed it is not.
            splits: default: all of the suite.

        Raises:
            ValueError: the point is not of this network, data are empty or not finite, or the loss or a metric does
                not give one value per sample.
        """
        asked = list(self.suite if splits is None else splits)
        for split in asked:
            check_choice("a split", split, tuple(self.suite))
        at = self._locate(point) if isinstance(point, nn.Module) else point
        found = {}
        for number, split in enumerate(asked, start=1):
            found[split] = self.draws(split, at, further=False)[0]
            self.compute.report("evaluating", number, len(asked))
        if at is not None and at is not point:  # no caller can ask for it again
            self.forget(at)
        return found

    def _locate(self, model: nn.Module) -> Point:
        """Where another network of this module stands, after refusing one that is of another."""
        point, networks = point_of(model), (self.network, Network(model, self.compute))
        names = ("the model", "the other")
        check_joined((self._model, model), networks, (self.saved, point), lambda: self.example, names=names)
        return point

    def draws(self, split: str, point: Point | None = None, *, further: bool = True) -> tuple[Outcomes, ...]:
        """Outcomes of one split, and of the further draws of its intervention where the suite holds some."""
        at = self.saved if point is None else point
        check_is("point", at, Point, "; pass mechconn.point_of(model)")
        at = self._same.get(id(at), at)
        every = self.suite.draws_of(split)
        found = self._evaluate(
            every if further else dict(list(every.items())[:1]),
            self._hold(at),
            lambda: self._load(at, at.buffers),
        )
        for what, result in found.items():
            check_same_rows(what, next(iter(found.values())).targets, result.targets)
        return tuple(found.values())

    def number_clusters(self, split: str, rows: int, counted: Tensor | None = None) -> Tensor | None:
        """The number of the cluster of each row of a split that counts; see `mechconn.connectivity.number_clusters`."""
        return number_clusters(split, self.suite.draws_of(split).values(), self.clusters, rows, counted)

    def along(
        self,
        path: Path,
        t: float,
        norm: NormPolicy,
        statistics: Buffers | None = None,
        splits: Sequence[str] | None = None,
    ) -> tuple[dict[str, Outcomes], Buffers | None]:
        """(split -> outcomes at gamma(t), the buffers there).

        `statistics` are those of another point of the path where they are known to be the same here. The buffers are
        None where the outcomes were known without them.
        """
        key, buffers, load = self._find(path, t, norm, statistics)
        asked = list(self.suite) if splits is None else splits
        found = self._evaluate({f"split {split!r}": self.suite[split] for split in asked}, key, load)
        return dict(zip(asked, found.values(), strict=True)), buffers

    def take_for_same(self, moved: Point, point: Point) -> None:
        """Note that one point computes the same function as another, its hidden units permuted."""
        self._same[id(moved)] = point
        self._held |= {id(moved): moved, id(point): point}

    def adopt(self, other: Evaluator) -> None:
        """Take over what another evaluator of the same suite knows of its own network, which is one module with this.

        Its outcomes as saved then count at the point `other.saved`, and are not computed again.
        """
        saved = id(other.saved)
        self._held[saved] = other.saved
        self._known |= {(key, what): found for (key, what), found in other._known.items() if key == (saved,)}

    def remember(self, found: Mapping[str, Outcomes]) -> None:
        """Take outcomes of the network as saved for known, by what errors call the data; see `Suite.draws_of`."""
        self._known |= {(self._hold(self.saved), what): outcomes for what, outcomes in found.items()}

    def forget(self, point: Point) -> None:
        """Let go of a point and of all that was computed there."""
        gone = id(point)
        self._known = {key: found for key, found in self._known.items() if gone not in key[0]}
        self._ends = {key: found for key, found in self._ends.items() if gone not in key}
        self._same.pop(gone, None)
        self._held.pop(gone, None)

    def drop_probabilities(self) -> None:
        """Free the class probabilities of all rows, once they are read no more."""
        self._known = {key: replace(found, class_probabilities=None) for key, found in self._known.items()}

    def is_saved(self, path: Path, t: float, norm: NormPolicy) -> bool:
        """Whether the network that is evaluated at an end of the path is the one that was saved."""
        key, _, _ = self._find(path, t, norm, None)
        return key is not None and len(key) == 1

    def _find(
        self, path: Path, t: float, norm: NormPolicy, statistics: Buffers | None
    ) -> tuple[_Key | None, Buffers | None, Callable[[], Point]]:
        """(what the outcomes are remembered under, the buffers, the point): the key is None between the ends."""
        end = path.end_at(t)
        if end is None:
            point = self._renew(path, t, norm, statistics)
            return None, point.buffers, lambda: point
        key = self._name_end(end, path, norm)
        if id(end) in self._same and norm.follows_units(self.network):
            known = self._ends.get(self._name_end(end, path, norm, self._same))
            if known is not None:
                return known[0], None, lambda: self._renew(path, t, norm, None)
        if key not in self._ends:
            point = self._renew(path, t, norm, None)
            if not _has_parameters_of(end, point):  # a policy that changes weights: nothing to remember
                return None, point.buffers, lambda: point
            saved = _has_buffers_of(end, point, self.network)
            self._ends[key] = (self._hold(end) if saved else key), point.buffers
        known_as, buffers = self._ends[key]
        return known_as, buffers, lambda: self._load(end, buffers)

    def _name_end(self, end: Point, path: Path, norm: NormPolicy, same: Mapping[int, Point] | None = None) -> _Key:
        """What an end with the statistics of a policy is remembered under; with `same`, of the points named there."""
        points = (end, *(path.ends if norm.reads_ends() else ()))
        first, *others = (point if same is None else same.get(id(point), point) for point in points)
        return self._hold(first, norm, *others)

    def _renew(self, path: Path, t: float, norm: NormPolicy, statistics: Buffers | None) -> Point:
        with isolate_rng(self.seed, "evaluate"):
            if statistics is None:
                return norm.point(self.network, path, t)
            point = load_point(self.network, path, t)
            return Point(point.params, {**point.buffers, **statistics})

    def _load(self, point: Point, buffers: Buffers) -> Point:
        """A known point on the network's device."""
        self.network.check("the point's parameters", point.params)
        params = {n: copy_unless_held(tensor) for n, tensor in point.params.items()}  # a forward pass may write into it
        self.network.load_in_place(params)
        check_same_keys("the point's buffers", self.network.buffers, buffers)
        return Point(params, {name: buffers[name].to(self.network.device, copy=True) for name in self.network.buffers})

    def _hold(self, *things: Point | NormPolicy) -> _Key:
        """The identities of these, which stay theirs as long as the evaluator lives."""
        self._held |= {id(thing): thing for thing in things}
        return tuple(map(id, things))

    def _evaluate(self, data: Mapping[str, Any], key: _Key | None, load: Callable[[], Point]) -> dict[str, Outcomes]:
        """Outcomes on data by what errors call them; what is known is not computed again."""
        found: dict[str, Outcomes] = {}
        forward: Forward | None = None
        for what, rows in data.items():
            if key is not None and (key, what) in self._known:
                found[what] = self._known[key, what]
                continue
            if forward is None:
                point = load()
                forward = self._inference.at(point.params, point.buffers)
            with isolate_rng(self.seed, "evaluate"):
                found[what] = compute_outcomes(
                    forward, self.network, rows, what, self.loss, self.metrics,
                    keep_probabilities=self.keep_probabilities and key is not None and len(key) == 1,
                )  # fmt: skip
            if key is not None:
                self._known[key, what] = found[what]
        return found


def read_first_rows(
    suite: Suite, device: torch.device, seed: int, model: nn.Module | None = None
) -> tuple[Any, Tensor]:
    """(inputs, targets) of the first two rows of the reference, or its first batch where the user's batches decide."""
    data = suite[suite.reference]
    with isolate_rng(seed, "example"), keep_generator_states(data):
        return next(iterate_batches(f"split {suite.reference!r}", data, batch_size=2, device=device, model=model))


def _has_parameters_of(end: Point, point: Point) -> bool:
    return all(are_equal(tensor, end.params[name]) for name, tensor in point.params.items())


def _has_buffers_of(end: Point, point: Point, network: Network) -> bool:
    """Whether a point has the buffers that an end was saved with; not known of parameters alone."""
    if not end.buffers:
        return not network.buffers
    return all(are_equal(tensor, end.buffers[name]) for name, tensor in point.buffers.items())


@dataclass
class PointResults:
    """Means point by point, and the samples' own values where they are to be kept; outcomes themselves are let go.

    Attributes:
        keep: whether to keep the samples' values; their rows must then come in one order at every point.
        places: where each point lies, in the order in which they came.
        means: measure -> split -> mean at each point.
        rows: measure -> split -> the samples' values at each point, each of shape [N]; correctness for "accuracy".
        samples: split -> number of samples.
        each: what an accuracy is the share of; see `mechconn.Profile`.
        counted: split -> which rows of its data count; None where all do.
    """

    keep: bool = False
    places: list[Any] = field(default_factory=list)
    means: MeansBySplit = field(default_factory=dict)
    rows: dict[str, dict[str, list[Tensor]]] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    each: Each = "rows"
    counted: dict[str, Tensor | None] = field(default_factory=dict)
    _targets: dict[str, Tensor] = field(default_factory=dict)

    def add(self, place: float | tuple[float, float], results: Mapping[str, Outcomes]) -> None:
        """One point's outcomes; `place` is its t on a path, or its coordinates on a plane."""
        where = f"({place[0]:g}, {place[1]:g})" if isinstance(place, tuple) else f"t = {place:g}"
        self.places.append(place)
        for split, result in results.items():
            check_row_count(split, where, self.samples.setdefault(split, len(result.loss)), len(result.loss))
            self.each = self.each if result.answers is None else result.answers.each
            self.counted[split] = result.counted
            for measure, mean in compute_means(result).items():
                self.means.setdefault(measure, {}).setdefault(split, []).append(mean)
            if not self.keep:
                continue
            before = self._targets.setdefault(split, result.targets)
            check_row_order(split, where, torch.equal(before, result.targets))
            for measure, values in _collect_per_sample(result).items():
                self.rows.setdefault(measure, {}).setdefault(split, []).append(values)

    def sort(self) -> None:
        """Bring the points into the order of their places, in place."""
        order = sorted(range(len(self.places)), key=self.places.__getitem__)
        for by_split in (*self.means.values(), *self.rows.values()):
            for split, values in by_split.items():
                by_split[split] = [values[i] for i in order]  # pyright: ignore[reportArgumentType]
        self.places = [self.places[i] for i in order]


def compute_means(result: Outcomes) -> dict[str, float]:
    """Measure -> mean over samples; accuracy of a classification only."""
    accuracy = {} if result.answers is None else {"accuracy": result.accuracy}
    return {"loss": result.mean_loss, **accuracy, **{name: float(v.mean()) for name, v in result.metrics.items()}}


def _collect_per_sample(result: Outcomes) -> dict[str, Tensor]:
    correct = {} if result.answers is None else {"accuracy": result.correct}
    return {"loss": result.loss, **correct, **result.metrics}
