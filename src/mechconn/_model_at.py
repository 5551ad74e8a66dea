"""A point of a path as a module of its own, with normalisation statistics that fit it."""

from __future__ import annotations

import torch
from torch import nn

from mechconn._norm_stats import NormPolicy, chosen_norm
from mechconn._params import Network, with_parameters
from mechconn._paths import Path
from mechconn._rng import isolated


def model_at(
    model: nn.Module,
    path: Path,
    t: float,
    norm: NormPolicy | None = None,
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> nn.Module:
    """The network at gamma(t): a new module in evaluation mode, with its statistics, to use or to save.

    Save it with `safetensors.torch.save_file(result.state_dict(), file)`. Where layers share weights that function
    refuses; give it a copy of each tensor, {name: tensor.clone() for name, tensor in result.state_dict().items()}.

    Args:
        model: gives the architecture and the buffers; it stays as it is.
        path: the curve, t = 0 is A and t = 1 is B.
        t: where on it, in [0, 1].
        norm: where normalisation statistics come from; required when the model keeps any.
        seed: of layers and loaders that draw from global generators.
        device: where to compute the statistics; default: where the model is. The result is where the model is.

    Raises:
        ValueError: t lies outside [0, 1], the path is not of this architecture, or `norm` is missing.

    Example:
        >>> from mechconn._paths import LinearPath
        >>> line = LinearPath({"weight": torch.zeros(1, 1)}, {"weight": torch.full((1, 1), 4.0)})
        >>> model_at(nn.Linear(1, 1, bias=False), line, 0.25)(torch.ones(1, 1)).item()
        1.0
    """
    params = path.at(t)
    network = Network(model, device)
    network.check("the path's parameters", params)
    norm = chosen_norm(norm, network)
    with isolated(seed, "model_at"):
        used, buffers = norm.state(network, network.load(params), path.place(t))
    result = with_parameters(model, used).eval()
    for name, buffer in result.named_buffers():
        buffer.copy_(buffers[name])
    return result
