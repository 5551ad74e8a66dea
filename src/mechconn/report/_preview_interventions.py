"""Samples of data under each of several interventions, to check by eye."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mechconn.core import TOKEN_IDS, TOKEN_MASK, Picture, SampleSource, collect_errors, derive_seed, select_rows
from mechconn.datasets import make_strips, read_class_names
from mechconn.interventions import Intervention, intervened, read_intervention

PICTURES, WRITTEN = 10, 3
"""How many samples are shown: of images, and of texts and tables."""
COLUMNS = 8
"""Most columns of a table that are shown in a line."""
Decode = Callable[[Sequence[int]], str]
"""Token ids -> their text."""


@dataclass(frozen=True)
class InterventionPreview:
    """The same samples under each of several interventions.

    Attributes:
        pictures: name -> samples side by side, the data as they are first; empty where they are no images.
        text: the same in words, of texts and tables; empty of images.
        left_out: name -> why nothing is shown of it.
    """

    pictures: Mapping[str, Picture] = field(default_factory=dict)
    text: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)


def preview_interventions(
    data: SampleSource,
    functions: Mapping[str, Any],
    *,
    reference: str = "data",
    seed: int = 0,
    strength: float | None = None,
    count: int | None = None,
    decode: Decode | None = None,
) -> InterventionPreview:
    """A few rows of the data, evenly spaced, and what each intervention makes of them.

    Args:
        data: images, texts or a table.
        functions: name -> what `intervened` takes; drawn as it draws them.
        reference: what the data are called.
        seed: of the draws.
        strength: of every intervention, in [0, 1], and those that have none are left out; default: as each draws it.
        count: rows that are shown; default: ten images, three texts or rows of a table.
        decode: the text of token ids; without it texts are shown as ids.

    Raises:
        ValueError: interventions that do not suit the data, a line for each; none is left to show.
    """
    left_out = {} if strength is None else _list_without_strength(functions)
    kept = {name: value for name, value in functions.items() if name not in left_out}
    if not kept:
        reasons = "; ".join(f"{name} ({why})" for name, why in left_out.items())
        raise ValueError(f"no intervention is left to show: {reasons or 'none is named'}; name others")
    found = collect_errors(
        *(lambda n=name, v=value: _apply(data, n, v, seed, strength) for name, value in kept.items())
    )
    shown = {reference: data, **dict(zip(kept, found, strict=True))}
    first = data.inputs(torch.tensor([0]))
    pictured = isinstance(first, Tensor) and first.dim() == 4
    wanted = min(count or (PICTURES if pictured else WRITTEN), len(data))
    rows = torch.arange(wanted) * len(data) // wanted
    if pictured:
        strips = make_strips({name: select_rows(part, rows) for name, part in shown.items()}, wanted)
        return InterventionPreview(pictures=strips, left_out=left_out)
    inputs = {name: part.inputs(rows) for name, part in shown.items()}
    lines = _list_texts(inputs, decode) if _holds_texts(first) else _list_numbers(inputs)
    return InterventionPreview(text=_write_rows(data, rows, lines), left_out=left_out)


def _list_without_strength(functions: Mapping[str, Any]) -> dict[str, str]:
    """Name -> why its strength cannot be set."""
    found = {name: read_intervention(name, value) for name, value in functions.items()}
    return {
        name: "it has no strength that can be set"
        for name, function in found.items()
        if not isinstance(function, Intervention) or type(function).draw_at is Intervention.draw_at
    }


def _apply(data: SampleSource, name: str, value: Any, seed: int, strength: float | None) -> Any:
    """The data after one intervention, as `intervened` draws it.

    Raises:
        ValueError, TypeError: it does not suit the data.
    """
    try:
        if strength is None:
            return intervened(data, {name: value}, reference="", seed=seed)[name]
        function = read_intervention(name, value)
        assert isinstance(function, Intervention)
        return function(data, derive_seed(seed, "intervened", name), strength)
    except (ValueError, TypeError) as error:
        text = str(error)
        raise type(error)(text if repr(name) in text else f"the intervention {name!r}: {text}") from error


def _holds_texts(x: Any) -> bool:
    return isinstance(x, Mapping) and TOKEN_IDS in x


def _list_texts(inputs: Mapping[str, Mapping[str, Tensor]], decode: Decode | None) -> dict[str, list[str]]:
    """Name -> a line for each row: its text, without padding."""

    def write(ids: Tensor, mask: Tensor) -> str:
        kept = ids[mask.bool()].tolist()
        return " ".join(map(str, kept)) if decode is None else " ".join(decode(kept).split())

    return {name: [write(*row) for row in zip(x[TOKEN_IDS], x[TOKEN_MASK], strict=True)] for name, x in inputs.items()}


def _list_numbers(inputs: Mapping[str, Any]) -> dict[str, list[str]]:
    """Name -> a line for each row: of the reference its columns, of others those that differ from it."""
    tables = {name: _flatten(x) for name, x in inputs.items()}
    (first, (heads, reference)), *others = tables.items()
    plain = [
        _shorten([f"{head} = {value:.4g}" for head, value in zip(heads, row, strict=True)])
        for row in reference.tolist()
    ]

    def compare(before: Sequence[float], after: Sequence[float]) -> str:
        pairs = zip(heads, before, after, strict=True)
        return _shorten([f"{head}: {old:.4g} -> {new:.4g}" for head, old, new in pairs if old != new]) or "unchanged"

    changed = {
        name: [compare(*row) for row in zip(reference.tolist(), values.tolist(), strict=True)]
        for name, (_, values) in others
    }
    return {first: plain, **changed}


def _shorten(parts: Sequence[str]) -> str:
    more = f", and {len(parts) - COLUMNS} more" if len(parts) > COLUMNS else ""
    return f"{', '.join(parts[:COLUMNS])}{more}"


def _flatten(x: Any) -> tuple[list[str], Tensor]:
    """(names of columns, their values [N, D]) of a matrix, or of a mapping of names to columns."""
    parts = dict(x) if isinstance(x, Mapping) else {"": x}
    heads, columns = [], []
    for name, part in parts.items():
        flat = part.reshape(len(part), -1).double().cpu()
        columns.append(flat)
        alone = name and flat.shape[1] == 1
        heads += [name] if alone else [f"{name}[{n}]" if name else str(n) for n in range(flat.shape[1])]
    return heads, torch.cat(columns, 1)


def _write_rows(data: SampleSource, rows: Tensor, lines: Mapping[str, Sequence[str]]) -> str:
    """The rows under each other, each with a line for every intervention."""
    names, width = read_class_names(data), max(map(len, lines))
    parts: list[str] = []
    for number, row in enumerate(rows.tolist()):
        label = data.y[row]
        told = names[int(label)] if names is not None else label.tolist()
        parts += [f"row {row}, label {told}"]
        parts += [f"  {name.ljust(width)}  {found[number]}".rstrip() for name, found in lines.items()]
        parts += [""]
    return "\n".join(parts[:-1]) + "\n"
