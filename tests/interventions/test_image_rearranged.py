"""Patches that change places, and mirror images: which pixels go where."""

from __future__ import annotations

import torch
from torch import Tensor

from mechconn.interventions import Flip, ImageIntervention, PatchShuffle


def draw_images(rows: int = 6, channels: int = 3, height: int = 8, width: int = 12) -> Tensor:
    return torch.rand(rows, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def show(intervention: ImageIntervention, x: Tensor, strength: float | None = None, seed: int = 0) -> Tensor:
    data = x, torch.zeros(len(x), dtype=torch.int64)
    return intervention(data, seed, strength).inputs(torch.arange(len(x)))


def cut_cells(x: Tensor, grid: int) -> Tensor:
    """The cells of each image, row by row, [n, cells, channels h w]."""
    n, channels, height, width = x.shape
    cells = x.view(n, channels, grid, height // grid, grid, width // grid).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(n, grid * grid, -1)


def test_the_same_cells_in_another_order() -> None:
    x = draw_images(rows=40)
    before, after = cut_cells(x, 4), cut_cells(show(PatchShuffle(4), x), 4)
    for row in range(40):
        found = {tuple(cell) for cell in after[row].tolist()}
        assert found == {tuple(cell) for cell in before[row].tolist()} and len(found) == 16
    assert not torch.equal(before, after)


def test_every_order_is_drawn_alike() -> None:
    """Four cells: where the first comes to lie, and what the last place shows."""
    rows = 4000
    x = (torch.arange(4.0) / 4).view(1, 1, 2, 2).repeat(rows, 1, 1, 1)
    shown = show(PatchShuffle(2), x).flatten(1)
    for places in ((shown == 0).int().argmax(1), (shown[:, 3] * 4).long()):
        # Five standard deviations of Binomial(4000, 1/4).
        assert int((places.bincount(minlength=4) - 1000).abs().max()) < 5 * (4000 * 3 / 16) ** 0.5


def test_a_larger_strength_moves_more_cells_and_the_others_stay() -> None:
    x = draw_images(rows=300)
    moved = {}
    for strength in (0.3, 0.7, 1.0):
        moved[strength] = (cut_cells(show(PatchShuffle(4), x, strength), 4) != cut_cells(x, 4)).any(2)
    shares = [float(part.double().mean()) for part in moved.values()]
    # Of m chosen cells one stays on average: (16 s - 1) / 16, but for rows where none is chosen.
    for share, strength in zip(shares, moved, strict=True):
        assert abs(share - (16 * strength - 1) / 16) < 0.03


def test_pixels_beyond_the_grid_stay() -> None:
    """Cells of 2 x 4 pixels on 7 x 13: the last row and the last column belong to none."""
    x = draw_images(rows=30, height=7, width=13)
    shown = show(PatchShuffle(3), x)
    assert torch.equal(shown[:, :, 6], x[:, :, 6]) and torch.equal(shown[..., 12], x[..., 12])
    inner, before = shown[:, :, :6, :12], x[:, :, :6, :12]
    assert torch.equal(inner.flatten(1).sort().values, before.flatten(1).sort().values)
    assert not torch.equal(inner, before)


def test_a_flip_mirrors_and_twice_is_none() -> None:
    x = draw_images()
    for axis, dim in (("horizontal", 3), ("vertical", 2)):
        flipped = show(Flip(axis), x)
        assert torch.equal(flipped, x.flip(dim))
        assert torch.equal(show(Flip(axis), flipped), x)


def test_the_strength_of_a_flip_is_the_share_of_rows() -> None:
    x = torch.linspace(-1, 1, 4).view(1, 1, 1, 4).repeat(2000, 1, 1, 1)
    flipped = {s: (show(Flip(), x, s) != x).flatten(1).any(1) for s in (0.25, 0.5)}
    for strength, rows in flipped.items():
        # Five standard deviations of Binomial(2000, s).
        assert abs(int(rows.sum()) - 2000 * strength) < 5 * (2000 * strength * (1 - strength)) ** 0.5
    assert bool((flipped[0.5] | ~flipped[0.25]).all())
