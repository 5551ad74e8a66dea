"""The documentation site: every page and every public name is in it, and nothing of it comes from the network."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import mechconn as mc
from mechconn.core import isolate_rng

ROOT = Path(__file__).parents[1]


def build_site(folder: Path) -> Path:
    """The site as `make docs` builds it, where any warning fails, but with notebooks as they were saved."""
    options = ["-b", "html", "-n", "-W", "--keep-going", "-q", "-D", "nb_execution_mode=off", "-d", folder / "doctrees"]
    command = [sys.executable, "-m", "sphinx", *options, "docs", folder / "html"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-6000:]
    return folder / "html"


def read_inventory(site: Path) -> dict[str, str]:
    """name -> page, as other projects' documentation would link to."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(packed).decode().splitlines()
    found = [re.fullmatch(r"(\S+) py:\w+ -?\d+ (\S+) .*", line) for line in lines]
    return {entry[1]: entry[2].replace("$", entry[1]) for entry in found if entry}


def list_exports(package: str) -> list[str]:
    """The names that a package offers, but for modules and what other packages of Python's made."""
    module = getattr(mc, package)
    exports = {
        name: thing for name, thing in vars(module).items() if not name.startswith("_") and name != "TYPE_CHECKING"
    }
    ours = {n: t for n, t in exports.items() if getattr(t, "__module__", "mechconn").startswith(("mechconn", "typing"))}
    return [f"mechconn.{package}.{name}" for name, thing in ours.items() if not inspect.ismodule(thing)]


def read_ids(page: Path) -> set[str]:
    """What other pages may lead to."""
    return set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))


def read_loaded(page: Path) -> list[str]:
    """Addresses of what a page loads by itself: those of every tag but of links that a reader follows."""
    tags = re.findall(r"<(?!a\b)\w[^<>]*>", page.read_text(encoding="utf-8"))
    return [place for tag in tags for place in re.findall(r'\b(?:src|srcset|href|data|poster)="([^"]*)"', tag)]


@pytest.mark.slow
def test_the_site(tmp_path: Path) -> None:
    """One test, so that two workers build it once."""
    site = build_site(tmp_path)
    check_names_and_pages(site)
    check_nothing_is_fetched(site)
    check_equations_and_docstrings(site)


def check_names_and_pages(site: Path) -> None:
    """Every public name and page is there."""
    entries = read_inventory(site)
    with isolate_rng(0, "import"):
        packages = [name for name in mc.__all__ if inspect.ismodule(getattr(mc, name))]
    assert len(packages) > 10
    assert [name for name in mc.__all__ if f"mechconn.{name}" not in entries] == []
    exports = [name for package in packages for name in list_exports(package)]
    assert len(exports) > 700
    assert [name for name in exports if name not in entries] == []
    places = {page.name: read_ids(page) for page in (site / "api").glob("*.html")}
    wrong = {
        name: place
        for name, place in entries.items()
        if place.partition("#")[2] not in places[place.partition("#")[0].removeprefix("api/")]
    }
    assert wrong == {}
    sources = [
        path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".ipynb")
    ]
    pages = {path.with_suffix(".html").as_posix() for path in sources if "_build" not in path.parts} - {"index.html"}
    assert {"start.html", "project/changelog.html", "project/benchmarks.html"} <= pages
    contents = (site / "index.html").read_text(encoding="utf-8")
    assert {page for page in pages if f'href="{page}"' not in contents} == set()


def check_nothing_is_fetched(site: Path) -> None:
    """No page loads anything from the network."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    loaded = {page.name: read_loaded(page) for page in pages}
    assert any("styles/furo" in place for place in loaded["index.html"])
    assert {name: places for name, places in loaded.items() if any("//" in p for p in places if "data:" not in p)} == {}
    styles = {path.name: path.read_text(encoding="utf-8") for path in site.rglob("*.css")}
    assert [name for name, text in styles.items() if re.search(r"(@import|url\()\s*[\"']?(https?:)?//", text)] == []


def check_equations_and_docstrings(site: Path) -> None:
    """They read as they are meant."""
    tuning = (site / "api" / "tuning.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", tuning)
    assert "L_B = E_t | margin - L(f(D_C; (1 - t) theta + t theta_C), y) |," in text  # an equation, line by line
    assert "With rho, L and L_I are taken at theta + rho (theta_C - theta) / |theta_C - theta| in place" in text
    assert re.search(r'href="descent\.html#mechconn\.Training"[^>]*><code[^>]*><span class="pre">Training', tuning)
    assert "<math" in (site / "concepts.html").read_text(encoding="utf-8")
