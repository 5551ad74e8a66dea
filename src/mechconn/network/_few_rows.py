"""Outputs on a few rows, held against each other before a faster way is taken."""

from __future__ import annotations

from torch import Tensor

LEAST, CLEAR = 2e-5, 1e-3
"""Shares of the largest output by which outputs must differ between rows, so that agreement on them says something, and
so that a difference does: rounding in a deep network is 1e-6."""
OF_SPREAD = 0.1
"""Shares of what rows differ by that outputs may move: what layers do wrong shows in these differences."""


def are_close(expected: Tensor, got: Tensor, tolerance: float) -> bool:
    """Whether outputs differ by at most a share of the largest and of what they vary by between rows.

    Never where some are not finite.
    """
    if expected.shape != got.shape or not expected.numel():
        return False
    allowed = min(tolerance * float(expected.abs().max()), OF_SPREAD * measure_spread(expected))
    return float((expected - got).abs().max()) <= allowed


def vary_enough(outputs: Tensor, least: float = LEAST) -> bool:
    """Whether outputs are finite and differ between rows by far more than rounding in float32."""
    if not outputs.dim() or len(outputs) < 2 or not outputs.numel() or not bool(outputs.isfinite().all()):
        return False
    return measure_spread(outputs) > least * float(outputs.abs().max())


def measure_spread(outputs: Tensor) -> float:
    """The most by which a row differs from the first."""
    return float((outputs - outputs[:1]).abs().max())


def describe_error(error: Exception) -> str:
    """Type and first line."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"[:200]
