"""Checkpoints as trainers leave them, by their documented layouts; which state is read, and what is noted."""

from __future__ import annotations

import argparse
import pathlib
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import mechconn as mc
from checkpoint_files import fresh, load, network, others, prefixed, same
from zoo import build


def train() -> tuple[dict[str, Any], dict[str, Any]]:
    """The states of an optimiser that has made a step, and of its schedule."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    return dict(optimizer.state_dict()), dict(schedule.state_dict())


class AttributeDict(dict[str, Any]):
    """A dictionary of a class of its own, as Lightning keeps hyperparameters and mmengine configurations."""


OPTIMIZER, SCHEDULE = train()
ARGS = argparse.Namespace(lr=0.1, resume=pathlib.PurePosixPath("runs/a"), classes=np.int64(3))
LAYOUTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "lightning": (
        {
            "epoch": 2,
            "global_step": 40,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": OrderedDict({**prefixed("net."), "criterion.pos_weight": torch.tensor(3.2)}),
            "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 1}}}},
            "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "best": "a"}},
            "optimizer_states": [OPTIMIZER],
            "lr_schedulers": [SCHEDULE],
            "hparams_name": "kwargs",
            "hyper_parameters": AttributeDict(width=5),
        },
        ["removed 'net.' from", "1 tensors of FILE are no part of the model: criterion.pos_weight"],
    ),
    "torchvision": (
        {
            "model": network().state_dict(),
            "optimizer": OPTIMIZER,
            "lr_scheduler": SCHEDULE,
            "epoch": 3,
            "args": ARGS,
            "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        },
        ["left out of FILE: args (argparse.Namespace)"],
    ),
    "timm": (
        {
            "epoch": 3,
            "arch": "small",
            "state_dict": prefixed("module."),
            "optimizer": OPTIMIZER,
            "version": 2,
            "args": ARGS,
            "metric": np.float64(0.7),
        },
        [
            "removed 'module.' from the names in FILE",
            "left out of FILE: args (argparse.Namespace), metric (numpy._core.multiarray",
        ],
    ),
    "mmengine": (
        {
            "meta": {"epoch": 1, "cfg": "model = dict()", "seed": 0, "dataset_meta": {"classes": ("a", "b")}},
            "state_dict": prefixed("backbone."),
            "message_hub": {"log_scalars": OrderedDict({"loss": AttributeDict(history=np.ones(2))})},
            "optimizer": OPTIMIZER,
            "param_schedulers": [SCHEDULE],
        },
        ["removed 'backbone.' from", "left out of FILE: message_hub.log_scalars.loss.h"],
    ),
    "deepspeed": (
        {
            "module": network().state_dict(),
            "buffer_names": ["1.running_mean"],
            "optimizer": None,
            "param_shapes": [OrderedDict({"0.weight": torch.Size([5, 4])})],
            "frozen_param_shapes": None,
            "shared_params": {},
            "sparse_tensor_module_names": set(),
            "ds_config": {"zero_optimization": {"stage": 2}},
            "ds_version": "0.17.0",
        },
        [],
    ),
    "fsdp, activation checkpoints, compiled": (
        {"model": prefixed("_orig_mod._fsdp_wrapped_module.", prefixed("", {
            name.replace("0.", "0._checkpoint_wrapped_module."): t for name, t in network().state_dict().items()
        }))},
        ["removed '_orig_mod.', '_fsdp_wrapped_module.', '_checkpoint_wrapped_module.' from the names in FILE"],
    ),
    "an average of weights": (
        dict(AveragedModel(network()).state_dict()),
        ["removed 'module.' from the names in FILE", "1 tensors of FILE are no part of the model: n_averaged"],
    ),
    "a moving average's shadow": (
        {"ema": {"decay": 0.999, "num_updates": 7, "shadow": network().state_dict()}},
        [],
    ),
    "a moving average without names": (
        {"model": network().state_dict(), "ema": {"decay": 0.9, "shadow_params": list(network().parameters())}},
        ["left out of FILE: ema.shadow_params (6 tensors without names)"],
    ),
    "metrics beside the network": (
        {"state_dict": {**prefixed("a.model."), "train_acc.total": torch.tensor(3), "val_acc.total": torch.tensor(1)}},
        ["removed 'a.', 'model.' from", "2 tensors of FILE are no part of the model: train_acc.total, val_acc.total"],
    ),
    "two networks, one of which is asked for": (
        {"G": network().state_dict(), "D": {"0.weight": torch.ones(1)}},
        ["FILE holds several states; G is read, not read: D"],
    ),
    "parallel in parts, as torch's example for ImageNet": (
        {"arch": "vgg", "state_dict": {n.replace("0.", "0.module.", 1): t for n, t in network().state_dict().items()}},
        ["removed 'module.' from the names in FILE"],
    ),
    "a state with a number in it": ({**network().state_dict(), "epoch": 3}, ["left out of FILE: epoch (int)"]),
    "a default dictionary": ({"model": defaultdict(list, network().state_dict()), "log": defaultdict(list)}, []),
    "a list of models": ({"models": [network().state_dict(), {"other": torch.ones(1)}]}, ["FILE holds several states"]),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("new", [True, False])
def test_layouts_of_trainers(tmp_path: Path, layout: str, new: bool) -> None:
    content, expected = LAYOUTS[layout]
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=new)
    model, notes = load(tmp_path / "a.ckpt")
    assert same(model, network())
    assert all(any(text in note for note in notes) for text in expected), notes
    assert len(notes) == len(expected), notes


SEVERAL: dict[str, tuple[dict[str, Any], list[str]]] = {
    "timm": ({"state_dict": network().state_dict(), "state_dict_ema": others()}, ["state_dict", "state_dict_ema"]),
    "torchvision": (
        {"model": network().state_dict(), "model_ema": {"n_averaged": torch.tensor(1)} | prefixed("module.", others())},
        ["model", "model_ema"],
    ),
    "prefixes": (prefixed("student.") | prefixed("teacher.", others()), ["student", "teacher"]),
    "prefixes within": (
        {"state_dict": prefixed("student.") | prefixed("teacher.", others()), "epoch": 1},
        ["state_dict.student", "state_dict.teacher"],
    ),
    "one within the other": (prefixed("net.") | prefixed("net.ema.", others()), ["net", "net.ema"]),
    "deep": (
        {"run": {"last": network().state_dict(), "callbacks": {"ema": others()}}},
        ["run.last", "run.callbacks.ema"],
    ),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_of_several_states_one_must_be_named(tmp_path: Path, case: str) -> None:
    content, (first, second) = SEVERAL[case]
    file = tmp_path / "a.pt"
    torch.save(content, file)
    with pytest.raises(ValueError) as caught:
        load(file)
    assert str(caught.value) == (
        f"{file} holds 2 states that fit the model, {first!r}, {second!r}; name the one to take: key={first!r} "
        f"(--key {first})"
    )
    assert same(load(file, key=first)[0], network()) and same(load(file, key=second)[0], fresh())


@pytest.mark.parametrize("other", [others(), {name: 0 * t for name, t in network().state_dict().items()}])
def test_a_state_with_other_values_in_it_is_one_of_several(tmp_path: Path, other: dict[str, torch.Tensor]) -> None:
    """A number beside its tensors hides no state: the one without it is not read in its place."""
    file = tmp_path / "a.pt"
    for extra in (3, None):
        torch.save({"model": {**network().state_dict(), "epoch": extra}, "other": other}, file)
        with pytest.raises(ValueError, match="holds 2 states that fit the model, 'model', 'other'; name the one"):
            load(file)
        loaded, notes = load(file, key="model")
        assert same(loaded, network())
        kind = type(extra).__name__
        assert notes[-1] == f"left out of FILE: model.epoch ({kind})"


def test_numbers_of_another_kind_are_no_weights(tmp_path: Path) -> None:
    """Not by a module's own rule for older versions either, which BatchNorm has."""
    for kind in (torch.complex64, torch.int32):
        state = network().state_dict()
        name = next(n for n, t in state.items() if t.is_floating_point())
        torch.save({**state, name: state[name].to(kind)}, tmp_path / "a.pt")
        with pytest.raises(ValueError, match=rf"do not fit the model: {name} {str(kind)[6:]}\["):
            load(tmp_path / "a.pt")


def test_a_key_may_be_short_where_it_is_plain(tmp_path: Path) -> None:
    torch.save(SEVERAL["prefixes within"][0], tmp_path / "a.pt")
    assert same(load(tmp_path / "a.pt", key="teacher")[0], fresh())
    assert same(load(tmp_path / "a.pt", key="teacher.")[0], fresh())
    with pytest.raises(ValueError, match=r"holds 2 states that fit the model, 'state_dict.student'"):
        load(tmp_path / "a.pt", key="state_dict")


def test_a_state_without_a_name_is_named_by_nothing(tmp_path: Path) -> None:
    torch.save(dict(network().state_dict()) | prefixed("ema.", others()), tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"holds 2 states that fit the model, '', 'ema'; name the one to take: key='ema'"
    ):
        load(tmp_path / "a.pt")
    assert same(load(tmp_path / "a.pt", key="")[0], network()) and same(load(tmp_path / "a.pt", key="ema")[0], fresh())


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save(SEVERAL["timm"][0], file)
    with pytest.raises(ValueError) as caught:
        load(file, key="ema")
    assert str(caught.value) == f"{file} holds no state under 'ema'; it holds 'state_dict', 'state_dict_ema'"
    torch.save(network().state_dict(), file)
    with pytest.raises(
        ValueError, match="holds no state under 'ema'; it holds one state, without a key; leave out key"
    ):
        load(file, key="ema")
    with pytest.raises(TypeError, match="key='ema' names a state in a file of weights, and none is given"):
        mc.load_model(fresh, key="ema")


def test_a_state_that_is_named_and_does_not_fit(tmp_path: Path) -> None:
    torch.save({"G": network().state_dict(), "D": {"0.weight": torch.ones(1)}}, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"the names in .*a.pt \(of 'D'\) and those of the model do not match: missing"
    ):
        load(tmp_path / "a.pt", key="D")


def test_the_nearest_reading_is_shown(tmp_path: Path) -> None:
    names = {name: t for name, t in network().state_dict().items() if not name.startswith("3.")}
    deep = build(lambda: nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))).state_dict()
    file = tmp_path / "a.pt"
    torch.save({"state_dict": prefixed("net.", names) | {"head.w": torch.ones(1)}, "D": {"x": torch.ones(1)}}, file)
    with pytest.raises(ValueError) as caught:
        load(file)
    assert str(caught.value) == (
        f"the names in {file} (of 'state_dict', without 'net.') and those of the model do not match: missing 2 "
        "(3.weight, 3.bias); unexpected none; another architecture? build the model that was saved"
    )
    torch.save(deep, file)
    with pytest.raises(ValueError) as caught:
        load(file)
    assert str(caught.value) == (
        f"the names in {file} and those of the model do not match: missing 2 (1.running_mean, 1.running_var); "
        "unexpected 34 (2.weight, 2.bias, 4.weight, 4.bias, 5.weight, 5.bias, 6.weight, 6.bias and 26 more); another "
        "architecture? build the model that was saved"
    )


def test_names_in_excess_within_the_prefix_are_not_left_out(tmp_path: Path) -> None:
    torch.save(prefixed("net.") | {"net.4.weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"missing none; unexpected 1 \(4.weight\)"):
        load(tmp_path / "a.pt")


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "GPTQ": (
        {"0.qweight": torch.ones(1, 5, dtype=torch.int32), "0.qzeros": torch.ones(1), "0.scales": torch.ones(1)},
        "holds quantised weights (0.qweight, 0.qzeros), and paths are computed in floating point; pass the",
    ),
    "bitsandbytes": (
        network().state_dict() | {"0.weight": torch.ones(10, 1, dtype=torch.uint8), "0.weight.absmax": torch.ones(1)},
        "holds quantised weights (0.weight.absmax, 0.weight)",
    ),
    "float8": (
        network().state_dict() | {"0.weight": torch.ones(5, 4).to(torch.float8_e4m3fn)},
        "holds quantised weights (0.weight)",
    ),
    "FSDP's own": (
        {"_flat_param": torch.ones(7)},
        "holds one device's flat parameters of FSDP (_flat_param); save the",
    ),
    "ZeRO stage 3": (
        {"module": {name: torch.empty(0) for name in network().state_dict()}},
        "as DeepSpeed leaves them in ZeRO stage 3; gather them where they were made: python zero_to_fp32.py FOLDER",
    ),
    "an adapter": (
        {"base_model.model.0.lora_A.weight": torch.ones(2, 4), "base_model.model.0.lora_B.weight": torch.ones(5, 2)},
        "holds an adapter (base_model.model.0.lora_A.weight), not the weights of a model; pass the adapter's folder",
    ),
    "experts": (
        {f"experts.{i}.weight": torch.ones(1) for i in range(3)},
        "hold their experts in different ways (missing 'experts.all', unexpected 'experts.0.weight'): one tensor",
    ),
    "sparse": ({"0.weight": torch.ones(2, 2).to_sparse()}, "0.weight is sparse"),
    "no data": ({"0.weight": torch.ones(2, 2, device="meta")}, "0.weight holds no data (it was on the device 'meta')"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_weights_of_another_kind_are_one_line(tmp_path: Path, case: str) -> None:
    content, text = UNFIT[case]
    torch.save(content, tmp_path / "a.pt")
    experts = nn.ModuleDict({"experts": nn.ParameterDict({"all": nn.Parameter(torch.zeros(3))})})
    plain = build(lambda: nn.Sequential(nn.Linear(2, 2, bias=False)))
    factory = {"experts": experts, "sparse": plain, "no data": plain}.get(case, fresh())
    with pytest.raises(ValueError) as caught:
        mc.load_model(factory, tmp_path / "a.pt")
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_a_state_that_holds_the_model_and_more_is_not_passed_over_for_one_that_fits(tmp_path: Path) -> None:
    more = {**network().state_dict(), "criterion.weight": torch.ones(2)}
    torch.save({"model": more, "ema": fresh().state_dict()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="holds 2 states that fit the model, 'model', 'ema'; name the one to take"):
        load(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"missing none; unexpected 1 \(criterion\.weight\); another architecture"):
        load(tmp_path / "a.pt", key="model")
    assert same(load(tmp_path / "a.pt", key="ema")[0], fresh())
