"""`mechconn map --until settled`: rows are read look by look, through the store, until every verdict is settled."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mechconn as mc
from mechconn.cli import main
from mechconn.datasets import load_splits

MODELS = """
from torch import nn

def small():
    return nn.Linear(3, 2)
"""
ROWS = 3000
NAMES = ["s1", "s2", "s3"]
TOML = """
margin = 0.1
[splits]
cue = "data/cue.safetensors"
rand_cue = "data/rand_cue.safetensors"
hue = "data/hue.safetensors"
[model]
factory = "settled_models:small"
"""
MAP = ("map", "models", "--data", "audit.toml", "--json", "--threads", "1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One model reads the first column, the cue; two read the second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MECHCONN_STORE", raising=False)
    monkeypatch.delitem(sys.modules, "settled_models", raising=False)
    (tmp_path / "settled_models.py").write_text(MODELS, encoding="utf-8")
    for part in ("models", "data"):
        (tmp_path / part).mkdir()
    for name, column in zip(NAMES, (0, 1, 1), strict=True):
        weight = torch.zeros(2, 3)
        weight[:, column] = float(name[1:]) * torch.tensor([-1.0, 1.0])
        save_file({"weight": weight, "bias": torch.zeros(2)}, tmp_path / "models" / f"{name}.safetensors")
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(ROWS) % 2
    sign = 2.0 * y - 1
    for name in ("cue", "rand_cue", "hue"):
        cue = sign[torch.randperm(ROWS, generator=draw)] if name == "rand_cue" else sign
        x = torch.stack([cue, sign, torch.zeros(ROWS)], 1) + 0.3 * torch.randn(ROWS, 3, generator=draw)
        save_file({"x": x, "y": y}, tmp_path / "data" / f"{name}.safetensors")
    (tmp_path / "audit.toml").write_text(TOML, encoding="utf-8")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit status, standard output, errors)."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    shown = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, shown.out, shown.err


def read_map(text: str) -> mc.MechanismMap:
    found = mc.load_result(json.loads(text))
    assert isinstance(found, mc.MechanismMap)
    return found


def list_steps(folder: Path) -> dict[str, int]:
    """Each step of the store, and when it was written."""
    return {step.name: (step / "record.json").stat().st_mtime_ns for step in folder.glob("mechconn-store/map/steps/*")}


def test_it_is_the_map_in_python_with_the_verdicts_of_all_rows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, *MAP, "--until", "settled")
    found = read_map(out)
    assert status == 0 and "at most 27,000 forward passes" in err
    models = {n: mc.load_model("settled_models:small", folder / "models" / f"{n}.safetensors") for n in NAMES}
    suite = mc.Suite(load_splits({name: f"data/{name}.safetensors" for name in ("cue", "rand_cue", "hue")}))
    own = mc.mechanism_map(models, suite, margin=0.1, barriers="none", until="settled")
    assert found.invariance == own.invariance and found.pairs == own.pairs
    whole = mc.mechanism_map(models, suite, margin=0.1, barriers="none")
    assert (
        [pair.verdict for pair in found.pairs] == [pair.verdict for pair in whole.pairs] == 2 * ["differ"] + ["agree"]
    )
    assert max(found.invariance["s1"].samples.values()) < ROWS
    assert any(note.startswith("no path was walked: barriers in loss need all rows") for note in found.notes)
    assert any("estimates at stopping are biased" in note for note in found.notes)
    assert found.settings["until"] == "settled"


def test_what_is_done_is_not_done_again_and_never_taken_for_all_rows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = read_map(run(capsys, *MAP, "--until", "settled")[1])
    steps = list_steps(folder)
    assert read_map(run(capsys, *MAP, "--until", "settled")[1]).pairs == first.pairs
    assert list_steps(folder) == steps
    whole = read_map(run(capsys, *MAP, "--barriers", "none")[1])
    assert set(whole.invariance["s1"].samples.values()) == {ROWS}  # of rows in part nothing was taken
    both = list_steps(folder)
    assert steps.items() < both.items() and len(both) == len(steps) + len(NAMES)
    # Looks that were read for another margin are taken again; further ones are read.
    (folder / "audit.toml").write_text(TOML.replace("0.1", "0.05"), encoding="utf-8")
    closer = read_map(run(capsys, *MAP, "--until", "settled")[1])
    assert closer.invariance["s1"].samples["cue"] > first.invariance["s1"].samples["cue"]
    assert both.items() < list_steps(folder).items()
    # A part that a killed command left is read again by the next, with the same numbers.
    for step in list(folder.glob("mechconn-store/map/steps/*"))[::2]:
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    assert read_map(run(capsys, *MAP, "--until", "settled")[1]).pairs == closer.pairs


@pytest.mark.slow
def test_processes_give_the_same_map(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text('until = "settled"\n' + TOML, encoding="utf-8")
    first = read_map(run(capsys, *MAP)[1])
    second = read_map(run(capsys, *MAP, "--store", "other", "--engine", "processes", "--workers", "2")[1])
    assert first.invariance == second.invariance and first.pairs == second.pairs


@pytest.mark.parametrize(
    ("words", "toml", "says"),
    [
        (("--until", "now"), "", "--until must be one of 'end', 'settled', got 'now'"),
        (("--until", "settled", "--barriers", "all"), "", "pass --barriers none, or --until end"),
        ((), 'until = "settled"\non = "loss"\n', 'until = "settled" needs values with a least and a largest'),
        ((), 'until = "soon"\n', "until: Input should be 'end' or 'settled', got 'soon'"),
    ],
)
def test_mistakes(
    words: tuple[str, ...], toml: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "audit.toml").write_text(toml + TOML, encoding="utf-8")
    status, _, err = run(capsys, *MAP, *words)
    lines = [line for line in err.splitlines() if line.startswith("mechconn: ")]
    assert status == 2 and len(lines) == 1 and says in lines[0]


def test_rows_of_another_order_are_read_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clusters are read whole, so that their labels decide which rows come at which look."""
    for name in ("cue", "rand_cue", "hue"):
        file = folder / "data" / f"{name}.safetensors"
        save_file({**load_file(file), "place": torch.arange(ROWS) // 4}, file)
    first = read_map(run(capsys, *MAP, "--until", "settled")[1])
    steps = list_steps(folder)
    (folder / "audit.toml").write_text(f'cluster = "place"\n{TOML}', encoding="utf-8")
    clustered = read_map(run(capsys, *MAP, "--until", "settled")[1])
    assert clustered.invariance["s1"].over == "clusters" and first.invariance["s1"].over == "samples"
    models = {n: mc.load_model("settled_models:small", folder / "models" / f"{n}.safetensors") for n in NAMES}
    suite = mc.Suite(load_splits({name: f"data/{name}.safetensors" for name in ("cue", "rand_cue", "hue")}))
    places = (torch.arange(ROWS) // 4).tolist()
    own = mc.mechanism_map(models, suite, margin=0.1, barriers="none", until="settled", cluster=places)
    assert clustered.invariance == own.invariance
    assert steps.items() < list_steps(folder).items()
