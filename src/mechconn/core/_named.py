"""What configuration files and command lines name, with options: a name, a table, or "package.module:Name"."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from mechconn.core._checks import did_you_mean, show_value
from mechconn.core._import_function import import_object
from mechconn.core._registry import check_declared_fields, find_kind, list_kinds

Built = TypeVar("Built")


def read_named(what: str, base: type, value: str | Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(what a configuration names, its options).

    A name is that of a registered subclass of `base`, or "package.module:Name" of a class, a function or an instance.
    In a table, lists become tuples.

    Args:
        what: what is named, in errors.
        base: the family.
        value: a name, or a table {name = "...", <options>}.

    Raises:
        ValueError: no such name, an option that the class does not take, or settings that are no fields.
        TypeError: neither a name nor a table.
    """
    if isinstance(value, type) and issubclass(value, base):
        raise TypeError(f"{what} is the class {value.__name__}, not an instance; write {value.__name__}()")
    if not isinstance(value, str | Mapping):
        raise TypeError(f"{what} must be a name or a table, got {show_value(value)}")
    options = {} if isinstance(value, str) else {key: _to_tuple(option) for key, option in value.items()}
    name = value if isinstance(value, str) else options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f'{what} must have a name, as in {{name = "..."}}, got {dict(options)}')
    imported = ":" in name and name not in list_kinds(base)
    found = import_object(what, name) if imported else find_kind(what, base, name)
    if not (callable(found) or isinstance(found, base)):
        raise ValueError(
            f"{what} {name!r} must be a function or of class {base.__name__}, "
            f"it is a {type(found).__name__}; name one of these"
        )
    if isinstance(found, type):
        check_declared_fields(found)
    known = _list_parameters(found)
    for option in options:
        if option not in known:
            listed = f"it has {', '.join(known)}" if known else "it has none"
            told = what if what.endswith(repr(name)) else f"{what} {name!r}"
            raise ValueError(f"{told} has no option {option!r}; {listed}{did_you_mean(option, known)}")
    return found, options


def list_options(what: str, base: type, value: str | Mapping[str, Any]) -> list[str]:
    """The options that what a configuration names can have; none where it names an instance.

    Raises:
        ValueError, TypeError: as in `read_named`, or it is neither a subclass of `base` nor an instance of one.
    """
    return _list_parameters(_check_named(what, base, value)[0])


def build_named(what: str, base: type[Built], value: str | Mapping[str, Any], **given: Any) -> Built:
    """The instance of `base` that a configuration names: with its options, and those of `given` that the class takes.

    Raises:
        ValueError, TypeError: as in `read_named` and `construct`, or it is neither a subclass of `base` nor an instance
            of one.
    """
    found, options = _check_named(what, base, value)
    if isinstance(found, base):
        return found
    taken = _list_parameters(found)
    return construct(what, found, {name: v for name, v in given.items() if name in taken} | options)


def _check_named(what: str, base: type, value: str | Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    found, options = read_named(what, base, value)
    if not (isinstance(found, base) or (isinstance(found, type) and issubclass(found, base))):
        name = value if isinstance(value, str) else value["name"]
        raise ValueError(f"{what} {name!r} must be a subclass of mechconn's {base.__name__}, or an instance of one")
    return found, options


def construct(what: str, kind: Any, options: Mapping[str, Any]) -> Any:
    """`kind(**options)`, after refusing options that are missing.

    Raises:
        ValueError: a needed option is missing.
        TypeError, ValueError: whatever the class says of the values.
    """
    parameters = inspect.signature(kind).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if missing := [name for name in needed if name not in options]:
        raise ValueError(
            f"{what} {kind.__name__} needs {', '.join(missing)}; write a table, {{name = ..., {missing[0]} = ...}}"
        )
    return kind(**options)


def _list_parameters(found: Any) -> list[str]:
    """Of a class; a function or an instance is taken as it is, without any."""
    return list(inspect.signature(found).parameters) if isinstance(found, type) else []


def _to_tuple(value: Any) -> Any:
    return tuple(map(_to_tuple, value)) if isinstance(value, list) else value
