"""Which of the data that were found an audit measures, and what else it can be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mechconn.cli._audit_columns import LABEL, read_column_of
from mechconn.cli._audit_config import read_name
from mechconn.cli._image_options import read_preprocessing
from mechconn.cli._init_scan import FoundData, FoundFiles, locate
from mechconn.cli._relearn_config import COLUMN_ONLY
from mechconn.core import CUE, LABEL_KEYS, NO_CUE, SPLITS, did_you_mean, list_kinds, read_tensor_shapes
from mechconn.datasets import (
    ALL,
    find_texts,
    holds_fractions,
    holds_tokenizer,
    load_full_columns,
    load_splits,
    read_tokenizer,
)
from mechconn.interventions import Intervention
from mechconn.mechanisms import AGREE, CONFLICT, split_by_agreement

TRAIN, VALIDATION = ("train", "training"), ("validation", "valid", "val", "dev")
FEW = 20
"""Most values of a column of groups; one with more is of clusters."""
SHOWN = 8
"""Columns whose values are told."""
SWAPPED = 5
"""Columns of a table without names whose values are swapped, the first ones."""
TEXT_CHANGES = {"shuffled": "word-shuffle"}
"""Changes that any texts of several words take."""
NO_GROUPS = {
    *LABEL_KEYS,
    "class",
    "split",
    "file",
    "file_name",
    "filename",
    "path",
    "image",
    "id",
    "index",
    "gold_label",
}


@dataclass
class AuditPlan:
    """What a configuration says.

    Attributes:
        chosen: what is set.
        proposed: what stands in comments.
        notes: key -> lines beside the explanation of its field.
        lacks: what the configuration cannot be used without; empty where nothing is to be added.
        dividing: columns that the rows could be divided by, and are not.
    """

    chosen: dict[str, Any] = field(default_factory=dict)
    proposed: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    lacks: list[str] = field(default_factory=list)
    dividing: list[str] = field(default_factory=list)


Split = tuple[str, FoundData]
"""(name of a split, the data that it is of)."""


def plan_audit(found: FoundFiles, start: Path, by: str | None = None) -> AuditPlan:
    """The splits to measure, what is made of them, and the columns that they may be divided by.

    Args:
        found: what there is.
        start: the folder that paths are relative to.
        by: the column to divide one split by; default: one that suits, where rows are not changed instead.

    Raises:
        ValueError: no data, or no such column.
    """
    plan = AuditPlan()
    families = sorted(_list_families(found.data), key=_rank_family, reverse=True)
    if not families and by is not None:
        raise ValueError(f"no data were found that column {by!r} could be of; name a folder that holds a table")
    if not families:
        plan.lacks.append("no data were found: name them under [splits]")
        plan.chosen["splits"] = {}
        return plan
    family, measured = _choose_splits(families, by)
    sources = {name: own.source(name, start) for name, own in family}
    data = dict(family)[measured[0]]
    plan.chosen["splits"] = {name: sources[name] for name in measured}
    _describe_inputs(plan, data, found.models, start)
    columns = _find_columns(data, measured[0])
    _propose_columns(plan, columns, measured[0])
    if by is None:
        _set_reference(plan, data, measured, columns)
    else:
        holding = [own for own in found.data if by in own.columns]
        _divide_by(plan, by, (measured[0], data), columns, _find_training_data(holding, data, start))
    others = [name for name in sources if name not in (*measured, *TRAIN, *VALIDATION)]
    if others:
        plan.notes["splits"] = [f"Also found: {', '.join(others)}."]
    train = _find_training_data(found.data, data, start)
    if train and train not in plan.chosen["splits"].values():
        _use_training_data(plan, train, data.kind)
    elif not train and any(map(_keeps_statistics, found.models[:2])):
        plan.chosen["norm"] = {"policy": "interpolate"}
        plan.notes["norm"] = ["No training data were found; with some, [norm] data is the better choice."]
    _propose_questions(plan)
    return plan


def _list_families(data: Sequence[FoundData]) -> list[list[Split]]:
    """Data that may be splits of one suite: those of one place, or of one kind and the same classes side by side."""
    families = [[(split, own) for split in own.splits] for own in data if len(own.splits) > 1]
    beside: dict[tuple[Any, ...], list[Split]] = {}
    for own in data:
        if len(own.splits) == 1:
            beside.setdefault((own.place.parent, own.kind, own.classes), []).append((own.splits[0], own))
    return [*families, *beside.values()]


def _rank_family(family: Sequence[Split]) -> tuple[bool, bool, bool]:
    names = {name for name, _ in family}
    return len(names & {*SPLITS}) > 1, len(names) > 1, "test" in names


def _choose_splits(families: Sequence[Sequence[Split]], by: str | None) -> tuple[Sequence[Split], list[str]]:
    """(the data to audit, the splits to measure); by a column one split, of the data that have it where some have."""
    if by is None:
        return families[0], _choose_measured([name for name, _ in families[0]])
    holding = [[(name, own) for name, own in family if by in own.columns] for family in families]
    place = next((place for place, splits in enumerate(holding) if splits), 0)
    names = [name for name, _ in holding[place] or families[place]]
    return families[place], _choose_measured(names)[:1]


def _choose_measured(names: Sequence[str]) -> list[str]:
    """The splits of a cue where there are some; else all but those for training and validation, where there are."""
    cued = [name for name in (CUE, *SPLITS) if name in names]
    if len(set(cued)) > 1:
        return list(dict.fromkeys(cued))
    others = [name for name in names if name not in (*TRAIN, *VALIDATION)]
    if len(others) > 2:
        others = [name for name in others if name != ALL]  # of domains, whose rows are in the others too
    return others or [name for name in names if name in VALIDATION][:1] or list(names[:1])


def _describe_inputs(plan: AuditPlan, data: FoundData, models: Sequence[Path], start: Path) -> None:
    """How images, or texts, become inputs."""
    if data.kind == "texts":
        plan.chosen["text"] = _describe_texts(plan, data, models, start)
    images = {**data.images, **_read_preprocessing(models, data)}
    if images:
        plan.chosen["images"] = images


def _describe_texts(plan: AuditPlan, data: FoundData, models: Sequence[Path], start: Path) -> dict[str, Any]:
    """The columns, the tokenizer where the first models have none, and the length that its model takes."""
    columns = {"column": data.texts[0] if len(data.texts) == 1 else list(data.texts)}
    found = [folder for folder in models if folder.is_dir() and holds_tokenizer(folder)]
    if not found:
        plan.lacks.append("a tokenizer for the texts: name its folder under [text], tokenizer")
        return columns
    named = {} if set(found) & {*models[:2]} else {"tokenizer": locate(found[0], start)}
    try:
        limit = read_tokenizer(found[0]).limit
    except (ValueError, ImportError):
        limit = None
    return {**columns, **named, **({} if limit is None else {"max_length": limit})}


def _find_training_data(found: Sequence[FoundData], data: FoundData, start: Path) -> str:
    """Where training data of this kind and these classes are, of the same place first; empty where there are none."""
    alike = [own for own in found if (own.kind, own.classes) == (data.kind, data.classes)]
    near = sorted(alike, key=lambda own: (own.place != data.place, own.place.parent != data.place.parent))
    return next((own.source(name, start) for own in near for name in TRAIN if name in own.splits), "")


def _find_columns(data: FoundData, split: str) -> dict[str, Sequence[Any]]:
    """Column -> its values in a split, of those that may be groups or clusters."""
    source = data.source(split, Path())
    if data.kind in ("texts", "images") and data.place.suffix != ".safetensors":
        read = load_full_columns(source, data.columns)
    else:
        read = {name: read_column_of(source, name, {}) for name in data.columns}
    labels = [values for name, values in read.items() if name in LABEL_KEYS]
    return {
        name: values
        for name, values in read.items()
        if name.lower() not in NO_GROUPS
        and not any(_are_alike(values, known) for known in labels)
        and not holds_fractions(values)
        and 1 < len(set(values)) <= len(values) / 2
    }


def _are_alike(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two columns are one, by other names."""
    return len(a) == len(b) and len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


def _propose_columns(plan: AuditPlan, columns: Mapping[str, Sequence[Any]], split: str) -> None:
    """Groups and clusters as comments."""
    few = {name: values for name, values in columns.items() if len(set(values)) <= FEW}
    for name, values in list(few.items())[:SHOWN]:
        listed = sorted(set(map(str, values)))
        shown = f"{', '.join(listed[:6])}{', ...' if len(listed) > 6 else ''}"
        for key in ("by", "groups"):
            plan.notes.setdefault(key, []).append(f"{split} has the column {name}, of {len(listed)} values: {shown}")
    if few:
        if len(few) > SHOWN:
            plan.notes["groups"].append(f"Also: {', '.join(list(few)[SHOWN:])}.")
        plan.proposed["by"] = next(iter(few))
        plan.proposed["groups"] = {"columns": [LABEL, next(iter(few))]}
    many = [name for name in columns if name not in few]
    if many:
        plan.proposed["cluster"] = many[0]


def _set_reference(
    plan: AuditPlan, data: FoundData, measured: Sequence[str], columns: Mapping[str, Sequence[Any]]
) -> None:
    """What the effects start from, and what they are measured on: other splits, some that are made, or sides."""
    if len(measured) > 1:
        reference = next((name for name in (CUE, "test") if name in measured), measured[0])
        plan.chosen["reference"] = reference
        plan.proposed["interventions"] = [name for name in measured if name not in (reference, NO_CUE)]
        return
    if data.kind == "images":
        plan.notes["by"] = [*plan.notes.get("by", []), "With by, leave out reference, or set it to agree."]
        _choose_interventions(plan, data, measured[0], _change_images(data, plan.chosen.get("images")))
        plan.dividing = [name for name in columns if _divides(data, measured[0], columns[name])]
        return
    by = next((name for name in columns if _divides(data, measured[0], columns[name])), None)
    if by is not None:
        plan.chosen["by"] = by
        plan.proposed["reference"] = AGREE
        return
    made = TEXT_CHANGES if data.kind == "texts" else _change_columns(data)
    if made:
        _choose_interventions(plan, data, measured[0], made)
        return
    plan.chosen["reference"] = measured[0]
    plan.lacks.append(f"{measured[0]} is one split: name another one, a column by= of it, or [interventions] on it")


def _divide_by(plan: AuditPlan, by: str, split: Split, columns: Mapping[str, Sequence[Any]], train: str) -> None:
    """One split in two: rows that agree with the majority of their class, there or in the training data, and others."""
    name, data = split
    source = data.source(name, Path())
    if by not in columns:
        listed = f"columns: {', '.join(columns) or 'none'}{did_you_mean(by, [*columns])}"
        raise ValueError(f"{source} has no column {by!r} that rows could be divided by; {listed}")
    if not _divides(data, name, columns[by]):
        if not train:
            raise ValueError(
                f"{source} cannot be divided by {by!r}: in every class one value must be the most frequent, and others "
                "must occur too; name a column for which this holds, or add a split 'train' that has this column"
            )
        plan.chosen["majority"] = train
    plan.chosen["by"] = by
    plan.proposed.pop("by", None)
    plan.proposed["reference"] = AGREE


def _choose_interventions(plan: AuditPlan, data: FoundData, split: str, made: Mapping[str, Any]) -> None:
    """Splits that are made from the one that is there, and what else may be made."""
    plan.chosen |= {"reference": split, "interventions": dict(made)}
    kind = "tables" if data.kind == "tensors" else data.kind
    named = {read_name(value) for value in made.values()}
    others = [
        name for name, own in list_kinds(Intervention, built_in=True).items() if own.takes == kind and name not in named
    ]
    plan.notes["interventions"] = [
        f"Also: {', '.join(others)}. mechconn data FILE shows what those in this file do, and with --interventions all "
        "what the others would."
    ]


def _change_images(data: FoundData, images: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Changes of an image that leave its class."""
    options = images or {}
    side = options.get("size") or min(data.shape[1:])
    made: dict[str, dict[str, Any]] = {
        "turned": {"name": "rotate", "max_degrees": 15},
        "moved": {"name": "translate", "max_pixels": max(1, side // 8)},
    }
    coloured = data.shape[0] == 3 or options.get("rgb")
    return made | ({"tinted": {"name": "colour-shift", "max_shift": 0.25}} if coloured else {})


def _change_columns(data: FoundData) -> dict[str, dict[str, Any]]:
    """Values of other rows in each of the first columns of a table; nothing for other tensors."""
    shape = read_tensor_shapes(data.place).get("x", ()) if data.kind == "tensors" else ()
    columns = range(min(shape[1], SWAPPED)) if len(shape) == 2 else ()
    return {f"column-{column}": {"name": "swap-column", "columns": column} for column in columns}


def _divides(data: FoundData, split: str, values: Sequence[Any]) -> bool:
    """Whether rows of every class agree with the value of its majority, and others do not."""
    source = data.source(split, Path())
    try:
        y = torch.tensor(find_texts(source)[1]) if data.kind == "texts" else load_splits({split: source})[split].y
        split_by_agreement((torch.zeros(len(y)), y), values)
    except (ValueError, TypeError):
        return False
    return True


def _use_training_data(plan: AuditPlan, source: str, kind: str) -> None:
    """Training data for normalisation statistics, which networks of texts do not have, and as comments."""
    (plan.proposed if kind in ("texts", "tokens") else plan.chosen)["norm"] = {"data": source}
    plan.notes["norm"] = ["Networks without BatchNorm do not need it; units are then matched by their weights."]
    if "majority" not in plan.chosen:
        plan.proposed["majority"] = source
    if "by" in plan.chosen or "by" in plan.proposed:
        plan.proposed["relearn"] = {"data": source, "split": COLUMN_ONLY, "intervention": CONFLICT}
    plan.proposed["groups"] = {**plan.proposed.get("groups", {}), "train": source}


def _keeps_statistics(model: Path) -> bool:
    """Whether a .safetensors file of weights, or that of a folder, holds statistics as BatchNorm keeps them."""
    file = model / "model.safetensors" if model.is_dir() else model
    if file.suffix != ".safetensors" or not file.is_file():
        return False
    return any(name.endswith("running_mean") for name in read_tensor_shapes(file))


def _propose_questions(plan: AuditPlan) -> None:
    """The split that is there, where tables name one."""
    first = next(iter(plan.chosen["splits"]))
    for table in ("groups", "probe"):
        plan.proposed[table] = {**plan.proposed.get(table, {}), "split": first}


def _read_preprocessing(models: Sequence[Path], data: FoundData) -> dict[str, Any]:
    """Size and scale of images as the first saved classifier that tells them takes them."""
    if data.kind != "images":
        return {}
    found: dict[str, Any] = {}
    for folder in models:
        found = found or read_preprocessing(folder)
    coloured = len(found.get("mean", ())) == 3
    return {**found, "rgb": True} if coloured and data.shape[0] == 1 else found
