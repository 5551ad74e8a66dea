"""Natural data divided by whether something observed, such as the background, agrees with the label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mechconn.core import Data, RowSubset, SampleSource, as_data, check_by_index, check_choice, check_is
from mechconn.datasets import (
    Labels,
    Selection,
    check_no_fractions,
    read_class_names,
    read_row_values,
    select_observed_rows,
)

AGREE, CONFLICT = "agree", "conflict"
WITHIN_CLASSES_NOTE = (
    "observational: the two splits hold other rows, so whatever else differs between these within a class counts too; "
    "the effect is the mean over classes, each of equal weight"
)
Agreeing: TypeAlias = Mapping[Any, Any]
"""Label -> the value that agrees with it, or several of them in a list."""


def split_by_agreement(
    data: Data,
    column: Labels,
    *,
    agrees: Agreeing | None = None,
    train_labels: Labels | None = None,
    train_column: Labels | None = None,
) -> dict[str, RowSubset]:
    """Data as two splits: rows whose value in a column agrees with their label, and rows where the two conflict.

    `Suite(split_by_agreement(data, places), reference="agree")` asks whether a model relies on the column. With K
    classes and the accuracy on rows of class c,

        effect = (1 / K) sum_c [accuracy(conflict, c) - accuracy(agree, c)],

    every class of equal weight, so that neither the classes' sizes nor how hard each is count as an effect. A network
    that reads the column alone has effect -1, one that does not use it 0. The comparison is observational: the two
    splits hold other rows, and whatever else differs between these within a class counts too. `Effect.by_class` has
    each class by itself.

    Args:
        data: data that hand out rows by index: a dataset, or an (x, y) pair of tensors. Labels are classes.
        column: a value for each row: numbers or text in a tensor, an array or a list.
        agrees: label -> the value that agrees with it, or a list of these. Labels may be written as the data's names of
            classes. Classes not named here have the value that most rows of the class have in the training data.
        train_labels: labels of the training data, which with `train_column` say what that value is; default: those of
            the data themselves.
        train_column: the column in the training data.

    Returns:
        "agree" and "conflict" -> their rows, each with rows of every class.

    Raises:
        TypeError: the data are batches that cannot be read by row, or one text stands for a column.
        ValueError: another number of values than rows, a row without a value, labels that are no classes, a class
            without rows of one kind, two values that are equally frequent in a class, one value that agrees with all
            classes, a label or value in `agrees` that does not occur.

    Example:
        >>> data = torch.eye(6), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> splits = split_by_agreement(data, ["land", "land", "sea", "sea", "sea", "land"])
        >>> splits["agree"].rows.tolist(), splits["conflict"].rows.tolist()
        ([0, 1, 3, 4], [2, 5])

    Source: the groups of Sagawa et al. 2020; weights by class: direct standardisation.
    """
    found = read_agreement("split_by_agreement", data, column, agrees, train_labels, train_column)
    agree = torch.tensor([value in found.own[label] for label, value in zip(found.labels, found.values, strict=True)])
    _check_rows(found.names, found.labels, agree, found.own)
    return {
        name: select_observed_rows(
            found.source, chosen.nonzero().flatten(), Selection(WITHIN_CLASSES_NOTE, within_classes=True)
        )
        for name, chosen in ((AGREE, agree), (CONFLICT, ~agree))
    }


@dataclass(frozen=True, eq=False)
class ColumnAgreement:
    """Rows with their labels and a column, and which values of it agree with each label.

    Attributes:
        source: the rows.
        labels: of each row.
        values: of the column, row by row.
        names: the labels that occur.
        own: label -> the values that agree with it.
    """

    source: SampleSource
    labels: Sequence[Any]
    values: Sequence[Any]
    names: LabelNames
    own: Mapping[Any, set[Any]]


def read_agreement(
    verb: str,
    data: Data,
    column: Labels,
    agrees: Agreeing | None,
    train_labels: Labels | None,
    train_column: Labels | None,
) -> ColumnAgreement:
    """What agrees with what, from the arguments of `split_by_agreement`."""
    source = check_by_index(verb, as_data("data", data))
    labels, values = _label_rows(verb, source.y), read_row_values("column", column, len(source))
    check_no_fractions("column", values)
    if (train_labels is None) != (train_column is None):
        raise ValueError("train_labels and train_column go together: the labels and the column of the training data")
    known = (labels, values)
    if train_labels is not None and train_column is not None:
        known = read_row_values("train_labels", train_labels, None), read_row_values("train_column", train_column, None)
        if len(known[0]) != len(known[1]):
            counts = f"{len(known[0])} and {len(known[1])}"
            raise ValueError(f"train_labels and train_column must have one value for each row, got {counts}")
    names = LabelNames(sorted(set(labels)), read_class_names(source))
    return ColumnAgreement(
        source, labels, values, names, _find_agreeing_values(names, known, agrees, {*values, *known[1]})
    )


class LabelNames:
    """The labels that occur, and their names."""

    def __init__(self, labels: Sequence[Any], classes: Sequence[str] | None) -> None:
        self.labels, self._classes = list(labels), classes

    def shown(self, label: Any) -> str:
        """What a message calls a class: "1", or "1 ('gull')"."""
        return str(label) if self._named(label) is None else f"{label} ({self._named(label)!r})"

    def _named(self, label: Any) -> str | None:
        names = self._classes
        known = names is not None and isinstance(label, int) and 0 <= label < len(names)
        return None if names is None or not known or names[label] == str(label) else names[label]

    def find(self, key: Any) -> Any:
        """The label that a key of `agrees` stands for: the label itself, its text, or the name of its class."""
        for label in self.labels:
            if key == label or str(key) == str(label) or (isinstance(key, str) and key == self._named(label)):
                return label
        options = [str(self._named(label) or label) for label in self.labels]
        return check_choice("a label of agrees", str(key), options)


def _find_agreeing_values(
    names: LabelNames, known: tuple[list[Any], list[Any]], agrees: Agreeing | None, occurring: set[Any]
) -> dict[Any, set[Any]]:
    """Label -> the values that agree with it."""
    if agrees is not None:
        check_is("agrees", agrees, Mapping, "; write {label: value, ...}")
    named = {names.find(key): _find_values(value, occurring) for key, value in (agrees or {}).items()}
    counts: dict[Any, Counter[Any]] = {label: Counter() for label in names.labels}
    for label, value in zip(*known, strict=True):
        if label in counts:
            counts[label][value] += 1
    own = {label: named.get(label) or _find_most_frequent(names, label, counts[label]) for label in names.labels}
    if len(own) > 1 and all(values == own[names.labels[0]] for values in own.values()):
        shared = ", ".join(sorted(map(repr, own[names.labels[0]])))
        raise ValueError(
            f"{shared} agrees with every class, so no row can be in conflict by it; name the values that belong to "
            "each class, agrees={label: value, ...}"
        )
    return own


def _find_values(value: Any, occurring: set[Any]) -> set[Any]:
    """The values of the column that an entry of `agrees` names."""
    entries = value if isinstance(value, list | tuple | set | frozenset) else [value]
    found = set()
    for entry in entries:
        same = {other for other in occurring if other == entry or str(other) == str(entry)}
        if not same:
            check_choice("a value of agrees", str(entry), sorted(map(str, occurring)))
        found |= same
    if not found:
        raise ValueError("agrees must name a value for each label it lists, got an empty list")
    return found


def _find_most_frequent(names: LabelNames, label: Any, counts: Counter[Any]) -> set[Any]:
    """The value that most rows of a class have."""
    ranked = counts.most_common(2)
    entry = f"agrees={{{label!r}: value}}"
    if not ranked:
        raise ValueError(
            f"the training data have no rows of class {names.shown(label)}; name the value that agrees with it, {entry}"
        )
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        (first, count), (second, _) = ranked
        raise ValueError(
            f"class {names.shown(label)} has as many rows of {first!r} as of {second!r} ({count}), so neither is the "
            f"majority; name the value that agrees with it, {entry}"
        )
    return {ranked[0][0]}


def _check_rows(names: LabelNames, labels: Sequence[Any], agree: Tensor, own: Mapping[Any, set[Any]]) -> None:
    """Raise unless every class has rows that agree and rows that conflict; all that have none are named."""
    counts = Counter(zip(labels, agree.tolist(), strict=True))
    bare = [label for label in names.labels if not (counts[label, True] and counts[label, False])]
    if bare:
        listed = "; ".join(
            f"class {names.shown(label)} has {counts[label, True]} rows that agree "
            f"({', '.join(sorted(map(str, own[label])))}) and {counts[label, False]} in conflict"
            for label in bare
        )
        raise ValueError(
            f"a comparison within classes needs rows of both kinds in every class: {listed}; add rows, name other "
            "values with agrees={label: value}, or leave these classes out of the data"
        )


def _label_rows(verb: str, y: Tensor) -> list[Any]:
    """The label of each row."""
    flat = y.flatten() if y.dim() == 2 and y.shape[1] == 1 else y
    if flat.dim() != 1 or flat.is_floating_point() or flat.is_complex():
        got = f"{str(y.dtype).removeprefix('torch.')} {list(y.shape)}"
        raise ValueError(f"{verb} needs a class for each row, whole numbers of shape [N], got {got}")
    return flat.tolist()
