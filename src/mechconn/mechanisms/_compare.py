"""Whether two models, or two sets of training runs, rely on the same mechanisms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from mechconn.connectivity import Evaluator
from mechconn.core import Compute, PerSampleLoss, Progress, check_is, resolve_compute
from mechconn.datasets import (
    Clusters,
    ModelOutputs,
    Suite,
    check_interventions,
    check_label_names,
    read_clusters,
    represent_on_suite,
)
from mechconn.losses import cross_entropy
from mechconn.mechanisms._difference_evidence import (
    bound_difference_over_runs,
    compare_accuracy_effects,
    compare_bounded_effects,
    compare_loss_effects,
)
from mechconn.mechanisms._effects import CONFIDENCE, Effect, Invariance, On, Over
from mechconn.mechanisms._headline import write_headline
from mechconn.mechanisms._measure import check_questions, make_invariance
from mechconn.mechanisms._observational import can_pair, compares_within_classes, rows_correspond
from mechconn.mechanisms._outcomes import ModelOutcome, SplitOutcome, measure_outcome
from mechconn.mechanisms._over_clusters import (
    RowValues,
    make_evidence_over_clusters,
    make_evidence_over_clusters_within,
)
from mechconn.mechanisms._reduction import Reduction, compute_reductions, mirror_outcome
from mechconn.mechanisms._training_runs import combine_training_runs, list_effects
from mechconn.mechanisms._within_classes import compare_within
from mechconn.network import Metric, check_metrics, check_row_count, check_row_order
from mechconn.stats import Interval, describe_clusters

SimilarityVerdict: TypeAlias = Literal["similar", "dissimilar", "undetermined"]
Agreement: TypeAlias = Literal["same", "different", "undetermined"]
Measured: TypeAlias = nn.Module | ModelOutputs
Models: TypeAlias = Measured | Sequence[Measured]


@dataclass(frozen=True)
class Difference:
    """How far the effects of one intervention on two models lie apart.

    Attributes:
        effect: the effect on B minus that on A, in accuracy or loss.
        interval: of it, at 95 % confidence, of this intervention by itself. Over samples both models are measured on
            the same rows, and the interval is over what differs within rows: exact on accuracy with one draw, t on
            loss. Over clusters: by betting on what has bounds, else t. Over runs it is Welch's t. Of splits that are
            compared within classes it is the difference of the means over classes.
    """

    effect: float
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """Two models' mechanisms side by side. `print(result)` sums it up.

    Attributes:
        verdict: "similar" when every intervention is invariant on both sides, or sensitive on both with effects of one
            sign; "dissimilar" when some intervention is invariant on one side and sensitive on the other, or sensitive
            on both with opposite signs; else "undetermined".
        why: the verdict's reason, a sentence that names the interventions.
        a: effects on A and what it is invariant to; over runs, of the mean over A's training runs.
        b: the same of B.
        agreement: intervention -> "same" (both invariant, or both sensitive with one sign), "different", or
            "undetermined".
        differences: split -> how far its effects lie apart; no part of the verdict.
        over: what the intervals are over: "samples" of the data or "clusters" of these, for these two models, or
            training "runs", on these data.
        runs_a: each of A's models by itself, over samples.
        runs_b: each of B's.
        same_invariances: the paper's verdict, I(a) = I(b): "similar" when every intervention is determined on both
            sides and the same ones are invariant, whatever the signs of the others; "dissimilar" when some
            intervention is invariant on one side and sensitive on the other; else "undetermined".
        less: split -> how much less B relies on it than A, for every split where A is sensitive.
        headline: what was found, in a sentence or a few, with the models called A and B.
    """

    verdict: SimilarityVerdict
    why: str
    a: Invariance
    b: Invariance
    agreement: Mapping[str, Agreement]
    differences: Mapping[str, Difference]
    over: Over
    runs_a: tuple[Invariance, ...]
    runs_b: tuple[Invariance, ...]
    same_invariances: SimilarityVerdict = "undetermined"
    less: Mapping[str, Reduction] = field(default_factory=dict)
    headline: str = ""

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        sides = {"a": self.a.to_record(), "b": self.b.to_record()}
        runs = {side: [run.to_record() for run in getattr(self, side)] for side in ("runs_a", "runs_b")}
        differences = {split: asdict(difference) for split, difference in self.differences.items()}
        less = {split: asdict(reduction) for split, reduction in self.less.items()}
        plain = {"headline": self.headline, "verdict": self.verdict, "same_invariances": self.same_invariances}
        told = {"why": self.why, "over": self.over, "agreement": dict(self.agreement)}
        return {**plain, **told, **sides, "differences": differences, "less": less, **runs}

    def __str__(self) -> str:
        lines = [self.headline, f"{self.verdict}: {self.why}"]
        for split, apart in self.differences.items():
            low, high = apart.interval
            lines.append(
                f"  {split}: A {self.a[split].effect:+.4g} {self.a[split].verdict}, "
                f"B {self.b[split].effect:+.4g} {self.b[split].verdict}, "
                f"B - A {apart.effect:+.4g} (95 % interval {low:+.4g} to {high:+.4g})"
            )
        lines += [f"  {reduction}" for reduction in self.less.values()]
        lines += [f"  {describe_clusters(self.a.clusters)}"] if self.over == "clusters" else []
        lines += [f"  note: {note}" for note in self.a.notes if note in self.b.notes]
        sides = (("A", self.a, self.b), ("B", self.b, self.a))
        lines += [
            f"  note on {side}: {note}" for side, own, other in sides for note in own.notes if note not in other.notes
        ]
        return "\n".join(lines)


def compare_mechanisms(
    model_a: Models,
    model_b: Models,
    suite: Suite,
    margin: float = 0.05,
    on: On = "accuracy",
    *,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Comparison:
    """Whether A and B respond alike to the same interventions: invariant to the same, sensitive with the same sign.

    Either one model a side, or several training runs a side (other seeds of one recipe). One model a side is judged as
    `measure_invariance` does, over samples: the verdict is about these two models. Several are judged by Student's t
    interval of the mean effect over the runs: the verdict is about models trained like these, measured on
    these rows, whose own choice the interval leaves out. The claims about each side are right together with
    probability 95 % at least, so a verdict, which needs both sides, with 90 % at least.

    The paper's definition, I(theta_a) = I(theta_b), takes effects of opposite sign for alike, since both models are
    sensitive: its verdict is `same_invariances`. To `verdict` they are dissimilar: a cue that helps one model and
    harms the other is not used in the same way.

    Args:
        model_a: A, or a list of two or more runs of it; all stay as they are. Each is a network, or the outputs of one
            (`load_outputs`).
        model_b: B, or as many or other runs of it. The architecture may differ from A's.
        suite: the reference and its counterfactuals, with rows that come in one order every time.
        margin: the largest effect that counts as none, in accuracy, in loss, or in the metric.
        on: "accuracy", "loss", or the name of a metric.
        loss: one value per sample from (outputs, targets); see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where each model is.
        progress: short for `Compute(progress=...)`; counts passes over a split.

    Raises:
        ValueError: one model against several, a suite without interventions, rows in another order for the second
            model, or as in `measure_invariance`.

    Example:
        >>> identity, constant = nn.Identity(), nn.Linear(2, 2)
        >>> constant = constant.requires_grad_(False)
        >>> _ = constant.weight.zero_(), constant.bias.copy_(torch.tensor([1.0, 0.0]))
        >>> y = torch.arange(200) % 2
        >>> suite = Suite({"cue": (torch.eye(2)[y], y), "rand_cue": (torch.eye(2)[1 - y], y)})
        >>> compare_mechanisms(identity, constant, suite).why.split("; ")[0]
        'A is sensitive to rand_cue and B is invariant to it'
        >>> found = compare_mechanisms(identity, constant, suite).less["rand_cue"]
        >>> found.of, found.amount, found.share  # A falls from 1 to 0, B stays at 1/2
        (1.0, 1.0, 1.0)

    Source: Lubana et al. 2023, definition of mechanistic similarity.
    """
    compute = resolve_compute(compute, device, progress)
    check_questions(suite, margin, on, check_metrics(metrics))
    check_interventions("a comparison of mechanisms", suite.interventions)
    sides = [_list_models(model_a), _list_models(model_b)]
    counts = [len(side) for side in sides]
    if min(counts) < 1 or (min(counts) == 1 and max(counts) > 1):
        raise ValueError(
            f"got {counts[0]} of model_a and {counts[1]} of model_b; pass one model a side (judged over samples), "
            "or two or more training runs a side (judged over runs)"
        )
    every = zip("AB", sides, strict=True)
    check_label_names([(f"a model of {side}", model) for side, models in every for model in models], suite)
    run: dict[str, Any] = {"loss": loss, "metrics": metrics, "seed": seed, "compute": compute}
    run["cluster"] = read_clusters(cluster, suite)
    a, b = (
        [lambda model=model: Evaluator(*represent_on_suite(model, suite), **run) for model in models]
        for models in sides
    )
    return compare_evaluated(a, b, margin, on)


def compare_evaluated(
    a: Sequence[Callable[[], Evaluator]], b: Sequence[Callable[[], Evaluator]], margin: float, on: On
) -> Comparison:
    """`compare_mechanisms` of networks that evaluators of one suite hold, one a side or several.

    Each is given as what makes its evaluator, so that of several runs one is in memory at a time.
    """
    done, unit = 0, ""

    def measured(make: Callable[[], Evaluator]) -> tuple[ModelOutcome, Invariance, Suite]:
        nonlocal done, unit
        own = make()
        suite, steps, unit = own.suite, (len(a) + len(b)) * len(own.suite), own.loss.unit
        outcome = measure_outcome(
            own, on, lambda splits: own.compute.report("comparing mechanisms", done + splits, steps)
        )
        done += len(suite)
        return outcome, make_invariance(outcome, suite, margin, on), suite

    if max(len(a), len(b)) == 1:
        (first, of_a, suite), (second, of_b, _) = measured(a[0]), measured(b[0])
        apart = _compare_over_samples(first, second, suite, on), partial(_add_over_samples, first, second, suite, on)
        return _make_comparison(of_a, of_b, apart, ((of_a,), (of_b,)), unit)
    runs_a, runs_b = (tuple(measured(make)[1] for make in side) for side in (a, b))
    mean_a, mean_b = combine_training_runs(runs_a), combine_training_runs(runs_b)
    apart = _compare_over_runs(runs_a, runs_b), partial(_add_over_runs, runs_a, runs_b)
    return _make_comparison(mean_a, mean_b, apart, (runs_a, runs_b), unit)


def _list_models(models: Models) -> list[Measured]:
    listed: list[Any] = list(models) if isinstance(models, list | tuple) else [models]
    for model in listed:
        if not isinstance(model, ModelOutputs):
            check_is("model", model, nn.Module)
    return listed


def _make_comparison(
    a: Invariance,
    b: Invariance,
    apart: tuple[Mapping[str, Difference], Callable[[str], Interval]],
    runs: tuple[tuple[Invariance, ...], tuple[Invariance, ...]],
    loss_unit: str,
) -> Comparison:
    """The verdicts. `apart` is the differences by split, and what bounds the sum of a split's effects."""
    differences, add = apart
    sets: dict[str, Agreement] = {name: _compare_verdicts(a[name], b[name]) for name in a.interventions}
    opposite: dict[str, Agreement] = {name: "different" for name in sets if _are_opposite(a[name], b[name])}
    agreement: dict[str, Agreement] = {**sets, **opposite}
    verdict = _judge_agreement(agreement.values())
    less = compute_reductions(a, b, {name: found.interval for name, found in differences.items()}, add)
    return Comparison(
        verdict=verdict,
        why=_explain_verdict(verdict, a, b, agreement),
        a=a,
        b=b,
        agreement=agreement,
        differences=differences,
        over=a.over,
        runs_a=runs[0],
        runs_b=runs[1],
        same_invariances=_judge_agreement(sets.values()),
        less=less,
        headline=write_headline(a, b, less, ("A", "B"), loss_unit),
    )


def _compare_verdicts(a: Effect, b: Effect) -> Agreement:
    if "undetermined" in (a.verdict, b.verdict):
        return "undetermined"
    return "same" if a.verdict == b.verdict else "different"


def _are_opposite(a: Effect, b: Effect) -> bool:
    """Whether both are sensitive with opposite signs; a sensitive verdict settles the sign."""
    return a.verdict == b.verdict == "sensitive" and a.effect * b.effect < 0


def _judge_agreement(agreement: Collection[Agreement]) -> SimilarityVerdict:
    if "different" in agreement:
        return "dissimilar"
    return "undetermined" if "undetermined" in agreement else "similar"


def _explain_verdict(
    verdict: SimilarityVerdict, a: Invariance, b: Invariance, agreement: Mapping[str, Agreement]
) -> str:
    """What decided, with every intervention that did."""
    parts = []
    for name, agreed in agreement.items():
        here, there = a[name], b[name]
        if verdict == "dissimilar" and agreed == "different":
            parts.append(_explain_difference(name, here, there))
        elif verdict == "undetermined" and agreed == "undetermined":
            sides = [side for side, effect in (("A", here), ("B", there)) if effect.verdict == "undetermined"]
            parts.append(f"{name} is undetermined on {' and '.join(sides)}")
        elif verdict == "similar":
            parts.append(f"both are {here.verdict} to {name}")
    for side, found in (("A", a), ("B", b)):
        if found.uninformative and found.invariant_to:
            parts.append(f"what {side} is invariant to says nothing about what it uses: {found.uninformative}")
    return "; ".join(parts)


def _explain_difference(name: str, a: Effect, b: Effect) -> str:
    if _are_opposite(a, b):
        return f"both are sensitive to {name}, in opposite directions"
    return f"A is {a.verdict} to {name} and B is {b.verdict} to it"


def _compare_over_samples(a: ModelOutcome, b: ModelOutcome, suite: Suite, on: On) -> dict[str, Difference]:
    for name in a.splits:
        check_row_count(name, "model_b", len(a.splits[name].loss), len(b.splits[name].loss))
        check_row_order(name, "model_b", rows_correspond(a.splits[name], b.splits[name]))
    before, bounds = (a.splits[suite.reference], b.splits[suite.reference]), a.bounds_on(on)
    others = [name for name in a.splits if name != suite.reference]
    return {name: _compare_effects(before, (a.splits[name], b.splits[name]), on, bounds) for name in others}


def _add_over_samples(a: ModelOutcome, b: ModelOutcome, suite: Suite, on: On, name: str) -> Interval:
    """The interval of the sum of the effects of one split on A and on B: B's less that on A mirrored."""
    bounds = a.bounds_on(on)
    before, after = ((mirror_outcome(a.splits[s], on, bounds), b.splits[s]) for s in (suite.reference, name))
    return _compare_effects(before, after, on, bounds).interval


def _compare_effects(
    before: tuple[SplitOutcome, SplitOutcome], after: tuple[SplitOutcome, SplitOutcome], on: On, bounds: Interval | None
) -> Difference:
    if before[0].clusters is not None:
        return _compare_over_clusters(before, after, on, bounds)
    here, there = ((a.values(on), b.values(on)) for a, b in (before, after))
    if compares_within_classes(before[0], after[0]):
        return Difference(*compare_within(here, there, (before[0].targets, after[0].targets), on, bounds))
    paired = can_pair(before[0], after[0])
    if bounds is not None:
        return Difference(*compare_bounded_effects(here, there, paired, CONFIDENCE, bounds))
    apart = compare_accuracy_effects if on == "accuracy" else compare_loss_effects
    return Difference(*apart(here, there, paired, CONFIDENCE))


def _compare_over_clusters(
    before: tuple[SplitOutcome, SplitOutcome], after: tuple[SplitOutcome, SplitOutcome], on: On, bounds: Interval | None
) -> Difference:
    """The difference within rows, then clusters; of values in a range of length r it lies in [-r, r]."""
    reach = 1.0 if on == "accuracy" else None if bounds is None else bounds[1] - bounds[0]
    gaps = [RowValues(b.values(on).double() - a.values(on).double(), a.clusters) for a, b in (before, after)]
    limits = None if reach is None else (-reach, reach)
    if compares_within_classes(before[0], after[0]):
        labels, what = (before[0].targets, after[0].targets), "the loss" if on == "loss" else repr(on)
        evidence = make_evidence_over_clusters_within(gaps[0], gaps[1], labels, limits, what)
    else:
        evidence = make_evidence_over_clusters(gaps[0], gaps[1], can_pair(before[0], after[0]), limits)
    return Difference(evidence.effect, evidence.interval(CONFIDENCE))


def _compare_over_runs(a: Sequence[Invariance], b: Sequence[Invariance]) -> dict[str, Difference]:
    found = {}
    for name in a[0]:
        first, second = list_effects(a, name), list_effects(b, name)
        mean = sum(second) / len(second) - sum(first) / len(first)
        found[name] = Difference(mean, bound_difference_over_runs(first, second, _count_units(a, name), CONFIDENCE))
    return found


def _add_over_runs(a: Sequence[Invariance], b: Sequence[Invariance], name: str) -> Interval:
    """The interval of the sum of the mean effects of one split on A's runs and on B's."""
    first = [-effect for effect in list_effects(a, name)]
    return bound_difference_over_runs(first, list_effects(b, name), _count_units(a, name), CONFIDENCE)


def _count_units(runs: Sequence[Invariance], name: str) -> int:
    """How many independent draws each run was measured on: clusters of rows, or rows."""
    return runs[0].clusters.get(name, runs[0][name].samples)
