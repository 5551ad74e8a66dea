"""Results of the recipe `arithmetic`: one cell's searches and relearning, and what the seeds say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mechconn.core import NO_CUE, RAND_IMAGE
from mechconn.mechanisms import Relearned
from mechconn.merging import ScaleSearch
from mechconn.paper._arithmetic_cards import make_change_card, write_counts
from mechconn.paper._run_part import RunPart
from mechconn.paper._run_tables import SeedMean, average_seeds
from mechconn.plotting import (
    Card,
    Cell,
    Drawing,
    Section,
    Table,
    choose_line_style,
    escape_label,
    format_interval,
    make_panel_grid,
    make_panels,
    place_legend,
    strip_axes,
)

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

BASE = "theta_C"
MOVED = "theta_NC moved at random"
SPLITS = (RAND_IMAGE, NO_CUE)
MEANINGS = {
    "minus cue only": "minus what tuning on rows in which the cue alone predicts changes (negation)",
    "plus clean": "plus what tuning on clean rows changes (addition; scale 1 is fine-tuning itself)",
    "clean minus cued": "plus what tuning on clean rows changes, minus what tuning on the same rows with the cue does "
    "(analogy)",
}


@dataclass(frozen=True, eq=False, repr=False)
class ArithmeticResult(RunPart, kind="arithmetic_cell"):
    """One seed: every change of theta_C, searched over scales, and whether the cue is gone or hidden.

    Attributes:
        dataset: name of the data.
        proportion: share of each class that carries the cue in training.
        seed: of everything that is drawn.
        changes: name of the change -> what the search found.
        relearned: theta_C and every change with a scale other than 0 -> relearning against its control.
    """

    dataset: str
    proportion: float
    seed: int
    changes: Mapping[str, ScaleSearch]
    relearned: Mapping[str, Relearned]

    def rows(self) -> list[dict[str, Any]]:
        """One record for each change."""
        return [
            {
                "dataset": self.dataset,
                "proportion": self.proportion,
                "seed": self.seed,
                "change": name,
                "scale": found.scale,
                "verdict": found.verdict,
                "random": found.random_verdict,
                **{f"{split}_{when}": found.value(split, at) for split in SPLITS
                   for when, at in (("before", 0.0), ("after", found.scale))},
                "state": self.relearned[name].state if name in self.relearned else None,
                "relearning": self.relearned[name].verdict if name in self.relearned else None,
                "excess": self.relearned[name].excess if name in self.relearned else None,
                "excess_over_random": find_excess_over(self.relearned[name]) if name in self.relearned else None,
            }
            for name, found in self.changes.items()
        ]  # fmt: skip

    def sections(self) -> list[Section]:
        """The curve of every change, and relearning."""
        found = []
        for name, search in self.changes.items():
            curve, claims = search.sections()[:2]
            found.append(Section(name, search.headline, curve.figures, claims.tables, note=curve.note))
        return [*found, *(Section(f"Relearning: {name}", own.headline) for name, own in self.relearned.items())]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the curves of every change."""
        return draw_mean_curves([self], ax)

    def __str__(self) -> str:
        lines = [f"{self.dataset}, {self.proportion:g} cued, seed {self.seed}"]
        lines += [f"  {name}: {found.headline}" for name, found in self.changes.items()]
        lines += [f"  relearning, {name}: {own.headline}" for name, own in self.relearned.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class ChangeSummary:
    """One change over the seeds.

    Attributes:
        verdicts: word -> in how many seeds the search says so.
        refuted: in how many it is refuted that half of the target above chance goes and the rest is kept.
        keep: the share of no_cue that must stay.
        random: "nothing", "moves", "undetermined" -> in how many seeds random changes do so.
        states: "gone", "hidden", "undetermined" -> in how many seeds relearning says so, whether or not the network
            also uses the cue openly; seeds at scale 0 are not among them.
        scales: the chosen scale of each seed.
        target_before, target_after, kept_before, kept_after: accuracy on rand_image and no_cue on the rows that judge.
        random_after: accuracy on rand_image under random changes at the same scale.
        excess: of relearning, over theta_NC with the same terms; None where no seed was relearned. Its `seeds` are
            those with a scale other than 0.
        excess_over_random: the same over theta_NC that was moved at random.
    """

    verdicts: Mapping[str, int]
    refuted: int
    keep: float
    random: Mapping[str, int]
    states: Mapping[str, int]
    scales: tuple[float, ...]
    target_before: SeedMean
    target_after: SeedMean
    kept_before: SeedMean
    kept_after: SeedMean
    random_after: SeedMean
    excess: SeedMean | None
    excess_over_random: SeedMean | None

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(self.scales)


@dataclass(frozen=True, eq=False, repr=False)
class ArithmeticSummary(RunPart, kind="arithmetic"):
    """What the seeds say together, for every dataset and proportion.

    Attributes:
        places: "dataset, proportion cued" -> change -> what the seeds say.
        results: the cells.
    """

    places: Mapping[str, Mapping[str, ChangeSummary]]
    results: tuple[ArithmeticResult, ...]

    def cards(self) -> list[Card]:
        """What every change of weights does to the cue, of the first place, over the seeds."""
        return [make_change_card(self.places)]

    def rows(self) -> list[dict[str, Any]]:
        """One record for each place, change and seed."""
        return [row for result in self.results for row in result.rows()]

    def sections(self) -> list[Section]:
        """The curves as means over the seeds, the table over the seeds, and every seed."""
        found = []
        for place, changes in self.places.items():
            own = [result for result in self.results if name_place(result) == place]
            said = "; ".join(f"{name}: {write_counts(change.verdicts)}" for name, change in changes.items())
            figure = Drawing(lambda own=own: draw_mean_curves(own), f"Mean accuracy over scales. {said}.")
            found.append(Section(f"Curves: {place}", figures=(figure,), note=CURVE_NOTE))
            found.append(Section(f"Over the seeds: {place}", tables=(_make_table(changes),), note=TABLE_NOTE))
            found.append(Section(f"Every seed: {place}", tables=(_make_seed_table(own),), folded=True))
        return found

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: mean curves of every change over the seeds of the first place."""
        first = name_place(self.results[0])
        return draw_mean_curves([result for result in self.results if name_place(result) == first], ax)

    def __str__(self) -> str:
        return "\n".join(
            f"{place}, {name}: {describe_change(change)}"
            for place, changes in self.places.items()
            for name, change in changes.items()
        )


CURVE_NOTE = (
    "Means over the seeds on the rows that judge; dashed: random changes of the same norm in every tensor. Scale 0 is "
    "theta_C with statistics of the same clean rows as every other scale. Each seed's own curve with simultaneous "
    "intervals is in its record."
)
TABLE_NOTE = (
    "Removes: half or more of what rand_image has above chance goes, and no_cue is kept, on rows that did not choose "
    "the scale; each seed's verdict is wrong with 5 % at most; no scale: on the rows that choose none keeps no_cue and "
    "lowers rand_image. Small figures: 95 % intervals over seeds (Student's t within the range of values). Excess in "
    "relearning, of the seeds with a scale: over theta_NC of another seed with the same terms, tuned from theta_NC, at "
    "the same scale; then over theta_NC moved at random by the same norms. Hidden: above the margin, whether or not "
    "the network also uses the cue openly."
)


def summarise_arithmetic(results: Sequence[ArithmeticResult]) -> ArithmeticSummary:
    """Every change over the seeds, place by place."""
    places: dict[str, dict[str, ChangeSummary]] = {}
    for result in results:
        place = name_place(result)
        own = [other for other in results if name_place(other) == place]
        places.setdefault(place, {name: _summarise_change(name, own) for name in result.changes})
    return ArithmeticSummary(places, tuple(results))


def name_place(result: ArithmeticResult) -> str:
    """Where in a run a result stands, without its seed."""
    return f"{result.dataset}, {result.proportion:g} cued"


def describe_change(change: ChangeSummary) -> str:
    """What the seeds say of one change, in a line."""
    excess = _write_excess(change)
    states = f"; relearning: {write_counts(change.states)}, {excess}" if change.states else ""
    return (
        f"{write_counts(change.verdicts)} of {change.seeds} seeds; rand_image {_write(change.target_before)} to "
        f"{_write(change.target_after)} (random changes {_write(change.random_after)}), no_cue "
        f"{_write(change.kept_before)} to {_write(change.kept_after)}; random changes: "
        f"{write_counts(change.random)}{states}"
    )


def _write_excess(change: ChangeSummary) -> str:
    """The mean excess, of how many seeds, and that over a random move."""
    if change.excess is None or change.excess_over_random is None:
        return ""
    of = "" if change.excess.seeds == change.seeds else f" in {change.excess.seeds} of {change.seeds} seeds"
    beside = _write(change.excess_over_random, "points")
    return f"excess {_write(change.excess, 'points')}{of}, over a random move {beside}"


def find_excess_over(found: Relearned, other: str = MOVED) -> float | None:
    """Mean over steps after 0 of what a network has above another one drawn beside; None where it is not there."""
    if other not in found.others:
        return None
    means = zip(found.runs[0].curve.means[1:], found.others[other].means[1:], strict=True)
    return fmean(own - beside for own, beside in means)


def _refutes(found: ScaleSearch) -> bool:
    """Whether a search says that the target is not removed, or the rest not kept: an open claim does not."""
    removal = [claim.standing for claim in found.claims if claim.claim == "removes"]
    return found.verdict in ("does not", "reverses") or "refuted" in removal


def _summarise_change(name: str, results: Sequence[ArithmeticResult]) -> ChangeSummary:
    found = [result.changes[name] for result in results]
    relearned = [result.relearned[name] for result in results if name in result.relearned]

    def mean(split: str, chosen: bool) -> SeedMean:
        return _average_within([own.value(split, own.scale if chosen else 0.0) for own in found])

    over_random = [excess for own in relearned if (excess := find_excess_over(own)) is not None]
    random = [own.curves[RAND_IMAGE].random[own.scales.index(own.scale)] for own in found]
    return ChangeSummary(
        verdicts=dict(Counter(own.verdict for own in found)),
        refuted=sum(map(_refutes, found)),
        keep=dict(found[0].keep)[NO_CUE],
        random=dict(Counter(own.random_verdict or "no scale" for own in found)),
        states=dict(Counter(own.verdict for own in relearned)),
        scales=tuple(own.scale for own in found),
        target_before=mean(RAND_IMAGE, chosen=False),
        target_after=mean(RAND_IMAGE, chosen=True),
        kept_before=mean(NO_CUE, chosen=False),
        kept_after=mean(NO_CUE, chosen=True),
        random_after=_average_within(random),
        excess=_average_within([own.excess for own in relearned], -1.0) if relearned else None,
        excess_over_random=_average_within(over_random, -1.0) if over_random else None,
    )


def _average_within(values: Sequence[float], least: float = 0.0) -> SeedMean:
    """A mean over seeds with its interval within [least, 1]."""
    found = average_seeds(values, least)
    return (
        found if found.interval is None else replace(found, interval=(found.interval[0], min(found.interval[1], 1.0)))
    )


def _write(value: SeedMean, unit: str = "%") -> str:
    assert value.mean is not None
    interval = "" if value.interval is None else f" ({format_interval(value.interval, 100, '.1f')})"
    return f"{100 * value.mean:.1f} {unit}{interval}"


def _make_table(changes: Mapping[str, ChangeSummary]) -> Table:
    rows = [
        (
            Cell(name, title=MEANINGS.get(name, "")),
            Cell(write_counts(change.verdicts), f"scales {', '.join(f'{scale:g}' for scale in change.scales)}"),
            _make_cell(change.target_before),
            _make_cell(change.target_after),
            Cell(*_split(change.random_after), title=write_counts(change.random)),
            _make_cell(change.kept_before),
            _make_cell(change.kept_after),
            Cell(
                write_counts(change.states) or "not relearned",
                _write_excess(change),
            ),
        )
        for name, change in changes.items()
    ]
    columns = ("change of theta_C", "verdict, seeds", "RI before", "RI after", "RI, random change", "NC before",
               "NC after", "relearning, seeds")  # fmt: skip
    return Table(columns, tuple(rows))


def _make_seed_table(results: Sequence[ArithmeticResult]) -> Table:
    rows = [
        (
            f"seed {row['seed']}, {row['change']}",
            f"{row['scale']:g}",
            row["verdict"],
            row["random"] or "",
            *(f"{100 * row[f'{split}_{when}']:.1f} %" for split in SPLITS for when in ("before", "after")),
            Cell(row["relearning"] or "", "" if row["excess"] is None else f"excess {100 * row['excess']:+.1f} points"),
        )
        for result in results
        for row in result.rows()
    ]
    rows += [
        (
            f"seed {result.seed}, {BASE}",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            Cell(own.verdict, f"excess {100 * own.excess:+.1f}"),
        )
        for result in results
        if (own := result.relearned.get(BASE)) is not None
    ]
    columns = ("seed and change", "scale", "verdict", "random changes", "RI before", "RI after", "NC before",
               "NC after", "relearning")  # fmt: skip
    return Table(columns, tuple(rows))


def _make_cell(value: SeedMean) -> Cell:
    return Cell(*_split(value))


def _split(value: SeedMean) -> tuple[str, str]:
    assert value.mean is not None
    return f"{100 * value.mean:.1f} %", format_interval(value.interval, 100, ".1f")


def draw_mean_curves(results: Sequence[ArithmeticResult], ax: Axes | None = None) -> Figure:
    """A panel for each change: accuracy on every split over scales, means over seeds, random changes dashed.

    Args:
        results: one for each seed.
        ax: the panel of the first change alone; default: a new figure with all.
    """
    names = list(results[0].changes) if ax is None else list(results[0].changes)[:1]
    figure, panels = make_panel_grid(len(names), 3.4) if ax is None else make_panels(1, (7.0, 3.8), ax)
    for name, axes in zip(names, panels, strict=True):
        searches = [result.changes[name] for result in results]
        for number, split in enumerate(searches[0].curves):
            style = choose_line_style(split, number)
            own = [[100 * value for value in search.curves[split].values] for search in searches]
            random = [[100 * value for value in search.curves[split].random] for search in searches]
            axes.plot(searches[0].scales, _average(own), **style)
            axes.plot(searches[0].scales, _average(random), linestyle="--", linewidth=1, color=style["color"])
        for search in searches:
            axes.axvline(search.scale, linestyle=":", color="gray", linewidth=0.8)
        axes.set_title(escape_label(name), fontsize=10)
        axes.set_xlabel("scale (dotted: chosen)")
        axes.set_ylabel("accuracy (%)")
        strip_axes(axes)
    place_legend(figure, panels[0], ax is None)
    return figure


def _average(curves: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*curves, strict=True)]
