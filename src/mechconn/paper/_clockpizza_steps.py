"""The steps of the recipe `clockpizza`: networks that add, what their weights say, and lines between them."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mechconn.alignment import WeightMatching, align
from mechconn.connectivity import evaluate_path
from mechconn.core import Compute, hash_content
from mechconn.datasets import Suite
from mechconn.descent import Checkpoint, Training, check_nameable, train
from mechconn.network import parameters_of, with_parameters
from mechconn.paper._clockpizza_pair import AdditionFacts, AdditionLine, Way
from mechconn.paper._modular_addition import (
    AdditionArchitecture,
    OneLayerTransformer,
    divide_pairs,
    list_pairs,
    measure_addition,
)
from mechconn.paper._steps import CHECKPOINT, WEIGHTS, ExperimentContext, read_state
from mechconn.paths import LinearPath
from mechconn.store import StepInput, StepOutput, StoredStep
from mechconn.symmetry import Symmetry, symmetry_of

ALL, HELD_OUT = "all pairs", "held-out pairs"
EXAMPLES = 4
"""Rows on which the symmetry is found and proved."""
KEPT_RECORDS = 100
"""Records of a training that are kept, evenly spread."""


def add_step(
    context: ExperimentContext, what: str, architecture: AdditionArchitecture, method: Training, share: float,
    data_seed: int, seed: int,
) -> StoredStep:  # fmt: skip
    """A network trained on a share of the pairs; numbers: records of its training."""
    (pairs, sums), (rows, _) = _make_data(architecture.num_classes, share, data_seed)

    def work(compute: Compute, folder: Path) -> StepOutput:
        found = train(
            architecture.build(seed), (pairs[rows], sums[rows]), method,
            checkpoint=Checkpoint(folder / CHECKPOINT, every=500), seed=seed, compute=compute,
        )  # fmt: skip
        every = max(len(found.history) // KEPT_RECORDS, 1)
        return StepOutput({"history": found.history[every - 1 :: every]}, {WEIGHTS: read_state(found.model)})

    config = {"method": check_nameable(method).settings(), "seed": seed}
    inputs = {"data": StepInput(hash_content([pairs[rows], sums[rows]]))}
    return replace(context, architecture=architecture).step("train-addition", what, config, inputs, work)


def copy_step(
    context: ExperimentContext, what: str, architecture: AdditionArchitecture, model: StoredStep
) -> StoredStep:
    """The same function with other weights: moved by a random element of the network's symmetry."""

    def work(compute: Compute, folder: Path) -> StepOutput:
        own = architecture.build_with_state(model.tensors[WEIGHTS])
        symmetry = find_symmetry(architecture)
        moved = with_parameters(own, symmetry.apply(parameters_of(own), symmetry.random(seed=1)))
        return StepOutput({}, {WEIGHTS: read_state(moved)})

    here = replace(context, architecture=architecture)
    return here.step("copy-addition", what, {}, {"model": model.input}, work)


def describe_step(
    context: ExperimentContext, what: str, architecture: AdditionArchitecture, model: StoredStep, share: float,
    data_seed: int,
) -> AdditionFacts:  # fmt: skip
    """What a network does on all pairs, which are no sample, and what its weights say of how."""
    (pairs, sums), (_, held_out) = _make_data(architecture.num_classes, share, data_seed)

    def work(compute: Compute, folder: Path) -> StepOutput:
        own = cast(OneLayerTransformer, architecture.build_with_state(model.tensors[WEIGHTS]))
        with torch.no_grad():
            logits = own(pairs)
        right = (logits.argmax(1) == sums).double()
        measures = measure_addition(own)
        found = AdditionFacts(
            float(right.mean()),
            float(right[held_out].mean()),
            float(torch.nn.functional.cross_entropy(logits.double(), sums)),
            measures,
        )
        return StepOutput(asdict(found))

    inputs = {"model": model.input, "held out": StepInput(hash_content([pairs[held_out]]))}
    step = replace(context, architecture=architecture).step("describe-addition", what, {}, inputs, work)
    return AdditionFacts.read(step.numbers)


def line_step(
    context: ExperimentContext, what: str, networks: tuple[AdditionArchitecture, AdditionArchitecture],
    ends: tuple[StoredStep, StoredStep], way: Way, points: int, restarts: int,
) -> AdditionLine:  # fmt: skip
    """The straight line from A to B, B moved onto A first as `way` says; loss and accuracy over all pairs."""
    architecture = networks[0]
    pairs, sums = list_pairs(architecture.num_classes)

    def work(compute: Compute, folder: Path) -> StepOutput:
        a, b = (made.build_with_state(end.tensors[WEIGHTS]) for made, end in zip(networks, ends, strict=True))
        distance = _measure_distance(parameters_of(a), parameters_of(b))
        if way != "as saved":
            b = align(a, b, WeightMatching(restarts), find_symmetry(networks[1]), compute=compute).model
            distance = _measure_distance(parameters_of(a), parameters_of(b))
        profile = evaluate_path(
            a, LinearPath.between(a, b), Suite({ALL: (pairs, sums)}, reference=ALL), points, compute=compute
        )
        found = AdditionLine(profile.ts, profile.loss[ALL], profile.accuracy[ALL], distance)
        return StepOutput(asdict(found))

    config: dict[str, Any] = {"way": way, "points": points, "data": ALL}
    config |= {"restarts": restarts} if way == "weights" else {}
    inputs = {"a": ends[0].input, "b": ends[1].input}
    step = replace(context, architecture=architecture).step("line-addition", what, config, inputs, work)
    return AdditionLine.read(step.numbers)


@lru_cache(maxsize=4)
def find_symmetry(architecture: AdditionArchitecture) -> Symmetry:
    """The symmetry of the architecture, which does not depend on its weights; `align` proves it on every network."""
    return symmetry_of(architecture.build(0).eval(), list_pairs(architecture.num_classes)[0][:EXAMPLES])


def _measure_distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return float(sum((a[name] - b[name]).double().square().sum() for name in a) ** 0.5)


def _make_data(modulus: int, share: float, seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return list_pairs(modulus), divide_pairs(modulus, share, seed)
