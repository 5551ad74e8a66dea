"""Sets in the hub's parquet layout: every byte, every label, whatever the columns and files are called."""

from __future__ import annotations

import builtins
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image
from torch import Tensor

import mechconn as mc
from image_files import SIDE, pixels, png, pngs, write, write_set
from mechconn.datasets import ImageSet


def expected(rows: range, channels: int = 3) -> Tensor:
    return torch.stack([torch.from_numpy(pixels(row, channels)).permute(2, 0, 1) for row in rows])


def test_images_labels_and_names_of_both_splits(tmp_path: Path) -> None:
    write_set(tmp_path / "cifar10")
    train = mc.datasets.load("cifar10", root=tmp_path)
    test = mc.datasets.load("cifar10", root=str(tmp_path), split="test")
    assert torch.equal(train.x, expected(range(12)))
    assert torch.equal(test.x, expected(range(12, 18)))
    assert train.x.is_contiguous()
    assert train.y.tolist() == [row % 3 for row in range(12)]
    assert train.classes == test.classes == ("class 0", "class 1", "class 2")


def test_the_root_may_stand_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "cifar10")
    monkeypatch.setenv("MECHCONN_DATA", str(tmp_path))
    assert len(mc.datasets.load("cifar10")) == 12
    monkeypatch.setenv("MECHCONN_DATA", "")
    with pytest.raises(ValueError, match=r"pass root=, the folder that holds cifar10/, or set .* MECHCONN_DATA"):
        mc.datasets.load("cifar10")


def test_rows_come_in_order_across_shards(tmp_path: Path) -> None:
    for shard, rows in enumerate([range(0, 5), range(5, 5), range(5, 9)]):
        write(tmp_path / f"data/train-0000{shard}-of-00003.parquet", pngs(len(rows), first=rows.start), list(rows))
    data = mc.datasets.load(tmp_path)
    assert torch.equal(data.x, expected(range(9)))
    assert data.y.tolist() == list(range(9))
    # Without names in the file, classes are numbers.
    assert data.classes == tuple(map(str, range(9)))
    assert torch.equal(mc.datasets.load(tmp_path, rows=7).x, expected(range(7)))


def test_rows_left_out_are_not_decoded(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [*pngs(4), b"no image"], [0, 1, 2, 0, 1])
    first = mc.datasets.load(tmp_path, rows=4)
    assert torch.equal(first.x, expected(range(4)))
    with pytest.raises(ValueError, match="asked for 6 samples, but only 5 exist"):
        mc.datasets.load(tmp_path, rows=6)
    with pytest.raises(ValueError, match="rows must be a whole number greater than zero"):
        mc.datasets.load(tmp_path, rows=0)


@pytest.mark.parametrize("name", ["train.parquet", "train-00000-of-00001-0a1b2c.parquet", "default/train/0000.parquet"])
def test_file_names_of_the_hub(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, pngs(3), [0, 1, 2])
    write(tmp_path / ".cache" / "train.parquet", pngs(1), [0])
    assert len(mc.datasets.load(tmp_path)) == 3


def test_columns_are_found_by_type(tmp_path: Path) -> None:
    more = {"caption": pa.array(["a", "b", "c"]), "score": pa.array([0.5, 0.5, 0.5])}
    write(tmp_path / "train.parquet", pngs(3), [2, 0, 1], columns=("picture", "kind"), more=more)
    data = mc.datasets.load(tmp_path)
    assert torch.equal(data.x, expected(range(3)))
    assert data.y.tolist() == [2, 0, 1]


def test_a_class_label_goes_before_other_numbers_and_others_can_be_named(tmp_path: Path) -> None:
    more = {"width": pa.array([4, 4, 4]), "thumb": pa.array(pngs(3, first=10), pa.binary())}
    write(tmp_path / "train.parquet", pngs(3), [2, 0, 1], columns=("img", "kind"), names=list("abc"), more=more)
    data = mc.datasets.load(tmp_path, image="img")
    assert data.y.tolist() == [2, 0, 1]
    assert data.classes == ("a", "b", "c")
    other = mc.datasets.load(tmp_path, image="thumb", label="width")
    assert torch.equal(other.x, expected(range(10, 13)))
    assert other.y.tolist() == [4, 4, 4]


def test_cifar100_takes_its_fine_labels_unless_told_otherwise(tmp_path: Path) -> None:
    more = {"coarse_label": pa.array([1, 0, 1])}
    file = tmp_path / "cifar100/cifar100/train-00000-of-00001.parquet"
    write(file, pngs(3), [7, 8, 9], columns=("img", "fine_label"), more=more)
    assert mc.datasets.load("cifar100", root=tmp_path).y.tolist() == [7, 8, 9]
    assert mc.datasets.load("cifar100", root=tmp_path, label="coarse_label").y.tolist() == [1, 0, 1]


def test_grey_images_keep_one_channel_unless_asked(tmp_path: Path) -> None:
    write_set(tmp_path / "fashion_mnist", channels=1, config="fashion_mnist")
    grey = mc.datasets.load("fashion_mnist", root=tmp_path)
    colour = mc.datasets.load("fashion_mnist", root=tmp_path, rgb=True)
    assert torch.equal(grey.x, expected(range(12), 1))
    assert torch.equal(colour.x, grey.x.expand(-1, 3, -1, -1))


def test_images_are_resized_when_asked(tmp_path: Path) -> None:
    flat = [np.full((side, side, 3), value, np.uint8) for side, value in ((4, 10), (7, 200))]
    write(tmp_path / "train.parquet", [png(image) for image in flat], [0, 1])
    data = mc.datasets.load(tmp_path, size=5)
    assert data.x.shape == (2, 3, 5, 5)
    assert [int(image.unique()) for image in data.x] == [10, 200]


def encoded(image: Image.Image, form: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("mode", "form", "channels"),
    [("1", "png", 1), ("LA", "png", 1), ("P", "png", 3), ("RGBA", "png", 3), ("CMYK", "jpeg", 3), ("L", "jpeg", 1)],
)
def test_modes_become_grey_or_colour(tmp_path: Path, mode: str, form: str, channels: int) -> None:
    image = Image.new("L", (SIDE, SIDE), 255).convert(mode)
    write(tmp_path / "train.parquet", [encoded(image, form)] * 2, [0, 1])
    data = mc.datasets.load(tmp_path)
    assert data.x.shape == (2, channels, SIDE, SIDE)
    assert int(data.x.min()) == 255


def test_many_rows_keep_their_order_through_the_threads(tmp_path: Path) -> None:
    values = [np.full((2, 2, 3), (row % 256, row // 256, 7), np.uint8) for row in range(1100)]
    write(tmp_path / "train.parquet", [png(image) for image in values], [0] * 1100)
    x = mc.datasets.load(tmp_path).x
    assert (x[:, 0, 1, 1].long() + 256 * x[:, 1, 0, 0].long()).tolist() == list(range(1100))


def test_changed_files_are_read_anew(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    write(tmp_path / "train.parquet", pngs(3), [0, 1, 2])
    before = mc.datasets.load(tmp_path)
    write(tmp_path / "train.parquet", pngs(3, first=50), [2, 1, 0])
    after = mc.datasets.load(tmp_path)
    assert before.y.tolist() == [0, 1, 2]
    assert after.y.tolist() == [2, 1, 0]
    assert torch.equal(after.x, expected(range(50, 53)))


def test_what_is_loaded_is_an_image_set(tmp_path: Path) -> None:
    write_set(tmp_path)
    data = mc.datasets.load(tmp_path)
    assert isinstance(data, ImageSet)
    assert data.x.dtype == torch.uint8
    assert data.y.dtype == torch.int64
    assert torch.equal(data.inputs(torch.tensor([3])), expected(range(3, 4)).float() / 127.5 - 1)


# ---------------------------------------------------------------- what is wrong with the files


FILE = r"data/train-00000-of-00001\.parquet"


def one(folder: Path, images: list[bytes | None], labels: list[int | None], **more: Any) -> Path:
    write(folder / "data/train-00000-of-00001.parquet", images, labels, **more)
    return folder


def cut(folder: Path, keep: float) -> Path:
    """A set whose training file ends early."""
    file = one(folder, pngs(9), [0, 1, 2] * 3) / "data/train-00000-of-00001.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    return folder


def spoilt(folder: Path) -> Path:
    """A set whose footer is fine and whose pages are not."""
    file = one(folder, pngs(9), [0, 1, 2] * 3) / "data/train-00000-of-00001.parquet"
    whole = bytearray(file.read_bytes())
    whole[4 : len(whole) // 2] = b"\xff" * (len(whole) // 2 - 4)
    file.write_bytes(bytes(whole))
    return folder


def table(folder: Path, columns: dict[str, Any]) -> Path:
    file = folder / "data/train-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    parquet.write_table(pa.table(columns), file)
    return folder


def two_shards(folder: Path, second: Callable[[Path], object]) -> Path:
    write(folder / "data/train-00000-of-00002.parquet", pngs(4), [0, 1, 2, 0])
    second(folder / "data/train-00001-of-00002.parquet")
    return folder


def sixteen_bits(file: Path) -> bytes:
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(file, "png")
    return file.read_bytes()


def half_an_image() -> bytes:
    whole = png(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    return whole[: len(whole) // 2]


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty file": (lambda f: cut(f, 0.0), rf"{FILE} cannot be read as parquet \(.+\); it is damaged or cut short"),
    "cut short": (lambda f: cut(f, 0.6), rf"{FILE} cannot be read as parquet \(.+\); it is damaged or cut short"),
    "damaged pages": (spoilt, rf"{FILE}.* (cannot be read as parquet|cannot decode the image)"),
    "no rows": (lambda f: one(f, [], []), rf"{FILE} holds no samples"),
    "undecodable image": (
        lambda f: one(f, [*pngs(2), b"GIF? no"], [0, 1, 2]),
        rf"{FILE} row 2: cannot decode the image \(cannot identify image file\); repair or remove it",
    ),
    "half an image": (lambda f: one(f, [png(pixels(0)), half_an_image()], [0, 1]), rf"{FILE} row 1: cannot decode"),
    "null image": (lambda f: one(f, [*pngs(1), None], [0, 1]), rf"{FILE} row 1: the row holds no image; remove it"),
    "null first image": (lambda f: one(f, [None, *pngs(1)], [0, 1]), rf"{FILE} row 0: the row holds no image"),
    "null label": (
        lambda f: one(f, pngs(5), [0, 1, 0, 1, None]),
        rf"{FILE} row 4: the label in column 'label' is null; remove the row",
    ),
    "label out of range": (
        lambda f: one(f, pngs(4), [0, 1, 3, 2], names=["a", "b", "c"]),
        rf"{FILE} row 2: label 3 in column 'label' is outside 0 \.\.\. 2",
    ),
    "negative label": (lambda f: one(f, pngs(3), [0, -1, 1]), rf"{FILE} row 1: -1 in column 'label' names no class"),
    "labels that are not known": (
        lambda f: one(f, pngs(3), [-1, -1, -1]),
        rf"{FILE} row 0: -1 in column 'label' names no class; leave out rows without a label",
    ),
    "numbers that are no classes": (
        lambda f: one(f, pngs(2), [0, 10**9], columns=("img", "id")),
        rf"{FILE} row 1: 1000000000 in column 'id' is no class number; name the column of the classes with label=",
    ),
    "different sizes": (
        lambda f: one(f, [*pngs(2), png(pixels(0, side=9))], [0, 1, 2]),
        rf"{FILE} row 2: the image is 9 x 9 pixels with 3 channels, but .*{FILE} row 0 is 6 x 6 pixels .* size=",
    ),
    "grey among colour": (
        lambda f: one(f, [*pngs(1), *pngs(1, 1)], [0, 1]),
        rf"{FILE} row 1: the image is 6 x 6 pixels with 1 channel, but .* with 3 channels; .* rgb=True",
    ),
    "sixteen bits": (
        lambda f: one(f, [sixteen_bits(f / "deep.png")], [0]),
        rf"{FILE} row 0: images of mode I;16 are not read; convert them to 8 bits per channel",
    ),
    "no image column": (
        lambda f: table(f, {"text": ["a"], "label": [0]}),
        rf"{FILE}: no column is an image; name it: image=\.\.\. \(columns: text \(string\), label \(int64\)\)",
    ),
    "no label column": (
        lambda f: table(f, {"img": [b"x"], "text": ["a"]}),
        rf"{FILE}: no column is a label; name it: label=\.\.\. \(columns: img \(binary\), text \(string\)\)",
    ),
    "two label columns": (
        lambda f: one(f, pngs(2), [0, 1], columns=("img", "a"), more={"b": [1, 0]}),
        rf"{FILE}: several columns may be the label: a, b; name it: label=",
    ),
    "a damaged second shard": (
        lambda f: two_shards(f, lambda file: file.write_bytes(b"PAR1")),
        r"train-00001-of-00002\.parquet cannot be read as parquet",
    ),
    "an image of the second shard": (
        lambda f: two_shards(f, lambda file: write(file, [*pngs(2), b"?"], [0, 1, 2])),
        r"train-00001-of-00002\.parquet row 2: cannot decode",
    ),
    "a label of the second shard": (
        lambda f: two_shards(f, lambda file: write(file, pngs(2), [0, -5])),
        r"train-00001-of-00002\.parquet row 1: -5 in column 'label' names no class",
    ),
    "other columns in the second shard": (
        lambda f: two_shards(f, lambda file: write(file, pngs(1), [0], columns=("img", "kind"))),
        r"train-00001-of-00002\.parquet: there is no column 'label' for label=; columns: img \(struct\), kind",
    ),
    "a missing shard": (
        lambda f: write(f / "data/train-00000-of-00005.parquet", pngs(1), [0]).parents[1],
        "split 'train' has 1 files, but their names speak of 5; copy the missing ones",
    ),
    "two configurations": (
        lambda f: write_set(write_set(f, config="small"), config="large"),
        "holds the split 'test' in several folders: large, small; pass the path of one",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_one_line_names_the_file_and_the_row(tmp_path: Path, case: str) -> None:
    make, message = BROKEN[case]
    with pytest.raises(ValueError, match=message) as caught:
        mc.datasets.load(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": "picture"}, r"there is no column 'picture' for image=; columns: img \(struct\), label \(int64\)"),
        ({"label": "kind"}, r"there is no column 'kind' for label=; columns: img \(struct\), label \(int64\)"),
        ({"image": "label"}, r"column 'label' for image= must hold images \(\{bytes, path\} or bytes\), it is int64"),
        ({"label": "img"}, r"column 'img' for label= must hold whole numbers, or names of classes, it is struct"),
    ],
)
def test_a_column_that_is_not_there_or_not_of_its_kind(tmp_path: Path, wrong: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mc.datasets.load(one(tmp_path, pngs(2), [0, 1]), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("package", ["pyarrow", "PIL"])
def test_a_package_that_is_missing_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    one(tmp_path, pngs(2), [0, 1])
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    message = rf"needs the package {package}, which is not installed; pip install 'mechconn\[data\]'"
    with pytest.raises(ImportError, match=message):
        mc.datasets.load(tmp_path)
