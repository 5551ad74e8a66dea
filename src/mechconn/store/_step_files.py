"""A finished step as files: record.json, and a .safetensors file for each group of tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from mechconn.core import hash_values, read_environment, sha256, to_canonical_json
from mechconn.store._sealed import DamagedError, StepRecord, open_step, seal
from mechconn.store._step_identity import StepIdentity, StepInput

RECORD, SUFFIX = "record.json", ".safetensors"


@dataclass(frozen=True, eq=False)
class StepOutput:
    """What a step's computation gives: numbers, and groups of named tensors, each of which becomes a file."""

    numbers: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StoredStep:
    """A finished step as it was read from the disk, every hash checked.

    Attributes:
        record: what was done, and its numbers.
        tensors: group -> named tensors on the CPU.
        computed: whether this call had to compute it.
    """

    record: StepRecord
    tensors: Mapping[str, dict[str, Tensor]]
    computed: bool = False

    @property
    def numbers(self) -> dict[str, Any]:
        """The step's numbers."""
        return self.record.numbers

    @property
    def input(self) -> StepInput:
        """This step as the input of another: its key, and the hash of what came out."""
        content = sorted(self.record.files.items()) or self.record.numbers
        return StepInput(hash_values(content), self.record.key)


def make_step_files(step: StepIdentity, made: StepOutput, seconds: float, device: str) -> dict[str, bytes]:
    """What a finished step consists of: name -> bytes.

    The files are made in memory and written by ourselves, so that a full disk is an OSError and the hashes are known.

    Raises:
        ValueError: the numbers hold NaN or infinity.
        TypeError: they hold what JSON cannot.
    """
    files = {f"{name}{SUFFIX}": _serialise_tensors(tensors) for name, tensors in made.tensors.items()}
    record = StepRecord(
        key=step.key,
        step=step.name,
        code_version=step.version,
        config=json.loads(to_canonical_json(dict(step.config))),
        inputs={name: {"sha256": given.sha256, "key": given.key} for name, given in step.inputs.items()},
        threads=step.threads,
        numbers=_read_back(step.name, made.numbers),
        files={name: sha256(data) for name, data in files.items()},
        seconds=seconds,
        environment=read_environment(device),
    )
    return {**files, RECORD: seal(record.model_dump(mode="json"))}


def read_step(folder: Path) -> StoredStep:
    """A step from its folder, which has its key for a name.

    Raises:
        FileNotFoundError: there is no such folder.
        DamagedError: it holds something else than was written.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        record = open_step((folder / RECORD).read_bytes())
        tensors = {name.removesuffix(SUFFIX): _read_checked_tensors(folder / name, record) for name in record.files}
    except OSError as error:
        raise DamagedError(f"{Path(str(error.filename)).name}: {error.strerror}") from error
    if record.key != folder.name:
        raise DamagedError(f"{RECORD} is that of another step")
    return StoredStep(record, tensors)


def _read_back(name: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers as they will be read, in the order that they were given in."""
    try:
        return json.loads(json.dumps(dict(numbers), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"the numbers of step {name!r} cannot be stored ({error}); pass StepOutput(mechconn.core.to_plain(numbers))"
        ) from error


def _serialise_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _read_checked_tensors(file: Path, record: StepRecord) -> dict[str, Tensor]:
    """The tensors of a file, once its hash is that of the record."""
    data = file.read_bytes()
    if sha256(data) != record.files[file.name]:
        raise DamagedError(f"{file.name} is cut short or was changed ({len(data)} bytes)")
    return safetensors.torch.load(data)
