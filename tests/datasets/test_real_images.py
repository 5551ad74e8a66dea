"""The real sets, where MECHCONN_DATA names a folder that has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mechconn as mc
from mechconn.datasets import ImageSet, make_cued_set

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def present(root: Path, name: str) -> Path:
    if not (root / name).is_dir():
        pytest.skip(f"MECHCONN_DATA has no folder {name}")
    return root


@pytest.mark.slow
def test_all_of_cifar10_is_read_and_cued(data_root: Path) -> None:
    root = present(data_root, "cifar10")
    parts = [mc.datasets.load("cifar10", root=root, split=split) for split in ("train", "test")]
    assert [tuple(part.x.shape) for part in parts] == [(50_000, 3, 32, 32), (10_000, 3, 32, 32)]
    assert [part.y.bincount().tolist() for part in parts] == [[5000] * 10, [1000] * 10]
    assert parts[0].classes == parts[1].classes == CLASSES
    whole = ImageSet(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]), CLASSES)
    cued = make_cued_set(whole, mc.BoxCue()).with_proportion(0.8)
    assert int((cued.cue_values < 9).sum()) == 0.8 * 54_000


def test_the_four_splits_of_cifar10_look_as_they_should(data_root: Path) -> None:
    task = mc.datasets.cue_task("cifar10", root=present(data_root, "cifar10"), rows=500, test_rows=300)
    index = torch.arange(300)
    splits = {name: data for name, data in task.suite.items() if isinstance(data, mc.CuedSet)}
    x = {name: data.inputs(index) for name, data in splits.items()}
    green = torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(3, 3, 3)
    for row, label in enumerate(splits["cue"].y.tolist()):
        if label < 9:
            top, left = (0, 14, 29)[label // 3], (0, 14, 29)[label % 3]
            assert torch.equal(x["cue"][row, :, top : top + 3, left : left + 3], green)
            assert torch.equal(x["rand_image"][row, :, top : top + 3, left : left + 3], green)
        changed = (x["cue"][row] != x["no_cue"][row]).any(0)
        assert int(changed.sum()) == (9 if label < 9 else 0)
    assert abs(float(x["no_cue"].mean())) < 0.2
    assert int((task.train.cue_values < 9).sum()) > 300


def test_dominoes_of_the_real_sets(data_root: Path) -> None:
    root = present(present(data_root, "cifar10"), "fashion_mnist")
    train, test = (mc.datasets.load("fashion_mnist", root=root, split=split, rows=1000) for split in ("train", "test"))
    assert train.x.shape == (1000, 1, 28, 28)
    task = mc.datasets.cue_task(
        "cifar10", root=root, rows=200, test_rows=100, cue=mc.DominoesCue(train), test_cue=mc.DominoesCue(test)
    )
    cued = task.suite["cue"]
    assert isinstance(cued, mc.CuedSet)
    assert torch.equal(test.y[cued.cue_values], cued.y)
    x = cued.inputs(torch.arange(100))
    assert x.shape == (100, 3, 64, 32)
    upper, lower = x[:, :, :32], x[:, :, 32:]
    assert float(upper.min()) == 0.0
    assert float(lower.min()) < -0.9
    assert 0.1 < float(upper.mean()) < 0.5  # Fashion-MNIST's mean brightness is 0.29
    assert torch.equal(upper[:, 0], upper[:, 2])


def test_a_limit_gives_the_first_rows(data_root: Path) -> None:
    root = present(data_root, "cifar10")
    few = mc.datasets.load("cifar10", root=root, split="test", rows=50)
    more = mc.datasets.load("cifar10", root=root, split="test", rows=300)
    assert len(few) == 50
    assert torch.equal(few.x, more.x[:50])
