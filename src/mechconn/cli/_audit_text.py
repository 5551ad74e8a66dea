"""The texts of an audit's configuration: which tokenizer reads them, and whether the networks can take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.cli._audit_config import AuditConfig
from mechconn.core import TOKEN_IDS, SampleSource, collect_errors, isolate_rng, iterate_batches
from mechconn.datasets import (
    TokenSet,
    explain_different_tokenizers,
    find_tokenizer_folder,
    read_tokenizer,
)

CHECKED = 1000
"""Rows that are looked at at a time."""


def list_text_options(config: AuditConfig, folder: Path, weights: Sequence[Path], base: Path | None) -> dict[str, Any]:
    """What `load_splits` is told of texts; nothing where the configuration has no [text].

    Raises:
        ValueError: no tokenizer is named and no network has one.
    """
    if (text := config.text) is None:
        return {}
    options = {"tokenizer": _find_tokenizer(text.tokenizer, folder, weights, base), "text": text.column}
    named = {} if text.label is None else {"label": text.label}
    return {**options, **named, "max_length": text.max_length, "classes": text.classes}


def check_tokenizers(
    config: AuditConfig, weights: Sequence[Path], base: Path | None, note: Callable[[str], object]
) -> None:
    """Raise where networks bring tokenizers that differ, and none is named; note where one has none."""
    if config.text is None or config.text.tokenizer is not None:
        return
    own = {file: _find_own(file, base) for file in weights}
    found = [place for place in (own[file] for file in weights) if place is not None]
    if lacking := [str(file) for file, place in own.items() if place is None and found]:
        note(f"{lacking[0]} holds no tokenizer; texts are read by that of {found[0]}")
    places = {place.resolve(): place for place in found}.values()
    if len(places) < 2:
        return
    first, *others = collect_errors(*(lambda place=place: read_tokenizer(place) for place in places))
    for other in others:
        if why := explain_different_tokenizers(first, other):
            raise ValueError(why)


def check_texts(models: Sequence[tuple[str, nn.Module]], splits: Mapping[str, Any], example: Any) -> None:
    """Raise unless every network can take all texts: their token ids, their length, and their padding."""
    if not (isinstance(example, Mapping) and TOKEN_IDS in example):
        return

    def check(what: str, model: nn.Module, split: str) -> None:
        with isolate_rng(0, "texts"):
            for _ in iterate_batches(
                f"{what}, split {split!r}",
                splits[split],
                batch_size=CHECKED,
                device=torch.device("cpu"),
                model=model,
                trim=True,
            ):
                pass

    collect_errors(*(lambda n=name, m=model: [check(n, m, split) for split in splits] for name, model in models))


def list_cut_texts(read: Mapping[str, SampleSource]) -> tuple[str, ...]:
    """A sentence for each source of which texts were cut."""
    return tuple(
        f"Of the texts of {name}, {data.facts()[0]}."
        for name, data in read.items()
        if isinstance(data, TokenSet) and data.cut is not None and bool(data.cut.any())
    )


def _find_tokenizer(named: str | None, folder: Path, weights: Sequence[Path], base: Path | None) -> Path | str:
    """The tokenizer that is named, else that of the first network that has one."""
    if named is not None:
        return folder / named if (folder / named).exists() else named
    own = [place for place in (_find_own(file, base) for file in weights) if place is not None]
    if own:
        return own[0]
    folders = [file for file in weights if file.is_dir()]
    if not folders:
        raise ValueError(
            "[text] needs a tokenizer, and files of weights have none; name the folder of one under [text], "
            'tokenizer = "folder"'
        )
    return folders[0]  # which `load_splits` refuses, together with what is wrong with the tables


def _find_own(file: Path, base: Path | None) -> Path | None:
    """The tokenizer of a network's folder; None where it has none."""
    try:
        return find_tokenizer_folder(file, base) if file.is_dir() else None
    except ValueError:
        return None
