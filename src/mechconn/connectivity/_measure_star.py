"""Measuring how near a star is to other networks: every line is aligned, then evaluated on every split."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from torch import Tensor, nn

from mechconn.alignment import (
    AlignmentMethod,
    check_finite_weights,
    check_method,
    make_pair,
)
from mechconn.connectivity._evaluate_path import check_grid, evaluate_line
from mechconn.connectivity._evaluator import Evaluator, compute_means
from mechconn.connectivity._saved_ends import EndMeans
from mechconn.connectivity._star_barriers import MEASURES as MEASURES
from mechconn.connectivity._star_barriers import LineGroup, StarBarriers, StarLine, StarOnSplit
from mechconn.connectivity._star_networks import (
    STAR,
    describe_symmetry,
    hash_weights,
    list_networks,
    name_sources,
    prove_star_symmetry,
)
from mechconn.core import (
    Compute,
    PerSampleLoss,
    check_is,
    log_warnings,
    read_environment,
    share_known_rows,
    to_plain,
)
from mechconn.datasets import Clusters, Suite
from mechconn.network import (
    Network,
    NormPolicy,
    Outcomes,
    Point,
    as_points,
    check_joined,
    resolve_norm,
)
from mechconn.paths import LinearPath
from mechconn.stats import (
    LEAST_UNITS,
    Interval,
    betting_interval,
    clopper_pearson,
    cluster_mean_interval,
    compute_moments,
    t_interval,
    total_clusters,
)
from mechconn.symmetry import Symmetry

LEAST_POINTS = 3


@dataclass(frozen=True, eq=False)
class StarProblem:
    """What is asked of a star; see `FittedStar.barriers`.

    Attributes:
        known: name -> hash of the weights of every source of the fit.
        between: barriers whose lines between the held-out runs are taken over.
        fitted: what the settings of the fit say of its symmetry; None where sources were not moved.
    """

    model: nn.Module
    held_out: Mapping[str, nn.Module] | Sequence[nn.Module]
    sources: Mapping[str, nn.Module] | Sequence[nn.Module]
    known: Mapping[str, str]
    suite: Suite
    align: AlignmentMethod | None
    ts: int | Sequence[float]
    norm: NormPolicy | None
    symmetry: Symmetry | None
    ignore: tuple[str, ...]
    loss: PerSampleLoss
    seed: int
    compute: Compute
    between: StarBarriers | None = None
    cluster: Clusters | None = None
    fitted: Mapping[str, Any] | None = None


def measure_star(asked: StarProblem, on: str, tolerance: float, fit: Mapping[str, Any]) -> StarBarriers:
    """Every line from the star and between held-out runs, on every split; `fit` are the settings of the star."""
    started = time.perf_counter()
    lines = StarLines(asked)
    runs = {name: lines.read_means(name) for name in lines.held_out}
    found = lines.walk(runs)
    outcomes = lines.evaluator.outcomes()
    clusters = {split: lines.number_clusters(split, outcome) for split, outcome in outcomes.items()}
    own = {split: _describe_star(outcome, clusters[split]) for split, outcome in outcomes.items()}
    notes = tuple(dict.fromkeys(lines.notes))
    log_warnings("star", notes)
    result = StarBarriers(
        ts=lines.grid,
        lines=tuple(found),
        star=own,
        runs=runs,
        samples={split: part.samples for split, part in own.items()},
        reference=asked.suite.reference,
        interventions=asked.suite.interventions,
        on=on,
        settings=to_plain({**lines.describe(), "fit": dict(fit)}),
        notes=notes,
        seconds=time.perf_counter() - started,
        environment=read_environment(str(lines.evaluator.network.device)),
        tolerance=tolerance,
        clusters={split: len(numbers.unique()) for split, numbers in clusters.items() if numbers is not None},
    )
    if not result.splits:
        raise ValueError("no split of the suite has an accuracy under this loss; pass on='loss'")
    return result


@dataclass(eq=False)
class StarLines:
    """The lines around a star.

    Attributes:
        evaluator: of the star.
        held_out: name -> held-out run.
        sources: name -> source that is measured too.
        points: name -> point of either.
        notes: what came up.
    """

    asked: StarProblem
    evaluator: Evaluator = field(init=False)
    held_out: dict[str, nn.Module] = field(init=False)
    sources: dict[str, nn.Module] = field(init=False)
    points: dict[str, Point] = field(init=False)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        asked = self.asked
        if asked.align is not None:
            check_method(asked.align, "align")
        elif asked.symmetry is not None:
            raise ValueError("symmetry= has no effect with align=None; leave one of both out")
        self.grid = check_grid(asked.ts)
        if len(self.grid) < LEAST_POINTS:
            raise ValueError("ts must have a point between both ends, where barriers are, got 0 and 1; pass ts=11")
        self.held_out = list_networks("held_out", "run", asked.held_out)
        self.sources = name_sources(asked.sources, asked.known)
        _check_runs(self.held_out, self.sources, asked.known, hash_weights(asked.model))
        self.evaluator = Evaluator(
            asked.model, asked.suite, loss=asked.loss, cluster=asked.cluster, seed=asked.seed,
            compute=asked.compute.without_progress(),
        )  # fmt: skip
        self.norm = resolve_norm(asked.norm, self.evaluator.network)
        self.points = self._read_points({**self.held_out, **self.sources})
        self.symmetry = None if asked.align is None else self._prove_symmetry(asked.align)
        if len(self.held_out) < LEAST_UNITS:
            self.notes.append(
                f"{len(self.held_out)} held-out runs give no interval, so no verdict; hold out {LEAST_UNITS} or more"
            )

    def walk(self, runs: Mapping[str, EndMeans]) -> list[StarLine]:
        """Every line, in the order of the groups; `runs` says what the held-out runs do."""
        between = self._take_pairs(runs)
        asked = list[tuple[LineGroup, str, str]]()
        asked.extend(("held-out", STAR, name) for name in self.held_out)
        asked.extend(("source", STAR, name) for name in self.sources)
        asked.extend(("pair", a, b) for a, b in combinations(self.held_out, 2) if not between)
        found = list[StarLine]()
        for number, (group, a, b) in enumerate(asked, start=1):
            found.append(self._walk_line(group, a, b))
            self.asked.compute.report("evaluating lines around the star", number, len(asked))
        return [*found, *between]

    def _take_pairs(self, runs: Mapping[str, EndMeans]) -> list[StarLine]:
        """The lines between held-out runs where they were walked before.

        Raises:
            ValueError: they are of other runs, splits or settings.
        """
        between = self.asked.between
        if between is None:
            return []
        check_is("between", between, StarBarriers, "; pass what barriers(...) gave for another star")
        own, other = self.describe(), between.settings
        unlike = [name for name in own if name != "sources" and to_plain(own[name]) != to_plain(other.get(name))]
        unlike += ["ts"] if between.ts != self.grid else []
        unlike += ["rows"] if not unlike and dict(between.runs) != dict(runs) else []
        if unlike:
            raise ValueError(
                f"between holds lines of other {', '.join(unlike)}; pass barriers to the same held-out runs, measured "
                "alike, or leave it out"
            )
        return [line for line in between.lines if line.group == "pair"]

    def read_means(self, name: str) -> EndMeans:
        """What a held-out run does, as saved."""
        found = {split: compute_means(own) for split, own in self.evaluator.outcomes(self.points[name]).items()}
        accuracy = {split: means["accuracy"] for split, means in found.items() if "accuracy" in means}
        return EndMeans({split: means["loss"] for split, means in found.items()}, accuracy)

    def number_clusters(self, split: str, found: Outcomes) -> Tensor | None:
        """The number of the cluster of each row of a split; None where rows are independent."""
        return self.evaluator.number_clusters(split, len(found.loss), found.counted)

    def describe(self) -> dict[str, Any]:
        """Everything needed to repeat it."""
        align = self.asked.align
        return {
            "align": "none" if align is None else align.describe(),
            "symmetry": None if self.symmetry is None else describe_symmetry(self.symmetry),
            "norm": self.norm.describe(),
            "ignore": list(self.asked.ignore),
            "held_out": {name: hash_weights(model) for name, model in self.held_out.items()},
            "sources": list(self.sources),
            "splits": list(self.asked.suite),
            **self.evaluator.settings,
        }

    def _walk_line(self, group: LineGroup, a: str, b: str) -> StarLine:
        start = self.evaluator.saved if a == STAR else self.points[a]
        end = self._move(a, b)
        profile = evaluate_line(self.evaluator, LinearPath(start, end), self.grid, self.norm, False, lambda done: None)
        self.notes += [f"{a} to {b}: {shift}" for shift in profile.shifted_ends()]
        if end is not self.points[b]:
            self.evaluator.forget(end)
        return StarLine(group, a, b, profile.loss, profile.accuracy)

    def _move(self, a: str, b: str) -> Point:
        """The point of b with its units moved onto a's."""
        asked, align = self.asked, self.asked.align
        if align is None or self.symmetry is None:
            return self.points[b]
        modules = {STAR: asked.model, **self.held_out, **self.sources}
        pair = make_pair(modules[a], modules[b], self.symmetry, asked.seed, asked.compute.without_progress())
        element = align.match(pair).element
        own = self.points[b]
        state = {name: own.buffers[name] if name in own.buffers else t for name, t in modules[b].state_dict().items()}
        state = self.symmetry.apply(state, element)
        buffers = {name: state[name] if name in state else tensor for name, tensor in own.buffers.items()}
        moved = Point({name: state[name] for name in own.params}, buffers, own.origin)
        self.evaluator.take_for_same(moved, self.points[b])
        return moved

    def _prove_symmetry(self, align: AlignmentMethod) -> Symmetry:
        """What may be moved, proved on a held-out run."""
        first = next(iter(self.held_out.values()))
        learned = align.optimised_on()
        same = [] if learned is None else [s for s, rows in self.asked.suite.items() if share_known_rows(learned, rows)]
        if same:
            self.notes.append(
                f"barriers are judged on rows on which the alignment was optimised, in {', '.join(same)}: they are too "
                "low there; align on other rows"
            )
        symmetry = prove_star_symmetry(first, self.asked.symmetry, self.evaluator.example, self.asked.seed)
        fitted = self.asked.fitted
        if self.asked.symmetry is None and fitted is not None and describe_symmetry(symmetry) != to_plain(fitted):
            raise ValueError(
                f"the star was fitted under a symmetry of its own ({', '.join(fitted['kinds'])}), which files of stars "
                "do not hold; pass it, symmetry=, or put it back, dataclasses.replace(star, symmetry=symmetry)"
            )
        return symmetry

    def _read_points(self, models: Mapping[str, nn.Module]) -> dict[str, Point]:
        """The points of all networks, once each is the star's module with other parameters and statistics."""
        ignore, evaluator = self.asked.ignore, self.evaluator
        for name, model in models.items():
            check_finite_weights(f"run {name!r}", model)
        names = [f"run {name!r}" for name in models]
        own, *points = as_points(["the star", *names], [self.asked.model, *models.values()], ignore)
        for name, model, point in zip(names, models.values(), points, strict=True):
            check_joined(
                (self.asked.model, model), (evaluator.network, Network(model, evaluator.compute)), (own, point),
                lambda: evaluator.example, ignore=ignore, names=("the star", name),
            )  # fmt: skip
        return dict(zip(models, points, strict=True))


def _check_runs(
    held_out: Mapping[str, nn.Module], sources: Mapping[str, nn.Module], known: Mapping[str, str], star: str
) -> None:
    """Raise unless held-out runs are two or more different networks, neither sources nor the star.

    `known` and `star` are hashes of weights.
    """
    if len(held_out) < 2:
        raise ValueError(f"barriers need two held-out runs or more, got {len(held_out)}; hold out three for intervals")
    taken = {weights: f"is the source {name!r} of the star" for name, weights in known.items()}
    taken |= {star: "is the star itself"}
    seen: dict[str, str] = {}
    for name, model in held_out.items():
        if name in sources:
            raise ValueError(f"the held-out run {name!r} has the name of another network; rename it")
        weights = hash_weights(model)
        if weights in taken:
            raise ValueError(
                f"the held-out run {name!r} {taken[weights]}; hold out runs of the recipe that it was not fitted on"
            )
        if weights in seen:
            raise ValueError(f"the held-out runs {seen[weights]!r} and {name!r} are one network; leave one out")
        seen[weights] = name


def _describe_star(found: Outcomes, clusters: Tensor | None) -> StarOnSplit:
    """The star on one split, with intervals over its rows, or over their clusters."""
    loss_interval = _bound_loss(found.loss, clusters)
    if found.answers is None:
        return StarOnSplit(found.mean_loss, loss_interval, None, None, len(found.loss))
    interval = _bound_accuracy(found.correct, found.answers.each == "rows", clusters)
    return StarOnSplit(found.mean_loss, loss_interval, found.accuracy, interval, len(found.loss))


def _bound_loss(loss: Tensor, clusters: Tensor | None) -> Interval | None:
    if clusters is not None:
        return cluster_mean_interval(total_clusters(loss, clusters), None, max(1.0, float(loss.abs().max())), 0.95)
    return t_interval(compute_moments(loss.double())) if len(loss) > 1 else None


def _bound_accuracy(right: Tensor, whole: bool, clusters: Tensor | None) -> Interval:
    """Exact where rows are right or not; of shares of a row, and over clusters, by betting."""
    if clusters is not None:
        return cluster_mean_interval(total_clusters(right.double(), clusters), (0.0, 1.0), 1.0, 0.95)
    if whole:
        return clopper_pearson(float(right.sum()), len(right))
    return betting_interval(right.double().cpu().numpy(), (0.0, 1.0))
