"""The handwritten digits on their noisy canvases."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate

from mechconn.datasets import digits, load


def originals() -> Tensor:
    """The digits as they were published, 8 x 8, in [0, 1]."""
    pixels, _ = load_digits(return_X_y=True)
    return torch.from_numpy(pixels).float().div(16).view(-1, 1, 8, 8)


def test_all_digits_once_with_their_labels() -> None:
    data = digits(seed=0)
    assert data.x.shape == (1797, 3, 28, 28)
    assert data.classes == tuple("0123456789")
    assert torch.equal(data.y, torch.from_numpy(load_digits(return_X_y=True)[1]))


def test_each_digit_stands_enlarged_somewhere_on_its_canvas() -> None:
    """Without noise: ground -0.5 outside a 16 x 16 window, and -0.5 + (c + 0.5) g inside, c one light colour."""
    data = digits(seed=3, noise=0.0)
    x = data.inputs(torch.arange(200))
    grey = interpolate(originals()[:200], size=(16, 16), mode="bilinear", align_corners=False)
    for canvas, g in zip(x, grey, strict=True):
        lift = canvas + 0.5
        strength = lift.amax((1, 2)) / g.max()  # c + 0.5 per channel
        assert bool(((strength > 0.69) & (strength < 1.51)).all())
        fits = [
            (top, left)
            for top in range(13)
            for left in range(13)
            # Half a step of the bytes is 1/255, and the strength is known to about as much.
            if bool(((lift[:, top : top + 16, left : left + 16] - strength[:, None, None] * g).abs() < 0.02).all())
            and float(lift.abs().sum() - lift[:, top : top + 16, left : left + 16].abs().sum()) < 0.01 * 3 * 28 * 28
        ]
        assert fits


def test_places_and_noise_follow_the_seed() -> None:
    assert torch.equal(digits(seed=1).x, digits(seed=1).x)
    assert not torch.equal(digits(seed=1, noise=0.0).x, digits(seed=2, noise=0.0).x)
    assert torch.equal(load("digits", seed=1).x, digits(seed=1).x)


def test_noise_has_its_deviation() -> None:
    """On the ground at -0.5, clipping at -1 bites beyond 1.67 deviations of 0.3; so measure at a smaller noise."""
    ground = digits(seed=0, noise=0.0).x == 64  # round((-0.5 + 1) 127.5)
    noisy = digits(seed=0, noise=0.1)
    values = noisy.inputs(torch.arange(1797))[ground]
    # Bytes add a rounding of deviation 0.0023; a few million values leave no other error worth a tolerance.
    assert float(values.std()) == pytest.approx(0.1, abs=0.001)
    assert float(values.mean()) == pytest.approx(-0.5, abs=0.001)


def test_noise_is_no_negative_number() -> None:
    with pytest.raises(ValueError, match=r"^noise must be zero or more, got -0.1$"):
        digits(noise=-0.1)
