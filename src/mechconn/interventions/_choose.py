"""Which interventions a user means, and which of them suit the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from mechconn.core import (
    SampleSource,
    check_choice,
    collect_errors,
    construct,
    copy_inputs,
    isolate_rng,
    list_kinds,
    show_value,
)
from mechconn.datasets import Normalised
from mechconn.interventions._intervened import Function, read_intervention
from mechconn.interventions._intervention import IntervenedSet, Intervention, Kind, lift_scale
from mechconn.interventions._row_trial import are_same, name_parts
from mechconn.interventions._table_columns import ColumnIntervention, list_table_columns

Named: TypeAlias = "Intervention | Function | str | Mapping[str, Any]"
"""An intervention, a function, the name of one, or a table of a name and options."""
LabelChanging: TypeAlias = Literal["leave out", "keep"]
LABEL_CHANGING: tuple[LabelChanging, ...] = ("leave out", "keep")
READ_TWICE = 16
"""Rows that are read twice."""
DESCRIBED = 200
"""Characters of a description."""
MOST_COLUMNS = 200
"""Columns of a table that are swapped one by one where none is named."""


@dataclass(frozen=True)
class Chosen:
    """Interventions to apply, and those left out.

    Attributes:
        functions: name -> intervention or function.
        left_out: name -> why it is not among them.
        changing: name -> why the label for people is another one after it, of those kept all the same.
    """

    functions: dict[str, Intervention | Function] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    changing: dict[str, str] = field(default_factory=dict)


def choose_interventions(
    source: SampleSource,
    named: Sequence[Named] | Mapping[str, Named] | None = None,
    label_changing: LabelChanging = "leave out",
) -> Chosen:
    """The interventions that are named, or all of this package's that suit the data.

    Args:
        source: the data.
        named: a list or a mapping of names to interventions, functions, names, or tables of a name and options; None:
            all of the data's kind that need no options. Of a table "swap-column" and "bin-column" without `columns`
            stand for one of every column.
        label_changing: what becomes of those after which people give another label.

    Raises:
        ValueError: one that does not suit the data, an unknown name or option, the same name twice, nothing that
            suits them, or data that give a row other inputs when it is read again.
        TypeError: neither interventions nor functions nor names.
    """
    check_choice("label_changing", label_changing, LABEL_CHANGING)
    check_read_again(source)
    source = lift_scale(source)
    scenes = source.scenes if isinstance(source, Normalised) else source
    chosen = Chosen()
    if named is None:
        _choose_suitable(scenes, chosen)
    else:
        _choose_named(scenes, named, chosen)
    for name, function in list(chosen.functions.items()):
        why = function.explain_label_change(scenes) if isinstance(function, Intervention) else ""
        if why and label_changing == "keep":
            chosen.changing[name] = why
        elif why:
            chosen.left_out[name] = f"it changes the label for people: {why}"
            del chosen.functions[name]
    if not chosen.functions:
        reasons = "; ".join(f"{name} ({why})" for name, why in chosen.left_out.items())
        raise ValueError(
            f"no intervention is left to apply{f': {reasons}' if reasons else ''}; name others, interventions=[...], "
            'or keep those that change labels, label_changing="keep" (--keep-label-changing)'
        )
    return chosen


def check_read_again(source: SampleSource) -> None:
    """Raise ValueError where the first rows are others when they are read again, as under random augmentation."""
    index = torch.arange(min(READ_TWICE, len(source)))
    with isolate_rng(0, "probe"):
        first, again = (name_parts(copy_inputs(source.inputs(index))) for _ in range(2))
    if first.keys() != again.keys() or not all(are_same(first[name], again[name]) for name in first):
        raise ValueError(
            "the data give a row other inputs when it is read again, as random augmentation does, and an effect would "
            "hold that too; give them the transform of evaluation, which draws nothing"
        )


def describe_intervention(intervention: Intervention) -> str:
    """An intervention with its options; long lists of words are cut."""
    return shorten(repr(intervention), DESCRIBED, placeholder=" ...")


def find_kind_of_data(x: Any) -> Kind:
    """What inputs are: images [N, C, H, W], texts with input_ids, tables [N, D] or of named columns, or others."""
    if isinstance(x, Mapping):
        return "texts" if "input_ids" in x else "tables"
    if isinstance(x, Tensor):
        return {4: "images", 2: "tables"}.get(x.dim(), "any")  # pyright: ignore[reportReturnType]
    return "any"


def _choose_suitable(scenes: SampleSource, chosen: Chosen) -> None:
    """All built-in ones of the data's kind; what does not suit them is left out with its reason."""
    x = scenes.inputs(torch.tensor([0]))
    kind = find_kind_of_data(x)
    if kind == "any":
        raise ValueError(
            "these inputs are neither images [N, C, H, W] nor texts with input_ids nor a table [N, D], for which there "
            "are interventions; name some of your own, interventions=[...]"
        )
    for name, found in list_kinds(Intervention, built_in=True).items():
        if found.takes != kind or not found.by_default:
            continue
        try:
            for own, intervention in _expand(name, found, {}, x).items():
                _try_on(intervention, scenes, x)
                chosen.functions[own] = intervention
        except ValueError as error:
            chosen.left_out[name] = str(error)


def _choose_named(scenes: SampleSource, named: Sequence[Named] | Mapping[str, Named], chosen: Chosen) -> None:
    if isinstance(named, str) or not isinstance(named, Sequence | Mapping):
        raise TypeError(
            f"interventions must be a list such as ['patch', 'grey'] or a mapping of names, got {show_value(named)}"
        )
    x = scenes.inputs(torch.tensor([0]))
    entries = list(named.items()) if isinstance(named, Mapping) else [(None, value) for value in named]
    _check_texts([own for own, _ in entries if own is not None])

    def read(own: str | None, value: Named) -> dict[str, Intervention | Function]:
        found = _read_entry(own, value, x)
        for intervention in found.values():
            if isinstance(intervention, Intervention):
                _try_on(intervention, scenes, x)
        return found

    for found in collect_errors(*(lambda own=own, value=value: read(own, value) for own, value in entries)):
        for name, function in found.items():
            if name in chosen.functions:
                raise ValueError(f"interventions name {name!r} twice; pass a mapping, {{'a name of your own': ...}}")
            chosen.functions[name] = function


def _check_texts(names: Sequence[Any]) -> None:
    """Raise TypeError where names that were given are no texts."""
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong:
        raise TypeError(
            f"interventions are named by texts, as in {{'mine': 'grey'}}, got the name {show_value(wrong[0])}"
        )


def _read_entry(own: str | None, value: Named, x: Any) -> dict[str, Intervention | Function]:
    """Name -> the interventions that one entry stands for."""
    if isinstance(value, str | Mapping):
        name = value if isinstance(value, str) else value.get("name")
        options = {} if isinstance(value, str) else {k: v for k, v in value.items() if k != "name"}
        kind = list_kinds(Intervention).get(str(name))
        if kind is not None and issubclass(kind, ColumnIntervention) and "columns" not in options:
            return dict(_expand(own or str(name), kind, options, x))
    called = value.get("name") if isinstance(value, Mapping) else value
    found = read_intervention(own or (called if isinstance(called, str) else "listed"), value)
    return {own or _name(value, found): found}


def _name(value: Named, found: Intervention | Function) -> str:
    """What an entry without a name of its own is called."""
    if isinstance(value, str):
        return value.rpartition(":")[2]
    if isinstance(found, ColumnIntervention):
        return _name_columns(found.registered_name, found.listed)
    return found.registered_name if isinstance(found, Intervention) else getattr(found, "__name__", "a function")


def _name_columns(name: str, columns: Sequence[int | str]) -> str:
    return f"{name} {', '.join(map(str, columns))}"


def _expand(name: str, kind: type, options: Mapping[str, Any], x: Any) -> dict[str, Intervention]:
    """The intervention with these options; of a table's one for every column that it can be applied to."""
    if not issubclass(kind, ColumnIntervention):
        return {name: construct(f"the intervention {name!r}", kind, options)}
    columns = list_table_columns(kind.__name__, x)
    if len(columns) > MOST_COLUMNS:
        raise ValueError(
            f"{name} of every column is for tables of {MOST_COLUMNS} columns at most, got {len(columns)}; name some, "
            f"{{'name': {kind.registered_name!r}, 'columns': 0}}"
        )
    found: dict[str, Intervention] = {}
    unsuited: list[ValueError] = []
    for column in columns:
        own = _name_columns(name, [column])
        intervention = read_intervention(own, {"name": kind.registered_name, **options, "columns": column})
        assert isinstance(intervention, kind)
        try:
            intervention.check_inputs(x)
            found[own] = intervention
        except ValueError as error:
            unsuited.append(error)
    if not found and unsuited:
        raise unsuited[0]
    return found


def _try_on(intervention: Intervention, scenes: SampleSource, x: Any) -> None:
    """Raise ValueError where an intervention does not suit the data."""
    given = scenes.latents if isinstance(scenes, IntervenedSet) else ()
    if same := [known for known, _ in given if known.latent == intervention.latent]:
        raise ValueError(
            f"the data show {describe_intervention(same[0])} already, which {type(intervention).__name__} would "
            "replace; pass the data before it, or name another intervention"
        )
    intervention.check_inputs(x)
    intervention.prepare(scenes)
