"""What folding returns: a network without gains, and which weights took them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from mechconn.core import NOT_SAVED
from mechconn.plotting import Header, Result, Section, Table, leave_out

FOLD_AGAIN = "fold the network again, mechconn.fold(model, example_input)"
LISTED = 6
"""Norms that `print` lists."""


@dataclass(frozen=True, eq=False, repr=False)
class Folded(Result, kind="folded"):
    """A network whose norms have no gain of their own: the same function, and a residual stream that can be rotated.

    Attributes:
        norms: module -> the weights that took its gain and bias.
        centred: groups of units whose mean was taken away where they are written, so that LayerNorm is RMSNorm.
        left: module -> why it keeps its gain.
        error: max |change| / max |output| of the outputs on the example, in evaluation mode and in float64, or float32
            where the network does not run in float64.
        settings: everything needed to repeat it.
        notes: what the reader must know; mostly empty.
        model: the folded network in evaluation mode. Files leave it out.
    """

    norms: Mapping[str, tuple[str, ...]]
    centred: tuple[str, ...]
    left: Mapping[str, str]
    error: float
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    model: nn.Module = field(default=leave_out("model", FOLD_AGAIN), metadata=NOT_SAVED)

    @property
    def findings(self) -> tuple[str, ...]:
        """The notes."""
        return self.notes

    def rows(self) -> list[dict[str, Any]]:
        """One record for each norm: its name, and the weights that took its gain."""
        return [{"norm": norm, "into": ", ".join(weights)} for norm, weights in self.norms.items()]

    def header(self) -> Header:
        """What was asked."""
        return Header("A folded network", "Which gains were folded, and where?")

    def sections(self) -> list[Section]:
        """The norms, and those that keep their gains."""
        cells = tuple((norm, ", ".join(weights)) for norm, weights in self.norms.items())
        table = Table(("norm", "its gain is in"), cells, words=frozenset({0, 1}))
        found = [Section("Folded gains", f"{self._describe()}.", tables=(table,))]
        if self.left:
            rest = Table(("norm", "reason"), tuple(self.left.items()), words=frozenset({0, 1}))
            found.append(Section("Norms that keep their gains", tables=(rest,)))
        return found

    def _describe(self) -> str:
        return (
            f"{len(self.norms)} norm{'s' * (len(self.norms) != 1)} without a gain; the outputs change by a relative "
            f"{self.error:.1e}"
        )

    def __str__(self) -> str:
        lines = [
            f"  {norm}: into {', '.join(weights) or 'nothing, it had no gain'}" for norm, weights in self.norms.items()
        ]
        more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
        left = [f"  left alone, {norm}: {reason}" for norm, reason in self.left.items()]
        return "\n".join([self._describe(), *lines[:LISTED], *more, *left, *(f"  note: {n}" for n in self.notes)])
