"""The weighted mean of several networks' parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mechconn.merging._changes import check_weights, keep_uncounted, share_weights
from mechconn.merging._merge_method import TensorMerge
from mechconn.network import compute_weighted_mean


@dataclass(frozen=True)
class Mean(TensorMerge, name="mean"):
    """theta = sum_i w_i theta_i / sum_i w_i, as `soup`.

    Attributes:
        weights: name of the parent -> w_i, zero or more; default: all alike.

    Raises:
        ValueError: a weight is negative, or all are zero; when used: the names are not those of the parents.

    Example:
        >>> import torch
        >>> tensors = {"a": torch.tensor([1.0]), "b": torch.tensor([5.0])}
        >>> Mean({"a": 3.0, "b": 1.0}).merge_tensor("w", tensors, None, seed=0)
        tensor([2.])

    Source: Wortsman et al. 2022, *Model soups* (uniform and weighted mean).
    """

    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_weights(self.weights)

    def share_parents(self, parents: Sequence[str]) -> dict[str, float]:
        """The weights, over their sum."""
        weights = share_weights(self.weights, parents)
        return {parent: share / sum(weights.values()) for parent, share in weights.items()}

    def merge_tensor(self, name: str, parents: Mapping[str, Tensor], base: Tensor | None, seed: int) -> Tensor:
        """The mean of one tensor."""
        shares = self.share_parents(list(parents))
        if (kept := keep_uncounted(name, parents)) is not None:
            return kept
        points = [{name: tensor} for tensor in parents.values()]
        return compute_weighted_mean(points, [shares[parent] for parent in parents])[name]

    def is_entrywise(self) -> bool:
        """A mean is."""
        return True

    def describe(self) -> dict[str, Any]:
        """{"method": "mean", "weights": ...}."""
        return {"method": "mean", "weights": None if self.weights is None else dict(self.weights)}
