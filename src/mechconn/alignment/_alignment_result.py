"""What an alignment is: B moved onto A, with what was moved and how alike the units are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import PlainValidator
from torch import Tensor, nn

from mechconn.alignment._distances import describe_distances, join_kinds
from mechconn.core import NOT_SAVED, Data, Params
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_marks, leave_out
from mechconn.symmetry import Symmetry

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

MOVE_AGAIN = (
    "move B's units again, mechconn.parameters_of(model_b) or model_b.state_dict() by "
    "alignment.symmetry.apply(state, alignment.element)"
)
"""What to do where weights are asked for that a file does not hold."""


def _read_permutations(value: Any) -> dict[str, Tensor]:
    """Permutations as tensors, of tensors or of lists.

    Raises:
        ValueError: they are neither.
    """
    try:
        return {str(group): torch.as_tensor(order, dtype=torch.int64) for group, order in dict(value).items()}
    except (TypeError, RuntimeError) as error:
        raise ValueError("permutations must be a table: group -> a list of whole numbers") from error


def _read_factors(value: Any) -> dict[str, Tensor]:
    """Signs, scales and matrices as tensors, of tensors or of lists.

    Raises:
        ValueError: they are neither.
    """
    try:
        return {str(name): torch.as_tensor(found, dtype=torch.float64) for name, found in dict(value).items()}
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError("factors must be a table: action -> a list of numbers, or of lists of numbers") from error


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Result, kind="alignment"):
    """B moved onto A.

    Attributes:
        permutations: group -> int64 of shape [size]: entry i is the place in B of the unit that goes to place i.
        coverage: share of the parameters' hidden axes all of whose units may be moved, in [0, 1].
        similarity_before, similarity_after: group -> similarity of the units of A and B (mean correlation, or cosine
            of the balanced weights), before and after.
        distance_before, distance_after: |theta_A - theta_B| over all parameters, before and after.
        dead: group -> units that are constant on the data, so that they cannot be matched; empty for weight matching.
        unseen: groups, signs, scales and linear maps that could not be compared, and stay.
        symmetry: which permutations, signs, scales and linear maps leave the function as it is.
        settings: the method and everything needed to repeat it.
        notes: what the reader must know: that nothing moved, or that the weights ended farther apart; mostly empty.
        params: B's parameters with their units moved. Files leave them out.
        model: B as a module with these parameters, its norms' buffers moved along; the same function as B. Files leave
            it out.
        factors: action of the symmetry -> the signs, scales or matrices that B's units are multiplied by, float64, once
            permuted; what is left out is not multiplied.
        distance_by_kind: kind -> the distance once B is moved by its part of the element and by those before it, in the
            order permutation, sign, scale, linear; of the kinds that moved B.
        rows_of: the data that the method read; None where it read none. Files leave them out.
    """

    permutations: Annotated[Mapping[str, Tensor], PlainValidator(_read_permutations)]
    coverage: float
    similarity_before: Mapping[str, float]
    similarity_after: Mapping[str, float]
    distance_before: float
    distance_after: float
    dead: Mapping[str, int]
    unseen: tuple[str, ...]
    symmetry: Symmetry
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    params: Params = field(default=leave_out("weights", MOVE_AGAIN), metadata=NOT_SAVED)
    model: nn.Module = field(default=leave_out("model", MOVE_AGAIN), metadata=NOT_SAVED)
    factors: Annotated[Mapping[str, Tensor], PlainValidator(_read_factors)] = field(default_factory=dict)
    distance_by_kind: Mapping[str, float] = field(default_factory=dict)
    rows_of: Data | None = field(default=None, metadata=NOT_SAVED)

    @property
    def element(self) -> dict[str, Tensor]:
        """Permutations and factors: B moved is `symmetry.apply(state, alignment.element)`."""
        return {**self.permutations, **self.factors}

    @property
    def distances(self) -> str:
        """How far apart the networks are, as saved and after each kind of move, in words."""
        return describe_distances(self.distance_before, self.distance_by_kind or {"permutation": self.distance_after})

    @property
    def share(self) -> str:
        """How much of the network may be moved, in words; files of release 0.1.0 count parameters."""
        percent = f"{100 * self.coverage:.1f} %"
        if not self.distance_by_kind:
            return f"{percent} of the parameters have units that may be permuted"
        return f"{percent} of the hidden axes have units that may be moved"

    @property
    def removed(self) -> str:
        """The kinds of moves that were made, as a list in words."""
        return join_kinds(self.distance_by_kind)

    @property
    def findings(self) -> tuple[str, ...]:
        """The notes."""
        return self.notes

    def rows(self) -> list[dict[str, Any]]:
        """One record for each group that was compared: units, similarity before and after, and constant units."""
        return [
            {
                "group": group,
                "units": self.symmetry.sizes[group],
                "similarity_before": self.similarity_before[group],
                "similarity_after": after,
                "dead": self.dead.get(group, 0),
            }
            for group, after in self.similarity_after.items()
        ]

    def header(self) -> Header:
        """What was asked."""
        return Header("B moved onto A", "Which hidden units of B are those of A?")

    def sections(self) -> list[Section]:
        """Similarity group by group, as a table and as a picture."""
        reasons = (
            "; ".join(sorted({*self.symmetry.frozen.values(), *self.symmetry.partly_frozen.values()})) or "nothing"
        )
        text = f"The weights are {self.distances}. {self.share}. What holds other axes still: {reasons}."
        table = Table(
            ("units", "number", "similarity before", "after", "dead"),
            tuple(
                (
                    row["group"],
                    str(row["units"]),
                    f"{row['similarity_before']:.3f}",
                    f"{row['similarity_after']:.3f}",
                    str(row["dead"] or ""),
                )
                for row in self.rows()
            ),
        )
        if not table.rows:
            return [Section("Alignment", text)]
        tables = (table, *([self._tabulate_factors()] if self.factors else []))
        drawing = Drawing(self.plot, "Similarity of the units of A and B, group by group, before and after alignment.")
        return [Section("Alignment", text, figures=(drawing,), tables=tables)]

    def _tabulate_factors(self) -> Table:
        """What was flipped, scaled and mixed, and by how much."""
        rows = tuple(
            (name, self._kind_of(name), _describe_factors(self._kind_of(name), t)) for name, t in self.factors.items()
        )
        return Table(("units of", "kind", "of B's units"), rows, words=frozenset({0, 1, 2}))

    def _kind_of(self, name: str) -> str:
        return next(action.kind for action in self.symmetry.actions if action.name == name)

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """Similarity of the units of A and B before and after, group by group."""
        found = {"before": self.similarity_before, "after": self.similarity_after}
        series = {name: [(value, value, value) for value in values.values()] for name, values in found.items()}
        return draw_marks(list(self.similarity_after), series, "similarity", "units", ax)

    def __str__(self) -> str:
        lines = [
            f"{self.settings['method']}: distance {self.distance_before:.4g} -> {self.distance_after:.4g}, "
            f"coverage {100 * self.coverage:.1f} %",
            *([f"  {self.distances}"] if len(self.distance_by_kind) > 1 else []),
        ]
        for row in self.rows():
            dead = f", {row['dead']} dead" if row["dead"] else ""
            lines.append(
                f"  {row['group']} ({row['units']} units): similarity "
                f"{row['similarity_before']:.3f} -> {row['similarity_after']:.3f}{dead}"
            )
        lines += [f"  {name}: {_describe_factors(self._kind_of(name), t)}" for name, t in self.factors.items()]
        if self.unseen:
            lines.append(f"  not compared: {', '.join(self.unseen)}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _describe_factors(kind: str, factors: Tensor) -> str:
    """How many signs, by what scales, or how far from no rotation, in words."""
    if kind == "sign":
        return f"{int((factors < 0).sum())} of {factors.numel()} signs flipped"
    if kind == "scale":
        return f"{factors.numel()} scales, {float(factors.min()):.3g} to {float(factors.max()):.3g}"
    if kind == "orthogonal":
        return "rotations and reflections"
    values = torch.linalg.svdvals(factors)
    return f"linear maps, singular values {float(values.min()):.3g} to {float(values.max()):.3g}"
