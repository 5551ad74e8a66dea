"""How much less B relies on what A is sensitive to: signs, exact values, and what its interval holds."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from scipy.stats import ttest_1samp, ttest_ind
from torch import Tensor, nn

import mechconn as mc
from lookup import Copier, outcomes
from zoo import build

ROWS = 400
A, B = Copier(0), Copier(1)


def right(share: float) -> Tensor:
    return torch.arange(ROWS) < round(share * ROWS)


def compare(cue: tuple[float, float], **splits: tuple[float, float]) -> mc.Comparison:
    """A and B with these accuracies."""
    shares = {"cue": cue, **splits}
    return mc.compare_mechanisms(
        A, B, mc.Suite({name: outcomes(*(right(share) for share in pair)) for name, pair in shares.items()})
    )


# ---------------------------------------------------------------- opposite signs


def test_effects_of_opposite_signs_are_dissimilar_with_the_same_invariances() -> None:
    """Identity reads the label from the input; with its columns exchanged it reads the opposite."""
    y = torch.arange(ROWS) % 2
    wrong = torch.where(torch.arange(ROWS) % 4 < 2, 1 - y, y)  # half of the rows of each class
    suite = mc.Suite({"cue": (torch.eye(2)[y], y), "half": (torch.eye(2)[wrong], y)})
    swap = build(lambda: nn.Linear(2, 2, bias=False), dtype=torch.float32)
    swap.load_state_dict({"weight": torch.tensor([[0.0, 1.0], [1.0, 0.0]])})
    found = mc.compare_mechanisms(nn.Identity(), swap, suite)
    assert (found.a["half"].effect, found.b["half"].effect) == (-0.5, 0.5)
    assert (found.verdict, found.same_invariances, dict(found.agreement)) == (
        "dissimilar",
        "similar",
        {"half": "different"},
    )
    assert found.why.split("; what")[0] == "both are sensitive to half, in opposite directions"
    less = found.less["half"]
    assert (less.of, less.amount, less.share) == (0.5, 0.0, 0.0) and less.interval[0] < 0 < less.interval[1]
    alike = mc.compare_mechanisms(swap, swap, suite)
    assert (alike.verdict, alike.same_invariances, dict(alike.agreement)) == ("similar", "similar", {"half": "same"})


SETS: dict[str, tuple[dict[str, tuple[float, float]], str, str]] = {
    "opposite beside an open one": ({"hue": (0.2, 0.9), "box": (0.46, 0.5)}, "dissimilar", "undetermined"),
    "opposite beside a shortcut": ({"hue": (0.2, 0.9), "box": (0.5, 0.1)}, "dissimilar", "dissimilar"),
    "open alone": ({"hue": (0.46, 0.5)}, "undetermined", "undetermined"),
    "alike": ({"hue": (0.2, 0.1), "box": (0.5, 0.5)}, "similar", "similar"),
}


@pytest.mark.parametrize("case", SETS)
def test_the_two_verdicts(case: str) -> None:
    splits, verdict, sets = SETS[case]
    found = compare((0.5, 0.5), **splits)
    assert (found.verdict, found.same_invariances) == (verdict, sets)


# ---------------------------------------------------------------- exact values


@pytest.mark.parametrize(("shares", "sign"), [((0.1, 0.3), 1), ((0.3, 0.1), 1), ((0.9, 0.7), -1), ((0.7, 0.9), -1)])
def test_with_settled_equal_signs_it_is_the_difference(shares: tuple[float, float], sign: int) -> None:
    found = compare((0.5, 0.5), hue=shares)
    less, apart = found.less["hue"], found.differences["hue"]
    assert (less.split, less.of) == ("hue", pytest.approx(abs(shares[0] - 0.5)))
    assert less.amount == pytest.approx(sign * apart.effect) and less.share == pytest.approx(less.amount / less.of)
    assert less.interval == tuple(sorted(sign * bound for bound in apart.interval))


def test_with_settled_opposite_signs_it_is_the_sum() -> None:
    """B with all its answers turned over has the opposite effect, so that the sum is a difference."""
    found = compare((0.5, 0.5), hue=(0.1, 0.7))
    turned = compare((0.5, 0.5), hue=(0.1, 0.3))
    assert found.less["hue"].amount == pytest.approx(0.2) == pytest.approx(turned.less["hue"].amount)
    suites = [
        mc.Suite({n: outcomes(right(0.5 if n == "cue" else 0.1), b) for n, b in rows.items()})
        for rows in (
            {"cue": ~right(0.5), "hue": ~right(0.3)},
            {"cue": right(0.5), "hue": right(0.3)},
        )
    ]
    mirrored, plain = (mc.compare_mechanisms(A, B, suite).less["hue"].interval for suite in suites)
    assert mirrored == pytest.approx(plain)


def test_where_bs_sign_is_open_it_is_the_hull_of_both() -> None:
    found = compare((0.5, 0.5), hue=(0.1, 0.51))
    low, high = found.b["hue"].adjusted_interval
    assert low < 0 < high
    less, apart = found.less["hue"], found.differences["hue"]
    assert less.amount == pytest.approx(0.39)
    suite = mc.Suite({"cue": outcomes(right(0.5), ~right(0.5)), "hue": outcomes(right(0.1), ~right(0.51))})
    turned = mc.compare_mechanisms(A, B, suite).differences["hue"]  # of B with all its answers turned over
    assert turned.effect == pytest.approx(0.39) and apart.effect == pytest.approx(0.41)
    assert less.interval == pytest.approx((turned.interval[0], apart.interval[1]))


def test_only_splits_where_a_is_sensitive_are_listed_those_reported_only_among_them() -> None:
    found = compare((0.5, 0.5), no_cue=(0.1, 0.5), hue=(0.5, 0.1), box=(0.2, 0.1))
    assert list(found.less) == ["no_cue", "box"]
    assert found.less["box"].amount == pytest.approx(-0.1) and found.less["box"].share < 0


@pytest.mark.parametrize("paired", [True, False])
def test_on_the_loss_it_is_students_t_or_welchs(paired: bool) -> None:
    models = [nn.Identity(), build(lambda: nn.Linear(3, 3, bias=False))]
    models[1].load_state_dict({"weight": 0.5 * torch.eye(3, dtype=torch.float64)})
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(200) % 3
    x = 2 * nn.functional.one_hot(y, 3) + noise
    other = (noise.flip(0), y) if paired else (noise[:150], y[:150])
    found = mc.compare_mechanisms(models[0], models[1], mc.Suite({"cue": (x, y), "hue": other}), on="loss")
    assert found.a["hue"].verdict == found.b["hue"].verdict == "sensitive"
    losses = [
        [nn.functional.cross_entropy(m(inputs), labels, reduction="none").detach().numpy() for m in models]
        for inputs, labels in ((x, y), other)
    ]
    gaps = [a - b for a, b in losses]
    test = ttest_1samp(gaps[1] - gaps[0], 0) if paired else ttest_ind(gaps[1], gaps[0], equal_var=False)
    expected = test.confidence_interval(0.95)
    assert found.less["hue"].amount == pytest.approx(gaps[1].mean() - gaps[0].mean())
    assert found.less["hue"].interval == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_over_runs_it_is_welchs_interval_of_the_difference_or_the_sum() -> None:
    a, b = [0.10, 0.12, 0.08, 0.11], [0.90, 0.88, 0.91]
    columns = [*a, *b]
    suite = mc.Suite({"cue": outcomes(*[right(0.5)] * 7), "hue": outcomes(*(right(share) for share in columns))})
    runs = [Copier(column) for column in range(7)]
    found = mc.compare_mechanisms(runs[:4], runs[4:], suite)
    assert (found.verdict, found.same_invariances) == ("dissimilar", "similar")
    expected = ttest_ind([0.5 - e for e in a], [e - 0.5 for e in b], equal_var=False).confidence_interval(0.95)
    assert found.less["hue"].interval == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert found.less["hue"].amount == pytest.approx(sum(0.5 - e for e in a) / 4 - sum(e - 0.5 for e in b) / 3)


def test_over_runs_on_clusters_the_difference_and_the_sum_miss_as_much() -> None:
    """Runs that agree leave what the clusters may have missed, whatever the signs: intervals of one width."""
    cluster, parts = [row // 25 for row in range(ROWS)], {"cue": (0.5, 0.5), "hue": (0.1, 0.9)}
    suite = mc.Suite({name: outcomes(*map(right, shares)) for name, shares in parts.items()})
    sides = [Copier(0), Copier(0)], [Copier(1), Copier(1)]
    found = mc.compare_mechanisms(*sides, suite, cluster=cluster)
    assert found.a["hue"].effect == -found.b["hue"].effect and found.a["hue"].verdict == "sensitive"
    low, high = found.less["hue"].interval
    apart = found.differences["hue"].interval
    assert high - low == pytest.approx(apart[1] - apart[0], rel=1e-12)
    plain = mc.compare_mechanisms(*sides, suite).less["hue"].interval
    assert high - low > 2 * (plain[1] - plain[0])


def test_within_classes_and_on_a_metric_in_a_range_it_is_mirrored_in_the_range() -> None:
    """B turned over has the opposite effect: both suites have the same |effect on B|, and intervals of one width."""
    y = torch.arange(ROWS) % 2
    column = torch.arange(ROWS) // 2 % 2  # balanced within classes
    alike, unlike = (Copier(0), Copier(1)), (Copier(0), Copier(2))
    x = torch.stack([column.double(), column.double(), (1 - column).double()], 1)
    suite = mc.Suite(mc.split_by_agreement((x, y), column, agrees={0: 0, 1: 1}), reference="agree")
    same, opposite = (mc.compare_mechanisms(*models, suite) for models in (alike, unlike))
    assert (same.a["conflict"].effect, same.b["conflict"].effect, opposite.b["conflict"].effect) == (-1.0, -1.0, 1.0)
    assert same.less["conflict"].amount == opposite.less["conflict"].amount == 0.0
    assert same.less["conflict"].interval == pytest.approx(opposite.less["conflict"].interval)
    halves = {"halves": mc.Metric(lambda z, y: (z.argmax(1) != y).double() * 0.5 + 0.25, bounds=(0.25, 0.75))}
    same, opposite = (mc.compare_mechanisms(*models, suite, on="halves", metrics=halves) for models in (alike, unlike))
    assert same.less["conflict"].of == 0.5
    assert same.less["conflict"].interval == pytest.approx(opposite.less["conflict"].interval)


# ---------------------------------------------------------------- coverage


def multinomials(count: int, cells: int) -> list[tuple[int, ...]]:
    """All ways to spread `count` rows over cells."""
    if cells == 1:
        return [(count,)]
    return [(first, *rest) for first in range(count + 1) for rest in multinomials(count - first, cells - 1)]


CELLS = list(itertools.product((0, -1), (-1, 0, 1)))
"""How a row moves on A, which is right at first, and on B."""


def reduce_rows(counts: tuple[int, ...]) -> mc.Reduction | None:
    """What is found of rows that move like this; None where A is not sensitive."""
    moves = [move for move, count in zip(CELLS, counts, strict=True) for _ in range(count)]
    before = [(1, int(b <= 0)) for _, b in moves]
    after = [(1 + a, start + b) for (a, b), (_, start) in zip(moves, before, strict=True)]
    pairs = [torch.tensor(pair, dtype=torch.bool).unbind(1) for pair in (before, after)]
    suite = mc.Suite({"cue": outcomes(*pairs[0]), "hue": outcomes(*pairs[1])})
    return mc.compare_mechanisms(A, B, suite, margin=1e-9).less.get("hue")


@pytest.mark.slow
def test_the_interval_covers_for_every_truth() -> None:
    """Enumerated: every outcome of 7 rows, at every truth on a grid, by a margin of next to nothing."""
    count = 7
    found_of = {}
    for counts in multinomials(count, len(CELLS)):
        if sum(n for (a, _), n in zip(CELLS, counts, strict=True) if a) >= 5:  # else A is not sensitive
            found_of[counts] = reduce_rows(counts)
    assert sum(found is not None for found in found_of.values()) > 10
    for truth in multinomials(5, len(CELLS)):
        p = [n / 5 for n in truth]
        a, b = (sum(move[side] * share for move, share in zip(CELLS, p, strict=True)) for side in (0, 1))
        wrong = sum(
            math.factorial(count) * math.prod(q**n / math.factorial(n) for q, n in zip(p, counts, strict=True))
            for counts, found in found_of.items()
            if found and not found.interval[0] - 1e-12 <= abs(a) - abs(b) <= found.interval[1] + 1e-12
        )
        assert wrong <= 0.05 + 1e-12, (truth, wrong)


@pytest.mark.parametrize("b", [0.0, -0.04])
def test_the_interval_covers_where_bs_sign_is_seldom_settled(b: float) -> None:
    """Drawn: 20 times 200 rows, A wrong on half of those of the split, B moving by b either way."""
    draw, missed = torch.Generator().manual_seed(1), 0
    for _ in range(20):
        moved, chance = torch.rand(200, generator=draw) < 0.5, torch.rand(200, generator=draw)
        before = torch.rand(200, generator=draw) < 0.5
        after = torch.where(chance < 0.2 + b, 1, torch.where(chance < 0.4, 0, before.long())).bool()
        suite = mc.Suite({"cue": outcomes(torch.ones(200, dtype=torch.bool), before), "hue": outcomes(~moved, after)})
        low, high = mc.compare_mechanisms(A, B, suite).less["hue"].interval
        truth = 0.5 - abs(0.2 + b - 0.4 * 0.5)
        missed += not low <= truth <= high
    assert missed <= 3  # more than 3 of 20 at 5 % have a probability of 2 %


# ---------------------------------------------------------------- records


def test_files_hold_it() -> None:
    found = compare((0.5, 0.5), hue=(0.1, 0.3))
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    less = found.less["hue"]
    assert record["less"] == {"hue": {**vars(less), "interval": list(less.interval)}}
    assert str(less).startswith("hue: less on B by 0.2 of 0.4, 50.0% (95 % interval 0.1")
    assert f"  {less}" in str(found).splitlines()
    suite = mc.Suite({n: outcomes(right(a), right(b)) for n, (a, b) in {"cue": (0.5, 0.5), "hue": (0.1, 0.3)}.items()})
    plain = json.loads(mc.audit(A, B, suite, ts=3).to_json())
    assert plain["comparison"]["less"]["hue"]["amount"] == less.amount
    loaded = mc.load_result(plain)
    assert isinstance(loaded, mc.Audit) and loaded.comparison.less == found.less
