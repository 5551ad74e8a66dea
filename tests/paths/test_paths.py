"""Paths in weight space: t = 0 is A and t = 1 is B, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mechconn as mc

DTYPES = [torch.float64, torch.float32, torch.bfloat16]
unit = st.floats(0, 1)


def point(width: int, seed: int, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    w = scale * torch.randn(width, width, generator=draw, dtype=torch.float64)
    b = scale * torch.randn(width, generator=draw, dtype=torch.float64)
    return {"w": w.to(dtype), "b": b.to(dtype)}


def bits(params: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: tensor.contiguous().view(torch.uint8).flatten().tolist() for name, tensor in params.items()}


@given(width=st.integers(1, 9), seed=st.integers(0, 10_000), dtype=st.sampled_from(DTYPES), scale=st.integers(-30, 30))
def test_ends_are_the_endpoints_bit_for_bit(width: int, seed: int, dtype: torch.dtype, scale: int) -> None:
    a, b = point(width, seed, dtype, 10.0**scale), point(width, seed + 1, dtype, 10.0**-scale)
    path = mc.LinearPath(a, b)
    assert bits(path.at(0.0)) == bits(a)
    assert bits(path.at(1.0)) == bits(b)


def test_ends_keep_the_sign_of_zero_and_the_largest_numbers() -> None:
    a, b = {"w": torch.tensor([-0.0, 3e38])}, {"w": torch.tensor([1.0, -3e38])}
    path = mc.LinearPath(a, b)
    assert bits(path.at(0.0)) == bits(a)
    assert bits(path.at(1.0)) == bits(b)


@given(width=st.integers(1, 9), seed=st.integers(0, 10_000), dtype=st.sampled_from(DTYPES), t=unit)
def test_every_point_is_exact_where_the_endpoints_agree(width: int, seed: int, dtype: torch.dtype, t: float) -> None:
    a, b = point(width, seed, dtype), point(width, seed + 1, dtype)
    b["w"][0] = a["w"][0]
    b["b"] = a["b"].clone()
    here = mc.LinearPath(a, b).at(t)
    assert torch.equal(here["w"][0], a["w"][0])
    assert torch.equal(here["b"], a["b"])


@given(width=st.integers(1, 9), seed=st.integers(0, 10_000), t=unit)
def test_between_the_ends_it_is_the_weighted_mean(width: int, seed: int, t: float) -> None:
    a, b = point(width, seed), point(width, seed + 1)
    here, back = mc.LinearPath(a, b).at(t), mc.LinearPath(b, a).at(1 - t)
    for name in a:
        # A few roundings of numbers around 1.
        torch.testing.assert_close(here[name], (1 - t) * a[name] + t * b[name], rtol=0, atol=4e-15)
        torch.testing.assert_close(here[name], back[name], rtol=0, atol=4e-15)


def test_points_are_fresh_and_detached() -> None:
    a, b = point(3, 0), point(3, 1)
    before = bits(a)
    path = mc.LinearPath({name: tensor.requires_grad_() for name, tensor in a.items()}, b)
    for t in (0.0, 0.5, 1.0):
        here = path.at(t)
        assert not any(tensor.requires_grad for tensor in here.values())
        for tensor in here.values():
            tensor.fill_(7.0)
    assert bits({name: tensor.detach() for name, tensor in a.items()}) == before
    assert torch.equal(path.at(1.0)["w"], point(3, 1)["w"])


def test_the_path_says_what_it_is() -> None:
    assert mc.LinearPath(point(2, 0), point(2, 1)).describe() == {"path": "linear"}


@pytest.mark.parametrize("t", [-0.1, 1.0000001, float("nan")])
def test_t_lies_in_the_unit_interval(t: float) -> None:
    with pytest.raises(ValueError, match=rf"^t must lie in \[0, 1\], got {t!r}$"):
        mc.LinearPath(point(2, 0), point(2, 1)).at(t)


def test_all_differing_names_are_listed() -> None:
    a, b = point(2, 0), point(2, 1)
    b = {"v": b["w"], "u": b["b"]}
    with pytest.raises(ValueError) as caught:
        mc.LinearPath(a, b)
    assert str(caught.value) == "endpoint A and endpoint B do not match: missing w, b; unexpected v, u"


def test_all_differing_shapes_and_types_are_listed() -> None:
    a, b = point(2, 0), point(3, 1)
    b["b"] = point(2, 0, torch.float32)["b"]
    with pytest.raises(ValueError) as caught:
        mc.LinearPath(a, b)
    assert str(caught.value) == (
        "endpoint A and endpoint B have different shapes or types: w float64[2, 2] against float64[3, 3], "
        "b float64[2] against float32[2]; both endpoints must be the same architecture"
    )


@given(points=st.integers(2, 500))
def test_a_grid_runs_from_0_to_1_and_never_past_it(points: int) -> None:
    grid = mc.path_grid(points)
    assert (len(grid), grid[0], grid[-1]) == (points, 0.0, 1.0)
    assert all(t == i / (points - 1) for i, t in enumerate(grid))


def test_a_grid_holds_its_tenths_exactly() -> None:
    assert mc.path_grid() == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@pytest.mark.parametrize("points", [1, 0, -3, True])
def test_a_grid_needs_two_points(points: int) -> None:
    with pytest.raises(ValueError, match=rf"^a path needs a grid of at least 2 points, got {points!r}$"):
        mc.path_grid(points)
