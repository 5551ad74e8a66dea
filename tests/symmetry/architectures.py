"""Small but real convolutional networks for the tests of symmetries; see `attention_nets` for the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def images(size: int = 8, rows: int = 3) -> Tensor:
    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(1))


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def linear_conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Without the nonlinearity."""
    return list(conv(inputs, outputs, kernel, stride).children())[:2]


def vgg() -> nn.Module:
    """A flatten of 6 x 2 x 2 into the linear layer."""
    features = [conv(3, 4), conv(4, 5), nn.MaxPool2d(2), conv(5, 6), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(24, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, 3))


class Residual(nn.Module):
    """A residual block around any branch; a convolution on the shortcut, or option A's slice and zeros."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None, zeros: int = 0, step: int = 1) -> None:
        super().__init__()
        self.branch, self.shortcut, self.zeros, self.step = branch, shortcut or nn.Identity(), zeros, step

    def forward(self, x: Tensor) -> Tensor:
        short = self.shortcut(x)[:, :, :: self.step, :: self.step]
        if self.zeros:
            short = F.pad(short, (0, 0, 0, 0, self.zeros, self.zeros))
        return F.relu(self.branch(x) + short)


def basic(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, 3, stride), *linear_conv(outputs, outputs))


def head(features: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 3)]


def resnet(width: int = 4) -> nn.Module:
    wide = 2 * width
    down = Residual(basic(width, wide, 2), nn.Sequential(*linear_conv(width, wide, 1, 2)))
    return nn.Sequential(conv(3, width), Residual(basic(width, width)), down, Residual(basic(wide, wide)), *head(wide))


def option_a() -> nn.Module:
    """The shortcut is a strided slice with two channels of zeros before and behind."""
    return nn.Sequential(conv(3, 4), Residual(basic(4, 8, 2), zeros=2, step=2), Residual(basic(8, 8)), *head(8))


def resnext() -> nn.Module:
    def block(inputs: int, outputs: int) -> nn.Module:
        branch = nn.Sequential(conv(inputs, 6, 1), conv(6, 6, groups=3), *linear_conv(6, outputs, 1))
        return Residual(branch, nn.Sequential(*linear_conv(inputs, outputs, 1)))

    return nn.Sequential(conv(3, 4), block(4, 8), block(8, 8), *head(8))


def mobilenet() -> nn.Module:
    """Inverted residuals: expand, depthwise, project without a nonlinearity."""

    def block(width: int, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(conv(width, 12, 1), conv(12, 12, 3, stride, groups=12), *linear_conv(12, width, 1))

    class Inverted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = block(4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.block(x)

    return nn.Sequential(conv(3, 4), Inverted(), block(4, 2), nn.Hardswish(), *head(4))


class DenseBlock(nn.Module):
    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        widths = [inputs + i * growth for i in range(layers)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(), nn.Conv2d(w, growth, 3, padding=1, bias=False)) for w in widths
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


def densenet() -> nn.Module:
    middle = [nn.BatchNorm2d(10), nn.ReLU(), nn.Conv2d(10, 5, 1, bias=False), nn.AvgPool2d(2)]
    return nn.Sequential(conv(3, 4), DenseBlock(4, 3, 2), *middle, DenseBlock(5, 3, 2), nn.BatchNorm2d(11), *head(11))


def groupnorm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.GroupNorm(3, 6), nn.SiLU(), nn.Conv2d(6, 8, 3), nn.GroupNorm(1, 8), nn.PReLU(8), *head(8)
    )


def instancenorm() -> nn.Module:
    """Norms without affine parameters, without statistics, and of instances."""
    return nn.Sequential(
        *(nn.Conv2d(3, 5, 3), nn.InstanceNorm2d(5, affine=True, track_running_stats=True), nn.ELU()),
        *(nn.Conv2d(5, 6, 3), nn.BatchNorm2d(6, affine=False), nn.Softsign(), nn.InstanceNorm2d(6)),
        *(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.LogSigmoid(), *head(4)),
    )


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = conv(3, 6), nn.Linear(6, 3)
        self.squeeze, self.excite = nn.Linear(6, 2), nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return self.out((x * gate[:, :, None, None]).amax((-1, -2)))


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(1e-6 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 4, 4), ConvNeXtBlock(4), nn.Conv2d(4, 6, 2, 2), ConvNeXtBlock(6), *head(6))


class Shuffle(nn.Module):
    """Channels of `groups` blocks interleaved, as ShuffleNet does."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet() -> nn.Module:
    return nn.Sequential(conv(3, 8), conv(8, 8, 1, groups=2), Shuffle(2), conv(8, 8, groups=4), *head(8))


class ShuffleSplit(nn.Module):
    """ShuffleNet v2: half of the channels pass, the halves are joined and interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = conv(3, 8), conv(4, 4), conv(4, 4)
        self.shuffle, self.head = Shuffle(2), nn.Sequential(*head(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in (self.one, self.two):
            first, second = x.chunk(2, dim=1)
            x = self.shuffle(torch.cat([first, branch(second)], dim=1))
        return self.head(x)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = conv(3, 4), conv(4, 6), conv(6, 8)
        self.up_two, self.up_one = nn.ConvTranspose2d(8, 6, 2, 2), nn.ConvTranspose2d(6, 4, 2, 2, groups=2)
        self.back_two, self.back_one, self.out = conv(12, 6), conv(8, 4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(F.max_pool2d(one, 2))
        y = self.up_two(self.three(F.avg_pool2d(two, 2)))
        y = self.back_two(torch.cat([y, two], 1))
        y = self.back_one(torch.cat([self.up_one(y), one], 1))
        return self.out(F.interpolate(y, scale_factor=2, mode="bilinear"))


class Inception(nn.Module):
    """Branches of different widths joined, then read by a convolution of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 3, 1), conv(3, 3), conv(3, 2, 1)
        self.grouped, self.head = conv(8, 4, groups=2), nn.Sequential(*head(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(torch.cat([self.a(x), self.b(x), self.c(F.avg_pool2d(x, 3, 1, 1))], 1)))


ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "vgg": (vgg, images()),
    "resnet": (resnet, images()),
    "option_a": (option_a, images()),
    "resnext": (resnext, images()),
    "mobilenet": (mobilenet, images()),
    "densenet": (densenet, images()),
    "groupnorm": (groupnorm, images()),
    "instancenorm": (instancenorm, images()),
    "squeeze_excite": (SqueezeExcite, images()),
    "convnext": (convnext, images(16)),
    "shufflenet": (shufflenet, images()),
    "shufflenet_v2": (ShuffleSplit, images()),
    "unet": (UNet, images()),
    "inception": (Inception, images()),
}
