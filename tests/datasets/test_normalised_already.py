"""Data that are normalised already, wrapped so that cues and interventions have their scale of [-1, 1]."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mechconn as mc
from mechconn.core import select_rows
from mechconn.datasets import ImageSet, Normalised
from mechconn.interventions import Patch, Texture, choose_interventions

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_images() -> ImageSet:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (9, 3, 6, 8), generator=draw, dtype=torch.uint8)
    return ImageSet(x, torch.arange(9) % 3, ("a", "b", "c"))


def read(data: Normalised) -> Tensor:
    return data.inputs(torch.arange(len(data)))


def test_rows_are_the_same_within_the_stated_rounding_and_scenes_are_the_images() -> None:
    images = make_images()
    given = read(Normalised(images, MEAN, STD))
    mapped = Normalised.of((given, images.y), MEAN, STD)
    spread = torch.tensor([(1 + mean) / std for mean, std in zip(MEAN, STD, strict=True)])[:, None, None]
    assert bool(((read(mapped) - given).abs() <= 4e-7 * spread + 4e-7 * given.abs()).all())
    torch.testing.assert_close(mapped.scenes.inputs(torch.arange(9)), images.inputs(torch.arange(9)), rtol=0, atol=1e-6)
    assert torch.equal(mapped.y, images.y) and mapped.mean == MEAN and mapped.std == STD


@pytest.mark.parametrize(("mean", "std", "scale"), [(0, 1, 1.0), (0.0, 1 / 255, 255.0)])
def test_one_number_for_all_channels(mean: float, std: float, scale: float) -> None:
    u = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    mapped = Normalised.of((scale * u, torch.zeros(4)), mean, std)
    torch.testing.assert_close(mapped.scenes.inputs(torch.arange(4)), 2 * u - 1, rtol=0, atol=1e-6)
    torch.testing.assert_close(read(mapped), scale * u, rtol=1e-6, atol=1e-6 * scale)


def test_a_suite_of_interventions_is_that_of_images_before_the_normalisation() -> None:
    images, functions = make_images(), {"grey": "grey", "moved": mc.Translate(2), "lost": {"name": "occlusion"}}
    before = mc.intervened(Normalised(images, MEAN, STD), functions, seed=3)
    given = read(Normalised(images, MEAN, STD)), images.y
    after = mc.intervened(Normalised.of(given, MEAN, STD), functions, seed=3)
    for name in before:
        x, y = (suite[name].inputs(torch.arange(9)) for suite in (before, after))  # pyright: ignore
        torch.testing.assert_close(y, x, rtol=0, atol=1e-5)


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(ValueError) as raised:
        Normalised.of((torch.zeros(2, 3, 4, 4), torch.zeros(2)), (0.5, 0.5), 0.0)
    assert str(raised.value) == (
        "mean and std must be one number or one for each channel, std above zero, got [0.5, 0.5] and [0.0] for inputs "
        "of shape [3, 4, 4]"
    )


def test_what_it_prints() -> None:
    mapped = Normalised.of((torch.zeros(2, 1, 4, 4), torch.zeros(2)), 0.5, 0.25)
    assert repr(mapped) == "Normalised(2 rows of [1, 4, 4], mean [0.5], std [0.25], of MappedBack)"


def test_bytes_are_read_as_numbers() -> None:
    images = make_images()
    mapped = Normalised.of((images.x, images.y), 0, 1 / 255)
    torch.testing.assert_close(mapped.scenes.inputs(torch.arange(9)), images.inputs(torch.arange(9)), rtol=0, atol=1e-6)
    torch.testing.assert_close(read(mapped), images.x.float(), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(("mean", "std"), [((0.0,), (1.0,)), (MEAN, STD)])
def test_some_rows_are_changed_as_all_are(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """A selection of normalised rows is on their scale, also after another intervention and among donors."""
    whole, rows = Normalised(make_images(), mean, std), torch.tensor([7, 2, 4])
    some = mc.split_by_group(whole, torch.arange(9).unsqueeze(1).eq(rows).any(1).long())["1"]
    for data, expected in ((some, whole), (select_rows(mc.Translate(1)(whole), rows.sort().values), None)):
        patched = Patch("centre", colour=1.0)(data, seed=0).inputs(torch.arange(3))
        full = Patch("centre", colour=1.0)(whole if expected is not None else mc.Translate(1)(whole), seed=0)
        assert torch.equal(patched, full.inputs(rows.sort().values))
    found = choose_interventions(some, ["patch", "grey"])
    assert list(found.functions) == ["patch", "grey"]
    shown = Texture(donors=some)(whole, seed=0), Texture(donors=make_images().subset(rows.sort().values))(whole, seed=0)
    assert torch.equal(shown[0].inputs(torch.arange(9)), shown[1].inputs(torch.arange(9)))
