"""A change of weights moved from one network's order of units to another's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.alignment import Alignment, AlignmentMethod, ManyAlignments, align
from mechconn.core import Compute, Data, check_is, check_same_keys, check_same_shapes
from mechconn.network import WeightChange, are_equal, as_points, check_change_scale, parameters_of
from mechconn.symmetry import Element, Symmetry, list_groups, list_still_tensors

Matched: TypeAlias = AlignmentMethod | Alignment | ManyAlignments | None
"""How a base is matched to another network: by a method; as was found before; or not at all."""
NEAR = 1e-6
"""Relative difference of two distances that is rounding."""


@dataclass(frozen=True)
class Move:
    """How a base was moved onto another network.

    Attributes:
        symmetry, element: what moves it; None, and empty, where it stays as it is.
        alignment: B moved onto A, where one was found for these two.
        before, after: distance of the two networks, as saved and once the base is moved.
        notes: of the alignment.
        settings: of the alignment.
        unseen: groups and actions whose units could not be compared.
        rows: those that the alignment was found on; None where there are none, or they are not known.
    """

    symmetry: Symmetry | None
    element: Element
    alignment: Alignment | None
    before: float
    after: float
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    unseen: tuple[str, ...] = ()
    rows: Data | None = None

    @property
    def coverage(self) -> float | None:
        """Share of the hidden axes all of whose units may be moved; None where nothing was matched."""
        return None if self.symmetry is None else self.symmetry.coverage

    def measure_unmatched(self, moved: WeightChange) -> float | None:
        """Share of |g(tau)|^2 in tensors with units that could not be matched; None where nothing was matched."""
        if self.symmetry is None:
            return None
        unmatched, norms = self.list_unmatched(), moved.norms
        total = math.hypot(*norms.values()) ** 2
        return sum(norm**2 for name, norm in norms.items() if name in unmatched) / total if total else 0.0

    def apply(self, change: WeightChange) -> WeightChange:
        """g(tau): what moves weights moves their changes, since g is linear: g(theta + tau) - g(theta) = g(tau)."""
        if self.symmetry is None:
            return change
        return WeightChange(self.symmetry.apply(change.tensors, self.element))

    def list_unmatched(self) -> frozenset[str]:
        """Tensors with units that could not be matched: that may not be moved, or were not compared."""
        if self.symmetry is None:
            return frozenset()
        unseen = set(self.unseen)
        return list_still_tensors(self.symmetry) | {
            name
            for name, patterns in self.symmetry.axes.items()
            if any(group in unseen for pattern in patterns for group in list_groups(pattern))
        }


def check_change(change: WeightChange, base: nn.Module, scale: float) -> None:
    """Raise unless it is a change of a network's parameters, and the scale a finite number."""
    check_is("change", change, WeightChange, "; pass weight_change(base, tuned)")
    what, own = "the parameters of base and of the change", parameters_of(base)
    check_same_keys(what, own, change.tensors)
    check_same_shapes(what, own, {name: tensor.to(own[name].dtype) for name, tensor in change.tensors.items()})
    check_change_scale(scale)


def find_move(
    base: nn.Module,
    onto: nn.Module,
    matching: Matched,
    symmetry: Symmetry | None,
    ignore: Sequence[str],
    seed: int,
    compute: Compute,
) -> Move:
    """How the base is moved onto the other network.

    Raises:
        ValueError: the two are not one module, or were not those that an alignment was found for; a symmetry beside
            what has one, or needs none.
        TypeError: no way to match.
    """
    if symmetry is not None and (matching is None or isinstance(matching, Alignment | ManyAlignments)):
        what = "matching=None moves nothing" if matching is None else "what was aligned before has its own"
        raise ValueError(f"symmetry is for an alignment method, and {what}; leave it out")
    as_points(("onto", "base"), (onto, base), ignore)
    if matching is None:
        apart = _measure_distance(parameters_of(onto), parameters_of(base))
        return Move(None, {}, None, apart, apart, (), {"method": "none"})
    if isinstance(matching, ManyAlignments):
        return _find_through(base, onto, matching)
    if not isinstance(matching, Alignment):
        check_is(
            "matching", matching, AlignmentMethod, "; pass WeightMatching(), what align(onto, base, ...) gave, or None"
        )
        matching = align(onto, base, matching, symmetry, ignore=ignore, seed=seed, compute=compute)
    else:
        _check_alignment(matching, base, onto)
    found = matching
    return Move(
        found.symmetry, found.element, found, found.distance_before, found.distance_after, found.notes, found.settings,
        found.unseen, found.rows_of,
    )  # fmt: skip


def _check_alignment(found: Alignment, base: nn.Module, onto: nn.Module) -> None:
    moved = found.symmetry.apply(parameters_of(base), found.element)
    known = found.params if hasattr(found, "params") else moved  # files hold none, and the distance tells alone
    same = all(are_equal(own, moved[name]) for name, own in known.items())
    apart = _measure_distance(parameters_of(onto), moved)
    if not same or not math.isclose(apart, found.distance_after, rel_tol=NEAR, abs_tol=NEAR):
        raise ValueError(
            "matching was found for networks of other weights than onto and base; pass what align(onto, base, ...) "
            "gives for these"
        )


def _find_through(base: nn.Module, onto: nn.Module, many: ManyAlignments) -> Move:
    """The element that leads through the order that many networks share."""
    names = [_find_name(what, model, many) for what, model in (("onto", onto), ("base", base))]
    element = many.pairwise(*names)
    a, b = parameters_of(onto), parameters_of(base)
    before, after = _measure_distance(a, b), _measure_distance(a, many.symmetry.apply(b, element))
    return Move(many.symmetry, element, None, before, after, many.notes, many.settings, many.unseen, many.rows_of)


def _find_name(what: str, model: nn.Module, many: ManyAlignments) -> str:
    own = parameters_of(model)
    for name in many.names:
        moved = many.symmetry.apply(own, many.elements[name])
        if all(are_equal(moved[key], p) for key, p in parameters_of(many.models[name]).items()):
            return name
    raise ValueError(
        f"matching holds no network of the weights of {what}, but {', '.join(many.names)} of others; pass what "
        "align_many(models, ...) gives for models with these two among them"
    )


def _measure_distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return math.hypot(
        *(float(torch.linalg.vector_norm(p.double() - b[name].to(p.device).double())) for name, p in a.items())
    )
