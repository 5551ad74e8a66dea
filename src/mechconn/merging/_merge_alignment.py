"""Parents moved into one order of units before they are merged; their functions stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from mechconn.alignment import AlignmentMethod
from mechconn.alignment import align as move_onto
from mechconn.core import Compute, Inputs, check_choice, check_is, move_inputs
from mechconn.network import resolve_device
from mechconn.symmetry import Symmetry, symmetry_of

Aligning: TypeAlias = AlignmentMethod | tuple[AlignmentMethod, str]
"""How parents are aligned: a method, or one of pairs with the name of the parent that the others are moved onto."""


@dataclass(frozen=True, eq=False)
class AlignedParents:
    """Parents in one order of units.

    Attributes:
        models: name -> the network that was moved.
        settings: how, plain values.
        notes: what a reader must know of it.
    """

    models: Mapping[str, nn.Module]
    settings: Mapping[str, Any]
    notes: tuple[str, ...]


def find_method(align: Aligning) -> AlignmentMethod:
    """The method of an alignment that was asked for."""
    return align[0] if isinstance(align, tuple) else align


def check_alignment(align: Aligning, names: Sequence[str]) -> None:
    """Raise unless parents of these names can be asked to be aligned so."""
    method, onto = align if isinstance(align, tuple) else (align, names[0])
    advice = "; pass UniverseMatching(), or (WeightMatching(), 'the name of a parent')"
    check_is("align", method, AlignmentMethod, advice)
    check_choice("the parent in align", onto, tuple(names))


def align_parents(
    models: Mapping[str, nn.Module],
    align: Aligning,
    symmetry: Symmetry | None,
    example: Inputs,
    ignore: Sequence[str],
    seed: int,
    compute: Compute,
) -> AlignedParents:
    """The parents in one order of units."""
    method, onto = align if isinstance(align, tuple) else (align, next(iter(models)))
    first = next(iter(models.values()))
    if symmetry is None:
        symmetry = symmetry_of(first, move_inputs(example, resolve_device(first, None)))
    moved: dict[str, nn.Module] = {}
    notes: list[str] = []
    settings: dict[str, Any] = {}
    for name, model in models.items():
        if name == onto:
            moved[name] = model
            continue
        found = move_onto(models[onto], model, method, symmetry, ignore=ignore, seed=seed, compute=compute)
        moved[name], settings = found.model, dict(found.settings)
        notes += [f"{name}: {note}" for note in found.notes]
    return AlignedParents(moved, {**settings, "onto": onto}, tuple(notes))
