"""Configuration files: TOML or JSON into validated, frozen models, all mistakes at once, each with a suggestion."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mechconn import _errors


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
        ValueError: it is neither TOML nor JSON.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(_errors.NO_CONFIG.format(file=file))
    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(_errors.UNREADABLE_CONFIG.format(file=file, why=error)) from error


class MistakesError(ValueError):
    """Several mistakes that one part of a configuration holds, a line each; raised by a validator of that part."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def mistakes(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each mistake: where it is, what was expected, what came, and what may have been meant."""
    return [line for item in error.errors() for line in _lines(item, model)]


def _lines(item: Any, model: type[BaseModel]) -> list[str]:
    within = item.get("ctx", {}).get("error")
    if isinstance(within, MistakesError):
        place = ".".join(str(part) for part in item["loc"])
        return [f"{place}.{line}" for line in within.lines]
    return [_line(item, model)]


def _line(item: Any, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    within = item.get("ctx", {}).get("error")
    if isinstance(within, ValueError):  # a check of our own, which says what it got
        return f"{place}: {within}" if place else str(within)
    if item["type"] == "missing":
        return f"{place}: needed, and not there"
    if item["type"] != "extra_forbidden":
        return f"{place}: {item['msg']}, got {item['input']!r}"
    keys = _keys(model, item["loc"][:-1])
    near = difflib.get_close_matches(str(item["loc"][-1]), keys, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known keys are {', '.join(keys)}"
    return f"{place}: unknown key{hint}"


def _keys(model: type[BaseModel], parents: tuple[Any, ...]) -> list[str]:
    """Keys of the part of a configuration that lies under these parents."""
    for parent in parents:
        field = model.model_fields.get(str(parent))
        inner = None if field is None else field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)
