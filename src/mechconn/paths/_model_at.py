"""Points of weight space as modules of their own, with normalisation statistics that fit them: of a path, and means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from mechconn.core import Compute, check_is, check_non_negative, check_two_models, isolate_rng, resolve_compute
from mechconn.network import Network, NormPolicy, PointLike, as_points, copy_with_state, resolve_norm, set_mode
from mechconn.paths._curves import LinearPath
from mechconn.paths._path import Path, check_path
from mechconn.paths._spot import Spot


@runtime_checkable
class HoldsModels(Protocol):
    """What `align_many` gives: networks by name."""

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """Name -> network."""
        ...


def model_at(
    model: nn.Module,
    path: Path,
    t: float,
    *,
    norm: NormPolicy | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """The network at gamma(t): a new module in evaluation mode, with its statistics, to use or to save.

    Save it with `safetensors.torch.save_file(result.state_dict(), file)`. Where layers share weights that function
    refuses; give it a copy of each tensor, {name: tensor.clone() for name, tensor in result.state_dict().items()}.

    Args:
        model: gives the architecture, the statistics that `KeepNorm` uses, and the buffers of a path of parameters
            alone; it stays as it is.
        path: the curve, t = 0 is A and t = 1 is B.
        t: where on it, in [0, 1].
        norm: where normalisation statistics come from; required when the model keeps any.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute the statistics; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is. The result is where the model is.

    Raises:
        ValueError: t lies outside [0, 1], the path is not of this architecture, or `norm` is missing.

    Example:
        >>> from mechconn.paths import LinearPath
        >>> line = LinearPath({"weight": torch.zeros(1, 1)}, {"weight": torch.full((1, 1), 4.0)})
        >>> model_at(nn.Linear(1, 1, bias=False), line, 0.25)(torch.ones(1, 1)).item()
        1.0
    """
    check_path(path)
    return _build_module(model, path, t, norm, seed, resolve_compute(compute, device))


def soup(
    models: Sequence[PointLike] | Mapping[str, PointLike] | HoldsModels,
    weights: Sequence[float] | None = None,
    *,
    norm: NormPolicy | None = None,
    ignore: Sequence[str] = (),
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """The network at the mean of several models' parameters, sum_i w_i theta_i: a new module in evaluation mode.

    Mean weights make a good model only where the models lie in one basin: their barriers (`mechanism_map`) say whether.
    What the result relies on is measured as of any model, by `measure_invariance`.

    Networks with low-rank adapters over one base in memory give an adapter over that base: merge it by
    `merge_and_unload(safe_merge=True)`, since PEFT writes into the base that all of them share without it.

    Args:
        models: two or more networks of one module, or points of the first, also by name; or what `align_many` gave,
            whose moved networks are meant. They stay as they are. With a weight of 1 the result is that network; else
            state that they do not share is renewed by its rule, or refused.
        weights: w_i, zero or more, scaled to sum 1; default: all alike.
        norm: where normalisation statistics come from; required when the models keep any.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute the statistics; see `Compute`.
        device: short for `Compute(device=...)`; default: where the first model is. The result is where that is.

    Raises:
        ValueError: fewer than two models, models that are not one module with other parameters and statistics, weights
            that are negative, all zero or not one for each model, or `norm` is missing.

    Example:
        >>> layers = [nn.Linear(1, 1, bias=False).requires_grad_(False) for _ in range(2)]
        >>> _ = layers[0].weight.fill_(1.0), layers[1].weight.fill_(5.0)
        >>> soup(layers, weights=[3, 1])(torch.ones(1, 1)).item()
        2.0

    Source: Wortsman et al. 2022, *Model soups* (the uniform and weighted mean).
    """
    models, compute = _list_models(models), resolve_compute(compute, device)
    check_two_models("a soup", len(models))
    shares = [1.0] * len(models) if weights is None else [check_non_negative("weights", w) for w in weights]
    if len(shares) != len(models) or sum(shares) == 0.0:
        raise ValueError(f"weights must be one for each of the {len(models)} models and not all zero, got {shares}")
    check_is("models[0]", models[0], nn.Module, ": the first gives the architecture")
    assert isinstance(models[0], nn.Module)
    points = as_points([f"models[{number}]" for number in range(len(models))], models, ignore)
    parts = [share / sum(shares) for share in shares]
    path = LinearPath(*points) if len(points) == 2 else Spot.mean_of(points, parts)
    return _build_module(models[0], path, parts[1], norm, seed, compute)


def _list_models(models: Sequence[PointLike] | Mapping[str, PointLike] | HoldsModels) -> list[PointLike]:
    """The networks, in the order in which they are given."""
    held: Any = models.models if isinstance(models, HoldsModels) and not isinstance(models, nn.Module) else models
    return list(held.values() if isinstance(held, Mapping) else held)


def _build_module(
    model: nn.Module, path: Path, t: float, norm: NormPolicy | None, seed: int, compute: Compute
) -> nn.Module:
    """The network at gamma(t) with its statistics."""
    joined = path.sources[0].joined if path.sources else None
    structure, shared = (model, ()) if joined is None else (joined.module, joined.shared)
    network = Network(structure, compute)
    norm = resolve_norm(norm, network)
    with isolate_rng(seed, "model_at"):
        point = norm.point(network, path, t)
    result = copy_with_state(structure, {**point.params, **point.buffers}, shared)
    set_mode(result, False)
    return result
