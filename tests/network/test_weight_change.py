"""Weight changes: closed forms of the arithmetic, exact round trips, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng


def linear(inputs: int = 1, outputs: int = 1, *, bias: bool = True) -> nn.Linear:
    with isolate_rng(0):
        return nn.Linear(inputs, outputs, bias=bias)


def layer(weight: float, bias: float) -> nn.Module:
    return mc.with_parameters(
        linear(), {"weight": torch.tensor([[float(weight)]]), "bias": torch.tensor([float(bias)])}
    )


def net(seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with isolate_rng(seed):
        return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)).to(dtype)


def values(change: mc.WeightChange) -> dict[str, float]:
    return {name: tensor.item() for name, tensor in change.tensors.items()}


def test_arithmetic_is_that_of_vectors() -> None:
    v = mc.weight_change(layer(1, 0), layer(3, 0.5))
    w = mc.weight_change(layer(1, 0), layer(0, 4))
    assert values(v) == {"weight": 2, "bias": 0.5}
    assert values(-v) == {"weight": -2, "bias": -0.5}
    assert values(v + w) == {"weight": 1, "bias": 4.5}
    assert values(v - w) == {"weight": 3, "bias": -3.5}
    assert values(2 * v) == values(v * 2) == {"weight": 4, "bias": 1}
    assert values(v / 2) == {"weight": 1, "bias": 0.25}
    assert values(sum([v, w])) == values(v + w)  # pyright: ignore[reportArgumentType]
    assert w.norm == pytest.approx(math.hypot(1, 4))
    assert w.norms == {"weight": 1, "bias": 4}
    assert v.cosine(w) == pytest.approx((2 * -1 + 0.5 * 4) / (v.norm * w.norm), abs=1e-12)
    assert math.isnan(v.cosine(v - v))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_whole_change_gives_the_tuned_weights_bit_for_bit(dtype: torch.dtype) -> None:
    base, tuned = net(0, dtype), net(1, dtype)
    edited = mc.with_change(base, mc.weight_change(base, tuned))
    assert all(torch.equal(p, dict(tuned.named_parameters())[name]) for name, p in edited.named_parameters())
    assert all(torch.equal(b, dict(base.named_buffers())[name]) for name, b in edited.named_buffers())
    undone = mc.with_change(edited, -mc.weight_change(base, tuned))
    assert all(torch.equal(p, dict(base.named_parameters())[name]) for name, p in undone.named_parameters())


def test_statistics_are_no_part_of_it() -> None:
    base, tuned = net(0), net(0)
    tuned(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))  # moves the running statistics alone
    change = mc.weight_change(base, tuned)
    assert change.norm == 0
    assert set(change.tensors) == set(dict(base.named_parameters()))


def test_a_random_change_has_the_norm_of_each_tensor_and_depends_on_the_seed_alone() -> None:
    change = mc.weight_change(net(0), net(1))
    drawn, again, other = change.random_like(3), change.random_like(3), change.random_like(4)
    assert drawn.norms == pytest.approx(change.norms, rel=1e-12)
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in drawn.tensors.items())
    assert abs(drawn.cosine(change)) < 0.4 and abs(drawn.cosine(other)) < 0.4


def test_a_file_gives_the_same_change_on_other_runs(tmp_path: Path) -> None:
    change = mc.weight_change(net(0), net(1))
    change.save(tmp_path / "fix.safetensors")
    read = mc.load_weight_change(tmp_path / "fix.safetensors")
    assert all(torch.equal(tensor, read.tensors[name]) for name, tensor in change.tensors.items())
    assert list(read.tensors) == list(change.tensors)
    with pytest.raises(FileNotFoundError, match="is a folder; give a file"):
        mc.load_weight_change(tmp_path)
    with pytest.raises(FileExistsError, match="exists; remove it"):
        change.save(tmp_path / "fix.safetensors")
    save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no weight change"):
        mc.load_weight_change(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        mc.load_weight_change(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "fix.safetensors").read_bytes()[:-3])
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        mc.load_weight_change(tmp_path / "cut.safetensors")


def test_keys_that_do_not_match_are_an_error() -> None:
    change = mc.weight_change(layer(0, 0), layer(1, 1))
    wide = mc.weight_change(linear(1, 2), linear(1, 2))
    bare = mc.weight_change(linear(1, 1, bias=False), linear(1, 1, bias=False))
    with pytest.raises(ValueError, match=r"weight \[1, 1\] against \[2, 1\]"):
        _ = change + wide
    with pytest.raises(ValueError, match="bias"):
        _ = change - bare
    with pytest.raises(ValueError, match="bias"):
        mc.with_change(linear(1, 1), bare)
    with pytest.raises(ValueError, match=r"weight \[2, 1\] against \[1, 1\]"):
        mc.with_change(linear(1, 2), change)
    with pytest.raises(ValueError, match="not one module"):
        mc.weight_change(linear(1, 1), linear(1, 2))


def test_what_is_no_number_and_no_network_is_refused() -> None:
    change = mc.weight_change(layer(0, 0), layer(1, 1))
    with pytest.raises(ValueError, match="scale must be a finite number"):
        mc.with_change(layer(0, 0), change, scale=math.nan)
    for scale in (math.nan, math.inf):
        with pytest.raises(ValueError, match="scale must be a finite number"):
            _ = scale * change
    half = mc.weight_change(linear().half(), linear().half()) + mc.weight_change(layer(0, 0), layer(1, 1))
    with pytest.raises(ValueError, match="weight overflows float16 at scale 70000; take a smaller scale"):
        mc.with_change(linear().half(), half, scale=70000)
    assert mc.with_change(linear(), half, scale=70000) is not None
    with pytest.raises(ValueError, match="divided by zero"):
        _ = change / 0
    for wrong in (lambda: change * "2", lambda: change + 1, lambda: change * True):  # pyright: ignore[reportOperatorIssue]
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError, match="base must be"):
        mc.weight_change({"weight": torch.zeros(1)}, layer(0, 0))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        mc.weight_change(layer(0, 0), layer(math.nan, 0))
    with pytest.raises(ValueError, match="one tensor or more"):
        mc.WeightChange({})


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.complex(torch.ones(3), torch.ones(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.w).real


def test_complex_parameters_are_refused_by_name_and_as_real_parts_taken() -> None:
    change = mc.WeightChange({"w": torch.zeros(3)})
    for what in (lambda: mc.weight_change(Complex(), Complex()), lambda: mc.with_change(Complex(), change)):
        with pytest.raises(ValueError, match=r"are complex \(w\), .* torch.view_as_real\(parameter\)"):
            what()
    real, other = linear(2, 3), linear(2, 3)
    with torch.no_grad():
        real.weight.copy_(torch.view_as_real(Complex().w))
    assert torch.equal(mc.with_change(other, mc.weight_change(other, real)).get_parameter("weight"), real.weight)


def test_a_file_of_a_change_is_no_network(tmp_path: Path) -> None:
    base, file = linear(3, 4), tmp_path / "change.safetensors"
    mc.weight_change(base, layer_of(4)).save(file)
    with pytest.raises(ValueError, match=r"holds a change of weights and no network; .* load_weight_change\(file\)\)"):
        mc.load_model(lambda: linear(3, 4), file)
    edited = mc.with_change(base, mc.load_weight_change(file))
    assert torch.equal(edited.get_parameter("weight"), layer_of(4).get_parameter("weight"))
    # Notes of other programs are left alone.
    other = tmp_path / "other.safetensors"
    save_file(base.state_dict(), other, {"note": "any text"})
    assert torch.equal(mc.load_model(lambda: linear(3, 4), other).get_parameter("weight"), base.weight)


def layer_of(outputs: int) -> nn.Module:
    with isolate_rng(1):
        return nn.Linear(3, outputs)
