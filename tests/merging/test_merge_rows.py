"""Which rows chose something of a merge: images in folders are told apart by what they hold, not by their names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import mechconn as mc
from image_files import pixels, write_class_folder
from zoo import build

SIDE = 6


def write(folder: Path, **first: int) -> dict[str, mc.datasets.ImageSet]:
    """Folders of four images each, which have the names of every other's; what they hold starts with a number."""
    for name, start in first.items():
        for label, kind in enumerate(("cat", "dog")):
            images = {f"{n}.png": pixels(start + 2 * label + n, side=SIDE) for n in range(2)}
            write_class_folder(folder / name / kind, images)
    found = mc.datasets.load_splits({name: folder / name for name in first})
    return {name: split for name, split in found.items() if isinstance(split, mc.datasets.ImageSet)}


def network(seed: int) -> nn.Module:
    return build(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2)), seed).float()


MODELS = {name: network(seed) for seed, name in enumerate("ab")}


def test_images_of_equal_names_pair_splits_and_are_other_rows(tmp_path: Path) -> None:
    read = write(tmp_path, cue=0, rand_cue=10, train=20)
    suite = mc.Suite({name: read[name] for name in ("cue", "rand_cue")}, reference="cue")
    assert suite.rows_shared("rand_cue")
    for method in (mc.GreedySoup(read["train"]), mc.RegMean(read["train"]), mc.FisherMean(read["train"])):
        found = mc.merge(MODELS, method, suite)
        assert found.before.differences[0].samples == 4


def test_statistics_of_training_images_are_not_those_of_the_suite(tmp_path: Path) -> None:
    read = write(tmp_path, cue=0, train=20)
    suite = mc.Suite({"cue": read["cue"]}, reference="cue")
    models = {name: nn.Sequential(nn.BatchNorm2d(3), model).eval() for name, model in MODELS.items()}
    for rows, noted in (("train", False), ("cue", True)):
        found = mc.merge(models, mc.Mean(), suite, norm=mc.Reestimate(read[rows]))
        assert any("rows that judge the merge" in note for note in found.notes) == noted


def test_images_of_the_suite_are_found_under_another_folder(tmp_path: Path) -> None:
    read = write(tmp_path, cue=0, rand_cue=10, train=10)
    suite = mc.Suite({name: read[name] for name in ("cue", "rand_cue")}, reference="cue")
    for data in (read["train"], read["train"].subset(torch.tensor([3]))):
        with pytest.raises(ValueError, match=r"GreedySoup chooses on rows that are in the suite \(rand_cue\)"):
            mc.merge(MODELS, mc.GreedySoup(data), suite)
