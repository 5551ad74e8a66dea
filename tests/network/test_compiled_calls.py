"""Compute(compile=True): the plain results, or the plain pass with the reason in the record."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc

ON = mc.Compute(compile=True)
FEATURES = 6


def mlp(seed: int = 0) -> nn.Module:
    with mc.core.isolate_rng(seed):
        return nn.Sequential(
            nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )  # fmt: skip


def rows(count: int = 40) -> tuple[Tensor, Tensor]:
    return torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 3


class TellsItIsCompiled(nn.Module):
    """Computes something else where it is compiled."""

    def __init__(self) -> None:
        super().__init__()
        with mc.core.isolate_rng(0):
            self.out = nn.Linear(FEATURES, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * (1.1 if torch.compiler.is_compiling() else 1.0)


METHOD = mc.Training(epochs=2, batch_size=16, lr=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_training_gives_the_plain_weights_with_dropout_and_batches_of_two_sizes() -> None:
    state = torch.get_rng_state()
    plain, compiled = (mc.train(mlp(), rows(), METHOD, compute=how) for how in (None, ON))
    assert compiled.settings["compile"] == "training compiled, equal within 3.5e-04"
    assert "compile" not in plain.settings
    for a, b in zip(plain.model.state_dict().values(), compiled.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_points_of_a_path_are_compiled_once_and_have_the_plain_losses() -> None:
    """Eleven points are more than torch.compile's eight variants; statistics are read by hooks, and stay plain."""
    suite, path = mc.Suite({"cue": rows()}), mc.LinearPath.between(mlp(), mlp(1))
    plain, compiled = (
        mc.evaluate_path(mlp(), path, suite, 11, norm=mc.Reestimate(rows()), compute=how) for how in (None, ON)
    )
    said = compiled.settings["compile"]
    assert said == "training plain where layers are watched; evaluation compiled, equal within 3.5e-04"
    assert compiled.loss["cue"] == pytest.approx(plain.loss["cue"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_differs_where_it_is_compiled_stays_plain_and_says_so() -> None:
    plain, compiled = (mc.train(TellsItIsCompiled(), rows(), METHOD, compute=how) for how in (None, ON))
    assert str(compiled.settings["compile"]).startswith("training plain: outputs differ by 1.0e-01")
    assert all(map(torch.equal, plain.model.state_dict().values(), compiled.model.state_dict().values()))


def test_without_a_compiler_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(
        ValueError, match=r"^compile=True needs a C\+\+ compiler, and none was found \(g\+\+, "
    ) as caught:
        mc.train(mlp(), rows(), METHOD, compute=ON)
    assert "\n" not in str(caught.value)
    assert "compile" not in mc.train(mlp(), rows(), METHOD, compute=mc.Compute()).settings  # the remedy


def test_compile_is_true_or_false() -> None:
    with pytest.raises(TypeError, match=r"^compile must be a bool, got str; write compile=True"):
        mc.Compute(compile="yes")  # pyright: ignore[reportArgumentType]
