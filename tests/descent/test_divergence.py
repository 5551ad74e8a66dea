"""Losses and weights that stop being finite: the run stops, says where, and keeps its last good state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from stopping import Counting, check_same, run
from zoo import build, mlp, rows


class Exploding(Counting):
    """NaN from its call number `last` on."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return cross_entropy(outputs, targets, reduction="none") * (float("nan") if self.calls >= self.last else 1.0)


def test_divergence_keeps_the_last_good_state(tmp_path: Path) -> None:
    file, method = tmp_path / "run.safetensors", mc.NaiveFineTuning(epochs=3, batch_size=8)
    with pytest.raises(FloatingPointError, match=r"clean is nan at step 5 of 9 \(epoch 1\); .* last good state: "):
        run(method, loss=Exploding(6), checkpoint=mc.Checkpoint(file, every=2))
    loss = Counting()
    check_same(run(method, loss=loss, checkpoint=mc.Checkpoint(file, every=2)), run(method))
    assert loss.calls == 9 - 4


class Poisoned(nn.Module):
    """Its gradient is infinite although its loss is not, from the third step on."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.steps = mlp(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += self.training
        outputs = self.body(x)
        if self.training and self.steps >= 3:
            outputs.register_hook(lambda gradient: gradient * float("inf"))
        return outputs


def test_weights_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    with pytest.raises(FloatingPointError, match=r"body\.0\.weight is nan at step 3 of 9"):
        run(
            mc.NaiveFineTuning(epochs=3, batch_size=8),
            model=build(Poisoned),
            checkpoint=mc.Checkpoint(file, every=1),
        )
    from safetensors.torch import load_file

    assert all(bool(torch.isfinite(tensor).all()) for tensor in load_file(file).values() if tensor.is_floating_point())


def test_weights_that_are_not_finite_are_never_returned() -> None:
    """The last of three steps ruins them, and no later loss would tell."""
    with pytest.raises(FloatingPointError, match=r"body\.0\.weight is nan at step 3 of 3"):
        run(mc.NaiveFineTuning(epochs=1, batch_size=8), model=build(Poisoned))


class Masked(nn.Module):
    """It holds minus infinity on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.register_buffer("mask", torch.tensor([0.0, float("-inf"), 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_buffers_may_hold_infinity(tmp_path: Path) -> None:
    place = mc.Checkpoint(tmp_path / "run.safetensors", every=1)
    assert run(mc.NaiveFineTuning(epochs=1, batch_size=8), model=build(Masked), checkpoint=place).history


def test_validation_that_is_not_finite_chooses_nothing() -> None:
    with pytest.raises(FloatingPointError, match=r"validation is nan at step 3 of 6 \(epoch 0\)"):
        run(mc.NaiveFineTuning(epochs=2, batch_size=8), validation=rows(8, 5), loss=Exploding(4))


def test_divergence_before_the_first_checkpoint_names_no_state(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    with pytest.raises(FloatingPointError, match=r"nothing was written to .*run\.safetensors before it$"):
        run(mc.NaiveFineTuning(epochs=3, batch_size=8), loss=Exploding(2), checkpoint=mc.Checkpoint(file))
    assert not file.exists()
