"""Outcomes of parts of rows, joined, are those of all rows at once; those of the first rows are theirs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.connectivity import Evaluator
from mechconn.core import isolate_rng
from mechconn.network import Outcomes, join_outcomes, take_first_outcomes

ROWS = 23
with isolate_rng(0):
    X = torch.randn(ROWS, 6)
    CLASSES = torch.randint(3, (ROWS,))
    MANY = (torch.rand(ROWS, 3) < 0.4).float()
    PLACES = torch.randint(3, (ROWS, 4))
    PLACES[5], PLACES[9, :2] = -100, -100
    NET = nn.Linear(6, 3)
    WIDE = nn.Sequential(nn.Linear(6, 12), nn.Unflatten(1, (3, 4)))


class Constant(nn.Module):
    """One answer on the first rows, another on the rest; inputs tell which."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits of three labels."""
        return torch.where(x[:, :1] > 10, 1.0, -1.0).expand(-1, 3)


def outcomes(model: nn.Module, y: Tensor, loss: Any, rows: slice = slice(None), x: Tensor = X) -> Outcomes:
    """Of some rows."""
    suite = mc.Suite({"cue": (x[rows], y[rows])})
    evaluator = Evaluator(
        model, suite, loss=loss, metrics={"first": lambda f, _: f.flatten(1)[:, 0]}, keep_probabilities=True
    )
    return evaluator.draws("cue")[0]


CASES = {
    "rows": (NET, CLASSES, mc.losses.cross_entropy),
    "labels": (NET, MANY, mc.losses.binary),
    "positions": (WIDE, PLACES, mc.losses.over_positions),
    "values": (NET, X[:, :3], mc.losses.squared),
}


def same(a: object, b: object) -> bool:
    """Equal tensors, close where sums were made of parts, and equal values."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-6)  # batches of other sizes
    return a == b or (isinstance(a, float) and isinstance(b, float) and a == pytest.approx(b, abs=1e-12))


@pytest.mark.parametrize("name", CASES)
def test_joined_parts_are_the_whole(name: str) -> None:
    whole = outcomes(*CASES[name])
    parts = [outcomes(*CASES[name], rows=rows) for rows in (slice(0, 3), slice(3, 11), slice(11, None))]
    joined = join_outcomes(parts)
    for field in ("loss", "targets", "counted", "probabilities", "row_shape"):
        assert same(getattr(joined, field), getattr(whole, field)), field
    assert same(joined.metrics["first"], whole.metrics["first"])
    assert (joined.class_probabilities is None) == (whole.class_probabilities is None)
    assert (joined.answers is None) == (whole.answers is None)
    if joined.answers is not None and whole.answers is not None:
        for field in vars(whole.answers):
            assert same(getattr(joined.answers, field), getattr(whole.answers, field)), field
        assert joined.accuracy == pytest.approx(whole.accuracy)


def test_one_answer_in_each_part_is_not_one_answer() -> None:
    x = X.clone()
    x[11:, 0] = 20.0
    parts = [outcomes(Constant(), MANY, mc.losses.binary, rows, x) for rows in (slice(0, 11), slice(11, None))]
    assert all(part.answers is not None and part.answers.constant for part in parts)
    joined = join_outcomes(parts).answers
    assert joined is not None and not joined.constant


def test_rows_without_a_prediction_keep_their_number() -> None:
    class Undefined(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x[:, :1] > 10, torch.nan, x[:, :3])

    x = X.clone()
    x[13, 0] = 20.0
    joined = join_outcomes(
        [outcomes(Undefined(), MANY, mc.losses.binary, rows, x) for rows in (slice(0, 8), slice(8, None))]
    )
    assert joined.answers is not None and joined.answers.undefined == 13


@pytest.mark.parametrize("name", CASES)
def test_first_rows(name: str) -> None:
    first, part = take_first_outcomes(outcomes(*CASES[name]), 4), outcomes(*CASES[name], rows=slice(0, 4))
    assert torch.equal(first.loss, part.loss) and torch.equal(first.targets, part.targets)
    if first.answers is not None and part.answers is not None:
        assert torch.equal(first.answers.right, part.answers.right)
        assert first.accuracy == part.accuracy
