"""Effects within classes: their value, and bounds against slow references and over draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind
from torch import Tensor

from mechconn.mechanisms._within_classes import (
    compare_within,
    compute_change_within,
    compute_evidence_within,
    list_opposed,
    make_bounded_evidence_within,
)
from mechconn.stats import clopper_pearson

Labelled = tuple[Tensor, Tensor]
CELLS = {0: ((200, 190), (20, 18)), 1: ((50, 30), (40, 25)), 2: ((30, 15), (9, 4))}
"""Label -> (rows, right) on the reference and on the other split."""


def sides(cells: dict[int, tuple[tuple[int, int], tuple[int, int]]] = CELLS) -> tuple[Labelled, Labelled]:
    """Whether each row is right, and its label, of both splits; rows of the classes are mixed."""
    found = []
    for side in (0, 1):
        labels = torch.tensor([label for label, counts in cells.items() for _ in range(counts[side][0])])
        right = torch.cat([torch.arange(counts[side][0]) < counts[side][1] for counts in cells.values()])
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(side))
        found.append((right[order], labels[order]))
    return found[0], found[1]


def test_every_class_has_the_same_weight() -> None:
    before, after = sides()
    expected = sum(b[1] / b[0] - a[1] / a[0] for a, b in CELLS.values()) / 3
    evidence = compute_evidence_within(before, after, "accuracy")
    assert (evidence.effect, evidence.units) == (pytest.approx(expected, abs=1e-12), 69)
    pooled = float(after[0].double().mean() - before[0].double().mean())
    assert abs(pooled - expected) > 0.1  # what a comparison of all rows would have said
    change = compute_change_within(before, after, "accuracy")
    assert (change.effect, change.interval, change.samples) == (evidence.effect, evidence.interval(0.95), 69)


def test_the_interval_is_tighter_than_the_sum_of_exact_ones_and_wider_than_the_normal_one() -> None:
    before, after = sides({label: ((300, 300 - 9 * label), (100, 95 - 4 * label)) for label in range(4)})
    low, high = compute_evidence_within(before, after, "accuracy").interval(0.95)
    effect = compute_evidence_within(before, after, "accuracy").effect
    parts, variance = [0.0, 0.0], 0.0
    for label in range(4):
        (one, n), (two, m) = ((int(v[y == label].sum()), int((y == label).sum())) for v, y in (before, after))
        (a, b), (c, d) = (clopper_pearson(k, t, 1 - 0.05 / 8) for k, t in ((one, n), (two, m)))
        parts = [parts[0] + (c - b) / 4, parts[1] + (d - a) / 4]
        variance += sum(k / t * (1 - k / t) / t for k, t in ((one, n), (two, m))) / 16
    assert parts[0] < low < effect - 1.96 * math.sqrt(variance)
    assert effect + 1.96 * math.sqrt(variance) < high < parts[1]
    assert high - low < 0.5 * (parts[1] - parts[0])


def test_more_rows_of_the_same_rates_give_the_interval_of_such_data() -> None:
    before, after = sides()
    four = {label: tuple((4 * n, 4 * k) for n, k in counts) for label, counts in CELLS.items()}
    planned = compute_evidence_within(before, after, "accuracy").bounds(0.95, 4 * 69)
    there = compute_evidence_within(*sides(four), "accuracy")  # pyright: ignore[reportArgumentType]
    assert planned == pytest.approx(there.interval(0.95), abs=1e-9)


def test_one_class_of_losses_is_welchs_t() -> None:
    draw = torch.Generator().manual_seed(0)
    here, there = (torch.rand(n, generator=draw, dtype=torch.float64) * s for n, s in ((40, 1.0), (13, 3.0)))
    labels = torch.zeros(40).long(), torch.zeros(13).long()
    evidence = compute_evidence_within((here, labels[0]), (there, labels[1]), "loss")
    expected = ttest_ind(there.numpy(), here.numpy(), equal_var=False).confidence_interval(0.95)
    assert evidence.interval(0.95) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_losses_of_several_classes_cover_their_mean_difference() -> None:
    """Normal losses, cells of 3 to 12 rows: Welch's t errs about as often as stated."""
    draw, errors, repeats = np.random.default_rng(0), 0, 400
    sizes = {0: (12, 4), 1: (5, 9), 2: (7, 3)}
    for _ in range(repeats):
        pair = []
        for side in (0, 1):
            values = [draw.normal(label + 0.3 * side, 1 + label, n[side]) for label, n in sizes.items()]
            labels = [np.full(n[side], label) for label, n in sizes.items()]
            pair.append((torch.tensor(np.concatenate(values)), torch.tensor(np.concatenate(labels))))
        low, high = compute_evidence_within(pair[0], pair[1], "loss").interval(0.95)
        errors += not low <= 0.3 <= high
    assert errors <= 32  # Binomial(400, 0.05) exceeds this with probability 0.5 %


def test_losses_that_do_not_vary_are_not_certain() -> None:
    before, after = ((torch.full((n,), 0.5, dtype=torch.float64), torch.arange(n) % 2) for n in (40, 20))
    low, high = compute_evidence_within(before, after, "loss").interval(0.95)
    missed = [clopper_pearson(0, n, 1 - 0.05 / 4)[1] / 2 for n in (20, 20, 10, 10)]
    assert (low, high) == pytest.approx((-sum(missed), sum(missed)), rel=1e-12)


def test_values_in_a_range_are_covered_for_few_rows_and_many() -> None:
    """Differences of two models within rows, -1, 0 or 1: the bound is not short, nor much wider than a normal one."""
    draw, sizes = np.random.default_rng(0), {0: (400, 120), 1: (150, 300)}
    chances = {0: ((0.1, 0.2), (0.0, 0.6)), 1: ((0.05, 0.05), (0.02, 0.3))}
    truth = sum((b[1] - b[0]) - (a[1] - a[0]) for a, b in chances.values()) / 2
    variance = sum(
        (down + up - (up - down) ** 2) / n / 4
        for label, both in chances.items()
        for (down, up), n in zip(both, sizes[label], strict=True)
    )
    errors, widths = 0, []
    for _ in range(200):
        pair = []
        for side in (0, 1):
            values, labels = [], []
            for label, n in sizes.items():
                down, up = chances[label][side]
                values.append(draw.choice([-1.0, 0.0, 1.0], n[side], p=[down, 1 - down - up, up]))
                labels.append(np.full(n[side], label))
            pair.append((torch.tensor(np.concatenate(values)), torch.tensor(np.concatenate(labels))))
        low, high = make_bounded_evidence_within(pair[0], pair[1], 2.0).interval(0.95)
        errors += not low <= truth <= high
        widths.append(high - low)
    assert errors <= 10
    assert 1.3 < max(widths) / (2 * 1.96 * math.sqrt(variance)) < 2.5


def test_the_bound_on_values_in_a_range_is_its_formula() -> None:
    """Two cells of one class: V from the self-bounding inequality, then the root of Bennett's exponent."""
    before = torch.tensor([0.0, 1.0, 0.5, 0.25] * 10), torch.zeros(40)
    after = torch.tensor([1.0, 0.5, 0.0, 0.5, 1.0] * 10), torch.zeros(50)
    low, high = make_bounded_evidence_within(before, after, 1.0).interval(0.95)
    tail, step, excess = 0.025, 1 / 40, 40 / 39
    seen = float(before[0].double().var()) / 40 + float(after[0].double().var()) / 50
    slack = excess * step**2 * math.log(1 / (0.2 * tail)) / 2
    variance = (math.sqrt(seen + slack) + math.sqrt(slack)) ** 2
    half = (high - low) / 2
    u = step * half / variance
    exponent = variance / step**2 * ((1 + u) * math.log(1 + u) - u)
    assert exponent == pytest.approx(math.log(1 / (0.8 * tail)), rel=1e-6)
    assert (low + high) / 2 == pytest.approx(0.1625, abs=1e-9)


def test_how_far_two_models_effects_lie_apart() -> None:
    (right, labels), (right_after, labels_after) = sides()
    never, after = torch.zeros_like(right), torch.zeros_like(right_after)
    effect, interval = compare_within((never, right), (after, right_after), (labels, labels_after), "accuracy")
    assert effect == pytest.approx(
        compute_evidence_within((right, labels), (right_after, labels_after), "accuracy").effect
    )
    assert interval[0] < effect < interval[1]
    same, nothing = compare_within((right, right), (right_after, right_after), (labels, labels_after), "accuracy")
    assert same == 0.0 and nothing[0] < 0.0 < nothing[1]


def test_shares_of_several_draws_have_bounds_of_values_in_a_range() -> None:
    before, (right, labels) = sides()
    shares = right.double() * 0.8
    evidence = compute_evidence_within(before, (shares, labels), "accuracy")
    assert evidence.interval(0.95) == make_bounded_evidence_within(before, (shares, labels), 1.0).interval(0.95)


def test_classes_of_opposite_effects_are_named() -> None:
    cells = {0: ((60, 60), (60, 0)), 1: ((60, 0), (60, 60)), 2: ((60, 30), (60, 30))}
    before, after = sides(cells)
    assert compute_evidence_within(before, after, "accuracy").effect == 0.0
    one_class = {label: compute_change_within(*sides({label: counts}), "accuracy") for label, counts in cells.items()}
    assert list_opposed(one_class, 0.05).startswith(
        "the effect is positive in class 1 and negative in class 0, and the mean"
    )
    assert list_opposed({0: one_class[0], 2: one_class[2]}, 0.05) == ""


def test_what_cannot_be_compared_within_classes() -> None:
    before, after = sides()
    keep = after[1] != 1
    with pytest.raises(ValueError) as caught:
        compute_evidence_within(before, (after[0][keep], after[1][keep]), "accuracy")
    assert str(caught.value) == (
        "a comparison within classes needs rows of every class on both sides; "
        "class 1 has 50 on the reference and 0 on the other split"
    )
    single = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64), torch.tensor([0, 0, 1])
    with pytest.raises(
        ValueError, match=r"^an interval of the loss within classes needs two rows or more of every class"
    ):
        compute_evidence_within(single, single, "loss")
    assert compute_change_within(single, single, "loss").interval is None
    assert (
        compute_evidence_within((single[0] > 2, single[1]), (single[0] > 2, single[1]), "accuracy").interval(0.95)[0]
        < 0
    )
