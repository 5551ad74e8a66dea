"""The first samples of every split in a form that people read: images side by side, texts, rows of tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mechconn.core import (
    TOKEN_IDS,
    TOKEN_MASK,
    MapStyle,
    RowSubset,
    SampleSource,
    is_source,
    isolate_rng,
    log_warnings,
    move_inputs,
)
from mechconn.datasets._images import ImageSet
from mechconn.datasets._label_names import read_class_names
from mechconn.datasets._strips import find_bounds, find_scale, make_strip, shrink
from mechconn.datasets._suite import CuedSet, Suite
from mechconn.datasets._tokenizer import TextTokenizer
from mechconn.plotting import Examples

IMAGES, WRITTEN = 8, 4
"""How many samples of a split are shown: of images, and of texts and tables."""
LARGEST = 128
"""Most pixels of a shown image's side."""
COLUMNS, LETTERS = 8, 240
"""Most columns of a table, and letters of a text, that are shown."""


def show_examples(suite: Suite) -> Examples:
    """The first samples of every split; splits that are batches, which are read in order, are named instead.

    Rows are read by their numbers, once, and no random number of the user's is drawn. A split that cannot be shown is
    named, with a warning that says why. Where it is not known which values are black and white, they are the same in
    every split, so that a change of brightness shows.

    Example:
        >>> suite = Suite({"cue": (torch.tensor([[1.0, 2.5]]), torch.tensor([1]))}, reference="cue")
        >>> show_examples(suite).texts, show_examples(suite).labels
        ({'cue': ('1, 2.5',)}, {'cue': ('1',)})
    """
    read: dict[str, tuple[Any, Any, Tensor]] = {}
    shown: dict[str, Examples] = {}
    with isolate_rng(0, "examples"):
        for name, data in suite.items():
            with _warn_of(name):
                if is_source(data):
                    read[name] = (data, *_read_first(data))
    bounds = find_bounds(x.float() for data, x, _ in read.values() if _are_images(x) and not _is_scaled(data, x))
    for name, (data, x, y) in read.items():
        with _warn_of(name):
            shown[name] = _show_split(name, data, x, y, bounds)
    return Examples(
        pictures={name: picture for own in shown.values() for name, picture in own.pictures.items()},
        texts={name: texts for own in shown.values() for name, texts in own.texts.items()},
        labels={name: labels for own in shown.values() for name, labels in own.labels.items()},
        same_rows=all(suite.rows_shared(name) for name in suite),
        left_out=tuple(name for name in suite if name not in shown),
    )


@contextmanager
def _warn_of(name: str) -> Iterator[None]:
    """Context manager: warn where a split cannot be shown; a page without it is better than an audit that is lost."""
    try:
        yield
    except Exception as error:
        log_warnings("samples", [f"split {name!r} is not shown: {type(error).__name__}: {error}"])


def _show_split(name: str, data: SampleSource, x: Any, y: Tensor, bounds: tuple[float, float]) -> Examples:
    """The first samples of one split."""
    labels = {name: tuple(_name_labels(data, y))}
    if not _are_images(x):
        return Examples({}, {name: tuple(_write_inputs(data, x))}, labels)
    return Examples({name: make_strip(x, find_scale(data), known=_is_own(data), bounds=bounds)}, {}, labels)


def _read_first(data: SampleSource) -> tuple[Any, Tensor]:
    """(inputs, targets) of the first samples of one split, images no larger than they are shown."""
    x, y = _read_rows(data, torch.arange(min(IMAGES, len(data))))
    x, y = _pick_images(move_inputs(x, torch.device("cpu"))), y.detach().cpu()
    return (shrink(x, LARGEST), y) if _are_images(x) else (_first(x, WRITTEN), y[:WRITTEN])


def _read_rows(data: Any, rows: Tensor) -> tuple[Any, Tensor]:
    """(inputs, targets) of some rows, each sample of a map-style dataset read once."""
    if isinstance(data, RowSubset):
        return _read_rows(data.source, data.rows[rows])
    return data.read(rows) if isinstance(data, MapStyle) else (data.inputs(rows), data.y[rows])


def _first(x: Any, count: int) -> Any:
    return {name: part[:count] for name, part in x.items()} if isinstance(x, Mapping) else x[:count]


def _pick_images(x: Any) -> Any:
    """Inputs without a graph; of several by name the one that holds images, where it is the only one, as of a hub."""
    if isinstance(x, Tensor):
        return x.detach()
    if not isinstance(x, Mapping):
        x = {f"input {number}": part for number, part in enumerate(x, 1)}
    parts = {name: part.detach() for name, part in x.items()}
    images = [part for part in parts.values() if _are_images(part)]
    return images[0] if len(images) == 1 else parts


def _are_images(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() == 4 and x.shape[1] in (1, 3) and x.numel() > 0 and not x.is_complex()


def _is_own(data: Any) -> bool:
    """Whether the samples are images of this library, which are in [-1, 1]."""
    while data is not None and not isinstance(data, ImageSet):
        data = _find_below(data)
    return data is not None


def _is_scaled(data: Any, x: Tensor) -> bool:
    """Whether it is known which values are black and white."""
    return x.dtype == torch.uint8 or _is_own(data) or find_scale(data) is not None


def _find_below(data: Any) -> Any:
    """The dataset that another one is made of; None where there is none."""
    if isinstance(data, CuedSet):
        return data.content
    return getattr(data, "below", getattr(data, "source", None))


def _name_labels(data: Any, y: Tensor) -> list[str]:
    """The label of each row by its name, else as a number; of several labels a row, these."""
    names = read_class_names(data)
    if y.dim() == 1 and names is not None and not y.is_floating_point():
        return [names[label] if 0 <= label < len(names) else str(label) for label in y.tolist()]
    return [_shorten(_write_number(value) for value in row.flatten().tolist()) for row in y]


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
            values = list(map(_write_number, row.flatten()[: COLUMNS + 1].tolist()))
            line += [f"{name}={values[0]}", *values[1:]] if name and values else values
    return [_shorten(line) for line in lines]


def _write_number(value: complex) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _shorten(parts: Iterable[str]) -> str:
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
        data = _find_below(data)
    return None
