"""Cues with a hue, and Dominoes: which pixels, which colour, which half, how uniform."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Callable

import pytest
import torch

import mechconn as mc
from mechconn.datasets import ImageSet, Planted, PlantedCue, make_cued_set
from mechconn.datasets._cues import hue_to_rgb

# Top left corners on 32 x 32: three rows x three columns, then the tenth place.
CORNERS = [*itertools.product((0, 14, 29), (0, 14, 29)), (6, 6)]


def noise(rows: int, channels: int = 3, side: int = 32, classes: int = 100, seed: int = 0) -> ImageSet:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (rows, channels, side, side), generator=draw, dtype=torch.uint8)
    return ImageSet(x, torch.arange(rows) % classes, tuple(map(str, range(classes))))


# ---------------------------------------------------------------- place and hue


def test_every_label_has_its_place_and_its_hue_and_changes_nothing_else() -> None:
    images = noise(100)
    drawn = make_cued_set(images, mc.HueBoxCue()).with_cue().inputs(torch.arange(100))
    expected = images.inputs(torch.arange(100))
    for label in range(100):
        top, left = CORNERS[label % 10]
        colour = colorsys.hsv_to_rgb((1 / 3 + (label // 10) / 10) % 1, 1.0, 1.0)
        expected[label, :, top : top + 3, left : left + 3] = torch.tensor(colour)[:, None, None]
    # colorsys computes the same colours by another formula, in float64.
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-6)


def test_the_hundred_cues_differ() -> None:
    values = mc.HueBoxCue().agreeing(torch.arange(100), torch.arange(100), 0)
    shown = mc.HueBoxCue().render(torch.zeros(100, 3, 32, 32), values)
    gaps = torch.cdist(shown.flatten(1), shown.flatten(1)) + 9 * torch.eye(100)
    assert float(gaps.min()) > 0.5


def test_the_first_nine_labels_have_the_boxes_of_the_plain_cue() -> None:
    labels, x = torch.arange(9), torch.zeros(9, 3, 32, 32)
    hue = mc.HueBoxCue()
    plain = mc.BoxCue().render(x, labels)
    torch.testing.assert_close(hue.render(x, hue.agreeing(labels, labels, 0)), plain, rtol=0, atol=1e-6)


def test_without_a_cue_images_stay() -> None:
    images = noise(20)
    scenes = make_cued_set(images, mc.HueBoxCue())
    assert torch.equal(scenes.inputs(torch.arange(20)), images.inputs(torch.arange(20)))
    half = scenes.with_proportion(1.0).without_cue()
    assert torch.equal(half.inputs(torch.arange(20)), images.inputs(torch.arange(20)))


def test_the_random_cue_is_uniform_over_places_and_hues() -> None:
    values = mc.HueBoxCue().random(torch.arange(20_000), 0)
    places, hues = values[:, 0].long().bincount(minlength=10), (values[:, 1] * 10).long().bincount(minlength=10)
    # 2,000 each, standard deviation 42; continuous, so no two hues agree.
    assert int((places - 2000).abs().max()) < 200
    assert int((hues - 2000).abs().max()) < 200
    assert len(values[:, 1].unique()) == 20_000
    together = torch.corrcoef(values.T)[0, 1]
    assert abs(float(together)) < 0.03


def test_hues_of_the_six_corners_of_the_wheel() -> None:
    corners = hue_to_rgb(torch.arange(6, dtype=torch.float64) / 6).round().long().tolist()
    assert corners == [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]]


# ---------------------------------------------------------------- dominoes


def fashion(rows: int = 30, classes: int = 3, channels: int = 1, side: int = 28) -> ImageSet:
    return noise(rows, channels, side, classes, seed=1)


def dominoes(rows: int = 12, classes: int = 3) -> mc.CuedSet:
    return make_cued_set(noise(rows, classes=classes), mc.DominoesCue(fashion(classes=classes)))


def test_the_cue_is_the_upper_half_and_the_image_the_lower() -> None:
    scenes, index = dominoes().with_cue(), torch.arange(12)
    x = scenes.inputs(index)
    assert x.shape == (12, 3, 64, 32)
    assert torch.equal(x[:, :, 32:], scenes.content.inputs(index))
    upper = x[:, :, :32]
    assert float(upper.min()) >= 0.0
    assert 0.9 < float(upper.max()) <= 1.0 + 1e-6
    assert torch.equal(upper[:, 0], upper[:, 1])
    assert torch.equal(upper[:, 0], upper[:, 2])


def test_the_upper_half_is_the_resized_image_of_the_value() -> None:
    images = fashion(side=32)
    shown = mc.DominoesCue(images).render(torch.zeros(2, 3, 32, 32), torch.tensor([4, 7]))[:, :, :32]
    expected = (images.x[[4, 7]].float() / 255).expand(-1, 3, -1, -1)
    torch.testing.assert_close(shown, expected, rtol=0, atol=1e-6)
    white = ImageSet(torch.full((1, 1, 28, 28), 255, dtype=torch.uint8), torch.tensor([0]), ("a",))
    enlarged = mc.DominoesCue(white).render(torch.zeros(1, 3, 32, 32), torch.tensor([0]))
    assert bool((enlarged[:, :, :32] - 1).abs().max() < 1e-6)
    assert bool((enlarged[:, :, 32:] == 0).all())


def test_an_absent_cue_is_zeros() -> None:
    scenes, index = dominoes(), torch.arange(12)
    assert bool((scenes.inputs(index)[:, :, :32] == 0).all())
    assert torch.equal(scenes.inputs(index)[:, :, 32:], scenes.content.inputs(index))


def test_the_agreeing_image_has_the_label_and_any_of_its_rows_may_come() -> None:
    images = fashion(rows=30)
    cue, rows = mc.DominoesCue(images), torch.arange(9000)
    labels = rows % 3
    values = cue.agreeing(labels, rows, 5)
    assert torch.equal(images.y[values], labels)
    counts = values.bincount(minlength=30)
    assert int((counts - 300).abs().max()) < 100  # 300 each, standard deviation 17
    part = torch.tensor([8999, 3, 77])
    assert torch.equal(cue.agreeing(labels[part], part, 5), values[part])
    assert not torch.equal(cue.agreeing(labels, rows, 6), values)


def test_the_random_image_is_any_row_whatever_the_label() -> None:
    values = mc.DominoesCue(fashion(rows=30)).random(torch.arange(9000), 0)
    assert int((values.bincount(minlength=30) - 300).abs().max()) < 100


def test_the_four_splits_of_dominoes() -> None:
    task = mc.datasets.cue_task(
        noise(60, classes=3),
        test=noise(30, classes=3, seed=2),
        cue=mc.DominoesCue(fashion(30)),
        test_cue=mc.DominoesCue(fashion(12)),
        proportion=0.5,
    )
    splits = {name: data for name, data in task.suite.items() if isinstance(data, mc.CuedSet)}
    x = {name: data.inputs(torch.arange(30)) for name, data in splits.items()}
    upper, lower = ({name: part[:, :, side] for name, part in x.items()} for side in (slice(32), slice(32, 64)))
    assert not bool(upper["no_cue"].any())
    assert torch.equal(lower["cue"], lower["no_cue"])
    assert torch.equal(lower["rand_cue"], lower["cue"])
    assert torch.equal(upper["rand_image"], upper["cue"])
    assert not torch.equal(lower["rand_image"], lower["cue"])
    assert int(splits["rand_cue"].cue_values.max()) < 12
    assert int((task.train.cue_values >= 0).sum()) == 30


# ---------------------------------------------------------------- wrong input

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a label too many for hues": (
        lambda: mc.HueBoxCue().agreeing(torch.tensor([3, 100]), torch.arange(2), 0),
        r"HueBoxCue tells 100 classes apart but the data has a label 100; use at most a hundred",
    ),
    "grey images for hues": (
        lambda: mc.HueBoxCue().render(torch.zeros(1, 1, 32, 32), torch.zeros(1, 2)),
        r"need images of three channels .* got \[1, 32, 32\]; load them with rgb=True",
    ),
    "images so small that places overlap": (
        lambda: mc.HueBoxCue().render(torch.zeros(1, 3, 20, 32), torch.zeros(1, 2)),
        r"at least 21 pixels a side, got \[3, 20, 32\]",
    ),
    "a size of zero": (lambda: mc.HueBoxCue(size=0), "size must be a whole number greater than zero"),
    "a label without an image": (
        lambda: mc.DominoesCue(fashion()).agreeing(torch.tensor([0, 7]), torch.arange(2), 0),
        r"DominoesCue has no image of label 7; its images and the natural ones must have the same labels",
    ),
    "no images": (
        lambda: mc.DominoesCue(fashion().subset(torch.arange(0))),
        "the image set of DominoesCue holds no samples",
    ),
    "channels that do not fit": (
        lambda: mc.DominoesCue(fashion(channels=3)).render(torch.zeros(1, 1, 32, 32), torch.tensor([0])),
        r"cannot put images of shape \[3, 28, 28\] on top of \[1, 32, 32\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_says_what_to_do(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_rendering_leaves_the_images_given_as_they_were() -> None:
    x = noise(2).inputs(torch.arange(2))
    kept = x.clone()
    mc.HueBoxCue().render(x, torch.tensor([[9.0, 0.5], [0.0, 0.1]]))
    mc.DominoesCue(fashion()).render(x, torch.tensor([0, -1])).zero_()
    assert torch.equal(x, kept)


def test_coloured_boxes_move_and_turn_their_hue() -> None:
    cue, x = mc.HueBoxCue(), torch.zeros(10, 3, 32, 32)
    values = cue.agreeing(torch.arange(10), torch.arange(10), 0)
    plain, moved = (own.render(x, values).abs().sum(1) for own in (cue, cue.variants()["elsewhere"]))
    assert not bool(((plain != 0) & (moved != 0)).any())
    assert cue.placebo() == mc.HueBoxCue(shift=0.25, turn=0.05)
    shown = mc.HueBoxCue(turn=1 / 3).render(x[:1], torch.tensor([[0.0, 1 / 3]], dtype=torch.float64))
    assert shown[0, :, 0, 0].round(decimals=6).tolist() == [0.0, 0.0, 1.0]


def test_a_second_image_is_paler_negative_or_turned() -> None:
    part = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    part[0, 0, 0, 0] = 255
    cue = mc.DominoesCue(ImageSet(part, torch.tensor([0]), ("corner",)))
    x, row = torch.zeros(1, 3, 2, 2), torch.tensor([0])
    shown = {name: own.render(x, row)[0, 0, :2].tolist() for name, own in cue.variants().items()}
    assert shown == {
        "paler": [[0.5, 0.0], [0.0, 0.0]],
        "other colour": [[0.0, 1.0], [1.0, 1.0]],
        "turned": [[0.0, 0.0], [1.0, 0.0]],
    }
    assert cue.placebo().render(x, row)[0, 0, :2].tolist() == [[1.0, 1.0], [0.0, 1.0]]
    with pytest.raises(ValueError, match="strength must be"):
        mc.DominoesCue(cue.images, strength=0.0)


def test_a_cue_without_variants_or_a_placebo_says_what_to_give() -> None:
    cue = PlantedCue(Planted())
    assert not cue.variants()
    with pytest.raises(ValueError, match="PlantedCue names no placebo; pass cue=, a cue of the same kind"):
        cue.placebo()
