"""An alignment method of a user's file: known permutations, and what it may not return."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mechconn as mc
from mechconn.alignment import AlignmentMethod, Matching
from user_defined import SortedMatching
from zoo import build, mlp, norm_mlp, rows

X = rows(20)[0]


def test_units_that_were_shuffled_are_found() -> None:
    a = build(norm_mlp)
    symmetry = mc.symmetry_of(a, X)
    shuffle = {"layer0": torch.tensor([3, 1, 4, 0, 2])}
    b = mc.with_parameters(a, symmetry.apply(mc.parameters_of(a), shuffle))
    found = mc.align(a, b, SortedMatching(power=1.0), symmetry, seed=7)
    assert found.distance_after == 0.0 and torch.equal(shuffle["layer0"][found.permutations["layer0"]], torch.arange(5))
    assert found.settings["method"] == "sorted matching" and found.settings["power"] == 1.0
    assert found.similarity_before["layer0"] < found.similarity_after["layer0"] == 0.0
    assert str(found).splitlines()[1].startswith("  layer0 (5 units): similarity -")


def test_a_method_that_reads_no_data_needs_a_symmetry() -> None:
    a = build(mlp)
    with pytest.raises(ValueError, match="SortedMatching needs to know what may be permuted, got symmetry=None; pass"):
        mc.align(a, a, SortedMatching())
    assert mc.align(a, a, SortedMatching(), symmetry=mc.symmetry_of(a, X)).distance_after == 0.0


class Reading(SortedMatching):
    """It has inputs to find a symmetry on."""

    def example(self, device: torch.device, model: Any) -> Any:
        return X.to(device)


def test_a_method_with_an_example_needs_no_symmetry() -> None:
    a = build(mlp)
    assert mc.align(a, a, Reading()).symmetry.sizes == {"layer0": 5}


class Returning(AlignmentMethod):
    """Whatever a test says; unnamed in the record."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def match(self, pair: Any) -> Any:
        return self.found

    def describe(self) -> dict[str, Any]:
        return {}


def test_groups_that_a_method_leaves_out_stay() -> None:
    a, b = build(mlp), build(mlp, 1)
    found = mc.align(a, b, Returning(Matching({})), mc.symmetry_of(a, X))
    assert found.distance_after == found.distance_before and found.settings["method"] == "Returning"
    assert found.notes == ("matching found no better order than the present one: B was not changed",)


PERMUTED = torch.tensor([1, 0, 2, 3, 4])
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no matching": (
        {"layer0": PERMUTED},
        TypeError,
        "what Returning.match returns must be a Matching, got dict; return",
    ),
    "a list": (
        Matching({"layer0": [1, 0, 2, 3, 4]}),  # pyright: ignore[reportArgumentType]
        TypeError,
        "the permutation of 'layer0' in what Returning.match returns must be a Tensor, got list; return torch.tensor(",
    ),
    "no permutation": (Matching({"layer0": torch.zeros(5).long()}), ValueError, "must hold each of 0 ... 5 - 1 once"),
    "another group": (
        Matching({"layer1": PERMUTED}),
        ValueError,
        "group must be one of 'layer0', 'layer0:sign', got 'layer1'",
    ),
    "a factor that is a list": (
        Matching({}, factors={"layer0:sign": [1.0] * 5}),  # pyright: ignore[reportArgumentType]
        TypeError,
        "the element of 'layer0:sign' in what Returning.match returns must be a Tensor, got list; return torch.tensor(",
    ),
    "a factor that is no sign": (
        Matching({}, factors={"layer0:sign": torch.full((5,), 2.0)}),
        ValueError,
        "the sign element 'layer0:sign' must hold -1 and 1, got others",
    ),
    "similarity of another group": (
        Matching({"layer0": PERMUTED}, {"layer1": 0.0}, {"layer1": 1.0}),
        ValueError,
        "a group in what Returning.match returns must be one of 'layer0', got 'layer1'",
    ),
    "similarity before alone": (
        Matching({"layer0": PERMUTED}, {"layer0": 0.0}),
        ValueError,
        "groups before and after in what Returning.match returns do not match: missing layer0; unexpected none",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_method_may_not_return(case: str) -> None:
    returned, kind, text = WRONG[case]
    a = build(mlp)
    with pytest.raises(kind) as raised:
        mc.align(a, a, Returning(returned), mc.symmetry_of(a, X))
    assert text in str(raised.value) and "\n" not in str(raised.value)
