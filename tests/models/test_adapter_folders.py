"""LoRA adapters in folders that PEFT saved, on bases that Transformers saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import mechconn as mc
from zoo import build

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing.:FutureWarning"
)  # PEFT's use of Transformers
IDS = {"input_ids": torch.arange(18).reshape(2, 9), "attention_mask": torch.ones(2, 9, dtype=torch.int64)}


def make_bert(kind: str = "BertForSequenceClassification", width: int = 16, **settings: Any) -> Any:
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=20, **settings,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, kind)(config).eval()


def save_adapter(base: Any, folder: Path, named: str | None = None, seed: int = 1, **settings: Any) -> Any:
    """An adapter whose factors are drawn, saved by PEFT; what it computes with."""
    settings = {"r": 2, "lora_alpha": 6, "target_modules": ["query", "value"], "task_type": "SEQ_CLS"} | settings
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = peft.get_peft_model(base, peft.LoraConfig(**settings)).eval()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_magnitude" not in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    config = folder / "adapter_config.json"  # written afterwards: PEFT asks the hub for a base whose name it knows
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": named}))
    return model


@torch.no_grad()
def run(model: Any) -> torch.Tensor:
    return model(**IDS).logits


KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True, "r": 4},
    "DoRA": {"use_dora": True},
    "PiSSA": {"init_lora_weights": "pissa"},
    "OLoRA": {"init_lora_weights": "olora"},
    "ranks by layer": {"rank_pattern": {"layer.0.attention.self.query": 5}},
    "a module saved whole": {"modules_to_save": ["classifier", "pooler"]},
    "biases": {"bias": "lora_only"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_with_its_base_is_the_model_that_was_saved(kind: str, tmp_path: Path) -> None:
    make_bert().save_pretrained(tmp_path / "base")
    wanted = run(save_adapter(make_bert(), tmp_path / "a", "base", **KINDS[kind]))
    notes: list[str] = []
    model = mc.load_model(tmp_path / "a", note=notes.append)
    assert torch.equal(run(model), wanted)  # the same operations on the same numbers
    assert not model.training
    assert notes[0] == f"the adapter in {tmp_path / 'a'} is put on the base in {tmp_path / 'base'}"
    assert len(notes) == (2 if kind in ("PiSSA", "OLoRA") else 1)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all("lora_" in n or "modules_to_save" in n or n.endswith("bias") for n in trained)


def test_the_base_is_found_as_it_is_named_or_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bert().save_pretrained(tmp_path / "base")
    wanted = run(save_adapter(make_bert(), tmp_path / "a", "org/base"))
    assert torch.equal(run(mc.load_model(tmp_path / "a")), wanted)  # beside the adapter, by its last part
    config = tmp_path / "a" / "adapter_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"base_model_name_or_path": "elsewhere/bert"}))
    with pytest.raises(ValueError, match=r"the base of the adapter in .* is 'elsewhere/bert', and there is no"):
        mc.load_model(tmp_path / "a")
    assert torch.equal(run(mc.load_model(tmp_path / "a", base=tmp_path / "base")), wanted)
    base = mc.load_model(tmp_path / "base")
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    a = mc.load_model(tmp_path / "a", base=base)
    assert torch.equal(run(a), wanted)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert all(parameter.requires_grad for parameter in base.parameters())
    shared = {parameter.data_ptr() for parameter in base.parameters()}
    own = [n for n, p in a.named_parameters() if p.data_ptr() not in shared]
    assert all("lora_" in name or "modules_to_save" in name for name in own)
    config.write_text(json.dumps(settings | {"base_model_name_or_path": None}))
    with pytest.raises(ValueError, match="names no base; pass its folder or the network, base="):
        mc.load_model(tmp_path / "a")


def test_an_adapter_as_the_weights_of_its_base(tmp_path: Path) -> None:
    """The base keeps the weights of its folder, and takes the head that the adapter brings."""
    base = _save(make_bert(num_labels=5), tmp_path / "base")
    wanted = run(save_adapter(make_bert(num_labels=3), tmp_path / "a"))
    assert torch.equal(run(mc.load_model(base, tmp_path / "a")), wanted)


def test_what_an_adapter_does_not_take_is_refused(tmp_path: Path) -> None:
    base = _save(make_bert(), tmp_path / "base")
    save_adapter(make_bert(), tmp_path / "a", "base")
    with pytest.raises(TypeError, match=r"a is an adapter, which has its own weights, got .*base too; leave one out"):
        mc.load_model(tmp_path / "a", base)
    with pytest.raises(TypeError, match=r"arguments= are for a function that builds the model, and .*a is none"):
        mc.load_model(tmp_path / "a", arguments={"width": 3})
    with pytest.raises(TypeError, match=r"key='ema' names a state in a file of weights, and .*a is an adapter"):
        mc.load_model(make_bert(), tmp_path / "a", key="ema")
    with pytest.raises(ValueError, match=r"in place of the network, and BertForSequenceClassification is none; leave"):
        mc.load_model(make_bert(), tmp_path / "a", base=base)


def test_mistakes_in_the_base_are_told_first(tmp_path: Path) -> None:
    _save(make_bert(), tmp_path / "base")
    first = save_adapter(make_bert(), tmp_path / "a", "base")
    with pytest.raises(FileNotFoundError, match=r"base: no folder .*nowhere; pass that of the network that the"):
        mc.load_model(tmp_path / "a", base=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"base: .*a is an adapter itself; pass the network that both were"):
        mc.load_model(tmp_path / "a", base=tmp_path / "a")
    with pytest.raises(TypeError, match=r"base must be a folder or an nn\.Module, got dict"):
        mc.load_model(tmp_path / "a", base={})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"the base of the adapter in .* carries an adapter itself; pass the network"):
        mc.load_model(tmp_path / "a", base=first)


def test_another_base_than_the_named_one_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("base", "other", "here/base"):
        _save(make_bert(), tmp_path / name)
    adapter, notes = tmp_path / "a", list[str]()
    save_adapter(make_bert(), adapter, "base")
    mc.load_model(adapter, base=tmp_path / "base", note=notes.append)
    assert len(notes) == 1
    mc.load_model(adapter, base=tmp_path / "other", note=notes.append)
    assert notes.pop() == f"{adapter} names 'base' as its base; {tmp_path / 'other'} is used"
    monkeypatch.chdir(tmp_path / "here")  # two folders of that name: from here, and beside the adapter
    mc.load_model(adapter, note=notes.append)
    assert notes.pop() == f"{adapter} names 'base' as its base; base is used, not {tmp_path / 'base'}"


@pytest.mark.parametrize("kind", KINDS)
def test_two_adapters_on_one_network_are_apart(kind: str, tmp_path: Path) -> None:
    """What the second brings, such as biases, is written neither into the first nor into the base."""
    base = make_bert()
    plain = run(base)
    wanted = [run(save_adapter(make_bert(), tmp_path / str(seed), seed=seed, **KINDS[kind])) for seed in (1, 2)]
    models = [mc.load_model(tmp_path / str(seed), base=base, note=str) for seed in (1, 2)]
    assert all(torch.equal(run(model), outputs) for model, outputs in zip(models, wanted, strict=True))
    merged: Any = models[0]
    merged.merge_and_unload(safe_merge=True)
    assert torch.equal(run(models[1]), wanted[1]) and torch.equal(run(base), plain)


def test_embeddings_that_peft_saves_whole_are_those_of_the_base(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.LlamaConfig(vocab_size=30, max_position_embeddings=20, pad_token_id=0, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = transformers.LlamaForSequenceClassification(config).eval()
    base.save_pretrained(tmp_path / "base")
    settings: dict[str, Any] = {"target_modules": ["embed_tokens", "q_proj"]}
    with pytest.warns(UserWarning, match="Setting `save_embedding_layers`"):
        wanted = run(save_adapter(base, tmp_path / "a", "base", **settings))
    assert torch.equal(run(mc.load_model(tmp_path / "a")), wanted)


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForSequenceClassification"])
def test_a_head_that_the_adapter_brings_needs_none_in_the_base(kind: str, tmp_path: Path) -> None:
    """Hubs keep bases without the head, or with another; the adapter's folder holds the one that was trained."""
    base = make_bert(kind, num_labels=2) if kind.endswith("Classification") else make_bert(kind)
    base.save_pretrained(tmp_path / "base")
    classifier = make_bert(num_labels=5)
    classifier.bert.load_state_dict(getattr(base, "bert", base).state_dict(), strict=False)
    if kind == "BertForMaskedLM":  # saved without the pooler
        with pytest.raises(ValueError, match=r"missing 2 \(bert\.pooler\.dense\.bias, bert\.pooler\.dense\.weight\)"):
            save_adapter(classifier, tmp_path / "a", "base")
            mc.load_model(tmp_path / "a")
        return
    wanted = run(save_adapter(classifier, tmp_path / "a", "base"))
    assert wanted.shape == (2, 5)
    assert torch.equal(run(mc.load_model(tmp_path / "a")), wanted)


def test_a_head_of_two_layers_too(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.RobertaConfig(vocab_size=30, max_position_embeddings=20, num_labels=3, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = transformers.RobertaForMaskedLM(config)
        model = transformers.RobertaForSequenceClassification(config).eval()
    model.roberta.load_state_dict(base.roberta.state_dict())
    base.save_pretrained(tmp_path / "base")
    wanted = run(save_adapter(model, tmp_path / "a", "base"))
    assert torch.equal(run(mc.load_model(tmp_path / "a")), wanted)


def make_small() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


def test_an_adapter_on_a_network_of_ones_own(tmp_path: Path) -> None:
    torch_base = build(make_small, dtype=torch.float32)
    trained = save_adapter(torch_base, tmp_path / "a", target_modules=["0"], task_type=None)
    plain = build(make_small, dtype=torch.float32)
    plain.load_state_dict({n.replace("base_layer.", ""): t for n, t in trained.get_base_model().state_dict().items()
                           if "lora_" not in n})  # fmt: skip
    x = torch.ones(1, 3)
    assert torch.equal(mc.load_model(tmp_path / "a", base=plain)(x), trained(x))


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    make_bert().save_pretrained(tmp_path / "base")
    save_adapter(make_bert(), tmp_path / "a", "base")
    wide = mc.load_model(_save(make_bert(width=24), tmp_path / "wide"))
    with pytest.raises(ValueError, match=r"tensors of the adapter in .* do not fit its base: base_model") as caught:
        mc.load_model(tmp_path / "a", base=wide)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"does not fit its base, a Sequential \(.*Target modules") as caught:
        mc.load_model(tmp_path / "a", base=build(lambda: torch.nn.Sequential(torch.nn.Linear(2, 2))))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="base= is for the folder of an adapter"):
        mc.load_model(tmp_path / "base", base=wide)
    broken = _change(tmp_path, peft_type="IA3")
    with pytest.raises(ValueError, match="holds an adapter of the kind IA3, and LoRA alone is read"):
        mc.load_model(broken)
    started = _change(tmp_path, init_lora_weights="pissa_niter_4")
    with pytest.raises(ValueError, match="was started by pissa_niter_4, which changed the base's weights by what"):
        mc.load_model(started)
    with pytest.raises(ValueError, match=r"does not fit its base, .* \(.*unterminated subpattern"):
        mc.load_model(_change(tmp_path, target_modules="("))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as the configuration of an adapter"):
        mc.load_model(tmp_path / "b")
    shutil.copy(tmp_path / "a" / "adapter_config.json", tmp_path / "b")
    with pytest.raises(FileNotFoundError, match=r"holds no adapter_model\.safetensors and no adapter_model\.bin"):
        mc.load_model(tmp_path / "b")


def _save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def _change(folder: Path, **settings: Any) -> Path:
    """A copy of the adapter with another configuration."""
    other = folder / f"changed {len(list(folder.iterdir()))}"
    shutil.copytree(folder / "a", other)
    config = other / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    return other
