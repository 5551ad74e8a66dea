"""Merge several networks into one, and judge whether it may take their place."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mechconn.alignment import ManyAlignments
from mechconn.connectivity import Evaluator, Until
from mechconn.core import (
    Compute,
    PerSampleLoss,
    Progress,
    log_warnings,
    read_environment,
    resolve_compute,
)
from mechconn.datasets import Clusters, Suite, check_label_names, read_clusters, show_examples
from mechconn.losses import cross_entropy
from mechconn.mechanisms import (
    ModelOutcome,
    On,
    check_questions,
    compare_read_split,
    match_outcomes,
    measure_outcome,
    note_rows_read,
    rows_correspond,
)
from mechconn.merging._build_merged import build_merged
from mechconn.merging._far_base import note_far_base
from mechconn.merging._merge_alignment import Aligning, align_parents, check_alignment
from mechconn.merging._merge_mechanisms import compare_effects, find_fates, judge_together
from mechconn.merging._merge_method import MergeMethod, MergeProblem
from mechconn.merging._merge_parents import (
    check_method,
    check_one_module_each,
    check_parents,
    is_parent,
    make_problem,
    name_network,
)
from mechconn.merging._merge_rows import note_choosing_rows, refuse_choosing_rows
from mechconn.merging._merge_settled import MergeReading, NetworkReading, name_merged
from mechconn.merging._merge_verdict import (
    Better,
    Question,
    check_tolerance,
    choose_better,
    choose_splits,
    compute_power,
    judge_pairs,
)
from mechconn.merging._merged import Merged, MergeJudgement
from mechconn.network import (
    Metric,
    NormPolicy,
    Point,
    check_metrics,
    check_row_count,
    check_row_order,
    join_networks,
    resolve_norm,
)
from mechconn.plotting import Examples
from mechconn.symmetry import Symmetry

STAGE = "evaluating parents and merged networks"
MERGED = {"before": "the merged network", "after": "the network merged of the aligned parents"}


def merge(
    models: Mapping[str, nn.Module],
    method: MergeMethod,
    suite: Suite,
    *,
    base: nn.Module | None = None,
    align: Aligning | None = None,
    symmetry: Symmetry | None = None,
    norm: NormPolicy | None = None,
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
    """Merge networks into one, and judge whether it may take their place: not worse than any of them on any split.

    The merged network is worse than parent i on split s where its mean there is below the parent's by more than the
    tolerance (above it, on a loss): d_is < -tolerance, with d_is the mean over rows of merged minus parent. "yes" says
    that no d_is is, "no" that some d_is is; either is wrong with probability 5 % at most. The proof, and what is known
    of single parents and splits, stands in `mechconn.merging._merge_verdict`. Differences are taken on the same rows;
    their bounds are exact on accuracy, hold for every distribution on a metric with bounds and over clusters, and are
    Student's t on a loss, which is approximate.

    For each intervention the result says what becomes of what it changes: kept, lost, gained, averaged, or taken from
    one parent; see `MechanismFate`.

    The rows of the suite must have chosen nothing: rows that the method chose parents on are refused, and rows that
    the alignment or the normalisation statistics were taken from are noted, as far as the data show it.

    Args:
        models: name -> network, two or more: one module with different parameters and statistics; they stay as they
            are.
        method: how they are merged, such as `Mean()`.
        suite: the splits on which the merged network is judged; one without interventions gives the verdict alone.
        base: what the parents were fine-tuned from, for methods that merge changes.
        align: also merge the parents once they are in one order of units, and judge that network instead:
            `UniverseMatching()` or `MergeMany()`, (a method of pairs, the name of the parent that stays), or what
            `align_many` found for these networks.
        symmetry: as in `align`; default: found on the first rows of the reference split.
        norm: where normalisation statistics of the merged network come from; required when the models keep any.
        margin: the largest effect of an intervention that counts as none; see `measure_invariance`.
        tolerance: how much worse than a parent counts as none, in accuracy (0.01 is one point), loss, or the metric.
        on: "accuracy", "loss", or the name of a metric.
        better: of a metric, whether "higher" or "lower" values are better.
        splits: those that the verdict is over; default: every split of the suite. Leave out one on which being right is
            not wanted, such as "rand_image", where the cue alone tells the label.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        loss: one value per sample from (outputs, targets); see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`.
        until: "end" reads all rows, "settled" as many as settle every verdict on parents, merged networks and their
            mechanisms, with the same errors; see `measure_invariance`. All networks are then in memory at once.
        seed: of everything that is drawn, and of the order of rows.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where each model is.
        progress: short for `Compute(progress=...)`; counts networks, or looks.
        samples: whether the result holds the first samples of every split, which its page and its files show; False
            where they are private.

    Raises:
        ValueError: fewer than two networks, networks that are not one module (two are named), a tolerance below zero,
            a method without the base that it needs, rows of the suite that chose the parents, or as in
            `measure_invariance` (the network is named).

    Example:
        Two classifiers of one input, right where it is above 0 and above 2; their mean is right above 1.

        >>> import mechconn as mc
        >>> def above(limit):
        ...     model = nn.Linear(1, 2).requires_grad_(False)
        ...     _ = model.weight.copy_(torch.tensor([[0.0], [1.0]])), model.bias.copy_(torch.tensor([0.0, -limit]))
        ...     return model
        >>> x = torch.linspace(-4, 4, 1600)[:, None]
        >>> suite = Suite({"rows": (x, (x[:, 0] > 1).long())}, reference="rows")
        >>> found = merge({"a": above(0.0), "b": above(2.0)}, mc.Mean(), suite)
        >>> found.verdict, [round(pair.difference, 3) for pair in found.before.differences]
        ('yes', [0.125, 0.125])

    Source: Wortsman et al. 2022 (means of networks); Berger 1982 (intersection-union tests).
    """
    started = time.perf_counter()
    compute = resolve_compute(compute, device, progress)
    measured = check_metrics(metrics)
    check_questions(suite, margin, on, measured, until)
    check_tolerance(tolerance, on)
    given = check_parents(models)
    judged_splits = choose_splits(splits, suite)
    asked = Question(on, choose_better(on, better), tolerance, len(given) * len(judged_splits))
    check_method(method, base, align is not None)
    check_label_names([(f"model {name!r}", model) for name, model in given.items()], suite, loss)
    refuse_choosing_rows(method, suite)
    own = {"loss": loss, "metrics": metrics, "cluster": read_clusters(cluster, suite), "seed": seed}
    merging = _Merging(given, method, base, align, suite, judged_splits, asked, tuple(ignore), margin, own, compute)
    merging.check()
    policy = resolve_norm(norm, merging.first.network)
    built = merging.build(symmetry, policy)
    parents, networks = merging.read(built) if until == "settled" else merging.measure(built)
    judged, invariances = merging.judge(parents, networks, built)
    read = note_rows_read([*parents.values(), *networks.values()], suite.reference)
    notes = (
        *read,
        *merging.list_notes(),
        *note_choosing_rows(merging.aligned and merging.aligned.rows_of, norm, suite),
    )
    log_warnings("merge", notes)
    return Merged(
        names=tuple(given),
        method=method.describe(),
        parents=invariances,
        before=judged["before"],
        after=judged.get("after"),
        tolerance=tolerance,
        on=on,
        better=asked.better,
        power=compute_power(next(iter(parents.values())), judged_splits, asked),
        alignment=merging.aligned,
        norm=policy.describe(),
        notes=notes,
        settings={**merging.describe(policy, measured), "until": until},
        seconds=time.perf_counter() - started,
        environment=read_environment(str(merging.first.settings["device"])),
        examples=show_examples(suite) if samples else Examples(),
        model=list(built.values())[-1],
    )


@dataclass(eq=False)
class _Merging:
    """One merge under way: its parents, each with what evaluates it."""

    models: Mapping[str, nn.Module]
    method: MergeMethod
    base: nn.Module | None
    align: Aligning | None
    suite: Suite
    splits: tuple[str, ...]
    asked: Question
    ignore: tuple[str, ...]
    margin: float
    own: Mapping[str, Any]
    compute: Compute
    first: Evaluator = field(init=False)
    modules: dict[str, nn.Module] = field(init=False)
    problem: MergeProblem = field(init=False)
    parents: dict[str, Mapping[str, Point]] = field(init=False)
    aligned: ManyAlignments | None = None
    records: list[str] = field(default_factory=list)
    done: int = 0

    def __post_init__(self) -> None:
        joined = join_networks(list(self.models.values()))
        self.modules = dict(zip(self.models, (found.module for found in joined), strict=True))
        self.first = self._make_evaluator(next(iter(self.modules.values())))

    def check(self) -> None:
        """Refuse networks that are not one module, and parents that cannot be aligned as asked."""
        self.problem = self._make_problem(self.models)
        check_one_module_each(self.modules, self.problem.parents, self.first, self.ignore)
        if self.align is not None:
            check_alignment(self.align, self.models)

    def build(self, symmetry: Symmetry | None, norm: NormPolicy) -> dict[str, nn.Module]:
        """The merged networks, "before" and, where an alignment is asked for, "after"."""
        built = {"before": build_merged(self.method, self.problem, norm)}
        self.parents = {"before": self.problem.parents}
        self.records = [*self.problem.record.notes]
        if self.align is None:
            return built
        quiet = self.compute.without_progress()
        moved, self.aligned = align_parents(
            self.models, self.align, symmetry, self.first.example, self.ignore, self.own["seed"], quiet
        )
        problem = self._make_problem(moved)
        built["after"] = build_merged(self.method, problem, norm)
        self.parents["after"] = problem.parents
        self.records += [f"after alignment: {note}" for note in problem.record.notes]
        return built

    def measure(self, built: Mapping[str, nn.Module]) -> tuple[dict[str, ModelOutcome], dict[str, ModelOutcome]]:
        """The outcomes of every parent and merged network; of one at a time a copy is in memory."""
        first, *others = self.modules
        parents = {first: self._measure(f"model {first!r}", self.first)} | {
            name: self._measure(f"model {name!r}", self._make_evaluator(self.modules[name])) for name in others
        }
        return parents, {
            which: self._measure(MERGED[which], self._make_evaluator(model)) for which, model in built.items()
        }

    def _measure(self, what: str, evaluator: Evaluator) -> ModelOutcome:
        """The outcomes of one network on every split; a ValueError says of which."""
        total = len(self.models) + (1 if self.align is None else 2)
        self.compute.report(STAGE, self.done, total)
        with name_network(what):
            found = measure_outcome(evaluator, self.asked.on)
        self.done += 1
        self.compute.report(STAGE, self.done, total)
        return found

    def read(self, built: Mapping[str, nn.Module]) -> tuple[dict[str, ModelOutcome], dict[str, ModelOutcome]]:
        """The same on the rows that settle every verdict."""
        parents = {name: self._begin(f"model {name!r}", model) for name, model in self.modules.items()}
        networks = {which: self._begin(MERGED[which], model) for which, model in built.items()}
        reading = MergeReading(parents, networks, self._find_same(built), self.splits, self.asked, self.margin)
        return reading.read(STAGE)

    def _begin(self, what: str, model: nn.Module) -> NetworkReading:
        return NetworkReading(what, self._make_evaluator(model), self.asked.on, self.compute)

    def _find_same(self, built: Mapping[str, nn.Module]) -> dict[tuple[str, str], bool]:
        """(merged network, parent) -> whether they are one network."""
        return {
            (which, name): is_parent(model, self.parents[which][name])
            for which, model in built.items()
            for name in self.models
        }

    def judge(
        self, parents: Mapping[str, ModelOutcome], networks: Mapping[str, ModelOutcome], built: Mapping[str, nn.Module]
    ) -> tuple[dict[str, MergeJudgement], dict[str, Any]]:
        """What was found about each merged network, and the effects on the parents."""
        on, suite = self.asked.on, self.suite
        for outcome in networks.values():
            _check_rows(parents, outcome)
        names = {which: name_merged(which) for which in networks}
        every = judge_together(
            {**parents, **{names[which]: found for which, found in networks.items()}}, suite, self.margin, on
        )
        sides, same = {name: every[name] for name in parents}, self._find_same(built)
        found = {}
        for which, outcome in networks.items():
            differences = compare_effects(parents, outcome, suite, on, len(networks))
            evidence = {
                (name, split): compare_read_split(own, outcome, split, on)
                for name, own in parents.items()
                for split in self.splits
            }
            rows = [{split: len(own.splits[split].loss) for split in suite} for own in (outcome, *parents.values())]
            read = dict(zip(parents, rows[1:], strict=True))
            samples = {(name, split): min(rows[0][split], read[name][split]) for name, split in evidence}
            merged = every[names[which]]
            found[which] = MergeJudgement(
                judge_pairs(evidence, samples, {name: same[which, name] for name in parents}, self.asked),
                merged,
                find_fates(sides, merged, differences),
                self.asked.better,
            )
        return found, sides

    def list_notes(self) -> list[str]:
        """What the method, the base and the alignment want to be known."""
        aligned = () if self.aligned is None else self.aligned.notes
        return [*dict.fromkeys([*self.records, *note_far_base(self.problem), *aligned])]

    def describe(self, norm: NormPolicy, metrics: Mapping[str, Metric]) -> dict[str, Any]:
        """Everything needed to repeat it."""
        return {
            "method": self.method.describe(),
            "parents": list(self.models),
            "reference": self.suite.reference,
            "interventions": list(self.suite.interventions),
            "splits": list(self.splits),
            "margin": self.margin,
            "tolerance": self.asked.tolerance,
            "on": self.asked.on,
            "better": self.asked.better,
            "alignment": "none" if self.aligned is None else dict(self.aligned.settings),
            "norm": norm.describe(),
            "metrics": {name: metric.bounds for name, metric in metrics.items()},
            **self.first.settings,
        }

    def _make_problem(self, models: Mapping[str, nn.Module]) -> MergeProblem:
        return make_problem(
            models, self.base, self.ignore, self.first.loss, self.own["seed"], self.compute.without_progress()
        )

    def _make_evaluator(self, model: nn.Module) -> Evaluator:
        return Evaluator(model, self.suite, **self.own, compute=self.compute.without_progress())


def _check_rows(parents: Mapping[str, ModelOutcome], merged: ModelOutcome) -> None:
    """Raise unless every network was evaluated on the same rows in one order."""
    for name, outcome in parents.items():
        own, other = match_outcomes(outcome, merged)
        for split, result in own.splits.items():
            check_row_count(split, f"model {name!r}", len(other.splits[split].loss), len(result.loss))
            check_row_order(split, f"model {name!r}", rows_correspond(other.splits[split], result))
