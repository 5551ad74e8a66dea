"""The recipe `clockpizza`: two known ways to add modulo p, and whether networks that add so are linearly connected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from pydantic import Field, field_validator

from mechconn.core import CommaSeparated, Config, check_distinct, derive_seed
from mechconn.descent import AdamW, Training
from mechconn.paper._clockpizza_pair import COPIES, WAYS, AdditionLine, AdditionPair, Kind, Way
from mechconn.paper._clockpizza_result import ClockPizza, summarise_clockpizza
from mechconn.paper._clockpizza_steps import add_step, copy_step, describe_step, line_step
from mechconn.paper._modular_addition import AdditionArchitecture
from mechconn.paper._recipe import Recipe, Scale
from mechconn.paper._run_record import RunRecord
from mechconn.paper._settings import PlainTraining, Seed
from mechconn.paper._steps import ExperimentContext
from mechconn.store import StoredStep

Rate = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=1)]


class ClockPizzaSettings(Config):
    """Everything that the numbers depend on, beside the machine; the defaults are the source's.

    The loss is computed in the weights' type, float32, where the source's is in float64.

    Attributes:
        modulus: p, an odd number.
        width: of the residual stream.
        heads: of attention; they divide the width.
        pizza_rate, clock_rate: attention rates; 0 is uniform attention, 1 softmax attention.
        share: of all pairs that networks are trained on.
        data_seed: which pairs these are, the same for all networks.
        seeds: of weights; a pizza and a clock for each.
        training: of every network; where a batch is as large as the training data, an epoch is one step.
        ways: what networks are moved by before lines are drawn.
        restarts: of matching by weights.
        points: on each line.
        tolerance: the largest barrier that counts as none, in nats.
    """

    modulus: Annotated[int, Field(ge=3, description="p, an odd number")] = 59
    width: Whole = 128
    heads: Whole = 4
    pizza_rate: Rate = 0.0
    clock_rate: Rate = 1.0
    share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    data_seed: Seed = 0
    seeds: Annotated[CommaSeparated[Seed], Field(min_length=1)] = (0, 1, 2, 3, 4)
    training: PlainTraining = Training()
    ways: Annotated[CommaSeparated[Way], Field(min_length=1)] = WAYS
    restarts: Whole = 2
    points: Annotated[int, Field(ge=3)] = 11
    tolerance: Annotated[float, Field(ge=0)] = 0.05

    @field_validator("seeds", "ways")
    @classmethod
    def _distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        check_distinct(values)
        return values

    def make_architecture(self, name: str) -> AdditionArchitecture:
        """That of a "pizza" or a "clock"."""
        rate = self.pizza_rate if name == "pizza" else self.clock_rate
        return AdditionArchitecture("one-layer transformer", self.modulus, (2,), self.width, self.heads, rate)


@dataclass(frozen=True)
class AdditionCell:
    """Two networks, by what they are and their seeds; "copy" is A's own.

    Attributes:
        pair: what is paired.
        kinds: of A and B: "pizza" or "clock".
        seeds: of A and B.
    """

    pair: Kind
    kinds: tuple[str, str]
    seeds: tuple[int, int]

    @property
    def name(self) -> str:
        """Its place in words."""
        return f"{self.pair}, seed {self.seeds[0]}" + ("" if self.pair in COPIES else f" and {self.seeds[1]}")


class ClockPizzaRecipe(Recipe):
    """Networks that add modulo p by two known algorithms with equal accuracy: are they linearly connected?"""

    name = "clockpizza"
    about = "modular addition by two known algorithms: which networks are linearly connected?"
    title = "The clock and the pizza"
    question = (
        "Transformers of one layer add modulo p by a clock or by a pizza, with equal accuracy. Are two of one kind, or "
        "of both, linearly connected, as saved and once their units are matched?"
    )

    def settings(self, scale: Scale, images: bool) -> ClockPizzaSettings:
        """The source's at paper scale; at the others a smaller modulus, shorter trainings, and a lower last rate."""
        if scale == "paper":
            return ClockPizzaSettings(training=_make_training(20_000))
        if scale == "small":
            return ClockPizzaSettings(modulus=31, width=64, training=_make_training(1200, 1000))
        return ClockPizzaSettings(
            modulus=7, width=16, heads=2, seeds=(0, 1), training=_make_training(150, 120, lr=5e-3), restarts=1,
            points=5,
        )  # fmt: skip

    def cells(self, settings: ClockPizzaSettings) -> Sequence[AdditionCell]:
        """For each seed the next of its kind, and a pizza with a clock; for the first its copies.

        Raises:
            ValueError: one seed only, an even modulus, no pair to train on, or heads that do not divide the width.
        """
        _check_settings(settings)
        seeds = settings.seeds
        following = seeds if len(seeds) == 2 else (*seeds, seeds[0])
        pairs = list(pairwise(following))
        return [
            *(AdditionCell("pizza and clock", ("pizza", "clock"), (seed, seed)) for seed in seeds),
            *(AdditionCell("two pizzas", ("pizza", "pizza"), pair) for pair in pairs),
            *(AdditionCell("two clocks", ("clock", "clock"), pair) for pair in pairs),
            AdditionCell("pizza and its copy", ("pizza", "pizza"), (seeds[0], seeds[0])),
            AdditionCell("clock and its copy", ("clock", "clock"), (seeds[0], seeds[0])),
        ]

    def run_cell(
        self, context: ExperimentContext, settings: ClockPizzaSettings, cell: AdditionCell, root: str | None
    ) -> AdditionPair:
        """Train both, measure both, and follow the straight lines between them."""
        networks = (settings.make_architecture(cell.kinds[0]), settings.make_architecture(cell.kinds[1]))
        a = _train(context, settings, cell, 0)
        if cell.pair in COPIES:
            b = copy_step(context, f"{cell.kinds[0]} {cell.seeds[0]}", networks[0], a)
        else:
            b = _train(context, settings, cell, 1)
        last = "copy" if cell.pair in COPIES else str(cell.seeds[1])
        names = (f"{cell.kinds[0]} {cell.seeds[0]}", f"{cell.kinds[1]} {last}")
        facts = [
            describe_step(context, name, network, end, settings.share, settings.data_seed)
            for name, network, end in zip(names, networks, (a, b), strict=True)
        ]
        lines: dict[Way, AdditionLine] = {
            way: line_step(
                context, f"{names[0]} to {names[1]}, {way}", networks, (a, b), way, settings.points, settings.restarts
            )
            for way in settings.ways
        }
        return AdditionPair(cell.pair, cell.seeds, names, (facts[0], facts[1]), lines, settings.tolerance)

    def summarise(self, settings: ClockPizzaSettings, results: Sequence[AdditionPair]) -> ClockPizza:
        """Means over the seeds."""
        return summarise_clockpizza(results)

    def write_findings(self, record: RunRecord) -> list[str]:
        """What the networks are like, and which pairs are connected."""
        return list(record.summary.findings) if isinstance(record.summary, ClockPizza) else []


def _train(context: ExperimentContext, settings: ClockPizzaSettings, cell: AdditionCell, end: int) -> StoredStep:
    kind, seed = cell.kinds[end], cell.seeds[end]
    return add_step(
        context, f"{kind} {seed}", settings.make_architecture(kind), settings.training, settings.share,
        settings.data_seed, derive_seed(seed, "addition", kind),
    )  # fmt: skip


def _make_training(epochs: int, *milestones: int, lr: float = 1e-3) -> Training:
    """AdamW with the decay and the betas of the source's code; up to p = 111 a batch is all pairs."""
    return Training(
        epochs=epochs, batch_size=10_000, lr=lr, weight_decay=2.0, warmup=10, milestones=milestones,
        optimizer=AdamW(betas=(0.9, 0.98)),
    )  # fmt: skip


def _check_settings(settings: ClockPizzaSettings) -> None:
    if len(settings.seeds) < 2:
        raise ValueError(f"seeds must be two or more to pair networks, got {list(settings.seeds)}")
    if settings.modulus % 2 == 0:
        raise ValueError(f"modulus must be odd, so that a + b and a - b tell the pair, got {settings.modulus}; use 59")
    pairs = settings.modulus**2
    if settings.share * pairs < 1.0:
        raise ValueError(f"share must leave a pair to train on, of {pairs}, got {settings.share:g}; use 0.8")
    if settings.width % settings.heads:
        raise ValueError(f"heads must divide the width of {settings.width}, got {settings.heads}; use 4 and 128")
