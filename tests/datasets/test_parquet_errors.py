"""What is wrong with files of images is said in one line that names the file and the row."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

import mechconn as mc
from image_files import pixels, png, pngs, write, write_set

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
    "negative label": (lambda f: one(f, pngs(3), [0, -1, 1]), rf"{FILE} row 1: label -1 .* is outside 0 \.\.\. 1"),
    "numbers that are no classes": (
        lambda f: one(f, pngs(2), [0, 10**9], columns=("img", "id")),
        rf"{FILE} row 1: 1000000000 in column 'id' is no class number; name the column of the classes: label=",
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
        r"train-00001-of-00002\.parquet row 1: label -5",
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
        ({"label": "img"}, r"column 'img' for label= must hold whole numbers, it is struct"),
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
