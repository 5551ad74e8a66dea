"""Settings that name a class, with its options."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import WithJsonSchema

from mechconn.core import list_kinds, list_options

Named: TypeAlias = str | dict[str, Any]
"""A name, or a table {name = "...", <options>}."""


def show_names(base: type, *others: str) -> WithJsonSchema:
    """The schema of a name: one of ours, any other text, or a table."""
    names = [*others, *list_kinds(base, built_in=True)]
    return WithJsonSchema({"anyOf": [{"enum": names}, {"type": "string", "pattern": ":"}, {"type": "object"}]})


def reads_data(what: str, base: type, named: Named) -> bool:
    """Whether what is named takes data, as those under [norm]."""
    return "data" in list_options(what, base, named)


def read_name(named: Named | None) -> str | None:
    """The name alone, of a name or a table of one."""
    return named.get("name") if isinstance(named, dict) else named
