"""Modular addition: the three published measures against functions whose values are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mechconn.paper import (
    AdditionArchitecture,
    compute_circularity,
    compute_distance_irrelevance,
    compute_gradient_symmetricity,
    divide_pairs,
    list_pairs,
    measure_addition,
)

MODULUS, TURN = 7, 2 * math.pi / 7


def embed_on_circle(frequency: int = 2) -> Tensor:
    """The residues on a circle, [p, 2]."""
    angles = frequency * TURN * torch.arange(MODULUS, dtype=torch.float64)
    return torch.stack([angles.cos(), angles.sin()], 1)


def clock(tokens: Tensor) -> Tensor:
    """cos(w (a + b - c)), by the product of E_a and E_b as complex numbers."""
    (a, b), (c, d) = tokens[:, 0].T, tokens[:, 1].T
    return torch.stack([a * c - b * d, a * d + b * c], 1) @ embed_on_circle().T


def pizza(tokens: Tensor) -> Tensor:
    """|cos(w (a - b) / 2)| cos(w (a + b - c)), by the sum E_a + E_b alone: its direction doubled, its length halved."""
    x, y = tokens.sum(1).T
    length = (x.square() + y.square()).sqrt()
    return torch.stack([(x.square() - y.square()) / length, 2 * x * y / length], 1) @ embed_on_circle().T / 2


def test_the_two_algorithms_add_and_have_the_logits_that_name_them() -> None:
    pairs, sums = list_pairs(MODULUS)
    tokens = embed_on_circle()[pairs]
    angle = 2 * TURN * (pairs.sum(1)[:, None] - torch.arange(MODULUS)).double()
    distance = 2 * TURN * (pairs[:, 0] - pairs[:, 1]).double()[:, None]
    torch.testing.assert_close(clock(tokens), angle.cos())
    torch.testing.assert_close(pizza(tokens), (distance / 2).cos().abs() * angle.cos())
    for adds in (clock, pizza):
        assert torch.equal(adds(tokens).argmax(1), sums)


def test_gradients_of_a_pizza_are_the_same_and_those_of_a_clock_turn_with_the_distance() -> None:
    """Of a clock the cosine is cos(w (a - b)), whose mean over all pairs is 0; of a pizza it is 1."""
    table = embed_on_circle()
    assert compute_gradient_symmetricity(pizza, table) == pytest.approx(1.0, abs=1e-12)
    assert compute_gradient_symmetricity(clock, table) == pytest.approx(0.0, abs=1e-12)
    with torch.no_grad():  # scale has no effect, nor has the caller's grad mode
        assert compute_gradient_symmetricity(lambda tokens: 1e-12 * pizza(tokens), table) == pytest.approx(1.0)
    one = torch.tensor([[3, 1, 5]])
    assert compute_gradient_symmetricity(clock, table, one) == pytest.approx(math.cos(2 * TURN * 2), abs=1e-12)


def test_distance_irrelevance_is_the_share_of_the_deviation_that_the_sum_makes() -> None:
    """Correct logits A cos(w (a + b)) + B cos(v (a - b)) have deviations A and B over sqrt 2: A / sqrt(A^2 + B^2)."""
    pairs, _ = list_pairs(MODULUS)
    a, b = pairs.double().T

    def measure(correct: Tensor) -> float | None:
        return compute_distance_irrelevance(correct.reshape(MODULUS, MODULUS, 1).expand(-1, -1, MODULUS))

    both = measure(3 * (2 * TURN * (a + b)).cos() + 4 * (3 * TURN * (a - b)).cos())
    assert both == pytest.approx(3 / 5, abs=1e-12)
    assert measure(1e-9 * (2 * TURN * (a + b)).cos()) == pytest.approx(1.0, abs=1e-12)
    tokens = embed_on_circle()[pairs]
    logits = pizza(tokens).reshape(MODULUS, MODULUS, MODULUS)
    assert compute_distance_irrelevance(logits) == pytest.approx(0.0, abs=1e-12)
    uneven = clock(tokens) * (2 + (TURN * (a + b)).cos())[:, None]
    assert compute_distance_irrelevance(uneven.reshape(MODULUS, MODULUS, MODULUS)) == pytest.approx(1.0, abs=1e-12)
    assert compute_distance_irrelevance(clock(tokens).reshape(MODULUS, MODULUS, MODULUS)) is None


def test_circularity_is_the_power_at_the_strongest_frequency_of_each_component() -> None:
    one, two = embed_on_circle(1), embed_on_circle(2)
    assert compute_circularity(torch.cat([3 * one, two], 1)) == pytest.approx(1.0, abs=1e-12)
    mixed = torch.cat([(one + two) * torch.tensor([4.0, 3.0]), (one - two) * torch.tensor([2.0, 1.0])], 1)
    assert compute_circularity(mixed) == pytest.approx(0.5, abs=1e-12)
    assert compute_circularity(one) == pytest.approx(0.5, abs=1e-12)  # two components of four


def test_a_network_of_uniform_attention_reads_the_first_token_by_attention_alone() -> None:
    """At rate 0 both tokens reach the heads alike; the second passes by on the stream too, so gradients differ."""
    made = AdditionArchitecture("one-layer transformer", 5, (2,), 8, heads=2, rate=0.0)
    model = made.build(0).double()
    found = measure_addition(model)  # pyright: ignore[reportArgumentType]
    assert 0.3 < found.gradient_symmetricity < 1.0 and found.distance_irrelevance is not None
    with torch.no_grad():
        model.query.weight.mul_(5.0)  # pyright: ignore
    assert measure_addition(model) == found  # pyright: ignore[reportArgumentType]


def test_pairs_are_divided_by_seed_without_overlap() -> None:
    train, held_out = divide_pairs(MODULUS, 0.8, 3)
    assert len(train) == 39 and torch.equal(torch.cat([train, held_out]).sort().values, torch.arange(49))
    assert torch.equal(divide_pairs(MODULUS, 0.8, 3)[0], train) and not torch.equal(divide_pairs(7, 0.8, 4)[0], train)
