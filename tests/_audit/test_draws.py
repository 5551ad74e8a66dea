"""Several draws of one intervention: medians of estimates and of bounds, and how often they err."""

from __future__ import annotations

import itertools
import math
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor

import mechconn as mc
from lookup import Copier, outcomes
from mechconn._audit._evidence import Evidence, of_accuracy, over_draws
from mechconn._intervals import clopper_pearson, paired_difference, paired_mean
from mechconn._interventions import cue_suite, cued_set
from mechconn._rng import uniform_by_index
from mechconn.datasets import Planted, PlantedCue

ROWS = 300


def right(count: int, rows: int = ROWS) -> Tensor:
    """The first rows are right."""
    return torch.arange(rows) < count


def suite_of(before: Tensor, *draws: Tensor) -> mc.Suite:
    first, *others = (outcomes(drawn) for drawn in draws)
    return mc.Suite({"cue": outcomes(before), "rand_cue": first}, redraws={"rand_cue": others})


@pytest.mark.parametrize("counts", [(240, 252, 210), (240, 252, 210, 231)])
def test_what_is_said_is_the_median_over_draws(counts: tuple[int, ...]) -> None:
    before, draws = right(246), [right(count) for count in counts]
    found = mc.measure_invariance(Copier(), suite_of(before, *draws))
    effect = found["rand_cue"]
    # Of three or four draws the lower bound is the second smallest, the upper the second largest; two of three err, or
    # three of four, before it does.
    confidence = 1 - 0.05 * {3: 2 / 3, 4: 3 / 4}[len(counts)]
    singles = [paired_difference(before, drawn, confidence) for drawn in draws]
    assert effect.effect == pytest.approx(median(counts) / ROWS - 246 / ROWS, abs=1e-12)
    assert effect.interval == pytest.approx(
        (sorted(low for low, _ in singles)[1], sorted(high for _, high in singles)[-2]), abs=1e-9
    )
    assert (effect.draws, effect.paired, effect.samples) == (len(counts), True, ROWS)
    assert f"median of {len(counts)} draws" in str(found)
    assert effect.changed == median(abs(count - 246) / ROWS for count in counts)
    assert effect.by_class[0].effect == effect.effect
    assert effect.by_class[0].interval == effect.interval
    assert found.accuracy["rand_cue"] - found.accuracy["cue"] == pytest.approx(effect.effect, abs=1e-12)
    shares = [clopper_pearson(count, ROWS, confidence) for count in counts]
    assert found.accuracy_interval["rand_cue"][0] == pytest.approx(sorted(low for low, _ in shares)[1], abs=1e-9)
    assert found.accuracy_interval["cue"] == clopper_pearson(246, ROWS, 0.95)


def test_one_draw_stays_as_it_is() -> None:
    before, after = right(246), right(240)
    plain = mc.Suite({"cue": outcomes(before), "rand_cue": outcomes(after)})
    found, with_none = (mc.measure_invariance(Copier(), suite) for suite in (plain, suite_of(before, after)))
    assert found == with_none
    assert found["rand_cue"].draws == 1
    assert "draws" not in str(found)
    assert found["rand_cue"].interval == paired_difference(before, after)


def test_draws_that_agree_widen_the_interval_by_what_the_median_costs() -> None:
    before, after = right(246), right(240)
    effect = mc.measure_invariance(Copier(), suite_of(before, *[after] * 5))["rand_cue"]
    assert effect.effect == pytest.approx(-6 / ROWS)
    assert effect.interval == pytest.approx(paired_difference(before, after, 1 - 0.05 * 3 / 5), abs=1e-9)


def test_an_unlucky_draw_decides_nothing() -> None:
    """The first draw alone is undetermined; of five, the four others say invariant."""
    before, unlucky, usual = right(246), right(232), right(245)
    assert mc.measure_invariance(Copier(), suite_of(before, unlucky))["rand_cue"].verdict == "undetermined"
    effect = mc.measure_invariance(Copier(), suite_of(before, unlucky, *[usual] * 4))["rand_cue"]
    assert (effect.verdict, effect.effect) == ("invariant", pytest.approx(-1 / ROWS))
    assert effect.adjusted_p_value <= 0.05


@pytest.mark.parametrize("draws", [2, 3, 4, 5])
def test_the_two_ways_to_a_verdict_agree(draws: int) -> None:
    """Bounds and p-values are found apart: by the bounds, and by whether they reach the margin."""
    seen = set()
    for seed, spread in itertools.product(range(4), (0.0, 0.03, 0.06, 0.3)):
        index = torch.arange(ROWS)
        before = uniform_by_index(index, seed, "before") < 0.9
        after = [before & (uniform_by_index(index, seed, "after", k) > spread) for k in range(draws)]
        effect = mc.measure_invariance(Copier(), suite_of(before, *after))["rand_cue"]
        low, high = effect.adjusted_interval
        assert low <= effect.effect <= high
        assert (effect.verdict != "undetermined") == (effect.adjusted_p_value <= 0.05)
        seen.add(effect.verdict)
    assert seen == {"invariant", "sensitive", "undetermined"}


@pytest.mark.parametrize("draws", [1, 2, 3, 4, 5])
def test_a_bound_is_reached_where_it_lies(draws: int) -> None:
    before = right(90, 100)
    parts = [of_accuracy(before, right(80 + 3 * k, 100), paired=True) for k in range(draws)]
    merged = over_draws(parts)
    for tail in (0.01, 0.025, 0.1):
        low, high = merged.interval(1 - 2 * tail)
        for sign, bound in ((1, low), (-1, -high)):
            assert merged.reaches(sign, tail, bound - 1e-6)
            assert not merged.reaches(sign, tail, bound + 1e-6)


@pytest.mark.parametrize("draws", [1, 2, 3, 4, 5])
def test_the_bound_errs_only_where_a_majority_of_draws_does(draws: int) -> None:
    """By Markov's inequality m of K err with probability K level / m at most, however they depend: that is alpha."""
    alpha, majority, asked = 0.05, draws // 2 + 1, []

    def bounds(confidence: float, _: float, errs: bool) -> tuple[float, float]:
        asked.append(confidence)
        return (0.5 if errs else -0.5), 1.0  # the truth is 0

    for erring in range(draws + 1):
        joint = [Evidence(0.6, 10, partial(bounds, errs=number < erring)) for number in range(draws)]
        assert (over_draws(joint).interval(1 - alpha)[0] > 0) == (erring >= majority)
    assert asked == pytest.approx([1 - alpha * majority / draws] * len(asked))


@pytest.mark.parametrize("draws", [1, 2, 3])
def test_the_median_bound_covers_for_every_truth(draws: int) -> None:
    """Enumerated: every outcome of independent draws on 3 rows, at every truth on a grid of probabilities."""
    rows = 3
    counts = [(gained, lost) for gained in range(rows + 1) for lost in range(rows + 1 - gained)]

    def evidence(gained: int, lost: int) -> Evidence:
        return of_accuracy(torch.arange(rows) >= gained, torch.arange(rows) < rows - lost, paired=True)

    def chance(gained: int, lost: int, up: float, down: float) -> float:
        ways = math.comb(rows, gained) * math.comb(rows - gained, lost)
        return ways * up**gained * down**lost * (1 - up - down) ** (rows - gained - lost)

    single = {count: evidence(*count) for count in counts}
    for (gained, lost), found in single.items():
        assert found.effect == (gained - lost) / rows
    joints = list(itertools.product(counts, repeat=draws))
    bounds = {joint: over_draws([single[count] for count in joint]).interval(0.9) for joint in joints}
    for up, down in [(g / 5, lo / 5) for g in range(6) for lo in range(6 - g)]:
        weights = {count: chance(*count, up, down) for count in counts}
        missed = [0.0, 0.0]
        for joint, (low, high) in bounds.items():
            weight = math.prod(weights[count] for count in joint)
            missed[0] += weight * (low > up - down + 1e-12)
            missed[1] += weight * (high < up - down - 1e-12)
        assert max(missed) <= 0.05 + 1e-12


@pytest.mark.slow
def test_false_invariance_at_the_margin_with_draws_that_share_rows() -> None:
    """A row is lost in each draw with a chance of its own, the effect lies on the margin: false in 5 % at most."""
    rows, margin, suites, false = 300, 0.1, 40, 0
    index = torch.arange(rows)
    for seed in range(suites):
        before = torch.ones(rows, dtype=torch.bool)
        touchy = uniform_by_index(index, seed, "touchy") < 2 * margin  # of these every draw loses one half
        after = [~(touchy & (uniform_by_index(index, seed, "draw", k) < 0.5)) for k in range(3)]
        false += mc.measure_invariance(Copier(), suite_of(before, *after), margin)["rand_cue"].verdict == "invariant"
    assert false <= 0.05 * suites


def test_effects_on_the_loss_over_draws() -> None:
    before, draws = right(246), [right(count) for count in (240, 252, 210)]
    found = mc.measure_invariance(Copier(), suite_of(before, *draws), on="loss")
    # Copier's logits are 10 on one of three classes: the loss of a right row and of a wrong one.
    losses = [math.log(math.exp(z) + 2 * math.exp(w)) - z for z, w in ((10.0, 0.0),)]
    wrong = math.log(math.exp(10.0) + 2.0)
    here, *there = (torch.where(mask, losses[0], wrong).double() for mask in (before, *draws))
    singles = [paired_mean(here, values, 1 - 0.05 * 2 / 3) for values in there]
    effect = found["rand_cue"]
    assert effect.effect == pytest.approx(median(float((values - here).mean()) for values in there), abs=1e-6)
    assert effect.interval == pytest.approx(
        (sorted(low for low, _ in singles)[1], sorted(high for _, high in singles)[1]), abs=1e-6
    )
    assert found.loss["rand_cue"] == pytest.approx(median(float(values.mean()) for values in there), abs=1e-6)
    assert effect.accuracy is not None
    assert effect.accuracy.effect == pytest.approx(-6 / ROWS)


def test_a_comparison_takes_the_median_of_differences() -> None:
    def pair(a: int, b: int) -> tuple[Tensor, Tensor]:
        return outcomes(right(a), right(b))

    counts = [(240, 230), (252, 240), (210, 180)]
    first, *others = (pair(*count) for count in counts)
    suite = mc.Suite({"cue": pair(246, 246), "rand_cue": first}, redraws={"rand_cue": others})
    found = mc.compare_mechanisms(Copier(0), Copier(1), suite)
    assert found.differences["rand_cue"].effect == pytest.approx(median(b - a for a, b in counts) / ROWS)
    low, high = found.differences["rand_cue"].interval
    assert low < -12 / ROWS < high
    runs = mc.compare_mechanisms([Copier(0), Copier(0)], [Copier(1), Copier(1)], suite)
    assert runs.a["rand_cue"].draws == 3
    assert runs.a["rand_cue"].effect == found.a["rand_cue"].effect


def test_an_audit_tells_of_several_draws(tmp_path: Path) -> None:
    counts = torch.tensor([right(count).tolist() for count in (246, 240, 252, 210)])
    suite = suite_of(*counts)
    found = mc.audit(Copier(), Copier(), suite, alignment="none")
    mc.save_report(found, tmp_path / "audit.html")
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "rand_cue was drawn 3 times: medians over the draws." in text
    assert found.to_record()["comparison"]["a"]["effects"]["rand_cue"]["draws"] == 3


def test_a_cue_suite_draws_anew() -> None:
    spec = Planted()
    scenes = cued_set(spec.sample(200, seed=0), PlantedCue(spec))
    once, often, again = (cue_suite(scenes, 3, draws) for draws in (1, 4, 4))
    assert once.redraws == {"rand_cue": (), "rand_image": ()}
    for name, values in (("rand_cue", "cue_values"), ("rand_image", "content_rows")):
        drawn, repeated = ([getattr(d, values) for d in (s[name], *s.redraws[name])] for s in (often, again))
        assert torch.equal(drawn[0], getattr(once[name], values))  # more draws change no split
        assert all(torch.equal(a, b) for a, b in zip(drawn, repeated, strict=True))
        assert len(drawn) == 4
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))
        assert all(torch.equal(d.y, once["cue"].y) for d in often.redraws[name])  # pyright: ignore


def test_two_interventions_are_judged_together_over_draws() -> None:
    """Holm's steps through merged bounds: what is settled beyond the margin leaves its level to the other."""
    before, gone, kept = right(290), right(100), right(288)
    data = [outcomes(mask) for mask in (before, gone, kept)]
    redraws = {"rand_cue": [data[1]] * 2, "rand_image": [data[2]] * 2}
    suite = mc.Suite({"cue": data[0], "rand_cue": data[1], "rand_image": data[2]}, redraws=redraws)
    found = mc.measure_invariance(Copier(), suite, margin=0.05)
    share = 2 / 3
    lower, upper = (paired_difference(before, kept, 1 - share * 2 * tail) for tail in (0.0125, 0.025))
    assert found["rand_image"].adjusted_interval == pytest.approx((lower[0], upper[1]))
    assert (found.invariant_to, found.sensitive_to) == (("rand_image",), ("rand_cue",))


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
        ((3, 3), [0, 0, 1], "draw 2 of split 'rand_cue' has 3 rows and the split 3, or other labels"),
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


def test_no_draw_at_all() -> None:
    with pytest.raises(ValueError, match="draws"):
        mc.datasets.cue_task("planted", rows=40, test_rows=40, draws=0)
