"""Rows of each label by one sort, against a look at every row for every label."""

from __future__ import annotations

import pytest
import torch

import mechconn as mc
from mechconn.datasets import read_clusters
from mechconn.mechanisms._rows_by_label import find_rows_by_label


@pytest.mark.parametrize(
    "labels",
    [
        torch.randint(0, 9, (200,), generator=torch.Generator().manual_seed(0)),
        torch.randint(-5, 5, (50,), generator=torch.Generator().manual_seed(1)),
        torch.tensor([40_000, 3, 40_000, 70_000]),
        torch.tensor([True, False, True]),
        torch.tensor([5], dtype=torch.uint8),
        torch.tensor([], dtype=torch.int64),
    ],
)
def test_they_are_those_that_a_look_at_every_row_finds(labels: torch.Tensor) -> None:
    found = find_rows_by_label(labels)
    assert list(found) == sorted(set(labels.tolist()))
    assert {k: rows.tolist() for k, rows in found.items()} == {
        k: [row for row, own in enumerate(labels.tolist()) if own == k] for k in found
    }


def test_whole_numbers_name_the_clusters_that_their_texts_do() -> None:
    """Numbers of clusters do not depend on what holds the labels."""
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randint(-9, 9, (60,), generator=draw) for _ in range(2))
    data = {"a": (torch.zeros(60, 1), torch.zeros(60).long()), "b": (torch.zeros(60, 1), torch.zeros(60).long())}
    given = {"a": first, "b": second.numpy()}
    texts = {"a": [str(n) for n in first.tolist()], "b": [float(n) for n in second.tolist()]}
    for split in data:
        quick, slow = (read_clusters(labels, data) for labels in (given, texts))
        assert quick is not None and slow is not None
        assert quick.of(split, 60).tolist() == slow.of(split, 60).tolist()


def test_groups_are_split_in_one_look_at_the_rows() -> None:
    names = ["b", "a", "b", "c", "a"]
    splits = mc.split_by_group((torch.arange(5.0)[:, None], torch.zeros(5).long()), names)
    assert {name: part.rows.tolist() for name, part in splits.items()} == {"a": [1, 4], "b": [0, 2], "c": [3]}
