"""Checkpoints of a run in progress: one file, written whole or not at all, from which it goes on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mechconn.core import UnusableFileError, check_count, hash_content, read_with_note, remove_drafts, write_safetensors

CHECKPOINT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Where a run writes down how far it is, and how often.

    A run that finds the file resumes from it and ends bit-identical to an uninterrupted one (same
    machine, same number of threads). A file that another run wrote is refused and stays as it is; so does the last
    one when a loss becomes infinite or NaN. A run is identified by its settings, their start, what is
    frozen, all targets, groups and the inputs of each source's first batch; functions (loss, transform) are not
    compared. `DFR`, `Pro2` and `AFR`, which take no steps, write none.

    Attributes:
        file: a .safetensors file; weights, the optimiser's state, the history so far. It stays when the run is done,
            so that the same call returns at once.
        every: iterations between two writings; the end of a run is always written.
    """

    file: str | Path
    every: int = 100

    def __post_init__(self) -> None:
        check_count("every", self.every)
        if not Path(self.file).parent.is_dir():
            raise FileNotFoundError(
                f"the checkpoint {self.file} cannot be written: its folder does not exist; make it first"
            )


@dataclass
class RunState:
    """How far a run is: what a checkpoint holds.

    Attributes:
        part: number of the descent, for methods that make several.
        epoch: epochs done in it.
        offset: iterations done in the epoch under way.
        sums: sums of the epoch's loss terms over rows.
        rows: rows that the epoch has seen.
        history: records of the epochs done, of all parts.
        best: least loss on validation data so far, and its epoch.
        state: weights and buffers of what is trained, and tensors of the optimiser, by name.
        kept: what objectives remember.
        chosen: weights and buffers at the best epoch.
        orders: states of the loaders' own generators when the epoch began.
        optimizer: plain values of the optimiser's state; empty for SGD.
        kernels: whether training steps use the library's convolutions; None where that was not decided.
    """

    part: int = 0
    epoch: int = 0
    offset: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float, int] | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    chosen: dict[str, Tensor] = field(default_factory=dict)
    orders: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    kernels: bool | None = None


PLAIN = ("part", "epoch", "offset", "sums", "rows", "history")
GROUPS = ("state", "kept", "chosen", "orders")


@dataclass(frozen=True, eq=False)
class CheckpointFile:
    """Reads and writes the checkpoint of one run, which `identity` tells from others."""

    checkpoint: Checkpoint
    identity: str

    def read(self) -> RunState | None:
        """How far the run is; None where nothing was written yet. What a killed run half wrote is removed.

        Raises:
            UnusableFileError: the file is damaged, or another run wrote it; a ValueError.
        """
        file = Path(self.checkpoint.file)
        remove_drafts(file)
        if not file.is_file():
            return None
        tensors, note = read_with_note(file)
        if note.get("version") != CHECKPOINT_VERSION or note.get("identity") != self.identity:
            raise UnusableFileError(
                f"the checkpoint {file} was written by another run (other settings, start, data or version) and "
                "stays as it is; name another file, or delete it"
            )
        if note.pop("sha256", None) != compute_identity(note, sorted(tensors.items())):
            raise UnusableFileError(
                f"the checkpoint {file} was changed after it was written; delete it, and the run starts afresh"
            )
        state = RunState(**{name: note[name] for name in PLAIN})
        state.best = None if note["best"] is None else (float(note["best"][0]), int(note["best"][1]))
        state.optimizer, state.kernels = note.get("optimizer", {}), note.get("kernels")
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            getattr(state, group)[rest] = tensor
        return state

    def write(self, state: RunState) -> None:
        """Write it whole, with a hash of its content; the file before stays until then."""
        tensors = {f"{group}/{name}": t.cpu() for group in GROUPS for name, t in getattr(state, group).items()}
        plain = {name: getattr(state, name) for name in PLAIN}
        note = {"version": CHECKPOINT_VERSION, "identity": self.identity, "best": state.best, **plain}
        note |= {"optimizer": state.optimizer} if state.optimizer else {}
        note |= {} if state.kernels is None else {"kernels": state.kernels}
        content = compute_identity(note, sorted(tensors.items()))
        write_safetensors(Path(self.checkpoint.file), tensors, {**note, "sha256": content})


def compute_identity(settings: Mapping[str, Any], tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of what a run depends on: its settings, and tensors such as its start and its targets."""
    named = (part for name, tensor in tensors for part in (name, tensor))
    return hash_content([json.dumps(settings, sort_keys=True, default=str), *named])
