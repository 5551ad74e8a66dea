"""What data print: what they are in a few lines, and never their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.core import as_data, select_rows
from mechconn.datasets import ImageSet, Normalised, Planted, cue_task, make_cued_set
from texts import texts
from user_defined_data import StripeCue, negated


def images(rows: int = 20, classes: int = 3) -> ImageSet:
    x = torch.full((rows, 3, 8, 8), 173, dtype=torch.uint8)
    return ImageSet(x, torch.arange(rows) % classes, tuple(f"class {k}" for k in range(classes)))


SCENES = make_cued_set(images(), StripeCue()).with_proportion(0.5)
PRINTED: dict[str, tuple[Any, str]] = {
    "images": (images(), "ImageSet(20 rows of [3, 8, 8], 3 classes (class 0, class 1, class 2))"),
    "many classes": (
        images(classes=20),
        "ImageSet(20 rows of [3, 8, 8], 20 classes (class 0, class 1, class 2, class 3, class 4, class 5, ...))",
    ),
    "scenes": (
        SCENES,
        "CuedSet(20 rows of [3, 8, 8], 3 classes (class 0, class 1, class 2), StripeCue(brightness=1.0, columns=3) "
        "on 11 rows)",
    ),
    "dominoes": (
        make_cued_set(images(2), mc.DominoesCue(images(6))),
        "CuedSet(2 rows of [3, 16, 8], 3 classes (class 0, class 1, class 2), DominoesCue(images=ImageSet(6 rows of "
        "[3, 8, 8], 3 classes (class 0, class 1, class 2)), strength=1.0, negative=False, turned=False) on 0 rows)",
    ),
    "texts": (texts(4), "TokenSet(4 rows of input_ids [14], attention_mask [14], 3 classes (a, b, c))"),
    "planted": (Planted(2, 0).sample(5), f"PlantedSet(5 rows of [4], {Planted(2, 0)!r})"),
    "normalised": (
        Normalised(images(), (0.5,), (0.25,)),
        "Normalised(20 rows of [3, 8, 8], 3 classes (class 0, class 1, class 2), mean [0.5], std [0.25], of ImageSet)",
    ),
    "an intervention": (
        mc.Translate(2)(SCENES),
        "IntervenedSet(20 rows of [3, 8, 8], 3 classes (class 0, class 1, class 2), Translate(max_pixels=2, fill=0.0), "
        "of CuedSet)",
    ),
    "a function": (
        mc.intervened((torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])), {"n": negated})["n"],
        "FunctionSet(4 rows of [2], after negated, of TensorPair)",
    ),
    "a pair": (as_data("data", (torch.zeros(4, 2), torch.zeros(4))), "TensorPair(4 rows of [2])"),
    "some rows": (
        select_rows(images(), torch.tensor([3, 4])),
        "RowSubset(2 rows of [3, 8, 8], 3 classes (class 0, class 1, class 2), of 20 of ImageSet)",
    ),
}


@pytest.mark.parametrize("what", PRINTED)
def test_data_print_what_they_are(what: str) -> None:
    data, text = PRINTED[what]
    assert repr(data) == str(data) == text


def test_a_suite_prints_its_splits_and_what_they_are_for() -> None:
    task = cue_task("digits", draws=2)
    assert repr(task.suite).splitlines() == [
        "Suite(4 splits, reference 'cue')",
        "  no_cue      597 rows of [3, 28, 28]",
        "  cue         597 rows of [3, 28, 28]  reference",
        "  rand_cue    597 rows of [3, 28, 28]  intervention, 2 draws",
        "  rand_image  597 rows of [3, 28, 28]  intervention, 2 draws",
        "  10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)",
        "  cue BoxCue(size=3, colour=(0.0, 1.0, 0.0), values=10, shift=0.0)",
    ]
    page = task.suite._repr_html_()
    assert page.count("<tr>") == 5 and "intervention, 2 draws" in page and "10 classes" in page
    lines = repr(task).splitlines()
    assert lines[0] == "CueTask(10 classes, the cue on 80% of each in training)"
    assert lines[1].startswith("  train  CuedSet(1200 rows of [3, 28, 28], ")
    assert lines[3] == "  suite  Suite(4 splits: no_cue, cue, rand_cue, rand_image; reference 'cue')"


def test_a_suite_of_many_splits_takes_twelve_lines() -> None:
    suite = mc.Suite({f"split {k}": images() for k in range(30)}, reference="split 0")
    lines = repr(suite).splitlines()
    assert len(lines) <= 12 and lines[-2:] == ["  and 22 more", "  3 classes (class 0, class 1, class 2)"]
    assert suite._repr_html_().count("<tr>") == 31


class Loud(TensorDataset):
    """It must not be read."""

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("it was read")


class OwnSource:
    y = torch.zeros(3, dtype=torch.int64)

    def __len__(self) -> int:
        return 3

    def inputs(self, index: Tensor) -> Tensor:
        raise AssertionError("it was read")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: DataLoader(Loud(torch.zeros(6, 2), torch.zeros(6)), 2), "3 batches"),
        (lambda: Loud(torch.zeros(6, 2), torch.zeros(6)), "6 rows"),
        (OwnSource, "3 rows"),
        (lambda: [(torch.zeros(2, 2), torch.tensor([0, 1]))], "1 batch"),
    ],
)
def test_to_print_a_suite_reads_nothing_of_the_users(make: Callable[[], Any], text: str) -> None:
    suite = mc.Suite({"cue": make(), "same": make()})
    assert f"  cue   {text}  reference" in repr(suite).splitlines()
