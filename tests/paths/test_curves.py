"""Curves with control points: the closed forms, de Casteljau, reversal and stretches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mechconn as mc
from reference import de_casteljau

CURVES = [mc.BezierPath, mc.PolygonalPath]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
unit = st.floats(0, 1)
seeds = st.integers(0, 10_000)
bends = st.integers(0, 6)


def points(count: int, seed: int, dtype: torch.dtype = torch.float64) -> list[dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return [
        {name: torch.randn(3, generator=draw, dtype=torch.float64).to(dtype) for name in ("w", "b")}
        for _ in range(count)
    ]


def curve(kind: Any, bends: int, seed: int, dtype: torch.dtype = torch.float64) -> Any:
    a, *controls, b = points(bends + 2, seed, dtype)
    return kind(a, b, controls=controls)


def bits(params: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: tensor.view(torch.uint8).tolist() for name, tensor in params.items()}


def check_same(here: dict[str, Tensor], there: dict[str, Tensor], tolerance: float = 1e-14) -> None:
    """A few roundings of float64 numbers around 1."""
    assert list(here) == list(there)
    for name in here:
        torch.testing.assert_close(here[name], there[name], rtol=0, atol=tolerance)


# ---------------------------------------------------------------- every curve


@pytest.mark.parametrize("kind", CURVES)
@given(bends=bends, seed=seeds, dtype=st.sampled_from(DTYPES))
def test_ends_are_the_endpoints_bit_for_bit(kind: Any, bends: int, seed: int, dtype: torch.dtype) -> None:
    path = curve(kind, bends, seed, dtype)
    assert bits(path.at(0.0)) == bits(path.points[0])
    assert bits(path.at(1.0)) == bits(path.points[-1])


@pytest.mark.parametrize("kind", CURVES)
def test_ends_keep_the_sign_of_zero_and_the_largest_numbers(kind: Any) -> None:
    a, bend, b = ({"w": torch.tensor(values)} for values in ([-0.0, 3e38], [float("inf"), 1.0], [-0.0, -3e38]))
    path = kind(a, b, controls=[bend])
    assert [bits(path.at(t)) for t in (0.0, 1.0)] == [bits(a), bits(b)]


@pytest.mark.parametrize("kind", CURVES)
@given(bends=bends, seed=seeds, dtype=st.sampled_from(DTYPES), t=unit)
def test_every_point_is_exact_where_all_points_agree(
    kind: Any, bends: int, seed: int, dtype: torch.dtype, t: float
) -> None:
    a, *controls, b = points(bends + 2, seed, dtype)
    for point in (*controls, b):
        point["w"] = a["w"].clone()
    assert bits({"w": kind(a, b, controls=controls).at(t)["w"]}) == bits({"w": a["w"]})


@pytest.mark.parametrize("kind", CURVES)
@given(bends=bends, seed=seeds, t=unit)
def test_coefficients_are_the_weights_of_the_points(kind: Any, bends: int, seed: int, t: float) -> None:
    path = curve(kind, bends, seed)
    weights = path.coefficients(t)
    assert len(weights) == len(path.points) == bends + 2
    assert min(weights) >= 0.0
    assert sum(weights) == pytest.approx(1.0, rel=1e-14)
    for name, tensor in path.at(t).items():
        stacked = torch.stack([point[name] for point in path.points])
        torch.testing.assert_close(tensor, torch.tensor(weights, dtype=torch.float64) @ stacked, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", CURVES)
@given(seed=seeds, t=unit)
def test_without_control_points_it_is_the_line(kind: Any, seed: int, t: float) -> None:
    a, b = points(2, seed)
    check_same(kind(a, b, controls=[]).at(t), mc.LinearPath(a, b).at(t))


@pytest.mark.parametrize("kind", CURVES)
@given(bends=bends, seed=seeds, t=unit)
def test_control_points_spaced_evenly_on_the_line_give_the_line(kind: Any, bends: int, seed: int, t: float) -> None:
    """With one bend: the Bezier whose bend is the mean of the endpoints is the linear path."""
    line = mc.LinearPath(*points(2, seed))
    a, *controls, b = (line.at(s) for s in mc.path_grid(bends + 2))
    check_same(kind(a, b, controls=controls).at(t), line.at(t))


@pytest.mark.parametrize("kind", CURVES)
@given(bends=bends, seed=seeds, t=unit)
def test_swapping_all_points_mirrors_the_curve(kind: Any, bends: int, seed: int, t: float) -> None:
    a, *controls, b = points(bends + 2, seed)
    check_same(kind(b, a, controls=controls[::-1]).at(1 - t), kind(a, b, controls=controls).at(t))


@pytest.mark.parametrize("kind", CURVES)
def test_points_are_fresh_and_detached(kind: Any) -> None:
    a, bend, b = points(3, 0)
    path = kind(a, b, controls=[{name: tensor.requires_grad_() for name, tensor in bend.items()}])
    before = bits(path.at(0.5))
    for t in (0.0, 0.5, 1.0):
        for tensor in path.at(t).values():
            assert not tensor.requires_grad
            tensor.fill_(7.0)
    assert bits(path.at(0.5)) == before


# ---------------------------------------------------------------- each kind


@given(bends=bends, seed=seeds, t=unit)
def test_a_bezier_curve_is_de_casteljaus(bends: int, seed: int, t: float) -> None:
    path = curve(mc.BezierPath, bends, seed)
    check_same(path.at(t), de_casteljau(path.points, t))


@given(bends=bends, t=unit)
def test_a_bezier_curves_coefficients_are_bernsteins(bends: int, t: float) -> None:
    n = bends + 1
    expected = [math.comb(n, i) * (1 - t) ** (n - i) * t**i for i in range(n + 1)]
    assert curve(mc.BezierPath, bends, 0).coefficients(t) == pytest.approx(expected, rel=1e-13, abs=1e-300)


def test_thousands_of_control_points_are_no_matter() -> None:
    """The middle of a curve over the values 0 ... n is n / 2; C(n, n / 2) is beyond the largest float64."""
    a, *controls, b = ({"w": torch.tensor(float(i), dtype=torch.float64)} for i in range(1201))
    check_same(mc.BezierPath(a, b, controls=controls).at(0.5), {"w": torch.tensor(600.0, dtype=torch.float64)}, 1e-9)


@given(bends=bends, seed=seeds)
def test_a_polygon_passes_through_its_control_points(bends: int, seed: int) -> None:
    path = curve(mc.PolygonalPath, bends, seed)
    for t, vertex in zip(mc.path_grid(bends + 2), path.points, strict=True):
        check_same(path.at(t), vertex)


@given(bends=bends, seed=seeds, t=unit)
def test_a_polygon_is_straight_between_neighbours(bends: int, seed: int, t: float) -> None:
    path, segments = curve(mc.PolygonalPath, bends, seed), bends + 1
    first = min(math.floor(t * segments), bends)
    line = mc.LinearPath(path.points[first], path.points[first + 1])
    check_same(path.at(t), line.at(min(t * segments - first, 1.0)))


# ---------------------------------------------------------------- reversal and stretches


@pytest.mark.parametrize("kind", CURVES)
@given(seed=seeds, t=unit)
def test_a_reversed_path_runs_from_b_to_a_bit_for_bit(kind: Any, seed: int, t: float) -> None:
    path = curve(kind, 2, seed)
    back = path.reversed()
    assert bits(back.at(t)) == bits(path.at(1 - t))
    assert [bits(back.at(s)) for s in (0.0, 1.0)] == [bits(path.points[-1]), bits(path.points[0])]
    assert bits(back.reversed().at(t)) == bits(path.at(t))


@pytest.mark.parametrize("kind", CURVES)
@given(seed=seeds, t0=unit, t1=unit, t=unit)
def test_a_stretch_is_the_path_between_two_of_its_points(kind: Any, seed: int, t0: float, t1: float, t: float) -> None:
    path = curve(kind, 2, seed)
    if t0 == t1:
        return
    stretch = path.sub(t0, t1)
    assert [bits(stretch.at(s)) for s in (0.0, 1.0)] == [bits(path.at(t0)), bits(path.at(t1))]
    check_same(stretch.at(t), path.at(min((1 - t) * t0 + t * t1, 1.0)))


@given(seed=seeds, cut=st.floats(0.05, 0.95), t=unit)
def test_a_stretch_of_a_bezier_curve_is_the_curve_that_de_casteljau_cuts_off(seed: int, cut: float, t: float) -> None:
    """The points that de Casteljau's means at `cut` begin with are the control points of the curve up to there."""
    path = curve(mc.BezierPath, 2, seed)
    a, *controls, b = (de_casteljau(path.points[: i + 1], cut) for i in range(len(path.points)))
    check_same(path.sub(0.0, cut).at(t), mc.BezierPath(a, b, controls=controls).at(t))


def test_a_stretch_of_a_stretch_is_one_of_the_whole() -> None:
    path = mc.LinearPath(*points(2, 0))
    inner = path.sub(0.25, 0.75).sub(0.5, 1.0)
    check_same(inner.at(0.5), path.at(0.625))
    assert inner.describe() == {"path": "linear", "from": 0.5, "to": 0.75}
    assert path.reversed().describe() == {"path": "linear", "from": 1.0, "to": 0.0}


# ---------------------------------------------------------------- records and errors


def test_the_path_says_what_it_is_and_where_it_comes_from() -> None:
    assert curve(mc.BezierPath, 2, 0).describe() == {"path": "bezier", "bends": 2}
    assert curve(mc.PolygonalPath, 0, 0).describe() == {"path": "polygonal", "bends": 0}
    a, bend, b = points(3, 0)
    told = mc.BezierPath(a, b, controls=[bend], origin={"data": "mine"})
    assert told.describe() == {"path": "bezier", "bends": 1, "origin": {"data": "mine"}}


@pytest.mark.parametrize("kind", CURVES)
def test_all_differing_names_of_a_control_point_are_listed(kind: Any) -> None:
    a, bend, b = points(3, 0)
    with pytest.raises(ValueError) as caught:
        kind(a, b, controls=[bend, {"v": bend["w"], "u": bend["b"]}])
    assert str(caught.value) == "endpoint A and control point 1 do not match: missing w, b; unexpected v, u"


@pytest.mark.parametrize("kind", CURVES)
def test_all_differing_shapes_of_a_control_point_are_listed(kind: Any) -> None:
    a, bend, b = points(3, 0)
    with pytest.raises(ValueError) as caught:
        kind(a, b, controls=[{name: tensor[:2] for name, tensor in bend.items()}])
    assert str(caught.value) == (
        "endpoint A and control point 0 have different shapes or types: w float64[3] against float64[2], "
        "b float64[3] against float64[2]; both endpoints must be the same architecture"
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", CURVES)
def test_one_control_point_is_not_a_list_of_them(kind: Any) -> None:
    a, bend, b = points(3, 0)
    with pytest.raises(TypeError) as caught:
        kind(a, b, controls=bend)
    assert str(caught.value) == (
        "controls must be a list of control points, got one dict; put the point in a list, controls=[...]"
    )


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize("t", [-0.1, 1.0000001, float("nan")])
def test_t_lies_in_the_unit_interval(kind: Any, t: float) -> None:
    path = curve(kind, 1, 0)
    for ask in (path.at, path.coefficients, path.reversed().at):
        with pytest.raises(ValueError, match=rf"^t must lie in \[0, 1\], got {t!r}$"):
            ask(t)


def test_a_stretch_needs_two_ends() -> None:
    path = curve(mc.BezierPath, 1, 0)
    with pytest.raises(ValueError, match=r"^a stretch of a path needs two different ends, got t0 = t1 = 0.5$"):
        path.sub(0.5, 0.5)
    with pytest.raises(ValueError, match=r"^t1 must lie in \[0, 1\], got 1.5$"):
        path.sub(0.5, 1.5)
