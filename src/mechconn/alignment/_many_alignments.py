"""What an alignment of many networks is: each moved into one order of units, and how near they are before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import PlainValidator
from torch import Tensor, nn

from mechconn.alignment._many_distances import Matrix, map_through, measure_spread
from mechconn.core import NOT_SAVED, Data, check_choice
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_heat_map, leave_out
from mechconn.symmetry import Symmetry

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

MOVE_AGAIN = "move each network again, model.state_dict() by found.symmetry.apply(state, found.elements[name])"
"""What to do where networks are asked for that a file does not hold."""

ROUNDING = 1e-5
"""How far distances of the same networks may differ, relative: on another device, or loaded in a wider type."""


def _read_elements(value: Any) -> dict[str, dict[str, Tensor]]:
    """Elements as tensors, of tensors or of lists: whole numbers are permutations.

    Raises:
        ValueError: they are neither.
    """
    try:
        return {
            str(name): {str(part): _read_tensor(values) for part, values in dict(element).items()}
            for name, element in dict(value).items()
        }
    except (TypeError, RuntimeError, ValueError) as error:
        raise ValueError("elements must be a table: network -> group or action -> a list of numbers") from error


def _read_tensor(value: Any) -> Tensor:
    found = value if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))  # lists as float64, not float32
    return found.double() if found.is_floating_point() else found.long()


@dataclass(frozen=True, eq=False, repr=False)
class ManyAlignments(Result, kind="many_alignments"):
    """Networks moved into one order of units; rows and columns of matrices in the order of `names`.

    Attributes:
        names: the networks.
        elements: network -> from where it is saved to the common order: group -> permutation, action -> factors.
        symmetry: what leaves their functions as they are.
        similarity_before: cosine of all parameters of every two networks as saved.
        similarity_after: the same of the moved networks.
        distance_before: Euclidean distance of every two networks as saved.
        distance_after: the same of the moved networks.
        objective_before: sum over pairs of the inner products of the networks in the order in which they are saved, at
            the scales of those that were moved into one universe.
        objective: the same of the moved networks.
        cycle_error: mean over cycles of |A moved around - A| / |A|, along maps that lead through the common order.
        pairwise_cycle_error: the same of maps that were found pair by pair; None where no cycle was asked for.
        settings: the method and everything needed to repeat it.
        notes: what a reader must know.
        models: network -> a module with its units moved, the same function as it. Files leave them out.
        rows_of: the data that the method read; None where it read none. Files leave them out.
        unseen: groups and actions whose units could not be compared, of some network; they stay.
    """

    derived: ClassVar[tuple[str, ...]] = ("coverage",)

    names: tuple[str, ...]
    elements: Annotated[Mapping[str, Mapping[str, Tensor]], PlainValidator(_read_elements)]
    symmetry: Symmetry
    similarity_before: Matrix
    similarity_after: Matrix
    distance_before: Matrix
    distance_after: Matrix
    objective_before: float
    objective: float
    cycle_error: float
    pairwise_cycle_error: float | None
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    models: Mapping[str, nn.Module] = field(default=leave_out("models", MOVE_AGAIN), metadata=NOT_SAVED)
    rows_of: Data | None = field(default=None, metadata=NOT_SAVED)
    unseen: tuple[str, ...] = ()

    @property
    def coverage(self) -> float:
        """Share of the hidden axes all of whose units may be moved; see `Symmetry.coverage`."""
        return self.symmetry.coverage

    def pairwise(self, a: str, b: str) -> dict[str, Tensor]:
        """The element that moves B onto A as saved, through the common order; for `symmetry.apply`.

        Args:
            a: the network that stays.
            b: the one that is moved.

        Raises:
            ValueError: no network of that name.
        """
        for name in (a, b):
            check_choice("network", name, self.names)
        return map_through(self.symmetry, self.elements[b], self.elements[a])

    def is_of(self, models: Mapping[str, nn.Module]) -> bool:
        """Whether networks of these names lie as far apart as those that were aligned, as saved and once moved."""
        where = next(models[self.names[0]].parameters()).device
        states = {
            name: {key: value.to(where) for key, value in models[name].state_dict().items()} for name in self.names
        }
        weights = [name for name, _ in models[self.names[0]].named_parameters()]
        moved = {name: self.symmetry.apply(state, self.elements[name]) for name, state in states.items()}
        for own, known in ((states, self.distance_before), (moved, self.distance_after)):
            found = torch.tensor(measure_spread([{key: own[name][key] for key in weights} for name in self.names])[1])
            size = float(torch.tensor(self.distance_before).max())
            if not torch.allclose(found, torch.tensor(known), rtol=ROUNDING, atol=ROUNDING * size):
                return False
        return True

    @property
    def findings(self) -> tuple[str, ...]:
        """The notes."""
        return self.notes

    def rows(self) -> list[dict[str, Any]]:
        """One record per pair of networks: cosine and distance, before and after."""
        matrices = {
            "similarity_before": self.similarity_before,
            "similarity_after": self.similarity_after,
            "distance_before": self.distance_before,
            "distance_after": self.distance_after,
        }
        return [
            {"a": a, "b": b, **{name: matrix[i][j] for name, matrix in matrices.items()}}
            for (i, a), (j, b) in combinations(enumerate(self.names), 2)
        ]

    def header(self) -> Header:
        """What was asked."""
        return Header(f"{len(self.names)} networks in one order of units", "How near are they?")

    def sections(self) -> list[Section]:
        """Distances as a picture, and pair by pair."""
        table = Table(
            ("networks", "cosine before", "after", "distance before", "after"),
            tuple(
                (
                    f"{row['a']}, {row['b']}",
                    f"{row['similarity_before']:.3f}",
                    f"{row['similarity_after']:.3f}",
                    f"{row['distance_before']:.4g}",
                    f"{row['distance_after']:.4g}",
                )
                for row in self.rows()
            ),
        )
        drawing = Drawing(self.plot, "Distance of every two networks once they are moved; the table holds it.")
        return [Section("Alignment", self._describe(), figures=(drawing,), tables=(table,))]

    def _describe(self) -> str:
        """The sum that is maximised, and the cycles, in sentences."""
        found = [
            f"{self.settings['method']}: the sum of inner products over pairs went from {self.objective_before:.4g} to "
            f"{self.objective:.4g}. {100 * self.coverage:.1f} % of the hidden axes have units that may be moved.",
            f"Moved around a cycle of networks, through the common order, a network ends {self.cycle_error:.2g} of its "
            "norm from where it was",
        ]
        if self.pairwise_cycle_error is None:
            return f"{' '.join(found)}."
        return f"{' '.join(found)}; by maps found pair by pair, {self.pairwise_cycle_error:.2g}."

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """The distances of the moved networks as a heat map, in the order of a tree by average linkage."""
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import squareform

        steps = linkage(squareform(torch.tensor(self.distance_after).numpy(), checks=False), "average")
        return draw_heat_map(self.names, self.distance_after, steps, "distance of the weights", ax)

    def __str__(self) -> str:
        lines = [self._describe()]
        for row in self.rows():
            lines.append(
                f"  {row['a']}, {row['b']}: cosine {row['similarity_before']:.3f} -> {row['similarity_after']:.3f}, "
                f"distance {row['distance_before']:.4g} -> {row['distance_after']:.4g}"
            )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])
