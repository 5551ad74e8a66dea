"""`[interventions]` in audit.toml: splits that are made from the reference, by name or by a function of the user's."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import mechconn as mc
from image_files import pixels, write_class_folder
from mechconn.cli import main
from mechconn.cli._audit_files import prepare_audit
from mechconn.cli._reading_config import ReadingConfig
from mechconn.core import read_config
from mechconn.datasets import ImageSet, Normalised

MODELS = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

def darker(x, draws):
    return x - draws.uniform("dark")[:, None, None, None]
"""
TABLE = """
points = 3
alignment = "none"
[splits]
cue = "photos"
[images]
mean = [0.5]
std = [0.25]
[interventions]
turned = {name = "rotate", max_degrees = 90}
brighter = "user_defined_data:Brighten"
darker = "my_audit_models:darker"
[model]
factory = "my_audit_models:build"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_audit_models", raising=False)
    (tmp_path / "my_audit_models.py").write_text(MODELS, encoding="utf-8")
    for seed, name in enumerate("ab"):
        save_file(mc.load_model("my_audit_models:build", seed=seed).state_dict(), tmp_path / f"{name}.safetensors")
    for label, name in enumerate(("bird", "fish")):
        write_class_folder(tmp_path / "photos" / name, {f"{row}.png": pixels(20 * label + row) for row in range(12)})
    (tmp_path / "audit.toml").write_text(TABLE, encoding="utf-8")
    return tmp_path


def test_splits_are_made_from_the_reference(folder: Path) -> None:
    config = read_config(folder / "audit.toml", ReadingConfig)
    job = prepare_audit((folder / "a.safetensors", folder / "b.safetensors"), None, config, folder, seed=3)
    assert list(job.suite) == ["cue", "turned", "brighter", "darker"]
    assert job.suite.interventions == ("turned", "brighter", "darker")
    assert all(job.suite.rows_shared(name) for name in job.suite)
    # Interventions are drawn on [-1, 1], before the normalisation; functions get what the model receives.
    images = job.suite["cue"]
    assert isinstance(images, Normalised)
    expected = mc.intervened(images.scenes, {"turned": mc.Rotate(90)}, seed=3)["turned"]
    rows = torch.arange(5)
    found = job.suite["turned"]
    assert isinstance(found, mc.IntervenedSet) and isinstance(expected, mc.IntervenedSet)
    torch.testing.assert_close(found.inputs(rows), (expected.inputs(rows) + 1) / 0.5 - 2)


def test_the_command_measures_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["audit", "a.safetensors", "b.safetensors", "--data", "audit.toml", "--json"])
    effects = json.loads(capsys.readouterr().out)["comparison"]["a"]["effects"]
    assert list(effects) == ["turned", "brighter", "darker"]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"rotate", max_degrees', '"rotat", max_degrees', "the intervention 'turned' must be one of .*; did you mean"),
        ("max_degrees = 90", "degrees = 90", "'turned' 'rotate' has no option 'degrees'; it has max_degrees"),
        ("max_degrees = 90", "max_degrees = 900", r"max_degrees must lie in \[0, 180\], got 900"),
        (":darker", ":dark", "the intervention 'darker' 'my_audit_models:dark': .* has no 'dark'"),
        ("turned = {", "cue = {", r"splits: cue stands under \[interventions\] too; give each split its own name"),
        (TABLE[TABLE.index("[interventions]") : TABLE.index("[model]")], "", r"or \[interventions\] with one"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(folder: Path, old: str, new: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text(TABLE.replace(old, new), encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main(["audit", "a.safetensors", "b.safetensors", "--data", "audit.toml"])
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(text, line)


def test_normalised_images_are_drawn_on_before_the_normalisation() -> None:
    images = ImageSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), ("a", "b"))
    moved = mc.ColourShift(0.5)(Normalised(images, (0.5,), (0.25,)), seed=1)
    rows = torch.arange(4)
    torch.testing.assert_close(moved.inputs(rows), (mc.ColourShift(0.5)(images, seed=1).inputs(rows) + 1) / 0.5 - 2)
