"""What `merge_folders` refuses, all at once and without leaving anything, and what it notes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mechconn as mc
from merge_files import change_json, make_tensors, read_folder, write_berts, write_llamas, write_parents, write_weights


def refuse(paths: dict[str, Path], out: Path, **given) -> list[str]:
    """The lines of the error, with FOLDER for where everything is; nothing is left behind."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises((ValueError, FileNotFoundError, TypeError)) as caught:
        mc.merge_folders(paths, given.pop("method", mc.Mean()), out, **given)
    assert sorted(out.parent.rglob("*")) == before
    return str(caught.value).replace(f"{out.parent}/", "").splitlines()


def change_tensor(file: Path, name: str, value: torch.Tensor | None) -> None:
    tensors = load_file(file) | ({} if value is None else {name: value})
    save_file({n: t for n, t in tensors.items() if n != name or value is not None}, file)


def test_all_mistakes_of_the_parents_are_told_together(tmp_path: Path) -> None:
    paths = write_parents(tmp_path, count=4)
    change_tensor(paths["b"], "scale", None)
    change_tensor(paths["b"], "more", torch.zeros(1))
    change_tensor(paths["c"], "layer.bias", torch.zeros(6))
    change_tensor(paths["c"], "layer.weight", torch.zeros(5, 3, dtype=torch.int64))
    change_tensor(paths["d"], "embed", torch.zeros(3, 40))
    assert refuse(paths, tmp_path / "merged") == [
        "b (b.safetensors) has other tensors than a: missing scale; unexpected more; all must be of one architecture",
        "c (c.safetensors) has other shapes or types than a: layer.bias float32[6] against float32[5], layer.weight "
        "int64[5, 3] against float32[5, 3]; all must be of one architecture",
        "d (d.safetensors) has other shapes or types than a: embed float32[3, 40] against float32[40, 3]; all must be "
        "of one architecture",
    ]


def test_integers_are_copied_where_all_have_them_alike(tmp_path: Path) -> None:
    paths = write_parents(tmp_path)
    for place, path in enumerate(paths.values()):
        change_tensor(path, "position_ids", torch.arange(4))
        change_tensor(path, "bn.num_batches_tracked", torch.tensor(10 + place))
    mc.merge_folders(paths, mc.Mean(), tmp_path / "merged")
    got = read_folder(tmp_path / "merged")
    assert got["position_ids"].tolist() == [0, 1, 2, 3] and got["bn.num_batches_tracked"].item() == 10
    change_tensor(paths["b"], "position_ids", torch.arange(4).flip(0))
    assert refuse(paths, tmp_path / "again") == [
        "b (b.safetensors) and a hold different integers: position_ids int64[4]; integers cannot be merged: dequantise "
        "the weights where they were made, or save them without these"
    ]


def test_configurations_of_other_architectures(tmp_path: Path) -> None:
    paths = write_berts(tmp_path, count=3)
    change_json(paths["b"] / "config.json", num_attention_heads=4, model_type="roberta", hidden_dropout_prob=0.5)
    change_json(paths["c"] / "config.json", layer_norm_eps=1e-5, id2label={"0": "bad", "1": "good"})
    assert refuse(paths, tmp_path / "merged") == [
        "config.json of b (b) differs from that of a: model_type is 'roberta' against 'bert', num_attention_heads is 4 "
        "against 2; all must be of one architecture",
        "config.json of c (c) differs from that of a: layer_norm_eps is 1e-05 against 1e-12; all must be of one "
        "architecture",
    ]


def test_outputs_that_stand_for_other_classes(tmp_path: Path) -> None:
    paths = write_berts(tmp_path, count=2)
    change_json(paths["a"] / "config.json", id2label={"0": "bad", "1": "good"})
    change_json(paths["b"] / "config.json", id2label={"0": "LABEL_0", "1": "LABEL_1"})
    found = mc.merge_folders(paths, mc.Mean(), tmp_path / "merged")
    assert found.notes == ("outputs of a and b have other names; a's are written",)
    change_json(paths["b"] / "config.json", id2label={"0": "good", "1": "bad"})
    assert refuse(paths, tmp_path / "again") == [
        "outputs of b (b) stand for good, bad, and those of a for bad, good; bring both heads into one order (id2label "
        "in config.json, rows of the head)"
    ]


def test_differences_that_are_noted(tmp_path: Path) -> None:
    paths = write_berts(tmp_path)
    file = paths["b"] / "tokenizer.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    told["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(told), encoding="utf-8")
    assert mc.merge_folders(paths, mc.Mean(), tmp_path / "one").notes == ()
    told["model"]["vocab"]["fine"], told["model"]["vocab"]["film"] = 5, 4
    file.write_text(json.dumps(told), encoding="utf-8")
    change_json(paths["b"] / "config.json", pad_token_id=3, use_cache=None, new_key=1)
    weights = load_file(paths["b"] / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, paths["b"] / "model.safetensors")
    found = mc.merge_folders(paths, mc.Mean(), tmp_path / "two")
    assert found.notes == (
        "b is bfloat16 and a float32; the result is rounded once, to float32",
        "config.json of b (" + str(paths["b"]) + ") differs from that of a: new_key is 1 against not there, "
        "pad_token_id is 3 against 0; a's is written",
        "the tokenizers of b and a differ (tokenizer.json); a's is written, and rows of embeddings may stand for other "
        "words",
    )
    assert str(found).splitlines()[1] == f"- {found.notes[0]}."


def test_normalisation_statistics_are_noted(tmp_path: Path) -> None:
    paths = write_parents(tmp_path)
    for path in paths.values():
        change_tensor(path, "bn.running_mean", torch.zeros(3))
    (note,) = mc.merge_folders(paths, mc.Mean(), tmp_path / "merged").notes
    assert note.startswith(
        "a keeps normalisation statistics (bn.running_mean), which are the means of the parents' and"
    )


def test_a_base_that_is_none(tmp_path: Path) -> None:
    base = make_tensors(0)
    for seed, name in ((1, "a"), (2, "b")):
        change = make_tensors(seed)
        write_weights(tmp_path / f"{name}.safetensors", {n: t + 0.1 * change[n] for n, t in base.items()})
    paths = {name: tmp_path / f"{name}.safetensors" for name in "ab"}
    right = write_weights(tmp_path / "base.safetensors", base)
    other = write_weights(tmp_path / "other.safetensors", make_tensors(5))
    assert mc.merge_folders(paths, mc.TIES(), tmp_path / "one", base=right).notes == ()
    notes = mc.merge_folders(paths, mc.TIES(), tmp_path / "two", base=other).notes
    states = [load_file(file) for file in (*paths.values(), other)]
    far = [sum(float((own[n] - states[2][n]).square().sum()) for n in own) ** 0.5 for own in states[:2]]
    near = sum(float((states[0][n] - states[1][n]).square().sum()) for n in base) ** 0.5
    assert [note.split("; ")[0] for note in notes] == [
        f"'{one}' lies farther from the base ({distance:.3g}) than from '{two}' ({near:.3g}, distances of parameters)"
        for one, two, distance in (("a", "b", far[0]), ("b", "a", far[1]))
    ]
    change_tensor(other, "embed", None)
    assert refuse(paths, tmp_path / "three", base=other, method=mc.TIES()) == [
        "base (other.safetensors) has other tensors than a: missing embed; unexpected none; all must be of one "
        "architecture"
    ]


ARGUMENTS: dict[str, tuple[Callable[[dict[str, Path]], Any], dict, str]] = {
    "one parent": (lambda paths: {"a": paths["a"]}, {}, "merging needs two parents or more, got 1"),
    "one of them twice": (lambda paths: {**paths, "c": paths["a"]}, {}, "a and c are one folder, a.safetensors; pass"),
    "no table": (lambda paths: list(paths.values()), {}, "folders must be a Mapping, got list; write {name: folder"),
    "not there": (lambda paths: {**paths, "b": paths["a"].with_name("q")}, {}, "weights: q is no file; pass a file of"),
    "no base": (lambda paths: paths, {"method": mc.TIES()}, "TIES merges what the parents changed, and there is no"),
    "a parent that is called base": (
        lambda paths: {"base": paths["a"], "b": paths["b"]},
        {"base": "x", "method": mc.TIES()},
        "a parent is called 'base', as what the parents came from; give it another name",
    ),
    "a method of whole networks": (
        lambda paths: paths,
        {"method": mc.GreedySoup((torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)))},
        "method must be a TensorMerge, got GreedySoup; a method that needs whole networks or data merges modules",
    ),
    "weights of others": (
        lambda paths: paths,
        {"method": mc.Mean({"a": 1.0, "x": 1.0})},
        "the parents and the names in weights do not match: missing b; unexpected x",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_wrong_arguments(tmp_path: Path, case: str) -> None:
    change, given, expected = ARGUMENTS[case]
    (line,) = refuse(change(write_parents(tmp_path)), tmp_path / "merged", **given)
    assert line.startswith(expected)


def test_mistakes_of_arguments_are_told_together(tmp_path: Path) -> None:
    lines = refuse({"a": tmp_path / "a"}, tmp_path / "no" / "merged", shard_size=0, method=mc.TIES())
    assert [line.split(" ")[0] for line in lines] == ["merging", "shard_size", "TIES", "merged"]


def test_a_folder_that_holds_something_is_never_written_over(tmp_path: Path) -> None:
    paths, out = write_parents(tmp_path), tmp_path / "merged"
    out.mkdir()
    mc.merge_folders(paths, mc.Mean(), out)  # an empty one is filled
    kept = {file.name: file.read_bytes() for file in out.iterdir()}
    assert refuse(paths, out) == ["merged is there and not empty; name a new folder, or remove this one"]
    assert {file.name: file.read_bytes() for file in out.iterdir()} == kept
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert refuse(paths, tmp_path / "file")[0].startswith("file cannot be written: expected a new folder")


class Failing(mc.TensorMerge):
    def merge_tensor(self, name, parents, base, seed):
        if name == "layer.bias" and not self.short:
            raise ValueError("no layer.bias today")
        return parents["a"][:1] if name == "layer.weight" and self.short else parents["a"]

    short = False

    def describe(self):
        return {"method": "failing"}


class Short(Failing):
    short = True


@pytest.mark.parametrize(
    ("method", "line"),
    [
        (Failing(), "no layer.bias today"),
        (Short(), "Short.merge_tensor returned [1, 3] for layer.weight, whose shape is [5, 3]; return a tensor of"),
    ],
)
def test_a_method_that_fails_midway_leaves_nothing(tmp_path: Path, method: mc.TensorMerge, line: str) -> None:
    (found,) = refuse(write_parents(tmp_path), tmp_path / "merged", method=method)
    assert found.startswith(line)


def test_weights_that_cannot_be_merged(tmp_path: Path) -> None:
    llamas = write_llamas(tmp_path)
    change_json(llamas["b"] / "config.json", quantization_config={"quant_method": "gptq"})
    assert refuse(llamas, tmp_path / "merged")[0].startswith("the weights in b are quantised (gptq), and merging is")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    (line,) = refuse({"a": llamas["a"], "c": tmp_path / "adapter"}, tmp_path / "merged")
    assert line.startswith("adapter is an adapter, whose factors cannot be mixed tensor by tensor; ")
    broken = write_parents(tmp_path / "files")
    broken["a"].write_bytes(broken["a"].read_bytes()[:-4])
    assert re.match(r"files/a.safetensors cannot be read as safetensors \(", refuse(broken, tmp_path / "merged")[0])
    save_file({"w": torch.zeros(2, dtype=torch.float8_e4m3fn)}, tmp_path / "f8.safetensors")
    (line,) = refuse({"a": tmp_path / "f8.safetensors", "b": broken["b"]}, tmp_path / "merged")
    assert line == (
        "f8.safetensors holds tensors that cannot be taken: w is of the type F8_E4M3, as quantised weights are; save "
        "the whole state as plain tensors"
    )
    change_json(llamas["a"] / "config.json", architectures=None)
    (llamas["a"] / "config.json").write_text("[]", encoding="utf-8")
    assert "a/config.json must hold a table of settings, got a list" in refuse(llamas, tmp_path / "merged")[0]
