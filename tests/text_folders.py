"""Small tokenizers and classifiers of texts in folders, made offline, and texts to read by them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mechconn.core import isolate_rng

with isolate_rng(0, "import"):
    import tokenizers
    import transformers
    from tokenizers import models, pre_tokenizers, processors, trainers

GOOD = ("a fine film", "what a joy to see it", "fine acting and a plot that holds")
BAD = ("dull", "a dull film and a waste of time", "no plot at all")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
PAD, UNK, CLS, SEP = range(4)


def sentences(rows: int) -> tuple[list[str], list[str]]:
    """(texts of different lengths, "good" or "bad" of each)."""
    texts = [(GOOD if row % 2 else BAD)[row // 2 % 3] + " indeed" * (row % 5) for row in range(rows)]
    return texts, ["good" if row % 2 else "bad" for row in range(rows)]


def make_tokenizer(more: Sequence[str] = (), **options: Any) -> Any:
    """A tokenizer of words with [CLS] and [SEP], trained on the sentences."""
    own = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))  # pyright: ignore[reportCallIssue]
    own.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.WordLevelTrainer(special_tokens=list(SPECIAL))  # pyright: ignore[reportCallIssue]
    own.train_from_iterator([*sentences(30)[0], *more], trainer)
    own.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, **{"model_input_names": names, **named, **options}
    )


def make_bert(seed: int = 0, positions: int = 32, words: int = 40, **options: Any) -> Any:
    """A classifier of two classes."""
    with isolate_rng(seed, "bert"):
        config = transformers.BertConfig(
            vocab_size=words, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            max_position_embeddings=positions, initializer_range=1.0, **options,
        )  # fmt: skip
        return transformers.BertForSequenceClassification(config).eval()


def make_decoder(kind: str, seed: int = 0, **options: Any) -> Any:
    """A decoder that classifies by its last token: "gpt2" or "llama"."""
    with isolate_rng(seed, kind):
        common: dict[str, Any] = {"vocab_size": 40, "num_labels": 2, "initializer_range": 1.0, **options}
        if kind == "gpt2":
            config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=32, **common)
            return transformers.GPT2ForSequenceClassification(config).eval()
        config = transformers.LlamaConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, **common
        )
        return transformers.LlamaForSequenceClassification(config).eval()


def save_folder(folder: Path, model: Any, tokenizer: Any = None) -> Path:
    """A folder as `save_pretrained` leaves it, with a tokenizer where one is given."""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def write_csv(file: Path, rows: int = 30) -> Path:
    """A table of texts with a column of groups."""
    texts, labels = sentences(rows)
    lines = [f"{text},{label},{row % 3}" for row, (text, label) in enumerate(zip(texts, labels, strict=True))]
    file.write_text("\n".join(["text,label,place", *lines]) + "\n", encoding="utf-8")
    return file
