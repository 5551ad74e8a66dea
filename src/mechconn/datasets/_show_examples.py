"""The first samples of every split in a form that people read: images side by side, texts, rows of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mechconn.core import TOKEN_IDS, TOKEN_MASK, MapStyle, RowSubset, SampleSource, is_source, isolate_rng
from mechconn.datasets._label_names import read_class_names
from mechconn.datasets._strips import make_strip
from mechconn.datasets._suite import CuedSet, Suite
from mechconn.datasets._tokenizer import TextTokenizer
from mechconn.plotting import Examples

IMAGES, WRITTEN = 8, 4
"""How many samples of a split are shown: of images, and of texts and tables."""
LARGEST = 128
"""Most pixels of a shown image's side."""
KINDS = ("pictures", "texts", "labels")
COLUMNS, LETTERS = 8, 240
"""Most columns of a table, and letters of a text, that are shown."""


def show_examples(suite: Suite) -> Examples:
    """The first samples of every split; of splits that are batches, which are read in order, none.

    Rows are read by their numbers, so that no random number of the user's is drawn.

    Example:
        >>> suite = Suite({"cue": (torch.tensor([[1.0, 2.5]]), torch.tensor([1]))}, reference="cue")
        >>> show_examples(suite).texts, show_examples(suite).labels
        ({'cue': ('1, 2.5',)}, {'cue': ('1',)})
    """
    found: list[Examples] = []
    with isolate_rng(0, "examples"):
        found = [_show_split(name, data) for name, data in suite.items() if is_source(data)]
    merged = [{key: value for part in found for key, value in getattr(part, kind).items()} for kind in KINDS]
    return Examples(*merged, same_rows=all(suite.rows_shared(name) for name in suite))


def _show_split(name: str, data: SampleSource) -> Examples:
    """The first samples of one split."""
    first = data.inputs(torch.arange(1))
    images = isinstance(first, Tensor) and first.dim() == 4 and first.shape[1] in (1, 3)
    rows = torch.arange(min(IMAGES if images else WRITTEN, len(data)))
    labels = {name: tuple(_name_labels(data, rows))}
    if images:
        return Examples({name: make_strip(data, len(rows), LARGEST)}, {}, labels)
    return Examples({}, {name: tuple(_write_inputs(data, data.inputs(rows)))}, labels)


def _name_labels(data: Any, rows: Tensor) -> list[str]:
    """The label of each row by its name, else as a number; of many labels a row, these."""
    names, found = read_class_names(data), _read_targets(data, rows)
    if found.dim() == 1 and names is not None and not found.is_floating_point():
        return [names[label] for label in found.tolist()]
    return [_shorten(_write_number(value) for value in row.flatten().tolist()) for row in found]


def _read_targets(data: Any, rows: Tensor) -> Tensor:
    """The targets of some rows, without reading other samples of a map-style dataset."""
    if isinstance(data, RowSubset):
        return _read_targets(data.source, data.rows[rows])
    return data.targets(rows) if isinstance(data, MapStyle) else data.y[rows]


def _write_inputs(data: Any, x: Any) -> list[str]:
    """Each row in words: the text of its tokens, else its values by name."""
    if isinstance(x, Mapping) and TOKEN_IDS in x:
        tokenizer = _find_tokenizer(data)
        mask = x.get(TOKEN_MASK, torch.ones_like(x[TOKEN_IDS])).bool()
        return [_decode(ids[kept].tolist(), tokenizer) for ids, kept in zip(x[TOKEN_IDS], mask, strict=True)]
    parts = dict(x) if isinstance(x, Mapping) else {"": x}
    lines: list[list[str]] = [[] for _ in next(iter(parts.values()))]
    for name, part in parts.items():
        for line, row in zip(lines, part, strict=True):
            values = row.flatten()[: COLUMNS + 1].tolist()
            line += [f"{name}={_write_number(v)}" if name else _write_number(v) for v in values]
    return [_shorten(line) for line in lines]


def _write_number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _shorten(parts: Any) -> str:
    listed = list(parts)
    return ", ".join(listed[:COLUMNS]) + (", ..." if len(listed) > COLUMNS else "")


def _decode(ids: list[int], tokenizer: TextTokenizer | None) -> str:
    """The text of token ids as the model reads it; the ids themselves where no tokenizer is known."""
    text = " ".join(map(str, ids)) if tokenizer is None else " ".join(tokenizer.decode(ids).split())
    return text if len(text) <= LETTERS else f"{text[:LETTERS]} ..."


def _find_tokenizer(data: Any) -> TextTokenizer | None:
    """The tokenizer that texts were read with, also below cues and interventions."""
    while data is not None:
        if (raw := getattr(data, "raw", None)) is not None:
            return raw.tokenizer
        data = data.content if isinstance(data, CuedSet) else getattr(data, "below", getattr(data, "source", None))
    return None
