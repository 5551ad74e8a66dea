"""Symmetries as objects: files, specs written by hand, states, and what is wrong with them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from symmetry.architectures import images, vgg
from symmetry.attention_nets import FEATURES, TOKENS, LanguageModel
from symmetry.check import built, largest_change

WRITTEN = {
    "0.weight": ["h", 5],
    "0.bias": ["h"],
    "1.weight": ["h"],
    "1.bias": ["h"],
    "1.running_mean": ["h"],
    "1.running_var": ["h"],
    "3.weight": [2, "h"],
}


def norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


@functools.cache
def of(factory: Callable[[], nn.Module], x: Tensor) -> tuple[nn.Module, mc.Symmetry]:
    model = built(factory)
    return model, mc.symmetry_of(model, x)


@pytest.mark.parametrize(("factory", "x"), [(vgg, images()), (LanguageModel, TOKENS), (norm_mlp, FEATURES)])
def test_a_file_keeps_everything_but_the_example(factory: Callable[[], nn.Module], x: Tensor, tmp_path: Path) -> None:
    model, symmetry = of(factory, x)
    symmetry.save(tmp_path / "symmetry.json")
    again = read(tmp_path / "symmetry.json").with_example(x)
    assert again.to_dict() == symmetry.to_dict()
    assert again.groups == symmetry.groups and again.axes == symmetry.axes and again.frozen == symmetry.frozen
    assert again.coverage == symmetry.coverage
    assert largest_change(model, x, again) <= 1e-12
    again.verify(model)
    with pytest.raises(ValueError, match=f"verifying a symmetry of {type(model).__name__} needs an example input"):
        read(tmp_path / "symmetry.json").verify(model)


def read(file: Path) -> mc.Symmetry:
    found = mc.load_result(file)
    assert isinstance(found, mc.Symmetry)
    return found


def test_a_file_of_the_first_release_is_read() -> None:
    old = {
        "format": 1,
        "sizes": {"h": 4},
        "axes": {"0.weight": ["h", "5"], "0.bias": ["h"], "2.weight": ["2", "h"], "2.bias": ["2"]},
        "buffers": [],
        "aliases": {},
        "frozen": [["0.weight", 1, "it belongs to the model's input"]],
        "unknown": [],
    }
    found = mc.load_result(old)
    assert isinstance(found, mc.Symmetry) and found.to_dict()["axes"] == old["axes"]
    assert found.sizes == {"h": 4} and found.frozen == {("0.weight", 1): "it belongs to the model's input"}
    found.verify(built(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))), FEATURES)


WRONG_FILES = {
    "no axes": (lambda plain: plain.pop("axes"), "axes: Field required"),
    "another format": (lambda plain: plain.update(format=99), "format: Unexpected keyword argument"),
    "no sizes": (lambda plain: plain.update(sizes={}), "the patterns name groups without a size: layer0; give each"),
    "no pattern": (lambda plain: plain["axes"].update({"0.bias": ["(h"]}), "'\\(h' is no index pattern"),
    "no list": (lambda plain: plain["axes"].update({"0.bias": 3}), "axes must be a table: tensor -> a list"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_values_that_are_no_symmetry_are_refused(case: str) -> None:
    change, text = WRONG_FILES[case]
    plain = of(norm_mlp, FEATURES)[1].to_dict()
    change(plain)
    with pytest.raises(ValueError, match=f"these values are no symmetry: .*{text}") as raised:
        mc.load_result(plain)
    assert "\n" not in str(raised.value)


def test_a_symmetry_prints_tabulates_and_draws_its_groups() -> None:
    symmetry = of(norm_mlp, FEATURES)[1]
    lines = str(symmetry).splitlines()
    assert lines[:-1] == [
        "1 group of units, 4 units in all; of 5 hidden axes of parameters 100.0 % may be permuted, 100.0 % have signs",
        "  layer0: 4 units, axes: 7, the first 0.weight axis 0",
        "  layer0:sign: 4 signs, axes: 5, the first 0.weight axis 0",
        "  layer0:sign:2: 4 signs, axes: 3, the first 1.weight axis 0",
        "  fixed axes: it belongs to the model's output (2); it belongs to the model's input (1)",
        "  no scale: tanh is not positively homogeneous (1 group)",
    ]
    assert lines[-1].startswith("  layer0:scale:approximate: approximate, error ")
    assert 1e-7 < (symmetry.approximate[0].error or 0) < 1e-3  # the epsilon of BatchNorm, 1e-5, beside a variance of 1
    assert repr(symmetry).startswith("Symmetry: 1 group of units") and len(repr(symmetry).splitlines()) <= 12
    assert symmetry.rows()[0] == {"group": "layer0", "kind": "permutation", "units": 4, "axes": 7}
    groups, fixed, without, approximate = symmetry.tables()
    assert groups.rows[0][:3] == ("layer0", "permutation", "4")
    assert ("it belongs to the model's output", "2") in fixed.rows
    assert without.rows == (("layer0:scale", "tanh is not positively homogeneous"),)
    assert [row[0] for row in approximate.rows] == ["layer0:scale:approximate"]
    assert "it belongs to the model&#39;s input" in symmetry._repr_html_()
    (axes,) = symmetry.plot().axes
    assert next(tick.get_text() for tick in axes.get_xticklabels()) == "layer0" and axes.get_ylabel() == "units"
    assert [line.get_ydata()[0] for line in axes.containers[0][:1]] == [4.0]


def test_print_is_short_whatever_the_number_of_groups() -> None:
    names = [f"g{number}" for number in range(40)]
    symmetry = mc.Symmetry({f"{name}.bias": ((name,),) for name in names}, dict.fromkeys(names, 3))
    lines = str(symmetry).splitlines()
    assert len(lines) == 8 and lines[0].startswith(
        "40 groups of units, 120 units in all; of 40 hidden axes of parameters 100.0 %"
    )
    assert lines[6:] == ["  g5: 3 units, axes: 1, the first g5.bias axis 0", "  and 34 more groups"]


def test_what_is_written_by_hand_is_what_is_found() -> None:
    model, found = of(norm_mlp, FEATURES)
    written = mc.Symmetry.from_axes(model, WRITTEN, example_input=FEATURES)
    written.verify(model)
    group = found.groups[0]
    places = [member[:2] for member in group.members]
    assert [member[:2] for member in written.groups[0].members] == places
    assert written.sizes == {"h": 4}
    assert written.coverage <= found.coverage == 1.0  # nothing says of the axes that are not named what they hold
    over = found.with_axes({"3.weight": [2, 4]})
    with pytest.raises(ValueError, match="changes the model's outputs"):
        over.verify(model)
    all_fixed = {name: [str(length) for length in tensor.shape] or [] for name, tensor in model.state_dict().items()}
    frozen = found.with_axes({name: axes for name, axes in all_fixed.items() if axes})
    assert frozen.sizes == {} and frozen.coverage == 0.0
    frozen.verify(model)


def test_sizes_follow_from_shapes_or_are_given() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(2, 12), nn.Linear(12, 2)))
    axes = {"0.weight": ["heads dim", 2], "0.bias": ["heads dim"], "1.weight": [2, "heads dim"]}
    with pytest.raises(ValueError, match="the sizes of dim, heads do not follow"):
        mc.Symmetry.from_axes(model, axes)
    symmetry = mc.Symmetry.from_axes(model, axes, sizes={"heads": 3}, example_input=torch.ones(2, 2))
    assert symmetry.sizes == {"heads": 3, "dim": 4}
    symmetry.verify(model)


def test_a_symmetry_that_leaves_something_out_or_mixes_it_up_is_named() -> None:
    model = built(norm_mlp)
    for left_out, mode in (("1.bias", "evaluation"), ("1.running_var", "evaluation"), ("0.weight", "evaluation")):
        axes = {name: texts for name, texts in WRITTEN.items() if name != left_out}
        with pytest.raises(ValueError, match="permuting group 'h'") as caught:
            mc.Symmetry.from_axes(model, axes, example_input=FEATURES).verify(model)
        text = str(caught.value)
        assert f"changes the model's outputs in {mode} mode" in text
        assert "'h' permutes " in text and "3.weight axis 1" in text and left_out not in text


@pytest.mark.parametrize("pattern", ["4 3.0", "3.0 4"])
def test_the_order_of_a_flatten_is_checked(pattern: str) -> None:
    model, symmetry = of(vgg, images())
    mine = symmetry.with_axes({"6.weight": ["layer6", pattern]})
    if pattern == "3.0 4":
        mine.verify(model)
        return
    with pytest.raises(ValueError, match=r"permuting group '3\.0' changes .* 6\.weight axis 1"):
        mine.verify(model)


def test_a_wrong_group_is_named() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)))
    axes = {"0.weight": ["a", 5], "0.bias": ["a"], "2.weight": ["b", "a"], "2.bias": ["b"], "4.weight": [2, "a"]}
    with pytest.raises(ValueError, match=r"permuting group 'a' changes .*4\.weight axis 1"):
        mc.Symmetry.from_axes(model, axes, example_input=FEATURES).verify(model)


WRONG_SPECS: dict[str, tuple[dict[str, list[str | int]], str]] = {
    "unknown tensor": ({"0.wieght": ["h", 5]}, "tensor of the symmetry must be one of"),
    "too few axes": (
        {"0.weight": ["h"]},
        r"0\.weight has shape \[4, 5\] and needs one index pattern for each axis, got 1",
    ),
    "length": ({"0.weight": ["h 3", 5]}, r"0\.weight axis 0 has 4 places, but the pattern 'h 3' makes"),
    "two lengths": ({"0.weight": ["h", "h"]}, r"0\.weight axis 1 has 5 places, but the pattern 'h' makes 4"),
    "no pattern": ({"0.weight": ["(h", 5]}, r"'\(h' is no index pattern"),
}


@pytest.mark.parametrize("case", WRONG_SPECS)
def test_a_spec_that_does_not_fit_names_the_tensor_and_the_axis(case: str) -> None:
    axes, text = WRONG_SPECS[case]
    with pytest.raises(ValueError, match=text):
        mc.Symmetry.from_axes(built(norm_mlp), axes, sizes={} if case != "length" else {"h": 2})


def test_states_and_permutations_must_be_the_networks() -> None:
    model, symmetry = of(norm_mlp, FEATURES)
    state = model.state_dict()
    (group,) = symmetry.sizes
    there = {group: torch.tensor([1, 2, 3, 0])}
    parameters = mc.parameters_of(model)
    assert symmetry.apply(parameters, there).keys() == parameters.keys()
    with pytest.raises(ValueError, match=r"tensors do not match: missing 0\.bias; unexpected extra"):
        symmetry.apply({name: t for name, t in state.items() if name != "0.bias"} | {"extra": torch.ones(1)}, there)
    with pytest.raises(ValueError, match=r"0\.weight axis 0 has 9 places"):
        symmetry.apply({**state, "0.weight": torch.ones(9, 5)}, there)
    with pytest.raises(ValueError, match="group must be one of"):
        symmetry.apply(state, {"none": torch.arange(4)})
    for wrong in ([0, 1, 2, 2], [0, 1, 2], [0.0, 1.0, 2.0, 3.0], [[0, 1], [2, 3]]):
        with pytest.raises(ValueError, match=r"must hold each of 0 \.\.\. 4 - 1 once"):
            symmetry.apply(state, {group: torch.tensor(wrong)})
    with pytest.raises(ValueError, match="tensors do not match"):
        symmetry.verify(built(lambda: nn.Linear(5, 4)))


def test_tied_weights_move_together_under_every_name() -> None:
    model, symmetry = of(LanguageModel, TOKENS)
    assert symmetry.aliases == {"head.weight": "embed.weight"}
    moved = symmetry.apply(model.state_dict(), symmetry.random(seed=3))
    assert torch.equal(moved["head.weight"], moved["embed.weight"])
    assert not torch.equal(moved["head.weight"], model.state_dict()["head.weight"])


def test_random_permutations_are_functions_of_the_seed() -> None:
    symmetry = of(vgg, images())[1]
    one, same, other = (symmetry.random(seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in symmetry.sizes)
    assert any(not torch.equal(one[name], other[name]) for name in symmetry.sizes)
    orders = symmetry.random(1, kinds=["permutation"])
    assert orders.keys() == symmetry.sizes.keys()
    assert all(torch.equal(p.sort().values, torch.arange(symmetry.sizes[name])) for name, p in orders.items())


def test_groups_have_names_that_a_pattern_can_hold() -> None:
    model = nn.Sequential()
    parts = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)))
    for name, part in zip(("a b", "(x+y)", "7", "layer7"), parts.children(), strict=True):
        model.add_module(name, part)
    symmetry = mc.symmetry_of(model, FEATURES)
    assert list(symmetry.sizes) == ["a_b", "_x_y_", "layer7"]
    record = symmetry.to_dict()
    assert record["axes"]["(x+y).weight"] == ["_x_y_", "a_b"]
    written = {name: axes for name, axes in record["axes"].items() if axes}
    assert mc.Symmetry.from_axes(model, written).sizes == symmetry.sizes
