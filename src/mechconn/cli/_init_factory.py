"""Functions in the working directory that may build a network, found without running anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

WORDS = ("build", "make", "create", "model", "net")
"""What names of such functions hold, as a rule."""


def find_factories(folder: Path) -> list[str]:
    """`module:function` of public functions that need no arguments; those with telling names, where there are some."""
    found = [name for file in sorted(folder.glob("*.py")) for name in _list_functions(file)]
    telling = [name for name in found if any(word in name.partition(":")[2].lower() for word in WORDS)]
    return telling or found


def _list_functions(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith(("_", "test")) and _needs_nothing(node.args):
            yield f"{file.stem}:{node.name}"


def _needs_nothing(arguments: ast.arguments) -> bool:
    """Whether a function can be called without arguments."""
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return required == 0 and None not in arguments.kw_defaults
