"""Several models at once: which are close in weight space, and which in mechanism."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from mechconn.alignment import check_no_adapters
from mechconn.connectivity import Evaluator, Profile, ShiftedEnd, check_grid, describe_norm, evaluate_line
from mechconn.core import Compute, PerSampleLoss, Progress, check_choice, check_is, check_two_models, resolve_compute
from mechconn.datasets import Suite, check_interventions, check_label_names
from mechconn.losses import cross_entropy
from mechconn.mechanisms._amounts import choose_shift_margin
from mechconn.mechanisms._effects import Invariance, On
from mechconn.mechanisms._measure import check_questions, make_invariance
from mechconn.mechanisms._outcomes import measure_outcome
from mechconn.network import (
    Metric,
    NormPolicy,
    Point,
    check_joined,
    check_metrics,
    join_networks,
    resolve_norm,
    share_ignored,
)
from mechconn.paths import LinearPath
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_heat_map, print_table

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

Matrix: TypeAlias = tuple[tuple[float, ...], ...]
Measure: TypeAlias = Literal["barrier", "distance"]
LABELS: Mapping[Measure, str] = {"distance": "mechanistic distance", "barrier": "barrier in loss"}
Aligner: TypeAlias = Callable[[nn.Module, nn.Module], nn.Module]
"""(A, B) -> B moved onto A, its units permuted."""


@dataclass(frozen=True)
class Merge:
    """One step of a tree: two groups of models become one.

    Attributes:
        left: the models of one group.
        right: those of the other.
        height: the mean over all pairs, one from each group, of what the tree is of.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    height: float


@dataclass(frozen=True)
class Tree:
    """A hierarchy of models by average linkage.

    Attributes:
        order: the models, neighbours in the tree side by side.
        merges: from the closest pair to the whole.
    """

    order: tuple[str, ...]
    merges: tuple[Merge, ...]


@dataclass(frozen=True, repr=False)
class MechanismMap(Result, kind="mechanism_map"):
    """Pairwise barriers and mechanistic distances of several models; rows and columns in the order of `names`.

    `print(result)` gives both matrices.

    Attributes:
        names: the models.
        barrier: the barrier of the loss on the straight path between two models, on the reference split; symmetric,
            zero on the diagonal.
        distance: the mechanistic distance, max over interventions of |effect on one model - effect on the other|.
        trees: "barrier" and "distance" -> a tree by average linkage.
        invariance: model -> its effects and verdicts.
        aligned: whether an aligner moved one model of each pair onto the other before the path was walked.
        norm: where the statistics on the paths came from.
        compute: how it was computed: device, number type of the layers, batch size; see `Compute`.
        notes: where a path ends at another network than the saved one on the reference, since its statistics were
            re-estimated.
    """

    names: tuple[str, ...]
    barrier: Matrix
    distance: Matrix
    trees: Mapping[str, Tree]
    invariance: Mapping[str, Invariance]
    aligned: bool
    norm: Mapping[str, Any]
    compute: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def plot(self, on: Measure = "distance", *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the matrix as a heat map in the order of its tree, and the tree above it.

        Args:
            on: "distance" or "barrier".
            ax: the panel of the matrix, without the tree; default: a new figure.

        Raises:
            ValueError: `on` is neither.
        """
        check_choice("on", on, tuple(self.trees))
        matrix = self.barrier if on == "barrier" else self.distance
        return draw_heat_map(self.names, matrix, _linkage(np.array(matrix)), LABELS[on], ax)

    def __str__(self) -> str:
        lines = []
        for on, label in LABELS.items():
            lines += [f"{label} between {len(self.names)} models", *print_table(self._tabulate(on))]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def rows(self) -> list[dict[str, Any]]:
        """One record per pair of models: barrier and mechanistic distance."""
        return [
            {"a": a, "b": b, "barrier": self.barrier[i][j], "distance": self.distance[i][j]}
            for (i, a), (j, b) in combinations(enumerate(self.names), 2)
        ]

    def header(self) -> Header:
        """What was asked."""
        return Header(f"{len(self.names)} models", "Which are close in weight space, and which in mechanism?")

    def sections(self) -> list[Section]:
        """Both matrices with their trees, then what every model relies on."""
        aligned = "One model of each pair was moved onto the other." if self.aligned else "No symmetry was removed."
        found = [
            Section(
                label[:1].upper() + label[1:],
                text=f"Along straight paths. {aligned}{describe_norm(self.norm)}" if on == "barrier" else "",
                figures=(Drawing(lambda on=on: self.plot(on), f"{label}, as a heat map; the table below holds it."),),
                tables=(self._tabulate(on),),
                note=" ".join(f"{note}." for note in self.notes) if on == "barrier" else "",
            )
            for on, label in LABELS.items()
        ]
        for name, measured in self.invariance.items():
            found += [replace(section, title=f"{name}: {section.title}") for section in measured.sections()]
        return found

    def _tabulate(self, on: Measure) -> Table:
        matrix = self.barrier if on == "barrier" else self.distance
        rows = [(name, *(f"{value:.3f}" for value in row)) for name, row in zip(self.names, matrix, strict=True)]
        return Table(("", *self.names), tuple(rows))


def mechanism_map(
    models: Mapping[str, nn.Module],
    suite: Suite,
    margin: float = 0.05,
    on: On = "accuracy",
    ts: int | Sequence[float] = 11,
    *,
    norm: NormPolicy | None = None,
    align: Aligner | None = None,
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> MechanismMap:
    """Barriers and mechanistic distances between every two of several models, as matrices and trees.

    The mechanistic distance of two models is the largest |e_a - e_b| over the suite's interventions, with e the effect
    on accuracy or loss: 0 for equal effects, at most 2 on accuracy. It is a number without an interval, to arrange many
    models by; whether two of them use the same mechanisms is for `compare_mechanisms` to say. A barrier is no proof of
    different mechanisms, nor is a path without one a proof of the same.

    Args:
        models: name -> network, two or more: one module with different parameters and statistics; they stay as they
            are.
        suite: the reference and its counterfactuals.
        margin: of the verdicts in `invariance`.
        on: "accuracy", "loss" or the name of a metric, what effects are measured in; barriers are in loss.
        ts: points on each path, as in `evaluate_path`.
        norm: where normalisation statistics on the paths come from, ends included; required when the models keep any.
        align: (A, B) -> B moved onto A before the path is walked, such as by a permutation of units; default: no
            symmetry is removed.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        loss: one value per sample from (outputs, targets); see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where each model is.
        progress: short for `Compute(progress=...)`; counts models and pairs.

    Raises:
        ValueError: fewer than two models, a suite without interventions, models that are not one module or a path
            without a barrier (the pair is named), or as in `measure_invariance`.

    Source: average linkage: Sokal & Michener 1958; the rest Lubana et al. 2023.
    """
    compute = resolve_compute(compute, device, progress)
    check_questions(suite, margin, on, check_metrics(metrics))
    check_is("models", models, Mapping, "; write {name: model, ...}")
    check_two_models("a map", len(models))
    check_interventions("a map of mechanisms", suite.interventions)
    check_label_names([(f"model {name!r}", model) for name, model in models.items()], suite, loss)
    models = dict(zip(models, (found.module for found in join_networks(list(models.values()))), strict=True))
    if align is not None:
        for model in models.values():
            check_no_adapters(model)
    grid, quiet, pairs = check_grid(ts), compute.without_progress(), list(combinations(models, 2))
    report = _Counter(compute, len(pairs) + len(models))
    evaluators = {
        name: Evaluator(model, suite, loss=loss, metrics=metrics, seed=seed, compute=quiet)
        for name, model in models.items()
    }
    policy = resolve_norm(norm, next(iter(evaluators.values())).network)
    lines = _Lines(models, evaluators, grid, policy, align, tuple(ignore))
    lines.check()
    invariance = {
        name: report.count(lambda own=own: make_invariance(measure_outcome(own, on), suite, margin, on))
        for name, own in evaluators.items()
    }
    profiles = {pair: report.count(lambda pair=pair: lines.walk(*pair)) for pair in pairs}
    barriers = {pair: profile.barrier(suite.reference).height for pair, profile in profiles.items()}
    distances = {(a, b): _mechanistic_distance(invariance[a], invariance[b]) for a, b in pairs}
    names = tuple(models)
    barrier, distance = _make_matrix(names, barriers), _make_matrix(names, distances)
    return MechanismMap(
        names=names,
        barrier=_to_tuples(barrier),
        distance=_to_tuples(distance),
        trees={"barrier": make_tree(names, barrier), "distance": make_tree(names, distance)},
        invariance=invariance,
        aligned=align is not None,
        norm=policy.describe(),
        compute=invariance[names[0]].compute,
        notes=tuple(_note_shifted(profiles, choose_shift_margin(on, margin))),
    )


@dataclass(frozen=True)
class _Counter:
    """Counts what is done of a map."""

    compute: Compute
    total: int
    done: list[None] = field(default_factory=list)

    def count(self, step: Callable[[], Any]) -> Any:
        """The result of one step, once it is reported."""
        result = step()
        self.done.append(None)
        self.compute.report("mapping the models", len(self.done), self.total)
        return result


@dataclass(frozen=True, eq=False)
class _Lines:
    """The straight lines between models, all on the module of the first, on the reference alone.

    Each model's end is evaluated once, however many lines lead there.
    """

    models: Mapping[str, nn.Module]
    evaluators: Mapping[str, Evaluator]
    grid: tuple[float, ...]
    norm: NormPolicy
    align: Aligner | None
    ignore: Sequence[str]

    @cached_property
    def points(self) -> dict[str, Point]:
        """Where each model stands, with the first one's values of what is ignored."""
        first = next(iter(self.evaluators.values())).saved
        return {name: share_ignored(own.saved, first, self.ignore) for name, own in self.evaluators.items()}

    def check(self) -> None:
        """Refuse models that are not the first one's module.

        Raises:
            ValueError: the two are named.
        """
        for other in list(self.models)[1:]:
            self._check(f"model {other!r}", self.models[other], self.evaluators[other])

    def walk(self, a: str, b: str) -> Profile:
        """The profile of one line; what is known of both models is not computed again.

        Raises:
            ValueError: the aligned model is not one module with the first, or the line has no barrier; both are named.
        """
        first = next(iter(self.evaluators.values()))
        reference = first.suite.reference
        for other in (a, b):
            first.adopt(self.evaluators[other])
        with _name_models(a, b):
            end = self.points[b] if self.align is None else self._align(self.align, a, b)
            line = LinearPath(self.points[a], end)
            profile = evaluate_line(first, line, self.grid, self.norm, False, lambda **_: None, (reference,))
            profile.barrier(reference)
        if self.align is not None:
            first.forget(end)
        return profile

    def _align(self, align: Aligner, a: str, b: str) -> Point:
        """Where B stands once it is moved onto A."""
        first, moved = next(iter(self.evaluators.values())), align(self.models[a], self.models[b])
        own = Evaluator(moved, first.suite, compute=first.compute)
        self._check("what `align` gave", moved, own)
        return share_ignored(own.saved, first.saved, self.ignore)

    def _check(self, what: str, model: nn.Module, own: Evaluator) -> None:
        """Refuse a model that is not the first one's module."""
        name, first = next(iter(self.evaluators.items()))
        models, names = (self.models[name], model), (f"model {name!r}", what)
        networks, ends = (first.network, own.network), (first.saved, own.saved)
        check_joined(models, networks, ends, lambda: first.example, ignore=self.ignore, names=names)


@contextmanager
def _name_models(a: str, b: str) -> Iterator[None]:
    """Context manager: a ValueError says which two models it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"models {a!r} and {b!r}: {error}") from None


def _note_shifted(profiles: Mapping[tuple[str, str], Profile], margin: float) -> Iterator[str]:
    """A sentence on every model whose saved statistics give another network than the paths end at."""
    found: dict[str, ShiftedEnd] = {}
    for pair, profile in profiles.items():
        for shift in profile.shifted_ends(margin):
            name = pair["AB".index(shift.end)]
            found.setdefault(name, shift._replace(end=name))
    yield from map(str, found.values())


def _mechanistic_distance(a: Invariance, b: Invariance) -> float:
    return max(abs(a[name].effect - b[name].effect) for name in a.interventions)


def _make_matrix(names: Sequence[str], values: Mapping[tuple[str, str], float]) -> np.ndarray:
    matrix = np.zeros((len(names), len(names)))
    for (a, b), value in values.items():
        i, j = names.index(a), names.index(b)
        matrix[i, j] = matrix[j, i] = value
    return matrix


def make_tree(names: tuple[str, ...], matrix: np.ndarray) -> Tree:
    """The tree of a symmetric matrix by average linkage.

    Example:
        >>> tree = make_tree(("a", "b", "c"), np.array([[0.0, 4.0, 1.0], [4.0, 0.0, 6.0], [1.0, 6.0, 0.0]]))
        >>> [(merge.left, merge.right, merge.height) for merge in tree.merges]
        [(('a',), ('c',), 1.0), (('b',), ('a', 'c'), 5.0)]
    """
    from scipy.cluster.hierarchy import leaves_list

    steps = _linkage(matrix)
    groups: list[tuple[str, ...]] = [(name,) for name in names]
    merges = []
    for left, right, height, _ in steps.tolist():
        merges.append(Merge(groups[int(left)], groups[int(right)], height))
        groups.append(groups[int(left)] + groups[int(right)])
    return Tree(tuple(names[i] for i in leaves_list(steps).tolist()), tuple(merges))


def _linkage(matrix: np.ndarray) -> np.ndarray:
    """The tree of a symmetric matrix by average linkage, as scipy writes it."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    return linkage(squareform(matrix, checks=False), "average")


def _to_tuples(matrix: np.ndarray) -> Matrix:
    return tuple(tuple(row) for row in matrix.tolist())
