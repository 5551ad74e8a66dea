"""What the layers of two networks give for the same rows: one activation a layer, or why there is none to compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils._pytree import tree_map

from mechconn.core import Inputs, check_choice
from mechconn.network import LINEAR_MAPS, Network, Point

COMPARED = (
    *(*LINEAR_MAPS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention),
)
CHANNELS_SECOND = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d)


class NoActivation(NamedTuple):
    """Why a layer has no activation to compare.

    Attributes:
        whose: "model_a" or "model_b".
        why: what stands behind the layer's name and the model's, "ran 2 times in one forward pass".
        remedy: what to do where the layer was asked for by name.
    """

    whose: str
    why: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.whose}: {self.why}"

    def error(self, layer: str) -> ValueError:
        """What is raised where the layer was asked for by name."""
        return ValueError(f"layer {layer!r} of {self.whose} {self.why}{self.remedy}")


PairedActivations = tuple[Tensor, Tensor] | NoActivation
"""The activations of one layer, [N, p] of A and [N, q] of B, or why there are none."""


LayersAsked: TypeAlias = Sequence[str] | Mapping[str, str | Sequence[str]] | Literal["all"] | None
"""Names that both models have, a layer of A -> one or several of B, or all."""
BETWEEN = " / "
"""What stands between a layer of A and one of B in the name of their pair."""


class LayerPair:
    """Two networks, and the layers that are compared.

    Attributes:
        device: where both compute.
        computed: how they compute, for the record.
        by_name: whether layers were asked for.
        pairs: name of the pair -> (layer of A, layer of B); by default every layer that has weights in both models, by
            its own name.
        left_out: layers that one of the models does not have; empty where layers were asked for.
    """

    def __init__(
        self,
        networks: tuple[Network, Network],
        points: tuple[Point, Point],
        layers: LayersAsked,
        layers_b: Sequence[str] | Literal["all"] | None = None,
    ) -> None:
        self._networks: dict[str, Network] = dict(zip(("model_a", "model_b"), networks, strict=True))
        self.device, self.computed = networks[0].device, networks[0].computed
        self._points = [network.load(point.params) for network, point in zip(networks, points, strict=True)]
        self._parts = {
            whose: dict(network.module.named_modules(remove_duplicate=False))
            for whose, network in self._networks.items()
        }
        self.left_out: dict[str, NoActivation] = {}
        asked = not _is_all(layers)
        self.by_name = asked and (layers_b is None or not _is_all(layers_b))
        if layers_b is not None:
            self.pairs = self._cross(layers, layers_b)
        elif isinstance(layers, Mapping):
            self.pairs = self._match(layers)
        else:
            names = self._asked("layers", layers, tuple(self._parts)) if asked else self._default_layers()
            self.pairs = {name: (name, name) for name in names}

    def _asked(self, what: str, layers: Any, whose: Sequence[str]) -> list[str]:
        """Layers asked for by name; all of them are there."""
        if isinstance(layers, str):
            raise TypeError(f"{what} must be a list of names, got the text {layers!r}; write {what}=[{layers!r}]")
        if not isinstance(layers, Iterable):
            raise TypeError(f"{what} must be a list of names, got {layers!r}; they are those of model.named_modules()")
        layers = list(layers)
        if not layers:
            raise ValueError(f"{what} names no layer; name some, or leave it out for all layers")
        for name in layers:
            for own in whose:
                if name not in self._parts[own]:  # "" is the model itself, where that is one layer
                    check_choice(f"a layer of {own}", name, tuple(part for part in self._parts[own] if part))
        return list(dict.fromkeys(layers))

    def _match(self, layers: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, str]]:
        """Layers of A against the layers of B that a mapping names."""
        self._asked("layers", list(layers), ("model_a",))
        there = {
            a: self._asked(f"layers[{a!r}]", [b] if isinstance(b, str) else b, ("model_b",)) for a, b in layers.items()
        }
        return {f"{a}{BETWEEN}{b}": (a, b) for a, names in there.items() for b in names}

    def _cross(self, layers: LayersAsked, layers_b: Sequence[str] | Literal["all"]) -> dict[str, tuple[str, str]]:
        """Every layer of A against every layer of B."""
        if isinstance(layers, Mapping):
            raise TypeError("layers= is a mapping, which names the layers of B too; leave out layers_b=")
        sides = []
        for what, whose, asked in (("layers", "model_a", layers), ("layers_b", "model_b", layers_b)):
            own = _list_compared(self._networks[whose]) if _is_all(asked) else self._asked(what, asked, (whose,))
            sides.append(own)
        return {f"{a}{BETWEEN}{b}": (a, b) for a in sides[0] for b in sides[1]}

    def _default_layers(self) -> list[str]:
        """Names of the compared layers of both models, in A's order."""
        found = {name: None for network in self._networks.values() for name in _list_compared(network)}
        for name in found:
            absent = [whose for whose, parts in self._parts.items() if name not in parts]
            if absent:
                self.left_out[name] = NoActivation(absent[0], "has no such layer")
        order = list(self._parts["model_a"])
        return sorted((name for name in found if name not in self.left_out), key=order.index)

    def on_device(self, inputs: Inputs) -> Any:
        """Inputs on the networks' device."""
        return tree_map(lambda part: part.to(self.device) if isinstance(part, Tensor) else part, inputs)

    def activations(self, inputs: Inputs, rows: int | None) -> dict[str, PairedActivations]:
        """What each layer gives in one forward pass of both models over a batch of so many rows."""
        found: list[dict[str, Tensor | NoActivation]] = []
        for side, (whose, network) in enumerate(self._networks.items()):
            names = list(dict.fromkeys(pair[side] for pair in self.pairs.values()))
            with _record_outputs(self._parts[whose], names, whose) as seen:
                network(self._points[side], network.buffers, inputs)
            found.append({name: _take_only(seen[name], whose, rows) for name in names})
        return {pair: _pair_activations(found[0][a], found[1][b]) for pair, (a, b) in self.pairs.items()}


def _is_all(layers: object) -> bool:
    return layers is None or (isinstance(layers, str) and layers == "all")


def _list_compared(network: Network) -> list[str]:
    """Names of a network's compared layers; attention's own in place of its projection's."""
    parts = dict(network.module.named_modules())
    within = {id(part.out_proj) for part in parts.values() if isinstance(part, nn.MultiheadAttention)}
    return [name for name, part in parts.items() if is_compared(part) and id(part) not in within]


def is_compared(part: nn.Module) -> bool:
    """Whether a module is compared by default: a linear map, also GPT-2's `Conv1D`, attention, or a recurrent layer."""
    if isinstance(part, COMPARED):
        return True
    kind = type(part)
    return kind.__name__ == "Conv1D" and kind.__module__.partition(".")[0] == "transformers"


@contextmanager
def _record_outputs(
    parts: Mapping[str, nn.Module], names: Iterable[str], whose: str
) -> Iterator[dict[str, list[Tensor | NoActivation]]]:
    """Context manager: append a copy of each layer's output under its name; later layers cannot overwrite it."""
    seen: dict[str, list[Tensor | NoActivation]] = {name: [] for name in names}

    def keep(name: str) -> Any:
        def hook(part: nn.Module, _: Any, output: Any) -> None:
            seen[name].append(_average_positions(part, take_first_part(output), whose))

        return hook

    handles = [parts[name].register_forward_hook(keep(name)) for name in seen]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def take_first_part(output: Any) -> Any:
    """The first part of a tuple, a list, a mapping or a dataclass, and of that again; anything else as it is."""
    while not isinstance(output, Tensor | PackedSequence):
        if isinstance(output, Mapping):
            parts: list[Any] = list(output.values())
        elif isinstance(output, tuple | list):
            parts = list(output)
        elif is_dataclass(output):
            parts = [getattr(output, field.name) for field in fields(output)]
        else:
            return output
        if not parts:
            return output
        output = parts[0]
    return output


def _average_positions(part: nn.Module, output: Any, whose: str) -> Tensor | NoActivation:
    """A layer's activation as [N, units], positions averaged."""
    if not isinstance(output, Tensor | PackedSequence):
        return NoActivation(whose, f"must give a tensor [N, ...], got {type(output).__name__}", "; name another layer")
    if isinstance(output, Tensor) and (output.dim() < 1 or output.is_complex()):
        got = f"{str(output.dtype).removeprefix('torch.')} {list(output.shape)}"
        return NoActivation(whose, f"must give a tensor [N, ...] of real numbers, got {got}", "; name another layer")
    if isinstance(output, Tensor) and not output.is_floating_point():
        output = output.double()
    return pool_positions(part, output)


def _take_only(found: Sequence[Tensor | NoActivation], whose: str, rows: int | None) -> Tensor | NoActivation:
    """The one activation of a layer in a forward pass over so many rows, on the CPU."""
    if len(found) != 1:
        return NoActivation(whose, f"ran {len(found)} times in one forward pass", "; name layers that run once")
    if isinstance(found[0], NoActivation):
        return found[0]
    units = found[0].cpu()
    if rows is not None and (len(units) == 0 or len(units) % rows):
        why = f"gives {len(units)} rows for a batch of {rows}"
        return NoActivation(whose, why, "; name a layer whose first axis is the batch")
    if not bool(units.isfinite().all()):
        return NoActivation(whose, "gives NaN or infinity on these data")
    return units


def pool_positions(part: nn.Module, output: Tensor | PackedSequence) -> Tensor:
    """[N, units], positions averaged; those of a packed or nested sequence that are there."""
    if isinstance(output, PackedSequence):
        padded, lengths = pad_packed_sequence(output, batch_first=True)
        return padded.sum(1) / lengths.to(padded)[:, None]
    if output.is_nested:
        return torch.stack([row.flatten(0, -2).mean(0) for row in output.unbind()])
    if output.dim() <= 2:
        return (output[:, None] if output.dim() == 1 else output).clone()
    if output.dim() >= 4 or isinstance(part, CHANNELS_SECOND):
        return output.flatten(2).mean(2)
    return output.mean(0 if getattr(part, "batch_first", True) is False else 1)


def _pair_activations(a: Tensor | NoActivation, b: Tensor | NoActivation) -> PairedActivations:
    """Both models' activations of one layer."""
    if isinstance(a, NoActivation):
        return a
    if isinstance(b, NoActivation):
        return b
    if len(a) != len(b):
        return NoActivation("model_b", f"gives {len(b)} rows where model_a gives {len(a)}", "; name another layer")
    return a, b
