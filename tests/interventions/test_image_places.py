"""Patches, frames and hidden cells: which pixels, how opaque, and which cells at which strength."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mechconn.interventions import Frame, ImageIntervention, Occlude, Patch


def draw_images(rows: int = 6, channels: int = 3, height: int = 10, width: int = 14, seed: int = 0) -> Tensor:
    return torch.rand(rows, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def show(intervention: ImageIntervention, x: Tensor, strength: float | None = None, seed: int = 0) -> Tensor:
    data = x, torch.zeros(len(x), dtype=torch.int64)
    return intervention(data, seed, strength).inputs(torch.arange(len(x)))


CORNERS = {
    "top-left": (0, 0),
    "top": (0, 5),
    "top-right": (0, 10),
    "left": (3, 0),
    "centre": (3, 5),
    "right": (3, 10),
    "bottom-left": (6, 0),
    "bottom": (6, 5),
    "bottom-right": (6, 10),
}


@pytest.mark.parametrize("place", CORNERS)
def test_a_patch_covers_its_place_and_nothing_else(place: str) -> None:
    """Size 4 on 10 x 14: what is left along the sides is 6 and 10."""
    x, (top, left) = draw_images(), CORNERS[place]
    expected = x.clone()
    expected[:, :, top : top + 4, left : left + 4] = torch.tensor([0.5, -1.0, 0.25])[:, None, None]
    patch = Patch(place, size=4, colour=(0.5, -1.0, 0.25))
    assert torch.equal(show(patch, x), expected)
    assert torch.equal(show(Patch((top, left), size=4, colour=(0.5, -1.0, 0.25)), x), expected)


def test_a_patch_is_as_opaque_as_it_is_strong() -> None:
    x = draw_images()
    shown = show(Patch("centre", size=4, colour=1.0), x, 0.25)
    torch.testing.assert_close(shown[:, :, 3:7, 5:9], 0.75 * x[:, :, 3:7, 5:9] + 0.25)
    assert torch.equal(shown[:, :, :3], x[:, :, :3])


def test_a_random_patch_lies_anywhere_alike() -> None:
    """Of size 3 on 5 x 4: three rows by two columns, each drawn by a sixth of the rows."""
    rows = 6000
    shown = show(Patch("random", size=3, colour=1.0), torch.zeros(rows, 1, 5, 4))
    assert bool((shown.sum((1, 2, 3)) == 9).all())
    first = shown.flatten(1).argmax(1)
    counts = first.bincount(minlength=20)
    assert counts.nonzero().flatten().tolist() == [0, 1, 4, 5, 8, 9]
    # Five standard deviations of Binomial(6000, 1/6).
    assert int((counts[counts > 0] - 1000).abs().max()) < 5 * (6000 * 5 / 36) ** 0.5


def test_sizes_that_are_not_given_follow_the_shorter_side() -> None:
    x = torch.zeros(1, 1, 10, 14)
    assert int(show(Patch(colour=1.0), x).sum()) == 3 * 3  # a quarter of 10, rounded up
    assert int(show(Frame(colour=1.0), x).sum()) == 10 * 14 - 6 * 10  # an eighth of 10, rounded up


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_frame_covers_the_borders(width: int) -> None:
    x = draw_images()
    expected = torch.full_like(x, -0.5)
    expected[:, :, width:-width, width:-width] = x[:, :, width:-width, width:-width]
    assert torch.equal(show(Frame(width, colour=-0.5), x), expected)
    half = show(Frame(width, colour=-0.5), x, 0.5)
    torch.testing.assert_close(half, (x + expected) / 2, rtol=0, atol=1e-6)


def test_cells_are_hidden_in_about_the_share_and_a_larger_strength_adds_some() -> None:
    rows, grid = 2000, 4
    occlude = Occlude(grid, share=0.5, colour=1.0)
    before = torch.zeros(rows, 2, 8, 8)
    cells = {s: show(occlude, before, s)[:, 0, ::2, ::2] == 1 for s in (0.25, 0.5, 1.0)}
    for strength, hidden in cells.items():
        expected, count = strength * 0.5, rows * grid**2
        # Five standard deviations of Binomial(32000, s / 2).
        assert abs(int(hidden.sum()) - count * expected) < 5 * (count * expected * (1 - expected)) ** 0.5
    assert bool((cells[0.5] | ~cells[0.25]).all()) and bool((cells[1.0] | ~cells[0.5]).all())
    whole = show(occlude, before, 1.0)
    blocks = whole.view(rows, 2, 4, 2, 4, 2)
    assert torch.equal(blocks.amax((1, 3, 5)), blocks.amin((1, 3, 5)))  # a cell is hidden whole, in all channels


def test_cells_of_a_grid_that_does_not_divide_the_sides_differ_by_a_pixel() -> None:
    """Three cells on 7 pixels: 0 0 0 1 1 2 2, by floor(3 i / 7)."""
    shown = show(Occlude(3, share=0.5, colour=1.0), torch.zeros(50, 1, 7, 7))[:, 0]
    cells = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    corners = torch.tensor([0, 3, 5])
    assert torch.equal(shown, shown[:, corners][:, :, corners][:, cells][:, :, cells])
    assert {0.0, 1.0} == set(shown.unique().tolist())
