"""Randomness as an argument: stable streams, draws by index, and global generators left alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from mechconn.core import derive_seed, draw_integers, draw_uniform, isolate_rng, make_generator
from mechconn.core._rng import draw_bits
from reference import splitmix64

seeds = st.integers(-(2**70), 2**70)
indices = st.lists(st.integers(0, 2**62), min_size=1, max_size=20)


def states() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state()
    return random.getstate(), (name, np.asarray(keys).tolist(), *rest), torch.get_rng_state().tolist()


def global_draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


# ---------------------------------------------------------------- streams


def test_draws_are_the_same_on_every_machine() -> None:
    """Numbers of the first release: whoever changes them changes every result."""
    assert (derive_seed(0), derive_seed(7, "cue", 3)) == (2033344993903900207, 5476069111074692492)
    assert draw_integers(torch.arange(8), 10, 0, "box cue").tolist() == [3, 0, 4, 2, 6, 2, 3, 2]
    assert draw_uniform(torch.arange(2), 0, "proportion").tolist() == [0.14219789571145058, 0.5688684956407118]


def test_the_witness_gives_the_published_numbers() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix64(1234567, counter) for counter in (1, 2, 3)] == published


@given(seed=seeds, other=seeds)
def test_streams_are_told_apart_by_seed_and_name(seed: int, other: int) -> None:
    assert 0 <= derive_seed(seed, "a") < 2**63
    assert (derive_seed(seed, "a") == derive_seed(other, "a")) == (seed == other)
    assert derive_seed(seed, "a") != derive_seed(seed, "b")
    assert derive_seed(seed, "a", 1) != derive_seed(seed, "a", 2)


def test_a_generator_is_its_streams() -> None:
    one, same, other = make_generator(0, "a"), make_generator(0, "a"), make_generator(0, "b")
    draws = [torch.rand(5, generator=draw) for draw in (one, same, other)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


# ---------------------------------------------------------------- the block


def test_a_block_is_a_function_of_its_seed_and_leaves_no_trace() -> None:
    before = states()
    with isolate_rng(3, "a"):
        first = global_draws()
    with isolate_rng(3, "a"):
        second = global_draws()
    with isolate_rng(4, "a"):
        third = global_draws()
    assert first == second
    assert not set(first) & set(third)
    assert states() == before


def test_blocks_may_stand_in_one_another() -> None:
    with isolate_rng(0, "outer"):
        alone = [global_draws() for _ in range(2)]
    with isolate_rng(0, "outer"):
        first = global_draws()
        with isolate_rng(1, "inner"):
            global_draws()
        second = global_draws()
    assert [first, second] == alone


def test_a_block_that_raises_leaves_no_trace() -> None:
    before = states()
    with pytest.raises(KeyError, match="midway"), isolate_rng(0, "a"):
        global_draws()
        raise KeyError("midway")
    assert states() == before


# ---------------------------------------------------------------- draws by index


@given(index=indices, seed=seeds)
def test_bits_are_those_of_splitmix64(index: list[int], seed: int) -> None:
    expected = [splitmix64(derive_seed(seed, "x"), entry + 1) for entry in index]
    assert draw_bits(torch.tensor(index), seed, "x").tolist() == expected


@given(index=indices, seed=seeds, high=st.integers(1, 1000))
def test_a_draw_depends_on_its_own_entry_alone(index: list[int], seed: int, high: int) -> None:
    together = draw_integers(torch.tensor(index), high, seed, "x")
    apart = [int(draw_integers(torch.tensor([entry]), high, seed, "x")) for entry in index]
    assert together.tolist() == apart
    assert all(0 <= value < high for value in apart)


def test_uniform_draws_are_uniform_and_independent() -> None:
    index = torch.arange(100_000)
    here, there = draw_uniform(index, 0, "a"), draw_uniform(index, 0, "b")
    assert bool(((here >= 0) & (here < 1)).all())
    # A fixed draw of 100,000: it passes once and then always.
    assert kstest(here.numpy(), "uniform").pvalue > 0.01
    pairs = [(here, there), (here[1:], here[:-1]), (here, draw_uniform(index, 1, "a"))]
    for a, b in pairs:
        # The correlation of independent draws has a standard error of 0.0032.
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.013


def test_integers_are_uniform() -> None:
    counts = draw_integers(torch.arange(70_000), 7, 0, "a").bincount(minlength=7)
    # Five standard deviations of Binomial(70000, 1/7).
    assert len(counts) == 7 and bool(((counts - 10_000).abs() < 5 * (10_000 * 6 / 7) ** 0.5).all())


def test_a_block_draws_what_torchs_own_seed_gives() -> None:
    """Whether or not there is a device beside the CPU."""
    with isolate_rng(3, "evaluate"):
        inside = torch.rand(4)
    assert torch.equal(inside, torch.rand(4, generator=torch.Generator().manual_seed(derive_seed(3, "evaluate"))))
