"""A configuration as TOML that explains itself: what is set, and every other setting as a comment."""

from __future__ import annotations

import json
import re
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from mechconn.core import Config

WIDTH = 110
Values = Mapping[str, Any]


def write_config_text(
    kind: type[Config], chosen: Values, proposed: Values, notes: Mapping[str, Sequence[str]], head: Sequence[str] = ()
) -> str:
    """TOML of the chosen values; every other setting is a comment, with what its field's description says of it.

    A line of explanation begins with "# ". A setting that is not made begins with "#" and its name: with what is
    proposed, else with its default, else with an example.

    Args:
        kind: what the configuration may hold.
        chosen: key -> value, of tables their keys; what is set.
        proposed: the same, of what stands in comments.
        notes: key, or "table.key" -> lines of explanation beside the field's own.
        head: lines of explanation on top.
    """
    keys = {name: field for name, field in kind.model_fields.items() if find_table(field) is None}
    tables = {name: field for name, field in kind.model_fields.items() if name not in keys}
    lines = [*_explain(head), ""]
    for name, field in keys.items():
        given = chosen.get(name, proposed.get(name))
        if not isinstance(given, Mapping) and not _is_open_table(field):
            lines += _write_setting(name, field, chosen, proposed, notes.get(name, ()))
    opened = [name for name, field in keys.items() if _is_open_table(field) or isinstance(chosen.get(name), Mapping)]
    required = [name for name in opened if kind.model_fields[name].is_required()]
    others = sorted([*opened, *tables], key=lambda name: (name not in chosen, list(kind.model_fields).index(name)))
    places = [*required, *(name for name in others if name not in required)]
    for name in places:
        lines += ["", *_write_table(name, kind.model_fields[name], chosen, proposed, notes)]
    return "\n".join(lines) + "\n"


def find_table(field: FieldInfo) -> type[Config] | None:
    """The configuration that a field holds as a table; None of other fields."""
    kinds = _list_kinds(field.annotation)
    found = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Config)]
    return found[0] if len(found) == len(kinds) == 1 else None


def _list_kinds(annotation: Any) -> list[Any]:
    """The types that an annotation allows, None aside."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for kind in get_args(annotation) if kind is not types.NoneType]
    return [annotation]


def _is_open_table(field: FieldInfo) -> bool:
    """Whether a field holds a table whose keys the user names."""
    return get_origin(field.annotation) is dict


def _write_table(
    name: str, field: FieldInfo, chosen: Values, proposed: Values, notes: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    table = find_table(field)
    yield from _explain([field.description or _read_summary(table), *notes.get(name, ())])
    mark = "" if name in chosen else "#"
    yield f"{mark}[{name}]"
    if table is None:
        given = chosen.get(name) or proposed.get(name) or _find_example(field) or {}
        yield from (f"{mark}{_write_key(key)} = {write_value(value)}" for key, value in given.items())
        return
    inner = {key[len(name) + 1 :]: lines for key, lines in notes.items() if key.startswith(f"{name}.")}
    for key, part in table.model_fields.items():
        yield from _write_setting(key, part, chosen.get(name, {}), proposed.get(name, {}), inner.get(key, ()))


def _write_setting(
    name: str, field: FieldInfo, chosen: Values, proposed: Values, notes: Sequence[str]
) -> Iterator[str]:
    """The explanation of a setting, and its line."""
    line = _write_line(name, field, chosen, proposed)
    description = field.description or _read_summary(find_table(field))
    yield from _explain([description if line else f"{name}: {description}", *notes])
    if line:
        yield line


def _write_line(name: str, field: FieldInfo, chosen: Values, proposed: Values) -> str:
    """The setting itself, or as a comment; empty where there is nothing to show."""
    default, example = field.get_default(call_default_factory=True), _find_example(field)
    if name in chosen:
        return f"{name} = {write_value(chosen[name])}"
    if name in proposed:
        return f"#{name} = {write_value(proposed[name])}"
    if not field.is_required() and default not in (None, {}, []):
        return f"#{name} = {write_value(default)}"
    return "" if example is None else f"#{name} = {write_value(example)}  # an example"


def _read_summary(table: type[Config] | None) -> str:
    """The first line of a configuration's docstring."""
    return (table.__doc__ or "").splitlines()[0] if table is not None else ""


def _find_example(field: FieldInfo) -> Any:
    return field.examples[0] if field.examples else None


def _explain(texts: Sequence[str]) -> list[str]:
    return [f"# {line}" for text in texts if text for line in textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False)]


def _write_key(key: str) -> str:
    """A key of TOML, in quotes where it needs them."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else write_value(key)


def write_value(value: Any) -> str:
    r"""A plain value as TOML.

    Example:
        >>> write_value({"name": "rotate", "of": [1, 0.5, True], "a b": 'say "x"'})
        '{ name = "rotate", of = [1, 0.5, true], "a b" = "say \\"x\\"" }'
    """
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_write_key(key)} = {write_value(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value) if isinstance(value, bool) else repr(value)
