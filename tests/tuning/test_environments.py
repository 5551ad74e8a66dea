"""IRM, V-REx, the convex combination and GroupDRO: each term by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from reference import SlowSGD, cosine, gradients
from zoo import build, mlp, norm_mlp, rows, split

CLEAN, CUED, OTHER = (split(rows(16, seed), [8, 8]) for seed in (1, 2, 3))
STANDING: dict[str, Any] = {"epochs": 1, "lr": 1e-300}
"""One look at the terms, the weights standing still."""


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


def line(slope: float) -> nn.Module:
    """f(x) = slope x."""
    model = build(lambda: nn.Linear(1, 1, bias=False))
    assert isinstance(model, nn.Linear)
    nn.init.constant_(model.weight, slope)
    return model


def pairs(x: list[float], y: list[float]) -> list[tuple[Tensor, Tensor]]:
    return [(torch.tensor(x, dtype=torch.float64)[:, None], torch.tensor(y, dtype=torch.float64))]


ENVIRONMENTS = pairs([1.0, 2.0], [1.0, 3.0]), pairs([1.0, -1.0, 3.0], [0.0, 1.0, 2.0])


def risk(slope: float, data: list[tuple[Tensor, Tensor]]) -> float:
    x, y = data[0][0][:, 0].tolist(), data[0][1].tolist()
    return sum((slope * a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x)


def scale_slope(slope: float, data: list[tuple[Tensor, Tensor]]) -> float:
    """d/dw of mean (w slope x - y)^2 at w = 1: mean 2 (slope x - y) slope x."""
    x, y = data[0][0][:, 0].tolist(), data[0][1].tolist()
    return sum(2 * (slope * a - b) * slope * a for a, b in zip(x, y, strict=True)) / len(x)


def terms(method: Any, **settings: Any) -> Mapping[str, float]:
    clean, cued = ENVIRONMENTS
    return mc.fine_tune(line(0.7), method, clean=clean, cued=cued, loss=squared, **settings).history[0]


def test_irm_on_a_line_is_its_closed_form() -> None:
    found = terms(mc.IRM(penalty=3.0, **STANDING))
    risks, slopes = zip(*((risk(0.7, data), scale_slope(0.7, data)) for data in ENVIRONMENTS), strict=True)
    assert found["risk"] == pytest.approx(sum(risks) / 2, rel=1e-12)
    assert found["penalty"] == pytest.approx(3.0 * sum(slope**2 for slope in slopes) / 2, rel=1e-12)


def test_vrex_on_a_line_is_its_closed_form() -> None:
    found = terms(mc.VREx(penalty=3.0, **STANDING))
    first, second = (risk(0.7, data) for data in ENVIRONMENTS)
    assert found["risk"] == pytest.approx((first + second) / 2, rel=1e-12)
    assert found["variance"] == pytest.approx(3.0 * ((first - second) / 2) ** 2, rel=1e-12)


def test_a_convex_combination_weighs_the_two() -> None:
    found = terms(mc.ConvexCombination(weight=0.3, **STANDING))
    assert found["clean"] == pytest.approx(0.7 * risk(0.7, ENVIRONMENTS[0]), rel=1e-12)
    assert found["cued"] == pytest.approx(0.3 * risk(0.7, ENVIRONMENTS[1]), rel=1e-12)


def test_group_dro_moves_its_weights_towards_the_worse_environment() -> None:
    found = terms(mc.GroupDRO(step_size=0.5, **STANDING))
    risks = [risk(0.7, data) for data in ENVIRONMENTS]
    raised = [math.exp(0.5 * value) for value in risks]
    expected = sum(q / sum(raised) * value for q, value in zip(raised, risks, strict=True))
    assert found["worst case"] == pytest.approx(expected, rel=1e-12)


def test_group_dro_over_groups_of_rows() -> None:
    """Two epochs at a standstill: q after the second is q after the first, raised again by the groups seen."""
    x, y = torch.arange(1.0, 7.0, dtype=torch.float64)[:, None], torch.tensor([1.0, 0.0, 2.0, 5.0, 1.0, 3.0]).double()
    groups = ["sea", "land", "sea", "land", "sea", "land"]
    method = mc.GroupDRO(step_size=0.01, epochs=2, lr=1e-300, batch_size=6)
    found = mc.fine_tune(line(0.7), method, clean=(x, y), groups=groups, loss=squared).history
    each = (0.7 * x[:, 0] - y).square().tolist()
    land, sea = sum(each[1::2]) / 3, sum(each[::2]) / 3
    for epoch, record in enumerate(found):
        weights = [math.exp(0.01 * (epoch + 1) * value) for value in (land, sea)]
        expected = (weights[0] * land + weights[1] * sea) / sum(weights)
        assert record["worst case"] == pytest.approx(expected, rel=1e-12)


Slow = Callable[[nn.Module, list[tuple[Tensor, Tensor]]], Tensor]


def slow_irm(theta: nn.Module, environments: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The derivative by the scale written out: mean over rows of <softmax(f) - onehot, f>."""
    risks, slopes = [], []
    for x, y in environments:
        outputs = theta(x)
        risks.append(cross_entropy(outputs, y))
        residual = outputs.softmax(1) - nn.functional.one_hot(y, outputs.shape[1])
        slopes.append((residual * outputs).sum(1).mean())
    return sum(risks) / len(risks) + 2.0 * sum(slope**2 for slope in slopes) / len(slopes)  # pyright: ignore


def slow_vrex(theta: nn.Module, environments: list[tuple[Tensor, Tensor]]) -> Tensor:
    risks = [cross_entropy(theta(x), y) for x, y in environments]
    mean = sum(risks) / len(risks)
    return mean + 2.0 * sum((r - mean) ** 2 for r in risks) / len(risks)  # pyright: ignore


def slow_convex(theta: nn.Module, environments: list[tuple[Tensor, Tensor]]) -> Tensor:
    clean, *cued = (cross_entropy(theta(x), y) for x, y in environments)
    return 0.75 * clean + 0.25 * sum(cued) / len(cued)  # pyright: ignore


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("factory", [mlp, norm_mlp])
@pytest.mark.parametrize(
    ("method", "slow"),
    [(mc.IRM, slow_irm), (mc.VREx, slow_vrex), (mc.ConvexCombination, slow_convex)],
)
def test_a_run_is_that_of_the_slow_implementation(method: Any, slow: Slow, factory: Any, sources: int) -> None:
    model = build(factory)
    own: dict[str, Any] = {"weight": 0.25} if method is mc.ConvexCombination else {"penalty": 2.0}
    cued = {"box": CUED, "hue": OTHER} if sources == 2 else CUED
    tuned = mc.fine_tune(model, method(epochs=2, lr=0.1, **own), clean=CLEAN, cued=cued)
    theta = copy.deepcopy(model).train()
    optimiser = SlowSGD(theta, 0.9, 1e-4)
    for step in range(4):
        environments = [data[step % 2] for data in (CLEAN, CUED, OTHER)[: 1 + sources]]
        optimiser.step(gradients(theta, slow(theta, environments)), cosine(0.1, step, 4))
    for name, tensor in tuned.model.state_dict().items():
        # A few iterations of float64, in another order than torch's.
        torch.testing.assert_close(tensor, theta.state_dict()[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", [mc.IRM(), mc.VREx(), mc.ConvexCombination(), mc.CBFT()])
def test_they_need_data_with_the_cue(method: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{type(method).__name__} needs data with the cue: pass cued="):
        mc.fine_tune(build(mlp), method, clean=CLEAN)


def test_group_dro_needs_groups_of_some_kind() -> None:
    with pytest.raises(ValueError, match=r"^GroupDRO needs groups: pass groups="):
        mc.fine_tune(build(mlp), mc.GroupDRO(), clean=CLEAN)
    with pytest.raises(TypeError, match="groups are matched to rows by their numbers, so the clean data must be a"):
        mc.fine_tune(build(mlp), mc.GroupDRO(), clean=CLEAN, groups=[0] * 16)
    with pytest.raises(ValueError, match="groups must have one label for each of 16 rows, got 3"):
        mc.fine_tune(build(mlp), mc.GroupDRO(), clean=rows(16), groups=[0, 1, 1])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mc.IRM(penalty=-1.0), "penalty must be zero or more, got -1.0"),
        (lambda: mc.VREx(penalty=float("nan")), "penalty must be zero or more, got nan"),
        (lambda: mc.ConvexCombination(weight=1.5), r"weight must lie in \[0, 1\], got 1.5"),
        (lambda: mc.GroupDRO(step_size=0.0), "step_size must be a number greater than zero, got 0.0"),
    ],
)
def test_settings_are_checked(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_a_penalty_needs_one_loss_for_each_row() -> None:
    images, labels = (
        torch.linspace(-1, 1, 192, dtype=torch.float64).reshape(12, 1, 4, 4),
        torch.arange(192).reshape(12, 4, 4) % 3,
    )
    model, data = build(lambda: nn.Conv2d(1, 3, 1)), (images, labels)
    for method in (mc.IRM(epochs=1), mc.VREx(epochs=1)):
        with pytest.raises(ValueError, match=r"one value per sample, shape \[12\], got \[12, 4, 4\]"):
            mc.fine_tune(model, method, clean=data, cued=data, loss=lambda z, y: cross_entropy(z, y, reduction="none"))
