"""Figure 13: which networks of one hidden layer connect, by the complexity of the attributes that they rely on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from mechconn.core import CommaSeparated, Compute, Config, Progress, check_distinct, derive_seed
from mechconn.paper._recipe import Scale
from mechconn.paper._run_figures import draw_widths, draw_widths_figure
from mechconn.paper._run_part import RunPart
from mechconn.paper._run_tables import SeedMean, average_seeds
from mechconn.plotting import Cell, Section, Table, format_interval
from mechconn.theory import Interpolation, Slabs, SlabSet, fresh_network, interpolate, join

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

PAIRS: dict[str, tuple[str, str]] = {
    "same_attribute": ("simple", "simple again"),
    "different_attributes": ("simple", "complex"),
    "both_attributes": ("simple", "both"),
    "same_complex_attribute": ("complex", "complex again"),
}
"""Pair -> the two networks: what each was trained on."""
FIVE = (0, 1, 2, 3, 4)
MEASURE_TITLES = {
    "barrier_before": "barrier in mean squared error, before the units were matched",
    "barrier_after": "the same, after",
    "agreement_before": "share of activation patterns that agree, before the units were matched",
    "pattern_agreement": "the same, after",
}
"""What is measured of a pair: name -> meaning."""
PAIR_COLUMNS = ("pair", *(name.replace("_", " ") for name in MEASURE_TITLES))
MEASURE_NOTE = "; ".join(f"{name.replace('_', ' ')}: {meaning}" for name, meaning in MEASURE_TITLES.items()) + "."


Even = Annotated[int, Field(ge=2, multiple_of=2)]


class Fig13(Config):
    """Everything that the numbers depend on, beside the machine."""

    complexities: Annotated[tuple[int, int], Field(description="K of the simple and of the complex attribute")] = (0, 4)
    spacing: Annotated[tuple[float, float], Field(description="distance of neighbouring slabs of each")] = (2.0, 1.0)
    noise: Annotated[int, Field(ge=0, description="noise dimensions")] = 2
    rows: Annotated[int, Field(ge=2, description="samples")] = 96
    widths: Annotated[CommaSeparated[Even], Field(min_length=1, description="hidden units, even")] = (16, 128)
    seeds: Annotated[CommaSeparated[int], Field(min_length=1, description="of data, weights and interventions")] = FIVE
    deviation: Annotated[float, Field(gt=0, description="standard deviation of the fresh weights")] = 0.1
    lr: Annotated[float, Field(gt=0, description="learning rate of gradient descent, on the scale of N")] = 0.3
    steps: Annotated[int, Field(ge=1, description="most steps of gradient descent")] = 4000
    polish: Annotated[int, Field(ge=0, description="most Gauss-Newton steps after it")] = 60
    points: Annotated[int, Field(ge=2, description="points on the line")] = 11

    @field_validator("widths", "seeds")
    @classmethod
    def _distinct(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        check_distinct(values)
        return values


FIG13_SCALES: dict[Scale, Fig13] = {
    "smoke": Fig13(),
    "small": Fig13(widths=(16, 64, 256), seeds=tuple(range(10))),
    "paper": Fig13(widths=(16, 64, 256, 1024), seeds=tuple(range(20))),
}
"""Settings by how much is run: about 15 seconds, a minute, and (estimated) a quarter of an hour on one free core."""


@dataclass(frozen=True)
class ReluCell:
    """One seed at one width of figure 13."""

    seed: int
    width: int

    @property
    def name(self) -> str:
        """Its place in words."""
        return f"width {self.width}, seed {self.seed}"


def list_relu_cells(settings: Fig13) -> list[ReluCell]:
    """Every seed at every width."""
    return [ReluCell(seed, width) for width in settings.widths for seed in settings.seeds]


@dataclass(frozen=True)
class NetworkFacts:
    """One trained network.

    Attributes:
        loss: on its training rows.
        loss_on_data: on the data.
        effects: how far drawing each attribute anew raises the loss on the data.
        steps: of gradient descent.
        interpolates: whether it fits its training rows.
    """

    loss: float
    loss_on_data: float
    effects: tuple[float, float]
    steps: int
    interpolates: bool


@dataclass(frozen=True)
class PairFacts:
    """Two networks joined by a straight line, before and after their units were matched.

    Attributes:
        barrier_before, barrier_after: in mean squared error.
        pattern_agreement: share of activation patterns that agree once units were matched.
        agreement_before: the same before.
        matched_by: what the units were matched by.
        loss_before, loss_after: along the line.
    """

    barrier_before: float
    barrier_after: float
    pattern_agreement: float
    agreement_before: float
    matched_by: str
    loss_before: tuple[float, ...]
    loss_after: tuple[float, ...]


@dataclass(frozen=True, repr=False)
class ReluResult(RunPart, kind="relu_cell"):
    """One seed at one width of figure 13.

    Attributes:
        networks: what each was trained on -> what it is like.
        pairs: pair -> how its networks are joined.
    """

    seed: int
    width: int
    networks: Mapping[str, NetworkFacts]
    pairs: Mapping[str, PairFacts]

    def rows(self) -> list[dict[str, Any]]:
        """One record for each pair."""
        return [
            {"seed": self.seed, "width": self.width, "pair": pair, **{m: getattr(found, m) for m in MEASURE_TITLES}}
            for pair, found in self.pairs.items()
        ]

    def sections(self) -> list[Section]:
        """A table of the pairs."""
        rows = [(row["pair"].replace("_", " "), *(f"{row[m]:.5f}" for m in MEASURE_TITLES)) for row in self.rows()]
        return [Section("Pairs of networks", tables=(Table(PAIR_COLUMNS, tuple(rows), note=MEASURE_NOTE),))]

    def __str__(self) -> str:
        lines = [f"width {self.width}, seed {self.seed}: barriers before and after permutation, agreement of patterns"]
        lines += [
            f"  {pair}: {found.barrier_before:.3g}, {found.barrier_after:.3g}, {found.pattern_agreement:.1%}"
            for pair, found in self.pairs.items()
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class PairMeans:
    """What `PairFacts` measures, over the seeds."""

    barrier_before: SeedMean
    barrier_after: SeedMean
    pattern_agreement: SeedMean
    agreement_before: SeedMean


@dataclass(frozen=True)
class PairSummary(PairMeans):
    """A pair at the largest width, and at every width beside."""

    by_width: Mapping[int, PairMeans]


@dataclass(frozen=True, repr=False)
class Fig13Summary(RunPart, kind="fig13"):
    """What the cells of figure 13 say together: each pair of networks over the seeds."""

    same_attribute: PairSummary
    different_attributes: PairSummary
    both_attributes: PairSummary
    same_complex_attribute: PairSummary

    def pairs(self) -> dict[str, PairSummary]:
        """Pair in words -> its measures."""
        return {name.replace("_", " "): getattr(self, name) for name in PAIRS}

    def rows(self) -> list[dict[str, Any]]:
        """One record for each pair and width."""
        return [
            {
                "pair": pair,
                "width": width,
                **{m: getattr(means, m).mean for m in MEASURE_TITLES},
                **{f"{m}_low": _get_bound(getattr(means, m), 0) for m in MEASURE_TITLES},
                **{f"{m}_high": _get_bound(getattr(means, m), 1) for m in MEASURE_TITLES},
            }
            for pair, found in self.pairs().items()
            for width, means in found.by_width.items()
        ]

    def sections(self) -> list[Section]:
        """The measures by width: a figure and a table."""
        rows = [
            (pair, str(width), *(_make_measure_cell(getattr(means, m)) for m in MEASURE_TITLES))
            for pair, found in self.pairs().items()
            for width, means in found.by_width.items()
        ]
        seeds = self.same_attribute.barrier_after.seeds
        note = f"{MEASURE_NOTE} Small figures: 95 % intervals over the {seeds} seeds." if seeds > 1 else MEASURE_NOTE
        table = Table(("pair", "width", *PAIR_COLUMNS[1:]), tuple(rows), note=note, sortable=True)
        return [
            Section("By width", figures=(draw_widths_figure(self._by_width()),)),
            Section("Pairs of networks", tables=(table,)),
        ]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: barriers before and after permutation, and agreement of patterns, by width.

        Args:
            ax: the panel of the barriers after permutation alone; default: a new figure with all.
        """
        return draw_widths(self._by_width(), ax)

    def _by_width(self) -> dict[str, dict[int, dict[str, SeedMean]]]:
        return {
            pair: {width: {m: getattr(means, m) for m in MEASURE_TITLES} for width, means in found.by_width.items()}
            for pair, found in self.pairs().items()
        }

    def __str__(self) -> str:
        return "\n".join(
            f"{row['pair']}, width {row['width']}: barrier {row['barrier_before']:.3g} before and "
            f"{row['barrier_after']:.3g} after permutation, {row['pattern_agreement']:.1%} of patterns agree"
            for row in self.rows()
        )


def run_fig13(config: Fig13, progress: Progress | None = None) -> list[ReluResult]:
    """All cells one after the other; `summarise_fig13` says what they say together."""
    asked, found, compute = list_relu_cells(config), [], Compute(progress=progress)
    for number, at in enumerate(asked):
        compute.report(at.name, number, len(asked))
        found.append(compute_relu_cell(config, at.seed, at.width))
    compute.report("done", len(asked), len(asked))
    return found


def compute_relu_cell(config: Fig13, seed: int, width: int) -> ReluResult:
    """One seed at one width: five networks are trained, and four pairs of them joined.

    "simple" and "complex" are trained on the data and on the same rows with the other attribute drawn anew, so that
    they interpolate the data by their own attribute; "both" on the data alone, which both attributes predict. All
    lines are on the data. The networks are signed and have a constant input (≠ the network of the theorems, which
    fits no labels that alternate).
    """
    slabs = Slabs(config.complexities, config.spacing, config.noise)
    data = slabs.sample(config.rows, seed)
    rows = {"simple": data.relying_on(0, seed), "complex": data.relying_on(1, seed), "both": data}
    names = dict.fromkeys(name for pair in PAIRS.values() for name in pair)
    trained = {name: _train_network(config, rows[name.split()[0]], width, seed, name) for name in names}
    pairs = {}
    for pair, (first, second) in PAIRS.items():
        joined = join(trained[first].net, trained[second].net, data.x, data.y, config.points)
        pairs[pair] = PairFacts(
            barrier_before=joined.before.barrier.height,
            barrier_after=joined.after.barrier.height,
            pattern_agreement=joined.agreement,
            agreement_before=joined.agreement_before,
            matched_by=joined.by,
            loss_before=tuple(joined.before.loss),
            loss_after=tuple(joined.after.loss),
        )
    networks = {name: _describe_network(result, data, seed) for name, result in trained.items()}
    return ReluResult(seed, width, networks, pairs)


def summarise_fig13(config: Fig13, cells: Sequence[ReluResult]) -> Fig13Summary:
    """Each pair's measures over the seeds at the largest width, and at every width beside.

    Intervals are Student's t over seeds, 95 %; None where there is one seed only.

    Args:
        config: what was asked for.
        cells: one for each seed and width, in any order.
    """

    def summarise(pair: str) -> PairSummary:
        by_width = {
            width: {
                m: average_seeds([getattr(cell.pairs[pair], m) for cell in ordered if cell.width == width])
                for m in MEASURE_TITLES
            }
            for width in config.widths
        }
        means = {width: PairMeans(**found) for width, found in by_width.items()}
        return PairSummary(**by_width[max(config.widths)], by_width=means)

    ordered = sorted(cells, key=lambda cell: (cell.width, cell.seed))
    return Fig13Summary(**{pair: summarise(pair) for pair in PAIRS})


def _train_network(config: Fig13, rows: SlabSet, width: int, seed: int, name: str) -> Interpolation:
    fresh = fresh_network(
        rows.generator.features, width, signed=True, scale=config.deviation, seed=derive_seed(seed, "fig13", name)
    )
    return interpolate(fresh, rows.x, rows.y, lr=config.lr, steps=config.steps, polish=config.polish)


def _describe_network(result: Interpolation, data: SlabSet, seed: int) -> NetworkFacts:
    loss, other = result.net.loss(data.x, data.y), derive_seed(seed, "fig13", "effects")
    first, second = (data.randomised(attribute, other) for attribute in (0, 1))
    effects = result.net.loss(first.x, first.y) - loss, result.net.loss(second.x, second.y) - loss
    return NetworkFacts(result.loss, loss, effects, result.steps, result.converged)


def _get_bound(value: SeedMean, index: int) -> float | None:
    return None if value.interval is None else value.interval[index]


def _make_measure_cell(value: SeedMean) -> Cell:
    return Cell(f"{value.mean:.5f}", format_interval(value.interval, form=".5f"), key=str(value.mean))
