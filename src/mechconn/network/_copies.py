"""Copies of users' modules, and what a copy must forget before it holds other weights.

A module may keep what it computed from its weights beside its parameters and buffers: in attributes, dictionaries,
cached properties, or where a hook puts a weight that it makes of others. Such values belong to the weights that they
were computed from.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mechconn.core import isolate_rng
from mechconn.network._adapter_layers import find_base, share_memory
from mechconn.network._wrappers import unwrap_module

MEMOISED = functools._lru_cache_wrapper


def copy_module(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy of the network without its wrappers; see `unwrap_module`.

    Tensors that operations made come detached: `copy.deepcopy` refuses them, and a forward pass with gradients leaves
    some behind (weights that `weight_norm`, `spectral_norm` and `prune` compute, activations that a module keeps).
    Functions that a module holds (hooks, a forward pass that was replaced, memoised methods) and that work on the
    module work on the copy in the copy; `copy.deepcopy` would leave them with the model. `memo` is deepcopy's.
    """
    model, memo = unwrap_module(model), {} if memo is None else memo
    with _DetachCopies():
        copied = copy.deepcopy(model, memo)
    for part in list_own_parts(copied):
        held = vars(part)
        for functions in (held, *(value for key, value in held.items() if "_hooks" in key and isinstance(value, dict))):
            for name, value in functions.items():
                if isinstance(value, FunctionType | functools.partial | MEMOISED):
                    functions[name] = _rebind_closure(value, memo, set())
                    memo.setdefault(id(value), functions[name])
    return copied


def copy_with_state(model: nn.Module, state: Mapping[str, Tensor], shared: Iterable[Tensor] = ()) -> nn.Module:
    """A copy of the model that holds these parameters and buffers, under their first names, and no values of others.

    Modes stay as they are. What is not in `state` stays as the model has it. Parameters of the model in `shared` whose
    values are those in `state` are not copied: the result has parameters of its own over the same memory.
    """
    model, given = unwrap_module(model), {id(tensor) for tensor in shared}
    kept = {n: p for n, p in model.named_parameters() if id(p) in given and n in state and _are_alike(p, state[n])}
    result = copy_module(model, {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in kept.values()})
    with torch.no_grad():
        for name, tensor in _iterate_named_tensors(result):
            if name in state and name not in kept:
                _write_into(tensor, state[name])
    drop_computed_values(result)
    return result


def forget_computed_values(model: nn.Module) -> nn.Module:
    """The network without its wrappers; a copy that dropped what it computed, where it has rules for that.

    The base under adapters is not copied.
    """
    model = unwrap_module(model)
    if not has_mode_or_loading_rules(model):
        return model
    result = copy_module(model, {id(tensor): tensor for tensor in find_base(model).values()})
    drop_computed_values(result)
    return result


def list_own_parts(module: nn.Module) -> list[nn.Module]:
    """The module and all that it holds, but for compiled TorchScript, whose state cannot be seen."""
    return [part for part in module.modules() if not isinstance(part, torch.jit.ScriptModule)]


def set_mode(module: nn.Module, training: bool) -> None:
    """Set the mode by the module's own rules, which may draw from the global generators."""
    with isolate_rng(0, "mode") if has_mode_rule(module) else contextlib.nullcontext():
        switch_mode(module, training)


def switch_mode(module: nn.Module, training: bool) -> None:
    """Set the mode as a user does; what `train` and `eval` of a user's module return is of no use."""
    if training:
        module.train(True)  # a user's rule need not have a default
    else:
        module.eval()


@torch.no_grad()
def drop_computed_values(module: nn.Module) -> bool:
    """Drop, in place, what the module keeps of values that it computed from its weights.

    The module's own rules for this are set off: changing the mode to and fro, and loading its state where it has a
    rule for that. Cached properties are dropped, and weights that hooks make of others are made again. Parameters,
    buffers and modes are as before.

    Returns:
        Whether changing the mode computes anything, as where adapters are merged into weights for evaluation.
    """
    computes = False
    if _has_loading_rule(module):
        with (
            isolate_rng(0, "mode"),
            _SavedState(module) as saved,
            contextlib.suppress(Exception),
        ):  # it may be for files alone
            module.load_state_dict(module.state_dict())
        saved.restore()
    if has_mode_rule(module):
        with isolate_rng(0, "mode"), _SavedState(module) as saved:
            _change_mode_and_back(module)
        computes = saved.computed
        saved.restore()
    drop_cached_properties(module)
    for part, name, made in find_hook_computed_weights(module):
        if not getattr(part, name).is_meta:
            setattr(part, name, made())
    return computes


def drop_cached_properties(module: nn.Module) -> None:
    """Leave out, in place, what descriptors such as `functools.cached_property` keep in the layers."""
    for part in list_own_parts(module):
        for name in list_cached_properties(type(part)):
            vars(part).pop(name, None)


def renew_memo(value: Any, function: Callable[..., Any]) -> Any:
    """A function with a memory of its own, of the size that a memoised function's has."""
    return functools.lru_cache(**value.cache_parameters())(function)


def has_mode_or_loading_rules(module: nn.Module) -> bool:
    """Whether some part has a rule of its own for a change of its mode or the loading of a state."""
    return has_mode_rule(module) or _has_loading_rule(module)


def has_mode_rule(module: nn.Module) -> bool:
    """Whether some part has a rule of its own for a change of its mode."""
    return any(
        getattr(part.train, "__func__", None) is not nn.Module.train
        or getattr(part.eval, "__func__", None) is not nn.Module.eval
        for part in list_own_parts(module)
    )


def find_hook_computed_weights(module: nn.Module) -> Iterator[tuple[nn.Module, str, Callable[[], Tensor]]]:
    """Each weight that torch's hooks make of others before a forward pass: its layer, its name, and how it is made.

    Of one layer the last hook comes first: it can only have taken a tensor that an earlier one reads (`prune` on the
    direction of `weight_norm`), and runs after it, so that a fresh layer's first forward pass would read an old value.
    """
    for part in list_own_parts(module):
        for hook in reversed(part._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                yield part, hook.name, functools.partial(hook.compute_weight, part)
            elif isinstance(hook, SpectralNorm):
                yield part, hook.name, functools.partial(hook.compute_weight, part, do_power_iteration=False)
            elif isinstance(hook, BasePruningMethod):
                yield part, str(hook._tensor_name), functools.partial(hook.apply_mask, part)


def compute_in_order(part: nn.Module, _: object) -> None:
    """Forward pre-hook: compute a layer's weights from others in the order of `find_hook_computed_weights`."""
    for layer, name, made in find_hook_computed_weights(part):
        if layer is part:
            setattr(part, name, made())


def _change_mode_and_back(module: nn.Module) -> None:
    found = {part: part.training for part in module.modules()}
    switch_mode(module, not module.training)
    switch_mode(module, not module.training)
    for part, mode in found.items():  # parents first
        if part.training != mode:
            switch_mode(part, mode)
    for part, mode in found.items():  # what a rule of a parent holds in another mode
        if part.training != mode:
            part.training = mode


def _has_loading_rule(module: nn.Module) -> bool:
    """Whether some part has a rule of its own for loading a state; torch's layers have none that matters here."""
    return any(
        bool(part._load_state_dict_post_hooks) or _class_has_loading_rule(type(part)) for part in list_own_parts(module)
    )


@functools.lru_cache(256)
def _class_has_loading_rule(kind: type) -> bool:
    return not {"load_state_dict", "_load_from_state_dict"}.isdisjoint(collect_class_attributes(kind))


def collect_class_attributes(kind: type) -> dict[str, Any]:
    """What the user's classes among a class's bases define, the nearest definition of each name."""
    bases = [base for base in reversed(kind.__mro__) if base.__module__.partition(".")[0] not in ("torch", "builtins")]
    return {name: value for base in bases for name, value in vars(base).items()}


@functools.lru_cache(256)
def list_cached_properties(kind: type) -> tuple[str, ...]:
    """Names under which a class's descriptors keep a value in the instance, as `functools.cached_property` does."""
    return tuple(
        name
        for name, value in collect_class_attributes(kind).items()
        if hasattr(type(value), "__get__")
        and not hasattr(type(value), "__set__")
        and not callable(value)
        and not isinstance(value, classmethod)
    )


class _DetachCopies(TorchFunctionMode):
    """Copies of tensors that operations made come without the operations."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


class _SavedState(TorchDispatchMode):
    """Keeps copies of a module's parameters and buffers from before the first operation; none where none runs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module
        self._values: dict[str, Tensor] = {}
        self.computed = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if not self.computed:
            self.computed = True
            self._values = {name: tensor.detach().clone() for name, tensor in _iterate_named_tensors(self._module)}
        return func(*args, **(kwargs or {}))

    def restore(self) -> None:
        """Give the module the values that it had."""
        for name, tensor in _iterate_named_tensors(self._module):
            if name in self._values and tensor.shape == self._values[name].shape:
                _write_into(tensor, self._values[name])


def _iterate_named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _are_alike(own: Tensor, value: Tensor) -> bool:
    return share_memory(own, value) or (own.shape == value.shape and torch.equal(own, value.to(own)))


def _write_into(tensor: Tensor, value: Tensor) -> None:
    """Write a value into a tensor; one whose places share memory can only be left as it is."""
    if not tensor.is_meta and not (0 in tensor.stride() and torch.equal(tensor, value.to(tensor))):
        tensor.copy_(value)


def _rebind_closure(value: Any, memo: dict[int, Any], above: set[int]) -> Any:
    """A function whose closure holds the copies that `memo` names, in the place of what they are copies of.

    Lists, dictionaries and sets in its closure are copied, so that it writes into none that the original holds.
    """
    if id(value) in memo or id(value) in above:
        return memo.get(id(value), value)
    above = above | {id(value)}

    def inner(part: Any) -> Any:
        return _rebind_closure(part, memo, above)

    if isinstance(value, MEMOISED):
        return renew_memo(value, inner(value.__wrapped__))
    if isinstance(value, MethodType):
        return MethodType(value.__func__, inner(value.__self__))
    if type(value) is functools.partial:
        return functools.partial(inner(value.func), *map(inner, value.args), **inner(value.keywords))
    if type(value) in (dict, list, set):
        copied = {k: inner(v) for k, v in value.items()} if type(value) is dict else type(value)(map(inner, value))
        return memo.setdefault(id(value), copied)
    return _copy_closure(value, inner) if isinstance(value, FunctionType) and value.__closure__ else value


def _copy_closure(function: FunctionType, inner: Callable[[Any], Any]) -> FunctionType:
    try:
        contents = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a variable that has no value yet
        return function
    copies = [inner(content) for content in contents]
    if all(a is b for a, b in zip(contents, copies, strict=True)):
        return function
    cells = tuple(map(CellType, copies))
    made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__ = function.__kwdefaults__
    vars(made).update(vars(function))
    return made
