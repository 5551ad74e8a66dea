"""Rows in which the cue alone predicts, and a placebo on the same rows."""

from __future__ import annotations

import pytest
import torch

import mechconn as mc
from data_contract import assert_same, images
from mechconn.datasets import Cue, CuedSet, CueTask, cue_task
from texts import CLS, MARKERS, SEP, texts
from user_defined_data import StripeCue

OTHERS = (7, 8, 9)
TOKENS = mc.TokenCue(MARKERS, special=(CLS, SEP), others=OTHERS)


def task(cue: Cue | None = None) -> CueTask:
    return cue_task(images(), test=images(), cue=cue or mc.BoxCue(values=3))


def text_task() -> CueTask:
    return cue_task(texts(60), test=texts(40, seed=1), cue=TOKENS)


def test_content_is_another_rows_and_the_cue_is_the_labels() -> None:
    own, cue = task(), mc.BoxCue(values=3)
    found = own.cue_only(9, seed=3)
    content = images()
    every = torch.arange(len(found))
    assert len(found) == 9 and set(found.y.tolist()) == {0, 1, 2}
    assert torch.equal(found.inputs(every), cue.render(content.inputs(found.content_rows), found.y))


def test_content_says_nothing_about_the_label() -> None:
    """Over many rows, the class of the content is the label's as often as chance has it."""
    own = cue_task(texts(600), test=texts(40, seed=1), cue=TOKENS)
    found = own.cue_only(600)
    known = texts(600).y[found.content_rows]
    share = float((known == found.y).float().mean())
    assert share == pytest.approx(1 / 3, abs=0.08)  # four standard deviations of 600 draws


def test_it_is_a_function_of_the_seed() -> None:
    one, again, other = (text_task().cue_only(20, seed=seed) for seed in (0, 0, 1))
    every = torch.arange(20)
    assert_same(one.inputs(every), again.inputs(every))
    assert not torch.equal(one.content_rows, other.content_rows)


def test_it_holds_training_rows_none_of_which_is_measured() -> None:
    own = text_task()
    found = own.cue_only(20)
    assert isinstance(found, CuedSet) and found.cue is TOKENS
    assert len(found) == 20


def test_the_placebo_shows_another_cue_on_the_same_rows() -> None:
    own = text_task()
    found, plain = own.placebo(20, seed=2), own.cue_only(20, seed=2)
    assert isinstance(found.data, CuedSet) and isinstance(found.split, CuedSet)
    measured = own.suite["rand_image"]
    assert isinstance(measured, CuedSet)
    for placebo, ours in ((found.data, plain), (found.split, measured)):
        assert torch.equal(placebo.y, ours.y)
        every = torch.arange(len(ours))
        shown, known = (part.inputs(every)["input_ids"] for part in (placebo, ours))
        place = torch.tensor(MARKERS)
        marked = torch.isin(known, place)
        assert bool(marked.any(1).all())
        assert torch.equal(shown[marked], torch.tensor(OTHERS)[torch.searchsorted(place, known[marked])])
        assert torch.equal(shown[~marked], known[~marked])


def test_a_box_of_another_colour_elsewhere_is_the_placebo_of_a_box() -> None:
    own = task()
    found = own.placebo(9)
    assert isinstance(found.data, CuedSet) and isinstance(found.split, CuedSet)
    assert found.data.cue == found.split.cue == mc.BoxCue(values=3).placebo() != mc.BoxCue(values=3)
    assert torch.equal(found.data.y, own.cue_only(9).y)
    assert torch.equal(found.data.content_rows, own.cue_only(9).content_rows)


def test_a_cue_of_the_users_choice_is_the_placebo() -> None:
    found = task(StripeCue()).placebo(9, cue=mc.BoxCue(values=3))
    assert isinstance(found.data, CuedSet) and found.data.cue == mc.BoxCue(values=3)


class Bare(StripeCue):
    """As a user's cue that names no placebo."""

    placebo = Cue.placebo


def test_a_cue_without_a_placebo_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"Bare names no placebo; pass cue=, a cue of the same kind that no") as said:
        task(Bare()).placebo(9)
    assert "\n" not in str(said.value)
    bare = cue_task(texts(60), test=texts(40, seed=1), cue=mc.TokenCue(MARKERS, special=(CLS, SEP)))
    with pytest.raises(ValueError, match=r"this TokenCue has no other markers to choose from; give others="):
        bare.placebo(9)


@pytest.mark.parametrize("rows", [0, 13])
def test_more_rows_than_there_are_and_none_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match=str(rows)) as said:
        task().cue_only(rows)
    assert "\n" not in str(said.value)


def test_one_row_and_no_cue_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^rows must be two or more, since training needs two classes, got 1$"):
        task().cue_only(1)
    for act in (lambda: task().cue_only(9, cue="box"), lambda: task().placebo(9, cue="box")):  # pyright: ignore
        with pytest.raises(TypeError, match=r"^cue must be a Cue, got str$"):
            act()
