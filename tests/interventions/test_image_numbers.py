"""Every intervention on images: number types, strengths, sizes, channels; and poses and tints at a strength."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import mechconn as mc
from mechconn.core import list_kinds
from mechconn.interventions import Background, ImageIntervention, Intervention

KINDS: dict[str, Any] = {
    name: kind for name, kind in list_kinds(Intervention, built_in=True).items() if kind.takes == "images"
}
COLOURED = ("grey", "hue")
"""Those that need three channels."""


def make(name: str) -> Intervention:
    kind = KINDS[name]
    return kind(lambda x: x[:, 0] > 0) if kind is Background else kind()


def draw_images(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(dtype)


def show(intervention: Intervention, x: Tensor, strength: float | None = None) -> Tensor:
    return intervention((x, torch.zeros(len(x)).long()), 0, strength).inputs(torch.arange(len(x)))


GRADED = [name for name, kind in KINDS.items() if issubclass(kind, ImageIntervention)]


def test_the_interventions_of_images_are_those_of_the_page() -> None:
    assert set(KINDS) == {*GRADED, "rotate", "translate", "colour-shift"} and len(GRADED) == 14


def _find_bright(x: Tensor) -> Tensor:
    return x[:, 0] > 0


@pytest.mark.parametrize("name", GRADED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_number_types_stay_and_half_types_are_rounded_once(name: str, dtype: torch.dtype) -> None:
    x = draw_images((6, 3, 9, 16), dtype)
    shown = show(make(name), x)
    assert shown.dtype == dtype and shown.shape == x.shape
    wide = show(make(name), x.to(torch.float32))
    torch.testing.assert_close(
        shown.float(), wide.to(dtype).float(), rtol=0, atol=2e-2 if dtype != torch.float64 else 1e-5
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [(5, 3, 16, 16), (5, 1, 9, 14), (5, 4, 17, 8)])
def test_strength_0_keeps_the_bits_and_1_is_the_whole(name: str, shape: tuple[int, ...]) -> None:
    x = draw_images(shape)
    if shape[1] != 3 and name in (*COLOURED, "colour-shift"):
        with pytest.raises(ValueError, match="channels"):
            show(make(name), x)
        return
    intervention = make(name)
    assert torch.equal(show(intervention, x, 0.0), x)
    whole = show(intervention, x, 1.0)
    assert not torch.equal(whole, x)
    assert float(whole.abs().max()) <= 1.0 + 1e-5 and bool(whole.isfinite().all())
    if isinstance(intervention, ImageIntervention):
        assert torch.equal(whole, show(intervention, x))


@pytest.mark.parametrize("name", GRADED)
def test_rows_draw_their_strength_from_a_range(name: str) -> None:
    """A row of a range is the row at the strength that it drew."""
    x = draw_images((6, 3, 12, 16))
    kind = KINDS[name]
    options: Any = {"masks": _find_bright} if kind is Background else {}
    scenes = kind(strength=(0.2, 0.9), **options)((x, torch.zeros(6).long()), 0)
    strengths = scenes.latents[0][1][:, 0]
    assert 0.2 <= float(strengths.min()) < float(strengths.max()) < 0.9
    shown = scenes.inputs(torch.arange(6))
    for row, strength in enumerate(strengths.tolist()):
        one = make(name)((x, torch.zeros(6).long()), 0, strength).inputs(torch.tensor([row]))[0]
        torch.testing.assert_close(shown[row], one, rtol=0, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("name", KINDS)
def test_the_same_on_a_gpu(name: str) -> None:
    x, y = draw_images((6, 3, 12, 16)), torch.zeros(6).long()
    scenes = make(name)((x, y), 0, 0.7)
    there = make(name)((x.cuda(), y), 0, 0.7)
    rows = torch.arange(6)
    torch.testing.assert_close(there.inputs(rows).cpu(), scenes.inputs(rows), rtol=0, atol=1e-4)


# ---------------------------------------------------------------- pose and tint at a strength


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_a_strength_is_a_share_of_the_largest_change_in_the_rows_own_direction(strength: float) -> None:
    index = torch.arange(500)
    rotate, shift, tint = mc.Rotate(40), mc.Translate(8), mc.ColourShift(0.5)
    angles = rotate.draw_at(index, 3, strength)
    assert torch.equal(angles, rotate.draw(index, 3).sign() * 40 * strength)
    moves = shift.draw_at(index, 3, strength)
    assert torch.equal(moves.abs().amax(1), torch.full((500,), round(8 * strength)))
    tints, drawn = tint.draw_at(index, 3, strength), tint.draw(index, 3)
    torch.testing.assert_close(tints.abs().amax(1), torch.full((500,), 0.5 * strength, dtype=torch.float64))
    torch.testing.assert_close(tints * drawn.abs().amax(1, keepdim=True), drawn * 0.5 * strength)
    if strength:
        # Each of the four directions of the signs, five standard deviations of Binomial(500, 1/4) around their number.
        quarters = (2 * (moves[:, 0] > 0) + (moves[:, 1] > 0)).bincount(minlength=4)
        assert int(quarters.max()) < 125 + 5 * (500 * 3 / 16) ** 0.5
        assert 0.4 < float((angles > 0).double().mean()) < 0.6


def test_a_rotation_is_what_affine_grid_gives() -> None:
    """The pixels of the released version, bit for bit."""
    from torch.nn.functional import affine_grid, grid_sample

    for shape in ((7, 3, 9, 15), (4, 1, 28, 28)):
        x, degrees = draw_images(shape), torch.linspace(-170, 180, shape[0], dtype=torch.float64)
        angle = (degrees * (torch.pi / 180.0)).float()
        cos, sin, none, ratio = angle.cos(), angle.sin(), torch.zeros_like(angle), shape[2] / shape[3]
        matrix = torch.stack([cos, -sin * ratio, none, sin / ratio, cos, none], 1).view(-1, 2, 3)
        grid = affine_grid(matrix, list(shape), align_corners=False)
        expected = grid_sample(x - 0.5, grid, padding_mode="zeros", align_corners=False) + 0.5
        torch.testing.assert_close(mc.Rotate(180, fill=0.5).apply(x, degrees), expected, rtol=0, atol=1e-5)
