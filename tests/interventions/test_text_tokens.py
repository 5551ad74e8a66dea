"""Interventions on token ids: what they do to rows, the room there is, and that they agree with those on strings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import trim_padding
from mechconn.datasets import TokenSet, make_cued_set
from mechconn.interventions import (
    DropWords,
    InsertPhrase,
    OnePart,
    RemoveOverlap,
    RemovePhrase,
    SwapNames,
    SwapPronouns,
    SwapWords,
    TextIntervention,
    Truncate,
    WordShuffle,
)
from raw_texts import KINDS, load_rows, make_kind, read_texts
from texts import CLS, PAD, SEP, texts

ROWS = 12
strengths, seeds = st.floats(0, 1), st.integers(0, 10_000)
BOTH: tuple[TextIntervention, ...] = (
    WordShuffle(), DropWords(), Truncate(keep="random"), InsertPhrase(where="random"), RemovePhrase(), OnePart(),
    RemoveOverlap(), SwapWords(words=(("fine", "slow"), ("dog", "doctor", "woman"))),
)  # fmt: skip


def trim(x: Any) -> dict[str, Tensor]:
    return cast(dict[str, Tensor], trim_padding(x))


def everything(data: Any) -> dict[str, Tensor]:
    return data.inputs(torch.arange(len(data)))


def pair_of(*rows: list[int], **options: Any) -> TokenSet:
    """Rows of ids, 0 is padding; 1 and 2 are special."""
    ids = torch.tensor(rows)
    return TokenSet(
        ids, (ids > 0).long(), torch.arange(len(ids)), tuple("abcdef"[: len(ids)]), special=(1, 2), **options
    )


def show(intervention: TextIntervention, *rows: list[int], seed: int = 0, strength: float = 1.0) -> list[list[int]]:
    found = everything(intervention(pair_of(*rows), seed, strength))
    assert torch.equal(found["input_ids"] > 0, found["attention_mask"].bool())
    return found["input_ids"].tolist()


@pytest.mark.parametrize("intervention", BOTH, ids=lambda one: type(one).__name__)
@given(strength=strengths, seed=seeds)
def test_both_levels_agree_where_a_word_is_a_token(intervention: TextIntervention, strength: float, seed: int) -> None:
    """Of words without punctuation and in small letters, with room for what is inserted."""
    texts = [
        ("a fine dog said and true is true", "the dog said"),
        ("the woman who paid", "he paid the woman can sleep"),
    ]
    data = load_rows(
        [(*pair, "no") for pair in texts] + [("a dog", "a plot and true is true", "yes")], make_kind("words")
    )
    data = data.widened(30)
    tokens, strings = (
        replace(intervention, level=level)(data, seed, strength).inputs(torch.arange(3)) for level in ("tokens", "text")
    )
    assert tokens.keys() == strings.keys() == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(torch.equal(tokens[name], strings[name]) for name in tokens)


@pytest.mark.parametrize("kind", KINDS)
@given(strength=strengths, seed=seeds)
def test_tokens_are_shuffled_within_the_parts_and_special_ones_stay(kind: str, strength: float, seed: int) -> None:
    data = read_texts(kind)
    before, after = everything(data), everything(WordShuffle(level="tokens")(data, seed, strength))
    special = torch.isin(before["input_ids"], torch.tensor(data.special))
    part = special.long().cumsum(1)
    assert torch.equal(before["input_ids"][special], after["input_ids"][special])
    assert all(torch.equal(before[name], after[name]) for name in before if name != "input_ids")
    for row in range(ROWS):
        for number in part[row].unique():
            here = part[row] == number
            assert Counter(before["input_ids"][row, here].tolist()) == Counter(after["input_ids"][row, here].tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_one_part_alone_is_the_pair_with_an_empty_text(kind: str) -> None:
    data, tokenizer = read_texts(kind), make_kind(kind)
    for side, one in enumerate((OnePart(keep="first", level="tokens"), OnePart(level="tokens"))):
        shown = everything(one(data))
        for row, pair in enumerate(data.raw.rows):  # pyright: ignore[reportOptionalMemberAccess]
            # In lists: of one pair alone, Transformers reads an empty second text as none.
            alone = tokenizer(*([text if number == side else ""] for number, text in enumerate(pair)))
            ids = alone["input_ids"][0]
            width = len(ids)
            assert shown["input_ids"][row, :width].tolist() == ids
            assert bool((shown["input_ids"][row, width:] == data.pad_id).all())
            assert int(shown["attention_mask"][row].sum()) == width
            if "token_type_ids" in shown:
                assert shown["token_type_ids"][row, :width].tolist() == alone["token_type_ids"][0]


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_a_list_are_swapped_as_whole_words(kind: str) -> None:
    data = read_texts(kind)
    tokenizer = make_kind(kind)
    ids, strings = (SwapPronouns(level=level)(data, seed=0).inputs(torch.arange(ROWS)) for level in ("tokens", "text"))
    decoded = [[tokenizer.decode(row).replace(" ", "") for row in x["input_ids"].tolist()] for x in (ids, strings)]
    same = [a.rstrip("[PAD<>") == b.rstrip("[PAD<>") for a, b in zip(*decoded, strict=True)]
    # "his" and "her" before a noun need the string; the texts hold "her" as an object alone.
    assert all(same)
    assert not torch.equal(ids["input_ids"], data.input_ids)


def test_neither_the_end_nor_the_beginning_of_a_word_is_swapped() -> None:
    tokenizer = make_kind("bytes")
    data = load_rows([("he saw the hem", "", "no"), ("lather, shed, he", "", "yes")], tokenizer, pairs=False)
    found = everything(SwapPronouns(level="tokens")(data.widened(30)))["input_ids"]
    shown = [tokenizer.decode(row, skip_special_tokens=True) for row in found]
    assert shown == ["she saw the hem", "lather, shed, she"]


@given(seed=seeds)
def test_a_name_at_the_start_and_within_a_text_is_one_other_name(seed: int) -> None:
    tokenizer = make_kind("bytes")
    data = load_rows([("Mary saw Mary", "", "no"), ("a film", "", "yes")], tokenizer, pairs=False).widened(30)
    found = everything(SwapNames(level="tokens")(data, seed))["input_ids"][0]
    first, _, second = tokenizer.decode(found, skip_special_tokens=True).split()
    assert first == second != "Mary"


# ---------------------------------------------------------------- rows of ids


def test_rows_by_hand() -> None:
    text, pair = [1, 5, 6, 7, 2, 0], [1, 5, 6, 2, 6, 2]
    assert show(DropWords(), text, pair) == [[1, 2, 0, 0, 0, 0], [1, 2, 2, 0, 0, 0]]
    assert show(Truncate(), text, strength=0.5) == [[1, 5, 6, 2, 0, 0]]
    assert show(Truncate(keep="last"), text, strength=0.7) == [[1, 7, 2, 0, 0, 0]]
    assert show(OnePart(keep="first"), pair, text) == [[1, 5, 6, 2, 2, 0], text]
    assert show(OnePart(), pair, text) == [[1, 2, 6, 2, 0, 0], [1, 2, 0, 0, 0, 0]]
    assert show(RemoveOverlap(), pair, text) == [[1, 5, 6, 2, 2, 0], text]
    assert show(RemoveOverlap(remove_from="first"), pair) == [[1, 5, 2, 6, 2, 0]]
    assert show(InsertPhrase(phrase=(9,)), text) == [[1, 5, 6, 7, 9, 2]]
    assert show(InsertPhrase(phrase=(9,), where="start"), text, pair) == [[1, 9, 5, 6, 7, 2], [1, 5, 2, 9, 6, 2]]
    assert show(InsertPhrase(phrase=(9,), where="start", part="first"), pair) == [[1, 9, 5, 2, 6, 2]]
    assert show(RemovePhrase(phrase=(5, 6)), text, [1, 5, 6, 5, 6, 2]) == [[1, 7, 2, 0, 0, 0], [1, 2, 0, 0, 0, 0]]
    assert show(SwapWords(words=((5, 6),)), text) == [[1, 6, 5, 7, 2, 0]]


def test_where_there_is_no_room_the_last_ordinary_tokens_leave() -> None:
    full = [1, 5, 6, 7, 8, 2]
    assert show(InsertPhrase(phrase=(9, 9)), full) == [[1, 5, 6, 9, 9, 2]]
    assert show(InsertPhrase(phrase=(9, 9), where="start"), full) == [[1, 9, 9, 5, 6, 2]]
    pair = [1, 5, 6, 2, 7, 2]
    assert show(InsertPhrase(phrase=(9,)), pair) == [[1, 5, 2, 7, 9, 2]]
    assert show(InsertPhrase(phrase=(9, 9, 9)), pair) == [[1, 2, 9, 9, 9, 2]]
    with pytest.raises(ValueError, match=r"^texts have no room for a phrase of 5 tokens beside .*TokenSet.widened"):
        show(InsertPhrase(phrase=(9,) * 5), full)
    data = pair_of(full).widened(7)
    assert everything(InsertPhrase(phrase=(9,) * 5)(data))["input_ids"].tolist() == [[1, 9, 9, 9, 9, 9, 2]]


def test_a_text_without_words_and_one_without_special_tokens() -> None:
    assert show(InsertPhrase(phrase=(9,)), [1, 2, 0], [1, 5, 2]) == [[1, 9, 2], [1, 9, 2]]
    bare = InsertPhrase(phrase=(9,), special=())
    assert show(bare, [3, 0], [4, 0]) == [[3, 9], [4, 9]]
    assert show(DropWords(special=()), [3, 4, 0], [5, 0, 0]) == [[3, 0, 0], [5, 0, 0]]


def test_types_tell_the_parts_where_no_special_token_does() -> None:
    ids = torch.tensor([[5, 6, 7, 8, 0], [5, 6, 0, 0, 0]])
    types = torch.tensor([[0, 0, 1, 1, 0], [1, 1, 0, 0, 0]])
    data = TokenSet(ids, (ids > 0).long(), torch.tensor([0, 1]), ("a", "b"), types, special=(), pad_id=9)
    shown = everything(OnePart()(data))
    assert shown["input_ids"].tolist() == [[7, 8, 9, 9, 9], [5, 6, 0, 0, 0]]
    assert shown["token_type_ids"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]
    longer = everything(InsertPhrase(phrase=(4,), part="first")(data))
    assert longer["input_ids"][0].tolist() == [5, 6, 4, 7, 8] and longer["token_type_ids"][0].tolist() == [
        0,
        0,
        0,
        1,
        1,
    ]


def test_mappings_of_the_users_own_keep_the_side_of_their_padding_and_all_else() -> None:
    x = {
        "input_ids": torch.tensor([[0, 0, 5, 6], [5, 6, 7, 0]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]) == 1,
        "weight": torch.tensor([0.5, 2.0]),
    }
    data = (x, torch.tensor([0, 1]))
    shown = everything(InsertPhrase(phrase=(9,), special=())(data))
    assert shown["input_ids"].tolist() == [[0, 5, 6, 9], [5, 6, 7, 9]] and shown["attention_mask"].dtype == torch.bool
    assert shown["attention_mask"].tolist() == [[False, True, True, True], [True] * 4]
    assert torch.equal(shown["weight"], x["weight"])
    removed = everything(RemovePhrase(phrase=(6,), special=(), pad_id=3)(data))
    assert removed["input_ids"].tolist() == [[3, 3, 3, 5], [5, 7, 3, 3]]


@pytest.mark.parametrize("left", [False, True])
def test_a_row_without_padding_is_padded_as_the_others_are(left: bool) -> None:
    ids = torch.tensor([[5, 7, 6, 8], [0, 5, 6, 8] if left else [5, 6, 8, 0]])
    data = {"input_ids": ids, "attention_mask": (ids > 0).long()}, torch.tensor([0, 1])
    split = RemovePhrase(phrase=(7,), special=())(data)
    for shown in (everything(split), split.inputs(torch.tensor([0]))):  # whatever the batch
        assert shown["input_ids"][0].tolist() == ([0, 5, 6, 8] if left else [5, 6, 8, 0])
        assert torch.equal(shown["attention_mask"], (shown["input_ids"] > 0).long())


def test_a_text_of_the_second_type_alone_keeps_its_first_token() -> None:
    x = {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 2).long()}
    data = {**x, "token_type_ids": torch.ones(1, 2).long()}, torch.tensor([0])
    shown = everything(DropWords(strength=1.0, special=())(data))
    assert [part.tolist() for part in shown.values()] == [[[5, 0]], [[1, 0]], [[1, 0]]]


def test_other_phrases_are_other_latents() -> None:
    ids = torch.tensor([[5, 6, 7]])
    data = {"input_ids": ids, "attention_mask": ids * 0 + 1}, torch.tensor([0])
    first = RemovePhrase(phrase=(5,), special=())(data)
    assert everything(RemovePhrase(phrase=(6,), special=())(first))["input_ids"].tolist() == [[7, 0, 0]]
    assert len(RemovePhrase(phrase=(5,), special=())(first).latents) == 1


def test_under_a_cue_the_tokens_are_changed() -> None:
    """Strings hold no cue."""
    data = read_texts(marks=False)
    cue = mc.TokenCue((900, 901), special=(0, 2, 3, 4))
    cued = make_cued_set(data, cue).with_cue()
    shown = everything(WordShuffle()(cued, seed=0))
    assert bool(torch.isin(shown["input_ids"], torch.tensor([900, 901])).any(1).all())
    assert torch.equal(shown["input_ids"].sort(1).values, everything(cued)["input_ids"].sort(1).values)


# ---------------------------------------------------------------- what a model relies on


class OrderReader(nn.Module):
    """Class 1 where token 20 comes before token 21; nothing else counts."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        first, second = ((input_ids == token).long().argmax(1) for token in (20, 21))
        answer = torch.where(first < second, 1.0, -1.0)
        return torch.stack([-answer, answer], 1)


def ordered_texts(rows: int, seed: int) -> TokenSet:
    """Ten words; two of them are 20 and 21, in an order that is the class."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(30, 40, (rows, 12), generator=draw)
    places = torch.rand(rows, 10, generator=draw).argsort(1)[:, :2].sort(1).values + 1
    y = torch.arange(rows) % 2
    ids.scatter_(1, places, torch.where(y[:, None] == 1, torch.tensor([20, 21]), torch.tensor([21, 20])))
    ids[:, 0], ids[:, 11] = CLS, SEP
    return TokenSet(ids, torch.ones_like(ids), y, ("no", "yes"), special=(PAD, CLS, SEP))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_two_tokens_is_found_and_the_rest_is_invariant(seed: int) -> None:
    named = {
        "order": WordShuffle(),
        "inserted": InsertPhrase(phrase=(31,), where="start"),
        "removed": RemovePhrase(phrase=(33,)),
        "swapped": SwapWords(words=((34, 35), (36, 37, 38))),
    }
    # With room for the phrase, which would else take the place of the last word.
    found = mc.reliances(OrderReader(), ordered_texts(400, seed).widened(14), named, seed)
    assert found.relies_on == ("order",) and set(found.invariant_to) == {"inserted", "removed", "swapped"}


def test_without_a_list_all_that_suit_texts_are_tried() -> None:
    found = mc.reliances(OrderReader(), replace(ordered_texts(400, 0), raw=None))
    assert set(found.applied) == {"word-shuffle", "drop-words", "length"}
    assert "rewrites texts before they are tokenised" in found.left_out["lowercase"]
    assert "pairs" in found.left_out["one-part"] and "without a tokenizer" in found.left_out["swap-names"]


@given(seed=seeds)
def test_trimmed_batches_are_those_of_the_whole(seed: int) -> None:
    data = replace(texts(ROWS, seed), special=(CLS, SEP))
    scenes = DropWords()(data, seed)
    whole, part = everything(scenes), trim(scenes.inputs(torch.tensor([3])))
    width = part["input_ids"].shape[1]
    assert torch.equal(whole["input_ids"][3:4, :width], part["input_ids"])
