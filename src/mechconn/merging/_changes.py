"""What parents changed of their base, tensor by tensor: in which number type, which entries agree, how they are added.

Half precision is widened to float32, and each merged entry is rounded once, to the first parent's type.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mechconn.core import check_is, check_same_keys, describe_tensor
from mechconn.network import are_equal

Tie: TypeAlias = Literal["none", "majority", "positive"]
Combine: TypeAlias = Literal["mean", "sum"]


def check_density(value: float) -> float:
    """`value` as a float above 0 and at most 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value <= 1:
        raise ValueError(f"density must lie above 0 and at most 1, the share of entries to keep, got {value!r}")
    return float(value)


def check_weights(weights: Mapping[str, float] | None, *, negative: bool = False) -> None:
    """Raise unless parents' weights are finite numbers that do not sum to zero.

    Args:
        weights: name of the parent -> its weight; None is all alike.
        negative: whether a weight may be negative, which subtracts what a parent changed.

    Raises:
        TypeError: they are no mapping.
        ValueError: a weight is no number, negative where none may be, or they are all zero.
    """
    if weights is None:
        return
    check_is("weights", weights, Mapping, "; write {name of the parent: weight, ...}")
    for name, weight in weights.items():
        number = isinstance(weight, numbers.Real) and not isinstance(weight, bool) and math.isfinite(weight)
        if not number or (weight < 0 and not negative):
            raise ValueError(
                f"the weight of {name!r} must be {'a finite number' if negative else 'zero or more'}, got {weight!r}"
            )
    if all(weight == 0 for weight in weights.values()):
        raise ValueError(f"weights must not all be zero, got {dict(weights)}; give some parent a weight")


def share_weights(weights: Mapping[str, float] | None, parents: Sequence[str]) -> dict[str, float]:
    """Parent -> its weight, 1 each where there are none.

    Raises:
        ValueError: the names are not those of the parents.
    """
    if weights is None:
        return dict.fromkeys(parents, 1.0)
    check_same_keys("the parents and the names in weights", parents, weights)
    return {parent: float(weights[parent]) for parent in parents}


def keep_uncounted(name: str, parents: Mapping[str, Tensor]) -> Tensor | None:
    """A copy of a tensor without floating point that all parents share; None of a tensor of floating point.

    Raises:
        ValueError: they differ in it, or some hold it in floating point and others not.
    """
    (owner, first), *others = parents.items()
    if all(tensor.is_floating_point() for tensor in parents.values()):
        return None
    for other, tensor in others:
        if not are_equal(first, tensor):
            raise ValueError(
                f"{name} is {describe_tensor(first)} of {owner!r} and {describe_tensor(tensor)} of {other!r}, which "
                "differ and have no mean; give both the same values"
            )
    return first.detach().clone()


def widen(*tensors: Tensor) -> list[Tensor]:
    """Tensors of floating point in float64 where one of them is, else in float32; copies of none that are so."""
    wide = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
    return [tensor.detach().to(wide) for tensor in tensors]


def check_all_finite(name: str, parent: str, tensor: Tensor) -> None:
    """Raise where a tensor holds NaN or infinity, which has no place in an order and no sign.

    Raises:
        ValueError: as said.
    """
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} of {parent!r} holds NaN or infinity; leave that network out, or train it again")


def find_changes(name: str, parents: Mapping[str, Tensor], base: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """(the base, parent -> theta_i - theta_0), all in float32, or float64 where one of them is; fresh changes.

    Raises:
        ValueError: there is no base, its shape is another, or something is not finite.
    """
    if base is None:
        raise ValueError(f"there is no base to say what changed in {name}; pass what the parents were fine-tuned from")
    for parent, tensor in parents.items():
        if tensor.shape != base.shape or not base.is_floating_point():
            raise ValueError(
                f"{name} is {describe_tensor(tensor)} of {parent!r} and {describe_tensor(base)} of the base; pass the "
                "base that the parents were fine-tuned from"
            )
    start, *ends = widen(base, *parents.values())
    check_all_finite(name, "the base", start)
    changes = {parent: end - start for parent, end in zip(parents, ends, strict=True)}
    for parent, change in changes.items():
        check_all_finite(name, parent, change)
    return start, changes


def add_changes(changes: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """sum_i w_i tau_i; a fresh tensor."""
    (parent, first), *others = changes.items()
    total = first * weights[parent]
    for other, change in others:
        total.add_(change, alpha=weights[other])
    return total


def elect_signs(changes: Mapping[str, Tensor], weights: Mapping[str, float], where_even: float) -> Tensor:
    """The sign of sum_i w_i tau_i of each entry; where the sum is zero, `where_even`."""
    signs = add_changes(changes, weights).sign_()
    return signs if where_even == 0.0 else signs.masked_fill_(signs == 0, where_even)


def combine_agreeing(
    changes: Mapping[str, Tensor], weights: Mapping[str, float], signs: Tensor, combine: Combine
) -> Tensor:
    """The weighted mean, or sum, of the changes that have the elected sign, entry by entry; zero where none has."""
    total, counted = torch.zeros_like(signs), torch.zeros_like(signs)
    for parent, change in changes.items():
        agrees = (change.sign() == signs) & (signs != 0)
        total.add_(change * agrees, alpha=weights[parent])
        counted.add_(agrees, alpha=weights[parent])
    if combine == "sum":
        return total
    return torch.where(counted > 0, total / counted.masked_fill(counted <= 0, 1.0), 0.0)


def add_to_base(base: Tensor, change: Tensor, scale: float, like: Tensor) -> Tensor:
    """theta_0 + scale * change in the type of `like`, rounded once; it writes into `change`."""
    return change.mul_(scale).add_(base).to(like.dtype)
