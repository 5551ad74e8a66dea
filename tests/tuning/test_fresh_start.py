"""Shrink and perturb, and blocks that are drawn afresh: what of the start is left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from world import Delicate
from zoo import build, mlp, norm_mlp, rows

STILL: dict[str, Any] = {"epochs": 1, "lr": 1e-300, "batch_size": 8}
"""One epoch of three steps, the weights standing still."""


def tuned(model: nn.Module, method: Any, seed: int = 0) -> nn.Module:
    return mc.fine_tune(model, method, clean=rows(24), seed=seed).model


# ---------------------------------------------------------------- shrink and perturb


def test_the_start_is_shrunk_and_a_fresh_draw_added() -> None:
    """What is added does not depend on the start; a BatchNorm's fresh weights are one and zero."""
    starts = [build(norm_mlp, seed) for seed in (1, 2)]
    found = [tuned(start, mc.ShrinkAndPerturb(shrink=0.3, noise=0.2, **STILL)) for start in starts]
    added = [
        {name: tensor - 0.3 * start.get_parameter(name) for name, tensor in model.named_parameters()}
        for model, start in zip(found, starts, strict=True)
    ]
    for name, tensor in added[0].items():
        torch.testing.assert_close(tensor, added[1][name], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(added[0]["1.weight"], torch.full((5,), 0.2, dtype=torch.float64), rtol=1e-12, atol=1e-15)
    # U(-1/2, 1/2) of a layer of four inputs, times 0.2.
    assert 0.01 < float(added[0]["0.weight"].detach().abs().max()) <= 0.1
    other = tuned(starts[0], mc.ShrinkAndPerturb(shrink=0.3, noise=0.2, **STILL), seed=1)
    assert not torch.equal(other.get_parameter("0.weight"), found[0].get_parameter("0.weight"))


def test_running_statistics_start_anew() -> None:
    model = build(norm_mlp)
    for method in (mc.ShrinkAndPerturb(**STILL), mc.FreshBlocks(blocks=2, **STILL)):
        assert int(tuned(model, method).get_buffer("1.num_batches_tracked")) == 3
    model.get_buffer("1.num_batches_tracked").fill_(7)
    assert int(tuned(model, mc.FreshBlocks(blocks=1, **STILL)).get_buffer("1.num_batches_tracked")) == 10


def test_frozen_weights_and_those_to_keep_stay() -> None:
    model = build(norm_mlp)
    model.get_submodule("3").requires_grad_(False)
    found = tuned(model, mc.ShrinkAndPerturb(keep=("0.bias",), **STILL))
    for name in ("3.weight", "3.bias", "0.bias"):
        assert torch.equal(found.get_parameter(name), model.get_parameter(name)), name
    assert not torch.equal(found.get_parameter("0.weight"), model.get_parameter("0.weight"))


def test_without_perturbation_it_is_naive() -> None:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 8}
    first = tuned(build(mlp), mc.ShrinkAndPerturb(shrink=1.0, noise=0.0, **settings))
    second = tuned(build(mlp), mc.NaiveFineTuning(**settings))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mc.ShrinkAndPerturb(shrink=1.5), r"shrink must lie in \[0, 1\], got 1.5"),
        (lambda: mc.ShrinkAndPerturb(noise=-0.1), "noise must be zero or more, got -0.1"),
        (lambda: mc.FreshBlocks(blocks=0), "blocks must be a whole number"),
        (lambda: mc.FreshBlocks(which="middle"), "which must be one of"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_settings_are_checked(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize(
    ("blocks", "which", "drawn"),
    [(1, "last", ["3"]), (2, "last", ["1", "3"]), (1, "first", ["0"]), (3, "first", ["0", "1", "3"])],
)
def test_the_blocks_are_drawn_and_the_others_stay(blocks: int, which: Any, drawn: list[str]) -> None:
    model = build(norm_mlp)
    with torch.no_grad():
        model.get_parameter("1.weight").fill_(2.0)
        model.get_parameter("1.bias").fill_(2.0)
    found = mc.fine_tune(model, mc.FreshBlocks(blocks=blocks, which=which, **STILL), clean=rows(24))
    assert found.settings["drawn"] == drawn
    for name, tensor in found.model.named_parameters():
        assert torch.equal(tensor, model.get_parameter(name)) == (name.split(".")[0] not in drawn), name


def test_all_blocks_owe_nothing_to_the_start() -> None:
    first, second = (tuned(build(norm_mlp, seed), mc.FreshBlocks(blocks=3, **STILL)) for seed in (1, 2))
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_tied_weights_are_one_block_and_frozen_modules_none() -> None:
    model = build(Delicate)
    found = mc.fine_tune(model, mc.FreshBlocks(blocks=3, **STILL), clean=rows(24))
    assert found.settings["drawn"] == ["block.0", "block.1", "out"]
    assert found.model.get_parameter("tied.weight") is found.model.get_parameter("block.0.weight")
    assert torch.equal(found.model.get_parameter("frozen.weight"), model.get_parameter("frozen.weight"))


class Bare(nn.Module):
    """A parameter that nothing draws, before a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = mlp(), nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.body(x) * self.scale)


def test_only_the_blocks_drawn_need_a_draw() -> None:
    """The root's own parameter comes first."""
    found = mc.fine_tune(build(Bare), mc.FreshBlocks(blocks=3, **STILL), clean=rows(24))
    assert found.settings["drawn"] == ["body.0", "body.2", "out"]
    with pytest.raises(ValueError, match=r"cannot draw fresh weights for scale: .*, or draw other blocks"):
        tuned(build(Bare), mc.FreshBlocks(blocks=4, **STILL))
