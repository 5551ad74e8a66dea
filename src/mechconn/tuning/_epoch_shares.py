"""How a budget of epochs is shared by the two parts of a method."""

from __future__ import annotations


def share_epochs(epochs: int, first: int, second: int) -> tuple[int, int]:
    """So many epochs in all, shared as first : second, one each at least."""
    own = min(max(round(epochs * first / (first + second)), 1), max(epochs - 1, 1))
    return own, max(epochs - own, 1)
