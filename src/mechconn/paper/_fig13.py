"""Figure 13: which networks of one hidden layer connect, by the complexity of the attributes that they rely on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator

from mechconn.core import CommaSeparated, Compute, Config, Progress, check_distinct, derive_seed
from mechconn.stats import compute_moments, t_interval
from mechconn.theory import Interpolation, Slabs, SlabSet, fresh_network, interpolate, join

PAIRS: dict[str, tuple[str, str]] = {
    "same_attribute": ("simple", "simple again"),
    "different_attributes": ("simple", "complex"),
    "both_attributes": ("simple", "both"),
    "same_complex_attribute": ("complex", "complex again"),
}
"""Pair -> the two networks: what each was trained on."""
FIVE = (0, 1, 2, 3, 4)
FIG13_MEASURES = ("barrier_before", "barrier_after", "pattern_agreement", "agreement_before")


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


Fig13Scale = Literal["smoke", "small", "paper"]
FIG13_SCALES: dict[Fig13Scale, Fig13] = {
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

    @property
    def place(self) -> dict[str, Any]:
        """Width and seed."""
        return {"width": self.width, "seed": self.seed}


def list_relu_cells(settings: Fig13) -> list[ReluCell]:
    """Every seed at every width."""
    return [ReluCell(seed, width) for width in settings.widths for seed in settings.seeds]


def run_fig13(config: Fig13, progress: Progress | None = None) -> dict[str, Any]:
    """All cells one after the other, and what they say; see `summarise_fig13`."""
    asked, found, compute = list_relu_cells(config), [], Compute(progress=progress)
    for number, at in enumerate(asked):
        compute.report(at.name, number, len(asked))
        found.append(compute_relu_cell(config, at.seed, at.width))
    compute.report("done", len(asked), len(asked))
    return summarise_fig13(config, found)


def compute_relu_cell(config: Fig13, seed: int, width: int) -> dict[str, Any]:
    """One seed at one width: five networks are trained, and four pairs of them joined.

    "simple" and "complex" are trained on the data and on the same rows with the other attribute drawn anew, so that
    they interpolate the data by their own attribute; "both" on the data alone, which both attributes predict. All
    lines are on the data. The networks are signed and have a constant input (≠ the network of the theorems, which
    fits no labels that alternate).

    Returns:
        Plain values: seed, width, networks (loss on their training rows and on the data, how far drawing each attribute
        anew raises the loss on the data), and for each pair the barriers in mean squared error and the agreement of
        patterns.
    """
    slabs = Slabs(config.complexities, config.spacing, config.noise)
    data = slabs.sample(config.rows, seed)
    rows = {"simple": data.relying_on(0, seed), "complex": data.relying_on(1, seed), "both": data}
    names = dict.fromkeys(name for pair in PAIRS.values() for name in pair)
    trained = {name: _train_network(config, rows[name.split()[0]], width, seed, name) for name in names}
    found: dict[str, Any] = {"seed": seed, "width": width}
    found["networks"] = {name: _describe_network(result, data, seed) for name, result in trained.items()}
    for pair, (first, second) in PAIRS.items():
        joined = join(trained[first].net, trained[second].net, data.x, data.y, config.points)
        found[pair] = {
            "barrier_before": joined.before.barrier.height,
            "barrier_after": joined.after.barrier.height,
            "pattern_agreement": joined.agreement,
            "agreement_before": joined.agreement_before,
            "matched_by": joined.by,
            "loss_before": list(joined.before.loss),
            "loss_after": list(joined.after.loss),
        }
    return found


def summarise_fig13(config: Fig13, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each pair's measures as {mean, interval} over the seeds at the largest width, and at every width beside.

    Intervals are Student's t over seeds, 95 %; None where there is one seed only.

    Args:
        config: what was asked for.
        cells: one for each seed and width, in any order.
    """
    results: dict[str, Any] = {}
    for pair in PAIRS:
        by_width = {
            width: {m: _summarise_seeds([c[pair][m] for c in cells if c["width"] == width]) for m in FIG13_MEASURES}
            for width in config.widths
        }
        results[pair] = {**by_width[max(config.widths)], "by_width": {str(w): v for w, v in by_width.items()}}
    results["cells"] = sorted(map(dict, cells), key=lambda c: (c["width"], c["seed"]))
    return results


def _train_network(config: Fig13, rows: SlabSet, width: int, seed: int, name: str) -> Interpolation:
    fresh = fresh_network(
        rows.generator.features, width, signed=True, scale=config.deviation, seed=derive_seed(seed, "fig13", name)
    )
    return interpolate(fresh, rows.x, rows.y, lr=config.lr, steps=config.steps, polish=config.polish)


def _describe_network(result: Interpolation, data: SlabSet, seed: int) -> dict[str, Any]:
    loss, other = result.net.loss(data.x, data.y), derive_seed(seed, "fig13", "effects")
    drawn = [data.randomised(attribute, other) for attribute in (0, 1)]
    return {
        "loss": result.loss,
        "loss_on_data": loss,
        "effects": [result.net.loss(rows.x, rows.y) - loss for rows in drawn],
        "steps": result.steps,
        "interpolates": result.converged,
    }


def _summarise_seeds(values: Sequence[float]) -> dict[str, Any]:
    tensor = torch.tensor(values, dtype=torch.float64)
    interval = list(t_interval(compute_moments(tensor))) if len(values) > 1 else None
    return {"mean": float(tensor.mean()), "interval": interval}
