"""Task arithmetic: what parents changed of their base is added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mechconn.merging._changes import (
    add_changes,
    add_to_base,
    check_weights,
    find_changes,
    keep_uncounted,
    share_weights,
)
from mechconn.merging._merge_method import TensorMerge
from mechconn.network import check_change_scale


@dataclass(frozen=True)
class TaskArithmetic(TensorMerge, name="task_arithmetic"):
    """theta = theta_0 + scale * sum_i w_i (theta_i - theta_0), theta_0 the base.

    A negative weight subtracts what a parent learned. The paper chooses one scale for all tensors on validation rows,
    between 0 and 1; with more parents it is smaller.

    Attributes:
        scale: what the sum of changes is multiplied by.
        weights: name of the parent -> w_i, any number; default: 1 each.

    Raises:
        ValueError: the scale or a weight is no finite number, or all weights are zero; when used: no base, or the names
            are not those of the parents.

    Example:
        >>> import torch
        >>> tensors = {"a": torch.tensor([3.0]), "b": torch.tensor([0.0])}
        >>> TaskArithmetic(scale=0.5).merge_tensor("w", tensors, torch.tensor([1.0]), seed=0)
        tensor([1.5000])

    Source: Ilharco et al. 2023, *Editing models with task arithmetic*.
    """

    needs_base: ClassVar[bool] = True

    scale: float = 1.0
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_change_scale(self.scale)
        check_weights(self.weights, negative=True)

    def merge_tensor(self, name: str, parents: Mapping[str, Tensor], base: Tensor | None, seed: int) -> Tensor:
        """The base and the scaled sum of what the parents changed, of one tensor."""
        weights = share_weights(self.weights, list(parents))
        if (kept := keep_uncounted(name, parents)) is not None:
            return kept
        start, changes = find_changes(name, parents, base)
        return add_to_base(start, add_changes(changes, weights), self.scale, next(iter(parents.values())))

    def is_entrywise(self) -> bool:
        """A sum of changes is."""
        return True

    def describe(self) -> dict[str, Any]:
        """{"method": "task arithmetic", "scale": ..., "weights": ...}."""
        weights = None if self.weights is None else dict(self.weights)
        return {"method": "task arithmetic", "scale": self.scale, "weights": weights}
