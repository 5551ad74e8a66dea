"""Files that hold no sound result are refused in one line, and nothing that a user has is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import mechconn as mc
from mechconn.plotting import ResultFigure
from zoo import build, mlp, rows

DATA = rows(24)
SUITE = mc.Suite({"cue": DATA, "rand_cue": (DATA[0].flip(1), DATA[1])}, reference="cue")


@pytest.fixture(scope="module")
def found() -> mc.Invariance:
    return mc.measure_invariance(build(mlp), SUITE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"kind": "invariance", "margin": NaN}', "NaN is no number of JSON; results hold it as a text"),
        ('{"kind": "invariance", "kind": "profile"}', "the key 'kind' stands twice in one table"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_json_of_ours_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.json is no JSON") as error:
        mc.load_result(tmp_path / "bad.json")
    assert why in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_file_with_a_byte_order_mark_is_read(found: mc.Invariance, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(found.to_json(), encoding="utf-8-sig")
    assert mc.load_result(tmp_path / "found.json") == found


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.update(reference="nosuch"),
        lambda plain: plain.update(interventions=["nosuch"]),
        lambda plain: plain.update(samples={}),
        lambda plain: plain["loss"].pop("rand_cue"),
        lambda plain: plain["effects"].clear(),
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    found: mc.Invariance, change: Callable[[dict[str, Any]], object]
) -> None:
    plain = found.to_dict()
    change(plain)
    with pytest.raises(
        ValueError, match=r"^the result: the parts of this invariance do not fit together \(\w+: .*\); "
    ):
        mc.load_result(plain)


@pytest.mark.parametrize("version", ["3", -1, 0, True, None])
def test_a_version_is_a_whole_number(found: mc.Invariance, version: Any) -> None:
    with pytest.raises(ValueError, match="schema_version must be a whole number of 1 or more, got "):
        mc.load_result({**found.to_dict(), "schema_version": version})


def test_a_page_does_not_replace_the_result_that_it_is_drawn_of(found: mc.Invariance, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    found.save(file)
    (tmp_path / "link.html").symlink_to(file)
    for target in (file, tmp_path / "link.html"):
        with pytest.raises(ValueError, match="the page would replace the result that it is drawn of"):
            mc.save_report(file, target)
    assert mc.load_result(file) == found
    mc.save_report(file, tmp_path / "other.html")


def test_other_mistakes_are_one_line(found: mc.Invariance, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^expected a file or plain values, got a int; pass a path or to_dict\(\)$"):
        mc.load_result(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(IsADirectoryError, match=r"is a folder; name a file in it$"):
        found.save(tmp_path)
    with pytest.raises(
        TypeError, match=r"^ax must be a panel, matplotlib Axes, got a Figure; pass figure.subplots\(\)$"
    ):
        found.plot(ax=Figure())  # pyright: ignore[reportArgumentType]
    found.plot(ax=Figure().subplots())


@pytest.fixture
def figures() -> Iterator[None]:
    before = dict(ResultFigure.registered)
    yield
    ResultFigure.registered.clear()
    ResultFigure.registered.update(before)


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize(
    ("draw", "why"),
    [
        (lambda self, result: None, "TypeError: draw must give a matplotlib Figure, got a NoneType"),
        (lambda self, result: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_figure_that_fails_leaves_the_page(
    found: mc.Invariance, draw: Callable[..., Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = {"of": mc.Invariance, "title": "Mine", "draw": draw, "describe": lambda self, result: "empty"}
    type("Mine", (ResultFigure,), own)
    shown = found._repr_html_()
    assert f"The figure Mine could not be drawn: {why}." in shown and "rand_cue" in shown
    assert why in caplog.text


@pytest.mark.usefixtures("figures")
def test_a_figure_names_a_class_of_results() -> None:
    own = {"of": "Invariance", "title": "Mine", "draw": lambda self, result: None, "describe": lambda self, result: ""}
    with pytest.raises(
        TypeError, match=r"^of must be a class of results, such as mechconn.Invariance, got 'Invariance'$"
    ):
        type("Mine", (ResultFigure,), own)


def test_plain_values_are_strict_json(found: mc.Invariance) -> None:
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()
