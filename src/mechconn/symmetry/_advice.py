"""What to type where the operations of a model cannot be read: a symmetry written by hand that holds for this model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from torch import Tensor, nn

from mechconn.core import Inputs
from mechconn.symmetry._symmetry import Symmetry

TRIED = 3
"""Guesses that are proved, each at the cost of some runs of the model, before none is given."""

AxesText = dict[str, list[str | int]]


def suggest_symmetry(model: nn.Module, example: Inputs) -> str:
    """The call that makes a symmetry by hand: of one layer's units where a guess can be proved, else of none."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    ordered = {name: tensors[name] for name in model.state_dict() if name in tensors}
    for axes in islice(_iterate_guesses(ordered), TRIED):
        try:
            Symmetry.from_axes(model, axes, example_input=example).verify(model)
        except ValueError:
            continue
        return f"Symmetry.from_axes(model, {axes}, example_input=example_input)"
    return "Symmetry.from_axes(model, {}, example_input=example_input)"


def _iterate_guesses(tensors: Mapping[str, Tensor]) -> Iterator[AxesText]:
    """For each layer, its outputs as units that the next layer reads which has as many inputs, or a multiple."""
    named = list(tensors.items())
    for place, (name, weight) in enumerate(named):
        units = weight.shape[0] if weight.dim() > 1 else 1
        axes: AxesText = {name: ["units", *weight.shape[1:]]}
        for other, tensor in named[place + 1 :] if units > 1 else []:
            if tensor.dim() > 1 and tensor.shape[1] % units == 0:
                each = tensor.shape[1] // units
                pattern = "units" if each == 1 else f"units {each}"
                yield {**axes, other: [tensor.shape[0], pattern, *tensor.shape[2:]]}
                break
            if tuple(tensor.shape) == (units,):
                axes[other] = ["units"]
