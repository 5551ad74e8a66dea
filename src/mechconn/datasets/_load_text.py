"""Raw texts in tables, tokenised once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mechconn.core import check_choice, check_count, collect_errors, log
from mechconn.datasets._delimited import QUOTINGS, Quoting
from mechconn.datasets._label_names import reorder_labels
from mechconn.datasets._raw_texts import RawTexts, pad_rows
from mechconn.datasets._text_tables import (
    JSON_SUFFIXES,
    TEXT_SUFFIXES,
    TextTable,
    choose_text_columns,
    find_usual_texts,
    list_columns_and_images,
    open_text_table,
    read_labels,
    read_texts,
)
from mechconn.datasets._tokenizer import EncodedTexts, TextTokenizer, read_tokenizer
from mechconn.datasets._tokens import TokenSet

NEEDS_TOKENIZER = (
    "pass tokenizer=, the folder of a model or tokenizer that reads them (in a configuration, [text] tokenizer; of "
    "mechconn data, --tokenizer)"
)


def load_text(
    source: str | Path,
    tokenizer: Any,
    *,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    split: str | None = None,
    max_length: int | None = None,
    classes: Sequence[str] | None = None,
    quoting: Quoting = "auto",
    threshold: float | None = None,
) -> TokenSet:
    """Texts of a table as token ids with their labels, tokenised once.

    Where outputs alone are read, batches have as many positions as their longest text, if a trial shows that the model
    heeds attention_mask: it then gives what it gives with padding to the whole, but for rounding. Other models
    (convolutions, Fourier mixing, answers at the last position) are evaluated with all positions, so that the batch
    size changes nothing. Nothing is cut unless `max_length` says so; how many texts were cut is logged, and stands in
    the `repr` of the result. The strings stay in memory beside the ids, for interventions that rewrite them.

    Args:
        source: a .csv, .tsv, .txt, .jsonl (.json, .ndjson) or parquet file, or a folder of parquet files or of
            `save_to_disk`; a column "split" divides it.
        tokenizer: a model's folder, a tokenizer.json, the folder or cached name of a saved tokenizer, or a tokenizer of
            Transformers or Tokenizers. Nothing is fetched and no code of a folder runs.
        text: column of the texts, or the two of pairs; by usual names where it is not given.
        label: column of the labels, class names or whole numbers; likewise.
        split: which rows, where the table is divided.
        max_length: tokens, special ones among them, that longer texts are cut to.
        classes: the names of the classes in the order of the model's outputs; by default that of the model
            in whose folder the tokenizer lies (id2label), where it has all of them, else the file's own, else those of
            all splits of the file or folder, sorted. Numbers whose names the file tells are brought into this order.
        quoting: of .csv and .tsv files, as in `load`.
        threshold: for labels that are fractions: class 1 is this number or more, class 0 less.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file or tokenizer that cannot be read, no such column, a row without a text or label or with
            another type, a text without tokens, longer texts than the model has positions and no `max_length`.
        TypeError: no tokenizer.
        ImportError: Transformers is not installed.
    """
    check_choice("quoting", quoting, QUOTINGS)
    if max_length is not None:
        check_count("max_length", max_length)
    reader, (table, columns, (labels, names)) = collect_errors(
        lambda: tokenizer if isinstance(tokenizer, TextTokenizer) else read_tokenizer(tokenizer),
        lambda: _read_rows(open_text_table(Path(source), split, quoting, threshold), text, label, classes),
    )
    if classes is None and reader.classes is not None:
        labels, names = reorder_labels(labels, names, reader.classes)
    found = reader.encode(columns[0], columns[1] if len(columns) > 1 else None, max_length)
    _check_lengths(table, found, reader, max_length)
    data = _to_token_set(found, RawTexts(tuple(zip(*columns, strict=True)), reader, max_length), labels, names)
    if data.cut is not None and bool(data.cut.any()):
        log(f"{table.place}: {data.facts()[0]}")
    return data


@dataclass(frozen=True)
class TextReading:
    """How `load_splits` reads texts; the tokenizer is read once.

    Attributes:
        given: the tokenizer as it was given; None where none was.
        text: column of the texts, or the two of pairs.
        label: column of the labels.
        max_length: tokens that longer texts are cut to.
        classes: names of the classes in order.
        quoting: of .csv and .tsv files.
        image: column of images, where one is named.
        threshold: of labels that are fractions.
    """

    given: Any
    text: str | Sequence[str] | None
    label: str | None
    max_length: int | None
    classes: Sequence[str] | None
    quoting: Quoting
    image: str | None
    threshold: float | None = None

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer."""
        return self.given if isinstance(self.given, TextTokenizer) else read_tokenizer(self.given)

    def load(self, place: Path, split: str | None) -> TokenSet | None:
        """The texts of a source; None where it holds none.

        Raises:
            ValueError: it holds texts and there is no tokenizer, or images and texts and no column is named; else as
                `load_text`.
        """
        if place.suffix not in TEXT_SUFFIXES and not place.is_dir():
            return None
        if self.text is not None and self.given is None:
            raise ValueError(f"text = {self.text!r} names columns of texts; {NEEDS_TOKENIZER}")
        if self.text is None and not self._finds_texts(place):
            return None
        tokenizer, _ = collect_errors(lambda: self.tokenizer, lambda: self._read(place, split))
        return load_text(
            place,
            tokenizer,
            text=self.text,
            label=self.label,
            split=split,
            max_length=self.max_length,
            classes=self.classes,
            quoting=self.quoting,
            threshold=self.threshold,
        )

    def _read(self, place: Path, split: str | None) -> object:
        """All but the tokenizer, so that mistakes in both are told together."""
        return _read_rows(
            open_text_table(place, split, self.quoting, self.threshold), self.text, self.label, self.classes
        )

    def _finds_texts(self, place: Path) -> bool:
        """Whether the names of the columns tell that a table holds texts."""
        columns, images = list_columns_and_images(place, self.quoting)
        texts = find_usual_texts(columns)
        if self.given is None:
            if place.suffix in JSON_SUFFIXES or (texts and not images):
                raise ValueError(f"{place} holds texts (columns: {', '.join(columns)}); {NEEDS_TOKENIZER}")
            return False
        if self.image is not None or (images and not texts):
            return False
        if images:
            raise ValueError(
                f"{place} may hold images ({', '.join(images)}) or texts ({' or '.join(map('+'.join, texts))}); name "
                f"the column, text={texts[0][0]!r} or image={images[0]!r}"
            )
        return bool(columns) or place.suffix in TEXT_SUFFIXES


def _read_rows(
    table: TextTable, text: str | Sequence[str] | None, label: str | None, classes: Sequence[str] | None
) -> tuple[TextTable, list[list[str]], tuple[list[int], tuple[str, ...]]]:
    """(the table, its columns of texts, the labels and the names of the classes)."""
    columns, labels = collect_errors(lambda: _read_columns(table, text), lambda: read_labels(table, label, classes))
    return table, columns, labels


def _read_columns(table: TextTable, named: str | Sequence[str] | None) -> list[list[str]]:
    columns = choose_text_columns(table, named)
    return collect_errors(*(lambda column=column: read_texts(table, column) for column in columns))


def _check_lengths(table: TextTable, found: EncodedTexts, reader: TextTokenizer, max_length: int | None) -> None:
    """Raise where a text has no token, or more than the model has positions and nobody said that it may be cut."""
    lengths = list(map(len, found.ids))
    if 0 in lengths:
        row = table.rows[lengths.index(0)]
        raise ValueError(f"{table.place} row {row}: the text has no token; leave the row out")
    limit = reader.limit
    if max_length is None and limit is not None and max(lengths) > limit:
        row, count = table.rows[lengths.index(max(lengths))], sum(length > limit for length in lengths)
        raise ValueError(
            f"{table.place} row {row}: the text has {max(lengths)} tokens, and the model of {reader.name} takes "
            f"{limit} ({count} of {len(lengths)} rows are longer); cut them, max_length={limit}"
        )


def _to_token_set(found: EncodedTexts, raw: RawTexts, labels: Sequence[int], classes: tuple[str, ...]) -> TokenSet:
    reader, max_length = raw.tokenizer, raw.max_length
    ids = pad_rows(found.ids, reader.pad_id)
    lengths = torch.tensor(list(map(len, found.ids)))
    return TokenSet(
        input_ids=ids,
        attention_mask=(torch.arange(ids.shape[1]) < lengths[:, None]).long(),
        y=torch.tensor(labels),
        classes=classes,
        token_type_ids=None if found.types is None else pad_rows(found.types, 0),
        pads_by_batch=True,
        cut=None if max_length is None else torch.tensor(found.cut),
        max_length=max_length,
        pad_id=reader.pad_id,
        special=reader.special,
        raw=raw,
    )
