"""Two runs side by side: settings that differ, and the numbers of whatever stands in both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mechconn.paper._run_tables import CellPlace, ValueTable, tabulate_accuracies, tabulate_barriers
from mechconn.report import flatten_settings
from mechconn.store import RunRecord


@dataclass(frozen=True)
class NumberPair:
    """One number in both runs, means over their seeds; None where it is not finite.

    Attributes:
        name: model or path.
        where: dataset, proportion and clean samples in the first run.
    """

    name: str
    where: str
    split: str
    a: float | None
    b: float | None

    @property
    def difference(self) -> float | None:
        """The second minus the first."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True)
class RunDifferences:
    """How two runs differ.

    Attributes:
        settings: name -> (first, second), as text; those that differ.
        accuracy: in [0, 1], models that both have.
        barriers: in nats, paths that both have.
        summary: means over the seeds in what the recipe says of all its cells together.
    """

    runs: tuple[str, str]
    settings: dict[str, tuple[str, str]]
    accuracy: list[NumberPair]
    barriers: list[NumberPair]
    summary: list[NumberPair]

    def plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        numbers = {
            name: [{**asdict(pair), "difference": pair.difference} for pair in pairs]
            for name, pairs in (("accuracy", self.accuracy), ("barriers", self.barriers), ("summary", self.summary))
        }
        return {"runs": list(self.runs), "settings": {k: list(v) for k, v in self.settings.items()}, **numbers}


def compare_runs(a: RunRecord, b: RunRecord) -> RunDifferences:
    """Two runs side by side.

    Numbers are compared where dataset, proportion and clean samples agree; what has one value in each run need not, so
    that runs on two datasets, or with two numbers of clean samples, can be compared.
    """
    ours, theirs = dict(flatten_settings(a.settings)), dict(flatten_settings(b.settings))
    names = dict.fromkeys([*ours, *theirs])
    changed = {name: (ours.get(name, ""), theirs.get(name, "")) for name in names if ours.get(name) != theirs.get(name)}
    return RunDifferences(
        (a.id, b.id),
        changed,
        list(_iterate_pairs(tabulate_accuracies(a), tabulate_accuracies(b))),
        list(_iterate_pairs(tabulate_barriers(a), tabulate_barriers(b))),
        list(_pair_summaries(a.summary or {}, b.summary or {})),
    )


def _pair_summaries(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[NumberPair]:
    """Every mean that stands at the same place of both summaries."""
    theirs = dict(_iterate_means(b))
    for (name, *where, measure), value in _iterate_means(a):
        if (name, *where, measure) in theirs:
            yield NumberPair(name, " ".join(where), measure, value, theirs[name, *where, measure])


def _iterate_means(
    summary: Mapping[str, Any], place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], float | None]]:
    for name, value in summary.items():
        if isinstance(value, Mapping) and "mean" in value:
            yield (*place, name), value["mean"]
        elif isinstance(value, Mapping):
            yield from _iterate_means(value, (*place, name))


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
