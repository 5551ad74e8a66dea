"""Names of classes: where models and data tell them, and what counts as the same name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

import mechconn as mc
from mechconn.datasets import (
    ImageSet,
    Normalised,
    TokenSet,
    check_label_names,
    match_names,
    read_class_names,
    read_output_names,
    write_output_names,
)
from mechconn.datasets._label_names import compare_names
from zoo import build

PETS = ("cat", "dog")


class Named(nn.Module):
    """Two outputs, called as `table` says."""

    def __init__(self, table: Any, outputs: int = 2) -> None:
        super().__init__()
        self.layer, self.config = nn.Linear(3, outputs, device="meta"), SimpleNamespace(id2label=table)


class Classifier(Named):
    """With weights."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(dict(enumerate(names)))
        self.layer = nn.Linear(3 * 64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


def images(classes: tuple[str, ...] = PETS) -> ImageSet:
    return ImageSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), classes)


OUTPUTS: dict[str, tuple[nn.Module, tuple[str, ...] | None]] = {
    "in any order of keys": (Named({1: "dog", 0: "cat"}), PETS),
    "keys of JSON": (Named({"0": "cat", "1": "dog"}), PETS),
    "behind DataParallel": (nn.DataParallel(Named({0: "cat", 1: "dog"})), PETS),
    "defaults": (Named({0: "LABEL_0", 1: "LABEL_1"}), None),
    "defaults in another order": (Named({0: "LABEL_1", 1: "LABEL_0"}), ("LABEL_1", "LABEL_0")),
    "not from zero": (Named({1: "cat", 2: "dog"}), None),
    "no numbers": (Named({"a": "cat", "b": "dog"}), None),
    "none": (Named(None), None),
    "no config": (nn.Linear(2, 2, device="meta"), None),
    "left behind by another head": (Named({0: "cat", 1: "dog", 2: "cow"}, outputs=5), None),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_the_names_of_outputs(case: str) -> None:
    model, expected = OUTPUTS[case]
    assert read_output_names(model) == expected


def test_outputs_are_named_anew() -> None:
    for model in (Named({0: "cat", 1: "dog"}), nn.DataParallel(Named({0: "cat", 1: "dog"}))):
        write_output_names(model, ("dog", "cat"))
        assert read_output_names(model) == ("dog", "cat")
    plain = Named(None)
    plain.config = {"id2label": {0: "cat", 1: "dog"}}  # pyright: ignore[reportAttributeAccessIssue]
    write_output_names(plain, ("a", "b"))
    assert read_output_names(plain) == ("a", "b")


class Folder(Dataset[Any]):
    """What torchvision's ImageFolder tells."""

    def __init__(self, target_transform: Any = None) -> None:
        self.classes, self.target_transform = list(PETS), target_transform

    def __getitem__(self, row: int) -> Any:
        return torch.zeros(3), row % 2

    def __len__(self) -> int:
        return 4


def tokens() -> TokenSet:
    return TokenSet(torch.ones(2, 3).long(), torch.ones(2, 3).long(), torch.tensor([0, 1]), PETS)


def test_the_names_of_labels_under_whatever_was_done_to_the_inputs() -> None:
    task = mc.datasets.cue_task(images(), test=images(), cue=mc.BoxCue(values=2))
    named: list[Any] = [
        images(),
        tokens(),
        task.train,
        task.suite["rand_image"],
        mc.Rotate(max_degrees=10)(task.suite["cue"]),
        Normalised(images()),
        mc.intervened(images(), {"darker": lambda x, _: x / 2})["darker"],
        mc.split_by_group(images(), ["a", "a", "b", "b"])["b"],
        Folder(),
        DataLoader(Subset(Folder(), [0, 1]), 2),
        SimpleNamespace(features={"image": None, "label": SimpleNamespace(names=list(PETS))}),
    ]
    assert [read_class_names(data) for data in named] == [PETS] * len(named)
    unnamed: list[Any] = [
        (torch.zeros(2, 3), torch.zeros(2)),
        [(torch.zeros(2, 3), torch.zeros(2))],
        Folder(target_transform=lambda label: 1 - label),
        SimpleNamespace(classes=[0, 1]),
        SimpleNamespace(source=images()),  # a stranger's, whose labels may be others
    ]
    assert [read_class_names(data) for data in unnamed] == [None] * len(unnamed)


ALIKE = [
    (("cat", "dog"), ("Cat ", "DOG")),
    (("new york", "l.a."), ("New_York", "L.A.")),
    (("cat", "dog"), ("cat", "dog", "cow")),
    (("0", "1"), ("cat", "dog")),
    (("00", "01"), ("0", "1")),
    (("caf\u00e9", "bar"), ("cafe\u0301", "bar")),
    (("crane", "dog", "crane"), ("crane", "dog", "crane")),
]
REORDERED = [
    (("cat", "dog"), ("Dog", "Cat")),
    (("cat", "dog"), ("cow", "dog", "cat")),
    (("0", "1"), ("1", "0")),
    (tuple(map(str, range(11))), ("0", "1", "10", *map(str, range(2, 10)))),  # folders, sorted as text
]
DIFFERENT = [(("cat", "dog"), ("good", "bad")), (("cat", "dog"), ("cat", "cow")), (("a b", "ab"), ("ab", "c"))]


@pytest.mark.parametrize("swapped", [False, True])
def test_what_counts_as_the_same_name(swapped: bool) -> None:
    for kind, pairs in (("alike", ALIKE), ("reordered", REORDERED), ("different", DIFFERENT)):
        for a, b in pairs:
            assert (compare_names(b, a) if swapped else compare_names(a, b)) == kind


def test_where_classes_stand() -> None:
    assert match_names(("cow", "dog", "cat"), PETS) == [2, 1, 0]
    assert match_names(PETS, ("cow",)) is None and match_names(("crane", "dog", "crane"), ("dog",)) is None


CAT_DOG, DOG_CAT, GOOD = Named({0: "cat", 1: "dog"}), Named({0: "Dog", 1: "Cat"}), Named({0: "good", 1: "bad"})
REFUSED: dict[str, tuple[list[nn.Module], dict[str, Any], str]] = {
    "two models": (
        [CAT_DOG, DOG_CAT],
        {},
        "model A and model B name classes in different orders (class 0 is 'cat' and 'Dog'); bring one into the",
    ),
    "a model and the data": (
        [DOG_CAT, Named(None)],
        {"hue": images()},
        "model A and split 'hue' name classes in different orders (class 0 is 'Dog' and 'cat'); bring",
    ),
    "other names": (
        [CAT_DOG, GOOD],
        {},
        "model A and model B name different classes ('cat', 'dog' against 'good', 'bad'); if class i means the",
    ),
    "many names": (
        [Named(dict(enumerate("abcdef")), 6)],
        {"hue": images()},
        "('a', 'b', 'c', 'd', ... (6) against 'cat', 'dog')",
    ),
    "two splits": ([Named(None)], {"cue": images(), "hue": images(("dog", "cat"))}, "split 'cue' and split 'hue' name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_names_that_disagree_are_refused_in_one_line(case: str) -> None:
    models, data, text = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        check_label_names([(f"model {name}", model) for name, model in zip("AB", models, strict=False)], data)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_names_that_agree_pass() -> None:
    models: list[nn.Module] = [CAT_DOG, Named({0: "Cat", 1: "DOG"}), Named({0: "LABEL_0", 1: "LABEL_1"})]
    check_label_names([("model", model) for model in models], {"cue": images(), "hue": images(("0", "1"))})


def test_groups_of_data_with_other_names_are_refused() -> None:
    model = build(lambda: Classifier(("dog", "cat")), dtype=torch.float32)
    with pytest.raises(ValueError, match=r"the model and split 'data' name classes in different orders"):
        mc.measure_groups(model, images(), ["a", "a", "b", "b"])
    for names in (PETS, ("LABEL_0", "LABEL_1")):
        found = mc.measure_groups(build(lambda names=names: Classifier(names)).float(), images(), ["a", "a", "b", "b"])
        assert found.mean == 0.5  # equal images get one class
