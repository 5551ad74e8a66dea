"""Outcomes of rows that were read one part after another, as those of one reading; and those of the first rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mechconn.core import join_targets
from mechconn.network._outcome_tally import make_row_answers
from mechconn.network._row_outcomes import Answers, Outcomes


def join_outcomes(parts: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of all rows, from those of parts of them in the order in which they were read.

    Example:
        >>> from mechconn.losses import cross_entropy
        >>> halves = [Outcomes(torch.ones(2), None, torch.zeros(2)), Outcomes(torch.zeros(2), None, torch.zeros(2))]
        >>> join_outcomes(halves).mean_loss
        0.5
    """
    if len(parts) == 1:
        return parts[0]
    answers = [part.answers for part in parts]
    counted = [torch.ones(len(part.loss), dtype=torch.bool) if part.counted is None else part.counted for part in parts]
    known = [part.class_probabilities for part in parts]
    return Outcomes(
        loss=torch.cat([part.loss for part in parts]),
        answers=None if None in answers else _join_answers([own for own in answers if own is not None]),
        targets=join_targets([part.targets for part in parts]),
        metrics={name: torch.cat([part.metrics[name] for part in parts]) for name in parts[0].metrics},
        probabilities=all(part.probabilities for part in parts),
        counted=None if all(part.counted is None for part in parts) else torch.cat(counted),
        class_probabilities=None
        if any(own is None for own in known)
        else torch.cat([o for o in known if o is not None]),
        row_shape=parts[-1].row_shape,
    )


def _join_answers(parts: Sequence[Answers]) -> Answers:
    """The answers on all rows; what is said of all of them is told anew."""
    first = parts[0]
    if first.predicted is not None:
        predicted = torch.cat([part.predicted for part in parts if part.predicted is not None])
        return make_row_answers(predicted, torch.cat([part.labels for part in parts if part.labels is not None]), first)
    right, rows = torch.cat([part.right for part in parts]), [len(part.right) for part in parts]
    starts = [sum(rows[:place]) for place in range(len(rows))]
    bad = [start + part.undefined for start, part in zip(starts, parts, strict=True) if part.undefined is not None]
    weighted = [n * part.shares for n, part in zip(rows, parts, strict=True) if part.shares is not None]
    shares = torch.stack(weighted).sum(0) / sum(rows)
    return replace(
        first,
        right=right,
        undefined=bad[0] if bad else None,
        commonest=first.compute_commonest(shares),
        constant=all(part.constant and torch.equal(_example(part), _example(first)) for part in parts),
        shares=shares,
    )


def _example(answers: Answers) -> Tensor:
    assert answers.example is not None
    return answers.example


def take_first_outcomes(found: Outcomes, rows: int) -> Outcomes:
    """The outcomes of the first rows that count; what `Answers` says of all rows together stays that of all."""
    if len(found.loss) == rows:
        return found
    answers = found.answers
    if answers is not None:
        undefined = answers.undefined if answers.undefined is not None and answers.undefined < rows else None
        answers = replace(answers, right=answers.right[:rows], undefined=undefined)
        if answers.predicted is not None and answers.labels is not None:
            answers = replace(answers, predicted=answers.predicted[:rows], labels=answers.labels[:rows])
    known = found.class_probabilities
    return replace(
        found,
        loss=found.loss[:rows],
        answers=answers,
        targets=found.targets[:rows],
        metrics={name: values[:rows] for name, values in found.metrics.items()},
        counted=None,
        class_probabilities=None if known is None else known[:rows],
    )
