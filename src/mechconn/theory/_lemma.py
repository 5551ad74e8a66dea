"""Lemma 2 and the Corollary: linear connection and equal activation patterns, one from the other."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from mechconn.theory._line import join, loss_along, shortfall
from mechconn.theory._patterns import activation_patterns, match_units
from mechconn.theory._relu_network import ReluNet, check_pair
from mechconn.theory._statement import Assumption, Evidence, conclude

TOLERANCE = 1e-12
"""The mean squared error that counts as none: far above what rounding leaves in float64, far below any barrier."""


def check_lemma_2(
    a: ReluNet,
    b: ReluNet,
    x: Float[Tensor, "n inputs"],
    y: Float[Tensor, " n"],
    ts: int | Sequence[float] = 11,
    tolerance: float = TOLERANCE,
) -> Evidence:
    r"""Lemma 2: interpolating networks that are linearly connected have equal activation patterns on the data.

    *Proved*, for one hidden layer, positive output weights, exact interpolation, and no pre-activation of zero: along
    the line f_t = y - d_t (`shortfall`), and d_t is a sum of terms that are positive wherever a unit is on in one
    network and off in the other. So a barrier of zero at one inner t leaves no such unit. (With zero pre-activations:
    no strictly opposite signs.) Nothing is said of networks that do not interpolate, and with weights of both signs
    (≠) shortfalls can cancel, so that this direction is lost.

    Numbers: the barrier; the entries (row, unit) in which patterns differ; and the largest difference between the
    loss that was measured on the line and the one that the formula gives, which holds for any two networks.

    Args:
        a: t = 0.
        b: t = 1, its units as they are.
        x: the data.
        y: its labels.
        ts: the grid.
        tolerance: the mean squared error, and the rise above the chord, that counts as none.

    Source: Lubana et al. 2023, Lemma 2.
    """
    line = loss_along(a, b, x, y, ts)
    differing = _count_differing(a, b, x)
    expected = [_predict_loss(a, b, x, y, t) for t in line.ts]
    assumptions = (
        *check_interpolating(a, b, x, y, tolerance),
        Assumption("all output weights are positive", a.positive, float((a.signs < 0).sum())),
        Assumption("no pre-activation is zero", (near := _find_nearest(a, b, x)) > 0, near),
    )
    connected = line.barrier.height <= tolerance
    as_claimed = not connected or differing == 0
    outcome = (
        f"The line has {'no' if connected else 'a'} barrier ({line.barrier.height:.3g}), and the patterns differ in "
        f"{differing} of {len(x) * a.units} entries."
    )
    numbers = {
        "barrier": line.barrier.height,
        "differing entries": float(differing),
        "largest error of the predicted loss": max(abs(e - m) for e, m in zip(expected, line.loss, strict=True)),
    }
    claim = "interpolating networks that are linearly connected have equal activation patterns"
    sentence = conclude(assumptions, as_claimed, outcome)
    return Evidence("Lemma 2", claim, "proved", assumptions, numbers, as_claimed, sentence)


def check_corollary(
    a: ReluNet,
    b: ReluNet,
    x: Float[Tensor, "n inputs"],
    y: Float[Tensor, " n"],
    ts: int | Sequence[float] = 11,
    tolerance: float = TOLERANCE,
) -> Evidence:
    r"""Corollary: interpolating networks whose patterns are equal up to a permutation connect after that permutation.

    *Proved*, also with output weights of both signs (≠): where no unit changes sides, f_t = (1 - t) f_a + t f_b = y on
    every row. The converse is Lemma 2. It is not said that networks of the same mechanism have equal patterns: that
    they connect is the conjecture.

    Numbers: the agreement under the best permutation, found exactly; the barrier before, and after that permutation.

    Args:
        a: t = 0.
        b: t = 1.
        x: the data.
        y: its labels.
        ts: the grid.
        tolerance: as in `check_lemma_2`.

    Source: Lubana et al. 2023, Corollary to Lemma 2.
    """
    joined = join(a, b, x, y, ts)
    moved = b.permuted(match_units(a, b, x, "patterns"))
    after = loss_along(a, moved, x, y, ts)
    differing = _count_differing(a, moved, x)
    assumptions = (
        *check_interpolating(a, b, x, y, tolerance),
        Assumption("the patterns are equal up to a permutation", differing == 0, float(differing)),
    )
    as_claimed = after.barrier.height <= tolerance
    outcome = (
        f"The barrier is {joined.before.barrier.height:.3g} before and {after.barrier.height:.3g} after the "
        f"permutation, with {differing} entries of {len(x) * a.units} in which the patterns then differ."
    )
    numbers = {
        "agreement": joined.agreement,
        "barrier before": joined.before.barrier.height,
        "barrier after": after.barrier.height,
    }
    claim = "interpolating networks with equal patterns up to a permutation connect after it"
    sentence = conclude(assumptions, as_claimed, outcome)
    return Evidence("Corollary", claim, "proved", assumptions, numbers, as_claimed, sentence)


def check_interpolating(
    a: ReluNet, b: ReluNet, x: Tensor, y: Tensor, tolerance: float
) -> tuple[Assumption, Assumption]:
    """That both networks fit all labels."""
    check_pair(a, b)
    losses = a.loss(x, y), b.loss(x, y)
    return (
        Assumption("A interpolates the data", losses[0] <= tolerance, losses[0]),
        Assumption("B interpolates the data", losses[1] <= tolerance, losses[1]),
    )


def _count_differing(a: ReluNet, b: ReluNet, x: Tensor) -> int:
    return int((activation_patterns(a, x) != activation_patterns(b, x)).sum())


def _find_nearest(a: ReluNet, b: ReluNet, x: Tensor) -> float:
    return min(float(net.preactivations(x).abs().min()) for net in (a, b))


def _predict_loss(a: ReluNet, b: ReluNet, x: Tensor, y: Tensor, t: float) -> float:
    """The loss at t from the ends' outputs and the shortfall alone."""
    return float(((1 - t) * a(x) + t * b(x) - shortfall(a, b, x, t) - y).square().mean())
