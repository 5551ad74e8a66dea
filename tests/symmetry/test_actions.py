"""Signs, scales and linear maps as objects: files, written by hand, drawn at random, and what is wrong with them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from mechconn.symmetry import Action
from symmetry.check import built, largest_change
from symmetry.kind_nets import FEATURES, NETWORKS, between, gated

KINDS = ("permutation", "sign", "scale", "linear")


@pytest.mark.parametrize(
    "case", ["SwiGLU", "grouped", "attention", "LSTM, projected", "two branches of one projection"]
)
def test_a_file_keeps_every_action(case: str, tmp_path: Path) -> None:
    factory, x, _ = NETWORKS[case]
    model = built(factory)
    symmetry = mc.symmetry_of(model, x)
    symmetry.save(tmp_path / "symmetry.json")
    again = mc.load_result(tmp_path / "symmetry.json")
    assert isinstance(again, mc.Symmetry)
    assert again.actions == symmetry.actions and again.without == symmetry.without
    assert again.to_dict() == symmetry.to_dict() and again.groups == symmetry.groups
    drawn, moved = symmetry.random(4), again.random(4)
    assert drawn.keys() == moved.keys() and all(torch.equal(drawn[name], moved[name]) for name in drawn)
    again.with_example(x).verify(model)


def test_what_is_written_by_hand_is_what_is_found() -> None:
    model = built(lambda: gated(F.silu))
    found = mc.symmetry_of(model, FEATURES)
    written = mc.Symmetry.from_axes(model, GATED_AXES, example_input=FEATURES, actions=[GATED_SIGN, GATED_SCALE])
    assert written.actions == found.actions
    assert written.groups == found.groups
    written.verify(model)
    for kind in KINDS:
        state = model.state_dict()
        ours, theirs = (s.apply(state, s.random(1, kinds=[kind])) for s in (written, found))
        assert all(torch.equal(ours[name], theirs[name]) for name in state)
    alone = found.with_axes({"up.bias": [6]})
    assert alone.actions == ()  # a tensor that was written anew has no member of what was found


def test_reasons_of_groups_that_are_gone_go_with_them() -> None:
    found = mc.symmetry_of(built(between(F.gelu)), FEATURES)
    assert set(found.without) == {"layer:sign", "layer:scale"}
    assert found.with_axes({"layer.bias": [6]}).without == found.without
    fixed: dict[str, list[str | int]] = {"layer.weight": [6, 5], "layer.bias": [6], "head.weight": [2, 6]}
    assert found.with_axes(fixed).without == {}


GATED_AXES: dict[str, list[str | int]] = {
    "gate.weight": ["gate", 5],
    "gate.bias": ["gate"],
    "up.weight": ["gate", 5],
    "up.bias": ["gate"],
    "down.weight": [2, "gate"],
}
PLACES: list[tuple[str, list[str | int], int]] = [
    ("up.weight", ["gate", 5], 1),
    ("up.bias", ["gate"], 1),
    ("down.weight", [2, "gate"], -1),
]
GATED_SIGN = Action("gate:sign", "sign", ("gate",), [(name, axes, 1) for name, axes, _ in PLACES])  # pyright: ignore[reportArgumentType]
GATED_SCALE = Action("gate:scale", "scale", ("gate",), PLACES)  # pyright: ignore[reportArgumentType]


def with_action(*places: Any, name: str = "h:scale", kind: Any = "scale", units: Any = ("h",)) -> mc.Symmetry:
    """An action of a network with one hidden layer, written by hand."""
    model = built(between(torch.relu))
    return mc.Symmetry.from_axes(model, AXES, example_input=FEATURES, actions=[Action(name, kind, units, places)])


AXES: dict[str, list[str | int]] = {"layer.weight": ["h", 5], "layer.bias": ["h"], "head.weight": [2, "h"]}
MADE = (("layer.weight", ["h", 5], 1), ("layer.bias", ["h"], 1))
READ = ("head.weight", [2, "h"], -1)

WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "the name of a group": (
        lambda: with_action(*MADE, READ, name="h"),
        r"the action 'h' has the name of another action or of a group of units; give each its own, such as h:scale$",
    ),
    "the name of another action": (
        lambda: with_action(*MADE, READ).with_actions(with_action(*MADE, READ).actions),
        r"the action 'h:scale' has the name of another action or of a group of units; give each its own, such as",
    ),
    "a unit that is not there": (
        lambda: with_action(*MADE, READ, units=("k",)),
        r"group of units in the action 'h:scale' must be one of 'h', got 'k'",
    ),
    "a tensor that is not there": (
        lambda: with_action(("layer.wieght", ["h", 5], 1)),
        r"tensor in the action 'h:scale' must be one of .*, got 'layer\.wieght'",
    ),
    "no unit": (lambda: with_action(*MADE, READ, units=()), r"needs the names of different groups of units, got none"),
    "no members at all": (lambda: with_action(), r"the action 'h:scale' needs a member, got none; write where it acts"),
    "a member without the unit": (
        lambda: with_action(("layer.weight", [6, 5], 1)),
        r"must have each of its units \(h\) once in every member, got none in layer\.weight; write a member for each",
    ),
    "a member with the unit twice": (
        lambda: with_action(("layer.weight", ["h", "h"], 1)),
        r"must have each of its units \(h\) once in every member, got h, h in layer\.weight",
    ),
    "a pattern that is too long": (
        lambda: with_action(("layer.weight", ["h", 7], 1)),
        r"layer\.weight has shape \[6, 5\], but the patterns of the action 'h:scale' make \[6, 7\]; write one pattern",
    ),
    "too few axes": (
        lambda: with_action(("layer.weight", ["h"], 1)),
        r"layer\.weight has shape \[6, 5\], but the patterns of the action 'h:scale' make \[6\]; write one pattern for",
    ),
    "no kind": (
        lambda: with_action(*MADE, kind="rotation"),
        "kind of an action must be one of 'sign', 'scale', 'linear', 'orthogonal'",
    ),
    "a linear map to another power": (
        lambda: with_action(("layer.weight", ["h", 5], 2), kind="linear"),
        r"the linear action 'h:scale' must have the exponent 1 or -1, got 2 in layer\.weight; write 1 where the matrix",
    ),
    "no member": (lambda: with_action("layer.weight"), r"members must be a list of \[tensor, a list with one pattern"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_action_that_does_not_fit_is_refused_with_what_to_do(case: str) -> None:
    make, text = WRONG[case]
    with pytest.raises(ValueError, match=text) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_an_action_gets_the_name_that_the_error_gives() -> None:
    with pytest.raises(ValueError, match="such as ") as caught:
        with_action(*MADE, READ, name="h")
    (name,) = re.findall(r"such as (\S+)$", str(caught.value))
    with_action(*MADE, READ, name=name).verify(built(between(torch.relu)))


def test_a_member_is_written_for_each_place() -> None:
    """One matrix makes six units and reads them: its two places are two members."""
    model = built(lambda: nn.Sequential(nn.Linear(6, 6, bias=False)))
    places = [("0.weight", ["h", "h"], 1)]
    with pytest.raises(ValueError, match="write a member for each place"):
        mc.Symmetry.from_axes(model, {"0.weight": ["h", "h"]}, actions=[Action("h:sign", "sign", ["h"], places)])  # pyright: ignore[reportArgumentType]
    apart = [("0.weight", ["h", 6], 1), ("0.weight", [6, "h"], 1)]
    signs = Action("h:sign", "sign", ["h"], apart)  # pyright: ignore[reportArgumentType]
    symmetry = mc.Symmetry.from_axes(model, {"0.weight": ["h", "h"]}, actions=[signs])
    s = symmetry.random(0)["h:sign"].float()
    state = {"0.weight": torch.ones(6, 6)}
    assert torch.equal(symmetry.apply(state, {"h:sign": s})["0.weight"], s[:, None] * s[None])


ELEMENTS: dict[str, tuple[str, Tensor, str]] = {
    "a scale of zero": ("gate:scale", torch.zeros(6), "must hold positive finite numbers, got others"),
    "a negative scale": ("gate:scale", -torch.ones(6), "must hold positive finite numbers"),
    "an infinite scale": ("gate:scale", torch.full((6,), math.inf), "must hold positive finite numbers"),
    "no sign": ("gate:sign", torch.full((6,), 0.5), "must hold -1 and 1, got others"),
    "another shape": ("gate:scale", torch.ones(5), r"of shape \[6\], got torch\.float32 of shape \[5\]"),
    "whole numbers": ("gate:sign", torch.ones(6, dtype=torch.int64), r"of shape \[6\], got torch\.int64"),
}


@pytest.mark.parametrize("case", ELEMENTS)
def test_an_element_that_is_none_is_refused(case: str) -> None:
    name, element, text = ELEMENTS[case]
    model = built(lambda: gated(F.silu))
    symmetry = mc.symmetry_of(model, FEATURES)
    with pytest.raises(ValueError, match=rf"{name}' .*{text}.*; draw one by symmetry\.random\(seed\)$"):
        symmetry.apply(model.state_dict(), {name: element})
    drawn = {"symmetry": symmetry, "seed": 0}
    symmetry.apply(model.state_dict(), {name: eval("symmetry.random(seed)", drawn)[name]})  # as the error advises


def test_a_matrix_needs_an_inverse() -> None:
    factory, x, _ = NETWORKS["LoRA"]
    model = built(factory)
    with pytest.raises(ValueError, match=r"'a:linear' must hold matrices with an inverse, got others"):
        mc.symmetry_of(model, x).apply(model.state_dict(), {"a:linear": torch.ones(3, 3)})


@pytest.mark.parametrize(("function", "kind"), [(F.gelu, "scale"), (F.relu6, "scale"), (F.silu, "sign")])
def test_a_wrong_action_is_refused_by_its_name_with_its_tensors_and_axes(function: Any, kind: str) -> None:
    model = built(between(function))
    name, exponent = f"h:{kind}", -1 if kind == "scale" else 1
    action = Action(name, kind, ["h"], [*MADE, ("head.weight", [2, "h"], exponent)])  # pyright: ignore[reportArgumentType]
    symmetry = mc.Symmetry.from_axes(model, AXES, example_input=FEATURES, actions=[action])
    with pytest.raises(ValueError, match=f"{name!r} changes the model's outputs in evaluation mode") as caught:
        symmetry.verify(model)
    does = {"scale": "scales", "sign": "flips"}[kind]
    assert f"{name!r} {does} layer.weight axis 0, layer.bias axis 0, head.weight axis 1; " in str(caught.value)
    assert "\n" not in str(caught.value)
    mc.Symmetry.from_axes(model, AXES, example_input=FEATURES).verify(model)


def test_an_action_that_leaves_out_the_bias_is_refused() -> None:
    model = built(between(torch.relu))
    action = Action("h:scale", "scale", ["h"], [MADE[0], READ])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"'h:scale' changes .*: 'h:scale' scales layer\.weight axis 0, head\.weight"):
        mc.Symmetry.from_axes(model, AXES, example_input=FEATURES, actions=[action]).verify(model)


# ---------------------------------------------------------------- random elements


@pytest.mark.parametrize("case", ["SwiGLU", "grouped", "attention", "residual, RMS norm"])
def test_random_elements_are_well_conditioned_and_functions_of_the_seed(case: str) -> None:
    factory, x, _ = NETWORKS[case]
    model = built(factory)
    symmetry = mc.symmetry_of(model, x)
    one, same, other = (symmetry.random(seed) for seed in (1, 1, 2))
    names = [*symmetry.sizes, *(action.name for action in symmetry.actions)]
    assert list(one) == names and all(torch.equal(one[name], same[name]) for name in names)
    assert any(not torch.equal(one[name], other[name]) for name in names)
    for action in symmetry.actions:
        shape = tuple(symmetry.sizes[unit] for unit in action.units)
        drawn = one[action.name]
        assert drawn.dtype == torch.float64
        if action.kind == "linear":
            assert drawn.shape == (*shape, shape[-1])
            drawn = torch.linalg.svdvals(drawn)
        assert drawn.shape == shape
        assert bool(((drawn.abs() - 1).abs() == 0).all() if action.kind == "sign" else is_between(drawn, 0.5, 2.0))
    assert largest_change(model, x, symmetry) <= 1e-9


def is_between(values: Tensor, low: float, high: float) -> bool:
    return bool(((values >= low - 1e-12) & (values <= high + 1e-12)).all())


def test_random_draws_the_kinds_that_are_asked_for() -> None:
    factory, x, _ = NETWORKS["residual, no norm"]
    symmetry = mc.symmetry_of(built(factory), x)
    whole = symmetry.random(7)
    for kind in KINDS:
        drawn = symmetry.random(7, kinds=[kind])
        assert list(drawn) == [group.name for group in symmetry.groups if group.kind == kind]
        assert all(torch.equal(drawn[name], whole[name]) for name in drawn)
    assert symmetry.random(7, kinds=[]) == {}
    with pytest.raises(
        ValueError, match="kind must be one of 'permutation', 'sign', 'scale', 'linear', 'orthogonal', got 'rotation'"
    ):
        symmetry.random(7, kinds=["rotation"])  # pyright: ignore[reportArgumentType]


def test_a_draw_does_not_depend_on_other_groups() -> None:
    model = built(lambda: gated(F.silu))
    both = mc.Symmetry.from_axes(model, GATED_AXES, actions=[GATED_SIGN, GATED_SCALE])
    one = mc.Symmetry.from_axes(model, GATED_AXES, actions=[GATED_SCALE])
    for seed in range(3):
        assert torch.equal(both.random(seed)["gate:scale"], one.random(seed)["gate:scale"])
        assert torch.equal(both.random(seed)["gate"], one.random(seed)["gate"])


def test_scales_and_signs_are_spread_evenly() -> None:
    """Logarithms of scales to base 2 are uniform in -1 .. 1, of mean 0 and variance 1 / 3; half of the signs flip."""
    width = 512
    model = built(between(lambda x: x * x.abs(), width, width))
    drawn = mc.symmetry_of(model, FEATURES).random(0)
    logs = drawn["layer:scale"].log2()
    assert abs(float(logs.mean())) < 4 * math.sqrt(1 / 3 / width)
    assert float(logs.var()) == pytest.approx(1 / 3, rel=0.15)
    assert abs(float(drawn["layer:sign"].mean())) < 4 / math.sqrt(width)
