"""Rules of the code base that no linter knows."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mechconn"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# In pieces, so that this file does not match itself.
MACHINE_PATHS = ("/wor" + "k/", "/ho" + "me/", "/Use" + "rs/")
RUNS_CODE_ON_LOAD = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}

# What no public name may pull in by itself: each costs time, and nobody who only wants a barrier needs it.
HEAVY = ("matplotlib", "typer", "sklearn", "datasets")

PROBE = f"""
import json, random, sys
import numpy, torch
def states():
    return [random.getstate(), repr(numpy.random.get_state()), torch.get_rng_state().tolist()]
before = states()
import mechconn
for name in mechconn.__all__:
    if name != "cli":  # a program, which brings typer
        getattr(mechconn, name)
print(json.dumps({{"touched": states() != before, "heavy": [m for m in {HEAVY!r} if m in sys.modules]}}))
"""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def tracked_files() -> list[Path]:
    """What git tracks, or would track when asked to add everything."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


# ---------------------------------------------------------------- tests can fail


def called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def can_fail(function: ast.AST) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = called_name(node)
            if name in {"raises", "warns"} or name.startswith(("assert_", "check_")):
                return True
    return False


def test_every_test_can_fail() -> None:
    functions = [
        (f"{relative(path)}::{node.name}", node)
        for path in TESTS
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert functions
    assert [name for name, node in functions if not can_fail(node)] == []


# ---------------------------------------------------------------- no test depends on speed

# Also in programs that tests write for other processes.
CLOCKS = re.compile(
    r"^\s*import [\w, ]*\btime\b|\bfrom time import\b|\btimeit\b|\btime\.\w+\(|\bdatetime\.now\("
    r"|\b(?:perf_counter|process_time|monotonic|sleep)(?:_ns)?\(",
    re.MULTILINE,
)
PATIENT = 120
"""Seconds that a guard against waiting for ever must leave at least; a test that is sound never meets it."""


def impatient(call: ast.Call) -> bool:
    """Whether a call waits for a number of seconds that a busy machine may take."""
    first = call.args[:1] if called_name(call) in {"wait", "join", "result", "acquire"} else []
    given = [*first, *(keyword.value for keyword in call.keywords if keyword.arg == "timeout")]
    return any(isinstance(n, ast.Constant) and isinstance(n.value, int | float) and n.value < PATIENT for n in given)


def bounds_seconds(test: ast.Compare) -> bool:
    """Whether a comparison allows no more than a number of seconds."""
    sides = [test.left, *test.comparators]
    if isinstance(test.ops[0], ast.Gt | ast.GtE):
        sides.reverse()
    ordered = isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)
    return ordered and "seconds" in ast.unparse(sides[0]) and isinstance(sides[-1], ast.Constant)


def hasty(tree: ast.AST) -> list[int]:
    nodes = list(ast.walk(tree))
    calls = [node.lineno for node in nodes if isinstance(node, ast.Call) and impatient(node)]
    inside = [part for node in nodes if isinstance(node, ast.Assert) for part in ast.walk(node.test)]
    return calls + [part.lineno for part in inside if isinstance(part, ast.Compare) and bounds_seconds(part)]


def test_no_test_reads_a_clock_or_hurries() -> None:
    others = [path for path in TESTS if path != Path(__file__)]
    assert {relative(p): m[0] for p in others if (m := CLOCKS.search(p.read_text(encoding="utf-8")))} == {}
    assert {relative(path): lines for path in TESTS if (lines := hasty(parsed(path)))} == {}
    for code in ("import os, time", "start = time.perf_counter()", "from time import sleep", "  sleep(1)"):
        assert CLOCKS.search(code)
    for code in ("done.wait(60)", "run(timeout=5)", "assert found.seconds < 5", "assert 5 >= spent_seconds"):
        assert hasty(ast.parse(code))
    for code in (
        "done.wait(600)",
        "', '.join(words)",
        "assert found.seconds > 0",
        "assert a.seconds < b.seconds",
        "assert a.seconds == 5",
    ):
        assert not hasty(ast.parse(code))


def test_drawn_examples_have_no_limit_of_time() -> None:
    settings = hypothesis.settings.default
    assert settings is not None and settings.deadline is None and settings.derandomize
    assert hypothesis.HealthCheck.too_slow in settings.suppress_health_check
    own = [call for path in TESTS for call in ast.walk(parsed(path)) if isinstance(call, ast.Call)]
    given = {word.arg for call in own if ast.unparse(call.func).endswith("settings") for word in call.keywords}
    assert given and not given & {"deadline", "derandomize", "suppress_health_check"}


# ---------------------------------------------------------------- imports


def test_import_is_silent_and_light() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    # Anything that the import printed would stand beside the probe's own line, and break the parse.
    assert json.loads(done.stdout) == {"touched": False, "heavy": []}


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("import mechconn; print(mechconn.__version__)", "."),
        ("from mechconn.cli import main; main(['--help'])", "Usage"),
        ("from mechconn.cli import main; main(['run', '--help'])", "Usage"),
        ("from mechconn.cli import main; main(['demmo'])", "demmo"),
    ],
)
def test_a_first_answer_does_not_wait_for_torch(code: str, answer: str) -> None:
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nsys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout + done.stderr


def is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").is_file() or (PACKAGE / name / "__init__.py").is_file()


def facade_imports(path: Path) -> Iterator[str]:
    """Each import in the file at `path` that goes through the package's root instead of a module below it."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if alias.name == "mechconn")
        if isinstance(node, ast.ImportFrom):
            absolute = node.level == 0 and node.module == "mechconn"
            if absolute or (node.level == depth and node.module is None):
                yield from (f"from mechconn import {a.name}" for a in node.names if not is_module(a.name))


def test_nothing_inside_imports_the_facade() -> None:
    inside = [path for path in SOURCES if path != PACKAGE / "__init__.py"]
    assert inside
    assert {relative(path): list(facade_imports(path)) for path in inside if any(facade_imports(path))} == {}


# ---------------------------------------------------------------- a package's private modules are its own

PRIVATE = re.compile(r"mechconn(?:\.[a-z]\w*)*\.(?P<package>[a-z]\w*)\._(?!_)\w+")


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """(name in the file, dotted name of what it stands for) of each import, absolute or relative."""
    above = ["mechconn", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((alias.asname or alias.name, f"{module}.{alias.name}") for alias in node.names)


def private_imports(path: Path, package: str) -> Iterator[str]:
    """Each use of another package's private module or name: imports, attributes, texts, examples."""
    aliases = dict(imported(path))
    named = [*aliases.values()]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            named.append(aliases.get(first, first) + dot + rest)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            examples = "".join(line for line in node.value.splitlines(keepends=True) if ">>>" in line)
            named += [match[0] for match in PRIVATE.finditer(examples)]
            named.append(node.value if PRIVATE.fullmatch(node.value) else "")
        if isinstance(node, ast.Call) and called_name(node) == "import_module":
            named.append("".join(str(part.value) for part in reversed(node.args) if isinstance(part, ast.Constant)))
    yield from (name for name in named if (match := PRIVATE.match(name)) and match["package"] != package)


def test_a_private_module_belongs_to_its_package() -> None:
    packages = {path: path.relative_to(PACKAGE).parts[0] for path in SOURCES if path.parent != PACKAGE}
    assert packages
    assert {relative(p): found for p, package in packages.items() if (found := list(private_imports(p, package)))} == {}


@pytest.mark.parametrize(
    "code",
    [
        "from mechconn.core._rng import isolate_rng",
        "from mechconn.core import _rng",
        "import mechconn.core._rng as rng",
        "from ..core._rng import isolated",
        "from ..core import _rng",
        "from .. import core; x = core._rng",
        "from mechconn import core\nx = core._rng.isolate_rng",
        "import mechconn.core as c; c._rng",
        "import_module('._rng', 'mechconn.core')",
        "'Example: >>> from mechconn.core._rng import isolate_rng'",
        "importlib.import_module('mechconn.core._rng')",
    ],
)
def test_every_form_of_import_is_seen(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    file = tmp_path / "network" / "_params.py"
    file.parent.mkdir()
    file.write_text(code, encoding="utf-8")
    assert list(private_imports(file, "network")) and not list(private_imports(file, "core"))


def test_no_two_modules_have_one_name() -> None:
    names = [path.stem for path in SOURCES if path.stem != "__init__"]
    assert names and sorted(set(names)) == sorted(names)


def test_there_are_at_most_24_names_at_the_top() -> None:
    assert len({path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}) <= 24


# ---------------------------------------------------------------- what is tracked


def imported_roots(tree: ast.Module) -> set[str]:
    roots: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            roots.add(node.module.split(".")[0])
    return roots


def unsafe_loads(tree: ast.Module) -> list[int]:
    """Lines that call torch.load without weights_only=True."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    loads = (call for call in calls if ast.unparse(call.func) == "torch.load")
    safe = "weights_only=True"
    return [call.lineno for call in loads if safe not in map(ast.unparse, call.keywords)]


def test_nothing_runs_code_on_load() -> None:
    files = [path for path in tracked_files() if path.suffix == ".py"]
    assert files
    assert {relative(p): found for p in files if (found := imported_roots(parsed(p)) & RUNS_CODE_ON_LOAD)} == {}
    assert {relative(p): lines for p in files if (lines := unsafe_loads(parsed(p)))} == {}


def test_no_path_of_one_machine() -> None:
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        found += [f"{relative(path)}: {part}" for part in MACHINE_PATHS if part in text]
    assert found == []
