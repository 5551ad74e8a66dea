"""Training to interpolation: gradient descent on all rows, then Gauss-Newton steps of least norm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mechconn.core import check_count, check_non_negative, check_positive
from mechconn.theory._relu_network import ReluNet

FIRST, SMALLEST = 1e-6, 1e-14
"""Damping of the first Gauss-Newton step, and that below which rounding decides."""
HALVINGS = 12


@dataclass(frozen=True, eq=False)
class Interpolation:
    """A network after training.

    Attributes:
        net: the network.
        loss: its mean squared error.
        steps: of gradient descent that were taken.
        polished: Gauss-Newton steps that were tried after it.
        converged: whether the loss is at most the tolerance asked for.
    """

    net: ReluNet
    loss: float
    steps: int
    polished: int
    converged: bool


def interpolate(
    net: ReluNet,
    x: Float[Tensor, "n inputs"],
    y: Float[Tensor, " n"],
    *,
    lr: float = 0.3,
    momentum: float = 0.9,
    steps: int = 4000,
    hand_over: float = 1e-6,
    polish: int = 60,
    tolerance: float = 1e-20,
) -> Interpolation:
    r"""Fit f(x; W) = y: gradient descent with momentum until the loss is `hand_over`, then least-norm Gauss-Newton.

    The gradient is N times that of the loss, the scale on which a unit moves as fast at every width. Gradient descent
    decides which attribute is used; the last steps only drive the remaining residual r to zero: W moves by the least
    norm with J dW = -r, where J J' = (x x') * (S S') entry by entry and S are the signed patterns, halved or
    damped until the loss falls. Nothing is drawn at random.

    Args:
        net: where training starts.
        x: inputs.
        y: targets.
        lr: learning rate.
        momentum: of gradient descent.
        steps: at most so many steps of gradient descent.
        hand_over: the mean squared error at which Gauss-Newton begins.
        polish: at most so many of its steps.
        tolerance: the mean squared error that counts as interpolation.

    Raises:
        FloatingPointError: the loss became infinite or NaN.
    """
    check_positive("lr", lr)
    check_count("steps", steps)
    check_non_negative("polish", polish)
    weights, taken = _descend(net, x, y, lr, momentum, steps, hand_over)
    weights, polished = _polish(replace(net, weights=weights), x, y, polish, tolerance)
    done = replace(net, weights=weights)
    loss = done.loss(x, y)
    return Interpolation(done, loss, taken, polished, loss <= tolerance)


def _descend(
    net: ReluNet, x: Tensor, y: Tensor, lr: float, momentum: float, steps: int, enough: float
) -> tuple[Tensor, int]:
    weights, velocity = net.weights.clone(), torch.zeros_like(net.weights)
    share = 2.0 / len(x)
    for step in range(steps):
        active = x @ weights
        residual = active.clamp_min(0) @ net.signs / net.units - y
        loss = float(residual.square().mean())
        if not loss < float("inf"):
            raise FloatingPointError(
                f"training diverged: the mean squared error is {loss} at step {step} of {steps} ; lower "
                "the learning rate"
            )
        if loss <= enough:
            return weights, step
        pull = (active > 0) * (share * residual[:, None] * net.signs)
        velocity = momentum * velocity - lr * (x.T @ pull)
        weights = weights + velocity
    return weights, steps


def _polish(net: ReluNet, x: Tensor, y: Tensor, most: int, enough: float) -> tuple[Tensor, int]:
    weights, damping = net.weights, FIRST
    gram, unit = x @ x.T, net.units * torch.eye(len(x), dtype=x.dtype, device=x.device)
    residual = net(x) - y
    for step in range(most):
        loss = float(residual.square().mean())
        if loss <= enough:
            return weights, step
        slopes = (x @ weights > 0) * net.signs
        dual = torch.linalg.solve(gram * (slopes @ slopes.T) + damping * unit, residual)
        move = -net.units * (x.T @ (dual[:, None] * slopes))
        for halving in range(HALVINGS):  # units that change sides on the way make a whole step too long
            trial = weights + move * 0.5**halving
            after = replace(net, weights=trial)(x) - y
            if float(after.square().mean()) < loss:
                weights, residual, damping = trial, after, max(damping / 5, SMALLEST)
                break
        else:
            damping *= 4
    return weights, most
