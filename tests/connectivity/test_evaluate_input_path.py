"""Paths between inputs: convex and closed-form networks, brute force, bends, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn

import mechconn as mc
from world import TRIGGER, World, model_in_use
from zoo import FEATURES, Named, build, images, mlp, norm_conv, norm_mlp, rows

QUICK = mc.InputBend(lr=0.02, steps=150, closeness=0.0, variation=0.0)


class Hill(nn.Module):
    """Label 0 is unlikely near the origin: l = log(1 + exp(h exp(-|x|^2)))."""

    def __init__(self, height: float = 3.0) -> None:
        super().__init__()
        self.height = height

    def forward(self, x: Tensor) -> Tensor:
        found = self.height * torch.exp(-x.flatten(1).square().sum(1))
        return torch.stack([torch.zeros_like(found), found], 1)


LEFT, RIGHT = torch.tensor([[-2.0, 0.1]]), torch.tensor([[2.0, 0.1]])
LABEL = torch.tensor([0])


def hill_loss(x: float, y: float, height: float = 3.0) -> float:
    return math.log1p(math.exp(height * math.exp(-(x * x + y * y))))


def pairs(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    (a, y), (c, _) = rows(count, seed), rows(count, seed + 100)
    return a, c, y


# ---------------------------------------------------------------- straight paths


def test_a_linear_network_has_no_gap_on_any_path() -> None:
    """Cross-entropy of a linear map is convex along a line, so that its largest value stands at an end."""
    found = mc.evaluate_input_path(build(lambda: nn.Linear(FEATURES, 3)), *pairs(40), bends=1, refine=5)
    assert max(found.values("gap")) <= 1e-12 and found.values("rise") == [0.0] * 40
    assert [pair.bends for pair in found] == [0] * 40 and found.values("gap", "bent") == found.values("gap")


def test_a_hill_between_two_inputs_has_its_closed_form() -> None:
    (found,) = mc.evaluate_input_path(Hill(), LEFT, RIGHT, LABEL, ts=21)
    ends = hill_loss(2.0, 0.1)
    assert found.barrier == pytest.approx(hill_loss(0.0, 0.1), rel=1e-6) and found.straight.highest_at == 0.5
    assert found.gap == pytest.approx(hill_loss(0.0, 0.1) - ends, rel=1e-6)
    assert found.rise == pytest.approx(found.gap, rel=1e-6) and found.distance == pytest.approx(4.0)


def test_more_points_near_the_highest_raise_the_barrier_toward_the_paths_own() -> None:
    """The top of the hill lies between two points of the grid."""
    ends = torch.tensor([[-2.0, 0.0]]), torch.tensor([[2.3, 0.0]])
    coarse, close = (mc.evaluate_input_path(Hill(), *ends, LABEL, ts=6, refine=count)[0] for count in (0, 41))
    assert coarse.barrier < close.barrier <= hill_loss(0.0, 0.0) + 1e-6
    assert close.barrier == pytest.approx(hill_loss(0.0, 0.0), abs=1e-3) and len(close.straight.ts) == 47
    assert list(close.straight.ts) == sorted(close.straight.ts)


@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_losses_are_those_of_the_network_at_every_point(factory: Any) -> None:
    model, (a, c, y) = build(factory).eval(), pairs(5)
    found = mc.evaluate_input_path(model, a, c, y, ts=(0.0, 0.3, 1.0), compute=mc.Compute(batch_size=4))
    for number, pair in enumerate(found):
        for t, loss in zip(pair.straight.ts, pair.straight.loss, strict=True):
            x = (1 - t) * a[number] + t * c[number]
            expected = nn.functional.cross_entropy(model(x[None]).detach(), y[number : number + 1])
            assert loss == pytest.approx(float(expected), rel=1e-12)


def test_images_of_a_convolution_and_one_pair_alone() -> None:
    model, (x, y) = build(norm_conv).eval(), images(4)
    many = mc.evaluate_input_path(model, x[:2], x[2:], y[:2], ts=5)
    one = mc.evaluate_input_path(model, x[1], x[3], int(y[1]), ts=5)
    assert one[0].straight.loss == pytest.approx(many[1].straight.loss, rel=1e-12) and len(one) == 1
    assert one.quantile().interval == (-math.inf, math.inf)


def test_other_losses_and_number_types() -> None:
    """The squared error of 2 x to 0 between -1 and 1, in float64, and an array in half precision."""
    double = build(lambda: nn.Linear(1, 1, bias=False))
    cast(Tensor, double.weight).data.fill_(2.0)
    ends = np.array([[-1.0], [0.5]]), np.array([[1.0], [0.5]])
    a, c = cast(Any, ends)
    found = mc.evaluate_input_path(double, a, c, np.zeros(2), ts=3, loss=mc.losses.squared)
    assert found[0].straight.loss == (4.0, 0.0, 4.0) and found.threshold is None and found.unit == "loss units"
    a, c = (torch.tensor(part).half() for part in ends)
    half = mc.evaluate_input_path(double.bfloat16(), a, c, torch.zeros(2), ts=3, loss=mc.losses.squared)
    assert half.values() == [4.0, 1.0]


# ---------------------------------------------------------------- bent paths


@pytest.mark.parametrize("clip", [None, (-2.5, 2.5), (-2.0, 2.0)])
def test_a_bend_goes_round_the_hill_within_its_hyperplane(clip: tuple[float, float] | None) -> None:
    found = mc.evaluate_input_path(Hill(), LEFT, RIGHT, LABEL, 1, ts=41, bend=replace(QUICK, clip=clip))
    (pair,), (bends,) = found, found.bent_points
    assert pair.bent is not None and pair.bends == 1 and bends.shape == (1, 2)
    assert abs(float(bends[0, 0])) <= 1e-6  # the hyperplane through the top, at right angles to the line
    assert float(bends[0, 1]) > 0.8 and pair.bent.barrier < 0.9 * pair.barrier
    assert clip is None or float(bends.abs().max()) <= clip[1]
    up = float(bends[0, 1]) - 0.1
    assert pair.length == pytest.approx(2 * math.hypot(2.0, up), rel=1e-5)
    # Brute force along the two pieces, at the places of the result.
    for t, loss in zip(pair.bent.ts, pair.bent.loss, strict=True):
        along = min(t, 1 - t) * 2
        assert loss == pytest.approx(hill_loss(2.0 - 2.0 * along, 0.1 + up * along), rel=1e-4)


def test_bends_of_many_networks_stay_in_their_hyperplanes_and_never_raise_a_barrier() -> None:
    model, x = build(mlp, 3), rows(100)[0]
    model.get_parameter("0.weight").data.mul_(9.0)
    model.get_parameter("2.weight").data.mul_(5.0)
    answers = model(x).argmax(1)
    a, c, y = mc.pair_inputs(mc.Suite({"cue": (x, answers)}), "cue")
    before: list[float] = []
    for bends in (0, 1, 2, 3):
        found = mc.evaluate_input_path(model, a, c, y, bends, ts=21, bend=replace(QUICK, steps=60, lr=0.05))
        now = found.values("barrier", "bent" if bends else "straight")
        assert all(one <= other for one, other in zip(now, before or now, strict=True))
        assert all(0 <= pair.bends <= bends for pair in found)
        before = now
        if bends != 1:
            continue
        assert sum(pair.bends for pair in found) > 5
        for number, points in enumerate(found.bent_points):
            for point in points:
                line = c[number] - a[number]
                top = a[number] + found[number].straight.highest_at * line
                assert abs(float((point - top) @ line)) / float(line.norm()) <= 1e-6
    assert any(pair.bends == 3 for pair in found)


def test_a_clipped_bend_is_in_the_range_and_in_the_hyperplane() -> None:
    """Pixels at an end of the range, where most cannot move one way."""
    model, (x, y) = build(norm_conv).eval(), images(16)
    x = (x > 0).double()
    found = mc.evaluate_input_path(model, x[:8], x[8:], y[:8], 1, ts=11, bend=replace(QUICK, clip=(0.0, 1.0), lr=0.1))
    bent = [(number, point) for number, points in enumerate(found.bent_points) for point in points]
    assert bent
    for number, point in bent:
        line = x[8 + number] - x[number]
        top = x[number] + found[number].straight.highest_at * line
        assert 0.0 <= float(point.min()) and float(point.max()) <= 1.0
        assert abs(float(((point - top) * line).sum())) / float(line.norm()) <= 1e-6


def test_a_range_holds_for_inputs_that_were_clipped_to_it_in_their_own_type() -> None:
    """float32 has no 0.1: its nearest number is above."""
    ends = torch.tensor([[-0.1, 0.05]]), torch.tensor([[0.1, 0.05]])
    found = mc.evaluate_input_path(Hill(), *ends, LABEL, 1, ts=5, bend=replace(QUICK, lr=0.5, clip=(-0.1, 0.1)))
    assert found[0].bends == 1 and float(found.bent_points[0].abs().max()) == float(torch.tensor(0.1))


@pytest.mark.parametrize("clip", [None, (-9.0, 9.0)])
def test_a_bend_that_is_not_finite_is_not_kept(clip: tuple[float, float] | None) -> None:
    """Adam with a step of 1e30 leaves what float32 can square."""
    bend = mc.InputBend(steps=3, lr=1e30, clip=clip)
    for loss in (mc.losses.cross_entropy, lambda z, y: nn.functional.cross_entropy(z * z.exp(), y, reduction="none")):
        found = mc.evaluate_input_path(Hill(), LEFT, RIGHT, LABEL, 2, ts=11, bend=bend, loss=loss)
        assert found.values(path="bent")[0] <= found.values()[0] and all(map(math.isfinite, found[0].bent.loss))


def test_pairs_are_bent_each_by_itself_whatever_the_batches() -> None:
    model, (a, c, y) = build(mlp, 3), pairs(6)
    whole, parts = (
        mc.evaluate_input_path(model, a, c, y, 1, ts=11, bend=QUICK, compute=mc.Compute(batch_size=size))
        for size in (None, 2)
    )
    assert whole.values(path="bent") == pytest.approx(parts.values(path="bent"), rel=1e-9)


def test_closeness_and_variation_hold_a_bend_back() -> None:
    free, held = (
        mc.evaluate_input_path(Hill(), LEFT, RIGHT, LABEL, 1, bend=replace(QUICK, closeness=weight)).bent_points[0]
        for weight in (0.0, 5.0)
    )
    assert float(held[0, 1]) < float(free[0, 1])
    left, right = (torch.zeros(1, 1, 2, 2) for _ in range(2))
    left[0, 0], right[0, 0] = torch.tensor([[-2.0, 0.1], [0.0, 0.0]]), torch.tensor([[2.0, 0.1], [0.0, 0.0]])
    rough, smooth = (
        mc.evaluate_input_path(Hill(), left, right, LABEL, 1, bend=replace(QUICK, variation=weight)).bent_points[0]
        for weight in (0.0, 10.0)
    )
    start = left / 2 + right / 2
    spread = [float((p - start).diff(dim=2).abs().sum() + (p - start).diff(dim=3).abs().sum()) for p in (rough, smooth)]
    assert spread[1] < spread[0]


# ---------------------------------------------------------------- over pairs


def curve(height: float) -> mc.InputCurve:
    return mc.InputCurve((0.0, 0.5, 1.0), (0.0, height, 0.0))


def made(heights: list[float], shared: tuple[str, ...] = ()) -> mc.InputProfiles:
    found = tuple(mc.InputProfile("one", 0, curve(height), 1.0) for height in heights)
    return mc.InputProfiles(found, 2.5, shared, {"points": 3})


def test_shares_and_quantiles_have_exact_intervals() -> None:
    found = made([float(number) for number in range(1, 41)])
    share = found.share_above(30.0)
    low, high = share.interval or (0.0, 0.0)
    assert (share.value, share.pairs) == (0.25, 40)
    assert str(found.share_above(30.0, confidence=0.9)) == "0.25 (90 % interval 0.1424 to 0.3871), 40 pairs"
    assert binom.sf(9, 40, low) == pytest.approx(0.025) and binom.cdf(10, 40, high) == pytest.approx(0.025)
    median = found.quantile(0.5, "gap")
    low, high = median.interval or (0.0, 0.0)
    assert median.value == 20.0 and (low, high) == (14.0, 27.0)  # P(Bin(40, 1/2) <= 13) = 0.019
    assert made([1.0, 2.0], ("one",)).quantile().interval is None is made([1.0], ("one",)).share_above(0.5).interval


def test_an_input_in_two_pairs_takes_the_intervals_of_its_group() -> None:
    a, c, y = pairs(6)
    c[1] = a[0]
    found = mc.evaluate_input_path(build(mlp), a, c, y, ts=3, groups=["p", "p", "p", "q", "q", "q"])
    assert found.shared == ("p",) and found.groups == ("p", "q")
    assert found.notes == ("no intervals of p: pair 0, pair 1 stand in several pairs, which then depend on each other",)
    assert found.quantile(group="p").interval is None and found.quantile(group="q").interval is not None
    assert found.quantile().interval is None  # of all groups together it is not known
    assert len(found.values(group="p")) == 3 and "note: no intervals of p" in str(found)


def test_losses_that_are_not_finite_count_as_above_everything() -> None:
    broken = mc.InputCurve((0.0, 0.5, 1.0), (0.0, math.nan, 1.0))
    assert (broken.barrier, broken.gap, broken.rise, broken.highest_at) == (math.inf, math.inf, math.inf, 0.5)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return 1.0 / (outputs[:, 0] - outputs[:, 0])

    found = mc.evaluate_input_path(build(mlp), *pairs(3), 1, ts=3, loss=loss)
    assert found.values() == [math.inf] * 3 == found.values(path="bent") and found.plot() and found.plot_pair(1)


def test_what_is_asked_of_pairs_is_checked() -> None:
    found = made([1.0, 2.0])
    for call, text in (
        (lambda: found.values("height"), "on must be one of 'barrier', 'gap', 'rise', got 'height'"),  # pyright: ignore
        (lambda: found.values(path="bent"), "path must be one of 'straight', got 'bent'"),
        (lambda: found.values(group="two"), "group must be one of 'one', got 'two'"),
        (lambda: found.quantile(1.0), "share must lie above 0 and below 1, got 1.0"),
        (lambda: found.share_above(math.nan), "threshold must be a number in the units of the loss, got nan"),
        (lambda: found.share_above(1.0, confidence=95.0), "confidence must lie above 0 and below 1, got 95.0"),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value).startswith(text)


# ---------------------------------------------------------------- pairs of a suite


def suite(count: int = 40) -> mc.Suite:
    x, y = rows(count)
    return mc.Suite({"cue": (x, y), "no_cue": (x + 1.0, y), "own": rows(count, 5)}, paired=None)


def test_pairs_are_disjoint_and_of_the_classes_asked_for() -> None:
    splits = suite()
    same = mc.Suite(dict(splits), paired=True, interventions=("no_cue",))
    y = cast(Any, splits["cue"]).y
    within = mc.pair_inputs(same, "cue", "no_cue", seed=1)
    alone = mc.pair_inputs(splits, "cue", seed=1)
    across = mc.pair_inputs(same, "cue", "no_cue", by="other class")
    for found in (within, alone, across):
        used = [*found.rows_a.tolist(), *found.rows_c.tolist()]
        assert len(used) == len(set(used)) and len(found) > 8
        assert torch.equal(found.labels, y[found.rows_a])
    assert torch.equal(y[within.rows_a], y[within.rows_c]) and bool((y[across.rows_a] != y[across.rows_c]).all())
    assert torch.equal(within.x_c, cast(Any, splits["cue"]).x[within.rows_c] + 1.0)
    assert torch.equal(within.rows_a, mc.pair_inputs(same, "cue", "no_cue", seed=1).rows_a)
    assert not torch.equal(within.rows_a, mc.pair_inputs(same, "cue", "no_cue", seed=2).rows_a)


def test_pairs_of_other_classes_are_each_row_with_the_first_free_one_also_where_one_class_is_large() -> None:
    first, second = torch.tensor([0] * 900 + [1] * 100), torch.tensor([0] * 800 + [1] * 150 + [2] * 50)
    x = torch.arange(1000.0)[:, None]
    found = mc.pair_inputs(mc.Suite({"cue": (x, first), "own": (x + 1000, second)}), "cue", "own", by="other class")
    assert len(found) == 300 and bool((first[found.rows_a] != second[found.rows_c]).all())
    assert len(found.rows_a.unique()) == len(found.rows_c.unique()) == 300
    assert first[found.rows_a].bincount().tolist() == [200, 100]  # 0 with 1 or 2; 1 with 0


def test_the_direction_of_an_intervention_is_each_row_with_itself() -> None:
    same = mc.Suite({"cue": rows(9), "no_cue": (rows(9)[0] + 1.0, rows(9)[1])}, paired=True)
    found = mc.pair_inputs(same, "cue", "no_cue", by="row", per_class=2)
    assert torch.equal(found.rows_a, found.rows_c) and int(found.labels.bincount().max()) == 2
    x_a, x_c, labels = found
    assert torch.equal(x_c, x_a + 1.0) and len(mc.evaluate_input_path(build(mlp), x_a, x_c, labels, ts=3)) == len(found)


def test_splits_of_other_rows_give_a_pair_for_each_row_of_the_smaller_class() -> None:
    splits = mc.Suite({"cue": rows(20), "own": rows(30, 5)})
    found, (_, y), (_, z) = mc.pair_inputs(splits, "cue", "own"), rows(20), rows(30, 5)
    assert len(found) == sum(min(int((y == k).sum()), int((z == k).sum())) for k in range(3))
    assert torch.equal(y[found.rows_a], z[found.rows_c])


def test_splits_that_may_show_the_same_rows_are_taken_to_do_so() -> None:
    """Tensors with the same labels row by row: the rows that one pair shows in either split stand in no other."""
    x, y = rows(40)
    splits = {"cue": (x, y), "no_cue": (x + 1.0, y.clone())}
    for by in ("class", "other class"):
        unknown, others = (mc.pair_inputs(mc.Suite(splits, paired=p), "cue", "no_cue", by=by) for p in (None, False))
        used = [*unknown.rows_a.tolist(), *unknown.rows_c.tolist()]
        assert len(used) == len(set(used)) and len(others) > len(unknown) > 8


def shared_rows() -> mc.Suite:
    whole = mc.core.as_data("rows", rows(9))
    first, second = (mc.core.select_rows(cast(Any, whole), torch.arange(start, start + 6)) for start in (0, 3))
    return mc.Suite({"cue": first, "own": second})


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mc.pair_inputs(suite(), "cue", "own", by="row"), "by='row' joins a row of 'cue' with the same row of"),
        (lambda: mc.pair_inputs(shared_rows(), "cue", "own"), "splits 'cue' and 'own' have rows in common, and are"),
        (lambda: mc.pair_inputs(suite(), "cure"), "a must be one of 'cue', 'no_cue', 'own', got 'cure'; did you mean"),
        (lambda: mc.pair_inputs(suite(2), "cue"), "no two rows of 'cue' and 'cue' make a pair by 'class'; give more"),
        (lambda: mc.pair_inputs(mc.Suite({"cue": (A, A[:, 0])}), "cue"), "pairs are drawn by class, and split 'cue'"),
    ],
)  # fmt: skip
def test_pairs_that_cannot_be_drawn_are_refused(call: Any, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


# ---------------------------------------------------------------- the contract, and what is refused


def test_the_world_stays_when_the_model_raises_and_writing_networks_write_into_copies() -> None:
    model, (a, c, y) = model_in_use(), pairs(3)
    world = World.of(model)
    with pytest.raises(ZeroDivisionError, match="the model cannot"):
        mc.evaluate_input_path(model, torch.full_like(a, TRIGGER), c, y)
    world.check_unchanged(model)
    results = []
    for writing in (False, True):
        own = build(mlp)
        own.register_forward_pre_hook(lambda _, args, w=writing: (args[0].sub_(0.5) if w else args[0] - 0.5,))
        given = a.clone()
        results.append(mc.evaluate_input_path(own, given, c, y, 1, ts=5, bend=replace(QUICK, steps=5)).to_dict())
        assert torch.equal(given, a)
    assert results[0] == results[1]


def test_it_runs_within_inference_mode_and_tells_its_progress() -> None:
    told: list[mc.ProgressEvent] = []
    with torch.inference_mode():
        found = mc.evaluate_input_path(
            Hill(), LEFT, RIGHT, LABEL, 2, ts=11, bend=replace(QUICK, steps=9, lr=0.1), progress=told.append, seed=3
        )
    assert found[0].bends and told[0].total == 3 and told[-1].done == 3 and found.settings["seed"] == 3
    assert found.settings["bend"]["steps"] == 9 and found.settings["points"] == 11


A, C, Y = pairs(4)
REFUSED: dict[str, tuple[Any, str, tuple[Any, ...]]] = {
    "token ids": (
        lambda: mc.evaluate_input_path(build(mlp), A.long(), C.long(), Y),
        "x_a must hold floating-point numbers, got int64: no path joins whole numbers such as token ids; pass what the "
        "model takes after embedding them, or images as floats",
        (lambda: mc.evaluate_input_path(build(mlp), A.long().double(), C.long().double(), Y, ts=3),),
    ),
    "a mapping": (
        lambda: mc.evaluate_input_path(build(mlp), {"ids": Y, "x": A}, {"ids": Y, "x": C}, Y),  # pyright: ignore
        "x_a must be one floating-point tensor, got a mapping of ids, x; pass x_a['x'] where the model takes it alone",
        (lambda: mc.evaluate_input_path(build(mlp), A, C, Y, ts=3),),
    ),
    "texts": (
        lambda: mc.evaluate_input_path(build(Named), {"ids": Y}, {"ids": Y}, Y),  # pyright: ignore
        "x_a must be one floating-point tensor, got a mapping of ids; embed token ids first",
        (),
    ),
    "other shapes": (
        lambda: mc.evaluate_input_path(build(mlp), A, C[:3], Y),
        "x_a and x_c must be pairs row by row, got the shapes [4, 4] and [3, 4]",
        (),
    ),
    "labels that are no numbers": (
        lambda: mc.evaluate_input_path(build(mlp), A, C, ["cat", "dog", "cat", "dog"]),
        "labels must be the targets of the pairs as one tensor, or a single number for one pair, got list that is no",
        (lambda: mc.evaluate_input_path(build(mlp), A.float(), C, [0, 1, 0, 1], ts=3),),
    ),
    "other labels": (
        lambda: mc.evaluate_input_path(build(mlp), A, C, Y[:3]),
        "x_a and labels: 4 inputs but 3 targets; every row needs one of each",
        (),
    ),
    "no pairs": (
        lambda: mc.evaluate_input_path(build(mlp), A[:0], C[:0], Y[:0]),
        "x_a holds no inputs; give one pair or more",
        (lambda: mc.evaluate_input_path(build(mlp), A[:1], C[:1], Y[:1], ts=3),),
    ),
    "not finite": (
        lambda: mc.evaluate_input_path(build(mlp), A, C * torch.tensor([[1.0], [1.0], [math.nan], [1.0]]), Y),
        "x_c: row 2 holds NaN or infinity; leave its pair out",
        (lambda: mc.evaluate_input_path(build(mlp), A[:2], C[:2], Y[:2], ts=3),),
    ),
    "names": (
        lambda: mc.evaluate_input_path(build(mlp), A, C, Y, groups=["one"]),
        "labels and groups: 4 inputs but 1 targets; every row needs one of each",
        (),
    ),
    "outside the range": (
        lambda: mc.evaluate_input_path(build(mlp), A.clamp(-1, 2), C.clamp(-1, 2), Y, 1,
                                       bend=mc.InputBend(clip=(0, 1), steps=1)),
        "beyond clip=(0, 1) of InputBend; widen it, or leave it out",
        (
            lambda: mc.evaluate_input_path(build(mlp), A, C, Y, 1, bend=mc.InputBend(clip=(-9, 9), steps=1)),
            lambda: mc.evaluate_input_path(build(mlp), A, C, Y, 1, bend=mc.InputBend(steps=1)),
        ),
    ),
    "rows that the loss ignores": (
        lambda: mc.evaluate_input_path(build(mlp), A, C, torch.tensor([0, -1, 1, 2]), ts=3,
                                       loss=mc.losses.CrossEntropy(ignore_index=-1)),
        "the loss leaves out 3 of 12 points, whose labels it ignores, so that these paths have no loss; leave their",
        (lambda: mc.evaluate_input_path(build(mlp), A[:1], C[:1], Y[:1], ts=3,
                                        loss=mc.losses.CrossEntropy(ignore_index=-1)),),
    ),
    "a loss without slopes": (
        lambda: mc.evaluate_input_path(Hill(), LEFT, RIGHT, LABEL, 1, ts=5, loss=lambda z, y: z[:, 1].detach()),
        "the loss does not depend on the inputs by operations that have gradients, so that no bend can be found; pass",
        (lambda: mc.evaluate_input_path(Hill(), LEFT, RIGHT, LABEL, 0, ts=5, loss=lambda z, y: z[:, 1].detach()),),
    ),
    "half a bend": (lambda: mc.evaluate_input_path(build(mlp), A, C, Y, -1), "bends must be zero or more, got -1", ()),
    "a range of words": (
        lambda: mc.InputBend(clip=("0", "1")),  # pyright: ignore[reportArgumentType]
        "clip must be (least, largest) with least < largest, got ('0', '1')",
        (),
    ),
    "a range upside down": (
        lambda: mc.InputBend(clip=(1.0, 0.0)), "clip must be (least, largest) with least < largest, got (1.0, 0.0)", ()
    ),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said_in_one_line_and_the_advice_works(case: str) -> None:
    call, text, follow = REFUSED[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert text in str(caught.value) and "\n" not in str(caught.value)
    for other in follow:
        assert len(other())


def test_bends_are_not_in_files_and_say_so() -> None:
    found = mc.evaluate_input_path(Hill(), LEFT, RIGHT, LABEL, 1, ts=5, bend=replace(QUICK, steps=5))
    loaded = cast(mc.InputProfiles, mc.load_result(found.to_dict()))
    assert loaded == found and loaded[0].bent == found[0].bent
    with pytest.raises(AttributeError, match="files hold no bends; evaluate the paths again"):
        _ = loaded.bent_points
