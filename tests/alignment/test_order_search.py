"""Permutations proposed by gradients and by weights, and taken where the loss of a batch falls for certain."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.alignment._order_search import EVERY, Judge, OrderSearch
from mechconn.alignment._trained_element import TrainedElement
from mechconn.alignment._weight_scores import WeightScores
from mechconn.symmetry import Element
from zoo import FEATURES, build

RIGHT = torch.tensor([1, 0, 3, 2])


def layer() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.GELU(), nn.Linear(4, 2))


def search_between(a: nn.Module, b: nn.Module, order: Tensor) -> tuple[TrainedElement, OrderSearch]:
    symmetry = mc.symmetry_of(a, torch.zeros(2, FEATURES, dtype=torch.float64))
    params = mc.parameters_of(a), mc.parameters_of(b)
    similarity = WeightScores(symmetry, *params)
    trained = TrainedElement(symmetry, {**similarity.make_present(), "layer0": order}, params[0]["0.weight"])
    return trained, OrderSearch(trained, similarity)


def judge_by_places(trained: TrainedElement, noise: float = 0.0) -> Judge:
    """Each unit that is not in its right place costs 1 in every row, and noise in every other row."""

    def judge(instead: Element) -> tuple[Tensor, Tensor]:
        order = instead.get("layer0", trained.orders["layer0"])
        wrong = float((order != RIGHT).sum())
        rows = torch.full((64,), wrong) + noise * wrong * torch.tensor([1.0, -1.0]).repeat(32)
        return rows, torch.ones(64, dtype=torch.bool)

    return judge


def test_a_proposal_by_the_gradient_is_taken_where_it_pays() -> None:
    """-gradient[u, v] is what unit v gains at place u: largest at the right places."""
    a, b = build(layer, 1), build(layer, 2)
    trained, search = search_between(a, b, torch.arange(4))
    gradient = torch.zeros(4, 4, dtype=torch.float64)
    gradient[torch.arange(4), RIGHT] = -1.0
    for step in range(1, EVERY + 1):
        trained.scores["layer0"].grad = gradient
        assert torch.equal(trained.orders["layer0"], torch.arange(4))
        search.step(step, judge_by_places(trained))
    assert torch.equal(trained.orders["layer0"], RIGHT)


def test_a_proposal_by_weights_is_taken_where_it_pays() -> None:
    a = build(layer, 1)
    symmetry = mc.symmetry_of(a, torch.zeros(2, FEATURES, dtype=torch.float64))
    b = mc.with_parameters(a, symmetry.apply(mc.parameters_of(a), {"layer0": RIGHT}))  # its own inverse
    trained, search = search_between(a, b, torch.arange(4))
    search.step(EVERY, judge_by_places(trained))
    assert torch.equal(trained.orders["layer0"], RIGHT)


@pytest.mark.parametrize(("noise", "taken"), [(0.0, True), (100.0, False)])
def test_a_fall_that_may_be_chance_is_not_taken(noise: float, taken: bool) -> None:
    a, b = build(layer, 1), build(layer, 2)
    trained, search = search_between(a, b, torch.arange(4))
    trained.scores["layer0"].grad = -torch.eye(4, dtype=torch.float64)[RIGHT]
    for step in range(1, EVERY + 1):
        search.step(step, judge_by_places(trained, noise))
    assert torch.equal(trained.orders["layer0"], RIGHT) == taken
