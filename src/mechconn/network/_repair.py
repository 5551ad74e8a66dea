"""REPAIR: interpolated networks without BatchNorm get back the spread of activations that averaging weights took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mechconn.core import (
    Buffers,
    Compute,
    Data,
    Inputs,
    Params,
    as_data,
    check_count,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
)
from mechconn.network._forward_call import extract_predictions
from mechconn.network._norm_stats import NormPolicy, find_statistics_layers
from mechconn.network._params import LINEAR_MAPS, Network
from mechconn.network._points import Curve, Point

Statistics = dict[str, tuple[Tensor, Tensor]]
"""Layer -> (mean, standard deviation) of each output unit, float64."""


@dataclass(frozen=True, eq=False)
class Repair(NormPolicy, name="repair"):
    r"""Rescale every linear map's units at each t so that their mean and spread lie between the endpoints'.

    For a unit with mean mu and standard deviation sigma of its outputs at gamma(t), and (mu_a, sigma_a),
    (mu_b, sigma_b) at the endpoints,

        s = ((1 - t) sigma_a + t sigma_b) / sigma,        w' = s w,        b' = s (b - mu) + (1 - t) mu_a + t mu_b.

    At the mean of several networks with weights w_i the same with sum_i w_i mu_i and sum_i w_i sigma_i: of standard
    deviations, not of variances.

    One pass over `data`, in which each batch is rescaled by its own statistics before it goes to the next layer, as in
    `Reestimate`; the moments are those of all batches. A unit that is constant at gamma(t) keeps its weights. The
    endpoints stay as they are, and so does the layer whose output is the network's.

    Attributes:
        data: what the statistics come from; by convention training data, never test data.
        batch_size: rows per batch where `data` is a dataset or a pair of tensors.
        seed: of layers and loaders that draw from global generators.
        label: a name for the data, kept in the record.

    Raises:
        ValueError: when used: the model keeps running statistics (`Reestimate` is for these), a layer has no bias or
            shares its weights, or the point is neither on a path nor a mean of networks.

    Source: Jordan, Sedghi, Saukh, Entezari & Neyshabur 2023, REPAIR; of several networks Crisostomi et al. 2024, C2M3.
    """

    data: Data
    batch_size: int = 256
    seed: int = 0
    label: str = "unnamed data"
    _checked: Data = field(init=False, repr=False)
    _ends: WeakKeyDictionary[Network, WeakKeyDictionary[Point, Statistics]] = field(
        init=False, repr=False, default_factory=WeakKeyDictionary
    )

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        object.__setattr__(self, "_checked", as_data("norm data", self.data))

    def describe(self) -> dict[str, Any]:
        """Policy, batch size, seed and the name of the data."""
        return {"policy": "repair", "data": self.label, "batch_size": self.batch_size, "seed": self.seed}

    @torch.no_grad()
    def renew(self, network: Network, path: Curve, t: float, point: Point) -> Point:
        """The point with rescaled parameters; an end as it is."""
        shares = path.shares_at(t)
        ends = path.ends if shares is None else path.sources
        if found := list(find_statistics_layers(network)):
            raise ValueError(
                f"Repair is for models without running statistics, and this one keeps some in {', '.join(found)}; "
                "pass norm=Reestimate(data)"
            )
        if shares is None:
            place = path.place(t)
            shares = 1 - place, place
            is_end = place in (0.0, 1.0)
        else:
            is_end = path.end_at(t) is not None
        if is_end:
            return point
        kept = [(share, end) for share, end in zip(shares, ends, strict=True) if share]
        measured = [(share, self._measure_end(network, end, point.buffers)) for share, end in kept]
        wanted = {n: (_mix_statistics(measured, n, 0), _mix_statistics(measured, n, 1)) for n in measured[0][1]}
        found = self._pass(network, list(wanted), point.params, point.buffers, wanted)
        return Point(point.params | dict(_rescale(point.params, found, wanted)), point.buffers)

    def follows_units(self, network: Network) -> bool:
        """True: an end stays as it is."""
        return True

    def _layers(self, network: Network, params: Params, buffers: Buffers) -> list[str]:
        """Linear maps that the forward pass calls, but for the one that makes the network's output."""
        outputs: dict[str, Tensor] = {}

        def note(name: str, output: Tensor) -> Tensor:
            outputs[name] = output
            return output

        plain, results = Network(network.restored_module(), Compute(network.device)), list[Tensor]()
        plain.module.register_forward_hook(lambda _, __, output: results.append(extract_predictions(output)))
        with self._reading(), _hook_outputs(plain, list(_iterate_linear_maps(plain)), note):
            inputs, _ = next(self._batches(network))
            plain(params, buffers, inputs)
        layers = [name for name, output in outputs.items() if output is not results[-1]]
        names = list(network.parameter_slots.values())
        unfit = [
            name
            for name in layers
            if f"{name}.bias" not in network.parameter_slots
            or any(names.count(network.parameter_slots[f"{name}.{part}"]) > 1 for part in ("weight", "bias"))
        ]
        if unfit:
            raise ValueError(
                "Repair shifts units by their biases, and these layers have none or share their weights: "
                f"{', '.join(unfit)}; give each a bias of its own"
            )
        return layers

    def _measure_end(self, network: Network, end: Point, buffers: Buffers) -> Statistics:
        """Each unit's mean and spread at an end of the path, measured once; `buffers` where it has none of its own."""
        known = self._ends.setdefault(network, WeakKeyDictionary())
        if end not in known:
            params = network.load(dict(end.params))
            own = {name: tensor.to(network.device, copy=True) for name, tensor in (end.buffers or buffers).items()}
            known[end] = self._pass(network, self._layers(network, params, own), params, own, None)
        return known[end]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Context manager for reading the data: restore the states of all generators afterwards."""
        with isolate_rng(self.seed, "norm"), keep_generator_states(self._checked):
            yield

    def _pass(
        self, network: Network, layers: list[str], params: Params, buffers: Buffers, wanted: Statistics | None
    ) -> Statistics:
        """Each unit's mean and spread; with `wanted`, every batch goes on as if it had these."""
        sums: dict[str, list[Tensor]] = {}
        counts = dict.fromkeys(layers, 0)

        def measure(name: str, output: Tensor) -> Tensor:
            units = _move_units_first(network, name, output)
            rows, place = units.flatten(1).double(), (-1, *[1] * (units.dim() - 1))
            new = [rows.sum(1), rows.square().sum(1)]
            sums[name] = [old + now for old, now in zip(sums[name], new, strict=True)] if name in sums else new
            counts[name] += rows.shape[1]
            if wanted is None:
                return output
            mean, spread = _compute_mean_and_spread(new, rows.shape[1])
            scale, shift = _compute_affine(mean, spread, *wanted[name])
            units = units * scale.to(output.dtype).view(place) + shift.to(output.dtype).view(place)
            return units.movedim(0, _find_unit_axis(network, name, output))

        with self._reading(), _hook_outputs(network, layers, measure):
            for inputs, _ in self._batches(network):
                network(params, buffers, inputs)
        return {name: _compute_mean_and_spread(sums[name], counts[name]) for name in layers}

    def _batches(self, network: Network) -> Iterator[tuple[Inputs, Tensor]]:
        return iterate_batches(
            "norm data", self._checked, batch_size=self.batch_size, device=network.device, model=network.module
        )


def _mix_statistics(measured: list[tuple[float, Statistics]], layer: str, which: int) -> Tensor:
    """The weighted mean of what was measured of a layer: which = 0 the means, 1 the standard deviations."""
    first, *others = (share * statistics[layer][which] for share, statistics in measured)
    for other in others:
        first = first + other
    return first


def _iterate_linear_maps(network: Network) -> Iterator[str]:
    return (name for name, module in network.module.named_modules() if isinstance(module, LINEAR_MAPS))


@contextmanager
def _hook_outputs(network: Network, layers: list[str], change: Any) -> Iterator[None]:
    """Context manager: replace the output of each layer by `change(name, output)`."""

    def hook(name: str) -> Any:
        return lambda _, __, output: change(name, output)

    handles = [network.module.get_submodule(name).register_forward_hook(hook(name)) for name in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _find_unit_axis(network: Network, name: str, output: Tensor) -> int:
    layer = network.module.get_submodule(name)
    return output.dim() - 1 if isinstance(layer, nn.Linear) else output.dim() - len(layer.kernel_size) - 1  # pyright: ignore


def _move_units_first(network: Network, name: str, output: Tensor) -> Tensor:
    return output.movedim(_find_unit_axis(network, name, output), 0)


def _compute_mean_and_spread(sums: list[Tensor], count: int) -> tuple[Tensor, Tensor]:
    mean = sums[0] / count
    variance = (sums[1] / count - mean**2).clamp_min(0.0)
    # What is left of a constant unit is rounding.
    return mean, torch.where(variance > 1e-10 * sums[1] / count, variance, 0.0).sqrt()


def _compute_affine(mean: Tensor, spread: Tensor, wanted_mean: Tensor, wanted_spread: Tensor) -> tuple[Tensor, Tensor]:
    """(scale, shift) that give a unit the wanted mean and spread; (1, 0) for a unit that is constant."""
    constant = spread == 0
    scale = torch.where(constant, 1.0, wanted_spread / spread.masked_fill(constant, 1.0))
    return scale, torch.where(constant, 0.0, wanted_mean - scale * mean)


def _rescale(params: Params, found: Statistics, wanted: Statistics) -> Iterator[tuple[str, Tensor]]:
    for name in found:
        scale, shift = _compute_affine(*found[name], *wanted[name])
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        rows = (scale.view(-1, *[1] * (weight.dim() - 1))).to(weight.dtype)
        yield f"{name}.weight", weight * rows
        yield f"{name}.bias", bias * scale.to(bias.dtype) + shift.to(bias.dtype)
