"""What changes inputs, tried on the first rows: each row by itself, the same every time, and nothing written to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechconn.core import copy_inputs, isolate_rng

TRIED_ROWS = 3


@dataclass(frozen=True)
class RowTrial:
    """A change of inputs to try, and what errors say of it.

    Attributes:
        what: what errors call it.
        takes: what it gets and returns, in words.
        advice: where random numbers come from, in words.
        inputs: index -> inputs of these rows before.
        change: (inputs, index) -> inputs after.
    """

    what: str
    takes: str
    advice: str
    inputs: Callable[[Tensor], Any]
    change: Callable[[Any, Tensor], Any]

    def run(self, rows: int) -> None:
        """Try it on the first three rows twice, and on the last of these alone.

        Args:
            rows: number of rows that there are.

        Raises:
            ValueError: it fails, writes into its inputs, gives inputs of other rows, or gives other values when it is
                asked again or for fewer rows.
        """
        index = torch.arange(min(TRIED_ROWS, rows))
        before = name_parts(self.inputs(index))
        first, again = (self._try(index, attempt) for attempt in range(2))
        alone = self._try(index[-1:], 2)
        if first.keys() != before.keys() or any(len(first[key]) != len(index) for key in first):
            raise ValueError(self._explain_other_inputs(_describe_parts(before), _describe_parts(first)))
        asked = ((again, slice(None), "asked again"), (alone, slice(-1, None), "asked for one row alone"))
        for other, part, when in asked:
            if other.keys() != first.keys() or not all(are_same(first[key][part], other[key]) for key in first):
                raise ValueError(
                    f"{self.what} gives a row other values when it is {when}; take random numbers from {self.advice}, "
                    "and treat every row by itself"
                )

    def _try(self, index: Tensor, attempt: int) -> dict[str, Tensor]:
        """What it gives for the rows `index`; the global generators are in another state in every attempt."""
        with isolate_rng(attempt, "probe"):
            x = self.inputs(index)
            before = copy_inputs(x)
            try:
                found = self.change(x, index)
            except Exception as error:
                why = " ".join(f"{type(error).__name__}: {error}".split())
                raise ValueError(f"{self.what} fails on the first rows ({why}); {self.takes}") from error
        parts, given = name_parts(found), name_parts(x)
        if any(not are_same(part, given.get(name)) for name, part in name_parts(before).items()):
            raise ValueError(f"{self.what} writes into its inputs; change a copy, x = x.clone()")
        if not parts or not all(isinstance(part, Tensor) and part.dim() for part in parts.values()):
            raise ValueError(self._explain_other_inputs("tensors", f"a {type(found).__name__}"))
        return parts

    def _explain_other_inputs(self, wanted: str, got: str) -> str:
        return f"{self.what} must return inputs of the rows it got, {wanted}, got {got}"


def name_parts(inputs: Any) -> dict[str, Any]:
    """The tensors of some inputs by name or number; a single one is called "inputs"."""
    if isinstance(inputs, tuple):
        return {str(number): part for number, part in enumerate(inputs)}
    return dict(inputs) if isinstance(inputs, Mapping) else {"inputs": inputs}


def _describe_parts(parts: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(part.shape)}" for name, part in parts.items())


def are_same(a: Tensor, b: Tensor | None) -> bool:
    """Equal, but for rounding that depends on the number of rows."""
    if b is None or a.shape != b.shape:
        return False
    return torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-4, equal_nan=True)
