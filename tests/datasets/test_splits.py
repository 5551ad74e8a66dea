"""One source per split: files, folders, tensors; one list of classes; columns of tables; a model's own scale."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import mechconn as mc
from image_files import pixels, pngs, write, write_class_folder, write_set
from mechconn.core import TensorPair
from mechconn.datasets import ImageSet, Normalised, TokenSet, load_column, load_splits
from texts import texts

NAMES = ["cat", "dog"]


def parquet_file(file: Path, first: int = 0, names: list[str] | None = NAMES, channels: int = 3) -> Path:
    return write(file, pngs(4, channels, first), [0, 1, 0, 1], names=names)


def class_folder(folder: Path, classes: list[str], first: int = 0, side: int = 6) -> Path:
    for number, name in enumerate(classes):
        write_class_folder(folder / name, {"a.png": pixels(first + number, side=side)})
    return folder


def tensors(file: Path, **parts: Tensor) -> Path:
    save_file(parts, file)
    return file


def images(data: object) -> ImageSet:
    assert isinstance(data, ImageSet)
    return data


def test_a_parquet_file_for_every_split(tmp_path: Path) -> None:
    found = load_splits(
        {"cue": parquet_file(tmp_path / "a.parquet"), "no_cue": str(parquet_file(tmp_path / "b.parquet", first=10))}
    )
    assert list(found) == ["cue", "no_cue"]
    assert images(found["no_cue"]).x[:, 0, 0, 0].tolist() == [10, 11, 12, 13]
    assert images(found["cue"]).classes == ("cat", "dog")
    assert found["cue"].y.tolist() == [0, 1, 0, 1]
    suite = mc.Suite(found)
    assert suite.reference == "cue" and len(suite) == 2


def test_folders_and_their_splits_after_a_hash(tmp_path: Path) -> None:
    write_set(tmp_path / "both", train=6, test=3)
    class_folder(tmp_path / "plain", ["class 0", "class 1", "class 2"], first=50)
    found = load_splits(
        {"cue": f"{tmp_path / 'both'}#test", "own": "both#train", "no_cue": tmp_path / "plain"}, root=tmp_path
    )
    assert [images(found[name]).x[0, 0, 0, 0].item() for name in found] == [6, 0, 50]
    odd = class_folder(tmp_path / "odd#test", ["class 0", "class 1"])
    assert len(load_splits({"cue": str(odd)})["cue"]) == 2


def test_images_are_made_alike(tmp_path: Path) -> None:
    small, large = class_folder(tmp_path / "small", NAMES), class_folder(tmp_path / "large", NAMES, side=12)
    grey = parquet_file(tmp_path / "grey.parquet", channels=1)
    sources = {"cue": small, "no_cue": large, "rand_cue": grey}
    with pytest.raises(ValueError) as caught:
        load_splits(sources)
    assert str(caught.value) == (
        "the splits must be of one kind and shape, got cue: ImageSet [3, 6, 6]; no_cue: ImageSet [3, 12, 12]; "
        "rand_cue: ImageSet [1, 6, 6]; pass size= to resize images, rgb=True for colour"
    )
    found = load_splits(sources, size=8, rgb=True)
    assert {tuple(images(data).x.shape[1:]) for data in found.values()} == {(3, 8, 8)}


def test_classes_must_mean_the_same(tmp_path: Path) -> None:
    all_three = class_folder(tmp_path / "a", ["bird", "cat", "dog"])
    lacking = class_folder(tmp_path / "b", ["bird", "dog"])  # its "dog" would be label 1
    with pytest.raises(ValueError) as caught:
        load_splits({"cue": all_three, "no_cue": lacking})
    assert str(caught.value) == (
        "split 'no_cue' has the classes bird, dog, but split 'cue' bird, cat, dog; labels must mean the same in all: "
        "give every split all classes, in one order"
    )
    other = parquet_file(tmp_path / "c.parquet", names=["dog", "cat"])
    with pytest.raises(ValueError, match="split 'b' has the classes dog, cat, but split 'a' cat, dog"):
        load_splits({"a": parquet_file(tmp_path / "d.parquet"), "b": other})


def test_numbered_classes_may_be_missing_at_the_end(tmp_path: Path) -> None:
    x = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    few = tensors(tmp_path / "few.safetensors", x=x, y=torch.tensor([0, 1, 1]))
    many = tensors(tmp_path / "many.safetensors", x=x, labels=torch.tensor([4, 1, 1], dtype=torch.int32))
    found = load_splits({"cue": few, "no_cue": many})
    assert images(found["cue"]).classes == images(found["no_cue"]).classes == ("0", "1", "2", "3", "4")


def test_tensors_of_any_kind(tmp_path: Path) -> None:
    x, y = torch.rand(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float32), torch.arange(5)
    (plain,) = load_splits({"cue": tensors(tmp_path / "x.safetensors", x=x, y=y)}).values()
    assert isinstance(plain, TensorPair) and torch.equal(plain.x, x) and torch.equal(plain.y, y)
    data = texts(6)
    parts = {"input_ids": data.input_ids.int(), "attention_mask": data.attention_mask, "y": data.y}
    (read,) = load_splits({"cue": tensors(tmp_path / "t.safetensors", **parts)}).values()
    assert isinstance(read, TokenSet) and torch.equal(read.input_ids, data.input_ids)
    with pytest.raises(ValueError, match=r"got a: TensorPair \[2\]; b: TokenSet \[14\]"):
        load_splits({"a": tmp_path / "x.safetensors", "b": tmp_path / "t.safetensors"})


def test_the_scale_that_a_model_was_trained_with(tmp_path: Path) -> None:
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.1, 1.0)
    file = parquet_file(tmp_path / "a.parquet")
    (scaled,) = load_splits({"cue": file}, mean=mean, std=std).values()
    assert isinstance(scaled, Normalised)
    unit = images(load_splits({"cue": file})["cue"]).x[[2, 0]].double() / 255
    expected = (unit - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(scaled.inputs(torch.tensor([2, 0])).double(), expected, rtol=0, atol=1e-5)
    assert (len(scaled), scaled.y.tolist(), len(scaled.to("cpu"))) == (4, [0, 1, 0, 1], 4)
    task = mc.datasets.cue_task(mc.datasets.digits().first(50), test_rows=5)
    cued = task.suite["cue"]
    assert isinstance(cued, mc.CuedSet)
    index = torch.arange(5)
    torch.testing.assert_close(Normalised(cued, (0,), (1,)).inputs(index), (cued.inputs(index) + 1) / 2)
    assert torch.equal(Normalised(cued).inputs(index), ((cued.inputs(index) + 1) / 2 - 0.5) / 0.5)


def test_what_is_wrong_with_sources_is_said(tmp_path: Path) -> None:
    write_set(tmp_path / "both", train=6, test=3)
    none = tensors(tmp_path / "none.safetensors", weight=torch.ones(2))
    few = tensors(tmp_path / "few.safetensors", x=torch.ones(3, 2), y=torch.ones(2))
    empty = tensors(tmp_path / "empty.safetensors", x=torch.ones(0, 2), y=torch.ones(0))
    pair = tensors(tmp_path / "pair.safetensors", x=torch.ones(2, 2), y=torch.ones(2))
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    for source, kind, text in (
        (tmp_path / "both", ValueError, "has not one split but these: test, train; name one after '#', as in"),
        ("both#validation", FileNotFoundError, "has no split 'validation'; splits found: test, train"),
        (tmp_path / "a.parquet", FileNotFoundError, f"no file {tmp_path / 'a.parquet'}; check its path"),
        ("nowhere", ValueError, "dataset must be one of 'digits', "),
        (none, ValueError, "must hold 'x', or 'input_ids' and 'attention_mask', and the labels 'y', one row each; it"),
        (few, ValueError, "3 inputs but 2 targets"),
        (empty, ValueError, "holds no samples"),
        (tmp_path / "cut.safetensors", ValueError, "cannot be read as safetensors ("),
    ):
        with pytest.raises(kind) as caught:
            load_splits({"cue": source}, root=tmp_path)
        assert text in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"load_splits needs a source or more, .*, got 0 sources, mean=None, std=None"):
        load_splits({})
    with pytest.raises(ValueError, match=r"together or neither, got 1 sources, mean=\(0.5,\), std=None"):
        load_splits({"cue": pair}, mean=(0.5,))
    with pytest.raises(
        ValueError, match=r"split 'cue' holds no images of bytes but a TensorPair, .*; leave mean= and std="
    ):
        load_splits({"cue": pair}, mean=(0.5,), std=(0.5,))
    for mean, std in (((0.5, 0.5), (0.5,)), ((0.5,), (0.0,))):
        with pytest.raises(ValueError, match="mean and std must be one number or one for each channel, std above zero"):
            load_splits({"cue": parquet_file(tmp_path / "b.parquet")}, mean=mean, std=std)


@pytest.mark.usefixtures("unchecked")
def test_a_path_is_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"sources must be a Mapping, got str; pass \{split: path, ...\}"):
        load_splits(str(tmp_path))  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------- columns


def test_columns_of_tables(tmp_path: Path) -> None:
    for suffix, comma in ((".csv", ","), (".tsv", "\t")):
        file = tmp_path / f"a{suffix}"
        file.write_text(f"file{comma}place\na.png{comma}land\nb.png{comma}sea\n", encoding="utf-8")
        assert load_column(file, "place") == ("land", "sea")
    more = {"place": ["land", "sea", "sea", "land"], "code": [3, 1, 1, 3]}
    file = write(tmp_path / "set" / "test.parquet", pngs(4), [0, 1, 0, 1], more=more)
    assert load_column(file, "place") == ("land", "sea", "sea", "land")
    assert load_column(tmp_path / "set", "code") == load_column(f"{tmp_path / 'set'}#test", "code") == (3, 1, 1, 3)
    data = load_splits({"cue": file}, label="label")["cue"]
    assert list(mc.split_by_group(data, load_column(file, "place"))) == ["land", "sea"]
    write(tmp_path / "set" / "train.parquet", pngs(1), [0])
    with pytest.raises(ValueError, match="has not one split but these: test, train"):
        load_column(tmp_path / "set", "code")
    with pytest.raises(ValueError, match=r"set must be one of 'test', 'train', got 'trian'; did you mean 'train'"):
        load_column(f"{tmp_path / 'set'}#trian", "code")


def test_columns_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, text = tmp_path / "a.csv", tmp_path / "a.md"
    table.write_text("file,place\na.png,land\nb.png,\n", encoding="utf-8")
    text.write_text("land", encoding="utf-8")
    file = parquet_file(tmp_path / "a.parquet")
    for source, column, text_ in (
        (table, "group", "has no column 'group'; columns: file, place"),
        (file, "group", "has no column 'group'; columns: img, label"),
        (table, "place", "row 1: column 'place' is empty; every row needs a value"),
        (text, "place", "is no table; a column is read from a .csv, .tsv, .txt, .jsonl, .parquet or .npz file, or a "),
    ):
        with pytest.raises(ValueError) as caught:
            load_column(source, column)
        assert str(source) in str(caught.value) and text_ in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no file"):
        load_column(tmp_path / "none.csv", "place")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'mechconn.data.'"):
        load_column(file, "label")


def test_a_split_that_is_named_is_never_the_whole_file(tmp_path: Path) -> None:
    file = write(tmp_path / "all.parquet", pngs(4), [0, 1, 0, 1], more={"split": [0, 2, 2, 0], "place": list("abcd")})
    sets = load_splits({name: f"{file}#{name}" for name in ("train", "test")}, label="label")
    assert [data.x[:, 0, 0, 0].tolist() for data in sets.values()] == [[0, 3], [1, 2]]  # pyright: ignore[reportAttributeAccessIssue]
    assert load_column(f"{file}#test", "place") == ("b", "c")
    assert len(load_splits({"cue": file}, label="label")["cue"]) == len(load_column(file, "place")) == 4
    with pytest.raises(ValueError, match=r"split of .*all.parquet must be one of 'test', 'train', got 'val'"):
        load_splits({"cue": f"{file}#val"}, label="label")
    plain = write(tmp_path / "plain.parquet", pngs(2), [0, 1])
    assert len(load_splits({"cue": f"{plain}#train"})["cue"]) == 2
    with pytest.raises(ValueError, match=r"split of .*plain.parquet must be one of 'plain', 'train', got 'test'"):
        load_splits({"cue": f"{plain}#test"})
    save_file({"x": torch.zeros(2, 3), "y": torch.tensor([0, 1])}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x.safetensors has no splits of its own; leave out '#test', and give each"):
        load_splits({"cue": f"{tmp_path}/x.safetensors#test"})
