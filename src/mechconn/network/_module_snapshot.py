"""A copied module, evaluated at one point of weight space after another without state of earlier ones."""

from __future__ import annotations

import copy
import functools
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mechconn.core import Buffers, Params
from mechconn.network._copies import (
    MEMOISED,
    collect_class_attributes,
    compute_in_order,
    copy_module,
    drop_cached_properties,
    drop_computed_values,
    find_hook_computed_weights,
    has_mode_or_loading_rules,
    list_own_parts,
    renew_memo,
    switch_mode,
)

REGISTERED = ("_parameters", "_buffers")
"""Where a module holds the tensors that every call is given anew."""


def make_weightless_copy(model: nn.Module) -> tuple[nn.Module, ModuleSnapshot, bool]:
    """The structure of a module, with parameters that hold no data, that has forgotten what it computed from any.

    Returns:
        The structure, its state at rest, and whether changing its mode computes with its weights: then it has the
        model's own mode, and must be brought into another where the weights are.
    """
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()
    }
    for part, name, _ in find_hook_computed_weights(model):
        memo[id(getattr(part, name))] = torch.empty_like(getattr(part, name), device="meta", requires_grad=False)
    module, computes = copy_module(model, memo), False
    drop_cached_properties(module)
    if has_mode_or_loading_rules(module):
        found = ModuleSnapshot(module, memo)
        try:
            computes = drop_computed_values(module)
        except Exception:  # a rule that cannot do without numbers
            computes = True
        if computes:
            found.restore()
        memo = {}
        module = copy_module(module, memo)
    for part, hooks in Counter(part for part, *_ in find_hook_computed_weights(module)).items():
        if hooks > 1:
            part.register_forward_pre_hook(compute_in_order, prepend=True)
    _copy_class_state(module, memo)
    return module, ModuleSnapshot(module, memo), computes


def make_mode_hook(training: bool) -> Callable[..., None]:
    """A hook that brings a module into a mode by its own rules, once the weights are there."""

    def hook(module: nn.Module, *_: object) -> None:
        drop_computed_values(module)
        switch_mode(module, training)

    return hook


@contextmanager
def bypass_parametrization_cache() -> Iterator[None]:
    """Context manager: parametrizations recompute their weights, also within the user's `parametrize.cached()`."""
    kept, parametrize._cache_enabled = parametrize._cache_enabled, 0
    try:
        yield
    finally:
        parametrize._cache_enabled = kept


class ModuleSnapshot:
    """What a module of our own holds beside the tensors that it is called with, as it is now, and the way back to it.

    That is every attribute of every layer, and every container, object and tensor that these lead to and that is the
    module's own: a copy in the `memo` of the deep copy that made the module. Hooks are left as they are.
    """

    def __init__(self, module: nn.Module, memo: dict[int, Any]) -> None:
        self._own = {id(value) for value in memo.values()}
        self._seen: set[int] = set()
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._ways_back: list[Callable[[], object]] = []
        self._held: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._lists: list[tuple[Any, list[Any]]] = []
        self._tensors: list[_SavedTensor] = []
        self._generators: list[tuple[torch.Generator, Tensor]] = []
        self._caches: list[Any] = []
        self._hooks: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._keep(module)
        self._own = set()

    def restore(self) -> None:
        """Make everything as it was."""
        for held, contents in self._dicts:
            held.clear()
            held.update(contents)
        for way_back in self._ways_back:
            way_back()

    def differs(self) -> bool:
        """Whether anything is not as it was, beside the mode, and what was written into parameters and buffers."""
        return (
            not all(_has_items(held, items) for held, items in self._held)
            or not all(_is_the_same(list(held), contents) for held, contents in self._lists)
            or any(saved.was_written for saved in self._tensors)
            or any(not torch.equal(own.get_state(), was) for own, was in self._generators)
            or any(cache.cache_info().currsize for cache in self._caches)
        )

    @contextmanager
    def without_new_hooks(self) -> Iterator[None]:
        """Context manager: remove hooks that were registered since the snapshot, and register them again afterwards."""
        now = [dict(held) for held, _ in self._hooks]
        try:
            for held, before in self._hooks:
                _refill_dict(held, before)
            yield
        finally:
            for (held, _), later in zip(self._hooks, now, strict=True):
                _refill_dict(held, later)

    def _keep(self, first: Any) -> None:
        frontier = [first]
        while frontier:
            thing = frontier.pop()
            if id(thing) not in self._seen:
                self._seen.add(id(thing))
                frontier.extend(self._led_to(thing))
                if (way_back := self._way_back(thing)) is not None:
                    self._ways_back.append(way_back)

    def _keep_dict(self, held: dict[Any, Any]) -> None:
        self._held.append((held, dict(held)))
        if type(held) is dict:
            self._dicts.append((held, dict(held)))
        else:
            self._ways_back.append(functools.partial(_refill_dict, held, dict(held)))

    def _way_back(self, thing: Any) -> Callable[[], object] | None:
        if isinstance(thing, dict):
            self._keep_dict(thing)
            return None
        for kind, refill in ((list, _refill_list), (deque, _refill_deque), (set, _refill_set)):
            if isinstance(thing, kind):
                self._lists.append((thing, list(thing)))
                return functools.partial(refill, thing, list(thing))
        if id(thing) not in self._own:
            return None
        if isinstance(thing, Tensor):
            self._tensors += [] if thing.is_meta else [_SavedTensor(thing)]
            return None if thing.is_meta else self._tensors[-1].undo
        if isinstance(thing, torch.Generator):
            self._generators.append((thing, thing.get_state()))
            return functools.partial(thing.set_state, thing.get_state())
        if isinstance(thing, MEMOISED):
            self._caches.append(thing)
            return thing.cache_clear
        return None

    def _led_to(self, thing: Any) -> Iterator[Any]:
        """What a thing leads to."""
        if isinstance(thing, dict | list | deque):
            yield from self._contents(thing, thing if isinstance(thing, dict) else range(len(thing)))
        elif isinstance(thing, tuple):
            yield from thing
        elif isinstance(thing, MethodType):
            yield thing.__self__
        elif isinstance(thing, FunctionType) and id(thing) in self._own:
            yield from (cell.cell_contents for cell in thing.__closure__ or ())
        if self._has_attributes(thing):
            yield from self._attributes(vars(thing), isinstance(thing, nn.Module))

    def _has_attributes(self, thing: Any) -> bool:
        plain = not isinstance(thing, Tensor | type | FunctionType | MethodType | torch.jit.ScriptModule)
        return plain and id(thing) in self._own and hasattr(thing, "__dict__")

    def _attributes(self, held: dict[str, Any], of_a_module: bool) -> Iterator[Any]:
        hooks = {name for name in held if "_hooks" in name} if of_a_module else set()
        for name in hooks:
            if isinstance(held[name], dict):
                self._hooks.append((held[name], dict(held[name])))
                yield from held[name].values()
        for name in REGISTERED if of_a_module else ():
            self._seen.add(id(held[name]))
            self._keep_dict(held[name])
        yield from self._contents(held, [name for name in held if name not in hooks])
        self._keep_dict(held)

    def _contents(self, holder: Any, places: Any) -> Iterator[Any]:
        """The contents of a container; containers among them that are others' too are replaced by copies."""
        for place in list(places):
            content = holder[place]
            if isinstance(content, dict | list | set | deque) and id(content) not in self._own:
                content = holder[place] = copy.copy(content)
            yield content


class _SavedTensor:
    """A tensor of a module's own that is neither parameter nor buffer, and what was in it."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._value = tensor, tensor.detach().clone()
        self._version = None if tensor.is_inference() else tensor._version

    @property
    def was_written(self) -> bool:
        """Whether anything was written into it."""
        if self._version is None:
            return not torch.equal(self._tensor, self._value)
        return self._tensor._version != self._version

    @torch.no_grad()
    def undo(self) -> None:
        if self._version is None or self._tensor._version != self._version:
            self._tensor.copy_(self._value)
            self._version = None if self._version is None else self._tensor._version


class CurrentPoint:
    """Which point a network stands at: tensors by identity, parameters also as they were last written."""

    def __init__(self, params: Params, buffers: Buffers, training: bool) -> None:
        self._params = [(weakref.ref(t), _get_version(t)) for t in params.values()]
        self._buffers = [weakref.ref(t) for t in buffers.values()]
        self._training = training

    def holds(self, params: Params, buffers: Buffers, training: bool) -> bool:
        return (
            self._training is training
            and len(self._params) == len(params)
            and all(
                ref() is t and version == _get_version(t)
                for (ref, version), t in zip(self._params, params.values(), strict=True)
            )
            and len(self._buffers) == len(buffers)
            and all(ref() is t for ref, t in zip(self._buffers, buffers.values(), strict=True))
        )


def _has_items(held: dict[Any, Any], items: dict[Any, Any]) -> bool:
    """Whether a dictionary holds these values in any order; the mode of a layer may be another."""
    return held.keys() == items.keys() and all(
        key == "training" or _is_the_same(held[key], value) for key, value in items.items()
    )


def _is_the_same(now: Any, before: Any) -> bool:
    """Whether it is the same object, or an equal plain value."""
    if now is before:
        return True
    if type(now) is not type(before):
        return False
    if isinstance(now, tuple | list):
        return len(now) == len(before) and all(map(_is_the_same, now, before))
    return isinstance(now, int | float | complex | str | bytes | frozenset) and now == before


def _get_version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _refill_dict(held: dict[Any, Any], contents: dict[Any, Any]) -> None:
    # A subclass may forbid what it inherits.
    base: Any = OrderedDict if isinstance(held, OrderedDict) else dict
    base.clear(held)
    for key, value in contents.items():
        base.__setitem__(held, key, value)


def _refill_list(held: list[Any], contents: list[Any]) -> None:
    list.__setitem__(held, slice(None), contents)


def _refill_deque(held: deque[Any], contents: list[Any]) -> None:
    held.clear()
    held.extend(contents)


def _refill_set(held: set[Any], contents: list[Any]) -> None:
    set.clear(held)
    set.update(held, contents)


def _copy_class_state(module: nn.Module, memo: dict[int, Any]) -> None:
    """Give each layer its own copy of what its class keeps for all instances: containers, memoised methods."""
    for part in list_own_parts(module):
        for name, value in collect_class_attributes(type(part)).items():
            if name in vars(part) or name.startswith("__"):
                continue
            if isinstance(value, MEMOISED):
                own = vars(part)[name] = renew_memo(value, MethodType(value.__wrapped__, part))
                memo[id(own)] = own
            elif type(value) in (dict, list, set):
                vars(part)[name] = copy.copy(value)
