"""How far apart two networks are, and how much permutations, signs, scales and linear maps each change it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from mechconn.alignment._slices import measure_gap
from mechconn.symmetry import PLURAL, Element, Symmetry

LARGE = 0.5
"""Share of what alignment changes from which one kind is said to account for a large part."""


def compute_distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Euclidean distance of two points of weight space."""
    return float(sum(measure_gap(tensor, b[name].to(tensor.device)) for name, tensor in a.items()) ** 0.5)


def measure_by_kind(
    symmetry: Symmetry, a: Mapping[str, Tensor], b: Mapping[str, Tensor], element: Element
) -> dict[str, float]:
    """Kind -> distance once B is moved by this kind's part of an element, and by those before it."""
    kinds = {group.name: group.kind for group in symmetry.groups}
    part: dict[str, Tensor] = {}
    found: dict[str, float] = {}
    for kind in PLURAL:
        own = {name: values for name, values in element.items() if kinds[name] == kind}
        part |= own
        if own or kind == "permutation":
            moved = ((tensor, symmetry.moved(name, b[name], part)) for name, tensor in a.items())
            found[kind] = float(sum(measure_gap(tensor, other.to(tensor.device)) for tensor, other in moved) ** 0.5)
    return found


def describe_distances(before: float, by_kind: Mapping[str, float]) -> str:
    """The distances, one kind after the other, in words."""
    after = ", ".join(f"{distance:.4g} after {PLURAL[kind]}" for kind, distance in by_kind.items())
    return f"{before:.4g} apart as saved, {after}" if after else f"{before:.4g} apart as saved"


def list_parting(before: float, by_kind: Mapping[str, float]) -> list[str]:
    """The kinds, but for permutations, that put the weights farther apart than they were without them."""
    distances = [before, *by_kind.values()]
    steps = zip(by_kind, distances[:-1], distances[1:], strict=True)
    return [kind for kind, without, with_it in steps if kind != "permutation" and with_it > without]


def join_kinds(kinds: Iterable[str]) -> str:
    """Kinds as a list in a sentence; of none, permutations."""
    *first, last = [PLURAL[kind] for kind in kinds] or [PLURAL["permutation"]]
    return f"{', '.join(first)} and {last}" if first else last


def note_large_kinds(before: float, by_kind: Mapping[str, float]) -> Iterator[str]:
    """That signs, scales or linear maps account for a large part of what alignment changed."""
    distances = [before, *by_kind.values()]
    for number, kind in enumerate(by_kind):
        gained, whole = distances[number] - distances[number + 1], before - distances[-1]
        if kind != "permutation" and gained > LARGE * whole > 0:
            yield (
                f"{PLURAL[kind]} account for {100 * min(gained / whole, 1.0):.0f} % of the distance that alignment "
                "removed: a barrier on the line between the networks as saved may only reflect them"
            )
