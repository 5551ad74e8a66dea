"""The rate of a new head: the source's 30, or what the second moment of the features allows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import CLASSES, FEATURES, build, rows


def noisy(count: int) -> tuple[Tensor, Tensor]:
    """Rows, every fifth with another label."""
    x, y = rows(count)
    return x, torch.where(torch.arange(count) % 5 == 0, (y + 1) % CLASSES, y)


def body(model: nn.Module, x: Tensor) -> np.ndarray:
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        return model[:-1].eval()(x).numpy()


def second_moment(model: nn.Module, x: Tensor, biased: bool = True) -> float:
    """The largest eigenvalue of E[z z^T], by the singular values of the features with a column of ones."""
    z = body(model, x)
    z = np.concatenate([z, np.ones((len(z), 1))], 1) if biased else z
    return float(np.linalg.svd(z, compute_uv=False)[0] ** 2 / len(z))


def wide(scale: float, bias: bool = True) -> nn.Module:
    """40 features, a multiple of which the head receives."""

    class Scale(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return scale * x

    return build(lambda: nn.Sequential(nn.Linear(FEATURES, 40), nn.Tanh(), Scale(), nn.Linear(40, CLASSES, bias=bias)))


@pytest.mark.parametrize("count", [24, 200])
@pytest.mark.parametrize("bias", [True, False])
def test_the_rate_of_a_new_head_is_two_over_the_largest_eigenvalue(bias: bool, count: int) -> None:
    """For cross-entropy; with more features than rows, and fewer; each step takes it, and the settings tell it."""
    model, clean = wide(1.0, bias), noisy(count)
    tuned = mc.fine_tune(model, mc.LastLayerRetraining(epochs=1, batch_size=count), clean=clean)
    expected = 2.0 / second_moment(model, clean[0], bias)
    assert tuned.settings["lr"] == pytest.approx(expected, rel=1e-10) and expected < 30
    given = mc.LastLayerRetraining(epochs=1, batch_size=count, lr=tuned.settings["lr"])
    asked = mc.fine_tune(model, given, clean=clean)
    assert asked.history == tuned.history and asked.settings == tuned.settings
    assert torch.equal(asked.model.get_parameter("3.weight"), tuned.model.get_parameter("3.weight"))


def test_the_rate_is_the_sources_where_features_are_small_and_the_users_where_it_is_set() -> None:
    model, clean = wide(1e-3, bias=False), noisy(60)
    assert mc.fine_tune(model, mc.LastLayerRetraining(epochs=1), clean=clean).settings["lr"] == 30.0
    assert mc.fine_tune(wide(0.0, False), mc.LastLayerRetraining(epochs=1), clean=clean).settings["lr"] == 30.0
    assert mc.fine_tune(wide(50.0), mc.LastLayerRetraining(epochs=1, lr=30.0), clean=clean).settings["lr"] == 30.0


def test_large_features_are_learned_by_the_rule_and_not_at_the_sources_rate() -> None:
    """Logistic regression on features with a second moment in the thousands: the loss falls at every epoch."""
    model, clean = wide(50.0), noisy(200)
    ruled, source = (
        mc.fine_tune(model, mc.LastLayerRetraining(epochs=60, batch_size=200, lr=lr, momentum=0.0), clean=clean)
        for lr in (None, 30.0)
    )
    losses = [record["head"] for record in ruled.history]
    assert second_moment(model, clean[0]) > 1000
    assert all(later < earlier for earlier, later in pairwise(losses))  # 1 / L: it cannot rise
    assert losses[-1] < losses[0] < source.history[-1]["head"] and not ruled.notes and source.notes


def test_a_loss_of_larger_curvature_gets_a_smaller_rate() -> None:
    """Squared error of each output has the second derivative 2; twice of it has 4."""

    def squared(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - torch.nn.functional.one_hot(y, CLASSES)).square().sum(1)

    model, clean = wide(10.0), noisy(200)
    for loss, curvature in ((squared, 2.0), (lambda outputs, y: 2 * squared(outputs, y), 4.0)):
        tuned = mc.fine_tune(model, mc.LastLayerRetraining(epochs=20), clean=clean, loss=loss)
        assert tuned.settings["lr"] == pytest.approx(1 / (curvature * second_moment(model, clean[0])), rel=1e-9)
        assert tuned.history[-1]["head"] < tuned.history[0]["head"] and not tuned.notes


def test_the_settings_of_lpft_hold_the_rate_of_its_probe() -> None:
    model, clean = wide(1.0), noisy(60)
    method = mc.LPFT(probe=mc.LastLayerRetraining(epochs=1), tuning=mc.NaiveFineTuning(epochs=1))
    settings = mc.fine_tune(model, method, clean=clean).settings
    assert settings["probe"]["lr"] == pytest.approx(2.0 / second_moment(model, clean[0]), rel=1e-10)
    assert settings["tuning"]["lr"] == 0.01 and "lr" not in settings
    assert method.settings()["probe"]["lr"] is None
