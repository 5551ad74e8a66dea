"""Whether two models, or two sets of training runs, rely on the same mechanisms."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn

from mechconn.connectivity import Evaluator, Until
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
from mechconn.mechanisms._comparison import Agreement, Comparison, Difference, SimilarityVerdict
from mechconn.mechanisms._difference_evidence import (
    CountDifferenceBounds,
    bound_difference_over_runs,
    compare_accuracy_effects,
    compare_bounded_effects,
    compare_loss_effects,
)
from mechconn.mechanisms._effect_evidence import collect_evidence
from mechconn.mechanisms._effects import CONFIDENCE, Effect, Invariance, On
from mechconn.mechanisms._explain_similarity import are_opposite, explain_similarity
from mechconn.mechanisms._measure import check_questions, make_invariance
from mechconn.mechanisms._observational import can_pair, compares_within_classes, rows_correspond
from mechconn.mechanisms._outcomes import (
    ModelOutcome,
    SplitOutcome,
    join_clusters,
    match_outcomes,
    measure_outcome,
)
from mechconn.mechanisms._over_clusters import (
    RowValues,
    make_evidence_over_clusters,
    make_evidence_over_clusters_within,
)
from mechconn.mechanisms._reduction import compute_reductions, mirror_outcome, mix_outcomes
from mechconn.mechanisms._training_runs import combine_training_runs, list_effects
from mechconn.mechanisms._until_settled import ModelReading, settle_each
from mechconn.mechanisms._within_classes import compare_within
from mechconn.network import Metric, check_adapters_apart, check_metrics, check_row_count, check_row_order
from mechconn.stats import Interval, bound_count_difference

Measured: TypeAlias = nn.Module | ModelOutputs
Models: TypeAlias = Measured | Sequence[Measured]


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
    until: Until = "end",
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
        until: "end" reads all rows, "settled" as many as settle every verdict on both models; see `measure_invariance`.
            Of one model a side. Differences between the two are then of the rows that were read of both.
        seed: of layers and loaders that draw from global generators, and of the order of rows.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where each model is.
        progress: short for `Compute(progress=...)`; counts passes over a split, or looks.

    Raises:
        ValueError: one model against several, several until="settled", a suite without interventions, rows in another
            order for the second model, adapters of both in the same layers, or as in `measure_invariance`.

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
    check_questions(suite, margin, on, check_metrics(metrics), until)
    check_interventions("a comparison of mechanisms", suite.interventions)
    sides = [_list_models(model_a), _list_models(model_b)]
    counts = [len(side) for side in sides]
    if min(counts) < 1 or (min(counts) == 1 and max(counts) > 1):
        raise ValueError(
            f"got {counts[0]} of model_a and {counts[1]} of model_b; pass one model a side (judged over samples), "
            "or two or more training runs a side (judged over runs)"
        )
    if until == "settled" and max(counts) > 1:
        raise ValueError(
            f"until='settled' is for one model a side, got {counts[0]} and {counts[1]}: over training runs their "
            "spread decides, not the number of rows; use until='end'"
        )
    check_adapters_apart([model for side in sides for model in side if isinstance(model, nn.Module)])
    every = zip("AB", sides, strict=True)
    check_label_names([(f"a model of {side}", model) for side, models in every for model in models], suite, loss)
    run: dict[str, Any] = {"loss": loss, "metrics": metrics, "seed": seed, "compute": compute}
    run["cluster"] = read_clusters(cluster, suite)
    a, b = (
        [lambda model=model: Evaluator(*represent_on_suite(model, suite), **run) for model in models]
        for models in sides
    )
    if until == "settled":
        return compare_settled(read_pair(a[0](), b[0](), margin, on), suite, margin, on)
    return compare_evaluated(a, b, margin, on)


def read_pair(a: Evaluator, b: Evaluator, margin: float, on: On) -> tuple[ModelReading, ModelReading]:
    """Both models on the rows that settle every verdict on them."""
    first, second = ModelReading(a, on), ModelReading(b, on)
    settle_each({"A": first, "B": second}, margin, on, "comparing mechanisms")
    return first, second


def compare_settled(read: tuple[ModelReading, ModelReading], suite: Suite, margin: float, on: On) -> Comparison:
    """`compare_evaluated` of two models on the rows that have been read."""
    first, second = (reading.outcome for reading in read)
    of_a, of_b = (make_invariance(own, r.suite, margin, on) for own, r in zip((first, second), read, strict=True))
    apart = compare_over_samples(first, second, suite, on), partial(_add_over_samples, first, second, suite, on)
    known = [collect_evidence(own, suite, on) for own in match_outcomes(first, second)]
    effects = {name: (known[0][name].effect, known[1][name].effect) for name in known[0]}
    return _make_comparison(of_a, of_b, apart, ((of_a,), (of_b,)), effects)


def compare_evaluated(
    a: Sequence[Callable[[], Evaluator]], b: Sequence[Callable[[], Evaluator]], margin: float, on: On
) -> Comparison:
    """`compare_mechanisms` of networks that evaluators of one suite hold, one a side or several.

    Each is given as what makes its evaluator, so that of several runs one is in memory at a time.
    """
    done = 0

    def measure(make: Callable[[], Evaluator]) -> tuple[ModelOutcome, Invariance, Suite]:
        nonlocal done
        own = make()
        suite, steps = own.suite, (len(a) + len(b)) * len(own.suite)
        outcome = measure_outcome(
            own, on, lambda splits: own.compute.report("comparing mechanisms", done + splits, steps)
        )
        done += len(suite)
        return outcome, make_invariance(outcome, suite, margin, on), suite

    if max(len(a), len(b)) == 1:
        (first, of_a, suite), (second, of_b, _) = measure(a[0]), measure(b[0])
        apart = compare_over_samples(first, second, suite, on), partial(_add_over_samples, first, second, suite, on)
        return _make_comparison(of_a, of_b, apart, ((of_a,), (of_b,)))
    runs_a, runs_b = (tuple(measure(make)[1] for make in side) for side in (a, b))
    mean_a, mean_b = combine_training_runs(runs_a), combine_training_runs(runs_b)
    apart = _compare_over_runs(runs_a, runs_b), partial(_add_over_runs, runs_a, runs_b)
    return _make_comparison(mean_a, mean_b, apart, (runs_a, runs_b))


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
    effects: Mapping[str, tuple[float, float]] | None = None,
) -> Comparison:
    """The verdicts. `apart` is the differences by split, and what bounds the sum of a split's effects.

    `effects` are those on A and B on the rows that were read of both, where these are not all.
    """
    differences, add = apart
    sets: dict[str, Agreement] = {name: _compare_verdicts(a[name], b[name]) for name in a.interventions}
    opposite: dict[str, Agreement] = {name: "different" for name in sets if are_opposite(a[name], b[name])}
    agreement: dict[str, Agreement] = {**sets, **opposite}
    verdict = _judge_agreement(agreement.values())
    less = compute_reductions(a, b, {name: found.interval for name, found in differences.items()}, add, effects)
    return Comparison(
        verdict=verdict,
        why=explain_similarity(verdict, a, b, agreement),
        a=a,
        b=b,
        agreement=agreement,
        differences=differences,
        over=a.over,
        runs_a=runs[0],
        runs_b=runs[1],
        same_invariances=_judge_agreement(sets.values()),
        less=less,
    )


def _compare_verdicts(a: Effect, b: Effect) -> Agreement:
    if "undetermined" in (a.verdict, b.verdict):
        return "undetermined"
    return "same" if a.verdict == b.verdict else "different"


def _judge_agreement(agreement: Collection[Agreement]) -> SimilarityVerdict:
    if "different" in agreement:
        return "dissimilar"
    return "undetermined" if "undetermined" in agreement else "similar"


def compare_over_samples(
    a: ModelOutcome, b: ModelOutcome, suite: Suite, on: On, confidence: float = CONFIDENCE
) -> dict[str, Difference]:
    """Split -> how far its effects on two models lie apart, from the outcomes of both on the same rows.

    Raises:
        ValueError: the rows of some split came in another order for the second model.
    """
    a, b = match_outcomes(a, b)
    for name in a.splits:
        check_row_count(name, "model_b", len(a.splits[name].loss), len(b.splits[name].loss))
        check_row_order(name, "model_b", rows_correspond(a.splits[name], b.splits[name]))
    bounds, others = a.bounds_on(on), [name for name in a.splits if name != suite.reference]
    return {
        name: compare_effects(*_pair_sides(a, b, suite, name), on, bounds, a.adjust(name, confidence, suite.reference))
        for name in others
    }


def _pair_sides(
    a: ModelOutcome, b: ModelOutcome, suite: Suite, name: str
) -> tuple[tuple[SplitOutcome, SplitOutcome], tuple[SplitOutcome, SplitOutcome]]:
    """(the reference on A and B, a split on A and B), on the rows that were read of all."""
    of_a, of_b = (own.pair(suite.reference, name) for own in (a, b))
    return (of_a[0], of_b[0]), (of_a[1], of_b[1])


def compare_with_mixture(
    a: ModelOutcome,
    b: ModelOutcome,
    other: ModelOutcome,
    suite: Suite,
    on: On,
    weight: float,
    confidence: float = CONFIDENCE,
) -> dict[str, Difference]:
    """Split -> its effect on `other`, minus (1 - weight) times that on A and weight times that on B, within rows.

    Values of rows between 0 and 1 are no counts, so that bounds on accuracy are those by betting, for every
    distribution.

    Raises:
        ValueError: the rows of some split came in another order for one of the models.
    """
    for name in a.splits:
        for what, side in (("model_b", b), ("the other model", other)):
            check_row_count(name, what, len(a.splits[name].loss), len(side.splits[name].loss))
            check_row_order(name, what, rows_correspond(a.splits[name], side.splits[name]))
    bounds = (0.0, 1.0) if on == "accuracy" else a.bounds_on(on)
    mixed = {name: mix_outcomes(own, b.splits[name], weight) for name, own in a.splits.items()}
    before = mixed[suite.reference], other.splits[suite.reference]
    others = [name for name in mixed if name != suite.reference]
    return {name: compare_effects(before, (mixed[name], other.splits[name]), on, bounds, confidence) for name in others}


def _add_over_samples(a: ModelOutcome, b: ModelOutcome, suite: Suite, on: On, name: str) -> Interval:
    """The interval of the sum of the effects of one split on A and on B: B's less that on A mirrored."""
    bounds, (a, b) = a.bounds_on(on), match_outcomes(a, b)
    before, after = ((mirror_outcome(own, on, bounds), other) for own, other in _pair_sides(a, b, suite, name))
    return compare_effects(before, after, on, bounds, a.adjust(name, CONFIDENCE, suite.reference)).interval


def compare_effects(
    before: tuple[SplitOutcome, SplitOutcome],
    after: tuple[SplitOutcome, SplitOutcome],
    on: On,
    bounds: Interval | None,
    confidence: float = CONFIDENCE,
    bound: CountDifferenceBounds = bound_count_difference,
) -> Difference:
    """The effect on B minus that on A, from the outcomes of A and B on the reference and on another split.

    `bound` is used on the accuracy of rows that are independent.
    """
    first, second = (join_clusters(*sides) for sides in zip(before, after, strict=True))
    before, after = (first[0], second[0]), (first[1], second[1])
    if before[0].clusters is not None:
        return _compare_over_clusters(before, after, on, bounds, confidence)
    here, there = ((a.values(on), b.values(on)) for a, b in (before, after))
    if compares_within_classes(before[0], after[0]):
        labels = before[0].targets, after[0].targets
        return Difference(*compare_within(here, there, labels, on, bounds, confidence))
    paired = can_pair(before[0], after[0])
    if bounds is not None:
        return Difference(*compare_bounded_effects(here, there, paired, confidence, bounds))
    if on == "accuracy":
        return Difference(*compare_accuracy_effects(here, there, paired, confidence, bound))
    return Difference(*compare_loss_effects(here, there, paired, confidence))


def _compare_over_clusters(
    before: tuple[SplitOutcome, SplitOutcome],
    after: tuple[SplitOutcome, SplitOutcome],
    on: On,
    bounds: Interval | None,
    confidence: float,
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
    return Difference(evidence.effect, evidence.interval(confidence))


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
