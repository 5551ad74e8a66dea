"""Two models of planted columns: what each relies on is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.mechanisms import Audit

SPLITS = ("with box", "box at random")


def reads(column: int) -> nn.Module:
    """A classifier by the sign of one of two columns."""
    weight = torch.zeros(2, 2)
    weight[1, column] = 4.0
    return make_linear(weight)


def make_linear(weight: Tensor) -> nn.Module:
    """A linear layer of these weights, without a bias."""
    with isolate_rng(0, "planted pairs"):
        model = nn.Linear(*reversed(weight.shape), bias=False)
    model.load_state_dict({"weight": weight})
    return model


def planted_splits(count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Columns that both tell the label, and the same with the first column in another order."""
    y = torch.arange(count) % 2
    x = (2.0 * y - 1.0)[:, None].repeat(1, 2)
    changed = x.clone()
    changed[:, 0] = torch.where(torch.arange(count) % 4 < 2, 1.0, -1.0)
    return dict(zip(SPLITS, ((x, y), (changed, y)), strict=True))


def audit_planted(more: Sequence[str] = (), names: tuple[str, str] = ("reader", "fixed")) -> Audit:
    """A reads the first column, which the intervention draws anew; B reads the second.

    Args:
        more: names of further splits that show the same.
        names: what the two are called.
    """
    splits = planted_splits(400)
    suite = mc.Suite(splits | dict.fromkeys(more, splits[SPLITS[1]]), SPLITS[0])
    return mc.audit(reads(0), reads(1), suite, ts=3, alignment="none", names=names)
