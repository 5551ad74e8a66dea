"""The data of cells: tasks by their settings, each kept for the next cell, and the identity of what a step reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mechconn import datasets
from mechconn.core import ADDED_LATER, NOT_HASHED, derive_seed, hash_content, is_built_in
from mechconn.datasets import CuedSet, CueTask, Suite, find_cues, has_split
from mechconn.paper._settings import DataSettings
from mechconn.store import StepInput

DATA_VERSION = "data 1"
"""Raised when the same images, cue and seeds would give other inputs."""


@lru_cache(maxsize=4)
def load_task(
    data: DataSettings,
    proportion: float,
    seed: int,
    rows: int | None,
    test_rows: int | None,
    root: str | None,
    draws: int = 1,
) -> CueTask:
    """The task of a cell; kept in memory for the next cell that needs it.

    Raises:
        ValueError, FileNotFoundError: as `mechconn.datasets.cue_task`.
    """
    return datasets.cue_task(
        **_load_images(data, rows, test_rows, root),
        proportion=proportion,
        seed=seed,
        root=root,
        rows=rows,
        test_rows=test_rows,
        download=data.download,
        draws=draws,
    )


@lru_cache(maxsize=4)
def _load_images(data: DataSettings, rows: int | None, test_rows: int | None, root: str | None) -> dict[str, Any]:
    """What `cue_task` is to read: a name, or images that were decoded once for all proportions and seeds."""
    own = {} if data.cue == "box" or data.source == "planted" else {"cue": data.cue}
    if data.source in ("digits", "planted"):
        return {"source": data.source, **own}
    how: dict[str, Any] = {"root": root, "size": data.size, "rgb": data.rgb, "download": data.download}
    test = None
    if data.download or has_split(data.source, root, "test"):
        test = datasets.load(data.source, split="test", rows=test_rows, **how)
    # What will be divided by seed is read whole.
    train = datasets.load(data.source, rows=None if test is None else rows, **how)
    found: dict[str, Any] = {"source": train, "test": test}
    if own:
        cue, test_cue = find_cues(data.cue, train, None, root, data.download)
        found |= {"cue": cue, "test_cue": test_cue}
    return found


def find_input_shape(task: CueTask) -> tuple[int, ...]:
    """The shape of one input."""
    return tuple(task.clean.inputs(torch.tensor([0])).shape[1:])


def sample_at_most(data: CuedSet, count: int | None, seed: int) -> CuedSet:
    """`count` rows drawn by seed; all of them where there are no more, or where `count` is None."""
    return data if count is None or count >= len(data) else data.sample(count, seed)


def describe_rows(data: CuedSet) -> str:
    """What a record calls training data: how many rows, and on how many of them a cue is drawn.

    Example:
        >>> describe_rows(datasets.cue_task("planted", rows=10).clean)
        '10 training rows without a cue'
    """
    drawn = (data.cue_values != data.cue.absent(len(data))).reshape(len(data), -1).any(1)
    cue = f"with a cue on {int(drawn.sum()):,} of them" if drawn.any() else "without a cue"
    return f"{len(data):,} training rows {cue}"


def derive_clean_seed(seed: int) -> int:
    """The seed of theta_NC's weights and order where it must share nothing with theta_C."""
    return derive_seed(seed, "theta_NC")


# ---------------------------------------------------------------- identity: what a step reads is known by its content


def identify(data: CuedSet | Suite) -> StepInput:
    """Data as the input of a step: the hash of everything that their rows are made from, computed once for a dataset.

    Example:
        >>> rows = datasets.cue_task("planted", rows=10).train
        >>> identify(rows) == identify(rows.subset(torch.arange(10)))
        True
    """
    if isinstance(data, Suite):
        splits = list(data.items())
        splits += [(f"{name} again", drawn) for name, further in data.redraws.items() for drawn in further]
        return StepInput(hash_content([f"{name} {_hash_once(split)}" for name, split in splits]))
    return StepInput(_hash_once(data))


def hash_images(data: DataSettings, rows: int | None, test_rows: int | None, root: str | None) -> str:
    """The hash of all that the tasks of these data are made from, whatever their proportions and seeds."""
    found = _load_images(data, rows, test_rows, root)
    parts = [[_hash_once(part)] if _is_shared(part) else list(_iterate_parts(part)) for part in found.values()]
    return hash_content([DATA_VERSION, *chain.from_iterable(parts)])


_hashes: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Dataset, compared by identity -> hash of its content."""


def _hash_once(data: Any) -> str:
    """The hash of the content of a dataset."""
    if data not in _hashes:
        version = [DATA_VERSION] if isinstance(data, CuedSet) else []
        _hashes[data] = hash_content([*version, *_iterate_parts(data)])
    return _hashes[data]


def _iterate_parts(value: Any) -> Iterator[Tensor | str]:
    """Tensors and texts that tell a dataclass of them from every other; large ones by their hash."""
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield _name_class(type(value))
        for field in dataclasses.fields(value):
            part = getattr(value, field.name)
            if field.metadata == NOT_HASHED or (field.metadata == ADDED_LATER and part == field.default):
                continue
            yield field.name
            if field.init:
                yield from [_hash_once(part)] if _is_shared(part) else _iterate_parts(part)
    else:
        yield repr(value)


def _name_class(kind: type) -> str:
    """A class of this package by its name, and a user's by module and name: two files may define one name each."""
    return kind.__name__ if is_built_in(kind) else f"{kind.__module__}:{kind.__qualname__}"


def _is_shared(part: Any) -> bool:
    """Whether many datasets look at this one, such as the images under every cue."""
    return dataclasses.is_dataclass(part) and not isinstance(part, CuedSet) and hasattr(part, "inputs")
