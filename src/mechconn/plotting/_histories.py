"""What results of descents show alike: the terms of the loss by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from mechconn.plotting._charts import list_terms
from mechconn.plotting._sections import Drawing, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

History: TypeAlias = Sequence[Mapping[str, float]]
"""A record for each epoch: "epoch", "lr", and the terms."""


def make_history_rows(history: History) -> list[dict[str, Any]]:
    """The records with equal keys: None where an epoch has no such term."""
    names = dict.fromkeys(name for record in history for name in record)
    return [{name: record.get(name) for name in names} for record in history]


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


def make_history_sections(history: History, draw: Callable[[], Figure], notes: Sequence[str] = ()) -> list[Section]:
    """The picture and the first and last value of every term, and the notes."""
    sections = []
    if history:
        ends = _find_ends(history)
        rows = tuple((term.replace("_", " "), f"{first:.4g}", f"{last:.4g}") for term, first, last in ends)
        drawing = Drawing(
            draw, f"Every term of the loss over {len(history)} epochs: {', '.join(describe_history(history))}"
        )
        sections.append(
            Section("History", figures=(drawing,), tables=(Table(("term", "first epoch", "last epoch"), rows),))
        )
    if notes:
        sections.append(Section("Notes", text=" ".join(notes)))
    return sections


def _find_ends(history: History) -> list[tuple[str, float, float]]:
    """(term, its first value, its last value), in the order in which terms appear."""
    terms = dict.fromkeys(term for record in history for term in list_terms(record))
    values = {term: [record[term] for record in history if term in record] for term in terms}
    return [(term, found[0], found[-1]) for term, found in values.items()]
