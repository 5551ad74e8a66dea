"""A point of a path as a module: its weights, its statistics, and the way to a file and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import mechconn as mc
from mechconn.network import read_buffers
from reference import activations, evaluated, loaded, pooled_statistics
from zoo import Shared, Tied, build, mlp, norm_conv, norm_mlp, rows, split


def line(factory: Callable[[], nn.Module]) -> mc.LinearPath:
    return mc.LinearPath(*(mc.parameters_of(build(factory, seed)) for seed in (1, 2)))


def check_state(model: nn.Module, expected: dict[str, Tensor]) -> None:
    state = model.state_dict()
    assert set(expected) <= set(state)
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_it_holds_the_points_weights_and_leaves_the_model(t: float) -> None:
    model = build(norm_mlp).train()
    before, path = {name: tensor.clone() for name, tensor in model.state_dict().items()}, line(norm_mlp)
    here = mc.model_at(model, path, t, norm=mc.KeepNorm())
    check_state(here, path.at(t) | read_buffers(model))
    assert not any(part.training for part in here.modules())
    assert model.training
    check_state(model, before)


def test_its_statistics_are_reestimated_at_the_point() -> None:
    model, path, batches = build(norm_mlp), line(norm_mlp), split(rows(20), [12, 8])
    here = mc.model_at(model, path, 0.4, norm=mc.Reestimate(batches))
    mean, variance = pooled_statistics(activations(loaded(model, path.at(0.4)), batches)["1"])
    torch.testing.assert_close(here.get_buffer("1.running_mean"), mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(here.get_buffer("1.running_var"), variance, rtol=1e-12, atol=1e-12)


def test_it_is_what_evaluate_path_evaluates() -> None:
    model, path, data = build(norm_mlp), line(norm_mlp), rows(30)
    norm = mc.Reestimate(rows(20, 3))
    profile = mc.evaluate_path(model, path, mc.Suite({"cue": data}), ts=[0.0, 0.3, 1.0], norm=norm)
    for number, t in enumerate(profile.ts):
        expected = evaluated(mc.model_at(model, path, t, norm=norm), [data])
        assert (profile.loss["cue"][number], profile.accuracy["cue"][number]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("factory", [norm_mlp, norm_conv])
def test_it_goes_to_a_file_and_back(factory: Callable[[], nn.Module], tmp_path: Path) -> None:
    path = mc.LinearPath.between(build(factory, 1), build(factory, 2))
    here = mc.model_at(build(factory), path.reversed(), 0.3, norm=mc.InterpolateNorm())
    save_file(here.state_dict(), tmp_path / "here.safetensors")
    back = build(factory, 5)
    back.load_state_dict(load_file(tmp_path / "here.safetensors"))
    check_state(back, here.state_dict())


@pytest.mark.parametrize("factory", [Shared, Tied])
def test_layers_that_share_weights_go_to_a_file_and_back(factory: Callable[[], nn.Module], tmp_path: Path) -> None:
    here = mc.model_at(build(factory), line(factory), 0.3, norm=mc.KeepNorm())
    with pytest.raises(RuntimeError, match="Some tensors share memory"):
        save_file(here.state_dict(), tmp_path / "here.safetensors")
    copies = {name: tensor.clone() for name, tensor in here.state_dict().items()}
    save_file(copies, tmp_path / "here.safetensors")
    back = build(factory, 5)
    back.load_state_dict(load_file(tmp_path / "here.safetensors"))
    check_state(back, here.state_dict())


def test_a_model_without_statistics_needs_no_policy() -> None:
    path = line(mlp)
    check_state(mc.model_at(build(mlp), path, 0.7), path.at(0.7))


def test_a_model_with_statistics_needs_one() -> None:
    with pytest.raises(ValueError, match=r"^the model keeps normalisation statistics \(1\), and those of one endpoint"):
        mc.model_at(build(norm_mlp), line(norm_mlp), 0.5)


def test_long_lists_of_layers_are_cut_short() -> None:
    five = nn.Sequential(*(nn.BatchNorm1d(2) for _ in range(5)))
    path = mc.LinearPath(mc.parameters_of(five), mc.parameters_of(five))
    with pytest.raises(ValueError, match=r"statistics \(0, 1, 2 and 2 more\)"):
        mc.model_at(five, path, 0.5)


def test_another_architectures_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the path's parameters do not match: missing 1.weight, 1.bias, 3.weight, "):
        mc.model_at(build(norm_mlp), line(mlp), 0.5, norm=mc.KeepNorm())
    with pytest.raises(ValueError, match=r"^t must lie in \[0, 1\], got 1.5$"):
        mc.model_at(build(mlp), line(mlp), 1.5)
