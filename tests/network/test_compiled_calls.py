"""Compute(compile=True): the plain results, or the plain pass with the reason in the record."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import mechconn as mc
from mechconn.descent import Problem
from mechconn.network import Network
from mechconn.network._compiled_calls import check_compiler

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


class Counts(nn.Module):
    """Keeps a running mean by assigning it anew, and how often it was called, and computes with both."""

    mean: Tensor

    def __init__(self, counts: bool = True) -> None:
        super().__init__()
        with mc.core.isolate_rng(0):
            self.out = nn.Linear(FEATURES, 3)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.calls, self.counts = 0, counts

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
            self.calls += self.counts
        return self.out(x - self.mean)


@pytest.mark.parametrize("counts", [True, False])
def test_what_a_step_keeps_beside_its_tensors_is_kept_and_said(counts: bool) -> None:
    plain, compiled = (mc.train(Counts(counts), rows(), METHOD, compute=how) for how in (None, ON))
    assert compiled.settings["compile"] == "training plain: its layers keep values from call to call"
    assert all(map(torch.equal, plain.model.state_dict().values(), compiled.model.state_dict().values()))
    assert float(compiled.model.state_dict()["mean"].abs().max()) > 0
    assert compiled.model.calls == (6 if counts else 0)


HOOKED: dict[str, Any] = {
    "before": lambda layer, hook: layer.register_forward_pre_hook(hook),
    "after": lambda layer, hook: layer.register_forward_hook(hook),
    "backward": lambda layer, hook: layer.register_full_backward_hook(hook),
    "before backward": lambda layer, hook: layer.register_full_backward_pre_hook(hook),
    "every module": lambda layer, hook: nn.modules.module.register_module_forward_hook(hook),
}


@pytest.mark.parametrize("kind", HOOKED)
def test_hooks_of_every_kind_on_what_is_trained_keep_the_plain_call(kind: str) -> None:
    model, seen = mlp().train(), []
    network = Network(model, ON)
    problem = Problem(model, network, (), mc.losses.cross_entropy, None, 0, mc.core.as_data("clean", rows()))
    handle = HOOKED[kind](model.get_submodule("4"), lambda *_: seen.append(1))
    with mc.core.isolate_rng(0):
        problem.outputs(rows()[0]).sum().backward()
    handle.remove()
    assert seen
    assert network.compiled.settings["compile"] == "training plain where layers are watched"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_evaluation_of_many_rows_is_compiled_where_it_says_so() -> None:
    """Rows that the library would try the size of a batch on: under that trial nothing compiles."""
    before = counters["stats"]["unique_graphs"]
    suite, path = mc.Suite({"cue": rows(200)}), mc.LinearPath.between(mlp(), mlp(1))
    norm = mc.KeepNorm()
    plain, compiled = (mc.evaluate_path(mlp(), path, suite, 3, norm=norm, compute=how) for how in (None, ON))
    assert compiled.settings["compile"] == "evaluation compiled, equal within 3.5e-04"
    assert counters["stats"]["unique_graphs"] > before
    assert compiled.loss["cue"] == pytest.approx(plain.loss["cue"], abs=1e-5)


def test_what_captures_no_graph_is_not_called_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    found = mc.train(mlp(), rows(), METHOD, compute=ON)
    assert found.settings["compile"] == "training plain: no graph was captured"


@pytest.mark.parametrize("works", [0, 1, 2, 3, 5])
def test_what_fails_to_compile_later_goes_on_plainly(works: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled call that writes into a statistic and draws before it fails, as behind a break of the graph."""
    calls = []

    def compile_for_a_while(call: Any, **_: Any) -> Any:
        def made(tensors: dict[str, Tensor], *rest: Any) -> Any:
            calls.append(1)
            counters["stats"]["unique_graphs"] += 1
            if len(calls) > works:
                tensors["1.running_mean"].add_(1.0)
                torch.rand(3)
                raise RuntimeError("no compiler any more")
            return call(tensors, *rest)

        return made

    plain = mc.train(mlp(), rows(), METHOD)
    monkeypatch.setattr(torch, "compile", compile_for_a_while)
    found = mc.train(mlp(), rows(), METHOD, compute=ON)
    assert "does not compile (RuntimeError" in str(found.settings["compile"])
    assert len(calls) == works + 1
    assert all(map(torch.equal, plain.model.state_dict().values(), found.model.state_dict().values()))


@pytest.mark.parametrize("named", ["ccache g++", "g++ -m64"])
def test_a_compiler_may_be_named_with_options(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", named)
    monkeypatch.setattr(shutil, "which", lambda name: None if " " in name else f"/usr/bin/{name}")
    check_compiler(torch.device("cpu"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"none was found \("):
        check_compiler(torch.device("cpu"))


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
