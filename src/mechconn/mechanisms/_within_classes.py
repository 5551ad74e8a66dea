r"""Differences within classes: the mean over classes of how two independent splits differ on the rows of each class.

With K classes, means m_c before and m'_c after on the rows of class c,

    effect = (1 / K) sum_c (m'_c - m_c),

every class of equal weight, however many rows either split has of it. The splits hold other rows, so the 2 K means are
independent: cells of n_i rows with weights w_i = -1/K and 1/K.

**Bounds on accuracy**, where every row is right or wrong, are melded from the Clopper-Pearson bounds of the cells: see
`mechconn.stats._melded`.

**Bounds on other values in a range**, such as differences of two models within rows, hold for every number of rows and
every true mean. Let V = sum_i w_i^2 v_i / n_i be the variance of the estimate, V^ the same with the sample variances,
b = r max_i |w_i| / n_i for values in a range of length r, and a = max_i n_i / (n_i - 1). With tail level beta + gamma,

    sqrt(V) <= sqrt(V^ + a b^2 l / 2) + sqrt(a b^2 l / 2),        l = log(1 / beta),

fails with probability beta at most (V^ / b^2 is self-bounding: Maurer & Pontil 2009, theorems 7 and 10), and

    P(estimate - effect >= x) <= exp(-(V / b^2) h(b x / V)),        h(u) = (1 + u) log(1 + u) - u

(Bennett 1962) falls to gamma at the half-width x, which grows with V. A cell of one row has no sample variance: r^2 / 4
stands for it.

**Bounds on the loss** are Welch's t with Satterthwaite's degrees of freedom over the 2 K cells, approximate as ever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from scipy.special import stdtrit
from torch import Tensor

from mechconn.mechanisms._difference_evidence import DifferenceEvidence
from mechconn.mechanisms._effects import CONFIDENCE, Change, On
from mechconn.mechanisms._rows_by_label import find_rows_by_label
from mechconn.stats import NEGLIGIBLE, Interval, MeldedBounds, WeightedCount, clopper_pearson

VARIANCE_SHARE = 0.2
"""Share of a bound's tail level that pays for the variance, which is not known."""

Labelled = tuple[Tensor, Tensor]
"""(a value for each row, its label)."""


class ClassCell(NamedTuple):
    """The rows of one class in one split; `variance` has n - 1 in the denominator, and is NaN for one row."""

    weight: float
    mean: float
    variance: float
    rows: float


def make_accuracy_evidence_within(before: Labelled, after: Labelled) -> DifferenceEvidence:
    """The mean over classes of the difference in accuracy, from whether each row is right.

    Where rows are right in a share of several draws, the bounds are those of values in [0, 1].
    """
    if not all(bool(((values == 0) | (values == 1)).all()) for values, _ in (before, after)):
        return make_bounded_evidence_within(before, after, 1.0)
    cells = make_class_cells(before, after)
    effect, units = estimate_effect(cells), _count_rows(cells)

    @lru_cache(maxsize=8)
    def melded(n: float) -> MeldedBounds:
        return MeldedBounds(
            [WeightedCount(cell.weight, cell.mean * cell.rows, cell.rows) for cell in _scale_rows(cells, n / units)]
        )

    return DifferenceEvidence(effect, units, lambda confidence, n: melded(n).bounds((1.0 - confidence) / 2.0))


def make_bounded_evidence_within(before: Labelled, after: Labelled, span: float) -> DifferenceEvidence:
    """The mean over classes of the difference of means of values in a range of length `span`."""
    cells = make_class_cells(before, after)
    effect, units = estimate_effect(cells), _count_rows(cells)

    def bounds(confidence: float, n: float) -> Interval:
        half = compute_half_width(_scale_rows(cells, n / units), span, (1.0 - confidence) / 2.0)
        return max(effect - half, -span), min(effect + half, span)

    return DifferenceEvidence(effect, units, bounds)


def make_loss_evidence_within(before: Labelled, after: Labelled, on: On = "loss") -> DifferenceEvidence:
    """The mean over classes of the difference of mean losses: Welch's t over all cells, each of two rows or more.

    Where no cell's losses vary, t would be certain. A share of the rows that were not drawn may still have another
    loss: it has an exact upper bound in each cell, and the largest loss seen, or 1 where that is larger, bounds the
    move.
    """
    cells = make_class_cells(before, after)
    few = min(cells, key=lambda cell: cell.rows)
    if few.rows < 2:
        what = "the loss" if on == "loss" else repr(on)
        raise ValueError(
            f"an interval of {what} within classes needs two rows or more of every class on both sides, got a class "
            "of one row; use on='accuracy' or more data"
        )
    effect, units = estimate_effect(cells), _count_rows(cells)
    largest = max(1.0, *(float(values.abs().max()) for values, _ in (before, after)))

    def bounds(confidence: float, n: float) -> Interval:
        grown = _scale_rows(cells, n / units)
        if max(cell.variance for cell in cells) <= (NEGLIGIBLE * largest) ** 2:
            level = 1.0 - (1.0 - confidence) / len(cells)
            missed = (abs(cell.weight) * clopper_pearson(0, cell.rows, level)[1] for cell in grown)
            half = largest * sum(missed)
        else:
            half = _compute_welch_half_width(grown, confidence)
        return effect - half, effect + half

    return DifferenceEvidence(effect, units, bounds)


def compute_change_within(before: Labelled, after: Labelled, on: On, bounds: Interval | None = None) -> Change:
    """The effect with its interval, at 95 %; on what has no bounds without one where a class has one row on a side."""
    cells = make_class_cells(before, after)
    if on != "accuracy" and bounds is None and min(cell.rows for cell in cells) < 2:
        return Change(estimate_effect(cells), None, _count_rows(cells))
    evidence = compute_evidence_within(before, after, on, bounds)
    return Change(evidence.effect, evidence.interval(CONFIDENCE), evidence.units)


def compute_evidence_within(
    before: Labelled, after: Labelled, on: On, bounds: Interval | None = None
) -> DifferenceEvidence:
    """What two splits say of the effect within classes on accuracy, loss or a metric.

    Raises:
        ValueError: the targets are no classes.
    """
    check_class_labels((before[1], after[1]))
    if bounds is not None:
        return make_bounded_evidence_within(before, after, bounds[1] - bounds[0])
    return (
        make_accuracy_evidence_within(before, after)
        if on == "accuracy"
        else make_loss_evidence_within(before, after, on)
    )


def check_class_labels(labels: tuple[Tensor, Tensor]) -> None:
    """Raise unless the targets of both splits are classes."""
    if any(own.dim() != 1 or own.is_floating_point() for own in labels):
        raise ValueError("a comparison within classes needs class labels [N], whole numbers; use split_by_group")


def compare_within(
    before: tuple[Tensor, Tensor],
    after: tuple[Tensor, Tensor],
    labels: tuple[Tensor, Tensor],
    on: On,
    bounds: Interval | None = None,
    confidence: float = CONFIDENCE,
) -> tuple[float, Interval]:
    """(effect on B minus effect on A, its interval): the difference within classes of what differs within rows.

    Args:
        before: values of A and of B on the rows of the reference.
        after: on those of the other split.
        labels: of the reference's rows and of the other's.
        on: what the values are.
        bounds: their range, where they have one.
        confidence: of the interval.
    """
    gaps = [b.double() - a.double() for a, b in (before, after)]
    pair = (gaps[0], labels[0]), (gaps[1], labels[1])
    reach = 1.0 if on == "accuracy" else None if bounds is None else bounds[1] - bounds[0]
    evidence = (
        make_loss_evidence_within(*pair, on) if reach is None else make_bounded_evidence_within(*pair, 2.0 * reach)
    )
    return evidence.effect, evidence.interval(confidence)


def list_opposed(by_class: Mapping[int, Change], margin: float) -> str:
    """Which classes have effects of opposite signs beyond the margin, in words; empty where none have.

    Their mean over classes may be near zero where none of them is.
    """
    known = {label: change for label, change in by_class.items() if change.interval is not None}
    up = [str(label) for label, change in known.items() if change.interval and change.interval[0] > margin]
    down = [str(label) for label, change in known.items() if change.interval and change.interval[1] < -margin]
    if not (up and down):
        return ""
    return (
        f"the effect is positive in class {', '.join(up)} and negative in class {', '.join(down)}, "
        "and the mean over classes hides that; see by_class"
    )


def make_class_cells(before: Labelled, after: Labelled) -> list[ClassCell]:
    """The cells of both splits, class by class.

    Raises:
        ValueError: one split has no rows of a class that the other has.
    """
    sides = [(values.double().flatten(), find_rows_by_label(labels)) for values, labels in (before, after)]
    classes = sorted(set(sides[0][1]) | set(sides[1][1]))
    cells = []
    for label in classes:
        for sign, (values, rows) in zip((-1.0, 1.0), sides, strict=True):
            own = values[rows[label]] if label in rows else values[:0]
            if len(own) == 0:
                counts = [len(members.get(label, ())) for _, members in sides]
                raise ValueError(
                    f"a comparison within classes needs rows of every class on both sides; class {label} has "
                    f"{counts[0]} on the reference and {counts[1]} on the other split"
                )
            variance = float(own.var()) if len(own) > 1 else math.nan
            cells.append(ClassCell(sign / len(classes), float(own.mean()), variance, len(own)))
    return cells


def compute_half_width(cells: Sequence[ClassCell], span: float, tail: float) -> float:
    """How far the estimate may lie from the effect on one side, but with probability `tail`; see the module."""
    step = span * max(abs(cell.weight) / cell.rows for cell in cells)
    many = [cell for cell in cells if not math.isnan(cell.variance)]
    seen = sum(cell.weight**2 * cell.variance / cell.rows for cell in many)
    unseen = sum(cell.weight**2 * span**2 / 4 / cell.rows for cell in cells if math.isnan(cell.variance))
    excess = max((cell.rows / (cell.rows - 1) for cell in many if cell.rows > 1), default=1.0)
    slack = excess * step**2 * math.log(1.0 / (VARIANCE_SHARE * tail)) / 2.0
    variance = (math.sqrt(seen + slack) + math.sqrt(slack)) ** 2 + unseen
    return variance / step * _invert_bennett(math.log(1.0 / ((1.0 - VARIANCE_SHARE) * tail)) * step**2 / variance)


def _invert_bennett(level: float) -> float:
    """u with (1 + u) log(1 + u) - u = level, from above: Newton's steps on a convex function never pass the root."""
    u = math.sqrt(2.0 * level) + level
    for _ in range(8):
        u -= ((1.0 + u) * math.log1p(u) - u - level) / math.log1p(u)
    return u * (1.0 + 1e-9)


def _compute_welch_half_width(cells: Sequence[ClassCell], confidence: float) -> float:
    parts = [(cell.weight**2 * cell.variance / cell.rows, cell.rows - 1) for cell in cells]
    total = sum(part for part, _ in parts)
    degrees = total**2 / sum(part**2 / rest for part, rest in parts)
    return float(stdtrit(degrees, (1.0 + confidence) / 2.0)) * math.sqrt(total)


def estimate_effect(cells: Sequence[ClassCell]) -> float:
    """The mean over classes of the difference of means."""
    return sum(cell.weight * cell.mean for cell in cells)


def _count_rows(cells: Sequence[ClassCell]) -> int:
    """Rows of the split that is compared with the reference."""
    return round(sum(cell.rows for cell in cells if cell.weight > 0))


def _scale_rows(cells: Sequence[ClassCell], factor: float) -> list[ClassCell]:
    """The cells with so many times the rows, and the same means and variances."""
    return [cell._replace(rows=cell.rows * factor) for cell in cells]
