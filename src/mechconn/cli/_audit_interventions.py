"""`[interventions]` of a configuration: what it names, with side data read, and the splits that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechconn.cli._audit_columns import find_split_source
from mechconn.cli._audit_config import AuditConfig
from mechconn.cli._audit_masks import read_masks
from mechconn.cli._audit_splits import AuditData
from mechconn.cli._image_options import list_image_options
from mechconn.cli._side_data import SideOption, fill_side_options, list_side_options, say_which
from mechconn.core import as_data, check_by_index, collect_errors, read_named
from mechconn.datasets import select_labels
from mechconn.interventions import Intervention, choose_interventions, intervened, read_intervention


def read_interventions(named: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> the intervention or function; one that needs side data as it is named, once that is known to be right.

    Raises:
        ValueError, TypeError: one names nothing, or has options that it does not take; a line for each.
    """
    later = {option.intervention for option in list_side_options(named)}

    def read(name: str, value: Any) -> Any:
        if name not in later:
            return read_intervention(name, value)
        read_named(f"the intervention {name!r}", Intervention, value)
        return value

    found = collect_errors(*(lambda n=name, v=value: read(n, v) for name, value in named.items()))
    return dict(zip(named, found, strict=True))


def fill_interventions(
    config: AuditConfig, named: Mapping[str, Any], data: AuditData, folder: Path, index: Tensor | None = None
) -> dict[str, Any]:
    """Name -> the intervention or function, or a table of it with the side data of the reference's rows.

    Args:
        config: what says how these are read.
        named: what `read_interventions` gives.
        data: the splits and the side data that were read.
        folder: what paths are relative to.
        index: which of these rows are meant; None: all.

    Raises:
        ValueError, FileNotFoundError: side data that do not suit the rows; a line for each.
    """
    name, images = find_split_source(config, None), list_image_options(config.images, folder)
    rows = data.splits[config.reference]

    def read(option: SideOption) -> Any:
        if option.kind == "rows":
            return data.read[option.rows_name]
        try:
            if option.kind == "masks":
                masks = read_masks(option.place, rows, data.sources[name], folder, images)
                return masks if index is None else masks[index]
            values = data.columns[name, option.place]
            numbers = select_labels(option.described, name, rows, torch.arange(len(values)))
            return [values[number] for number in (numbers if index is None else numbers[index]).tolist()]
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"{option.described}: {error}") from error

    options = list_side_options(named)
    values = collect_errors(*(lambda o=option: read(o) for option in options))
    return fill_side_options(named, dict(zip(options, values, strict=True)))


def add_interventions(
    sets: Mapping[str, Any], reference: str, named: Mapping[str, Any], seed: int
) -> tuple[dict[str, Any], list[str]]:
    """(the splits, and what each intervention makes of the reference; a sentence for each that changes labels).

    Raises:
        ValueError: some do not suit the data, or are no function of each row; a line for each.
    """
    if not named:
        return dict(sets), []
    source = check_by_index("intervened", as_data("data", sets[reference]))

    def make(name: str) -> tuple[Any, str]:
        chosen = choose_interventions(source, {name: read_intervention(name, named[name])}, "keep")
        made = intervened(source, chosen.functions, reference=reference, seed=seed)[name]
        return made, chosen.changing.get(name, "")

    made = collect_errors(*(lambda n=name: say_which(n, lambda: make(n)) for name in named))
    notes = [
        f"{name} changes the label for people, so that its effect says nothing about what a model relies on: {why}."
        for name, (_, why) in zip(named, made, strict=True)
        if why
    ]
    return {**sets, **{name: split for name, (split, _) in zip(named, made, strict=True)}}, notes
