"""The record of the demo: its story in numbers."""

from __future__ import annotations

from typing import Any, Literal

from mechconn.core import SCHEMA_VERSION, Environment, Picture, Record
from mechconn.mechanisms import InvarianceRecord, PathRecord


class DemoRecord(Record):
    """The demo's story in numbers.

    Attributes:
        accuracy: model -> split -> accuracy in [0, 1]; models theta_C, theta_NC, FT-M and CBFT.
        pictures: split -> a strip of samples, the same rows in every split.
        findings: what the numbers say, in words.
        settings_hash: SHA-256 of the settings as sorted JSON.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["demo"] = "demo"
    seed: int
    seconds: float
    settings: dict[str, Any]
    settings_hash: str
    accuracy: dict[str, dict[str, float]]
    invariance: dict[str, InvarianceRecord]
    path: PathRecord
    findings: list[str]
    timings: dict[str, float]
    environment: Environment
    pictures: dict[str, Picture]

    def to_json(self) -> str:
        """The record as one line of JSON, without its pictures."""
        return self.model_dump_json(exclude={"pictures"})
