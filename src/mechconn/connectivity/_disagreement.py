"""A model of equal loss that answers otherwise, and whether it lies in the same basin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from mechconn.connectivity._barrier import ConnectionVerdict
from mechconn.connectivity._profile import Profile
from mechconn.core import NOT_SAVED
from mechconn.plotting import Cell, Drawing, Header, Result, Section, Table, leave_out, print_table

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

DATA = "data"
"""Name of the split on the path."""
BASINS: Mapping[ConnectionVerdict, str] = {
    "connected": "in the same basin",
    "not connected": "in another basin",
    "undetermined": "undetermined whether in the same basin",
}


@dataclass(frozen=True, repr=False)
class Disagreement(Result, kind="disagreement"):
    """The model found that differs most on the rows, at a loss on the data that is as low.

    Attributes:
        loss_before: mean loss of the model on the data.
        loss_after: that of the model found, at most `tolerance` more.
        tolerance: by how much it may be more.
        divergence: mean over the rows of KL(p || p'), p and p' the probabilities before and after, in nats; where the
            task is no classification into classes, of the mean squared difference of the outputs.
        changed: share of the rows whose predicted class is another one; None where there are no classes.
        toward: the pull of the search that found it.
        pulls: pull -> the largest divergence that its search found.
        rows_asked: how many rows were asked about.
        samples: rows of the data.
        margin: the largest barrier in loss that counts as none.
        path: losses on the data along the straight line from the model (A) to the one found (B).
        settings: the search, loss, seed, device and number type.
        model: the model found, a new module in the mode of the first. Files leave it out.
    """

    derived: ClassVar[tuple[str, ...]] = ("verdict",)

    loss_before: float
    loss_after: float
    tolerance: float
    divergence: float
    changed: float | None
    toward: str
    pulls: Mapping[str, float]
    rows_asked: int
    samples: int
    margin: float
    path: Profile
    settings: Mapping[str, Any]
    model: nn.Module = field(
        default=leave_out("model", "seek it again, or save its state_dict beside it"), compare=False, metadata=NOT_SAVED
    )

    @property
    def verdict(self) -> ConnectionVerdict:
        """Whether the straight line joins both models on the data within the margin, by the barrier's interval.

        The interval is of two models that were fixed before. These were trained and sought on the data, so that the
        verdict is about these rows; for others evaluate the line on rows that were held out.
        """
        return self.path.connection(DATA, self.margin).verdict

    def __str__(self) -> str:
        """The answer, the losses, and the pulls."""
        return "\n".join([self._answer(), *print_table(self._tabulate()), f"  {self._describe_barrier()}"])

    def _answer(self) -> str:
        changed = (
            ""
            if self.changed is None
            else f", {100 * self.changed:.1f} % of {self.rows_asked:,} rows answered otherwise"
        )
        basin = BASINS[self.verdict] if self.divergence else "no model was found that answers otherwise"
        return (
            f"loss {self.loss_before:.4g} -> {self.loss_after:.4g} on {self.samples:,} rows (allowed: "
            f"+{self.tolerance:g}); divergence {self.divergence:.4g}{changed}; {basin}"
        )

    def _describe_barrier(self) -> str:
        barrier = self.path.barrier(DATA)
        interval = "" if barrier.interval is None else " (95 % interval {:.4g} to {:.4g})".format(*barrier.interval)
        return f"barrier on the straight line {barrier.height:.4g}{interval}, margin {self.margin:g}"

    def _tabulate(self) -> Table:
        rows = tuple(
            (pull, f"{found:.4g}", "found" if pull == self.toward else "") for pull, found in self.pulls.items()
        )
        return Table(("pulled toward", "largest divergence", ""), rows)

    def rows(self) -> list[dict[str, Any]]:
        """One record per pull."""
        return [
            {
                "toward": pull, "divergence": found, "found": pull == self.toward, "loss_before": self.loss_before,
                "loss_after": self.loss_after if pull == self.toward else None,
                "changed": self.changed if pull == self.toward else None, "verdict": self.verdict,
            }
            for pull, found in self.pulls.items()
        ]  # fmt: skip

    def header(self) -> Header:
        """Whether a model of equal loss answers otherwise, and where it lies."""
        asked = "How differently may these rows be answered at the same loss?"
        if self.changed == 0 or not self.divergence:
            return Header("No model of equal loss was found that answers one of the rows otherwise", asked)
        said = (
            f"divergence {self.divergence:.3g}" if self.changed is None else f"{100 * self.changed:.3g} % of the rows"
        )
        return Header(f"A model of equal loss answers otherwise: {said}, {BASINS[self.verdict]}", asked)

    def sections(self) -> list[Section]:
        """The pulls, and the losses on the line between both models."""
        line = Drawing(self.plot, f"Loss on the data between both models. {self._describe_barrier()}.")
        summary = Table(
            ("", "model", "model found"),
            (
                ("loss on the data", f"{self.loss_before:.4g}", f"{self.loss_after:.4g}"),
                ("divergence on the rows", Cell(""), f"{self.divergence:.4g}"),
            ),
        )
        note = f"{self._answer()}. {self._describe_barrier()}."
        return [Section("A model that disagrees", figures=(line,), tables=(summary, self._tabulate()), note=note)]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the loss on the data along the straight line between both models."""
        return self.path.plot("loss", ax=ax)
