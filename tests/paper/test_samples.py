import pytest
import torch

import mechconn as mc
from mechconn.datasets import ImageSet, make_strips
from mechconn.report import draw_preview
from texts import texts
from zoo import rows

GAP = 2


def grey(rows: int) -> ImageSet:
    x = torch.arange(rows, dtype=torch.uint8).view(rows, 1, 1, 1).expand(rows, 1, 4, 5).contiguous()
    return ImageSet(x, torch.zeros(rows, dtype=torch.int64), ("all",))


def test_a_strip_shows_the_bytes_of_its_images_side_by_side():
    pixels = make_strips({"grey": grey(3)}, 2)["grey"].pixels()
    assert pixels.shape == (4, 5 + GAP + 5, 3)
    assert (pixels[:, :5] == 0).all()
    assert (pixels[:, 5 : 5 + GAP] == 255).all()
    assert (pixels[:, 5 + GAP :] == 1).all()


def test_a_strip_of_fewer_images_than_asked_for_shows_them_all():
    assert make_strips({"grey": grey(3)}, 8)["grey"].width == 3 * 5 + 2 * GAP


def test_only_splits_of_images_are_shown():
    suite = mc.Suite({"grey": grey(3), "text": texts(4), "numbers": rows(4), "batches": [rows(4)]}, reference="grey")
    assert list(make_strips(suite)) == ["grey"]


def test_preview_shows_four_splits_of_the_same_rows():
    pictures = draw_preview("digits", "box", count=3)
    assert list(pictures) == ["no_cue", "cue", "rand_cue", "rand_image"]
    shown = {name: picture.pixels() for name, picture in pictures.items()}
    boxed = (shown["cue"] != shown["no_cue"]).any(2)
    assert 0 < boxed.sum() <= 3 * 9
    assert (shown["cue"][boxed] == [128, 255, 128]).all()


def test_preview_names_the_cues_there_are():
    with pytest.raises(
        ValueError,
        match=r"cue must be one of .*'box', .*'dominoes', .*'hue-box', .*, got 'boxes'; did you mean 'box'\?$",
    ):
        draw_preview("digits", "boxes")
