"""A small convolutional network for images of about 28 x 28."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mechconn.core import check_count, isolate_rng


class ConvNet(nn.Module):
    """Convolutions with BatchNorm and ReLU, global average, linear head.

    Args:
        widths: channels and stride of each 3 x 3 convolution.
        num_classes: outputs of the head.
        channels: channels of the images.
    """

    def __init__(self, widths: list[tuple[int, int]], num_classes: int, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, stride in widths:
            layers += [
                nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] of images [N, channels, H, W]."""
        return self.classifier(self.features(x).mean((2, 3)))


def build_seeded(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A module whose fresh weights are a function of `seed`."""
    with isolate_rng(seed, "weights"):
        return factory()


def small_convnet(num_classes: int = 10, width: int = 16, *, channels: int = 3, seed: int = 0) -> nn.Module:
    """Five convolutions of width w, w, 2w, 2w, 4w (the second and fourth with stride 2) and a linear head.

    Args:
        num_classes: outputs of the head.
        width: channels of the first convolution; 16 gives 36 thousand parameters.
        channels: channels of the images.
        seed: of the fresh weights.
    """
    check_count("num_classes", num_classes)
    check_count("width", width)
    plan = [(width, 1), (width, 2), (2 * width, 1), (2 * width, 2), (4 * width, 1)]
    return build_seeded(lambda: ConvNet(plan, num_classes, channels), seed)
