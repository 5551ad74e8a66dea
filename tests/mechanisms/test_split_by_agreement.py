"""Data divided by whether a column agrees with the label: which rows, and what is said of mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.datasets import ImageSet, Normalised, find_selection

Y = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
PLACES = ["land", "land", "land", "sea", "sea", "sea", "land", "sky", "sky", "sea"]
AGREE = [0, 1, 2, 4, 5, 7, 8]
DATA = torch.arange(10.0)[:, None], torch.tensor(Y)


def rows(data: Any = DATA, column: Any = PLACES, **named: Any) -> tuple[list[int], list[int]]:
    """The rows that agree and those in conflict."""
    splits: Any = mc.split_by_agreement(data, column, **named)
    assert list(splits) == ["agree", "conflict"]
    return splits["agree"].rows.tolist(), splits["conflict"].rows.tolist()


def test_by_the_majority_of_every_class() -> None:
    assert rows() == (AGREE, [3, 6, 9])
    splits = mc.split_by_agreement(DATA, PLACES)
    assert splits["conflict"].inputs(torch.tensor([2, 0])).flatten().tolist() == [9.0, 3.0]
    assert splits["conflict"].y.tolist() == [0, 1, 2] and splits["agree"].to("cpu").ids.tolist() == AGREE
    suite = mc.Suite(splits, reference="agree")
    assert (suite.reference, suite.interventions) == ("agree", ("conflict",))


CODES = [("land", "sea", "sky").index(place) for place in PLACES]
COLUMNS: dict[str, Any] = {
    "list": CODES,
    "tensor": torch.tensor(CODES),
    "floats": torch.tensor(CODES, dtype=torch.float64),
    "array": np.array(CODES),
    "array of text": np.array(PLACES),
    "array of objects": np.array(PLACES, dtype=object),
    "list of numbers of NumPy": list(np.array(CODES)),
    "list of tensors": list(torch.tensor(CODES)),
    "tuple": tuple(PLACES),
    "generator": iter(PLACES),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_may_be_of_many_kinds(kind: str) -> None:
    assert rows(column=COLUMNS[kind]) == (AGREE, [3, 6, 9])


def test_named_values_come_before_the_majority() -> None:
    named: list[dict[Any, Any]] = [
        {0: "sea", 1: "land", 2: "sea"},
        {0: ["sea"], 1: {"land"}, 2: ("sea",)},
        {"0": "sea", "1": "land", "2": "sea"},
    ]
    for agrees in named:
        assert rows(agrees=agrees) == ([3, 6, 9], AGREE)
    assert rows(agrees={0: ["sea"]}) == ([3, 4, 5, 7, 8], [0, 1, 2, 6, 9])  # the others by their majority
    codes = torch.tensor(CODES, dtype=torch.float64)
    assert rows(column=codes, agrees={0: 1, 1: "0.0", 2: 1.0}) == ([3, 6, 9], AGREE)
    truth = [place == "land" for place in PLACES]
    assert rows((DATA[0][:7], DATA[1][:7]), truth[:7], agrees={0: 1, 1: False}) == ([0, 1, 2, 4, 5], [3, 6])


def test_the_majority_of_the_training_data() -> None:
    train = {"train_labels": [0, 1, 1, 2, 7], "train_column": ["sea", "land", "land", "sea", "cave"]}
    assert rows(**train) == ([3, 6, 9], AGREE)
    train = {"train_labels": torch.tensor([0, 1, 2]), "train_column": np.array(["sea", "land", "sea"])}
    assert rows(**train) == ([3, 6, 9], AGREE)


def test_names_of_classes_and_data_of_this_library() -> None:
    images = ImageSet(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.tensor(Y), ("owl", "gull", "swift"))
    assert rows(images, agrees={"owl": "sea", "gull": "land", 2: "sea"}) == ([3, 6, 9], AGREE)
    with pytest.raises(ValueError, match="a label of agrees must be one of 'owl', 'gull', 'swift', got 'gul'; did you"):
        rows(images, agrees={"gul": "sea"})
    with pytest.raises(ValueError, match=r"class 2 \('swift'\) has 0 rows that agree \(land\) and 3 in conflict"):
        rows(images, agrees={"swift": "land"})
    scaled = {name: Normalised(split, (0.0,), (1.0,)) for name, split in mc.split_by_agreement(images, PLACES).items()}
    assert all(find_selection(split) is not None for split in scaled.values()) and find_selection(images) is None
    assert rows((DATA[0], DATA[1][:, None]))[1] == [3, 6, 9]  # targets of shape [N, 1]
    assert rows((DATA[0], DATA[1] > 0), ["a", "a", "a", "b", "b", "b", "a", "b", "b", "a"])[1] == [3, 6, 9]


def test_a_map_style_dataset() -> None:
    samples = [(torch.tensor([float(row)]), label) for row, label in enumerate(Y)]
    for data in (TensorDataset(*DATA), samples):
        assert rows(data) == (AGREE, [3, 6, 9])
        assert len(mc.split_by_group(data, PLACES)["sea"]) == 4


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "tie": (
        {"column": ["land", "sea", "land", "sea", *PLACES[4:]]},
        "class 0 has as many rows of 'land' as of 'sea' (2), so neither is the majority; name the value that agrees "
        "with it, agrees={0: value}",
    ),
    "none in conflict": (
        {"column": ["land"] * 4 + PLACES[4:]},
        "a comparison within classes needs rows of both kinds in every class: class 0 has 4 rows that agree (land) and "
        "0 in conflict; add rows, name other values with agrees={label: value}, or leave these classes out of the data",
    ),
    "none at all": (
        {"column": ["land"] * 4 + PLACES[4:7] + ["sky"] * 3},
        "class 0 has 4 rows that agree (land) and 0 in conflict; class 2 has 3 rows that agree (sky) and 0 in confli",
    ),
    "one value for all": (
        {"column": ["land", "land", "land", "sea", "land", "land", "sea", "land", "land", "sky"]},
        "'land' agrees with every class, so no row can be in conflict by it; name the values that belong to each "
        "class, agrees={label: value, ...}",
    ),
    "untrained class": (
        {"train_labels": [0, 1], "train_column": ["land", "sea"]},
        "the training data have no rows of class 2; name the value that agrees with it, agrees={2: value}",
    ),
    "half the training data": (
        {"train_labels": [0, 1]},
        "train_labels and train_column go together: the labels and the column of the training data",
    ),
    "uneven training data": (
        {"train_labels": [0, 1], "train_column": ["land"]},
        "train_labels and train_column must have one value for each row, got 2 and 1",
    ),
    "too few values": ({"column": PLACES[1:]}, "column must have one value for each of 10 rows, got 9"),
    "no value": ({"column": [None, *PLACES[1:]]}, "column: row 0 has no value; fill it in, or leave the row out"),
    "not a number": (
        {"column": [*CODES[:9], float("nan")]},
        "column: row 9 has no value; fill it in, or leave the row",
    ),
    "two columns": (
        {"column": torch.zeros(10, 2)},
        "column must hold one number or text for each row, got a value of type list in row 0",
    ),
    "an unknown value": (
        {"agrees": {0: "lend"}},
        "a value of agrees must be one of 'land', 'sea', 'sky', got 'lend'; did you mean 'land'?",
    ),
    "an unknown label": ({"agrees": {5: "sea"}}, "a label of agrees must be one of '0', '1', '2', got '5'"),
    "no values named": ({"agrees": {0: []}}, "agrees must name a value for each label it lists, got an empty list"),
    "no classes": (
        {"data": (DATA[0], DATA[0])},
        "split_by_agreement needs a class for each row, whole numbers of shape [N], got float32 [10, 1]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_one_line(case: str) -> None:
    given, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        rows(**{"data": DATA, "column": PLACES, **given})
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_the_remedies_work() -> None:
    tie = ["land", "sea", "land", "sea", *PLACES[4:]]
    assert rows(column=tie, agrees={0: "land"})[1] == [1, 3, 6, 9]
    bare = ["land"] * 4 + PLACES[4:]
    with pytest.raises(ValueError, match="class 0 has 0 rows that agree"):
        rows(column=bare, agrees={0: "sea"})
    kept = DATA[1] != 0
    left = [place for place, keep in zip(bare, kept.tolist(), strict=True) if keep]
    assert rows((DATA[0][kept], DATA[1][kept]), left) == ([0, 1, 3, 4], [2, 5])
    shared = ["land", "land", "land", "sea", "land", "land", "sea", "land", "land", "sky"]
    assert rows(column=shared, agrees={1: "sea", 2: "sky"})[1] == [3, 4, 5, 7, 8]


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_column_and_no_data_by_row() -> None:
    for column, got in (("place", "'place'"), (3, "int"), (torch.tensor(3), "Tensor"), ({"place": PLACES}, "dict")):
        with pytest.raises(TypeError) as caught:
            rows(column=column)
        assert str(caught.value) == (
            f"column must hold a value for each row, got {got}; pass datasets.load_column(file, name)"
        )
    for data in ([DATA], DataLoader(TensorDataset(*DATA), 5)):
        with pytest.raises(TypeError, match="split_by_agreement reads rows by index and needs a dataset or"):
            rows(data)
    with pytest.raises(TypeError, match=r"agrees must be a Mapping, got list; write \{label: value, ...\}"):
        rows(agrees=["land"])
    with pytest.raises(TypeError, match=r"groups must be a label for each row, got 'place'; pass datasets.load_column"):
        mc.split_by_group(DATA, "place")
