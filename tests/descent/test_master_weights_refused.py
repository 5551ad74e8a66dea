"""What cannot be trained as a float32 copy and given back is told in one line, whose advice works."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from operations import METHODS, PATH_FITS
from zoo import CLASSES, FEATURES, build, mlp, rows


def half(factory: Callable[[], nn.Module], kind: torch.dtype = torch.bfloat16, seed: int = 0) -> nn.Module:
    return build(factory, seed, kind)


DATA = rows(24, dtype=torch.float32)


def test_a_weight_beyond_float16_is_told_and_float32_trains_it() -> None:
    """The loss -w grows without end: the weight passes 65504, the largest float16."""
    model = half(lambda: nn.Linear(1, 1, bias=False), torch.float16)
    nn.init.ones_(model.get_parameter("weight"))
    method = mc.NaiveFineTuning(epochs=1, lr=1e5, weight_decay=0.0)
    ones = torch.ones(4, 1), torch.zeros(4)

    def falling(outputs: Tensor, _: Tensor) -> Tensor:
        return -outputs[:, 0]

    with pytest.raises(FloatingPointError) as caught:
        mc.fine_tune(model, method, clean=ones, loss=falling)
    assert str(caught.value) == (
        "weight reached 1e+05 in float32, which is beyond float16; lower the learning rate, or train model.float()"
    )
    lower = mc.NaiveFineTuning(epochs=1, lr=1e3, weight_decay=0.0)
    assert mc.fine_tune(model, lower, clean=ones, loss=falling).model.get_parameter("weight").item() == 1001
    exact = mc.fine_tune(copy.deepcopy(model).float(), method, clean=ones, loss=falling)
    assert exact.model.get_parameter("weight").item() == 100001


class ByName(nn.Module):
    """It casts its inputs to a type that it names, or to that of its weights."""

    def __init__(self, named: bool) -> None:
        super().__init__()
        self.out, self.named = nn.Linear(FEATURES, CLASSES), named

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.to(torch.bfloat16 if self.named else self.out.weight.dtype))


def test_a_cast_by_name_is_told_with_what_to_write_instead() -> None:
    a, b = (mc.parameters_of(half(lambda: ByName(True), seed=seed)) for seed in (1, 2))
    calls: list[Callable[[nn.Module], object]] = [
        lambda model: mc.fine_tune(model, METHODS["NaiveFineTuning"], clean=DATA),
        lambda model: mc.fine_tune(model, METHODS["DFR"], clean=DATA),
        lambda model: mc.fit_path(model, a, b, PATH_FITS["BezierFit"], DATA),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match="is trained as a float32 copy, whose forward pass meets two types"
        ) as caught:
            call(half(lambda: ByName(True)))
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("let it cast to the type of its weights, as in x.to(self.weight.dtype)")
        call(half(lambda: ByName(False)))


def test_other_errors_of_a_half_module_come_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        mc.fine_tune(half(mlp), METHODS["NaiveFineTuning"], clean=(torch.ones(8, 7), rows(8)[1]))
