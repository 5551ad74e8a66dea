"""What a way to align two networks is: it gets both and their symmetry, and returns a permutation of every group."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import Compute, Params
from mechconn.network import choose_reduced_type
from mechconn.symmetry import Symmetry


@dataclass(frozen=True)
class NetworkPair:
    """Two networks of one architecture, B to be moved onto A; models in evaluation mode, tensors on the device.

    Attributes:
        model_a, model_b: the networks.
        params_a, params_b: their parameters.
        symmetry: which permutations leave their functions as they are.
        seed: of every random choice.
        device: where to compute.
        compute: in which precision, and what hears of progress.
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
    """What a method found.

    Attributes:
        permutations: group -> int64 of shape [size].
        before, after: group -> similarity of its units in A and B, before and after the permutation.
        dead: group -> number of units that are constant on the data in A or in B, so that nothing tells them apart.
        unseen: groups whose units the method could not compare; they stay.
    """

    permutations: dict[str, Tensor]
    before: Mapping[str, float]
    after: Mapping[str, float]
    dead: Mapping[str, int] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()


class AlignmentMethod(abc.ABC):
    """A way to choose the permutations."""

    @abc.abstractmethod
    def match(self, pair: NetworkPair) -> Matching:
        """A permutation of every group."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a reader must know to repeat it: plain values."""
