"""Means over training runs, where some run has no finite loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from memory import peak
from zoo import build, rows


class Sure(nn.Module):
    """Right everywhere, by odds of two to one; on inputs above 0.5 it gives the true class a probability of `low`."""

    def __init__(self, low: float) -> None:
        super().__init__()
        self.low = low

    def forward(self, x: Tensor) -> Tensor:
        other = torch.tensor([self.low, 1 - self.low], dtype=x.dtype).log()
        return torch.where(x > 0.5, other, torch.tensor([2.0, 1.0], dtype=x.dtype).log())


@pytest.mark.parametrize(
    ("lows", "expected"), [((0.5, 0.25), math.log(8) / 2), ((0.5, 0.0), None), ((0.0, 0.25), None), ((0.0, 0.0), None)]
)
def test_the_mean_loss_of_runs_is_that_of_all_of_them_or_none(lows: tuple[float, ...], expected: float | None) -> None:
    """-log 0.5 and -log 0.25, whose mean is log(8) / 2; a run whose loss is not finite leaves no mean of the others."""
    y = torch.zeros(50, dtype=torch.int64)
    x = {"cue": torch.zeros(50, 1, dtype=torch.float64), "hue": torch.ones(50, 1, dtype=torch.float64)}
    suite = mc.Suite({name: (inputs, y) for name, inputs in x.items()})
    found = mc.compare_mechanisms([Sure(low) for low in lows], [Sure(0.5), Sure(0.5)], suite)
    assert found.a.loss == {"cue": pytest.approx(math.log(1.5)), "hue": expected and pytest.approx(expected)}
    half = 12.706204736432095 * math.log(2) / 2  # Student's t of two values log(2) apart: quantile x spread / sqrt(2)
    interval = None if expected is None else (expected - half, expected + half)
    assert found.a.loss_interval["hue"] == (interval and pytest.approx(interval))
    assert (found.a["hue"].loss is None) == (expected is None) and found.b.loss["hue"] == pytest.approx(math.log(2))


@pytest.mark.filterwarnings("ignore")  # the profiler's own
def test_one_run_is_in_memory_at_a_time() -> None:
    def wide() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 3))

    suite = mc.Suite({"cue": rows(12, 1), "rand_cue": rows(12, 2)}, reference="cue")
    size = sum(parameter.nbytes for parameter in build(wide).parameters())

    def held(count: int) -> float:
        runs = [build(wide, seed) for seed in range(2 * count)]
        return peak(lambda: mc.compare_mechanisms(runs[:count], runs[count:], suite)) / size

    assert held(5) < held(2) + 0.5
