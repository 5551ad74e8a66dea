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
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(_errors.NO_CONFIG.format(file=file))
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(_errors.UNREADABLE_CONFIG.format(file=file, why=error)) from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(f"{file}: {line}" for line in mistakes(error, model))) from error


def mistakes(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each mistake: where it is, what was expected, what came, and what may have been meant."""
    return [_line(item, model) for item in error.errors()]


def _line(item: Any, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in item["loc"])
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
