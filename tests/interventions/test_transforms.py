"""Interventions on pose and tint: which pixels, how far, how uniform; labels and scenes stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import mechconn as mc
from mechconn.core import draw_uniform
from mechconn.datasets import ImageSet, Planted, PlantedSet, make_cued_set
from mechconn.interventions import Intervention

ALL: dict[str, mc.Intervention] = {
    "rotate": mc.Rotate(max_degrees=30),
    "translate": mc.Translate(max_pixels=4),
    "colour": mc.ColourShift(max_shift=0.25),
}


def images(rows: int = 12, side: int = 8, channels: int = 3) -> ImageSet:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (rows, channels, side, side), generator=draw, dtype=torch.uint8)
    return ImageSet(x, torch.arange(rows) % 3, ("a", "b", "c"))


def canvas(side: tuple[int, int] = (8, 8)) -> Tensor:
    return torch.rand(2, 3, *side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def shown(data: mc.IntervenedSet) -> Tensor:
    return data.inputs(torch.arange(len(data)))


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_moves_every_pixel_counter_clockwise(turns: int) -> None:
    x = canvas()
    turned = mc.Rotate(180).apply(x, torch.full((2,), 90.0 * turns))
    torch.testing.assert_close(turned, torch.rot90(x, turns, (2, 3)), rtol=0, atol=1e-5)  # float32 interpolation


def test_each_row_has_its_own_angle_and_zero_is_no_turn() -> None:
    x = canvas()
    turned = mc.Rotate(180).apply(x, torch.tensor([0.0, 180.0]))
    torch.testing.assert_close(turned[0], x[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(turned[1], x[1].flip(1, 2), rtol=0, atol=1e-5)


def test_a_rotation_is_one_in_pixels_whatever_the_sides() -> None:
    x = torch.full((1, 1, 9, 15), -1.0)
    x[0, 0, 4, 10] = 1.0  # three pixels right of the centre goes three pixels above it
    turned = mc.Rotate(90).apply(x, torch.tensor([90.0]))
    assert turned[0, 0].argmax().item() == 1 * 15 + 7
    assert float(turned[0, 0, 1, 7]) == pytest.approx(1.0, abs=1e-4)


def test_pixels_from_outside_are_filled() -> None:
    x = torch.ones(1, 3, 8, 8)
    corner = mc.Rotate(45, fill=-1.0).apply(x, torch.tensor([45.0]))
    assert float(corner[0, 0, 0, 0]) == pytest.approx(-1.0)
    assert float(corner[0, 0, 4, 4]) == pytest.approx(1.0)


def test_a_shift_moves_pixels_down_and_right() -> None:
    x = canvas()
    moved = mc.Translate(3, fill=0.5).apply(x, torch.tensor([[2, 1], [-3, 0]]))
    expected = torch.full_like(x, 0.5)
    expected[0, :, 2:, 1:] = x[0, :, :-2, :-1]
    expected[1, :, :-3] = x[1, :, 3:]
    assert torch.equal(moved, expected)


def test_a_tint_adds_to_a_channel_and_clips() -> None:
    x = canvas()
    tinted = mc.ColourShift(1.0).apply(x, torch.tensor([[0.5, 0.0, -0.25], [1.0, 1.0, 1.0]], dtype=torch.float64))
    expected = (x[0] + torch.tensor([0.5, 0.0, -0.25])[:, None, None]).clamp(-1, 1)
    assert torch.equal(tinted[0], expected)
    assert float(tinted.max()) == 1.0
    beyond = torch.tensor([-1.04, 0.3, 1.04]).view(1, 3, 1, 1)  # as far as rounding may go; strength 0 keeps the bits
    assert torch.equal(mc.ColourShift()((beyond, torch.tensor([0])), 0, 0.0).inputs(torch.tensor([0])), beyond)


# ---------------------------------------------------------------- draws


def test_strengths_are_uniform_over_their_range() -> None:
    index = torch.arange(10_000)
    angles = mc.Rotate(30).draw(index, 0)
    assert -30 <= float(angles.min()) < -29.9
    assert 29.9 < float(angles.max()) < 30
    assert abs(float(angles.mean())) < 0.6  # standard deviation of the mean 0.17
    shifts = mc.Translate(2).draw(index, 0)
    counts = (5 * (shifts[:, 0] + 2) + shifts[:, 1] + 2).bincount(minlength=25)
    assert int((counts - 400).abs().max()) < 100  # 400 each, standard deviation 20
    tints = mc.ColourShift(0.5).draw(index, 0)
    assert tints.shape == (10_000, 3)
    assert 0.49 < float(tints.abs().max()) <= 0.5
    assert float(torch.corrcoef(tints.T).fill_diagonal_(0).abs().max()) < 0.05


@pytest.mark.parametrize("name", ALL)
def test_a_row_depends_on_its_index_and_the_seed_alone(name: str) -> None:
    few, many = ALL[name](images(5), seed=3), ALL[name](images(12), seed=3)
    assert torch.equal(few.latents[0][1], many.latents[0][1][:5])
    rows = torch.tensor([7, 2])
    torch.testing.assert_close(many.inputs(rows), shown(many)[rows], rtol=0, atol=1e-6)
    assert not torch.equal(shown(ALL[name](images(12), seed=4)), shown(many))


@pytest.mark.parametrize("name", ALL)
def test_labels_stay_and_the_scenes_are_left_alone(name: str) -> None:
    source = images()
    before = source.inputs(torch.arange(12))
    changed = ALL[name](source)
    assert torch.equal(changed.y, source.y)
    assert len(changed) == 12
    assert not torch.equal(shown(changed), before)
    shown(changed).zero_()
    assert torch.equal(source.inputs(torch.arange(12)), before)


@pytest.mark.parametrize("name", ALL)
def test_setting_a_latent_again_replaces_its_value(name: str) -> None:
    once, intervention = ALL[name](images(), seed=1), ALL[name]
    assert torch.equal(shown(intervention(once, seed=1)), shown(once))
    assert torch.equal(shown(intervention(intervention(images(), seed=9), seed=1)), shown(once))


def test_two_interventions_compose_and_one_replaces_only_its_own() -> None:
    both = mc.Translate(2)(mc.Rotate(30)(images(), seed=1), seed=2)
    assert [type(intervention).__name__ for intervention, _ in both.latents] == ["Rotate", "Translate"]
    again = mc.Rotate(30)(both, seed=1)
    assert torch.equal(shown(again), shown(both))


# ---------------------------------------------------------------- in a suite


def test_a_cue_moves_with_the_picture_or_stays_as_asked() -> None:
    black = ImageSet(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]), ("a", "b", "c"))
    cue, shift = mc.BoxCue(values=3), mc.Translate(5, fill=-1.0)
    whole = shift(make_cued_set(black, cue).with_cue(), seed=1)
    content = make_cued_set(shift(black, seed=1), cue).with_cue()
    places = whole.latents[0][1]
    for row in range(4):
        left = (0, 14, 29)[int(black.y[row])]
        fixed = (content.inputs(torch.tensor([row]))[0, 1] == 1.0).nonzero()
        assert fixed.amin(0).tolist() == [0, left]
        moved = (shown(whole)[row, 1] == 1.0).nonzero().tolist()
        expected = (fixed + places[row]).tolist()
        assert moved == [place for place in expected if 0 <= min(place) and max(place) < 32]


def test_a_suite_holds_them_and_a_blind_model_is_invariant() -> None:
    scenes = make_cued_set(images(40), mc.BoxCue(values=3)).with_cue()
    splits = {"cue": scenes, **{name: intervention(scenes, seed=0) for name, intervention in ALL.items()}}
    suite = mc.Suite(splits)
    assert suite.interventions == tuple(ALL)

    class Blind(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_tensor([1.0, 0.0, 0.0]).expand(len(x), 3)

    measured = mc.measure_invariance(Blind(), suite, margin=0.2)
    assert measured.invariant_to == tuple(ALL)
    assert all(effect.effect == 0 and effect.paired for effect in measured.effects.values())


def test_a_pair_of_tensors_will_do() -> None:
    x, y = canvas(), torch.tensor([0, 1])
    data = mc.Translate(1)((x, y))
    assert torch.equal(data.y, y)
    assert shown(data).shape == x.shape


# ---------------------------------------------------------------- wrong input

planted: PlantedSet = Planted().sample(3)
WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "batches": (
        lambda: mc.Rotate()([(canvas(), torch.tensor([0, 1]))]),
        TypeError,
        r"Rotate draws by row and needs an image set or an \(x, y\) pair of tensors, got list",
    ),
    "no images": (lambda: mc.Rotate()(planted), ValueError, r"needs images of shape \[C, H, W\], got inputs of shape"),
    "a shift beyond the image": (
        lambda: mc.Translate(8)(images()),
        ValueError,
        "max_pixels must be less than the sides of the images, 8 and 8, got 8",
    ),
    "grey images": (
        lambda: mc.ColourShift()(images(channels=1)),
        ValueError,
        "ColourShift has channels=3, but the images have 1; set channels=",
    ),
    "no angle": (lambda: mc.Rotate(0), ValueError, "max_degrees must be a number greater than zero, got 0"),
    "more than a half turn": (lambda: mc.Rotate(200), ValueError, r"max_degrees must lie in \[0, 180\], got 200"),
    "no shift": (lambda: mc.Translate(0), ValueError, "max_pixels must be a whole number greater than zero"),
    "a fill off the scale": (lambda: mc.Translate(fill=255.0), ValueError, r"fill must lie in \[-1, 1\], got 255"),
    "a tint off the scale": (lambda: mc.ColourShift(3.0), ValueError, r"max_shift must lie in \[0, 2\], got 3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_says_what_to_do(case: str) -> None:
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call()


@dataclass(frozen=True)
class Scaled(Intervention):
    """An intervention of a user's own: inputs times a factor; `mistake` breaks what it must keep to."""

    mistake: str = ""

    def draw(self, index: Tensor, seed: int) -> Tensor:
        drawn = draw_uniform(index, seed, "scaled")
        if self.mistake == "draws globally":
            return torch.rand(len(index))
        return drawn / drawn.mean() if self.mistake == "draws by the batch" else drawn

    def apply(self, x: Tensor, values: Tensor) -> Tensor:
        if self.mistake == "writes":
            return x.mul_(values[:, None])
        if self.mistake == "fails":
            raise KeyError("two\nlines")
        changed = {
            "applies randomness": lambda: x + torch.rand(len(x), 1),
            "mixes rows": lambda: x - x.mean(0),
            "drops rows": lambda: x[:1],
        }
        return changed[self.mistake]() if self.mistake in changed else x * values[:, None].to(x)


MISTAKES = {
    "draws globally": r"^Scaled\.draw gives a row another strength when it is called again or for fewer rows; draw by",
    "draws by the batch": r"^Scaled\.draw gives a row another strength when it is called again or for fewer rows; ",
    "writes": r"^the intervention 'Scaled' writes into its inputs; change a copy, x = x\.clone\(\)$",
    "fails": r"^the intervention 'Scaled' fails on the first rows \(KeyError: 'two.*lines'\); apply gets \(inputs, str",
    "applies randomness": "^the intervention 'Scaled' gives a row other values when it is asked again; take ",
    "mixes rows": "^the intervention 'Scaled' gives a row other values when it is asked for one row alone; ",
    "drops rows": r"^the intervention 'Scaled' must return inputs of the rows it got, inputs \[3, 2\], got in",
}
POINTS = torch.arange(10.0).view(5, 2) + 1.0, torch.tensor([0, 1, 0, 1, 0])


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_intervention_of_the_users_is_tried_on_the_first_rows(mistake: str) -> None:
    wrong = Scaled(mistake)
    for build in (lambda: wrong(POINTS, seed=1), lambda: mc.intervened(POINTS, {"scaled": wrong})):
        with pytest.raises(ValueError, match=MISTAKES[mistake]) as raised:
            build()
        assert "\n" not in str(raised.value)


def test_an_intervention_of_the_users_that_keeps_to_its_rows_is_taken() -> None:
    found, index = Scaled()(POINTS, seed=1), torch.arange(5)
    factors = draw_uniform(index, 1, "scaled")
    assert torch.equal(found.inputs(index), POINTS[0] * factors[:, None].float())
    assert torch.equal(Scaled()(found, seed=1).inputs(index), found.inputs(index))
