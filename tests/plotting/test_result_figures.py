"""A figure of the user's: on every page, and in notebooks, of its kind of result, live or read from a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mechconn as mc
from mechconn.plotting import ResultFigure, make_figure
from zoo import build, mlp, rows


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, type[ResultFigure]]]:
    """What a test registers is gone after it."""
    monkeypatch.setattr(ResultFigure, "registered", dict(ResultFigure.registered))
    yield ResultFigure.registered


def define_bars() -> type[ResultFigure]:
    class Bars(ResultFigure):
        """Accuracy on every split."""

        of = mc.Invariance
        title = "Accuracy by split, drawn by me"

        def draw(self, result: mc.Invariance) -> Any:
            figure = make_figure(4.0, 2.0)
            figure.subplots().bar(list(result.accuracy), list(result.accuracy.values()))
            return figure

        def describe(self, result: mc.Invariance) -> str:
            return f"{len(result.accuracy)} bars <tall & short>"

        def suits(self, result: mc.Invariance) -> bool:
            return len(result.accuracy) > 1

    return Bars


def measure(*splits: str) -> mc.Invariance:
    suite = mc.Suite(dict.fromkeys(splits, rows(20)), interventions=splits[1:])
    return mc.measure_invariance(build(mlp), suite)


def test_every_representation_ends_with_it(tmp_path: Path) -> None:
    found = measure("cue", "rand_cue")
    plain = found._repr_html_()
    kind = define_bars()
    html = found._repr_html_()
    assert kind.title not in plain and html.count(f">{kind.title}<") == 1
    assert html.count("<svg") == plain.count("<svg") + 1
    assert "2 bars &lt;tall &amp; short&gt;" in html, "the text for those who do not see it, escaped"
    mc.save_report(found, tmp_path / "live.html")
    found.save(tmp_path / "found.json")
    mc.save_report(tmp_path / "found.json", tmp_path / "read.html")
    pages = [(tmp_path / name).read_text(encoding="utf-8") for name in ("live.html", "read.html")]
    assert pages[0] == pages[1] and pages[0].count(f">{kind.title}</h2>") == 1


def test_it_is_of_its_kind_of_result_alone() -> None:
    kind = define_bars()
    other = mc.output_discrepancy(build(mlp), build(mlp, 1), mc.Suite({"cue": rows(20), "rand_cue": rows(20)}))
    assert kind.title not in other._repr_html_()
    assert kind.title not in measure("cue")._repr_html_(), "it does not suit a result of one split"


def test_defined_again_it_takes_the_place_of_the_first(registered: dict[str, type[ResultFigure]]) -> None:
    first, second = define_bars(), define_bars()
    assert first is not second and registered[f"{__name__}:{second.__qualname__}"] is second
    assert measure("cue", "rand_cue")._repr_html_().count(f">{second.title}<") == 1


def test_a_figure_that_names_no_kind_is_refused(registered: dict[str, type[ResultFigure]]) -> None:
    with pytest.raises(
        TypeError, match=r"the figure Nameless must name what it is of .*, and lacks of, title; write of ="
    ):

        class Nameless(ResultFigure):
            def draw(self, result: Any) -> Any:
                raise NotImplementedError

            def describe(self, result: Any) -> str:
                return ""

    assert "Nameless" not in registered
