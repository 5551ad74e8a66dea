"""Accuracy and loss along the strength of an intervention."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.interventions import BinColumn, SwapColumn
from mechconn.stats import clopper_pearson


class Sign(nn.Module):
    """Class 1 where the first column is positive."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(x[:, 0]), x[:, 0]], 1)


def two_values(rows: int = 1000) -> tuple[Tensor, Tensor]:
    """Half of the rows hold 1.5, half -0.5: one that moves toward the other value changes sign at 3/4, or 1/4."""
    x = torch.tensor([[1.5], [-0.5]], dtype=torch.float64).repeat(rows // 2, 1)
    return x, (x[:, 0] > 0).long()


def test_the_curve_is_the_share_of_rows_that_changed_sign() -> None:
    x, y = two_values()
    found = mc.measure_dose_response(Sign(), (x, y), SwapColumn(columns=0), [0.2, 0.3, 0.7, 0.8, 1.0], seed=2)
    other = SwapColumn(columns=0)((x, y), seed=2).inputs(torch.arange(1000))[:, 0]
    crossed = ((x[:, 0] < 0) & (other > 0)).double().mean(), ((x[:, 0] > 0) & (other < 0)).double().mean()
    expected = [0.0, 0.0, float(crossed[0]), float(crossed[0]), float(sum(crossed)), float(sum(crossed))]
    assert [dose.strength for dose in found] == [0.0, 0.2, 0.3, 0.7, 0.8, 1.0]
    for dose, share in zip(found, expected, strict=True):
        assert dose.means["accuracy"] == pytest.approx(1.0 - share, abs=1e-12)
    assert (found.within, found.reached) == (0.2, 0.3)
    assert 0.2 < (found.estimate or 0.0) < 0.3
    size = float(crossed[0])
    assert found.estimate == pytest.approx(0.2 + 0.1 * 0.05 / size)


def test_intervals_are_exact_at_the_level_shared_by_all_strengths() -> None:
    swap = SwapColumn(columns=0, donors=two_values(2000))
    found = mc.measure_dose_response(Sign(), two_values(200), swap, 5)
    for dose in found:
        right = round(200 * (dose.means["accuracy"] or 0.0))
        assert dose.intervals["accuracy"] == pytest.approx(clopper_pearson(right, 200, 1 - 0.05 / 5))
    alone = mc.measure_invariance(Sign(), mc.intervened(two_values(200), {"whole": swap})).effects["whole"]
    wide = found[-1].effects["accuracy"].interval
    assert wide is not None and wide[1] - wide[0] > alone.interval[1] - alone.interval[0]
    assert found.paired and found.confidence == 0.95 and found.clusters is None


def test_rows_that_exchange_are_counted_in_groups() -> None:
    found = mc.measure_dose_response(Sign(), two_values(200), SwapColumn(columns=0), 3)
    assert found.clusters == 100 and "on 200 rows in 100 clusters" in str(found)


def test_the_loss_is_measured_beside_the_accuracy() -> None:
    x, y = two_values(400)
    found = mc.measure_dose_response(Sign(), (x, y), SwapColumn(columns=0), 3, on="loss", margin=0.1)
    moved = SwapColumn(columns=0)((x, y), 0, 0.5).inputs(torch.arange(400))
    expected = nn.functional.cross_entropy(Sign()(moved), y)
    assert found[1].means["loss"] == pytest.approx(float(expected))
    before = nn.functional.cross_entropy(Sign()(x), y)
    assert found[1].effects["loss"].effect == pytest.approx(float(expected - before))
    assert found.on == "loss" and "nats" in found.describe_reached()


def test_nothing_is_reached_where_nothing_is_read() -> None:
    x, y = two_values(1000)
    wide = torch.cat([x, torch.randn(1000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)], 1)
    found = mc.measure_dose_response(Sign(), (wide, y), {"name": "swap-column", "columns": 1}, 4)
    assert (found.within, found.reached, found.estimate) == (1.0, None, None)
    assert found.describe_reached() == "the effect is within the margin of 5 points at every strength up to 1"
    few = mc.measure_dose_response(Sign(), (wide[:12], y[:12]), {"name": "swap-column", "columns": 1}, 4)
    assert (few.within, few.reached) == (0.0, None)
    assert "more rows would tell" in str(few)


def test_bins_by_name_and_a_users_intervention_with_a_strength() -> None:
    class Shift(mc.GradedIntervention):
        """The first column moves down by the strength."""

        def change(self, x: Tensor, strength: Tensor, draws: mc.Draws) -> Tensor:
            return x - strength.to(x)[:, None]

    x, y = two_values()
    found = mc.measure_dose_response(Sign(), (x + 0.0, y), Shift(), [0.5, 1.0])
    assert found.intervention == "Shift" and [dose.means["accuracy"] for dose in found] == [1.0, 1.0, 1.0]
    coarse = mc.measure_dose_response(Sign(), (x, y), BinColumn(columns=0, bins=1), 3)
    assert coarse.intervention == "bin-column"
    assert coarse[2].means["accuracy"] == 0.5  # all rows hold the mean, 0.5: class 1


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "one strength": ({"strengths": 1}, "strengths must be two or more, 0 and 1 among them, got 1"),
    "descending": ({"strengths": [0.5, 0.2]}, "strengths must ascend in (0, 1], got [0.5, 0.2]"),
    "above 1": ({"strengths": [0.5, 2.0]}, "strengths must lie in [0, 1]"),
    "zero alone": ({"strengths": [0.0]}, "strengths must ascend in (0, 1], got [0.0]"),
    "a function": ({"intervention": lambda x, draws: x}, "is a function, which has no strength"),
    "every column": ({"intervention": "swap-column"}, "a dose-response is of one intervention, got swap-column 0"),
    "an unknown name": ({"intervention": "blurr"}, "must be one of"),
    "a strength of its own": (
        {"intervention": SwapColumn(columns=0, strength=0.5)},
        "a dose-response sets the strength itself, got strength=0.5 of swap-column; leave it out",
    ),
    "a margin of one": ({"margin": 1.0}, "margin must be below 1 on accuracy"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_in_one_line(name: str) -> None:
    given, text = WRONG[name]
    x, y = two_values(20)
    arguments: dict[str, Any] = {"intervention": SwapColumn(columns=0), "strengths": 3, **given}
    with pytest.raises((ValueError, TypeError)) as caught:
        mc.measure_dose_response(Sign(), (x.repeat(1, 2), y), **arguments)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_an_infinite_loss_is_a_gap_with_its_reason() -> None:
    class Certain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 0, torch.tensor([0.0, math.inf]), torch.tensor([0.0, -1.0]))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.where(outputs[:, 1].isinf(), torch.tensor(math.inf), outputs[:, 1] * 0.0 + 1.0)

    x = torch.full((40, 1), -1.0)
    x[1::2] = -0.5

    class Raise(mc.GradedIntervention):
        def change(self, x: Tensor, strength: Tensor, draws: mc.Draws) -> Tensor:
            return x + strength.to(x)[:, None]

    y = torch.arange(40) % 2
    found = mc.measure_dose_response(
        Certain(), (x, y), Raise(), [0.25, 1.0], loss=loss, metrics={"one": lambda o, t: t + 0.0}, on="one"
    )
    assert found[2].means["loss"] is None and "loss" not in found[2].effects
    assert any("has no finite mean" in note for note in found.notes)
    assert "not finite" in str(found)
