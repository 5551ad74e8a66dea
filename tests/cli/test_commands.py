import json
import os
from pathlib import Path

import pytest

import mechconn as mc
from mechconn import paper
from mechconn.cli import main
from mechconn.core import ProgressEvent
from mechconn.paper import QUICK_NOTE, RunPlan, RunRecord, RunWatcher, _run_recipe, resolve_settings
from run_records import quickstart_record


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[RunPlan]:
    """The command line with the run itself replaced by a record made by hand."""
    asked: list[RunPlan] = []

    def run_plan(plan: RunPlan, watch: RunWatcher) -> RunRecord:
        asked.append(plan)
        assert watch.step is not None
        watch.step(ProgressEvent("train: theta_C", 0, 1))
        return quickstart_record(notes=plan.notes)

    monkeypatch.setattr(paper, "run_plan", run_plan)
    return asked


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_demo_writes_the_report_and_prints_the_table(recorded, tmp_path: Path, capsys):
    target = tmp_path / "page.html"
    assert run("demo", "--seed", "3", "-o", str(target)) == 0
    shown = capsys.readouterr()
    (plan,) = recorded
    assert (plan.recipe, plan.scale) == ("quickstart", "smoke")
    assert plan.settings == resolve_settings("quickstart", "smoke", {"seeds": (3,)})[2]
    assert not plan.store.exists()  # a temporary folder
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "theta_NC" in shown.out
    assert "99.0" in shown.out
    assert "the cue" in shown.out and "uses" in shown.out and "gone" in shown.out
    assert "train: theta_C" in shown.err
    assert "train: theta_C" not in shown.out


def test_the_quick_demo_says_so_wherever_it_tells_its_numbers(recorded, tmp_path: Path, capsys):
    page = tmp_path / "page.html"
    assert run("demo", "--quick", "-o", str(page)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert QUICK_NOTE in shown and QUICK_NOTE in page.read_text(encoding="utf-8")
    assert run("demo", "--quick", "--json", "-o", str(page)) == 0
    assert json.loads(capsys.readouterr().out)["result"]["notes"] == [QUICK_NOTE]
    assert run("demo", "-o", str(page)) == 0
    assert QUICK_NOTE not in " ".join(capsys.readouterr().out.split())


def test_json_is_one_object_and_nothing_else(recorded, tmp_path: Path, capsys):
    assert run("demo", "--seed", "3", "--json", "-o", str(tmp_path / "page.html")) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["seed"] == 3
    assert set(record) >= {"seed", "seconds", "settings", "accuracy"}
    assert set(record["accuracy"]) == {"theta_C", "theta_NC", "FT-M", "CBFT"}
    assert record["state"] == {"theta_C": "uses", "theta_NC": "gone", "FT-M": "uses", "CBFT": "undetermined"}
    for splits in record["accuracy"].values():
        assert set(splits) == {"no_cue", "cue", "rand_cue", "rand_image"}
    found = mc.load_result(record)
    assert isinstance(found, RunRecord) and found.cue_results == quickstart_record().cue_results
    assert record["findings"] == list(quickstart_record().findings)


def test_the_run_of_the_demo_is_kept_where_a_store_is_named(recorded, tmp_path: Path, capsys):
    assert run("demo", "--store", str(tmp_path / "store"), "-o", str(tmp_path / "page.html")) == 0
    assert [plan.store for plan in recorded] == [tmp_path / "store"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["demo", "--seed", "-1"], ["seeds.0: Input should be greater than or equal to 0, got -1"]),
        (["demo", "--seed", "x"], ["Invalid value for '--seed'"]),
        (["demo", "--data", "digit"], ["digit"]),
        (["demo", "-o", "no/such/folder/page.html"], ["no/such/folder/page.html", "a folder that can be written"]),
        (["demo", "--device", "tpu"], ["device must be one of 'auto', 'cpu', 'cuda', got 'tpu'"]),
        (["demo", "--data", "cifar10"], ["root=", "MECHCONN_DATA"]),
        (["demo", "--quick", "--data", "cifar10"], ["the quick demo is on the embedded digits, got 'cifar10'"]),
        (["data", "digits", "--cue", "bx"], ["cue must be one of", "did you mean 'box'?"]),
        (["dmo"], ["No such command 'dmo'"]),
        (["demo", "--sed", "1"], ["No such option: --sed"]),
    ],
)
def test_wrong_input_is_one_line_and_status_two(words: list[str], expected: list[str], tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MECHCONN_DATA", raising=False)
    assert run(*words) == 2
    shown = capsys.readouterr()
    line = shown.err.strip().splitlines()[-1]
    assert line.startswith("mechconn: ")
    for part in expected:
        assert part in line
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_come_at_once(tmp_path, capsys):
    assert run("demo", "--seed", "-1", "--device", "tpu", "-o", str(tmp_path / "no" / "page.html")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].split()[0] for line in lines] == ["seeds.0", "device", "the"]


def test_a_target_that_is_no_plain_file_is_left_alone(tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert run("data", "digits", "--preview", str(pipe)) == 2
    assert pipe.is_fifo()


def test_planted_data_have_no_pictures(capsys):
    for words in (["demo", "--data", "planted"], ["data", "planted"]):
        assert run(*words) == 2
        assert "planted data are no images" in capsys.readouterr().err


def test_data_draws_a_sheet(tmp_path: Path, capsys):
    target = tmp_path / "cues.png"
    assert run("data", "digits", "--cue", "box", "--preview", str(target)) == 0
    assert target.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"{target}\n"


def test_a_failed_run_is_status_one_and_debug_shows_where(monkeypatch, tmp_path, capsys):
    def diverges(*_: object, **__: object) -> None:
        raise FloatingPointError("training diverged at step 7")

    monkeypatch.setattr(_run_recipe, "run_cell", diverges)
    monkeypatch.chdir(tmp_path)
    assert run("demo") == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith(": FloatingPointError: training diverged at step 7")
    assert not list(tmp_path.iterdir())
    assert run("--debug", "demo") == 1
    assert "Traceback" in capsys.readouterr().err


def test_info_names_versions_and_the_store(capsys, monkeypatch):
    monkeypatch.delenv("MECHCONN_STORE", raising=False)
    assert run("info") == 0
    shown = capsys.readouterr().out
    assert "torch" in shown and "mechconn-store" in shown


@pytest.mark.parametrize("words", [[], ["--help"], ["demo", "--help"]])
def test_help(words: list[str], capsys):
    assert run(*words) == 0
    assert "--help" in capsys.readouterr().out
