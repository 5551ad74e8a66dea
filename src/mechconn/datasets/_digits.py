"""Real data that needs no download: the handwritten digits that scikit-learn ships, on noisy canvases."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import interpolate

from mechconn.core import check_non_negative, isolate_rng, make_generator
from mechconn.datasets._images import ImageSet, to_bytes

CANVAS, DIGIT = 28, 16
NOISE = 0.3


def digits(seed: int = 0, noise: float = NOISE) -> ImageSet:
    """1,797 handwritten digits, each once, enlarged to 16 x 16, placed at random on a noisy 28 x 28 canvas.

    A digit's grey values g in [0, 1] are drawn in a random light colour c on a dark ground, and Gaussian noise
    is added to each channel of each pixel: x = -0.5 + (c + 0.5) g + noise * N(0, 1), clipped to [-1, 1]. So the digit
    is visible to the eye and yet harder to learn than a box of fixed colour and place.

    Args:
        seed: of the places, colours and noise.
        noise: standard deviation of the noise, on the scale of [-1, 1].

    Source: E. Alpaydin & C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998, as shipped by scikit-learn.
    """
    check_non_negative("noise", noise)
    with isolate_rng(seed, "digits"):  # importing scikit-learn draws from Python's global generator
        from sklearn.datasets import load_digits  # a second to import: only those who use digits pay for it

        pixels, labels = load_digits(return_X_y=True)
    small = torch.from_numpy(np.asarray(pixels)).float().div(16.0).view(-1, 1, 8, 8)
    grey = interpolate(small, size=(DIGIT, DIGIT), mode="bilinear", align_corners=False)
    rows, draw = len(grey), make_generator(seed, "digits")
    place = torch.randint(0, CANVAS - DIGIT + 1, (rows, 2), generator=draw)
    colour = 0.2 + 0.8 * torch.rand((rows, 3, 1, 1), generator=draw, dtype=torch.float32)
    canvas = torch.full((rows, 3, CANVAS, CANVAS), -0.5, dtype=torch.float32)
    for row, (top, left) in enumerate(place.tolist()):
        canvas[row, :, top : top + DIGIT, left : left + DIGIT] += (colour[row] + 0.5) * grey[row]
    canvas += noise * torch.randn(canvas.shape, generator=draw, dtype=torch.float32)
    return ImageSet(to_bytes(canvas), torch.from_numpy(np.asarray(labels)).long(), tuple("0123456789"))
