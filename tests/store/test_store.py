from pathlib import Path

import pytest
import torch

from mechconn.core import to_plain
from mechconn.paper import RunStore
from mechconn.store import StepIdentity, StepInput, StepOutput, Store
from work import made, run_record, step


def never(_: Path) -> StepOutput:
    raise AssertionError("this step is there already")


def test_a_step_is_done_once_and_read_exactly(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "store")
    first = store.step(step(), lambda _: made())
    again = RunStore(tmp_path / "store").step(step(), never)
    assert (first.computed, again.computed) == (True, False)
    assert first.numbers == again.numbers == {"number": 0, "third": 1 / 3}
    for found in (first, again):
        assert torch.equal(found.tensors["weights"]["w"], torch.arange(6.0) / 7)
    assert first.input == again.input and first.input.key == step().key


def test_the_record_tells_what_was_done(tmp_path: Path) -> None:
    work = StepIdentity("train", 3, {"lr": 0.1, "widths": (1, 2)}, {"data": StepInput("ab", None)}, 2)
    record = RunStore(tmp_path).step(work, lambda _: made(), "cpu").record
    assert (record.step, record.code_version, record.threads, record.key) == ("train", 3, 2, work.key)
    assert record.config == {"lr": 0.1, "widths": [1, 2]}
    assert record.inputs == {"data": {"sha256": "ab", "key": None}}
    assert list(record.files) == ["weights.safetensors"] and record.seconds >= 0
    assert record.environment.versions["torch"] == torch.__version__


def test_what_follows_depends_on_what_came_out(tmp_path: Path) -> None:
    one = RunStore(tmp_path / "a").step(step(), lambda _: made(1)).input
    two = RunStore(tmp_path / "b").step(step(), lambda _: made(2)).input
    assert one.key == two.key and one.sha256 != two.sha256


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = RunStore(tmp_path)

    def fails(_: Path) -> StepOutput:
        raise FloatingPointError("diverged")

    with pytest.raises(FloatingPointError):
        store.step(step(), fails)
    assert not list(tmp_path.glob("steps/*"))
    assert store.step(step(), lambda _: made()).computed


def test_numbers_that_json_cannot_hold_are_refused_and_the_advice_can_be_followed(tmp_path: Path) -> None:
    store, text = (
        RunStore(tmp_path),
        r"^the numbers of step 'test' cannot be stored \(.*\); pass StepOutput\(mechconn\.core",
    )
    with pytest.raises(ValueError, match=text):
        store.step(step(), lambda _: StepOutput({"loss": float("nan")}))
    with pytest.raises(TypeError, match=text):
        store.step(step(), lambda _: StepOutput({"loss": torch.ones(2)}))
    numbers = to_plain({"loss": float("nan"), "both": torch.ones(2)})
    assert store.step(step(), lambda _: StepOutput(numbers)).numbers == {"loss": "NaN", "both": [1.0, 1.0]}


def test_checkpoints_stay_until_the_step_is_finished(tmp_path: Path) -> None:
    store = RunStore(tmp_path)

    def interrupted(folder: Path) -> StepOutput:
        (folder / "epoch").write_text("7", encoding="utf-8")
        raise KeyboardInterrupt

    def resumed(folder: Path) -> StepOutput:
        return StepOutput({"epoch": int((folder / "epoch").read_text(encoding="utf-8"))})

    with pytest.raises(KeyboardInterrupt):
        store.step(step(), interrupted)
    assert store.step(step(), resumed).numbers == {"epoch": 7}
    assert not list(tmp_path.glob("unfinished/*"))


def test_runs_are_listed_latest_first_and_found_by_the_start_of_their_id(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for number, run in enumerate(("fig4-smoke-aa", "fig4-smoke-ab", "table1-smoke-cc")):
        store.save(run_record(run, started=f"2026-01-0{number + 1}T00:00:00+00:00"))
    assert [run.id for run in store.runs()] == ["table1-smoke-cc", "fig4-smoke-ab", "fig4-smoke-aa"]
    assert store.show("tab").id == "table1-smoke-cc"
    assert store.show("fig4-smoke-aa") == run_record("fig4-smoke-aa")
    with pytest.raises(ValueError, match="several runs start with 'fig4': fig4-smoke-aa, fig4-smoke-ab"):
        store.show("fig4")
    with pytest.raises(ValueError, match="did you mean 'table1-smoke-cc'"):
        store.show("table1-smoke-cd")
    with pytest.raises(ValueError, match="holds no runs yet"):
        RunStore(tmp_path / "empty").show("fig4")


def test_removing_a_run_keeps_the_steps_of_others(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for run, numbers in (("run-a", (1, 2)), ("run-b", (2, 3))):
        for number in numbers:
            store.of(run).step(step(number), lambda _, number=number: made(number))
        store.save(run_record(run))
    store.step(step(4), lambda _: made(4))  # of no run
    assert store.remove("run-a") == 1
    assert [run.id for run in store.runs()] == ["run-b"]
    assert {place.name for place in tmp_path.glob("steps/*")} == {step(number).key for number in (2, 3, 4)}
    assert store.remove("run-b") == 2 and store.runs() == [] and not list(tmp_path.glob("drafts/*"))


def test_a_step_that_another_run_takes_while_the_first_is_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, discard, taken = RunStore(tmp_path), Store._discard, []
    store.of("run-a").step(step(), lambda _: made())

    def discarding(self: Store, folder: Path) -> bool:
        """Another run takes the step once the first one's folder is about to go."""
        if not taken:
            taken.append(store.of("run-b").step(step(), never))
        return discard(self, folder)

    monkeypatch.setattr(Store, "_discard", discarding)
    assert store.remove("run-a") == 0
    assert taken and not store.of("run-b").step(step(), never).computed


def test_only_a_whole_id_is_removed(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.save(run_record("run-a"))
    for word in ("", "run"):
        with pytest.raises(ValueError, match="run must be one of 'run-a'"):
            store.remove(word)
    with pytest.raises(ValueError, match="run must be one of 'run-a'"):
        store.show("")
    assert store.names() == ["run-a"]


def test_a_run_at_work_is_not_removed_and_one_that_nobody_works_on_has_stopped(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.save(run_record("run-a", "running"))
    with store.running("run-a") as alone:
        assert alone and store.show("run-a").status == "running"
        with store.running("run-a") as second:
            assert not second
        with pytest.raises(ValueError, match="run run-a is at work just now"):
            store.remove("run-a")
    assert store.show("run-a").status == "stopped"
    assert store.remove("run-a") == 0
