"""Several networks at the scales of smallest norm, so that permutations, signs and rotations are left to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mechconn.alignment._readings import SNAPPED
from mechconn.alignment._sign_basis import SignBasis, find_sign_basis
from mechconn.alignment._slices import choose_type
from mechconn.symmetry import Element, Symmetry, compose_elements, find_balanced_scales


class BalancedNetworks:
    """Networks of one symmetry, each balanced by its own scales and linear maps, and with positive gains.

    Where several gains share the signs of a residual stream, each network is read with the signs at which its gains are
    positive; see `find_sign_basis`.

    Args:
        symmetry: of all networks.
        networks: their parameters, on one device.

    Attributes:
        symmetry: what is left to choose: permutations, signs, and orthogonal maps in place of linear ones.
        basis: its actions, and the signs that the gains told.
        params: the parameters of each network, balanced, float32 or float64.
    """

    def __init__(self, symmetry: Symmetry, networks: Sequence[Mapping[str, Tensor]]) -> None:
        self._basis = find_sign_basis(symmetry, *networks)
        self._own, self._based = symmetry, replace(symmetry, actions=self._basis.actions)
        left = [action for action in self._basis.actions if action.kind != "scale"]
        turned = [replace(action, kind="orthogonal") if action.kind == "linear" else action for action in left]
        self.symmetry = replace(symmetry, actions=tuple(turned))
        self.basis = SignBasis(self.symmetry.actions, self._basis.gains, {})
        self._moves = [self._balance(network) for network in networks]
        self.params = [self._move(network, move) for network, move in zip(networks, self._moves, strict=True)]

    def _balance(self, network: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The element, of the basis, that balances a network and makes its gains positive."""
        sizes, actions = self._based.sizes, {action.name: action for action in self._based.actions}
        continuous = [action for action in self._based.actions if action.kind in ("scale", "linear")]
        found = find_balanced_scales(network, continuous, sizes)
        for name, gain in self._basis.gains.items():
            numbers = actions[name].locate(gain, sizes).flatten()
            signs = torch.ones(sizes[actions[name].units[0]], dtype=torch.float64)
            values = network[gain.tensor].detach().double().cpu()
            signs[numbers[numbers >= 0]] = torch.where(values < 0, -1.0, 1.0).double()[numbers >= 0]
            found[name] = signs
        return found

    def _move(self, network: Mapping[str, Tensor], element: Element) -> dict[str, Tensor]:
        return {
            name: self._based.moved(name, tensor.detach().double(), element).to(choose_type(tensor))
            for name, tensor in network.items()
        }

    def move(self, number: int, element: Element) -> dict[str, Tensor]:
        """A balanced network moved by an element of what is left to choose."""
        return {name: self.symmetry.moved(name, tensor, element) for name, tensor in self.params[number].items()}

    def complete(self, number: int, element: Element) -> dict[str, Tensor]:
        """The element of the symmetry's own that balances a network, and then moves it; without what moves nothing."""
        found = compose_elements(self._based, self._moves[number], element)
        signs = {action.name for action in self._based.actions if action.kind == "sign"}
        flips = self._basis.express({name: value for name, value in found.items() if name in signs})
        found = {name: value for name, value in found.items() if name not in signs} | flips
        return {name: value for name, value in found.items() if name in self._own.sizes or self._moves_any(name, value)}

    def _moves_any(self, name: str, value: Tensor) -> bool:
        action = next(action for action in self._own.actions if action.name == name)
        none = torch.eye(value.shape[-1], dtype=torch.float64) if action.mixes else torch.ones(())
        return float((value - none).abs().max()) >= SNAPPED


def has_scales(symmetry: Symmetry) -> bool:
    """Whether balancing changes a network."""
    return any(action.kind in ("scale", "linear") for action in symmetry.actions)
