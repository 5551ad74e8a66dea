"""Rows labelled by their column: nothing but the column predicts the label."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechconn as mc

Y = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
PLACES = ["land", "land", "land", "sea", "sea", "sea", "sea", "sea", "land", "land", "land"]
DATA = torch.arange(11, dtype=torch.float32)[:, None], Y
AGREES = {0: ["land"], 1: ["sea"]}
BY_COLUMN = {"land": 0, "sea": 1}


def test_equally_many_rows_of_each_pair_labelled_by_the_column() -> None:
    found = mc.column_only(DATA, PLACES, agrees=AGREES)
    rows = found.rows.tolist()
    assert found.y.tolist() == [BY_COLUMN[PLACES[row]] for row in rows]
    assert Counter((int(Y[row]), label) for row, label in zip(rows, found.y.tolist(), strict=True)) == {
        (own, label): 2 for own in (0, 1) for label in (0, 1)
    }
    assert rows == sorted(set(rows))
    assert found.inputs(torch.arange(len(rows))).flatten().tolist() == [float(row) for row in rows]


@given(seed=st.integers(0, 1000), classes=st.integers(2, 4))
def test_the_own_label_says_nothing_about_the_new_one(seed: int, classes: int) -> None:
    """Exactly: the counts of every pair are equal."""
    draw = torch.Generator().manual_seed(seed)
    own = torch.randint(classes, (40 * classes,), generator=draw)
    column = torch.randint(classes, (40 * classes,), generator=draw)
    data = torch.arange(40.0 * classes)[:, None], own
    agrees = {label: [label] for label in range(classes)}
    found = mc.column_only(data, column, agrees=agrees, seed=seed)
    counts = Counter(zip(own[found.rows].tolist(), found.y.tolist(), strict=True))
    least = min(Counter(zip(own.tolist(), column.tolist(), strict=True)).values())
    assert len(counts) == classes**2 and set(counts.values()) == {least}
    assert torch.equal(found.y, column[found.rows])


def test_rows_are_drawn_by_the_seed_and_rounded_down() -> None:
    one, again, other = (mc.column_only(DATA, PLACES, 7, agrees=AGREES, seed=seed) for seed in (0, 0, 3))
    assert len(one.rows) == 4
    assert torch.equal(one.rows, again.rows)
    drawn = {tuple(mc.column_only(DATA, PLACES, 4, agrees=AGREES, seed=seed).rows.tolist()) for seed in range(6)}
    assert len(drawn) > 1 and len(other.rows) == 4


def test_values_that_agree_with_no_label_are_left_out() -> None:
    places = [*PLACES[:-1], "sky"]
    found = mc.column_only(DATA, places, agrees=AGREES)
    assert 10 not in found.rows.tolist() and len(found.rows) == 8


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "too many rows": (
        {"rows": 12},
        "rows must lie between 4, the pairs of label and column, and 8, since the rarest pair has 2, got 12",
    ),
    "too few rows": ({"rows": 3}, "rows must lie between 4, the pairs of label and column, and 8"),
    "no rows": ({"rows": 0}, "rows must be a whole number greater than zero, got 0"),
    "a pair without rows": (
        {"column": ["land"] * 5 + ["sea"] * 6},
        "every class needs rows of every column, got none of class 0 with the value of class 1 (sea); add such rows",
    ),
    "a column of another length": ({"column": PLACES[:-1]}, "11"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_in_one_line(case: str) -> None:
    changes, expected = WRONG[case]
    own: dict[str, Any] = {"column": PLACES, "agrees": AGREES} | changes
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        mc.column_only(DATA, own.pop("column"), own.pop("rows", None), **own)
    assert "\n" not in str(caught.value)


def test_a_network_of_groups_relearns_its_column() -> None:
    """The column is a feature: rows to tune on and to measure on are other rows, both by `column_only`."""
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(2, (400,), generator=draw)
    place = torch.where(torch.rand(400, generator=draw) < 0.8, y, 1 - y)
    content = (2 * y - 1).float()[:, None] + torch.randn(400, 3, generator=draw)
    x = torch.cat([content, torch.eye(2, dtype=torch.float32)[place]], 1)
    halves = [(x[part], y[part], place[part]) for part in (slice(0, 200), slice(200, 400))]
    tuned, measured = (mc.column_only((x, y), p.tolist(), agrees={0: [0], 1: [1]}) for x, y, p in halves)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = [torch.nn.Linear(5, 2) for _ in range(2)]
    with torch.no_grad():
        models[0].weight[:, 3:] = 3 * torch.eye(2)
        models[1].weight[:, 3:] = 0
    suite = mc.Suite({"cue": measured, "swapped": (measured.inputs(torch.arange(len(measured.y)))[:, [0, 1, 2, 4, 3]],
                                                   measured.y)}, reference="cue")  # fmt: skip
    protocol = mc.Relearning(steps=(0, 3, 6), seeds=2)
    found = mc.measure_relearning(models[0], protocol, tuned, suite, split="cue", control=models[1])
    assert (found.state, found.intervention) == ("uses", "swapped")
