"""Samples of every split, so that a reader sees what the splits' names mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mechconn.core import Picture
from mechconn.plotting._sections import Cell, Section, Table

SAMPLES = "samples"
"""Anchor of the section."""


@dataclass(frozen=True)
class Examples:
    """The first samples of every split that can be shown.

    Attributes:
        pictures: split -> its first images side by side.
        texts: split -> its first texts, or rows of a table in words.
        labels: split -> the names of the labels of these samples.
        same_rows: whether sample i of every split is known to show one row of the data.
        left_out: splits of which no sample is shown: batches, which are read in order, or samples that have no picture.
    """

    pictures: Mapping[str, Picture] = field(default_factory=dict)
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    same_rows: bool = False
    left_out: tuple[str, ...] = ()


def make_examples_section(found: Examples) -> Iterator[Section]:
    """What the samples of every split look like; nothing where none can be shown."""
    if not found.pictures and not found.texts:
        return
    title = "The same samples in every split" if found.same_rows else "The first samples of every split"
    tables = (_tabulate_texts(found),) if found.texts else ()
    yield Section(title, strips=found.pictures, tables=tables, note=_write_note(found), anchor=SAMPLES, whole=True)


def _tabulate_texts(found: Examples) -> Table:
    """A row for each sample and split, the splits of one sample below each other."""
    longest = max(map(len, found.texts.values()))
    rows = [
        (Cell(split, f"sample {number + 1}"), text, label)
        for number in range(longest)
        for split, texts in found.texts.items()
        for text, label in _pick(texts, found.labels.get(split, ()), number)
    ]
    return Table(("split", "sample", "label"), tuple(rows), words=frozenset({1, 2}))


def _pick(texts: tuple[str, ...], labels: tuple[str, ...], number: int) -> Iterator[tuple[str, str]]:
    if number < len(texts):
        yield texts[number], labels[number] if number < len(labels) else ""


def _write_note(found: Examples) -> str:
    """What the columns are, and the labels of images."""
    said = ["Each column is one row of the data."] if found.same_rows and found.pictures else []
    labels = {split: names for split, names in found.labels.items() if split in found.pictures and names}
    if labels and len(set(labels.values())) == 1:
        said.append(f"Labels, from left to right, in every split: {', '.join(next(iter(labels.values())))}.")
    else:
        said += [f"Labels of {split}, from left to right: {', '.join(names)}." for split, names in labels.items()]
    said += [f"Not shown: {', '.join(found.left_out)}."] if found.left_out else []
    return " ".join(said)
