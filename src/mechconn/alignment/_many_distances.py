"""How far apart many networks are, and where the maps between them lead around a cycle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from mechconn.alignment._slices import measure_gap
from mechconn.symmetry import Element, Symmetry, compose_elements, invert_element

Matrix: TypeAlias = tuple[tuple[float, ...], ...]


class Spread(NamedTuple):
    """How near several networks are, pair by pair.

    Attributes:
        similarity: cosines of all parameters.
        distance: Euclidean.
        objective: sum of the inner products of all pairs.
    """

    similarity: Matrix
    distance: Matrix
    objective: float

    @property
    def mean_similarity(self) -> float:
        """Mean cosine over pairs."""
        pairs = [value for i, row in enumerate(self.similarity) for value in row[:i]]
        return sum(pairs) / len(pairs)


@torch.no_grad()
def measure_spread(networks: Sequence[Mapping[str, Tensor]]) -> Spread:
    """Similarities and distances of parameters in one order of units."""
    count = len(networks)
    products = torch.zeros(count, count, dtype=torch.float64)
    gaps = torch.zeros(count, count, dtype=torch.float64)
    for name in networks[0]:
        tensors = [network[name].double() for network in networks]
        for i in range(count):
            for j in range(i, count):
                value = float((tensors[i] * tensors[j]).sum())
                products[i, j] = products[j, i] = products[i, j] + value
                if i != j:
                    gaps[i, j] = gaps[j, i] = gaps[i, j] + measure_gap(tensors[i], tensors[j])
    norms = products.diagonal().sqrt()
    cosines = products / (norms[:, None] * norms).clamp_min(torch.finfo(torch.float64).tiny)
    return Spread(to_matrix(cosines), to_matrix(gaps.sqrt()), float(products.triu(1).sum()))


def to_matrix(values: Tensor) -> Matrix:
    """A square tensor as plain numbers."""
    return tuple(tuple(row) for row in values.tolist())


def reorder(matrix: Matrix, places: Sequence[int]) -> Matrix:
    """Rows and columns in another order."""
    return tuple(tuple(matrix[i][j] for j in places) for i in places)


def map_through(symmetry: Symmetry, first: Element, second: Element) -> dict[str, Tensor]:
    """The element that moves the first network onto the second as saved, through the order that both share."""
    return compose_elements(symmetry, first, invert_element(symmetry, second))


def measure_cycles(
    symmetry: Symmetry,
    networks: Mapping[str, Mapping[str, Tensor]],
    cycles: Sequence[Sequence[str]],
    find_map: Callable[[str, str], Element],
) -> float:
    """Mean over cycles A, B, ..., A of |A moved around - A| / |A|.

    Args:
        symmetry: of all networks.
        networks: name -> parameters as saved.
        cycles: names of the networks on each.
        find_map: (from, to) -> the element that moves one network onto another.
    """
    total = 0.0
    for cycle in cycles:
        start, around = networks[cycle[0]], dict[str, Tensor]()
        for here, there in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            around = compose_elements(symmetry, around, find_map(here, there))
        gap = sum(measure_gap(tensor, symmetry.moved(name, tensor, around)) for name, tensor in start.items())
        total += (gap / sum(float(tensor.double().square().sum()) for tensor in start.values())) ** 0.5
    return total / max(len(cycles), 1)
