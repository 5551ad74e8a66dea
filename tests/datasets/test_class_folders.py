"""Sets as folders of classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mechconn as mc
from image_files import pixels, write_class_folder


def three_classes(folder: Path, first: int = 0) -> Path:
    """cat: images 0 and 3, dog: image 1, owl: images 2 and 4, each counted from `first`."""
    files = {"cat": {"a.png": 0, "b.png": 3}, "dog": {"a.png": 1}, "owl": {"x.PNG": 2, "y.png": 4}}
    for name, images in files.items():
        write_class_folder(folder / name, {file: pixels(first + row) for file, row in images.items()})
    return folder


def numbers(data: mc.datasets.ImageSet) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


def test_rows_are_in_the_order_of_image_folder(tmp_path: Path) -> None:
    """Classes sorted; within a class by the folder of a file, its own first, then by name; upper case before lower."""
    data = mc.datasets.load(three_classes(tmp_path))
    assert data.classes == ("cat", "dog", "owl")
    assert numbers(data) == [0, 3, 1, 2, 4]
    assert data.y.tolist() == [0, 0, 1, 2, 2]
    assert torch.equal(data.x[4], torch.from_numpy(pixels(4)).permute(2, 0, 1))
    assert mc.datasets.load_column(tmp_path, "class") == ("cat", "cat", "dog", "owl", "owl")
    write_class_folder(tmp_path / "cat" / "a folder", {"0.png": pixels(7)})
    write_class_folder(tmp_path / "cat" / "Z", {"9.png": pixels(8)})
    write_class_folder(tmp_path.with_name("elsewhere"), {"5.png": pixels(9)})
    (tmp_path / "dog" / "linked").symlink_to(tmp_path.with_name("elsewhere"))
    walked = [  # as torchvision 0.28 lists them: sorted(os.walk(class, followlinks=True)), each folder's files sorted
        Path(root) / file
        for name in ("cat", "dog", "owl")
        for root, _, files in sorted(os.walk(tmp_path / name, followlinks=True))
        for file in sorted(files)
    ]
    expected = [pixels_of(file) for file in walked]
    assert numbers(mc.datasets.load(tmp_path)) == expected == [0, 3, 8, 7, 1, 9, 2, 4]


def pixels_of(file: Path) -> int:
    with Image.open(file) as image:
        return int(np.asarray(image)[0, 0, 0])


def test_the_first_rows_are_those_of_classes_that_take_turns(tmp_path: Path) -> None:
    three_classes(tmp_path)
    assert numbers(mc.datasets.load(tmp_path, rows=3)) == [0, 1, 2]
    four = mc.datasets.load(tmp_path, rows=4)
    assert (numbers(four), four.y.tolist()) == ([0, 3, 1, 2], [0, 0, 1, 2])


def test_train_and_test_below_the_folder(tmp_path: Path) -> None:
    three_classes(tmp_path / "train")
    three_classes(tmp_path / "test", 10)
    assert numbers(mc.datasets.load(str(tmp_path))) == [0, 3, 1, 2, 4]
    assert numbers(mc.datasets.load(tmp_path, split="test")) == [10, 13, 11, 12, 14]
    (tmp_path / "val").mkdir()
    with pytest.raises(ValueError, match=r"split 'val' of .* holds no samples; at least one is needed"):
        mc.datasets.load(tmp_path, split="val")


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
    few = mc.datasets.cue_task(tmp_path, seed=1, rows=6, test_rows=2)
    assert few.train.y.bincount().tolist() == [3, 3]  # not the first rows, all of one class


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


# ---------------------------------------------------------------- domains


def domains(folder: Path) -> Path:
    """DomainBed's layout: <domain>/<class>/*.jpg of PACS and others."""
    first = 0
    for domain in ("sketch", "art"):
        for name in ("dog", "cat"):
            write_class_folder(folder / domain / name, {f"{n}.png": pixels(first + n) for n in range(2)})
            first += 2
    return folder


def test_each_domain_is_a_split_and_all_of_them_one_with_a_column(tmp_path: Path) -> None:
    place = str(domains(tmp_path))
    art, every = mc.datasets.load(place, split="art"), mc.datasets.load(f"{place}", split="all")
    assert (numbers(art), art.y.tolist(), art.classes) == ([6, 7, 4, 5], [0, 0, 1, 1], ("cat", "dog"))
    assert numbers(every) == [6, 7, 4, 5, 2, 3, 0, 1]
    assert mc.datasets.load_column(f"{place}#all", "domain") == ("art",) * 4 + ("sketch",) * 4
    assert mc.datasets.load_column(f"{place}#sketch", "class") == ("cat", "cat", "dog", "dog")
    splits = mc.datasets.load_splits({"cue": f"{place}#art", "moved": f"{place}#sketch"})
    assert [data.y.tolist() for data in splits.values()] == [[0, 0, 1, 1]] * 2
    groups = mc.split_by_group(every, mc.datasets.load_column(f"{place}#all", "domain"))
    assert {name: len(part) for name, part in groups.items()} == {"art": 4, "sketch": 4}
    with pytest.raises(FileNotFoundError, match="has no split 'train'; splits found: art, sketch, all"):
        mc.datasets.load(place)
    with pytest.raises(
        ValueError, match=r"has no column 'domian'; columns of .*: domain, class; did you mean 'domain'"
    ):
        mc.datasets.load_column(f"{place}#all", "domian")
    with pytest.raises(ValueError, match=r"has no column 'domain'; columns of class folders: class"):
        mc.datasets.load_column(tmp_path / "art", "domain")
    with pytest.raises(ValueError, match="has not one split but these: art, sketch, all; name one after '#'"):
        mc.datasets.load_column(tmp_path, "domain")


def test_folders_in_class_folders_are_told_from_domains(tmp_path: Path) -> None:
    """Where sub-folders differ they are of classes, as in ImageFolder; where they do not, the layout can be named."""
    for name, inner in (("cat", "2019"), ("dog", "2020")):
        write_class_folder(tmp_path / "years" / name / inner, {"a.png": pixels(1)})
    assert mc.datasets.load(tmp_path / "years").classes == ("cat", "dog")
    place = domains(tmp_path / "pacs")
    nested = mc.datasets.load(place, layout="classes")
    assert (nested.classes, numbers(nested)) == (("art", "sketch"), [6, 7, 4, 5, 2, 3, 0, 1])
    assert mc.datasets.load_column(place, "class", layout="classes")[:1] == ("art",)
    assert mc.datasets.load(tmp_path / "years", split="dog", layout="domains").classes == ("2019", "2020")
    write_class_folder(place / "art", {"loose.png": pixels(1)})
    assert mc.datasets.load(place).classes == ("art", "sketch")
    with pytest.raises(ValueError, match="layout must be one of 'auto', 'classes', 'domains', got 'domain'"):
        mc.datasets.load(place, layout="domain")  # pyright: ignore[reportArgumentType]
    domains(tmp_path / "split" / "train")
    with pytest.raises(
        ValueError, match=r"train looks like a folder of domains .*; pass its own path, or layout="
    ) as e:
        mc.datasets.load(tmp_path / "split")
    assert "\n" not in str(e.value)
    assert len(mc.datasets.load(tmp_path / "split" / "train", split="all")) == 8
    assert mc.datasets.load(tmp_path / "split", layout="classes").classes == ("art", "sketch")


def test_domains_of_which_one_lacks_a_class_are_not_taken_for_classes(tmp_path: Path) -> None:
    """Else the labels would be the domains; what the error advises is done here."""
    place = domains(tmp_path)
    write_class_folder(place / "sketch" / "house", {"0.png": pixels(9)})
    with pytest.raises(ValueError, match="domains with classes in them, of which art lacks house, or one of classes;"):
        mc.datasets.load(place)
    assert mc.datasets.load(place, split="art", layout="domains").classes == ("cat", "dog", "house")
    assert mc.datasets.load(place, layout="classes").classes == ("art", "sketch")


def test_statistics_of_rows_that_stand_class_after_class_are_those_of_mixed_batches(tmp_path: Path) -> None:
    """Batches of one class are normalised by the statistics of that class, so the rows are shuffled."""
    y = torch.arange(400) // 200
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)) + 4.0 * y[:, None]
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.ReLU(), torch.nn.BatchNorm1d(2))
    mixed = torch.arange(400).view(2, 200).T.flatten()

    def estimate(rows: torch.Tensor, size: int = 50) -> torch.Tensor:
        soup = mc.soup([net, net], norm=mc.Reestimate((x[rows], y[rows]), batch_size=size))
        return mc.point_of(soup).buffers["2.running_mean"]

    whole = estimate(torch.arange(400), 400)
    turns, found = estimate(mixed), estimate(torch.arange(400))
    domains = estimate(torch.arange(400).view(2, 2, 100).transpose(0, 1).flatten())  # each class after class
    downwards = estimate(torch.arange(400).flip(0))
    for estimated in (turns, found, domains, downwards):  # 8 batches of their own means; unshuffled it is 0.05 off
        assert float((estimated - whole).abs().max()) < 0.02


class Listed(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """As torchvision's ImageFolder, whose labels are listed and whose samples take long to read."""

    def __init__(self, x: torch.Tensor, targets: list[int]) -> None:
        self.x, self.targets = x, targets

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.x[row], self.targets[row]


def test_statistics_of_an_image_folder_are_those_of_its_tensors() -> None:
    y = torch.arange(100) // 50
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) + 4.0 * y[:, None]
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.ReLU(), torch.nn.BatchNorm1d(2))
    found = [
        mc.point_of(mc.soup([net, net], norm=mc.Reestimate(data, batch_size=20))).buffers["2.running_mean"]
        for data in ((x, y), Listed(x, y.tolist()))
    ]
    assert torch.equal(*found)
