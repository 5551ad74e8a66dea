"""Judging a transplant on planted outcomes: shares of the way, verdicts, controls, and networks that are destroyed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from hidden_cues import PLACEBO, QUICK, SPLITS, TUNED, draw, make_models
from mechconn.merging._travelled import KeptLevel, compute_share, judge_travel
from planted_transplants import ALL, BEFORE, CHANGE, FOUND, ROWS, TUNED_READER, Reader, judge, plant
from zoo import build, norm_mlp, rows


@pytest.mark.parametrize(
    ("counts", "verdict", "share"),
    [
        ((400, 1600, 1800), "travels", 12 / 14),
        ((400, 1800, 1800), "travels", 1.0),
        ((400, 400, 1800), "does not travel", 0.0),
        ((400, 800, 1800), "does not travel", 4 / 14),
        ((400, 300, 1800), "does not travel", -1 / 14),
        ((400, 1110, 1800), "undetermined", 0.71 / 1.4),
        ((1800, 1600, 400), "does not travel", 2 / 14),  # the way may lead down
        ((400, 1000, 404), "undetermined", None),  # tuning itself is not shown to move anything
    ],
)
def test_the_verdict_is_that_of_the_definitions(counts: Any, verdict: str, share: float | None) -> None:
    found = judge(ALL, plant(*counts))
    own = found.effects["transplanted"]["rand_cue"]
    assert found.verdict == verdict
    assert own.share == (None if share is None else pytest.approx(share))
    assert own.moved.effect == pytest.approx((counts[1] - counts[0]) / ROWS)
    if own.interval is not None and own.share is not None:
        assert own.interval[0] < own.share < own.interval[1]


def test_a_destroyed_network_has_no_effects_and_its_fix_does_not_travel() -> None:
    """Right on half of the rows whatever is changed: the effect goes the whole way, and so does what was to be kept."""
    found = judge(plant(1800, 1000, 1800), plant(400, 1000, 1800), plant(1800, 1000, 1800))
    own = found.effects["transplanted"]["rand_cue"]
    assert own.share == pytest.approx(1.0) and found.verdict == "does not travel"
    assert found.reasons["transplanted"][1:] == ((), True)
    assert found.kept["transplanted"].effect == pytest.approx(-0.4) and found.question.keep == "no_cue"


def test_what_must_be_kept_is_open_where_the_rows_cannot_tell() -> None:
    found = judge(ALL, plant(400, 1800, 1800), plant(1800, 1700, 1800))
    assert found.verdict == "undetermined" and found.reasons["transplanted"][1:] == ((), True)
    assert "whether accuracy on no_cue is kept is open" in found.headline and "of the way is open" not in found.headline
    assert judge(ALL, plant(400, 1800, 1800), plant(1800, 1700, 1800), tolerance=0.2).verdict == "travels"
    assert judge(ALL, plant(400, 1800, 1800), plant(1800, 1700, 1800), keep="cue").verdict == "travels"


def test_a_random_change_is_judged_alike() -> None:
    """Of the seeds, one draws the column of the change and one the last column, on which it does nothing."""
    found = [judge(ALL, plant(400, 1800, 1800), seed=seed) for seed in range(6)]
    shares = {round(own.effects["random"]["rand_cue"].share or 0.0, 3) for own in found}
    assert shares == {0.0, 1.0} and {own.verdicts["random"] for own in found} == {"travels", "does not travel"}
    assert "unaligned" not in found[0].networks and not found[0].gains


def test_intervals_hold_together_and_their_number_is_said() -> None:
    """Three networks beside the one before, each with an effect and what is kept, two beside the tuned one: eight."""
    found = judge(ALL, plant(400, 1600, 1800))
    assert found.intervals == 8
    suite = mc.Suite({"cue": ALL, "rand_cue": plant(400, 1600, 1800)}, reference="cue")
    alone = mc.compare_mechanisms(BEFORE, Reader(1.0), suite).differences["rand_cue"]
    own = found.effects["transplanted"]["rand_cue"].moved
    assert own.effect == alone.effect and own.interval[0] < alone.interval[0] and own.interval[1] > alone.interval[1]


def test_quotients_of_bounds_hold_the_share_as_often_as_both_intervals_hold() -> None:
    """Every quotient of a numerator and a denominator in their intervals lies in that of the bounds; of any signs."""
    draw_from = torch.Generator().manual_seed(0)
    for _ in range(200):
        low, width, bottom, more = (torch.rand(4, generator=draw_from, dtype=torch.float64) - 0.5).tolist()
        top = (low, low + abs(width))
        bottom = 0.1 + abs(bottom)
        under = (bottom, bottom + abs(more)) if more > 0 else (-bottom - abs(more), -bottom)
        moved, tuned = (mc.mechanisms.Difference(sum(pair) / 2, pair) for pair in (top, under))
        found = compute_share(moved, tuned)
        assert found.interval is not None
        tops, bottoms = (torch.linspace(*pair, 9, dtype=torch.float64) for pair in (top, under))
        grid = (tops[:, None] / bottoms).flatten().tolist()
        assert found.interval[0] <= min(grid) + 1e-9 and max(grid) - 1e-9 <= found.interval[1]
        assert found.interval == pytest.approx((min(grid), max(grid)))
        near = compute_share(moved, tuned, mc.mechanisms.Difference(moved.effect - tuned.effect, (-9.0, 9.0)))
        assert near.interval == pytest.approx(found.interval)


def test_a_network_that_does_what_the_tuned_one_does_goes_the_whole_way_for_certain() -> None:
    """The same answers on all rows: the gap is within what 2,000 rows may miss, and so is the share from 1."""
    found = judge(ALL, plant(400, 1800, 1800)).effects["transplanted"]["rand_cue"]
    assert found.share == 1.0 and found.interval is not None
    assert 0.98 < found.interval[0] <= 1.0 <= found.interval[1] < 1.02
    assert judge(ALL, plant(400, 1800, 1800)).effects["tuned"]["rand_cue"].interval == (1.0, 1.0)


def test_a_verdict_needs_an_effect_that_tuning_moves() -> None:
    nothing = KeptLevel(0.0, (-0.01, 0.01), (-0.01, 0.01))
    assert judge_travel({}, nothing, 0.05) == ("undetermined", (), False)
    lost = KeptLevel(-0.3, (-0.4, -0.2), (-0.4, -0.2))
    assert judge_travel({}, lost, 0.05) == ("does not travel", (), True)


def test_a_fix_travels_to_a_copy_and_is_as_gone_there() -> None:
    """The user of a cue, its copy in another order of units, and the head retrained on random cues as the fix."""
    user, hider, never = make_models()
    suite = mc.Suite({name: draw(**how) for name, how in SPLITS.items()}, reference="cue")
    symmetry = mc.symmetry_of(user, suite_rows())
    onto, tuned = (build_moved(symmetry, model) for model in (user, hider))
    change = mc.weight_change(user, hider)
    found = mc.transplant(change, user, onto, mc.WeightMatching(), symmetry)
    task = mc.RelearningTask(draw(**TUNED), "rand_image", control=never, relearning=QUICK)
    judged = mc.judge_transplant(found, onto, suite, tuned=tuned, relearn=task, tolerance=0.5)
    for split, own in judged.effects["transplanted"].items():
        assert own.moved.effect == pytest.approx(judged.effects["tuned"][split].moved.effect, abs=1e-9)
    assert judged.verdicts["tuned"] == judged.verdict == "travels"
    assert "By relearning, the transplanted network" in judged.headline
    assert "the tuned network" in judged.headline.split("By relearning")[1]
    assert "its excess over its control" in str(judged) and "one training run" in str(judged)
    assert judged.relearned["transplanted"].excess == pytest.approx(judged.relearned["tuned"].excess, abs=1e-6)
    assert set(judged.networks) == {"before", "transplanted", "unaligned", "random", "tuned"}
    assert judged.verdicts["unaligned"] != "travels" and set(judged.gains) == {"rand_cue", "rand_image"}
    placebo = mc.Placebo(draw(**PLACEBO["placebo"]), draw(**PLACEBO["shown"]))
    weaker = mc.RelearningTask(draw(**TUNED), "rand_image", placebo=placebo, relearning=QUICK)
    again = mc.judge_transplant(found, onto, suite, tuned=tuned, relearn=weaker, tolerance=0.5)
    assert again.relearned["tuned"].compared_with == "placebo"


def suite_rows() -> Tensor:
    return draw(1)[0][:4]


def build_moved(symmetry: mc.Symmetry, model: nn.Module) -> nn.Module:
    element = symmetry.random(5, kinds=("permutation",))
    return mc.with_parameters(model, symmetry.apply(mc.parameters_of(model), element))


def test_statistics_of_the_controls_must_be_chosen_and_rows_that_judge_are_noted() -> None:
    base, tuned, onto, own = (build(norm_mlp, seed).eval() for seed in range(4))
    data = rows(60, 3)
    suite = mc.Suite({"cue": data, "rand_cue": (data[0].flip(1), data[1])}, reference="cue")
    policy = mc.Reestimate(data)
    found = mc.transplant(mc.weight_change(base, tuned), base, onto, None, norm=policy)
    with pytest.raises(ValueError, match="keeps normalisation statistics"):
        mc.judge_transplant(found, onto, suite, tuned=own)
    judged = mc.judge_transplant(found, onto, suite, tuned=own, norm=policy)
    assert "statistics were taken on rows that judge the transplant, in cue" in " ".join(judged.notes)
    matched = mc.transplant(mc.weight_change(base, tuned), base, onto, mc.GradientMatching(data), norm=policy)
    judged = mc.judge_transplant(matched, onto, suite, tuned=own, norm=policy)
    assert "units were matched on rows that judge the transplant, in cue" in " ".join(judged.notes)
    other = mc.judge_transplant(found, onto, suite, tuned=own, norm=mc.KeepNorm())
    assert "came from another policy" in " ".join(other.notes)


def test_one_line_says_what_is_wrong() -> None:
    suite = mc.Suite({"cue": ALL, "rand_cue": ALL}, reference="cue")
    alone = mc.Suite({"cue": ALL}, reference="cue")
    with pytest.raises(ValueError, match="needs interventions, got a suite without any"):
        mc.judge_transplant(FOUND, BEFORE, alone, tuned=TUNED_READER)
    with pytest.raises(ValueError, match="keep must be one of 'cue', 'rand_cue'"):
        mc.judge_transplant(FOUND, BEFORE, suite, tuned=TUNED_READER, keep="no_cue")
    with pytest.raises(ValueError, match="onto must be the network that got the transplant"):
        mc.judge_transplant(FOUND, TUNED_READER, suite, tuned=TUNED_READER)
    with pytest.raises(TypeError, match=r"found must be .*pass what transplant"):
        mc.judge_transplant(CHANGE, BEFORE, suite, tuned=TUNED_READER)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="least must lie above 0 and below 1"):
        mc.judge_transplant(FOUND, BEFORE, suite, tuned=TUNED_READER, least=0.0)
    assert mc.judge_transplant(FOUND, BEFORE, suite, tuned=TUNED_READER).verdict == "undetermined"
