"""`mechconn audit`, as docs/audit.md shows it, and with the mistakes that people make."""

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
from mechconn.cli import main
from texts import texts

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## audit.toml in full")[1].split("\n## ")[0]
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
    """Everything that the page's example names, in the working directory."""
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
    (tmp_path / "photos" / "empty").mkdir()
    toml = re.findall(r"```toml\n(.*?)```", SECTION, re.S)[0]
    (tmp_path / "audit.toml").write_text(toml, encoding="utf-8")
    return tmp_path


COMMAND = re.findall(r"```\nmechconn (audit .*?)\n```", SECTION)[0]


def test_the_pages_example(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMAND) == 0
    shown = capsys.readouterr()
    # 2 passes over 24 + 24 rows; over these and 24 rows of statistics 9 inner points of two lines, their two ends, and
    # 10 points of each of 3 blocks; 4 over the latter for the alignment, and 4 over 24 rows for CKA.
    assert "3,888 forward passes of one row" in shown.err
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
    "metrics": (
        "[splits]\ncue = 'photos/cue'\nrand_cue = 'photos/shuffled'\n[metrics]\nx = 3\n"
        "y = {functio = 'my_models:metric', bounds = [0, 1]}\n",
        [
            "metrics.x: Input should be a valid string or a valid dictionary",
            "metrics.y.function: needed, and not there",
            "metrics.y.functio: unknown key; did you mean 'function'?",
        ],
    ),
    "wrong values": (
        "margin = -1\non = 'both'\npoints = 2\nblocks = true\n",
        ["margin: ", "on: ", "points: ", "blocks", "splits: needed, and not there"],
    ),
    "no images": (
        f"{WIDTH}[splits]\ncue = 'photos/cue'\nrand_cue = 'photos/empty'\n[norm]\ndata = 'photos/train'\n",
        ["photos/empty holds no images: expected a folder for each class"],
    ),
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


def test_all_that_can_be_found_together_is_told_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text(
        "reference = 'cues'\nloss = 'my_models:los'\n[splits]\ncue = 'photos/cuee'\nrand_cue = 'x.csv'\n"
        "other = 'someone/pets#test'\n[model]\narguments = {width = 8}\n",
        encoding="utf-8",
    )
    assert run("audit a.safetensor c.safetensors --data audit.toml --model my_models:build") == 2
    lines = capsys.readouterr().err.splitlines()
    for text in (
        "weights: a.safetensor is no file",
        "weights: c.safetensors is no file",
        "if photos/cuee is a set of the hub, set download = true under [images]",
        "if someone/pets is a set of the hub, set download = true under [images]",
        "no file x.csv; check its path",
        "the loss 'my_models:los': ",
        "reference must be one of 'cue', 'rand_cue', 'other', got 'cues'",
    ):
        assert [line.count(text) for line in lines].count(1) == 1, text
    assert len(lines) == 7 and not (folder / "audit.html").exists()


def test_what_the_models_lack_is_told_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text(
        "blocks = 'head'\nlayers = ['body', 'top']\nalignment = 'activations'\n"
        "[splits]\ncue = 'photos/cue'\nrand_cue = 'photos/shuffle'\n[model]\narguments = {width = 8}\n",
        encoding="utf-8",
    )
    assert run(f"{COMMAND} --model my_models:build") == 2
    lines = capsys.readouterr().err.splitlines()
    texts = ("under [norm]", "belong to no block", "layer must be one of '0', '1', ", "got 'top'", "photos/shuffle")
    assert [sum(text in line for line in lines) > 0 for text in texts] == [True] * 5 and len(lines) == 5


def test_a_layer_that_does_not_run_is_refused_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "my_models")  # the fixture imported it as it was
    text = MODELS.replace("    return", "    first[0].aux = nn.Linear(2, 2)\n    return")
    (folder / "my_models.py").write_text(text, encoding="utf-8")
    for seed, name in enumerate("ab"):
        model = mc.load_model("my_models:build", arguments={"width": 8}, seed=seed)
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    toml = (folder / "audit.toml").read_text(encoding="utf-8")
    (folder / "audit.toml").write_text(toml.replace('layers = "all"', 'layers = ["0", "0.aux"]'), encoding="utf-8")
    assert run(COMMAND) == 2
    expected = "layer '0.aux' of model_a ran 0 times in one forward pass; name layers that run once"
    assert capsys.readouterr().err == f"mechconn: {expected}\n"


def test_one_wrong_factory_is_one_mistake(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{COMMAND} --model my_models:bild") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert run("audit a.safetensors c.safetensors --data audit.toml --model my_models:bild") == 2
    assert "c.safetensors is no file" in capsys.readouterr().err


def test_classes_and_inputs_that_do_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_class_folder(folder / "photos" / "cue" / "ibis", {"0.png": pixels(1, side=40)})
    write_class_folder(folder / "photos" / "shuffled" / "ibis", {"0.png": pixels(1, side=40)})
    write_class_folder(folder / "photos" / "train" / "ibis", {"0.png": pixels(1, side=40)})
    assert run(COMMAND) == 2
    lines = capsys.readouterr().err.splitlines()
    assert ["the data have 3 classes, but the network" in line for line in lines] == [True, True]
    assert "network a gives 2 outputs" in lines[0]
    toml = (folder / "audit.toml").read_text(encoding="utf-8").replace("size = 32", "size = 2")
    (folder / "audit.toml").write_text(toml, encoding="utf-8")
    assert run(COMMAND) == 2
    assert "the network cannot take inputs of shape [2, 3, 2, 2]" in capsys.readouterr().err


UNIONS = {
    "blocks = [1]": "blocks: Input should be a valid integer or a valid string, got [1]",
    "layers = 3": "layers: Input should be 'all' or a valid list, got 3",
    "layers = ['conv', 3]": "layers: Input should be 'all' or a valid string, got ['conv', 3]",
    "interventions = [3]": "interventions: Input should be a valid string or a valid dictionary, got 3",
    "model = 'a:b'": "model: Input should be a valid dictionary or instance of ModelConfig, got 'a:b'",
}


@pytest.mark.parametrize("line", UNIONS)
def test_a_value_of_no_kind_is_one_mistake(folder: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    (folder / "audit.toml").write_text(f"{line}\n[splits]\ncue = 'a'\nrand_cue = 'b'\n", encoding="utf-8")
    assert run(COMMAND) == 2
    assert capsys.readouterr().err == f"mechconn: audit.toml: {UNIONS[line]}\n"


def test_splits_in_tables_and_a_loss_of_ones_own(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "my_models")  # the fixture imported it as it was
    with (folder / "my_models.py").open("a", encoding="utf-8") as module:
        module.write(
            "\ndef wrong(outputs, targets):\n    return 1 - outputs.softmax(1)[range(len(targets)), targets]\n"
        )
    for split in ("cue", "shuffled"):
        rows = [f"{split}/{name}/{row}.png,{name},{row % 2}" for row in range(12) for name in ("bird", "fish")]
        text = "\n".join(["file,label,place", *rows])
        (folder / "photos" / f"{split}.csv").write_text(text, encoding="utf-8")
    (folder / "audit.toml").write_text(
        "points = 3\nloss = 'my_models:wrong'\non = 'loss'\n[splits]\ncue = 'photos/cue.csv'\n"
        "rand_cue = 'photos/shuffled.csv'\n[norm]\ndata = 'photos/train'\n[model]\narguments = {width = 8}\n",
        encoding="utf-8",
    )
    assert run(f"{COMMAND} --model my_models:build") == 0
    shown = capsys.readouterr().out
    assert "loss units" in shown and "nats" not in shown and "It is right on " in shown


def test_texts_in_files_of_tokens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, split in enumerate(("cue", "rand_cue", "train")):
        data = texts(60, seed)
        parts = {"input_ids": data.input_ids, "attention_mask": data.attention_mask, "y": data.y}
        save_file(parts, folder / f"{split}.safetensors")
    for seed, name in enumerate("ab"):
        model = mc.load_model("texts:Transformer", arguments={"width": 8}, seed=seed)
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    (folder / "audit.toml").write_text(
        "points = 3\n[splits]\ncue = 'cue.safetensors'\nrand_cue = 'rand_cue.safetensors'\n"
        "[norm]\ndata = 'train.safetensors'\n[model]\nfactory = 'texts:Transformer'\narguments = {width = 8}\n",
        encoding="utf-8",
    )
    assert run(COMMAND) == 0
    shown = capsys.readouterr().out
    assert "after alignment" in shown and "By activation matching" in shown
    assert "data:image/png" not in (folder / "audit.html").read_text(encoding="utf-8")


def test_weights_without_a_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text("[splits]\ncue = 'photos/cue'\nrand_cue = 'photos/shuffled'\n", encoding="utf-8")
    assert run(COMMAND) == 2
    assert "a.safetensors holds weights without a network; pass --model" in capsys.readouterr().err
    assert run("audit a.safetensors b.safetensors --data none.toml --device tpu -o nowhere/audit.html") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2 and any("device" in line for line in lines) and any("nowhere" in line for line in lines)


@pytest.mark.parametrize("name", ["a.safetensors", "b.safetensors", "audit.toml"])
def test_what_is_read_is_not_written_over(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / name).read_bytes()
    assert run(f"{COMMAND} -o {name}") == 2
    assert f"the result would overwrite {name}, which is read" in capsys.readouterr().err
    assert (folder / name).read_bytes() == before
