"""Every public function leaves the user's world as it found it, also when something raises midway.

A new function that takes a model joins by its row in OPERATIONS; a new method by its row in METHODS.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn._method import Method
from mechconn._path_fits import PathFit
from world import TRIGGER, Delicate, World, model_in_use
from zoo import CLASSES, FEATURES, Interrupted, build, rows, split

# ---------------------------------------------------------------- the rows of the table

METHODS: dict[str, Method] = {
    "NaiveFineTuning": mc.NaiveFineTuning(epochs=2, batch_size=8),
    "CBFT": mc.CBFT(epochs=2, batch_size=8),
    "CBFT, joint": mc.CBFT(epochs=2, batch_size=8, update="joint"),
    "Training": mc.Training(epochs=2, batch_size=8),
}

PATH_FITS: dict[str, PathFit] = {
    "BezierFit": mc.BezierFit(epochs=2, batch_size=8),
    "BezierFit, authors": mc.BezierFit(epochs=2, batch_size=8, variant="authors"),
    "PolygonalFit": mc.PolygonalFit(epochs=2, batch_size=8, bends=2),
}

Operation = Callable[[nn.Module, Any], object]


def tuning(method: Method, **settings: Any) -> Operation:
    return lambda model, data: mc.fine_tune(model, method, clean=data, cued=data, **settings)


def beside(model: nn.Module, count: int = 2) -> list[dict[str, Tensor]]:
    """The model's parameters, and points beside them in directions of their own."""
    return [
        {k: v + 0.1 * n * (v > 0 if n > 1 else 1) for k, v in mc.parameters_of(model).items()} for n in range(count)
    ]


def fitting(method: PathFit, **settings: Any) -> Operation:
    """fit_path between the user's own tensors and a point beside them."""
    return lambda model, data: mc.fit_path(
        model, dict(model.named_parameters()), beside(model)[1], method, data, **settings
    )


def along(norm: Callable[[Any], Any], **settings: Any) -> Operation:
    """evaluate_path from the model to a point beside it."""

    def run(model: nn.Module, data: Any) -> object:
        path = mc.LinearPath(*beside(model))
        return mc.evaluate_path(model, path, mc.Suite({"cue": data, "no_cue": data}), ts=3, norm=norm(data), **settings)

    return run


def moved(model: nn.Module) -> nn.Module:
    return mc.with_parameters(model, beside(model)[1])


def by_hand(model: nn.Module) -> mc.Symmetry:
    """The model branches on values, so that its symmetry must be written."""
    axes = {"frozen.weight": ["h", FEATURES], "frozen.bias": ["h"], "out.weight": [CLASSES, "h"]}
    return mc.Symmetry.from_axes(model, axes, example_input=rows(4)[0])


def refused(model: nn.Module, data: Any) -> None:
    with pytest.raises(ValueError, match="must not branch on values"):
        mc.symmetry_of(model, rows(4)[0])


def grouped(model: nn.Module, data: Any) -> mc.GroupAccuracies:
    if isinstance(data, DataLoader):  # in an order that stays, without which groups cannot be matched
        data = DataLoader(data.dataset, batch_size=8)
    return mc.measure_groups(model, data, [0, 1, 1] * 8)


READING: dict[str, Operation] = {
    "evaluate_path": along(lambda _: mc.KeepNorm()),
    "evaluate_path, re-estimated": along(mc.Reestimate),
    "evaluate_path, moving average": along(lambda data: mc.Reestimate(data, average="exponential")),
    "evaluate_path, reduced precision": along(mc.Reestimate, precision="auto"),
    "evaluate_path, samples kept": along(mc.Reestimate, keep_samples=True),
    "evaluate_blocks": lambda model, data: mc.evaluate_blocks(
        model, *beside(model), suite=mc.Suite({"cue": data}), ts=3, norm=mc.Reestimate(data)
    ),
    "evaluate_plane": lambda model, data: mc.evaluate_plane(
        model, *beside(model, 3), suite=mc.Suite({"cue": data}), points=2, norm=mc.Reestimate(data)
    ),
    "model_at": lambda model, data: mc.model_at(model, mc.LinearPath(*beside(model)), 0.5, norm=mc.Reestimate(data)),
    **{f"fit_path, {name}": fitting(method) for name, method in PATH_FITS.items()},
    "fit_path, reduced precision": fitting(PATH_FITS["BezierFit"], precision="auto"),
    "evaluate_alignment": lambda model, data: mc.evaluate_alignment(
        model,
        moved(model),
        mc.WeightMatching(restarts=2),
        mc.Suite({"cue": data}),
        3,
        mc.Reestimate(data),
        symmetry=by_hand(model),
    )["after"],
    "measure_invariance": lambda model, data: mc.measure_invariance(model, mc.Suite({"cue": data, "hue": data})),
    "measure_invariance, reduced precision": lambda model, data: mc.measure_invariance(
        model, mc.Suite({"cue": data}), precision="auto"
    ),
    "measure_groups": grouped,
    "train": lambda model, data: mc.train(model, data, mc.Training(epochs=2, batch_size=8)),
    **{f"fine_tune, {name}": tuning(method) for name, method in METHODS.items()},
    "fine_tune, head named": tuning(METHODS["CBFT"], head="out"),
    "fine_tune, reduced precision": tuning(METHODS["CBFT"], precision="auto"),
}
OPERATIONS: dict[str, Operation] = {
    "parameters_of": lambda model, _: mc.parameters_of(model),
    "with_parameters": lambda model, _: mc.with_parameters(model, mc.parameters_of(build(Delicate, 1))),
    "symmetry_of": refused,
    "align": lambda model, _: mc.align(model, moved(model), mc.WeightMatching(restarts=2), by_hand(model), seed=1),
    "evaluate_path, interpolated": lambda model, data: along(
        lambda _: mc.InterpolateNorm(model.state_dict(), model.state_dict())
    )(model, data),
    "model_at, interpolated": lambda model, _: mc.model_at(
        model,
        mc.LinearPath(*beside(model)),
        0.5,
        norm=mc.InterpolateNorm(model.state_dict(), build(Delicate, 1).state_dict()),
    ),
    **READING,
}


def data_for(name: str) -> tuple[Tensor, Tensor]:
    """Reduced precision is for models of float32; the others are of float64."""
    return rows(24, dtype=torch.float32 if "reduced" in name else torch.float64)


def model_for(name: str) -> nn.Module:
    return model_in_use().float() if "reduced" in name else model_in_use()


# ---------------------------------------------------------------- the contract

FORMS: dict[str, Callable[[tuple[Tensor, Tensor]], Any]] = {
    "tensors": lambda data: data,
    "batches": lambda data: split(data, [8, 8, 8]),
    "shuffling loader": lambda data: DataLoader(TensorDataset(*data), batch_size=8, shuffle=True),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_world_is_left_as_it_was(name: str, form: str) -> None:
    model, data = model_for(name), data_for(name)
    given, world, copies = FORMS[form](data), World.of(model), copy.deepcopy(data)
    OPERATIONS[name](model, given)
    world.check_unchanged(model)
    assert all(torch.equal(a, b) for a, b in zip(data, copies, strict=True))


@pytest.mark.parametrize("name", READING)
def test_also_when_a_loader_raises_midway(name: str) -> None:
    model = model_for(name)
    data, world = Interrupted(split(data_for(name), [8, 8, 8])), World.of(model)
    with pytest.raises(OSError, match="the disk is gone"):
        READING[name](model, data)
    world.check_unchanged(model)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", READING)
def test_also_when_the_model_raises(name: str, late: bool) -> None:
    x, y = data_for(name)
    x[20 if late else 0, 1] = TRIGGER
    model = model_for(name)
    world = World.of(model)
    with pytest.raises(ZeroDivisionError, match="the model cannot"):
        READING[name](model, split((x, y), [8, 8, 8]))
    world.check_unchanged(model)


@pytest.mark.parametrize("name", READING)
def test_also_when_the_data_are_bad(name: str) -> None:
    x, y = data_for(name)
    x[20, 1] = float("nan")
    model = model_for(name)
    world = World.of(model)
    with pytest.raises(ValueError, match="row 20 holds NaN or infinity"):
        READING[name](model, split((x, y), [8, 8, 8]))
    world.check_unchanged(model)


@pytest.mark.parametrize("name", READING)
def test_the_global_generators_say_nothing(name: str) -> None:
    """Whatever they stand at, a seed gives the same result."""
    results = []
    for start in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(start)
            results.append(READING[name](model_for(name), FORMS["shuffling loader"](data_for(name))))
    first, second = (list(numbers(result)) for result in results)
    assert first and first == second


def numbers(result: Any) -> Iterator[float]:
    if isinstance(result, mc.Trained | nn.Module):
        model = result if isinstance(result, nn.Module) else result.model
        for tensor in model.state_dict().values():
            yield from tensor.flatten().tolist()
    elif isinstance(result, mc.FittedPath):
        for tensor in result.path.at(0.5).values():
            yield from tensor.flatten().tolist()
    elif isinstance(result, mc.Profile | mc.BlockProfiles | mc.Plane):
        profiles = result.values() if isinstance(result, mc.BlockProfiles) else [result]
        yield from torch.tensor([list(profile.loss.values()) for profile in profiles]).flatten().tolist()
    elif isinstance(result, mc.GroupAccuracies):
        yield from [result.mean, *(group.accuracy for group in result.values())]
    else:
        yield from result.loss.values()


# ---------------------------------------------------------------- the table is complete


def public(kind: Callable[[Any], bool]) -> dict[str, Any]:
    module = importlib.import_module("mechconn")
    return {name: thing for name in module.__all__ if kind(thing := getattr(module, name))}


def test_every_function_that_takes_a_model_has_a_row() -> None:
    takes_a_model = {
        name
        for name, function in public(inspect.isroutine).items()
        if next(iter(inspect.signature(function).parameters), "").startswith("model")
    }
    assert takes_a_model
    assert takes_a_model == {name.split(",")[0] for name in OPERATIONS}


@pytest.mark.parametrize(("kind", "table"), [(Method, METHODS), (PathFit, PATH_FITS)])
def test_every_method_has_a_row(kind: type, table: dict[str, Any]) -> None:
    methods = set(public(lambda thing: inspect.isclass(thing) and issubclass(thing, kind)))
    assert methods == {type(method).__name__ for method in table.values()}


def test_the_witness_sees_changes() -> None:
    """Each thing that the contract watches is seen when it changes."""
    changes: list[Callable[[nn.Module], object]] = [
        lambda model: model.get_buffer("block.1.running_mean").add_(1),
        lambda model: model.get_parameter("out.bias").data.add_(1),
        lambda model: model.zero_grad(),
        lambda model: model.get_submodule("frozen").requires_grad_(True),
        lambda model: model.get_submodule("block.1").train(),
        lambda model: model.get_submodule("out").register_forward_pre_hook(lambda *_: None),
        lambda model: setattr(model, "memory", 1),
        lambda model: setattr(model.get_submodule("tied"), "weight", nn.Parameter(torch.zeros(FEATURES, FEATURES))),
    ]
    for change in changes:
        model = model_in_use()
        world = World.of(model)
        change(model)
        with pytest.raises(AssertionError):
            world.check_unchanged(model)
    for draw in (random.random, lambda: np.random.rand(1), lambda: torch.rand(1)):
        model = model_in_use()
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        world = World.of(model)
        draw()
        with pytest.raises(AssertionError):
            world.check_unchanged(model)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
