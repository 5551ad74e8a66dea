"""Tables of outputs: a .csv, .tsv or .parquet file for each split and draw, a label and the outputs in each row."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.core import (
    CUE,
    Compute,
    Progress,
    check_choice,
    check_is,
    check_samples,
    number_ids,
    require_extra,
    resolve_compute,
    write_atomically,
)
from mechconn.datasets._outputs import (
    GivenSplit,
    ModelOutputs,
    compute_model_outputs,
    is_exact_in_float32,
    make_model_outputs,
)
from mechconn.datasets._parquet import explain_parquet_errors
from mechconn.datasets._suite import Suite
from mechconn.datasets._table_splits import check_column
from mechconn.datasets._tables import check_values, read_columns

FileName: TypeAlias = str | os.PathLike[str]
SUFFIXES = (".csv", ".tsv", ".parquet")
ID = "id"
LINKED = "linked_id"
"""The column of the groups of rows that show something of each other."""
NO_OUTPUTS = {"", ID, "ids", "index", "idx", "row", "split", "draw", "seed", "fold"}
"""Columns of numbers that are no outputs, beside those whose names end in _id."""
NUMBERED = re.compile(r"(?:(.*)_)?(\d+)")


def load_outputs(
    files: Mapping[str, FileName | Sequence[FileName]],
    *,
    label: str = "label",
    outputs: Sequence[str] | None = None,
    reference: str | None = None,
    interventions: tuple[str, ...] | None = None,
    paired: bool | None = None,
) -> ModelOutputs:
    r"""Precomputed outputs of a model, to measure and compare in its place.

    A file has a header and a row for each sample: its label, and the model's outputs, as a rule logits. A column "id"
    tells which sample a row is of: where the ids of two splits are equal, their rows are known to correspond.

    Args:
        files: split -> its file (.csv, .tsv or .parquet), or a list of files: the split, then further draws of its
            intervention on the same rows.
        label: the column of labels: whole numbers; numbers of a regression; or text, where the columns of the outputs
            are called like the classes.
        outputs: the columns of the outputs, in the order of the classes. Default: the columns whose names end in _0,
            _1, ... (logit_0, logit_1, ...), in the order of the numbers; where there are none, all columns of numbers
            but labels and ids, each called like its class. One column alone that has no number gives outputs [N].
        reference: the split that interventions start from; default: "cue".
        interventions: see `Suite`.
        paired: see `Suite`.

    Returns:
        The outputs, float32 where that holds every number of the files exactly, else float64, and a suite that stands
        for the data.

    Raises:
        ValueError: a file that cannot be read, lacks a column, or holds text, NaN or nothing in a column of numbers;
            columns of outputs that differ between files or are ambiguous; draws of other rows.
        FileNotFoundError: no such file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name, second in (("cue", 2.5), ("rand_cue", -2.5)):
        ...     _ = (folder / f"{name}.csv").write_text(f"label,logit_0,logit_1\n0,1.5,0\n1,0,{second}\n")
        >>> given = load_outputs({name: folder / f"{name}.csv" for name in ("cue", "rand_cue")})
        >>> given
        ModelOutputs(cue: 2 x 2, rand_cue: 2 x 2)
        >>> given.outputs["rand_cue"].tolist()
        [[1.5, 0.0], [0.0, -2.5]]
    """
    check_is("files", files, Mapping, "; expected {split: file or list of files}")
    tables = {
        name: [_read_output_table(file, label, outputs) for file in _list_files(name, of)] for name, of in files.items()
    }
    every = [table for of in tables.values() for table in of]
    for table in every[1:]:
        _check_same_columns(every[0], table)
    for of in tables.values():
        for table in of[1:]:
            _check_same_rows(of[0], table)
    columns = every[0].columns if every else ()
    return make_model_outputs(
        {name: tuple(table.select_outputs(columns) for table in of) for name, of in tables.items()},
        {
            name: [GivenSplit(table.labels, name, table.ids, table.classes, table.linked) for table in of]
            for name, of in tables.items()
        },
        CUE if reference is None else reference,
        interventions,
        paired,
    )


def save_outputs(
    model: nn.Module | ModelOutputs,
    suite: Suite,
    folder: FileName,
    *,
    suffix: str = ".csv",
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> dict[str, list[Path]]:
    """Write a model's outputs on a suite for `load_outputs`: a file for each split and each further draw.

    A file has the columns label, output_0, output_1, ... (of outputs [N] one column, output) and, where the data have
    `ids` or rows are known to correspond, id; where rows show something of each other, also linked_id, their groups.
    Numbers are written exactly, and are those that `measure_invariance` with
    the same seed and `compute` sees, so that effects of the outputs are those of the model.

    Args:
        model: any network with outputs [N] or [N, K]; it stays as it is.
        suite: the reference and its counterfactuals, with one label for each row.
        folder: where to write; it is made where it is not there. Files of the same names are replaced.
        suffix: ".csv", ".tsv" or ".parquet".
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts splits.

    Returns:
        Split -> its files, as `load_outputs` takes them.

    Raises:
        ValueError: outputs or targets of another shape, a split whose name is no name of a file.

    Example:
        >>> import tempfile
        >>> y = torch.tensor([0, 1])
        >>> suite = Suite({"cue": (torch.eye(2), y), "rand_cue": (torch.eye(2).flip(1), y)})
        >>> files = save_outputs(nn.Identity(), suite, tempfile.mkdtemp())
        >>> files["rand_cue"][0].read_text().split()
        ['label,output_0,output_1', '0,0.0,1.0', '1,1.0,0.0']
    """
    check_is("suite", suite, Suite, "; build one with Suite({name: data, ...})")
    check_choice("suffix", suffix, SUFFIXES)
    compute = resolve_compute(compute, device, progress)
    folder = Path(folder)
    for name in suite:
        if not name or Path(name).name != name or "\\" in name or name.startswith("."):
            raise ValueError(f"split {name!r} cannot be the name of a file; rename it")
    given = model if isinstance(model, ModelOutputs) else compute_model_outputs(model, suite, seed, compute)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[Path]] = {}
    for name, draws in given.draws.items():
        for number, (outputs, data) in enumerate(zip(draws, given.suite.draws_of(name).values(), strict=True), start=1):
            file = folder / (f"{name}{suffix}" if number == 1 else f"{name}.draw{number}{suffix}")
            write_atomically(file, _write_table(_make_columns(outputs, data), suffix))
            files.setdefault(name, []).append(file)
    return files


# ---------------------------------------------------------------- reading


def _list_files(name: str, files: FileName | Sequence[FileName]) -> list[Path]:
    listed = [Path(files)] if isinstance(files, str | os.PathLike) else [Path(file) for file in files]
    if not listed:
        raise ValueError(f"split {name!r} has no file; give one, and one more for each further draw")
    return listed


@dataclass(frozen=True, eq=False)
class _OutputTable:
    file: Path
    columns: tuple[str, ...]
    numbers: Mapping[str, Tensor]
    labels: Tensor
    ids: Tensor | None
    classes: tuple[str, ...] | None
    linked: Tensor | None = None

    def select_outputs(self, columns: Sequence[str]) -> Tensor:
        """The outputs in this order of columns."""
        found = torch.stack([self.numbers[name] for name in columns], 1)
        return found[:, 0] if len(columns) == 1 and NUMBERED.fullmatch(columns[0]) is None else found


def _read_output_table(file: Path, label: str, outputs: Sequence[str] | None) -> _OutputTable:
    held = _read_file(file)
    check_column(file, label, held)
    check_values(file, label, held[label])
    others = {name: values for name, values in held.items() if name != label}
    columns = _find_outputs(file, others) if outputs is None else tuple(outputs)
    for name in columns:
        check_column(file, name, others)
    numbers = {name: _read_numbers(file, name, others[name]) for name in columns}
    named = len(columns) > 1 and not any(map(NUMBERED.fullmatch, columns))
    ids = next((number_ids(held[name]) for name in (ID, "ids") if name in others and name not in columns), None)
    linked = number_ids(held[LINKED]) if LINKED in others and LINKED not in columns else None
    return _OutputTable(
        file, columns, numbers, _read_labels(file, label, held, columns), ids, columns if named else None, linked
    )


def _read_file(file: Path) -> Mapping[str, Sequence[Any]]:
    """Column -> its values, text or as parquet holds them."""
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file} must be a table of outputs, {', '.join(SUFFIXES)}, got {file.suffix or 'no suffix'}")
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; name the file with the outputs of the split")
    if file.suffix != ".parquet":
        return read_columns(file, "auto")
    with require_extra("reading parquet files"):
        import pyarrow.parquet as parquet
    with explain_parquet_errors(file):
        table = parquet.read_table(file)
    check_samples(file, table.num_rows)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _find_outputs(file: Path, columns: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """The columns of the outputs by their names, else all columns of numbers that are no ids."""
    listed = f"columns: {', '.join(columns) or 'none'} beside the label"
    sets: dict[str | None, dict[int, str]] = {}
    for name in columns:
        if match := NUMBERED.fullmatch(name):
            sets.setdefault(match[1], {})[int(match[2])] = name
    if len(sets) > 1:
        raise ValueError(
            f"{file}: several sets of columns may be the outputs ({', '.join(of[min(of)] for of in sets.values())}, "
            f"...); name them in order: outputs=[...] ({listed})"
        )
    for of in sets.values():
        if sorted(of) != list(range(len(of))):
            raise ValueError(
                f"{file}: the columns of the outputs are not numbered from 0 without gaps "
                f"({', '.join(of[k] for k in sorted(of))}); name them in order: outputs=[...]"
            )
        return tuple(of[k] for k in range(len(of)))
    found = tuple(
        name
        for name, values in columns.items()
        if name not in NO_OUTPUTS and not name.endswith("_id") and any(_is_number(value) for value in values)
    )
    if not found:
        raise ValueError(f"{file} has no column of outputs; name them in order: outputs=[...] ({listed})")
    return found


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and _to_float(value) is not None


def _to_float(value: Any) -> float | None:
    """A number; None of anything else, such as digits with underscores, which are a number to Python alone."""
    if isinstance(value, str) and "_" in value:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _read_numbers(file: Path, column: str, values: Sequence[Any]) -> Tensor:
    """One column of outputs, float64 of shape [N]."""
    # NaN has a line of its own below.
    check_values(file, column, [None if value is None or value == "" else 0 for value in values])
    numbers = [_to_float(value) for value in values]
    for row, number in enumerate(numbers):
        if number is None:
            raise ValueError(f"{file} row {row}: {values[row]!r} in column {column!r} is no number, and outputs are")
        if number != number:
            raise ValueError(f"{file} row {row}: column {column!r} holds NaN; outputs must be numbers")
    return torch.tensor(numbers, dtype=torch.float64)


def _read_labels(file: Path, label: str, columns: Mapping[str, Sequence[Any]], outputs: tuple[str, ...]) -> Tensor:
    """Whole numbers int64, other numbers float, names as the numbers of the outputs that are called so."""
    values = columns[label]
    numbers = [_to_float(value) for value in values]
    if all(number is not None and number == number for number in numbers):
        if all(isinstance(value, int) or re.fullmatch(r"[+-]?\d+", str(value)) for value in values):
            return torch.tensor([int(value) for value in values])
        found = torch.tensor(numbers, dtype=torch.float64)
        if len(outputs) > 1 and bool((found == found.round()).all()):  # classes that went through floating point
            return found.long()
        return found.float() if is_exact_in_float32(found) else found
    places = {name: number for number, name in enumerate(outputs)}
    for row, value in enumerate(values):
        if str(value) not in places:
            raise ValueError(
                f"{file} row {row}: label {value!r} in column {label!r} is no number, and no column of outputs is "
                f"called so ({', '.join(outputs[:4])}{', ...' if len(outputs) > 4 else ''}); number the classes, or "
                "name the columns like them"
            )
    return torch.tensor([places[str(value)] for value in values])


def _check_same_columns(first: _OutputTable, table: _OutputTable) -> None:
    if set(first.columns) != set(table.columns):
        shown = [f"{file.file} has {len(file.columns)} ({', '.join(file.columns[:4])}, ...)" for file in (first, table)]
        raise ValueError(f"outputs must be of the same classes in every file: {' and '.join(shown)}")


def _check_same_rows(first: _OutputTable, table: _OutputTable) -> None:
    """Raise unless a draw has the rows of the split."""
    hint = "a draw is of the same rows as the split, with one latent drawn anew"
    if len(first.labels) != len(table.labels):
        raise ValueError(f"{table.file} has {len(table.labels)} rows and {first.file} has {len(first.labels)}; {hint}")
    differs = (first.labels != table.labels).nonzero().flatten()
    if len(differs):
        row = int(differs[0])
        raise ValueError(
            f"{table.file} row {row}: the label is {table.labels[row].item()}, and {first.labels[row].item()} in "
            f"{first.file}; {hint}"
        )
    if first.ids is not None and table.ids is not None:
        differs = (first.ids != table.ids).nonzero().flatten()
        if len(differs):
            raise ValueError(
                f"{table.file} row {int(differs[0])}: the id is another than in {first.file} ({len(differs)} rows "
                f"differ); {hint}"
            )


# ---------------------------------------------------------------- writing


def _make_columns(outputs: Tensor, data: Any) -> dict[str, list[Any]]:
    parts = (
        {f"output_{k}": outputs[:, k] for k in range(outputs.shape[1])} if outputs.dim() > 1 else {"output": outputs}
    )
    known = {} if data.ids is None else {ID: data.ids}
    known |= {} if data.linked is None else {LINKED: data.linked}
    return {name: column.tolist() for name, column in {**known, "label": data.y, **parts}.items()}


def _write_table(columns: Mapping[str, list[Any]], suffix: str) -> bytes:
    """A table as the content of a file; floating point as the shortest text that gives the same number."""
    if suffix == ".parquet":
        return _write_parquet(columns)
    delimiter = "\t" if suffix == ".tsv" else ","
    rows = [list(columns), *(map(repr, row) for row in zip(*columns.values(), strict=True))]
    return "".join(f"{delimiter.join(row)}\n" for row in rows).encode()


def _write_parquet(columns: Mapping[str, list[Any]]) -> bytes:
    with require_extra("writing parquet files"):
        import pyarrow
        import pyarrow.parquet as parquet
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(dict(columns)), sink)
    return sink.getvalue().to_pybytes()
