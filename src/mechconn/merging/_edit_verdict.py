r"""Does an edit bring a cue to chance and keep the rest: claims about the chosen edit, on rows that did not choose it.

Let f_t be the expected accuracy of the edited network on the target, where the cue alone tells the label, c chance
(`floor`), m the margin, f_k and b_k the expected accuracies on a kept split of the edited network and of the model with
statistics of the same policy, and r the share to keep.

    reaches:  f_t <= c + m          stays:  f_t >= c - m, where c - m > 0          keeps:  f_k >= r b_k, of every split

Of each claim delta is the mean that is not negative where it holds: c + m - f_t, f_t - (c - m), f_k - r b_k. Its bounds
are exact where rows are right or wrong and independent (Clopper-Pearson; see `_scale_verdict` for keeps), else by
betting or over clusters. A claim is **shown** where the lower bound at tail level alpha / 2 is not negative, and
**refuted** where the upper bound at tail level alpha / (2 n) is negative, with n the number of claims.

    does not:            some claim is refuted
    brought to chance:   else, where all claims are shown
    undetermined:        else.

**The verdict is wrong with probability alpha = 5 % at most, whatever the truth.** "Brought to chance" is wrong only
where some claim is false, and needs its lower bound to fail: alpha / 2, without a correction, since all claims are
asked for (intersection-union). "Does not" is wrong only where all claims hold, and needs one of n upper bounds at
alpha / (2 n) to fail: alpha / 2. The edit was chosen on other rows, so that for the rows that judge it is fixed,
however many were tried.

"Does not" is about this edit. That no sparser one exists, or no other of this size works, was not tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch

from mechconn.mechanisms import ALPHA, DifferenceEvidence, RowValues, compute_difference
from mechconn.merging._scale_verdict import Claim, ScaleClaim, ScaleQuestion, Values, judge_claim
from mechconn.stats import Interval, clopper_pearson

EditVerdict: TypeAlias = Literal["brought to chance", "does not", "no edit", "undetermined"]


def judge_edit(asked: ScaleQuestion, base: Values, edited: Values) -> tuple[ScaleClaim, ...]:
    """Every claim about an edited network."""
    found = list[tuple[Claim, str, DifferenceEvidence]]()
    found.append(("reaches", asked.target, compare_with_ceiling(asked, edited)))
    if asked.least is not None:
        found.append(("stays", asked.target, asked.compute_stay(edited[asked.target])))
    for split, share in asked.keep:
        found.append(("keeps", split, asked.compute_keep(split, share, base, edited)))
    return tuple(judge_claim(claim, split, evidence, len(found)) for claim, split, evidence in found)


def compare_with_ceiling(asked: ScaleQuestion, edited: Values) -> DifferenceEvidence:
    """What rows say of c + m - f_t."""
    limit, rows = min(1.0, asked.floor + asked.margin), edited[asked.target]  # no accuracy is above 1
    if rows.values.dtype != torch.bool or rows.clusters is not None:
        values = rows.values.double()
        ceiling = RowValues(torch.full_like(values, limit), rows.clusters)
        return compute_difference(RowValues(values, rows.clusters), ceiling, asked.on, True, asked.find_range())
    right, count = float(rows.values.sum()), len(rows.values)

    def bounds(confidence: float, n: float) -> Interval:
        low, high = clopper_pearson(right * n / count, n, confidence)
        return limit - high, limit - low

    return DifferenceEvidence(limit - right / count, count, bounds)


def passes(asked: ScaleQuestion, base: Values, edited: Values, shown: bool) -> tuple[bool, bool]:
    """(whether the target is at chance, whether all that is to be kept is) by means, or shown at tail level 5 %."""
    at = [compare_with_ceiling(asked, edited)]
    if asked.least is not None:
        at.append(asked.compute_stay(edited[asked.target]))
    kept = [asked.compute_keep(split, share, base, edited) for split, share in asked.keep]
    reached, keeps = (
        all(own.reaches(1, ALPHA, 0.0) if shown else own.effect >= -1e-12 for own in evidence)
        for evidence in (at, kept)
    )
    return reached, keeps


def join_edit_claims(claims: Sequence[ScaleClaim]) -> EditVerdict:
    """The verdict over all claims; "no edit" where there are none."""
    standings = {claim.standing for claim in claims}
    if not claims:
        return "no edit"
    if "refuted" in standings:
        return "does not"
    return "brought to chance" if standings == {"shown"} else "undetermined"


def find_shares(values: Mapping[str, RowValues]) -> dict[str, float]:
    """Split -> accuracy."""
    return {split: float(rows.values.double().mean()) for split, rows in values.items()}
