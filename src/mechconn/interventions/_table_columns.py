"""Interventions on the columns of tables: values of other rows, and values without what tells them within a bin."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import Data, SampleSource, check_count, show_value
from mechconn.interventions._donors import Donors, Within, find_donors
from mechconn.interventions._draws import Draws
from mechconn.interventions._graded import GradedIntervention
from mechconn.interventions._intervention import Kind, SideData

Columns: TypeAlias = int | str | tuple[int | str, ...]
"""A column, or several: by number in inputs [N, D], by name in a mapping of names to tensors [N, ...]."""
BATCH = 4096
"""Rows that are read at a time while a column is looked at."""


@dataclass(frozen=True, kw_only=True)
class ColumnIntervention(GradedIntervention, abc.ABC):
    """An intervention on columns of a table: base of those here."""

    takes: ClassVar[Kind] = "tables"

    columns: Columns

    @property
    def listed(self) -> tuple[int | str, ...]:
        """The columns, each once."""
        return tuple(dict.fromkeys(self.columns)) if isinstance(self.columns, tuple | list) else (self.columns,)

    @property
    def latent(self) -> Hashable:
        """These columns; other columns are other latents."""
        return type(self), frozenset(self.listed)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.listed or any(isinstance(c, bool) or not isinstance(c, int | str) for c in self.listed):
            raise ValueError(
                f"columns must be numbers or names of columns, one or more, got {show_value(self.columns)}"
            )

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no table, or lack a column."""
        list_table_columns(type(self).__name__, x)
        for column in self.listed:
            self.read(x, column)

    def read(self, x: Any, column: int | str) -> Tensor:
        """One column of some rows, [N] or, by name, [N, ...].

        Raises:
            ValueError: there is none.
        """
        known = list_table_columns(type(self).__name__, x)
        if isinstance(x, Mapping):
            found = column in x
        else:
            found = isinstance(column, int) and -len(known) <= column < len(known)
        if not found:
            listed = ", ".join(map(str, known)) if isinstance(x, Mapping) else f"0 ... {len(known) - 1}"
            raise ValueError(
                f"{type(self).__name__} has column {column!r}, and the table has {listed}; name one of these"
            )
        return x[column] if isinstance(x, Mapping) else x[:, column]

    def write(self, x: Any, changed: Mapping[int | str, Tensor]) -> Any:
        """A copy of the rows with other values of some columns."""
        if isinstance(x, Mapping):
            return {**x, **changed}
        x = x.clone()
        for column, values in changed.items():
            x[:, column] = values
        return x


@dataclass(frozen=True, kw_only=True)
class SwapColumn(ColumnIntervention, name="swap-column"):
    """Columns get the values of another row, the donor, drawn by (row, seed): what permutation importance asks.

    A row keeps its label and all other columns. Rows exchange their values in small blocks, two rows in each where
    there is one donor a row, so that blocks are independent; effects get intervals over blocks. With `donors` rows are
    independent. At strength s a column whose values are not all whole numbers becomes

        x + s (x' - x),        x' the donor's value;

    whole numbers, such as categories, become x' in the rows whose own number u lies below s.

    Attributes:
        columns: one, or several.
        within: which rows may be donors: None, any other row, so that the values follow the column's marginal;
            "class", rows of the same label, which keeps what the column says of the label; or a group for each row,
            which keeps what the group says of the column.
        together: whether several columns come from one donor, so that they keep what they say of each other; else each
            from its own.
        donors: where donors come from; default: the data themselves.

    Raises:
        ValueError: no such column, or a row without a donor.

    Example:
        >>> from mechconn.interventions import intervened
        >>> data = torch.tensor([[0.5, 1.5], [2.5, 3.5]]), torch.tensor([0, 1])
        >>> suite = intervened(data, {"first": SwapColumn(columns=0)})
        >>> suite["first"].inputs(torch.tensor([0, 1])).tolist()
        [[2.5, 1.5], [0.5, 3.5]]

    Source: Breiman 2001, *Random forests* (values of a column permuted over rows); Strobl et al. 2008 (within groups).
    """

    disturbs: ClassVar[str] = "the value of a column"
    side_data: ClassVar[Mapping[str, SideData]] = {"within": "column", "donors": "rows"}

    within: Within = field(default=None, repr=False)
    together: bool = True
    donors: Data | None = field(default=None, repr=False)
    _found: Donors | None = field(default=None, init=False, repr=False, compare=False)
    _blended: tuple[int | str, ...] = field(default=(), init=False, repr=False, compare=False)

    def prepare(self, scenes: SampleSource) -> SwapColumn:
        """With the donors of each row, and which columns are blended."""
        prepared = replace(self)
        found = find_donors("SwapColumn", scenes, self.donors, self.within)
        self.check_inputs(found.source.inputs(torch.tensor([0])))
        object.__setattr__(prepared, "_found", found)
        blended = (column for column in self.listed if not _holds_whole_numbers(self, found.source, column))
        object.__setattr__(prepared, "_blended", tuple(blended))
        return prepared

    def draw_donors(self, index: Int[Tensor, " n"], seed: int) -> Int[Tensor, "n k"]:
        """One donor for all columns, or one for each."""
        assert self._found is not None, "prepare comes first"
        return self._found.draw(index, seed, 1 if self.together else len(self.listed))

    def list_partners(self, values: Float[Tensor, "n v"]) -> Int[Tensor, "n k"] | None:
        """The donors, where they are rows of the data."""
        return values[:, 2:].long() if self._found is not None and self._found.own else None

    def change(self, x: Any, strength: Float[Tensor, " n"], draws: Draws) -> Any:
        """Copies of the rows with the donors' values."""
        assert self._found is not None and draws.donors is not None, "prepare comes first"
        shown: dict[int | str, Tensor] = {}
        swapped = draws.uniform("swapped") < strength
        for number, column in enumerate(self.listed):
            own, rows = self.read(x, column), draws.donors[:, 0 if self.together else number]
            other = self.read(self._found.source.inputs(rows), column).to(own)
            if column in self._blended:
                shown[column] = _blend(own, other, strength)
            else:
                shown[column] = torch.where(_spread(swapped, own), other, own)
        return self.write(x, shown)


@dataclass(frozen=True, kw_only=True)
class BinColumn(ColumnIntervention, name="bin-column"):
    """Columns without what tells values of one bin apart: each value moves to the mean of its bin.

    The bins hold equally many rows as far as ties allow; their edges are quantiles over the data, and equal values are
    in one bin. At strength s a value x becomes x + s (m - x), m the mean of its bin over the data. With one bin the
    column is constant.

    Attributes:
        columns: one, or several, of floating-point numbers.
        bins: how many.

    Raises:
        ValueError: no such column, or one of whole numbers, or with missing (NaN) or infinite values.

    Example:
        >>> from mechconn.interventions import intervened
        >>> data = torch.tensor([[0.0], [1.0], [4.0], [6.0]]), torch.tensor([0, 1, 0, 1])
        >>> suite = intervened(data, {"coarse": BinColumn(columns=0, bins=2)})
        >>> suite["coarse"].inputs(torch.arange(4)).flatten().tolist()
        [0.5, 0.5, 5.0, 5.0]
    """

    disturbs: ClassVar[str] = "the value of a column within its bin"
    by_default: ClassVar[bool] = False

    bins: int = 4
    _edges: Mapping[int | str, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("bins", self.bins)

    def check_inputs(self, x: Any) -> None:
        """Raise ValueError where the inputs are no table, or a column is missing or no column of numbers."""
        super().check_inputs(x)
        for column in self.listed:
            values = self.read(x, column)
            if not values.is_floating_point() or values.dim() != 1:
                raise ValueError(
                    f"BinColumn takes means and needs columns [N] of floating-point numbers, got column {column!r} of "
                    f"{values.dtype} {list(values.shape)}; use SwapColumn for categories"
                )

    def prepare(self, scenes: SampleSource) -> BinColumn:
        """With the bins of each column: the edges between them and their means.

        Raises:
            ValueError: a value that is missing (NaN) or infinite.
        """
        prepared = replace(self)
        columns = {column: _read_whole(self, scenes, column) for column in self.listed}
        for column, values in columns.items():
            if not bool(values.isfinite().all()):
                raise ValueError(
                    f"BinColumn takes means over rows, and column {column!r} is not finite in "
                    f"{int((~values.isfinite()).sum())} of them; fill in the missing values, or use SwapColumn"
                )
        found = {column: _find_bins(values, self.bins) for column, values in columns.items()}
        object.__setattr__(prepared, "_edges", found)
        return prepared

    def change(self, x: Any, strength: Float[Tensor, " n"], draws: Draws) -> Any:
        """Copies of the rows with the means of their bins."""
        shown: dict[int | str, Tensor] = {}
        for column in self.listed:
            own, (edges, means) = self.read(x, column), self._edges[column]
            binned = means.to(own)[torch.searchsorted(edges.to(own.device), own.double().contiguous(), right=True)]
            shown[column] = _blend(own, binned, strength)
        return self.write(x, shown)


def list_table_columns(what: str, x: Any) -> Sequence[int | str]:
    """The columns of some rows of a table: numbers, or names.

    Raises:
        ValueError: the inputs are no table.
    """
    if isinstance(x, Tensor) and x.dim() == 2:
        return range(x.shape[1])
    if isinstance(x, Mapping) and x and "input_ids" not in x:
        return list(x)
    got = f"inputs {list(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
    got = f"texts ({', '.join(x)})" if isinstance(x, Mapping) else got
    raise ValueError(f"{what} needs a table, inputs [N, D] or a mapping of names to columns, got {got}")


def _read_whole(intervention: ColumnIntervention, source: SampleSource, column: int | str) -> Tensor:
    """One column of all rows."""
    parts = torch.arange(len(source)).split(BATCH)
    return torch.cat([intervention.read(source.inputs(rows), column).cpu() for rows in parts])


def _holds_whole_numbers(intervention: ColumnIntervention, source: SampleSource, column: int | str) -> bool:
    values = _read_whole(intervention, source, column)
    return not values.is_floating_point() or bool((values == values.round()).all())


def _find_bins(values: Float[Tensor, " n"], bins: int) -> tuple[Float[Tensor, " b"], Float[Tensor, " b1"]]:
    """(the least value of each bin but the first, the mean of each bin), float64."""
    ordered = values.double().sort().values
    places = [number * len(ordered) // bins for number in range(1, bins)]
    edges = ordered[places].unique()
    edges = edges[edges > ordered[0]]
    number = torch.searchsorted(edges, ordered, right=True)
    counts = torch.zeros(len(edges) + 1, dtype=torch.float64).index_add_(0, number, torch.ones_like(ordered))
    sums = torch.zeros(len(edges) + 1, dtype=torch.float64).index_add_(0, number, ordered)
    return edges, sums / counts


def _blend(own: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """x + s (x' - x): bit for bit x at s = 0 and x' at s = 1, also where one of them is missing (NaN) or infinite."""
    share = _spread(strength.to(own), own)
    blended = torch.lerp(own, other, share)
    return torch.where(share == 0, own, torch.where(share == 1, other, blended))


def _spread(values: Tensor, like: Tensor) -> Tensor:
    """One value for each row, along the other axes of `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))
