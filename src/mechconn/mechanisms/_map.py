"""Mapping several models: outcomes of each, distances and barriers between every two, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn

from mechconn.alignment import (
    AlignmentMethod,
    ManyAlignmentMethod,
    ManyAlignments,
    align_many,
    check_no_adapters,
)
from mechconn.connectivity import TOLERANCE, Evaluator, Until, check_grid
from mechconn.core import (
    Compute,
    PerSampleLoss,
    Progress,
    check_is,
    check_non_negative,
    check_same_keys,
    check_two_models,
    resolve_compute,
)
from mechconn.datasets import Clusters, ModelOutputs, Suite, check_interventions, check_label_names, represent_on_suite
from mechconn.losses import cross_entropy
from mechconn.mechanisms._amounts import choose_shift_margin
from mechconn.mechanisms._effects import Invariance, On
from mechconn.mechanisms._map_lines import EACH, Aligner, MapLines, PairwiseAlignment, find_symmetry
from mechconn.mechanisms._map_pairs import (
    Barriers,
    MapPair,
    Pair,
    WalkedLine,
    check_barriers,
    judge_pairs,
    make_matrix,
)
from mechconn.mechanisms._map_result import MechanismMap
from mechconn.mechanisms._map_settled import read_map
from mechconn.mechanisms._map_task import MapAlignment, MapMeasures, MapTask
from mechconn.mechanisms._map_tree import make_tree
from mechconn.mechanisms._measure import check_questions, make_invariance
from mechconn.mechanisms._outcomes import ModelOutcome, measure_outcome
from mechconn.mechanisms._read_notes import note_rows_read
from mechconn.mechanisms._until_settled import ModelReading
from mechconn.network import Metric, NormPolicy, check_adapters_apart, check_metrics, join_networks, resolve_norm
from mechconn.symmetry import Symmetry

STAGE = "mapping the models"
Aligning: TypeAlias = Aligner | AlignmentMethod | ManyAlignments | None


def mechanism_map(
    models: Mapping[str, nn.Module | ModelOutputs],
    suite: Suite,
    margin: float = 0.05,
    on: On = "accuracy",
    ts: int | Sequence[float] = 11,
    *,
    norm: NormPolicy | None = None,
    align: Aligner | AlignmentMethod | ManyAlignments | None = None,
    symmetry: Symmetry | None = None,
    barriers: Barriers | Sequence[Pair] = "all",
    tolerance: float = TOLERANCE,
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    until: Until = "end",
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> MechanismMap:
    """Barriers and mechanistic distances between every two of several models, as matrices, trees and points of a plane.

    The mechanistic distance of two models is the largest |e_a - e_b| over the suite's interventions, with e the effect
    on accuracy or loss: 0 for equal effects, at most 2 on accuracy. Each has an interval, from the rows of both models;
    all intervals hold together with 95 %, and so do the verdicts: two models "differ" where the whole interval lies
    above the margin, "agree" where it lies within. Whether two of them use the same mechanisms in the paper's sense is
    for `compare_mechanisms` to say. A barrier is no proof of different mechanisms, nor is a path without one a proof of
    the same.

    Each model runs over each split once, however many pairs there are. A path takes one more pass over the reference
    for each point between its ends; ends are evaluated anew, once for each model, where their statistics are
    re-estimated, and for each pair where a function of yours moves them.

    Args:
        models: name -> network, two or more: one module with different parameters and statistics; they stay as they
            are. With barriers="none" any networks, or outputs of some (`load_outputs`).
        suite: the reference and its counterfactuals, with rows that come in one order every time.
        margin: of the verdicts in `invariance` and on pairs.
        on: "accuracy", "loss" or the name of a metric, what effects are measured in; barriers are in loss.
        ts: points on each path, as in `evaluate_path`; 3 are the ends and the middle.
        norm: where normalisation statistics on the paths come from, ends included; required when the models keep any
            and paths are walked.
        align: how units are matched before paths are walked: `UniverseMatching()` or `MergeMany()`, which bring all
            models into one order of units at once; what `align_many` gave for these models; another
            `AlignmentMethod`, or a function (A, B) -> B moved onto A, for each pair by itself; default: no symmetry is
            removed.
        symmetry: what a method may move; default: found on the first rows of the reference.
        barriers: between which models paths are walked: "all"; "tree", a spanning tree of least mechanistic distance;
            "none"; or a list of pairs of names.
        tolerance: the largest barrier in loss that counts as none.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        loss: one value per sample from (outputs, targets); see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`.
        until: "end" reads all rows, "settled" as many as settle every verdict on models and pairs, with the same joint
            errors; see `measure_invariance`. With barriers="none": barriers are in loss, which takes all rows.
        seed: of layers and loaders that draw from global generators, and of the order of rows.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where each model is.
        progress: short for `Compute(progress=...)`; counts models and pairs, or looks.

    Raises:
        ValueError: fewer than two models, a suite without interventions, models that are not one module or a path
            without a barrier (the pair is named), until="settled" with barriers, or as in `measure_invariance`.

    Example:
        Two networks that always answer 1 and one that reads its input.

        >>> y = torch.arange(500) % 2
        >>> right, wrong = torch.eye(2)[y], torch.eye(2)[1 - y]
        >>> suite = Suite({"cue": (right, y), "rand_cue": (wrong, y)})
        >>> models = {name: nn.Linear(2, 2).requires_grad_(False) for name in ("one", "two", "reader")}
        >>> for name, model in models.items():
        ...     _ = model.weight.copy_(torch.eye(2) * (name == "reader"))
        ...     _ = model.bias.copy_(torch.tensor([0.0, 1.0]) * (name != "reader"))
        >>> found = mechanism_map(models, suite, ts=3)
        >>> sorted(found.groups), found.distance[0]
        ([('one', 'two'), ('reader',)], (0.0, 0.0, 1.0))
        >>> [(pair.a, pair.b, pair.verdict, pair.path) for pair in found.pairs][:2]
        [('one', 'two', 'agree', 'connected'), ('one', 'reader', 'differ', 'connected')]

    Source: average linkage: Sokal & Michener 1958; multidimensional scaling: Torgerson 1952; the rest Lubana et al.
    2023.
    """
    compute = resolve_compute(compute, device, progress)
    check_questions(suite, margin, on, check_metrics(metrics), until)
    check_is("models", models, Mapping, "; write {name: model, ...}")
    check_two_models("a map", len(models))
    check_interventions("a map of mechanisms", suite.interventions)
    check_label_names([(f"model {name!r}", model) for name, model in models.items()], suite, loss)
    names = list(models)
    check_barriers(barriers, names)
    task = MapTask(margin, on, check_grid(ts), check_non_negative("tolerance", tolerance), barriers, until)
    task.check_settles(names)
    quiet = compute.without_progress()
    run: dict[str, Any] = {"loss": loss, "metrics": metrics, "cluster": cluster, "seed": seed, "compute": quiet}
    report = _Counter(compute, len(models) + task.count_paths(names))
    evaluators, lines, alignment = _prepare(models, suite, task, run, norm, align, symmetry, tuple(ignore))
    if until == "settled":
        readings = {name: ModelReading(own, on, compute) for name, own in evaluators.items()}
        return assemble_map(measure_map(read_map(readings, margin, on, STAGE), suite, task), {}, task, {}, alignment)
    outcomes = {name: report.count(lambda own=own: measure_outcome(own, on)) for name, own in evaluators.items()}
    measured = measure_map(outcomes, suite, task)
    if lines is None:
        return assemble_map(measured, {}, task, {}, alignment)
    walk = lines.walk
    walked = {pair: report.count(lambda pair=pair: walk(*pair)) for pair in task.choose(measured)}
    return assemble_map(measured, walked, task, lines.norm.describe(), alignment)


def measure_map(
    outcomes: Mapping[str, ModelOutcome],
    suite: Suite,
    task: MapTask,
    compute: Compute | None = None,
) -> MapMeasures:
    """Effects and distances from outcomes of every model; no further pass. `compute` is told of the progress.

    Raises:
        ValueError: the rows of a model came in another order than the first one's.
    """
    compute, invariance = Compute() if compute is None else compute, dict[str, Invariance]()
    for name, found in outcomes.items():
        invariance[name] = make_invariance(found, suite, task.margin, task.on)
        compute.report("judging the models", len(invariance), len(outcomes))
    report = partial(compute.report, "comparing the pairs")
    pairs = judge_pairs(outcomes, invariance, suite.reference, task.margin, task.on, report)
    return MapMeasures(invariance, pairs, note_rows_read(list(outcomes.values()), suite.reference))


def assemble_map(
    measured: MapMeasures,
    walked: Mapping[Pair, WalkedLine],
    task: MapTask,
    norm: Mapping[str, Any],
    alignment: MapAlignment,
) -> MechanismMap:
    """The map from all that was measured."""
    names = tuple(measured.invariance)
    distance = make_matrix(names, {pair: found.distance for pair, found in measured.pairs.items()})
    barrier = make_matrix(names, {pair: line.height for pair, line in walked.items()})
    trees = {"distance": make_tree(names, distance)}
    if len(walked) == len(measured.pairs):
        trees = {"barrier": make_tree(names, barrier), **trees}
    shifted = {name: told for line in walked.values() for name, told in line.shifted.items()}
    return MechanismMap(
        names=names,
        barrier=tuple(map(tuple, barrier.tolist())),
        distance=tuple(map(tuple, distance.tolist())),
        trees=trees,
        invariance=measured.invariance,
        aligned=bool(alignment.settings),
        norm=norm,
        compute=measured.invariance[names[0]].compute,
        notes=(*measured.notes, *alignment.notes, *shifted.values()),
        pairs=tuple(_add_line(found, walked.get(pair)) for pair, found in measured.pairs.items()),
        tolerance=task.tolerance,
        alignment=alignment.settings,
        ts=task.grid if walked else (),
    )


def _add_line(pair: MapPair, line: WalkedLine | None) -> MapPair:
    if line is None:
        return pair
    return replace(pair, barrier=line.height, barrier_interval=line.interval, path=line.verdict)


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
        self.compute.report(STAGE, len(self.done), self.total)
        return result


def _prepare(
    models: Mapping[str, Any],
    suite: Suite,
    task: MapTask,
    run: Mapping[str, Any],
    norm: NormPolicy | None,
    align: Aligning,
    symmetry: Symmetry | None,
    ignore: tuple[str, ...],
) -> tuple[dict[str, Evaluator], MapLines | None, MapAlignment]:
    """(what measures each model, the lines between them once all are known to be one module, how they are aligned)."""
    if not task.count_paths(list(models)):
        check_adapters_apart([model for model in models.values() if isinstance(model, nn.Module)])
        own = {name: Evaluator(*represent_on_suite(model, suite), **run) for name, model in models.items()}
        return own, None, MapAlignment()
    joined = dict(zip(models, (found.module for found in join_networks(list(models.values()))), strict=True))
    evaluators = {name: Evaluator(model, suite, **run) for name, model in joined.items()}
    lines = make_lines(joined, evaluators, task, norm, task.confidence(list(models)), ignore)
    lines.check()
    return evaluators, *align_lines(lines, align, symmetry, run["seed"], run["compute"])


def make_lines(
    models: Mapping[str, nn.Module],
    evaluators: Mapping[str, Evaluator],
    task: MapTask,
    norm: NormPolicy | None,
    confidence: float,
    ignore: Sequence[str],
) -> MapLines:
    """The lines between models of one weight space, on the module of the first; where no symmetry is removed.

    Raises:
        ValueError: the models keep statistics, and nothing says where those on paths come from.
    """
    first = next(iter(evaluators.values()))
    return MapLines(
        models=models,
        evaluators=evaluators,
        first=first,
        grid=task.grid,
        norm=resolve_norm(norm, first.network),
        align=None,
        moved={},
        ignore=ignore,
        tolerance=task.tolerance,
        confidence=confidence,
        margin=choose_shift_margin(task.on, task.margin),
    )


def align_lines(
    lines: MapLines,
    align: Aligning,
    symmetry: Symmetry | None,
    seed: int,
    compute: Compute,
) -> tuple[MapLines, MapAlignment]:
    """(the lines with their ends moved, or to be moved; how).

    Raises:
        TypeError: neither a method, nor an alignment, nor a function.
        ValueError: networks with adapters, or whose symmetry cannot be found or does not hold; an alignment of others.
    """
    if align is None:
        return lines, MapAlignment()
    for model in lines.models.values():
        check_no_adapters(model)
    if isinstance(align, ManyAlignmentMethod):
        known = symmetry or find_symmetry(next(iter(lines.models.values())), lines.first)
        align = align_many(lines.models, align, known, ignore=lines.ignore, seed=seed, compute=compute)
    if isinstance(align, ManyAlignments):
        return replace(lines, moved=check_moved(align, lines)), describe_alignment(align)
    if isinstance(align, AlignmentMethod):
        known = symmetry or find_symmetry(next(iter(lines.models.values())), lines.first)
        pairwise = PairwiseAlignment(align, known, seed, compute)
        pairwise.prove(next(iter(lines.models.values())))
        return replace(lines, align=pairwise), MapAlignment(describe_pairwise(align, seed))
    if not callable(align):
        raise TypeError(
            "align must be an alignment method, what align_many gave, or a function (A, B) -> B moved onto A, got "
            f"{type(align).__name__}; pass mechconn.UniverseMatching(), or leave it out"
        )
    return replace(lines, align=align), MapAlignment({"method": "a function", "onto": EACH})


def check_moved(found: ManyAlignments, lines: MapLines) -> Mapping[str, nn.Module]:
    """The moved networks, once they are those of the map.

    Raises:
        ValueError: other names, or networks that are not one module with these.
    """
    check_same_keys("models and those of the alignment", lines.models, found.models)
    moved = dict(found.models)
    for name, model in moved.items():
        lines.check_moved(f"{name!r} as aligned", name, model)
    return moved


def describe_pairwise(method: AlignmentMethod, seed: int) -> dict[str, Any]:
    """The settings of a method that aligns each pair by itself."""
    return {"method": method.registered_name, **method.describe(), "seed": seed, "onto": EACH}


def describe_alignment(found: ManyAlignments) -> MapAlignment:
    """The settings of an alignment of many, with its cycle errors."""
    errors = {"cycle_error": found.cycle_error, "pairwise_cycle_error": found.pairwise_cycle_error}
    return MapAlignment({**found.settings, **errors, "coverage": found.coverage}, found.notes)
