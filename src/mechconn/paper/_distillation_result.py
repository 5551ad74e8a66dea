"""Results of the recipe `distillation`: one seed's students, and what the seeds say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from mechconn.mechanisms import Invariance, Transfer
from mechconn.paper._run_part import RunPart
from mechconn.paper._run_tables import SeedMean, average_seeds
from mechconn.paper._split_names import abbreviate_split
from mechconn.plotting import (
    Answer,
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
from mechconn.stats import NEGLIGIBLE, PairMoments, RatioSet, find_ratio_set

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

DistilledOn: TypeAlias = Literal["clean", "cued"]
LABELS_ALONE = "labels alone"


@dataclass(frozen=True, eq=False, repr=False)
class DistillationResult(RunPart, kind="distillation_cell"):
    """One seed: both teachers, and every student held against theta_C.

    Attributes:
        dataset: name of the data.
        proportion: share of each class that carries the cue in training.
        seed: of everything that is drawn.
        teachers: "theta_C" and "theta_NC" -> what each relies on.
        students: what was distilled on -> name of the student -> its effects over those of theta_C.
    """

    dataset: str
    proportion: float
    seed: int
    teachers: Mapping[str, Invariance]
    students: Mapping[DistilledOn, Mapping[str, Transfer]]

    @property
    def place(self) -> str:
        """Where it stands, but for the seed."""
        return f"{self.dataset}, {self.proportion:g} cued"

    def rows(self) -> list[dict[str, Any]]:
        """One record for each student and intervention."""
        front = {"dataset": self.dataset, "proportion": self.proportion, "seed": self.seed}
        return [
            {**front, "on": on, "student": name, **row}
            for on, students in self.students.items()
            for name, found in students.items()
            for row in found.rows()
        ]

    def sections(self) -> list[Section]:
        """A table of every student's effects and ratios."""
        return [self._make_section(on, students) for on, students in self.students.items()]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effects of every student on the first kind of rows, and of the teacher."""
        return draw_students([self], next(iter(self.students)), ax)

    def _make_section(self, on: DistilledOn, students: Mapping[str, Transfer]) -> Section:
        table, said = _make_cell_table(students), "; ".join(f"{name}: {found}" for name, found in students.items())
        figure = Drawing(lambda: draw_students([self], on), f"Effects of one seed. {said}")
        return Section(f"Distilled on {on} rows", figures=(figure,), tables=(table,), note=CELL_NOTE)

    def __str__(self) -> str:
        lines = [f"{self.place}, seed {self.seed}"]
        for on, students in self.students.items():
            for name, found in students.items():
                lines += [f"  {name}, {on} rows: {own}" for own in found.values()]
        return "\n".join(lines)


CELL_NOTE = "Effects on accuracy in points, of those on theta_C; below, the ratio with Fieller's set over test rows."


def _make_cell_table(students: Mapping[str, Transfer]) -> Table:
    rows = []
    splits = list(next(iter(students.values())))
    for name, found in students.items():
        cells = []
        for split in splits:
            own = found[split]
            ratio = "" if own.ratio is None or own.ratios is None else f"{own.ratio:.2f} ({own.ratios.describe('.2f')})"
            cells.append(Cell(own.verdict, f"{100 * own.effect:+.1f} of {100 * own.of:+.1f}\n{ratio}"))
        rows.append((name, *cells))
    return Table(("student", *map(abbreviate_split, splits)), tuple(rows))


@dataclass(frozen=True)
class StudentSummary:
    """One student's effect of one intervention over the seeds.

    Attributes:
        on: what was distilled on.
        student: its name.
        split: the intervention.
        teacher: the effect on theta_C.
        effect: that on the student.
        ratio: mean effect on the student over mean effect on theta_C; None where theta_C is sensitive in no seed.
        ratios: Fieller's set of it, seeds as rows; None then too, with one seed, and where every seed has one ratio, of
            which t would be certain.
        verdicts: word -> in how many seeds `measure_transfer` says so.
    """

    on: DistilledOn
    student: str
    split: str
    teacher: SeedMean
    effect: SeedMean
    ratio: float | None
    ratios: RatioSet | None
    verdicts: Mapping[str, int]


@dataclass(frozen=True, eq=False, repr=False)
class DistillationSummary(RunPart, kind="distillation"):
    """What the seeds say together.

    Attributes:
        results: the cells.
    """

    results: tuple[DistillationResult, ...]

    @property
    def places(self) -> dict[str, list[DistillationResult]]:
        """Dataset and proportion -> the cells of all its seeds."""
        found: dict[str, list[DistillationResult]] = {}
        for result in self.results:
            found.setdefault(result.place, []).append(result)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """One record for each student, intervention and seed."""
        return [row for result in self.results for row in result.rows()]

    def cards(self) -> list[Card]:
        """What comes over of the cue, of the first place."""
        place, results = next(iter(self.places.items()))
        answers = [
            Answer(
                f"ratio {one.ratio:.2f}" if one.ratio is not None else "no ratio",
                about=f"{one.student}, {one.on} rows",
                number=_write_counts(one.verdicts),
                interval="" if one.ratios is None else f"Fieller over seeds: {one.ratios.describe('.2f')}",
            )
            for one in summarise_students(results)
            if one.split == "rand_cue"
        ]
        why = f"On {place}: the effect of rand_cue on the student over that on theta_C, {len(results)} seeds."
        return [make_card("Does the cue come over?", answers, why=why, most=len(answers))] if answers else []

    def sections(self) -> list[Section]:
        """For every place figures and tables over the seeds, then every seed."""
        return [part for place, results in self.places.items() for part in _make_place_sections(place, results)]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: mean effects over the seeds of the first place, on the first kind of rows."""
        results = next(iter(self.places.values()))
        return draw_students(results, next(iter(results[0].students)), ax)

    def __str__(self) -> str:
        return "\n".join(
            f"{place}: {describe_student(one)}"
            for place, results in self.places.items()
            for one in summarise_students(results)
        )


def summarise_students(results: Sequence[DistillationResult]) -> list[StudentSummary]:
    """Every student and intervention over the seeds of one place."""
    return [
        _summarise(results, on, name, split)
        for on, students in results[0].students.items()
        for name, found in students.items()
        for split in found
    ]


def _summarise(results: Sequence[DistillationResult], on: DistilledOn, name: str, split: str) -> StudentSummary:
    own = [result.students[on][name][split] for result in results]
    pairs = torch.tensor([(one.effect, one.of) for one in own], dtype=torch.float64)
    teacher, effect = (average_seeds(values) for values in (pairs[:, 1].tolist(), pairs[:, 0].tolist()))
    counts = dict(Counter(one.verdict for one in own))
    ratio, ratios = _divide_over_seeds(pairs) if any(one.ratio is not None for one in own) else (None, None)
    return StudentSummary(on, name, split, teacher, effect, ratio, ratios, counts)


def _divide_over_seeds(pairs: Tensor) -> tuple[float | None, RatioSet | None]:
    """The ratio of mean effects of students and teachers, [seeds, 2], and Fieller's set."""
    first, second = pairs.mean(0).tolist()
    if not second:
        return None, None
    ratio = first / second + 0.0  # no negative zero
    gaps = pairs[:, 0] - ratio * pairs[:, 1]
    if len(pairs) < 2 or float(gaps.abs().max()) <= NEGLIGIBLE:
        return ratio, None
    (mine, shared), (_, theirs) = (pairs.T.cov() / len(pairs)).tolist()
    return ratio, find_ratio_set(PairMoments((first, second), (mine, theirs), shared, len(pairs) - 1.0), 0.95)


def list_effects(results: Sequence[DistillationResult], on: DistilledOn, name: str, split: str) -> list[float]:
    """The effect of an intervention on a student, seed by seed; "theta_C" and "theta_NC" are the teachers'."""
    if name in results[0].teachers:
        return [result.teachers[name][split].effect for result in results]
    return [result.students[on][name][split].effect for result in results]


def describe_student(one: StudentSummary) -> str:
    """One student and intervention in a sentence."""
    ratio = "no ratio" if one.ratio is None else f"ratio {one.ratio:.2f}"
    known = "" if one.ratios is None else f" (Fieller over seeds: {one.ratios.describe('.2f')})"
    return (
        f"{one.student}, {one.on} rows, {abbreviate_split(one.split)}: {_write_points(one.effect)} points of theta_C's "
        f"{_write_points(one.teacher)}, {ratio}{known}; {_write_counts(one.verdicts)} of {one.effect.seeds} seeds"
    )


def _write_points(value: SeedMean) -> str:
    bounds = format_interval(value.interval, 100, "+.1f")
    return f"{100 * (value.mean or 0.0):+.1f}" + (f" ({bounds})" if bounds else "")


def _write_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word} in {count}" for word, count in counts.items())


def _make_place_sections(place: str, results: Sequence[DistillationResult]) -> Iterator[Section]:
    every = summarise_students(results)
    for on in results[0].students:
        said = "; ".join(describe_student(one) for one in every if one.on == on)
        figure = Drawing(lambda on=on: draw_students(results, on), f"Mean effects over the seeds. {said}.")
        rows = tuple(_list_cells(one) for one in every if one.on == on)
        columns = ("student", "intervention", "effect on theta_C", "effect on the student", "ratio", "verdicts by seed")
        yield Section(f"Distilled on {on} rows: {place}", figures=(figure,), tables=(Table(columns, rows),), note=NOTE)
    for result in results:
        for part in result.sections():
            yield Section(f"{part.title}: {place}, seed {result.seed}", tables=part.tables, note=part.note, folded=True)


def _list_cells(one: StudentSummary) -> tuple[Cell, ...]:
    teacher, effect = (
        Cell(f"{100 * (value.mean or 0.0):+.1f}", format_interval(value.interval, 100, "+.1f"))
        for value in (one.teacher, one.effect)
    )
    ratio = Cell(
        "" if one.ratio is None else f"{one.ratio:.2f}", "" if one.ratios is None else one.ratios.describe(".2f")
    )
    verdict = Cell(_write_counts(one.verdicts))
    return Cell(one.student), Cell(abbreviate_split(one.split)), teacher, effect, ratio, verdict


def draw_students(results: Sequence[DistillationResult], on: DistilledOn, ax: Axes | None = None) -> Figure:
    """Effects in points of teachers and students, means over the seeds with 95 % intervals, by intervention."""
    names = [*results[0].teachers, *results[0].students[on]]
    splits = list(next(iter(results[0].students[on].values())))

    def mark(name: str, split: str) -> Mark:
        found = average_seeds(list_effects(results, on, name, split))
        low, high = found.interval or (found.mean, found.mean)
        assert found.mean is not None and low is not None and high is not None
        return 100 * found.mean, 100 * low, 100 * high

    series = {abbreviate_split(split): [mark(name, split) for name in names] for split in splits}
    return draw_marks(names, series, "effect on accuracy (points)", "network", ax)


NOTE = (
    "Means over the seeds with 95 % intervals (Student's t); below a ratio stands Fieller's set, seeds as rows. Seeds "
    "draw data, weights and order anew, so that these intervals are of the recipe; verdicts are each seed's own, on "
    "its test rows. All students of a seed start at the same fresh weights; labels alone has no teacher; theta_NC is "
    "a teacher that never met the cue."
)
