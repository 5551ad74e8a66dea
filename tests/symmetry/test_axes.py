"""The algebra of axes, and the groups of small networks, against all permutations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from mechconn.symmetry import Atom
from mechconn.symmetry._axes import (
    Axis,
    NoRuleError,
    cut,
    expanded,
    freeze,
    join,
    leaf,
    leaves,
    length,
    regroup,
    tie,
)
from symmetry.check import built, generic, outputs


def places(axis: Axis, permuted: Mapping[Atom, Sequence[int]]) -> list[int]:
    """The old place of what comes to each place of an axis: the definition, place by place."""
    result = [0]
    for atom in axis:
        root = atom.root
        if root.factors is not None:
            inner = places(root.factors, permuted)
        elif root.terms is not None:
            inner, start = [], 0
            for term in root.terms:
                inner += [start + place for place in places(term, permuted)]
                start += length(term)
        else:
            inner = list(permuted.get(root, range(root.size)))
        result = [outer * len(inner) + place for outer in result for place in inner]
    return result


def free(*axes: Axis) -> list[Atom]:
    return list(dict.fromkeys(atom for axis in axes for atom in leaves(axis) if atom.reason is None))


def allowed(*axes: Axis) -> Iterator[dict[Atom, Sequence[int]]]:
    """Every choice of permutations of the free leaves."""
    atoms = free(*axes)
    for chosen in itertools.product(*(itertools.permutations(range(atom.size)) for atom in atoms)):
        yield dict(zip(atoms, chosen, strict=True))


@pytest.mark.parametrize(
    ("left", "right", "count"),
    [
        ([6], [6], 720),
        ([6], [2, 3], 2 * 6),
        ([2, 3], [2, 3], 2 * 6),
        ([2, 4], [4, 2], 2),  # both become 2 x 2 x 2, all three alike
        ([4], [2, 2], 2 * 2),
        ([2, 3], [3, 2], 1),
        ([12], [3, 4], 6 * 24),
        ([1, 5], [5, 1], 120),
    ],
)
def test_tied_axes_are_permuted_alike(left: list[int], right: list[int], count: int) -> None:
    x, y = (tuple(atom for size in sizes for atom in leaf(size)) for sizes in (left, right))
    if left == [2, 4]:  # one axis read in two orders
        y = (*x[1:], *x[:1])
    tie(x, y)
    choices = list(allowed(x, y))
    assert len(choices) == count
    assert all(places(x, chosen) == places(y, chosen) for chosen in choices)


def test_axes_of_different_lengths_are_not_tied() -> None:
    with pytest.raises(NoRuleError):
        tie(leaf(3), leaf(4))


def test_what_is_frozen_stays_so_through_ties() -> None:
    x, y, z = leaf(4), leaf(4, "why"), join([leaf(2), leaf(2)])
    tie(x, y)
    tie(z, x)
    assert free(x, y, z) == []
    assert {atom.reason for atom in leaves(z)} == {"why"}
    w = leaf(6)
    freeze(w, "first")
    freeze(w, "second")
    tie(w, (*leaf(2), *leaf(3)))
    assert {atom.reason for atom in leaves(w)} == {"first"}


def test_parts_of_an_axis_are_permuted_apart() -> None:
    x = leaf(5)
    parts = cut(x, [2, 3])
    assert parts is not None
    for chosen in allowed(x):
        whole = places(x, chosen)
        assert whole[:2] == places(parts[0], chosen)
        assert [place - 2 for place in whole[2:]] == places(parts[1], chosen)
    assert len(list(allowed(x))) == 2 * 6
    again = cut(x, [1, 2, 2])  # across the first cut
    assert again is not None
    assert [length(part) for part in again] == [1, 2, 2]
    assert len(list(allowed(x))) == 2  # 1, 1, 1 and 2


def test_a_product_is_cut_between_its_blocks_only() -> None:
    x = (*leaf(4), *leaf(3))
    parts = cut(x, [6, 6])
    assert parts is not None
    assert len(list(allowed(x))) == 2 * 2 * 6
    for chosen in allowed(x):
        assert places(x, chosen)[:6] == places(parts[0], chosen)
    assert cut((*leaf(4), *leaf(3)), [4, 8]) is None


def test_equal_parts_end_to_end_can_be_read_as_blocks() -> None:
    a, b = leaf(3), leaf(3)
    x = join([a, b])
    blocks = regroup([x], [2, 3])
    assert [len(list(allowed(axis))) for axis in blocks] == [1, 6]
    assert free(a) == free(b) == free(x)
    assert blocks[0] and all(atom.reason for atom in expanded(blocks[0]))


def test_a_view_that_does_not_fit_freezes_only_what_it_mixes() -> None:
    x = [leaf(2), leaf(3), leaf(2), leaf(5)]
    made = regroup(x, [2, 2, 3, 5])
    assert [length(axis) for axis in made] == [2, 2, 3, 5]
    assert free(*made) == free(x[0], x[3])
    assert free(x[1], x[2]) == []
    with pytest.raises(NoRuleError):
        regroup(x, [4, 4])


@given(st.data())
def test_any_sequence_of_steps_keeps_all_readings_of_an_axis_equal(data: st.DataObject) -> None:
    """Axes of length 12 are cut, join, divided and tied at random; what was tied must stay equal for all choices."""
    sizes = data.draw(st.lists(st.sampled_from([(12,), (3, 4), (2, 6), (4, 3), (2, 2, 3)]), min_size=2, max_size=4))
    axes: list[Axis] = [tuple(atom for size in factors for atom in leaf(size)) for factors in sizes]
    sums = data.draw(st.lists(st.sampled_from([(3, 9), (6, 6), (4, 4, 4), (5, 7), (8, 4)]), min_size=1, max_size=3))
    axes += [join([leaf(size) for size in parts]) for parts in sums]
    tied: list[tuple[Axis, Axis]] = []
    for _ in range(data.draw(st.integers(1, 5))):
        x, y = (axes[data.draw(st.integers(0, len(axes) - 1))] for _ in range(2))
        if data.draw(st.booleans()):
            tie(x, y)
            tied.append((x, y))
        else:
            parts = cut(x, data.draw(st.sampled_from([[6, 6], [3, 9], [4, 8], [1, 11]])))
            if parts is not None:
                new = join(parts)
                tied.append((x, new))
                axes.append(new)
    draw = torch.Generator().manual_seed(0)
    for _ in range(5):
        chosen = {atom: torch.randperm(atom.size, generator=draw).tolist() for atom in free(*axes)}
        for x, y in tied:
            assert places(x, chosen) == places(y, chosen)
            assert sorted(places(x, chosen)) == list(range(12))


# ---------------------------------------------------------------- small networks, all permutations


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 4), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.a(x).tanh().chunk(2, 1)
        return self.b(u * v)


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.silu(torch.cat([self.a(x), self.b(x)], 1)))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1, bias=False)
    )


# network, input, the weights whose axes are permuted (tensor, axis), number of permutations that the group must have
CASES = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
        torch.tensor([[1.0, -2.0], [0.5, 0.3]]),
        6 * 24,
    ),
    "conv": (convolutions, torch.arange(32.0).sin().reshape(2, 1, 4, 4), 6 * 2),
    "chunk": (Halves, torch.tensor([[1.0, -2.0], [0.5, 0.3]]), 2),
    "cat": (Joined, torch.tensor([[1.0, -2.0], [0.5, 0.3]]), 2 * 6),
}


@pytest.mark.parametrize("name", CASES)
def test_the_group_found_is_sound_and_as_large_as_it_should_be(name: str) -> None:
    factory, x, count = CASES[name]
    model = built(factory)
    symmetry = mc.symmetry_of(model, x)
    assert math.prod(math.factorial(size) for size in symmetry.sizes.values()) == count
    start = generic(model)
    state, moved = start.state_dict(), generic(model)
    (expected,) = outputs(start, x, training=False)
    for chosen in itertools.product(*(itertools.permutations(range(n)) for n in symmetry.sizes.values())):
        permutations = dict(zip(symmetry.sizes, map(torch.tensor, chosen), strict=True))
        moved.load_state_dict(symmetry.apply(state, permutations))
        torch.testing.assert_close(outputs(moved, x, training=False)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["chunk", "cat"])
def test_no_other_permutation_of_hidden_units_keeps_the_function(name: str) -> None:
    """All permutations of the hidden layer's rows with all of the next layer's columns: how many change nothing."""
    factory, x, count = CASES[name]
    start, moved = generic(built(factory)), generic(built(factory))
    state = start.state_dict()
    (expected,) = outputs(start, x, training=False)
    rows = [key for key in ("a", "b") if name == "cat" or key == "a"]
    last = "c" if name == "cat" else "b"
    sizes = [state[f"{key}.weight"].shape[0] for key in rows] + [state[f"{last}.weight"].shape[1]]
    unchanged = 0
    for chosen in itertools.product(*(itertools.permutations(range(size)) for size in sizes)):
        new = dict(state)
        for key, order in zip(rows, chosen, strict=False):
            for part in ("weight", "bias"):
                new[f"{key}.{part}"] = state[f"{key}.{part}"][list(order)]
        new[f"{last}.weight"] = state[f"{last}.weight"][:, list(chosen[-1])]
        moved.load_state_dict(new)
        unchanged += int((outputs(moved, x, training=False)[0] - expected).abs().max() < 1e-12)
    # In u * v the halves may also change places, unit by unit: no permutation of a group, and left out on purpose.
    assert unchanged == (count * 4 if name == "chunk" else count)
