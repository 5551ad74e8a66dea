"""Measuring to which interventions a model is invariant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from mechconn.connectivity import Evaluator, Until, check_until
from mechconn.core import (
    Compute,
    PerSampleLoss,
    Progress,
    check_choice,
    check_is,
    check_positive,
    log_warnings,
    resolve_compute,
)
from mechconn.datasets import Clusters, ModelOutputs, Suite, check_label_names, represent_on_suite
from mechconn.losses import cross_entropy
from mechconn.mechanisms._difference_evidence import DifferenceEvidence
from mechconn.mechanisms._effect_evidence import collect_evidence, join_sides
from mechconn.mechanisms._effects import CONFIDENCE, Change, Effect, Invariance, On
from mechconn.mechanisms._invariance_notes import (
    explain_uninformative,
    note_linked,
    note_probabilities,
    note_random_content,
    note_without_bounds,
)
from mechconn.mechanisms._judge import Judgement, judge_family
from mechconn.mechanisms._observational import (
    can_pair,
    compares_within_classes,
    compute_change_by_class,
    is_observational,
    list_cautions,
)
from mechconn.mechanisms._outcomes import (
    ModelOutcome,
    SplitOutcome,
    explain_undefined_loss,
    measure_outcome,
)
from mechconn.mechanisms._over_clusters import RowValues
from mechconn.mechanisms._read_notes import note_rows_read
from mechconn.mechanisms._row_means import (
    compute_by_class,
    compute_change,
    compute_means,
    compute_share,
)
from mechconn.mechanisms._until_settled import check_settles, measure_settled
from mechconn.network import Metric, check_metrics


def measure_invariance(
    model: nn.Module | ModelOutputs,
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
) -> Invariance:
    """The effect of every intervention of a suite on a model, with intervals and a verdict by equivalence.

    The verdicts on all interventions of the suite are right together with probability 95 % at least: an intervention
    is called invariant (or sensitive) only when the interval of its effect lies within the margin (or outside) at the
    level that Holm's correction gives it, on the lower and the upper bounds by themselves. Failing to see an
    effect never makes a model invariant.

    The model is evaluated with its own normalisation statistics. Effects are paired where two splits carry the
    same labels in the same order, else unpaired. (The interval is valid whether or not the rows show the same sample,
    and narrow where they do; on how many rows predictions change is said only where they are known to,
    `Suite(paired=)`.)
    Where the accuracy is of one model that always gives one class, or not above the share of the commonest class,
    "invariant" carries that it says nothing about what the model uses. Intervals are exact on accuracy, Student's
    t on loss, which a skewed loss and few rows make approximate. Where no row's loss moves at all, the interval of the
    loss is what the rows may have missed: +- b s, with s the exact upper bound of the share of rows that move, and b
    the largest loss seen, or 1 where that is larger.

    Two splits of `split_by_agreement` are compared within classes: the effect is the mean over classes, each of equal
    weight, of the difference on the rows of that class. Its interval is melded from the exact ones of the classes (on
    accuracy), holds for every distribution (on a metric with bounds), or is Welch's t with all classes' spreads. That
    comparison, and one of two splits of `split_by_group`, is observational and never paired; `Effect.observational`
    and `notes` say so.

    Where the suite holds several draws of an intervention (`Suite(redraws=...)`), each row counts with its mean over
    them, so that no verdict hangs on the luck of one. The interval of the accuracy is then that of gains and losses of
    whole rows with the same sum and sum of squares. It is wider than Student's t and no longer exact by proof; where
    its error was computed, it stayed below what is stated (`benchmarks/coverage_over_draws.py`).

    With `cluster`, rows of one cluster may depend on each other in any way, clusters are independent draws, and the
    effect stays that on the mean over rows. Intervals are then by betting over clusters on accuracy and on metrics with
    bounds, which holds for every distribution where the largest size of a cluster is known before the data are (the
    largest in the data stands for it), and Student's t over clusters on the rest, which is too narrow where clusters
    are few and of unequal sizes (`benchmarks/coverage_over_clusters.py`).

    Args:
        model: any network, or its outputs (`load_outputs`); it stays as it is. With on="accuracy" its task must be a
            classification.
        suite: the reference and its counterfactuals.
        margin: the largest effect that counts as none, in accuracy (0.05 is five points), in loss, or in the metric.
        on: "accuracy", "loss", or the name of a metric.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`, which also decides what is a
            classification.
        metrics: name -> one value per sample from (outputs, targets), or a `Metric` that also has bounds. Effects on
            them stand beside those on accuracy and loss. With bounds their intervals hold for every distribution
            (betting); without they are Student's t, which is approximate.
        cluster: a label for each row (numbers or text), where rows come in clusters, such as patients or scenes, that
            may depend on each other within one; the same for every split of that many rows, or {split: labels}.
            Labels of the data that `split_by_agreement` or `split_by_group` divided stand for the rows selected.
            Intervals are then over clusters; None: rows are independent.
        until: "end" reads all rows; "settled" reads rows in random order until every verdict is settled. The verdicts
            are right together with the same probability, whenever reading stops; of the loss and of metrics without
            bounds there are means, and no intervals. `notes` say how many rows were read, and what that does to
            estimates. Batches that cannot be read by index, as of a loader, are read in their order.
        seed: of layers and loaders that draw from global generators, and of the order of rows.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts splits, or looks.

    Raises:
        ValueError: a margin of zero or less, or on accuracy of 1 or more, an unknown `on`, targets that are not of the
            loss (the one to pass is named), data that are empty or not finite, outputs that hold
            NaN, on="accuracy" where the task is no classification, on="loss" where a split has one row or a loss that
            is not finite (a probability of exactly 0 for the true class), a comparison within classes where one split
            lacks a class; another number of cluster labels than rows, a split of fewer than two clusters; with
            until="settled" `on` what has no bounds, or a loader that shuffles.

    Example:
        >>> identity = nn.Identity()
        >>> y = torch.arange(200) % 2
        >>> right, wrong = torch.eye(2)[y], torch.eye(2)[1 - y]
        >>> suite = Suite({"cue": (right, y), "rand_cue": (wrong, y), "rand_image": (right, y)})
        >>> found = measure_invariance(identity, suite)
        >>> {name: (effect.effect, effect.verdict) for name, effect in found.items()}
        {'rand_cue': (-1.0, 'sensitive'), 'rand_image': (0.0, 'invariant')}
        >>> first = measure_invariance(identity, suite, until="settled")
        >>> first.sensitive_to, first.invariant_to, dict(first.samples)
        (('rand_cue',), ('rand_image',), {'cue': 144, 'rand_cue': 64, 'rand_image': 144})

    Source: Lubana et al. 2023, definition of invariance; Schuirmann 1987 (equivalence by interval inclusion); Holm
    1979.
    """
    compute = resolve_compute(compute, device, progress)
    check_questions(suite, margin, on, check_metrics(metrics), until)
    check_label_names([("the model", model)], suite, loss)
    module, suite = represent_on_suite(model, suite)
    evaluator = Evaluator(module, suite, loss=loss, metrics=metrics, cluster=cluster, seed=seed, compute=compute)
    if until == "settled":
        outcome = measure_settled({"": evaluator}, margin, on, "measuring invariance")[""]
    else:
        outcome = measure_outcome(evaluator, on, partial(compute.report, "measuring invariance", total=len(suite)))
    return make_invariance(outcome, suite, margin, on)


def check_questions(suite: Suite, margin: float, on: str, metrics: Mapping[str, Metric], until: Until = "end") -> None:
    """Raise unless these can be asked."""
    check_is("suite", suite, Suite, "; build one with Suite({name: data, ...})")
    check_margin(margin, on, metrics)
    if check_until(until) == "settled":
        check_settles(on, metrics)


def check_margin(margin: float, on: str, metrics: Mapping[str, Metric]) -> None:
    """Raise unless effects can be measured on this, and some can be beyond the margin."""
    check_choice("on", on, ("accuracy", "loss", *metrics))
    check_positive("margin", margin)
    if on == "accuracy" and margin >= 1:
        raise ValueError(f"margin must be below 1 on accuracy, got {margin}; margins are shares: 0.05 is 5 points")
    bounds = None if on in ("accuracy", "loss") else metrics[on].bounds
    if bounds is not None and margin >= bounds[1] - bounds[0]:
        reach = bounds[1] - bounds[0]
        raise ValueError(f"margin must be below {reach:g}, the range of the metric {on!r}, got {margin}")


def make_invariance(
    outcome: ModelOutcome, suite: Suite, margin: float, on: On, judged: Mapping[str, Judgement] | None = None
) -> Invariance:
    """The result from one model's outcomes on every split; `judged` holds the judgements that a wider family gave."""
    splits, reference = outcome.splits, outcome.splits[suite.reference]
    shares = compute_means(outcome, "accuracy", [name for name, result in splits.items() if result.classified])
    means = {metric: compute_means(outcome, metric, splits) for metric in outcome.metrics}
    sides = join_sides(outcome, suite)
    evidence = collect_evidence(outcome, suite, on)
    judgements = judge_by_family(evidence, suite.interventions, margin) if judged is None else dict(judged)
    undefined = {name: explain_undefined_loss(f"split {name!r}", result) for name, result in splits.items()}
    losses = compute_means(outcome, "loss", [name for name, why in undefined.items() if not why])
    known = shares.get(suite.reference)
    clusters = {name: result.rows("loss").units for name, result in splits.items() if result.clusters is not None}
    uninformative = "" if known is None else explain_uninformative(suite.reference, reference, *known)
    effects = {
        name: add_caveat(
            _make_effect(name, *both, judgements[name], evidence[name], on, outcome, suite),
            uninformative,
        )
        for name, both in sides.items()
    }
    notes = (
        *filter(None, (*undefined.values(), note_probabilities(splits), note_without_bounds(outcome))),
        *note_linked(splits),
        *note_random_content(suite),
        *list_cautions(suite.reference, splits, effects, margin, on, outcome.bounds_on(on) is not None),
    )
    log_warnings("invariance", notes)
    return Invariance(
        effects=effects,
        accuracy={name: share for name, (share, _) in shares.items()},
        accuracy_interval={name: interval for name, (_, interval) in shares.items() if interval is not None},
        loss={name: losses[name][0] if name in losses else None for name in splits},
        loss_interval={name: losses[name][1] if name in losses else None for name in splits},
        samples={name: len(result.loss) for name, result in splits.items()},
        reference=suite.reference,
        interventions=suite.interventions,
        margin=margin,
        on=on,
        notes=(*note_rows_read([outcome], suite.reference), *notes),
        each=reference.each,
        metrics={m: {name: mean for name, (mean, _) in found.items()} for m, found in means.items()},
        metrics_interval={m: {name: interval for name, (_, interval) in found.items()} for m, found in means.items()},
        uninformative=uninformative,
        compute=outcome.compute,
        over="clusters" if reference.clusters is not None else "samples",
        clusters=clusters,
        loss_unit=outcome.loss_unit,
        available={name: known.total for name, known in outcome.read.items()},
    )


def add_caveat(effect: Effect, uninformative: str) -> Effect:
    """The effect with a caveat where it is invariant and that says nothing."""
    if not uninformative or effect.verdict != "invariant":
        return effect
    return replace(effect, caveat=f"says nothing about what it uses: {uninformative}")


def judge_by_family(
    evidence: Mapping[str, DifferenceEvidence], interventions: Iterable[str], margin: float
) -> dict[str, Judgement]:
    """The interventions judged together; every other split, reported only, by itself."""
    family = {name: evidence[name] for name in interventions}
    judgements = judge_family(family, margin)
    for name in evidence:
        if name not in family:
            judgements |= judge_family({name: evidence[name]}, margin)
    return judgements


def _make_effect(
    name: str,
    before: SplitOutcome,
    after: SplitOutcome,
    judgement: Judgement,
    evidence: DifferenceEvidence,
    on: On,
    outcome: ModelOutcome,
    suite: Suite,
) -> Effect:
    shared, confidence = suite.rows_shared(name), outcome.adjust(name, CONFIDENCE, suite.reference)
    paired, classified = can_pair(before, after), before.classified and after.classified
    whole = classified and before.each == "rows"
    if outcome.said_paired and not paired:
        raise ValueError(
            f"Suite(paired=True) says that rows of split {name!r} show those of the reference, but their targets "
            "or clusters differ; leave paired= out"
        )
    changed, changed_interval = (
        compute_share(RowValues(after.changed(before), after.clusters), confidence)
        if whole and shared
        else (None, None)
    )
    rows = len(after.loss)
    finite = bool(before.loss.isfinite().all() and after.loss.isfinite().all())
    own = Change(evidence.effect, judgement.interval, rows)

    def moved(what: On) -> Change:
        if what == on:
            return own
        if compares_within_classes(before, after):
            return compute_change_by_class(before, after, what, outcome, confidence)
        return compute_change(before.rows(what), after.rows(what), what, paired, outcome, confidence)

    return Effect(
        split=name,
        effect=evidence.effect,
        **vars(judgement),
        paired=paired,
        samples=rows,
        draws=len(after.draws),
        changed=changed,
        changed_interval=changed_interval,
        accuracy=moved("accuracy") if classified else None,
        loss=moved("loss") if finite else None,
        by_class=compute_by_class(before, after, on, paired, outcome, confidence) if whole else {},
        metrics={metric: moved(metric) for metric in outcome.metrics},
        same_rows=shared,
        observational=is_observational(before, after),
        clusters=None if after.clusters is None else evidence.units,
    )
