"""Texture and background from another row: which row, which frequencies, which pixels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mechconn.datasets import ImageSet, make_cued_set
from mechconn.datasets._cues import BoxCue
from mechconn.interventions import Background, ImageIntervention, LowPass, Texture


def draw_images(rows: int = 8, scale: float = 1.0, height: int = 8, width: int = 12) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return scale * (torch.rand(rows, 3, height, width, generator=draw, dtype=torch.float64) * 2 - 1)


def apply(intervention: ImageIntervention, x: Tensor, strength: float | None = None, seed: int = 0) -> Any:
    return intervention((x, torch.arange(len(x)) % 2), seed, strength)


def show(intervention: ImageIntervention, x: Tensor, strength: float | None = None, seed: int = 0) -> Tensor:
    return apply(intervention, x, strength, seed).inputs(torch.arange(len(x)))


def find_donors(scenes: Any) -> Tensor:
    """The donor of each row, as it was drawn."""
    return scenes.latents[0][1][:, -1].long()


def keep_low(x: Tensor, cut: float) -> Tensor:
    return show(LowPass(cut), x)


# ---------------------------------------------------------------- texture


def test_low_frequencies_are_the_rows_own_and_high_ones_the_donors() -> None:
    x = draw_images(scale=0.2)  # so small that nothing is clipped
    scenes = apply(Texture(2), x)
    donors, shown = find_donors(scenes), scenes.inputs(torch.arange(8))
    torch.testing.assert_close(keep_low(shown, 2), keep_low(x, 2), rtol=0, atol=1e-12)
    torch.testing.assert_close(shown - keep_low(shown, 2), (x - keep_low(x, 2))[donors], rtol=0, atol=1e-12)
    torch.testing.assert_close(show(Texture(2), x, 0.25), 0.75 * x + 0.25 * shown, rtol=0, atol=1e-12)


def test_a_hybrid_is_clipped() -> None:
    x = draw_images().sign()
    assert float(show(Texture(2), x).abs().max()) == 1.0


def test_donors_follow_from_row_and_seed_and_are_never_the_row_itself() -> None:
    x = draw_images(rows=60)
    found = torch.stack([find_donors(apply(Texture(), x, seed=seed)) for seed in range(50)])
    assert not bool((found == torch.arange(60)).any()) and 0 <= int(found.min()) and int(found.max()) < 60
    assert torch.equal(found[7], find_donors(apply(Texture(), x, seed=7)))
    assert len(found[:, 0].unique()) > 20
    part = apply(Texture(), x).inputs(torch.tensor([41, 3]))
    torch.testing.assert_close(part, show(Texture(), x)[[41, 3]], rtol=0, atol=1e-12)


def test_donors_within_a_class_have_its_label_and_other_data_can_give_them() -> None:
    x = draw_images(rows=40)
    donors = find_donors(apply(Texture(within="class"), x))
    assert torch.equal(donors % 2, torch.arange(40) % 2)
    flat = torch.zeros(3, 3, 8, 12, dtype=torch.float64), torch.zeros(3)
    without = show(Texture(2, donors=flat), 0.2 * x)
    torch.testing.assert_close(without, keep_low(0.2 * x, 2), rtol=0, atol=1e-12)


def test_the_donor_of_a_scene_with_a_cue_is_shown_with_its_cue() -> None:
    images = ImageSet(torch.zeros(6, 3, 16, 16, dtype=torch.uint8), torch.arange(6) % 3, ("a", "b", "c"))
    scenes = make_cued_set(images, BoxCue(values=3)).with_cue()
    shown = Texture(1)(scenes, seed=0)
    donors, x = find_donors(shown), scenes.inputs(torch.arange(6))
    low = 4 * show(LowPass(1), x / 4)  # a quarter is so small that nothing is clipped
    expected = (low + (x - low)[donors]).clamp(-1, 1)
    torch.testing.assert_close(shown.inputs(torch.arange(6)), expected, rtol=0, atol=1e-5)


# ---------------------------------------------------------------- background


def make_masks(rows: int = 8) -> Tensor:
    """An object of 3 x 4 pixels, at another place in every row."""
    masks = torch.zeros(rows, 8, 12, dtype=torch.bool)
    for row in range(rows):
        masks[row, row % 5 : row % 5 + 3, row : row + 4] = True
    return masks


def test_a_colour_fills_what_is_behind_the_object() -> None:
    x, masks = draw_images(), make_masks()
    colour = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float64)[:, None, None]
    expected = torch.where(masks[:, None], x, colour)
    fill = (0.5, -0.25, 1.0)
    assert torch.equal(show(Background(masks, fill=fill), x), expected)
    torch.testing.assert_close(show(Background(masks, fill=fill), x, 0.25), 0.75 * x + 0.25 * expected)


def test_another_rows_image_or_background_fills_it() -> None:
    x, masks = draw_images(), make_masks()
    scenes = apply(Background(masks, fill="image"), x)
    donors = find_donors(scenes)
    assert torch.equal(scenes.inputs(torch.arange(8)), torch.where(masks[:, None], x, x[donors]))
    scenes = apply(Background(masks), x)
    donors, expected = find_donors(scenes), x.clone()
    for row, donor in enumerate(donors.tolist()):
        behind, fill = ~masks[donor], x[donor].clone()
        fill[:, masks[donor]] = x[donor][:, behind].mean(1, keepdim=True)
        expected[row] = torch.where(masks[row], x[row], fill)
    torch.testing.assert_close(scenes.inputs(torch.arange(8)), expected, rtol=0, atol=1e-12)


def test_noise_is_uniform_and_another_in_every_row() -> None:
    x = torch.zeros(200, 3, 8, 12)
    shown = show(Background(torch.zeros(200, 8, 12), fill="noise"), x)
    counts = shown[:, 0, 0, 0].add(1).mul(2).long().bincount(minlength=4)
    # Five standard deviations of Binomial(200, 1/4): pixels of different windows are independent but for overlaps.
    assert int((counts - 50).abs().max()) < 5 * (200 * 3 / 16) ** 0.5
    assert len(shown[:, 0, 0, 0].unique()) > 150
    assert abs(float(shown.mean())) < 0.05 and abs(float(shown.var()) - 1 / 3) < 0.02


def find_bright(x: Tensor) -> Tensor:
    return x[:, 1] > 0


def test_masks_come_in_several_forms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By row, soft, as arrays and data sets, or from the images themselves."""
    x = draw_images()
    masks = find_bright(x)
    expected = show(Background(masks, fill=0.5), x)
    bytes_ = ImageSet((masks[:, None] * 255).to(torch.uint8), torch.zeros(8).long(), ("mask",))
    (tmp_path / "my_masks.py").write_text("def find_bright(x):\n    return x[:, 1] > 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    forms = masks[:, None], masks.double(), masks.numpy(), bytes_, find_bright, "my_masks:find_bright"
    for form in forms:
        assert torch.equal(show(Background(form, fill=0.5), x), expected)
    sys.modules.pop("my_masks", None)
    torch.testing.assert_close(
        show(Background(masks * 0.5, fill=0.5), x)[masks[:, None].expand_as(x)] * 2 - 0.5,
        x[masks[:, None].expand_as(x)],
        rtol=0,
        atol=1e-12,
    )


def test_masks_belong_to_rows_of_a_subset_of_scenes() -> None:
    images = ImageSet(torch.full((6, 3, 16, 16), 200, dtype=torch.uint8), torch.arange(6) % 3, ("a", "b", "c"))
    some = torch.tensor([4, 1, 3])
    scenes = make_cued_set(images, BoxCue(values=3)).subset(some)
    masks = torch.zeros(6, 16, 16)
    masks[some, torch.arange(3), 0] = 1.0
    shown = Background(masks[some], fill=-1.0)(scenes).inputs(torch.arange(3))
    assert (shown[:, 0] > -1).nonzero().tolist() == [[0, 0, 0], [1, 1, 0], [2, 2, 0]]
