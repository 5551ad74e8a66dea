"""Randomness as an argument: independent streams named by (seed, names), and counter-based draws by index.

Nothing here leaves a trace in the global generators: `isolate_rng` restores them, also when its block raises.
"""

from __future__ import annotations

import numbers
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechconn.core._hashes import hash_to_int64


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and `names` alone, equal on every machine and in every process."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(f"seed must be a whole number, got {seed!r}")
    text = "/".join([str(int(seed)), *map(str, names)])
    return hash_to_int64(text.encode()) % 2**64 >> 1


def make_generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the stream `names` of `seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


@contextmanager
def isolate_rng(seed: int, *names: str | int) -> Iterator[None]:
    """Run a block with every global generator seeded from (seed, names), and give back their old states after it.

    Layers such as dropout, and loaders that shuffle, draw from the global generators; inside the block they
    become functions of the seed.
    """
    python, legacy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            seed_globally(seed, *names)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


def seed_globally(seed: int, *names: str | int) -> None:
    """Seed every global generator from (seed, names); for use within `isolate_rng` alone."""
    derived = derive_seed(seed, *names)
    if torch.accelerator.is_available():
        torch.manual_seed(derived)
    else:  # without a device `manual_seed` notes a traceback for each kind of device
        torch.default_generator.manual_seed(derived)
    random.seed(derived)
    np.random.seed(derived % 2**32)


def draw_bits(index: Tensor, seed: int, *names: str | int) -> np.ndarray:
    """64 random bits for each entry of `index`: a pure function of (entry, seed, names), uint64 of shape [N].

    The finaliser of SplitMix64 (Steele, Lea & Flood 2014) on a counter, so that row i draws the same value
    whatever the batch, the order or the number of rows around it.
    """
    counter = index.detach().cpu().numpy().astype(np.uint64) + np.uint64(1)
    return _finalise(np.uint64(derive_seed(seed, *names)), counter)


def _finalise(start: Any, counter: np.ndarray) -> np.ndarray:
    """The bits of a counter after a start, uint64."""
    with np.errstate(over="ignore"):
        z = start + counter * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def draw_uniform(index: Tensor, seed: int, *names: str | int) -> Tensor:
    """Uniform draws in [0, 1), float64 of shape [N], each a pure function of (entry, seed, names)."""
    bits = draw_bits(index, seed, *names)
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def draw_uniform_block(index: Tensor, count: int, seed: int, *names: str | int) -> Tensor:
    """`count` uniform draws in [0, 1) for each entry of `index`, float64 of shape [N, count].

    Column j is a pure function of (entry, seed, names, j), whatever the count: the finaliser of SplitMix64 on the
    entry's own bits and the counter j.
    """
    rows = draw_bits(index, seed, *names)[:, None]
    bits = _finalise(rows, np.arange(1, count + 1, dtype=np.uint64)[None])
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def draw_integers(index: Tensor, high: int, seed: int, *names: str | int) -> Tensor:
    """Uniform draws from 0 ... high - 1, int64 of shape [N], each a pure function of (entry, seed, names)."""
    return (draw_uniform(index, seed, *names) * high).long().clamp_(max=high - 1)
