"""Grey, hue and contrast: against formulas by hand and the standard library's colorsys."""

from __future__ import annotations

import colorsys

import pytest
import torch
from torch import Tensor

from mechconn.interventions import Contrast, Grey, Hue, ImageIntervention


def draw_images(rows: int = 5, channels: int = 3, height: int = 6, width: int = 9, seed: int = 0) -> Tensor:
    return torch.rand(rows, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def show(intervention: ImageIntervention, x: Tensor, strength: float | None = None, seed: int = 0) -> Tensor:
    data = x, torch.zeros(len(x), dtype=torch.int64)
    return intervention(data, seed, strength).inputs(torch.arange(len(x)))


def to_hsv(x: Tensor) -> Tensor:
    """Hue, saturation and value of each pixel, [n, 3, h, w], by colorsys."""
    pixels = ((x.double() + 1) / 2).permute(0, 2, 3, 1).reshape(-1, 3).tolist()
    found = torch.tensor([colorsys.rgb_to_hsv(*pixel) for pixel in pixels], dtype=torch.float64)
    return found.view(len(x), *x.shape[2:], 3).permute(0, 3, 1, 2)


# ---------------------------------------------------------------- grey


def test_grey_has_the_luma_in_every_channel_and_is_idempotent() -> None:
    x = draw_images()
    luma = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    grey = show(Grey(), x)
    torch.testing.assert_close(grey, luma[:, None].expand_as(x), rtol=0, atol=1e-6)
    # The weights sum to one up to float32's rounding.
    again = Grey().apply(grey, torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(len(x), 1))
    torch.testing.assert_close(again, grey, rtol=0, atol=1e-6)
    torch.testing.assert_close(show(Grey(), x, 0.3), 0.7 * x + 0.3 * grey, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- hue


@pytest.mark.parametrize("turn", [-1.0, -0.3, 0.1, 1 / 6, 0.5, 0.77, 1.0])
def test_a_turn_is_that_of_hsv(turn: float) -> None:
    x = draw_images()
    before, after = to_hsv(x), to_hsv(show(Hue(turn), x))
    torch.testing.assert_close(after[:, 1:], before[:, 1:], rtol=0, atol=1e-5)  # saturation and value
    wrong = (after[:, 0] - before[:, 0] - turn + 0.5) % 1.0 - 0.5
    # Hue is a difference over the chroma: rounding of 1e-7 counts up to 1e-7 / (chroma / 6) there.
    assert float((wrong.abs() * before[:, 1] * before[:, 2]).max()) < 1e-5


def test_a_whole_turn_is_none_and_a_third_permutes_the_channels_of_pure_colours() -> None:
    x = draw_images()
    torch.testing.assert_close(show(Hue(1.0), x), x, rtol=0, atol=2e-6)
    torch.testing.assert_close(show(Hue(1 / 3), x), x.roll(1, 1), rtol=0, atol=2e-6)
    torch.testing.assert_close(show(Hue(-1 / 3), x), x.roll(-1, 1), rtol=0, atol=2e-6)


def test_hues_at_the_corners_and_grey_pixels() -> None:
    """Red, yellow, green, cyan, blue, magenta go to the next by a sixth; white, grey and black stay."""
    wheel = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]]) * 2.0 - 1
    greys = torch.tensor([[1.0, 1, 1], [0.25, 0.25, 0.25], [-1, -1, -1]])
    x = torch.cat([wheel, greys]).T.reshape(1, 3, 1, 9)
    turned = show(Hue(1 / 6), x)[0, :, 0].T
    torch.testing.assert_close(turned, torch.cat([wheel.roll(-1, 0), greys]), rtol=0, atol=1e-6)


def test_each_row_draws_its_turn_and_strength_scales_it() -> None:
    rows = 4000
    red = torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).repeat(rows, 1, 1, 1)
    turns = to_hsv(show(Hue(), red))[:, 0, 0, 0]
    counts = (turns * 8).long().bincount(minlength=8)
    # Five standard deviations of Binomial(4000, 1/8).
    assert int((counts - 500).abs().max()) < 5 * (4000 * 7 / 64) ** 0.5
    signed = (turns + 0.5) % 1.0 - 0.5
    half = (to_hsv(show(Hue(), red, 0.5))[:, 0, 0, 0] + 0.5) % 1.0 - 0.5
    torch.testing.assert_close(half, signed / 2, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- contrast


def test_contrast_keeps_the_mean_of_each_channel_and_scales_the_rest() -> None:
    x = draw_images(channels=2)
    shown = show(Contrast(0.25), x, 0.8)
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(shown, mean + (1 - 0.8 * 0.75) * (x - mean), rtol=0, atol=1e-6)
    torch.testing.assert_close(shown.mean((2, 3)), x.mean((2, 3)), rtol=0, atol=1e-6)
    torch.testing.assert_close(show(Contrast(0.0), x), mean.expand_as(x), rtol=0, atol=1e-6)
