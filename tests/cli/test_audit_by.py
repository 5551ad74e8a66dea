"""`mechconn audit` on one table divided by a column: `by` in audit.toml."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from image_files import png
from mechconn.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
NETWORK = """
from torch import nn

def build(column):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 2, 2))
"""
COMMAND = "audit place.safetensors bird.safetensors --data audit.toml -o audit.html --json"
KEYS = "points = 3\nalignment = 'none'\n"
MODEL = "[model]\nfactory = 'bird_models:build'\narguments = {column = 0}\n"


def run(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def reads(pixel: int) -> dict[str, torch.Tensor]:
    """Weights of a network that reads one pixel, black or white, in all three channels."""
    weight = torch.zeros(2, 3, 4)
    weight[0, :, pixel], weight[1, :, pixel] = -1.0, 1.0
    return {"1.weight": weight.flatten(1), "1.bias": torch.zeros(2)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page's example names: pixel 0 of a bird's image shows its place, pixel 3 what it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "bird_models", raising=False)
    (tmp_path / "bird_models.py").write_text(NETWORK, encoding="utf-8")
    save_file(reads(0), tmp_path / "place.safetensors")
    save_file(reads(3), tmp_path / "bird.safetensors")
    (tmp_path / "photos" / "images").mkdir(parents=True)
    lines = ["file,label,place,split"]
    for split, kept in (("test", 90), ("train", 110)):
        for name, label, own in (("gull", 0, "sea"), ("owl", 1, "land")):
            for number in range(150 if split == "test" else 120):
                place = own if number < kept else {"sea": "land", "land": "sea"}[own]
                values = np.zeros((2, 2, 3), np.uint8)
                values[0, 0], values[1, 1] = 255 * (place == "land"), 255 * label
                file = f"images/{split}-{name}-{number}.png"
                (tmp_path / "photos" / file).write_bytes(png(values))
                lines.append(f"{file},{name},{place},{split}")
    (tmp_path / "photos" / "birds.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_the_pages_example(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r'```toml\n(by = "place".*?)```', PAGE, re.S)
    (folder / "audit.toml").write_text(KEYS + example + MODEL, encoding="utf-8")
    assert run(COMMAND) == 0
    record = json.loads(capsys.readouterr().out)
    a, b = (record["comparison"][side] for side in ("a", "b"))
    assert (a["reference"], a["interventions"], a["samples"]) == (
        "agree",
        ["conflict"],
        {"agree": 180, "conflict": 120},
    )
    assert (a["effects"]["conflict"]["effect"], b["effects"]["conflict"]["effect"]) == (-1.0, 0.0)
    assert record["comparison"]["verdict"] == "dissimilar" and a["effects"]["conflict"]["observational"]
    assert any("observational" in sentence for sentence in record["findings"])
    assert record["settings"]["config"]["by"] == "place"


SPLIT = "[splits]\ntest = 'photos/birds.csv#test'\n"
RIGHT = {
    "the split's majority": "by = 'place'\n",
    "that of the training data": "by = 'place'\nmajority = 'photos/birds.csv#train'\n",
    "named, with a scale": "by = 'place'\nagrees = {gull = ['sea'], owl = 'land'}\n[images]\nmean=[0.5]\nstd=[0.5]\n",
}


@pytest.mark.parametrize("case", RIGHT)
def test_which_value_agrees(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    head, _, images = RIGHT[case].partition("[images]")
    tables = f"[images]{images}" if images else ""
    (folder / "audit.toml").write_text(head + KEYS + SPLIT + tables + MODEL, encoding="utf-8")
    assert run(COMMAND) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["comparison"]["a"]["samples"] == {"agree": 180, "conflict": 120}
    assert record["comparison"]["why"] == "A is sensitive to conflict and B is invariant to it"


def test_tensors_in_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y = torch.arange(400) % 2
    place = torch.where(torch.arange(400) < 240, y, 1 - y)
    x = torch.zeros(400, 3, 2, 2)
    x[:, :, 0, 0], x[:, :, 1, 1] = 2.0 * place[:, None] - 1, 2.0 * y[:, None] - 1
    save_file({"x": x, "y": y, "place": place}, folder / "birds.safetensors")
    toml = f"by = 'place'\n{KEYS}[splits]\ntest = 'birds.safetensors'\n{MODEL}"
    (folder / "audit.toml").write_text(toml)
    assert run(COMMAND) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["comparison"]["a"]["samples"] == {"agree": 240, "conflict": 160}
    assert record["comparison"]["a"]["effects"]["conflict"]["effect"] == -1.0
    (folder / "audit.toml").write_text(toml.replace("'place'", "'plaice'"))
    assert run(COMMAND) == 2
    shown = capsys.readouterr().err
    assert "birds.safetensors has no tensor 'plaice', a value for each row; tensors: " in shown


MISTAKES = {
    "two splits": (
        "by = 'place'\n",
        "other = 'photos/birds.csv#train'\n",
        "splits: by = 'place' divides one split into",
    ),
    "one split": ("", "", 'splits: two splits or more are needed, or by = "column" or [interventions] with one, got 1'),
    "no by": ("agrees = {gull = 'sea'}\n", "b = 'x.csv'\n", 'agrees: goes with by = "column", which is not set'),
    "no such column": ("by = 'plaice'\n", "", "has no column 'plaice'; columns: file, label, place, split"),
    "no such value": ("by = 'place'\nagrees = {gull = 'see'}\n", "", "got 'see'; did you mean 'sea'?"),
    "no such class": ("by = 'place'\nagrees = {gul = 'sea'}\n", "", "got 'gul'; did you mean 'gull'?"),
    "a wrong name": (
        "by = 'label'\n",
        "",
        "by = 'label': a comparison within classes needs rows of both kinds in every",
    ),
    "a number": ("by = 3\n", "", "by: Input should be a valid string, got 3"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    head, more, text = MISTAKES[case]
    (folder / "audit.toml").write_text(head + KEYS + SPLIT + more + MODEL, encoding="utf-8")
    assert run(COMMAND) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and text in lines[0]
