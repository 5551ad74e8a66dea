"""`merge_folders` against tensors that are held whole: equal bits, little memory, and folders that others read."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import mechconn as mc
from merge_files import SHAPES, make_tensors, read_folder, write_berts, write_llamas, write_parents, write_weights

KINDS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
METHODS: dict[str, mc.TensorMerge] = {
    "mean": mc.Mean(),
    "weighted": mc.Mean({"a": 1.0, "b": 3.0}),
    "task arithmetic": mc.TaskArithmetic(scale=0.5),
    "ties": mc.TIES(density=0.3),
    "ties by tensor": mc.TIES(density=0.5, trim="tensor"),
    "ties by majority": mc.TIES(tie="majority"),
    "dare": mc.DARE(density=0.5),
    "slerp": mc.SLERP(0.3),
}


def merge_whole(method: mc.TensorMerge, parents: Mapping[str, Mapping[str, Tensor]], base: Mapping[str, Tensor]):
    """The slow way: everything in memory, one whole tensor after the other."""

    def iterate():
        for name in base:
            yield name, {parent: own[name] for parent, own in parents.items()}, base[name]

    ready = method.prepare(iterate)
    return {name: ready.merge_tensor(name, own, base, 0) for name, own, base in iterate()}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_the_bits_of_tensors_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: torch.dtype
) -> None:
    # Parts of seven entries, so that tensors are cut anywhere: with the real size these would be whole.
    monkeypatch.setattr("mechconn.merging._merge_sources.PART", 7)
    paths, base = write_parents(tmp_path, kind), make_tensors(9, kind)
    start = write_weights(tmp_path / "base.safetensors", base)
    found = mc.merge_folders(paths, METHODS[name], tmp_path / "merged", base=start)
    expected = merge_whole(METHODS[name], {parent: load_file(path) for parent, path in paths.items()}, base)
    got = read_folder(tmp_path / "merged")
    assert got.keys() == SHAPES.keys() == expected.keys()
    for tensor in got:
        assert got[tensor].dtype == kind and torch.equal(got[tensor], expected[tensor]), tensor
    assert found.tensors == 5 and found.parameters == 40 * 3 + 5 * 3 + 5 + 1
    assert found.method == METHODS[name].describe() and found.parents == ("a", "b")


def test_shards_hold_what_one_file_holds(tmp_path: Path) -> None:
    paths = write_parents(tmp_path, count=3)
    mc.merge_folders(paths, mc.Mean(), tmp_path / "one")
    found = mc.merge_folders(paths, mc.Mean(), tmp_path / "many", shard_size=100)
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert found.files == ("mechconn_merge.json", *shards, "model.safetensors.index.json")
    one, many = read_folder(tmp_path / "one"), read_folder(tmp_path / "many")
    assert one.keys() == many.keys() and all(torch.equal(one[name], many[name]) for name in one)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert index["metadata"] == {"total_size": 4 * found.parameters}
    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / "many" / file, "pt") as opened:
            assert name in opened.keys() and opened.metadata() == {"format": "pt"}
    again = mc.merge_folders({"x": tmp_path / "one", "y": tmp_path / "many"}, mc.Mean(), tmp_path / "again")
    assert again.tensors == 5 and torch.equal(read_folder(tmp_path / "again")["embed"], one["embed"])


@pytest.mark.parametrize(("text", "size"), [("1KB", 1000), ("1KiB", 1024), ("0.5 kb", 500), (300, 300)])
def test_the_size_of_shards_is_kept(tmp_path: Path, text: str | int, size: int) -> None:
    tensors = {f"t{n:02}": torch.zeros(25) for n in range(30)}
    paths = {name: write_weights(tmp_path / f"{name}.safetensors", tensors) for name in "ab"}
    mc.merge_folders(paths, mc.Mean(), tmp_path / "merged", shard_size=text)
    sizes = [sum(t.nbytes for t in load_file(file).values()) for file in (tmp_path / "merged").glob("*.safetensors")]
    assert max(sizes) == size // 100 * 100 and sum(sizes) == 3000


def test_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    for wrong in ("5", "5XB", "", "0MB"):
        with pytest.raises(ValueError, match="a number of bytes or a text such as '5GB' or '200MB', got"):
            mc.merge_folders(write_parents(tmp_path), mc.Mean(), tmp_path / "merged", shard_size=wrong)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
def test_transformers_and_load_model_read_the_folder(tmp_path: Path, kind: torch.dtype) -> None:
    paths = write_berts(tmp_path)
    for path in paths.values():
        transformers.BertForSequenceClassification.from_pretrained(path, dtype=kind).save_pretrained(path)
    mc.merge_folders(paths, mc.Mean(), tmp_path / "merged", shard_size="2KB")
    states = [transformers.BertForSequenceClassification.from_pretrained(path).state_dict() for path in paths.values()]
    loader: Any = transformers.BertForSequenceClassification
    model, told = loader.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(told.values()) and model.dtype == kind
    for name, tensor in model.state_dict().items():
        expected = ((states[0][name].float() + states[1][name].float()) / 2).to(kind)
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-7)  # lerp rounds otherwise
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert (
        tokenizer("a fine film")["input_ids"]
        == transformers.AutoTokenizer.from_pretrained(paths["a"])("a fine film")["input_ids"]
    )
    own = mc.load_model(tmp_path / "merged")
    assert all(torch.equal(t.float(), own.state_dict()[name]) for name, t in model.state_dict().items())


def test_the_folder_holds_what_belongs_to_a_network_and_nothing_else(tmp_path: Path) -> None:
    paths = write_berts(tmp_path)
    for name in (
        "training_args.bin",
        "optimizer.pt",
        "README.md",
        "modeling_own.py",
        "trainer_state.json",
        "vocab.txt",
    ):
        (paths["a"] / name).write_text("{}", encoding="utf-8")
    (paths["a"] / "additional_chat_templates").mkdir()
    (paths["a"] / "additional_chat_templates" / "rag.jinja").write_text("{{ x }}", encoding="utf-8")
    found = mc.merge_folders(paths, mc.Mean(), tmp_path / "merged")
    kept = {"additional_chat_templates", "config.json", "mechconn_merge.json", "model.safetensors"}
    assert set(found.files) == kept | {"tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert (tmp_path / "merged" / "config.json").read_bytes() == (paths["a"] / "config.json").read_bytes()
    (paths["b"] / "vocab.txt").write_text("other", encoding="utf-8")
    mc.merge_folders(paths, mc.Mean(), tmp_path / "other", files_from="b")
    assert (tmp_path / "other" / "vocab.txt").read_text(encoding="utf-8") == "other"
    with pytest.raises(ValueError, match="files_from must name a parent, one of 'a', 'b', got 'c'"):
        mc.merge_folders(paths, mc.Mean(), tmp_path / "third", files_from="c")


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    paths = write_llamas(tmp_path)
    whole = load_file(paths["a"] / "model.safetensors")
    twice = {**whole, "lm_head.weight": whole["model.embed_tokens.weight"].clone()}
    save_file(twice, paths["a"] / "model.safetensors")
    found = mc.merge_folders(paths, mc.Mean(), tmp_path / "merged")
    assert "lm_head.weight" not in read_folder(tmp_path / "merged")
    assert found.notes == (
        "lm_head.weight of a equals its model.embed_tokens.weight; it is stored once, as in the others",
    )
    save_file({**twice, "lm_head.weight": torch.zeros_like(twice["lm_head.weight"])}, paths["a"] / "model.safetensors")
    with pytest.raises(ValueError, match=r"b \(.*\) has other tensors than a: missing lm_head.weight; unexpected none"):
        mc.merge_folders(paths, mc.Mean(), tmp_path / "again")


def test_files_of_torch_save_and_states_within(tmp_path: Path) -> None:
    a, b = make_tensors(0), make_tensors(1)
    torch.save({"state_dict": a, "epoch": 3}, tmp_path / "a.ckpt")
    write_weights(tmp_path / "b.pt", b)
    paths = {"a": tmp_path / "a.ckpt", "b": tmp_path / "b.pt"}
    mc.merge_folders(paths, mc.Mean(), tmp_path / "merged")
    got = read_folder(tmp_path / "merged")
    assert all(torch.equal(got[name], torch.lerp(a[name], b[name], 0.5)) for name in SHAPES)
    states = {"model": a, "ema": b}
    for name in "xy":
        torch.save(states, tmp_path / f"{name}.pt")
    two = {name: tmp_path / f"{name}.pt" for name in "xy"}
    with pytest.raises(ValueError, match=r"x.pt holds 2 states, 'model', 'ema'; name the one to take: key=... \(--key"):
        mc.merge_folders(two, mc.Mean(), tmp_path / "two")
    mc.merge_folders(two, mc.Mean(), tmp_path / "two", key="ema")
    assert torch.equal(read_folder(tmp_path / "two")["embed"], b["embed"])


def write_bin(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Two shards of torch.save with their index, of tensors that lie in other orders."""
    folder.mkdir()
    strided = {name: t.t().contiguous().t() if t.dim() == 2 else t for name, t in tensors.items()}
    places = {name: f"pytorch_model-0000{1 + place % 2}-of-00002.bin" for place, name in enumerate(strided)}
    for file in set(places.values()):
        torch.save({name: t for name, t in strided.items() if places[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")


def write_distributed(folder: Path, tensors: dict[str, Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": tensors}, storage_writer=dcp.FileSystemWriter(folder))


def write_legacy(file: Path, tensors: dict[str, Tensor]) -> None:
    torch.save(tensors, file, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [write_bin, write_distributed, write_legacy])
def test_every_layout_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, dict[str, Tensor]], None]
) -> None:
    monkeypatch.setattr("mechconn.merging._merge_sources.PART", 7)  # as above
    a, b = make_tensors(0), make_tensors(1)
    write(tmp_path / "a", a)
    write_weights(tmp_path / "b.safetensors", b)
    mc.merge_folders({"a": tmp_path / "a", "b": tmp_path / "b.safetensors"}, mc.Mean(), tmp_path / "merged")
    got = read_folder(tmp_path / "merged")
    assert got.keys() == a.keys() and all(torch.equal(got[name], torch.lerp(a[name], b[name], 0.5)) for name in a)


def test_a_users_own_method(tmp_path: Path) -> None:
    class Largest(mc.TensorMerge):
        def merge_tensor(self, name, parents, base, seed):
            return torch.stack(list(parents.values())).amax(0)

        def describe(self):
            return {"method": "largest"}

    paths = write_parents(tmp_path, count=3)
    mc.merge_folders(paths, Largest(), tmp_path / "merged")
    expected = torch.stack([load_file(path)["embed"] for path in paths.values()]).amax(0)
    assert torch.equal(read_folder(tmp_path / "merged")["embed"], expected)


def test_the_record_says_how_and_of_what(tmp_path: Path) -> None:
    paths = write_parents(tmp_path / "parents")
    start = write_weights(tmp_path / "base.safetensors", make_tensors(9))
    mc.merge_folders(paths, mc.DARE(density=0.5), tmp_path / "parents" / ".." / "merged", base=start, seed=4)
    told = json.loads((tmp_path / "merged" / "mechconn_merge.json").read_text(encoding="utf-8"))
    assert told["method"]["method"] == "dare" and told["seed"] == 4 and told["verdict"] is None
    assert told["parents"]["b"]["path"] == "../parents/b.safetensors" and told["base"]["path"] == "../base.safetensors"
    inner = hashlib.sha256(paths["b"].read_bytes()).digest()
    assert told["parents"]["b"]["sha256"] == hashlib.sha256(inner).hexdigest()


def test_progress_counts_tensors(tmp_path: Path) -> None:
    seen: list[mc.ProgressEvent] = []
    mc.merge_folders(write_parents(tmp_path), mc.Mean(), tmp_path / "merged", progress=seen.append)
    assert [(event.done, event.total) for event in seen] == [(n, 5) for n in range(1, 6)]
    assert {event.stage for event in seen} == {"merging tensors"}


RESIDENT = """
import resource, sys
import torch
import mechconn as mc
from mechconn.merging import merge_folders
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
merge_folders({"a": sys.argv[1], "b": sys.argv[2]}, mc.Mean(), sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_no_more_than_parts_of_tensors_are_held(tmp_path: Path) -> None:
    tensors = {f"t{n}": torch.zeros(1 << 22) for n in range(6)}  # 100 MB a parent
    paths = [write_weights(tmp_path / f"{name}.safetensors", tensors) for name in "ab"]
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT, *map(str, paths), str(tmp_path / "merged")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) * 1024 < tensors["t0"].nbytes * 4  # 67 MB of the 200 that are read
