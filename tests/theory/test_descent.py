"""Training: the gradient against automatic differentiation, the last steps, and where it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mechconn.theory import ReluNet, Slabs, fresh_network, interpolate
from theory.nets import random_pair, rows


@pytest.mark.parametrize("signed", [False, True])
def test_one_step_follows_the_gradient_times_the_number_of_units(signed: bool) -> None:
    net, _ = random_pair(4, 0, signed=signed)
    x, y = rows(0), rows(1)[:, 0]
    weights = net.weights.clone().requires_grad_()
    (replace(net, weights=weights)(x) - y).square().mean().backward()
    assert weights.grad is not None
    stepped = interpolate(net, x, y, lr=0.1, steps=1, polish=0)
    torch.testing.assert_close(stepped.net.weights, net.weights - 0.1 * 4 * weights.grad, rtol=1e-12, atol=1e-14)


def test_momentum_adds_the_last_step() -> None:
    net, _ = random_pair(4, 0)
    x, y = rows(0), rows(1)[:, 0]
    points = [net.weights] + [interpolate(net, x, y, lr=0.01, steps=n, polish=0).net.weights for n in (1, 2)]
    alone = interpolate(ReluNet(points[1], net.signs), x, y, lr=0.01, steps=1, polish=0).net.weights
    torch.testing.assert_close(points[2] - alone, 0.9 * (points[1] - points[0]), rtol=1e-9, atol=1e-13)


def test_a_last_step_is_the_shortest_that_mends_the_residual() -> None:
    """Small residual: no unit changes sides, so one undamped step is exact, along the rows of the Jacobian."""
    net, _ = random_pair(6, 2)
    x = rows(2, count=5)
    y = net(x) + 1e-6
    jacobian = torch.autograd.functional.jacobian(lambda w: replace(net, weights=w)(x), net.weights).flatten(1)
    shortest = torch.linalg.pinv(jacobian) @ (y - net(x))
    done = interpolate(net, x, y, hand_over=1.0, tolerance=1e-26)
    assert done.steps == 0 and done.converged and done.polished <= 10
    # Damping falls fivefold a step, from 1e-3: its trace in the sum of the steps stays at a thousandth.
    moved = (done.net.weights - net.weights).flatten()
    torch.testing.assert_close(moved, shortest, rtol=1e-2, atol=1e-3 * float(shortest.abs().max()))


def test_it_interpolates_and_says_so() -> None:
    data = Slabs((0,), (2.0,)).sample(60)
    fresh = fresh_network(4, 32, signed=True)
    before = fresh.weights.clone()
    done = interpolate(fresh, data.x, data.y)
    assert done.converged and done.loss <= 1e-20 and done.loss == done.net.loss(data.x, data.y)
    assert torch.equal(fresh.weights, before)
    again = interpolate(fresh, data.x, data.y)
    assert torch.equal(again.net.weights, done.net.weights)
    cut = interpolate(fresh, data.x, data.y, steps=3, polish=0)
    assert (cut.steps, cut.polished, cut.converged) == (3, 0, False)


def test_what_cannot_be_fitted_is_not_called_interpolation() -> None:
    """One row twice, with two labels: the least loss is 1/4."""
    x = torch.ones(2, 1, dtype=torch.float64)
    done = interpolate(fresh_network(1, 4, scale=1.0), x, torch.tensor([0.0, 1.0], dtype=torch.float64), steps=200)
    assert not done.converged
    assert done.loss == pytest.approx(0.25, abs=1e-6)


def test_a_rate_that_is_too_high_is_an_error() -> None:
    net, _ = random_pair(4, 0)
    with pytest.raises(FloatingPointError, match=r"^training diverged: the mean squared error is (inf|nan) at step"):
        interpolate(net, 100 * rows(0), rows(1)[:, 0], lr=1e6)
