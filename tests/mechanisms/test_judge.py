"""Verdicts, p-values and Holm's steps against closed forms and a slow reading of the procedure."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

import mechconn as mc
from lookup import Copier, outcomes
from mechconn.mechanisms._difference_evidence import DifferenceEvidence
from mechconn.mechanisms._judge import judge_family, judge_interval
from mechconn.stats import Interval, bound_count_difference
from reference_audit import claims_at

MARGIN = 1.0


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((-0.05, 0.05), "invariant"),
        ((0.0, 0.0), "invariant"),
        ((0.01, 0.049), "invariant"),
        ((-0.051, 0.02), "undetermined"),
        ((-0.2, 0.3), "undetermined"),
        ((0.04, 0.2), "undetermined"),
        ((0.05, 0.2), "undetermined"),
        ((0.0501, 0.2), "sensitive"),
        ((-0.3, -0.0501), "sensitive"),
        ((-0.3, -0.05), "undetermined"),
    ],
)
def test_verdicts(interval: tuple[float, float], verdict: str) -> None:
    assert judge_interval(interval, 0.05) == verdict


# ---------------------------------------------------------------- normal effects: everything has a closed form


def normal(effect: float, error: float, units: int = 100) -> DifferenceEvidence:
    """A normal estimate of known standard error, which falls with the root of the number of units."""

    def bounds(confidence: float, n: float) -> Interval:
        half = NormalDist().inv_cdf((1 + confidence) / 2) * error * math.sqrt(units / n)
        return effect - half, effect + half

    return DifferenceEvidence(effect, units, bounds)


@pytest.mark.parametrize("effect", [-2.5, -1.2, -0.7, 0.0, 0.4, 0.99, 1.01, 3.0])
@pytest.mark.parametrize("error", [0.1, 0.5, 2.0])
def test_one_intervention_has_two_one_sided_tests(effect: float, error: float) -> None:
    """Invariant: twice the larger of the tests of both margins; sensitive: twice that of the margin passed."""
    found = judge_family({"one": normal(effect, error)}, MARGIN)["one"]
    z = (MARGIN - abs(effect)) / error
    expected = max(2 * float(norm.sf(abs(z))), 1e-12)
    assert found.p_value == pytest.approx(expected, rel=2e-6)
    assert found.adjusted_p_value == found.p_value
    assert found.interval == found.adjusted_interval == pytest.approx(normal(effect, error).interval(0.95))
    assert found.confidence == pytest.approx(0.95)
    claimed = "invariant" if abs(effect) <= MARGIN else "sensitive"
    assert found.verdict == (claimed if expected <= 0.05 else "undetermined")


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(0.05, 1.0)), min_size=1, max_size=5),
)
def test_holms_steps_are_those_of_the_slow_reading(estimates: list[tuple[float, float]]) -> None:
    family = {str(i): normal(effect, error) for i, (effect, error) in enumerate(estimates)}
    found = judge_family(family, MARGIN)
    expected = claims_at(0.05, estimates, MARGIN)
    assert [judgement.verdict for judgement in found.values()] == expected
    for i, judgement in enumerate(found.values()):
        assert judgement.adjusted_p_value >= judgement.p_value
        assert judge_interval(judgement.adjusted_interval, MARGIN) == judgement.verdict
        if 1e-11 < judgement.adjusted_p_value < 0.9:  # claimed from this level on, and not below it
            assert claims_at(judgement.adjusted_p_value * 1.001, estimates, MARGIN)[i] != "undetermined"
            assert claims_at(judgement.adjusted_p_value * 0.999, estimates, MARGIN)[i] == "undetermined"


def test_a_settled_side_leaves_its_level_to_the_others() -> None:
    """Below the margin on two of three: the third's upper bound is judged alone, its lower bound is not."""
    family = {"a": normal(-9.0, 0.1), "b": normal(-8.0, 0.1), "c": normal(0.0, 0.1)}
    c = judge_family(family, MARGIN)["c"]
    low, high = c.adjusted_interval
    assert (low, high) == pytest.approx((0.1 * norm.ppf(0.025 / 3), 0.1 * norm.ppf(0.975)))
    assert c.confidence == pytest.approx(1 - 0.025 - 0.025 / 3)


@pytest.mark.parametrize("effects", [(1.0, 1.0, 1.0), (-1.0, 1.0, 0.0), (1.0001, -1.0001, 4.0), (0.9999, -5.0, -5.0)])
@pytest.mark.parametrize("correlation", [-0.45, 0.0, 0.95])
def test_any_wrong_claim_is_rare(effects: tuple[float, ...], correlation: float) -> None:
    """2,000 draws of correlated normal estimates with effects on or near the margin; at most 5 % hold a wrong claim."""
    draws, error, count = 2000, 0.2, len(effects)
    shared = torch.full((count, count), correlation) + (1 - correlation) * torch.eye(count)
    noise = torch.randn(draws, count, generator=torch.Generator().manual_seed(0)) @ torch.linalg.cholesky(shared).T
    truth = ["sensitive" if abs(effect) > MARGIN else "invariant" for effect in effects]
    wrong = 0
    for row in noise.tolist():
        claims = claims_at(0.05, [(effect + error * z, error) for effect, z in zip(effects, row, strict=True)], MARGIN)
        wrong += any(c not in ("undetermined", t) for c, t in zip(claims, truth, strict=True))
    # Three standard errors of the share of 2,000 draws.
    assert wrong / draws <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


# ---------------------------------------------------------------- exact effects, through the public surface


def invariance(gained: int, lost: int, rows: int, margin: float) -> mc.Effect:
    before, after = torch.ones(rows, dtype=torch.bool), torch.ones(rows, dtype=torch.bool)
    before[:gained], after[gained : gained + lost] = False, False
    suite = mc.Suite({"cue": outcomes(before), "rand_cue": outcomes(after)})
    return mc.measure_invariance(Copier(), suite, margin)["rand_cue"]


def test_false_invariance_at_the_margin_is_at_most_5_percent() -> None:
    """Enumerated: every number of gains and losses among 25 rows, weighed by its probability."""
    rows, margin = 25, 0.3
    verdicts = {
        (gained, lost): judge_interval(bound_count_difference(gained, lost, rows, 0.95), margin)
        for gained in range(rows + 1)
        for lost in range(rows + 1 - gained)
        if abs(gained - lost) <= margin * rows
    }
    assert "invariant" in verdicts.values()
    for (gained, lost), verdict in list(verdicts.items())[::20]:
        assert invariance(gained, lost, rows, margin).verdict == verdict
    for down in (0.3, 0.32, 0.4):
        up = down - margin
        log = [math.log(p) if p else -math.inf for p in (up, down, 1 - up - down)]
        false = sum(
            math.exp(
                math.lgamma(rows + 1)
                - sum(math.lgamma(n + 1) for n in counts)
                + sum(n * p for n, p in zip(counts, log, strict=True) if n)
            )
            for (gained, lost), verdict in verdicts.items()
            if verdict == "invariant"
            for counts in [(gained, lost, rows - gained - lost)]
        )
        assert false <= 0.05


def test_what_would_settle_it_settles_it() -> None:
    """No change in n rows: invariant from the n on where 1 - (0.95 alpha / 2)^(1 / n) <= margin."""
    needed = math.ceil(math.log(0.95 * 0.05 / 2) / math.log(1 - 0.05))
    assert invariance(0, 0, 10, 0.05).to_settle == needed == 73
    assert invariance(0, 0, needed, 0.05).verdict == "invariant"
    assert invariance(0, 0, needed - 1, 0.05).verdict == "undetermined"
    assert invariance(0, 0, needed, 0.05).to_settle is None


@pytest.mark.parametrize(("gained", "lost"), [(3, 5), (1, 0), (0, 9)])
def test_the_same_rates_on_so_many_rows_settle_it(gained: int, lost: int) -> None:
    few = invariance(gained, lost, 100, 0.04)
    assert few.verdict == "undetermined" and few.to_settle is not None
    times = math.ceil(few.to_settle / 100)
    assert invariance(times * gained, times * lost, times * 100, 0.04).verdict != "undetermined"
    assert invariance((times - 1) * gained, (times - 1) * lost, (times - 1) * 100, 0.04).verdict == "undetermined"


def test_an_effect_on_the_margin_is_settled_by_no_number_of_rows() -> None:
    assert invariance(0, 5, 100, 0.05).to_settle is None


def test_a_normal_effect_is_settled_by_the_square_of_the_ratio() -> None:
    """Half-width 1.96 on 100 units must shrink to the distance from the margin, 0.25."""
    found = judge_family({"one": normal(0.75, 1.0)}, MARGIN)["one"]
    assert found.to_settle == math.ceil(100 * (float(norm.ppf(0.975)) / 0.25) ** 2)
