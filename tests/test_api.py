"""The public API: explained, told apart from the packages that hold it, and what the last release promised."""

from __future__ import annotations

import inspect
import json
import re
from operator import attrgetter
from pathlib import Path

import pytest

import mechconn as mc
from released_api import breaks, described, public_names

ROOT = Path(__file__).parents[1]
RELEASES = sorted((ROOT / "tests" / "api").glob("*.json"), key=lambda file: [int(n) for n in file.stem.split(".")])


def test_the_api_of_the_last_release_still_stands() -> None:
    """What a release took away or changed stands in the changelog, under "Names changed"."""
    released = json.loads(RELEASES[-1].read_text(encoding="utf-8"))
    assert len(released) > 100
    broken = breaks(released, described())
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    changed = changelog.partition("### Names changed")[2].partition("\n#")[0]
    assert {name: what for name, what in broken.items() if not re.search(rf"`{re.escape(name)}[`(.]", changed)} == {}


def test_a_broken_promise_is_seen() -> None:
    old = {"f": {"x": ["POSITIONAL_OR_KEYWORD", False], "y": ["POSITIONAL_OR_KEYWORD", True]}}
    for now in (
        {},
        {"f": None},
        {"f": {"x": ["POSITIONAL_OR_KEYWORD", False]}},
        {"f": {"x": ["KEYWORD_ONLY", False], "y": ["POSITIONAL_OR_KEYWORD", True]}},
        {"f": {**old["f"], "z": ["KEYWORD_ONLY", False]}},
        {"f": {"y": ["POSITIONAL_OR_KEYWORD", True], "x": ["POSITIONAL_OR_KEYWORD", False]}},
        {"f": {"x": old["f"]["x"], "z": ["POSITIONAL_OR_KEYWORD", True], "y": old["f"]["y"]}},
        {"f": {"x": ["POSITIONAL_OR_KEYWORD", False], "y": ["POSITIONAL_OR_KEYWORD", False]}},
    ):
        assert breaks(old, now)
    assert not breaks(old, {"f": {**old["f"], "z": ["KEYWORD_ONLY", True]}, "g": None})


@pytest.mark.parametrize("name", public_names())
def test_public_names_explain_themselves(name: str) -> None:
    thing = attrgetter(name)(mc)
    if inspect.isclass(thing) or inspect.isroutine(thing):
        text = thing.__doc__ or ""
        # A dataclass without a docstring gets its signature as one; that explains nothing.
        assert text.strip() and not text.startswith(f"{name.rpartition('.')[2]}("), f"{name} has no docstring"


def test_no_package_has_the_name_of_a_verb() -> None:
    """The facade is lazy: importing a package would put it in the place of a function of that name."""
    packages = {folder.name for folder in (ROOT / "src" / "mechconn").iterdir() if folder.is_dir()}
    flat = {name for name in mc.__all__ if not inspect.ismodule(getattr(mc, name))}
    assert packages and flat and not packages & flat
    assert packages - {"__pycache__"} <= {*mc.__all__}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="audits"):
        attrgetter("audits")(mc)
    assert re.fullmatch(r"\d+\.\d+\.\d+", mc.__version__)
