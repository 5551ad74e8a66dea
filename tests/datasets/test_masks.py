"""Masks of images from files: by the images' names, or one for each; what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from image_files import pixels, png, write_class_folder
from mechconn.datasets import ImageSet, load, load_masks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images a/0.png ... b/2.png, and masks of which the one of a/1.png is wholly black."""
    for label, name in enumerate("ab"):
        write_class_folder(tmp_path / "photos" / name, {f"{row}.png": pixels(10 * label + row) for row in range(3)})
        for row in range(3):
            mask = np.zeros((6, 6, 1), np.uint8)
            mask[:row] = 255 if row != 1 else 0
            write_class_folder(tmp_path / "masks" / name, {f"{row}.png": mask})
    return tmp_path


def read(folder: Path) -> ImageSet:
    return load(folder / "photos")


def test_masks_are_found_by_names_with_their_folders(folder: Path) -> None:
    masks = load_masks(folder / "masks", read(folder))
    assert masks.dtype == torch.bool and masks.shape == (6, 1, 6, 6)
    assert masks.sum((1, 2, 3)).tolist() == [0, 0, 12, 0, 0, 12]
    listed = sorted((folder / "masks").rglob("*.png"))
    assert torch.equal(load_masks(listed, read(folder)), masks)
    order = torch.tensor([5, 0])
    assert torch.equal(load_masks(folder / "masks", read(folder).subset(order)), masks[order])
    (folder / "masks").rename(folder / "deep")
    (folder / "outer").mkdir()
    (folder / "deep").rename(folder / "outer" / "deep")
    assert torch.equal(load_masks(folder / "outer", read(folder)), masks)


def test_a_mask_of_another_suffix_and_of_soft_edges(folder: Path) -> None:
    edge = np.full((6, 6, 1), 255, np.uint8)
    edge[0], edge[1] = 127, 128
    (folder / "masks" / "a" / "0.png").unlink()
    (folder / "masks" / "a" / "0.bmp").write_bytes(png(edge))
    assert load_masks(folder / "masks", read(folder))[0, 0, :, 0].tolist() == [False, True, True, True, True, True]


def test_what_is_refused_and_what_to_do_then(folder: Path) -> None:
    images, masks = read(folder), folder / "masks"
    with pytest.raises(FileNotFoundError, match=r"^no folder .*nowhere of masks; check its path$"):
        load_masks(folder / "nowhere", images)
    with pytest.raises(FileNotFoundError, match=r"^no mask .*none.png \(6 of 6 are missing\); check its path$"):
        load_masks([folder / "none.png"] * 6, images)
    with pytest.raises(ValueError, match="are found by the names of the images' files, and these images have none"):
        load_masks(masks, replace(images, files=None))
    with pytest.raises(ValueError, match=r"6.*1"):
        load_masks([masks / "a" / "0.png"], images)
    (masks / "b" / "2.png").rename(masks / "b" / "2.txt")
    with pytest.raises(
        ValueError, match=r"has no mask for b/2.png \(1 of 6 images have none\); a mask is called as its"
    ):
        load_masks(masks, images)
    (masks / "b" / "2.txt").rename(masks / "b" / "2.png")
    (masks / "b" / "1.bmp").write_bytes(png(pixels(1)))
    with pytest.raises(
        ValueError, match=r"1.bmp and .*1.png may both be the mask of b/1; leave one of them in .*masks"
    ):
        load_masks(masks, images)
    (masks / "b" / "1.bmp").unlink()
    assert len(load_masks(masks, images)) == 6
    for file in masks.rglob("*.png"):
        file.write_bytes(png(np.zeros((6, 9, 1), np.uint8)))
    with pytest.raises(
        ValueError, match=r"^masks must be of the images' size, 6 x 6 pixels, got 9 x 6; pass size= where"
    ):
        load_masks(masks, images)
    assert load_masks(masks, images, size=6).shape == (6, 1, 6, 6)
