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
    with pytest.raises(
        ValueError,
        match=r"do not match: missing 2 \(classifier.bias, classifier.weight\); unexpected none; another arch",
    ):
        mc.load_model(folder)


# ---------------------------------------------------------------- shards, older files, experts


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def as_pytorch_model(folder: Path, shards: int) -> Path:
    """The folder's weights as Transformers saved them before safetensors: pytorch_model.bin, whole or in shards."""
    state = bert().state_dict()
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return folder
    names = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
    places = {name: names[i % shards] for i, name in enumerate(state)}
    for file in names:
        torch.save({name: t for name, t in state.items() if places[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def test_shards_of_a_folder(tmp_path: Path) -> None:
    bert().save_pretrained(folder := tmp_path / "m", max_shard_size="2KB")  # pyright: ignore[reportCallIssue]
    shards = sorted(file.name for file in folder.glob("model-*.safetensors"))
    assert len(shards) > 1 and same(mc.load_model(folder), bert()) and same(mc.load_model(bert, folder), bert())
    (folder / shards[0]).unlink()
    for load in (lambda: mc.load_model(folder), lambda: mc.load_model(bert, folder)):
        with pytest.raises(ValueError) as caught:
            load()
        assert str(caught.value) == (
            f"{folder / 'model.safetensors.index.json'} names {len(shards)} shards, of which 1 are missing: "
            f"{shards[0]}; copy them beside it"
        )


@pytest.mark.parametrize("shards", [1, 3])
def test_folders_of_before_safetensors(tmp_path: Path, shards: int) -> None:
    folder = as_pytorch_model(saved(bert(), tmp_path / "m"), shards)
    assert same(mc.load_model(folder), bert()) and same(mc.load_model(bert, folder), bert())


def test_a_folder_whose_file_would_act_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = as_pytorch_model(saved(bert(), tmp_path / "m"), 1)

    class Acts:
        def __reduce__(self) -> Any:
            return print, ("this ran",)

    torch.save({**bert().state_dict(), "more": Acts()}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"unpickling it would call builtins.print, which runs code; nothing was run"):
        mc.load_model(folder)
    assert "this ran" not in capsys.readouterr().out


def mixtral() -> nn.Module:
    config = transformers.MixtralConfig(
        vocab_size=12, num_local_experts=3, num_key_value_heads=2, pad_token_id=0, **SMALL
    )
    with isolate_rng(0, "mixtral"):
        return transformers.MixtralForSequenceClassification(config).eval()


def gpt_oss() -> nn.Module:
    config = transformers.GptOssConfig(
        vocab_size=12, num_local_experts=3, num_key_value_heads=2, head_dim=4, pad_token_id=0, **SMALL
    )
    with isolate_rng(0, "gpt-oss"):
        return transformers.GptOssForSequenceClassification(config).eval()


def test_experts_that_stand_in_the_file_one_by_one(tmp_path: Path) -> None:
    """Transformers writes a tensor for each expert and holds all in one; a folder is converted, a factory's is not."""
    folder = saved(mixtral(), tmp_path / "m")
    loaded, x = mc.load_model(folder), torch.tensor([[1, 2, 3]])
    assert same(loaded, mixtral())
    with torch.no_grad():
        assert torch.equal(loaded(x).logits, mixtral()(x).logits)
    fused = saved(gpt_oss(), tmp_path / "fused")  # all in one in the file, too
    assert same(mc.load_model(fused), gpt_oss()) and same(mc.load_model(gpt_oss, fused), gpt_oss())
    with pytest.raises(ValueError) as caught:
        mc.load_model(mixtral, folder)
    text = str(caught.value)
    assert "hold their experts in different ways (missing 'model.layers.0.mlp.experts." in text and "\n" not in text
    assert "unexpected 'model.layers.0.block_sparse_moe.experts.0.w1.weight'" in text
    assert "load the folder that Transformers saved, which is converted, in the place of the model" in text


def test_a_head_that_does_not_fit_its_configuration(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = saved(bert(), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    (folder / "config.json").write_text(json.dumps(config | names), encoding="utf-8")
    capfd.readouterr()
    with pytest.raises(ValueError) as caught:
        mc.load_model(folder)
    assert str(caught.value) == (
        f"the weights in {folder} do not fit its config.json: classifier.bias [3] against [2], classifier.weight "
        "[3, 8] against [2, 8] (file against configuration); correct the configuration (num_labels, id2label, sizes), "
        "or save the model again"
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq"])
def test_quantised_folders_are_one_line(tmp_path: Path, method: str) -> None:
    folder = saved(bert(), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    quantised = config | {"quantization_config": {"quant_method": method}}
    (folder / "config.json").write_text(json.dumps(quantised), encoding="utf-8")
    with pytest.raises(
        ValueError, match=rf"are quantised \({method}\), and paths are computed in floating point; pass"
    ):
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


def test_code_of_a_folder_or_of_a_hub_is_neither_run_nor_offered(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = saved(bert(), tmp_path / "m")
    (folder / "own.py").write_text("print('this ran')", encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own = {name: f"own.{name}" for name in ("AutoConfig", "AutoModelForSequenceClassification")}
    capfd.readouterr()
    for changes, text in (
        ({"model_type": "own", "auto_map": own}, "Transformers cannot load the model in .* contains custom code"),
        ({"_attn_implementation": "owner/kernel"}, "asks for _attn_implementation = 'owner/kernel', code of a hub"),
        ({"hidden_size": "many"}, "Transformers cannot load the model in .*Validation error for field 'hidden_size'"),
    ):
        (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
        for weights in (None, folder / "model.safetensors"):
            with pytest.raises(ValueError, match=text) as caught:
                mc.load_model(folder, weights)
            assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # no question either
