"""Checking what a symmetry says against tensors: names, lengths of axes, sizes of groups, permutations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mechconn.core import check_choice, check_same_keys
from mechconn.symmetry._pattern import Pattern, Permutations, list_groups, parse, pattern_length, text_of

PatternsByTensor = Mapping[str, tuple[Pattern, ...]]


def parse_axes(
    axes: Mapping[str, Sequence[str | int]], shapes: Mapping[str, Sequence[int]]
) -> dict[str, tuple[Pattern, ...]]:
    """Written patterns, read; one for each axis of known tensors."""
    result = {}
    for name, texts in axes.items():
        check_choice("tensor of the symmetry", name, tuple(shapes))
        if isinstance(texts, str) or len(texts) != len(shapes[name]):
            count = 1 if isinstance(texts, str) else len(texts)
            raise ValueError(_axes_expected(name, shapes[name], count))
        result[name] = tuple(parse(str(text)) for text in texts)
    return result


def solve_sizes(
    axes: PatternsByTensor, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int]
) -> dict[str, int]:
    """Sizes of all groups: those given, and those that follow from axes on which one group is unknown.

    Raises:
        ValueError: a size does not follow, or a pattern does not fit its axis.
    """
    known = dict(sizes)
    places = [
        (name, axis, pattern, shapes[name][axis])
        for name, patterns in axes.items()
        for axis, pattern in enumerate(patterns)
    ]
    while True:
        before = len(known)
        for _, _, pattern, size in places:
            unknown = {group for group in list_groups(pattern) if group not in known}
            if len(unknown) == 1:
                known |= _size_that_fits(unknown.pop(), pattern, size, known)
        if len(known) == before:
            break
    missing = sorted({group for _, _, pattern, _ in places for group in list_groups(pattern)} - set(known))
    if missing:
        raise ValueError(
            f"the sizes of {', '.join(missing)} do not follow from the shapes; pass sizes={{name: number of units}}"
        )
    check_axis_lengths(axes, shapes, known)
    return known


def _size_that_fits(group: str, pattern: Pattern, size: int, known: Mapping[str, int]) -> dict[str, int]:
    """The size of a group for which the pattern has this length; empty where none fits, which is reported later."""
    fitting = [n for n in range(1, size + 1) if pattern_length(pattern, {**known, group: n}) == size]
    return {group: fitting[0]} if fitting else {}


def check_axis_lengths(axes: PatternsByTensor, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int]) -> None:
    """Raise unless every pattern is as long as its axis; the first that is not is named."""
    for name, patterns in axes.items():
        if name not in shapes:
            continue
        if len(patterns) != len(shapes[name]):
            raise ValueError(_axes_expected(name, shapes[name], len(patterns)))
        for axis, pattern in enumerate(patterns):
            found, wanted = pattern_length(pattern, sizes), shapes[name][axis]
            if found != wanted:
                text = text_of(pattern)
                raise ValueError(f"{name} axis {axis} has {wanted} places, but the pattern {text!r} makes {found}")


def check_names(
    axes: PatternsByTensor, aliases: Mapping[str, str], buffers: frozenset[str], state: Mapping[str, Tensor]
) -> None:
    """Raise unless a state holds every parameter, and nothing that the symmetry does not know."""
    got = [aliases.get(name, name) for name in state]
    check_same_keys("tensors", [name for name in axes if name not in buffers or name in set(got)], dict.fromkeys(got))


def check_permutations(permutations: Permutations, sizes: Mapping[str, int]) -> None:
    """Raise unless each is a permutation of its group."""
    for group, permutation in permutations.items():
        check_choice("group", group, tuple(sizes))
        size, found = sizes[group], torch.as_tensor(permutation).cpu()
        if found.dtype != torch.long or not torch.equal(found.sort().values, torch.arange(size)):
            raise ValueError(f"the permutation of group {group!r} must hold each of 0 ... {size} - 1 once, as int64")


def _axes_expected(name: str, shape: Sequence[int], count: int) -> str:
    return f"{name} has shape {list(shape)} and needs one index pattern for each axis, got {count}"
