"""`mechconn merge` on files of weights of one's own module: statistics measured anew, and prefixes of checkpoints."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mechconn as mc
from image_files import pixels, write_class_folder
from mechconn.cli import main
from mechconn.core import iterate_batches

MODELS = """
from torch import nn

def brier(outputs, targets):
    return (outputs.softmax(1) - nn.functional.one_hot(targets, 2)).square().sum(1)


def build(width):
    first = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU()
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))
"""
TOML = """
[splits]
cue = "photos/cue"
rand_cue = "photos/shuffled"
[images]
size = 16
[norm]
data = "photos/train"
[model]
factory = "merged_models:build"
arguments = {width = 4}
"""


def run(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "merged_models", raising=False)
    (tmp_path / "merged_models.py").write_text(MODELS, encoding="utf-8")
    for seed, name in enumerate("ab"):
        model = mc.load_model("merged_models:build", arguments={"width": 4}, seed=seed)
        save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
    for number, split in enumerate(("cue", "shuffled", "train")):
        for label, name in enumerate(("bird", "fish")):
            images = {f"{row}.png": pixels(40 * number + 20 * label + row, side=16) for row in range(12)}
            write_class_folder(tmp_path / "photos" / split / name, images)
    (tmp_path / "audit.toml").write_text(TOML, encoding="utf-8")
    return tmp_path


def test_statistics_are_measured_anew(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("merge a.safetensors b.safetensors --data audit.toml -o merged --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["names"] == ["a", "b"] and found["norm"]["data"] == "photos/train"
    a, b = (load_file(f"{name}.safetensors") for name in "ab")
    got = load_file("merged/model.safetensors")
    assert got.keys() == a.keys()
    for name in ("0.weight", "0.bias", "5.weight", "5.bias"):
        torch.testing.assert_close(got[name], (a[name] + b[name]) / 2, rtol=1e-5, atol=1e-7)
    # By hand: mean and variance of the merged convolution's outputs over the training rows.
    model = mc.load_model("merged_models:build", "merged", arguments={"width": 4})
    rows = mc.datasets.load_splits({"train": "photos/train"}, size=16)["train"]
    batches = iterate_batches("train", rows, batch_size=8, device=torch.device("cpu"))
    with torch.no_grad():
        outputs = model[0](torch.cat([inputs for inputs, _ in batches if isinstance(inputs, torch.Tensor)]))  # pyright: ignore[reportIndexIssue, reportCallIssue]
    torch.testing.assert_close(got["1.running_mean"], outputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert run("merge merged --data audit.toml --json -o page.html") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["before"]["differences"] == found["before"]["differences"] and again["norm"] == {"policy": "as saved"}


def test_statistics_are_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("audit.toml").write_text(TOML.replace('[norm]\ndata = "photos/train"\n', ""), encoding="utf-8")
    assert run("merge a.safetensors b.safetensors --data audit.toml -o merged") == 2
    assert "the networks keep normalisation statistics (1)" in capsys.readouterr().err
    assert run("merge a.safetensors b.safetensors -o merged") == 0
    assert "a keeps normalisation statistics (1.running_mean, 1.running_var)" in capsys.readouterr().out
    # What was merged without data is judged with the statistics that it has.
    assert run("merge merged --data audit.toml --json") == 0


def test_a_folder_of_files_is_judged_against_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = load_file("a.safetensors")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}, "c.ckpt")
    assert run("merge c.ckpt b.safetensors --data audit.toml -o merged --json") == 0
    assert json.loads(capsys.readouterr().out)["names"] == ["c", "b"]
    assert load_file("merged/model.safetensors").keys() == state.keys()
    assert run("merge c.ckpt b.safetensors -o other") == 2
    assert "b (b.safetensors) has other tensors than c: missing module." in capsys.readouterr().err


def test_networks_of_another_module_cannot_be_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = mc.load_model("merged_models:build", arguments={"width": 6})
    save_file(wide.state_dict(), "wide.safetensors")
    assert run("merge a.safetensors b.safetensors --judge wide.safetensors --data audit.toml") == 2
    assert "the tensors in wide.safetensors do not fit the model" in capsys.readouterr().err


def test_a_metric_of_ones_own_and_some_of_the_splits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'on = "brier"\n' + TOML + '[metrics]\nbrier = "merged_models:brier"\n'
    Path("metric.toml").write_text(text, encoding="utf-8")
    Path("better.toml").write_text(text + '[merge]\nbetter = "lower"\nsplits = ["cue"]\n', encoding="utf-8")
    words = "merge a.safetensors b.safetensors --json --data"
    assert run(f"{words} metric.toml -o refused") == 2
    assert "(--better)" in capsys.readouterr().err and not Path("refused").exists()
    assert run(f"{words} metric.toml --better lower --splits cue -o one") == 0
    one = json.loads(capsys.readouterr().out)
    assert run(f"{words} better.toml -o two") == 0
    two = json.loads(capsys.readouterr().out)
    assert one["before"]["differences"] == two["before"]["differences"] and one["better"] == "lower"
    assert {pair["split"] for pair in one["before"]["differences"]} == {"cue"}
    assert run("merge one --json --data better.toml") == 0
    judged = json.loads(capsys.readouterr().out)
    assert judged["before"]["differences"] == one["before"]["differences"]
    assert run(f"{words} metric.toml --better higher --splits rand_cue -o three") == 0  # words come first
    assert {pair["split"] for pair in json.loads(capsys.readouterr().out)["before"]["differences"]} == {"rand_cue"}


def test_one_split_judges(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.toml").write_text(TOML.replace('rand_cue = "photos/shuffled"\n', ""), encoding="utf-8")
    assert run("merge a.safetensors b.safetensors --json --data one.toml -o merged") == 0
    assert {pair["split"] for pair in json.loads(capsys.readouterr().out)["before"]["differences"]} == {"cue"}
    Path("none.toml").write_text(TOML.replace('rand_cue = "photos/shuffled"\n', "").replace('cue = "photos/cue"\n', ""))
    assert run("merge a.safetensors b.safetensors --data none.toml -o other") == 2
    assert "splits: one split or more is needed" in capsys.readouterr().err
