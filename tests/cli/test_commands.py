import json
import os
from pathlib import Path

import pytest

from demo_record import demo_record
from mechconn import paper
from mechconn.cli import main
from mechconn.core import Progress, ProgressEvent
from mechconn.paper import DemoSettings
from mechconn.report import DemoRecord


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[DemoSettings]:
    """The command line with the run itself replaced by a record made by hand."""
    asked: list[DemoSettings] = []

    def run_demo(settings: DemoSettings, *, root: object, device: str | None, progress: Progress) -> DemoRecord:
        asked.append(settings)
        progress(ProgressEvent("[1/1] working", 0, 1))
        return demo_record(seed=settings.seed)

    monkeypatch.setattr(paper, "run_demo", run_demo)
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
    assert [settings.seed for settings in recorded] == [3]
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "theta_NC" in shown.out
    assert "99.0" in shown.out
    assert "[1/1] working" in shown.err
    assert "[1/1] working" not in shown.out


def test_json_is_one_object_and_nothing_else(recorded, tmp_path: Path, capsys):
    assert run("demo", "--seed", "3", "--json", "-o", str(tmp_path / "page.html")) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["seed"] == 3
    assert set(record) >= {"seed", "seconds", "settings", "accuracy"}
    assert set(record["accuracy"]) == {"theta_C", "theta_NC", "FT-M", "CBFT"}
    for splits in record["accuracy"].values():
        assert set(splits) == {"no_cue", "cue", "rand_cue", "rand_image"}
    assert "pictures" not in record


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["demo", "--seed", "-1"], ["seed: Input should be greater than or equal to 0, got -1"]),
        (["demo", "--seed", "x"], ["Invalid value for '--seed'"]),
        (["demo", "--data", "digit"], ["digit"]),
        (["demo", "-o", "no/such/folder/page.html"], ["no/such/folder/page.html", "a folder that can be written"]),
        (["demo", "--device", "tpu"], ["device must be one of 'auto', 'cpu', 'cuda', got 'tpu'"]),
        (["demo", "--data", "cifar10"], ["root=", "MECHCONN_DATA"]),
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
    assert [line.split(":")[1].split()[0] for line in lines] == ["seed", "device", "the"]


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

    monkeypatch.setattr(paper, "run_demo", diverges)
    monkeypatch.chdir(tmp_path)
    assert run("demo") == 1
    assert capsys.readouterr().err == "mechconn: FloatingPointError: training diverged at step 7\n"
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
