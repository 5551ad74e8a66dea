"""Index patterns: how the units of named groups lie along one axis of a tensor, as text that can be written by hand.

An axis is a product of factors, the last one running fastest, and a factor is a group of units (its name), a fixed
number of places (a whole number), or a sum: other axes concatenated. `"conv2 49"` says that a linear layer reads
conv2's units with 49 positions each, `"(query + key + value)"` that three groups are concatenated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sum:
    """Axes concatenated."""

    terms: tuple[Pattern, ...]


Factor: TypeAlias = str | int | Sum
Pattern: TypeAlias = tuple[Factor, ...]
"""Factors of an axis, slowest first; a text is a group's name, a number counts fixed places."""

Permutations: TypeAlias = Mapping[str, Tensor]
"""Group -> int64 of shape [size]: entry i is the old place of the unit that goes to place i."""

_TOKEN = re.compile(r"\s*([()+]|[^\s()+]+)")


def parse(text: str) -> Pattern:
    """The pattern that a text describes.

    Raises:
        ValueError: the text is no pattern.

    Example:
        >>> parse("conv2 49")
        ('conv2', 49)
        >>> parse("(query + key 2)")
        (Sum(terms=(('query',), ('key', 2))),)
    """
    tokens = _TOKEN.findall(text)
    pattern, rest = _product(tokens, text)
    if rest:
        raise ValueError(_unexpected(text, rest))
    return pattern


def _product(tokens: list[str], text: str) -> tuple[Pattern, list[str]]:
    factors: list[Factor] = []
    while tokens and tokens[0] not in ")+":
        if tokens[0] == "(":
            terms, tokens = _sum(tokens[1:], text)
            factors.append(Sum(terms))
        else:
            factors.append(int(tokens[0]) if tokens[0].isdecimal() else tokens[0])
            tokens = tokens[1:]
    if not factors:
        raise ValueError(_unexpected(text, tokens))
    return tuple(factors), tokens


def _sum(tokens: list[str], text: str) -> tuple[tuple[Pattern, ...], list[str]]:
    terms: list[Pattern] = []
    while True:
        term, tokens = _product(tokens, text)
        terms.append(term)
        if not tokens or tokens[0] not in ("+", ")"):
            raise ValueError(_unexpected(text, tokens))
        closed, tokens = tokens[0] == ")", tokens[1:]
        if closed:
            return tuple(terms), tokens


def text_of(pattern: Pattern) -> str:
    """The text that `parse` reads as this pattern."""
    return " ".join(_factor_text(factor) for factor in pattern)


def _factor_text(factor: Factor) -> str:
    return f"({' + '.join(map(text_of, factor.terms))})" if isinstance(factor, Sum) else str(factor)


def list_groups(pattern: Pattern) -> Iterator[str]:
    """Names of the groups along the axis, once for each time that they occur."""
    for factor in pattern:
        if isinstance(factor, Sum):
            for term in factor.terms:
                yield from list_groups(term)
        elif isinstance(factor, str):
            yield factor


def pattern_length(pattern: Pattern, sizes: Mapping[str, int]) -> int:
    """Number of places along the axis, for groups of these sizes."""
    return math.prod(_factor_length(factor, sizes) for factor in pattern)


def _factor_length(factor: Factor, sizes: Mapping[str, int]) -> int:
    if isinstance(factor, Sum):
        return sum(pattern_length(term, sizes) for term in factor.terms)
    return sizes[factor] if isinstance(factor, str) else factor


def compute_index(pattern: Pattern, sizes: Mapping[str, int], permutations: Permutations) -> Tensor:
    """The old place of what goes to each place of the axis, int64; a group without a permutation stays.

    Example:
        >>> compute_index(("a", 2), {"a": 2}, {"a": torch.tensor([1, 0])}).tolist()
        [2, 3, 0, 1]
    """
    places = torch.zeros(1, dtype=torch.long)
    for factor in pattern:
        inner = _factor_index(factor, sizes, permutations)
        places = (places[:, None] * len(inner) + inner).flatten()
    return places


def _factor_index(factor: Factor, sizes: Mapping[str, int], permutations: Permutations) -> Tensor:
    if isinstance(factor, Sum):
        starts, parts = 0, []
        for term in factor.terms:
            parts.append(compute_index(term, sizes, permutations) + starts)
            starts += len(parts[-1])
        return torch.cat(parts)
    if isinstance(factor, int):
        return torch.arange(factor)
    return permutations[factor] if factor in permutations else torch.arange(sizes[factor])


def locate_units(group: str, pattern: Pattern, sizes: Mapping[str, int]) -> Tensor:
    """Where each unit of a group lies along the axis: int64 of shape [size, places per unit].

    Column j is the same place relative to each unit, so that swapping two rows swaps the two units. The group
    must occur at most once in every product along the axis.

    Example:
        >>> locate_units("a", ("a", 2), {"a": 3}).tolist()
        [[0, 1], [2, 3], [4, 5]]
    """
    unit = locate_coordinates(group, pattern, sizes)
    order = torch.argsort(unit, stable=True)
    return order[unit[order] >= 0].view(sizes[group], -1)


def locate_coordinates(group: str, pattern: Pattern, sizes: Mapping[str, int]) -> Tensor:
    """The unit of the group at each place of the axis, -1 where there is none: int64 of the axis' length.

    Example:
        >>> locate_coordinates("a", ("a", 2), {"a": 2}).tolist()
        [0, 0, 1, 1]
    """
    units = torch.full((1,), -1)
    for factor in pattern:
        if isinstance(factor, Sum):
            inner = torch.cat([locate_coordinates(group, term, sizes) for term in factor.terms])
        elif factor == group:
            inner = torch.arange(sizes[group])
        else:
            inner = torch.full((_factor_length(factor, sizes),), -1)
        units = torch.maximum(units[:, None], inner).flatten()
    return units


def _unexpected(text: str, tokens: Sequence[str]) -> str:
    return (
        f"{text!r} is no index pattern: unexpected {tokens[0] if tokens else 'its end'}; write group names and whole "
        "numbers, as in 'conv2 49', and sums in brackets, as in '(query + key + value)'"
    )
