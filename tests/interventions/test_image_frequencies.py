"""Blur, low-pass, high-pass and resolution: against scipy, numpy's Fourier transform, and sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from mechconn.interventions import Blur, HighPass, ImageIntervention, LowPass, Resolution

SIZES = [(8, 8), (7, 12), (15, 9)]


def draw_images(size: tuple[int, int], rows: int = 4, channels: int = 2, scale: float = 1.0) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return scale * (torch.rand(rows, channels, *size, generator=draw, dtype=torch.float64) * 2 - 1)


def show(intervention: ImageIntervention, x: Tensor, strength: float | None = None) -> Tensor:
    data = x, torch.zeros(len(x), dtype=torch.int64)
    return intervention(data, 0, strength).inputs(torch.arange(len(x)))


# ---------------------------------------------------------------- blur


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5, 20.0])
def test_a_blur_is_scipys(size: tuple[int, int], sigma: float) -> None:
    """Mirrored at the borders, edge included; scipy's kernel is cut where ours is, at six deviations and more."""
    x = draw_images(size)
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="reflect", truncate=8)
    torch.testing.assert_close(show(Blur(sigma), x), torch.from_numpy(expected), rtol=0, atol=1e-7)


def test_the_deviation_grows_with_the_strength_row_by_row() -> None:
    x = draw_images((9, 11), rows=3)
    scenes = Blur(2.0, strength=(0.0, 1.0))((x, torch.zeros(3).long()), seed=1)
    strengths = scenes.latents[0][1][:, 0].float().double()
    for row, strength in enumerate(strengths.tolist()):
        sigma = (0, 2 * strength, 2 * strength)
        expected = ndimage.gaussian_filter(x[row].numpy(), sigma, mode="reflect", truncate=12)
        found = scenes.inputs(torch.tensor([row]))[0]
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-6)
    assert len(strengths.unique()) == 3


def test_constant_images_stay_under_a_blur() -> None:
    x = torch.full((2, 3, 6, 5), 0.7)
    torch.testing.assert_close(show(Blur(1.5), x), x, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- low-pass and high-pass


def filter_by_hand(x: Tensor, cut: float) -> np.ndarray:
    """The low frequencies of images by numpy: those with |f_y| and |f_x| up to the cut, in cycles per shorter side."""
    height, width = x.shape[2:]
    shorter = min(height, width)
    low = (np.abs(np.fft.fftfreq(height)) * shorter <= cut + 1e-9)[:, None] & (
        np.abs(np.fft.fftfreq(width)) * shorter <= cut + 1e-9
    )
    return np.fft.ifft2(np.fft.fft2(x.numpy()) * low).real


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", [0.5, 1.0, 2.0, 3.2])
def test_filters_are_those_of_the_fourier_transform(size: tuple[int, int], cut: float) -> None:
    x = draw_images(size, scale=0.1)  # so small that nothing is clipped
    low, mean = filter_by_hand(x, cut), x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(show(LowPass(cut), x), torch.from_numpy(low), rtol=0, atol=1e-12)
    torch.testing.assert_close(show(HighPass(cut), x), x - torch.from_numpy(low) + mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(show(LowPass(cut), x) + show(HighPass(cut), x), x + mean, rtol=0, atol=1e-12)
    at_half = show(LowPass(cut), x, 0.5)
    torch.testing.assert_close(at_half, (x + torch.from_numpy(low)) / 2, rtol=0, atol=1e-8)  # strengths are float32


def test_filters_share_the_energy_and_are_projections() -> None:
    """Parseval: what is left below and above the cut sums to the image's own energy around its mean."""
    x = draw_images((8, 12), scale=0.1)
    mean = x.mean((2, 3), keepdim=True)
    low, high = show(LowPass(2), x), show(HighPass(2), x)
    energies = [(part - mean).square().sum((2, 3)) for part in (low, high, x)]
    torch.testing.assert_close(energies[0] + energies[1], energies[2], rtol=1e-12, atol=0)
    torch.testing.assert_close(show(LowPass(2), low), low, rtol=0, atol=1e-12)
    torch.testing.assert_close(show(HighPass(2), low), mean.expand_as(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "cycles"), [(HighPass, 1), (LowPass, 6)])
def test_what_is_taken_away_leaves_no_sign_of_what_it_was(kind: type, cycles: int) -> None:
    """A wave of either sign on noise: what rounding leaves of it has the old sign in about half of the rows."""
    rows, side = 400, 16
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(side) / side)
    sign = (2.0 * (torch.arange(rows) % 2) - 1).view(-1, 1, 1, 1)
    noise = 0.6 * torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(0)) - 0.3
    left = show(kind(4), noise + 0.4 * sign * wave)
    agree = ((left.mean((1, 2)).double() * wave).sum(1) > 0) == (sign.flatten() > 0)
    # Five standard deviations of Binomial(400, 1/2).
    assert abs(int(agree.sum()) - 200) < 5 * 10


def test_filtered_images_are_clipped() -> None:
    x = draw_images((8, 8)).sign()
    for kind in (LowPass, HighPass):
        shown = show(kind(2), x)
        assert float(shown.abs().max()) <= 1.0
    assert float(show(LowPass(2), x).abs().max()) < float(torch.from_numpy(filter_by_hand(x, 3.9)).abs().max())


@pytest.mark.parametrize(("side", "cut"), [(32, 8.0), (16, 4.0), (64, 8.0)])
def test_the_cut_is_eight_cycles_or_a_quarter_of_a_small_side(side: int, cut: float) -> None:
    x = draw_images((side, side), rows=1, channels=1, scale=0.1)
    assert torch.equal(show(LowPass(), x), show(LowPass(cut), x))


# ---------------------------------------------------------------- resolution


@pytest.mark.parametrize("size", [(8, 12), (7, 10)])
def test_pixels_become_the_means_of_their_blocks(size: tuple[int, int]) -> None:
    """Blocks of three; those at the right and bottom hold the pixels that are left."""
    x = draw_images(size)
    expected = x.clone()
    for top in range(0, size[0], 3):
        for left in range(0, size[1], 3):
            block = x[:, :, top : top + 3, left : left + 3]
            expected[:, :, top : top + 3, left : left + 3] = block.mean((2, 3), keepdim=True)
    shown = show(Resolution(3), x)
    torch.testing.assert_close(shown, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(show(Resolution(3), shown), shown, rtol=0, atol=1e-12)
    torch.testing.assert_close(show(Resolution(3), x, 0.25), 0.75 * x + 0.25 * expected, rtol=0, atol=1e-12)
