"""Configuration files: TOML or JSON into validated, frozen models, all mistakes at once, each with a suggestion."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from mechconn.core._checks import did_you_mean
from mechconn.core._method_settings import OneOf


class Config(BaseModel):
    """A frozen configuration; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)
WANTED = "Input should be "
"""How pydantic begins to say what it expected."""


def read_config(file: str | Path, model: type[Model]) -> Model:
    """A configuration file as a validated model.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no TOML or JSON, or does not fit the model; one line for each mistake.
    """
    with raise_mistakes_as_lines(model, f"{file}: "):
        return model.model_validate(read_values(file))


def read_values(file: str | Path) -> dict[str, Any]:
    """The plain values of a TOML or JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is neither TOML nor JSON, or holds no table.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(
            f"no configuration file {file}; mechconn init FOLDER writes one for an audit, and "
            "mechconn schema lists all settings"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} is neither TOML nor JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f'{file} must hold a table of settings, as in {{"rows": 300}}, got a {type(found).__name__}')
    return found


@contextmanager
def raise_mistakes_as_lines(model: type[BaseModel], before: str = "") -> Iterator[None]:
    """Context manager: re-raise a ValidationError of the model as a ValueError with one line for each mistake."""
    try:
        yield
    except ValidationError as error:
        raise ValueError("\n".join(f"{before}{line}" for line in _mistakes(error, model))) from error


def _mistakes(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each mistake: where it is, what was expected, what came, and what may have been meant.

    A value that fits none of the alternatives of its key is one mistake.
    """
    places: dict[str, tuple[list[str], list[Any]]] = {}
    for item in error.errors():
        keys, known = _walk(model, item["loc"])
        places.setdefault(".".join(keys), (known, []))[1].append(item)
    return [_describe_mistake(name, *found) for name, found in places.items()]


def _describe_mistake(name: str, known: list[str], items: list[Any]) -> str:
    first, own = items[0], items[0].get("ctx", {}).get("error")
    if isinstance(own, ValueError):  # a check of our own, which says what it got
        return f"{name}: {own}" if name else str(own)
    if first["type"] == "missing":
        return f"{name}: needed, and not there"
    if first["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        wanted = " or ".join(dict.fromkeys(item["msg"].removeprefix(WANTED) for item in items))
        return f"{name}: {WANTED if first['msg'].startswith(WANTED) else ''}{wanted}, got {first['input']!r}"
    hint = did_you_mean(first["loc"][-1], known) or f"; known keys are {', '.join(known)}"
    return f"{name}: unknown key{hint}"


def _walk(kind: Any, loc: tuple[Any, ...]) -> tuple[list[str], list[str]]:
    """(the keys that a place names, the known keys beside the last one).

    The name of one of several kinds of tables is no key. What stands behind other alternatives names one of these, and
    is left out.
    """
    keys: list[str] = []
    fields: dict[str, Any] = {}
    for part in loc:
        kinds = _kinds(kind)
        tables = {kind.__name__: kind for kind in kinds if _fields(kind)}
        if part in tables:
            kind = tables[part]
        elif len(kinds) > 1:
            break
        else:
            keys, fields = [*keys, str(part)], _fields(kinds[0])
            kind = fields.get(part, Any) if fields else next((k for k in reversed(get_args(kinds[0])) if k != ...), Any)
    return keys, list(fields)


def _kinds(kind: Any) -> list[Any]:
    """The types that an annotation allows, None aside."""
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        return next((note.kinds for note in notes if isinstance(note, OneOf)), None) or _kinds(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return [found for part in get_args(kind) if part is not types.NoneType for found in _kinds(part)]
    return [kind]


def _fields(kind: Any) -> dict[str, Any]:
    """Key -> type of a table; nothing of what is no table."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {
            name: Annotated[(field.annotation, field, *field.metadata)] for name, field in kind.model_fields.items()
        }
    if not dataclasses.is_dataclass(kind):
        return {}
    hints = {"method": str, **get_type_hints(kind)}
    return {name: hints[name] for name in ("method", *(field.name for field in dataclasses.fields(kind)))}


def split_commas(value: Any) -> Any:
    """A comma-separated text, or one value, as a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value if isinstance(value, list | tuple) else [value]


Item = TypeVar("Item")
CommaSeparated: TypeAlias = Annotated[tuple[Item, ...], BeforeValidator(split_commas)]
"""A tuple that may be written as a comma-separated text, or as one value."""
