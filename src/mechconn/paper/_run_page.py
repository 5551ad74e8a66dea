"""The report of runs: one page from the store's records alone, our numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechconn.core import SPLITS, write_whole
from mechconn.paper._claims import Claim
from mechconn.paper._departures import sentence
from mechconn.paper._experiments import experiment_of
from mechconn.paper._published import SOURCE
from mechconn.paper._run_figures import accuracy_figure, histories_figure, paths_figure, samples_figure, widths_figure
from mechconn.paper._run_tables import (
    MEASURES,
    Place,
    Table,
    Value,
    accuracies,
    barriers,
    curves,
    histories,
    in_order,
    kinds,
    widths,
)
from mechconn.report import flat, render, source
from mechconn.store import RunRecord


@dataclass(frozen=True)
class Entry:
    """A cell of a table: our value and, where there is one, the published.

    Attributes:
        same_data: whether the published value is for these data; else it is for CIFAR-10.
    """

    value: Value
    published: float | None = None
    same_data: bool = True

    @property
    def difference(self) -> float | None:
        """Ours minus the published, on the same data."""
        ours = self.value.mean
        return ours - self.published if ours is not None and self.published is not None and self.same_data else None


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    name: str
    place: str
    entries: Mapping[str, Entry]


@dataclass(frozen=True)
class Section:
    """What the page says of one run."""

    record: RunRecord
    title: str
    asks: str
    departures: str
    claims: Sequence[Claim]
    accuracy: Sequence[Row]
    accuracy_splits: Sequence[str]
    barriers: Sequence[Row]
    barrier_splits: Sequence[str]
    widths: Sequence[Row]
    figures: Sequence[tuple[str, str]]
    histories: Sequence[tuple[str, str]]
    strips: Mapping[str, Mapping[str, str]]
    settings: Sequence[tuple[str, str]]

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of the run, and of each cell in it."""
        return {"the run": self.record.seconds} | {cell.name: cell.seconds for cell in self.record.cells}

    @property
    def has_published(self) -> bool:
        """Whether some accuracy stands beside a published one."""
        return any(entry.published is not None for row in self.accuracy for entry in row.entries.values())

    @property
    def computed(self) -> str:
        """How many of the run's steps it had to compute; the others were in the store."""
        cells = self.record.cells
        return f"{sum(cell.computed for cell in cells)} of {sum(len(cell.steps) for cell in cells)} steps computed"

    def over(self, rows: Sequence[Row]) -> str:
        """What the intervals of a table are over: a run that was stopped need not have all seeds everywhere."""
        counts = sorted({entry.value.seeds for row in rows for entry in row.entries.values()})
        several = [str(count) for count in counts if count > 1]
        if not several:
            return "the test samples"
        single = ", of one seed over the test samples" if 1 in counts else ""
        return f"the {' or '.join(several)} seeds (Student's t){single}"


def save_runs(records: Sequence[RunRecord], file: str | Path) -> None:
    """Write the report of runs as one self-contained HTML page; the file appears whole or not at all.

    Args:
        records: of the store, in the order of the page; nothing else is read.
        file: where to write; an existing file is replaced.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    page = render(
        "runs.html.j2",
        "paper",
        sections=[section_of(record) for record in records],
        splits=SPLITS,
        source=SOURCE,
        measures=MEASURES,
    )
    write_whole(Path(file), page.encode())


def section_of(record: RunRecord) -> Section:
    """Tables and figures of a run."""
    experiment = experiment_of(record)
    accuracy, heights = accuracies(record), barriers(record)
    published = {place: _published(record, place, rows) for place, rows in accuracy.items()}
    # Figures show published marks beside numbers that they can be compared with.
    drawn = {place: shares for place, shares in published.items() if _same_data(record, place)}
    return Section(
        record=record,
        title=experiment.title,
        asks=experiment.asks,
        departures=sentence(record),
        claims=experiment.claims(record),
        accuracy=_rows(accuracy, published, [*drawn]),
        accuracy_splits=_splits(accuracy),
        barriers=_rows(heights, {}, []),
        barrier_splits=_splits(heights),
        widths=_width_rows(record),
        figures=[
            *_accuracy_figures(record, accuracy, drawn),
            *_path_figures(record, heights),
            *_width_figures(record),
        ],
        histories=[(place.words, histories_figure(found)) for place, found in histories(record).items()],
        strips={data: {s: source(p) for s, p in pictures.items()} for data, pictures in record.pictures.items()},
        settings=flat(record.settings),
    )


Published = Mapping[Place, Mapping[str, Mapping[str, float]]]


def _published(record: RunRecord, place: Place, rows: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    kind = kinds(record).get(place.dataset, place.dataset)
    found = {name: experiment_of(record).accuracy(kind, *place[1:], name) for name in rows}
    return {name: shares for name, shares in found.items() if shares}


def _same_data(record: RunRecord, place: Place) -> bool:
    """Whether the published numbers are for these data."""
    return kinds(record).get(place.dataset, place.dataset) in ("cifar10", "cifar100")


def _rows(table: Table, published: Published, same_data: Sequence[Place]) -> list[Row]:
    return [
        Row(
            name,
            place.words,
            {
                split: Entry(value, published.get(place, {}).get(name, {}).get(split), place in same_data)
                for split, value in values.items()
            },
        )
        for place, rows in table.items()
        for name, values in rows.items()
    ]


def _splits(table: Table) -> list[str]:
    return in_order(split for rows in table.values() for values in rows.values() for split in values)


# ---------------------------------------------------------------- figures: (heading, SVG)


def _accuracy_figures(record: RunRecord, table: Table, published: Published) -> list[tuple[str, str]]:
    if not table:
        return []
    counts = {place.clean for place in table if place.clean is not None}
    if experiment_of(record).by_samples and len(counts) > 1:
        return [_samples(place, table, published) for place in dict.fromkeys(place[:2] for place in table)]
    places = {place.words: rows for place, rows in table.items()}
    return [("Accuracy", accuracy_figure(places, {place.words: shares for place, shares in published.items()}))]


def _samples(where: tuple[str, float], table: Table, published: Published) -> tuple[str, str]:
    """Accuracy by the number of clean samples, at one dataset and proportion."""
    here = {place.clean: place for place in table if place[:2] == where and place.clean is not None}
    names = dict.fromkeys(name for place in here.values() for name in table[place] if name != "theta_C")
    models = {
        name: {count: table[place][name] for count, place in here.items() if name in table[place]} for name in names
    }
    theirs = {
        name: {count: shares[name] for count, place in here.items() if name in (shares := published.get(place, {}))}
        for name in names
    }
    dataset, proportion = where
    return f"Accuracy by clean samples: {dataset}, cue on {100 * proportion:g} %", samples_figure(models, theirs)


def _path_figures(record: RunRecord, heights: Table) -> list[tuple[str, str]]:
    end = experiment_of(record).path_end
    return [
        (f"Paths: {place.words}", paths_figure(paths, heights[place], end)) for place, paths in curves(record).items()
    ]


# ---------------------------------------------------------------- figure 13: by pair and width


def _width_rows(record: RunRecord) -> list[Row]:
    return [
        Row(pair, str(width), {measure: Entry(value) for measure, value in row.items()})
        for pair, rows in widths(record).items()
        for width, row in rows.items()
    ]


def _width_figures(record: RunRecord) -> list[tuple[str, str]]:
    pairs = widths(record)
    return [("By width", widths_figure(pairs))] if pairs else []
