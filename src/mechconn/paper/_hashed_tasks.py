"""Tasks for experiments, each part with the hash of its content: what a step reads is known by what it holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from mechconn import datasets
from mechconn.core import derive_seed, hash_content
from mechconn.datasets import CuedSet, DominoesCue, Suite, has_split
from mechconn.paper._settings import DataSettings
from mechconn.store import StepInput

DATA_VERSION = "data 1"
"""Raised when the same images, cue and seeds would give other inputs."""


@dataclass(frozen=True, eq=False)
class HashedData:
    """Data with the hash of their content, and a name for records."""

    data: CuedSet
    input: StepInput
    label: str

    def sample(self, count: int | None, seed: int) -> HashedData:
        """`count` rows drawn by seed; None is all of them."""
        if count is None or count == len(self.data):
            return self
        return make_hashed_data(self.data.sample(count, seed), f"{count} rows of the {self.label}")

    def sample_at_most(self, count: int | None, seed: int) -> HashedData:
        """As `sample`, but all rows where there are no more than `count`."""
        return self.sample(None if count is None else min(count, len(self.data)), seed)


@dataclass(frozen=True, eq=False)
class HashedTask:
    """Training data with the cue on a share of each class, the same without it, and the counterfactual test splits."""

    train: HashedData
    clean: HashedData
    suite: Suite
    suite_input: StepInput
    num_classes: int
    shape: tuple[int, ...]


def make_task(
    data: DataSettings,
    proportion: float,
    seed: int,
    rows: int | None,
    test_rows: int | None,
    root: str | None,
    draws: int = 1,
) -> HashedTask:
    """The task of a cell; kept in memory for the next cell that needs it.

    Raises:
        ValueError, FileNotFoundError: as `mechconn.datasets.cue_task`.
    """
    return _make_cached_task(data.model_dump_json(), proportion, seed, rows, test_rows, root, draws)


@lru_cache(maxsize=4)
def _make_cached_task(
    text: str, proportion: float, seed: int, rows: int | None, test_rows: int | None, root: str | None, draws: int
) -> HashedTask:
    """The task of the data that `text` describes as JSON."""
    data = DataSettings.model_validate_json(text)
    made = datasets.cue_task(
        **_load_images(text, rows, test_rows, root),
        proportion=proportion,
        seed=seed,
        root=root,
        rows=rows,
        test_rows=test_rows,
        download=data.download,
        draws=draws,
    )
    splits = list(made.suite.items())
    splits += [(f"{name} again", drawn) for name, further in made.suite.redraws.items() for drawn in further]
    return HashedTask(
        train=make_hashed_data(made.train, f"training data with the cue on {proportion:g} of each class"),
        clean=make_hashed_data(made.clean, "training data without the cue"),
        suite=made.suite,
        suite_input=StepInput(hash_content([f"{name} {_hash_rows(split)}" for name, split in splits])),
        num_classes=made.num_classes,
        shape=tuple(made.clean.inputs(torch.tensor([0])).shape[1:]),
    )


def make_hashed_data(data: CuedSet, label: str) -> HashedData:
    """Data with their hash."""
    return HashedData(data, StepInput(_hash_rows(data)), label)


@lru_cache(maxsize=4)
def _load_images(text: str, rows: int | None, test_rows: int | None, root: str | None) -> dict[str, Any]:
    """What `cue_task` is to read: a name, or images that were decoded once for all proportions and seeds."""
    data = DataSettings.model_validate_json(text)
    if data.source in ("digits", "planted"):
        return {"source": data.source}
    how: dict[str, Any] = {"root": root, "size": data.size, "rgb": data.rgb, "download": data.download}
    test = None
    if data.download or has_split(data.source, root, "test"):
        test = datasets.load(data.source, split="test", rows=test_rows, **how)
    # What will be divided by seed is read whole.
    train = datasets.load(data.source, rows=None if test is None else rows, **how)
    found: dict[str, Any] = {"source": train, "test": test}
    if data.cue == "dominoes":
        tops = {
            split: datasets.load("fashion_mnist", root=root, split=split, download=data.download)
            for split in ("train", "test")
        }
        found |= {"cue": DominoesCue(tops["train"]), "test_cue": DominoesCue(tops["test"])}
    return found


def hash_images(data: DataSettings, rows: int | None, test_rows: int | None, root: str | None) -> str:
    """The hash of all that the tasks of these data are made from, whatever their proportions and seeds."""
    found = _load_images(data.model_dump_json(), rows, test_rows, root)
    parts = [[_hash_shared(part)] if _is_shared(part) else list(_iterate_parts(part)) for part in found.values()]
    return hash_content([DATA_VERSION, *chain.from_iterable(parts)])


def derive_clean_seed(seed: int) -> int:
    """The seed of theta_NC's weights and order where it must share nothing with theta_C."""
    return derive_seed(seed, "theta_NC")


def _hash_rows(data: Any) -> str:
    """The hash of everything that a dataset's rows are made from."""
    return hash_content([DATA_VERSION, *_iterate_parts(data)])


def _iterate_parts(value: Any) -> Iterator[Tensor | str]:
    """Tensors and texts that tell a dataclass of them from every other; large ones by their hash."""
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__
        for field in dataclasses.fields(value):
            part = getattr(value, field.name)
            yield field.name
            if field.init:
                yield from [_hash_shared(part)] if _is_shared(part) else _iterate_parts(part)
    else:
        yield repr(value)


def _is_shared(part: Any) -> bool:
    """Whether many datasets look at this one, such as the images under every cue."""
    return dataclasses.is_dataclass(part) and not isinstance(part, CuedSet) and hasattr(part, "inputs")


@lru_cache(maxsize=16)
def _hash_shared(part: Any) -> str:
    return hash_content(_iterate_parts(part))
