"""The report of runs: one page from the store's records alone, our numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechconn.core import SPLITS, write_atomically
from mechconn.losses import NATS
from mechconn.mechanisms import describe_shifts
from mechconn.paper._claims import Claim
from mechconn.paper._departures import write_departures
from mechconn.paper._experiments import find_experiment
from mechconn.paper._published import SOURCE
from mechconn.paper._run_figures import (
    draw_accuracy_figure,
    draw_histories_figure,
    draw_paths_figure,
    draw_samples_figure,
    draw_widths_figure,
)
from mechconn.paper._run_tables import (
    MEASURE_TITLES,
    CellPlace,
    SeedMean,
    ValueTable,
    collect_curves,
    collect_histories,
    collect_saved_ends,
    collect_shifts,
    name_dataset_kinds,
    sort_splits,
    tabulate_accuracies,
    tabulate_barriers,
    tabulate_widths,
)
from mechconn.report import flatten_settings, make_data_url, render_template
from mechconn.store import RunRecord


@dataclass(frozen=True)
class TableEntry:
    """A cell of a table: our value and, where there is one, the published.

    Attributes:
        same_data: whether the published value is for these data; else it is for CIFAR-10.
    """

    value: SeedMean
    published: float | None = None
    same_data: bool = True

    @property
    def difference(self) -> float | None:
        """Ours minus the published, on the same data."""
        ours = self.value.mean
        return ours - self.published if ours is not None and self.published is not None and self.same_data else None


@dataclass(frozen=True)
class TableRow:
    """A line of a table."""

    name: str
    place: str
    entries: Mapping[str, TableEntry]


@dataclass(frozen=True)
class RunSection:
    """What the page says of one run."""

    record: RunRecord
    title: str
    asks: str
    departures: str
    claims: Sequence[Claim]
    accuracy: Sequence[TableRow]
    accuracy_splits: Sequence[str]
    barriers: Sequence[TableRow]
    barrier_splits: Sequence[str]
    shifts: Sequence[str]
    widths: Sequence[TableRow]
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

    def over(self, rows: Sequence[TableRow]) -> str:
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
    page = render_template(
        "runs.html.j2",
        "paper",
        sections=[make_section(record) for record in records],
        splits=SPLITS,
        source=SOURCE,
        measures=MEASURE_TITLES,
    )
    write_atomically(Path(file), page.encode())


def make_section(record: RunRecord) -> RunSection:
    """Tables and figures of a run."""
    experiment = find_experiment(record)
    accuracy, heights = tabulate_accuracies(record), tabulate_barriers(record)
    published = {place: _collect_published(record, place, rows) for place, rows in accuracy.items()}
    # Figures show published marks beside numbers that they can be compared with.
    drawn = {place: shares for place, shares in published.items() if _has_same_data(record, place)}
    return RunSection(
        record=record,
        title=experiment.title,
        asks=experiment.asks,
        departures=write_departures(record),
        claims=experiment.claims(record),
        accuracy=_make_rows(accuracy, published, [*drawn]),
        accuracy_splits=_list_splits(accuracy),
        barriers=_make_rows(heights, {}, []),
        barrier_splits=_list_splits(heights),
        shifts=[
            f"{name}, {place.words}:{sentence}"
            for place, paths in _describe_shifts(record).items()
            for name, sentence in paths.items()
        ],
        widths=_make_width_rows(record),
        figures=[
            *_draw_accuracy_figures(record, accuracy, drawn),
            *_draw_path_figures(record, heights),
            *_draw_width_figures(record),
        ],
        histories=[(place.words, draw_histories_figure(found)) for place, found in collect_histories(record).items()],
        strips={data: {s: make_data_url(p) for s, p in pictures.items()} for data, pictures in record.pictures.items()},
        settings=flatten_settings(record.settings),
    )


Published = Mapping[CellPlace, Mapping[str, Mapping[str, float]]]


def _collect_published(record: RunRecord, place: CellPlace, rows: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    kind = name_dataset_kinds(record).get(place.dataset, place.dataset)
    found = {name: find_experiment(record).accuracy(kind, *place[1:], name) for name in rows}
    return {name: shares for name, shares in found.items() if shares}


def _has_same_data(record: RunRecord, place: CellPlace) -> bool:
    """Whether the published numbers are for these data."""
    return name_dataset_kinds(record).get(place.dataset, place.dataset) in ("cifar10", "cifar100")


def _make_rows(table: ValueTable, published: Published, same_data: Sequence[CellPlace]) -> list[TableRow]:
    return [
        TableRow(
            name,
            place.words,
            {
                split: TableEntry(value, published.get(place, {}).get(name, {}).get(split), place in same_data)
                for split, value in values.items()
            },
        )
        for place, rows in table.items()
        for name, values in rows.items()
    ]


def _list_splits(table: ValueTable) -> list[str]:
    return sort_splits(split for rows in table.values() for values in rows.values() for split in values)


# ---------------------------------------------------------------- figures: (heading, SVG)


def _draw_accuracy_figures(record: RunRecord, table: ValueTable, published: Published) -> list[tuple[str, str]]:
    if not table:
        return []
    counts = {place.clean for place in table if place.clean is not None}
    if find_experiment(record).by_samples and len(counts) > 1:
        return [_draw_samples(place, table, published) for place in dict.fromkeys(place[:2] for place in table)]
    places = {place.words: rows for place, rows in table.items()}
    return [("Accuracy", draw_accuracy_figure(places, {place.words: shares for place, shares in published.items()}))]


def _draw_samples(where: tuple[str, float], table: ValueTable, published: Published) -> tuple[str, str]:
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
    return f"Accuracy by clean samples: {dataset}, cue on {100 * proportion:g} %", draw_samples_figure(models, theirs)


def _draw_path_figures(record: RunRecord, heights: ValueTable) -> list[tuple[str, str]]:
    end, saved, shifts = find_experiment(record).path_end, collect_saved_ends(record), _describe_shifts(record)
    return [
        (
            f"Paths: {place.words}",
            draw_paths_figure(paths, heights[place], end, saved.get(place, {}), shifts.get(place, {})),
        )
        for place, paths in collect_curves(record).items()
    ]


def _describe_shifts(record: RunRecord) -> dict[CellPlace, dict[str, str]]:
    """Place -> path -> which of its ends are other networks than those saved; paths without such ends left out."""
    end, found = find_experiment(record).path_end, dict[CellPlace, dict[str, str]]()
    for place, paths in collect_shifts(record).items():
        for name, shifts in paths.items():
            names = {"A": "theta_C", "B": end or name.removeprefix("theta_C to ")}
            sentence = describe_shifts([{**shift, "end": names[shift["end"]]} for shift in shifts], NATS)
            found.setdefault(place, {})[name] = sentence
    return found


# ---------------------------------------------------------------- figure 13: by pair and width


def _make_width_rows(record: RunRecord) -> list[TableRow]:
    return [
        TableRow(pair, str(width), {measure: TableEntry(value) for measure, value in row.items()})
        for pair, rows in tabulate_widths(record).items()
        for width, row in rows.items()
    ]


def _draw_width_figures(record: RunRecord) -> list[tuple[str, str]]:
    pairs = tabulate_widths(record)
    return [("By width", draw_widths_figure(pairs))] if pairs else []
