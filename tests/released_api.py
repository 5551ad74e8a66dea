"""The public API as plain values, to hold one release against the next.

At a release, its API is written down: `python tests/released_api.py > tests/api/VERSION.json`.
"""

from __future__ import annotations

import inspect
import json
import sys
from operator import attrgetter
from types import ModuleType
from typing import Any

import mechconn

NAMESPACES = ("datasets", "descent", "losses", "models", "theory")
"""Packages whose names users write with the package in front, as in `mc.datasets.cue_task`; `__all__` lists them."""


def public_names() -> list[str]:
    """Every public name that is no package: those of the facade, and those of the namespaces."""
    flat = [name for name in mechconn.__all__ if not isinstance(getattr(mechconn, name), ModuleType)]
    return [*flat, *(f"{part}.{name}" for part in NAMESPACES for name in getattr(mechconn, part).__all__)]


def parameters_of(thing: Any) -> dict[str, list[Any]] | None:
    """Name -> [kind, whether it may be left out] of what a function or a class takes; None of anything else."""
    if not callable(thing):
        return None
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    return {name: [p.kind.name, p.default is not p.empty] for name, p in signature.parameters.items()}


def described() -> dict[str, dict[str, list[Any]] | None]:
    """Public name -> what it takes."""
    return {name: parameters_of(attrgetter(name)(mechconn)) for name in sorted(public_names())}


def breaks(released: dict[str, Any], now: dict[str, Any]) -> dict[str, list[str]]:
    """Public name -> what a call that worked with the released API can no longer say."""
    found = {name: missing(taken, now[name]) if name in now else ["gone"] for name, taken in released.items()}
    return {name: what for name, what in found.items() if what}


def missing(released: dict[str, list[Any]] | None, now: dict[str, list[Any]] | None) -> list[str]:
    """Arguments that were taken before and are not now, by their place or by name, and new ones that are needed."""
    if released is None or now is None:
        return [] if released == now else ["no longer callable" if now is None else "callable now"]
    old = [
        f"{name}: {kind}"
        for name, (kind, _) in released.items()
        if name not in now or now[name][0] not in (kind, "POSITIONAL_OR_KEYWORD")
    ]
    taken, now_taken = (
        [name for name, (kind, _) in both.items() if kind.startswith("POSITIONAL")] for both in (released, now)
    )
    if now_taken[: len(taken)] != taken:
        old.append("places of arguments")
    return old + [f"{name} is needed" for name, (_, free) in now.items() if not free and released.get(name, (0, 1))[1]]


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(taken)}" for name, taken in described().items())
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")
