"""Weights as dictionaries, and networks as functions of them.

`Network` is the only place that calls a user's module. It owns a copy of the module's *structure* whose
parameters hold no data, so neither an evaluation nor an error midway can reach the user's weights, buffers,
gradients or mode, and a parameter that nobody supplied raises instead of keeping some old value.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map

from mechconn import _errors
from mechconn._checks import check_is, check_same_keys, check_same_shapes
from mechconn._precision import (
    Precision,
    computing,
    contiguous_small_maps,
    laid_out,
    padding_counts,
    reduced_type,
    weight_laid_out,
)
from mechconn._typing import Buffers, Inputs, Params


def parameters_of(model: nn.Module) -> Params:
    """The model's parameters as a dictionary, theta in R^P: detached copies under their first names.

    A parameter that several modules share (tied weights) appears once.

    Raises:
        ValueError: a lazy module has not been run yet, so it has no weights.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> sorted(parameters_of(layer))
        ['bias', 'weight']
    """
    return {name: parameter.detach().clone() for name, parameter in _initialised(model).items()}


def buffers_of(model: nn.Module) -> Buffers:
    """The model's buffers as a dictionary of copies; a buffer that several modules share appears once."""
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def with_parameters(model: nn.Module, params: Params) -> nn.Module:
    """A copy of the model that holds `params`; the model itself stays as it is.

    Raises:
        ValueError: a name is missing or unexpected (all are listed), or a shape differs.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> zero = with_parameters(layer, {"weight": torch.zeros(1, 1), "bias": torch.ones(1)})
        >>> zero(torch.tensor([[5.0]])).item()
        1.0
    """
    check_compatible("parameters", _initialised(model), params)
    result = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            parameter.copy_(params[name])
    return result


def check_compatible(what: str, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Raise unless two points lie in one weight space: the same names, shapes and types."""
    check_same_keys(what, expected, got)
    check_same_shapes(what, expected, got)


def weighted_mean(points: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> Params:
    """sum_i w_i theta_i for weights w_i >= 0 whose sum is 1, differentiable in every theta_i.

    Point by point, each pulls the mean of those before it by its share w_i / (w_0 + ... + w_i). So the result is
    exact where all points agree, stays between them, and each tensor needs no more room than itself.

    Example:
        >>> weighted_mean([{"w": torch.tensor(1.0)}, {"w": torch.tensor(5.0)}], [0.25, 0.75])
        {'w': tensor(4.)}
    """
    mean, total = dict(points[0]), weights[0]
    for point, weight in zip(points[1:], weights[1:], strict=True):
        total += weight
        share = weight / total if total else 0.0
        for name, tensor in mean.items():
            mean[name] = torch.lerp(tensor, point[name], share)
    return mean


def device_of(model: nn.Module, device: str | torch.device | None) -> torch.device:
    """The device asked for, else the one that holds the model."""
    if device is not None:
        try:
            asked = torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device must be one that torch knows, such as 'cpu' or 'cuda', got {device!r}") from error
        if asked.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(_errors.NO_CUDA.format(device=str(device)))
        return asked
    return next((p.device for p in model.parameters()), torch.device("cpu"))


LINEAR_MAPS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""The layers that reduced precision computes in bfloat16 throughout."""


class Network:
    """The structure of a module as a function (params, buffers, inputs) -> outputs.

    `module` is this object's own: its mode may be set and hooks may be put on it freely.
    """

    def __init__(
        self, model: nn.Module, device: str | torch.device | None = None, precision: Precision = "float32"
    ) -> None:
        check_is("model", model, nn.Module)
        hollow: dict[int, Any] = {
            id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)
            for p in _initialised(model).values()
        }
        self.module = copy.deepcopy(model, hollow)
        self.device = device_of(model, device)
        self.reduced = reduced_type(precision, self.device)
        self.buffers: Buffers = {k: b.to(self.device) for k, b in buffers_of(model).items()}
        self.parameter_slots = dict(_slots(self.module, "parameters"))
        self._buffer_slots = dict(_slots(self.module, "buffers"))
        if self.reduced is not None and padding_counts(self.device):
            for layer in self.module.modules():
                if isinstance(layer, nn.Conv2d) and contiguous_small_maps not in layer._forward_pre_hooks.values():
                    layer.register_forward_pre_hook(contiguous_small_maps)

    def hollow_params(self) -> Params:
        """Names and shapes of the parameters, without data."""
        return dict(self.module.named_parameters())

    @property
    def number_type(self) -> str:
        """The type that layers compute in, for the record: "float32", "bfloat16", ..."""
        own = next((p.dtype for p in self.module.parameters()), torch.float32)
        return str(self.reduced or own).removeprefix("torch.")

    def computing(self) -> AbstractContextManager[object]:
        """A block in which layers compute in this network's precision."""
        return computing(self.reduced, self.device)

    def check(self, what: str, params: Params) -> None:
        """Raise unless `params` is a point of this network's weight space."""
        check_compatible(what, self.hollow_params(), params)

    def load(self, params: Params) -> Params:
        """`params` on this network's device, in its layout; tensors that are so already are not copied."""
        return {name: weight_laid_out(tensor.to(self.device), self.reduced) for name, tensor in params.items()}

    def load_in_place(self, params: Params) -> None:
        """`load` tensor by tensor within one dictionary, so that no second copy of the whole is ever there."""
        for name in params:
            params[name] = weight_laid_out(params[name].to(self.device), self.reduced)

    def converted(self, params: Iterable[tuple[str, Tensor]]) -> Params:
        """Named tensors with the weights of linear maps in the reduced type, once rather than at every call.

        Each tensor is converted as it comes.
        """
        if self.reduced is None:
            return dict(params)
        linear = {
            f"{name}.{local}" if name else local
            for name, module in self.module.named_modules()
            if isinstance(module, LINEAR_MAPS)
            for local, _ in module.named_parameters(recurse=False)
        }
        return {name: weight_laid_out(t.to(self.reduced), self.reduced) if name in linear else t for name, t in params}

    def __call__(self, params: Params, buffers: Buffers, inputs: Inputs, *, training: bool = False) -> Tensor:
        """Outputs of one batch at `params`, in the parameters' own type whatever the layers computed in.

        Layers that update buffers in training mode update the tensors in `buffers` in place: pass copies.
        """
        self.module.train(training)
        tensors = {slot: params[name] for slot, name in self.parameter_slots.items()}
        tensors |= {slot: buffers[name] for slot, name in self._buffer_slots.items()}
        args, kwargs = call_arguments(laid_out_inputs(inputs, self.reduced))
        # One key per (module, local name) and tie_weights=False: any other way of naming shared modules leaves
        # the substituted tensors behind in the module, without an error.
        with self.computing():
            outputs = outputs_of(functional_call(self.module, tensors, args, kwargs, tie_weights=False))
        return outputs if self.reduced is None else outputs.float()


def laid_out_inputs(inputs: Inputs, reduced: torch.dtype | None) -> Inputs:
    """Inputs in the layout that suits the number type."""
    return laid_out(inputs, reduced) if isinstance(inputs, Tensor) else inputs


def call_arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as (positional, keyword) arguments of a forward pass, copied: networks may write into what they get."""
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    positional, named = (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((), dict(inputs))
    return tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, (positional, named))


def outputs_of(output: Any) -> Tensor:
    """The tensor of predictions in what a forward pass returned: itself, or its `.logits`."""
    tensor = getattr(output, "logits", output)
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"the model must return a tensor or an object with .logits, got {type(output).__name__}; wrap it"
        )
    return tensor


def _initialised(model: nn.Module) -> dict[str, nn.Parameter]:
    """The model's own parameters under their first names, after refusing those of lazy modules."""
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if is_lazy(parameter):
            raise ValueError(_errors.LAZY.format(name=name))
    return parameters


def _slots(module: nn.Module, kind: str) -> Iterator[tuple[str, str]]:
    """(name of the slot, name of the tensor in it), one slot per unique module and local name.

    A tensor's name is the first slot that holds it, as in `named_parameters` and `named_buffers`.
    """
    first: dict[int, str] = {}
    for prefix, part in module.named_modules():
        members = part.named_parameters if kind == "parameters" else part.named_buffers
        for local, tensor in members(recurse=False, remove_duplicate=False):
            slot = f"{prefix}.{local}" if prefix else local
            yield slot, first.setdefault(id(tensor), slot)
