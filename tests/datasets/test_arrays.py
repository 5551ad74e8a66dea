"""MedMNIST's .npz files: arrays of images and labels for each split, read without pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mechconn.datasets import ImageSet, load, load_column, load_splits

SIZES = {"train": 6, "val": 3, "test": 4}


def medmnist(file: Path, channels: int = 1, labels: int = 1, **more: np.ndarray) -> Path:
    """The layout of medmnist/dataset.py: uint8 [N, 28, 28] or [N, 28, 28, 3], labels uint8 [N, 1]."""
    draw = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, rows in SIZES.items():
        shape = (rows, 28, 28) if channels == 1 else (rows, 28, 28, channels)
        arrays[f"{split}_images"] = draw.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(rows * labels).reshape(rows, labels) % 3).astype(np.uint8)
    np.savez_compressed(file, **{**arrays, **more})  # pyright: ignore[reportArgumentType]
    return file


@pytest.mark.parametrize("channels", [1, 3])
def test_every_split_of_grey_and_colour_images(tmp_path: Path, channels: int) -> None:
    file = medmnist(tmp_path / "bloodmnist.npz", channels)
    with np.load(file) as arrays:
        for split, rows in SIZES.items():
            data = load(file, split=split)
            stored = torch.from_numpy(arrays[f"{split}_images"]).view(rows, 28, 28, channels).permute(0, 3, 1, 2)
            assert torch.equal(data.x, stored)
            assert data.y.tolist() == arrays[f"{split}_labels"][:, 0].tolist()
    assert load(str(file)).classes == ("0", "1", "2")
    assert len(load("bloodmnist.npz", root=tmp_path, rows=2)) == 2
    assert load(file, split="1", rgb=True, size=8).x.shape == (3, 3, 8, 8)
    splits = load_splits({"cue": f"{file}#test", "moved": f"{file}#val"})
    assert [len(data) for data in splits.values() if isinstance(data, ImageSet)] == [4, 3]


def test_columns_are_arrays_of_the_split(tmp_path: Path) -> None:
    file = medmnist(tmp_path / "a.npz", test_site=np.array(["a", "b", "a", "b"]), test_age=np.array([0.5, 1, 2, 3]))
    assert load_column(f"{file}#test", "labels") == (0, 1, 2, 0)
    assert load_column(f"{file}#test", "site") == ("a", "b", "a", "b")
    assert load_column(f"{file}#test", "age", threshold=1.0) == (0, 1, 1, 1)
    with pytest.raises(
        ValueError, match="has no array test_sit; arrays of the split: labels, site, age; did you mean 's"
    ):
        load_column(f"{file}#test", "sit")
    with pytest.raises(ValueError, match="has not one split but these: train, val, test; name one after '#'"):
        load_column(file, "labels")


class Harmful:
    """Reading it as pickle would make a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.file), "w")


def test_what_is_no_image_set_is_one_line(tmp_path: Path) -> None:
    images, labels = np.zeros((4, 8, 8), np.uint8), np.zeros((4, 1), np.uint8)
    trap, cut = tmp_path / "trap", tmp_path / "cut.npz"
    objects = np.array([Harmful(trap)] * 4, dtype=object)
    whole = medmnist(tmp_path / "whole.npz").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    saved = {
        "volumes": {"train_images": np.zeros((4, 8, 8, 8), np.uint8), "train_labels": labels},
        "floats": {"train_images": images / 255, "train_labels": labels},
        "several": {"train_images": images, "train_labels": np.zeros((4, 14), np.uint8)},
        "fewer": {"train_images": images, "train_labels": labels[1:]},
        "none": {"train_images": images[:0], "train_labels": labels[:0]},
        "objects": {"train_images": images, "train_labels": objects},
        "unlabelled": {"train_images": images},
        "named": {"x": images, "y": labels},
    }
    for name, arrays in saved.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    np.save(tmp_path / "single.npy", images)
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    for name, text in {
        "single": "holds a single array (.npy); save <split>_images and <split>_labels with numpy.savez",
        "volumes": "train_images must be uint8 of shape [N, H, W] or [N, H, W, 3], got uint8 [4, 8, 8, 8]; pass",
        "floats": "train_images must be uint8 of shape [N, H, W] or [N, H, W, 3], got float64 [4, 8, 8]",
        "several": "train_labels holds [4, 14] labels, and an image set has one class for each row; pass",
        "fewer": "split 'train': 4 inputs but 3 targets",
        "none": "holds no samples",
        "objects": "the array train_labels cannot be read (Object arrays cannot be loaded when allow_pickle=False)",
        "unlabelled": "has no array train_labels; it holds train_images",
        "named": "has no arrays <split>_images and <split>_labels; it holds x, y",
        "cut": "cannot be read as .npz (",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            load(tmp_path / f"{name}.npz")
        assert "\n" not in str(caught.value) and f"{name}.npz" in str(caught.value)
        assert text in str(caught.value)
    assert not trap.exists()
