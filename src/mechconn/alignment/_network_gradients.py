"""Gradients of a network's loss at points of its weight space, and how an element of its symmetry moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mechconn.alignment._interpolated_loss import read_rows
from mechconn.alignment._matching import NetworkPair
from mechconn.alignment._sign_basis import SURE, measure_certainty
from mechconn.core import Params, SampleSource
from mechconn.losses import Loss
from mechconn.network import Network, find_power_iterations, find_statistics_layers
from mechconn.symmetry import Action, Pattern, Symmetry

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Layers whose weight is a gain."""


def make_dual(symmetry: Symmetry) -> Symmetry:
    r"""The symmetry as it acts on gradients: what is g on weights is here g's transposed inverse.

    L(g(theta)) = L(theta) for all theta gives G^T grad L(g(theta)) = grad L(theta), with G the matrix of g, so that

        grad L(g(theta)) = G^-T grad L(theta).

    Permutations, signs and orthogonal maps are orthogonal matrices, and move gradients as they move weights. Where
    weights are multiplied by s^e, gradients are by s^-e; where by M, gradients by M^-T: exponents change their sign.
    """
    return replace(symmetry, actions=tuple(map(_invert_action, symmetry.actions)), approximate=())


def _invert_action(action: Action) -> Action:
    return replace(action, members=tuple(replace(m, exponent=-m.exponent) for m in action.members))


def add_axis(symmetry: Symmetry, length: int) -> Symmetry:
    """The same symmetry of tensors that have one more axis behind the others, along which nothing moves."""
    last: Pattern = (length,)
    axes = {name: (*patterns, last) for name, patterns in symmetry.axes.items()}
    actions = tuple(
        replace(action, members=tuple(replace(m, axes=(*m.axes, last)) for m in action.members))
        for action in symmetry.actions
    )
    return replace(symmetry, axes=axes, actions=actions, approximate=())


def find_gain_signs(
    symmetry: Symmetry, model: nn.Module, networks: Sequence[Mapping[str, Tensor]]
) -> list[dict[str, Tensor]]:
    """For each network, the signs at which the gains of its normalisation layers are positive, by name of the action.

    A sign of units that a gain has too is told by the weights: where every gain is clear of zero in all networks.
    """
    gains = {
        f"{name}.weight" if name else "weight"
        for name, part in model.named_modules()
        if isinstance(part, NORMS) and getattr(part, "weight", None) is not None
    }
    found: list[dict[str, Tensor]] = [{} for _ in networks]
    for action in (a for a in symmetry.actions if a.kind == "sign" and len(a.units) == 1):
        member = next((m for m in action.members if m.tensor in gains and m.exponent % 2), None)
        if member is None or min(measure_certainty(member.tensor, own) for own in networks) <= SURE:
            continue
        numbers = action.locate(member, symmetry.sizes).flatten()
        for signs, own in zip(found, networks, strict=True):
            values = own[member.tensor].detach().double().cpu()
            signs[action.name] = torch.ones(symmetry.sizes[action.units[0]], dtype=torch.float64)
            signs[action.name][numbers[numbers >= 0]] = torch.where(values < 0, -1.0, 1.0).double()[numbers >= 0]
    return found


class GradientReader:
    """(parameters, rows) -> the gradient of the mean loss on these rows, of one network of a pair.

    Networks that keep running statistics normalise by those of the batch; what they would write is discarded. All else
    runs in evaluation mode: dropout is off, whose masks would differ between the networks.

    Args:
        pair: the networks.
        model: one of them.
        loss: of each row.

    Raises:
        ValueError: the network has spectral norm; a batch of one row, where statistics are those of the batch.
    """

    def __init__(self, pair: NetworkPair, model: nn.Module, loss: Loss) -> None:
        self._pair, self._loss = pair, loss
        self._network = Network(model, replace(pair.compute, device=pair.device))
        if find_power_iterations(self._network.module):
            raise ValueError(
                "GradientMatching got networks with spectral norm, whose vectors it does not renew at every point; "
                "match weights by themselves, WeightMatching()"
            )
        self._norms = frozenset(find_statistics_layers(self._network).values())
        if self._norms:
            self._network.module.register_forward_pre_hook(self._turn_off_all_but_norms)

    @property
    def by_batch(self) -> bool:
        """Whether the statistics of each batch are used."""
        return bool(self._norms)

    def _turn_off_all_but_norms(self, module: nn.Module, _: object) -> None:
        """Hook before each pass: of layers in training mode only norms stay in it."""
        for part in module.modules():
            part.training = part.training and part in self._norms

    def measure(self, params: Mapping[str, Tensor], rows: SampleSource) -> Params:
        """Name -> gradient; zero where the loss does not depend on a parameter."""
        if self.by_batch and len(rows) < 2:
            raise ValueError(
                "GradientMatching takes normalisation statistics from each batch, which one row does not have; pass "
                "batch_size=2 or more, and as many rows"
            )
        ((inputs, targets),) = read_rows(rows, self._pair, len(rows))
        leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in params.items()}
        scratch = {name: buffer.clone() for name, buffer in self._network.buffers.items()}
        with torch.enable_grad():
            outputs = self._network(self._network.load(leaves), scratch, inputs, training=self.by_batch)
            values, counted = self._loss(outputs, targets), self._loss.counted(targets)
            counted = torch.ones(len(values), dtype=torch.bool, device=values.device) if counted is None else counted
            mean = torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)
            found = torch.autograd.grad(mean, list(leaves.values()), allow_unused=True)
        return {
            name: torch.zeros_like(leaf) if own is None else own.detach()
            for (name, leaf), own in zip(leaves.items(), found, strict=True)
        }
