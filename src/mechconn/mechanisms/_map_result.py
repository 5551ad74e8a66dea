"""Several models at once: which are close in weight space, and which in mechanism."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from mechconn.connectivity import TOLERANCE, write_table
from mechconn.core import check_choice
from mechconn.mechanisms._effects import Invariance
from mechconn.mechanisms._invariance_page import flatten_interval
from mechconn.mechanisms._map_page import list_map_findings, list_map_sections, print_map, write_map_title
from mechconn.mechanisms._map_pairs import MapPair, list_pairs
from mechconn.mechanisms._map_tree import (
    Embedding,
    Groups,
    Matrix,
    Tree,
    cut_tree,
    embed_distances,
    find_components,
    link_by_average,
)
from mechconn.plotting import Header, Result, Section, draw_embedding, draw_heat_map, draw_labelled_tree

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

Measure: TypeAlias = Literal["distance", "barrier", "tree", "embedding"]
MEASURES: tuple[Measure, ...] = ("distance", "barrier", "tree", "embedding")
LABELS: Mapping[str, str] = {"distance": "mechanistic distance", "barrier": "barrier in loss"}


@dataclass(frozen=True, repr=False)
class MechanismMap(Result, kind="mechanism_map"):
    """Pairwise barriers and mechanistic distances of several models; rows and columns in the order of `names`.

    `print(result)` says what was found; of a dozen models or fewer it gives both matrices.

    Attributes:
        names: the models.
        barrier: the barrier of the loss on the straight path between two models, on the reference split; symmetric,
            zero on the diagonal, NaN where the path was not walked.
        distance: the mechanistic distance, max over interventions of |effect on one model - effect on the other|.
        trees: "distance" and, where every path was walked, "barrier" -> a tree by average linkage.
        invariance: model -> its effects and verdicts.
        aligned: whether units were matched before the paths were walked.
        norm: where the statistics on the paths came from.
        compute: how it was computed: device, number type of the layers, batch size; see `Compute`.
        notes: where a path ends at another network than the saved one on the reference, since its statistics were
            re-estimated; and what the alignment says.
        pairs: every two models with intervals and verdicts; empty in files of release 0.1.0.
        tolerance: the largest barrier in loss that counts as none.
        alignment: how units were matched; empty where they were not.
        ts: points on each path.
        settings: everything needed to repeat it, of `mechconn map`.
    """

    derived: ClassVar[tuple[str, ...]] = ("groups", "basins")

    names: tuple[str, ...]
    barrier: Matrix
    distance: Matrix
    trees: Mapping[str, Tree]
    invariance: Mapping[str, Invariance]
    aligned: bool
    norm: Mapping[str, Any]
    compute: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pairs: tuple[MapPair, ...] = ()
    tolerance: float = TOLERANCE
    alignment: Mapping[str, Any] = field(default_factory=dict)
    ts: tuple[float, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def margin(self) -> float:
        """The largest difference of effects that counts as none."""
        return self.invariance[self.names[0]].margin

    @property
    def groups(self) -> Groups:
        """Models that are close in mechanism: the tree of the distance, cut at the margin."""
        return cut_tree(self.trees["distance"], self.margin)

    @property
    def basins(self) -> Groups:
        """Models that paths without a barrier join, directly or through others (single linkage at the tolerance).

        Where not every path was walked there may be fewer; where none was, it is empty.
        """
        walked = {pair: self.barrier[i][j] for (i, j), pair in self._places() if not math.isnan(self.barrier[i][j])}
        linked = [pair for pair, height in walked.items() if height <= self.tolerance]
        return find_components(self.names, linked) if walked else ()

    @property
    def basin_range(self) -> tuple[int, int]:
        """The least and the largest number of basins that the intervals of the barriers leave, together with 95 %.

        A path that was not walked may or may not have a barrier.
        """
        joined = [(pair.a, pair.b) for pair in self.pairs if pair.path == "connected"]
        open_to = [(pair.a, pair.b) for pair in self.pairs if pair.path != "not connected"]
        return len(find_components(self.names, open_to)), len(find_components(self.names, joined))

    @property
    def embedding(self) -> Embedding:
        """The models as points of a plane by mechanistic distance, by classical multidimensional scaling."""
        return embed_distances(np.array(self.distance))

    def _places(self) -> list[tuple[tuple[int, int], tuple[str, str]]]:
        """((row, column), (model, model)) of every pair."""
        numbers = {name: place for place, name in enumerate(self.names)}
        return [((numbers[a], numbers[b]), (a, b)) for a, b in list_pairs(self.names)]

    def plot(self, on: Measure = "distance", *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure.

        Args:
            on: "distance" or "barrier", the matrix as a heat map in the order of its tree, with the tree above it;
                "tree", that of the distance from left to right; or "embedding", the models as points of a plane.
            ax: the panel, of a matrix without its tree; default: a new figure.

        Raises:
            ValueError: `on` is none of these, or not every path was walked.
        """
        check_choice("on", on, MEASURES)
        if on == "embedding":
            return draw_embedding(self.names, self.embedding.points, self.groups, LABELS["distance"], ax)
        if on == "tree":
            steps = link_by_average(np.array(self.distance))
            return draw_labelled_tree(self.names, steps, self.groups, self.margin, LABELS["distance"], ax)
        if on not in self.trees:
            raise ValueError(
                "not every path was walked, so that there is no matrix of barriers; take rows(), or map the models "
                "with barriers='all'"
            )
        matrix = self.barrier if on == "barrier" else self.distance
        return draw_heat_map(self.names, matrix, link_by_average(np.array(matrix)), LABELS[on], ax)

    def __str__(self) -> str:
        return "\n".join(print_map(self))

    def rows(self) -> list[dict[str, Any]]:
        """One record per pair of models: barrier and mechanistic distance, their intervals and verdicts."""
        known = {(pair.a, pair.b): pair for pair in self.pairs}
        return [
            {"a": a, "b": b, "barrier": None if math.isnan(height) else height, "distance": self.distance[i][j]}
            | _flatten_pair(known.get((a, b)))
            for (i, j), (a, b) in self._places()
            for height in [self.barrier[i][j]]
        ]

    def to_csv(self, file: str | Path) -> None:
        """Write `rows`, one line per pair of models."""
        write_table(file, self.rows())

    def header(self) -> Header:
        """How many groups and basins there are."""
        return Header(write_map_title(self), "Which are close in weight space, and which in mechanism?")

    @property
    def findings(self) -> tuple[str, ...]:
        """Which models differ in mechanism, which agree, and in how many basins they lie."""
        return tuple(list_map_findings(self))

    def sections(self) -> list[Section]:
        """Distances and barriers with their trees, then what every model relies on."""
        return list(list_map_sections(self))


def _flatten_pair(pair: MapPair | None) -> dict[str, Any]:
    """Intervals and verdicts of a pair as entries of a record."""
    return {
        **flatten_interval("distance", pair and pair.distance_interval),
        "farthest": pair and pair.farthest,
        "verdict": pair and pair.verdict,
        **flatten_interval("barrier", pair and pair.barrier_interval),
        "path": pair and pair.path,
    }
