"""Names of classes, where models and data tell them: class i must be called the same wherever it has a name.

Transformers keeps the names of a classifier's outputs in `config.id2label`; image sets, folders of classes and the
hub's data sets keep those of their labels. Labels themselves are numbers, so two lists in different orders would be
compared number by number, with a confident wrong answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any, Literal, TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Subset

from mechconn.core import LABEL_KEYS, Data, MapStyle, PerSampleLoss
from mechconn.losses import as_loss

LabelNames: TypeAlias = tuple[str, ...]
Relation: TypeAlias = Literal["alike", "reordered", "different"]
SHOWN = 4


def check_label_names(
    models: Sequence[tuple[str, Any]], data: Mapping[str, Data], loss: PerSampleLoss | None = None
) -> None:
    """Raise unless all that have names for their classes call class i the same.

    A list may be longer than another. Differences in case, white space and underscores count for nothing, and neither
    do default names (LABEL_0, LABEL_1, ...); plain numbers ("0", "1", ...) are held against numbers alone.

    Args:
        models: (what errors call it, such as "model A"; the classifier); those without names are passed over.
        data: split -> data, such as a suite.
        loss: one that joins outputs to classes: then the names of outputs are held against those of the classes that
            join them.

    Raises:
        ValueError: two of them have the same names in another order, or different ones.
    """
    outputs = [(what, names) for what, model in models if (names := read_output_names(model)) is not None]
    classes = [(f"split {what!r}", names) for what, own in data.items() if (names := read_class_names(own)) is not None]
    parts = None if loss is None else as_loss(loss).joins()
    if parts is None:
        _check_alike([*outputs, *classes])
        return
    _check_alike(outputs)
    _check_alike(classes)
    for (model, own), (split, names) in product(outputs, classes):
        _check_joined(model, own, split, names, parts)


def _check_joined(
    model: str, outputs: LabelNames, split: str, classes: LabelNames, parts: Sequence[Sequence[int]]
) -> None:
    """Raise where a class is called as an output that another class joins, or its one output otherwise."""
    keys, wanted = _normalise_names(outputs), _normalise_names(classes)
    if wanted == tuple(map(str, range(len(wanted)))):
        return
    for number, (part, key) in enumerate(zip(parts, wanted, strict=False)):
        own = [keys[output] for output in part if output < len(keys)]
        if (key in keys and key not in own) or (len(own) == 1 and own != [key]):
            listed = ", ".join(repr(outputs[output]) for output in part if output < len(keys))
            raise ValueError(
                f"class {number} of {split} is {classes[number]!r}, but the loss joins the outputs {listed} of {model} "
                f"to it; give its parts in the order of the data's classes ({_shorten(classes)})"
            )


def _check_alike(known: Sequence[tuple[str, LabelNames]]) -> None:
    """Raise unless all these lists call class i the same."""
    for (a, of_a), (b, of_b) in combinations(known, 2):
        found = compare_names(of_a, of_b)
        if found == "reordered":
            k = next(
                k
                for k, (x, y) in enumerate(zip(_normalise_names(of_a), _normalise_names(of_b), strict=False))
                if x != y
            )
            raise ValueError(
                f"{a} and {b} name classes in different orders (class {k} is {of_a[k]!r} and {of_b[k]!r}); bring one "
                "into the order of the other: the rows of a model's last layer with its config.id2label, or the labels "
                "of the data"
            )
        if found == "different":
            raise ValueError(
                f"{a} and {b} name different classes ({_shorten(of_a)} against {_shorten(of_b)}); if class i means the "
                "same in both, give both one list of names (config.id2label of a Transformers model; label_names = "
                '"ignore" under [model] of a configuration)'
            )


def read_output_names(model: Any) -> LabelNames | None:
    """The names of a model's outputs, in order, from `config.id2label`; None where it has none.

    Names that were left behind when the last layer was replaced, so that no layer has as many outputs, are none.
    """
    names = read_names(_find_config(model))
    if names is None:
        return None
    outputs = {parameter.shape[0] for parameter in model.parameters() if not is_lazy(parameter) and parameter.dim()}
    return names if len(names) in outputs else None


def read_names(config: Any) -> LabelNames | None:
    """The names in a configuration's `id2label`, in order; None where it has none, or default ones."""
    table = config.get("id2label") if isinstance(config, Mapping) else getattr(config, "id2label", None)
    try:
        found = {int(index): str(name) for index, name in table.items()} if isinstance(table, Mapping) else {}
    except (TypeError, ValueError):
        return None
    names = tuple(found[index] for index in sorted(found))
    default = all(re.fullmatch(f"label[_ ]?{index}", name, re.IGNORECASE) for index, name in enumerate(names))
    return None if default or sorted(found) != list(range(len(found))) else names


def write_output_names(model: nn.Module, names: Sequence[str]) -> None:
    """Write the names of its outputs into the configuration of a model of our own."""
    config = _find_config(model)
    tables = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    for key, table in tables.items():
        if isinstance(config, dict):
            config[key] = table
        else:
            setattr(config, key, table)


def _find_config(model: Any) -> Any:
    wrapped = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    return getattr(model.module if wrapped else model, "config", None)


def read_class_names(data: Any) -> LabelNames | None:
    """The names of the labels of a data set: our own, under cues and interventions too, torchvision's, or the hub's.

    None where the data have none, or where a `target_transform` may have changed the labels.
    """
    if getattr(data, "target_transform", None) is not None:
        return None
    features = getattr(data, "features", None)
    columns = [features.get(key) for key in LABEL_KEYS] if isinstance(features, Mapping) else []
    for names in (getattr(data, "classes", None), *(getattr(column, "names", None) for column in columns)):
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    inner = _find_labelled_data(data)
    return None if inner is None else read_class_names(inner)


def _find_labelled_data(data: Any) -> Any:
    """The data set that another one takes its labels from; None where it has labels of its own."""
    if isinstance(data, DataLoader | Subset):
        return data.dataset
    if isinstance(data, MapStyle):
        return data.samples
    ours = type(data).__module__.startswith("mechconn.")
    return next((getattr(data, name) for name in ("content", "source", "scenes") if ours and hasattr(data, name)), None)


def compare_names(a: LabelNames, b: LabelNames) -> Relation:
    """Whether the shorter list is the longer one's start, or holds names of it in other places.

    Example:
        >>> compare_names(("neg", "pos"), ("Neg", "POS", "other")), compare_names(("neg", "pos"), ("pos", "neg"))
        ('alike', 'reordered')
        >>> compare_names(("0", "1"), ("neg", "pos")), compare_names(("bad", "good"), ("neg", "pos"))
        ('alike', 'different')
        >>> compare_names(("0", "1", "2", "3"), ("1", "2", "3", "4"))
        'different'
    """
    short, long = sorted((_normalise_names(a), _normalise_names(b)), key=len)
    if short == long[: len(short)]:
        return "alike"
    if set(short) <= set(long):
        return "reordered"
    counted = any(keys == tuple(map(str, range(len(keys)))) for keys in (short, long))
    numbers = all(key.isdecimal() for key in (*short, *long))
    return "alike" if counted and not numbers else "different"


def match_names(names: LabelNames, wanted: LabelNames) -> list[int] | None:
    """The place of each class in `names`, those of `wanted` first, in its order; None where a name is missing or twice.

    Example:
        >>> match_names(("dog", "cat", "cow"), ("Cat", "Dog"))
        [1, 0, 2]
    """
    own, asked = _normalise_names(names), _normalise_names(wanted)
    if len(set(own)) < len(own) or not set(asked) <= set(own):
        return None
    first = [own.index(key) for key in asked]
    return first + [place for place in range(len(own)) if place not in first]


def reorder_labels(labels: Sequence[int], names: LabelNames, wanted: LabelNames) -> tuple[list[int], LabelNames]:
    """The same labels as numbers in the order `wanted`, where it holds all names; else as they are.

    Example:
        >>> reorder_labels([0, 1], ("cat", "dog"), ("Dog", "cow", "Cat"))
        ([2, 0], ('Dog', 'cow', 'Cat'))
    """
    places = match_names(wanted, names)
    return (list(labels), names) if places is None else ([places[label] for label in labels], wanted)


def _normalise_names(names: LabelNames) -> LabelNames:
    """Names without case, white space, underscores and zeros before numbers; as they are where that merges two."""
    plain = (re.sub(r"[\s_]+", "", unicodedata.normalize("NFKC", name)).casefold() for name in names)
    keys = tuple(str(int(key)) if key.isdecimal() else key for key in plain)
    return keys if len(set(keys)) == len(set(names)) else names


def _shorten(names: LabelNames) -> str:
    listed = ", ".join(map(repr, names[:SHOWN]))
    return listed if len(names) <= SHOWN else f"{listed}, ... ({len(names)})"
