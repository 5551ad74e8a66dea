"""What a cue is, and cues by name."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mechconn.core import (
    Registered,
    SampleSource,
    check_declared_fields,
    construct,
    copy_inputs,
    isolate_rng,
    read_named,
)

TRIED_ROWS = 3
"""Rows that a user's cue is tried on."""


@dataclass(frozen=True)
class DataPlace:
    """Where a cue that shows other samples finds them.

    Attributes:
        split: which part of a task gets the cue: "train" or "test".
        root: the folder that holds the named sets; see `load`.
        download: whether to fetch what `root` lacks.
    """

    split: Literal["train", "test"] = "train"
    root: str | Path | None = None
    download: bool = False


class Cue(Registered, abc.ABC):
    """A latent that is drawn onto a natural sample: its values, and how each looks. Base of cues of your own.

    A subclass gives `agreeing`, `absent`, `random` and `render`. Values are a tensor with a row for each sample, of one
    number type and shape in all three. Every method is a pure function of its arguments: random numbers come from
    `mechconn.core.draw_uniform(index, seed, ...)` and `draw_integers`, never from a global generator, and no argument
    is written to. Options are fields: make the subclass a frozen dataclass.

    `cue_task`, recipes and `mechconn data --cue` find a cue of your own as "package.module:Class", and one that is
    imported by its class name or the name it gives, `class Stripe(Cue, name="stripe")`.
    """

    @abc.abstractmethod
    def agreeing(self, labels: Tensor, index: Tensor, seed: int) -> Tensor:
        """A value that agrees with each label, [N, ...]; where several do, a pure function of (index, seed).

        Args:
            labels: class of each row, int64 of shape [N].
            index: identity of each row, int64 of shape [N].
            seed: of the draws.
        """

    @abc.abstractmethod
    def absent(self, count: int) -> Tensor:
        """The value "no cue", repeated: [count, ...]."""

    @abc.abstractmethod
    def random(self, index: Tensor, seed: int) -> Tensor:
        """A value drawn uniformly from the cue's range for each row of `index`, independent of its label: [N, ...]."""

    @abc.abstractmethod
    def render(self, x: Any, values: Tensor) -> Any:
        """Copies of the inputs x, [N, ...] or a mapping of names to such, with the cue drawn as `values` say."""

    def check_data(self, split: str, data: SampleSource) -> None:
        """Raise ValueError or TypeError where the cue cannot be drawn on the "training" or "test" data."""

    def variants(self) -> Mapping[str, Cue]:
        """Name -> the same cue in another form, each a cue whose `agreeing` takes the same labels.

        Empty by default; `CueTask.variants` measures whether a network responds to them too.
        """
        return {}

    def placebo(self) -> Cue:
        """A cue of the same kind that no network met: what a network learns of it is learnt anew.

        Raises:
            ValueError: the cue names none.
        """
        name = type(self).__name__
        raise ValueError(
            f"{name} names no placebo; pass cue=, a cue of the same kind that no network met, or give {name} a method "
            "placebo() that returns one"
        )

    @classmethod
    def for_data(cls, data: Any, place: DataPlace, **options: Any) -> Cue:
        """The cue with these options that suits the training data: how a cue is made from its name.

        By default `cls(**options)`; override it where an option depends on the data, such as the number of classes.
        """
        return construct("cue", cls, options)


def check_values(cue: Cue, content: SampleSource) -> None:
    """Raise unless a cue of the user's keeps what `Cue` asks for, tried on the first rows.

    Raises:
        ValueError: its options are no fields of a dataclass; its values differ in shape or number type, or are not a
            function of (row, seed); or `render` writes into its inputs, or returns other rows.
    """
    check_declared_fields(type(cue))
    name, index = type(cue).__name__, torch.arange(min(TRIED_ROWS, len(content)))
    labels = content.y[index]
    makers = {
        "agreeing": lambda: cue.agreeing(labels, index, 0),
        "random": lambda: cue.random(index, 0),
        "absent": lambda: cue.absent(len(index)),
    }
    found = {}
    for method, make in makers.items():
        found[method], again = (_make_isolated(make, attempt) for attempt in range(2))
        if not torch.equal(found[method], again):
            raise ValueError(
                f"{name}.{method} gives other values when it is called again; draw by "
                "mechconn.core.draw_integers(index, high, seed, name), a function of row and seed"
            )
    kinds = {method: f"{list(values.shape)} {values.dtype}" for method, values in found.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"values of {name} must have one number type and one shape with a row for each sample, got "
            f"{', '.join(f'{method} {kind}' for method, kind in kinds.items())}"
        )
    _check_render(cue, content.inputs(index), found["agreeing"])


def _make_isolated(make: Callable[[], Tensor], attempt: int) -> Tensor:
    """What is made with the global generators in another state in every attempt."""
    with isolate_rng(attempt, "probe"):
        return make()


def _check_render(cue: Cue, x: Any, values: Tensor) -> None:
    name, before = type(cue).__name__, copy_inputs(x)
    shown = cue.render(x, values)
    for given, old, new in zip(_list_parts(x), _list_parts(before), _list_parts(shown), strict=False):
        if not torch.equal(given, old):
            raise ValueError(f"{name}.render writes into its inputs; draw on a copy, x = x.clone()")
        if len(new) != len(old):
            raise ValueError(f"{name}.render must return the {len(old)} rows that it got, got {len(new)}")


def _list_parts(x: Any) -> list[Tensor]:
    return list(x.values()) if isinstance(x, Mapping) else [x]


def make_cue(cue: Cue | str | Mapping[str, Any], data: Any, place: DataPlace | None = None) -> Cue:
    """The cue that a configuration names, for these training data; a cue is given back as it is.

    Args:
        cue: a registered name, a table {name = "box", size = 5}, or "package.module:Class" of your own.
        data: what it will be drawn on.
        place: where samples that it shows are found.

    Raises:
        ValueError: no such cue or option, or one that does not suit the data.
        TypeError: neither a name nor a table, or what is named is no cue.
    """
    if isinstance(cue, Cue):
        return cue
    found, options = read_cue(cue)
    return found.for_data(data, place or DataPlace(), **options)


def read_cue(value: str | Mapping[str, Any]) -> tuple[type[Cue], dict[str, Any]]:
    """(the class of a cue that a configuration names, its options).

    Raises:
        ValueError: no such cue or option.
        TypeError: neither a name nor a table, or what is named is no subclass of `Cue`.
    """
    found, options = read_named("cue", Cue, value)
    if not (isinstance(found, type) and issubclass(found, Cue)):
        name = getattr(found, "__name__", found)
        raise TypeError(f"cue {name!r} must be a subclass of mechconn.Cue, got a {type(found).__name__}")
    return found, options
