"""`mechconn audit` with `[relearn]` and `[probe]` in audit.toml."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mechconn as mc
from hidden_cues import save_files
from mechconn.cli import main

COMMAND = "audit uses.safetensors hides.safetensors --data audit.toml -o audit.html --json"
KEYS = "points = 3\nalignment = 'none'\n"
SPLITS = (
    "interventions = ['rand_cue']\n[splits]\ncue = 'cue.safetensors'\nrand_cue = 'rand_cue.safetensors'\n"
    "rand_image = 'rand_image.safetensors'\n"
)
MODEL = "[model]\nfactory = 'cue_models:build'\n"
QUICK = "steps = [0, 5, 15, 30]\nlr = 0.05\nseeds = 2\n"
RELEARN = f"[relearn]\ndata = 'tuned.safetensors'\nsplit = 'rand_image'\n{QUICK}"
NEVER = "control = 'never.safetensors'\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cues")
    save_files(folder)
    return folder


@pytest.fixture
def folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "cue_models", raising=False)
    return tmp_path


def run(folder: Path, toml: str) -> int:
    (folder / "audit.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(COMMAND))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def read(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    found = load_file(folder / f"{name}.safetensors")
    return found["x"], found["y"]


def test_gone_or_hidden_against_a_control(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, KEYS + SPLITS + RELEARN + NEVER + MODEL) == 0
    shown = capsys.readouterr()
    # 2 passes over 3 x 400 rows and 1 inner point; 3 networks x 2 seeds x (3 x 30 steps of 20 rows and 4 looks at 400);
    # and 4 over 2 x 400 rows, whether the control suits both.
    assert f"{3 * 1200 + 6 * (1800 + 1600) + 4 * 800:,} forward passes of one row" in shown.err
    record = json.loads(shown.out)
    assert record["headline"].endswith("uses uses the cue and hides hides the cue.")
    assert {name: own["state"] for name, own in record["relearned"].items()} == {"uses": "uses", "hides": "hidden"}
    assert set(record["settings"]["sha256 of the weights"]) == {"uses", "hides", "relearn.control"}
    suite = mc.Suite({name: read(folder, name) for name in ("cue", "rand_cue", "rand_image")}, "cue", ("rand_cue",))
    model, never = (mc.load_model("cue_models:build", f"{name}.safetensors") for name in ("hides", "never"))
    method = mc.Relearning(steps=(0, 5, 15, 30), lr=0.05, seeds=2)
    alone = mc.measure_relearning(model, method, read(folder, "tuned"), suite, split="rand_image", control=never)
    assert record["relearned"]["hides"]["excess"] == alone.excess
    assert "Gone or hidden" in (folder / "audit.html").read_text(encoding="utf-8")


def test_rows_are_drawn_and_a_placebo_serves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    placebo = "rows = 40\nplacebo = {data = 'placebo.safetensors', split = 'shown.safetensors'}\n"
    assert run(folder, KEYS + SPLITS + RELEARN + placebo + MODEL) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["settings"]["relearning"]["rows"] == 40
    assert {own["compared_with"] for own in record["relearned"].values()} == {"placebo"}


def test_probes_of_a_column_beside_the_control(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe = f"[probe]\ntarget = 'cue'\nsplit = 'rand_cue'\nlayers = ['input of 2']\n{NEVER}"
    assert run(folder, KEYS + SPLITS + probe + MODEL) == 0
    shown = capsys.readouterr()
    # 2 sides x 3 networks x 400 rows, each watched (2 passes); and 3 passes over 3 x 400 rows as above.
    assert f"{3 * 1200 + 2 * 2 * 3 * 400:,} forward passes of one row" in shown.err
    record = json.loads(shown.out)
    assert record["relearned"] == {} and set(record["probes"]) == {"uses", "hides"}
    found = record["probes"]["hides"]
    assert set(found["scores"]) == {"model", "control", "fresh weights"} and found["classes"] == 2
    assert found["scores"]["model"]["input of 2"]["accuracy"] > 0.95  # rows whose cue was drawn at random
    model, never = (mc.load_model("cue_models:build", f"{name}.safetensors") for name in ("hides", "never"))
    cue = load_file(folder / "rand_cue.safetensors")["cue"]
    alone = mc.probe(model, read(folder, "rand_cue"), cue, control=never, layers=["input of 2"])
    assert found["scores"] == alone.to_dict()["scores"]


def test_by_a_column_nothing_but_the_column_predicts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of a table whose column agrees with three labels of four; others of the same kind are tuned on."""
    for name, seed in (("test", 21), ("train", 22)):
        save_file(agreeing(seed), folder / f"{name}.safetensors")
    relearn = f"[relearn]\ndata = 'train.safetensors'\nrows = 60\n{QUICK}{NEVER}"
    probe = "[probe]\ntarget = 'cue'\n"
    assert run(folder, f"by = 'cue'\n{KEYS}[splits]\ntest = 'test.safetensors'\n{relearn}{probe}{MODEL}") == 0
    record = json.loads(capsys.readouterr().out)
    side = record["comparison"]["a"]
    assert (side["reference"], side["interventions"]) == ("agree", ["conflict"])
    # Of each pair (label, label by the column) as many rows as the rarest has.
    pairs = load_file(folder / "test.safetensors")
    rarest = int((2 * pairs["y"] + pairs["cue"]).bincount().min())
    assert side["samples"]["column_only"] == 4 * rarest
    asked = record["settings"]["relearning"]
    assert (asked["split"], asked["intervention"], asked["data_rows"]) == ("column_only", "conflict", 60)
    assert record["relearned"]["uses"]["state"] == "uses" and "the mechanism" in record["headline"]
    assert record["probes"]["uses"]["rows_fitted"] + record["probes"]["uses"]["rows_held_out"] == 400


def agreeing(seed: int) -> dict[str, torch.Tensor]:
    """400 rows in which the cue shows the label on three of four, and otherwise the other one."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (400,), generator=draw)
    cue = torch.where(torch.arange(400) % 4 < 3, y, 1 - y)
    signs = torch.stack([2.0 * y - 1, 1 - 2.0 * y, 2.0 * cue - 1, 1 - 2.0 * cue, 0 * y, 0 * y], 1)
    noise = torch.randn(400, 6, generator=draw) * torch.tensor([0.5, 0.5, 0.1, 0.1, 0.1, 0.1])
    return {"x": signs + noise, "y": y, "cue": cue}


PLACEBO = "placebo = {data = 'placebo.safetensors', split = 'shown.safetensors'}\n"
MISTAKES: dict[str, tuple[str, list[str]]] = {
    "unknown keys": (
        f"[relearn]\ndata = 'tuned.safetensors'\nsplit = 'rand_image'\nstep = [0, 5]\n{NEVER}[probe]\ntargt = 'cue'\n",
        ["relearn.step: unknown key; did you mean 'steps'?", "probe.targt: unknown key; did you mean 'target'?"],
    ),
    "settings": (
        f"[relearn]\ndata = 'tuned.safetensors'\nsplit = 'rand_image'\nsteps = [5, 5]\nlr = 0\nseeds = 1\nrows = 0\n"
        f"{NEVER}",
        [
            "relearn.rows: Input should be greater than 0, got 0",
            "relearn.steps: steps must ascend from 0 and hold one above it, got [5, 5]",
            "relearn.lr: lr must be",
            "relearn.seeds: seeds must be two or more",
        ],
    ),
    "nothing to compare with": (RELEARN, ["relearn: needs control = ", "got neither"]),
    "two to compare with": (RELEARN + NEVER + PLACEBO, ["relearn: needs control = ", "got both"]),
    "no such split": (
        f"[relearn]\ndata = 'tuned.safetensors'\nsplit = 'rand_imag'\n{NEVER}[probe]\nsplit = 'no'\n",
        ["relearn: split must be one of 'cue', 'rand_cue', 'rand_image', got 'rand_imag'", "probe: split must be one"],
    ),
    "no split": (f"[relearn]\ndata = 'tuned.safetensors'\n{NEVER}", ['relearn: split = "..." is needed']),
    "no files": (
        "[relearn]\ndata = 'tund.safetensors'\nsplit = 'rand_image'\ncontrol = 'nevr.safetensors'\n",
        ["tund.safetensors", "nevr.safetensors is no file"],
    ),
    "rows that are measured": (
        f"[relearn]\ndata = 'rand_image.safetensors'\nsplit = 'rand_image'\n{QUICK}{NEVER}",
        ["must share no row with split 'rand_image', on which accuracy is measured, got 400 that do"],
    ),
    "a control that is B": (
        RELEARN + "control = 'hides.safetensors'\n",
        ["the control of hides must be a network that never met the mechanism, got one with the model's weights"],
    ),
    "no such intervention": (
        RELEARN + NEVER + "intervention = 'rand'\n",
        ["relearn: intervention must be one of 'rand_cue', got 'rand'; did you mean 'rand_cue'?"],
    ),
    "no such column": ("[probe]\ntarget = 'hue'\n", ["probe: ", "has no tensor 'hue', a value for each row"]),
    "no such layer": ("[probe]\nlayers = ['7']\n", ["a layer of model must be one of '0', '1', '2'"]),
    "layers by a wrong word": ("[probe]\nlayers = 'some'\n", ["probe.layers"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_listed_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    tables, expected = MISTAKES[case]
    assert run(folder, KEYS + SPLITS + tables + MODEL) == 2
    shown = capsys.readouterr().err
    for text in expected:
        assert text in shown
    assert "Traceback" not in shown and not (folder / "audit.html").exists()


def test_by_refuses_rows_without_the_column_and_too_few(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(agreeing(21), folder / "test.safetensors")
    train = agreeing(22)
    save_file({"x": train["x"], "y": train["y"]}, folder / "train.safetensors")
    toml = f"by = 'cue'\n{KEYS}[splits]\ntest = 'test.safetensors'\n[relearn]\ndata = 'train.safetensors'\n{NEVER}"
    assert run(folder, toml + MODEL) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "relearn: by = 'cue': " in line and "has no tensor 'cue', a value for each row" in line
    save_file(train, folder / "train.safetensors")
    assert run(folder, f"{toml}rows = 3\n{MODEL}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "rows must lie between 4, the pairs of label and column, and " in line


def test_the_schema_shows_both(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["schema", "audit"])
    schema = json.loads(capsys.readouterr().out)
    assert {"data", "rows", "split", "control", "placebo", "steps"} <= set(
        schema["$defs"]["RelearnConfig"]["properties"]
    )
    assert set(schema["$defs"]["ProbeConfig"]["properties"]) == {"target", "split", "layers", "control"}


def test_the_pages_example_is_understood(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "relearning.md").read_text(encoding="utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    assert run(folder, toml) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["relearned"]["hides"]["state"] == "hidden" and set(record["probes"]) == {"uses", "hides"}
