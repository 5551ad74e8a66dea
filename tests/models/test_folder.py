"""Folders that Transformers saved: classifiers come back as they were, offline and in float32."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng

with isolate_rng(0, "import"):
    import transformers

SMALL: dict[str, Any] = {
    "num_labels": 3,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def bert() -> nn.Module:
    config = transformers.BertConfig(vocab_size=12, max_position_embeddings=8, **SMALL)
    with isolate_rng(0, "bert"):
        return transformers.BertForSequenceClassification(config).eval()


def vit() -> nn.Module:
    config = transformers.ViTConfig(image_size=8, patch_size=4, **SMALL)
    with isolate_rng(0, "vit"):
        return transformers.ViTForImageClassification(config).eval()


def saved(model: nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    return folder


@pytest.mark.parametrize("build", [bert, vit])
def test_a_classifier_comes_back(tmp_path: Path, build: object, capfd: pytest.CaptureFixture[str]) -> None:
    model = build()  # pyright: ignore[reportCallIssue]
    folder, notes = saved(model, tmp_path / "m"), []
    capfd.readouterr()
    loaded = mc.load_model(str(folder), note=notes.append)
    assert type(loaded) is type(model) and not loaded.training
    expected, got = model.state_dict(), loaded.state_dict()
    assert all(torch.equal(got[name], t) for name, t in expected.items()) and got.keys() == expected.keys()
    assert notes == [] and capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_half_precision_is_read_as_float32_and_told(tmp_path: Path) -> None:
    folder, notes = saved(bert().half(), tmp_path / "m"), []
    loaded = mc.load_model(folder, note=notes.append)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert notes == [f"the weights of {folder} are float16 there and float32 in the model"]


def test_other_weights_in_the_model_of_a_folder(tmp_path: Path) -> None:
    folder = saved(bert(), tmp_path / "m")
    other = {name: t + 1 if t.is_floating_point() else t for name, t in bert().state_dict().items()}
    torch.save({f"module.{name}": t for name, t in other.items()}, tmp_path / "other.pt")
    (folder / "model.safetensors").unlink()
    loaded = mc.load_model(folder, tmp_path / "other.pt")
    assert all(torch.equal(loaded.state_dict()[name], t) for name, t in other.items())


def test_a_head_that_the_file_lacks_is_not_drawn_at_random(tmp_path: Path) -> None:
    folder = saved(bert(), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    saved(bert().bert, folder)  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=r"do not match: missing classifier.bias, classifier.weight; unexpected none"):
        mc.load_model(folder)


def test_folders_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(bert(), tmp_path / "m")
    with pytest.raises(TypeError, match="arguments= are for a function that builds the model"):
        mc.load_model(folder, arguments={"num_labels": 2})
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ImportError, match=r"needs the package transformers, .*; pip install 'mechconn\[transformers\]'"
    ):
        mc.load_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"there is no model.safetensors"):
        mc.load_model(folder)
    for text, why in {
        '{"architectures": ["BertModel"]}': "holds a BertModel, not a classifier; models whose architecture ends in "
        "ForSequenceClassification or ForImageClassification can be loaded",
        "{}": "its config.json names no single architecture",
        "no JSON": "its config.json names no single architecture",
    }.items():
        (folder / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError) as caught:
            mc.load_model(folder)
        assert why in str(caught.value)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"there is no config.json"):
        mc.load_model(folder)
    with pytest.raises(ValueError, match=r"factory must be 'package.module:function'"):
        mc.load_model(tmp_path / "none")
