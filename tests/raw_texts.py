"""Pairs and single texts that are read by small tokenizers of the usual kinds, made offline."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mechconn.core import isolate_rng
from mechconn.datasets import TokenSet, load_text

with isolate_rng(0, "import"):
    import tokenizers
    import transformers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = (
    "Mary is a doctor in Paris, and she wasn't at home.",
    "He told her that John's film was slow; true.",
    "A fine film and true is true, Kate said.",
    "The man who paid the woman can sleep.",
    "No plot, but he isn't dull!",
    "She has a slow dog in London and a fine dog in Rome.",
)
SECONDS = (
    "She is at home.",
    "The film was slow and true is true.",
    "Kate did not say that.",
    "He paid the woman, John said.",
    "The plot can be dull.",
    "A dog has a home in Rome.",
)
WORDS = tuple("my book Anna Peter Berlin Oslo him his hers and true is not was or no doubt film movie".split())
WHOLE = tuple("is a the and he she his true dog home film woman paid said not was at in that of john kate".split())
"""Words that are one token to the tokenizers of pieces."""
KINDS = ("words", "wordpiece", "bytes", "unigram")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BYTE_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def make_kind(kind: str) -> Any:
    """A tokenizer of Transformers: one token a word ("words"), as of BERT, RoBERTa or XLM-R."""
    return copy.deepcopy(_make_kind(kind))


@cache
def _make_kind(kind: str) -> Any:
    with isolate_rng(0, kind):
        corpus = [*TEXTS, *SECONDS, *map(strip, TEXTS), *[" ".join(WORDS), "a " + " ".join(WORDS)] * 5]
        names = BYTE_SPECIAL if kind in ("bytes", "unigram") else SPECIAL
        own = _MAKERS[kind](corpus, names)
        ids = {name: own.token_to_id(name) for name in names}
        begin, end, pad, unknown = (names[0], names[2], names[1], names[3]) if names is BYTE_SPECIAL else (
            names[2], names[3], names[0], names[1]
        )  # fmt: skip
        between = f"{end} {end}" if names is BYTE_SPECIAL else end
        pair = f"{begin} $A {between} $B {end}" if names is BYTE_SPECIAL else f"{begin} $A {end} $B:1 {end}:1"
        own.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A {end}", pair=pair, special_tokens=[(begin, ids[begin]), (end, ids[end])]
        )
        kept = ["input_ids", "attention_mask"] + ([] if names is BYTE_SPECIAL else ["token_type_ids"])
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=own, model_input_names=kept, pad_token=pad, unk_token=unknown, cls_token=begin,
            sep_token=end, mask_token=names[-1],
        )  # fmt: skip


def _make_words(corpus: Sequence[str], names: list[str]) -> Any:
    own: Any = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))  # pyright: ignore[reportCallIssue]
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.train_from_iterator(corpus, trainers.WordLevelTrainer(special_tokens=names))  # pyright: ignore[reportCallIssue]
    return own


def _make_pieces(corpus: Sequence[str], names: list[str]) -> Any:
    """Of some words, and of letters: its trainer breaks ties in no fixed order."""
    signs = sorted({sign for text in corpus for sign in text.lower()} - {" "})
    pieces = [*names, *signs, *("##" + sign for sign in signs), "##lo", *WHOLE]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    own: Any = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # pyright: ignore
    own.normalizer = normalizers.BertNormalizer(lowercase=True)
    own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return own


def _make_bytes(corpus: Sequence[str], names: list[str]) -> Any:
    own: Any = tokenizers.Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(  # pyright: ignore[reportCallIssue]
        vocab_size=340, special_tokens=names, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    own.train_from_iterator(corpus, trainer)
    return own


def _make_unigram(corpus: Sequence[str], names: list[str]) -> Any:
    """Of some words, and of letters, each a fixed score: its trainer breaks ties in no fixed order."""
    signs = sorted({sign for text in corpus for sign in text} - {" "})
    pieces = [*((name, 0.0) for name in names), *((sign, -9.0) for sign in ["\u2581", *signs])]
    pieces += [("\u2581" + word, -4.0) for word in WHOLE] + [("lo", -5.0)]
    own: Any = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=names.index("<unk>")))  # pyright: ignore
    own.pre_tokenizer = pre_tokenizers.Metaspace()
    return own


_MAKERS = {"words": _make_words, "wordpiece": _make_pieces, "bytes": _make_bytes, "unigram": _make_unigram}


@cache
def read_texts(
    kind: str = "words", pairs: bool = True, rows: int = 12, max_length: int | None = None, marks: bool = True
) -> TokenSet:
    """The texts as `load_text` reads them from a file; without `marks` a word is a token to the tokenizer of words."""
    texts, seconds = ([text if marks else strip(text) for text in part] for part in (TEXTS, SECONDS))
    found = [(texts[row % 6], seconds[(row + row // 6) % 6], ("no", "yes")[row % 2]) for row in range(rows)]
    return load_rows(found, make_kind(kind), pairs, max_length)


def strip(text: str) -> str:
    """A text without its punctuation."""
    return "".join(sign for sign in text if sign.isalnum() or sign == " ")


def load_rows(
    rows: Sequence[tuple[str, str, str]], tokenizer: Any, pairs: bool = True, max_length: int | None = None
) -> TokenSet:
    """(text, second text, label) of each row, as `load_text` reads them from a file."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.csv"
        with file.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(["premise", "hypothesis", "label"])
            writer.writerows(rows)
        text = ("premise", "hypothesis") if pairs else "premise"
        return load_text(file, tokenizer, text=text, label="label", max_length=max_length)
