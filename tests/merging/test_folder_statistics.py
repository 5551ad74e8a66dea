"""Normalisation statistics in merged folders: no parameters, so that the weights are those of `mc.merge`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng

STATISTICS = ("1.running_mean", "1.running_var")


def make_network(seed: int) -> nn.Module:
    with isolate_rng(seed, "network"):
        model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
        model.train()
        model(torch.randn(60, 3) * (1.0 + 3.0 * seed))
    return model.eval().requires_grad_(False)


def write(folder: Path, models: dict[str, nn.Module]) -> dict[str, Path]:
    for name, model in models.items():
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in models}


METHODS: dict[str, Callable[[], mc.TensorMerge]] = {
    "mean": mc.Mean,
    "weighted mean": lambda: mc.Mean({"a": 3.0, "b": 1.0}),
    "ties": mc.TIES,
    "ties, majority": lambda: mc.TIES(0.5, tie="majority"),
    "dare": mc.DARE,
    "task arithmetic, forgetting": lambda: mc.TaskArithmetic(weights={"a": 1.0, "b": -2.0}),
    "slerp": lambda: mc.SLERP(0.25),
}


@pytest.mark.parametrize("name", METHODS)
def test_weights_are_those_of_a_merge_of_networks(tmp_path: Path, name: str) -> None:
    method, models = METHODS[name](), {key: make_network(seed) for seed, key in enumerate(("a", "b", "base"))}
    paths = write(tmp_path, models)
    own, base = models.pop("base"), paths.pop("base")
    own, base = (own, base) if method.needs_base else (None, None)
    rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    suite = mc.Suite({"rows": (rows, (rows[:, 0] > 0).long())}, reference="rows")
    norm = mc.Reestimate((rows + 1, (rows[:, 0] > 0).long()))
    whole = mc.merge(models, method, suite, base=own, norm=norm).model.state_dict()
    found = mc.merge_folders(paths, method, tmp_path / "merged", base=base)
    got = load_file(tmp_path / "merged" / "model.safetensors")
    for key, tensor in got.items():
        if not key.startswith("1.") or key in ("1.weight", "1.bias"):
            assert torch.equal(tensor, whole[key]), key
    a, b = (load_file(paths[key]) for key in "ab")
    share = 0.75 if name in ("weighted mean", "slerp") else 0.5
    for key in STATISTICS:
        torch.testing.assert_close(got[key], share * a[key] + (1 - share) * b[key])
        assert bool((got["1.running_var"] > 0).all())
    assert any("must be re-estimated" in note for note in found.notes)


def test_a_name_that_only_ends_so_is_a_parameter(tmp_path: Path) -> None:
    paths = {}
    for value, name in ((1.0, "a"), (3.0, "b"), (0.0, "base")):
        paths[name] = tmp_path / f"{name}.safetensors"
        save_file({"my_running_mean": torch.tensor([value])}, paths[name])
    base = paths.pop("base")
    found = mc.merge_folders(paths, mc.TaskArithmetic(), tmp_path / "merged", base=base)
    assert load_file(tmp_path / "merged" / "model.safetensors")["my_running_mean"].tolist() == [4.0]
    assert not any("statistics" in note for note in found.notes)
