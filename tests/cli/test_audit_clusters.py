"""`mechconn audit` on rows in clusters: `cluster` in audit.toml names their column."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import mechconn as mc
from mechconn.cli import main
from zoo import build

NETWORK = """
from torch import nn

def build():
    return nn.Linear(3, 2)
"""
COMMAND = "audit a.safetensors b.safetensors --data audit.toml -o audit.html --json"
KEYS = "points = 3\nalignment = 'none'\ncluster = 'patient'\n"
SPLITS = "[splits]\ncue = 'cue.safetensors'\nrand_cue = 'rand_cue.safetensors'\n"
MODEL = "[model]\nfactory = 'ward_models:build'\n"


def run(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Forty patients of five rows each, the rows of one alike."""
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).repeat_interleave(5, 0)
    return x, (x[:, 0] > 0).long(), torch.arange(40).repeat_interleave(5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "ward_models", raising=False)
    (tmp_path / "ward_models.py").write_text(NETWORK, encoding="utf-8")
    for name, column in (("a", 0), ("b", 1)):
        weight = torch.zeros(2, 3)
        weight[1, column] = 4.0
        save_file({"weight": weight, "bias": torch.zeros(2)}, tmp_path / f"{name}.safetensors")
    x, y, patient = data()
    side = torch.where(torch.arange(200) % 5 < 3, y, 1 - y)
    save_file({"x": x, "y": y, "patient": patient, "side": side}, tmp_path / "cue.safetensors")
    save_file({"x": x.flip(1).contiguous(), "y": y, "patient": patient}, tmp_path / "rand_cue.safetensors")
    return tmp_path


def test_the_column_of_every_split(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text(KEYS + SPLITS + MODEL, encoding="utf-8")
    assert run(COMMAND) == 0
    record = json.loads(capsys.readouterr().out)
    found = record["comparison"]["a"]
    assert (found["over"], found["clusters"]) == ("clusters", {"cue": 40, "rand_cue": 40})
    assert record["paths"]["before"]["clusters"] == {"cue": 40, "rand_cue": 40}
    assert record["settings"]["config"]["cluster"] == "patient"
    assert "95 % intervals over clusters" in (folder / "audit.html").read_text(encoding="utf-8")
    x, y, patient = data()
    model = build(lambda: torch.nn.Linear(3, 2))
    model.load_state_dict({"weight": torch.tensor([[0.0] * 3, [4.0, 0.0, 0.0]]), "bias": torch.zeros(2)})
    model = model.float()
    suite = mc.Suite({"cue": (x, y), "rand_cue": (x.flip(1), y)})
    expected = mc.measure_invariance(model, suite, cluster=patient)["rand_cue"]
    assert found["effects"]["rand_cue"]["interval"] == pytest.approx(expected.interval)


def test_beside_a_column_that_divides_the_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = f"by = 'side'\n{KEYS}[splits]\ntest = 'cue.safetensors'\n{MODEL}"
    (folder / "audit.toml").write_text(toml, encoding="utf-8")
    assert run(COMMAND) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["comparison"]["a"]["clusters"] == {"agree": 40, "conflict": 40}
    assert record["comparison"]["a"]["samples"] == {"agree": 120, "conflict": 80}


@pytest.mark.parametrize("by", ["", "by = 'side'\n"])
def test_a_column_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str], by: str) -> None:
    splits = "[splits]\ntest = 'cue.safetensors'\n" if by else SPLITS
    (folder / "audit.toml").write_text(by + KEYS.replace("patient", "ward") + splits + MODEL, encoding="utf-8")
    assert run(COMMAND) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cluster = 'ward': " in line and "has no tensor 'ward', a value for each row; tensors: " in line
