"""Merging networks on disk: tensors are read and written one at a time, and no network is built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn.core import Compute, Progress, check_is, collect_errors, draft_folder, log, note_drafts, resolve_compute
from mechconn.core import check_new_folder as check_target
from mechconn.merging._far_base import describe_far_base, measure_square
from mechconn.merging._merge_method import TensorMerge, check_has_base, merge_checked, prepare_method
from mechconn.merging._merge_sources import Comparison, MergeSource, compare_sources, list_parts, open_sources
from mechconn.merging._merged_files import copy_further_files, name_type
from mechconn.merging._save_record import describe_parents, write_record
from mechconn.merging._shard_writer import ShardWriter, TensorShape, read_size, write_entries
from mechconn.network import compute_weighted_mean

BASE = "base"


@dataclass(frozen=True)
class MergedFolder:
    """A merged network on disk, and how it was made.

    Attributes:
        folder: where it is.
        method: what `method.describe()` gave.
        parents: their names.
        files: names of the files in the folder.
        tensors: how many there are.
        parameters: how many entries they have.
        notes: differences between the parents, and what was done about them.
    """

    folder: Path
    method: Mapping[str, Any]
    parents: tuple[str, ...]
    files: tuple[str, ...]
    tensors: int
    parameters: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """What was written, and the notes."""
        told = ", ".join(
            f"{key} {value}" for key, value in self.method.items() if key != "method" and value is not None
        )
        name = self.method.get("method", "a method of your own")
        how = f"{name} ({told})" if told else str(name)
        first = (
            f"{self.folder}: {' and '.join(self.parents)} merged by {how}; {self.parameters:,} parameters in "
            f"{self.tensors} tensors"
        )
        return "\n".join([first, *(f"- {note}." for note in self.notes)])


def merge_folders(
    folders: Mapping[str, str | Path],
    method: TensorMerge,
    out: str | Path,
    *,
    base: str | Path | None = None,
    files_from: str | None = None,
    key: str | None = None,
    shard_size: int | str = "5GB",
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> MergedFolder:
    """Merge the weights in several folders or files into a new folder, tensor by tensor; nothing is judged.

    One tensor of each parent is in memory at a time, or a part of it where the method works entry by entry
    (`TensorMerge.is_entrywise`), and each file is written as its tensors are made. Files are told by their content,
    as in `load_model`, and run no code. The folder appears whole or not at all; of a run that is killed a draft,
    `.NAME.` and eight letters, stays beside it, and the next run notes it. It holds the weights in the first
    parent's number type (`model.safetensors`, or shards with their index), the first parent's configuration and
    tokenizer, and `mechconn_merge.json`: the method, and the parents with SHA-256. `mc.load_model(out)` and
    Transformers read it.

    Tensors that a parent stores under two names, and the others under one, are stored once. Integers are copied where
    all parents have the same, and counters of BatchNorm are the first parent's. Parents of other number types are
    merged in the widest one, and the result is rounded once. Normalisation statistics (`running_mean`, `running_var`)
    are no parameters: the method sees none of them, and they become the mean of the parents', by their weights in
    `Mean` and `SLERP`, else all alike. They do not fit the merged network, with a note: `mc.merge` measures them anew.

    Args:
        folders: name -> the folder or file of each parent; two or more.
        method: how each tensor is merged.
        out: the new folder; it may be there if it is empty.
        base: the folder or file of what the parents were fine-tuned from, for methods that merge changes. With it a
            note tells which parent lies farther from the base than from another parent.
        files_from: the parent whose configuration and tokenizer are copied; default: the first.
        key: which state of a file is read where it holds several.
        shard_size: the most bytes of a file of weights, as a number or a text such as "2GB"; a larger tensor has a
            file of its own.
        seed: of every random choice of the method.
        progress: called with a `ProgressEvent` for every tensor; True draws a bar.

    Raises:
        FileNotFoundError: a parent is not there.
        ValueError: fewer than two parents, one of them twice, no base where the method needs one, parents of other
            architectures, other names, shapes or integers, quantised weights or adapters, or `out` holds something;
            all mistakes of the parents are told, a line each.
        TypeError: a method that needs whole networks or data: use `mc.merge`.

    Example:
        >>> import tempfile
        >>> from safetensors.torch import load_file, save_file
        >>> from mechconn.merging import Mean
        >>> with tempfile.TemporaryDirectory() as place:
        ...     for name, value in (("a", 1.0), ("b", 5.0)):
        ...         save_file({"w": torch.tensor([value])}, f"{place}/{name}.safetensors")
        ...     paths = {name: f"{place}/{name}.safetensors" for name in ("a", "b")}
        ...     merged = merge_folders(paths, Mean(), f"{place}/merged")
        ...     load_file(f"{place}/merged/model.safetensors")["w"]
        tensor([3.])
    """
    target, compute = Path(out), resolve_compute(None, None, progress)
    paths, limit, *_ = collect_errors(
        lambda: _check_paths(folders, base),
        lambda: read_size(shard_size),
        lambda: _check_method(method, base),
        lambda: check_target(target),
        lambda: _check_named(folders, files_from),
    )
    notes: list[str] = []
    sources = open_sources(paths, key, notes.append)
    found = compare_sources(sources)
    if found.mistakes:
        raise ValueError("\n".join(found.mistakes))
    merge = _Merge(
        method, sources if base is None else sources[:-1], None if base is None else sources[-1], seed, found
    )
    first = sources[0]
    shapes = {name: TensorShape(first.tensors[name].shape, first.tensors[name].dtype) for name in found.names}
    with draft_folder(target) as draft:
        writer = ShardWriter(draft, shapes, limit)
        _write_tensors(merge, writer, compute)
        notes += [*found.notes, *merge.list_distances()]
        copy_further_files(paths[files_from or first.name], draft)
        name_type(draft, [own.dtype for own in shapes.values()])
        write_record(draft, target, method.describe(), describe_parents(paths, base is not None), seed, notes)
        files = tuple(sorted(file.name for file in draft.iterdir()))
    notes += note_drafts(target)
    for note in notes:
        log(note)
    count = sum(own.count for own in shapes.values())
    return MergedFolder(target, method.describe(), tuple(folders), files, len(shapes), count, tuple(notes))


def _check_paths(folders: Mapping[str, str | Path], base: str | Path | None) -> dict[str, Path]:
    """Name -> path of every parent, and of the base behind them."""
    check_is("folders", folders, Mapping, "; write {name: folder, ...}")
    if len(folders) < 2:
        raise ValueError(f"merging needs two parents or more, got {len(folders)}; pass {{name: folder, ...}}")
    paths = {str(name): Path(path) for name, path in folders.items()}
    places: dict[Path, str] = {}
    for name, path in paths.items():
        if (twin := places.setdefault(path.resolve(), name)) != name:
            raise ValueError(
                f"{twin} and {name} are one folder, {path}; pass each parent once, and weights where one should count "
                "more"
            )
    if base is None:
        return paths
    if BASE in paths:
        raise ValueError(f"a parent is called {BASE!r}, as what the parents came from; give it another name")
    return paths | {BASE: Path(base)}


def _check_method(method: TensorMerge, base: str | Path | None) -> None:
    hint = "; a method that needs whole networks or data merges modules: mc.merge(models, method, suite)"
    check_is("method", method, TensorMerge, hint)
    check_has_base(method, base is not None)


def _check_named(folders: Mapping[str, Any], name: str | None) -> None:
    if name is not None and name not in folders:
        raise ValueError(f"files_from must name a parent, one of {', '.join(map(repr, folders))}, got {name!r}")


@dataclass
class _Merge:
    """A merge on its way: what is read, and how far its parents lie apart."""

    method: TensorMerge
    parents: list[MergeSource]
    base: MergeSource | None
    seed: int
    found: Comparison
    squares: dict[tuple[str, str], float] = field(default_factory=dict)

    def prepare(self) -> None:
        """Let the method read what it must know of all tensors."""
        self.method = prepare_method(self.method, self._iterate)

    def write_tensor(self, name: str, out: FileIO) -> None:
        """Merge one tensor, part by part where the method allows, and write it."""
        if name in self.found.copied:
            write_entries(out, self.parents[0].tensors[name].read())
            return
        for parents, base in self._read(name):
            if name in self.found.statistics:
                write_entries(out, self._round(name, self._average(parents)))
                continue
            if base is not None:
                self._measure(parents | {BASE: base})
            write_entries(out, self._round(name, merge_checked(self.method, name, parents, base, self.seed)))

    def _iterate(self) -> Iterator[tuple[str, Mapping[str, Tensor], Tensor | None]]:
        for name in self.found.names:
            if name not in self.found.copied | self.found.statistics:
                yield from ((name, parents, base) for parents, base in self._read(name))

    def _read(self, name: str) -> Iterator[tuple[dict[str, Tensor], Tensor | None]]:
        """(parent -> its tensor, the base's): one after the other their parts where the method works entry by entry."""
        own = self.parents[0].tensors[name]
        sources = [*self.parents, *([] if self.base is None else [self.base])]
        kinds = {source.tensors[name].dtype for source in sources}
        wide = own.dtype if len(kinds) == 1 else torch.float64 if torch.float64 in kinds else torch.float32
        entrywise = self.method.is_entrywise() or name in self.found.statistics
        for part in list_parts(own.count) if entrywise else [(0, own.count)]:
            shape = (part[1] - part[0],) if entrywise else own.shape
            read = [source.tensors[name].read_entries(*part).reshape(shape).to(wide) for source in sources]
            base = None if self.base is None else read.pop()
            yield {source.name: tensor for source, tensor in zip(self.parents, read, strict=True)}, base

    def _average(self, parents: Mapping[str, Tensor]) -> Tensor:
        """The mean of the parents' statistics, by their weights in the merged network."""
        shares = self.method.share_parents(list(parents))
        points = [{"": tensor} for tensor in parents.values()]
        return compute_weighted_mean(points, [shares[parent] for parent in parents])[""]

    def _round(self, name: str, merged: Tensor) -> Tensor:
        """In the first parent's number type.

        Raises:
            ValueError: an entry that is finite lies outside of what that type holds.
        """
        kind = self.parents[0].tensors[name].dtype
        rounded = merged.to(kind)
        if merged.dtype != kind and bool((rounded.isinf() & merged.isfinite()).any()):
            shown = str(kind).removeprefix("torch.")
            raise ValueError(
                f"{name} is up to {float(merged.abs().max()):.3g} in the merged network, more than {shown} of "
                f"{self.parents[0].name} holds; pass a parent of a wider type first"
            )
        return rounded

    def _measure(self, tensors: Mapping[str, Tensor]) -> None:
        for a, b in combinations(tensors, 2):
            square = measure_square(tensors[a], tensors[b])
            for way in ((a, b), (b, a)):
                self.squares[way] = self.squares.get(way, 0.0) + square

    def list_distances(self) -> list[str]:
        """A note for each parent that lies farther from the base than from another parent."""
        if self.base is None:
            return []
        names, notes = [source.name for source in self.parents], list[str]()
        for name in names:
            others = {other: math.sqrt(self.squares[name, other]) for other in names if other != name}
            notes += describe_far_base(name, math.sqrt(self.squares[name, BASE]), others)
        return notes


def _write_tensors(merge: _Merge, writer: ShardWriter, compute: Compute) -> None:
    total = len(writer.names)
    merge.prepare()
    for done, (name, opened) in enumerate(writer.open_tensors(), 1):
        merge.write_tensor(name, opened)
        compute.report("merging tensors", done, total)
