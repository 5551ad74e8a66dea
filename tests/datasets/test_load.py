"""Names, paths and tasks: what is found where, and what is said when it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import mechconn as mc
from image_files import write_set
from mechconn.datasets import ImageSet


def test_a_folder_by_path_or_below_the_root(tmp_path: Path) -> None:
    write_set(tmp_path / "pets")
    assert len(mc.datasets.load(tmp_path / "pets", split="test")) == 6
    assert len(mc.datasets.load("pets", root=tmp_path)) == 12
    assert len(mc.datasets.load(tmp_path / "pets" / "plain_text")) == 12


NOT_THERE: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no folder of that name": (
        lambda root: mc.datasets.load("cifar10", root=root / "nowhere"),
        FileNotFoundError,
        r"no folder .*nowhere/cifar10; cifar10 is read from .*cifar10/<any folder>/train-\*\.parquet: check root=",
    ),
    "no such path": (
        lambda root: mc.datasets.load(root / "pets"),
        FileNotFoundError,
        r"no folder .*pets; pass the path of a folder of images",
    ),
    "no split": (
        lambda root: mc.datasets.load(write_set(root), split="validation"),
        FileNotFoundError,
        "has no split 'validation'; splits found: test, train",
    ),
    "a misspelt name": (
        lambda root: mc.datasets.load("cifar01", root=root),
        ValueError,
        r"dataset must be one of 'digits', 'cifar10', .* got 'cifar01'; did you mean 'cifar10'\?",
    ),
    "a split of the digits": (
        lambda root: mc.datasets.load("digits", split="test"),
        ValueError,
        r"the digits have no split 'test'; divide them: load\('digits'\)\.split",
    ),
    "planted data": (lambda root: mc.datasets.load("planted"), ValueError, "planted data are made, not loaded"),
    "a size of zero": (lambda root: mc.datasets.load(root, size=0), ValueError, "size must be a whole number"),
}


@pytest.mark.parametrize("case", NOT_THERE)
def test_what_is_not_there_is_said_in_one_line(tmp_path: Path, case: str) -> None:
    call, kind, message = NOT_THERE[case]
    with pytest.raises(kind, match=message) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- tasks


def contents(data: object) -> torch.Tensor:
    assert isinstance(data, mc.CuedSet)
    return data.content.inputs(torch.arange(len(data.content)))


def test_a_named_set_makes_a_task_like_the_digits(tmp_path: Path) -> None:
    write_set(tmp_path / "cifar10", train=30, test=12)
    task = mc.datasets.cue_task("cifar10", root=tmp_path, proportion=0.5)
    assert torch.equal(contents(task.train), mc.datasets.load("cifar10", root=tmp_path).inputs(torch.arange(30)))
    test = mc.datasets.load("cifar10", root=tmp_path, split="test")
    assert torch.equal(contents(task.suite["cue"]), test.inputs(torch.arange(12)))
    assert task.num_classes == 3
    assert int((task.train.cue_values < 9).sum()) == 15
    assert int((task.clean.cue_values < 9).sum()) == 0


def test_rows_and_test_rows_take_the_first(tmp_path: Path) -> None:
    write_set(tmp_path / "cifar10", train=30, test=12)
    task = mc.datasets.cue_task("cifar10", root=tmp_path, rows=9, test_rows=5)
    full = mc.datasets.cue_task("cifar10", root=tmp_path)
    assert torch.equal(contents(task.train), contents(full.train)[:9])
    assert torch.equal(contents(task.suite["no_cue"]), contents(full.suite["no_cue"])[:5])
    digits = mc.datasets.cue_task("digits", rows=50, test_rows=20)
    whole = mc.datasets.cue_task("digits")
    assert torch.equal(contents(digits.train), contents(whole.train)[:50])
    assert len(contents(digits.suite["cue"])) == 20
    planted = mc.datasets.cue_task("planted", rows=40, test_rows=30)
    assert (len(planted.train), len(contents(planted.suite["cue"]))) == (40, 30)


def noise(rows: int, classes: int, channels: int = 3) -> ImageSet:
    x = torch.zeros(rows, channels, 32, 32, dtype=torch.uint8)
    return ImageSet(x, torch.arange(rows) % classes, tuple(map(str, range(classes))))


def test_the_default_cue_suits_the_images() -> None:
    assert mc.datasets.cue_task(noise(20, 4)).train.cue == mc.BoxCue(values=4)
    assert mc.datasets.cue_task(noise(200, 100)).train.cue == mc.HueBoxCue()
    assert mc.datasets.cue_task(noise(20, 4, channels=1)).train.cue == mc.BoxCue(colour=(1.0,), values=4)


WRONG_TASKS: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "other shapes": (
        lambda root: mc.datasets.cue_task(noise(20, 2), test=noise(8, 2, channels=1)),
        ValueError,
        r"training images have shape \[3, 32, 32\] but test images \[1, 32, 32\]; load both the same way",
    ),
    "other classes": (
        lambda root: mc.datasets.cue_task(noise(20, 2), test=noise(8, 3)),
        ValueError,
        "training images have the classes 0, 1 but test images 0, 1, 2; their labels must mean the same",
    ),
    "too many rows": (
        lambda root: mc.datasets.cue_task(write_set(root), rows=13),
        ValueError,
        "rows: asked for 13 samples, but only 12 exist",
    ),
    "no rows": (lambda root: mc.datasets.cue_task("planted", rows=0), ValueError, "rows must be a whole number"),
    "a cue for planted data": (
        lambda root: mc.datasets.cue_task("planted", cue=mc.BoxCue()),
        TypeError,
        "planted data bring a cue and test data of their own",
    ),
    "a misspelt name": (
        lambda root: mc.datasets.cue_task("plantd"),
        ValueError,
        r"got 'plantd'; did you mean 'planted'\?",
    ),
}


@pytest.mark.parametrize("case", WRONG_TASKS)
def test_wrong_tasks_are_refused(tmp_path: Path, case: str) -> None:
    call, kind, message = WRONG_TASKS[case]
    with pytest.raises(kind, match=message) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- image sets


def test_first_rows_and_moving() -> None:
    data = noise(6, 2)
    assert data.first(None) is data
    assert data.first(4).y.tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="rows: asked for 7 samples, but only 6 exist"):
        data.first(7)
    moved = data.to("meta")
    assert moved.x.device.type == "meta"
    assert moved.y.device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.parametrize("cue", [mc.BoxCue(), mc.HueBoxCue(), mc.DominoesCue(noise(20, 4, channels=1))])
def test_scenes_on_a_gpu_are_those_on_the_cpu(cue: mc.Cue) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (20, 3, 32, 32), generator=draw, dtype=torch.uint8)
    task = mc.datasets.cue_task(ImageSet(x, torch.arange(20) % 4, tuple("abcd")), cue=cue)
    changed = mc.Translate(3)(mc.ColourShift()(mc.Rotate(20)(task.train)))
    for scenes in (task.train, changed):
        index = torch.arange(len(scenes))
        there = scenes.to("cuda").inputs(index)
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), scenes.inputs(index), rtol=0, atol=1e-5)  # grid_sample's rounding
