"""Configuration files: TOML or JSON into validated, frozen models, all mistakes at once, each with a suggestion."""

from __future__ import annotations

import difflib
import json
import tomllib
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError


class Config(BaseModel):
    """A frozen configuration; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def read_config(file: str | Path, model: type[Model]) -> Model:
    """A configuration file as a validated model.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no TOML or JSON, or does not fit the model; one line for each mistake.
    """
    try:
        return model.model_validate(read_values(file))
    except ValidationError as error:
        raise ValueError("\n".join(f"{file}: {line}" for line in mistakes(error, model))) from error


def read_values(file: str | Path) -> dict[str, Any]:
    """The plain values of a TOML or JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is neither TOML nor JSON, or holds no table.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(
            f"no configuration file {file}; the README shows what they hold, and mechconn schema lists all settings"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} is neither TOML nor JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f'{file} must hold a table of settings, as in {{"rows": 300}}, got a {type(found).__name__}')
    return found


class MistakesError(ValueError):
    """Several mistakes that one part of a configuration holds, a line each; raised by a validator of that part."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@contextmanager
def mistakes_as_lines(model: type[BaseModel], before: str = "") -> Iterator[None]:
    """Context manager: re-raise a ValidationError of the model as a ValueError with one line for each mistake."""
    try:
        yield
    except ValidationError as error:
        raise ValueError("\n".join(f"{before}{line}" for line in mistakes(error, model))) from error


def mistakes(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each mistake: where it is, what was expected, what came, and what may have been meant.

    A value that fits none of the alternatives of its key is one mistake.
    """
    places: dict[tuple[Any, ...], list[Any]] = {}
    for item in error.errors():
        places.setdefault(item["loc"][: _depth(model, item["loc"])], []).append(item)
    return [line for place, items in places.items() for line in _lines(place, items, model)]


def _lines(place: tuple[Any, ...], items: list[Any], model: type[BaseModel]) -> list[str]:
    name, within = ".".join(map(str, place)), items[0].get("ctx", {}).get("error")
    if isinstance(within, MistakesError):
        return [f"{name}.{line}" for line in within.lines]
    if isinstance(within, ValueError):  # a check of our own, which says what it got
        return [f"{name}: {within}" if name else str(within)]
    return [_line(place, items, model)]


def _line(place: tuple[Any, ...], items: list[Any], model: type[BaseModel]) -> str:
    name, first = ".".join(map(str, place)), items[0]
    if first["type"] == "missing":
        return f"{name}: needed, and not there"
    if first["type"] != "extra_forbidden":
        wanted = [first["msg"], *(item["msg"].removeprefix("Input should be ") for item in items[1:])]
        return f"{name}: {' or '.join(dict.fromkeys(wanted))}, got {first['input']!r}"
    keys = _keys(model, place[:-1])
    near = difflib.get_close_matches(str(place[-1]), keys, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known keys are {', '.join(keys)}"
    return f"{name}: unknown key{hint}"


def _depth(model: type[BaseModel], loc: tuple[Any, ...]) -> int:
    """How many parts of a place name keys: what stands behind a key of several types names one of the types."""
    for depth, part in enumerate(loc):
        field = model.model_fields.get(str(part))
        kind = None if field is None else field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            model = kind
            continue
        several = get_origin(kind) in (Union, types.UnionType) and len(_alternatives(kind)) > 1
        return depth + 1 if several else len(loc)
    return len(loc)


def _alternatives(kind: Any) -> list[Any]:
    return [part for part in kind.__args__ if part is not type(None)]


def _keys(model: type[BaseModel], parents: tuple[Any, ...]) -> list[str]:
    """Keys of the part of a configuration that lies under these parents."""
    for parent in parents:
        field = model.model_fields.get(str(parent))
        inner = None if field is None else field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


def listed(value: Any) -> Any:
    """A comma-separated text, or one value, as a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value if isinstance(value, list | tuple) else [value]


Item = TypeVar("Item")
Listed: TypeAlias = Annotated[tuple[Item, ...], BeforeValidator(listed)]
"""A tuple that may be written as a comma-separated text, or as one value."""
