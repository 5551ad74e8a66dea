"""Runs: resumed after kill -9 without repeating anything, with the same numbers; two at once; failing cells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from image_files import pixels, write_class_folder
from mechconn.paper import RunPlan, RunRecord, RunStore, RunWatcher, _run_recipe, _tasks, run_plan
from recipes import INLINE, computed, small_plan
from work import child, heard, kill

RUNNING = """
import sys
from pathlib import Path
from mechconn.paper import _steps
from mechconn.paper import RunWatcher, run_plan
from recipes import computed, small_plan
stop = sys.argv[2]
def told(event):
    global stop
    if event.stage == stop and event.done == int(sys.argv[3]):
        stop = ""
        print("at work", flush=True)
        sys.stdin.readline()
def line(text):
    said.append(text)
    if text.startswith("another process"):
        print(text, flush=True)
said = []
print("starting", flush=True)
record = run_plan(small_plan(Path(sys.argv[1])), RunWatcher(told, line))
print(record.status, computed(said), flush=True)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A run that nothing disturbed."""
    return run_plan(small_plan(tmp_path_factory.mktemp("whole")))


def test_a_run_is_results_and_how_they_came_about(whole: RunRecord) -> None:
    assert (whole.status, whole.planned, whole.threads, whole.recipe) == ("done", 2, 1, "table1")
    assert [cell.name for cell in whole.cells] == [
        "planted, 0.6 cued, 40 clean, seed 0",
        "planted, 0.9 cued, 40 clean, seed 0",
    ]
    places = [(found.dataset, found.proportion, found.clean_samples, found.seed) for found in whole.cue_results]
    assert places == [("planted", 0.6, 40, 0), ("planted", 0.9, 40, 0)]
    for cell in whole.cells:
        # train, two fine-tunings, three measurements; all of them new.
        assert len(cell.steps) == cell.computed == 6
    assert set(whole.cue_results[0].models["theta_C"].accuracy) == {"cue", "no_cue", "rand_cue", "rand_image"}
    assert whole.settings["methods"]["CBFT"]["epochs"] == 2 and whole.settings["device"] == "cpu"
    assert whole.environment.threads >= 1 and whole.pictures == {"planted": {}}


@pytest.mark.parametrize(
    ("title", "done", "steps"),
    [("train: theta_C", 1, 0), ("fine-tune: CBFT", 1, 2), ("measure: CBFT", 2, 5)],
    ids=["first step", "middle", "last step of the cell"],
)
def test_killed_and_started_again(title: str, done: int, steps: int, whole: RunRecord, tmp_path: Path) -> None:
    process = child(RUNNING, tmp_path, title, done)
    assert (heard(process), heard(process)) == ("starting", "at work")
    assert RunStore(tmp_path).show("table1").status == "running"
    kill(process)
    stopped = RunStore(tmp_path).show("table1")
    assert stopped.status == "stopped"
    finished = {folder.name: folder.stat().st_mtime_ns for folder in (tmp_path / "steps").glob("*")}
    assert len(finished) == steps
    said: list[str] = []
    record = run_plan(small_plan(tmp_path), RunWatcher(line=said.append))
    assert record.status == "done" and record.results == whole.results and record.id == whole.id
    assert computed(said) == sum(cell.computed for cell in record.cells) == 12 - steps
    assert record.started == stopped.started and record.seconds > stopped.seconds
    assert finished == {name: (tmp_path / "steps" / name).stat().st_mtime_ns for name in finished}
    check_unchanged(record, tmp_path)


def check_unchanged(record: RunRecord, store: Path) -> None:
    """Started again, a finished run computes nothing, and its record stays as it was but for the time it took."""
    said: list[str] = []
    again = run_plan(small_plan(store), RunWatcher(line=said.append))
    assert computed(said) == 0 and again.seconds > record.seconds
    assert again == replace(record, seconds=again.seconds) == RunStore(store).show(record.id)


def test_a_finished_run_that_is_started_again_and_killed_keeps_its_record(whole: RunRecord, tmp_path: Path) -> None:
    first = run_plan(small_plan(tmp_path))
    for file in (tmp_path / "steps" / first.cells[0].steps["measure: CBFT"]).iterdir():
        file.write_bytes(b"")
    process = child(RUNNING, tmp_path, "measure: CBFT", 1)
    assert (heard(process), heard(process)) == ("starting", "at work")
    kill(process)
    stopped = RunStore(tmp_path).show("table1")
    assert stopped.status == "stopped" and stopped.results == whole.results
    assert (stopped.cells, stopped.started) == (first.cells, first.started)
    again = run_plan(small_plan(tmp_path))
    assert again.status == "done" and again.results == whole.results and again.seconds > first.seconds
    assert [cell.computed for cell in again.cells] == [1, 6]
    assert all(cell.seconds > 0 for cell in again.cells)


def test_two_runs_at_once_on_one_store(whole: RunRecord, tmp_path: Path) -> None:
    first = child(RUNNING, tmp_path, "fine-tune: FT-M", 1)
    assert (heard(first), heard(first)) == ("starting", "at work")
    second = child(RUNNING, tmp_path, "measure: CBFT", 1)
    assert heard(second) == "starting"
    assert heard(second) == f"another process works on run {whole.id}; waiting until it ends"
    with pytest.raises(ValueError, match="is at work just now"):
        RunStore(tmp_path).remove(whole.id)
    out, _ = first.communicate("go\n")
    other, error = second.communicate("go\n")
    assert error == "" and (out, other) == ("done 12\n", "done 0\n")
    assert RunStore(tmp_path).show("table1").results == whole.results


def test_more_seeds_repeat_nothing(tmp_path: Path) -> None:
    one = run_plan(small_plan(tmp_path, INLINE, "proportions=0.6"))
    both = run_plan(small_plan(tmp_path, INLINE, "proportions=0.6", "seeds=0,1"))
    assert one.id != both.id and [cell.computed for cell in both.cells] == [0, 6]
    store = RunStore(tmp_path)
    assert [record.id for record in store.runs()] and len(list(tmp_path.glob("steps/*"))) == 12
    assert store.remove(one.id) == 0 and store.remove(both.id) == 12


def test_a_damaged_step_is_in_the_notes_and_the_numbers_are_the_same(whole: RunRecord, tmp_path: Path) -> None:
    first = run_plan(small_plan(tmp_path))
    torn = tmp_path / "steps" / first.cells[0].steps["fine-tune: CBFT"] / "weights.safetensors"
    torn.write_bytes(torn.read_bytes()[:-7])
    said: list[str] = []
    again = run_plan(small_plan(tmp_path), RunWatcher(line=said.append))
    assert again.results == whole.results and [cell.computed for cell in again.cells] == [1, 6]
    assert len(again.notes) == 1 and "weights.safetensors is cut short" in again.notes[0] and again.notes[0] in said


def test_notes_on_the_settings_are_said_and_kept(tmp_path: Path) -> None:
    said: list[str] = []
    plan = replace(small_plan(tmp_path, INLINE, "proportions=0.6"), notes=("digits instead",))
    assert run_plan(plan, RunWatcher(line=said.append)).notes == ("digits instead",) and said[0] == "digits instead"


def test_progress_is_said_with_the_time_left(tmp_path: Path) -> None:
    said: list[str] = []
    run_plan(small_plan(tmp_path), RunWatcher(line=said.append))
    run_plan(small_plan(tmp_path), RunWatcher(line=said.append))
    assert said[0].startswith("[1/2] planted, 0.6 cued, 40 clean, seed 0: ") and "about " in said[0]
    assert said[1].startswith("[2/2] ") and "left" not in said[1]
    assert "6 of 6 steps were there" in said[2] and "left" not in said[2] and said[2].startswith("[1/2]")


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    # Settings that are valid, and diverge.
    said: list[str] = []
    plan = small_plan(tmp_path, INLINE, "training.lr=1e30", "proportions=0.6,0.8")
    record = run_plan(plan, RunWatcher(line=said.append))
    assert record.status == "failed" and [cell.status for cell in record.cells] == ["failed", "failed"]
    assert all("FloatingPointError: training diverged" in str(cell.why) for cell in record.cells)
    assert record.results == [] and said[0].startswith("[1/2] planted, 0.6 cued, 40 clean, seed 0: failed: Floating")


def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechconn.store import DiskFullError

    def full(_: object) -> None:
        raise DiskFullError("full")

    monkeypatch.setattr(_run_recipe, "run_cell", full)
    with pytest.raises(DiskFullError):
        run_plan(small_plan(tmp_path))
    assert RunStore(tmp_path).show("table1").status == "stopped"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["clean_samples=81"], "clean_samples: asked for 81 samples, but only 80 exist"),
        (["datasets=no/such/folder"], "no folder no/such/folder"),
    ],
)
def test_what_is_wrong_with_the_data_is_found_before_the_start(changes: list[str], expected: str, tmp_path: Path):
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        run_plan(small_plan(tmp_path, INLINE, *changes))
    assert list(tmp_path.iterdir()) == []


class StoppedError(Exception):
    pass


def stopped_after_one(store: Path) -> RunRecord:
    """The record of a run that was started again and stopped after its first cell."""

    def stop(line: str) -> None:
        if line.startswith("[1/2]"):
            raise StoppedError

    with pytest.raises(StoppedError):
        run_plan(small_plan(store), RunWatcher(line=stop))
    return RunStore(store).show("table1")


def test_a_record_never_holds_results_of_other_code_or_data_beside_new_ones(
    whole: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_plan(small_plan(tmp_path))
    assert stopped_after_one(tmp_path).results == whole.results and first.inputs_hash == whole.inputs_hash != ""
    monkeypatch.setitem(_run_recipe.VERSIONS, "measure", 99)
    stopped = stopped_after_one(tmp_path)
    assert stopped.results == whole.results[:1] and stopped.inputs_hash != first.inputs_hash
    again = run_plan(small_plan(tmp_path))
    assert again.results == whole.results and again.inputs_hash == stopped.inputs_hash


def test_the_hash_of_what_is_read_follows_the_images(tmp_path: Path) -> None:
    def inputs(first: int) -> str:
        for caches in (_tasks.load_task, _tasks._load_images):
            caches.cache_clear()
        for label in ("cat", "dog"):
            pictures = {f"{row}.png": pixels(row + 10 * (label == "dog") + first) for row in range(6)}
            write_class_folder(tmp_path / "photos" / label, pictures)
        changes = (f"datasets={tmp_path / 'photos'}", "rows=8", "test_rows=2", "clean_samples=4")
        return _run_recipe._check_plan(small_plan(tmp_path, INLINE, *changes))[1]

    first, again, other = inputs(0), inputs(0), inputs(1)
    assert first == again != other


def test_the_id_is_that_of_the_settings(tmp_path: Path) -> None:
    plan = small_plan(tmp_path)
    assert plan.id == small_plan(tmp_path / "elsewhere").id and plan.id.startswith("table1-smoke-")
    assert plan.id != small_plan(tmp_path, INLINE, "width=9").id
    assert json.loads(json.dumps(plan.plain)) == plan.plain
    assert isinstance(plan, RunPlan)
