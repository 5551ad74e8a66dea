"""Weights as dictionaries, and networks as functions of them.

`Network` is the only place that calls a user's module. It owns a copy of the module's *structure* whose
parameters hold no data, so neither an evaluation nor an error midway can reach the user's weights, buffers,
gradients or mode, and a parameter that was not supplied raises instead of keeping some old value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mechconn.core import Buffers, Compute, Inputs, Params, check_cuda, check_same_keys, check_same_shapes, isolate_rng
from mechconn.network._adapter_layers import are_held_alike
from mechconn.network._compiled_calls import CompiledCalls
from mechconn.network._copies import copy_module as copy_module
from mechconn.network._copies import copy_with_state as copy_with_state
from mechconn.network._copies import drop_computed_values as drop_computed_values
from mechconn.network._copies import switch_mode
from mechconn.network._forward_call import (
    HALF,
    cast_floating,
    explain_errors,
    find_floating_types,
    iterate_slots,
)
from mechconn.network._forward_call import extract_outputs as extract_outputs
from mechconn.network._forward_call import make_call_arguments as make_call_arguments
from mechconn.network._module_snapshot import (
    CurrentPoint,
    bypass_parametrization_cache,
    make_mode_hook,
    make_weightless_copy,
)
from mechconn.network._precision import (
    autocast_to,
    choose_reduced_type,
    make_small_maps_contiguous,
    prefers_contiguous_small_maps,
    weight_to_memory_format,
)
from mechconn.network._training_kernels import StepKernels
from mechconn.network._wrappers import unwrap_module as unwrap_module


def parameters_of(model: nn.Module) -> Params:
    """The model's parameters as a dictionary, theta in R^P: detached copies under their first names.

    A parameter that several modules share (tied weights) appears once. Wrappers (DataParallel, torch.compile,
    averaged models) are seen through: names are those of the network within.

    Raises:
        TypeError: the model is a TorchScript module.
        ValueError: a lazy module has not been run yet, so it has no weights.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> sorted(parameters_of(layer))
        ['bias', 'weight']
    """
    return {
        name: parameter.detach().clone()
        for name, parameter in _read_initialised_parameters(unwrap_module(model)).items()
    }


def read_buffers(model: nn.Module) -> Buffers:
    """The model's buffers as a dictionary of copies; a buffer that several modules share appears once."""
    return {name: buffer.detach().clone() for name, buffer in unwrap_module(model).named_buffers()}


def with_parameters(model: nn.Module, params: Params) -> nn.Module:
    """A copy of the model that holds `params`; the model itself stays as it is.

    The copy behaves as a fresh module into which `params` were loaded: what the model keeps of values that it
    computed from its own weights is not carried along. A wrapped model (DataParallel, torch.compile) gives a plain one.

    Raises:
        ValueError: a name is missing or unexpected (all are listed), or a shape differs.
        TypeError: the model is a TorchScript module.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> zero = with_parameters(layer, {"weight": torch.zeros(1, 1), "bias": torch.ones(1)})
        >>> zero(torch.tensor([[5.0]])).item()
        1.0
    """
    check_compatible("parameters", _read_initialised_parameters(unwrap_module(model)), params)
    return copy_with_state(model, params)


def check_compatible(what: str, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Raise unless two points lie in one weight space: the same names, shapes and types."""
    check_same_keys(what, expected, got)
    check_same_shapes(what, expected, got)


def compute_weighted_mean(points: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> Params:
    """sum_i w_i theta_i for weights w_i >= 0 whose sum is 1, differentiable in every theta_i.

    Tensor by tensor, each point pulls the mean of those before it by its share w_i / (w_0 + ... + w_i). So the result
    is exact where all points agree, and stays between them. bfloat16 and float16 are mixed in float32 and rounded once.

    Example:
        >>> compute_weighted_mean([{"w": torch.tensor(1.0)}, {"w": torch.tensor(5.0)}], [0.25, 0.75])
        {'w': tensor(4.)}
    """
    return {name: _mix([point[name] for point in points], weights) for name in points[0]}


def _mix(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    first, total = tensors[0], weights[0]
    if are_held_alike(tensors):
        return first
    wide = torch.float32 if first.dtype in HALF else first.dtype
    mean = first.to(wide)
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total += weight
        mean = torch.lerp(mean, tensor.to(wide), weight / total if total else 0.0)
    return mean.to(first.dtype)


def resolve_device(model: nn.Module, device: str | torch.device | None) -> torch.device:
    """The device asked for, else the one that holds the model."""
    if device is not None:
        try:
            asked = torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device must be one that torch knows, such as 'cpu' or 'cuda', got {device!r}") from error
        if asked.type == "cuda":
            check_cuda(asked)
        return asked
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def fix_device(compute: Compute, model: nn.Module) -> Compute:
    """`compute` with the device of the model where none was asked for."""
    return replace(compute, device=resolve_device(model, compute.device))


LINEAR_MAPS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""The layers that reduced precision computes in bfloat16 throughout."""


class Network:
    """The structure of a module as a function (params, buffers, inputs) -> outputs.

    Every point is evaluated as by a fresh module into which it was loaded: what the module keeps of values that it
    computed at one point does not reach the next. `module` is this object's own: its mode may be set and hooks may be
    put on it freely; any other change is undone at the next point. `heeds_mask` tells whether padding behind a text
    changes nothing (None until it was tried), `rows_at_once` how many rows of a shape fit the processor's cache,
    `trains_channels_last` whether training mode gives images of a size the same outputs in that layout. `floating` is
    the type of the parameters where they have one, `mode_computes` whether changing the mode computes with weights.
    """

    def __init__(self, model: nn.Module, compute: Compute | None = None) -> None:
        model = unwrap_module(model)
        _read_initialised_parameters(model)
        self.module, self._snapshot, self.mode_computes = make_weightless_copy(model)
        self._here: CurrentPoint | None = None
        self.compute = fix_device(compute or Compute(), model)
        self.device = resolve_device(model, self.compute.device)
        self.buffers: Buffers = {k: b.to(self.device) for k, b in read_buffers(self.module).items()}
        self.parameter_slots = dict(iterate_slots(self.module, "parameters"))
        self._buffer_slots = dict(iterate_slots(self.module, "buffers"))
        types = {p.dtype for p in self.module.parameters() if p.is_floating_point()}
        self.floating = types.pop() if len(types) == 1 else None
        reduced = choose_reduced_type(self.compute.precision, self.device)
        self.reduced = None if self.floating in HALF else reduced
        self._casts: dict[frozenset[torch.dtype], bool] = {}
        self.heeds_mask: bool | None = None
        self.rows_at_once: dict[object, int] = {}
        self.channels_last = self.reduced is not None
        self.trains_channels_last: dict[torch.Size, bool] = {}
        self._layouts: dict[torch.Size, bool] = {}
        self.steps = StepKernels(self.module, self.device, self.floating, self.reduced)
        if self.reduced is not None and prefers_contiguous_small_maps(self.device):
            for layer in self.module.modules():
                if isinstance(layer, nn.Conv2d) and make_small_maps_contiguous not in layer._forward_pre_hooks.values():
                    layer.register_forward_pre_hook(make_small_maps_contiguous)
        self.compiled = CompiledCalls(self.module, self._snapshot, self.compute.compile, self.device, self.reduced)

    def restored_module(self) -> nn.Module:
        """`module`, without what any point left in it."""
        self._here = None
        self._snapshot.restore()
        return self.module

    def without_new_hooks(self) -> AbstractContextManager[None]:
        """A block without the hooks that were put on `module` since it was made."""
        return self._snapshot.without_new_hooks()

    def make_weightless_parameters(self) -> Params:
        """Names and shapes of the parameters, without data."""
        return dict(self.module.named_parameters())

    @property
    def number_type(self) -> str:
        """The type that layers compute in, for the record: "float32", "bfloat16", ..."""
        own = next((p.dtype for p in self.module.parameters()), torch.float32)
        return str(self.reduced or own).removeprefix("torch.")

    @property
    def computed(self) -> dict[str, Any]:
        """How this network computes, for the record: device, number type and batch size; see `Compute.describe`."""
        found = self.compute.describe(self.device, self.number_type)
        return found | self.compiled.settings | self.steps.settings

    def computing(self) -> AbstractContextManager[object]:
        """A block in which layers compute in this network's precision."""
        return autocast_to(self.reduced, self.device)

    def check(self, what: str, params: Params) -> None:
        """Raise unless `params` is a point of this network's weight space."""
        check_compatible(what, self.make_weightless_parameters(), params)

    def load(self, params: Params) -> Params:
        """`params` on this network's device, in its layout; tensors that are so already are not copied."""
        return {name: weight_to_memory_format(tensor.to(self.device), self.reduced) for name, tensor in params.items()}

    def load_in_place(self, params: Params) -> None:
        """`load` tensor by tensor within one dictionary, so that no second copy of the whole is ever there."""
        for name in params:
            params[name] = weight_to_memory_format(params[name].to(self.device), self.reduced)

    def iterate_converted(self, params: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Named tensors with the weights of linear maps in the reduced type, once rather than at every call.

        Each tensor is converted as it comes.
        """
        if self.reduced is None:
            yield from params
            return
        linear = {
            f"{name}.{local}" if name else local
            for name, module in self.module.named_modules()
            if isinstance(module, LINEAR_MAPS)
            for local, _ in module.named_parameters(recurse=False)
        }
        for name, t in params:
            yield name, weight_to_memory_format(t.to(self.reduced), self.reduced) if name in linear else t

    def __call__(self, params: Params, buffers: Buffers, inputs: Inputs, *, training: bool = False) -> Tensor:
        """Outputs of one batch at `params`, in the parameters' own type but float32 at least.

        Layers that update buffers in training mode update the tensors in `buffers` in place: pass copies.
        """
        inputs = self.cast_inputs(inputs, lambda: (params, buffers))
        if training:
            self.prepare_steps(inputs, lambda: (params, buffers))
        return self._outputs(params, buffers, inputs, training)

    def prepare_steps(self, inputs: Inputs, point: Callable[[], tuple[Params, Buffers]]) -> None:
        """Before the first training step: hold the kernels of training steps against torch's own, at `point`."""
        if self.steps.must_be_held_against_plain and not self.compiled.asked:
            own = Network(self.restored_module(), Compute(self.device))
            self.steps.decide(lambda params, held, few: own._outputs(params, held, few, True), *point(), inputs)
            self._here = None

    def cast_inputs(self, inputs: Inputs, point: Callable[[], tuple[Params, Buffers]]) -> Inputs:
        """Inputs in a type that the network takes: floating point as that of the parameters where these have one.

        Inputs of another type are left as they are where the network runs on them (tried once, at `point`).
        """
        types = find_floating_types(inputs)
        if self.floating is None or types <= {self.floating}:
            return inputs
        cast = cast_floating(inputs, self.floating)
        if types not in self._casts:
            if not self._runs(*point(), inputs):
                if not self._runs(*point(), cast):
                    return cast  # what is wrong beside the type shows when it is called
                self._casts[types] = True
            self._casts.setdefault(types, False)
        return cast if self._casts[types] else inputs

    @torch.no_grad()
    def _runs(self, params: Params, buffers: Buffers, inputs: Inputs) -> bool:
        held = {name: buffer.clone() for name, buffer in buffers.items()}
        try:
            with isolate_rng(0, "types"), self.without_new_hooks():
                self._outputs(params, held, inputs, training=False)
        except Exception:
            return False
        return True

    def keeps_layout(self, inputs: Inputs) -> bool:
        """Whether images of this size did not have to be computed without channels last."""
        return not isinstance(inputs, Tensor) or self._layouts.get(inputs.shape[1:], True)

    def _outputs(self, params: Params, buffers: Buffers, inputs: Inputs, training: bool) -> Tensor:
        shape = inputs.shape[1:] if isinstance(inputs, Tensor) and inputs.dim() == 4 else None
        known = None if shape is None else self._layouts.get(shape)
        if shape is None or known is not None or not self.channels_last:
            return self._call(params, buffers, inputs, training, self.channels_last and known is not False)
        held, state = {name: buffer.clone() for name, buffer in buffers.items()}, torch.get_rng_state()
        try:
            outputs = self._call(params, buffers, inputs, training, True)
        except RuntimeError:  # a view that channels last do not allow
            self._layouts[shape] = False
        else:
            self._layouts[shape] = True
            return outputs
        with torch.no_grad():
            for name, buffer in buffers.items():
                buffer.copy_(held[name])
        torch.set_rng_state(state)
        return self._call(params, buffers, inputs, training, False)

    def _call(self, params: Params, buffers: Buffers, inputs: Inputs, training: bool, last: bool) -> Tensor:
        if self.mode_computes:  # and may write into weights
            params = {name: tensor.clone() for name, tensor in params.items()}
        if self.reduced is not None and not last:
            params = {name: tensor.contiguous() for name, tensor in params.items()}
        tensors = {slot: params[name] for slot, name in self.parameter_slots.items()}
        tensors |= {slot: buffers[name] for slot, name in self._buffer_slots.items()}
        if last and isinstance(inputs, Tensor) and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        args, kwargs = make_call_arguments(inputs)
        with (
            self._standing_at(params, buffers, training),
            bypass_parametrization_cache(),
            self.computing(),
            self.steps.used(training),
            explain_errors(args, kwargs),
        ):
            found = self.compiled(tensors, args, kwargs)
        outputs = extract_outputs(found)
        return outputs if self.reduced is None else outputs.float()

    @contextmanager
    def _standing_at(self, params: Params, buffers: Buffers, training: bool) -> Iterator[None]:
        """Context manager: drop values computed at other points; values computed here stay until the point changes."""
        graph = torch.is_grad_enabled() and any(t.requires_grad for t in params.values())
        here, self._here = self._here, None
        if self.mode_computes:
            self._snapshot.restore()
            handle = self.module.register_forward_pre_hook(make_mode_hook(training), prepend=True)
            try:
                yield
            finally:
                handle.remove()
                self._snapshot.restore()
            return
        if graph or here is None or not here.holds(params, buffers, training):
            self._snapshot.restore()
            switch_mode(self.module, training)
        yield
        self._here = None if graph else CurrentPoint(params, buffers, training)


def make_input_caster(model: nn.Module) -> Callable[[Inputs], Inputs]:
    """What brings inputs into a type that the model takes, at its own weights; see `Network.cast_inputs`."""
    networks: list[Network] = []
    types = {parameter.dtype for parameter in model.parameters()}

    def fitted(inputs: Inputs) -> Inputs:
        if find_floating_types(inputs) <= types:
            return inputs
        network = networks[0] if networks else Network(model)
        networks[:] = [network]
        return network.cast_inputs(inputs, lambda: (network.load(parameters_of(model)), network.buffers))

    return fitted


def _read_initialised_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The model's own parameters under their first names, after refusing those of lazy modules."""
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        check_initialised(name, parameter)
    return parameters


def check_initialised(name: str, tensor: Tensor) -> None:
    """Raise ValueError where a lazy module has not made a tensor yet."""
    if is_lazy(tensor):
        raise ValueError(
            f"parameter {name} is not initialised (a lazy module); run the model once on a batch before passing it on"
        )
