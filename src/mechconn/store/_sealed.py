"""What the store keeps as JSON: sealed plain values, and the record of a step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from mechconn.core import Environment, Record, hash_values

STORE_VERSION = 1
"""Of the record below; raised, with a way to read the old ones, when a field changes its meaning."""


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


class DamagedError(Exception):
    """A file of the store that is not what was written; the text says how."""


def seal(plain: Mapping[str, Any]) -> bytes:
    """Plain values as JSON with their own SHA-256 beside them, so that a changed digit is found."""
    return json.dumps({"sha256": hash_values(plain), "record": plain}, indent=1).encode()


def open_sealed(text: bytes) -> dict[str, Any]:
    """The plain values that `seal` wrote.

    Raises:
        DamagedError: they are cut short or were changed.
    """
    try:
        whole = json.loads(text)
        plain, expected = whole["record"], whole["sha256"]
        found = hash_values(plain)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError("record.json is cut short or no JSON") from error
    if found != expected:
        raise DamagedError("record.json was changed after it was written")
    return plain


def open_step(text: bytes) -> StepRecord:
    """The record of a step that was sealed.

    Raises:
        DamagedError: as `open_sealed`, or it has another form.
    """
    try:
        return StepRecord.model_validate(open_sealed(text))
    except ValidationError as error:
        raise DamagedError(f"record.json has another form ({error.error_count()} fields)") from error
