"""What is published: the sdist, the wheel, and the command that an installed wheel gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("__pycache__", "*.egg-info")
TEXTS = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "constraints.txt")

pytestmark = pytest.mark.slow


def run(*words: str | Path, cwd: Path) -> str:
    """The output of a program that must succeed, far from this checkout's sources."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    """What the build backend makes of a source tree."""
    target.mkdir(exist_ok=True)
    hook = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    run(sys.executable, "-c", hook, cwd=source)
    (made,) = target.iterdir()
    return made


def read_wheel(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/RECORD")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist and the wheel of a copy of this tree, and the wheel that is built of the sdist alone."""
    folder = tmp_path_factory.mktemp("package")
    tree = folder / "tree"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copytree(ROOT / "tests", tree / "tests", ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in TEXTS:
        shutil.copy(ROOT / name, tree)
    sdist = build("sdist", tree, folder / "sdist")
    with tarfile.open(sdist) as opened:
        opened.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    wheels = {"wheel": build("wheel", tree, folder / "wheel"), "again": build("wheel", unpacked, folder / "again")}
    return {"sdist": sdist, "unpacked": unpacked, **wheels}


def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    sources = {
        path.relative_to(ROOT / "src").as_posix(): path.read_bytes()
        for path in (ROOT / "src" / "mechconn").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = read_wheel(built["wheel"])
    assert {name: data for name, data in held.items() if ".dist-info/" not in name} == sources
    assert {"mechconn/py.typed", "mechconn/__init__.pyi", "mechconn/__main__.py"} <= sources.keys()
    assert any(name.endswith(".html.j2") for name in sources)
    beside = {name.partition(".dist-info/")[2]: data for name, data in held.items() if name not in sources}
    assert beside["licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"mechconn = mechconn.cli:main" in beside["entry_points.txt"]
    assert set(beside) == {"licenses/LICENSE", "METADATA", "WHEEL", "entry_points.txt", "top_level.txt"}


def test_the_sdist_builds_the_same_wheel(built: dict[str, Path]) -> None:
    assert read_wheel(built["again"]) == read_wheel(built["wheel"])
    tops = {path.name for path in built["unpacked"].iterdir() if path.name != "build"}
    assert tops == {*TEXTS, "src", "setup.cfg", "PKG-INFO"}  # neither tests nor benchmarks


def test_the_wheel_runs_the_demo_from_another_folder(built: dict[str, Path], tmp_path: Path) -> None:
    """Without a download: the packages that mechconn needs are those of this environment, found by a path file."""
    venv, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    python, command = venv / "bin" / "python", venv / "bin" / "mechconn"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "-q", "--no-index", "--no-deps", built["wheel"], cwd=tmp_path)
    (site,) = venv.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("\n".join(others), encoding="utf-8")  # editable installs in there are not followed

    where = run(python, "-c", "import mechconn; print(mechconn.__file__)", cwd=elsewhere).strip()
    assert Path(where).is_relative_to(site)
    version = run(command, "--version", cwd=elsewhere)
    assert version.startswith("mechconn ") and version == run(python, "-m", "mechconn", "--version", cwd=elsewhere)
    found = json.loads(run(command, "demo", "--quick", "--json", "-o", "page.html", cwd=elsewhere))
    assert found["accuracy"]["theta_C"]["cue"] > found["accuracy"]["theta_C"]["rand_cue"] + 0.2
    page = (elsewhere / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "the quick version of the demo" in page
    assert [path.name for path in elsewhere.iterdir()] == ["page.html"]
