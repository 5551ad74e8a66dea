"""Sets as folders of classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mechconn as mc
from image_files import pixels, write_class_folder


def three_classes(folder: Path, first: int = 0) -> Path:
    """cat: rows 0 and 3, dog: row 1, owl: rows 2 and 4, each counted from `first`."""
    files = {"cat": {"a.png": 0, "b.png": 3}, "dog": {"a.png": 1}, "owl": {"x.PNG": 2, "y.png": 4}}
    for name, images in files.items():
        write_class_folder(folder / name, {file: pixels(first + row) for file, row in images.items()})
    return folder


def numbers(data: mc.datasets.ImageSet) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


def test_classes_take_turns_so_that_the_first_rows_are_balanced(tmp_path: Path) -> None:
    data = mc.datasets.load(three_classes(tmp_path))
    assert data.classes == ("cat", "dog", "owl")
    assert numbers(data) == [0, 1, 2, 3, 4]
    assert data.y.tolist() == [0, 1, 2, 0, 2]
    assert torch.equal(data.x[4], torch.from_numpy(pixels(4)).permute(2, 0, 1))
    assert numbers(mc.datasets.load(tmp_path, rows=3)) == [0, 1, 2]


def test_train_and_test_below_the_folder(tmp_path: Path) -> None:
    three_classes(tmp_path / "train")
    three_classes(tmp_path / "test", 10)
    assert numbers(mc.datasets.load(str(tmp_path))) == [0, 1, 2, 3, 4]
    assert numbers(mc.datasets.load(tmp_path, split="test")) == [10, 11, 12, 13, 14]


def test_a_class_that_one_split_lacks_keeps_its_number(tmp_path: Path) -> None:
    three_classes(tmp_path / "train")
    write_class_folder(tmp_path / "test" / "owl", {"z.png": pixels(9)})
    test = mc.datasets.load(tmp_path, split="test")
    assert test.classes == ("cat", "dog", "owl")
    assert test.y.tolist() == [2]


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    three_classes(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("good cats")
    (tmp_path / "cat" / ".hidden.png").write_text("no image")
    (tmp_path / ".cache").mkdir()
    assert len(mc.datasets.load(tmp_path)) == 5


def test_a_task_without_a_test_folder_holds_out_a_fifth(tmp_path: Path) -> None:
    for k in range(2):
        images = {f"{i}.png": pixels(10 * k + i) for i in range(10)}
        write_class_folder(tmp_path / f"class {k}", images)
    task = mc.datasets.cue_task(tmp_path, seed=1)
    test = task.suite["no_cue"]
    assert isinstance(test, mc.CuedSet)
    assert (len(task.train), len(test), task.num_classes) == (16, 4, 2)
    train_x, test_x = (data.content.inputs(torch.arange(len(data))) for data in (task.train, test))
    assert len(torch.cat([train_x, test_x]).unique(dim=0)) == 20


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    (three_classes(tmp_path) / "zebra").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*zebra holds no images \(\.png, .*\); fill or remove it"):
        mc.datasets.load(tmp_path)


def test_an_undecodable_file_is_named(tmp_path: Path) -> None:
    (three_classes(tmp_path) / "dog" / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"dog/b\.png: cannot decode the image \(cannot identify image file\)"):
        mc.datasets.load(tmp_path)


def test_a_file_of_another_size_is_named(tmp_path: Path) -> None:
    write_class_folder(three_classes(tmp_path) / "dog", {"b.png": pixels(7, side=9)})
    with pytest.raises(ValueError, match=r"dog/b\.png: the image is 9 x 9 pixels .* but .*cat/a\.png is 6 x 6"):
        mc.datasets.load(tmp_path)
    assert mc.datasets.load(tmp_path, size=4).x.shape == (6, 3, 4, 4)


def test_a_folder_that_holds_no_images(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no split 'train'; splits found: none: neither <split>-\*"):
        mc.datasets.load(tmp_path)
    three_classes(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no split 'test'; splits found: train"):
        mc.datasets.load(tmp_path, split="test")


def test_rows_of_files_with_equal_names_show_the_same_sample(tmp_path: Path) -> None:
    """So that an audit says on how many predictions change; other names, or another order, and it does not."""
    for split, names in (("cue", "abc"), ("turned", "abc"), ("other", "abd")):
        for label, kind in enumerate(("bird", "fish")):
            images = {f"{name}.png": pixels(label) for name in names}
            write_class_folder(tmp_path / split / kind, images)
    places = {split: str(tmp_path / split) for split in ("cue", "turned", "other")}
    for scale in ({}, {"mean": (0.5,), "std": (0.5,)}):
        sets = mc.datasets.load_splits(places, **scale)  # pyright: ignore[reportArgumentType]
        suite = mc.Suite(sets, reference="cue")
        assert (suite.rows_shared("turned"), suite.rows_shared("other")) == (True, False)
