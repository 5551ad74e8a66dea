"""What the layers of one network give for every row, reduced to a stated width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from torch.nn.utils.rnn import PackedSequence

from mechconn.core import (
    Compute,
    Data,
    check_choice,
    count_batches,
    draw_integers,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    move_inputs,
)
from mechconn.descent import find_head, record_head_calls
from mechconn.mechanisms._layers import CHANNELS_SECOND, NoActivation, pool_positions, take_first_part
from mechconn.network import ROWS_ON_CPU, Network, point_of, resolve_device

Layers = Sequence[str] | Literal["all"] | None
HEAD = "input of "
"""What stands before the head's name where its input is meant, the features."""


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """The features of one layer.

    Attributes:
        values: [N, features], on the CPU.
        units: values that the layer gives for a row.
        reduction: how they became `features` values; empty where these are all of them.
    """

    values: Tensor
    units: int
    reduction: str


@dataclass(frozen=True, eq=False)
class NetworkFeatures:
    """The features of every layer of one network on the same rows.

    Attributes:
        layers: layer -> features, in the order of the network's modules.
        left_out: layer -> why it has none, where layers were not asked for by name.
        targets: of the rows, as the data give them.
        computed: how it was computed.
    """

    layers: dict[str, LayerFeatures]
    left_out: dict[str, str]
    targets: Tensor
    computed: dict[str, Any]


class FeatureReader:
    """One network whose layers are read.

    Args:
        model: any network; it stays as it is.
        whose: what errors call it.
        data: what it will be read on; the first batch finds the head.
        layers: see `probe`; `HEAD` and a name is the input of that linear layer.
        width: most features of a layer.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute.
    """

    def __init__(
        self, model: nn.Module, whose: str, data: Data, layers: Layers, width: int, seed: int, compute: Compute
    ) -> None:
        self._network, self._params = Network(model, compute), point_of(model).params
        self._parts = dict(self._network.module.named_modules(remove_duplicate=False))
        self._whose, self._data, self._width, self._seed = whose, data, width, seed
        self._by_name = not (layers is None or layers == "all")
        self._left_out: dict[str, NoActivation] = {}
        self.head: str | None = None
        self.layers = self._read_names(layers) if self._by_name else self._list_layers(layers, model)

    def _read_names(self, layers: Layers) -> list[str]:
        if layers is None or isinstance(layers, str):
            raise TypeError(f"layers must be a list of names, got the text {layers!r}; write layers=[{layers!r}]")
        if not layers:
            raise ValueError("layers names no layer; name some, or leave it out for all that own parameters")
        linear = [f"{HEAD}{name}" for name, part in self._parts.items() if isinstance(part, nn.Linear)]
        for name in layers:
            if name not in self._parts:
                check_choice(f"a layer of {self._whose}", name, (*filter(None, self._parts), *linear))
            if name in linear and name not in self._parts:
                self.head = name.removeprefix(HEAD)
        return list(dict.fromkeys(layers))

    def _list_layers(self, layers: Layers, model: nn.Module) -> list[str]:
        """Modules that own parameters, or all, once each, and the input of the head before the head's output."""
        found = [
            name
            for name, part in self._network.module.named_modules()
            if layers == "all" or any(True for _ in part.parameters(recurse=False))
        ]
        self.head = self.find_head(model)
        if self.head is not None:
            place = found.index(self.head) if self.head in found else len(found)
            found.insert(place, f"{HEAD}{self.head}")
        return found

    def find_head(self, model: nn.Module) -> str | None:
        """The linear layer that the output comes from; None where there is not exactly one."""
        with keep_generator_states(self._data), isolate_rng(self._seed, "features"):
            inputs, _ = next(self._read())
            self._network(self._network.load(self._params), self._network.buffers, inputs)  # raises what runs raise
            try:
                return find_head(model, move_inputs(inputs, resolve_device(model, None)))
            except ValueError:
                why = NoActivation(self._whose, "not known: its output does not come from exactly one linear layer")
                self._left_out["input of the head"] = why
                return None

    def _read(self) -> Iterator[tuple[Any, Tensor]]:
        network = self._network
        rows = network.compute.choose_batch_size(ROWS_ON_CPU)
        return iterate_batches("data", self._data, batch_size=rows, device=network.device, model=network.module)

    @torch.no_grad()
    def read(self) -> NetworkFeatures:
        """The features of all rows, in one pass.

        Raises:
            ValueError: a layer that was asked for by name has none, or no layer has.
        """
        network, targets = self._network, []
        params = network.load(self._params)
        found: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        facts: dict[str, tuple[int, str]] = {}
        rows = network.compute.choose_batch_size(ROWS_ON_CPU)
        with keep_generator_states(self._data), isolate_rng(self._seed, "features"):
            count = 0 if network.compute.progress is None else count_batches("data", self._data, rows)
            for number, (inputs, target) in enumerate(self._read()):
                targets.append(target.cpu())
                with self._recording() as seen:
                    outputs = network(params, network.buffers, inputs)
                    if self.head is not None:
                        seen[f"{HEAD}{self.head}"] = self._take_head_input(seen, outputs)
                for name in [own for own in found if own not in self._left_out]:
                    self._add(name, seen[name], len(target), found, facts)
                network.compute.report(f"reading the features of {self._whose}", number + 1, count)
        kept = {
            name: LayerFeatures(torch.cat(parts), *facts[name])
            for name, parts in found.items()
            if name not in self._left_out
        }
        if not kept:
            why = "; ".join(f"{name or 'the model itself'} {reason.why}" for name, reason in self._left_out.items())
            raise ValueError(f"no layer of {self._whose} has features to read ({why}); name layers that run once")
        return NetworkFeatures(
            kept, {name: reason.why for name, reason in self._left_out.items()}, torch.cat(targets), network.computed
        )

    @contextmanager
    def _recording(self) -> Iterator[dict[str, list[Any]]]:
        """Context manager: a copy of each layer's output under its name; later layers cannot overwrite it."""
        seen: dict[str, list[Any]] = {name: [] for name in self.layers}

        def keep(name: str) -> Any:
            def hook(part: nn.Module, _: Any, output: Any) -> None:
                seen[name].append(_reduce(part, take_first_part(output), name, self._width))

            return hook

        parts = {name: self._parts[name] for name in seen if name in self._parts}
        handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
        try:
            if self.head is None:
                yield seen
            else:
                with record_head_calls(self._network.module, self.head) as calls:
                    seen[HEAD] = [calls]
                    yield seen
        finally:
            for handle in handles:
                handle.remove()

    def _take_head_input(self, seen: dict[str, list[Any]], outputs: Tensor) -> list[Any]:
        calls = seen.pop(HEAD)[0]
        if not calls.calls:
            return []
        features = calls.features(len(calls.calls) - 1, outputs)
        return [_reduce(self._parts[str(self.head)], features, f"{HEAD}{self.head}", self._width)]

    def _add(
        self,
        name: str,
        seen: list[Any],
        rows: int,
        found: dict[str, list[Tensor]],
        facts: dict[str, tuple[int, str]],
    ) -> None:
        """One batch of a layer, or why it has no features."""
        taken = _take_only(seen, self._whose, rows)
        if (
            isinstance(taken, LayerFeatures)
            and facts.setdefault(name, (taken.units, taken.reduction))[0] != taken.units
        ):
            why = f"gives {facts[name][0]} units on one batch and {taken.units} on another"
            taken = NoActivation(self._whose, why, "; name a layer of one width")
        if isinstance(taken, LayerFeatures):
            found[name].append(taken.values)
            return
        if self._by_name:
            raise taken.error(name)
        self._left_out[name] = taken
        found[name].clear()


def _take_only(seen: list[Any], whose: str, rows: int) -> LayerFeatures | NoActivation:
    if len(seen) != 1:
        return NoActivation(whose, f"ran {len(seen)} times in one forward pass", "; name layers that run once")
    if not isinstance(seen[0], LayerFeatures):
        return NoActivation(whose, seen[0], "; name another layer")
    found = seen[0]
    if len(found.values) != rows:
        why = f"gives {len(found.values)} rows for a batch of {rows}"
        return NoActivation(whose, why, "; name a layer whose first axis is the batch")
    if not bool(found.values.isfinite().all()):
        return NoActivation(whose, "gives NaN or infinity on these data")
    return found


def _reduce(part: nn.Module, output: Any, name: str, width: int) -> LayerFeatures | str:
    """A layer's output as [N, width at most], or what is wrong with it.

    Positions are averaged over the finest grid that fits; what still does not is sketched.
    """
    if isinstance(output, PackedSequence) or (isinstance(output, Tensor) and output.is_nested):
        output = pool_positions(part, output)
    if not isinstance(output, Tensor) or output.dim() < 1 or output.is_complex():
        got = f"{output.dtype} {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        return f"must give a tensor [N, ...] of real numbers, got {got}"
    values = output if output.dtype in (torch.float32, torch.float64) else output.float()
    values = _bring_channels_second(part, values)
    units, steps = math.prod(values.shape[1:]), []
    if units > width and values.dim() > 2:
        values, grid = _average_over_grid(values, width)
        steps.append(f"averaged over {' x '.join(map(str, grid))} cells")
    values = values.flatten(1) if values.dim() > 1 else values[:, None]
    if values.shape[1] > width:
        values = _sketch(values.cpu(), name, width)
        steps.append(f"sketched to {width}")
    return LayerFeatures(values.to("cpu", copy=True), units, ", ".join(steps))


def _bring_channels_second(part: nn.Module, values: Tensor) -> Tensor:
    """[N, channels, positions ...]."""
    if values.dim() != 3 or isinstance(part, CHANNELS_SECOND):
        return values
    return values.permute(1, 2, 0) if getattr(part, "batch_first", True) is False else values.transpose(1, 2)


def _average_over_grid(values: Tensor, width: int) -> tuple[Tensor, list[int]]:
    """Means over the cells of the finest grid of at most `width` values; of more than three axes the last are one."""
    values = values if values.dim() <= 5 else values.flatten(4)
    channels, sides = values.shape[1], list(values.shape[2:])
    cells = next(
        (size for size in range(max(sides), 0, -1) if channels * math.prod(min(side, size) for side in sides) <= width),
        1,
    )
    grid = [min(side, cells) for side in sides]
    pool: Any = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[len(grid) - 1]
    return pool(values.contiguous(), grid), grid


def _sketch(values: Tensor, name: str, width: int) -> Tensor:
    """Count sketch: every unit, with a random sign, is added to one of `width` sums; inner products stay on average.

    Which sum and sign is a function of the layer's name and the unit, so that layers of one name are sketched alike.

    Source: Charikar, Chen & Farach-Colton 2002.
    """
    units = torch.arange(values.shape[1])
    place = draw_integers(units, width, 0, "sketch", name, "place")
    sign = (2 * draw_integers(units, 2, 0, "sketch", name, "sign") - 1).to(values)
    return values.new_zeros(len(values), width).index_add_(1, place, values * sign)
