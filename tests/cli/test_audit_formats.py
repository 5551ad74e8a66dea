"""`mechconn audit` on data as benchmarks leave them: [images] folder, partition, threshold, layout; joined classes."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from image_files import png
from mechconn.cli import main

NETWORK = """
from torch import nn

def build(outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 2, outputs))
"""
COMMAND = "audit place.safetensors bird.safetensors --data audit.toml -o audit.html --json"
HEAD = "points = 3\nalignment = 'none'\n"


def run(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def reads(pixel: int, outputs: int) -> dict[str, torch.Tensor]:
    """Weights of a network that reads one pixel: output 0 where it is black, output 1 where it is white."""
    weight = torch.zeros(outputs, 3, 4)
    weight[0, :, pixel], weight[1, :, pixel] = -1.0, 1.0
    return {"1.weight": weight.flatten(1), "1.bias": torch.tensor([0.0, 0.0, -9.0])[:outputs]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "bird_models", raising=False)
    (tmp_path / "bird_models.py").write_text(NETWORK, encoding="utf-8")
    return tmp_path


def networks(folder: Path, outputs: int = 2) -> str:
    """Pixel 0 shows the mark, pixel 3 the label; the table [model] for the networks that read them."""
    save_file(reads(0, outputs), folder / "place.safetensors")
    save_file(reads(3, outputs), folder / "bird.safetensors")
    return f"[model]\nfactory = 'bird_models:build'\narguments = {{ outputs = {outputs} }}\n"


def image(mark: bool, label: bool) -> bytes:
    values = np.zeros((2, 2, 3), np.uint8)
    values[0, 0], values[1, 1] = 255 * mark, 255 * label
    return png(values)


def write_audit(folder: Path, text: str) -> None:
    (folder / "audit.toml").write_text(HEAD + text, encoding="utf-8")


def faces(folder: Path) -> None:
    """CelebA's lists: 300 rows of the test split, in two thirds of which the label agrees with the mark."""
    (folder / "celeba" / "img_align_celeba").mkdir(parents=True)
    lines, parts = ["400", "Blond_Hair Male"], []
    for row in range(400):
        label = row % 2 == 1
        mark = label if row % 6 < 4 else not label
        (folder / "celeba" / "img_align_celeba" / f"{row:06}.jpg").write_bytes(image(mark, label))
        lines.append(f"{row:06}.jpg  {1 if label else -1:2}  {1 if mark else -1:2}")
        parts.append(f"{row:06}.jpg {0 if row >= 300 else 2}")
    (folder / "celeba" / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "celeba" / "list_eval_partition.txt").write_text("\n".join(parts) + "\n", encoding="utf-8")


CELEBA = """by = 'Male'
[splits]
test = 'celeba/list_attr_celeba.txt#test'
[images]
label = 'Blond_Hair'
folder = 'celeba/img_align_celeba'
partition = 'celeba/list_eval_partition.txt'
"""


def test_celeba_as_it_is_downloaded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces(folder)
    write_audit(folder, CELEBA + networks(folder))
    assert run(COMMAND) == 0
    record = json.loads(capsys.readouterr().out)
    a, b = (record["comparison"][side] for side in ("a", "b"))
    assert a["samples"] == {"agree": 200, "conflict": 100}
    assert (a["effects"]["conflict"]["effect"], b["effects"]["conflict"]["effect"]) == (-1.0, 0.0)
    assert record["settings"]["config"]["images"]["folder"] == "celeba/img_align_celeba"  # as it was written


def test_two_labels_scored_from_three_outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces(folder)
    joined = "loss = { name = 'joined_classes', parts = [[0], [1, 2]] }\n"
    write_audit(folder, joined + CELEBA + networks(folder, outputs=3))
    assert run(COMMAND) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["comparison"]["b"]["accuracy"] == {"agree": 1.0, "conflict": 1.0}
    assert record["comparison"]["a"]["accuracy"] == {"agree": 1.0, "conflict": 0.0}


def test_fractions_of_the_label_and_of_the_column(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [",file,toxicity,male,split,visit"]
    for row in range(300):
        label = row % 2 == 1
        mark = label if row % 6 < 4 else not label
        (folder / f"{row}.png").write_bytes(image(mark, label))
        lines.append(
            f"{row},{row}.png,{0.5 + row % 3 / 6 if label else 0.1},{0.75 if mark else 0.25},2,{row // 4 / 100}"
        )
    # Training data on which all annotators agreed: none but whole numbers in that split.
    lines += [f"{row},{row}.png,{row % 2}.0,{row % 2}.0,0,0" for row in range(20)]
    (folder / "all.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = "by = 'male'\nmajority = 'all.csv#train'\n[splits]\ntest = 'all.csv#test'\n[images]\nlabel = 'toxicity'\n"
    write_audit(folder, asked + "threshold = 0.5\n" + networks(folder))
    assert run(COMMAND) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["comparison"]["a"]["samples"] == {"agree": 200, "conflict": 100}
    assert record["comparison"]["a"]["effects"]["conflict"]["effect"] == -1.0
    write_audit(folder, "cluster = 'visit'\n" + asked + "threshold = 0.5\n" + networks(folder))
    assert run(COMMAND) == 0
    # 75 visits in all, and none of their numbers is cut.
    assert json.loads(capsys.readouterr().out)["comparison"]["a"]["clusters"]["agree"] == 75
    write_audit(folder, asked + networks(folder))
    assert run(COMMAND) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2  # of the label, and of the column
    assert "0.1 in column 'toxicity' is a fraction and no class; pass threshold=" in told[0]
    assert "column 'male' holds the fraction 0.25" in told[1] and "threshold = 0.5 under [images]" in told[1]


def test_domains_are_splits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for domain, agrees in (("photo", True), ("sketch", False)):
        for label, name in enumerate(("gull", "owl")):
            place = folder / "birds" / domain / name
            place.mkdir(parents=True)
            for row in range(60):
                (place / f"{row}.png").write_bytes(image((label == 1) == agrees, label == 1))
    write_audit(
        folder, "reference = 'photo'\n[splits]\nphoto = 'birds#photo'\nsketch = 'birds#sketch'\n" + networks(folder)
    )
    assert run(COMMAND) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["comparison"]["a"]["accuracy"] == {"photo": 1.0, "sketch": 0.0}
    assert record["comparison"]["b"]["accuracy"] == {"photo": 1.0, "sketch": 1.0}


def test_what_is_wrong_is_told_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces(folder)
    write_audit(folder, CELEBA.replace("#test", "#val").replace("'Blond_Hair'", "'Blonde_Hair'") + networks(folder))
    (folder / "bird.safetensors").unlink()
    assert run(COMMAND) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(
        "has no column 'Blonde_Hair'; columns: image_id, Blond_Hair, Male; did you mean" in line for line in lines
    )
    assert any("bird.safetensors" in line for line in lines)
    write_audit(folder, CELEBA.replace("#test", "#val") + networks(folder))
    assert run(COMMAND) == 2
    assert "list_attr_celeba.txt must be one of 'test', 'train', got 'val'" in capsys.readouterr().err
    write_audit(folder, CELEBA + "threshold = nan\nlayout = 'domain'\n" + networks(folder))
    assert run(COMMAND) == 2
    told = capsys.readouterr().err
    assert "images.threshold" in told and "layout" in told
