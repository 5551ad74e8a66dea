"""Whether two models, or two sets of training runs, rely on the same mechanisms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from mechconn.core import PerSampleLoss, Progress, check_is
from mechconn.datasets import Clusters, Suite, check_interventions, check_label_names, read_clusters
from mechconn.losses import as_loss, cross_entropy
from mechconn.mechanisms._difference_evidence import (
    bound_difference_over_runs,
    compare_accuracy_effects,
    compare_bounded_effects,
    compare_loss_effects,
)
from mechconn.mechanisms._effects import CONFIDENCE, Invariance, On, Over
from mechconn.mechanisms._measure import check_questions, make_invariance
from mechconn.mechanisms._observational import can_pair, compares_within_classes, rows_correspond
from mechconn.mechanisms._outcomes import ModelOutcome, RunOptions, SplitOutcome, assign_clusters, measure_outcome
from mechconn.mechanisms._over_clusters import (
    RowValues,
    make_evidence_over_clusters,
    make_evidence_over_clusters_within,
)
from mechconn.mechanisms._training_runs import combine_training_runs, list_effects
from mechconn.mechanisms._within_classes import compare_within
from mechconn.network import Metric, Precision, check_metrics, check_row_count, check_row_order
from mechconn.stats import Interval, describe_clusters

SimilarityVerdict: TypeAlias = Literal["similar", "dissimilar", "undetermined"]
Agreement: TypeAlias = Literal["same", "different", "undetermined"]
Models: TypeAlias = nn.Module | Sequence[nn.Module]


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
        verdict: "similar" when every intervention is determined on both sides and I(a) = I(b); "dissimilar" when some
            intervention is invariant on one side and sensitive on the other; else "undetermined".
        why: the verdict's reason, a sentence that names the interventions.
        a: effects on A and what it is invariant to; over runs, of the mean over A's training runs.
        b: the same of B.
        agreement: intervention -> "same" (both invariant or both sensitive), "different", or "undetermined".
        differences: split -> how far its effects lie apart; no part of the verdict.
        over: what the intervals are over: "samples" of the data or "clusters" of these, for these two models, or
            training "runs", on these data.
        runs_a: each of A's models by itself, over samples.
        runs_b: each of B's.
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

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        sides = {"a": self.a.to_record(), "b": self.b.to_record()}
        runs = {side: [run.to_record() for run in getattr(self, side)] for side in ("runs_a", "runs_b")}
        differences = {split: asdict(difference) for split, difference in self.differences.items()}
        plain = {"verdict": self.verdict, "why": self.why, "over": self.over, "agreement": dict(self.agreement)}
        return {**plain, **sides, "differences": differences, **runs}

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.why}"]
        for split, apart in self.differences.items():
            low, high = apart.interval
            lines.append(
                f"  {split}: A {self.a[split].effect:+.4g} {self.a[split].verdict}, "
                f"B {self.b[split].effect:+.4g} {self.b[split].verdict}, "
                f"B - A {apart.effect:+.4g} (95 % interval {low:+.4g} to {high:+.4g})"
            )
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
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Comparison:
    """Whether A and B are invariant to the same interventions, I(theta_a) = I(theta_b).

    Either one model a side, or several training runs a side (other seeds of one recipe). One model a side is judged as
    `measure_invariance` does, over samples: the verdict is about these two models. Several are judged by Student's t
    interval of the mean effect over the runs: the verdict is about models trained like these, measured on
    these rows, whose own choice the interval leaves out. The claims about each side are right together with
    probability 95 % at least, so a verdict, which needs both sides, with 90 % at least.

    Effects of opposite sign are alike to this definition: both models are sensitive. `why` says so.

    Args:
        model_a: A, or a list of two or more runs of it; all stay as they are.
        model_b: B, or as many or other runs of it. The architecture may differ from A's.
        suite: the reference and its counterfactuals, with rows that come in one order every time.
        margin: the largest effect that counts as none, in accuracy, in loss, or in the metric.
        on: "accuracy", "loss", or the name of a metric.
        loss: one value per sample from (outputs, targets); see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`.
        seed: of layers and loaders that draw from global generators.
        device: where to compute; default: where each model is.
        precision: "float32" computes in the models' own type, "auto" in bfloat16 where the device is faster with it.
        progress: called with (message, passes over a split done, passes in all).

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

    Source: Lubana et al. 2023, definition of mechanistic similarity.
    """
    setting = RunOptions(as_loss(loss), seed, device, precision, check_metrics(metrics))
    check_questions(suite, margin, on, setting.metrics)
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
    steps, done, clusters = sum(counts) * len(suite), 0, read_clusters(cluster, suite)

    def measured(model: nn.Module) -> tuple[ModelOutcome, Invariance]:
        nonlocal done

        def report_progress(splits: int) -> None:
            if progress is not None:
                progress("comparing mechanisms", done + splits, steps)

        outcome = assign_clusters(measure_outcome(model, suite, on, setting, report_progress), clusters)
        done += len(suite)
        return outcome, make_invariance(outcome, suite, margin, on)

    if max(counts) == 1:
        (first, a), (second, b) = (measured(side[0]) for side in sides)
        return _make_comparison(a, b, _compare_over_samples(first, second, suite, on), (a,), (b,))
    runs_a, runs_b = (tuple(measured(model)[1] for model in side) for side in sides)
    a, b = combine_training_runs(runs_a), combine_training_runs(runs_b)
    return _make_comparison(a, b, _compare_over_runs(runs_a, runs_b), runs_a, runs_b)


def _list_models(models: Models) -> list[nn.Module]:
    listed: list[Any] = list(models) if isinstance(models, list | tuple) else [models]
    for model in listed:
        check_is("model", model, nn.Module)
    return listed


def _make_comparison(
    a: Invariance,
    b: Invariance,
    differences: Mapping[str, Difference],
    runs_a: tuple[Invariance, ...],
    runs_b: tuple[Invariance, ...],
) -> Comparison:
    agreement: dict[str, Agreement] = {n: _compare_verdicts(a[n].verdict, b[n].verdict) for n in a.interventions}
    found = set(agreement.values())
    verdict: SimilarityVerdict = "similar" if found == {"same"} else "undetermined"
    if "different" in found:
        verdict = "dissimilar"
    return Comparison(
        verdict, _explain_verdict(verdict, a, b, agreement), a, b, agreement, differences, a.over, runs_a, runs_b
    )


def _compare_verdicts(a: str, b: str) -> Agreement:
    if "undetermined" in (a, b):
        return "undetermined"
    return "same" if a == b else "different"


def _explain_verdict(
    verdict: SimilarityVerdict, a: Invariance, b: Invariance, agreement: Mapping[str, Agreement]
) -> str:
    """What decided, with every intervention that did."""
    parts = []
    for name, agreed in agreement.items():
        here, there = a[name], b[name]
        if verdict == "dissimilar" and agreed == "different":
            parts.append(f"A is {here.verdict} to {name} and B is {there.verdict} to it")
        elif verdict == "undetermined" and agreed == "undetermined":
            sides = [side for side, effect in (("A", here), ("B", there)) if effect.verdict == "undetermined"]
            parts.append(f"{name} is undetermined on {' and '.join(sides)}")
        elif verdict == "similar":
            opposite = here.verdict == "sensitive" and here.effect * there.effect < 0
            parts.append(f"both are {here.verdict} to {name}" + (", in opposite directions" if opposite else ""))
    for side, found in (("A", a), ("B", b)):
        if found.uninformative and found.invariant_to:
            parts.append(f"what {side} is invariant to says nothing about what it uses: {found.uninformative}")
    return "; ".join(parts)


def _compare_over_samples(a: ModelOutcome, b: ModelOutcome, suite: Suite, on: On) -> dict[str, Difference]:
    for name in a.splits:
        check_row_count(name, "model_b", len(a.splits[name].loss), len(b.splits[name].loss))
        check_row_order(name, "model_b", rows_correspond(a.splits[name], b.splits[name]))
    before, bounds = (a.splits[suite.reference], b.splits[suite.reference]), a.bounds_on(on)
    others = [name for name in a.splits if name != suite.reference]
    return {name: _compare_effects(before, (a.splits[name], b.splits[name]), on, bounds) for name in others}


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
    for name, effect in a[0].items():
        first, second = list_effects(a, name), list_effects(b, name)
        mean = sum(second) / len(second) - sum(first) / len(first)
        found[name] = Difference(
            mean, bound_difference_over_runs(first, second, a[0].clusters.get(name, effect.samples), CONFIDENCE)
        )
    return found
