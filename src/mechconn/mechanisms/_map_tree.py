"""Trees of models, groups that a tree or links between pairs give, and models as points of a plane."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Matrix: TypeAlias = tuple[tuple[float, ...], ...]
Groups: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Merge:
    """One step of a tree: two groups of models become one.

    Attributes:
        left: the models of one group.
        right: those of the other.
        height: the mean over all pairs, one from each group, of what the tree is of.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    height: float


@dataclass(frozen=True)
class Tree:
    """A hierarchy of models by average linkage.

    Attributes:
        order: the models, neighbours in the tree side by side.
        merges: from the closest pair to the whole.
    """

    order: tuple[str, ...]
    merges: tuple[Merge, ...]


@dataclass(frozen=True)
class Embedding:
    """Models as points of a plane, whose Euclidean distances stand for a matrix of distances.

    Attributes:
        points: (x, y) of each model, in the unit of the distances.
        explained: the share of the two largest eigenvalues in the sum of the magnitudes of all; 1 where the plane holds
            every distance exactly.
        stress: sqrt(sum of (d - d')^2 / sum of d^2) over pairs, with d' in the plane; 0 where it holds them exactly.
    """

    points: tuple[tuple[float, float], ...]
    explained: float
    stress: float


def make_tree(names: tuple[str, ...], matrix: np.ndarray) -> Tree:
    """The tree of a symmetric matrix by average linkage.

    Example:
        >>> tree = make_tree(("a", "b", "c"), np.array([[0.0, 4.0, 1.0], [4.0, 0.0, 6.0], [1.0, 6.0, 0.0]]))
        >>> [(merge.left, merge.right, merge.height) for merge in tree.merges]
        [(('a',), ('c',), 1.0), (('b',), ('a', 'c'), 5.0)]
    """
    from scipy.cluster.hierarchy import leaves_list

    steps = link_by_average(matrix)
    groups: list[tuple[str, ...]] = [(name,) for name in names]
    merges = []
    for left, right, height, _ in steps.tolist():
        merges.append(Merge(groups[int(left)], groups[int(right)], height))
        groups.append(groups[int(left)] + groups[int(right)])
    return Tree(tuple(names[i] for i in leaves_list(steps).tolist()), tuple(merges))


def link_by_average(matrix: np.ndarray) -> np.ndarray:
    """The tree of a symmetric matrix by average linkage, as scipy writes it."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    return linkage(squareform(matrix, checks=False), "average")


def cut_tree(tree: Tree, height: float) -> Groups:
    """The groups that a tree has below a height, in the order of its leaves.

    Example:
        >>> tree = Tree(("b", "a", "c"), (Merge(("a",), ("c",), 1.0), Merge(("b",), ("a", "c"), 5.0)))
        >>> cut_tree(tree, 2.0), cut_tree(tree, 5.0)
        ((('b',), ('a', 'c')), (('b', 'a', 'c'),))
    """
    pairs = [(merge.left[0], merge.right[0]) for merge in tree.merges if merge.height <= height]
    return find_components(tree.order, pairs)


def find_components(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> Groups:
    """The connected components of a graph, in the order of the names.

    Example:
        >>> find_components("abcd", [("a", "c"), ("c", "d")])
        (('a', 'c', 'd'), ('b',))
    """
    home = {name: name for name in names}

    def find(name: str) -> str:
        while home[name] != name:
            name = home[name]
        return name

    for a, b in pairs:
        home[find(b)] = find(a)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(find(name), []).append(name)
    return tuple(map(tuple, groups.values()))


def find_shortest_tree(names: Sequence[str], matrix: np.ndarray) -> list[tuple[str, str]]:
    """The pairs of a spanning tree of least total distance (Kruskal), each in the order of the names.

    Example:
        >>> find_shortest_tree("abc", np.array([[0.0, 4.0, 1.0], [4.0, 0.0, 2.0], [1.0, 2.0, 0.0]]))
        [('a', 'c'), ('b', 'c')]
    """
    count = len(names)
    every = sorted((float(matrix[i, j]), i, j) for i in range(count) for j in range(i + 1, count))
    groups, chosen = {i: {i} for i in range(count)}, []
    for _, i, j in every:
        if groups[i] is groups[j]:
            continue
        joined = groups[i] | groups[j]
        groups |= dict.fromkeys(joined, joined)
        chosen.append((i, j))
    return [(str(names[i]), str(names[j])) for i, j in sorted(chosen)]


def embed_distances(matrix: np.ndarray) -> Embedding:
    r"""Points of a plane by classical multidimensional scaling of a symmetric matrix of distances D.

    B = -(1/2) J D^2 J with J = I - 11'/n; the coordinates are the two leading eigenvectors, times the roots of their
    eigenvalues where these are positive. Each axis points to where its largest coordinate is positive.

    Example:
        >>> found = embed_distances(np.array([[0.0, 3.0, 5.0], [3.0, 0.0, 4.0], [5.0, 4.0, 0.0]]))
        >>> x = np.array(found.points)
        >>> [round(float(np.linalg.norm(x[i] - x[j])), 6) for i, j in ((0, 1), (0, 2), (1, 2))]
        [3.0, 5.0, 4.0]
        >>> round(found.explained, 6), round(found.stress, 6)
        (1.0, 0.0)

    Source: Torgerson 1952; stress as Kruskal 1964.
    """
    centre = np.eye(len(matrix)) - 1.0 / len(matrix)
    values, vectors = np.linalg.eigh(-0.5 * centre @ np.square(matrix) @ centre)
    leading = np.argsort(-values, kind="stable")[:2]
    points = vectors[:, leading] * np.sqrt(np.clip(values[leading], 0.0, None))
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    largest = points[np.abs(points).argmax(0), [0, 1]]
    points = points * np.where(largest < 0, -1.0, 1.0)
    apart = np.sqrt(np.square(points[:, None] - points[None]).sum(-1))
    whole, total = float(np.abs(values).sum()), float(np.square(matrix).sum())
    return Embedding(
        points=tuple((float(x), float(y)) for x, y in points.tolist()),
        explained=float(np.clip(values[leading], 0.0, None).sum()) / whole if whole else 1.0,
        stress=float(np.sqrt(np.square(matrix - apart).sum() / total)) if total else 0.0,
    )
