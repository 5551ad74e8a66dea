"""VGG-13: its size by counting, its order by watching it run."""

from __future__ import annotations

import pytest
import torch

import mechconn as mc

WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512, 512, 512)


@pytest.mark.parametrize(("classes", "channels"), [(10, 3), (100, 3), (10, 1)])
def test_number_of_parameters(classes: int, channels: int) -> None:
    inputs = (channels, *WIDTHS)
    convolutions = sum(9 * a * b for a, b in zip(inputs, WIDTHS, strict=False))
    norms = sum(2 * width for width in WIDTHS)
    head = (512 + 1) * classes
    model = mc.models.vgg13(classes, channels=channels, seed=0)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == convolutions + norms + head
    assert (classes, channels) != (10, 3) or count == 9_413_066


def test_strides_are_two_at_every_second_of_the_first_eight() -> None:
    model = mc.models.vgg13(seed=0)
    strides = [m.stride[0] for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 2, 1, 1]
    assert not [m for m in model.modules() if "Pool" in type(m).__name__]


def test_logits_of_small_large_and_tall_images() -> None:
    model = mc.models.vgg13(7, seed=0).eval()
    for shape in [(32, 32), (64, 32), (28, 28)]:
        assert model(torch.zeros(2, 3, *shape)).shape == (2, 7)


def test_fresh_weights_are_a_function_of_the_seed() -> None:
    first, again, other = (mc.parameters_of(mc.models.vgg13(seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


@pytest.mark.parametrize("factory", [mc.models.vgg13, mc.models.resnet18])
def test_wrong_counts_are_refused(factory: object) -> None:
    with pytest.raises(ValueError, match="num_classes must be a whole number greater than zero, got 0"):
        factory(num_classes=0)  # type: ignore[operator]
    with pytest.raises(ValueError, match="channels must be a whole number"):
        factory(channels=0)  # type: ignore[operator]
