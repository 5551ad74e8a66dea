"""Effects in words: what they are multiplied by, what they are then in, and how many digits they are given."""

from __future__ import annotations

from mechconn.connectivity import MARGIN
from mechconn.losses import NATS

POINTS = "points"
MILLION = 1e6


def choose_scale(on: str, loss_unit: str) -> tuple[float, str]:
    """What effects are multiplied by, and what they are then in."""
    return (100.0, POINTS) if on == "accuracy" else (1.0, loss_unit if on == "loss" else f"of {on}")


def choose_shift_margin(on: str, margin: float) -> float:
    """How far an end of a path may move before it counts as shifted: as effects on accuracy may, else the default."""
    return margin if on == "accuracy" else MARGIN


def format_amount(value: float, unit: str, sign: str = "") -> str:
    """Hundredths of points and nats; three digits of a loss that may have any scale, and of millions of nats."""
    return f"{value:{sign}.2f}" if unit in (NATS, POINTS) and abs(value) < MILLION else f"{value:{sign}.3g}"
