"""TIES: parents' changes are trimmed, each entry elects a sign, and those that agree with it are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mechconn.core import check_choice
from mechconn.merging._changes import (
    Combine,
    Tie,
    add_to_base,
    check_density,
    check_weights,
    combine_agreeing,
    elect_signs,
    find_changes,
    keep_uncounted,
    share_weights,
)
from mechconn.merging._largest_changes import find_threshold, find_thresholds
from mechconn.merging._merge_method import NamedTensors, TensorMerge
from mechconn.network import check_change_scale


@dataclass(frozen=True)
class TIES(TensorMerge, name="ties"):
    r"""Trim, elect sign and merge, of the changes tau_i = theta_i - theta_0, entry by entry.

        trim   tau_i keeps the largest `density` of its entries by size, and is zero elsewhere
        elect  s = sign(sum_i w_i tau_i)
        merge  theta = theta_0 + scale * sum_{i: sign(tau_i) = s} w_i tau_i / sum_{i: sign(tau_i) = s} w_i

    Of n entries the floor(density * n) largest are kept, one at least, and with them every entry as large as the
    smallest of these.

    Attributes:
        density: share of the entries of each parent's change to keep, above 0 and at most 1.
        scale: what the merged change is multiplied by.
        weights: name of the parent -> w_i, zero or more; default: all alike, as in the paper.
        trim: "model": the largest entries of a parent's whole change, as in the paper; "tensor": of each tensor by
            itself, as mergekit does.
        tie: the elected sign where the sum is zero: "none", as in the paper, so that the entry stays the base's;
            "majority": the commoner sign among all entries, as the authors' code does; "positive", as mergekit does.
        combine: "mean" of the changes that agree, as in the paper; "sum" of them.

    Raises:
        ValueError: a setting is out of range; when used: no base, something is not finite, or the names in weights are
            not those of the parents.

    Example:
        Of four entries each keeps the two largest; only in the second and third do they agree.

        >>> a, b = torch.tensor([4.0, 2.0, 0.0, 1.0]), torch.tensor([0.5, 4.0, 2.0, 1.0])
        >>> method = TIES(density=0.5, trim="tensor")
        >>> method.merge_tensor("w", {"a": a, "b": b}, torch.zeros(4), seed=0)
        tensor([4., 3., 2., 0.])

    Source: Yadav et al. 2023, *TIES-Merging: resolving interference when merging models*.
    """

    needs_base: ClassVar[bool] = True

    density: float = 0.2
    scale: float = 1.0
    weights: Mapping[str, float] | None = None
    trim: Literal["model", "tensor"] = "model"
    tie: Tie = "none"
    combine: Combine = "mean"
    _thresholds: Mapping[str, float] | None = field(default=None, init=False, repr=False, compare=False)
    _majority: float | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_density(self.density)
        check_change_scale(self.scale)
        check_weights(self.weights)
        check_choice("trim", self.trim, ("model", "tensor"))
        check_choice("tie", self.tie, ("none", "majority", "positive"))
        check_choice("combine", self.combine, ("mean", "sum"))

    def prepare(self, tensors: NamedTensors) -> TIES:
        """The method that knows each parent's smallest kept entry, and the commoner sign, of all these tensors."""
        ready = replace(self)
        if self.trim == "model" and self.density < 1:
            object.__setattr__(ready, "_thresholds", find_thresholds(tensors, self.density))
        if self.tie == "majority":
            object.__setattr__(ready, "_majority", ready._find_majority(tensors))
        return ready

    def merge_tensor(self, name: str, parents: Mapping[str, Tensor], base: Tensor | None, seed: int) -> Tensor:
        """The base and the scaled mean of the trimmed changes that agree, of one tensor."""
        weights = share_weights(self.weights, list(parents))
        if (kept := keep_uncounted(name, parents)) is not None:
            return kept
        start, changes = self._trim(name, parents, base)
        if self.tie == "majority" and self._majority is None:
            raise ValueError('TIES(tie="majority") needs all tensors; call prepare(tensors) and use what it returns')
        where_even = {"none": 0.0, "majority": self._majority or 0.0, "positive": 1.0}[self.tie]
        signs = elect_signs(changes, weights, where_even)
        change = combine_agreeing(changes, weights, signs, self.combine)
        return add_to_base(start, change, self.scale, next(iter(parents.values())))

    def _trim(self, name: str, parents: Mapping[str, Tensor], base: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        start, changes = find_changes(name, parents, base)
        if self.density == 1.0:
            return start, changes
        if self.trim == "model" and self._thresholds is None:
            raise ValueError('TIES(trim="model") needs all tensors; call prepare(tensors) and use what it returns')
        for parent, change in changes.items():
            least = find_threshold(change, self.density) if self._thresholds is None else self._thresholds[parent]
            change.masked_fill_(change.abs() < least, 0.0)
        return start, changes

    def _find_majority(self, tensors: NamedTensors) -> float:
        """The sign of the sum of the elected signs of all entries."""
        total = 0
        for name, parents, base in tensors():
            if all(tensor.is_floating_point() for tensor in parents.values()):
                weights = share_weights(self.weights, list(parents))
                total += int(elect_signs(self._trim(name, parents, base)[1], weights, 0.0).sum(dtype=torch.float64))
        return float((total > 0) - (total < 0))

    def is_entrywise(self) -> bool:
        """It is where the smallest kept entry is not that of each tensor."""
        return self.trim == "model" or self.density == 1.0

    def describe(self) -> dict[str, Any]:
        """{"method": "ties", ...} and every setting."""
        return {
            "method": "ties",
            "density": self.density,
            "scale": self.scale,
            "weights": None if self.weights is None else dict(self.weights),
            "trim": self.trim,
            "tie": self.tie,
            "combine": self.combine,
        }
