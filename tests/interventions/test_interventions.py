"""Interventions set one latent and leave the others, row by row and for good."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mechconn as mc
from mechconn.datasets import ImageSet, make_cued_set

seeds = st.integers(0, 10_000)


def image_set(rows: int, seed: int = 0, classes: int = 10, side: int = 8) -> ImageSet:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (rows, 3, side, side), generator=draw, dtype=torch.uint8)
    y = torch.randint(0, classes, (rows,), generator=draw)
    return ImageSet(x, y, tuple(map(str, range(classes))))


def scenes(rows: int, seed: int = 0) -> mc.CuedSet:
    return make_cued_set(image_set(rows, seed), mc.BoxCue())


INTERVENTIONS: dict[str, Callable[[mc.CuedSet, int], mc.CuedSet]] = {
    "cue": lambda data, seed: data.with_cue(),
    "no cue": lambda data, seed: data.without_cue(),
    "random cue": lambda data, seed: data.with_random_cue(seed),
    "random content": lambda data, seed: data.with_random_content(seed),
    "proportion": lambda data, seed: data.with_proportion(0.7, seed),
}


def latents(data: mc.CuedSet) -> tuple[list[int], list[int]]:
    return data.content_rows.tolist(), data.cue_values.tolist()


def everything(data: mc.CuedSet) -> Tensor:
    return data.inputs(torch.arange(len(data)))


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_labels_and_identities_stay_and_nothing_is_changed_in_place(name: str) -> None:
    data = scenes(40).with_proportion(0.5, 3)
    before, content = latents(data), data.content.inputs(torch.arange(40))
    changed = INTERVENTIONS[name](data, 1)
    assert torch.equal(changed.y, data.y)
    assert torch.equal(changed.ids, data.ids)
    assert changed.content is data.content
    everything(changed).fill_(0.0)
    assert latents(data) == before
    assert torch.equal(data.content.inputs(torch.arange(40)), content)


@pytest.mark.parametrize("name", ["cue", "no cue", "random cue", "proportion"])
def test_setting_a_latent_leaves_the_content(name: str) -> None:
    data = scenes(40).with_random_content(2)
    assert torch.equal(INTERVENTIONS[name](data, 1).content_rows, data.content_rows)


@pytest.mark.parametrize("name", ["cue", "no cue", "random cue", "proportion"])
def test_setting_the_cue_is_idempotent_and_forgets_what_was_there(name: str) -> None:
    data, set_ = scenes(40), INTERVENTIONS[name]
    once = set_(data, 1)
    assert latents(set_(once, 1)) == latents(once)
    assert latents(set_(data.with_random_cue(9), 1)) == latents(once)


def test_random_content_leaves_the_cue() -> None:
    data = scenes(40).with_cue()
    assert torch.equal(data.with_random_content(1).cue_values, data.cue_values)


def test_cue_and_no_cue_are_what_they_say() -> None:
    data = scenes(40)
    assert torch.equal(data.with_cue().cue_values, data.y)
    assert torch.equal(everything(data.with_random_cue().without_cue()), data.content.inputs(torch.arange(40)))
    assert torch.equal(everything(data), everything(data.without_cue()))


@pytest.mark.parametrize("name", INTERVENTIONS)
@given(seed=seeds, cut=st.integers(1, 39))
def test_rows_are_the_same_in_every_batch_and_order(name: str, seed: int, cut: int) -> None:
    data = INTERVENTIONS[name](scenes(40), seed)
    whole = everything(data)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    parts = torch.cat([data.inputs(order[:cut]), data.inputs(order[cut:])])
    assert torch.equal(parts, whole[order])
    assert torch.equal(everything(data.subset(order[:cut])), whole[order[:cut]])


@pytest.mark.parametrize("name", ["cue", "no cue", "random cue"])
@given(seed=seeds, count=st.integers(1, 40))
def test_the_cue_of_a_row_does_not_depend_on_the_rows_around_it(name: str, seed: int, count: int) -> None:
    data, set_ = scenes(40), INTERVENTIONS[name]
    index = torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:count]
    assert torch.equal(set_(data.subset(index), 1).cue_values, set_(data, 1).cue_values[index])


@pytest.mark.parametrize("name", ["random cue", "random content", "proportion"])
def test_the_seed_decides(name: str) -> None:
    data, draw = scenes(200), INTERVENTIONS[name]
    assert latents(draw(data, 5)) == latents(draw(data, 5))
    assert latents(draw(data, 5)) != latents(draw(data, 6))


@given(rows=st.integers(2, 60), seed=seeds)
def test_random_content_is_never_the_rows_own(rows: int, seed: int) -> None:
    data = scenes(rows).with_random_content(seed)
    assert not bool((data.content_rows == torch.arange(rows)).any())
    assert bool(((data.content_rows >= 0) & (data.content_rows < rows)).all())


def test_random_content_shows_every_other_row_alike() -> None:
    """Five rows: each shows each of the four others in a quarter of the seeds."""
    draws = torch.stack([scenes(5).with_random_content(seed).content_rows for seed in range(2000)])
    for row in range(5):
        counts = draws[:, row].bincount(minlength=5).double()
        # Five standard deviations of Binomial(2000, 1/4).
        assert bool(((counts[torch.arange(5) != row] - 500).abs() < 5 * (2000 * 3 / 16) ** 0.5).all())


def test_random_content_in_a_subset_comes_from_the_subset() -> None:
    data = scenes(40).subset(torch.tensor([3, 8, 21])).with_random_content(0)
    assert set(data.content_rows.tolist()) <= {3, 8, 21}
    assert not bool((data.content_rows == torch.tensor([3, 8, 21])).any())


# ---------------------------------------------------------------- proportion


@given(p=st.floats(0, 1), seed=seeds, rows=st.integers(1, 200))
def test_the_proportion_is_exact_in_every_class(p: float, seed: int, rows: int) -> None:
    data = scenes(rows, seed).with_proportion(p, seed)
    cued = data.cue_values == data.y
    assert bool((cued | (data.cue_values == 9)).all())
    for k in range(9):  # class 9 has no box either way
        count, share = int((data.y == k).sum()), int((cued & (data.y == k)).sum())
        assert abs(share - p * count) <= 0.5 + 1e-9


@pytest.mark.parametrize(("p", "share"), [(0.0, 0), (0.25, 3), (0.5, 5), (0.75, 8), (0.8, 8), (1.0, 10)])
def test_halves_are_rounded_up(p: float, share: int) -> None:
    """Ten rows of one class."""
    content = ImageSet(torch.zeros(10, 3, 8, 8, dtype=torch.uint8), torch.zeros(10).long(), ("a",))
    data = make_cued_set(content, mc.BoxCue()).with_proportion(p)
    assert int((data.cue_values == 0).sum()) == share


@given(low=st.floats(0, 1), high=st.floats(0, 1), seed=seeds)
def test_a_larger_proportion_adds_rows(low: float, high: float, seed: int) -> None:
    low, high = sorted((low, high))
    data = scenes(60, seed)
    few, many = (data.with_proportion(p, seed).cue_values == data.y for p in (low, high))
    assert bool((many | ~few).all())


@pytest.mark.parametrize("proportion", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_proportion_lies_between_0_and_1(proportion: float) -> None:
    with pytest.raises(ValueError, match=rf"^proportion must lie in \[0, 1\], got {proportion!r}$"):
        scenes(4).with_proportion(proportion)


# ---------------------------------------------------------------- samples


@given(count=st.integers(1, 60), seed=seeds)
def test_a_sample_is_rows_without_repetition_in_their_old_order(count: int, seed: int) -> None:
    data = scenes(60).with_cue()
    part = data.sample(count, seed)
    assert len(part) == count
    ids = part.ids.tolist()
    assert ids == sorted(set(ids))
    assert torch.equal(everything(part), everything(data)[part.ids])
    assert torch.equal(part.y, data.y[part.ids])


def test_a_larger_sample_holds_the_smaller_one() -> None:
    few, many = scenes(60).sample(10, 3), scenes(60).sample(30, 3)
    assert set(few.ids.tolist()) < set(many.ids.tolist())
    assert few.ids.tolist() != scenes(60).sample(10, 4).ids.tolist()


def test_every_row_is_sampled_alike() -> None:
    counts = torch.stack([scenes(10).sample(3, seed).ids for seed in range(2000)]).flatten().bincount(minlength=10)
    # Five standard deviations of Binomial(2000, 3/10).
    assert bool(((counts - 600).abs() < 5 * (2000 * 0.3 * 0.7) ** 0.5).all())


def test_more_rows_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"^sample: asked for 7 samples, but only 6 exist; ask for fewer$"):
        scenes(6).sample(7)
    with pytest.raises(ValueError, match=r"^count must be a whole number greater than zero, got 0$"):
        scenes(6).sample(0)


def test_one_row_has_no_other_to_show() -> None:
    with pytest.raises(ValueError, match=r"^a random image needs at least two rows to draw from, got one"):
        scenes(1).with_random_content()
