"""A marker token: where it stands, what makes room for it, how it is drawn; against lists moved by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mechconn as mc
from mechconn.datasets import make_cue_suite, make_cued_set
from texts import CLS, LENGTH, MARKERS, PAD, SEP, texts

seeds = st.integers(0, 10_000)
CUE = mc.TokenCue(MARKERS, special=(CLS, SEP))


def inserted(ids: list[int], types: list[int], length: int, position: str | int, marker: int) -> tuple[list[int], ...]:
    """The slow reference: (ids, mask, types) of one text of so many tokens, by lists."""
    text, kinds = ids[:length], types[:length]
    special = [token in (CLS, SEP) for token in text]
    if length == len(ids):
        last = max(place for place, known in enumerate(special) if not known)
        del text[last], kinds[last], special[last]
    ordinary = [place for place, known in enumerate(special) if not known]
    leading = special.index(False) if ordinary else 1
    end = ordinary[-1] + 1 if ordinary else min(1, len(text))
    at = {"start": leading, "end": end}[position] if isinstance(position, str) else min(position, end)
    text.insert(at, marker)
    kinds.insert(at, kinds[max(at - 1, 0)])
    rest = len(ids) - len(text)
    padding = slice(length, length + rest)  # the last padding token made room
    return text + ids[padding], [1] * len(text) + [0] * rest, kinds + types[padding]


@pytest.mark.parametrize("position", ["start", "end", 0, 1, 4, 50])
@given(seed=seeds)
def test_the_marker_is_put_in_as_by_hand(position: str | int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    rows, width = 8, 7
    length = torch.randint(2, width + 1, (rows,), generator=draw)
    place = torch.arange(width)
    mask = (place < length[:, None]).long()
    ids = torch.randint(10, 20, (rows, width), generator=draw)
    ids[:, 0] = CLS
    ids[place == length[:, None] - 1] = SEP
    ids, types = ids * mask, torch.randint(0, 2, (rows, width), generator=draw).sort(1).values
    ids[length == width, 1] = 10  # a full text has a word to lose
    values = torch.tensor([-1, *MARKERS])[torch.randint(0, 4, (rows,), generator=draw)]
    x = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "more": torch.arange(rows)}
    before = {name: part.clone() for name, part in x.items()}
    cue = mc.TokenCue(MARKERS, position, special=(CLS, SEP))  # pyright: ignore[reportArgumentType]
    shown = cue.render(x, values)
    for row in range(rows):
        expected = (ids[row].tolist(), mask[row].tolist(), types[row].tolist())
        if values[row] >= 0:
            expected = inserted(ids[row].tolist(), types[row].tolist(), int(length[row]), position, int(values[row]))
        assert tuple(shown[n][row].tolist() for n in ("input_ids", "attention_mask", "token_type_ids")) == expected
    assert shown["more"] is x["more"]
    assert all(torch.equal(x[name], before[name]) for name in x)


def everything(data: mc.CuedSet) -> dict[str, Tensor]:
    return data.inputs(torch.arange(len(data)))


def test_the_four_splits_of_texts() -> None:
    data = texts(60)
    suite = make_cue_suite(make_cued_set(data, CUE), seed=0)
    splits = {name: split for name, split in suite.items() if isinstance(split, mc.CuedSet)}
    ids = {name: everything(split)["input_ids"] for name, split in splits.items()}
    assert torch.equal(ids["no_cue"], data.input_ids)
    agreeing = torch.tensor(MARKERS)[data.y]
    assert torch.equal(ids["cue"][:, 1], agreeing)
    assert torch.equal(ids["rand_image"][:, 1], agreeing)  # the words of another text, the label's own marker
    assert set(ids["rand_cue"][:, 1].tolist()) == set(MARKERS)
    assert torch.equal(ids["cue"][:, 2:], ids["rand_cue"][:, 2:])
    others = splits["rand_image"].content_rows
    assert torch.equal(ids["rand_image"][:, 2:], ids["cue"][others][:, 2:])
    assert not bool((others == torch.arange(60)).any())
    assert all(torch.equal(split.y, data.y) for split in splits.values())


@given(seed=seeds, cut=st.integers(1, 39))
def test_rows_are_the_same_in_every_batch_and_order(seed: int, cut: int) -> None:
    data = make_cued_set(texts(40), CUE).with_cue().with_random_cue(seed).with_random_content(seed)
    whole = everything(data)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    for name in whole:
        parts = torch.cat([data.inputs(order[:cut])[name], data.inputs(order[cut:])[name]])
        assert torch.equal(parts, whole[name][order])


def test_markers_are_drawn_alike_and_groups_share_one() -> None:
    cue = mc.TokenCue((8, 9, 8))
    assert cue.agreeing(torch.tensor([0, 1, 2]), torch.arange(3), 0).tolist() == [8, 9, 8]
    drawn = cue.random(torch.arange(2000), 0)
    assert set(drawn.tolist()) == {8, 9}
    # Five standard deviations of Binomial(2000, 1/2).
    assert abs(int((drawn == 8).sum()) - 1000) < 5 * (2000 / 4) ** 0.5


def test_the_proportion_of_marked_texts_is_exact() -> None:
    data = make_cued_set(texts(300), CUE).with_proportion(0.8)
    for label in range(3):
        rows = data.y == label
        assert int((data.cue_values[rows] == MARKERS[label]).sum()) == int(0.8 * int(rows.sum()) + 0.5)


def test_a_mask_of_booleans_stays_one() -> None:
    data = texts(10)
    shown = CUE.render(
        {"input_ids": data.input_ids, "attention_mask": data.attention_mask.bool()}, torch.full((10,), 4)
    )
    assert shown["attention_mask"].dtype == torch.bool
    assert torch.equal(shown["attention_mask"].sum(1), (data.attention_mask.sum(1) + 1).clamp(max=LENGTH))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("build", "kind", "text"),
    [
        (lambda: mc.TokenCue((4,)), ValueError, "two different ones at least, .* got (4,)"),
        (lambda: mc.TokenCue((4, 4)), ValueError, "two different ones at least, .* got (4, 4)"),
        (lambda: mc.TokenCue((4, -1)), ValueError, "none negative"),
        (lambda: mc.TokenCue((4, CLS), special=(CLS,)), ValueError, "none of the special ones (1,), got (4, 1)"),
        (lambda: mc.TokenCue((4, 5.5)), TypeError, "tokens must be a whole number, got 5.5"),  # pyright: ignore
        (lambda: mc.TokenCue((4, 5), "mid"), ValueError, "must be one of 'start', 'end', got 'mid'"),  # pyright: ignore
        (lambda: mc.TokenCue((4, 5), -1), ValueError, "position must be zero or more, got -1"),
        (
            lambda: mc.TokenCue((4, 5)).agreeing(torch.tensor([0, 2]), torch.arange(2), 0),
            ValueError,
            "TokenCue has markers for 2 classes but the data has a label 2; give tokens= one for each class",
        ),
        (
            lambda: CUE.render(torch.zeros(2, 3), torch.tensor([4, 4])),  # pyright: ignore[reportArgumentType]
            TypeError,
            "TokenCue marks texts and needs a mapping with 'input_ids' and 'attention_mask', got a Tensor",
        ),
        (
            lambda: CUE.render({"ids": torch.zeros(2, 3)}, torch.tensor([4, 4])),
            TypeError,
            "got a mapping of 'ids'; use datasets.TokenSet",
        ),
        (
            lambda: CUE.render(
                {"input_ids": torch.tensor([[CLS, SEP]]), "attention_mask": torch.ones(1, 2)}, torch.tensor([4])
            ),
            ValueError,
            "a text of 2 tokens has no room for a marker beside its special ones; pad the texts to more tokens",
        ),
        (
            lambda: CUE.render(
                {"input_ids": torch.tensor([[9]]), "attention_mask": torch.ones(1, 1)}, torch.tensor([4])
            ),
            ValueError,
            "a text of 1 tokens has no room for a marker",
        ),
    ],
)
def test_what_does_not_fit_is_said(build: object, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        build()  # pyright: ignore[reportCallIssue]
    assert all(part in str(caught.value) for part in text.split(".*"))


def test_special_tokens_alone_hold_the_marker_behind_the_first() -> None:
    x = {"input_ids": torch.tensor([[CLS, SEP, PAD]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    for position in ("start", "end"):
        shown = mc.TokenCue(MARKERS, position, special=(CLS, SEP)).render(x, torch.tensor([4]))
        assert shown["input_ids"].tolist() == [[CLS, 4, SEP]]


def test_other_markers_are_a_variant_and_the_placebo() -> None:
    cue = mc.TokenCue((8, 9), special=(1, 2), others=(6, 7))
    assert cue.variants() == {
        "elsewhere": mc.TokenCue((8, 9), "end", (1, 2), (6, 7)),
        "other token": mc.TokenCue((6, 7), "start", (1, 2), (8, 9)),
    }
    assert cue.placebo().agreeing(torch.tensor([0, 1]), torch.arange(2), 0).tolist() == [6, 7]
    assert list(mc.TokenCue((8, 9)).variants()) == ["elsewhere"]
    with pytest.raises(ValueError, match="no other markers to choose from; give others="):
        mc.TokenCue((8, 9)).placebo()
    for others in ((6,), (6, 8), (6, 1), (6, 6), (6, 7, 5)):
        with pytest.raises(ValueError, match=r"^others must hold"):
            mc.TokenCue((8, 9), special=(1, 2), others=others)
