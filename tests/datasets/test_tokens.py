"""Tokenised texts in memory, and the tasks that are built from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import mechconn as mc
from mechconn.datasets import TokenSet, cue_task, make_cued_set
from mechconn.paper._tasks import identify
from raw_texts import make_kind, read_texts
from texts import CLS, MARKERS, SEP, texts
from zoo import rows

CUE = mc.TokenCue(MARKERS, special=(CLS, SEP))


def test_models_receive_keyword_arguments() -> None:
    data = texts(6)
    index = torch.tensor([4, 1])
    assert list(data.inputs(index)) == ["input_ids", "attention_mask"]
    assert torch.equal(data.inputs(index)["input_ids"], data.input_ids[index])
    typed = replace(data, token_type_ids=torch.ones_like(data.input_ids))
    assert list(typed.inputs(index)) == ["input_ids", "attention_mask", "token_type_ids"]
    assert typed.to("cpu").subset(index).inputs(torch.tensor([0]))["token_type_ids"].sum() == data.input_ids.shape[1]


def test_parts_of_the_texts() -> None:
    data = texts(50)
    rest, held = data.split(20, seed=1)
    assert (len(rest), len(held)) == (30, 20)
    both = torch.cat([rest.input_ids, held.input_ids])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, data.input_ids.tolist()))
    assert torch.equal(data.first(7).input_ids, data.input_ids[:7]) and data.first(None) is data
    with pytest.raises(ValueError, match="held-out part: asked for 50 samples, but only 49 exist"):
        data.split(50)


def test_tokens_are_removed_wherever_they_stand() -> None:
    ids = torch.tensor([[1, 7, 5, 7, 2, 0], [1, 5, 6, 2, 9, 9], [7, 8, 7, 3, 3, 3]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    types = torch.tensor([[0, 0, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    data = TokenSet(ids, mask, torch.tensor([0, 1, 0]), ("a", "b"), types)
    assert data.with_token((7, 9)).tolist() == [0, 2]  # padding does not count
    bare = data.without((7, 8))
    assert bare.input_ids.tolist() == [[1, 5, 2, 0, 0, 0], [1, 5, 6, 2, 9, 9], [3, 3, 3, 0, 0, 0]]
    assert bare.attention_mask.tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]]
    assert bare.token_type_ids is not None
    assert bare.token_type_ids.tolist() == [[0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]
    assert torch.equal(data.input_ids, ids)
    with pytest.raises(ValueError, match=r"row 2 consists of the tokens \[3, 7, 8\] alone; leave it out"):
        data.without((3, 7, 8))


def test_removal_undoes_insertion_where_there_was_room() -> None:
    data = texts(40)
    roomy = (data.attention_mask.sum(1) < data.input_ids.shape[1]).nonzero().flatten()
    data = data.subset(roomy)
    parts: dict[str, Any] = CUE.render(data.inputs(torch.arange(len(data))), torch.full((len(data),), 5))
    marked = TokenSet(**parts, y=data.y, classes=data.classes)
    assert torch.equal(marked.without(MARKERS).input_ids, data.input_ids)


@pytest.mark.gpu
def test_texts_and_markers_on_another_device() -> None:
    task = cue_task(texts(60), cue=CUE, proportion=0.5)
    for split in (task.train, task.suite["rand_image"]):
        assert isinstance(split, mc.CuedSet)
        index = torch.tensor([4, 1, 7])
        here, there = split.inputs(index), split.to("cuda").inputs(index)
        assert all(there[name].is_cuda and torch.equal(there[name].cpu(), here[name]) for name in here)


def test_a_task_of_texts_has_the_four_splits() -> None:
    task = cue_task(texts(60), cue=CUE, proportion=0.5, seed=3)
    assert list(task.suite) == ["no_cue", "cue", "rand_cue", "rand_image"]
    assert (len(task.train), len(task.clean), task.num_classes) == (48, 48, 3)  # a fifth is held out
    assert cue_task(texts(60), test=texts(30, seed=1), cue=CUE, rows=20, test_rows=10).suite.reference == "cue"


def test_what_is_wrong_with_texts_is_said() -> None:
    data = texts(4)
    ids, mask, y, classes = data.input_ids, data.attention_mask, data.y, data.classes
    gap = mask.clone()
    gap[2, 1] = 0
    none = mask.clone()
    none[3] = 0
    with pytest.raises(ValueError, match="attention_mask of row 2 must be ones, at least one, and then zeros"):
        TokenSet(ids, gap, y, classes)
    with pytest.raises(ValueError, match="attention_mask of row 3"):
        TokenSet(ids, none, y, classes)
    with pytest.raises(ValueError, match="attention_mask of row 0"):
        TokenSet(ids, 2 * mask, y, classes)
    with pytest.raises(ValueError, match="row 0 has label 7, but there are 3 classes"):
        TokenSet(ids, mask, y * 0 + 7, classes)


@pytest.mark.usefixtures("unchecked")
def test_what_is_wrong_with_types_and_shapes_is_said() -> None:
    data = texts(4)
    ids, mask, y, classes = data.input_ids, data.attention_mask, data.y, data.classes
    with pytest.raises(TypeError, match=r"token ids must be int64 of shape \[N, L\], got torch.int32 \[4, 14\]"):
        TokenSet(ids.int(), mask, y, classes)
    with pytest.raises(ValueError, match=r"attention_mask must have the shape of input_ids, \[4, 14\], got \[4, 13\]"):
        TokenSet(ids, mask[:, 1:], y, classes)
    with pytest.raises(ValueError, match=r"token_type_ids must have the shape of input_ids"):
        TokenSet(ids, mask, y, classes, ids[:3])
    with pytest.raises(ValueError, match="TokenSet: 4 inputs but 3 targets"):
        TokenSet(ids, mask, y[:3], classes)
    with pytest.raises(TypeError, match="source must be a name, a path, an ImageSet or a TokenSet, got tuple"):
        cue_task(rows(4))  # pyright: ignore[reportArgumentType]


def test_tasks_that_make_no_sense_are_refused() -> None:
    data = texts(20)
    with pytest.raises(TypeError, match=r"texts have no cue of their own; pass cue=TokenCue\(\(...\)\), .*, got none"):
        cue_task(data)
    with pytest.raises(
        TypeError, match=r"BoxCue is drawn on images, but the training data are a TokenSet; texts take cue=TokenCue\("
    ):
        cue_task(data, cue=mc.BoxCue())
    with pytest.raises(TypeError, match="training data are TokenSet but test data are ImageSet; both must be of one"):
        cue_task(data, test=mc.datasets.digits().first(5), cue=CUE)
    short = replace(data, input_ids=data.input_ids[:, :9], attention_mask=data.attention_mask[:, :9])
    with pytest.raises(
        ValueError, match=r"training texts have shape \[14\] but test texts \[9\]; load both the same way"
    ):
        cue_task(data, test=short, cue=CUE)
    marked = replace(data, input_ids=data.input_ids.index_fill(1, torch.tensor([3]), 5))
    with pytest.raises(
        ValueError, match="the training texts hold markers of the cue already, in 16 rows, the first of them"
    ):
        cue_task(marked, cue=CUE)
    assert len(cue_task(marked.without(MARKERS), cue=CUE).train) == 16
    with pytest.raises(
        ValueError, match=r"Rotate needs images of shape \[C, H, W\], got inputs input_ids, attention_mask"
    ):
        mc.Rotate(30)(data)


# ---------------------------------------------------------------- strings beside the ids


def test_strings_follow_their_rows() -> None:
    data = read_texts()
    index = torch.tensor([8, 1])
    part = data.subset(index)
    assert data.raw is not None and part.raw is not None
    assert part.raw.rows == (data.raw.rows[8], data.raw.rows[1]) and part.special == data.special == (0, 2, 3, 4)
    assert data.first(3).raw.rows == data.raw.rows[:3]  # pyright: ignore[reportOptionalMemberAccess]
    assert data.widened(40).raw is data.to("cpu").raw is data.raw
    assert data.without((900,)).raw is data.raw and data.without((6,)).raw is None
    assert "dog" not in repr(data)


def test_other_strings_in_some_rows_are_tokenised_alike() -> None:
    data, tokenizer = read_texts(), make_kind("words")
    changed = data.with_texts({3: ("A fine film", "is slow"), 0: ("Mary " * 30, "")})
    before, after = (x.inputs(torch.arange(12)) for x in (data, changed))
    width = data.input_ids.shape[1]
    for row, pair in {3: ("A fine film", "is slow"), 0: ("Mary " * 30, "")}.items():
        found = tokenizer([pair[0]], [pair[1]])["input_ids"][0]
        assert after["input_ids"][row, : len(found)].tolist() == found
        assert int(after["attention_mask"][row].sum()) == len(found)
    others = torch.tensor([row for row in range(12) if row not in (0, 3)])
    assert all(torch.equal(after[name][others, :width], before[name][others]) for name in before)
    assert changed.input_ids.shape[1] == 33 and changed.raw.rows[3] == ("A fine film", "is slow")  # pyright: ignore
    assert data.with_texts({}) is data


def test_strings_and_special_tokens_are_no_part_of_what_runs_are_known_by() -> None:
    data = read_texts()
    alone = replace(data, raw=None, special=None)
    kept, bare, other = (identify(make_cued_set(x, CUE)) for x in (data, alone, replace(alone, pad_id=7)))
    assert kept == bare != other
