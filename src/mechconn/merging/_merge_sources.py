"""What is merged: the weights of several networks in files or folders, and whether they are of one architecture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mechconn.core import collect_errors
from mechconn.merging._shard_writer import TYPES
from mechconn.models import StoredTensor, is_adapter_folder, open_stored_tensors

SHOWN = 8
PART = 1 << 21
"""Entries that are held of a tensor at a time, where parts do."""
COUNTER = "num_batches_tracked"
STATISTICS = ("running_mean", "running_var")
"""What layers of normalisation call the statistics that they keep."""
BOOKKEEPING = re.compile(
    r"_name_or_path|transformers_version|(torch_)?dtype|use_cache|\w*drop\w*|initializer\w*|problem_type"
    r"|finetuning_task|gradient_checkpointing|_\w+|output_(attentions|hidden_states)|return_dict\w*|label2id|id2label"
)
"""Keys of config.json that say nothing of what the network computes in evaluation mode, but for the labels."""
NOTED = re.compile(r"\w*_token_id|task_specific_params|pretraining_tp")
"""Keys of config.json that networks of one architecture may differ in."""
GENERIC = re.compile(r"LABEL_\d+")


@dataclass(frozen=True, eq=False)
class MergeSource:
    """One network in a file or folder.

    Attributes:
        name: what it is called.
        path: the file or folder.
        tensors: those of its weights by name, none of which is read.
        config: its config.json; None where it has none.
    """

    name: str
    path: Path
    tensors: Mapping[str, StoredTensor]
    config: Mapping[str, Any] | None


@dataclass
class Comparison:
    """What several sources have in common.

    Attributes:
        names: of the tensors that are merged, in the first one's order.
        copied: names of the tensors that are the first one's, such as counters.
        statistics: names of normalisation statistics, which are no parameters.
        notes: differences that do not stand in the way.
        mistakes: those that do, a line each.
    """

    names: list[str] = field(default_factory=list)
    copied: set[str] = field(default_factory=set)
    statistics: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)


def open_sources(paths: Mapping[str, Path], key: str | None, note: Callable[[str], object]) -> list[MergeSource]:
    """All sources; mistakes in any of them are reported together.

    Raises:
        ValueError, FileNotFoundError: as `open_stored_tensors` raises, an adapter, quantised weights, or no config.
    """
    return collect_errors(*(lambda n=name, p=path: _open_source(n, p, key, note) for name, path in paths.items()))


def _open_source(name: str, path: Path, key: str | None, note: Callable[[str], object]) -> MergeSource:
    if is_adapter_folder(path):
        raise ValueError(
            f"{path} is an adapter, whose factors cannot be mixed tensor by tensor; merge adapters as networks: "
            "mc.merge({name: mc.load_model(folder, base=...)}, ...), or mechconn merge with --data"
        )
    config = _read_config(path)
    if config is not None and isinstance(method := config.get("quantization_config"), dict):
        raise ValueError(
            f"the weights in {path} are quantised ({method.get('quant_method', 'unknown method')}), and merging is done"
            " in floating point; pass the model before quantisation, or dequantise it where it was made"
        )
    return MergeSource(name, path, open_stored_tensors(path, note, key), config)


def _read_config(path: Path) -> Mapping[str, Any] | None:
    file = path / "config.json"
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); copy it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold a table of settings, got a {type(found).__name__}; copy it again")
    return found


def compare_sources(sources: list[MergeSource]) -> Comparison:
    """Whether the sources can be merged tensor by tensor onto the first one."""
    found = Comparison()
    first, *others = sources
    left_out = set[str]()
    for other in others:
        left_out |= _compare_names(first, other, found)
    shared = [name for name in first.tensors if all(name in other.tensors for other in others)]
    found.names = [name for name in shared if name not in left_out]
    for other in others:
        _compare_shapes(first, other, found)
        _compare_configs(first, other, found)
        _compare_tokenizers(first, other, found)
    found.mistakes += _list_unknown_types(first, found.names)
    if not found.mistakes:
        found.copied = {name for name in found.names if not _is_number(first.tensors[name])}
        found.mistakes += _list_unequal(first, others, found.copied)
        kept = [name for name in found.names if name.rpartition(".")[2] in STATISTICS and name not in found.copied]
        found.statistics = set(kept)
        if kept:
            found.notes.append(
                f"{first.name} keeps normalisation statistics ({_show(kept)}), which are the means of the parents' "
                "and do not fit the merged network: they must be re-estimated; with --data and [norm] they are "
                "measured anew"
            )
    return found


def _list_unknown_types(first: MergeSource, names: list[str]) -> list[str]:
    """A line where tensors are of types that cannot be written."""
    unknown = [f"{name} {_describe(first.tensors[name])}" for name in names if first.tensors[name].dtype not in TYPES]
    if not unknown:
        return []
    known = ", ".join(str(kind).removeprefix("torch.") for kind in TYPES)
    return [
        f"{first.name} ({first.path}) holds tensors of types that cannot be merged: {_show(unknown)}; save them as one "
        f"of {known}"
    ]


def _compare_names(first: MergeSource, other: MergeSource, found: Comparison) -> set[str]:
    """Report names that one of both lacks; those of tensors that are stored twice in the other are left out."""
    missing = [name for name in first.tensors if name not in other.tensors]
    unexpected = [name for name in other.tensors if name not in first.tensors]
    twice = set[str]()
    for own, names in ((first, missing), (other, unexpected)):
        for name in list(names):
            if (twin := _find_twin(own, first if own is other else other, name)) is not None:
                names.remove(name)
                twice.add(name)
                found.notes.append(f"{name} of {own.name} equals its {twin}; it is stored once, as in the others")
    if missing or unexpected:
        found.mistakes.append(
            f"{other.name} ({other.path}) has other tensors than {first.name}: missing {_show(missing)}; unexpected "
            f"{_show(unexpected)}; all must be of one architecture"
        )
    return twice


def _find_twin(own: MergeSource, other: MergeSource, name: str) -> str | None:
    """Another name under which the same tensor is stored, as of tied weights, and that the other network has too.

    Tensors of one value throughout, such as biases at their start, may be equal without being tied: of these only those
    are, that are stored in one place.
    """
    tensor = own.tensors[name]
    alike = [n for n, t in own.tensors.items() if n != name and (t.shape, t.dtype) == (tensor.shape, tensor.dtype)]
    alike = [twin for twin in alike if twin in other.tensors]
    are_tied = _share_memory if alike and _is_constant(tensor) else _are_equal
    return next((twin for twin in alike if are_tied(tensor, own.tensors[twin])), None)


def _share_memory(a: StoredTensor, b: StoredTensor) -> bool:
    """Whether both are one run of numbers in the file, as torch.save keeps tied weights."""
    read = a.read(), b.read()
    return read[0].data_ptr() == read[1].data_ptr()


def _is_constant(tensor: StoredTensor) -> bool:
    """Whether all entries have one value; of none they do."""
    first = tensor.read_entries(0, 1)
    return all(bool((tensor.read_entries(*part) == first).all()) for part in list_parts(tensor.count))


def list_parts(count: int) -> Iterator[tuple[int, int]]:
    """(first entry, entry behind the last) of the parts of a tensor."""
    return ((first, min(first + PART, count)) for first in range(0, max(count, 1), PART))


def _are_equal(a: StoredTensor, b: StoredTensor) -> bool:
    return all(torch.equal(a.read_entries(*part), b.read_entries(*part)) for part in list_parts(a.count))


def _is_number(tensor: StoredTensor) -> bool:
    return tensor.dtype.is_floating_point


def _compare_shapes(first: MergeSource, other: MergeSource, found: Comparison) -> None:
    wrong, types = [], set[tuple[str, str]]()
    for name in found.names:
        a, b = first.tensors[name], other.tensors[name]
        if a.shape != b.shape or (a.dtype != b.dtype and not (_is_number(a) and _is_number(b))):
            wrong.append(f"{name} {_describe(b)} against {_describe(a)}")
        elif a.dtype != b.dtype:
            types.add((_show_type(b), _show_type(a)))
    if wrong:
        found.mistakes.append(
            f"{other.name} ({other.path}) has other shapes or types than {first.name}: {_show(wrong)}; all must be of "
            "one architecture"
        )
    found.notes += [
        f"{other.name} is {b} and {first.name} {a}; the result is rounded once, to {a}" for b, a in sorted(types)
    ]


def _list_unequal(first: MergeSource, others: list[MergeSource], names: set[str]) -> list[str]:
    """A line for each source whose integers, which cannot be merged, are not the first one's; counters aside."""
    compared = [name for name in first.tensors if name in names and not name.endswith(COUNTER)]
    lines = []
    for other in others:
        unlike = [name for name in compared if not _are_equal(first.tensors[name], other.tensors[name])]
        if unlike:
            lines.append(
                f"{other.name} ({other.path}) and {first.name} hold different integers: "
                f"{_show([f'{name} {_describe(first.tensors[name])}' for name in unlike])}; integers cannot be merged: "
                "dequantise the weights where they were made, or save them without these"
            )
    return lines


def _compare_configs(first: MergeSource, other: MergeSource, found: Comparison) -> None:
    if first.config is None or other.config is None:
        if first.config is not other.config:
            has, lacks = (first, other) if other.config is None else (other, first)
            found.notes.append(f"{lacks.path} has no config.json, and {has.path} has one")
        return
    a, b = _flatten(first.config), _flatten(other.config)
    wrong, noted = [], []
    for name in a.keys() | b.keys():
        key = name.rpartition(".")[2]
        if BOOKKEEPING.fullmatch(key) or name.startswith(("id2label.", "label2id.")) or a.get(name) == b.get(name):
            continue
        shown = f"{name} is {_say(b, name)} against {_say(a, name)}"
        (noted if NOTED.fullmatch(key) or not (name in a and name in b) else wrong).append(shown)
    told = f"config.json of {other.name} ({other.path}) differs from that of {first.name}"
    if wrong:
        found.mistakes.append(f"{told}: {_show(sorted(wrong))}; all must be of one architecture")
    if noted:
        found.notes.append(f"{told}: {_show(sorted(noted))}; {first.name}'s is written")
    _compare_labels(first, other, found)


def _compare_labels(first: MergeSource, other: MergeSource, found: Comparison) -> None:
    """The names of the outputs, where both have names of their own."""
    assert first.config is not None and other.config is not None
    a, b = (list(config.get("id2label", {}).values()) for config in (first.config, other.config))
    if a == b or not a or not b:
        return
    if all(GENERIC.fullmatch(str(label)) for label in a) or all(GENERIC.fullmatch(str(label)) for label in b):
        found.notes.append(f"outputs of {first.name} and {other.name} have other names; {first.name}'s are written")
        return
    found.mistakes.append(
        f"outputs of {other.name} ({other.path}) stand for {_show(b)}, and those of {first.name} for {_show(a)}; bring "
        "both heads into one order (id2label in config.json, rows of the head)"
    )


def _flatten(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flatten(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def _compare_tokenizers(first: MergeSource, other: MergeSource, found: Comparison) -> None:
    """A note where words have other numbers, as far as the files tell."""
    unlike = []
    for name in ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model"):
        a, b = first.path / name, other.path / name
        if a.is_file() and b.is_file() and _read_words(a) != _read_words(b):
            unlike.append(name)
    if unlike:
        found.notes.append(
            f"the tokenizers of {other.name} and {first.name} differ ({', '.join(unlike)}); {first.name}'s is written, "
            "and rows of embeddings may stand for other words"
        )


def _read_words(file: Path) -> Any:
    """What decides the numbers of words in a file of a tokenizer."""
    content = file.read_bytes()
    if file.name != "tokenizer.json":
        return content
    try:
        told = json.loads(content)
        return [told.get(key) for key in ("model", "added_tokens", "normalizer", "pre_tokenizer")]
    except (ValueError, AttributeError):
        return content


def _say(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "not there"


def _show_type(tensor: StoredTensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _describe(tensor: StoredTensor) -> str:
    return f"{_show_type(tensor)}{list(tensor.shape)}"


def _show(names: list[str]) -> str:
    shown = ", ".join(map(str, names[:SHOWN])) or "none"
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
