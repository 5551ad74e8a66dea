"""Measuring to which interventions a model is invariant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from mechconn import _errors
from mechconn._audit._effects import CONFIDENCE, Change, Effect, Invariance, On
from mechconn._audit._evidence import Correct, Evidence, of_accuracy, of_loss
from mechconn._audit._judge import Judgement, judged
from mechconn._audit._outcomes import Drawn, Outcome, Setting, outcome_of, undefined_loss
from mechconn._audit._within_classes import change_within, evidence_within, opposed
from mechconn._checks import check_choice, check_is, check_positive
from mechconn._evaluate import per_sample_cross_entropy
from mechconn._intervals import Interval, clopper_pearson
from mechconn._interventions import Suite
from mechconn._observed import between
from mechconn._precision import Precision
from mechconn._typing import PerSampleLoss, Progress


def measure_invariance(
    model: nn.Module,
    suite: Suite,
    margin: float = 0.05,
    on: On = "accuracy",
    *,
    loss: PerSampleLoss = per_sample_cross_entropy,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Invariance:
    """The effect of every intervention of a suite on a model, with intervals and a verdict by equivalence.

    The verdicts on all interventions of the suite are right together with probability 95 % at least: an intervention
    is called invariant (or sensitive) only when the interval of its effect lies within the margin (or outside) at the
    level that Holm's correction gives it, on the lower and the upper bounds by themselves. Failing to see an
    effect never makes a model invariant.

    The model is evaluated with its own normalisation statistics. Effects are paired where two splits carry the
    same labels in the same order, else unpaired. (Equal labels stand for corresponding rows: the interval is valid
    whether or not the rows show the same sample, and narrow where they do.) Intervals are exact on accuracy, Student's
    t on loss, which a skewed loss and few rows make approximate. Where no row's loss moves at all, the interval of the
    loss is what the rows may have missed: +- b s, with s the exact upper bound of the share of rows that move, and b
    the largest loss seen, or 1 where that is larger.

    Two splits of `split_by_agreement` are compared within classes: the effect is the mean over classes, each of equal
    weight, of the difference on the rows of that class. Its interval is melded from the exact ones of the classes (on
    accuracy), or Welch's t with all classes' spreads (on loss). That comparison, and one of two splits of
    `split_by_group`, is observational and never paired; `Effect.observational` and `notes` say so.

    Where the suite holds several draws of an intervention (`Suite(redraws=...)`), each row counts with its mean over
    them, so that no verdict hangs on the luck of one. The interval of the accuracy is then that of gains and losses of
    whole rows with the same sum and sum of squares. It is wider than Student's t and no longer exact by proof; where
    its error was computed, it stayed below what is stated (`benchmarks/coverage_over_draws.py`).

    Args:
        model: any network; it stays as it is. With on="accuracy" its task must be a classification.
        suite: the reference and its counterfactuals.
        margin: the largest effect that counts as none, in accuracy (0.05 is five points) or in loss.
        on: "accuracy" or "loss".
        loss: one value per sample from (outputs, targets).
        seed: of layers and loaders that draw from global generators.
        device: where to compute; default: where the model is.
        precision: "float32" computes in the model's own type, "auto" in bfloat16 where the device is faster with it.
        progress: called with (message, splits done, splits in all).

    Raises:
        ValueError: a margin of zero or less, an unknown `on`, data that are empty or not finite, outputs that hold
            NaN, on="accuracy" where the task is no classification, on="loss" where a split has one row or a loss that
            is not finite (a probability of exactly 0 for the true class), a comparison within classes where one split
            lacks a class.

    Example:
        >>> identity = nn.Identity()
        >>> y = torch.arange(200) % 2
        >>> right, wrong = torch.eye(2)[y], torch.eye(2)[1 - y]
        >>> suite = Suite({"cue": (right, y), "rand_cue": (wrong, y), "rand_image": (right, y)})
        >>> found = measure_invariance(identity, suite)
        >>> {name: (effect.effect, effect.verdict) for name, effect in found.items()}
        {'rand_cue': (-1.0, 'sensitive'), 'rand_image': (0.0, 'invariant')}

    Source: Lubana et al. 2023, definition of invariance; Schuirmann 1987 (equivalence by interval inclusion); Holm
    1979.
    """
    setting = Setting(loss, seed, device, precision)
    check_questions(suite, margin, on)

    def told(done: int) -> None:
        if progress is not None:
            progress("measuring invariance", done, len(suite))

    return invariance_of(outcome_of(model, suite, on, setting, told), suite, margin, on)


def check_questions(suite: Suite, margin: float, on: str) -> None:
    """Raise unless these can be asked."""
    check_is("suite", suite, Suite, "; build one with Suite({name: data, ...})")
    check_positive("margin", margin)
    check_choice("on", on, ("accuracy", "loss"))


def invariance_of(outcome: Outcome, suite: Suite, margin: float, on: On) -> Invariance:
    """The result from one model's outcomes on every split."""
    splits, reference = outcome.splits, outcome.splits[suite.reference]
    others = {name: result for name, result in splits.items() if name != suite.reference}
    shares = {name: _share(result.correct) for name, result in splits.items() if result.classified}
    evidence = {name: evidence_of(name, reference, result, on) for name, result in others.items()}
    judgements = judged_by_family(evidence, suite.interventions, margin)
    undefined = {name: undefined_loss(f"split {name!r}", result) for name, result in splits.items()}
    effects = {
        name: _effect(name, reference, result, judgements[name], evidence[name], on) for name, result in others.items()
    }
    return Invariance(
        effects=effects,
        accuracy={name: share for name, (share, _) in shares.items()},
        accuracy_interval={name: interval for name, (_, interval) in shares.items()},
        loss={name: None if undefined[name] else float(result.loss.mean()) for name, result in splits.items()},
        samples={name: len(result.loss) for name, result in splits.items()},
        reference=suite.reference,
        interventions=suite.interventions,
        margin=margin,
        on=on,
        precision=outcome.number_type,
        notes=(*filter(None, undefined.values()), *_cautions(suite.reference, splits, effects, margin, on)),
    )


def _cautions(
    reference: str, splits: Mapping[str, Drawn], effects: Mapping[str, Effect], margin: float, on: On
) -> Iterator[str]:
    """What observational comparisons cannot show, and what a mean over classes hides."""
    notes: dict[str, list[str]] = {}
    for name in effects:
        if observed := between(splits[reference].observed, splits[name].observed):
            notes.setdefault(observed.note, []).append(repr(name))
    for note, names in notes.items():
        yield f"{', '.join(names)} against {reference!r}: {note}"
    within = {name: effect for name, effect in effects.items() if within_classes(splits[reference], splits[name])}
    if within and on == "loss":
        names = ", ".join(map(repr, within))
        yield f"intervals of the loss within classes are Welch's t, which is approximate: {names}"
    for name, effect in within.items():
        if why := opposed(effect.by_class, margin):
            yield f"{name!r} against {reference!r}: {why}"


def judged_by_family(
    evidence: Mapping[str, Evidence], interventions: Iterable[str], margin: float
) -> dict[str, Judgement]:
    """The interventions judged together; every other split, which decides nothing, by itself."""
    family = {name: evidence[name] for name in interventions}
    judgements = judged(family, margin)
    for name in evidence:
        if name not in family:
            judgements |= judged({name: evidence[name]}, margin)
    return judgements


def evidence_of(name: str, before: Drawn, after: Drawn, on: On) -> Evidence:
    """What two splits say of the effect on accuracy or loss."""
    if on == "loss" and min(len(before.loss), len(after.loss)) < 2:
        raise ValueError(_errors.ONE_ROW.format(name=name))
    if within_classes(before, after):
        return evidence_within(_labelled(before, on), _labelled(after, on), on)
    return _difference(values_of(before, on), values_of(after, on), on, are_paired(before, after))


def _labelled(result: Drawn, on: On) -> tuple[Tensor, Tensor]:
    return values_of(result, on), result.targets


def values_of(result: Drawn, on: On) -> Tensor:
    return result.correct if on == "accuracy" else result.loss


def _difference(before: Tensor, after: Tensor, on: On, paired: bool) -> Evidence:
    return of_accuracy(before, after, paired) if on == "accuracy" else of_loss(before, after, paired)


def rows_correspond(before: Drawn, after: Drawn) -> bool:
    """Equal labels in one order stand for corresponding rows."""
    return torch.equal(before.targets, after.targets)


def are_paired(before: Drawn, after: Drawn) -> bool:
    """Whether a split may be an intervention on the rows of another; other rows chosen by observation are not."""
    return between(before.observed, after.observed) is None and rows_correspond(before, after)


def within_classes(before: Drawn, after: Drawn) -> bool:
    """Whether two splits are compared class by class."""
    observed = between(before.observed, after.observed)
    return observed is not None and observed.within_classes


def _effect(name: str, before: Drawn, after: Drawn, judgement: Judgement, evidence: Evidence, on: On) -> Effect:
    paired, classified = are_paired(before, after), before.classified and after.classified
    changed, changed_interval = _share(after.changed(before)) if paired and classified else (None, None)
    rows = len(after.loss)
    finite = bool(before.loss.isfinite().all() and after.loss.isfinite().all())
    own = Change(evidence.effect, judgement.interval, rows)

    def moved(what: On) -> Change:
        if within_classes(before, after):
            return change_within(_labelled(before, what), _labelled(after, what), what)
        return _change(values_of(before, what), values_of(after, what), what, paired)

    return Effect(
        split=name,
        effect=evidence.effect,
        **vars(judgement),
        paired=paired,
        samples=rows,
        draws=len(after.draws),
        changed=changed,
        changed_interval=changed_interval,
        accuracy=own if on == "accuracy" else moved("accuracy") if classified else None,
        loss=own if on == "loss" else moved("loss") if finite else None,
        by_class=_by_class(before, after, on, paired) if classified else {},
        observational=between(before.observed, after.observed) is not None,
    )


def _share(holds: Correct) -> tuple[float, Interval]:
    """The share of rows of which something holds, with its interval: exact, and over draws wider than it need be."""
    total, rows = float(holds.double().sum()), len(holds)
    return total / rows, clopper_pearson(total, rows, CONFIDENCE)


def _change(before: Tensor, after: Tensor, on: On, paired: bool) -> Change:
    """The effect on the mean of some rows; on the loss it takes two for an interval."""
    if on == "loss" and min(len(before), len(after)) < 2:
        return Change(float(after.mean() - before.mean()), None, len(after))
    evidence = _difference(before, after, on, paired)
    return Change(evidence.effect, evidence.interval(CONFIDENCE), len(after))


def _by_class(before: Drawn, after: Drawn, on: On, paired: bool) -> dict[int, Change]:
    here, there = values_of(before, on), values_of(after, on)
    labels = sorted(set(before.targets.tolist()) & set(after.targets.tolist()))
    return {
        label: _change(here[before.targets == label], there[after.targets == label], on, paired) for label in labels
    }
