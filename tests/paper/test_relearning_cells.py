"""Recipes that also say which model uses, avoids, hides or lacks the cue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mechconn as mc
from mechconn.paper import RunRecord, TuningSettings, _cells, resolve_settings, run_plan
from recipes import INLINE, small_plan

PROTOCOL = ("relearn.steps=[0,3,6]", "relearn.seeds=2")
STATES = {"uses", "avoids", "hidden", "gone", "undetermined"}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return run_plan(small_plan(tmp_path_factory.mktemp("store"), INLINE, *PROTOCOL, recipe="quickstart"))


def test_every_model_has_a_state(record: RunRecord) -> None:
    (result,) = record.cue_results
    models = ["theta_C", "theta_NC", "FT-M", "CBFT"]
    assert list(result.models) == list(result.states) == list(result.relearned) == models
    assert set(result.states.values()) <= STATES
    for name, found in result.relearned.items():
        assert (found.steps, found.split, found.compared_with) == ((0, 3, 6), "rand_image", "control")
        assert found.runs[0].before == result.models[name]
        assert found.settings["seeds"] == 2


def test_findings_say_the_states_in_one_sentence(record: RunRecord) -> None:
    verbs = {
        "uses": "uses",
        "avoids": "avoids",
        "hidden": "hides",
        "gone": "lacks",
        "undetermined": "may or may not have",
    }
    states = record.cue_results[0].states
    said = ", ".join(f"{name} {verbs[state]} the cue" for name, state in states.items())
    assert f"{said}." in record.findings


def test_pages_show_the_curves_and_stored_runs_hold_the_states(record: RunRecord) -> None:
    titles = [section.title for section in record.sections()]
    assert any("Gone or hidden" in title for title in titles)
    loaded = mc.load_result(record.to_dict())
    assert isinstance(loaded, RunRecord) and loaded.cue_results[0].states == record.cue_results[0].states
    assert loaded.to_json() == record.to_json()


def test_rows_in_which_the_cue_alone_predicts_are_as_many_as_there_are(record: RunRecord) -> None:
    """80 training rows, where 100 are taken as a rule."""
    (result,) = record.cue_results
    assert record.status == "done" and all(len(found.runs) == 1 for found in result.relearned.values())


def test_a_run_that_is_stopped_in_relearning_goes_on(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relearning of a model fails; what was relearned before it is kept."""
    relearn = _cells.relearn_step

    def fail(context: Any, what: str, *others: Any) -> mc.Relearned:
        if what == "FT-M":
            raise OSError("the disk is gone")
        return relearn(context, what, *others)

    plan = small_plan(tmp_path, INLINE, *PROTOCOL, recipe="quickstart")
    monkeypatch.setattr(_cells, "relearn_step", fail)
    assert run_plan(plan).status == "failed"
    monkeypatch.undo()
    again = run_plan(plan)
    assert again.cells[0].computed == 2 < record.cells[0].computed
    assert again.results == record.results


def test_relearning_is_set_by_path_and_by_table() -> None:
    _, _, settings, _ = resolve_settings("quickstart", "smoke", ["relearn.lr=0.05", "relearn.seeds=4"])
    assert isinstance(settings, TuningSettings) and settings.relearn is not None
    assert (settings.relearn.lr, settings.relearn.seeds, settings.relearn.steps) == (0.05, 4, (0, 25, 50))
    _, _, settings, _ = resolve_settings("table1", "smoke", [{"relearn": {"steps": [0, 10], "seeds": 2}}])
    assert isinstance(settings, TuningSettings)
    assert settings.relearn == mc.Relearning(steps=(0, 10), seeds=2)
    with pytest.raises(ValueError, match="seeds must be two or more"):
        resolve_settings("quickstart", "smoke", ["relearn.seeds=1"])


def test_without_relearning_nothing_is_measured(tmp_path: Path) -> None:
    (result,) = run_plan(small_plan(tmp_path, INLINE, "proportions=0.6", "relearn=none")).cue_results
    assert result.relearned == {} == result.states
    assert not any("lacks the cue" in sentence for sentence in result.findings)
