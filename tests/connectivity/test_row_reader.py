"""Reading look by look: every row once, splits in one order, clusters whole, the level spent once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.connectivity import Evaluator, RowReader, RowsRead
from mechconn.connectivity._row_reader import draw_order, list_looks

ROWS = 500
NUMBERS = torch.arange(float(ROWS))[:, None]


def own(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of a row is its number."""
    return outputs[:, 0] + 0.0 * targets


def read_all(suite: mc.Suite, split: str, looks: int = 30, **more: Any) -> list[list[float]]:
    """The numbers of the rows that were read at each look."""
    reader = RowReader(Evaluator(nn.Identity(), suite, loss=own, **more), seed=3)
    rows, found = RowsRead(reader, lambda part, name: part.draws(name)), list[list[float]]()
    for look in range(looks):
        rows.read(split, look)
        found.append(rows.join(split)[0].loss.tolist())
        assert rows.rows[split] == len(found[-1]) and reader.is_complete(split, look) == (len(found[-1]) == ROWS)
    return found


def pair(extra: float = 0.0) -> tuple[Tensor, Tensor]:
    """Rows that tell their number."""
    return NUMBERS + extra, torch.zeros(ROWS)


class Batches:
    """Rows in batches of a size, as a loader gives them."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = pair()
        return zip(x.split(self.size), y.split(self.size), strict=True)


def test_every_row_once_and_splits_in_one_order() -> None:
    suite = mc.Suite({"cue": pair(), "other": pair(1000.0)})
    first, second = (read_all(suite, split) for split in suite)
    assert [len(rows) for rows in first[:7]] == [64, 96, 144, 216, 324, 486, 500] == list_looks(ROWS)
    assert sorted(first[-1]) == list(range(ROWS)) and first[-1] != sorted(first[-1])
    for before, after in pairwise(first):
        assert after[: len(before)] == before
    assert [row + 1000 for row in first[-1]] == second[-1]


def test_the_order_depends_on_the_seed_and_the_number_of_rows_alone() -> None:
    assert torch.equal(draw_order(40, None, 5), draw_order(40, None, 5))
    assert not torch.equal(draw_order(40, None, 5), draw_order(40, None, 6))
    assert sorted(draw_order(40, None, 5).tolist()) == list(range(40))


@pytest.mark.parametrize("size", [7, 64, 200, 500])
def test_batches_are_read_in_their_order(size: int) -> None:
    found = read_all(mc.Suite({"cue": Batches(size), "other": Batches(size)}), "cue")
    assert found[-1] == list(range(ROWS))
    for look, rows in enumerate(found):
        wanted = min(ROWS, size * math.ceil(list_looks(None, look + 1)[-1] / size))
        assert len(rows) >= wanted and rows == list(range(len(rows)))


def test_clusters_are_read_whole() -> None:
    cluster = torch.arange(ROWS) // 7
    suite = mc.Suite({"cue": pair(), "other": pair(1000.0)})
    found = read_all(suite, "cue", cluster=cluster.tolist())
    for rows in found:
        numbers = torch.tensor(rows).long() // 7
        assert all(int((numbers == one).sum()) == int((cluster == one).sum()) for one in numbers.unique())
    assert sorted(found[-1]) == list(range(ROWS))


@pytest.mark.parametrize(
    "suite",
    [
        mc.Suite({"cue": pair(), "other": pair()}),
        mc.Suite({"cue": (NUMBERS[:50], torch.zeros(50)), "other": (NUMBERS[:50], torch.zeros(50))}),
        mc.Suite({"cue": Batches(60), "other": Batches(60)}),
    ],
)
def test_shares_of_the_level_add_up_to_one(suite: mc.Suite) -> None:
    reader = RowReader(Evaluator(nn.Identity(), suite, loss=own))
    rows = RowsRead(reader, lambda part, name: part.draws(name))
    spent, look, done = 0.0, 0, False
    while not done:
        rows.read("cue", look)
        done = reader.is_complete("cue", look)
        spent += reader.share("cue", look)
        look += 1
    assert spent == pytest.approx(1.0) or (reader.totals["cue"] is None and spent < 1.0)


def test_splits_of_other_lengths_end_by_themselves() -> None:
    short = (NUMBERS[:70], torch.zeros(70))
    reader = RowReader(Evaluator(nn.Identity(), mc.Suite({"cue": pair(), "short": short}), loss=own))
    rows = RowsRead(reader, lambda part, name: part.draws(name))
    for look in range(4):
        for split in ("cue", "short"):
            rows.read(split, look)
    assert rows.rows == {"cue": 216, "short": 70}
    assert reader.is_complete("short", 1) and not reader.is_complete("cue", 3)


def test_counterfactuals_are_those_of_the_whole() -> None:
    task = mc.datasets.cue_task("digits", draws=2)
    model = mc.models.small_convnet(channels=3, seed=0)
    evaluator = Evaluator(model, task.suite)
    reader = RowReader(evaluator, seed=1)
    rows = RowsRead(reader, lambda part, name: part.draws(name))
    order = draw_order(len(task.suite["cue"]), None, 1)  # pyright: ignore[reportArgumentType]
    for split in task.suite:
        rows.read(split, 30)
        for part, whole in zip(rows.join(split), evaluator.draws(split), strict=True):
            assert torch.allclose(part.loss, whole.loss[order], atol=1e-5)
            assert torch.equal(part.targets, whole.targets[order])


def test_what_cannot_be_read_in_parts() -> None:
    dataset = TensorDataset(*pair())
    shuffled = DataLoader(dataset, batch_size=50, shuffle=True)
    with pytest.raises(ValueError, match=r"the loader of split 'cue' shuffles.*pass its dataset"):
        RowReader(Evaluator(nn.Identity(), mc.Suite({"cue": shuffled}), loss=own))
    clustered = Evaluator(nn.Identity(), mc.Suite({"cue": Batches(50)}), loss=own, cluster=list(range(ROWS)))
    with pytest.raises(ValueError, match="cluster= takes whole clusters by index, and split 'cue' is a Batches"):
        RowReader(clustered)
    remedy = RowReader(Evaluator(nn.Identity(), mc.Suite({"cue": dataset}), loss=own))  # the advice
    assert remedy.totals == {"cue": ROWS}
