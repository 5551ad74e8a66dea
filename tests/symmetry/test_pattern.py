"""Index patterns: written and read, their lengths and indices, and what is no pattern."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechconn.symmetry import Pattern, Sum, compute_index, list_groups, locate_units
from mechconn.symmetry._pattern import parse, pattern_length, text_of

SIZES = {"a": 2, "layer1.conv:2": 3, "w_1": 1}
factors = st.sampled_from([*SIZES, 1, 2, 5])
patterns: st.SearchStrategy[Pattern] = st.recursive(
    st.lists(factors, min_size=1, max_size=3).map(tuple),
    lambda inner: st.lists(
        st.one_of(factors, st.lists(inner, min_size=1, max_size=3).map(lambda terms: Sum(tuple(terms)))),
        min_size=1,
        max_size=3,
    ).map(tuple),
    max_leaves=6,
)


@given(patterns)
def test_what_is_written_is_read_back(pattern: Pattern) -> None:
    assert parse(text_of(pattern)) == pattern
    assert parse(text_of(pattern).replace(" ", "  ").replace("(", " ( ")) == pattern


@given(patterns, st.integers(0, 100))
def test_an_index_is_a_permutation_that_composes(pattern: Pattern, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    one, two = ({name: torch.randperm(size, generator=draw) for name, size in SIZES.items()} for _ in range(2))
    first, second = compute_index(pattern, SIZES, one), compute_index(pattern, SIZES, two)
    assert torch.equal(first.sort().values, torch.arange(pattern_length(pattern, SIZES)))
    assert torch.equal(compute_index(pattern, SIZES, {}), torch.arange(pattern_length(pattern, SIZES)))
    both = {name: one[name][two[name]] for name in SIZES}  # moved by `one`, then by `two`
    assert torch.equal(compute_index(pattern, SIZES, both), first[second])


@given(patterns)
def test_swapping_two_units_swaps_their_places(pattern: Pattern) -> None:
    name = "layer1.conv:2"
    groups = list(list_groups(pattern))
    if groups.count(name) != 1:
        return
    places = locate_units(name, pattern, SIZES)
    moved = compute_index(pattern, SIZES, {name: torch.tensor([1, 0, 2])})
    assert places.shape[0] == 3
    expected = torch.arange(pattern_length(pattern, SIZES))
    expected[places[0]], expected[places[1]] = places[1], places[0]
    assert torch.equal(moved, expected)


def test_lengths_by_hand() -> None:
    assert pattern_length(parse("a (layer1.conv:2 + 4 a) 5"), SIZES) == 2 * (3 + 8) * 5 == math.prod((2, 11, 5))


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("", "its end"),
        ("()", ")"),
        ("(a", "its end"),
        ("a)", ")"),
        ("a + b", "+"),
        ("(a + )", ")"),
        ("(+ a)", "+"),
        ("(a b))", ")"),
    ],
)
def test_what_is_no_pattern_is_named(text: str, token: str) -> None:
    with pytest.raises(ValueError, match="is no index pattern") as caught:
        parse(text)
    assert f"{text!r} is no index pattern: unexpected {token}; write group names" in str(caught.value)
