"""An alignment is saved, read back, printed, tabulated and drawn; what files leave out is made again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from zoo import CLASSES, FEATURES, build, mlp, rows

DATA = rows(40)


def aligned() -> tuple[nn.Module, mc.Alignment]:
    """A network whose units were shuffled, and a moment's training apart, moved back."""
    a = build(mlp)
    symmetry = mc.symmetry_of(a, DATA[0])
    state = {name: tensor + 0.01 for name, tensor in mc.parameters_of(a).items()}
    b = mc.with_parameters(a, symmetry.apply(state, {"layer0": torch.tensor([1, 0, 2, 4, 3])}))
    return b, mc.align(a, b, mc.ActivationMatching(DATA), symmetry)


def load(file: Path) -> mc.Alignment:
    found = mc.load_result(file)
    assert isinstance(found, mc.Alignment)
    return found


def test_a_file_holds_everything_but_the_weights(tmp_path: Path) -> None:
    _, found = aligned()
    found.save(tmp_path / "alignment.json")
    again = load(tmp_path / "alignment.json")
    assert again.to_dict() == found.to_dict() and str(again) == str(found) and again.rows() == found.rows()
    assert again.permutations["layer0"].dtype == torch.int64
    assert again.permutations["layer0"].tolist() == [1, 0, 2, 4, 3]
    assert again.symmetry.sizes == found.symmetry.sizes == {"layer0": 5} and FEATURES == 4
    assert again._repr_html_() == found._repr_html_()


@pytest.mark.parametrize("name", ["params", "model"])
def test_weights_that_a_file_leaves_out_are_made_again(name: str, tmp_path: Path) -> None:
    b, found = aligned()
    found.save(tmp_path / "alignment.json")
    again = load(tmp_path / "alignment.json")
    with pytest.raises(
        AttributeError, match=r"read from a file, .*; move B's units again, .*symmetry\.apply"
    ) as raised:
        getattr(again, name)
    assert "\n" not in str(raised.value)
    for state, expected in ((mc.parameters_of(b), found.params), (b.state_dict(), found.model.state_dict())):
        moved = again.symmetry.apply(state, again.element)
        assert moved.keys() == expected.keys() and all(torch.equal(moved[k], expected[k]) for k in moved)


def test_it_prints_and_tabulates_and_draws_similarity_by_group() -> None:
    _, found = aligned()
    first, second = str(found).splitlines()
    assert first.startswith("activation matching: distance 2.")
    assert first.endswith(f" -> {0.01 * 43**0.5:.4g}, coverage 100.0 %")
    before, after = found.similarity_before["layer0"], found.similarity_after["layer0"]
    assert second == f"  layer0 (5 units): similarity {before:.3f} -> {after:.3f}" and before < after
    (row,) = found.rows()
    assert row == {"group": "layer0", "units": 5, "similarity_before": before, "similarity_after": after, "dead": 0}
    (table,) = found.tables()
    assert table.rows == (("layer0", "5", f"{before:.3f}", f"{after:.3f}", ""),)
    assert "What holds other axes still: it belongs to the model&#39;s input" in found._repr_html_()
    (axes,) = found.plot().axes
    heights = [container[0].get_ydata().tolist() for container in axes.containers]  # pyright: ignore
    assert heights == [[before], [after]] and axes.get_ylabel() == "similarity"


def test_signs_and_scales_are_printed_tabulated_and_kept_in_files(tmp_path: Path) -> None:
    a = build(tanh_relu)
    symmetry = mc.symmetry_of(a, DATA[0])
    put_in = {"layer0:sign": torch.tensor([1.0, -1.0, -1.0]), "layer2:scale": torch.tensor([4.0, 1.0, 0.5])}
    b = mc.with_parameters(a, symmetry.apply(mc.parameters_of(a), {n: t.double() for n, t in put_in.items()}))
    found = mc.align(a, b, mc.WeightMatching(restarts=2), symmetry)
    assert found.factors["layer0:sign"].tolist() == [1.0, -1.0, -1.0]
    assert found.factors["layer2:scale"].tolist() == pytest.approx([0.25, 1.0, 2.0], abs=1e-9)
    assert found.factors["layer2:scale"][1] == 1.0  # within rounding of 1, and so it is 1
    lines = str(found).splitlines()
    assert lines[4:6] == ["  layer0:sign: 2 of 3 signs flipped", "  layer2:scale: 3 scales, 0.25 to 2"]
    table = found.tables()[1]
    assert table.rows[0] == ("layer0:sign", "sign", "2 of 3 signs flipped") and len(table.rows) == 2
    found.save(tmp_path / "alignment.json")
    again = load(tmp_path / "alignment.json")
    assert again.to_dict() == found.to_dict() and str(again) == str(found)
    moved = again.symmetry.apply(mc.parameters_of(b), again.element)
    assert all(torch.equal(moved[name], found.params[name]) for name in moved)
    old = {key: value for key, value in found.to_dict().items() if key != "factors"}
    assert mc.load_result(old).factors == {}  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="factors must be a table: action -> a list of numbers, or of lists"):
        mc.load_result(found.to_dict() | {"factors": {"layer0:sign": "abc"}})


def tanh_relu() -> nn.Module:
    """Signs of the first units, scales of the second."""
    return nn.Sequential(nn.Linear(FEATURES, 3), nn.Tanh(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))


def test_what_is_no_alignment_is_refused() -> None:
    plain = aligned()[1].to_dict()
    with pytest.raises(ValueError, match="permutations must be a table: group -> a list of whole numbers"):
        mc.load_result(plain | {"permutations": {"layer0": "abc"}})


def iterate_damaged(plain: Any, value: Any) -> Iterator[Any]:
    """`plain` with one of its parts replaced by `value`, for every part at every depth."""
    parts = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, part in parts:
        for other in (value, *iterate_damaged(part, value)):
            if isinstance(plain, dict):
                yield plain | {key: other}
            else:
                yield [*plain[:key], other, *plain[key + 1 :]]


@pytest.mark.parametrize("value", [None, 3, "x", 0.5, [None], {"a": None}], ids=repr)
def test_plain_values_of_wrong_types_are_refused_in_one_line(value: Any) -> None:
    alignment = aligned()[1]
    found = mc.connectivity.AlignedProfiles(alignment, {}, alignment)
    refused = 0
    for result in (alignment.symmetry, alignment, found):
        for plain in iterate_damaged(result.to_dict(), value):
            try:
                type(result).from_dict(plain)
            except ValueError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"frozen": None}, r"frozen must be a list of \[tensor, number of the axis, reason\]"),
        ({"frozen": [["2.bias", None, "why"]]}, r"frozen must be a list of \[tensor, number of the axis, reason\]"),
        ({"axes": {"2.bias": [None]}}, "axes must hold patterns as texts, such as 'conv2 49', got None"),
    ],
)
def test_a_symmetry_of_wrong_types_says_what_it_takes(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text) as raised:
        mc.load_result(aligned()[1].symmetry.to_dict() | changes)
    assert "\n" not in str(raised.value)


def test_each_kind_says_how_far_it_brought_the_weights() -> None:
    """A copy with one hidden unit scaled: as saved |B - A| by hand, 0 once scales are removed, and a note says so."""
    model = build(lambda: nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU(), nn.Linear(4, CLASSES)), 1)
    symmetry = mc.symmetry_of(model, torch.zeros(2, FEATURES, dtype=torch.float64))
    scales = torch.tensor([4.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    moved = copy.deepcopy(model)
    moved.load_state_dict(symmetry.apply(model.state_dict(), {"layer0:scale": scales}))
    into = model.get_parameter("0.weight")[0].square().sum() + model.get_parameter("0.bias")[0].square()
    saved = float((9 * into + (0.75 * model.get_parameter("2.weight")[:, 0]).square().sum()).detach() ** 0.5)
    found = mc.align(model, moved, mc.WeightMatching(), symmetry)
    assert found.distance_before == pytest.approx(saved)
    assert found.distance_by_kind == {"permutation": pytest.approx(saved), "scale": pytest.approx(0.0, abs=1e-9)}
    assert found.removed == "permutations and scales"
    assert f"{saved:.4g} apart as saved, {saved:.4g} after permutations" in str(found)
    assert "scales account for 100 % of the distance that alignment removed" in found.notes[0]
    assert mc.load_result(found.to_dict()).distance_by_kind == found.distance_by_kind  # pyright: ignore
    permuted = copy.deepcopy(model)
    permuted.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(1, kinds=["permutation"])))
    only = mc.align(model, permuted, mc.WeightMatching(), symmetry)
    assert only.distance_by_kind == {"permutation": 0.0} and not only.notes
