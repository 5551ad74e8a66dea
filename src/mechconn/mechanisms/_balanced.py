"""Networks whose homogeneous units have equal norms, or the reason why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from torch import nn

from mechconn.core import Inputs
from mechconn.symmetry import Balanced, Symmetry, balance, symmetry_of

Balancing: TypeAlias = Symmetry | Literal["auto", "none"]
"""By which symmetry networks are balanced: "auto" reads it off the network, "none" leaves balancing out."""

UNBALANCED = "the networks were not balanced, so that the scales of hidden units may decide how fast they relearn"


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison, balanced.

    Attributes:
        model: the network.
        groups: what was rescaled: kind and group.
        notes: why units keep their scales.
    """

    model: nn.Module
    groups: tuple[str, ...]
    notes: tuple[str, ...]


def _describe(found: Balanced) -> Side:
    groups = tuple(sorted(f"{group.kind}: {group.group}" for group in found.groups))
    frozen = {name for name, parameter in found.model.named_parameters() if not parameter.requires_grad}
    held = [reason for reason in found.left.values() if reason.partition(" is frozen")[0] in frozen]
    return Side(found.model, groups, (*found.notes, *_explain_frozen(held)))


def _explain_frozen(reasons: Sequence[str]) -> Iterator[str]:
    if reasons:
        some = f"{len(reasons)} groups of hidden units keep their scales"
        what = "1 group of hidden units keeps its scale" if len(reasons) == 1 else some
        yield f"{what}, since {reasons[0]}, which may decide how fast they relearn"


@dataclass(eq=False)
class Balancer:
    """Balances networks; of each architecture the symmetry is read once.

    Attributes:
        by: the symmetry, or where it comes from.
    """

    by: Balancing
    _known: dict[tuple[Any, ...], Symmetry] = field(default_factory=dict)

    def balance(self, model: nn.Module, example: Inputs) -> Side:
        """The network balanced, or as it is where it cannot be.

        Raises:
            ValueError: a symmetry that was given is not of this network.
        """
        if isinstance(self.by, Symmetry):
            return _describe(balance(model, self.by, example))
        if self.by == "none":
            return Side(model, (), (f"{UNBALANCED}: this was asked for",))
        try:
            return _describe(balance(model, self._find(model, example), example))
        except ValueError as error:
            return Side(model, (), (f"{UNBALANCED}: {str(error).splitlines()[0]}",))

    def _find(self, model: nn.Module, example: Inputs) -> Symmetry:
        key = (type(model), *((name, tuple(tensor.shape)) for name, tensor in model.named_parameters()))
        if key not in self._known:
            self._known[key] = symmetry_of(model, example)
        return self._known[key]
