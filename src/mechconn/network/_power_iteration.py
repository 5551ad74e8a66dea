"""Spectral norm's vectors: which buffers they are, and the values that power iteration tends to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm

from mechconn.network._wrappers import unwrap_module


@dataclass(frozen=True)
class PowerIteration:
    """One weight W that spectral norm divides by u . (W v), and the buffers that hold u and v.

    Attributes:
        weight: the name of the parameter that holds W before the division.
        u: the name of the buffer of the left vector.
        v: the name of the buffer of the right vector.
        dim: the dimension of W that becomes the rows of the matrix; the others become its columns.
        eps: the least norm that power iteration divides by.
    """

    weight: str
    u: str
    v: str
    dim: int
    eps: float


def find_power_iterations(module: nn.Module) -> tuple[PowerIteration, ...]:
    """Each weight that spectral norm divides, and the buffers of its vectors.

    Both forms of torch are known: `torch.nn.utils.parametrizations.spectral_norm` and the older hook
    `torch.nn.utils.spectral_norm`. A weight is left out where spectral norm is not the first that is done to a
    parameter, for its vectors then depend on other rules: so are weights of one dimension, which need no vectors.

    Example:
        >>> layer = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(2, 3))
        >>> (found,) = find_power_iterations(layer)
        >>> found.weight, found.u, found.dim
        ('parametrizations.weight.original', 'parametrizations.weight.0._u', 0)
    """
    plain = unwrap_module(module)
    parameters = {id(tensor): name for name, tensor in plain.named_parameters()}
    buffers = {id(tensor): name for name, tensor in plain.named_buffers()}
    return tuple(
        PowerIteration(parameters[id(weight)], buffers[id(u)], buffers[id(v)], rule.dim, rule.eps)
        for rule, (weight, u, v) in _iterate_rules(plain)
        if id(weight) in parameters and id(u) in buffers and id(v) in buffers
    )


@torch.no_grad()
def renew_power_iteration(weight: Tensor, dim: int, eps: float = 1e-12) -> tuple[Tensor, Tensor]:
    """(u, v), the limit of power iteration: u . (W v) = ||W||_2 for W the weight as a matrix, `dim` first.

    v is the leading eigenvector of W^T W, or u that of W W^T where this is the smaller matrix, in float64. Of the two
    signs the one is taken for which the largest entry of that vector is positive, so the result is a function of the
    weight alone.

    Args:
        weight: the parameter before the division, of two dimensions or more.
        dim: the dimension that becomes the rows of W.
        eps: the least norm that a vector is divided by; a weight of zeros gives a vector of zeros, as in torch.

    Returns:
        (u [rows], v [columns]), of the weight's number type and on its device; NaN where the weight holds NaN or
        infinity.

    Source: Miyato et al. 2018, spectral normalization for generative adversarial networks.

    Example:
        >>> u, v = renew_power_iteration(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), dim=0)
        >>> u.tolist(), v.tolist()
        ([1.0, 0.0], [0.0, 1.0])
    """
    matrix = weight.movedim(dim, 0).flatten(1).double()
    rows, columns = matrix.shape
    if not bool(matrix.isfinite().all()):
        return weight.new_full((rows,), torch.nan), weight.new_full((columns,), torch.nan)
    if columns <= rows:
        v = _find_leading_vector(matrix)
        u = normalize(matrix @ v, dim=0, eps=eps)
    else:
        u = _find_leading_vector(matrix.T)
        v = normalize(matrix.T @ u, dim=0, eps=eps)
    return u.to(weight.dtype), v.to(weight.dtype)


def _find_leading_vector(matrix: Tensor) -> Tensor:
    """The unit vector v of largest |W v|, its largest entry positive."""
    scaled = matrix / matrix.abs().max().clamp_min(torch.finfo(matrix.dtype).tiny)  # squares stay in range
    leading = torch.linalg.eigh(scaled.T @ scaled).eigenvectors[:, -1]
    return leading * leading[leading.abs().argmax()].sign()


def _iterate_rules(module: nn.Module) -> Iterator[tuple[Any, tuple[Tensor, Tensor, Tensor]]]:
    """(rule, (weight, u, v)) of each spectral norm that comes first."""
    layer: Any
    for layer in module.modules():
        if is_parametrized(layer):
            for made in layer.parametrizations.values():
                first = made[0]
                if isinstance(first, _SpectralNorm) and hasattr(first, "_u"):
                    yield first, (made.original, first._u, first._v)
        for hook in getattr(layer, "_forward_pre_hooks", {}).values():
            if isinstance(hook, SpectralNorm):
                yield hook, tuple(getattr(layer, f"{hook.name}_{kind}") for kind in ("orig", "u", "v"))
