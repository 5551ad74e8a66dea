"""Suites of interventions, and interventions given as functions of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from mechconn.core import (
    NO_CUE,
    Data,
    SampleSource,
    as_data,
    check_by_index,
    check_count,
    check_is,
    construct,
    derive_seed,
    describe_origin,
    move_source,
    read_named,
    read_row_ids,
)
from mechconn.datasets import SameRows, Suite, find_links
from mechconn.interventions._draws import Draws
from mechconn.interventions._intervention import Intervention
from mechconn.interventions._row_trial import RowTrial, name_parts

Function: TypeAlias = Callable[[Any, Draws], Any]
"""(inputs, draws) -> inputs of the same rows."""


@dataclass(frozen=True, eq=False, repr=False)
class FunctionSet(SameRows):
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
    def below(self) -> SampleSource:
        """The scenes before."""
        return self.source

    def facts(self) -> list[str]:
        """The function, and of what."""
        return [f"after {getattr(self.function, '__name__', 'a function')}", describe_origin(self.source)]

    def inputs(self, index: Tensor) -> Any:
        """Inputs of the rows `index` after the function."""
        return self.change(self.source.inputs(index), index)

    def change(self, x: Any, index: Tensor) -> Any:
        """What the function gives for the inputs x of the rows `index`."""
        return self.function(x, Draws(self.ids[index], self.seed, next(iter(name_parts(x).values())).device))

    def to(self, device: str | torch.device) -> FunctionSet:
        """The same scenes, made on `device`."""
        return replace(self, source=move_source(self.source, device))


def intervened(
    data: Data,
    functions: Mapping[str, Function | Intervention | str | Mapping[str, Any]],
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
        data: data that can be read by row: a dataset, or an (x, y) pair of tensors.
        functions: name of a split -> a function, an `Intervention`, a registered name ("rotate", "translate",
            "colour-shift"), a table such as {"name": "rotate", "max_degrees": 90}, or "package.module:name" of a
            function or of a subclass of `Intervention`.
        reference: the name that `data` itself gets.
        seed: of the draws; each function has its own stream.
        draws: how often each intervention is drawn; with several, effects are means over them (see
            `measure_invariance`). A function that draws nothing gives the same every time.

    Raises:
        TypeError: the data are batches that cannot be read by row, or something is no function.
        ValueError: no functions, one with the name of the reference, or one that fails, writes into its inputs, gives
            inputs of other rows, or gives other values when it is asked again or for fewer rows. So does one of a
            subclass of `Intervention` of your own; several draws of one that shows other rows of the data.

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
            if streams and find_links(splits[name]) is not None:
                raise ValueError(
                    f"the intervention {name!r} shows rows of the data in each other's place, in several draws almost "
                    f"all in one chain, so that no interval would hold, got draws={draws}; give it rows to take from, "
                    "donors=, or draw once"
                )
    return Suite(splits, reference=reference, redraws=redraws)


def read_intervention(name: str, value: Any) -> Intervention | Function:
    """The intervention or function that `intervened` is given for a split, or that a configuration names.

    Raises:
        ValueError: no such intervention or option.
        TypeError: neither a function nor an intervention, nor the name of one.
    """
    found, what = value, f"the intervention {name!r}"
    if isinstance(value, str | Mapping):
        found, options = read_named(what, Intervention, value)
        found = construct(what, found, options) if isinstance(found, type) else found
    if isinstance(found, type) and issubclass(found, Intervention):
        raise TypeError(f"{what} is the class {found.__name__}, not an instance; write {found.__name__}()")
    if isinstance(found, type) or not (isinstance(found, Intervention) or callable(found)):
        raise TypeError(
            f"{what} must be a function, an Intervention, or the name of one such as 'rotate' or "
            f"'package.module:function', got {getattr(found, '__name__', type(found).__name__)}"
        )
    return found


def _apply_function(name: str, source: SampleSource, value: Any, seed: int) -> Data:
    """The scenes after one intervention; a function is tried on the first rows."""
    function = read_intervention(name, value)
    if isinstance(function, Intervention):
        return function(source, seed=seed)
    data = FunctionSet(source, function, read_row_ids(source), seed)
    RowTrial(
        what=f"the intervention {name!r}",
        takes="it gets (inputs, draws) and returns inputs of the same rows",
        advice="its second argument, draws.uniform('angle')",
        inputs=source.inputs,
        change=data.change,
    ).run(len(source))
    return data
