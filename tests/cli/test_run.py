"""`mechconn run`, from words to exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mechconn.cli import main
from mechconn.cli._run_command import find_store_folder
from mechconn.paper import RunStore
from recipes import TINY, TUNING


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["run", *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def words(store: Path, *changes: str) -> list[str]:
    sets = [word for change in (*TINY, *TUNING, *changes) for word in ("--set", change)]
    return ["table1", "--scale", "smoke", "--threads", "1", "--device", "cpu", "--store", str(store), *sets]


def test_json_is_one_object_and_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objects = []
    for _ in range(2):
        assert run(*words(tmp_path, "proportions=0.8"), "--seeds", "0,1", "--json") == 0
        shown = capsys.readouterr()
        objects.append(json.loads(shown.out))
        assert "[2/2] planted, 0.8 cued, 40 clean, seed 1" in shown.err
    assert set(objects[0]) == {"run", "seconds", "settings", "results"}
    assert objects[0]["results"] == objects[1]["results"] and objects[0]["run"] == objects[1]["run"]
    assert objects[0]["settings"]["seeds"] == [0, 1]
    stored = RunStore(tmp_path).show(objects[0]["run"])
    assert [result.to_plain() for result in stored.results] == objects[0]["results"]["cells"]


def test_the_summary_is_a_mean_over_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words(tmp_path, "proportions=0.8", "clean_model=true"), "--seeds", "0,1") == 0
    shown = capsys.readouterr().out
    (record,) = RunStore(tmp_path).runs()
    values = [result.models["CBFT"].accuracy["rand_cue"] for result in record.cue_results]
    assert "means over the seeds [0, 1]" in shown and f"{50 * sum(values):.1f}" in shown
    assert "Barriers in nats" in shown and "theta_C to theta_NC" in shown
    assert f"run {record.id}, done" in shown


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--device", "tpu", "--set", "rows=x", "--engine", "rai"], ["device must be", "rows: ", "did you mean 'ray'"]),
        (["--seeds", "0,a"], ["seeds.1: "]),
        (["--scale", "large"], ["scale must be one of 'smoke', 'small', 'paper'"]),
        (["--precision", "half"], ["precision: "]),
        (["--workers", "2"], ["--workers is for --engine processes and --engine ray, and has no effect"]),
        (["--engine", "processes", "--gpus", "1"], ["--gpus is for --engine ray, and has no effect with --engine pro"]),
    ],
)
def test_wrong_input_is_status_two_with_all_mistakes(
    extra: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert run(*words(store), *extra) == 2
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == len(expected) and shown.out == "" and not store.exists()
    for part in expected:
        assert any(line.startswith("mechconn: ") and part in line for line in lines)


def test_a_failed_cell_is_status_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words(tmp_path, "training.lr=1e30", "proportions=0.8")) == 1
    shown = capsys.readouterr().err.splitlines()
    assert any("failed: FloatingPointError: training diverged" in line for line in shown)
    assert "1 of 1 cells failed" in shown[-1]


def test_a_file_is_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.toml"
    file.write_text('recipe = "table1"\nproportions = 0.8\nmethods = "FT-M"\nrows = 80\n', encoding="utf-8")
    sets = [word for change in (*TINY, "methods.FT-M.epochs=1", "clean_samples=40") for word in ("--set", change)]
    assert run(str(file), "--threads", "1", "--store", str(tmp_path / "store"), "--json", *sets) == 0
    (found,) = json.loads(capsys.readouterr().out)["results"]["cells"]
    assert set(found["models"]) == {"theta_C", "FT-M"}
    assert run(str(tmp_path / "none.toml")) == 2
    assert "no configuration file" in capsys.readouterr().err


def test_the_store_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MECHCONN_STORE", raising=False)
    assert find_store_folder(None) == Path("mechconn-store")
    monkeypatch.setenv("MECHCONN_STORE", str(tmp_path))
    assert find_store_folder(None) == tmp_path and find_store_folder(Path("own")) == Path("own")
