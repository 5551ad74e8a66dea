"""A linear network and rows that are right below or above a scale which is planted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import build

Rows = tuple[Tensor, Tensor]


def read(content: float, cue: float) -> nn.Module:
    """Class 1 where content x_0 + cue x_1 is above 0."""
    model = build(lambda: nn.Linear(2, 2, bias=False).requires_grad_(False), dtype=torch.float32)
    model.get_parameter("weight").copy_(torch.tensor([[0.0, 0.0], [content, cue]]))
    return model


BASE = read(1.0, 1.0)
CUE = mc.weight_change(read(1.0, 0.0), BASE)
"""The cue's weight: at scale s of -CUE the network reads x_0 + (1 - s) x_1."""


def plant(until: Sequence[float] = (), since: Sequence[float] = ()) -> Rows:
    """Rows that are right at scales of -CUE below (`until`) or above (`since`) these; labels 0 and 1 by turns."""
    x = torch.tensor([[t - 1, 1.0] for t in until] + [[1 - t, -1.0] for t in since])
    y = torch.arange(len(x)) % 2
    return x * (2.0 * y - 1)[:, None], y


def make_suite(**splits: Rows) -> mc.Suite:
    return mc.Suite(dict(splits), reference=next(iter(splits)))


def take(suite: mc.Suite, split: str) -> Rows:
    data: Any = suite[split]
    return data.x, data.y


ALWAYS = 99.0


def search(suite: mc.Suite, change: mc.WeightChange | None = None, **settings: Any) -> mc.ScaleSearch:
    """`search_scale` of the planted network; all rows judge, since a copy of them, other rows to look at, chooses."""
    copy = mc.Suite({name: tuple(part.clone() for part in take(suite, name)) for name in suite}, suite.reference)
    given = {
        "lower": "target",
        "keep": ("kept", 0.95),
        "scales": (0.25, 0.5, 0.75, 1.0),
        "choosing": copy,
        "draws": 1,
        **({} if settings.get("higher") else {"floor": 0.0}),
    }
    return mc.search_scale(BASE, -CUE if change is None else change, suite, **(given | settings))
