"""What the page of a run shows: what it was, the source's claims, and what its cells or its summary show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mechconn.paper._claims import Claim
from mechconn.paper._cue_sections import Published, draw_cue_results, list_published, make_cue_sections
from mechconn.paper._departures import write_departures
from mechconn.paper._recipe import find_recipe_of
from mechconn.paper._run_cards import CLAIMS, list_run_cards
from mechconn.paper._split_names import explain_splits
from mechconn.plotting import Card, Cell, Section, Table

if TYPE_CHECKING:
    from mechconn.paper._run_record import RunRecord
    from mechconn.plotting import Axes, Figure


def make_run_sections(record: RunRecord) -> list[Section]:
    """Every section of a run, in order."""
    return [
        *_make_strips(record),
        *_make_results(record),
        *_make_claims(record),
        Section("The run", text=describe_run(record)),
    ]


def describe_run(record: RunRecord) -> str:
    """What was done, when and where, in a sentence."""
    here, cells = record.environment, record.cells
    steps = f"{sum(cell.computed for cell in cells)} of {sum(len(cell.steps) for cell in cells)} steps computed"
    return (
        f"Run {record.id}, {record.status}: {record.done} of {record.planned} cells in {record.seconds:.0f} seconds "
        f"({steps}), started {record.started[:16].replace('T', ' ')} UTC, {here.system}, {here.processor}, "
        f"{here.cores} cores, device {here.device}; {'seed' if len(record.seeds) == 1 else 'seeds'} "
        f"{', '.join(map(str, record.seeds))}."
    )


def list_notices(record: RunRecord) -> Iterator[str]:
    """What the numbers say, and what a reader must know of them."""
    yield from list_findings(record) if record.text is None else record.text.findings
    for cell in record.cells:
        if cell.why is not None:
            yield f"Failed: {cell.name}: {cell.why}"
    yield from record.notes


def list_findings(record: RunRecord) -> Iterator[str]:
    """What the recipe says of the numbers, and where its settings differ from those of a source."""
    yield from find_recipe_of(record).write_findings(record)
    if departures := write_departures(record):
        yield departures


def plot_run(record: RunRecord, ax: Axes | None) -> Figure:
    """The picture of the summary, or of all cells together, or of the only cell.

    Raises:
        ValueError: there is none.
    """
    if record.summary is not None:
        return record.summary.plot(ax=ax)
    if record.cue_results:
        return draw_cue_results(record.cue_results, ax)
    if len(record.results) == 1:
        return record.results[0].plot(ax=ax)
    raise ValueError(f"run {record.id} has no picture of its {len(record.results)} cells; draw each of record.results")


def list_cards(record: RunRecord) -> list[Card]:
    """The questions that a run answers."""
    return list(list_run_cards(record, _find_claims(record)))


def _find_claims(record: RunRecord) -> Sequence[Claim]:
    return find_recipe_of(record).judge_claims(record) if record.text is None else record.text.claims


def _make_claims(record: RunRecord) -> Iterator[Section]:
    claims = _find_claims(record)
    if not claims:
        return
    rows = tuple(
        (claim.statement, Cell(claim.verdict, style=claim.verdict.replace(" ", "-")), claim.numbers, claim.place)
        for claim in claims
    )
    source = "the paper" if record.is_of_paper else "the source"
    columns = (source, "here", "numbers", "where")
    table = Table(columns, rows, words=frozenset(range(len(columns))), sortable=True)
    yield Section(f"What {source} says, and this run", tables=(table,), anchor=CLAIMS)


def _make_results(record: RunRecord) -> Iterator[Section]:
    if record.summary is not None:
        yield from record.summary.sections()
    if record.cue_results:
        yield from make_cue_sections(record.cue_results, _find_published(record))
    elif record.summary is None:
        for cell in record.cells:
            for section in cell.result.sections() if cell.result is not None else ():
                yield replace(section, title=f"{cell.name}: {section.title}")


def _find_published(record: RunRecord) -> Published:
    """Published accuracies of the record's text, else of the recipe."""
    kinds = record.dataset_kinds
    if record.text is not None:
        return Published(record.text.published, kinds, record.text.by_samples, record.is_of_paper)
    recipe = find_recipe_of(record)
    found = tuple(list_published(recipe, record.cue_results, kinds))
    return Published(found, kinds, recipe.by_samples, record.is_of_paper)


def _make_strips(record: RunRecord) -> Iterator[Section]:
    for data, strips in record.pictures.items():
        if strips:
            yield Section(
                f"The same test images in every split: {data}",
                strips=explain_splits(strips),
                note="Each column is one row of the data and keeps its label.",
            )
