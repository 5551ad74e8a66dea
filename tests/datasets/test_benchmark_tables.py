"""Tables as benchmarks leave them: Waterbirds and WILDS, CelebA, fractions of CivilComments, columns of pandas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import mechconn as mc
from image_files import pixels, pngs, write, write_class_folder
from mechconn.datasets import ImageSet, load, load_column, load_splits


def table(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def numbers(data: ImageSet) -> list[int]:
    return data.x[:, 0, 0, 0].tolist()


# ---------------------------------------------------------------- Waterbirds (group_DRO), WILDS


def waterbirds(folder: Path, number: str = "{}") -> Path:
    """metadata.csv of group_DRO's dataset_scripts/generate_waterbirds.py; `number` is how pandas writes them."""
    birds = {"001.Albatross": ("a.jpg", "b.jpg"), "020.Owl": ("c.jpg", "d.jpg", "e.jpg")}
    rows = []
    for kind, files in birds.items():
        write_class_folder(folder / kind, {file: pixels(len(rows) + n) for n, file in enumerate(files)})
        rows += [(f"{kind}/{file}", int(kind == "001.Albatross")) for file in files]
    lines = [
        f"{row + 1},{file},{number.format(y)},{number.format(row % 3)},{row % 2},/o/ocean/{row}.jpg"
        for row, (file, y) in enumerate(rows)
    ]
    return table(folder / "metadata.csv", "img_id,img_filename,y,split,place,place_filename", *lines)


@pytest.mark.parametrize("number", ["{}", "{}.0"])
def test_the_metadata_of_waterbirds_is_read_as_it_is(tmp_path: Path, number: str) -> None:
    """Splits 0, 1 and 2 are train, val and test; whole numbers may be floats, as pandas writes a column with gaps."""
    file = waterbirds(tmp_path, number)
    train, val, test = (load(file, split=split) for split in ("train", "val", "test"))
    assert [numbers(data) for data in (train, val, test)] == [[0, 3], [1, 4], [2]]
    assert [data.y.tolist() for data in (train, val, test)] == [[1, 0], [1, 0], [0]]
    assert train.classes == test.classes == ("0", "1")
    splits = load_splits({"cue": f"{file}#test", "again": f"{file}#2"})
    assert all(isinstance(data, ImageSet) and numbers(data) == [2] for data in splits.values())
    assert load_column(f"{file}#train", "place") == load_column(f"{file}#0", "place") == ("0", "1")
    assert load_column(f"{file}#val", "y") == ("1", "0")
    with pytest.raises(ValueError, match=r"must be one of 'test', 'train', 'val', got 'tset'; did you mean 'test'"):
        load(file, split="tset")
    with pytest.raises(ValueError, match="has not one split but these: test, train, val; name one after '#'"):
        load_splits({"cue": file})
    with pytest.raises(ValueError, match=r"has no column 'plase'; columns: .*; did you mean 'place'"):
        load_column(f"{file}#test", "plase")


def test_other_numbers_are_names_of_splits_and_an_empty_split_is_named(tmp_path: Path) -> None:
    write_class_folder(tmp_path, {f"{n}.png": pixels(n) for n in range(3)})
    folds = table(tmp_path / "folds.csv", "file,y,split", "0.png,0,1", "1.png,1,2", "2.png,1,3")
    assert numbers(load(folds, split="2")) == [1]
    with pytest.raises(ValueError, match="must be one of '1', '2', '3', got 'test'"):
        load(folds, split="test")
    no_test = table(tmp_path / "no_test.csv", "file,y,split", "0.png,0,0", "1.png,1,1", "2.png,1,")
    assert numbers(load(no_test)) == [0]  # the third is in no split
    with pytest.raises(ValueError, match="must be one of 'train', 'val', got 'test'"):
        load(no_test, split="test")


def test_usual_names_go_before_those_of_benchmarks(tmp_path: Path) -> None:
    write_class_folder(tmp_path, {f"{n}.png": pixels(n) for n in range(2)})
    file = table(tmp_path / "t.csv", "img_filename,file,y", "1.png,0.png,0")
    assert numbers(load(file)) == [0]
    assert numbers(load(file, image="img_filename")) == [1]


def test_text_labels_of_several_digits_are_numbers(tmp_path: Path) -> None:
    """As text, 10.0 would come before 2.0."""
    write_class_folder(tmp_path, {f"{n}.png": pixels(n) for n in range(3)})
    data = load(table(tmp_path / "t.csv", "file,y", "0.png,10.0", "1.png,2.0", "2.png,0.0"))
    assert (data.y.tolist(), len(data.classes)) == ([10, 2, 0], 11)
    exact = table(tmp_path / "ids.csv", "file,id", f"0.png,{2**60 + 1}.0", "1.png,7")
    assert load_column(exact, "id") == (str(2**60 + 1), "7")


# ---------------------------------------------------------------- CelebA


def celeba(folder: Path, suffix: str) -> Path:
    """The lists as they are downloaded: of spaces (.txt, MMLAB) or of commas (.csv, Kaggle)."""
    write_class_folder(folder / "img_align_celeba", {f"00000{n}.jpg": pixels(n) for n in range(1, 6)})
    blond, male = (-1, 1, -1, 1, -1), (1, -1, 1, 1, -1)
    rows = [(f"00000{n + 1}.jpg", blond[n], male[n]) for n in range(5)]
    parts = [(name, (0, 0, 1, 2, 2)[n]) for n, (name, *_) in enumerate(rows)]
    if suffix == ".csv":
        table(folder / "list_eval_partition.csv", "image_id,partition", *(f"{name},{part}" for name, part in parts))
        return table(folder / "list_attr_celeba.csv", "image_id,Blond_Hair,Male", *(f"{a},{b},{c}" for a, b, c in rows))
    table(folder / "list_eval_partition.txt", *(f"{name} {part}" for name, part in parts))
    lines = (f"{name} {f'{b:d}':>2} {f'{m:d}':>2}" for name, b, m in rows)
    return table(folder / "list_attr_celeba.txt", "5", "Blond_Hair Male ", *lines)


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_celeba_has_its_images_in_a_folder_and_its_splits_in_a_second_table(tmp_path: Path, suffix: str) -> None:
    file = celeba(tmp_path, suffix)
    partition = tmp_path / f"list_eval_partition{suffix}"
    images = tmp_path / "img_align_celeba"
    train = load(file, label="Blond_Hair", folder=images, partition=partition)
    test = load(file, label="Blond_Hair", folder=str(images), partition=partition, split="test", size=4)
    assert (numbers(train), train.y.tolist(), train.classes) == ([1, 2], [0, 1], ("0", "1"))
    assert (test.y.tolist(), test.x.shape) == ([1, 0], (2, 3, 4, 4))
    assert load_column(f"{file}#test", "Male", partition=partition) == ("1", "-1")
    assert load_column(file, "Male") == ("1", "-1", "1", "1", "-1")
    splits = load_splits(
        {"cue": f"{file}#train", "moved": f"{file}#2"}, label="Male", folder=images, partition=partition
    )
    assert [data.y.tolist() for data in splits.values()] == [[1, 0], [1, 0]]
    with pytest.raises(ValueError) as caught:
        load(file, label="Male")
    assert str(caught.value) == (
        f"{file} row 0: no image {tmp_path / '000001.jpg'} (5 of the listed ones are missing); paths start at the "
        f"table's folder, and folder= names another (it is in {images})"
    )
    with pytest.raises(ValueError, match=r"has no column 'Blond'; columns: .*did you mean 'Blond_Hair'"):
        load(file, label="Blond", folder=images)


def test_a_partition_that_does_not_fit_is_told(tmp_path: Path) -> None:
    file = celeba(tmp_path, ".csv")
    how = {"label": "Male", "folder": tmp_path / "img_align_celeba"}
    short = table(tmp_path / "short.csv", "image_id,partition", "000001.jpg,0", "000003.jpg,0")
    twice = table(tmp_path / "twice.csv", "image_id,partition", "000001.jpg,0", "000001.jpg,1")
    other = table(tmp_path / "other.csv", "a,b,c", "1,2,3")
    for partition, kind, text in (
        (short, ValueError, f"has no split for 000002.jpg ({file} row 1; 3 rows in all); add them, or name the part"),
        (twice, ValueError, "row 1: 000001.jpg is in split 'val' and in 'train'; leave it in one"),
        (other, ValueError, "must hold an image and its split in every row, .* got the columns a, b, c"),
        (tmp_path / "none.csv", FileNotFoundError, "none.csv for partition=; check its path"),
    ):
        with pytest.raises(kind) as caught:
            load(file, partition=partition, **how)
        assert "\n" not in str(caught.value)
        assert all(part in str(caught.value) for part in text.split(" .* "))


def test_lists_of_spaces_that_are_cut_short_or_ragged(tmp_path: Path) -> None:
    file = celeba(tmp_path, ".txt")
    lines = file.read_text(encoding="utf-8").splitlines()
    cut = table(tmp_path / "cut.txt", *lines[:-1])
    with pytest.raises(ValueError, match="tells of 5 rows in its first line, but holds 4; it is cut short or was"):
        load_column(cut, "Male")
    ragged = table(tmp_path / "ragged.txt", *lines[:-1], f"{lines[-1]} 1")
    with pytest.raises(ValueError, match=r"ragged.txt line 7 has 4 fields, not 3; correct the file"):
        load_column(ragged, "Male")
    identities = table(tmp_path / "identity_CelebA.txt", "000001.jpg 2880", "000002.jpg 2937")
    assert load_column(identities, "1") == ("2880", "2937")


def test_several_mistakes_of_a_table_are_told_at_once(tmp_path: Path) -> None:
    file = celeba(tmp_path, ".csv")
    table(tmp_path / "t.csv", "image_id,share", "000001.jpg,0.5", "none.jpg,1")
    with pytest.raises(ValueError) as caught:
        load(tmp_path / "t.csv", label="share", folder=tmp_path / "img_align_celeba")
    assert [line.split(": ")[1][:12] for line in str(caught.value).splitlines()] == ["0.5 in colum", "no image /tm"]
    with pytest.raises(ValueError) as caught:
        load(file, image="img", label="Mail")
    assert [line.split(";")[0].split("has ")[1] for line in str(caught.value).splitlines()] == [
        "no column 'img'", "no column 'Mail'",
    ]  # fmt: skip


def test_a_tab_separated_txt_is_a_table_with_a_header(tmp_path: Path) -> None:
    """heuristics_evaluation_set.txt of HANS."""
    file = table(
        tmp_path / "heuristics_evaluation_set.txt",
        "gold_label\tsentence1\tsentence2\tpairID\theuristic",
        "non-entailment\tThe doctor saw a lawyer .\tThe lawyer saw a doctor .\tex0\tlexical_overlap",
        "entailment\tThe doctor ran .\tThe doctor ran .\tex1\tsubsequence",
    )
    assert load_column(file, "heuristic") == ("lexical_overlap", "subsequence")


# ---------------------------------------------------------------- fractions (CivilComments), and other types of labels


def test_fractions_are_cut_at_a_threshold(tmp_path: Path) -> None:
    """all_data_with_identities.csv of WILDS: an index without a name, shares of raters, splits by name."""
    file = table(
        tmp_path / "all_data_with_identities.csv",
        ",id,comment_text,split,toxicity,male",
        '0,1,"So, yes",train,0.0,0.2',
        "1,2,no,test,0.5,1.0",
        "2,3,well,test,0.49,0.0",
    )
    assert load_column(f"{file}#test", "male", threshold=0.5) == (1, 0)
    assert load_column(f"{file}#test", "toxicity", threshold=0.5) == (1, 0)
    assert load_column(f"{file}#test", "male") == ("1", "0")  # whole in this split, as floats are
    assert load_column(f"{file}#train", "male") == ("0.2",)
    with pytest.raises(
        ValueError, match=r"column 'comment_text' of .* must hold numbers to be cut at threshold=0.5, got"
    ):
        load_column(f"{file}#test", "comment_text", threshold=0.5)
    with pytest.raises(ValueError, match=r"threshold must lie in"):
        load_column(file, "male", threshold=float("nan"))
    write_class_folder(tmp_path, {f"{n}.png": pixels(n) for n in range(2)})
    shares = table(tmp_path / "shares.csv", "file,label", "0.png,0.25", "1.png,1")
    with pytest.raises(
        ValueError, match=r"row 0: 0\.25 in column 'label' is a fraction and no class; pass threshold=, "
    ):
        load(shares)
    assert load(shares, threshold=0.5).y.tolist() == [0, 1]
    assert load_splits({"cue": shares}, threshold=0.25)["cue"].y.tolist() == [1, 1]


def test_labels_of_parquet_files_may_be_floats_marks_names_or_bools(tmp_path: Path) -> None:
    more = {
        "whole": np.array([1.0, 0.0, 2.0]), "share": np.array([0.25, 0.5, 1.0]), "name": ["owl", "gull", "owl"],
        "flag": [True, False, True], "mark": np.array([1, -1, 1]),
    }  # fmt: skip
    write(tmp_path / "train.parquet", pngs(3), [0, 1, 2], more=more)
    found = {name: load(tmp_path, label=name) for name in more if name != "share"}
    assert {name: data.y.tolist() for name, data in found.items()} == {
        "whole": [1, 0, 2], "name": [1, 0, 1], "flag": [1, 0, 1], "mark": [1, 0, 1],
    }  # fmt: skip
    assert (found["name"].classes, found["mark"].classes) == (("gull", "owl"), ("0", "1"))
    assert load(tmp_path, label="share", threshold=0.5).y.tolist() == [0, 1, 1]
    with pytest.raises(
        ValueError, match=r"train.parquet row 0: 0\.25 in column 'share' is a fraction and no class; pass"
    ):
        load(tmp_path, label="share")
    with pytest.raises(ValueError, match=r"there is no column 'flga' for label=; columns: .*; did you mean 'flag'"):
        load(tmp_path, label="flga")
    assert load_column(tmp_path, "whole") == (1, 0, 2)
    assert load_column(tmp_path, "share", threshold=0.5) == (0, 1, 1)


# ---------------------------------------------------------------- columns of pandas


class Column:
    """What a pandas Series is to us: values by `tolist`, missing ones as NaN, None, or NA of nullable types."""

    def __init__(self, *values: object) -> None:
        self.values = list(values)

    def tolist(self) -> list[object]:
        return self.values


class NAType:
    """pandas.NA: it neither compares nor is true or false."""

    def __eq__(self, other: object) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = object.__hash__


class Frame:
    """What a pandas DataFrame is to us."""

    def __init__(self, **columns: Column) -> None:
        self.held, self.columns, self.iloc = columns, list(columns), None

    def __getitem__(self, name: str) -> Column:
        return self.held[name]


Y = torch.tensor([0, 1, 0, 1])
PAIR = torch.eye(2)[Y], Y
GIVEN = torch.nn.Identity()


def groups_of(column: object) -> Sequence[str]:
    return list(mc.measure_groups(GIVEN, PAIR, column))  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("unchecked")
def test_columns_of_pandas_are_groups_and_clusters() -> None:
    names = Column("sea", "land", "sea", "land")
    assert groups_of(names) == ["land", "sea"]
    assert groups_of(Column(1.0, 0.0, 1.0, 0.0)) == ["0", "1"]  # whole numbers in a column with gaps elsewhere
    assert groups_of(Frame(place=names, code=Column(1.0, 2.0, 1.0, 2.0))) == ["place=land, code=2", "place=sea, code=1"]
    suite = mc.Suite({"cue": PAIR, "moved": PAIR}, reference="cue")
    clusters = mc.measure_invariance(GIVEN, suite, margin=0.5, cluster=names)  # pyright: ignore[reportArgumentType]
    assert clusters["moved"].effect == 0.0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("missing", [None, float("nan"), NAType(), ""])
def test_a_row_without_a_value_is_refused(missing: object) -> None:
    column, said = Column("sea", missing, "sea", "land"), "row 1 has no value; fill it in, or leave the row out"
    suite = mc.Suite({"cue": PAIR, "moved": PAIR}, reference="cue")
    for act in (
        lambda: groups_of(column),
        lambda: groups_of({"place": column}),
        lambda: mc.split_by_group(PAIR, column),  # pyright: ignore[reportArgumentType]
        lambda: mc.split_by_agreement(PAIR, column),  # pyright: ignore[reportArgumentType]
        lambda: mc.measure_invariance(GIVEN, suite, cluster=column),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(ValueError) as caught:
            act()
        assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [(-1, -1, -1), (0, -1, 1), (-2, 0, 1)])
def test_numbers_below_zero_are_no_classes(tmp_path: Path, labels: tuple[int, ...]) -> None:
    """Rows without a label are often marked -1; as names, or as marks, they would be a class."""
    write_class_folder(tmp_path, {f"{row}.png": pixels(row) for row in range(3)})
    file = table(tmp_path / "list.csv", "file,label", *(f"{row}.png,{label}" for row, label in enumerate(labels)))
    row = min(range(3), key=lambda row: (labels[row] >= 0, row))
    with pytest.raises(ValueError, match=f"list.csv row {row}: {labels[row]} in column 'label' names no class; leave"):
        load(file)


def test_names_of_classes_have_one_order_in_all_splits_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", pngs(3), [0, 0, 0], more={"name": ["ant", "bee", "cat"]})
    write(tmp_path / "test.parquet", pngs(2), [0, 0], more={"name": ["cat", "bee"]})
    test = load(tmp_path, split="test", label="name")
    assert (test.classes, test.y.tolist()) == (("ant", "bee", "cat"), [2, 1])
