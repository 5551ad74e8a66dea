"""Putting tensors from a file into a model: prefixes of wrappers, tied weights, number types, versions."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import describe_tensor, isolate_rng
from mechconn.models._name_readings import UNUSED, Reading, choose_reading, list_common_prefixes
from mechconn.models._saved_states import EXTRA, Checkpoint
from mechconn.models._torch_files import StoredTensor
from mechconn.models._unfit_weights import check_kind, explain_names, explain_other_names, list_names
from mechconn.network import check_initialised, copy_module

Note = Callable[[str], object]


@dataclass(frozen=True)
class _Filling:
    """A model that is to be filled, and the reading of a file that fills it."""

    model: nn.Module
    own: Mapping[str, Tensor]
    ties: Sequence[tuple[str, ...]]
    file: Path
    reading: Reading

    @property
    def stored(self) -> dict[str, StoredTensor]:
        """The model's name -> the tensor in the file."""
        return {name: self.reading.state.tensors[theirs] for name, theirs in self.reading.source.items()}


def fill_weights(model: nn.Module, checkpoint: Checkpoint, key: str | None, note: Note) -> nn.Module:
    """The model with the tensors of a checkpoint, name by name; `model` is filled in place, or is left as it was.

    Raises:
        ValueError: no state fits, several do, or tensors do not fit; the nearest reading is described.
    """
    own = {name: t for name, t in model.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    _check_data(own)
    ties = _find_ties(own)
    filling = _Filling(model, own, ties, checkpoint.file, choose_reading(checkpoint, own, ties, key))
    error = _find_misfit(filling)
    if error is None:
        _note_reading(filling.reading, filling.reading.outside, checkpoint, note)
        _fill(filling, note)
        return model
    converted, reading = _convert(filling, note)
    if converted is None:
        raise error
    names = reading.theirs.whole
    _note_reading(reading, [names[n] for n in names if not n.startswith(reading.prefix)], checkpoint, note)
    return converted


def _check_data(own: Mapping[str, Tensor]) -> None:
    for name, tensor in own.items():
        check_initialised(name, tensor)
        if tensor.is_meta:
            raise ValueError(
                f"{name} of the model holds no data (it is on the device 'meta'); build the model on a device that "
                "computes"
            )


def _find_ties(own: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    """The names of each tensor, those of tied weights together."""
    groups: dict[int, list[str]] = {}
    for name, tensor in own.items():
        groups.setdefault(id(tensor), []).append(name)
    return [tuple(group) for group in groups.values()]


def _find_misfit(filling: _Filling) -> ValueError | None:
    """What keeps the reading from filling the model: other kinds of tensors, names, types or shapes."""
    reading, stored = filling.reading, filling.stored
    check_kind(filling.file, reading, filling.own)
    if reading.distance:
        return explain_names(filling.file, reading)
    problems = [f"{name} {tensor.problem}" for name, tensor in stored.items() if tensor.problem]
    if problems:
        raise ValueError(
            f"{filling.file} holds tensors that cannot be taken: {list_names(problems)}; save the whole state as plain "
            "tensors (full_state_dict) where it was made"
        )
    return _find_other_shapes(filling, stored)


def _find_other_shapes(filling: _Filling, stored: Mapping[str, StoredTensor]) -> ValueError | None:
    """Shapes must be equal and types too, but for floating point of another width."""
    differences = []
    for name, got in stored.items():
        wanted = filling.own[name]
        if got.shape != tuple(wanted.shape) or _differ_in_kind(got, wanted):
            differences.append(f"{name} {_show(got.dtype)}{list(got.shape)} against {describe_tensor(wanted)}")
    if not differences:
        return None
    return ValueError(
        f"the tensors in {filling.file} do not fit the model: {list_names(differences)}; build the model that was saved"
    )


def _differ_in_kind(got: StoredTensor | Tensor, wanted: Tensor) -> bool:
    return got.dtype != wanted.dtype and not (got.dtype.is_floating_point and wanted.dtype.is_floating_point)


def _fill(filling: _Filling, note: Note) -> None:
    values = _read(filling.model, filling.stored)
    _check_ties(filling, values)
    _note_casts(filling, values, note)
    for group in filling.ties:
        given = next((name for name in group if name in values), None)
        if given is not None:
            values |= dict.fromkeys(group, values[given])
    extra = _list_extra(filling.reading)
    missing, unexpected = _load(filling.model, values | extra, _list_versions(filling.model, filling.reading))
    if unexpected or not _are_unused(missing, filling.ties):
        raise explain_other_names(filling.file, missing, unexpected)
    if lacking := [name for name in missing if name.endswith(EXTRA)]:
        note(f"{filling.file} lacks {list_names(lacking)}; what these modules keep beside tensors stays as it is")


def _list_extra(reading: Reading) -> dict[str, Any]:
    """What modules kept beside tensors, under the names of the model."""
    short = {reading.theirs.shorten(name): value for name, value in reading.state.extra.items()}
    start = len(reading.prefix)
    return {reading.wrapper + name[start:]: v for name, v in short.items() if name.startswith(reading.prefix)}


def _are_unused(missing: Sequence[str], ties: Sequence[tuple[str, ...]]) -> bool:
    """Whether what a state lacks is needed by no forward pass, or is there under another name."""
    given = {name for group in ties if not set(group) <= set(missing) for name in group}
    return all(name in given or name.endswith((UNUSED, EXTRA)) for name in missing)


def _load(model: nn.Module, values: Mapping[str, Any], versions: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Put values into the model by its own rules; the names that are missing and unexpected afterwards."""
    state = OrderedDict(values)
    vars(state)["_metadata"] = OrderedDict(versions)
    try:
        with isolate_rng(0, "weights"):  # a rule of the model may build layers
            found = model.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"the model does not take the tensors that its names ask for ({why})") from error
    return list(found.missing_keys), list(found.unexpected_keys)


def _list_versions(model: nn.Module, reading: Reading) -> dict[str, Any]:
    """The versions in the file under the names of the model; the model's own where the file keeps none.

    Safetensors keeps none, and neither do dictionaries that were copied.
    """
    saved = reading.state.versions
    if saved is None:
        return dict(getattr(model.state_dict(), "_metadata", {}))
    short = {reading.theirs.shorten(f"{name}." if name else ""): version for name, version in saved.items()}
    own = {name: f"{name}." if name else "" for name, _ in model.named_modules(remove_duplicate=False)}
    found = {n: short.get(reading.prefix + reading.mine.shorten(own[n]).removeprefix(reading.wrapper)) for n in own}
    return {name: dict(version) for name, version in found.items() if isinstance(version, Mapping)}


def _convert(filling: _Filling, note: Note) -> tuple[nn.Module | None, Reading]:
    """The model filled by rules of its own for states of other versions, and how; None where it has none that fit."""
    reading = filling.reading
    if not _has_rules(filling.model):
        return None, reading
    prefixes = dict.fromkeys((reading.prefix, *list_common_prefixes(reading.theirs.whole)))
    for one in (replace(reading, prefix=prefix) for prefix in prefixes):
        converted = _try_rules(filling, one, note)
        if converted is not None:
            return converted, one
    return None, reading


def _try_rules(filling: _Filling, reading: Reading, note: Note) -> nn.Module | None:
    """A copy of the model, once its own rules have put all tensors under a prefix into it."""
    stored = {
        reading.wrapper + short.removeprefix(reading.prefix): reading.state.tensors[whole]
        for short, whole in reading.theirs.whole.items()
        if short.startswith(reading.prefix)
    }
    if any(tensor.problem for tensor in stored.values()):
        return None
    trial, values = copy_module(filling.model), _read(filling.model, stored)
    if any(_differ_in_kind(values[name], tensor) for name, tensor in filling.own.items() if name in values):
        return None
    _check_ties(filling, values)
    versions = {} if reading.state.versions is None else _list_versions(trial, reading)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            missing, unexpected = _load(trial, values | _list_extra(reading), versions)
        except ValueError:  # shapes that differ
            return None
    if unexpected or not _are_unused(missing, filling.ties):
        return None
    note(f"the names or shapes in {filling.file} were converted by the model's own _load_from_state_dict")
    for warning in told:
        note(str(warning.message).splitlines()[0])
    return trial


def _has_rules(model: nn.Module) -> bool:
    """Whether a module loads its state in a way of its own; torch's own modules only add counters."""
    hooks = [hook for m in model.modules() for hook in m._load_state_dict_pre_hooks.values()]
    rules = [type(m)._load_from_state_dict for m in model.modules()] + [getattr(hook, "hook", hook) for hook in hooks]
    return any(not str(getattr(rule, "__module__", "")).startswith("torch.") for rule in rules)


def _read(model: nn.Module, stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """The tensors; they lie in the file until they are copied, which a rule of the model's own need not do."""
    copies = _has_rules(model)
    return {name: tensor.read().clone() if copies else tensor.read() for name, tensor in stored.items()}


def _check_ties(filling: _Filling, values: Mapping[str, Tensor]) -> None:
    for group in filling.ties:
        given = [name for name in group if name in values]
        if any(not torch.equal(values[given[0]], values[name]) for name in given[1:]):
            raise ValueError(
                f"{filling.file}: {' and '.join(given)} are one tensor in the model but differ in the file; build a "
                "model that does not tie them"
            )


def _note_reading(reading: Reading, outside: Sequence[str], checkpoint: Checkpoint, note: Note) -> None:
    """Everything that the reading decided: which state, what was taken off its names, what was left."""
    file = checkpoint.file
    others = [state.key or "itself" for state in checkpoint.states if state is not reading.state]
    if others:
        note(f"{file} holds several states; {reading.state.key or 'itself'} is read, not read: {list_names(others)}")
    for where, removed in ((file, reading.removed), ("the model", reading.mine.removed)):
        if removed:
            note(f"removed {', '.join(map(repr, removed))} from the names in {where}")
    if outside:
        note(f"{len(outside)} tensors of {file} are no part of the model: {list_names(outside)}")
    if reading.counters:
        note(f"{file} lacks {reading.counters} num_batches_tracked; they stay as the model has them")
    if checkpoint.left_out:
        note(f"left out of {file}: {list_names(_list_objects(checkpoint.left_out))}")


def _list_objects(left_out: Mapping[str, str]) -> list[str]:
    """Where the objects of each class stand, the first of them by name."""
    keys: dict[str, list[str]] = {}
    for key, name in left_out.items():
        keys.setdefault(name, []).append(key)
    return [f"{of[0]}{f' and {len(of) - 1} more' if of[1:] else ''} ({name})" for name, of in keys.items()]


def _note_casts(filling: _Filling, values: Mapping[str, Tensor], note: Note) -> None:
    own = filling.own
    casts = Counter((got.dtype, own[name].dtype) for name, got in values.items() if got.dtype != own[name].dtype)
    for (got, wanted), count in casts.items():
        note(f"{count} tensors of {filling.file} are {_show(got)} there and {_show(wanted)} in the model")


def _show(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
