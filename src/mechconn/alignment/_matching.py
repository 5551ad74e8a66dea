"""What an alignment method is: it gets two networks and their symmetry, and returns an element of the symmetry."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mechconn.core import (
    Compute,
    Data,
    Inputs,
    Params,
    Registered,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
)
from mechconn.network import choose_reduced_type
from mechconn.symmetry import Symmetry


@dataclass(frozen=True)
class NetworkPair:
    """What an alignment method gets: two networks of one architecture, B to be moved onto A.

    Models are in evaluation mode and tensors on `device`; a method changes none of them.

    Attributes:
        model_a, model_b: the networks.
        params_a, params_b: their parameters, by name.
        symmetry: what leaves their functions as they are: `symmetry.groups`, `symmetry.axes`, `symmetry.actions`.
        seed: of every random choice of the method.
        device: where to compute.
        compute: precision and progress; a method calls `compute.report(what, done, total)` as it goes.
    """

    model_a: nn.Module
    model_b: nn.Module
    params_a: Params
    params_b: Params
    symmetry: Symmetry
    seed: int
    device: torch.device
    compute: Compute

    @property
    def reduced(self) -> torch.dtype | None:
        """The type in which layers compute in place of their own; None: in their own."""
        return choose_reduced_type(self.compute.precision, self.device)

    @property
    def computed(self) -> dict[str, Any]:
        """How activations are computed, for the record."""
        own = next((tensor.dtype for tensor in self.params_a.values()), torch.float32)
        return self.compute.describe(self.device, self.reduced or own)


@dataclass(frozen=True)
class Matching:
    """What an alignment method found; a group that it leaves out stays as it is.

    Attributes:
        permutations: group -> int64 of shape [size]; entry i is the unit of B that goes to place i.
        before, after: group -> similarity of its units in A and B, before and after they are moved; of the groups that
            were compared.
        dead: group -> number of units that are constant on the data in A or in B, so that they cannot be matched.
        unseen: groups and actions whose units the method could not compare; they stay.
        factors: action of the symmetry -> its element, float64: signs, scales, or matrices; what is left out is not
            multiplied.
        notes: what a reader of the alignment must know of how the element was found.
    """

    permutations: Mapping[str, Tensor]
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    dead: Mapping[str, int] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    factors: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def element(self) -> dict[str, Tensor]:
        """Permutations and factors, as `Symmetry.apply` takes them."""
        return {**self.permutations, **self.factors}


class AlignmentMethod(Registered, abc.ABC):
    """How the element that moves B onto A is chosen: extend it for a method of your own.

    A subclass gives `match` and `describe`, and `example` where it reads data. It is registered where it is defined, so
    that audit.toml may name it: under its class name, or under `class Mine(AlignmentMethod, name="mine")`. `align`
    proves the symmetry before, checks the element, and moves B's weights and statistics.

    Example:
        Every group back to front, whatever the weights are.

        >>> class Reversed(AlignmentMethod):
        ...     def match(self, pair):
        ...         return Matching({name: torch.arange(size).flip(0) for name, size in pair.symmetry.sizes.items()})
        ...     def describe(self):
        ...         return {"method": "reversed"}
        >>> Reversed().describe()
        {'method': 'reversed'}
    """

    @abc.abstractmethod
    def match(self, pair: NetworkPair) -> Matching:
        """A permutation for every group that should move, and factors for the actions that should."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a reader must know to repeat it: {"method": its name, ...}, plain values."""

    def example(self, device: torch.device, model: nn.Module) -> Inputs | None:
        """Inputs to find and prove a symmetry on where the user passes none; None of a method that reads no data."""
        return None

    def optimised_on(self) -> Data | None:
        """Rows on whose loss the element is optimised, on which no barrier may be judged; None where there are none."""
        return None


def read_example(data: Data, device: torch.device, model: nn.Module) -> Inputs:
    """The first two rows of a method's data, to find and prove a symmetry on."""
    with isolate_rng(0, "example"), keep_generator_states(data):
        inputs, targets = next(iterate_batches("alignment data", data, batch_size=2, device=device, model=model))
    rows = len(targets)
    return tree_map(lambda v: v[:2] if isinstance(v, Tensor) and v.dim() and len(v) == rows else v, inputs)
