"""Several draws of one intervention: every row counts with its mean, and how often the bounds err."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mechconn as mc
from lookup import ROWS, Copier, outcomes, right
from mechconn.core import draw_uniform
from mechconn.datasets import Planted, PlantedCue, make_cue_suite, make_cued_set
from mechconn.mechanisms._difference_evidence import compare_accuracy_effects, make_accuracy_evidence, match_counts
from mechconn.stats import (
    bound_count_difference,
    bound_paired_difference,
    bound_paired_mean,
    bound_share_difference,
    clopper_pearson,
)


def suite_of(before: Tensor, *draws: Tensor) -> mc.Suite:
    first, *others = (outcomes(drawn) for drawn in draws)
    return mc.Suite({"cue": outcomes(before), "rand_cue": first}, redraws={"rand_cue": others}, paired=True)


def test_each_row_counts_with_its_mean() -> None:
    """Of 300 rows 240 are right before; 30 of them are lost in one draw of four, 10 others are gained in two."""
    before = right(240)
    lost, gained = torch.arange(ROWS) < 30, (torch.arange(ROWS) >= 240) & (torch.arange(ROWS) < 250)
    draws = [before & ~lost, before | gained, before | gained, before]
    found = mc.measure_invariance(Copier(), suite_of(before, *draws))
    effect = found["rand_cue"]
    total, squares = 10 / 2 - 30 / 4, 10 / 4 + 30 / 16
    assert effect.effect == pytest.approx(total / ROWS)
    counts = (squares + total) / 2, (squares - total) / 2
    assert effect.interval == pytest.approx(bound_count_difference(*counts, ROWS, 0.95))
    assert effect.interval == (bound_count_difference(0, 4, ROWS, 0.95)[0], bound_count_difference(1, 3, ROWS, 0.95)[1])
    assert found.accuracy["rand_cue"] - found.accuracy["cue"] == pytest.approx(effect.effect)
    assert found.accuracy["rand_cue"] == pytest.approx(sum(float(d.double().mean()) for d in draws) / 4)
    assert found.accuracy_interval["rand_cue"] == clopper_pearson(240 + total, ROWS, 0.95)
    assert effect.changed == pytest.approx((30 / 4 + 10 / 2) / ROWS)
    assert effect.changed_interval == clopper_pearson(12.5, ROWS, 0.95)
    assert (effect.by_class[0].effect, effect.by_class[0].interval) == (effect.effect, effect.interval)
    assert (effect.draws, effect.paired, effect.samples) == (4, True, ROWS)
    assert "mean of 4 draws" in str(found)


def test_one_draw_stays_as_it_is() -> None:
    before, after = right(246), right(240)
    plain = mc.Suite({"cue": outcomes(before), "rand_cue": outcomes(after)}, paired=True)
    found, with_none = (mc.measure_invariance(Copier(), suite) for suite in (plain, suite_of(before, after)))
    assert found == with_none
    assert found["rand_cue"].draws == 1
    assert "draws" not in str(found)
    assert found["rand_cue"].interval == bound_paired_difference(before, after)


def test_draws_that_agree_are_one() -> None:
    before, after = right(246), right(240)
    once, often = (mc.measure_invariance(Copier(), suite_of(before, *[after] * k))["rand_cue"] for k in (1, 4))
    assert (often.effect, often.interval, often.verdict) == (once.effect, once.interval, once.verdict)
    assert (often.changed, often.changed_interval) == (once.changed, once.changed_interval)


def test_an_unlucky_draw_decides_nothing() -> None:
    """The first draw alone is undetermined; with four others that cost next to nothing it is invariant."""
    before, unlucky, usual = right(246), right(232), right(245)
    assert mc.measure_invariance(Copier(), suite_of(before, unlucky))["rand_cue"].verdict == "undetermined"
    effect = mc.measure_invariance(Copier(), suite_of(before, unlucky, *[usual] * 4))["rand_cue"]
    assert (effect.verdict, effect.effect) == ("invariant", pytest.approx(-(14 + 4) / 5 / ROWS))
    assert effect.adjusted_p_value <= 0.05


@pytest.mark.parametrize(
    ("moved", "counts"),
    [
        ([1.0, -1.0, -1.0, 0.0], (1, 2)),  # whole rows are counted
        ([0.5, -0.5, 0.0], (0.25, 0.25)),
        ([-0.2, -0.2, 0.0], (0.0, 0.4)),  # squares of 0.08 alone would be less than whole rows that lose 0.4 can have
        ([0.0, 0.0], (0, 0)),
    ],
)
def test_whole_rows_with_the_same_moments(moved: list[float], counts: tuple[float, float]) -> None:
    assert match_counts(torch.tensor(moved, dtype=torch.float64)) == pytest.approx(counts)


def test_a_mean_over_draws_is_narrower_than_one_draw() -> None:
    index = torch.arange(2000)
    before = index % 2 == 0  # as many to gain as to lose
    touchy = draw_uniform(index, 0, "touchy") < 0.2
    draws = [before ^ (touchy & (draw_uniform(index, 0, k) < 0.5)) for k in range(10)]
    alone, many = (mc.measure_invariance(Copier(), suite_of(before, *draws[:k]))["rand_cue"] for k in (1, 10))
    width = [high - low for low, high in (alone.interval, many.interval)]
    # Of the variance of one draw about half is of the rows themselves, and stays.
    assert 0.6 * width[0] < width[1] < 0.85 * width[0]


@pytest.mark.parametrize(
    ("share", "gain", "loss"), [(0.0, 0.0, 1.0), (0.0, 0.0, 0.9), (0.3, 0.05, 1.0), (0.1, 0.2, 1.0), (0.1, 0.6, 1.0)]
)
def test_the_error_of_a_bound_over_draws(share: float, gain: float, loss: float) -> None:
    """Summed over all outcomes of 36 rows, the effect on the margin: some gain a part, others lose."""
    rows, margin, tail, total = 36, 0.1, 0.025, 0.0
    losers = (margin + share * gain) / loss
    for gaining, losing in itertools.product(range(rows + 1 if share else 1), range(rows + 1)):
        rest = rows - gaining - losing
        if rest < 0 or gaining * gain - losing * loss < -margin * rows:
            continue  # the bound lies below the estimate
        chance = math.comb(rows, gaining) * math.comb(rows - gaining, losing) * share**gaining * losers**losing
        chance *= (1 - share - losers) ** rest
        if chance > 1e-6:
            after = torch.tensor([1 + gain] * gaining + [1 - loss] * losing + [1.0] * rest, dtype=torch.float64)
            reached = make_accuracy_evidence(torch.ones(rows, dtype=torch.bool), after, paired=True).reaches(
                +1, tail, -margin
            )
            total += chance * reached
    assert total <= tail


def test_parts_of_rows_are_rounded_to_the_safe_side() -> None:
    """A row that is lost in 3 of 4 draws bounds no better than one that is lost in all; sums of floats are no parts."""
    assert bound_count_difference(0.0, 0.75, 74, 0.95)[0] == bound_count_difference(0, 1, 74, 0.95)[0]
    assert bound_count_difference(0.75, 0.0, 74, 0.95)[0] == bound_count_difference(0, 0, 74, 0.95)[0]
    assert bound_count_difference(0.75, 0.0, 74, 0.95)[1] == bound_count_difference(1, 0, 74, 0.95)[1]
    assert bound_count_difference(0.1 + 0.2 + 0.7, 2 - 1e-12, 74, 0.95) == bound_count_difference(1, 2, 74, 0.95)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
def test_a_bound_over_draws_is_reached_where_it_lies(part: float) -> None:
    """Verdicts come from bounds, p-values from whether these are reached: the two find the same."""
    after = torch.tensor([0.0] * 4 + [part] * 9 + [1.0] * 61, dtype=torch.float64)
    found = make_accuracy_evidence(torch.arange(74) % 8 > 0, after, paired=True)
    for tail in (0.0125, 0.025, 0.1):
        low, high = found.interval(1 - 2 * tail)
        for sign, bound in ((1, low), (-1, -high)):
            assert found.reaches(sign, tail, bound - 1e-6)
            assert not found.reaches(sign, tail, bound + 1e-6)


def test_effects_on_the_loss_over_draws() -> None:
    before, draws = right(246), [right(count) for count in (240, 252, 210)]
    found = mc.measure_invariance(Copier(), suite_of(before, *draws), on="loss")
    # Copier's logits are 10 on one of three classes: the loss of a right row and of a wrong one.
    good, bad = (math.log(math.exp(10.0) + 2.0) - z for z in (10.0, 0.0))
    here, *there = (torch.where(mask, good, bad).double() for mask in (before, *draws))
    mean = torch.stack(there).mean(0)
    effect = found["rand_cue"]
    assert effect.effect == pytest.approx(float((mean - here).mean()), abs=1e-6)
    assert effect.interval == pytest.approx(bound_paired_mean(here, mean), abs=1e-6)
    assert found.loss["rand_cue"] == pytest.approx(float(mean.mean()), abs=1e-6)
    assert effect.accuracy is not None
    assert effect.accuracy.effect == pytest.approx(-12 / ROWS)


def test_splits_whose_rows_do_not_correspond() -> None:
    """Other labels than the reference: the draws have a mean row by row, the splits are independent."""
    before, after = (outcomes(right(count, 100)) for count in (90, 80))
    labels = torch.cat([torch.zeros(99, dtype=torch.int64), torch.ones(1, dtype=torch.int64)])
    suite = mc.Suite({"cue": before, "other": (after[0], labels)}, redraws={"other": [(before[0], labels)]})
    effect = mc.measure_invariance(Copier(), suite)["other"]
    right_after = [int((prediction.flatten() == labels).sum()) for prediction in (after[0], before[0])]
    assert (effect.paired, effect.changed, effect.draws) == (False, None, 2)
    assert effect.interval == pytest.approx(bound_share_difference((90, 100), (sum(right_after) / 2, 100), 0.95))
    assert effect.effect == pytest.approx(sum(right_after) / 200 - 0.9)


def test_a_comparison_takes_the_mean_of_differences() -> None:
    def pair(a: int, b: int) -> tuple[Tensor, Tensor]:
        return outcomes(right(a), right(b))

    counts = [(240, 230), (252, 240), (210, 180)]
    first, *others = (pair(*count) for count in counts)
    suite = mc.Suite({"cue": pair(246, 246), "rand_cue": first}, redraws={"rand_cue": others})
    found = mc.compare_mechanisms(Copier(0), Copier(1), suite)
    apart, a, b = found.differences["rand_cue"], found.a["rand_cue"], found.b["rand_cue"]
    assert apart.effect == pytest.approx(sum(b - a for a, b in counts) / 3 / ROWS)
    assert apart.effect == pytest.approx(b.effect - a.effect)
    assert apart.interval[0] < apart.effect < apart.interval[1]
    runs = mc.compare_mechanisms([Copier(0), Copier(0)], [Copier(1), Copier(1)], suite)
    assert (runs.a["rand_cue"].draws, runs.a["rand_cue"].effect) == (3, pytest.approx(a.effect))
    assert runs.differences["rand_cue"].effect == pytest.approx(apart.effect)


def test_a_difference_over_draws_by_hand() -> None:
    """Rows that move by -2, -1.5, 0.5 and 0: what lies within one whole row, and the rest, are bounded apart."""
    moves, counts = [-2.0, -1.5, 0.5, 0.0], [3, 4, 6, 27]
    d = torch.tensor([move for move, n in zip(moves, counts, strict=True) for _ in range(n)], dtype=torch.float64)
    a_before, b_before = torch.zeros(40, dtype=torch.bool), torch.ones(40, dtype=torch.bool)
    a_after = torch.where(d < -1, -1 - d, 0.0)  # A gains what B's loss does not make up
    b_after = 1 + d + a_after
    effect, interval = compare_accuracy_effects((a_before, b_before), (a_after, b_after), True, 0.95)
    assert effect == pytest.approx(float(d.mean()))
    inner = (6 * (0.25 + 0.5) / 2, 7 + 6 * (0.25 - 0.5) / 2)  # -1 on 7 rows, 0.5 on 6
    rest = (0.0, max(3 * 1 + 4 * 0.25, 3 + 4 * 0.5))  # -1 on 3 rows, -0.5 on 4: their sum is more than their squares
    parts = [bound_count_difference(*part, 40, 0.975) for part in (inner, rest)]
    assert interval == pytest.approx((parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]))


def test_an_unpaired_difference_over_draws_by_hand() -> None:
    before = right(80, 100), right(70, 100)
    after = torch.full((50,), 0.5, dtype=torch.float64), torch.full((50,), 0.25, dtype=torch.float64)
    effect, interval = compare_accuracy_effects(before, after, False, 0.95)
    first, second = bound_count_difference(0, 10, 100, 0.975), bound_count_difference(0, 12.5, 50, 0.975)
    assert effect == pytest.approx(-0.25 + 0.1)
    assert interval == pytest.approx((second[0] - first[1], second[1] - first[0]))


def test_an_audit_tells_of_several_draws(tmp_path: Path) -> None:
    counts = torch.tensor([right(count).tolist() for count in (246, 240, 252, 210)])
    suite = suite_of(*counts)
    found = mc.audit(Copier(), Copier(), suite, alignment="none")
    mc.save_report(found, tmp_path / "audit.html")
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "rand_cue was drawn 3 times: means over the draws." in text
    assert found.to_dict()["comparison"]["a"]["effects"]["rand_cue"]["draws"] == 3


# ---------------------------------------------------------------- suites with several draws


def test_a_cue_suite_draws_anew() -> None:
    spec = Planted()
    scenes = make_cued_set(spec.sample(200, seed=0), PlantedCue(spec))
    once, often, again = (make_cue_suite(scenes, 3, draws) for draws in (1, 4, 4))
    assert once.redraws == {"rand_cue": (), "rand_image": ()}
    for name, values in (("rand_cue", "cue_values"), ("rand_image", "content_rows")):
        drawn, repeated = ([getattr(d, values) for d in (s[name], *s.redraws[name])] for s in (often, again))
        assert torch.equal(drawn[0], getattr(once[name], values))  # more draws change no split
        assert all(torch.equal(a, b) for a, b in zip(drawn, repeated, strict=True))
        assert len(drawn) == 4
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))
        assert all(torch.equal(d.y, once["cue"].y) for d in often.redraws[name])  # pyright: ignore


def test_functions_are_drawn_anew() -> None:
    data = torch.zeros(50, 1), torch.zeros(50, dtype=torch.int64)
    functions: dict[str, Any] = {
        "noisy": lambda x, draws: x + draws.uniform("noise")[:, None],
        "no_cue": lambda x, _: x,
    }
    suite, once = (mc.intervened(data, functions, seed=3, draws=draws) for draws in (3, 1))
    index = torch.arange(50)
    seen = [source.inputs(index) for source in (suite["noisy"], *suite.redraws["noisy"])]  # pyright: ignore
    assert len(seen) == 3 and set(suite.redraws) == {"noisy"} and not once.redraws["noisy"]
    assert torch.equal(seen[0], once["noisy"].inputs(index))  # pyright: ignore
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize(
    ("counts", "labels", "text"),
    [
        ((3, 2), [0, 0], "draw 2 of split 'rand_cue' has 2 rows and the split 3"),
        ((3, 3), [0, 0, 1], "draw 2 of split 'rand_cue' has 3 rows and the split 3, or labels in another"),
    ],
)
def test_draws_of_other_rows(counts: tuple[int, int], labels: list[int], text: str) -> None:
    data, (x, _) = outcomes(right(2, counts[0])), outcomes(right(2, counts[1]))
    suite = mc.Suite({"cue": data, "rand_cue": data}, redraws={"rand_cue": [(x, torch.tensor(labels))]})
    with pytest.raises(ValueError, match=text):
        mc.measure_invariance(Copier(), suite)


def test_what_is_wrong_with_a_draw_names_it() -> None:
    class Reader(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.expand(-1, 3)

    good, bad = (torch.full((2, 1), value) for value in (0.0, 3e38))
    y = torch.zeros(2, dtype=torch.int64)
    suite = mc.Suite({"cue": (good, y), "rand_cue": (good, y)}, redraws={"rand_cue": [(good, y), (bad * 10, y)]})
    with pytest.raises(ValueError, match="draw 3 of split 'rand_cue'"):
        mc.measure_invariance(Reader(), suite)


@pytest.mark.parametrize(
    ("redraws", "error", "text"),
    [
        ({"cue": []}, ValueError, "redraws"),
        ({"no_cue": []}, ValueError, "redraws"),
        ({"rand_cue": [iter([])]}, TypeError, "draw 2 of split 'rand_cue'"),
        ([], TypeError, "redraws"),
        ({"rand_cue": None}, TypeError, "redraws"),
        ({"rand_cue": outcomes(right(3, 5))}, TypeError, "each element of a list is one whole draw"),
    ],
)
def test_draws_that_cannot_be(redraws: Any, error: type[Exception], text: str) -> None:
    data = outcomes(right(3, 5))
    with pytest.raises(error, match=text):
        mc.Suite({"cue": data, "no_cue": data, "rand_cue": data}, redraws=redraws)


def test_draws_of_a_suite_without_interventions() -> None:
    with pytest.raises(ValueError, match="redraws needs interventions"):
        mc.Suite({"cue": outcomes(right(3, 5))}, redraws={"rand_cue": []})


def test_no_draw_at_all() -> None:
    with pytest.raises(ValueError, match="draws"):
        mc.datasets.cue_task("planted", rows=40, test_rows=40, draws=0)
