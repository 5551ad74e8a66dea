"""`mechconn audit` of folders that Transformers saved: class i is the same in both models and the data, by name."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from image_files import pixels, write_class_folder
from mechconn.cli import main
from mechconn.core import isolate_rng
from texts import texts

with isolate_rng(0, "import"):
    import transformers

SMALL: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
SPLITS = "points = 3\nalignment = 'none'\n[splits]\ncue = 'cue'\nrand_cue = 'rand_cue'\n"


def vit(names: Sequence[str] | None, seed: int = 0) -> Any:
    """A classifier of images, of two classes where no names are given."""
    labels: dict[str, Any] = {"num_labels": 2} if names is None else {"id2label": dict(enumerate(names))}
    with isolate_rng(seed, "vit"):
        config = transformers.ViTConfig(image_size=8, patch_size=4, **SMALL, **labels)
        return transformers.ViTForImageClassification(config).eval()


def reversed_classes(model: Any) -> Any:
    """The same function of other outputs: the last layer's rows and their names the other way round."""
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.copy_(parameter.flip(0).clone())
    model.config.id2label = dict(enumerate(reversed(model.config.id2label.values())))
    return model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number, split in enumerate(("cue", "rand_cue")):
        for label, name in enumerate(("bird", "fish")):
            images = {f"{row}.png": pixels(40 * number + 20 * label + row, side=8) for row in range(12)}
            write_class_folder(tmp_path / split / name, images)
    (tmp_path / "audit.toml").write_text(SPLITS, encoding="utf-8")
    return tmp_path


def run(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    shown = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, shown.out, shown.err


def record(capsys: pytest.CaptureFixture[str], a: Any, b: Any) -> dict[str, Any]:
    a.save_pretrained("a")
    b.save_pretrained("b")
    code, out, error = run("audit a b --data audit.toml --json", capsys)
    assert code == 0, error
    return json.loads(out)


def test_one_function_under_two_orders_of_names_is_found_to_be_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = record(capsys, vit(["bird", "fish"]), vit(["bird", "fish"]))
    assert plain["notes"] == [] and 0 < plain["comparison"]["a"]["accuracy"]["cue"] < 1
    for a, b, moved in (
        (vit(["Bird", "FISH"]), reversed_classes(vit(["bird", "fish"])), ["b"]),
        (reversed_classes(vit(["bird", "fish"])), reversed_classes(vit(["bird", "fish "])), ["a", "b"]),
    ):
        found = record(capsys, a, b)
        told = [f"The outputs of {name} were put into the order that the data gives their names" for name in moved]
        assert [note.split(",")[0] for note in found["notes"]] == told
        assert found["comparison"]["a"] == plain["comparison"]["a"]
        assert found["comparison"]["b"]["accuracy"] == plain["comparison"]["a"]["accuracy"]
        assert found["comparison"]["verdict"] == plain["comparison"]["verdict"]
        assert found["discrepancy"]["mean"] == 0
        assert found["paths"]["before"]["barriers"]["loss"]["cue"]["height"] == pytest.approx(0, abs=1e-6)


def test_classes_that_the_data_lack_come_last_in_one_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = record(capsys, vit(["cow", "bird", "ant", "fish"]), reversed_classes(vit(["cow", "bird", "ant", "fish"])))
    assert len(found["notes"]) == 2 and found["discrepancy"]["mean"] == 0
    assert found["comparison"]["a"]["accuracy"] == found["comparison"]["b"]["accuracy"]


def test_without_names_in_the_data_b_is_put_into_the_order_of_a(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"id2label": dict(enumerate(("neg", "neutral", "pos")))}
    for seed, split in enumerate(("cue", "rand_cue")):
        data = texts(60, seed)
        parts = {"input_ids": data.input_ids, "attention_mask": data.attention_mask, "y": data.y}
        save_file(parts, folder / f"{split}.safetensors")
    (folder / "audit.toml").write_text(SPLITS.replace("cue'", "cue.safetensors'"), encoding="utf-8")
    with isolate_rng(0, "bert"):
        config = transformers.BertConfig(vocab_size=34, max_position_embeddings=16, **SMALL, **names)
        first = transformers.BertForSequenceClassification(config).eval()
        config = transformers.BertConfig(vocab_size=34, max_position_embeddings=16, **SMALL, **names)
        second = transformers.BertForSequenceClassification(config).eval()
    second.load_state_dict(first.state_dict())
    found = record(capsys, first, reversed_classes(second))
    (note,) = found["notes"]
    assert note == ("The outputs of b were put into the order that a gives their names, from 'pos', 'neutral', 'neg'.")
    assert found["discrepancy"]["mean"] == 0
    assert found["comparison"]["a"]["accuracy"] == found["comparison"]["b"]["accuracy"]


def test_names_of_other_classes_are_refused_and_both_remedies_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vit(["bird", "fish"]).save_pretrained("a")
    vit(["cat", "dog"], seed=1).save_pretrained("b")
    code, out, error = run("audit a b --data audit.toml", capsys)
    assert (code, out) == (2, "") and not (folder / "audit.html").exists()
    lines = [line for line in error.splitlines() if line.startswith("mechconn: ")]
    assert len(lines) == 1
    assert "model a and model b name different classes ('bird', 'fish' against 'cat', 'dog')" in lines[0]
    assert "config.id2label" in lines[0] and 'label_names = "ignore" under [model]' in lines[0]
    (folder / "audit.toml").write_text(f'{SPLITS}[model]\nlabel_names = "ignore"\n', encoding="utf-8")
    assert run("audit a b --data audit.toml", capsys)[0] == 0
    (folder / "audit.toml").write_text(SPLITS, encoding="utf-8")
    config = json.loads((folder / "b" / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {"0": "bird", "1": "fish"}
    (folder / "b" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert run("audit a b --data audit.toml", capsys)[0] == 0


def test_names_that_say_nothing_are_no_hindrance(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = record(capsys, vit(None), reversed_classes(vit(["bird", "fish"])))
    assert len(found["notes"]) == 1 and found["discrepancy"]["mean"] == 0


OWN = """
from types import SimpleNamespace
import torch
from torch import nn

class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 192))
        self.config = SimpleNamespace(id2label={0: "fish", 1: "bird"})

    def forward(self, x):
        return x.flatten(1) @ self.weight.T
"""


def test_outputs_that_no_layer_can_be_permuted_for_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    (folder / "own_models.py").write_text(OWN, encoding="utf-8")
    for number, name in enumerate("ab"):
        save_file({"weight": torch.full((2, 192), float(number))}, folder / f"{name}.safetensors")
    code, _, error = run("audit a.safetensors b.safetensors --data audit.toml --model own_models:Product", capsys)
    assert code == 2
    assert "model a and split 'cue' name classes in different orders (class 0 is 'fish' and 'bird')" in error


def test_marks_in_tables_are_told_apart_in_the_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("cue", "rand_cue"):
        rows = [f'"{split}/{name}/{row}.png"\t{name}\n' for row in range(12) for name in ("bird", "fish")]
        (folder / f"{split}.tsv").write_text("file\tlabel\n" + "".join(rows), encoding="utf-8")
    for name in "ab":
        vit(["bird", "fish"]).save_pretrained(name)
    toml = SPLITS.replace("cue'", "cue.tsv'")
    (folder / "audit.toml").write_text(toml, encoding="utf-8")
    code, _, error = run("audit a b --data audit.toml", capsys)
    lines = [line for line in error.splitlines() if "quotation marks may quote fields" in line]
    assert code == 2 and len(lines) == 2 and "in a configuration under [images]" in lines[0]
    (folder / "audit.toml").write_text(f'{toml}[images]\nquoting = "minimal"\n', encoding="utf-8")
    assert run("audit a b --data audit.toml", capsys)[0] == 0
