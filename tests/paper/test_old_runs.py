"""Runs that mechconn 0.1.0 stored: listed, shown, reported and removed beside new ones, and started again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mechconn.cli import main
from mechconn.paper import RunPlan, RunStore, resolve_settings, run_plan
from mechconn.report import load_result
from recipes import INLINE
from run_records import fig4_record

OLD = Path(__file__).with_name("run_0.1.0.json")
"""As 0.1.0 wrote it: `mechconn run table1 --threads 1` with CHANGES; its pictures were taken out."""
ID = "table1-smoke-232da366"
CHANGES = (
    "rows=60", "test_rows=20", "clean_samples=30", "methods=FT-M", "methods.FT-M.epochs=1", "training.epochs=1",
    "training.milestones=[]", "width=2", "points=3", "proportions=0.6", "draws=1",
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """The old run, and a new one."""
    monkeypatch.setenv("MECHCONN_STORE", str(tmp_path))
    monkeypatch.delenv("MECHCONN_DATA", raising=False)
    (tmp_path / "runs" / ID).mkdir(parents=True)
    shutil.copy(OLD, tmp_path / "runs" / ID / "record.json")
    made = RunStore(tmp_path)
    made.save(fig4_record())
    return made


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_every_command_works_beside_it(store: RunStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    found = {line["run"]: line for line in json.loads(capsys.readouterr().out)}
    assert set(found) == {ID, fig4_record().id} and found[ID]["cells"] == found[ID]["planned"] == 1
    for words in (["show", "table1"], ["compare", "table1", "fig4"], ["report", "-o", str(tmp_path / "page.html")]):
        assert run(*words) == 0
        assert capsys.readouterr().err == ""
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Table 1: ways of fine-tuning" in text
    assert "the results of this run were written by mechconn 0.1.0, which kept no verdicts; start the run again" in text
    assert run("remove", ID) == 0 and store.names() == [fig4_record().id]


def test_it_is_read_without_its_results() -> None:
    plain = json.loads(OLD.read_text(encoding="utf-8"))["record"]
    record = load_result(plain)
    assert record.to_dict()["schema_version"] == 3 and load_result(record.to_dict()) == record
    assert (record.status, record.results, record.done, record.seconds) == ("done", [], 1, plain["seconds"])  # pyright: ignore


def test_started_again_it_has_them_and_the_same_id(store: RunStore) -> None:
    name, scale, settings, _ = resolve_settings("table1", "smoke", [*CHANGES, "relearn=none"])
    record = run_plan(RunPlan(name, scale, settings, store.root, INLINE))
    assert record.id == ID and record.status == "done" and not any("0.1.0" in note for note in record.notes)
    old = json.loads(OLD.read_text(encoding="utf-8"))["record"]
    (numbers,) = old["results"].values()
    (result,) = record.cue_results
    assert set(result.models) == set(numbers["models"])
    for model, found in numbers["models"].items():  # accuracies are equal where rounding is that of the machine
        assert result.models[model].samples == found["samples"]
    # What was trained on data is known by the same key; keys of what follows hold the weights, and their rounding.
    assert record.cells[0].steps["train: theta_C"] == old["cells"][0]["steps"]["train: theta_C"]
    assert RunStore(store.root).show(ID) == record
