"""What stands beside the effects of interventions: why invariance says nothing, and what looks wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from scipy.stats import chisquare
from torch import Tensor

from mechconn.datasets import CuedSet, SameRows, Suite
from mechconn.mechanisms._outcomes import ModelOutcome, SplitOutcome
from mechconn.stats import Interval

UNEQUAL = 1.25
"""Rows of the commonest class over an equal share, from which classes count as unequal ..."""
CHANCE = 1e-3
"""... where so unequal counts of equally likely classes are rarer than this."""


def explain_uninformative(name: str, result: SplitOutcome, accuracy: float, interval: Interval | None) -> str:
    """Why invariance of this model says nothing; empty where it does."""
    answers, low = result.answers, 0.0 if interval is None else interval[0]
    if answers.constant:
        return f"the model gives one {'class' if answers.each != 'labels' else 'answer'} on every row of {name!r}"
    if low > answers.commonest:
        return ""
    always = "the commonest class" if answers.each != "labels" else "the commonest answer to each label"
    return (
        f"its accuracy on {name!r}, {accuracy:.1%} and at least {low:.1%}, is not above that of always giving "
        f"{always}, {answers.commonest:.1%}"
    )


def note_without_bounds(outcome: ModelOutcome) -> str:
    """A note on the metrics whose intervals are approximate."""
    names = [name for name in outcome.metrics if name not in outcome.bounds]
    if not names:
        return ""
    return (
        f"intervals of {', '.join(names)} are Student's t, which is approximate; with bounds, "
        "mechconn.Metric(function, bounds=(low, high)), they hold for every distribution"
    )


def note_probabilities(splits: Mapping[str, SplitOutcome]) -> str:
    """A note where the outputs of every split look like probabilities."""
    if not all(result.probabilities for drawn in splits.values() for result in drawn.draws):
        return ""
    return (
        "the outputs look like probabilities, and the loss takes logits: it is computed of their softmax or sigmoid "
        "once more; let the model return its logits, or the logarithm of the probabilities"
    )


def note_linked(splits: Mapping[str, SplitOutcome]) -> Iterator[str]:
    """A note on splits whose rows show something of each other."""
    groups: dict[int, list[str]] = {}
    for name, result in splits.items():
        if result.linked:
            groups.setdefault(result.rows("loss").units, []).append(name)
    for count, names in groups.items():
        yield (
            f"rows of {', '.join(names)} show something of each other, so that the intervals there are over {count:,} "
            "groups of rows"
        )


def note_random_content(suite: Suite) -> Iterator[str]:
    """A note on splits whose rows each show the content of a row drawn from all others, where classes are unequal.

    Those draws join nearly all rows, so that there are no groups to take intervals over. With classes of equal size a
    row has the same effect on all rows that show it, and the intervals over rows hold; see
    `benchmarks/coverage_over_donors.py`.
    """
    reference = find_cued_set(suite[suite.reference])
    if reference is None or not _are_unequal(reference.y):
        return
    rows = reference.content_rows
    drawn = {name: find_cued_set(suite[name]) for name in suite.interventions}
    names = [name for name, data in drawn.items() if data is not None and not torch.equal(data.content_rows, rows)]
    if names:
        yield (
            f"rows of {', '.join(names)} show the content of others, drawn from all rows, and classes are unequal: "
            "those of a rare class count several times, so that intervals there may be too narrow"
        )


def find_cued_set(data: Any) -> CuedSet | None:
    """The scenes with a cue that data show, row for row; None where there are none."""
    while isinstance(data, SameRows):
        data = data.below
    return data if isinstance(data, CuedSet) else None


def _are_unequal(y: Tensor) -> bool:
    """Whether the commonest class has a quarter more rows than an equal share, and not by chance."""
    if y.dim() != 1 or y.is_floating_point():
        return False
    counts = y.unique(return_counts=True)[1]
    return bool(counts.max() * len(counts) > UNEQUAL * len(y)) and float(chisquare(counts.numpy()).pvalue) < CHANCE
