"""What does not suit images: one line each, and remedies that are carried out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mechconn.core import as_data
from mechconn.datasets import ImageSet, Normalised
from mechconn.interventions import (
    Background,
    Blur,
    ColourShift,
    Contrast,
    Flip,
    Frame,
    Grey,
    HighPass,
    Hue,
    Intervention,
    LowPass,
    Occlude,
    Patch,
    PatchShuffle,
    Resolution,
    Rotate,
    Texture,
)
from texts import texts

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def draw_images(rows: int = 6, channels: int = 3, height: int = 8, width: int = 12) -> Tensor:
    return torch.rand(rows, channels, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def pair(x: Tensor) -> tuple[Tensor, Tensor]:
    return x, torch.zeros(len(x)).long()


def make_grey() -> Tensor:
    return draw_images(channels=1).expand(-1, 3, -1, -1).contiguous()


def normalise(x: Tensor) -> Tensor:
    mean, std = (torch.tensor(part)[:, None, None] for part in (MEAN, STD))
    return ((x + 1) / 2 - mean) / std


MASKS = torch.zeros(6, 8, 12)
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "one channel for hue": (
        lambda: Hue()(pair(draw_images(channels=1))),
        "Hue needs images of three channels, red, green and blue, got 1; leave it out",
    ),
    "grey images for hue": (
        lambda: Hue()(pair(make_grey())),
        "Hue needs images in colour, but its channels are equal in the 6 rows looked at; leave it out",
    ),
    "grey images for grey": (
        lambda: Grey()(pair(make_grey())),
        "Grey needs images in colour, but its channels are equal in the 6 rows looked at; leave it out",
    ),
    "masks of another size": (
        lambda: Background(torch.zeros(6, 8, 8))(pair(draw_images())),
        "masks must be of the size of the images, [6, 8, 12] for 6 rows, got [6, 8, 8]; resize them",
    ),
    "masks of other rows": (
        lambda: Background(MASKS[:4])(pair(draw_images())),
        "masks must have a row for each of the 6 rows of the data, got 4; take the masks of these rows",
    ),
    "masks in bytes": (
        lambda: Background(MASKS + 255)(pair(draw_images())),
        "masks must be bool or lie in [0, 1], 1 on the object, got values from 255 to 255; write masks > 0 of those "
        "that are zero behind it",
    ),
    "a function that gives no masks": (
        lambda: Background(lambda x: x)(pair(draw_images())),
        "masks must be of the size of the images, [6, 8, 12] for 6 rows, got [6, 3, 8, 12]; resize them",
    ),
    "masks by row for donors of other data": (
        lambda: Background(MASKS, donors=pair(draw_images()))(pair(draw_images())),
        'the masks are of the rows of the data, but fill = "background" needs those of donors too; pass a function as '
        'masks, or fill = "image"',
    ),
    "an unknown fill": (
        lambda: Background(MASKS, fill="nois"),
        "fill must be one of 'background', 'image', 'noise', got 'nois'; did you mean 'noise'?",
    ),
    "a place outside the image": (
        lambda: Patch((6, 0), size=3)(pair(draw_images())),
        "place must lie in [0, 5] by [0, 9] for a patch of 3 pixels on images of 8 by 12, got (6, 0)",
    ),
    "an unknown place": (
        lambda: Patch("top-lef"),
        "place must be one of 'top-left', 'top', 'top-right', 'left', 'centre', 'right', 'bottom-left', 'bottom', "
        "'bottom-right', 'random', got 'top-lef'; did you mean 'top-left'?",
    ),
    "a place of one number": (
        lambda: Patch((3,)),
        "place must be a name such as 'top-left', or (row, column), got (3,)",
    ),
    "a patch larger than the image": (
        lambda: Patch(size=9)(pair(draw_images())),
        "size must be at most the shorter side of the images, 8, got 9; set size=",
    ),
    "a frame that covers all": (
        lambda: Frame(4)(pair(draw_images())),
        "width must be less than half the shorter side of the images, 8, got 4; set width=",
    ),
    "a grid larger than the image": (
        lambda: Occlude(9)(pair(draw_images())),
        "grid must be at most the shorter side of the images, 8, got 9; set grid=",
    ),
    "a grid of patches larger than the image": (
        lambda: PatchShuffle(9)(pair(draw_images())),
        "grid must be at most the shorter side of the images, 8, got 9; set grid=",
    ),
    "one patch alone": (lambda: PatchShuffle(1), "grid must be a whole number of at least two cells, got 1"),
    "a colour of other channels": (
        lambda: Patch(colour=(0.0, 1.0))(pair(draw_images())),
        "colour must have one number, or one for each of the 3 channels of the images, got 2; set it in Patch",
    ),
    "a colour off the scale": (lambda: Frame(colour=255.0), "colour must lie in [-1, 1], got 255.0"),
    "a fill of other channels": (
        lambda: Background(MASKS, fill=(0.0, 1.0))(pair(draw_images())),
        "colour must have one number, or one for each of the 3 channels of the images, got 2; set it in Background",
    ),
    "one row where a donor is needed": (
        lambda: Texture()(pair(draw_images(rows=1))),
        "Texture has no other row to take for row 0; give more data, or leave it out",
    ),
    "donors of another shape": (
        lambda: Texture(donors=pair(draw_images(width=8)))(pair(draw_images())),
        "donors of Texture must be of the shape of the images, [3, 8, 12], got [3, 8, 8]",
    ),
    "normalised images": (
        lambda: Blur()(pair(torch.full((2, 3, 8, 8), 2.64))),
        "Blur needs images in [-1, 1], got values from 2.64 to 2.64 in 2 rows looked at; of images normalised by a "
        "mean and std pass mechconn.datasets.Normalised.of(data, mean, std)",
    ),
    "a tint of normalised images": (
        lambda: ColourShift()(pair(torch.full((2, 3, 8, 8), 2.64))),
        "ColourShift needs images in [-1, 1], got values from 2.64 to 2.64 in 2 rows looked at; of images normalised "
        "by a mean and std pass mechconn.datasets.Normalised.of(data, mean, std)",
    ),
    "bytes": (
        lambda: Contrast()(pair(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))),
        "Contrast needs images of floating point in [-1, 1], got uint8; mechconn.datasets.ImageSet(x, y, classes) "
        "holds bytes and scales them",
    ),
    "texts": (lambda: Flip()(texts(4)), "Flip needs images of shape [C, H, W], got inputs input_ids, attention_mask"),
    "a cut above all frequencies": (
        lambda: LowPass(4)(pair(draw_images())),
        "cut must be less than half the shorter side of the images, 4 cycles, got 4; set cut=",
    ),
    "a cut of a high pass above all frequencies": (
        lambda: HighPass(5)(pair(draw_images())),
        "cut must be less than half the shorter side of the images, 4 cycles, got 5; set cut=",
    ),
    "blocks larger than the image": (
        lambda: Resolution(9)(pair(draw_images())),
        "factor must lie in 2 ... 8, the shorter side of the images, got 9; set factor=",
    ),
    "blocks of a pixel": (lambda: Resolution(1), "factor must be a whole number of at least two pixels, got 1"),
    "a contrast that stays": (lambda: Contrast(1.0), "factor must be less than 1, which changes nothing, got 1"),
    "two turns": (lambda: Hue(2.0), "turn must lie in [-1, 1], got 2.0"),
    "another axis": (lambda: Flip("x"), "axis must be one of 'horizontal', 'vertical', got 'x'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(case: str) -> None:
    call, text = WRONG[case]
    with pytest.raises(ValueError) as raised:
        call()
    assert str(raised.value) == text


def test_mistakes_are_reported_together() -> None:
    with pytest.raises(ValueError) as raised:
        Patch("middle", size=0, colour=3.0, strength=2.0)
    first, second, third, fourth = str(raised.value).splitlines()
    assert first.startswith("strength must lie in [0, 1]") and second.startswith("place must be one of")
    assert third.startswith("size must be a whole number") and fourth == "colour must lie in [-1, 1], got 3.0"


def test_masks_of_another_kind() -> None:
    with pytest.raises(TypeError) as raised:
        Background(3)
    assert str(raised.value) == (
        "masks must be a tensor [N, H, W], a data set of mask images, a function of images, or "
        "'package.module:function', got int"
    )


# ---------------------------------------------------------------- remedies


def test_normalised_data_are_changed_on_their_own_scale_once_they_are_mapped_back() -> None:
    """As the refusal advises: the same as the intervention before the normalisation, of tensors and of a dataset."""
    x = draw_images()
    for data in (pair(normalise(x)), TensorDataset(normalise(x), torch.zeros(6).long())):
        with pytest.raises(ValueError, match=r"pass mechconn\.datasets\.Normalised\.of\(data, mean, std\)$"):
            Patch("centre", colour=1.0)(data)
        mapped = Normalised.of(data, MEAN, STD)
        shown = Patch("centre", colour=1.0)(mapped).inputs(torch.arange(6))
        expected = normalise(Patch("centre", colour=1.0)(pair(x)).inputs(torch.arange(6)))
        torch.testing.assert_close(shown, expected, rtol=0, atol=1e-5)


def test_bytes_go_into_an_image_set() -> None:
    x, y = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)), [0] * 4
    shown = Contrast(0.5)(ImageSet(x, torch.tensor(y), ("one",))).inputs(torch.arange(4))
    assert float(shown.abs().max()) <= 1.0


def test_images_in_0_1_are_noticed_and_bright_bytes_are_not(caplog: pytest.LogCaptureFixture) -> None:
    x = (draw_images() + 1) / 2
    with caplog.at_level(logging.WARNING, "mechconn"):
        Grey()(pair(x))
    (record,) = caplog.records
    assert record.getMessage() == (
        "Grey: the 6 rows looked at hold no value below 0, as images in [0, 1] do, but interventions are made "
        "for [-1, 1]; of images in [0, 1] pass mechconn.datasets.Normalised.of(data, 0, 1)"
    )
    caplog.clear()
    bright = torch.full((6, 3, 8, 8), 200, dtype=torch.uint8)
    bright[:, 0] = 255
    with caplog.at_level(logging.WARNING, "mechconn"):
        Grey()(ImageSet(bright, torch.zeros(6).long(), ("one",)))
        mapped = Normalised.of(pair(x), 0, 1)
        shown = Contrast(0.0)(mapped).inputs(torch.arange(6))
    assert not caplog.records
    torch.testing.assert_close(shown, x.mean((2, 3), keepdim=True).expand_as(x), rtol=0, atol=1e-6)


def test_a_loader_is_named_with_what_to_pass() -> None:
    loader = DataLoader(TensorDataset(normalise(draw_images()), torch.zeros(6).long()))
    with pytest.raises(TypeError) as raised:
        Normalised.of(loader, MEAN, STD)
    assert str(raised.value) == "Normalised.of reads rows by index, got a DataLoader; pass its dataset, loader.dataset"
    assert len(Normalised.of(cast("Any", loader.dataset), MEAN, STD)) == 6


# ---------------------------------------------------------------- labels that change


def named(*classes: str) -> ImageSet:
    return ImageSet(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), classes)


LABELS: dict[str, tuple[Intervention, Any, str]] = {
    "digits that are mirrored": (
        Flip(),
        named(*"0123456789"),
        "classes are digits or letters (2, 3, 4, ...), which a horizontal flip turns into other signs",
    ),
    "digits that look the same": (Flip(), named("0", "1", "8"), ""),
    "letters upside down": (
        Flip("vertical"),
        named("b", "d", "X"),
        "classes are digits or letters (b, d), which a vertical flip turns into other signs",
    ),
    "sides": (
        Flip(),
        named("turn_left", "TurnRight", "straight"),
        "classes name directions (turn_left, TurnRight), which a horizontal flip changes",
    ),
    "sides upside down": (Flip("vertical"), named("turn left", "turn right"), ""),
    "ends upside down": (
        Flip("vertical"),
        named("thumbs up", "thumbs down"),
        "classes name directions (thumbs up, thumbs down), which a vertical flip changes",
    ),
    "rotations mirrored": (
        Flip(),
        named("clockwise", "anticlockwise"),
        "classes name directions (clockwise, anticlockwise), which a horizontal flip changes",
    ),
    "words that hold such words": (Flip(), named("upright piano", "copyright", "cat"), ""),
    "objects": (Flip(), named("cat", "dog"), ""),
    "no names": (Flip(), as_data("data", pair(torch.zeros(2, 3, 8, 8))), ""),
    "6 and 9 by a small turn": (Rotate(30), named(*"69"), ""),
    "6 and 9 by a half turn": (
        Rotate(180),
        named(*"0689"),
        "classes are digits or letters (6, 9), which a rotation by up to 180 degrees turns into other signs",
    ),
    "up and left by a quarter turn": (
        Rotate(90),
        named("arrow up", "arrow left"),
        "classes name directions (arrow up, arrow left), which a rotation by up to 90 degrees changes",
    ),
    "colours": (Hue(), named("red", "light blue"), "classes are told apart by their colour (red, light blue)"),
    "colours of one thing": (
        Grey(),
        named("red car", "green car", "bus"),
        "classes are told apart by their colour (red car, green car)",
    ),
    "colours by a tint": (ColourShift(), named("red", "green"), "classes are told apart by their colour (red, green)"),
    "names that hold a colour": (Hue(), named("red fox", "green mamba"), ""),
    "a patch on digits": (Patch(), named(*"0123456789"), ""),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_that_change_for_people_are_told_by_the_names_of_classes(case: str) -> None:
    intervention, data, reason = LABELS[case]
    assert intervention.explain_label_change(data) == reason
    if isinstance(data, ImageSet):
        assert intervention.explain_label_change(Normalised(data)) == reason
