"""Results inside a run's record: what its cells give, and what they say together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import GetPydanticSchema
from pydantic_core import core_schema

from mechconn.core import to_plain
from mechconn.plotting import Result, Section, Table, flatten_settings


class RunPart(Result):
    """A result inside a run's record; files name its kind, so that it is read as what it was."""

    def to_plain(self) -> dict[str, Any]:
        """Plain values with the kind."""
        return {"kind": self.kind, **super().to_plain()}


@dataclass(frozen=True, repr=False)
class Numbers(RunPart, kind="numbers"):
    """Named values of any kind: what a cell gives that needs no type of its own.

    Attributes:
        values: name -> plain value, also nested; held as files hold them: tuples are lists, names are texts.

    Raises:
        TypeError: a value that JSON cannot hold.

    Example:
        >>> Numbers({"accuracy": 0.5, "splits": ("a", "b")}).values
        {'accuracy': 0.5, 'splits': ['a', 'b']}
    """

    values: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _read_plain(to_plain(self.values)))

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def rows(self) -> list[dict[str, Any]]:
        """One record, with dotted names."""
        return [dict(_flatten(self.values))]

    def sections(self) -> list[Section]:
        """A table of names and values."""
        return [Section("Values", tables=(Table(("name", "value"), tuple(flatten_settings(dict(self.values)))),))]

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in flatten_settings(dict(self.values)))


def _read_plain(value: Any) -> Any:
    """Plain values with numbers in the place of the texts "Infinity", "-Infinity" and "NaN"."""
    if isinstance(value, Mapping):
        return {name: _read_plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_read_plain(part) for part in value]
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read_part(value: Any) -> RunPart:
    """A part from its plain values; one of a kind that is not defined here as `Numbers`.

    Raises:
        ValueError: values that are no such part.
    """
    if isinstance(value, RunPart):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("a result of a run must be a table of plain values with its kind")
    known = Result.kinds.get(str(value.get("kind")))
    return known.from_dict(value) if known is not None and issubclass(known, RunPart) else Numbers(dict(value))


AnyPart: TypeAlias = Annotated[
    RunPart, GetPydanticSchema(lambda _, __: core_schema.no_info_plain_validator_function(read_part))
]
"""A part of any kind, as a field of a result."""
