"""Parents moved into one order of units before they are merged; their functions stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from torch import nn

from mechconn.alignment import AlignmentMethod, ManyAlignmentMethod, ManyAlignments, align_many, check_no_adapters
from mechconn.core import Compute, Inputs, check_choice, check_is, check_same_keys, move_inputs
from mechconn.network import copy_with_state, resolve_device
from mechconn.symmetry import Symmetry, symmetry_of

Aligning: TypeAlias = AlignmentMethod | tuple[AlignmentMethod, str] | ManyAlignments
"""How parents are aligned: a method of many; one of pairs, with the name of the parent that stays; or what was found.
"""


def check_alignment(align: Aligning, models: Mapping[str, nn.Module]) -> None:
    """Raise unless these parents can be asked to be aligned so.

    Raises:
        ValueError: an alignment of other networks, a method of pairs without a parent that stays, a parent that is not
            there, or networks with adapters.
        TypeError: no way to align.
    """
    for model in models.values():
        check_no_adapters(model)
    if isinstance(align, ManyAlignments):
        check_same_keys("models and the networks of align", models, align.elements)
        if not align.is_of(models):
            raise ValueError(
                "align was found for networks with other weights than these models; pass what align_many(models, ...) "
                "gives for these"
            )
        return
    method, onto = _read(align)
    check_is("align", method, AlignmentMethod, "; pass UniverseMatching(), or (WeightMatching(), 'name of a parent')")
    if onto is not None:
        check_choice("the parent in align", onto, tuple(models))
    elif not isinstance(method, ManyAlignmentMethod):
        raise ValueError(
            f"{type(method).__name__} in align aligns two networks, and names no parent that stays; pass "
            f"align=({type(method).__name__}(...), {next(iter(models))!r}), or align=UniverseMatching()"
        )


def align_parents(
    models: Mapping[str, nn.Module],
    align: Aligning,
    symmetry: Symmetry | None,
    example: Inputs,
    ignore: Sequence[str],
    seed: int,
    compute: Compute,
) -> tuple[dict[str, nn.Module], ManyAlignments]:
    """The parents in one order of units, and how they were moved."""
    if isinstance(align, ManyAlignments):
        return {
            name: copy_with_state(model, align.symmetry.apply(model.state_dict(), align.elements[name]))
            for name, model in models.items()
        }, align
    method, onto = _read(align)
    first = next(iter(models.values()))
    if symmetry is None:
        symmetry = symmetry_of(first, move_inputs(example, resolve_device(first, None)))
    found = align_many(models, method, symmetry, onto=onto, ignore=ignore, seed=seed, compute=compute)
    return dict(found.models), found


def _read(align: AlignmentMethod | tuple[AlignmentMethod, str]) -> tuple[AlignmentMethod, str | None]:
    """(the method, the parent that stays or None)."""
    if isinstance(align, tuple):
        return align if len(align) == 2 else (align, None)  # pyright: ignore[reportReturnType]
    return align, None
