"""From a run's record to rows of tables: means over the seeds, with intervals, place by place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

from mechconn.core import SPLITS
from mechconn.stats import compute_moments, t_interval
from mechconn.store import RunRecord


class CellPlace(NamedTuple):
    """Where a number stands in an experiment with a cue; clean None is all clean samples."""

    dataset: str
    proportion: float
    clean: int | None

    @property
    def words(self) -> str:
        """The place in a line."""
        clean = "" if self.clean is None else f", {self.clean:,} clean samples"
        return f"{self.dataset}, cue on {100 * self.proportion:g}\N{NO-BREAK SPACE}%{clean}"


def name_dataset_kind(data: Mapping[str, Any]) -> str:
    """What a dataset's settings describe, whatever it is called: "cifar10" is CIFAR-10 with the box cue."""
    kind = "dominoes" if (data["source"], data["cue"]) == ("cifar10", "dominoes") else str(data["source"])
    return kind if data["size"] is None else f"{kind} at {data['size']} pixels"


def name_dataset_kinds(record: RunRecord) -> dict[str, str]:
    """Dataset -> what it is."""
    return {data["name"]: name_dataset_kind(data) for data in record.settings.get("datasets", ())}


@dataclass(frozen=True)
class SeedMean:
    """A mean with its 95 % interval.

    Attributes:
        mean: None where a number is not finite.
        interval: over the seeds (Student's t) where there are two or more, else over the test samples; None where
            there is none.
        seeds: number of seeds.
        shifted: of a barrier: whether an end of some seed's path is another network on this split than the saved one.
    """

    mean: float | None
    interval: tuple[float, float] | None
    seeds: int
    shifted: bool = False


ValueTable = dict[CellPlace, dict[str, dict[str, SeedMean]]]
"""Place -> model or path -> split -> value."""


def tabulate_accuracies(record: RunRecord) -> ValueTable:
    """Accuracy in [0, 1] of every model."""
    return _tabulate(record, "models", lambda n, split: (n["accuracy"][split], n["accuracy_interval"].get(split)), 1.0)


def tabulate_barriers(record: RunRecord) -> ValueTable:
    """Barrier in nats of every path."""

    def height(numbers: Mapping[str, Any], split: str) -> tuple[float | None, Any]:
        found = numbers["barrier"][split]
        return (None, None) if found is None else (found[0], numbers["barrier_interval"].get(split))

    table, shifts = _tabulate(record, "paths", height, None), collect_shifts(record)
    for place, paths in shifts.items():
        for name, found in paths.items():
            row = table[place][name]
            row.update({shift["split"]: replace(row[shift["split"]], shifted=True) for shift in found})
    return table


Shift: TypeAlias = dict[str, Any]
"""An end that is another network than the saved one: end, split, on, saved, evaluated; see `mechconn.ShiftedEnd`."""


def collect_shifts(record: RunRecord) -> dict[CellPlace, dict[str, list[Shift]]]:
    """Place -> path -> the ends that are shifted for some seed; paths without any left out.

    Values are means over the seeds whose ends as saved are known: records of an earlier time hold none.
    """
    found: dict[CellPlace, dict[str, list[Shift]]] = {}
    for place, paths in _collect_cells(record, "paths").items():
        for name, cells in paths.items():
            some = {(s["end"], s["split"], s["on"]): None for cell in cells for s in cell.get("shifted", ())}
            if some:
                found.setdefault(place, {})[name] = [_average_shift(cells, *which) for which in some]
    return found


def _average_shift(cells: Sequence[Mapping[str, Any]], end: str, split: str, on: str) -> Shift:
    index = "AB".index(end)
    known = _with_saved_end(cells, index)
    saved = _average_or_none(cell["saved"][index][on][split] for cell in known)
    evaluated = _average_or_none(cell[on][split][-1 if index else 0] for cell in known)
    return {"end": end, "split": split, "on": on, "saved": saved, "evaluated": evaluated}


def _with_saved_end(cells: Sequence[Mapping[str, Any]], index: int) -> list[Mapping[str, Any]]:
    """The seeds whose records hold this end as saved."""
    return [cell for cell in cells if cell.get("saved", (None, None))[index] is not None]


def collect_saved_ends(record: RunRecord) -> dict[CellPlace, dict[str, list[tuple[str, str, float, float]]]]:
    """Place -> path -> (split, measure, t, value as saved) of the ends that are shifted on some split."""
    cells = _collect_cells(record, "paths")
    return {
        place: {name: list(_iterate_saved_ends(cells[place][name], shifts)) for name, shifts in paths.items()}
        for place, paths in collect_shifts(record).items()
    }


def _iterate_saved_ends(
    cells: Sequence[Mapping[str, Any]], shifts: Sequence[Shift]
) -> Iterator[tuple[str, str, float, float]]:
    for end in sorted({shift["end"] for shift in shifts}):
        index = "AB".index(end)
        known = _with_saved_end(cells, index)
        for on in ("accuracy", "loss"):
            for split in known[0]["saved"][index][on]:
                value = _average_or_none(cell["saved"][index][on][split] for cell in known)
                if value is not None:
                    yield split, on, float(index), value


CurvesByMeasure = Mapping[Literal["accuracy", "loss"], Mapping[str, Sequence[float | None]]]


def collect_curves(record: RunRecord) -> dict[CellPlace, dict[str, tuple[list[float], CurvesByMeasure]]]:
    """Place -> path -> (t, measure -> split -> means over the seeds at each t)."""
    found: dict[CellPlace, dict[str, tuple[list[float], CurvesByMeasure]]] = {}
    for place, paths in _collect_cells(record, "paths").items():
        for name, cells in paths.items():
            measures: dict[Any, Any] = {
                measure: {
                    s: [_average_or_none(at) for at in zip(*(c[measure][s] for c in cells), strict=True)]
                    for s in splits
                }
                for measure in ("accuracy", "loss")
                if (splits := sort_splits(cells[0][measure]))
            }
            found.setdefault(place, {})[name] = cells[0]["ts"], measures
    return found


def collect_histories(record: RunRecord) -> dict[CellPlace, dict[str, list[dict[str, float]]]]:
    """Place -> training -> a record for each epoch, every number the mean over the seeds."""
    return {
        place: {
            name: [
                {term: sum(one[term] for one in epoch) / len(epoch) for term in epoch[0]}
                for epoch in zip(*over_seeds, strict=True)
            ]
            for name, over_seeds in trainings.items()
        }
        for place, trainings in _collect_cells(record, "histories").items()
    }


def _tabulate(record: RunRecord, group: str, read: Any, most: float | None) -> ValueTable:
    table: ValueTable = {}
    for place, named in _collect_cells(record, group).items():
        for name, cells in named.items():
            splits = sort_splits(cells[0]["accuracy" if group == "models" else "barrier"])
            row = {split: _average([read(cell, split) for cell in cells], most) for split in splits}
            table.setdefault(place, {})[name] = row
    return table


def _collect_cells(record: RunRecord, group: str) -> dict[CellPlace, dict[str, list[Any]]]:
    """Place -> model or path -> its numbers for every seed."""
    found: dict[CellPlace, dict[str, list[Mapping[str, Any]]]] = {}
    for cell in record.cells:
        if cell.dataset is None or cell.proportion is None:
            continue
        place = CellPlace(cell.dataset, cell.proportion, cell.clean_samples)
        for name, numbers in record.results.get(cell.name, {}).get(group, {}).items():
            found.setdefault(place, {}).setdefault(name, []).append(numbers)
    return dict(sorted(found.items(), key=lambda item: (item[0][:2], item[0].clean or 0)))


def _average(found: Sequence[tuple[float | None, Any]], most: float | None) -> SeedMean:
    """The mean; an interval over seeds stays within [0, most]."""
    numbers = [number for number, _ in found]
    mean = _average_or_none(numbers)
    if mean is None or len(found) == 1:
        interval = found[0][1] if len(found) == 1 else None
        return SeedMean(mean, None if interval is None else (interval[0], interval[1]), len(found))
    low, high = t_interval(compute_moments(torch.tensor(numbers, dtype=torch.float64)))
    return SeedMean(mean, (max(low, 0.0), high if most is None else min(high, most)), len(found))


def _average_or_none(numbers: Iterable[float | None]) -> float | None:
    given = list(numbers)
    known = [number for number in given if number is not None]
    return sum(known) / len(known) if len(known) == len(given) else None


def sort_splits(splits: Iterable[str]) -> list[str]:
    """NC, C, RC and RI first, then what else there is."""
    found = list(dict.fromkeys(splits))
    return [*(split for split in SPLITS if split in found), *(split for split in found if split not in SPLITS)]


MEASURE_TITLES = {
    "barrier_before": "barrier in mean squared error, networks as they are",
    "barrier_after": "the same once their units were matched",
    "agreement_before": "share of activation patterns that agree, networks as they are",
    "pattern_agreement": "the same once their units were matched",
}
"""What experiments over widths measure: name -> meaning."""


def tabulate_widths(record: RunRecord) -> dict[str, dict[int, dict[str, SeedMean]]]:
    """Pair of networks -> width -> measure -> mean over the seeds; empty but for experiments over widths."""
    pairs = {name: found for name, found in (record.summary or {}).items() if isinstance(found, dict)}
    return {
        pair.replace("_", " "): {
            int(width): {measure: _read_summary(row[measure], len(record.seeds)) for measure in MEASURE_TITLES}
            for width, row in found["by_width"].items()
        }
        for pair, found in pairs.items()
        if "by_width" in found
    }


def _read_summary(found: Mapping[str, Any], seeds: int) -> SeedMean:
    """A value that a summary holds as {mean, interval}."""
    interval = found["interval"]
    return SeedMean(found["mean"], None if interval is None else (interval[0], interval[1]), seeds)
