"""A recipe in a user's own file: run by name and in worker processes, from Python, the command line and files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mechconn.cli import main
from mechconn.paper import (
    CellEngine,
    CellRecord,
    Numbers,
    Recipe,
    RunPlan,
    RunStore,
    compare_runs,
    find_recipe,
    resolve_settings,
    run_plan,
)
from mechconn.plotting import Result
from mechconn.report import load_result
from own_recipe import OWN_RECIPE
from recipes import INLINE
from run_records import fig4_record

NAME = "my_recipes:Powers"


@pytest.fixture(autouse=True)
def _own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with the user's file, which is the working directory."""
    (tmp_path / "my_recipes.py").write_text(OWN_RECIPE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_recipes", None)
    Recipe.registered.pop("powers", None)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize("engine", [INLINE, pytest.param(CellEngine("processes", 2, 1), marks=pytest.mark.slow)])
def test_it_runs_in_this_process_and_in_workers(engine: CellEngine, tmp_path: Path) -> None:
    name, scale, settings, notes = resolve_settings(NAME, changes=["power=3"])
    record = run_plan(RunPlan(name, scale, settings, tmp_path / "store", engine, notes=tuple(notes)))
    assert (record.status, record.recipe, notes) == ("done", "powers", [])
    assert [cell.why for cell in record.cells] == [None, None]
    assert record.results == [Numbers({"width": 8, "value": 0.0}), Numbers({"width": 8, "value": 1.0})]
    assert record.summary == Numbers({"mean": 0.5})
    assert RunStore(tmp_path / "store").show("powers") == record
    assert record.id.startswith("powers-smoke-") and record.settings["power"] == 3.0


def test_commands_and_files_name_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", NAME, "--scale", "small", "--seeds", "0,2", "--set", "power=1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["seeds"] == [0, 2] and found["results"]["values"] == {"mean": 1.0}
    (tmp_path / "own.toml").write_text(f'recipe = "{NAME}"\nscale = "small"\npower = 1.0\n', encoding="utf-8")
    assert run("run", "own.toml", "--json") == 0
    assert json.loads(capsys.readouterr().out)["settings"]["seeds"] == [0, 1, 2]
    assert run("list") == 0 and run("show", "last") == 0
    assert run("report", "-o", "page.html") == 0
    assert "Powers of seeds" in (tmp_path / "page.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run("schema", NAME) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["description"] == "powers of seeds" and "power" in schema["properties"]
    assert run("run", "--help") == 0
    assert "package.module:Class" in capsys.readouterr().out


def test_its_page_is_the_same_where_its_file_is_not_imported(tmp_path: Path) -> None:
    """Another process, such as `mechconn report`, knows of the recipe what the record says."""
    name, scale, settings, _ = resolve_settings(NAME)
    record = run_plan(RunPlan(name, scale, settings, tmp_path / "store", INLINE))
    live = record._repr_html_()
    del Recipe.registered["powers"]
    again = RunStore(tmp_path / "store").show("powers")
    assert again == record and again._repr_html_() == live
    assert again.header().title == "Powers of seeds" and again.findings == ("The mean is 0.5.",)
    assert again.header().question == "How large do they grow?"
    for text in ("Powers of whole numbers are whole", "mean 0.5", "holds"):
        assert text in live


def test_a_recipe_that_cannot_judge_its_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, scale, settings, _ = resolve_settings(NAME)
    monkeypatch.setattr(type(find_recipe(NAME)), "summarise", lambda *_: None)
    record = run_plan(RunPlan(name, scale, settings, tmp_path / "store", INLINE))
    assert record.status == "done" and record.findings == (
        "my_recipes:Powers could not judge this run (TypeError: 'NoneType' object is not subscriptable).",
    )


def test_a_result_of_a_kind_that_is_not_defined_here_is_read_as_its_values(tmp_path: Path) -> None:
    """As `mechconn show` reads the run of a recipe whose file it has not imported: a record runs no code."""
    kind = dataclass(frozen=True, repr=False)(
        type("Own", (Numbers,), {"__module__": "elsewhere", "__annotations__": {}}, kind="own")
    )
    cell = CellRecord("a", "done", 1.0, {}, 0, result=kind({"value": 0.5}))
    record = replace(fig4_record(), cells=(cell,))
    store = RunStore(tmp_path)
    store.save(record)
    assert store.show("fig4") == record
    gone = replace(record, recipe="gone")
    assert gone.header().title == "gone" and gone.findings == () and gone.sections()
    del Result.kinds["own"]
    (found,) = store.show("fig4").results
    assert found == Numbers({"kind": "own", "values": {"value": 0.5}}) and "0.5" in str(found)
    assert found.rows() == [{"kind": "own", "values.value": 0.5}]


def test_summaries_of_plain_numbers_are_compared() -> None:
    summaries = {"mean": 0.5, "by width": {"8": 1.0, "all": True}}, {"mean": 0.25, "by width": {"8": 3.0}}
    found = compare_runs(*(replace(fig4_record(), cells=(), summary=Numbers(values)) for values in summaries))
    assert [(pair.name, pair.where, pair.split, pair.a, pair.b) for pair in found.summary] == [
        ("mean", "", "value", 0.5, 0.25),
        ("by width", "", "8", 1.0, 3.0),
    ]
    assert "Summary of all cells: A, B, and B minus A" in str(found) and "0.50000 0.25000 -0.25000" in str(found)


def test_numbers_are_the_same_once_they_were_saved(tmp_path: Path) -> None:
    cell = CellRecord("a", "done", 1.0, {}, 0, result=Numbers({"loss": float("inf"), "sizes": (1, 2), "by": {3: None}}))
    record = replace(fig4_record(), cells=(cell,))
    record.save(tmp_path / "run.json")
    again = load_result(tmp_path / "run.json")
    assert again == record and str(again) == str(record) and again._repr_html_() == record._repr_html_()
    assert again.rows() == [{"cell": "a", "loss": float("inf"), "sizes": [1, 2], "by.3": None}]
    with pytest.raises(TypeError, match="a set_iterator has no form in JSON"):
        Numbers({"loss": iter({1})})


def test_a_result_that_is_no_table_is_refused_in_a_line() -> None:
    plain = fig4_record().to_dict()
    plain["cells"][0]["result"] = 3
    with pytest.raises(ValueError, match=r"cells\.0\.result: .*must be a table of plain values with its kind, got '3'"):
        load_result(plain)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("power", "a recipe of your own is named as 'package.module:Class'"),
        ("my_recipes:Power", "has no 'Power'; name a Class that is defined there"),
        ("my_recipe:Powers", "there is no module 'my_recipe'"),
        ("my_recipes:Widths", "must be a class that extends mechconn.paper.Recipe and has a name"),
        ("mechconn.paper:Recipe", "must be a class that extends mechconn.paper.Recipe and has a name"),
        ("unfinished:Unfinished", "lacks cells, run_cell, settings; define them"),
        ("unfinished:", "must be named as 'package.module:Class'"),
    ],
)
def test_what_is_no_recipe(name: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "from mechconn.paper import Recipe\nclass Unfinished(Recipe):\n    name = 'unfinished'\n"
    (tmp_path / "unfinished.py").write_text(text, encoding="utf-8")
    assert run("run", name, "--set", "rows") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and expected in lines[0] and "--set 'rows' must be name=value" in lines[1]
    sys.modules.pop("unfinished", None)
    Recipe.registered.pop("unfinished", None)


def test_names_are_given_once_and_can_be_folders() -> None:
    with pytest.raises(ValueError, match=r"'table1' is defined twice, as mechconn\.paper\._recipes:Table1 and as"):
        type("Other", (Recipe,), {"name": "table1", "__module__": "elsewhere"})
    with pytest.raises(ValueError, match="must be letters, digits, '-' and '_', because runs are folders"):
        type("Other", (Recipe,), {"name": "a/b"})
    known = type(find_recipe("table1"))
    assert Recipe.registered["table1"] is known and known.reference() == "mechconn.paper._recipes:Table1"
    again = type("Again", (Recipe,), {"name": "again", "__module__": "notebook"})
    newer = type("Again", (Recipe,), {"name": "again", "__module__": "notebook"})
    assert Recipe.registered.pop("again") is newer is not again
