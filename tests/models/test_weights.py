"""Weights from files: prefixes, tied weights, number types, and files that are refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

import mechconn as mc
from checkpoint_files import fresh, network, same
from zoo import build


def written(file: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({name: t.contiguous() for name, t in tensors.items()}, file)
    return file


class Tied(nn.Module):
    """A language model's habit: the output layer is the embedding."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_every_tensor_comes_from_the_file(tmp_path: Path, suffix: str) -> None:
    model, file = network(), tmp_path / f"a{suffix}"
    if suffix == ".safetensors":
        written(file, model.state_dict())
    else:
        torch.save(model.state_dict(), file)
    assert same(mc.load_model(fresh, file), model)
    assert same(mc.load_model(fresh, str(file)), model)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_checkpoints_of_training_scripts(tmp_path: Path, key: str) -> None:
    model, file = network(), tmp_path / "a.pt"
    torch.save({"epoch": 3, key: model.state_dict(), "optimizer": {"lr": 0.1}}, file)
    assert same(mc.load_model(fresh, file), model)


def test_an_entry_of_another_name_is_named(tmp_path: Path) -> None:
    model, file = network(), tmp_path / "a.pt"
    torch.save({"model": fresh().state_dict(), "ema": model.state_dict()}, file)
    assert same(mc.load_model(fresh, file, key="ema"), model)
    torch.save({"epoch": 3, "net": model.state_dict()}, file)
    assert same(mc.load_model(fresh, file), model)


PREFIXES: dict[str, tuple[Callable[[str], str], str]] = {
    "data parallel": (lambda name: f"module.{name}", "'module.'"),
    "compiled": (lambda name: f"_orig_mod.{name}", "'_orig_mod.'"),
    "both": (lambda name: f"module._orig_mod.{name}", "'_orig_mod.', 'module.'"),
    "a trainer": (lambda name: f"model.{name}", "'model.'"),
    "a trainer, compiled, parallel": (
        lambda name: f"model._orig_mod.module.{name}",
        "'_orig_mod.', 'model.', 'module.'",
    ),
    "a layer compiled": (lambda name: name.replace("1.", "1._orig_mod."), "'_orig_mod.'"),
}


@pytest.mark.parametrize("wrapper", PREFIXES)
def test_prefixes_of_wrappers_are_removed_and_told(tmp_path: Path, wrapper: str) -> None:
    model, (rename, removed) = network(), PREFIXES[wrapper]
    file = written(tmp_path / "a.safetensors", {rename(name): t for name, t in model.state_dict().items()})
    notes: list[str] = []
    assert same(mc.load_model(fresh, file, note=notes.append), model)
    assert notes == [f"removed {removed} from the names in {file}"]


def test_notes_go_to_the_log_by_default(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path / "a.safetensors", {f"module.{name}": t for name, t in network().state_dict().items()})
    with caplog.at_level(logging.INFO, "mechconn"):
        mc.load_model(fresh, file)
    assert caplog.messages == [f"removed 'module.' from the names in {file}"]


def test_a_model_that_is_itself_wrapped_takes_plain_names(tmp_path: Path) -> None:
    model, notes = network(), []
    file = written(tmp_path / "a.safetensors", model.state_dict())
    loaded = mc.load_model(lambda: nn.ModuleDict({"module": fresh()}), file, note=notes.append)
    assert same(loaded.get_submodule("module"), model)
    assert notes == ["removed 'module.' from the names in the model"]


def test_a_prefix_that_belongs_to_the_model_stays(tmp_path: Path) -> None:
    model, notes = nn.ModuleDict({"model": network()}), []
    file = written(tmp_path / "a.safetensors", model.state_dict())
    assert same(mc.load_model(lambda: nn.ModuleDict({"model": fresh()}), file, note=notes.append), model)
    assert notes == []


def test_tied_weights_stand_in_the_file_once_or_twice(tmp_path: Path) -> None:
    model = build(Tied, dtype=torch.float32)
    save_model(model, str(tmp_path / "once.safetensors"))
    torch.save(model.state_dict(), tmp_path / "twice.pt")
    for name in ("once.safetensors", "twice.pt"):
        loaded = mc.load_model(Tied, tmp_path / name, seed=5)
        assert same(loaded, model)
        assert len(list(loaded.parameters())) == 1


def test_weights_that_a_model_ties_and_a_file_does_not(tmp_path: Path) -> None:
    file = written(tmp_path / "a.safetensors", build(lambda: Tied(tied=False), dtype=torch.float32).state_dict())
    with pytest.raises(ValueError) as caught:
        mc.load_model(Tied, file)
    assert str(caught.value) == (
        f"{file}: embedding.weight and head.weight are one tensor in the model but differ in the file; "
        "build a model that does not tie them"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_is_converted_and_told(tmp_path: Path, dtype: torch.dtype) -> None:
    model, notes = network(), []
    halves = {n: t.to(dtype) if t.is_floating_point() else t for n, t in model.state_dict().items()}
    file = written(tmp_path / "a.safetensors", halves)
    loaded = mc.load_model(fresh, file, note=notes.append)
    assert all(torch.equal(t, halves[n].to(t.dtype)) for n, t in loaded.state_dict().items())
    assert loaded.state_dict()["1.num_batches_tracked"].dtype == torch.int64
    name = str(dtype).removeprefix("torch.")
    assert notes == [f"8 tensors of {file} are {name} there and float32 in the model"]


def test_a_model_built_in_half_precision_keeps_it(tmp_path: Path) -> None:
    model, notes = network().half(), []
    file = written(tmp_path / "a.safetensors", model.state_dict())
    assert same(mc.load_model(lambda: fresh().half(), file, note=notes.append), model)
    assert notes == []


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    model, notes = network(), []
    tensors = {name: t for name, t in model.state_dict().items() if "num_batches" not in name}
    file = written(tmp_path / "a.safetensors", tensors)
    loaded = mc.load_model(fresh, file, note=notes.append)
    assert all(torch.equal(loaded.state_dict()[name], t) for name, t in tensors.items())
    assert notes == [f"{file} lacks 1 num_batches_tracked; they stay as the model has them"]


# ---------------------------------------------------------------- what does not fit


def test_all_names_that_do_not_match_are_listed(tmp_path: Path) -> None:
    tensors = {f"module.{n}": t for n, t in network().state_dict().items() if not n.startswith("3.")}
    file = written(
        tmp_path / "a.safetensors", tensors | {"module.extra.a": torch.ones(1), "module.extra.b": torch.ones(1)}
    )
    with pytest.raises(ValueError) as caught:
        mc.load_model(fresh, file)
    assert str(caught.value) == (
        f"the names in {file} (without 'module.') and those of the model do not match: missing 2 (3.weight, 3.bias); "
        "unexpected 2 (extra.a, extra.b); another architecture? build the model that was saved"
    )


def test_all_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    tensors = network().state_dict() | {"0.bias": torch.zeros(7), "3.bias": torch.zeros(3, dtype=torch.int8)}
    file = written(tmp_path / "a.safetensors", tensors)
    with pytest.raises(ValueError) as caught:
        mc.load_model(fresh, file)
    assert str(caught.value) == (
        f"the tensors in {file} do not fit the model: 0.bias float32[7] against float32[5], 3.bias int8[3] against "
        "float32[3]; build the model that was saved"
    )


def test_models_that_cannot_be_filled(tmp_path: Path) -> None:
    file = written(tmp_path / "a.safetensors", {"weight": torch.ones(1, 2), "bias": torch.ones(1)})
    with pytest.raises(ValueError, match=r"weight of the model holds no data \(it is on the device 'meta'\); build"):
        mc.load_model(lambda: nn.Linear(2, 1, device="meta"), file)
    with pytest.raises(ValueError, match="parameter weight is not initialised"):
        mc.load_model(lambda: nn.LazyLinear(1), file)
