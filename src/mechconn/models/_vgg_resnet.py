"""The two networks of the mode-connectivity experiments, for images of about 32 x 32."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechconn.core import check_count
from mechconn.models._small import ConvNet, build_seeded

VGG13_PLAN = [
    (64, 1), (64, 2),
    (128, 1), (128, 2),
    (256, 1), (256, 2),
    (512, 1), (512, 2),
    (512, 1), (512, 1),
]  # fmt: skip
RESNET18_PLAN = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]


def vgg13(num_classes: int = 10, *, channels: int = 3, seed: int = 0) -> nn.Module:
    """The "VGG-13" of the source: ten 3 x 3 convolutions without bias, each with BatchNorm and ReLU, and a linear head.

    Widths 64, 64/s, 128, 128/s, 256, 256/s, 512, 512/s, 512, 512, where /s is stride 2; there is no pooling but the
    global average before the head. 9.4 million parameters, in forward order.

    Args:
        num_classes: outputs of the head.
        channels: channels of the images.
        seed: of the fresh weights.

    Raises:
        ValueError: a count below one.

    Source: Simonyan & Zisserman 2015 (VGG); Lubana et al. 2023, appendix, for this form.
    """
    check_count("num_classes", num_classes)
    check_count("channels", channels)
    return build_seeded(lambda: ConvNet(VGG13_PLAN, num_classes, channels), seed)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm beside a shortcut: y = relu(bn(conv(relu(bn(conv(x))))) + s(x)).

    s is the identity where x and y have the same shape, else a 1 x 1 convolution with BatchNorm. Its parameters
    stand where it runs in the forward pass: after those of the two convolutions.

    Args:
        channels: of x.
        width: channels of y.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut.append(nn.Conv2d(channels, width, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, ceil(H / stride), ceil(W / stride)] of [N, channels, H, W]."""
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return torch.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """A 3 x 3 stem with BatchNorm and ReLU, basic blocks, global average, linear head.

    Args:
        blocks: channels and stride of each block; the stem has the first block's channels.
        num_classes: outputs of the head.
        channels: channels of the images.
    """

    def __init__(self, blocks: list[tuple[int, int]], num_classes: int, channels: int = 3) -> None:
        super().__init__()
        width = blocks[0][0]
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential()
        for next_width, stride in blocks:
            self.blocks.append(BasicBlock(width, next_width, stride))
            width = next_width
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits [N, num_classes] of images [N, channels, H, W]."""
        return self.classifier(self.blocks(self.stem(x)).mean((2, 3)))


def resnet18(num_classes: int = 10, *, channels: int = 3, seed: int = 0) -> nn.Module:
    """ResNet-18 for images of 32 x 32: a stem of 64 without pooling, then two basic blocks each of 64, 128, 256, 512.

    The first block of each later stage has stride 2. 11.2 million parameters, in forward order; a shortcut's
    convolution stands after the block's other two, where it runs.

    Args:
        num_classes: outputs of the head.
        channels: channels of the images.
        seed: of the fresh weights.

    Raises:
        ValueError: a count below one.

    Source: He et al. 2016; Lubana et al. 2023, appendix, for this form.
    """
    check_count("num_classes", num_classes)
    check_count("channels", channels)
    return build_seeded(lambda: ResNet(RESNET18_PLAN, num_classes, channels), seed)
