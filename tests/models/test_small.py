"""The small convolutional network."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from mechconn.models import small_convnet


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_its_size_is_the_sum_of_its_layers() -> None:
    """Widths w, w, 2w, 2w, 4w: 9 in out + 2 out for each convolution with its BatchNorm, then the head."""
    widths = [3, 16, 16, 32, 32, 64]
    expected = sum(9 * a * b + 2 * b for a, b in pairwise(widths)) + 64 * 10 + 10
    assert count(small_convnet(seed=0)) == expected == 35_962


def test_shapes_and_strides() -> None:
    model = small_convnet(num_classes=7, width=4, channels=1, seed=0).eval()
    assert isinstance(model.features, nn.Sequential)
    x = torch.zeros(2, 1, 28, 28)
    assert model(x).shape == (2, 7)
    sizes = []
    for part in model.features:
        x = part(x)
        if isinstance(part, nn.Conv2d):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [(4, 28, 28), (4, 14, 14), (8, 14, 14), (8, 7, 7), (16, 7, 7)]
    assert model(torch.zeros(2, 1, 33, 17)).shape == (2, 7)


def test_parameters_stand_in_forward_order() -> None:
    model = small_convnet(width=2, seed=0).eval()
    order: list[str] = []
    for name, part in model.named_modules():
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            part.register_forward_hook(lambda *_, name=name: order.append(name))
    model(torch.zeros(1, 3, 8, 8))
    names = [name.rpartition(".")[0] for name, _ in model.named_parameters()]
    assert list(dict.fromkeys(names)) == order


def test_a_seed_gives_the_weights() -> None:
    one, same, other = (torch.cat([p.flatten() for p in small_convnet(seed=s).parameters()]) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_weights_depend_on_the_seed_alone() -> None:
    weights = []
    for start, seed in ((0, 0), (1, 0), (0, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(start)
            weights.append(small_convnet(width=2, seed=seed).get_parameter("classifier.weight"))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], small_convnet(width=2).get_parameter("classifier.weight"))
    assert not torch.equal(weights[0], weights[2])


def test_it_is_a_function_of_each_image_alone_when_evaluated() -> None:
    model = small_convnet(width=2, seed=0).eval().double()
    x = torch.randn(5, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alone = torch.cat([model(x[i : i + 1]) for i in range(5)])
    # Convolutions of one image and of five may add in another order.
    torch.testing.assert_close(model(x), alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("wrong", [{"num_classes": 0}, {"width": 0}])
def test_it_needs_a_width_and_classes(wrong: dict[str, int]) -> None:
    [name] = wrong
    with pytest.raises(ValueError, match=rf"^{name} must be a whole number greater than zero, got 0$"):
        small_convnet(**wrong)
