"""The weighted mean of several networks' parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mechconn.core import check_is, check_non_negative, check_same_keys
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

    entrywise: ClassVar[bool] = True

    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        check_is("weights", self.weights, Mapping, "; write {name of the parent: weight, ...}")
        shares = [check_non_negative(f"the weight of {name!r}", share) for name, share in self.weights.items()]
        if sum(shares) == 0.0:
            raise ValueError(f"weights must not all be zero, got {dict(self.weights)}; give some parent a weight")

    def merge_tensor(self, name: str, parents: Mapping[str, Tensor], base: Tensor | None, seed: int) -> Tensor:
        """The mean of one tensor."""
        shares = dict.fromkeys(parents, 1.0) if self.weights is None else self.weights
        check_same_keys("weights and parents", parents, shares)
        total = sum(shares.values())
        points = [{name: tensor} for tensor in parents.values()]
        return compute_weighted_mean(points, [shares[parent] / total for parent in parents])[name]

    def describe(self) -> dict[str, Any]:
        """{"method": "mean", "weights": ...}."""
        return {"method": "mean", "weights": None if self.weights is None else dict(self.weights)}
