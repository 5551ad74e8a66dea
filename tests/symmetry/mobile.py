"""MobileNetV2 (Sandler et al. 2018, table 2), whose last maps of a 32 x 32 image are 1 x 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of the first block."""


def normed(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU6()]


class Inverted(nn.Module):
    """Expand, depthwise, project without a nonlinearity; a residual where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = normed(inputs, hidden) if expansion > 1 else []
        depthwise = normed(hidden, hidden, 3, stride, hidden)
        self.body = nn.Sequential(*expand, *depthwise, *normed(hidden, outputs)[:2])
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2(width: float = 0.35, last: int = 96, classes: int = 10) -> nn.Module:
    channels = [max(8, int(n * width) // 8 * 8) for n in (32, *(stage[1] for stage in STAGES))]
    layers = normed(3, channels[0], 3, 2)
    for inputs, outputs, (expansion, _, blocks, stride) in zip(channels, channels[1:], STAGES, strict=False):
        layers.append(Inverted(inputs, outputs, stride, expansion))
        layers += [Inverted(outputs, outputs, 1, expansion) for _ in range(blocks - 1)]
    layers += normed(channels[-1], last)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(last, classes))


def pictures(rows: int = 2) -> Tensor:
    return torch.rand(rows, 3, 32, 32, generator=torch.Generator().manual_seed(1))
