"""DARE: entries of parents' changes are dropped at random, and those that stay are scaled up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mechconn.core import check_choice, make_generator, sha256
from mechconn.merging._changes import (
    Combine,
    add_changes,
    add_to_base,
    check_density,
    check_weights,
    combine_agreeing,
    elect_signs,
    find_changes,
    keep_uncounted,
    share_weights,
)
from mechconn.merging._merge_method import TensorMerge
from mechconn.network import check_change_scale


@dataclass(frozen=True)
class DARE(TensorMerge, name="dare"):
    r"""Drop and rescale: each entry of tau_i = theta_i - theta_0 is kept with probability `density`, by itself.

        theta = theta_0 + scale * sum_i w_i m_i tau_i / density,        m_i in {0, 1},  P(m_i = 1) = density

    Its mean over draws is that of `TaskArithmetic`, and its variance, entry by entry,
    scale^2 sum_i w_i^2 tau_i^2 (1 - density) / density. What is kept depends on the seed, the names of parent and
    tensor, and nothing else.

    Attributes:
        density: share of entries to keep, above 0 and at most 1; the paper drops 0.9 of them and more.
        scale: what the merged change is multiplied by.
        weights: name of the parent -> w_i; default: 1 each. Any number, with elected signs zero or more.
        signs: "all": changes are added up; "elected": signs are elected and the changes that agree are merged, as in
            `TIES` without its trimming.
        rescale: by 1 / density ("density", as in the paper); so that the sum of absolute values of each tensor's change
            stays ("l1", as mergekit does); or "none".
        tie: with elected signs, the sign where the sum is zero: "none", so that the entry stays the base's, or
            "positive", as mergekit does.
        combine: with elected signs, the "mean" of the changes that agree, as TIES does, or their "sum", as mergekit's
            dare_ties does.

    Raises:
        ValueError: a setting is out of range; when used: no base, something is not finite, or the names in weights are
            not those of the parents.

    Example:
        >>> changed = DARE(density=0.25).merge_tensor("w", {"a": torch.ones(1000)}, torch.zeros(1000), seed=0)
        >>> changed.unique(), round(changed.mean().item(), 1)
        (tensor([0., 4.]), 1.0)

    Source: Yu et al. 2024, *Language models are Super Mario*.
    """

    needs_base: ClassVar[bool] = True

    density: float = 0.1
    scale: float = 1.0
    weights: Mapping[str, float] | None = None
    signs: Literal["all", "elected"] = "all"
    rescale: Literal["density", "l1", "none"] = "density"
    tie: Literal["none", "positive"] = "none"
    combine: Combine = "mean"

    def __post_init__(self) -> None:
        check_density(self.density)
        check_change_scale(self.scale)
        check_choice("signs", self.signs, ("all", "elected"))
        check_choice("rescale", self.rescale, ("density", "l1", "none"))
        check_choice("tie", self.tie, ("none", "positive"))
        check_choice("combine", self.combine, ("mean", "sum"))
        check_weights(self.weights, negative=self.signs == "all")

    def merge_tensor(self, name: str, parents: Mapping[str, Tensor], base: Tensor | None, seed: int) -> Tensor:
        """The base and the scaled sum, or mean, of what was kept of the parents' changes, of one tensor."""
        weights = share_weights(self.weights, list(parents))
        if (kept := keep_uncounted(name, parents)) is not None:
            return kept
        start, changes = find_changes(name, parents, base)
        changes = {parent: self._drop(parent, change, seed) for parent, change in changes.items()}
        if self.signs == "all":
            change = add_changes(changes, weights)
        else:
            signs = elect_signs(changes, weights, 1.0 if self.tie == "positive" else 0.0)
            change = combine_agreeing(changes, weights, signs, self.combine)
        return add_to_base(start, change, self.scale, next(iter(parents.values())))

    def _drop(self, parent: str, change: Tensor, seed: int) -> Tensor:
        """The change with entries dropped, drawn by its content: so tied weights that a file stores twice stay tied."""
        if self.density == 1.0:
            return change
        content = sha256(change.detach().cpu().contiguous().numpy().tobytes())
        draws = torch.rand(change.shape, generator=make_generator(seed, "dare", parent, content))
        kept = change * (draws < self.density).to(change.device)
        if self.rescale == "none":
            return kept
        if self.rescale == "density":
            return kept / self.density
        before, after = change.abs().sum(), kept.abs().sum()
        return kept * (before / after) if bool(after > 0) else kept

    def describe(self) -> dict[str, Any]:
        """{"method": "dare", ...} and every setting."""
        return {
            "method": "dare",
            "density": self.density,
            "scale": self.scale,
            "weights": None if self.weights is None else dict(self.weights),
            "signs": self.signs,
            "rescale": self.rescale,
            "tie": self.tie,
            "combine": self.combine,
        }
