"""Names of classes, where models and data tell them: class i must be called the same wherever it has a name.

Transformers keeps the names of a classifier's outputs in `config.id2label`; image sets, folders of classes and the
hub's data sets keep those of their labels. Labels themselves are numbers, so two lists in different orders would be
compared number by number, with a confident wrong answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Subset

from mechconn.core import LABEL_KEYS, Data, MapStyle

Names: TypeAlias = tuple[str, ...]
Relation: TypeAlias = Literal["alike", "reordered", "different"]
SHOWN = 4


def check_label_names(models: Sequence[tuple[str, nn.Module]], data: Mapping[str, Data]) -> None:
    """Raise unless all that have names for their classes call class i the same.

    A list may be longer than another. Differences in case, white space and underscores count for nothing, and neither
    do default names (LABEL_0, LABEL_1, ...); plain numbers ("0", "1", ...) are held against numbers alone.

    Args:
        models: (what errors call it, such as "model A"; the classifier); those without names are passed over.
        data: split -> data, such as a suite.

    Raises:
        ValueError: two of them have the same names in another order, or different ones.
    """
    named = [(what, output_names(model)) for what, model in models]
    named += [(f"split {what!r}", class_names(split)) for what, split in data.items()]
    known = [(what, names) for what, names in named if names is not None]
    for (a, of_a), (b, of_b) in combinations(known, 2):
        found = relation(of_a, of_b)
        if found == "reordered":
            k = next(k for k, (x, y) in enumerate(zip(_keys(of_a), _keys(of_b), strict=False)) if x != y)
            raise ValueError(
                f"{a} and {b} name classes in different orders (class {k} is {of_a[k]!r} and {of_b[k]!r}); bring one "
                "into the order of the other: the rows of a model's last layer with its config.id2label, or the labels "
                "of the data"
            )
        if found == "different":
            raise ValueError(
                f"{a} and {b} name different classes ({_shown(of_a)} against {_shown(of_b)}); if class i means the "
                "same in both, give both one list of names (config.id2label of a Transformers model; label_names = "
                '"ignore" under [model] of a configuration)'
            )


def output_names(model: nn.Module) -> Names | None:
    """The names of a model's outputs, in order, from `config.id2label`; None where it has none of its own.

    Names that were left behind when the last layer was replaced, so that no layer has as many outputs, are none.
    """
    config = _config(model)
    table = config.get("id2label") if isinstance(config, Mapping) else getattr(config, "id2label", None)
    try:
        found = {int(index): str(name) for index, name in table.items()} if isinstance(table, Mapping) else {}
    except (TypeError, ValueError):
        return None
    names = tuple(found[index] for index in sorted(found))
    default = all(re.fullmatch(f"label[_ ]?{index}", name, re.IGNORECASE) for index, name in enumerate(names))
    if default or sorted(found) != list(range(len(found))):
        return None
    outputs = {parameter.shape[0] for parameter in model.parameters() if not is_lazy(parameter) and parameter.dim()}
    return names if len(names) in outputs else None


def name_outputs(model: nn.Module, names: Sequence[str]) -> None:
    """Write the names of its outputs into the configuration of a model of our own."""
    config = _config(model)
    tables = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    for key, table in tables.items():
        if isinstance(config, dict):
            config[key] = table
        else:
            setattr(config, key, table)


def _config(model: nn.Module) -> Any:
    wrapped = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    return getattr(model.module if wrapped else model, "config", None)


def class_names(data: Any) -> Names | None:
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
    inner = _inner(data)
    return None if inner is None else class_names(inner)


def _inner(data: Any) -> Any:
    """The data set that another one takes its labels from; None where it has labels of its own."""
    if isinstance(data, DataLoader | Subset):
        return data.dataset
    if isinstance(data, MapStyle):
        return data.samples
    ours = type(data).__module__.startswith("mechconn.")
    return next((getattr(data, name) for name in ("content", "source", "scenes") if ours and hasattr(data, name)), None)


def relation(a: Names, b: Names) -> Relation:
    """Whether the shorter list is the longer one's start, or holds names of it in other places.

    Example:
        >>> relation(("neg", "pos"), ("Neg", "POS", "other")), relation(("neg", "pos"), ("pos", "neg"))
        ('alike', 'reordered')
        >>> relation(("0", "1"), ("neg", "pos")), relation(("bad", "good"), ("neg", "pos"))
        ('alike', 'different')
    """
    short, long = sorted((_keys(a), _keys(b)), key=len)
    if short == long[: len(short)]:
        return "alike"
    if set(short) <= set(long):
        return "reordered"
    return "alike" if any(keys == tuple(map(str, range(len(keys)))) for keys in (short, long)) else "different"


def places(names: Names, wanted: Names) -> list[int] | None:
    """Where each class stands in `names`, those of `wanted` first, in its order; None where a name is missing or twice.

    Example:
        >>> places(("dog", "cat", "cow"), ("Cat", "Dog"))
        [1, 0, 2]
    """
    own, asked = _keys(names), _keys(wanted)
    if len(set(own)) < len(own) or not set(asked) <= set(own):
        return None
    first = [own.index(key) for key in asked]
    return first + [place for place in range(len(own)) if place not in first]


def _keys(names: Names) -> Names:
    """Names without case, white space, underscores and zeros before numbers; as they are where that merges two."""
    plain = (re.sub(r"[\s_]+", "", unicodedata.normalize("NFKC", name)).casefold() for name in names)
    keys = tuple(str(int(key)) if key.isdecimal() else key for key in plain)
    return keys if len(set(keys)) == len(set(names)) else names


def _shown(names: Names) -> str:
    listed = ", ".join(map(repr, names[:SHOWN]))
    return listed if len(names) <= SHOWN else f"{listed}, ... ({len(names)})"
