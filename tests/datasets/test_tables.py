"""Image sets that a table lists."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mechconn as mc
from image_files import pixels, write_class_folder
from mechconn.datasets import load, load_column, load_splits


def images(folder: Path, count: int = 4) -> None:
    write_class_folder(folder / "photos", {f"{row}.png": pixels(row) for row in range(count)})


def table(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def birds(folder: Path, name: str = "birds.csv") -> Path:
    images(folder)
    rows = ("photos/2.png,owl,land", "photos/0.png,gull,sea", "photos/1.png,gull,land", "photos/3.png,owl,sea")
    return table(folder / name, "file,label,place", *rows)


def numbers(data: mc.datasets.ImageSet) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


def test_rows_are_in_the_tables_order_and_classes_are_sorted(tmp_path: Path) -> None:
    data = load(birds(tmp_path))
    assert (data.classes, numbers(data), data.y.tolist()) == (("gull", "owl"), [2, 0, 1, 3], [1, 0, 0, 1])
    assert torch.equal(data.x[0], torch.from_numpy(pixels(2)).permute(2, 0, 1))
    assert numbers(load(str(tmp_path / "birds.csv"), rows=2)) == [2, 0]
    assert load("birds.csv", root=tmp_path, size=3, rgb=True).x.shape == (4, 3, 3, 3)


def test_groups_are_matched_to_their_rows(tmp_path: Path) -> None:
    file = birds(tmp_path)
    data = load_splits({"cue": file})["cue"]
    suite = mc.Suite(mc.split_by_group(data, load_column(file, "place")), reference="land")
    assert {place: len(part) for place, part in suite.items()} == {"land": 2, "sea": 2}  # pyright: ignore
    assert [int(b) for b in data.inputs(torch.tensor([0, 2]))[:, 0, 0, 0].add(1).mul(127.5).round()] == [2, 1]


def test_a_column_divides_the_rows_and_all_of_them_name_the_classes(tmp_path: Path) -> None:
    images(tmp_path)
    file = table(
        tmp_path / "birds.tsv",
        "label\tpath\tsplit\twhere",
        *("7\tphotos/0.png\ttrain\ta", "0\tphotos/1.png\ttest\tb", "3\tphotos/2.png\ttrain\tc"),
    )
    train, test = load(file), load(file, split="test")
    assert (train.y.tolist(), test.y.tolist(), len(test.classes)) == ([7, 3], [0], 8)
    splits = load_splits({"cue": f"{file}#train", "rand_cue": f"{file}#test"})
    assert [len(data) for data in splits.values()] == [2, 1]
    assert load_column(f"{file}#train", "where") == ("a", "c")
    with pytest.raises(ValueError, match="has not one split but these: test, train; name one after '#'"):
        load_splits({"cue": file})
    with pytest.raises(ValueError, match="has not one split but these"):
        load_column(file, "where")
    with pytest.raises(ValueError, match="must be one of 'test', 'train', got 'tst'; did you mean 'test'"):
        load_column(f"{file}#tst", "where")
    with pytest.raises(ValueError, match="must be one of 'test', 'train', got 'valid'"):
        load(file, split="valid")


WRONG = {
    "column": (["name,label", "photos/0.png,a"], "is called as one of the image (file, file_name, filename, path, im"),
    "two columns": (["file,path,label", "a,b,c"], "name it: image=... (columns: file, path, label)"),
    "class": (["file,kind", "photos/0.png,a"], "is called as one of the label (label, class, y); name it: label=..."),
    "value": (["file,label", "photos/0.png,a", "photos/1.png,"], "row 1: column 'label' is empty; every row needs a"),
    "short row": (["file,label", "photos/0.png"], "row 0 (line 2) has 1 field, but the header has 2"),
    "long row": (["file,label", "photos/0.png,a", "b,c,d"], "row 1 (line 3) has 3 fields, but the header has 2"),
    "named twice": (["file,label,label", "a,b,c"], "has several columns called 'label'; give each a name of its own"),
    "file": (
        ["file,label", "photos/0.png,a", "x/9.png,a", "8.png,b"],
        "x/9.png (2 of the listed ones are missing); pa",
    ),
    "number": (["file,label", "photos/0.png,0", "photos/1.png,123456"], "row 1: 123456 in column 'label' is no class"),
    "rows": (["file,label"], "holds no samples"),
    "kind": (["file,label", "t.csv,a"], "cannot decode the image"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line(tmp_path: Path, case: str) -> None:
    images(tmp_path)
    lines, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        load(table(tmp_path / "t.csv", *lines))
    assert text in str(caught.value) and "t.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_named_column_and_a_broken_file(tmp_path: Path) -> None:
    file = birds(tmp_path)
    assert load(file, label="place").classes == ("land", "sea")
    with pytest.raises(ValueError, match="has no column 'plaice'; columns: file, label, place"):
        load(file, label="plaice")
    file.write_bytes(b"file,label\n\xff\xfe,a\n")
    with pytest.raises(ValueError, match=r"cannot be read as a table in UTF-8 \("):
        load(file)
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.csv; check its path"):
        load_splits({"cue": tmp_path / "none.csv"})
    with pytest.raises(ValueError, match="asked for 9 samples, but only 4 exist"):
        load(birds(tmp_path), rows=9)


def test_what_is_wrong_with_several_splits_is_told_together(tmp_path: Path) -> None:
    images(tmp_path)
    empty = table(tmp_path / "t.csv", "file,label")
    with pytest.raises(ValueError) as caught:
        load_splits({"cue": tmp_path / "a.csv", "rand_cue": tmp_path / "b.parquet", "no_cue": empty})
    assert [line.split(";")[0] for line in str(caught.value).splitlines()] == [
        f"no file {tmp_path / 'a.csv'}",
        f"no file {tmp_path / 'b.parquet'}",
        f"{empty} holds no samples",
    ]
    with pytest.raises(FileNotFoundError, match=r"a\.csv") as missing:
        load_splits({"cue": tmp_path / "a.csv", "rand_cue": tmp_path / "b.csv", "again": tmp_path / "a.csv"})
    assert len(str(missing.value).splitlines()) == 2
