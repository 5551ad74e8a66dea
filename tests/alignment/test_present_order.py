"""The present order is always a candidate: matching never ends worse than it began, and says where it did nothing."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.alignment._assignment import UnitSimilarity, search_element
from zoo import CLASSES, FEATURES, build, rows

EXAMPLE = torch.zeros(2, FEATURES, dtype=torch.float64)
NOTHING = "matching found no better order than the present one: B was not changed"


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def is_present(chosen: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(p, torch.arange(len(p))) for p in chosen.values())


class Table(UnitSimilarity):
    """Two groups of three units whose sum is a table of all pairs of permutations, so that ascent ends anywhere."""

    def __init__(self, seed: int) -> None:
        self.sizes = {"a": 3, "b": 3}
        draw = torch.Generator().manual_seed(seed)
        pairs = itertools.product(itertools.permutations(range(3)), repeat=2)
        self.tables = {pair: float(torch.rand((), generator=draw)) for pair in pairs}

    def scores(self, group: str, element: Mapping[str, Tensor], known: frozenset[str] | None = None) -> Tensor | None:
        return torch.rand(3, 3, generator=torch.Generator().manual_seed(len(group)))

    def is_linear(self, step: str) -> bool:
        return False

    def total(self, element: Mapping[str, Tensor]) -> float:
        a, b = (tuple(element.get(group, torch.arange(3)).tolist()) for group in "ab")
        return self.tables[a, b]


@pytest.mark.parametrize("seed", range(30))
def test_the_present_order_is_a_candidate(seed: int) -> None:
    similarity = Table(seed)
    found = search_element(similarity, 1, seed)
    assert similarity.total(found) >= similarity.total({})


class Nothing(UnitSimilarity):
    """Every order is as good as every other; of group "a" nothing is known at all."""

    def __init__(self) -> None:
        self.sizes = {"a": 4, "b": 4}

    def scores(self, group: str, element: Mapping[str, Tensor], known: frozenset[str] | None = None) -> Tensor | None:
        return None if group == "a" else torch.ones(4, 4)

    def is_linear(self, step: str) -> bool:
        return True

    def total(self, element: Mapping[str, Tensor]) -> float:
        return 4.0


@pytest.mark.parametrize("restarts", [1, 2, 3])
def test_the_present_order_stays_on_ties(restarts: int) -> None:
    assert is_present(search_element(Nothing(), restarts, 0))


class OneKnown(Nothing):
    """The second group has a better order; the first one, of which nothing is known, stays all the same."""

    def scores(self, group: str, element: Mapping[str, Tensor], known: frozenset[str] | None = None) -> Tensor | None:
        return None if group == "a" else torch.eye(4).flip(0)

    def total(self, element: Mapping[str, Tensor]) -> float:
        return float((element["b"] == torch.arange(4).flip(0)).sum()) if "b" in element else 0.0


@pytest.mark.parametrize("seed", range(4))
def test_a_group_of_which_nothing_is_known_stays(seed: int) -> None:
    found = search_element(OneKnown(), 4, seed)
    assert found["a"].tolist() == [0, 1, 2, 3]
    assert found["b"].tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("restarts", [1, 2])
def test_weights_never_end_farther_apart_by_weight_matching(seed: int, restarts: int) -> None:
    """Where units have scales, that holds of the balanced weights; here of the weights themselves."""
    a, b = build(net, seed), build(net, seed + 10)
    symmetry = dataclasses.replace(mc.symmetry_of(a, EXAMPLE), actions=())
    found = mc.align(a, b, mc.WeightMatching(restarts), symmetry, seed=seed)
    assert found.distance_after <= found.distance_before
    again = mc.align(a, found.model, mc.WeightMatching(restarts), found.symmetry, seed=seed + 1)
    assert again.distance_after <= found.distance_after


@pytest.mark.parametrize("method", [mc.WeightMatching(), mc.ActivationMatching(rows(30))])
def test_a_copy_is_not_moved_and_the_note_says_so(method: Any) -> None:
    a = build(net, 1)
    found = mc.align(a, copy.deepcopy(a), method, mc.symmetry_of(a, EXAMPLE))
    assert is_present(found.permutations)
    assert found.notes == (NOTHING,)
    assert found.to_dict()["notes"] == [NOTHING]
    assert f"note: {NOTHING}" in str(found)


def test_units_that_are_constant_on_the_data_are_not_moved() -> None:
    a, b = build(net, 1), build(net, 2)
    with torch.no_grad():
        for model in (a, b):
            model.get_parameter("0.weight").zero_()
            model.get_parameter("0.bias").fill_(-1.0)  # no ReLU ever opens, so that all that follows is constant
    found = mc.align(a, b, mc.ActivationMatching(rows(30)), mc.symmetry_of(a, EXAMPLE))
    assert found.dead == {"layer0": 6, "layer2": 5}
    assert is_present(found.permutations) and found.notes == (NOTHING,)


def test_a_symmetry_without_groups_is_noted() -> None:
    a, b = build(net, 1), build(net, 2)
    found = mc.align(a, b, mc.WeightMatching(), mc.Symmetry.from_axes(a, {}, example_input=EXAMPLE))
    assert found.notes == ("the symmetry holds no units that may be permuted: B was not changed",)
    assert found.distance_after == found.distance_before


def test_activations_may_move_weights_apart_and_the_note_says_so() -> None:
    """B's units are active as A's are in another order, by weights that lie near A's in the present one."""

    def layer() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))

    a, b = build(layer), build(layer)
    # The first input hardly moves and the second one does, so A's first unit is active as B's second one.
    weights = {"a": [[10.0, 1.0], [0.0, -1.0]], "b": [[10.0, -1.0], [0.0, 1.0]]}
    with torch.no_grad():
        for model, rows_of in ((a, weights["a"]), (b, weights["b"])):
            model.get_parameter("0.weight").copy_(torch.tensor(rows_of))
            model.get_parameter("1.weight").fill_(1.0)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.tensor([1e-3, 1.0])
    data = (x, torch.zeros(50, dtype=torch.long))
    symmetry = dataclasses.replace(mc.symmetry_of(a, x[:2]), actions=())
    found = mc.align(a, b, mc.ActivationMatching(data), symmetry)
    assert found.permutations["layer0"].tolist() == [1, 0]
    assert found.similarity_after["layer0"] > 0.99 > found.similarity_before["layer0"]
    (note,) = found.notes
    assert note.startswith("matching moved the weights farther apart, from a distance of 2.828 to 14")
    assert note.endswith("the method does not compare weights; WeightMatching() moves them together")
    assert mc.align(a, b, mc.WeightMatching(), symmetry).distance_after <= found.distance_before


def test_where_units_moved_there_is_no_note() -> None:
    a = build(net, 1)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    b = copy.deepcopy(a)
    b.load_state_dict(symmetry.apply(a.state_dict(), symmetry.random(1, kinds=["permutation"])))
    found = mc.align(a, b, mc.WeightMatching(), symmetry)
    assert found.notes == () and "note" not in str(found)
