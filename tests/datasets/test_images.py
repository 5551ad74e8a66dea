"""Labelled images in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechconn.datasets import ImageSet, to_bytes


def image_set(rows: int = 20) -> ImageSet:
    x = (torch.arange(rows) * 3 % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(rows, 1, 2, 2).contiguous()
    return ImageSet(x, torch.arange(rows) % 3, ("a", "b", "c"))


def test_bytes_are_scaled_to_the_unit_range_and_back() -> None:
    x = torch.arange(256).to(torch.uint8).view(256, 1, 1, 1)
    data = ImageSet(x, torch.zeros(256).long(), ("a",))
    scaled = data.inputs(torch.arange(256))
    assert (float(scaled[0]), float(scaled[255])) == (-1.0, 1.0)
    # float32: two roundings of numbers below 2.
    torch.testing.assert_close(scaled.flatten(), torch.arange(256) / 127.5 - 1, rtol=0, atol=3e-7)
    assert torch.equal(to_bytes(scaled), x)
    assert torch.equal(to_bytes(torch.tensor([[[[-9.0, 9.0]]]])), torch.tensor([[[[0, 255]]]], dtype=torch.uint8))


@given(held_out=st.integers(1, 19), seed=st.integers(0, 1000))
def test_a_split_deals_every_row_once(held_out: int, seed: int) -> None:
    rest, held = image_set().split(held_out, seed)
    assert (len(rest), len(held)) == (20 - held_out, held_out)
    values = [(part.x[:, 0, 0, 0] // 3).tolist() for part in (rest, held)]
    assert sorted(values[0] + values[1]) == list(range(20))
    for part, rows in zip((rest, held), values, strict=True):
        assert rows == sorted(rows)
        assert part.y.tolist() == [row % 3 for row in rows]
    again = image_set().split(held_out, seed)[1]
    assert torch.equal(again.x, held.x)


def test_splits_differ_by_seed() -> None:
    assert not torch.equal(image_set().split(10, 0)[1].x, image_set().split(10, 1)[1].x)


def test_a_split_must_leave_something() -> None:
    with pytest.raises(ValueError, match=r"^held-out part: asked for 20 samples, but only 19 exist; ask for fewer$"):
        image_set().split(20)


NEEDED = "images must be uint8 of shape [N, C, H, W]"
PIXELS = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("x", "y", "error", "text"),
    [
        (PIXELS.float(), [0, 1, 0], TypeError, f"{NEEDED}, got torch.float32 [3, 3, 4, 4]"),
        (PIXELS[0], [0, 1, 0], TypeError, f"{NEEDED}, got torch.uint8 [3, 4, 4]"),
        (PIXELS, [0.0, 1.0, 0.0], TypeError, "labels must be int64 of shape [N], got torch.float32 [3]"),
        (PIXELS, [[0], [1], [0]], TypeError, "labels must be int64 of shape [N], got torch.int64 [3, 1]"),
        (PIXELS, [0, 1], ValueError, "ImageSet: 3 inputs but 2 targets; every row needs one of each"),
        (PIXELS, [0, 1, 2], ValueError, "row 2 has label 2, but there are 2 classes; labels must lie in 0 ... 1"),
        (PIXELS, [0, -1, 2], ValueError, "row 1 has label -1, but there are 2 classes; labels must lie in 0 ... 1"),
    ],
)  # fmt: skip
def test_what_is_no_image_set(x: torch.Tensor, y: list[Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        ImageSet(x, torch.tensor(y), ("a", "b"))
    assert str(caught.value) == text
