"""Barriers block by block, held against closed forms and deep copies."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.connectivity import group_parameters
from reference import activations, evaluated, loaded, pooled_statistics
from zoo import Tied, build, images, mlp, norm_conv, rows, split

NAMES = ["stem.weight", "blocks.0.conv.weight", "blocks.0.conv.bias", "blocks.1.conv.weight", "scale"]


# ---------------------------------------------------------------- which parameters make a block


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (1, {"stem": [0], "blocks": [1, 2, 3], "scale": [4]}),
        (2, {"stem": [0], "blocks.0": [1, 2], "blocks.1": [3], "scale": [4]}),
        (9, {"stem": [0], "blocks.0.conv": [1, 2], "blocks.1.conv": [3], "scale": [4]}),
        (r"(stem|scale|blocks\.\d)", {"stem": [0], "blocks.0": [1, 2], "blocks.1": [3], "scale": [4]}),
        (r"\w+", {"stem": [0], "blocks": [1, 2, 3], "scale": [4]}),
        ({"late": r"blocks\.1", "rest": r"stem|scale|blocks\.0"}, {"late": [3], "rest": [0, 1, 2, 4]}),
    ],
    ids=str,
)
def test_blocks_from_a_depth_a_pattern_or_a_mapping(blocks: Any, expected: dict[str, list[int]]) -> None:
    found, left_out = group_parameters(NAMES, blocks, None)
    assert {block: list(names) for block, names in found.items()} == {
        block: [NAMES[i] for i in places] for block, places in expected.items()
    }
    assert list(found) == list(expected) and left_out == ()


def test_parameters_are_left_out_by_name() -> None:
    found, left_out = group_parameters(NAMES, r"(blocks\.\d)", "stem|scale")
    assert list(found) == ["blocks.0", "blocks.1"] and left_out == ("stem.weight", "scale")


@pytest.mark.parametrize(
    ("blocks", "leave_out", "message"),
    [
        (r"(blocks)", None, "these parameters belong to no block: stem.weight, scale; add a pattern for them, or name "
         "them with leave_out='...'"),
        ({"a": "blocks", "b": ".*"}, None, "these parameters belong to two blocks: blocks.0.conv.weight (a and b), "
         "blocks.0.conv.bias (a and b), blocks.1.conv.weight (a and b); every parameter moves with one block only"),
        ({"a": ".*", "b": "head", "c": "tail"}, None, "blocks: no parameter matches 'b', 'c'; patterns are matched "
         "from the start of a parameter's name"),
        (1, "head", "leave_out: no parameter matches 'head'; patterns are matched from the start of a parameter's "
         "name"),
        (1, ".*", "blocks: no parameter matches none; patterns are matched from the start of a parameter's name"),
        ("(", None, "blocks: '(' is no regular expression (missing ), unterminated subpattern at position 0)"),
        (0, None, "blocks must be a whole number greater than zero, got 0"),
    ],
)  # fmt: skip
def test_blocks_that_cannot_be(blocks: Any, leave_out: str | None, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        group_parameters(NAMES, blocks, leave_out)
    assert str(caught.value) == message


# ---------------------------------------------------------------- profiles


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


@pytest.mark.parametrize("rest", ["a", "b"])
def test_each_block_of_a_linear_model_has_its_parabola(rest: Any) -> None:
    """f = w.x + b: as the bias alone moves by d, the loss is the mean of (r + d s)^2, r the residual at its start."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=draw, dtype=torch.float64)
    y = torch.randn(50, generator=draw, dtype=torch.float64)
    a, b = (mc.parameters_of(build(lambda: nn.Linear(3, 1), seed)) for seed in (1, 2))
    suite = mc.Suite({"cue": (x, y)})
    model = build(lambda: nn.Linear(3, 1))
    result = mc.evaluate_blocks(model, a, b, suite, {"w": "weight", "b": "bias"}, rest, ts=5, loss=squared)
    still = a if rest == "a" else b
    start = {"w": x @ a["weight"][0] + still["bias"] - y, "b": x @ still["weight"][0] + a["bias"] - y}
    slope = {"w": x @ (b["weight"] - a["weight"])[0], "b": (b["bias"] - a["bias"]).expand(50)}
    for block in ("w", "b"):
        expected = [float((start[block] + t * slope[block]).square().mean()) for t in result[block].ts]
        assert result[block].loss["cue"] == pytest.approx(expected, rel=1e-12)
        assert result.barriers("cue")[block].height == 0.0  # convex
    assert result.parameters == {"w": ("weight",), "b": ("bias",)}
    assert (result.rest, result.left_out, list(result), len(result)) == (rest, (), ["w", "b"], 2)


@pytest.mark.parametrize("rest", ["a", "b"])
def test_blocks_are_evaluated_as_deep_copies_are(rest: Any) -> None:
    model, norm, test = build(norm_conv), split(images(15), [6, 5, 4]), split(images(9, 4), [5, 4])
    a, b = (mc.parameters_of(build(norm_conv, seed)) for seed in (1, 2))
    result = mc.evaluate_blocks(
        model, a, b, mc.Suite({"cue": test}), 1, rest, (0.0, 0.3, 1.0), norm=mc.Reestimate(norm)
    )
    assert list(result) == ["0", "1", "3", "4", "7"]
    for block, profile in result.items():
        for i, t in enumerate(profile.ts):
            mixed = {k: torch.lerp(a[k], b[k], t) if k.startswith(block) else (a if rest == "a" else b)[k] for k in a}
            here = loaded(model, mixed)
            buffers = dict(here.named_buffers())
            for name, calls in activations(here, norm).items():
                mean, variance = pooled_statistics(calls)
                buffers[f"{name}.running_mean"].copy_(mean)
                buffers[f"{name}.running_var"].copy_(variance)
            assert (profile.loss["cue"][i], profile.accuracy["cue"][i]) == pytest.approx(
                evaluated(here, test), rel=1e-10
            )


SUITE = mc.Suite({"cue": rows(20), "hue": rows(9, 2)})


def run(factory: Any = mlp, **settings: Any) -> mc.BlockProfiles:
    ends = [mc.parameters_of(build(factory, seed)) for seed in (1, 2)]
    return mc.evaluate_blocks(build(factory), *ends, suite=SUITE, ts=3, **settings)


def test_all_in_one_block_is_the_whole_path() -> None:
    ends = [mc.parameters_of(build(Tied, seed)) for seed in (1, 2)]
    path = mc.evaluate_path(build(Tied), mc.LinearPath(*ends), SUITE, ts=3)
    assert run(Tied, blocks={"all": ""})["all"].loss == path.loss


def test_what_is_left_out_stays() -> None:
    result = run(leave_out="0")
    assert list(result) == ["2"] and result.left_out == ("0.weight", "0.bias")
    assert result["2"].loss == run()["2"].loss


def test_samples_make_intervals_and_progress_counts_every_point() -> None:
    told: list[mc.ProgressEvent] = []
    result = run(keep_samples=True, progress=told.append)
    assert told == [mc.ProgressEvent("evaluating the blocks", done, 9) for done in range(1, 10)]
    assert all(barrier.interval is not None for barrier in result.barriers("cue").values())


# ---------------------------------------------------------------- two references, and blocks that accumulate


def product(**settings: Any) -> mc.BlockProfiles:
    """f = w_2 w_1 from (1, 1) to (3, 5), and f^2 as its loss."""
    model = build(lambda: nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)))
    ends = [{f"{i}.weight": torch.tensor([[w]]).double() for i, w in enumerate(ws)} for ws in ((1.0, 1.0), (3.0, 5.0))]
    suite = mc.Suite({"cue": (torch.ones(2, 1).double(), torch.zeros(2))})
    settings = {"ts": 3, **settings}
    return mc.evaluate_blocks(model, ends[0], ends[1], suite, loss=lambda f, _: f[:, 0] ** 2, **settings)


@pytest.mark.parametrize(
    ("rest", "models", "ends"),
    [("a", (4.0 - 113.0, 9.0 - 113.0), (0.0, 0.0)), ("b", (100.0 - 113.0, 81.0 - 113.0), (0.0, 0.0))],
)
def test_two_layers_by_hand(rest: Any, models: tuple[float, float], ends: tuple[float, float]) -> None:
    """L(A) = 1 and L(B) = 225; (1 + 2 t)^2 and (1 + 4 t)^2 with the rest at A, 25 and 9 times them at B."""
    found = product(rest=rest)
    against = found.barriers("cue", against="models")
    assert tuple(barrier.height for barrier in against.values()) == models
    assert {barrier.t for barrier in against.values()} == {0.5}
    assert tuple(barrier.height for barrier in found.barriers("cue").values()) == ends
    assert found.whole is not None and found.whole.loss["cue"] == (1.0, 36.0, 225.0)
    assert "less the mean loss of A and B" in str(found) and "-109" in str(product())


def test_the_two_references_differ_where_the_blocks_own_end_is_bad() -> None:
    """A network and its copy with units in reverse order, labels its own: a layer alone spoils it, and has no chord."""
    a = build(mlp, 1)
    weights = mc.parameters_of(a)
    b = {name: tensor.flip(1 if name == "2.weight" else 0) for name, tensor in weights.items() if name != "2.bias"}
    x, _ = rows(60)
    suite = mc.Suite({"cue": (x, a(x).detach().argmax(1))})
    found = mc.evaluate_blocks(a, weights, {**weights, **b}, suite, ts=3)
    ends, models = found.barriers("cue"), found.barriers("cue", against="models")
    for block, profile in found.items():
        at_a, middle, end = profile.loss["cue"]
        assert end > at_a
        assert models[block].height == pytest.approx(middle - at_a, rel=1e-9) and models[block].height > 0.0
        assert ends[block].height < models[block].height


def test_blocks_join_in_order() -> None:
    forward, backward, given = (product(cumulative=order) for order in ("forward", "backward", ["1", "0"]))
    assert (list(forward), list(backward), list(given)) == (["0", "1"], ["1", "0"], ["1", "0"])
    assert forward.parameters == {"0": ("0.weight",), "1": ("0.weight", "1.weight")}
    assert (forward["0"].loss["cue"], backward["1"].loss["cue"]) == ((1.0, 4.0, 9.0), (1.0, 9.0, 25.0))
    for found in (forward, backward, given):
        *_, last = found.values()
        assert found.whole is not None and last.loss == found.whole.loss
    assert (forward.cumulative, given.cumulative) == ("forward", "given") and "one block after another" in str(forward)


@pytest.mark.parametrize("order", [["0"], ["0", "0"], ["0", "1", "2"], [], ["0", 1], 1], ids=str)
def test_an_order_that_leaves_blocks_out(order: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^cumulative must name every block once, \['0', '1'\], in the order in which"
    ):
        product(cumulative=order)


def test_without_a_point_in_the_middle_there_is_no_barrier_against_the_models() -> None:
    found = product(ts=(0.0, 0.4, 1.0))
    assert "mean loss of A and B" not in str(found)
    with pytest.raises(ValueError, match=r"^block '0': against='models' needs the loss at t = 0.5, .* with ts=3, or "):
        found.barriers("cue", against="models")
    assert product(ts=3).barriers("cue", against="models")


def test_no_block_has_the_name_of_the_whole() -> None:
    with pytest.raises(ValueError, match=r"^a block is called 'the whole network', which stands for the line"):
        product(blocks={"the whole network": ".*"})


@pytest.mark.parametrize("on", ["loss", "accuracy"])
def test_intervals_against_the_models_are_of_the_same_rows(on: str, tmp_path: Path) -> None:
    result = run(keep_samples=True, control="random", draws=2)
    assert result.whole is not None
    for block, barrier in result.barriers("cue", on, against="models").items():
        moved, models = (own.per_sample[on]["cue"].double() for own in (result[block], result.whole))
        sign = -1.0 if on == "accuracy" else 1.0
        own = sign * (moved[1] - (models[0] + models[-1]) / 2)
        assert barrier.height == pytest.approx(float(own.mean()), abs=1e-12) and barrier.interval is not None
        if on == "loss":
            reach = scipy.stats.t.ppf(0.975, len(own) - 1) * float(own.std()) / len(own) ** 0.5
            assert barrier.interval == pytest.approx((barrier.height - reach, barrier.height + reach), abs=1e-9)
        else:
            assert barrier.interval[0] <= barrier.height <= barrier.interval[1]
    result.save(tmp_path / "blocks.json")
    again = mc.load_result(tmp_path / "blocks.json")
    assert isinstance(again, mc.BlockProfiles)
    for name in ("cue", "hue"):
        assert again.barriers(name, on, against="models") == result.barriers(name, on, against="models")
        assert again.control_barriers(name, on) == result.control_barriers(name, on)
    assert str(again) == str(result)
    for against in ("ends", "models"):
        with pytest.raises(ValueError, match=r"^block '0': .* at 95 % alone, got confidence=0.9; evaluate the"):
            again.barriers("cue", on, 0.9, against=against)
    models = result.barriers("cue", on, against="models")
    exchanged = replace(again, profiles={"0": again["2"], "2": again["0"]}).barriers("cue", on, against="models")
    assert [own.height for own in exchanged.values()] == [models["2"].height, models["0"].height]


@pytest.mark.parametrize("against", ["ends", "models"])
def test_rows_that_stand_twice_count_once_as_clusters(against: Any) -> None:
    x, y = rows(24)
    a, b = (mc.parameters_of(build(mlp, seed)) for seed in (1, 2))
    given: dict[str, Any] = {"ts": 3, "keep_samples": True}
    once = mc.evaluate_blocks(build(mlp), a, b, mc.Suite({"cue": (x, y)}), **given)
    doubled, cluster = mc.Suite({"cue": (x.repeat(2, 1), y.repeat(2))}), torch.arange(24).repeat(2)
    found = mc.evaluate_blocks(build(mlp), a, b, doubled, cluster=cluster, **given).barriers("cue", against=against)
    for block, barrier in once.barriers("cue", against=against).items():
        assert barrier.interval == pytest.approx(found[block].interval, rel=1e-9)
    with pytest.raises(ValueError, match="pass keep_samples=True"):
        mc.evaluate_blocks(build(mlp), a, b, doubled, cluster=cluster, ts=3)


def test_a_file_of_before_holds_no_models() -> None:
    old = replace(run(), whole=None)
    assert "mean loss of A and B" not in str(old)
    for ask in (lambda: old.barriers("cue", against="models"), lambda: old.plot(against="models")):
        with pytest.raises(ValueError, match=r"this file holds no models; evaluate the blocks again, or leave against"):
            ask()
    assert old.barriers("cue", against="ends")  # the remedy


@pytest.mark.parametrize("rest", ["a", "b"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_random_directions_have_the_length_of_the_blocks_way(rest: Any, dtype: torch.dtype) -> None:
    """Outputs are the weights, so that three times the loss is the squared distance to where the rest stays."""
    ends = [{"weight": torch.tensor([way], dtype=dtype)} for way in ((1.0, 2.0, 3.0), (2.0, 0.0, 5.0))]
    still = ends[0 if rest == "a" else 1]["weight"][0]
    model = build(lambda: nn.Linear(3, 1, bias=False)).to(dtype)
    suite = mc.Suite({"cue": (torch.eye(3, dtype=dtype), still)})

    def find_curves(draws: int) -> mc.BlockProfiles:
        given: dict[str, Any] = {"control": "random", "draws": draws, "keep_samples": True}
        return mc.evaluate_blocks(model, ends[0], ends[1], suite, 1, rest, 3, loss=squared, **given)

    found = find_curves(4)
    for control in found.controls["weight"]:
        curve = control.loss["cue"] if rest == "a" else control.loss["cue"][::-1]
        assert curve == pytest.approx((0.0, 9.0 / 12, 9.0 / 3), rel=1e-6 if dtype == torch.float64 else 0.05)
    ways = [control.per_sample["loss"]["cue"] for control in found.controls["weight"]]
    assert all(not torch.equal(ways[0], way) for way in ways[1:])
    fewer = find_curves(2).controls["weight"]
    assert all(torch.equal(own.per_sample["loss"]["cue"], way) for own, way in zip(fewer, ways, strict=False))
    assert "random direction" in str(found) and len(found.rows()) == 5 * 3


def test_a_block_that_does_not_move_has_random_directions_of_length_zero() -> None:
    same = mc.parameters_of(build(mlp, 1))
    found = mc.evaluate_blocks(build(mlp), same, same, SUITE, ts=3, control="random", draws=2)
    assert {barrier.height for own in found.control_barriers("cue").values() for barrier in own} == {0.0}


def test_a_block_without_a_barrier_is_named() -> None:
    result = run(loss=lambda f, y: torch.full((len(y),), torch.inf))
    with pytest.raises(ValueError, match=r"^block '0': the loss on 'cue' is inf at t = 0, so the path has no barrier"):
        result.barriers("cue")


def test_endpoints_of_another_architecture() -> None:
    a, b = mc.parameters_of(build(mlp)), mc.parameters_of(build(norm_conv))
    with pytest.raises(
        ValueError, match=r"^a and b do not match: missing 0.bias, 2.weight, 2.bias; unexpected 1.weight, "
    ):
        mc.evaluate_blocks(build(mlp), a, b, mc.Suite({"cue": rows(4)}))


@pytest.mark.usefixtures("unchecked")
def test_the_rest_stays_at_one_of_the_two() -> None:
    with pytest.raises(ValueError, match=r"^rest must be one of 'a', 'b', got 'c'"):
        run(rest="c")


def test_the_table_has_the_block_in_front(tmp_path: Path) -> None:
    result = run()
    result.to_csv(tmp_path / "blocks.csv")
    with open(tmp_path / "blocks.csv", newline="", encoding="utf-8") as handle:
        table = list(csv.DictReader(handle))
    assert list(table[0]) == ["block", "t", "split", "loss", "accuracy", "samples"]
    assert len(table) == 2 * 2 * 3
    assert [float(r["loss"]) for r in table if (r["block"], r["split"]) == ("2", "hue")] == list(
        result["2"].loss["hue"]
    )
