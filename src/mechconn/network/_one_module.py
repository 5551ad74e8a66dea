"""Whether two models are one module with other parameters and statistics, and what differs where they are not."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mechconn.core import check_listed, describe_tensor
from mechconn.network._copies import forget_computed_values
from mechconn.network._layer_differences import LayerComparison, LayerDifference, list_attribute_names
from mechconn.network._power_iteration import find_power_iterations
from mechconn.network._statistics_buffers import list_statistics
from mechconn.network._value_keys import describe_values
from mechconn.network._wrappers import unwrap_module

LISTED = 8
# A thousandth is far above rounding, and far below another nonlinearity or scale.
SAME_FUNCTION = 1e-3
PACKED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized", "torch.nn.intrinsic.quant")
QUANTISED = frozenset(("int1", "int2", "int3", "int4", "int5", "int6", "int7", "int8", "int16", "int32"))


def check_one_module(
    model_a: nn.Module,
    model_b: nn.Module,
    *,
    ignore: Sequence[str] = (),
    outputs: Callable[[], tuple[Tensor, Tensor]] | None = None,
    names: tuple[str, str] = ("A", "B"),
) -> None:
    """Raise unless B is A's module with other parameters and statistics; see `explain_differences`.

    Raises:
        ValueError: they are not: the first eight differences are named, and how many more there are. Or `ignore` has
            a name that neither has.
        TypeError: one is no module, or a TorchScript module.
    """
    text = explain_differences(model_a, model_b, ignore=ignore, outputs=outputs, names=names)
    if text:
        raise ValueError(say_not_one_module(names, text))


def say_not_one_module(names: tuple[str, str], why: str) -> str:
    """That two models are not one module, with what differs."""
    return f"{names[0]} and {names[1]} are not one module with different parameters and statistics: {why}"


def explain_differences(
    model_a: nn.Module,
    model_b: nn.Module,
    *,
    ignore: Sequence[str] | None = (),
    outputs: Callable[[], tuple[Tensor, Tensor]] | None = None,
    names: tuple[str, str] = ("A", "B"),
) -> str:
    """What differs between two models beside the values of parameters and statistics; empty where nothing does.

    Parameters must have the same names, shapes and number types, and numbers that can be mixed. Buffers must have the
    same names, shapes and number types, and the same values where no rule renews them: normalisation statistics and
    the vectors of spectral norm may differ. Then the function is compared: by the outputs where they are given, else
    by the kinds of layers and the numbers, texts, flags and functions that layers hold; dropout does not count.

    Args:
        model_a: A.
        model_b: B; wrappers of both are seen through.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
            None: nothing can be left out, and the text does not advise it.
        outputs: computes (outputs of A's module filled with B's tensors, outputs of B) on an example; called where
            the tensors can be filled in. The function is the same where the largest deviation is at most a thousandth
            of the largest output; else layers are listed to explain it.
        names: what the text calls A and B.

    Returns:
        The first eight differences, with values or shapes, and how many more there are, in one line.

    Raises:
        ValueError: `ignore` has a name that neither model has.
        TypeError: one is no module, or a TorchScript module.

    Example:
        >>> explain_differences(nn.Linear(2, 3), nn.Linear(2, 3))
        ''
        >>> explain_differences(nn.Linear(2, 3), nn.Linear(2, 4))
        'weight: float32[3, 2] and float32[4, 2]; bias: float32[3] and float32[4]'
    """
    models = [
        forget_computed_values(unwrap_module(model, name))
        for model, name in zip((model_a, model_b), names, strict=True)
    ]
    left_out = () if ignore is None else ignore
    check_ignored(left_out, models)
    unusable = [_find_unusable(model) for model in models]
    skipped = {*unusable[0], *unusable[1]}
    state = [
        *_find_empty(models, unusable, names),
        *_merge_ends(unusable, names),
        *_compare_tensors(models, "named_parameters", skipped, names),
        *_compare_tensors(models, "named_buffers", skipped, names),
        *_compare_buffer_values(models, skipped),
    ]
    state = _leave_out(state, left_out)
    if outputs is not None and state:
        return _list_differences(state, ignore is not None)
    mixed = {_split(difference.name)[0] for difference in state if not difference.aliases}
    layers = _leave_out(LayerComparison(models[0], models[1], mixed, names).differences, left_out)
    layers = [layer for layer in layers if not _is_at(layer.name, {*skipped, *(_split(name)[0] for name in skipped)})]
    listed = layers if outputs is None else _compare_outputs(outputs(), layers, left_out)
    return _list_differences([*state, *listed], ignore is not None)


def _find_empty(
    models: Sequence[nn.Module], unusable: Sequence[Mapping[str, str]], ends: tuple[str, str]
) -> Iterator[LayerDifference]:
    for model, quantised, end in zip(models, unusable, ends, strict=True):
        if not quantised and next(model.parameters(), None) is None:
            yield LayerDifference(end, "has no parameters")


def _find_unusable(model: nn.Module) -> dict[str, str]:
    """Tensors and layers that cannot be mixed -> why not."""
    found: dict[str, str] = {}
    for name, layer in model.named_modules():
        if _is_packed(layer) and not _is_at(name, found):
            found[name] = f"quantised ({_read_packed_type(layer)})"
    tensors = [(n, t, True) for n, t in model.named_parameters()] + [(n, t, False) for n, t in model.named_buffers()]
    for name, tensor, is_parameter in tensors:
        if not _is_at(name, found) and (why := _explain_unusable(tensor, is_parameter)):
            found[name] = why
    return found


def _is_at(name: str, places: Iterable[str]) -> bool:
    """Whether a name is one of these or lies below one of them."""
    return any(name == place or name.startswith(f"{place}.") or not place for place in places)


def _is_packed(layer: nn.Module) -> bool:
    """Whether it is one of torch's quantised layers, whose weights are no parameters."""
    return type(layer).__module__.startswith(PACKED) and "FloatFunctional" not in type(layer).__name__


def _explain_unusable(tensor: Tensor, is_parameter: bool) -> str:
    if is_lazy(tensor):
        return "not initialised (a lazy module; run the model once on a batch)"
    if type(tensor).__module__.startswith("torchao"):
        return f"quantised ({type(tensor).__name__})"
    kind = str(tensor.dtype).removeprefix("torch.")
    narrow = kind.removeprefix("u") in QUANTISED or kind.startswith(("float8", "float4"))
    if tensor.is_quantized or (is_parameter and narrow):
        return f"quantised ({kind})"
    if tensor.is_meta:
        return "without values (on the device meta)"
    if is_parameter and not (tensor.is_floating_point() or tensor.is_complex()):
        return f"a parameter of whole numbers ({kind})"
    return ""


def _read_packed_type(layer: Any) -> str:
    """The number type of a quantised layer's weight."""
    try:
        return str(layer.weight().dtype).removeprefix("torch.")
    except Exception:  # a layer without a weight
        return type(layer).__name__


def _merge_ends(found: Sequence[Mapping[str, str]], ends: tuple[str, str]) -> Iterator[LayerDifference]:
    """What holds at one end or at both, each name once."""
    for name in dict.fromkeys((*found[0], *found[1])):
        texts = [held.get(name) for held in found]
        if texts[0] == texts[1]:
            yield LayerDifference(name or "the module", str(texts[0]))
        else:
            said = [f"{text} in {end}" for text, end in zip(texts, ends, strict=True) if text]
            yield LayerDifference(name or "the module", ", ".join(said))


def _compare_tensors(
    models: Sequence[nn.Module], kind: str, skipped: set[str], ends: tuple[str, str]
) -> Iterator[LayerDifference]:
    """Names in one model and not in the other, shapes and number types."""
    a, b = (dict(getattr(model, kind)()) for model in models)
    for name in dict.fromkeys((*a, *b)):
        if _is_at(name, skipped):
            continue
        if name in a and name in b:
            texts = [describe_tensor(held[name]) for held in (a, b)]
            if texts[0] != texts[1]:
                yield LayerDifference(name, f"{texts[0]} and {texts[1]}")
        else:
            here, other = (0, 1) if name in a else (1, 0)
            shape = describe_tensor((a, b)[here][name])
            yield LayerDifference(
                name, f"only in {ends[here]} ({shape}{_explain_tie(models[other], kind, name, ends[other])})"
            )


def _explain_tie(model: nn.Module, kind: str, name: str, end: str) -> str:
    """Where the other model has a tensor under this name after all: the one that it shares it with."""
    tensor = dict(getattr(model, kind)(remove_duplicate=False)).get(name)
    first = next((n for n, held in getattr(model, kind)() if held is tensor), None)
    return "" if tensor is None else f"; shared with {first} in {end}"


def _compare_buffer_values(models: Sequence[nn.Module], skipped: set[str]) -> Iterator[LayerDifference]:
    """Values that differ where no rule renews them."""
    a, b = (dict(model.named_buffers()) for model in models)
    renewed = _find_renewed(models[0]) & _find_renewed(models[1])
    for name in a:
        if name in renewed or name not in b or _is_at(name, skipped):
            continue
        if describe_tensor(a[name]) == describe_tensor(b[name]):
            if text := describe_values(*(held[name].detach().cpu() for held in (a, b))):
                whole = not (a[name].is_floating_point() or a[name].is_complex() or a[name].dtype == torch.bool)
                yield LayerDifference(name, text, frozenset((name, _split(name)[1])), whole)


def _find_renewed(model: nn.Module) -> set[str]:
    """Buffers that a rule renews at every point: normalisation statistics, vectors of spectral norm."""
    return {*list_statistics(model)}.union(*((found.u, found.v) for found in find_power_iterations(model)))


def _compare_outputs(
    outputs: tuple[Tensor, Tensor], layers: list[LayerDifference], ignore: Sequence[str]
) -> list[LayerDifference]:
    """Nothing where the functions agree, else by how much they differ, and the layers that may be why."""
    filled, own = (tensor.detach().cpu() for tensor in outputs)
    where = "outputs on an example"
    if filled.shape != own.shape:
        return [LayerDifference(where, f"{describe_tensor(filled)} and {describe_tensor(own)}"), *layers]
    filled, own = filled.double(), own.double()
    known = own.isfinite()
    deviation = torch.where(known, filled - own, 0.0).abs()
    largest = float(own[known].abs().max()) if bool(known.any()) else 0.0
    moved = (filled != own) & ~(filled.isnan() & own.isnan()) & ~known
    if not bool(moved.any()) and float(deviation.max() if deviation.numel() else 0.0) <= SAME_FUNCTION * largest:
        return []
    text = f"relative error {float(deviation.max()) / (largest or 1.0):.2g}, at most {SAME_FUNCTION} is rounding"
    if ignore:
        text += f", with {', '.join(ignore)} left out"
    elif not layers:
        text += "; layers and what they hold are alike, so the code or values kept elsewhere differ"
    return [LayerDifference(where, text), *layers]


def check_ignored(
    ignore: Sequence[str], models: Sequence[nn.Module], buffers: Iterable[Mapping[str, Tensor]] = ()
) -> None:
    """Raise unless `ignore` lists names of buffers, or of attributes of layers, that some model or point has."""
    check_listed("ignore", ignore)
    if not ignore:
        return
    held = {
        *(name for model in models for name, _ in model.named_buffers()),
        *(name for one in buffers for name in one),
    }
    known = held | {_split(name)[1] for name in held} | set().union(*map(list_attribute_names, models))
    for name in ignore:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=3)
            listed = f"; near names: {', '.join(near)}" if near else ""
            raise ValueError(f"ignore: {name!r} is no buffer and no attribute of a layer of the models{listed}")


def _leave_out(found: Iterable[LayerDifference], ignore: Sequence[str]) -> list[LayerDifference]:
    return [difference for difference in found if difference.aliases.isdisjoint(ignore)]


def _list_differences(found: Sequence[LayerDifference], advise: bool) -> str:
    if not found:
        return ""
    shown = found[:LISTED]
    parts = [f"{d.name} {d.text}" if d.text == "has no parameters" else f"{d.name}: {d.text}" for d in shown]
    if len(found) > LISTED:
        parts.append(f"and {len(found) - LISTED} more")
    if advise and all(d.counts for d in found):
        leave = tuple(_find_shortest_alias(d, found) for d in shown)
        parts.append(f"ignore={leave!r} leaves {'it' if len(leave) == 1 else 'them'} out")
    return "; ".join(parts)


def _find_shortest_alias(difference: LayerDifference, found: Sequence[LayerDifference]) -> str:
    """The last part of its name where it names this difference alone, else the full name."""
    last = _split(difference.name)[1]
    alone = sum(last in other.aliases for other in found) == 1
    return last if alone and last in difference.aliases else difference.name


def _split(name: str) -> tuple[str, str]:
    """(layer, last part) of a name."""
    layer, _, last = name.rpartition(".")
    return layer, last
