"""Interventions given as functions of the inputs, with random numbers that belong to the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import (
    NO_CUE,
    Data,
    SampleSource,
    as_data,
    check_by_index,
    check_count,
    check_is,
    derive_seed,
    draw_integers,
    draw_uniform,
    find_row_origin,
    import_function,
    isolate_rng,
    move_source,
)
from mechconn.datasets._suite import Suite
from mechconn.datasets._transforms import Intervention

TRIED_ROWS = 3


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers for the rows of a batch: each a pure function of (row, seed, names), whatever the batch.

    Attributes:
        ids: identity of each row, int64 of shape [n].
        seed: of the draws.
        device: where the inputs are.

    Example:
        >>> both, alone = Draws(torch.tensor([3, 4]), seed=0), Draws(torch.tensor([4]), seed=0)
        >>> both.uniform("angle")[1:] == alone.uniform("angle")
        tensor([True])
    """

    ids: Int[Tensor, " n"]
    seed: int
    device: str | torch.device = "cpu"

    def uniform(self, *names: str | int) -> Float[Tensor, " n"]:
        """One number in [0, 1) for each row, float32; another name gives another, independent, number."""
        drawn = draw_uniform(self.ids, self.seed, "uniform", *names)
        # Rounding to float32 must not reach 1.
        return drawn.float().clamp(max=1.0 - 2.0**-24).to(self.device)

    def integers(self, high: int, *names: str | int) -> Int[Tensor, " n"]:
        """One whole number of 0 ... high - 1 for each row, int64."""
        return draw_integers(self.ids, check_count("high", high), self.seed, "integers", *names).to(self.device)


Function = Callable[[Any, Draws], Any]


@dataclass(frozen=True, eq=False)
class FunctionSet:
    """Scenes whose inputs went through a function when they were asked for; the labels are those of `source`.

    Attributes:
        source: the scenes before.
        function: (inputs, draws) -> inputs.
        ids: identity of each row, int64 of shape [N]: what its draws depend on.
        seed: of the draws.
    """

    source: SampleSource
    function: Function
    ids: Int[Tensor, " n"]
    seed: int

    @property
    def y(self) -> Tensor:
        """Labels; no intervention changes them."""
        return self.source.y

    @property
    def row_origin(self) -> tuple[object, Tensor]:
        """That of the scenes before."""
        return find_row_origin(self.source)

    def __len__(self) -> int:
        return len(self.source)

    def inputs(self, index: Tensor) -> Any:
        """Inputs of the rows `index` after the function."""
        x = self.source.inputs(index)
        return self.function(x, Draws(self.ids[index], self.seed, next(iter(_name_parts(x).values())).device))

    def to(self, device: str | torch.device) -> FunctionSet:
        """The same scenes, made on `device`."""
        return replace(self, source=move_source(self.source, device))


def intervened(
    data: Data,
    functions: Mapping[str, Function | Intervention | str],
    *,
    reference: str = "data",
    seed: int = 0,
    draws: int = 1,
) -> Suite:
    """A suite of `data` and what each of some functions makes of it, row by row, with the labels as they are.

    A function gets the inputs of some rows, a tensor or a mapping as the model receives them, and `draws`, and
    returns inputs of the same rows. What it draws, it takes from `draws.uniform(name)` or `draws.integers(high, name)`,
    one number for each row. A unit intervention draws one latent uniformly from its range and leaves the rest.

    Args:
        data: data that hand out rows by index: a dataset, or an (x, y) pair of tensors.
        functions: name of a split -> a function, an `Intervention`, or "package.module:function".
        reference: the name that `data` itself gets.
        seed: of the draws; each function has a stream of its own.
        draws: how often each intervention is drawn; with several, effects are means over them (see
            `measure_invariance`). A function that draws nothing gives the same every time.

    Raises:
        TypeError: the data are batches that cannot be read by row, or something is no function.
        ValueError: no functions, one with the name of the reference, or one that fails, gives inputs of other rows, or
            gives other values when it is asked again or for fewer rows.

    Example:
        >>> data = torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1])
        >>> suite = intervened(data, {"negated": lambda x, draws: -x})
        >>> suite["negated"].inputs(torch.tensor([1]))
        tensor([[-2.]])
    """
    check_is("functions", functions, Mapping, "; pass {name: function, ...}")
    source = check_by_index("intervened", as_data("data", data))
    if not functions or reference in functions:
        raise ValueError(
            f"functions must name one split or more, each other than the reference {reference!r}, got "
            f"{', '.join(functions) or 'none'}; rename it, or set reference="
        )
    splits: dict[str, Data] = {reference: source}
    redraws: dict[str, list[Data]] = {}
    numbers = range(1, check_count("draws", draws))
    for name, function in functions.items():
        splits[name] = _apply_function(name, source, function, derive_seed(seed, "intervened", name))
        if name != NO_CUE:
            streams = [derive_seed(seed, "intervened", name, number) for number in numbers]
            redraws[name] = [_apply_function(name, source, function, stream) for stream in streams]
    return Suite(splits, reference=reference, redraws=redraws)


def _apply_function(name: str, source: SampleSource, function: Function | Intervention | str, seed: int) -> Data:
    """The scenes after one intervention; a function is tried on the first rows."""
    if isinstance(function, Intervention):
        return function(source, seed=seed)
    if isinstance(function, str):
        function = import_function(f"the intervention {name!r}", function)
    if not callable(function):
        raise TypeError(
            f"the intervention {name!r} must be a function, an Intervention or 'package.module:function', got "
            f"{type(function).__name__}"
        )
    data = FunctionSet(source, function, getattr(source, "ids", torch.arange(len(source))), seed)
    index = torch.arange(min(TRIED_ROWS, len(source)))
    before = _name_parts(source.inputs(index))
    first, again = (_try_function(name, data, index, attempt) for attempt in range(2))
    alone = _try_function(name, data, index[-1:], 2)
    if first.keys() != before.keys() or any(len(first[key]) != len(index) for key in first):
        found, wanted = _describe_parts(first), _describe_parts(before)
        raise ValueError(_explain_other_inputs(name, wanted, found))
    for other, rows, when in ((again, slice(None), "asked again"), (alone, slice(-1, None), "asked for one row alone")):
        if not all(_are_same(first[key][rows], other[key]) for key in first):
            raise ValueError(
                f"the intervention {name!r} gives a row other values when it is {when}; take random numbers from "
                "its second argument, draws.uniform('angle'), and treat every row by itself"
            )
    return data


def _try_function(name: str, data: FunctionSet, index: Tensor, attempt: int) -> dict[str, Tensor]:
    """What the function gives for the rows `index`; the global generators stand elsewhere in every attempt."""
    with isolate_rng(attempt, "probe"):
        try:
            found = data.inputs(index)
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(
                f"the intervention {name!r} fails on the first rows ({why}); it gets (inputs, draws) and returns "
                "inputs of the same rows"
            ) from error
    parts = _name_parts(found)
    if not parts or not all(isinstance(part, Tensor) and part.dim() for part in parts.values()):
        raise ValueError(_explain_other_inputs(name, "tensors", f"a {type(found).__name__}"))
    return parts


def _name_parts(inputs: Any) -> dict[str, Any]:
    """The tensors of some inputs by name; a single one is called "inputs"."""
    return dict(inputs) if isinstance(inputs, Mapping) else {"inputs": inputs}


def _describe_parts(parts: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(part.shape)}" for name, part in parts.items())


def _are_same(a: Tensor, b: Tensor) -> bool:
    """Equal, but for rounding that depends on the number of rows."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-4, equal_nan=True)


def _explain_other_inputs(name: str, wanted: str, got: str) -> str:
    return f"the intervention {name!r} must return inputs of the rows it got, {wanted}, got {got}"
