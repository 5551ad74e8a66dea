"""Two runs side by side: settings that differ, and the numbers that both have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from pydantic import ConfigDict

from mechconn.core import to_plain_fields
from mechconn.paper._run_part import Numbers, RunPart
from mechconn.paper._run_record import RunRecord
from mechconn.paper._run_tables import CellPlace, SeedMean, ValueTable, tabulate_accuracies, tabulate_barriers
from mechconn.paper._split_names import abbreviate_split
from mechconn.plotting import Result, Section, Table, flatten_settings, print_table

SEED_MEAN = {known.name for known in fields(SeedMean)}
"""Keys of the plain values of a `SeedMean`."""
VALUE = "value"
"""The column of a number that a summary holds under one name alone."""


@dataclass(frozen=True)
class NumberPair:
    """One number in both runs, means over their seeds; None where it is not finite.

    Attributes:
        name: model or path.
        where: dataset, proportion and clean samples in the first run.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore")  # the difference is computed anew

    name: str
    where: str
    split: str
    a: float | None
    b: float | None

    @property
    def difference(self) -> float | None:
        """The second minus the first."""
        return None if self.a is None or self.b is None else self.b - self.a

    def to_plain(self) -> dict[str, Any]:
        """Plain values, with the difference."""
        return {**to_plain_fields(self), "difference": self.difference}


@dataclass(frozen=True, repr=False)
class RunDifferences(Result, kind="run_differences"):
    """How two runs differ.

    Attributes:
        settings: name -> (first, second), as text; those that differ.
        accuracy: in [0, 1], models that both have.
        barriers: in nats, paths that both have.
        summary: numbers of `RunRecord.summary` at the same place, means over the seeds where it holds such.
    """

    runs: tuple[str, str]
    settings: Mapping[str, tuple[str, str]]
    accuracy: tuple[NumberPair, ...]
    barriers: tuple[NumberPair, ...]
    summary: tuple[NumberPair, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One record for each number that both have."""
        groups = {"accuracy": self.accuracy, "barrier": self.barriers, "summary": self.summary}
        return [{"measure": measure, **pair.to_plain()} for measure, pairs in groups.items() for pair in pairs]

    def sections(self) -> list[Section]:
        """Settings that differ, accuracies, barriers and summaries, each as A, B, and B minus A."""
        settings = Table(("setting", "A", "B"), tuple((name, *both) for name, both in self.settings.items()))
        found = [Section("Settings that differ", tables=(settings,))] if self.settings else []
        for title, pairs, scale, digits in (
            ("Accuracy in %: A, B, and B minus A", self.accuracy, 100.0, 1),
            ("Barriers in nats: A, B, and B minus A", self.barriers, 1.0, 2),
            ("Summary of all cells: A, B, and B minus A", self.summary, 1.0, 5),
        ):
            if pairs:
                found.append(Section(title, tables=(_tabulate_pairs(pairs, scale, digits),)))
        return found

    def __str__(self) -> str:
        lines = [f"A: {self.runs[0]}", f"B: {self.runs[1]}"]
        for section in self.sections():
            lines += [section.title, *print_table(section.tables[0])]
        return "\n".join(lines if self.rows() else [*lines, "no number is in both runs"])


def _tabulate_pairs(pairs: tuple[NumberPair, ...], scale: float, digits: int) -> Table:
    splits = list(dict.fromkeys(pair.split for pair in pairs))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for pair in pairs:
        rows.setdefault((pair.name, pair.where), {})[pair.split] = _format_pair(pair, scale, digits)
    lines = tuple((*place, *(texts.get(split, "") for split in splits)) for place, texts in rows.items())
    return Table(("name", "where", *map(abbreviate_split, splits)), lines)


def _format_pair(pair: NumberPair, scale: float, digits: int) -> str:
    if pair.a is None or pair.b is None or pair.difference is None:
        return "not finite"
    numbers = f"{scale * pair.a:.{digits}f} {scale * pair.b:.{digits}f}"
    return f"{numbers} {scale * pair.difference:+.{digits}f}"


def compare_runs(a: RunRecord, b: RunRecord) -> RunDifferences:
    """Two runs side by side.

    Numbers are compared where dataset, proportion and clean samples agree; what has one value in each run need not, so
    that runs on two datasets, or with two numbers of clean samples, can be compared.
    """
    ours, theirs = dict(flatten_settings(dict(a.settings))), dict(flatten_settings(dict(b.settings)))
    names = dict.fromkeys([*ours, *theirs])
    changed = {name: (ours.get(name, ""), theirs.get(name, "")) for name in names if ours.get(name) != theirs.get(name)}
    first, second = a.cue_results, b.cue_results
    return RunDifferences(
        (a.id, b.id),
        changed,
        tuple(_iterate_pairs(tabulate_accuracies(first), tabulate_accuracies(second))),
        tuple(_iterate_pairs(tabulate_barriers(first), tabulate_barriers(second))),
        tuple(_pair_summaries(a.summary, b.summary)),
    )


def _pair_summaries(a: RunPart | None, b: RunPart | None) -> Iterator[NumberPair]:
    """Every number at the same place of both summaries."""
    theirs = dict(_iterate_numbers(_read_values(b)))
    for place, value in _iterate_numbers(_read_values(a)):
        if place in theirs:
            name, *where, measure = place if len(place) > 1 else (*place, VALUE)
            yield NumberPair(name, " ".join(where), measure, value, theirs[place])


def _read_values(summary: RunPart | None) -> Mapping[str, Any]:
    """Plain values of a summary; none where there is no summary."""
    if summary is None:
        return {}
    plain = summary.to_plain()
    return plain["values"] if isinstance(summary, Numbers) else plain


def _iterate_numbers(
    values: Mapping[str, Any], place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], float | None]]:
    """(names from the outermost to the innermost, number) of every number in nested plain values, means of seeds."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value.keys() == SEED_MEAN:
            yield (*place, name), value["mean"]
        elif isinstance(value, Mapping):
            yield from _iterate_numbers(value, (*place, name))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*place, name), value


def _iterate_pairs(a: ValueTable, b: ValueTable) -> Iterator[NumberPair]:
    key = _make_place_key(a, b)
    theirs = {key(place): rows for place, rows in b.items()}
    for place, rows in a.items():
        other = theirs.get(key(place), {})
        for name, splits in rows.items():
            for split, value in splits.items():
                if split in other.get(name, {}):
                    yield NumberPair(name, place.words, split, value.mean, other[name][split].mean)


def _make_place_key(a: ValueTable, b: ValueTable) -> Callable[[CellPlace], tuple[Any, ...]]:
    """What of a place must agree: all that takes several values in some run."""
    free = [axis for axis in range(3) if any(len({place[axis] for place in table}) > 1 for table in (a, b))]
    return lambda place: tuple(place[axis] for axis in free)
