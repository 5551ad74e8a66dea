"""Two modules layer by layer: kinds of layers, and the plain values and functions that layers hold."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import reprlib
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType, SimpleNamespace
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from mechconn.core import describe_tensor
from mechconn.network._copies import find_hook_computed_weights, list_cached_properties
from mechconn.network._value_keys import MISSING, ValueKeys, as_plain_tensor, describe_tensors, find_storages
from mechconn.network._written_attributes import find_written_attributes

INERT = ("Identity", "DropPath", "StochasticDepth")
"""Layers that pass on what they get in evaluation mode, beside the kinds of dropout, by the names of their classes."""

NOT_COUNTED = frozenset(
    # Training alone, and rounding.
    "training inplace momentum gradient_checkpointing use_cache problem_type loss_type "
    # A recurrent layer's second list of its weights, also of those that hooks make.
    "_flat_weights "
    # What compilers and torch's parallel modules note.
    "_is_torch_compile _is_fsdp_managed_module "
    # Where a model came from, and what its classes are called.
    "name_or_path _name_or_path _commit_hash torch_dtype dtype transformers_version architectures id2label label2id "
    "_is_hf_initialized _hf_peft_config_loaded".split()
)
"""Attributes that leave the function of a layer in evaluation mode as it is."""

OWN = frozenset(vars(nn.Module())) | {name for name in dir(nn.Module) if name.startswith("_")}
"""What torch itself keeps in a module."""

TRAINING_ONLY = re.compile(r"(^|,\s*)(inplace|momentum|\w*drop\w*)=[^,()]*")


@dataclasses.dataclass(frozen=True)
class LayerDifference:
    """One difference.

    Attributes:
        name: where it is.
        text: what is there in A and in B.
        aliases: names by which it may be left out; empty where it may not.
        counts: whether it is a buffer of whole numbers, such as a counter or positions, which may well be no part of
            what is computed.
    """

    name: str
    text: str
    aliases: frozenset[str] = frozenset()
    counts: bool = False


class LayerComparison:
    """All layers of two modules compared.

    Attributes:
        differences: what differs, in the order of A's layers.
    """

    def __init__(self, model_a: nn.Module, model_b: nn.Module, skipped: set[str], names: tuple[str, str]) -> None:
        """`skipped` are layers whose tensors differ, which says enough of them."""
        self.differences: list[LayerDifference] = []
        self._ends = names
        self._seen: set[tuple[int, int]] = set()
        self._models = (model_a, model_b)
        self._computed = {
            (id(part), name) for model in self._models for part, name, _ in find_hook_computed_weights(model)
        }
        self._without_tensors, self._with_tensors = ValueKeys(None), ValueKeys(find_storages(self._models))
        a, b = (dict(model.named_modules(remove_duplicate=False)) for model in (model_a, model_b))
        for name in dict.fromkeys((*a, *b)):
            if name in a and name in b:
                self._compare_layers(name, a[name], b[name], name in skipped)
            elif name.rpartition(".")[0] in a.keys() & b.keys():  # of a block that is in one only, the block is named
                end, layer = (names[0], a[name]) if name in a else (names[1], b[name])
                if not _is_inert(layer):
                    self._add(name, f"only in {end} ({type(layer).__name__})")

    def _compare_layers(self, name: str, a: nn.Module, b: nn.Module, skipped: bool) -> None:
        if a is b or (id(a), id(b)) in self._seen or (_is_inert(a) and _is_inert(b)):
            return
        self._seen.add((id(a), id(b)))
        if not _are_one_class(type(a), type(b)):
            self._add(name, _describe_pair(type(a), type(b)))
            return
        found = len(self.differences)
        if not skipped:
            for key in dict.fromkeys((*_read_attributes(a), *_read_attributes(b))):
                if (id(a), key) in self._computed or (id(b), key) in self._computed:
                    continue
                values = [getattr(layer, key, MISSING) for layer in (a, b)]
                self._compare_values(_join(name, key), key, *values, base=_join(name, key))
            if len(self.differences) == found:
                self._compare_descriptions(name, a, b)

    def _compare_descriptions(self, name: str, a: nn.Module, b: nn.Module) -> None:
        with contextlib.suppress(Exception):  # the user's own method
            texts = [TRAINING_ONLY.sub("", layer.extra_repr()).strip(", ") for layer in (a, b)]
            if texts[0] != texts[1]:
                self._add(name, f"{_shorten(texts[0])} and {_shorten(texts[1])}")

    def _compare_values(self, path: str, key: str, a: Any, b: Any, base: str) -> None:
        aliases = frozenset((path, key, base, base.rpartition(".")[2]))
        fields_a, fields_b = _read_fields(a), _read_fields(b)
        if a is b or (fields_a is not None and (id(a), id(b)) in self._seen):
            return
        if fields_a is not None and fields_b is not None:
            self._seen.add((id(a), id(b)))
            for inner in dict.fromkeys((*fields_a, *fields_b)):
                values = [_read_field(value, held, inner) for value, held in ((a, fields_a), (b, fields_b))]
                self._compare_values(f"{path}.{inner}", str(inner), *values, base=base)
        elif key.startswith("_") and (a is MISSING or b is MISSING):
            return  # what a library notes in the modules that it loaded or prepared
        elif fields_a is None and fields_b is None and self._differ(a, b, {key, *base.split(".")}):
            self._add(path, self._describe(a, b), aliases)

    def _differ(self, a: Any, b: Any, names: set[str]) -> bool:
        """Whether values differ; tensors only where no code of the layers writes what is called so when it runs."""
        if self._without_tensors.make(a) != self._without_tensors.make(b):
            return True
        return self._with_tensors.make(a) != self._with_tensors.make(b) and not names & self._written

    @functools.cached_property
    def _written(self) -> frozenset[str]:
        return frozenset().union(*map(find_written_attributes, self._models))

    def _describe(self, a: Any, b: Any) -> str:
        if a is MISSING or b is MISSING:
            end, value = (self._ends[1], b) if a is MISSING else (self._ends[0], a)
            return f"only in {end} ({_show(value)})"
        tensors = as_plain_tensor(a), as_plain_tensor(b)
        if tensors[0] is not None and tensors[1] is not None:
            return describe_tensors(tensors[0], tensors[1])
        return _describe_pair(a, b)

    def _add(self, name: str, text: str, aliases: frozenset[str] = frozenset()) -> None:
        self.differences.append(LayerDifference(name or "the module", text, aliases))


def list_attribute_names(model: nn.Module) -> set[str]:
    """Every name by which an attribute of a layer may be left out: full names and the last parts of these."""
    found: set[str] = set()
    seen: set[int] = set()
    frontier = [
        (_join(name, key), key, value)
        for name, layer in model.named_modules(remove_duplicate=False)
        for key, value in _read_attributes(layer).items()
    ]
    while frontier:
        path, key, value = frontier.pop()
        found |= {path, key}
        fields = None if id(value) in seen else _read_fields(value)
        if fields is not None:
            seen.add(id(value))
            frontier += [(f"{path}.{inner}", str(inner), held) for inner, held in fields.items()]
    return found


KEYS = ValueKeys(None)


def _join(layer: str, key: str) -> str:
    return f"{layer}.{key}" if layer else key


def _is_inert(layer: nn.Module) -> bool:
    return isinstance(layer, _DropoutNd) or type(layer).__name__ in INERT


def _are_one_class(a: type, b: type) -> bool:
    """One class, or two of one name with one forward pass: a class that was defined again, or run as a program."""
    if a is b:
        return True
    modules = {a.__module__, b.__module__}
    named = a.__qualname__ == b.__qualname__ and (len(modules) == 1 or "__main__" in modules)
    return named and KEYS.make(getattr(a, "forward", None)) == KEYS.make(getattr(b, "forward", None))


def _counts(name: object, value: object) -> bool:
    if name in NOT_COUNTED or str(name).startswith("__"):
        return False
    return not ("drop" in str(name) and isinstance(value, float | int | None) and not isinstance(value, bool))


def _read_attributes(layer: nn.Module) -> dict[str, Any]:
    kept = {*OWN, *list_cached_properties(type(layer))}
    return {name: value for name, value in vars(layer).items() if name not in kept and _counts(name, value)}


def _read_fields(value: Any) -> Mapping[Any, Any] | None:
    """What a dictionary or an object of settings holds; None of anything else."""
    if isinstance(value, dict):
        return {name: held for name, held in value.items() if _counts(name, held)}
    settings = isinstance(value, SimpleNamespace) or dataclasses.is_dataclass(value) or hasattr(value, "to_dict")
    if isinstance(value, type | nn.Module) or not settings or not hasattr(value, "__dict__"):
        return None
    return {name: held for name, held in vars(value).items() if not name.startswith("_") and _counts(name, held)}


def _read_field(value: Any, fields: Mapping[Any, Any], name: Any) -> Any:
    """A field of a dictionary or of an object of settings, whose class may hold a default."""
    if name in fields or isinstance(value, dict):
        return fields.get(name, MISSING)
    return getattr(value, str(name), MISSING)


def _describe_pair(a: Any, b: Any) -> str:
    for form in (_show,) if _holds_tensors(a) and _holds_tensors(b) else (_show, _show_in_full):
        texts = [form(value) for value in (a, b)]
        if texts[0] != texts[1]:
            return f"{texts[0]} and {texts[1]}"
    return f"{_show(a)} in both, with different {'values' if _holds_tensors(a) else 'code or settings'}"


def _holds_tensors(value: Any) -> bool:
    parts = value if isinstance(value, tuple | list) else (value,)
    return any(as_plain_tensor(part) is not None for part in parts)


def _show(value: Any) -> str:
    if (tensor := as_plain_tensor(value)) is not None:
        return describe_tensor(tensor)
    if isinstance(value, functools.partial):
        given = [*map(_show, value.args), *(f"{name}={_show(held)}" for name, held in value.keywords.items())]
        return _shorten(f"{_show(value.func)} with {', '.join(given)}")
    if isinstance(value, FunctionType) and value.__name__ == "<lambda>":
        return f"the lambda in line {value.__code__.co_firstlineno}"
    if isinstance(value, type | FunctionType | BuiltinFunctionType | MethodDescriptorType | MethodType):
        return value.__name__
    if isinstance(value, tuple | list):
        return _shorten(f"[{', '.join(map(_show, value))}]")
    return _shorten(reprlib.repr(value))


def _show_in_full(value: Any) -> str:
    if isinstance(value, FunctionType) and value.__name__ == "<lambda>":
        return f"{_show(value)} of {value.__module__}"
    if hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
    return repr(value)


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."
