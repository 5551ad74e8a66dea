"""What the star recipe gives: the barriers around two stars at one width, and at every width together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from mechconn.connectivity import StarBarriers, describe_judged, mark_barrier
from mechconn.mechanisms import Invariance
from mechconn.paper._published import STARS
from mechconn.paper._run_part import RunPart
from mechconn.paper._split_names import abbreviate_split
from mechconn.plotting import (
    Answer,
    AnswerStyle,
    Card,
    Cell,
    Drawing,
    Mark,
    Section,
    Table,
    draw_marks,
    format_interval,
    make_card,
)

if TYPE_CHECKING:
    from mechconn.connectivity import BarrierSummary, StarComparison
    from mechconn.plotting import Axes, Figure

StarVariant = Literal["realigned", "as they are"]
ALIGNED: tuple[StarVariant, ...] = ("realigned", "as they are")
STYLES: Mapping[str, AnswerStyle] = {
    "nearer": "holds",
    "farther": "does-not-hold",
    "no solution": "does-not-hold",
    "not shown": "",
}
TRAIN = "train"
ACCURACY_FORM = ".1f"


@dataclass(frozen=True, repr=False)
class StarCell(RunPart, kind="star_cell"):
    """Two stars of one width, with sources realigned each epoch and as they are, and the runs around them.

    Attributes:
        dataset: how results call the data.
        proportion: share of each class that carries the cue in training.
        seed: of the data, and what the seeds of all runs are derived from.
        width: hidden units.
        barriers: how sources were taken -> the barriers around that star; those between runs are the same in both.
        invariance: held-out runs and "star, realigned", "star, as they are" -> what each relies on.
    """

    dataset: str
    proportion: float
    seed: int
    width: int
    barriers: Mapping[StarVariant, StarBarriers]
    invariance: Mapping[str, Invariance]

    @property
    def place(self) -> str:
        """Where it stands, but for the width."""
        return f"{self.dataset}, {100 * self.proportion:g}\N{NO-BREAK SPACE}% with the cue, seed {self.seed}"

    def rows(self) -> list[dict[str, Any]]:
        """One record per star and line, as the barriers have them."""
        front = {"dataset": self.dataset, "proportion": self.proportion, "seed": self.seed, "width": self.width}
        return [
            {**front, "sources": variant, **row} for variant, found in self.barriers.items() for row in found.rows()
        ]

    def sections(self) -> list[Section]:
        """What the barriers of each star show, and what stars and runs rely on."""
        shown = [
            replace(part, title=f"Sources {variant}: {part.title[0].lower()}{part.title[1:]}")
            for variant, found in self.barriers.items()
            for part in found.sections()
        ]
        return [*shown, self._make_reliance_section()]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the mean barriers around the first star on every split."""
        return next(iter(self.barriers.values())).plot(ax=ax)

    def _make_reliance_section(self) -> Section:
        """The effects of the interventions on the stars, and their range over held-out runs."""
        stars = {name: found for name, found in self.invariance.items() if name.startswith("star, ")}
        runs = [found for name, found in self.invariance.items() if name not in stars]
        rows = []
        for split in runs[0].interventions:
            effects = [100 * run[split].effect for run in runs]
            verdicts = [run[split].verdict for run in runs]
            cells = [Cell(f"{100 * found[split].effect:+.1f}", f"{found[split].verdict}") for found in stars.values()]
            said = ", ".join(f"{verdicts.count(one)} {one}" for one in dict.fromkeys(verdicts))
            rows.append((abbreviate_split(split), *cells, Cell(f"{min(effects):+.1f} ... {max(effects):+.1f}", said)))
        note = f"Effects on accuracy in points, against {runs[0].reference}; verdicts as `measure_invariance` has them."
        return Section("What they rely on", tables=(Table(("intervention", *stars, "runs"), tuple(rows)),), note=note)

    def __str__(self) -> str:
        lines = [f"{self.place}, width {self.width}"]
        for variant, found in self.barriers.items():
            lines += [f"sources {variant}: {found}"]
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class StarSummary(RunPart, kind="star"):
    """The barriers around every star by width.

    Verdicts are right for all rows of the table together with 95 %, approximately, as far as Student's t is: each
    interval of a difference has confidence 1 - 0.05 / (number of rows), Bonferroni; see
    `mechconn.connectivity._star_barriers`. A cell's own page judges the splits of one star alone, and may show more.

    Attributes:
        cells: one for each place and width.
    """

    cells: tuple[StarCell, ...]

    @property
    def claims(self) -> int:
        """How many verdicts hold together."""
        return sum(len(found.splits) for cell in self.cells for found in cell.barriers.values())

    def list_comparisons(
        self,
    ) -> Iterator[tuple[StarCell, StarVariant, str, BarrierSummary, BarrierSummary, BarrierSummary, StarComparison]]:
        """(cell, how sources were taken, split, runs, star, star to its sources, comparison), row by row."""
        claims = self.claims
        for cell in self.cells:
            for variant, found in cell.barriers.items():
                for split in found.splits:
                    runs, star, source = (found.mean(split, group) for group in ("pair", "held-out", "source"))
                    yield cell, variant, split, runs, star, source, found.compare(split, claims=claims)

    def rows(self) -> list[dict[str, Any]]:
        """One record per place, width, star and split."""
        return [
            {
                "dataset": cell.dataset,
                "proportion": cell.proportion,
                "seed": cell.seed,
                "width": cell.width,
                "sources": variant,
                "split": split,
                "runs": runs.mean,
                **_name_bounds("runs", runs.interval),
                "star": star.mean,
                **_name_bounds("star", star.interval),
                "star_source": source.mean,
                "difference": found.barrier.value,
                **_name_bounds("difference", found.barrier.interval),
                "ratio": found.ratio,
                "runs_nearer": found.runs_nearer,
                "highest_difference": found.highest.value,
                **_name_bounds("highest_difference", found.highest.interval),
                "excess": found.excess.value,
                "intervals_clear": _are_clear(runs, star, found),
                "verdict": found.verdict,
                "star_loss": cell.barriers[variant].star[split].loss,
                "star_accuracy": cell.barriers[variant].star[split].accuracy,
            }
            for cell, variant, split, runs, star, source, found in self.list_comparisons()
        ]

    def cards(self) -> list[Card]:
        """How many comparisons have each verdict."""
        found = Counter(row["verdict"] for row in self.rows())
        answers = [
            Answer(verdict, STYLES[verdict], number=f"{found[verdict]} of {found.total()}") for verdict in STYLES
        ]
        why = "Every verdict is right together with the others with 95 %, approximately (Student's t)."
        return [make_card("Is the star nearer to unseen runs than these to each other?", answers, why=why)]

    @property
    def findings(self) -> tuple[str, ...]:
        """On how many rows the star is nearer, and where its interval lies wholly below that of the runs."""
        rows = self.rows()
        said = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in STYLES}
        clear = [row for row in rows if row["intervals_clear"]]
        places = "; ".join(
            f"width {row['width']}, sources {row['sources']}, {abbreviate_split(row['split'])}" for row in clear
        )
        return (
            f"Of {len(rows)} comparisons the star is nearer in {said['nearer']}, farther in {said['farther']}, and no "
            f"solution as the runs are in {said['no solution']}; {said['not shown']} show nothing. All together are "
            "right with 95 %, approximately (Student's t).",
            "The star's 95 % interval lies wholly below that of the runs, where it is a solution and the highest "
            f"losses on the lines fall as well, at: {places}. {_EACH.format(len(rows))}"
            if clear
            else f"Nowhere does the star's 95 % interval lie wholly below that of the runs. {_EACH.format(len(rows))}",
        )

    def sections(self) -> list[Section]:
        """Barriers by width: figures and a table for each place, then what stars and runs rely on."""
        return [
            Section("What was found", text=" ".join(self.findings)),
            *(self._make_place_section(place) for place in dict.fromkeys(cell.place for cell in self.cells)),
            *self._make_published_section(),
        ]

    def _make_published_section(self) -> Iterator[Section]:
        """Mean barriers on the training rows beside those that the source published for the same widths."""
        rows = []
        for cell in self.cells:
            known = {how: found for how, found in cell.barriers.items() if TRAIN in found.splits}
            if cell.width in STARS and known:
                between, star = STARS[cell.width]
                runs = next(iter(known.values())).mean(TRAIN, "pair").mean
                own = [Cell(_show_ratio(found)) for found in known.values()]
                rows.append(
                    (cell.place, str(cell.width), f"{between:.3f}", f"{star:.3f}", f"{star / between:.2f}",
                     f"{runs:.3f}", *own)
                )  # fmt: skip
        if rows:
            columns = (
                "data", "width", "published, between runs", "published, star to runs", "ratio", "here, between runs",
                *(f"ratio, sources {variant}" for variant in ALIGNED),
            )  # fmt: skip
            yield Section("Beside the published barriers", tables=(Table(columns, tuple(rows)),), note=_PUBLISHED)

    def _make_place_section(self, place: str) -> Section:
        rows = tuple(
            (
                str(cell.width),
                variant,
                abbreviate_split(split),
                Cell(found.verdict, describe_judged(found, ".3f"), STYLES[found.verdict]),
                _make_cell(runs),
                _make_cell(star),
                _make_cell(source),
                Cell("" if found.ratio is None else f"{found.ratio:.2f}"),
                f"{found.runs_nearer} of {len(cell.barriers[variant].runs)}",
                Cell(f"{found.highest.value:+.3f}", format_interval(found.highest.interval, form=".3f")),
                _make_own_cell(cell.barriers[variant], split),
            )
            for cell, variant, split, runs, star, source, found in self.list_comparisons()
            if cell.place == place
        )
        columns = (
            "width", "sources", "split", "verdict", "between runs", "star to runs", "star to sources", "ratio",
            Cell("runs nearer", title="runs to which the star is nearer than the mean of that run's own pairs"),
            Cell("highest", title="mean of the highest loss on the lines: from the star, minus between runs"),
            Cell("loss, accuracy", title="of the star; small: mean of the held-out runs"),
        )  # fmt: skip
        tolerance = next(iter(self.cells[0].barriers.values())).tolerance
        note = (
            "Mean barriers; small: 95 % intervals by a jackknife over held-out runs, each by itself, conditional on "
            "the star and on the training rows that the runs share; of sources the range. Verdicts: no solution where "
            f"the star's own loss exceeds the runs' by more than {tolerance:g}, on this split or on the reference; "
            f"nearer where the interval of the difference, one of {self.claims} that hold together with 95 %, "
            "approximately (Student's t), and the like of the highest losses lie below zero; not shown where most "
            "barriers are zero. The page of a cell judges the splits of one star alone, so that it may show more."
        )
        splits = list(self.cells[0].barriers[ALIGNED[0]].splits)
        figures = tuple(
            Drawing(
                lambda split=split: self._draw(place, split),
                f"Mean barriers on {split} by width, intervals cut off at 0: between runs, and from the stars to runs.",
                f"On {abbreviate_split(split)}",
            )
            for split in splits
        )
        return Section(f"By width: {place}", figures=figures, tables=(Table(columns, rows, note=note, sortable=True),))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: mean barriers on the last split, that of the training data, by width."""
        cell = self.cells[0]
        return self._draw(cell.place, cell.barriers[ALIGNED[0]].splits[-1], ax)

    def _draw(self, place: str, split: str, ax: Axes | None = None) -> Figure:
        cells = [cell for cell in self.cells if cell.place == place]
        series: dict[str, list[Mark]] = {
            "between runs": [mark_barrier(next(iter(cell.barriers.values())).mean(split, "pair")) for cell in cells]
        }
        for variant in ALIGNED:
            series[f"star, sources {variant}"] = [
                mark_barrier(c.barriers[variant].mean(split, "held-out")) for c in cells
            ]
        names, unit = [str(cell.width) for cell in cells], next(iter(cells[0].barriers.values())).unit
        return draw_marks(names, series, f"mean barrier ({unit})", "hidden units", ax, joined=True)

    def __str__(self) -> str:
        lines = [
            f"width {cell.width}, sources {variant}, {split}: {runs.mean:.4g} between runs, {star.mean:.4g} from the "
            f"star: {found.verdict}"
            for cell, variant, split, runs, star, _, found in self.list_comparisons()
        ]
        return "\n".join([*lines, *self.findings])


_EACH = "These intervals are each by itself, over {} rows: some of them miss by chance."
_PUBLISHED = (
    "Published: Sonthalia et al. 2025, perceptrons of one hidden layer on MNIST, training loss, with their own "
    "sources and schedule. Here: other images with a cue, other numbers of rows and sources, another schedule; only "
    "the ratio of both means is to be held against theirs, and no interval is published."
)


def _show_ratio(found: StarBarriers) -> str:
    compared = found.compare(TRAIN)
    return f"{'' if compared.ratio is None else format(compared.ratio, '.2f')} ({compared.verdict})"


def _name_bounds(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _are_clear(runs: BarrierSummary, star: BarrierSummary, found: StarComparison) -> bool:
    """Whether the star's interval lies wholly below that of the runs, and the highest losses fall: no lifted chord."""
    if found.verdict == "no solution" or runs.interval is None or star.interval is None:
        return False
    return star.interval[1] < runs.interval[0] and found.highest.interval is not None and found.highest.interval[1] < 0


def _make_cell(found: BarrierSummary) -> Cell:
    shown = format_interval(found.interval, form=".3f") or f"{found.low:.3f} ... {found.high:.3f}"
    return Cell(f"{found.mean:.3f}", shown, key=str(found.mean))


def _make_own_cell(found: StarBarriers, split: str) -> Cell:
    own = found.star[split]
    losses = [run.loss[split] for run in found.runs.values()]
    accuracies = [run.accuracy[split] for run in found.runs.values() if split in run.accuracy]
    accuracy = "" if own.accuracy is None else f", {100 * own.accuracy:{ACCURACY_FORM}} %"
    mean = f", {100 * sum(accuracies) / len(accuracies):{ACCURACY_FORM}} %" if accuracies else ""
    return Cell(f"{own.loss:.3f}{accuracy}", f"{sum(losses) / len(losses):.3f}{mean}", key=str(own.loss))
