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
from mechconn.merging._scale_random import average_draws, judge_random
from mechconn.merging._scale_verdict import (
    ScaleClaim,
    ScaleQuestion,
    bound_mean,
    choose_scale,
    join_claims,
    judge_claims,
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


# ---------------------------------------------------------------- claims and verdict


def claims(moves: Any, removes: Any, *keeps: Any, stays: Any = None) -> list[ScaleClaim]:
    found = [("moves", "target", moves), ("removes", "target", removes)]
    found += [("stays", "target", stays)] if stays else []
    found += [("keeps", f"kept {n}", standing) for n, standing in enumerate(keeps)]
    return [ScaleClaim(claim, split, 0.0, (0.0, 0.0), 0.0, own) for claim, split, own in found]  # pyright: ignore


def test_what_follows_from_every_set_of_claims() -> None:
    standings = ("shown", "refuted", "open")
    for moves, removes, stays, first, second in product(standings, standings, (*standings, None), standings, standings):
        found = join_claims(claims(moves, removes, first, second, stays=stays), "lower")
        needed = {moves, first, second}
        if "refuted" in needed:
            assert found == "does not"
        elif stays == "refuted":
            assert found == "reverses"
        elif needed == {"shown"}:
            assert found == ("removes" if removes == "shown" else "lowers")
        else:
            assert found == "undetermined"
    assert join_claims([], "lower") == "no scale"


def test_what_is_removed_is_what_lies_above_the_floor() -> None:
    """Of 1000 rows of two classes 900 to 700: half of 40 points above chance; and to 500, all of them."""
    base, kept = count([True] * 900 + [False] * 100), count([True] * 1000)
    for right, standing in ((701, "open"), (500, "shown"), (800, "refuted")):
        edited = count([True] * right + [False] * (1000 - right))
        found = judge_claims(ask(floor=0.5), {"target": base, "kept": kept}, {"target": edited, "kept": kept})
        (removes,) = [claim for claim in found if claim.claim == "removes"]
        assert removes.excess == pytest.approx(0.5 * 0.9 + 0.5 * 0.5 - right / 1000) and removes.standing == standing


def test_ending_below_the_floor_has_the_exact_bound_of_its_rows() -> None:
    base, kept = count([True] * 200), count([True] * 200)
    edited = count([True] * 60 + [False] * 140)
    moves, removes, stays, keeps = judge_claims(
        ask(floor=0.5), {"target": base, "kept": kept}, {"target": edited, "kept": kept}
    )
    low, high = clopper_pearson(60, 200, 0.95)
    assert stays.interval == pytest.approx((low - 0.45, high - 0.45)) and stays.excess == pytest.approx(0.3 - 0.45)
    assert stays.upper == pytest.approx(clopper_pearson(60, 200, 1 - 0.05 / 4)[1] - 0.45)
    assert stays.standing == "refuted"
    assert join_claims([moves, removes, stays, keeps], "lower") == "reverses"
    before, clustered = (RowValues(own.values, torch.arange(200) // 2) for own in (base, edited))
    (wider,) = [
        claim
        for claim in judge_claims(ask(floor=0.5), {"target": before, "kept": kept}, {"target": clustered, "kept": kept})
        if claim.claim == "stays"
    ]
    assert wider.upper > stays.upper
    assert len(judge_claims(ask(floor=0.04), {"target": base, "kept": kept}, {"target": edited, "kept": kept})) == 3


def test_as_many_rows_as_are_said_settle_it() -> None:
    """One row in twenty is lost, a tenth may be: open with 100 rows."""

    def find(rows: int) -> mc.ScaleSearch:
        suite = make_suite(kept=plant([ALWAYS] * (19 * rows // 20) + [0.3] * (rows // 20)), target=plant([0.3] * rows))
        return search(suite, keep=("kept", 0.9), scales=(0.5,))

    few = find(100)
    assert few.verdict == "undetermined" and few.to_settle is not None
    assert f"about {few.to_settle:,} rows that judge would settle it" in few.headline
    more = 20 * (few.to_settle // 20 + 1)
    assert find(more).verdict == "removes" and find(20 * (few.to_settle * 9 // 200)).verdict == "undetermined"


def test_where_rows_are_divided_a_split_needs_more() -> None:
    """Half of the rows judge, so that twice as many as must judge make it as settled as is said."""

    def find(rows: int) -> mc.ScaleSearch:
        # One row in twenty is lost, in turn, so that both sides have their share.
        suite = make_suite(kept=plant(([ALWAYS] * 19 + [0.3]) * (rows // 20)), target=plant([0.3] * rows))
        return search(suite, keep=("kept", 0.9), scales=(0.5,), choosing=0.5)

    few = find(200)
    assert few.verdict == "undetermined" and few.to_settle is not None
    total = 2 * few.to_settle
    said = f"about {few.to_settle:,} rows that judge ({total:,} of a split at choosing=0.5) would settle it"
    assert said in few.headline
    assert find(20 * (2 * total // 20)).verdict == "removes"  # with room for how the lost rows divide


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


def test_the_choice_is_nearest_to_the_floor_and_never_raises_the_target() -> None:
    """Below chance the network follows the mechanism in reverse: 45 % is better than 10 %, and than 60 %."""
    right = count([True] * 100)
    shares = {0.0: 90, 0.5: 60, 1.0: 45, 2.0: 10}
    values = {s: {"target": count([True] * n + [False] * (100 - n)), "kept": right} for s, n in shares.items()}
    assert choose_scale(ask(floor=0.5), values, "best")[0] == 1.0
    assert choose_scale(ask(floor=0.0), values, "best")[0] == 2.0
    below = {0.0: values[2.0], 1.0: values[1.0]}  # the base is in reverse: what raises it does not lower it
    assert choose_scale(ask(floor=0.5), below, "best")[0] == 0.0
    assert choose_scale(ask("higher"), below, "best")[0] == 1.0


def test_random_changes_are_judged_as_effects_are() -> None:
    right, lost = [True] * 400, [True] * 200 + [False] * 200
    base = {"target": count(right), "kept": count(right)}
    same, worse = dict(base), {"target": count(lost), "kept": count(right)}
    (first, second) = judge_random(ask(), base, worse, [same])
    assert {first.verdict, second.verdict} == {"nothing"} and first.effect == 0.0
    assert first.further == 0.5 and second.further == 0.0
    assert judge_random(ask(), base, worse, [worse])[0].verdict == "moves"


def test_random_changes_that_cancel_are_no_nothing() -> None:
    """One draw makes every row right, the other every row wrong: the mean over draws stays at a half."""
    half = count([True, False] * 200)
    base, kept = {"target": half, "kept": half}, half
    up, down = ({"target": count([own] * 400), "kept": kept} for own in (True, False))
    (target, other) = judge_random(ask(), base, base, [up, down])
    assert target.effect == 0.0 and target.draws == (0.5, -0.5)
    assert target.verdicts == ("moves", "moves") and target.verdict == "moves"
    assert target.bounds[0] < -0.5 < 0.5 < target.bounds[1]
    assert other.verdict == "nothing" and other.draws == (0.0, 0.0)
    assert judge_random(ask(), base, base, [base, up])[0].verdict == "moves"
    few = {"target": count([True, False] * 5), "kept": half}
    assert judge_random(ask(), few, few, [few])[0].verdict == "undetermined"
