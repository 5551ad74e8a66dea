"""Functions in the working directory that may build a network, found without running anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TELLING = re.compile(r"build|make|create|model|net")
"""What names of such functions hold, as a rule."""
OTHERS = re.compile(r"(train|fit|run|main|test|eval|predict|load|save|plot|show|print)|.*(data|loader|optim)")
"""Names of functions that do something else, such as training, which a command that we propose must not start."""
NO_MODULES = re.compile(r"setup|conftest|test_\w*")


def find_factories(folder: Path) -> list[str]:
    """`module:function` of public functions that need no arguments and whose names tell that they build a network."""
    files = [
        file for file in sorted(folder.glob("*.py")) if file.stem.isidentifier() and not NO_MODULES.fullmatch(file.stem)
    ]
    return [f"{file.stem}:{name}" for file in files for name in _list_functions(file) if _tells_a_network(name.lower())]


def _tells_a_network(name: str) -> bool:
    return TELLING.search(name) is not None and OTHERS.match(name) is None


def _list_functions(file: Path) -> Iterator[str]:
    """The public functions of a module that can be called without arguments."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _needs_nothing(node.args):
            yield node.name


def _needs_nothing(arguments: ast.arguments) -> bool:
    """Whether a function can be called without arguments."""
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return required == 0 and None not in arguments.kw_defaults
