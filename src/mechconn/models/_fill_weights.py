"""Putting tensors from a file into a model: prefixes of wrappers, tied weights, number types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mechconn.core import describe_tensor
from mechconn.network import check_initialised

Note = Callable[[str], object]

COMPILED = "_orig_mod."
"""What torch.compile puts before the names of whatever it wraps, on the outside or within."""
WRAPPERS = ("module.", "model.")
"""What DataParallel and trainers put before all names."""


@dataclass(frozen=True)
class StrippedNames:
    """Names after prefixes were taken off: the shorter name -> the whole one, and what was removed."""

    whole: Mapping[str, str]
    removed: tuple[str, ...]


def fill_weights(model: nn.Module, tensors: Mapping[str, Tensor], file: str, note: Note) -> None:
    """Put `tensors` into `model` in place, name by name.

    Raises:
        ValueError: names are missing or unexpected, or tensors do not fit; all of them are listed.
    """
    own = {name: t for name, t in model.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    _check_data(own)
    ties = _find_ties(own)
    source = _match_names(file, tensors, own, ties, note)
    values = {name: tensors[source[name]] for name in source}
    _check_shapes_and_types(file, own, values)
    _check_ties(file, ties, values)
    _note_casts(file, own, values, note)
    for group in ties:
        given = next((name for name in group if name in values), None)
        if given is not None:
            values |= dict.fromkeys(group, values[given])
    model.load_state_dict(values, strict=False)


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


def _match_names(
    file: str, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], ties: list[tuple[str, ...]], note: Note
) -> dict[str, str]:
    """The model's name -> the file's name of each tensor, with as few prefixes removed as make all names match."""
    best: tuple[list[str], list[str]] | None = None
    for mine in _iterate_stripped(own):
        groups = [{short for short, whole in mine.whole.items() if whole in group} for group in ties]
        for theirs in _iterate_stripped(tensors):
            missing = [sorted(group) for group in groups if not group & theirs.whole.keys()]
            # Counters of batches, which older versions did not save, are used by no forward pass.
            counters = [names for names in missing if all(name.endswith("num_batches_tracked") for name in names)]
            absent = [name for names in missing if names not in counters for name in names]
            unexpected = [name for name in theirs.whole if name not in mine.whole]
            if not absent and not unexpected:
                _note_names(file, mine, theirs, len(counters), note)
                return {mine.whole[name]: theirs.whole[name] for name in theirs.whole}
            if best is None or len(absent) + len(unexpected) < len(best[0]) + len(best[1]):
                best = absent, unexpected
    assert best is not None
    raise explain_other_names(file, *best)


def _iterate_stripped(names: Mapping[str, Tensor]) -> Iterator[StrippedNames]:
    """The names as they are, then with ever more of the prefixes that wrappers leave taken off."""
    whole, removed = {name: name for name in names}, ()
    yield StrippedNames(whole, removed)
    short = {name.replace(COMPILED, ""): name for name in names}
    if len(short) == len(whole) and short != whole:
        whole, removed = short, (COMPILED,)
        yield StrippedNames(whole, removed)
    while prefix := next((p for p in WRAPPERS if whole and all(name.startswith(p) for name in whole)), None):
        whole, removed = {short.removeprefix(prefix): name for short, name in whole.items()}, (*removed, prefix)
        yield StrippedNames(whole, removed)


def _note_names(file: str, mine: StrippedNames, theirs: StrippedNames, counters: int, note: Note) -> None:
    for where, names in ((file, theirs), ("the model", mine)):
        if names.removed:
            note(f"removed {', '.join(map(repr, names.removed))} from the names in {where}")
    if counters:
        note(f"{file} lacks {counters} num_batches_tracked; they stay as the model has them")


def _check_shapes_and_types(file: str, own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Raise unless all shapes are equal and types are, but for floating point of another width."""
    differences = []
    for name, got in values.items():
        wanted = own[name]
        alike = got.dtype == wanted.dtype or (got.is_floating_point() and wanted.is_floating_point())
        if got.shape != wanted.shape or not alike:
            differences.append(f"{name} {describe_tensor(got)} against {describe_tensor(wanted)}")
    if differences:
        raise ValueError(
            f"the tensors in {file} do not fit the model: {', '.join(differences)}; build the model that was saved"
        )


def _check_ties(file: str, ties: list[tuple[str, ...]], values: Mapping[str, Tensor]) -> None:
    for group in ties:
        given = [name for name in group if name in values]
        if any(not torch.equal(values[given[0]], values[name]) for name in given[1:]):
            raise ValueError(
                f"{file}: {' and '.join(given)} are one tensor in the model but differ in the file; build a model "
                "that does not tie them"
            )


def _note_casts(file: str, own: Mapping[str, Tensor], values: Mapping[str, Tensor], note: Note) -> None:
    casts = Counter((got.dtype, own[name].dtype) for name, got in values.items() if got.dtype != own[name].dtype)
    for (got, wanted), count in casts.items():
        note(f"{count} tensors of {file} are {_describe_type(got)} there and {_describe_type(wanted)} in the model")


def _describe_type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def explain_other_names(file: object, missing: Sequence[str], unexpected: Sequence[str]) -> ValueError:
    """The error of tensors whose names are not those of the model."""
    lists = [", ".join(names) or "none" for names in (missing, unexpected)]
    return ValueError(
        f"the names in {file} and those of the model do not match: missing {lists[0]}; unexpected {lists[1]}"
    )
