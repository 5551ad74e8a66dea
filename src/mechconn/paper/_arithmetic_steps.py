"""Steps of the recipe `arithmetic`: a change of weights made of fine-tuned networks, searched over, and its control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from mechconn.core import NO_CUE, RAND_IMAGE, Compute, make_generator
from mechconn.datasets import CuedSet, CueTask, Suite
from mechconn.merging import Choose, ScaleSearch, search_scale
from mechconn.network import (
    Network,
    NormPolicy,
    Reestimate,
    WeightChange,
    find_statistics_layers,
    weight_change,
    with_change,
)
from mechconn.paper._steps import WEIGHTS, ExperimentContext, read_state
from mechconn.paper._tasks import describe_rows, identify
from mechconn.paths import LinearPath, model_at
from mechconn.store import StepOutput, StoredStep

Terms: TypeAlias = Mapping[str, float]
"""What a network was tuned on -> the factor with which its change counts."""
SEARCH = "search"


@dataclass(frozen=True)
class SearchSettings:
    """How a scale is searched for.

    Attributes:
        scales: the grid.
        keep: the share of the accuracy without cue that must stay.
        draws: random changes.
        margin: the largest move that counts as none.
        choose: which scale of those that keep; see `search_scale`.
    """

    scales: tuple[float, ...]
    keep: float
    draws: int
    margin: float
    choose: Choose


def divide_suite(task: CueTask, share: float, seed: int) -> tuple[Suite, Suite]:
    """(rows that choose a scale, about `share` of them; rows that judge): divided by seed, alike in every split."""
    first = task.suite[NO_CUE]
    assert isinstance(first, CuedSet)
    order = torch.randperm(len(first), generator=make_generator(seed, "arithmetic", "rows that choose"))
    count = round(share * len(order))

    def take(rows: torch.Tensor) -> Suite:
        splits = {}
        for name, data in task.suite.items():
            assert isinstance(data, CuedSet)
            splits[name] = data.subset(rows)
        return Suite(splits, task.suite.reference, task.suite.interventions)

    return take(order[:count].sort().values), take(order[count:].sort().values)


def search_step(
    context: ExperimentContext,
    what: str,
    base: StoredStep,
    tuned: Mapping[str, StoredStep],
    terms: Terms,
    suites: tuple[Suite, Suite],
    statistics: CuedSet,
    settings: SearchSettings,
    seed: int,
) -> tuple[ScaleSearch, StoredStep]:
    """The search for a scale of sum_i factor_i (tuned_i - base), and the network at the chosen one."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        found = search_scale(
            context.model(base), make_change(context, base, tuned, terms), suites[1],
            lower=RAND_IMAGE, keep=(NO_CUE, settings.keep), scales=settings.scales, choosing=suites[0],
            choose=settings.choose, draws=settings.draws, margin=settings.margin,
            norm=make_norm(context, base, statistics), seed=seed, loss=context.loss, compute=compute,
        )  # fmt: skip
        return StepOutput({SEARCH: found.to_dict()}, {WEIGHTS: read_state(found.model)})

    config = {"terms": dict(terms), "scales": list(settings.scales), "keep": settings.keep, "draws": settings.draws,
              "margin": settings.margin, "choose": settings.choose, "seed": seed}  # fmt: skip
    inputs = {"base": base.input, **{f"tuned on {name}": tuned[name].input for name in terms},
              "choosing": identify(suites[0]), "judging": identify(suites[1]),
              "statistics": identify(statistics)}  # fmt: skip
    step = context.step("search-scale", what, config, inputs, work)
    return ScaleSearch.from_dict(step.numbers[SEARCH]), step


def move_step(
    context: ExperimentContext,
    what: str,
    network: StoredStep,
    base: StoredStep,
    tuned: Mapping[str, StoredStep],
    terms: Terms,
    scale: float,
    statistics: CuedSet,
    seed: int,
    *,
    at_random: bool,
) -> StoredStep:
    """A network moved by scale times the change of `base`; at random by as much in every tensor."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        change = make_change(context, base, tuned, terms)
        change = change.random_like(seed) if at_random else change
        moved = with_change(context.model(network), change, scale)
        norm = make_norm(context, base, statistics)
        whole = model_at(moved, LinearPath.between(moved, moved), 0.5, norm=norm, seed=seed, compute=compute)
        return StepOutput({"scale": scale}, {WEIGHTS: read_state(whole)})

    inputs = {"network": network.input, "base": base.input, "statistics": identify(statistics),
              **{f"tuned on {name}": tuned[name].input for name in terms}}  # fmt: skip
    kind = "move-at-random" if at_random else "add-change"
    return context.step(kind, what, {"terms": dict(terms), "scale": scale, "seed": seed}, inputs, work)


def make_change(
    context: ExperimentContext, base: StoredStep, tuned: Mapping[str, StoredStep], terms: Terms
) -> WeightChange:
    """sum_i factor_i (tuned_i - base)."""
    start = context.model(base)
    first, *others = [factor * weight_change(start, context.model(tuned[name])) for name, factor in terms.items()]
    return sum(others, start=first)


def make_norm(context: ExperimentContext, base: StoredStep, statistics: CuedSet) -> NormPolicy | None:
    """Statistics re-estimated on clean training rows; None of a network that keeps none."""
    keeps = find_statistics_layers(Network(context.model(base)))
    return Reestimate(statistics, label=describe_rows(statistics)) if keeps else None
