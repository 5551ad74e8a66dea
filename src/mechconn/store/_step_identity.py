"""What a result is made from, as one hash: the same work has the same key on every machine and in every process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mechconn.core import hash_values


@dataclass(frozen=True)
class StepInput:
    """What a step reads: the hash of its content, and the key of the step that made it (None for data)."""

    sha256: str
    key: str | None = None


@dataclass(frozen=True)
class StepIdentity:
    """A piece of work that is done once.

    Attributes:
        name: what is done.
        version: of the code that does it; raised when the same input would give other numbers.
        config: every setting, with defaults: plain values.
        inputs: what it reads, by name.
        threads: of the processor, which rounding depends on; None where they do not matter.
    """

    name: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, StepInput] = field(default_factory=dict)
    threads: int | None = None

    @property
    def key(self) -> str:
        """SHA-256 of all of this.

        Example:
            >>> StepIdentity("train", 1, {"lr": 0.1}).key == StepIdentity("train", 2, {"lr": 0.1}).key
            False
        """
        inputs = {name: [given.sha256, given.key] for name, given in self.inputs.items()}
        return hash_values([self.name, self.version, dict(self.config), inputs, self.threads])
