"""Measuring to which interventions a model is invariant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor, nn

from mechconn import _errors
from mechconn._audit._effects import CONFIDENCE, Change, Effect, Invariance, On
from mechconn._audit._evidence import Evidence, of_accuracy, of_loss, of_share, over_draws
from mechconn._audit._judge import Judgement, judged
from mechconn._audit._outcomes import Outcome, Setting, outcome_of, undefined_loss
from mechconn._checks import check_choice, check_is, check_positive
from mechconn._evaluate import Outcomes, per_sample_cross_entropy
from mechconn._interventions import Suite
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

    Where the suite holds several draws of an intervention (`Suite(redraws=...)`), everything said of it is the median
    over the draws: of the estimates, and of the bounds. The median of K bounds errs only where m = floor(K / 2) + 1 of
    them do; with each at m / K of its level, by Markov's inequality, with the stated probability at most, however much
    the draws have in common. It is a little wider than that of one draw, and does not hang on the luck of one.

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
            is not finite (a probability of exactly 0 for the true class).

    Example:
        >>> identity = nn.Identity()
        >>> y = torch.arange(200) % 2
        >>> right, wrong = torch.eye(2)[y], torch.eye(2)[1 - y]
        >>> suite = Suite({"cue": (right, y), "rand_cue": (wrong, y), "rand_image": (right, y)})
        >>> found = measure_invariance(identity, suite)
        >>> {name: (effect.effect, effect.verdict) for name, effect in found.items()}
        {'rand_cue': (-1.0, 'sensitive'), 'rand_image': (0.0, 'invariant')}

    Source: Lubana et al. 2023, definition of invariance; Schuirmann 1987 (equivalence by interval inclusion); Holm
    1979; Rueger 1978 (the median over draws).
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
    draws, reference = outcome.draws, outcome.draws[suite.reference][0]
    others = {name: drawn for name, drawn in draws.items() if name != suite.reference}
    classified = {name: drawn for name, drawn in draws.items() if all(d.predicted is not None for d in drawn)}
    evidence = {name: _evidence(name, reference, drawn, on) for name, drawn in others.items()}
    judgements = judged_by_family(evidence, suite.interventions, margin)
    shares = {name: over_draws([of_share(d.correct) for d in drawn]) for name, drawn in classified.items()}
    undefined = {
        name: next(filter(None, (undefined_loss(name, d) for d in drawn)), "") for name, drawn in draws.items()
    }
    return Invariance(
        effects={
            name: _effect(name, reference, drawn, judgements[name], evidence[name], on)
            for name, drawn in others.items()
        },
        accuracy={name: share.effect for name, share in shares.items()},
        accuracy_interval={name: share.interval(CONFIDENCE) for name, share in shares.items()},
        loss={name: None if undefined[name] else median(d.mean_loss for d in drawn) for name, drawn in draws.items()},
        samples={name: len(drawn[0].loss) for name, drawn in draws.items()},
        reference=suite.reference,
        interventions=suite.interventions,
        margin=margin,
        on=on,
        precision=outcome.number_type,
        notes=tuple(filter(None, undefined.values())),
    )


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


def rows_correspond(before: Outcomes, after: Outcomes) -> bool:
    """Equal labels in one order stand for corresponding rows."""
    return torch.equal(before.targets, after.targets)


def _evidence(name: str, before: Outcomes, draws: Sequence[Outcomes], on: On) -> Evidence:
    """What a split and further draws of it say of the effect on accuracy or loss."""
    if on == "loss" and min(len(result.loss) for result in (before, *draws)) < 2:
        raise ValueError(_errors.ONE_ROW.format(name=name))
    return over_draws([_difference(before, after, on) for after in draws])


def _difference(before: Outcomes, after: Outcomes, on: On, label: int | None = None) -> Evidence:
    """What one draw says, on all rows or on those of a class."""
    paired, here, there = rows_correspond(before, after), _values(before, on, label), _values(after, on, label)
    return of_accuracy(here, there, paired) if on == "accuracy" else of_loss(here, there, paired)


def _values(result: Outcomes, on: On, label: int | None) -> Tensor:
    values = result.correct if on == "accuracy" else result.loss
    return values if label is None else values[result.targets == label]


def _effect(
    name: str, before: Outcomes, draws: Sequence[Outcomes], judgement: Judgement, evidence: Evidence, on: On
) -> Effect:
    paired = all(rows_correspond(before, after) for after in draws)
    classified = all(result.predicted is not None for result in (before, *draws))
    changed = None
    if paired and classified:
        assert before.predicted is not None
        changed = over_draws([of_share(before.predicted != after.predicted) for after in draws])
    rows = len(draws[0].loss)
    finite = not any(undefined_loss(name, result) for result in (before, *draws))
    own = Change(evidence.effect, judgement.interval, rows)
    return Effect(
        split=name,
        effect=evidence.effect,
        **vars(judgement),
        paired=paired,
        samples=rows,
        draws=len(draws),
        changed=None if changed is None else changed.effect,
        changed_interval=None if changed is None else changed.interval(CONFIDENCE),
        accuracy=own if on == "accuracy" else _change(before, draws, "accuracy") if classified else None,
        loss=own if on == "loss" else _change(before, draws, "loss") if finite else None,
        by_class=_by_class(before, draws, on) if classified else {},
    )


def _change(before: Outcomes, draws: Sequence[Outcomes], on: On, label: int | None = None) -> Change:
    """The effect on the mean of all rows, or of those of a class."""
    here, *there = (_values(result, on, label) for result in (before, *draws))
    rows = len(there[0])
    if on == "loss" and min(len(here), *map(len, there)) < 2:
        return Change(median(float(after.mean() - here.mean()) for after in there), None, rows)
    evidence = over_draws([_difference(before, after, on, label) for after in draws])
    return Change(evidence.effect, evidence.interval(CONFIDENCE), rows)


def _by_class(before: Outcomes, draws: Sequence[Outcomes], on: On) -> dict[int, Change]:
    labels = set.intersection(*(set(result.targets.tolist()) for result in (before, *draws)))
    return {label: _change(before, draws, on, label) for label in sorted(labels)}
