"""Small networks and data that several tests share; everything is a function of a seed, float64 by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng

Batch = tuple[Tensor, Tensor]
FEATURES, CLASSES = 4, 3


def build(factory: Callable[[], nn.Module], seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A module whose weights, and statistics where it keeps any, are random numbers of `seed`."""
    with isolate_rng(seed, "test model"):
        model = factory().to(dtype)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return model


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, CLASSES))


def norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, CLASSES))


def dropout_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, CLASSES))


def norm_conv() -> nn.Module:
    """For images of shape [3, h, w]."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, stride=2),
        nn.BatchNorm2d(5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, CLASSES),
    )


class Shared(nn.Module):
    """One block with a BatchNorm, reachable under two names and applied twice in each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES), nn.Tanh())
        self.second = self.first
        self.out = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(2 * self.first(x)))


class Tied(nn.Module):
    """Two layers that hold one weight, as an encoder and its decoder do."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(FEATURES, FEATURES)
        self.decode = nn.Linear(FEATURES, FEATURES, bias=False)
        self.decode.weight = self.encode.weight
        self.out = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.decode(torch.tanh(self.encode(x))))


class Recurrent(nn.Module):
    """A layer that keeps a second list of its weights, and one whose weight is computed from two others."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(FEATURES, 5, batch_first=True)
        self.out = nn.utils.parametrizations.weight_norm(nn.Linear(5, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(torch.stack([x, -x], 1))[0][:, -1])


class Named(nn.Module):
    """Keyword arguments in, an object with logits out, as in many language models."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, values: Tensor, scale: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.body(values) * scale[:, None])


class TwoInputs(nn.Module):
    """Two positional arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        return self.body(x + shift)


def rows(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Batch:
    """(x, y): standard normal inputs, and a label that a linear map of them decides."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=draw, dtype=dtype)
    return x, (x @ torch.randn(FEATURES, CLASSES, generator=draw, dtype=dtype)).argmax(1)


def images(count: int, seed: int = 0, side: int = 6) -> Batch:
    """(x, y): standard normal images of shape [3, side, side] with random labels."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, side, side, generator=draw, dtype=torch.float64)
    return x, torch.randint(0, CLASSES, (count,), generator=draw)


def stay(model: nn.Module, params: dict[str, Tensor] | None = None) -> mc.LinearPath:
    """A path that stays where a model is, or at other parameters with the model's buffers."""
    point = mc.point_of(model)
    point = point if params is None else mc.Point(params, point.buffers)
    return mc.LinearPath(point, point)


def split(data: Batch, sizes: list[int]) -> list[Batch]:
    """Batches of the given sizes; they must add up to the number of rows."""
    assert sum(sizes) == len(data[1])
    return list(zip(data[0].split(sizes), data[1].split(sizes), strict=True))


class Interrupted:
    """Batches that can be read any number of times, and raise after the first one each time."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        yield self.batches[0]
        raise OSError("the disk is gone")
