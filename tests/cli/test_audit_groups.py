"""`mechconn audit` with `[groups]` in audit.toml, and all mistakes of a configuration at once."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import mechconn as mc
from image_files import png, write, write_class_folder
from mechconn.cli import main

NETWORK = """
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 2, 2))
"""
COMMAND = "audit place.safetensors bird.safetensors --data audit.toml --model group_models:build -o audit.html --json"
KEYS = "points = 3\nalignment = 'none'\n"
SPLIT = "[splits]\ntest = 'birds.csv#test'\n"
GROUPS = "[groups]\ncolumns = ['label', 'place']\n"
TRAIN = "train = 'birds.csv#train'\n"


def run(words: str = COMMAND) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


def reads(pixel: int) -> dict[str, torch.Tensor]:
    """Weights of a network that reads one pixel, black or white, in all three channels."""
    weight = torch.zeros(2, 3, 4)
    weight[0, :, pixel], weight[1, :, pixel] = -1.0, 1.0
    return {"1.weight": weight.flatten(1), "1.bias": torch.zeros(2)}


def image(place: int, bird: int) -> np.ndarray:
    """Pixel 0 shows the place, pixel 3 the bird."""
    values = np.zeros((2, 2, 3), np.uint8)
    values[0, 0], values[1, 1] = 255 * place, 255 * bird
    return values


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gulls and owls, 30 of each in test and 20 in train, two of three at their place; and both networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "group_models", raising=False)
    (tmp_path / "group_models.py").write_text(NETWORK, encoding="utf-8")
    save_file(reads(0), tmp_path / "place.safetensors")
    save_file(reads(3), tmp_path / "bird.safetensors")
    (tmp_path / "images").mkdir()
    lines = ["file,label,place,share,split"]
    for row in range(100):
        bird = row % 2
        place = bird if row // 2 % 3 else 1 - bird
        (tmp_path / "images" / f"{row}.png").write_bytes(png(image(place, bird)))
        names = ("gull", "owl")[bird], ("sea", "land")[place]
        lines.append(f"images/{row}.png,{','.join(names)},0.{row:02},{'test' if row < 60 else 'train'}")
    (tmp_path / "birds.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def measured(folder: Path, toml: str, capsys: pytest.CaptureFixture[str]) -> dict[str, mc.GroupAccuracies]:
    (folder / "audit.toml").write_text(KEYS + toml, encoding="utf-8")
    assert run() == 0
    found = mc.load_result(json.loads(capsys.readouterr().out))
    assert isinstance(found, mc.Audit)
    return dict(found.groups)


def test_groups_of_the_split_that_is_divided(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(folder, f"by = 'place'\n{SPLIT}{GROUPS}{TRAIN}", capsys)
    rows = {name: (own.rows, own.accuracy) for name, own in found["place"].items()}
    assert rows == {
        "label=gull, place=land": (10, 0.0),
        "label=gull, place=sea": (20, 1.0),
        "label=owl, place=land": (20, 1.0),
        "label=owl, place=sea": (10, 0.0),
    }
    assert found["place"].worst == "label=gull, place=land" and found["bird"].mean == 1.0
    places = mc.datasets.load_column("birds.csv#train", "place")
    birds = mc.datasets.load_column("birds.csv#train", "label")
    agree = sum(pair in {("gull", "sea"), ("owl", "land")} for pair in zip(birds, places, strict=True)) / 40
    assert found["place"].reweighted == pytest.approx(agree)
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert "Accuracy by group" in page and "place is right least often in" in page


ALL = {
    "label=gull, place=land": 10,
    "label=gull, place=sea": 20,
    "label=owl, place=land": 20,
    "label=owl, place=sea": 10,
}
WAYS = {
    "one side": ("by = 'place'\n", "split = 'conflict'\n", {"label=gull, place=land": 10, "label=owl, place=sea": 10}),
    "by name": (
        "by = 'place'\n", "split = 'test'\n",
        ALL,
    ),
    "made of the reference": (
        "reference = 'test'\n", "split = 'turned'\n[interventions]\nturned = {name = 'rotate', max_degrees = 1}\n",
        ALL,
    ),
    "made of one side": (
        "by = 'place'\n", "split = 'turned'\n[interventions]\nturned = {name = 'rotate', max_degrees = 1}\n",
        {"label=gull, place=sea": 20, "label=owl, place=land": 20},
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_split_that_is_named(folder: Path, capsys: pytest.CaptureFixture[str], way: str) -> None:
    head, more, rows = WAYS[way]
    found = measured(folder, f"{head}{SPLIT}{GROUPS}{more}", capsys)
    assert {name: own.rows for name, own in found["bird"].items()} == rows


def test_classes_of_folders_and_tensors_of_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Class folders have classes alone; of a .safetensors file tensors are columns."""
    for split in ("cue", "other"):
        for bird, name in enumerate(("gull", "owl")):
            write_class_folder(folder / split / name, {f"{row}.png": image(row % 2, bird) for row in range(6)})
    splits = "[splits]\ncue = 'cue'\nother = 'other'\n"
    found = measured(folder, f"{splits}[groups]\ncolumns = ['label']\n", capsys)
    assert {name: own.accuracy for name, own in found["place"].items()} == {"label=gull": 0.5, "label=owl": 0.5}
    y = torch.arange(12) % 2
    save_file({"x": torch.zeros(12, 3, 2, 2), "y": y, "site": torch.arange(12) // 4}, folder / "cue.safetensors")
    save_file(load_file(folder / "cue.safetensors"), folder / "other.safetensors")
    splits = "[splits]\ncue = 'cue.safetensors'\nother = 'other.safetensors'\n"
    found = measured(folder, f"{splits}[groups]\ncolumns = ['site']\n", capsys)
    assert {name: own.rows for name, own in found["place"].items()} == {"site=0": 4, "site=1": 4, "site=2": 4}


def test_marks_that_overlap(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / "birds.csv").read_text(encoding="utf-8").splitlines()
    marks = [f"{line},{int('land' in line)},{int(row % 3 == 0)}" for row, line in enumerate(text[1:])]
    (folder / "birds.csv").write_text("\n".join([f"{text[0]},dry,third", *marks]) + "\n", encoding="utf-8")
    groups = "[groups]\ncolumns = ['dry', 'third', 'label']\noverlapping = true\n"
    found = measured(folder, f"by = 'place'\n{SPLIT}{groups}", capsys)["place"]
    assert found.overlapping and {name: (own.rows, own.accuracy) for name, own in found.items()} == {
        "dry=1, label=0": (10, 0.0),
        "dry=1, label=1": (20, 1.0),
        "third=1, label=0": (10, 0.0),
        "third=1, label=1": (10, 1.0),
    }


def test_a_probe_of_what_is_made_of_one_side_reads_its_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = f"by = 'place'\n{KEYS}{SPLIT}[interventions]\nturned = {{name = 'rotate', max_degrees = 1}}\n"
    (folder / "audit.toml").write_text(f"{toml}[probe]\nsplit = 'turned'\ntarget = 'place'\n", encoding="utf-8")
    assert run() == 0
    found = json.loads(capsys.readouterr().out)["probes"]["bird"]
    assert found["rows_fitted"] + found["rows_held_out"] == 40


FRACTION = (
    "birds.csv#test row 1: column 'share' holds the fraction 0.01, and a few values are needed; name another column, "
    "or set threshold = 0.5 under [images], which makes two values of such numbers"
)
PLACE = "columns = ['place']\n"
MISTAKES = {
    "no such column": (
        "columns = ['plaice']\n",
        "groups: birds.csv has no column 'plaice'; columns: file, label, place",
    ),
    "fractions": ("columns = ['share']\n", f"groups: {FRACTION}"),
    "no such split": (f"{PLACE}split = 'tst'\n", "groups: split must be one of 'test', 'turned', got 'tst'"),
    "no columns": ("columns = []\n", "groups.columns: List should have at least 1 item"),
    "columns left out": ("overlapping = false\n", "groups.columns: needed, and not there"),
    "a wrong key": (f"{PLACE}column = ['place']\n", "groups.column: unknown key; did you mean 'columns'?"),
    "no training data": (f"{PLACE}train = 'bids.csv#train'\n", "groups: no file bids.csv; check its path"),
    "no training split": (f"{PLACE}train = 'birds.csv#trai'\n", "groups: split of birds.csv must be one of"),
    "shares of what overlaps": (
        f"{PLACE}train = 'birds.csv#train'\noverlapping = true\n",
        "groups.train: groups that overlap have no shares that add up to 1; leave out train, or overlapping",
    ),
    "training data undivided": (
        f"{PLACE}train = 'birds.csv'\n",
        "groups: birds.csv has not one split but these: test, train",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    groups, text = MISTAKES[case]
    made = "[interventions]\nturned = {name = 'rotate', max_degrees = 1}\n"
    (folder / "audit.toml").write_text(f"reference = 'test'\n{KEYS}{SPLIT}{made}[groups]\n{groups}", encoding="utf-8")
    assert run() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line and not (folder / "audit.html").exists()


def test_fractions_divide_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text(f"by = 'share'\n{KEYS}{SPLIT}", encoding="utf-8")
    assert run() == 2
    assert capsys.readouterr().err == f"mechconn: by = 'share': {FRACTION}\n"


def test_five_mistakes_are_told_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the columns, the interventions, an empty split, a missing file, and weights that are not there."""
    (folder / "audit.toml").write_text(
        f"reference = 'test'\ncluster = 'patient'\n{KEYS}{SPLIT}other = 'birds.csv#val'\nmore = 'none.csv'\n"
        "[interventions]\nturned = 'rotat'\n[groups]\ncolumns = ['plaice', 'share']\n",
        encoding="utf-8",
    )
    assert run(COMMAND.replace("bird.safetensors", "brd.safetensors")) == 2
    lines = capsys.readouterr().err.splitlines()
    for text in (
        "brd.safetensors is no file",
        "split of birds.csv must be one of 'test', 'train', got 'val'",
        "no file none.csv; check its path",
        "cluster = 'patient': birds.csv has no column 'patient'; columns: file, label, place, share, split",
        "groups: birds.csv has no column 'plaice'; columns: file, label, place, share, split",
        f"groups: {FRACTION}",
        "the intervention 'turned' must be one of 'background', 'bin-column', ",
    ):
        assert sum(text in line for line in lines) == 1, text
    assert len(lines) == 7 and not (folder / "audit.html").exists()


def test_what_rows_and_columns_lack_is_told_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = "[splits]\ntest = 'birds.csv#val'\nother = 'birds.csv#train'\n"
    (folder / "audit.toml").write_text(
        f"reference = 'test'\ncluster = 'place'\n{KEYS}{splits}{GROUPS}", encoding="utf-8"
    )
    assert run() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mechconn: split of birds.csv must be one of 'test', 'train', got 'val'")


def test_marks_are_text_where_the_configuration_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are read as the images are."""
    text = (folder / "birds.csv").read_text(encoding="utf-8").replace("land", 'l"a"nd')
    (folder / "birds.csv").write_text(text, encoding="utf-8")
    (folder / "audit.toml").write_text(f"by = 'place'\n{KEYS}{SPLIT}[images]\nquoting = 'none'\n", encoding="utf-8")
    assert run() == 0
    assert json.loads(capsys.readouterr().out)["comparison"]["a"]["samples"] == {"agree": 40, "conflict": 20}


def test_columns_of_a_set_by_name_are_below_the_root(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, places = [png(image(row % 3 == 0, row % 2)) for row in range(12)], ["sea", "land"] * 6
    file = folder / "sets" / "cifar10" / "plain_text" / "test-00000-of-00001.parquet"
    write(file, images, [row % 2 for row in range(12)], more={"place": places})
    toml = "reference = 'cue'\n[splits]\ncue = 'cifar10#test'\n[interventions]\nturned = 'rotate'\n"
    (folder / "audit.toml").write_text(f"{KEYS}{toml}[groups]\ncolumns = ['place']\n", encoding="utf-8")
    assert run(f"{COMMAND} --root sets") == 0
    found = json.loads(capsys.readouterr().out)["groups"]["bird"]
    assert {name: own["rows"] for name, own in found["groups"].items()} == {"place=land": 6, "place=sea": 6}
    (folder / "audit.toml").write_text(f"{KEYS}{toml}[groups]\ncolumns = ['plaice']\n", encoding="utf-8")
    assert run(f"{COMMAND} --root sets") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mechconn: groups: ") and "has no column 'plaice'; columns: img, label, place" in line


def test_the_schema_knows_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema audit") == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["$defs"]["GroupsConfig"]["properties"]) == {"columns", "split", "overlapping", "train"}
