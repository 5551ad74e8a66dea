"""The box cue: which pixels, which colour, how uniform, in how many operations."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import mechconn as mc
from mechconn.datasets import ImageSet, make_cued_set

STARTS = (0, 14, 29)  # pixels 0-2, 14-16, 29-31 of 32


def canvas(rows: int, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def image_set(rows: int, y: Tensor, side: int = 32) -> ImageSet:
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (rows, 3, side, side), generator=draw, dtype=torch.uint8)
    return ImageSet(x, y, tuple(map(str, range(10))))


@pytest.mark.parametrize("value", range(9))
def test_places_colour_and_nothing_else(value: int) -> None:
    x = canvas(1)
    expected = x.clone()
    top, left = STARTS[value // 3], STARTS[value % 3]
    for row in range(top, top + 3):
        for column in range(left, left + 3):
            expected[0, :, row, column] = torch.tensor([0.0, 1.0, 0.0])
    drawn = mc.BoxCue().render(x, torch.tensor([value]))
    assert torch.equal(drawn, expected)
    assert torch.equal(x, canvas(1))


def test_value_nine_is_no_box() -> None:
    x = canvas(2)
    assert torch.equal(mc.BoxCue().render(x, torch.tensor([9, 9])), x)


def test_the_cue_of_a_label_is_its_place_and_class_nine_has_no_box() -> None:
    data = make_cued_set(image_set(10, torch.arange(10)), mc.BoxCue())
    x, plain = data.with_cue().inputs(torch.arange(10)), data.inputs(torch.arange(10))
    assert torch.equal(x[9], plain[9])
    for label in range(9):
        changed = (x[label] != plain[label]).any(0).nonzero()
        # No byte scales to 0, so the red channel of the box always changes.
        assert changed.amin(0).tolist() == [STARTS[label // 3], STARTS[label % 3]]
        assert (changed.amax(0) - changed.amin(0)).tolist() == [2, 2]
        assert len(changed) == 9


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_rows_do_not_mix_and_drawing_twice_is_drawing_once(values: list[int]) -> None:
    cue, x = mc.BoxCue(), canvas(len(values), side=9)
    together = cue.render(x, torch.tensor(values))
    apart = torch.cat([cue.render(x[i : i + 1], torch.tensor([value])) for i, value in enumerate(values)])
    assert torch.equal(together, apart)
    assert torch.equal(cue.render(together, torch.tensor(values)), together)


def test_size_and_colour_may_be_chosen() -> None:
    cue = mc.BoxCue(size=2, colour=(-0.5,))
    drawn = cue.render(torch.zeros(1, 1, 7, 5), torch.tensor([5]))
    assert drawn[0, 0].nonzero().tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]
    assert set(drawn.unique().tolist()) == {-0.5, 0.0}


@pytest.mark.parametrize("values", [10, 4])
def test_the_random_cue_is_uniform_and_independent_of_the_label(values: int) -> None:
    rows = 40_000
    y = torch.randint(0, values, (rows,), generator=torch.Generator().manual_seed(1))
    content = ImageSet(torch.zeros(rows, 3, 4, 4, dtype=torch.uint8), y, tuple(map(str, range(values))))
    drawn = make_cued_set(content, mc.BoxCue(values=values)).with_random_cue(3).cue_values
    table = torch.zeros(values, values).double()
    table.index_put_((y, drawn), torch.ones(rows).double(), accumulate=True)
    assert bool((table.sum(0) > 0).all()) and len(drawn.unique()) == values
    for counts, total in [(table.sum(0), rows), *((table[k], int(table[k].sum())) for k in range(values))]:
        expected = total / values
        # Five standard deviations of a binomial count.
        assert bool(((counts - expected).abs() < 5 * (expected * (1 - 1 / values)) ** 0.5).all())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mc.BoxCue(size=0), "size must be a whole number greater than zero, got 0"),
        (lambda: mc.BoxCue(values=11), "values must lie in [1, 10], got 11"),
        (
            lambda: mc.BoxCue().render(torch.zeros(1, 1, 8, 8), torch.tensor([0])),
            "a box of 3 pixels with 3 colour values does not fit images of shape [1, 8, 8]; "
            "set size= and colour= of the cue to suit them",
        ),
        (
            lambda: mc.BoxCue().render(torch.zeros(1, 3, 8, 2), torch.tensor([0])),
            "a box of 3 pixels with 3 colour values does not fit images of shape [3, 8, 2]; "
            "set size= and colour= of the cue to suit them",
        ),
        (
            lambda: make_cued_set(image_set(2, torch.tensor([1, 7])), mc.BoxCue(values=4)).with_cue(),
            "BoxCue has 4 places but the data has a label 7; use at most ten classes and set values= to their number",
        ),
    ],
)
def test_what_a_box_cannot_do(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == text


class Counted(TorchDispatchMode):
    """Counts the operations that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **kwargs or {})


def test_the_work_on_many_rows_is_that_on_few_of_larger_tensors() -> None:
    """No loop over the rows: a thousand take the operations of twenty, also as scenes that are read."""
    data, counts = make_cued_set(image_set(1000, torch.arange(1000) % 10), mc.BoxCue()).with_cue(), []
    for rows in (20, 1000):
        with Counted() as rendered:
            mc.BoxCue().render(data.content.inputs(torch.arange(rows)), data.y[:rows])
        with Counted() as read:
            data.inputs(torch.arange(rows))
        counts.append((rendered.calls, read.calls))
    assert counts[0] == counts[1] and min(counts[0]) > 0


def test_a_moved_grid_shares_no_pixel_with_the_plain_one_and_shift_zero_changes_none() -> None:
    x, places = torch.zeros(9, 3, 32, 32), torch.arange(9)
    plain, moved = mc.BoxCue().render(x, places), mc.BoxCue(shift=0.25).render(x, places)
    for value in range(9):
        rows, columns = moved[value, 1].nonzero().unbind(1)
        assert [rows.min(), columns.min()] == [(4, 18, 25)[value // 3], (4, 18, 25)[value % 3]]
        assert len(rows) == 9
    assert not bool(((plain != 0) & (moved != 0).any(0)).any())
    assert torch.equal(mc.BoxCue(shift=0.0).render(x, places), plain)


def test_variants_change_one_thing_each_and_the_placebo_two() -> None:
    cue = mc.BoxCue()
    assert cue.variants() == {
        "elsewhere": mc.BoxCue(shift=0.25),
        "larger": mc.BoxCue(size=5),
        "paler": mc.BoxCue(colour=(0.0, 0.5, 0.0)),
        "other colour": mc.BoxCue(colour=(0.0, 0.0, 1.0)),
    }
    assert cue.placebo() == mc.BoxCue(shift=0.25, colour=(0.0, 0.0, 1.0))
    assert mc.BoxCue(colour=(1.0,)).placebo() == mc.BoxCue(shift=0.25, colour=(0.0,))
    assert mc.BoxCue(colour=(0.25,)).placebo() == mc.BoxCue(shift=0.25, colour=(1.0,))
    assert cue.placebo().placebo() != cue.placebo()


def test_a_shift_under_which_places_coincide_says_so() -> None:
    match = re.escape("with shift=0.5 two places of a box of 3 pixels coincide on images of 6 x 6; use another shift=")
    with pytest.raises(ValueError, match=match):
        mc.BoxCue(shift=0.5).render(torch.zeros(1, 3, 6, 6), torch.tensor([0]))
    with pytest.raises(ValueError, match="shift must"):
        mc.BoxCue(shift=1.5)
