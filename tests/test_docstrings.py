"""Every example in a docstring of the library runs, and prints what it says."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

from mechconn.core import isolate_rng

SOURCE = Path(__file__).parents[1] / "src"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def examples(path: Path) -> list[tuple[str, str]]:
    """(name, docstring) wherever the docstring has an example.

    Read from the source: doctest's own finder passes over functions that are wrapped by the run-time checks.
    """
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text and ">>>" in text:
                found.append((getattr(node, "name", "module"), text))
    return found


WITH_EXAMPLES = [path for path in sorted(SOURCE.rglob("*.py")) if examples(path)]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_name)
def test_examples(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    log: list[str] = []
    for name, text in examples(path):
        test = doctest.DocTestParser().get_doctest(text, dict(vars(module)), name, str(path), None)
        # Examples build models without a word about seeds; here they draw from a stream of their own.
        with isolate_rng(0, "docstring", name):
            runner.run(test, out=log.append)
    results = runner.summarize(verbose=False)
    assert results.attempted > 0
    assert results.failed == 0, "".join(log)
