"""`mechconn audit`, as the README shows it, and with the mistakes that people make."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

import mechconn as mc
from image_files import pixels, write_class_folder
from mechconn._cli import main

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("### From two files of weights to a page")[1].split("\n## ")[0]
MODELS = """
from torch import nn

def build(width):
    first = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU()
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))
"""


def run(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that the README's example names, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    (tmp_path / "my_models.py").write_text(MODELS, encoding="utf-8")
    for seed, name in enumerate("ab"):
        model = mc.load_model("my_models:build", arguments={"width": 8}, seed=seed)
        save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
    for number, split in enumerate(("cue", "shuffled", "train")):
        for label, name in enumerate(("bird", "fish")):
            images = {f"{row}.png": pixels(40 * number + 20 * label + row, side=40) for row in range(12)}
            write_class_folder(tmp_path / "photos" / split / name, images)
    toml = re.findall(r"```toml\n(.*?)```", SECTION, re.S)[0]
    (tmp_path / "audit.toml").write_text(toml, encoding="utf-8")
    return tmp_path


COMMAND = re.findall(r"```\nmechconn (audit .*?)\n```", SECTION)[0]


def test_the_readmes_example(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMAND) == 0
    shown = capsys.readouterr()
    # 4 passes over 24 + 24 rows, and two lines and 3 blocks of 11 points over these and 24 rows of statistics.
    assert "4,152 forward passes of one row" in shown.err
    assert "a is " in shown.out or "a may" in shown.out
    assert "The mechanisms of a (A) and b (B) are" in shown.out and "Report: audit.html" in shown.out
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert "Do a (A) and b (B) use the same mechanisms?" in page and "Block by block" in page
    assert page.count("data:image/png;base64,") == 2


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text(
        "points = 3\nalignment = 'none'\n[splits]\ncue = 'photos/cue'\nrand_cue = 'photos/shuffled'\n"
        "[norm]\ndata = 'photos/train'\n[model]\narguments = {width = 8}\n",
        encoding="utf-8",
    )
    assert run(f"{COMMAND} --model my_models:build --json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["names"] == ["a", "b"] and list(record["paths"]) == ["before"]
    assert record["settings"]["norm"]["data"] == "photos/train"


WIDTH = "[model]\narguments = {width = 8}\n"
MISTAKES = {
    "unknown keys": (
        "margn = 0.1\n[splits]\ncue = 'photos/cue'\nrand_cue = 'photos/shuffled'\n[norm]\navrage = 'cumulative'\n",
        ["margn: unknown key; did you mean 'margin'?", "norm.avrage: unknown key; did you mean 'average'?"],
    ),
    "wrong values": ("margin = -1\non = 'both'\n", ["margin: ", "on: ", "splits: needed, and not there"]),
    "no TOML": ("margin =", ["is neither TOML nor JSON"]),
    "no such split": (f"[splits]\ncue = 'photos/cuee'\nrand_cue = 'photos/shuffled'\n{WIDTH}", ["photos/cuee"]),
    "no statistics": (
        f"[splits]\ncue = 'photos/cue'\nrand_cue = 'photos/shuffled'\n{WIDTH}",
        ["the networks keep normalisation statistics (1)", "under [norm]"],
    ),
    "no reference": (
        "[splits]\ncues = 'photos/cue'\nrand_cue = 'photos/shuffled'\n[norm]\ndata = 'photos/train'\n" + WIDTH,
        ["reference must be one of 'cues', 'rand_cue', got 'cue'"],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_listed_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    toml, expected = MISTAKES[case]
    (folder / "audit.toml").write_text(toml, encoding="utf-8")
    assert run(f"{COMMAND} --model my_models:build" if "no " in case else COMMAND) == 2
    shown = capsys.readouterr().err
    for text in expected:
        assert text in shown
    assert "Traceback" not in shown and not (folder / "audit.html").exists()


def test_weights_without_a_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text("[splits]\ncue = 'photos/cue'\nrand_cue = 'photos/shuffled'\n", encoding="utf-8")
    assert run(COMMAND) == 2
    assert "a.safetensors holds weights without a network; pass --model" in capsys.readouterr().err
    assert run("audit a.safetensors b.safetensors --data none.toml --device tpu -o nowhere/audit.html") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2 and any("device" in line for line in lines) and any("nowhere" in line for line in lines)
