"""The record of a run: what was done, where, and what every cell gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from mechconn.core import Environment, Picture
from mechconn.paper._claims import Claim
from mechconn.paper._cue_result import CueResult
from mechconn.paper._cue_sections import PublishedAccuracy
from mechconn.paper._recipe import find_recipe_of, is_recipe_of_paper
from mechconn.paper._run_part import AnyPart
from mechconn.paper._run_sections import list_cards, list_notices, make_run_sections, plot_run
from mechconn.paper._run_tables import name_dataset_kind
from mechconn.plotting import Card, Header, Result, Section

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

RunStatus = Literal["running", "done", "failed", "stopped"]
OLD = (
    "the results of this run were written by mechconn 0.1.0, which kept no verdicts; start the run again to see them: "
    "what it trained is in the store, and is measured anew"
)


@dataclass(frozen=True)
class CellRecord:
    """One cell of an experiment: how it came about, and what it gave.

    Attributes:
        name: its place in words.
        seconds: wall-clock time that its steps took, whichever call, cell or run computed them.
        steps: "<step>: <what for>" -> key.
        computed: number of steps that were not there, in the last call that computed some.
        why: what went wrong, where it failed.
        result: what it gave; None where it failed.
    """

    name: str
    status: Literal["done", "failed"]
    seconds: float
    steps: Mapping[str, str]
    computed: int
    why: str | None = None
    result: AnyPart | None = None


@dataclass(frozen=True)
class RecipeText:
    """What a user's recipe says of a run; a record holds it, since records are read without importing the recipe.

    Attributes:
        title, question: heading of its page, and the line below it.
        findings: sentences.
        claims: statements of a source with a verdict on each.
        published: accuracies of a source for the run's models, where it has any.
        by_samples: whether its page draws accuracy over the number of clean samples.
    """

    title: str
    question: str
    findings: tuple[str, ...]
    claims: tuple[Claim, ...]
    published: tuple[PublishedAccuracy, ...] = ()
    by_samples: bool = False


@dataclass(frozen=True, repr=False)
class RunRecord(Result, kind="run"):
    """One run of a recipe.

    Attributes:
        id: recipe, scale, and the start of a hash of the settings, device and threads; the same call has the same. The
            data are not in it: those are in the keys of the steps.
        settings: the configuration with every default.
        inputs_hash: of the data that its cells read and of the versions of the code of steps; results of an earlier
            call are kept where it agrees.
        seeds: of its cells.
        threads: processor threads of each cell.
        status: "running", "done", "failed" (some cells, see `cells`), or "stopped": killed or interrupted.
        engine, workers, environment: of the last call that computed something.
        seconds: wall-clock time of all calls that worked on it.
        started: the first of them, UTC, ISO 8601.
        cells: the finished cells.
        planned: number of cells that were asked for.
        summary: what the cells say together, of recipes that have one; None until all are there.
        notes: what a reader should know, such as files that were found damaged.
        pictures: dataset -> split -> a strip of samples.
        text: what a user's recipe says of a finished run; None of recipes of this package, which are always at hand.
    """

    id: str
    recipe: str
    scale: str
    settings: Mapping[str, Any]
    settings_hash: str
    inputs_hash: str
    seeds: tuple[int, ...]
    engine: str
    workers: int
    threads: int | None
    status: RunStatus
    seconds: float
    started: str
    cells: tuple[CellRecord, ...]
    planned: int
    environment: Environment
    summary: AnyPart | None = None
    notes: tuple[str, ...] = ()
    pictures: Mapping[str, Mapping[str, Picture]] = field(default_factory=dict)
    text: RecipeText | None = None

    @property
    def results(self) -> list[AnyPart]:
        """What the cells gave, in the order of the recipe."""
        return [cell.result for cell in self.cells if cell.result is not None]

    @property
    def cue_results(self) -> list[CueResult]:
        """Those of cells of an experiment with a cue."""
        return [result for result in self.results if isinstance(result, CueResult)]

    @property
    def dataset_kinds(self) -> dict[str, str]:
        """Dataset -> what it is, whatever it is called."""
        return {data["name"]: name_dataset_kind(data) for data in self.settings.get("datasets", ())}

    @property
    def done(self) -> int:
        """Number of cells that are done."""
        return sum(cell.status == "done" for cell in self.cells)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of the run, and of each cell in it."""
        return {"the run": self.seconds} | {cell.name: cell.seconds for cell in self.cells}

    @property
    def is_of_paper(self) -> bool:
        """Whether the recipe is one of this package, of the paper's experiments; else it is a user's."""
        return self.text is None and is_recipe_of_paper(self)

    def header(self) -> Header:
        """The recipe's title and question."""
        if self.text is not None:
            return Header(self.text.title, self.text.question)
        recipe = find_recipe_of(self)
        return Header(recipe.title or self.recipe, recipe.question)

    def cards(self) -> list[Card]:
        """The questions that it answers."""
        return list_cards(self)

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers say, and what to know of them: departures from a source's settings, failed cells, notes."""
        return tuple(list_notices(self))

    def rows(self) -> list[dict[str, Any]]:
        """The records of every cell."""
        done = [(cell.name, cell.result) for cell in self.cells if cell.result is not None]
        rows = [{"cell": name, **row} for name, result in done for row in result.rows()]
        keys = dict.fromkeys(key for row in rows for key in row)
        return [{key: row.get(key) for key in keys} for row in rows]

    def sections(self) -> list[Section]:
        """What the run was, claims of the source, figures, tables, and how every training went."""
        return make_run_sections(self)

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure of the summary, or of all cells together."""
        return plot_run(self, ax)

    def __str__(self) -> str:
        lines = [f"run {self.id}, {self.status}: {self.done} of {self.planned} cells in {self.seconds:.0f} seconds"]
        lines += [str(self.summary)] if self.summary is not None else [str(result) for result in self.results]
        return "\n".join([*lines, *self.notes])

    @classmethod
    def migrate(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """A record of 0.1.0 without its results, which lack the verdicts that a record holds now; a note says so."""
        known = {name: value for name, value in plain.items() if name not in ("results", "summary")}
        cells = cast(list[dict[str, Any]], plain.get("cells", []))
        kept = ("name", "status", "seconds", "steps", "computed", "why")
        bare = [{name: cell.get(name) for name in kept} for cell in cells]
        return {"inputs_hash": "", **known, "cells": bare, "notes": [*plain.get("notes", ()), OLD]}
