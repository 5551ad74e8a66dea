"""`mechconn audit` on checkpoints: which state is read, what is noted, and what the hash is of."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import mechconn as mc
from image_files import pixels, write_class_folder
from mechconn.cli import main
from mechconn.core import isolate_rng

MODELS = """
from torch import nn

def build():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
"""
TOML = """points = 3
alignment = 'none'
[splits]
cue = 'cue'
rand_cue = 'shuffled'
[model]
factory = 'my_models:build'
"""


def run(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(words))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two checkpoints with two states each, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_models", raising=False)
    (tmp_path / "my_models.py").write_text(MODELS, encoding="utf-8")
    (tmp_path / "audit.toml").write_text(TOML, encoding="utf-8")
    for number, split in enumerate(("cue", "shuffled")):
        for label, name in enumerate(("bird", "fish")):
            images = {f"{row}.png": pixels(40 * number + 20 * label + row, side=8) for row in range(4)}
            write_class_folder(tmp_path / split / name, images)
    for seed, name in enumerate("ab"):
        states = [mc.load_model("my_models:build", seed=10 * i + seed).state_dict() for i in range(2)]
        content = {"state_dict": {f"net.{n}": t for n, t in states[0].items()}, "state_dict_ema": states[1]}
        torch.save(content, tmp_path / f"{name}.ckpt")
        save_file(states[1], tmp_path / f"{name}.safetensors")
    return tmp_path


def audited(capsys: pytest.CaptureFixture[str], words: str) -> dict[str, object]:
    capsys.readouterr()
    assert run(f"audit {words} --data audit.toml --json") == 0
    return json.loads(capsys.readouterr().out)


def test_one_state_of_several_must_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit a.ckpt b.ckpt --data audit.toml") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and not (folder / "audit.html").exists()
    for line, name in zip(lines, ("a.ckpt", "b.ckpt"), strict=True):
        assert f"{name} holds 2 states that fit the model, 'state_dict', 'state_dict_ema'; name the one to" in line
        assert "(--key state_dict)" in line


def test_the_key_is_an_option_and_a_setting(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = audited(capsys, "a.safetensors b.safetensors")
    by_option = audited(capsys, "a.ckpt b.ckpt --key state_dict_ema")
    (folder / "audit.toml").write_text(f"{TOML}key = 'state_dict_ema'\n", encoding="utf-8")
    by_setting = audited(capsys, "a.ckpt b.ckpt")
    assert plain["comparison"] == by_option["comparison"] == by_setting["comparison"]
    assert plain["paths"] == by_option["paths"] == by_setting["paths"]
    first = audited(capsys, "a.ckpt b.ckpt --key state_dict")  # before the setting
    assert first["paths"] != by_option["paths"]
    notes = first["notes"]
    assert isinstance(notes, list)
    assert "a.ckpt holds several states; state_dict is read, not read: state_dict_ema" in notes
    assert "removed 'net.' from the names in b.ckpt" in notes


def test_a_key_without_files_of_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "audit.toml").write_text(TOML.split("[model]")[0], encoding="utf-8")
    (folder / "m").mkdir()
    assert run("audit m m --data audit.toml --key ema") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "key 'ema' names a state in files of weights, and m is the folder of a model; leave it out, or pass" in line


def test_the_hash_is_of_all_shards(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = mc.load_model("my_models:build", seed=10).state_dict()
    for name in ("one", "two"):
        (folder / name).mkdir()
        for i, (part, tensor) in enumerate(state.items()):
            save_file({part: tensor + (name == "two") * i}, folder / name / f"model-0000{i + 1}-of-00002.safetensors")
        places = {part: f"model-0000{i + 1}-of-00002.safetensors" for i, part in enumerate(state)}
        (folder / name / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), "utf-8")
    found = audited(capsys, "one two")
    settings = found["settings"]
    assert isinstance(settings, dict)
    assert len(set(settings["sha256 of the weights"].values())) == 2  # only the second shards differ


def test_adapters_on_ones_own_network(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two adapters with the same tensors and other scales: other results, and another hash."""
    peft = pytest.importorskip("peft")
    for name, scale in (("one", 2), ("two", 9)):
        with isolate_rng(0, "lora"):
            settings = peft.LoraConfig(r=2, lora_alpha=scale, target_modules=["2"], init_lora_weights=False)
            peft.get_peft_model(mc.load_model("my_models:build", "a.safetensors"), settings).save_pretrained(name)
    found = audited(capsys, "one two --base a.safetensors")
    settings, notes = found["settings"], found["notes"]
    assert isinstance(settings, dict) and isinstance(notes, list)
    assert len(set(settings["sha256 of the weights"].values())) == 2
    assert not any("--base" in note for note in notes)
    notes = audited(capsys, "one two")["notes"]
    assert isinstance(notes, list)
    (note,) = (note for note in notes if "--base" in note)
    assert note == "the base of the adapters is what my_models:build returns; pass --base for other weights"
    (folder / "audit.toml").write_text(TOML.split("[model]")[0], encoding="utf-8")
    assert run("audit one two --data audit.toml --key ema") == 2
    assert all("key 'ema' names a state in files" in line for line in capsys.readouterr().err.splitlines())
