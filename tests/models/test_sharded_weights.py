"""Weights in several files: indexes of shards, folders that trainers leave, torch.distributed.checkpoint."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import DefaultSavePlanner, FileSystemWriter, SavePlan
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import TensorWriteData, WriteItem, WriteItemType

from checkpoint_files import fresh, load, network, others, prefixed, same


def shard(folder: Path, suffix: str, write: Callable[[dict[str, Tensor], Path], object]) -> Path:
    """Two shards and their index, named as Transformers names them; the path of the index."""
    folder.mkdir(exist_ok=True)
    state = dict(network().state_dict())
    places = {name: f"model-0000{1 + i % 2}-of-00002{suffix}" for i, name in enumerate(state)}
    for name in set(places.values()):
        write({n: t.contiguous() for n, t in state.items() if places[n] == name}, folder / name)
    index = folder / f"model{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}), encoding="utf-8")
    return index


SHARDS: dict[str, Callable[[dict[str, Tensor], Path], object]] = {".safetensors": save_file, ".bin": torch.save}


@pytest.mark.parametrize("suffix", SHARDS)
def test_shards_fill_ones_own_network(tmp_path: Path, suffix: str) -> None:
    index = shard(tmp_path, suffix, SHARDS[suffix])
    assert same(load(index)[0], network()) and same(load(tmp_path)[0], network())
    with pytest.raises(ValueError, match="holds no state under 'weight_map'; it holds one state, without a key"):
        load(index, key="weight_map")


def test_shards_without_an_index_beside_the_file_that_is_read_are_noted(tmp_path: Path) -> None:
    shard(tmp_path, ".safetensors", save_file).unlink()
    torch.save(network().state_dict(), tmp_path / "best.pt")
    left = "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors"
    assert load(tmp_path)[1] == [f"FILE also holds {left} without an index; best.pt is read"]


def test_indexes_that_do_not_fit_their_shards(tmp_path: Path) -> None:
    index = shard(tmp_path, ".safetensors", save_file)
    second = tmp_path / "model-00002-of-00002.safetensors"
    content = json.loads(index.read_text(encoding="utf-8"))
    places = content["weight_map"]

    def refused(**changes: str) -> str:
        index.write_text(json.dumps({"weight_map": places | changes}), encoding="utf-8")
        with pytest.raises(ValueError) as caught:
            load(tmp_path)
        return str(caught.value)

    lacking = f"{second} lacks more.weight, which {index} places there; copy both again"
    assert refused(**{"more.weight": second.name}) == lacking
    assert "names ../a.safetensors, which lies outside its folder" in refused(**{"0.weight": "../a.safetensors"})
    second.unlink()
    assert refused() == f"{index} names 2 shards, of which 1 are missing: {second.name}; copy them beside it"
    index.unlink()
    with pytest.raises(
        ValueError, match=r"holds shards \(model-00001-of-00002.safetensors\) without their index; copy"
    ):
        load(tmp_path)
    index.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"holds shards \(.*\), and {index.name} is no index of them, JSON with a"):
        load(tmp_path)


def test_a_folder_of_one_file(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "best.ckpt")
    (tmp_path / "log.txt").write_text("epoch 1", encoding="utf-8")
    (tmp_path / "optimizer.pt").write_bytes((tmp_path / "best.ckpt").read_bytes())
    assert same(load(tmp_path)[0], network())
    torch.save(others(), tmp_path / "last.ckpt")
    with pytest.raises(ValueError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path} holds 2 files of weights (best.ckpt, last.ckpt); pass the one to read"
    assert same(load(tmp_path / "last.ckpt")[0], fresh())


def test_a_model_that_was_saved_in_two_ways_is_read_from_safetensors(tmp_path: Path) -> None:
    save_file(dict(network().state_dict()), tmp_path / "model.safetensors")
    torch.save(others(), tmp_path / "pytorch_model.bin")
    model, notes = load(tmp_path)
    assert same(model, network())
    assert notes == ["FILE holds model.safetensors and pytorch_model.bin; model.safetensors is read"]


def test_an_index_does_not_hide_another_file(tmp_path: Path) -> None:
    shard(tmp_path, ".safetensors", save_file)
    torch.save(others(), tmp_path / "ema.pt")
    with pytest.raises(ValueError, match=r"holds 2 files of weights \(ema.pt, model.safetensors.index.json\); pass"):
        load(tmp_path)


def test_folders_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path} holds no weights (it holds nothing); pass a file of weights, or its folder"
    torch.save(network().state_dict(), (inner := tmp_path / "checkpoint-40").mkdir() or inner / "pytorch_model.bin")
    with pytest.raises(ValueError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path} holds no weights itself; pass {inner}"
    assert same(load(inner)[0], network())


def test_a_folder_whose_weights_are_damaged_names_the_file_and_why(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    file = tmp_path / "model.safetensors"
    file.write_bytes((10**15).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match=r"model.safetensors is of no kind that is known here; weights are read from"):
        load(tmp_path)
    file.unlink()
    file.symlink_to("gone.safetensors")
    with pytest.raises(ValueError, match=r"is a link to gone.safetensors, which is not there; fetch the weights again"):
        load(tmp_path)


@pytest.mark.parametrize("safe", [True, False])
def test_folders_that_accelerate_saved(tmp_path: Path, safe: bool) -> None:
    model = network()
    accelerator = accelerate.Accelerator(cpu=True)
    prepared, _ = accelerator.prepare(model, torch.optim.Adam(model.parameters()))
    accelerator.save_state(str(tmp_path / "state"), safe_serialization=safe)
    accelerator.save_model(prepared, str(tmp_path / "model"), safe_serialization=safe)
    accelerator.free_memory()
    assert same(load(tmp_path / "state")[0], network()) and same(load(tmp_path / "model")[0], network())


def test_folders_that_deepspeed_saved(tmp_path: Path) -> None:
    """By its documented layout: `latest` names a folder with the module's file and the optimiser's parts."""
    (step := tmp_path / "global_step5").mkdir()
    (tmp_path / "latest").write_text("global_step5\n", encoding="utf-8")
    (tmp_path / "zero_to_fp32.py").write_text("", encoding="utf-8")
    torch.save({"module": prefixed("_forward_module."), "ds_version": "0.17"}, step / "mp_rank_00_model_states.pt")
    torch.save({"optimizer_state_dict": {}}, step / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert same(load(tmp_path)[0], network()) and same(load(step)[0], network())
    torch.save({"module": prefixed("", {})}, step / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    with pytest.raises(
        ValueError, match=r"one device's part of each tensor in a file \(DeepSpeed, ZeRO stage 3: zero_"
    ):
        load(tmp_path)


# ---------------------------------------------------------------- torch.distributed.checkpoint


class RowPlanner(DefaultSavePlanner):
    """Each row of a tensor is a piece of its own, as if as many machines had saved it."""

    def create_local_plan(self) -> SavePlan:
        items = []
        for name, tensor in self.state_dict.items():
            rest = tensor.shape[1:]
            for row in range(len(tensor) if tensor.dim() else 1):
                offsets, sizes = ([row, *(0 for _ in rest)], [1, *rest]) if tensor.dim() else ([], [])
                chunk = ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))
                data = TensorWriteData(chunk, TensorProperties.create_from_tensor(tensor), tensor.size())
                items.append(WriteItem(MetadataIndex(name, offsets), WriteItemType.SHARD, tensor_data=data))
        self.plan = SavePlan(items, planner_data=self.mappings)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        tensor, offset = self.state_dict[write_item.index.fqn], write_item.index.offset
        return tensor[offset[0] : offset[0] + 1].clone() if offset else tensor


def save_distributed(folder: Path, state: Mapping[str, Any], rows: bool = False) -> Path:
    writer = FileSystemWriter(folder, single_file_per_rank=not rows, thread_count=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process saves
        dcp.save(dict(state), storage_writer=writer, planner=RowPlanner() if rows else None, no_dist=True)
    return folder


@pytest.mark.parametrize("rows", [False, True])
def test_folders_of_torch_distributed_checkpoint(tmp_path: Path, rows: bool) -> None:
    folder = save_distributed(tmp_path / "a", {"model": network().state_dict(), "ema": {"w": torch.ones(2)}}, rows)
    model, notes = load(folder)
    assert same(model, network()) and len(list(folder.glob("*.distcp"))) == (39 if rows else 1)
    assert notes == ["FILE holds several states; model is read, not read: ema"]
    assert same(load(save_distributed(tmp_path / "b", prefixed("net."), rows))[0], network())


def test_optimisers_and_plain_values_beside_the_model(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, lr=0.1)
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    state = {"app": {"model": network().state_dict(), "optimizer": optimizer.state_dict()}, "epoch": 3}
    loaded, notes = load(save_distributed(tmp_path / "a", state))
    assert same(loaded, network()) and notes == []


def test_several_states_in_a_distributed_folder(tmp_path: Path) -> None:
    folder = save_distributed(tmp_path / "a", {"model": network().state_dict(), "ema": others()})
    with pytest.raises(ValueError, match=r"holds 2 states that fit the model, 'model', 'ema'; name the one to take"):
        load(folder)
    assert same(load(folder, key="ema")[0], fresh())


def test_distributed_folders_that_are_refused(tmp_path: Path) -> None:
    folder = save_distributed(tmp_path / "a", network().state_dict())
    shard = folder / "__0_0.distcp"
    with pytest.raises(
        ValueError, match=r"is several files of torch.save in one, as a shard of torch.distributed.check"
    ):
        load(shard)
    whole = shard.read_bytes()
    shard.write_bytes(bytes(len(whole)))
    with pytest.raises(ValueError, match=r"__0_0.distcp cannot be read where 0\.\w+ lies in it; copy or save it again"):
        load(folder)
    shard.unlink()
    with pytest.raises(ValueError, match=r"names 1 shards, of which 1 are missing: __0_0.distcp; copy them beside it"):
        load(folder)
    for content in (
        b"",
        b"\x80\x04}.",
        b"\x80\x04cposix\nsystem\n(\x8c\x04trueR.",
        (folder / ".metadata").read_bytes()[:90],
    ):
        (folder / ".metadata").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"is a folder of torch.distributed.checkpoint in a form that is not known"
        ) as e:
            load(folder)
        assert f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pt" in str(e.value)


def test_the_advice_to_convert_is_good(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    folder = save_distributed(tmp_path / "a", {"model": network().state_dict()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process loads
        dcp_to_torch_save(folder, tmp_path / "weights.pt")
    assert same(load(tmp_path / "weights.pt")[0], network())


def test_every_shard_counts_in_the_hash(tmp_path: Path) -> None:
    from mechconn.models import list_weight_files

    index = shard(tmp_path / "a", ".safetensors", save_file)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert [file.name for file in list_weight_files(index)] == names
    assert list_weight_files(index.parent) == list_weight_files(index)
    folder = save_distributed(tmp_path / "b", network().state_dict())
    assert [file.name for file in list_weight_files(folder)] == [".metadata", "__0_0.distcp"]
    shutil.copy(index.parent / names[0], tmp_path / "one")
    assert list_weight_files(tmp_path / "one") == [tmp_path / "one"]
