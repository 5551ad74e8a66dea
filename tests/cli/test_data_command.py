"""`mechconn data --interventions`: a sheet of pictures, or texts and tables in words."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import mechconn as mc
from image_files import pixels, write_class_folder, write_set
from mechconn.cli import main
from mechconn.cli._interventions_option import parse_interventions
from mechconn.datasets import ImageSet, Normalised, make_strips
from mechconn.report import preview_interventions
from text_folders import make_tokenizer, write_csv


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["data", *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(("bird", "fish")):
        write_class_folder(tmp_path / "photos" / name, {f"{row}.png": pixels(20 * label + row) for row in range(6)})
    x = torch.arange(24.0).view(6, 4) / 10
    tensors = {"x": x, "y": torch.arange(6) % 2, "place": torch.arange(6) // 3}
    save_file(tensors, tmp_path / "rows.safetensors")
    return tmp_path


def read_sheet(file: Path) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("RGB"))


def test_a_sheet_has_a_row_for_every_intervention(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("photos", "--interventions", "grey,{name='rotate', max_degrees=90}", "--preview", "sheet.png") == 0
    assert capsys.readouterr().out == "sheet.png\n"
    sheet = read_sheet(folder / "sheet.png")
    assert run("photos", "--interventions", "grey,rotate", "--seed", "1") == 0
    assert capsys.readouterr().out == "interventions.png\n"
    other = read_sheet(folder / "interventions.png")
    assert sheet.shape == other.shape and (sheet != other).any()
    assert run("photos", "--interventions", "grey", "--preview", "sheet.png") == 0
    assert read_sheet(folder / "sheet.png").shape[0] < sheet.shape[0]


def test_the_same_evenly_spaced_rows_are_shown_under_each() -> None:
    x = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 3, 4, 4).contiguous()
    images = ImageSet(x, torch.zeros(40, dtype=torch.int64), ("all",))
    shown = preview_interventions(images, {"same": lambda x, draws: x}, count=4).pictures
    assert list(shown) == ["data", "same"]
    assert shown["data"].pixels()[0, ::6, 0].tolist() == shown["same"].pixels()[0, ::6, 0].tolist() == [0, 10, 20, 30]
    scaled = Normalised(images, (0.2, 0.3, 0.4), (0.1, 0.2, 0.3))
    assert make_strips({"": scaled}) == make_strips({"": images})  # before the normalisation


def test_a_preview_draws_what_an_audit_draws_and_takes_a_strength() -> None:
    x = torch.from_numpy(np.stack([pixels(row, side=8) for row in range(9)])).permute(0, 3, 1, 2)
    images = ImageSet(x, torch.arange(9) % 3, ("a", "b", "c"))
    suite = mc.intervened(images, {"turned": mc.Rotate(90)}, seed=5)
    assert preview_interventions(images, {"turned": mc.Rotate(90)}, seed=5, count=9).pictures == make_strips(suite, 9)
    none = preview_interventions(images, {"grey": "grey", "turned": "rotate"}, strength=0.0)
    assert none.pictures["grey"] == none.pictures["data"] and "turned" not in none.left_out
    left = preview_interventions(images, {"grey": "grey", "own": lambda x, draws: x}, strength=0.5)
    assert left.left_out == {"own": "it has no strength that can be set"} and list(left.pictures) == ["data", "grey"]


def test_all_shows_what_suits_and_says_what_does_not(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(folder / "sets" / "cifar10", channels=1)
    assert run("cifar10", "--interventions", "all", "--root", "sets", "--samples", "2") == 0
    *left, where = capsys.readouterr().out.splitlines()
    assert where == "interventions.png"
    assert any(line.startswith("hue is left out: ") for line in left)
    assert run("digits", "--interventions", "flip", "--samples", "2") == 0
    assert capsys.readouterr().out.startswith("flip changes labels: ")


def test_tables_are_shown_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = '{name="swap-column", columns=1, within="place"},{name="bin-column", columns=0, bins=1}'
    assert run("rows.safetensors", "--interventions", asked, "--samples", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "row 0, label 0"
    assert lines[1].split(maxsplit=1) == ["data", "0 = 0, 1 = 0.1, 2 = 0.2, 3 = 0.3"]
    assert lines[3].split() == ["bin-column", "0", "0:", "0", "->", "1"]
    before, after = lines[2].partition("1: ")[2].split(" -> ")
    assert float(before) == 0.1 and float(after) in (0.5, 0.9)  # of the two others of the same place
    assert run("rows.safetensors", "--interventions", "all", "--preview", "shown.md") == 0
    assert capsys.readouterr().out == "shown.md\n"
    text = (folder / "shown.md").read_text(encoding="utf-8")
    assert text.startswith("```\nrows.safetensors, seed 0") and "swap-column 3  " in text


def test_texts_are_shown_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tokenizer().save_pretrained(folder / "words")
    write_csv(folder / "films.csv")
    asked = ("films.csv", "--tokenizer", "words", "--interventions", "user_defined_data:MaskTokens", "--samples", "3")
    assert run(*asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["row 0, label bad", "  data        [CLS] dull [SEP]"]
    shown, masked = (line.split()[1:] for line in (lines[5], lines[6]))
    assert len(shown) == len(masked) and shown != masked
    (folder / "texts.toml").write_text("[splits]\nfilms = 'films.csv'\n[text]\ncolumn = 'text'\n", encoding="utf-8")
    assert run("texts.toml", *asked[1:]) == 0
    assert capsys.readouterr().out == "\n".join(lines).replace("data      ", "films     ") + "\n"
    assert run("texts.toml", "--interventions", "all") == 2
    assert "texts need a tokenizer; pass --tokenizer, the folder of a model" in capsys.readouterr().err


def test_a_configuration_shows_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = "[splits]\nphotos = 'photos'\n[images]\nmean = [0.5]\nstd = [0.25]\n[interventions]\nturned = 'rotate'\n"
    (folder / "audit.toml").write_text(toml, encoding="utf-8")
    assert run("audit.toml", "--preview", "own.png") == 0
    assert run("photos", "--interventions", "rotate", "--preview", "other.png") == 0
    own, other = (read_sheet(folder / name) for name in ("own.png", "other.png"))
    assert own.shape == other.shape
    assert run("audit.toml", "--interventions", "all", "--preview", "own.png") == 0
    assert len(read_sheet(folder / "own.png")) > 3 * len(other)


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["photos", "--interventions", "gray,hew"], ["'gray' must be one of .*; did you mean 'grey'", "got 'hew'"]),
        (["photos", "--interventions", "grey,,hue"], ["--interventions must be 'all', or names and tables"]),
        (["photos", "--interventions", "{name=grey}"], [r"\{name=grey\} is no table .*; write \{name="]),
        (["photos", "--interventions", "grey,grey"], ["the same value stands there twice: grey, grey"]),
        (["photos", "--interventions", "grey", "--strength", "2"], [r"strength must lie in \[0, 1\], got 2"]),
        (["photos", "--interventions", "grey", "--cue", "box"], ["a sheet shows a cue or interventions; leave out"]),
        (["photos", "--interventions", "grey", "--samples", "0"], ["samples must be a whole number greater than zero"]),
        (["photos", "--interventions", "grey", "--preview", "a.txt"], ["images are drawn, and a.txt is a file"]),
        (["photos", "--strength", "0.5"], ["--strength goes with --interventions, which is not given"]),
        (["photoss", "--interventions", "grey"], ["dataset must be one of .*, got 'photoss'"]),
        (["rows.safetensors", "--interventions", "all", "--preview", "a.png"], ["texts and tables have no pictures"]),
        (["rows.safetensors", "--interventions", "grey,hue"], ["Grey needs images", "Hue needs images"]),
        (
            ["rows.safetensors", "--interventions", '{name="swap-column", within="plce"},{name="bin-column", bin=2}'],
            ["within = 'plce': .* has no tensor 'plce'", "'bin-column' has no option 'bin'; .*did you mean 'bins'"],
        ),
        (
            ["rows.safetensors", "--interventions", '{name="swap-column", columns=0, donors="none.safetensors"}'],
            ["no file none.safetensors; check its path"],
        ),
    ],
)  # fmt: skip
def test_mistakes_are_told_together_a_line_each(
    folder: Path, words: list[str], texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == len(texts) and shown.out == ""
    for line, text in zip(lines, texts, strict=True):
        assert re.search(text, line), line
    assert not list(folder.glob("*.png"))


def test_the_list_of_an_option_is_read() -> None:
    assert parse_interventions(" all ") == []
    assert parse_interventions("grey, my.module:Blur") == ["grey", "my.module:Blur"]
    table = {"name": "patch", "colour": [1.0, 0.5, 0.0], "note": "a, } b"}
    text = "{name = 'patch', colour = [1.0, 0.5, 0.0], note = 'a, } b'}"
    assert parse_interventions(f"{text},hue") == [table, "hue"]
