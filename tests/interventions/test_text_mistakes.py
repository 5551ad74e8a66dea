"""What is wrong with an intervention on texts, or with the data it is applied to, is told in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import mechconn as mc
from data_contract import images
from mechconn.datasets import TokenSet, make_cued_set
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
    SwapWords,
    Truncate,
    WordShuffle,
)
from raw_texts import load_rows, make_kind, read_texts
from texts import texts


def ids_alone(**changes: Any) -> TokenSet:
    return replace(read_texts(), raw=None, **changes)


def single(*rows: str) -> TokenSet:
    return load_rows([(row, "", "no") for row in rows] + [("a film", "", "yes")], make_kind("words"), pairs=False)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "images": (
        lambda: WordShuffle()(images()),
        "WordShuffle changes texts and needs a mapping with 'input_ids' and 'attention_mask', got inputs of shape "
        "[3, 24, 24]; use mechconn.datasets.load_text or TokenSet",
    ),
    "a mapping of something else": (
        lambda: WordShuffle()(({"a": torch.zeros(2, 3)}, torch.tensor([0, 1]))),
        "got a mapping of 'a'; use mechconn.datasets.load_text or TokenSet",
    ),
    "strings that are not there": (
        lambda: Lowercase()(ids_alone()),
        "Lowercase rewrites texts before they are tokenised, and these data hold token ids alone; read them by "
        "mechconn.datasets.load_text(file, tokenizer)",
    ),
    "strings that are asked for": (
        lambda: WordShuffle(level="text")(ids_alone()),
        "load_text(file, tokenizer), or pass level='tokens' to WordShuffle",
    ),
    "strings under a cue": (
        lambda: Negation()(make_cued_set(read_texts(), mc.TokenCue((900, 901))).with_cue()),
        "Negation rewrites texts before they are tokenised, and these data hold token ids alone",
    ),
    "no form for token ids": (
        lambda: NoPunctuation(level="tokens"),
        "NoPunctuation has no form for token ids; leave level out, and read them by mechconn.datasets.load_text",
    ),
    "special tokens that nobody names": (
        lambda: WordShuffle()(texts(4)),
        "WordShuffle must know which ids are special, such as those of [CLS] and [SEP]; pass special=(...), () for "
        "none, to it or to TokenSet",
    ),
    "special tokens that nobody names, of inputs": (
        lambda: DropWords().apply(texts(4).inputs(torch.tensor([0])), DropWords().draw(torch.tensor([0]), 0)),
        "DropWords must know which ids are special, such as those of [CLS] and [SEP]; pass special=(...), () for none",
    ),
    "special that is no number": (lambda: WordShuffle(special=("a",)), "special must be a whole number, got 'a'"),  # pyright: ignore
    "a level": (
        lambda: WordShuffle(level="token"),  # pyright: ignore[reportArgumentType]
        "level must be one of 'auto', 'text', 'tokens', got 'token'; did you mean 'tokens'?",
    ),
    "a word that the tokenizer does not know": (
        lambda: SwapWords(words=(("film", "xylophone"),))(read_texts()),
        "does not know the word 'xylophone'; pass words that it knows",
    ),
    "a word that the tokenizer does not know, as ids": (
        lambda: InsertPhrase(phrase="a fine xylophone", level="tokens")(read_texts()),
        "does not know the word 'xylophone'; pass words that it knows",
    ),
    "a phrase of which the tokenizer makes nothing": (
        lambda: InsertPhrase(phrase="\u200b")(read_texts("wordpiece")),
        "finds no token in '\\u200b'; pass words that it knows",
    ),
    "an empty phrase": (lambda: InsertPhrase(phrase=" "), "phrase must hold a word, got ' '"),
    "a phrase without a word to remove": (lambda: RemovePhrase(phrase="!"), "phrase must hold a word, got '!'"),
    "no ids": (lambda: InsertPhrase(phrase=()), "phrase must hold a word or a token id, got ()"),
    "ids for strings": (
        lambda: InsertPhrase(phrase=(5,), level="text"),
        "a phrase of token ids has no strings, got (5,); leave level out, or pass words",
    ),
    "words for ids": (
        lambda: InsertPhrase(phrase="a film")(ids_alone()),
        "InsertPhrase cannot read the phrase 'a film' as token ids without a tokenizer; pass ids, phrase=(...), or "
        "read them by mechconn.datasets.load_text(file, tokenizer)",
    ),
    "a list for ids": (
        lambda: SwapNames()(ids_alone()),
        "SwapNames cannot read the list 'names' as token ids without a tokenizer; pass ids, words=[[...], ...], or",
    ),
    "a phrase that no text holds": (
        lambda: RemovePhrase(phrase="no doubt")(read_texts()),
        "RemovePhrase changes none of these texts, since none has the phrase 'no doubt'; pass phrase=",
    ),
    "a list of which no text holds a word": (
        lambda: SwapNames()(single("a film is slow")),
        "SwapNames changes none of these texts, since none has a word of the list 'names'; pass words=",
    ),
    "no capital letter": (
        lambda: Lowercase()(single("a film is slow")),
        "Lowercase changes none of these texts, since none has a capital letter",
    ),
    "a list that is not there": (
        lambda: SwapWords(words="name"),
        "words must be one of 'names', 'pronouns', 'places', got 'name'; did you mean 'names'?",
    ),
    "a list of which the tokenizer knows nothing": (
        lambda: SwapWords(words="places")(load_rows([("a", "", "no"), ("b", "", "yes")], _letters(), pairs=False)),
        "does not know two words of one group of the list 'places'; pass words= of your own",
    ),
    "a group of one": (
        lambda: SwapWords(words=(("film",),)),
        "words must hold a group of two different words or more, as in [['film', 'movie'], ['he', 'she']], got "
        "('film',)",
    ),
    "words and ids": (lambda: SwapWords(words=(("film", 3),)), "words must hold a group of two different words"),
    "no groups": (lambda: SwapWords(words=()), "words must be the name of a list, a mapping, or a group of two"),
    "a word without letters": (
        lambda: SwapWords(words=(("film", "!"),)).change_texts("a film"),
        "words must be made of letters or digits, got '!'",
    ),
    "groups of ids for strings": (
        lambda: SwapWords(words=((3, 4),), level="text"),
        "words of token ids have no strings; leave level out, or pass words",
    ),
    "one of texts that are no pairs": (
        lambda: OnePart()(read_texts(pairs=False)),
        "OnePart needs pairs of texts, and these are single ones; read both columns, text=(first, second)",
    ),
    "one of token ids that are no pairs": (
        lambda: RemoveOverlap(special=(1, 2))(texts(4)),
        "RemoveOverlap needs pairs of texts, and these are single ones; read both columns, text=(first, second)",
    ),
    "no room in the model": (
        lambda: InsertPhrase(phrase=" ".join(["film"] * 30))(read_texts(max_length=20)),
        "row 0: texts of 20 tokens have no room for what InsertPhrase inserts; read them with a larger max_length, or "
        "insert less",
    ),
    "what to keep": (
        lambda: Truncate(keep="frist"),  # pyright: ignore[reportArgumentType]
        "keep must be one of 'first', 'last', 'random', got 'frist'; did you mean 'first'?",
    ),
    "a strength": (lambda: DropWords(strength=1.5), "strength must lie in [0, 1], got 1.5"),
    "a name": (
        lambda: mc.intervened(read_texts(), {"moved": "word-shufle"}),
        "did you mean 'word-shuffle'?",
    ),
    "an option": (
        lambda: mc.intervened(read_texts(), {"moved": {"name": "insert-phrase", "were": "start"}}),
        "has no option 'were'; it has strength, level, special, pad_id, phrase, where, part; did you mean 'where'?",
    ),
}


def _letters() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return pytest.importorskip("transformers").PreTrainedTokenizerFast(tokenizer_object=own, unk_token="[UNK]")


@pytest.mark.parametrize("what", WRONG)
def test_it_is_told_in_one_line(what: str) -> None:
    call, text = WRONG[what]
    with pytest.raises((ValueError, TypeError), match=re.escape(text)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_remedies_work() -> None:
    assert len(WordShuffle(level="tokens")(ids_alone())) == 12
    assert len(WordShuffle(special=(1, 2))(texts(4))) == len(WordShuffle()(replace(texts(4), special=()))) == 4
    assert len(InsertPhrase(phrase=(5,))(ids_alone())) == len(SwapWords(words=((5, 6, 7),))(ids_alone())) == 12
    assert len(InsertPhrase(phrase="film")(read_texts(max_length=20))) == 12
