"""A change of weights added to a network, whose normalisation statistics a policy gives."""

from __future__ import annotations

from torch import nn

from mechconn.core import Compute
from mechconn.network import NormPolicy, WeightChange, parameters_of, point_of, with_change
from mechconn.paths import Spot, model_at


def add_change(
    model: nn.Module, change: WeightChange, scale: float, norm: NormPolicy, seed: int, compute: Compute
) -> nn.Module:
    """The network at theta + scale tau with statistics that fit it, as a new module in evaluation mode."""
    params = parameters_of(with_change(model, change, scale))
    spot = Spot(lambda: dict(params), [point_of(model)], None, [1.0])
    return model_at(model, spot, 0.5, norm=norm, seed=seed, compute=compute.without_progress())
