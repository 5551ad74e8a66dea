"""The verdict on a scale: its bounds against formulas and by simulation, and what follows from every set of claims."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta

import mechconn as mc
from mechconn.mechanisms import RowValues

# The inner functions take values of rows, so that a thousand samples cost seconds.
from mechconn.merging._scale_verdict import (
    ScaleClaim,
    ScaleQuestion,
    average_draws,
    bound_mean,
    choose_scale,
    join_claims,
    judge_claims,
    judge_random,
)
from mechconn.stats import bound_paired_difference, clopper_pearson
from planted_scales import ALWAYS, make_suite, plant, search


def ask(direction: Any = "lower", keep: float = 0.95, **others: Any) -> ScaleQuestion:
    given = {"on": "accuracy", "better": "higher", "enough": 0.5, "margin": 0.05, "bounds": None}
    return ScaleQuestion("target", direction, (("kept", keep),), **(given | others))


def count(right: Any) -> RowValues:
    return RowValues(torch.as_tensor(right, dtype=torch.bool), None)


# ---------------------------------------------------------------- bounds


def test_keeps_is_bounded_by_the_exact_bounds_of_its_two_parts() -> None:
    generator = np.random.default_rng(0)
    base, edited = generator.random(300) < 0.8, generator.random(300) < 0.85
    claim = judge_claims(ask(), {"target": count(base), "kept": count(base)},
                         {"target": count(base), "kept": count(edited)})[2]  # fmt: skip
    moved = bound_paired_difference(torch.tensor(base), torch.tensor(edited), 1 - 0.8 * 0.05)
    right = clopper_pearson(float(base.sum()), 300, 1 - 0.2 * 0.05)
    assert claim.interval == pytest.approx(tuple(m + 0.05 * r for m, r in zip(moved, right, strict=True)))
    assert claim.excess == pytest.approx(edited.mean() - 0.95 * base.mean())
    plain = judge_claims(ask(keep=1.0), {"target": count(base), "kept": count(base)},
                         {"target": count(base), "kept": count(edited)})[2]  # fmt: skip
    assert plain.interval == bound_paired_difference(torch.tensor(base), torch.tensor(edited), 0.95)


def test_a_mean_of_right_and_wrong_rows_has_clopper_pearsons_interval() -> None:
    low, high = bound_mean(count([True] * 30 + [False] * 70), None, "accuracy", 0.99)
    assert (low, high) == pytest.approx((beta.ppf(0.005, 30, 71), beta.ppf(0.995, 31, 70)), abs=1e-9)
    shares = average_draws([count([True] * 50 + [False] * 50), count([True] * 100)])
    assert float(shares.values.mean()) == 0.75
    low, high = bound_mean(shares, None, "accuracy", 0.95)
    assert 0.5 < low < 0.75 < high < 1.0


@pytest.mark.slow
def test_all_intervals_of_a_curve_cover_together() -> None:
    """Two splits at three scales: rows drawn anew 400 times miss some mean in 5 % of samples at most."""
    generator = np.random.default_rng(1)
    thresholds, n, missed = np.array([0.3, 0.6, 1.2]), 120, 0
    confidence = 1 - 0.05 / (2 * (2 * 3 - 1))
    for _ in range(400):
        for truth in (0.35, 0.8):
            drawn = generator.random(n)  # one row at all scales: dependent means
            bounds = [
                (bound_mean(count(drawn < truth * t), None, "accuracy", confidence), min(truth * t, 1.0))
                for t in thresholds
            ]
            if any(not low <= mean <= high for (low, high), mean in bounds):
                missed += 1
                break
    assert missed <= 0.05 * 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "kept", "wrong"),
    [
        ((0.6, 0.3), (0.8, 0.76 - 1e-9), {"removes", "lowers"}),  # what is kept is not, by a hair
        ((0.6, 0.6), (0.8, 0.8), {"removes", "lowers"}),  # the target does not move
        ((0.6, 0.3 + 1e-9), (0.8, 0.8), {"removes", "does not"}),  # it falls to a hair above half
        ((0.6, 0.55 - 1e-9), (0.8, 0.76), {"removes", "does not"}),  # both at the limit
    ],
)
def test_the_verdict_is_wrong_in_five_percent_at_most(
    target: Any, kept: Any, wrong: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the worst truths; each error is 2.5 % or less, and the sum 5 %.

    Values are those of a metric, whose bounds by betting are quick; how many rows would settle it is left out.
    """
    monkeypatch.setattr("mechconn.merging._scale_verdict.find_smallest_count", lambda *_: None)
    generator, repeats, errors = np.random.default_rng(2), 300, 0
    asked = ask(on="sure", bounds=(0.0, 1.0))
    for _ in range(repeats):
        base, edited = ({}, {})
        for split, (before, after) in (("target", target), ("kept", kept)):
            drawn, other = generator.random(250), generator.random(250)
            sides = ((drawn < before).astype(float), (other < after).astype(float))
            base[split], edited[split] = (RowValues(torch.from_numpy(side), None) for side in sides)
        errors += join_claims(judge_claims(asked, base, edited), 0.5, "lower") in wrong
    assert errors <= 0.05 * repeats


# ---------------------------------------------------------------- claims and verdict


def claims(moves: Any, removes: Any, *keeps: Any) -> list[ScaleClaim]:
    found = [("moves", "target", moves), ("removes", "target", removes)]
    found += [("keeps", f"kept {n}", standing) for n, standing in enumerate(keeps)]
    return [ScaleClaim(claim, split, 0.0, (0.0, 0.0), 0.0, own) for claim, split, own in found]  # pyright: ignore


def test_what_follows_from_every_set_of_claims() -> None:
    standings = ("shown", "refuted", "open")
    for moves, removes, first, second in product(standings, repeat=4):
        found = join_claims(claims(moves, removes, first, second), 0.5, "lower")
        needed = {moves, first, second}
        if "refuted" in needed:
            assert found == "does not"
        elif needed == {"shown"}:
            assert found == ("removes" if removes == "shown" else "lowers")
        else:
            assert found == "undetermined"
        assert join_claims(claims(moves, removes, first, second), 0.0, "lower") == "does not"


def test_as_many_rows_as_are_said_settle_it() -> None:
    """One row in twenty is lost, a tenth may be: open with 100 rows."""

    def find(rows: int) -> mc.ScaleSearch:
        suite = make_suite(kept=plant([ALWAYS] * (19 * rows // 20) + [0.3] * (rows // 20)), target=plant([0.3] * rows))
        return search(suite, keep=("kept", 0.9), scales=(0.5,))

    few = find(100)
    assert few.verdict == "undetermined" and few.to_settle is not None
    assert f"about {few.to_settle:,} rows of a split would settle it" in few.headline
    more = 20 * (few.to_settle // 20 + 1)
    assert find(more).verdict == "removes" and find(20 * (few.to_settle * 9 // 200)).verdict == "undetermined"


def test_a_choice_among_scales_breaks_ties_by_the_smallest() -> None:
    right, half = [True] * 20, [True] * 10 + [False] * 10
    values = {s: {"target": count(half if s else right), "kept": count(right)} for s in (-1.0, -0.5, 0.0, 0.5, 1.0)}
    assert choose_scale(ask(), values, "best")[0] == 0.5
    assert choose_scale(ask(), values, "largest")[0] == 1.0
    values[1.0] = {"target": count(half), "kept": count(half)}
    chosen, kept = choose_scale(ask(), values, "largest")
    assert chosen == 0.5 and kept == {-1.0: True, -0.5: True, 0.0: True, 0.5: True, 1.0: False}
    only_below = {s: own for s, own in values.items() if s <= 0}
    assert choose_scale(ask(), only_below, "largest")[0] == 0.0


def test_random_changes_are_judged_as_effects_are() -> None:
    right, lost = [True] * 400, [True] * 200 + [False] * 200
    base = {"target": count(right), "kept": count(right)}
    same, worse = dict(base), {"target": count(lost), "kept": count(right)}
    (first, second) = judge_random(ask(), base, worse, same, 0.5)
    assert {first.verdict, second.verdict} == {"nothing"} and first.effect == 0.0
    assert first.further == 0.5 and second.further == 0.0
    assert judge_random(ask(), base, worse, worse, 0.5)[0].verdict == "moves"
    assert judge_random(ask(), base, worse, worse, 0.0) == ()
