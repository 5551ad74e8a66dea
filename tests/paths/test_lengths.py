"""Lengths of paths, and paths by length: closed forms, hand computation, and curves of a user's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import Params
from mechconn.paths import Path
from user_defined import SphericalPath
from zoo import build, mlp, norm_mlp, rows


def place(*xy: float) -> dict[str, Tensor]:
    """A point of a plane, one coordinate in each parameter."""
    return {name: torch.tensor([value], dtype=torch.float64) for name, value in zip("uv", xy, strict=True)}


PARABOLA = mc.BezierPath(place(0.0, 0.0), place(1.0, 1.0), [place(0.5, 0.0)])  # y = x^2, x = t


def parabola_length(x: float) -> float:
    return (2 * x * math.sqrt(1 + 4 * x * x) + math.asinh(2 * x)) / 4


def xy(path: Path, t: float) -> list[float]:
    return [float(tensor) for tensor in path.at(t).values()]


def test_a_line_and_a_polygon_have_the_lengths_of_their_segments() -> None:
    line = mc.LinearPath(place(0.0, 0.0), place(3.0, 4.0))
    assert line.lengths([0.0, 0.2, 1.0]) == (0.0, 1.0, 5.0)
    polygon = mc.PolygonalPath(place(0.0, 0.0), place(3.0, 4.0), [place(0.0, 4.0)])
    assert polygon.lengths([0.0, 0.25, 0.5, 0.75, 1.0]) == (0.0, 2.0, 4.0, 5.5, 7.0)
    assert xy(polygon.by_length(), 4 / 7) == pytest.approx([0.0, 4.0])
    assert xy(line.by_length(), 0.2) == xy(line, 0.2)


def test_a_bezier_curve_has_the_length_of_the_parabola() -> None:
    for t, length in zip((0.1, 0.5, 1.0), PARABOLA.lengths([0.1, 0.5, 1.0]), strict=True):
        assert length == pytest.approx(parabola_length(t), rel=1e-6)
    assert PARABOLA.lengths()[0] <= parabola_length(1.0)  # chords
    even = PARABOLA.by_length()
    for share in (0.2, 0.5, 0.9):
        assert parabola_length(xy(even, share)[0]) == pytest.approx(share * parabola_length(1.0), rel=1e-5)
    assert even.lengths([0.5]) == pytest.approx([parabola_length(1.0) / 2], rel=1e-6)


@given(st.lists(st.floats(-2, 2), min_size=8, max_size=8), st.floats(0.05, 0.95), st.floats(0.0, 1.0))
def test_stretches_of_a_curve_add_up(numbers: list[float], middle: float, t: float) -> None:
    points = [place(numbers[2 * i], numbers[2 * i + 1] + 9 * i) for i in range(4)]
    path = mc.BezierPath(points[0], points[3], points[1:3])
    (whole,) = path.lengths()
    parts = path.sub(0.0, middle).lengths()[0] + path.sub(middle, 1.0).lengths()[0]
    assert parts == pytest.approx(whole, rel=1e-9)
    assert path.reversed().lengths([t])[0] == pytest.approx(whole - path.lengths([1 - t])[0], abs=1e-9 * whole)


def test_a_curve_of_a_users_is_measured_by_chords() -> None:
    """A quarter of a circle of radius 2, which it runs through evenly."""
    layer = build(lambda: nn.Linear(2, 1, bias=False))
    a, b = (mc.with_parameters(layer, {"weight": torch.tensor([p]).double()}) for p in ((2.0, 0.0), (0.0, 2.0)))
    path = SphericalPath(a, b)
    assert path.lengths([0.0, 0.5, 1.0]) == pytest.approx([0.0, math.pi / 2, math.pi], rel=1e-4)
    for share in (0.25, 0.7):
        assert path.by_length().at(share)["weight"] == pytest.approx(path.at(share)["weight"], rel=1e-6)


def test_a_path_by_length_has_the_ends_bit_for_bit_and_is_evaluated_like_any_other() -> None:
    model, suite = build(norm_mlp), mc.Suite({"cue": rows(12)})
    a, b = (build(norm_mlp, seed) for seed in (1, 2))
    bend = {name: 3.0 * tensor for name, tensor in mc.parameters_of(build(norm_mlp, 3)).items()}
    path = mc.PolygonalPath.between(a, b, [bend])
    even = path.by_length()
    first, second = path.lengths([0.5, 1.0])
    share = first / second
    by_t, by_length = (
        mc.evaluate_path(model, own, suite, ts, norm=mc.InterpolateNorm())
        for own, ts in ((path, (0.0, 0.5, 1.0)), (even, (0.0, share, 1.0)))
    )
    assert by_length.loss["cue"] == pytest.approx(by_t.loss["cue"], rel=1e-9) and share != 0.5
    assert (by_length.loss["cue"][0], by_length.loss["cue"][-1]) == (by_t.loss["cue"][0], by_t.loss["cue"][-1])
    assert by_length.settings["by"] == "length" and by_length.saved == by_t.saved
    assert even.ends is path.ends and even.place(share) == pytest.approx(0.5) and even.moved == path.moved
    rise = by_length.loss["cue"][1] - (1 - share) * by_length.loss["cue"][0] - share * by_length.loss["cue"][2]
    assert by_length.barrier("cue").height == pytest.approx(max(rise, 0.0), rel=1e-9)  # the chord is by length too
    assert torch.equal(even.sub(0.0, 0.5).at(1.0)["0.weight"], even.at(0.5)["0.weight"])


@pytest.mark.parametrize("kink", [0.04, 0.23, 0.3])
def test_a_kink_between_chords_does_not_end_the_refinement(kink: float) -> None:
    """Two legs of length 1 at right angles: the sum of chords rises less, then more again."""

    class Kink(Path):
        def at(self, t: float) -> Params:
            return place(min(t / kink, 1.0), max(t - kink, 0.0) / (1.0 - kink))

        def describe(self) -> dict[str, str]:
            return {"path": "kink"}

    assert Kink().lengths() == pytest.approx([2.0], rel=3e-3)
    assert Kink().by_length().at(0.25)["u"] == pytest.approx(0.5, rel=5e-3)


def test_rounding_does_not_add_up() -> None:
    """Steps of a curve in bfloat16 that are smaller than its numbers' spacing."""

    class Rounded(Path):
        def at(self, t: float) -> Params:
            return {"w": (torch.tensor([[300.0, 0.0]]) + t * torch.tensor([[40.0, 40.0]])).bfloat16()}

        def describe(self) -> dict[str, str]:
            return {"path": "rounded"}

    assert Rounded().lengths() == pytest.approx([40 * math.sqrt(2)], rel=0.2)


@pytest.mark.usefixtures("unchecked")
def test_a_path_that_stays_has_no_length() -> None:
    point = mc.parameters_of(build(mlp))
    with pytest.raises(ValueError) as caught:
        mc.LinearPath(point, point).by_length()
    assert str(caught.value) == "the path has no length: all its points are the same; evaluate it by t, as it is"
    path = mc.LinearPath(point, point)
    assert mc.evaluate_path(build(mlp), path, mc.Suite({"cue": rows(4)}), 3).barrier("cue").height == 0.0
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\], got 1.5"):
        path.lengths([1.5])
