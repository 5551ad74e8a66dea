"""Interventions on texts before they are tokenised: what each leaves, what it changes, and by how much."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mechconn as mc
from mechconn.core import find_row_origin, select_rows, trim_padding
from mechconn.datasets import TokenSet
from mechconn.interventions import (
    DropWords,
    InsertPhrase,
    Lowercase,
    Negation,
    NoPunctuation,
    OnePart,
    RemoveOverlap,
    RemovePhrase,
    SwapNames,
    SwapPlaces,
    SwapPronouns,
    SwapWords,
    TextIntervention,
    Truncate,
    Uppercase,
    WordShuffle,
)
from raw_texts import KINDS, SECONDS, TEXTS, load_rows, make_kind, read_texts

ROWS = 12
seeds = st.integers(0, 10_000)
words = st.text("ab é0'-.,!? $", max_size=30)
ALL: tuple[TextIntervention, ...] = (
    WordShuffle(), DropWords(), Truncate(), InsertPhrase(), RemovePhrase(), SwapNames(), SwapPronouns(), SwapPlaces(),
    Negation(), OnePart(), RemoveOverlap(), NoPunctuation(), Lowercase(), Uppercase(),
)  # fmt: skip


def change(intervention: TextIntervention, *texts: str, **options: Any) -> tuple[str, ...]:
    return intervention.change_texts(*texts, **options)


def trim(x: Any) -> dict[str, Tensor]:
    return cast(dict[str, Tensor], trim_padding(x))


def everything(data: Any) -> dict[str, Tensor]:
    return data.inputs(torch.arange(len(data)))


def strings(scenes: mc.IntervenedSet) -> list[tuple[str, ...]]:
    assert isinstance(scenes.rewritten, TokenSet) and scenes.rewritten.raw is not None
    return list(scenes.rewritten.raw.rows)


def only_words(text: str) -> list[str]:
    return "".join(sign if sign.isalnum() else " " for sign in text).split()


# ---------------------------------------------------------------- of strings


@given(text=words, strength=st.floats(0, 1), seed=seeds)
def test_words_are_shuffled_among_their_places(text: str, strength: float, seed: int) -> None:
    (found,) = change(WordShuffle(), text, strength=strength, seed=seed)
    assert Counter(only_words(found)) == Counter(only_words(text))
    assert sorted(found) == sorted(text)
    shape = [sign for sign in text if sign in ",!?$ "]
    assert [sign for sign in found if sign in ",!?$ "] == shape


def test_every_order_of_three_words_is_as_likely() -> None:
    orders = Counter(change(WordShuffle(), "a b c", seed=seed)[0] for seed in range(1200))
    # Five standard deviations of Binomial(1200, 1/6).
    assert len(orders) == 6 and all(abs(count - 200) < 5 * (1200 * 5 / 36) ** 0.5 for count in orders.values())


@pytest.mark.parametrize("where", ["start", "end", "random"])
@given(row=st.integers(0, 5), seed=seeds)
def test_what_was_inserted_can_be_removed(where: Any, row: int, seed: int) -> None:
    phrase = "zero doubt zero"
    for texts in ((TEXTS[row],), (TEXTS[row], SECONDS[row])):
        longer = change(InsertPhrase(phrase=phrase, where=where), *texts, seed=seed)
        assert longer[:-1] == texts[:-1] and phrase in longer[-1]
        assert change(RemovePhrase(phrase=phrase), *longer) == texts


def test_a_phrase_is_inserted_as_it_is() -> None:
    assert change(InsertPhrase(phrase="(so: good!)"), "A film.") == ("A film (so: good!).",)
    assert change(InsertPhrase(phrase=":)", where="start"), "A film.") == (":) A film.",)
    assert change(RemovePhrase(phrase="so good"), "A so, good film: so good!") == ("A film:!",)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_strength_of_a_phrase_is_the_share_of_the_rows(share: float) -> None:
    phrase = InsertPhrase(phrase="zero", part="first")
    rows = [change(phrase, "a b", strength=share, row=row) for row in range(400)]
    # Five standard deviations of Binomial(400, share).
    assert abs(rows.count(("a b zero",)) - 400 * share) < 5 * (400 * share * (1 - share)) ** 0.5


@given(row=st.integers(0, 5), strength=st.floats(0, 1), seed=seeds)
def test_a_swap_of_two_is_its_own_inverse(row: int, strength: float, seed: int) -> None:
    swap = SwapWords(words=(("is", "was"), ("Mary", "John"), ("fine film", "slow plot")))
    once = change(swap, TEXTS[row], strength=strength, seed=seed)
    assert change(swap, *once, strength=strength, seed=seed) == (TEXTS[row],)


SWAPPED: dict[str, tuple[str, str, str]] = {
    "case and endings": ("pronouns", "HE'S sure he'll see Him.", "SHE'S sure she'll see Her."),
    "an object": ("pronouns", "I saw her, and her too, and her.", "I saw him, and him too, and him."),
    "an owner": ("pronouns", "Her own dog; his cat; it is his.", "His own dog; her cat; it is hers."),
    "no part of a word": ("pronouns", "The hero went there himself.", "The hero went there herself."),
}


@pytest.mark.parametrize("name", SWAPPED)
def test_pronouns(name: str) -> None:
    words, text, expected = SWAPPED[name]
    assert change(SwapWords(words=words), text) == (expected,)


@given(seed=seeds)
def test_a_name_is_one_other_name_throughout_a_row_and_two_stay_two(seed: int) -> None:
    (found,) = change(SwapNames(), "Mary saw Kate; Mary's dog saw KATE. John slept.", seed=seed)
    mary, _, kate, marys, _, _, again, john, _ = found.replace("'s", "").replace(";", "").replace(".", "").split()
    assert mary == marys and again == kate.upper() and len({mary, kate, john, "Mary", "Kate", "John"}) >= 4
    assert mary != "Mary" and kate != "Kate" and mary != kate and john != "John"


def test_every_other_word_of_a_group_is_as_likely() -> None:
    swap = SwapWords(words=(("a", "b", "c", "d"),))
    found = Counter(change(swap, "a", seed=seed)[0] for seed in range(1200))
    # Five standard deviations of Binomial(1200, 1/3).
    assert set(found) == {"b", "c", "d"} and all(abs(n - 400) < 5 * (1200 * 2 / 9) ** 0.5 for n in found.values())


def test_a_mapping_replaces_one_way() -> None:
    assert change(SwapWords(words={"film": "moving picture"}), "Film: a moving picture, films.") == (
        "Moving Picture: a moving picture, films.",
    )


NEGATED = {
    "She is at home.": "She is not at home.",
    "It was, however, good.": "It was not, however, good.",
    "They can't sleep": "They can sleep",
    "We cannot see it": "We can see it",
    "He has never been there": "He has been there",
    "Isn't it fine?": "Is it fine?",
    "It is n't dull, is n't it": "It is dull, is n't it",
    "We ca n't see it": "We can see it",
    "Wo n\u2019t it rain": "Will it rain",
    "It's fine": "It's not fine",
    "John's dog barks": "John's dog barks",
    "They\u2019re here": "They\u2019re not here",
    "He is": "He is not",
    "Not a film": "a film",
    "": "",
}


@pytest.mark.parametrize("text", NEGATED)
def test_negation(text: str) -> None:
    assert change(Negation(), text) == (NEGATED[text],)


def test_negation_of_pairs_and_what_it_says_of_labels() -> None:
    pair = ("It is.", "He was.")
    assert change(Negation(), *pair) == ("It is.", "He was not.")
    assert change(Negation(part="first"), *pair) == ("It is not.", "He was.")
    assert change(Negation(part="both"), *pair) == ("It is not.", "He was not.")
    assert change(Negation(), *change(Negation(), *pair)) == pair
    assert Negation().explain_label_change(read_texts()) == (
        "a negated sentence says the opposite, so that the right class (no, yes) can be another one"
    )
    assert all(not other.explain_label_change(read_texts()) for other in ALL if not isinstance(other, Negation))


@given(text=words)
def test_case(text: str) -> None:
    lower, upper = change(Lowercase(), text), change(Uppercase(), text)
    assert lower == (text.lower(),) and upper == (text.upper(),)
    assert change(Lowercase(), *lower) == lower and change(Lowercase(), *upper) == lower


@given(text=words, strength=st.floats(0, 1), seed=seeds)
def test_punctuation(text: str, strength: float, seed: int) -> None:
    (found,) = change(NoPunctuation(), text)
    assert change(NoPunctuation(), found) == (found,) and not set("!?,") & set(found)
    assert only_words(found) == only_words(text) and found.count("$") == text.count("$")
    (some,) = change(NoPunctuation(), text, strength=strength, seed=seed)
    assert found.count("!") <= some.count("!") <= text.count("!")
    assert change(NoPunctuation(), "1.5 well-made films: isn't that so?") == ("1.5 well-made films isn't that so",)


@given(row=st.integers(0, 5), low=st.floats(0, 1), high=st.floats(0, 1), seed=seeds)
def test_a_larger_strength_changes_what_a_smaller_one_does(row: int, low: float, high: float, seed: int) -> None:
    low, high = sorted((low, high))
    text = TEXTS[row]
    for drop in (DropWords(), Truncate(keep="random"), Truncate(keep="last")):
        many, few = (only_words(change(drop, text, strength=s, seed=seed)[0]) for s in (low, high))
        rest = iter(many)
        assert all(word in rest for word in few), "a subsequence"
    some, more = (change(Uppercase(), text, strength=s, seed=seed)[0] for s in (low, high))
    assert all(b == a or b == a.upper() for a, b in zip(some, more, strict=True))


def test_length() -> None:
    text = "(One two, three four five six.)"
    assert change(Truncate(), text, strength=0.5) == ("(One two, three",)
    assert change(Truncate(keep="last"), text, strength=0.5) == ("four five six.)",)
    assert change(Truncate(), text, strength=0.16) == (text,)
    assert change(Truncate(), text, strength=1.0) == ("",)
    windows = {change(Truncate(keep="random"), "a b c", strength=0.4, seed=seed) for seed in range(50)}
    assert windows == {("a b",), ("b c",)}


@given(row=st.integers(0, 5), other=st.integers(0, 5))
def test_pairs(row: int, other: int) -> None:
    pair = (TEXTS[row], SECONDS[other])
    assert change(OnePart(keep="first"), *pair) == (pair[0], "")
    assert change(OnePart(keep="second"), *pair) == ("", pair[1])
    first, second = change(RemoveOverlap(), *pair)
    assert first == pair[0] and not set(first.lower().split()) & set(second.lower().split()) - {"."}
    turned = change(RemoveOverlap(remove_from="first"), *pair)
    assert turned[1] == pair[1]
    assert {w.lower() for w in only_words(turned[0])} == {w.lower() for w in only_words(pair[0])} - {
        w.lower() for w in only_words(pair[1])
    } or "'" in pair[0]


def test_strength_zero_leaves_the_strings() -> None:
    for intervention in ALL:
        assert change(intervention, " Mary  isn't  here ,", "He is.", strength=0.0) == (
            " Mary  isn't  here ,",
            "He is.",
        )


# ---------------------------------------------------------------- of data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("intervention", ALL, ids=lambda one: type(one).__name__)
def test_rows_are_what_the_tokenizer_gives_for_the_changed_strings(kind: str, intervention: TextIntervention) -> None:
    data, tokenizer = read_texts(kind), make_kind(kind)
    scenes = intervention(data, seed=3, strength=0.6)
    assert isinstance(scenes, mc.IntervenedSet) and torch.equal(scenes.y, data.y)
    assert find_row_origin(scenes)[0] is data
    shown, expected = everything(scenes), strings(scenes)
    raw, ready = data.raw, intervention.prepare(data)
    assert raw is not None
    for row, pair in enumerate(expected):
        assert pair == change(ready, *raw.rows[row], strength=0.6, row=row, seed=3)
        found = tokenizer(*pair)["input_ids"]
        assert shown["input_ids"][row, : len(found)].tolist() == found
        assert shown["attention_mask"][row].tolist() == [1] * len(found) + [0] * (
            shown["input_ids"].shape[1] - len(found)
        )
        assert bool((shown["input_ids"][row, len(found) :] == data.pad_id).all())
    if "token_type_ids" in shown:
        types = tokenizer(*expected[0])["token_type_ids"]
        assert shown["token_type_ids"][0, : len(types)].tolist() == types


def test_rows_that_stay_keep_every_bit_and_the_width() -> None:
    data = read_texts().widened(50)
    index = torch.arange(ROWS)
    scenes = SwapWords(words=(("doctor", "dog"),))(data, seed=0)
    before, after = everything(data), everything(scenes)
    changed = torch.tensor(["doctor" in a + b or "dog" in a + b for a, b in data.raw.rows])  # pyright: ignore
    assert torch.equal((before["input_ids"] != after["input_ids"]).any(1), changed)
    assert before["input_ids"].shape == after["input_ids"].shape
    assert torch.equal(scenes.to("cpu").inputs(index)["input_ids"], after["input_ids"])
    part = index[[7, 2]]
    assert torch.equal(scenes.inputs(part)["input_ids"], after["input_ids"][part])


def test_a_selection_is_changed_as_the_whole_is() -> None:
    data, rows = read_texts("bytes"), torch.tensor([8, 1, 5])
    whole = trim(WordShuffle()(data, seed=4).inputs(rows))
    part = everything(WordShuffle()(select_rows(data, rows), seed=4))
    assert torch.equal(part["input_ids"][:, : whole["input_ids"].shape[1]], whole["input_ids"])


def test_interventions_are_set_one_after_another_whatever_their_order() -> None:
    data, tokens = read_texts(marks=False), WordShuffle(level="tokens")
    both = Lowercase()(InsertPhrase(phrase="and true")(data, seed=1), seed=2)
    assert strings(both) == [(a.lower(), b.lower() + " and true") for a, b in data.raw.rows]  # pyright: ignore
    again = InsertPhrase(phrase="and true")(both, seed=1)
    assert torch.equal(everything(again)["input_ids"], everything(both)["input_ids"])
    first, second = tokens(Negation()(data, seed=1), seed=2), Negation()(tokens(data, seed=2), seed=1)
    assert torch.equal(everything(first)["input_ids"], everything(second)["input_ids"])
    assert "WordShuffle" in repr(first) and "Negation" in repr(first)


def test_labels_and_the_data_stay() -> None:
    data = read_texts()
    before, raw = {name: part.clone() for name, part in everything(data).items()}, data.raw
    for intervention in ALL:
        intervention(data, seed=1)
    assert all(torch.equal(part, before[name]) for name, part in everything(data).items()) and data.raw is raw


# ---------------------------------------------------------------- length


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["start", "end", "random"])
def test_a_phrase_is_seen_where_texts_are_cut(kind: str, where: Any) -> None:
    most = 12 if kind == "words" else 19
    data = read_texts(kind, pairs=False, max_length=most)
    assert data.cut is not None and bool(data.cut.any())
    scenes = InsertPhrase(phrase="no doubt", where=where)(data, seed=0)
    shown = everything(scenes)
    assert int(shown["attention_mask"].sum(1).max()) <= most
    assert all("no doubt" in text for (text,) in strings(scenes))
    tokenizer = make_kind(kind)
    for row, (text,) in enumerate(strings(scenes)):
        found = tokenizer(text)["input_ids"]
        assert len(found) <= most and shown["input_ids"][row, : len(found)].tolist() == found


@pytest.mark.parametrize("kind", KINDS)
def test_of_texts_that_were_cut_what_is_shown_is_changed(kind: str) -> None:
    data = read_texts(kind, max_length=20)
    assert data.cut is not None and data.raw is not None and bool(data.cut.any())
    shown = data.raw.shown(data.cut)
    assert [pair for row, pair in enumerate(shown) if not data.cut[row]] == [
        pair for row, pair in enumerate(data.raw.rows) if not data.cut[row]
    ]
    tokenizer = make_kind(kind)
    for row, pair in enumerate(shown):
        assert all(whole.startswith(part) for whole, part in zip(data.raw.rows[row], pair, strict=True))
        if kind == "words":
            count = int(data.attention_mask[row].sum())
            assert tokenizer(*pair)["input_ids"] == data.input_ids[row, :count].tolist()
    before, after = (Counter(x["input_ids"].flatten().tolist()) for x in map(everything, (data, WordShuffle()(data))))
    assert kind != "words" or before == after


def test_texts_that_get_longer_than_the_model_takes_are_cut_and_said_so() -> None:
    tokenizer = make_kind("words")
    tokenizer.model_max_length = 12
    data = load_rows([("Mary is a doctor", "", "no"), ("a film", "", "yes")], tokenizer, pairs=False)
    scenes = SwapWords(words={"Mary": "a fine film and a slow dog in Rome"})(data)
    assert everything(scenes)["attention_mask"].sum(1).tolist() == [12, 4]
    assert isinstance(scenes.rewritten, TokenSet) and "1 of 2 rows cut to 12 tokens" in repr(scenes.rewritten)


def test_a_text_of_which_nothing_is_left() -> None:
    data = read_texts(pairs=False)
    shown = everything(DropWords()(read_texts(pairs=False, marks=False), strength=1.0))
    assert shown["input_ids"].unique().tolist() == [0, 2, 3] and data.special == (0, 2, 3, 4)
    plain = make_kind("bytes")
    plain.backend_tokenizer.post_processor = __import__("tokenizers").processors.ByteLevel()
    bare = load_rows([("Mary is", "", "no"), ("a film", "", "yes")], plain, pairs=False)
    kept = trim(everything(DropWords()(bare, strength=1.0)))["input_ids"]
    assert torch.equal(kept, bare.input_ids[:, :1])


# ---------------------------------------------------------------- of one's own


@dataclass(frozen=True, kw_only=True)
class Backwards(TextIntervention):
    """The words of each part from the last to the first, in a share of the rows."""

    def edit(self, parts: Any, row: Any) -> Any:
        if row.uniforms(1, "row")[0] >= row.strength:
            return parts
        return tuple(part.ordered(range(len(part.words))[::-1]) for part in parts)


def test_one_of_the_users_own_works_at_both_levels() -> None:
    data = read_texts(marks=False)
    scenes, ids = Backwards()(data), Backwards(level="tokens")(data)
    assert strings(scenes) == [tuple(" ".join(text.split()[::-1]) for text in pair) for pair in data.raw.rows]  # pyright: ignore
    assert all(torch.equal(part, everything(ids)[name]) for name, part in everything(scenes).items())
    some = strings(Backwards()(data, strength=0.5))
    assert 0 < sum(pair != old for pair, old in zip(some, data.raw.rows, strict=True)) < ROWS  # pyright: ignore


def test_a_phrase_does_not_go_on_beyond_a_sentence_and_names_have_capitals() -> None:
    assert change(RemovePhrase(phrase="no doubt"), "He said no. Doubt remained, no doubt.") == (
        "He said no. Doubt remained,.",
    )
    assert change(SwapNames(), "With grace, to be frank, Mark left the mark.")[0].startswith(
        "With grace, to be frank, "
    )
    assert change(SwapNames(), "With grace, to be frank, Mark left the mark.")[0].endswith(" left the mark.")
    assert "john" not in change(SwapNames(), "john left mary")[0]  # a text without capitals
    assert change(SwapPlaces(), "Turkey and a turkey.")[0].endswith(" and a turkey.")
    assert "new. York" in change(SwapPlaces(), "It is new. York is in England.")[0]
