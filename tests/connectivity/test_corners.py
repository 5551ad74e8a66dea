"""Corners of the evaluation along paths: constant curves, stretches, data that change, nothing to judge by."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mechconn as mc
from mechconn.connectivity._barrier import compute_rises
from mechconn.core import isolate_rng
from mechconn.network import Network, read_buffers
from mechconn.network._inference import find_folds
from zoo import build, mlp, norm_mlp, rows, stay


@given(st.floats(-1e6, 1e6), st.integers(2, 40))
def test_a_constant_curve_rises_by_exactly_zero(value: float, points: int) -> None:
    grid = mc.path_grid(points)
    assert compute_rises(grid, [value] * points) == [0.0] * points


def test_a_model_is_connected_with_itself_by_the_interval_too() -> None:
    model, suite = build(mlp), mc.Suite({"cue": rows(9), "rand_cue": rows(9)})
    point = mc.parameters_of(model)
    profile = mc.evaluate_path(model, mc.LinearPath(point, point), suite, ts=7, keep_samples=True)
    assert profile.connection("cue").verdict == "connected"
    assert profile.connection("cue").by == "interval"
    assert profile.mechanistically_connected()
    assert mc.evaluate_blocks(model, point, point, suite, ts=4, keep_samples=True).plot() is not None


def test_two_points_have_no_rise_between_them_to_judge_by() -> None:
    model, suite = build(mlp), mc.Suite({"cue": rows(9), "rand_cue": rows(9)})
    point = mc.parameters_of(model)
    for kept in (True, False):
        profile = mc.evaluate_path(model, mc.LinearPath(point, point), suite, ts=2, keep_samples=kept)
        assert profile.barrier("cue").interval is None
        assert (profile.connection("cue").by, profile.connection("cue").verdict) == ("nothing", "undetermined")
        assert profile.mechanistic_connection() == "undetermined"


def test_one_row_settles_nothing() -> None:
    a, b = mc.parameters_of(build(mlp)), mc.parameters_of(build(mlp, 1))
    suite = mc.Suite({"cue": rows(1), "rand_cue": rows(1, 2)})
    profile = mc.evaluate_path(build(mlp), mc.LinearPath(a, b), suite, ts=5, keep_samples=True)
    assert (profile.connection("cue").by, profile.connection("cue").verdict) == ("nothing", "undetermined")
    assert profile.judge().verdict == profile.mechanistic_connection() == "undetermined"


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ((1.0, math.inf, 1.0), "not connected"),
        ((1.0, math.nan, 1.0), "undetermined"),
        ((1.0, -math.inf, 1.0), "undetermined"),
        ((math.inf, 2.0, 1.0), "undetermined"),
        ((math.inf, math.inf, math.inf), "undetermined"),
        ((1.0, 9.0, math.nan), "undetermined"),
    ],
)
def test_what_is_not_finite_is_a_barrier_between_finite_ends_alone(losses: tuple[float, ...], verdict: str) -> None:
    """The chord of an infinite end is infinite: nothing lies above it."""
    profile = mc.Profile((0.0, 0.5, 1.0), {"cue": losses}, {}, {"cue": 3}, "cue", (), {})
    assert profile.judge(tolerance=0.1).splits["cue"] == verdict
    assert "cue" not in profile.to_dict()["barriers"]["loss"]
    with pytest.raises(ValueError, match="so the path has no barrier there"):
        profile.barrier("cue")
    with pytest.raises(ValueError, match="so the path has no barrier there"):
        profile.endpoint_minus_minimum("cue")


def test_the_table_has_the_graded_gap_beside_the_barrier() -> None:
    profile = mc.Profile((0.0, 0.5, 1.0), {"cue": (3.0, 1.0, 2.0)}, {}, {"cue": 3}, "cue", (), {})
    (table,) = profile.tables()
    (row,) = table.cells
    assert table.headings[3].text == "ends less minimum" and (row[1].text, row[3].text) == ("0.000", "1.500")


def test_nothing_is_mechanistically_connected_without_interventions() -> None:
    model, point = build(mlp), mc.parameters_of(build(mlp))
    profile = mc.evaluate_path(model, mc.LinearPath(point, point), mc.Suite({"cue": rows(9)}), ts=3)
    with pytest.raises(ValueError, match=r"^mechanistic connectivity needs interventions, but the suite has none; "):
        profile.mechanistically_connected()


def test_interpolated_statistics_follow_the_path_when_it_is_reversed() -> None:
    a, b = build(norm_mlp), build(norm_mlp, seed=1)
    for model, shift in ((a, 0.0), (b, 1.0)):
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.add_(shift)
    norm, path, suite = mc.InterpolateNorm(), mc.LinearPath.between(a, b), mc.Suite({"cue": rows(9)})
    there = mc.evaluate_path(a, path, suite, ts=5, norm=norm).loss["cue"]
    back = mc.evaluate_path(a, path.reversed(), suite, ts=5, norm=norm).loss["cue"]
    assert back == pytest.approx(tuple(reversed(there)), rel=1e-9)
    half = mc.evaluate_path(a, path.sub(0.0, 0.5), suite, ts=3, norm=norm).loss["cue"]
    assert half == pytest.approx(there[:3], rel=1e-9)


class Growing:
    """Data that give more rows at every reading."""

    def __init__(self) -> None:
        self.readings = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.readings += 1
        yield rows(4 * self.readings)


def test_data_that_change_between_points_are_refused() -> None:
    model, point = build(mlp), mc.parameters_of(build(mlp))
    with pytest.raises(ValueError, match=r"^split 'cue' gave another number of rows at t = 1 than before; "):
        mc.evaluate_path(model, mc.LinearPath(point, point), mc.Suite({"cue": Growing()}), ts=3)


@pytest.mark.parametrize("name", ["t", "samples", "split"])
def test_a_metric_may_not_take_the_name_of_a_column(name: str) -> None:
    model, point = build(mlp), mc.parameters_of(build(mlp))
    with pytest.raises(ValueError, match=rf"^metrics: '{name}' is the name of a column already; "):
        mc.evaluate_path(
            model,
            mc.LinearPath(point, point),
            mc.Suite({"cue": rows(4)}),
            metrics={name: lambda outputs, y: outputs[:, 0]},
        )


class ByKeyword(nn.Module):
    """Two BatchNorms that share their weights, one of them called with its input by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm_one = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.two, self.norm_two = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.norm_two.weight = self.norm_one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_two(input=self.two(self.norm_one(self.one(x)).relu()))


def test_shared_norm_weights_and_inputs_by_keyword() -> None:
    with isolate_rng(0):
        model = ByKeyword().double()
        x = torch.randn(12, 3, dtype=torch.float64)
    assert find_folds(Network(model), mc.parameters_of(model), read_buffers(model), x) == []
    found = mc.Reestimate((x, torch.zeros(12))).point(Network(model), stay(model), 0.5).buffers
    with torch.no_grad():
        assert torch.allclose(found["norm_one.running_mean"], model.one(x).mean(0), rtol=1e-12)
