"""Results of descents: the terms of the loss by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from mechconn.plotting._charts import draw_histories, list_terms
from mechconn.plotting._result import Result
from mechconn.plotting._sections import Drawing, Header, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History: TypeAlias = Sequence[Mapping[str, float]]
"""A record for each epoch: "epoch", "lr", and the terms."""


@dataclass(frozen=True, eq=False, repr=False)
class DescentResult(Result):
    """What steps of a descent gave: how the terms of its loss went, and everything needed to repeat it.

    Attributes:
        history: one record per epoch: its number, its learning rate, and the terms of the loss.
        settings: the method with every setting, and how it was computed.
        seconds: wall-clock time.
    """

    history: tuple[Mapping[str, int | float], ...]
    settings: Mapping[str, Any]
    seconds: float

    def list_notes(self) -> Sequence[str]:
        """What a reader must know; by default nothing."""
        return ()

    def header(self) -> Header:
        """The method, and how long it took."""
        return Header(describe_descent(self.history, self.settings, self.seconds))

    def rows(self) -> list[dict[str, Any]]:
        """One record per epoch with equal keys: None where an epoch has no such term."""
        names = dict.fromkeys(name for record in self.history for name in record)
        return [{name: record.get(name) for name in names} for record in self.history]

    def sections(self) -> list[Section]:
        """The picture and the first and last value of every term, and the notes."""
        sections = []
        if self.history:
            ends = _find_ends(self.history)
            rows = tuple((term.replace("_", " "), f"{first:.4g}", f"{last:.4g}") for term, first, last in ends)
            lines = ", ".join(describe_history(self.history))
            drawing = Drawing(self.plot, f"Every term of the loss over {len(self.history)} epochs: {lines}")
            table = Table(("term", "first epoch", "last epoch"), rows)
            sections.append(Section("History", figures=(drawing,), tables=(table,)))
        if notes := self.list_notes():
            sections.append(Section("Notes", text=" ".join(notes)))
        return sections

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """The terms of the loss by epoch, as a matplotlib Figure.

        Raises:
            ValueError: there is no history: the method has no epochs.
        """
        name = read_method_name(self.settings)
        if not self.history:
            raise ValueError(f"{name} has no epochs, so there is no history to draw")
        return draw_histories({name: self.history}, ax)

    def __str__(self) -> str:
        """The method, for how long, every term of the loss in the first epoch and the last, and the notes."""
        lines = (*describe_history(self.history), *(f"note: {note}" for note in self.list_notes()))
        first = describe_descent(self.history, self.settings, self.seconds)
        return "\n".join([first, *(f"  {line}" for line in lines)])


def describe_descent(history: History, settings: Mapping[str, Any], seconds: float) -> str:
    """The method, how many epochs and samples, how it was computed, and how long it took.

    Example:
        >>> how = {"method": "own:Mine", "samples": 48, "seed": 3, "device": "cpu", "precision": "float32"}
        >>> describe_descent([{"epoch": 0}], how, 0.25)
        'Mine: 1 epoch, 48 samples, seed 3, float32 on cpu, 0.25 s'
    """
    parts = [f"{len(history)} epoch{'' if len(history) == 1 else 's'}" if history else "no epochs"]
    if "samples" in settings:
        parts.append(f"{settings['samples']:,} samples{_name_data(settings)}, seed {settings['seed']}")
        parts.append(f"{settings['precision']} on {settings['device']}")
    parts.append(f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s")
    return f"{read_method_name(settings)}: {', '.join(parts)}"


def read_method_name(settings: Mapping[str, Any]) -> str:
    """The class of the method, without its module; "no training" where there was none."""
    return str(settings.get("method", "no training")).rpartition(":")[2]


def _name_data(settings: Mapping[str, Any]) -> str:
    return f" of {settings['data']!r}" if "data" in settings else ""


def describe_history(history: History) -> list[str]:
    """A line for each term: its first and its last value.

    Example:
        >>> describe_history([{"epoch": 0, "lr": 0.1, "clean": 2.0}, {"epoch": 1, "lr": 0.1, "clean": 0.5}])
        ['clean: 2 in the first epoch, 0.5 in the last']
    """
    return [
        f"{term}: {first:.4g} in the first epoch, {last:.4g} in the last" for term, first, last in _find_ends(history)
    ]


def _find_ends(history: History) -> list[tuple[str, float, float]]:
    """(term, its first value, its last value), in the order in which terms appear."""
    terms = dict.fromkeys(term for record in history for term in list_terms(record))
    values = {term: [record[term] for record in history if term in record] for term in terms}
    return [(term, found[0], found[-1]) for term, found in values.items()]
