"""What the store keeps as JSON: one record for each step, and one for each run."""

from __future__ import annotations

import json
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from mechconn.core import Environment, Picture, Record, hash_values

STORE_VERSION = 1
"""Of the records below; raised, with a way to read the old ones, when a field changes its meaning."""

RunStatus = Literal["running", "done", "failed", "stopped"]


class StepRecord(Record):
    """One finished step.

    Attributes:
        step, code_version, config, inputs, threads: what its key is made from; inputs by name as {sha256, key}.
        numbers: what came out, beside the tensors.
        files: name -> SHA-256 of each file of tensors.
        seconds: wall-clock time of the computation.
    """

    schema_version: Literal[1] = STORE_VERSION
    kind: Literal["step"] = "step"
    key: str
    step: str
    code_version: int
    config: dict[str, Any]
    inputs: dict[str, dict[str, str | None]]
    threads: int | None
    numbers: dict[str, Any]
    files: dict[str, str]
    seconds: float
    environment: Environment


class CellRecord(Record):
    """One cell of an experiment: its place, and how it came about.

    Attributes:
        name: the key of its numbers in `RunRecord.results`.
        seed: of everything that is drawn in it.
        dataset, proportion, clean_samples: its place, in experiments with a cue; clean_samples None is all of them.
        width: its place, in experiments over widths.
        status: "done" or "failed".
        seconds: wall-clock time that its steps took, whichever call, cell or run computed them.
        steps: "<step>: <what for>" -> key.
        computed: number of steps that were not there, in the last call that computed some.
        why: what went wrong, where it failed.
    """

    name: str
    seed: int
    dataset: str | None = None
    proportion: float | None = None
    clean_samples: int | None = None
    width: int | None = None
    status: Literal["done", "failed"]
    seconds: float
    steps: dict[str, str]
    computed: int
    why: str | None = None


class RunRecord(Record):
    """One run of a recipe.

    Attributes:
        id: recipe, scale, and the start of a hash of the settings, device and threads; the same call has the same. The
            data are not in it: those are in the keys of the steps.
        settings: the configuration with every default.
        inputs_hash: of the data that its cells read and of the versions of the code of steps; results of an earlier
            call are kept where it agrees. Empty in records of a time before it was written.
        seeds: of its cells.
        threads: processor threads of each cell.
        status: "running", "done", "failed" (some cells, see `cells`), or "stopped": killed or interrupted.
        engine, workers, environment: of the last call that computed something.
        seconds: wall-clock time of all calls that worked on it.
        started: the first of them, UTC, ISO 8601.
        cells: the finished cells.
        planned: number of cells that were asked for.
        results: cell -> plain values that are equal for equal settings and seeds. Of recipes with a cue: "models"
            (accuracy on each split with its interval, loss, number of samples, the effect of each intervention),
            "paths" (loss and accuracy at each t, barriers with their intervals, both ends as saved and those that are
            other networks on the path), and "histories" (of each training a record for each epoch). Of experiments over
            widths: networks, and barriers and agreement of their pairs.
        summary: what the cells say together, numbers too, of recipes that have one; else None.
        notes: what a reader should know, such as files that were found damaged.
        pictures: dataset -> split -> a strip of samples.
    """

    schema_version: Literal[1] = STORE_VERSION
    kind: Literal["run"] = "run"
    id: str
    recipe: str
    scale: str
    settings: dict[str, Any]
    settings_hash: str
    inputs_hash: str = ""
    seeds: list[int]
    engine: str
    workers: int
    threads: int | None
    status: RunStatus
    seconds: float
    started: str
    cells: list[CellRecord]
    planned: int
    results: dict[str, dict[str, Any]]
    summary: dict[str, Any] | None = None
    notes: list[str]
    environment: Environment
    pictures: dict[str, dict[str, Picture]]


RecordType = TypeVar("RecordType", StepRecord, RunRecord)


class DamagedError(Exception):
    """A file of the store that is not what was written; the text says how."""


def seal_record(record: Record) -> bytes:
    """A record as JSON with its own SHA-256 beside it, so that a changed digit is found."""
    plain = record.model_dump(mode="json")
    return json.dumps({"sha256": hash_values(plain), "record": plain}, indent=1).encode()


def open_record(text: bytes, kind: type[RecordType]) -> RecordType:
    """The record that `seal_record` wrote.

    Raises:
        DamagedError: it is cut short, was changed, or has another form.
    """
    try:
        whole = json.loads(text)
        plain, expected = whole["record"], whole["sha256"]
        found = hash_values(plain)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError("record.json is cut short or no JSON") from error
    if found != expected:
        raise DamagedError("record.json was changed after it was written")
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        raise DamagedError(f"record.json has another form ({error.error_count()} fields)") from error
