"""Every public function leaves the user's world as it found it, also when something raises midway.

A new function that takes a model joins by its row in OPERATIONS (tests/operations.py), a new
method by its row in METHODS.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import mechconn as mc
from mechconn.core import OneOf, list_kinds
from mechconn.descent import Method
from mechconn.paths import PathFit
from operations import METHODS, OPERATIONS, PATH_FITS, READING, data_for, model_for
from world import TRIGGER, World, model_in_use
from zoo import FEATURES, Interrupted, split

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
def test_networks_that_write_into_their_inputs_write_into_copies(name: str) -> None:
    """Batches that are the user's own tensors stay as they are, and no pass meets what another left behind."""
    data, results = data_for(name), []
    for writing in (False, True):
        model, own = model_for(name), split((data[0].clone(), data[1]), [8, 8, 8])
        model.register_forward_pre_hook(
            lambda _, args, writing=writing: (args[0].sub_(0.5) if writing else args[0] - 0.5,)
        )
        results.append(list(numbers(READING[name](model, own))))
        assert torch.equal(torch.cat([x for x, _ in own]), data[0])
    assert results[0] and results[0] == results[1]


@pytest.mark.parametrize("name", READING)
def test_also_when_a_loader_raises_midway(name: str) -> None:
    model = model_for(name)
    data, world = Interrupted(split(data_for(name), [8, 8, 8])), World.of(model)
    with pytest.raises(OSError, match="the disk is gone"):
        READING[name](model, data)
    world.check_unchanged(model)


class Failing(TensorDataset):
    """Its row 20 cannot be read."""

    def __getitem__(self, index: int) -> Any:
        if index == 20:
            raise OSError("the disk is gone")
        return super().__getitem__(index)


@pytest.mark.parametrize("kind", [TensorDataset, Failing])
@pytest.mark.parametrize("name", READING)
def test_a_loaders_own_generators_stand_where_they_stood(name: str, kind: type[TensorDataset]) -> None:
    source, orders = kind(*data_for(name)), [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    sampler = RandomSampler(source, generator=orders[1])
    loader, states = DataLoader(source, 8, sampler=sampler, generator=orders[0]), [o.get_state() for o in orders]
    if kind is Failing:
        with pytest.raises(OSError, match="the disk is gone"):
            READING[name](model_for(name), loader)
    else:
        first, again = (list(numbers(READING[name](model_for(name), loader))) for _ in range(2))
        assert first and first == again
    assert all(torch.equal(own.get_state(), state) for own, state in zip(orders, states, strict=True))


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
    if isinstance(result, mc.Trained | mc.FittedStar | nn.Module):
        model = result if isinstance(result, nn.Module) else result.model
        for tensor in model.state_dict().values():
            yield from tensor.flatten().tolist()
    elif isinstance(result, mc.FittedPath):
        for tensor in result.path.at(0.5).values():
            yield from tensor.flatten().tolist()
    elif isinstance(result, mc.Profile | mc.BlockProfiles | mc.Plane):
        profiles = result.values() if isinstance(result, mc.BlockProfiles) else [result]
        yield from torch.tensor([list(profile.loss.values()) for profile in profiles]).flatten().tolist()
    elif isinstance(result, mc.StarBarriers):
        yield from (value for line in result.lines for values in line.loss.values() for value in values)
    elif isinstance(result, mc.GroupAccuracies):
        yield from [result.mean, *(group.accuracy for group in result.values())]
    else:
        yield from floats(result.to_dict())


def floats(record: Any) -> Iterator[float]:
    """Every number with a fraction in plain values."""
    if isinstance(record, Mapping):
        record = list(record.values())
    for value in record if isinstance(record, list | tuple) else [record]:
        if isinstance(value, float):
            yield value
        elif isinstance(value, Mapping | list | tuple):
            yield from floats(value)


# ---------------------------------------------------------------- the table is complete


def public(kind: Callable[[Any], bool]) -> dict[str, Any]:
    module = importlib.import_module("mechconn")
    return {name: thing for name in module.__all__ if kind(thing := getattr(module, name))}


def test_every_function_that_takes_a_model_has_a_row() -> None:
    takes_a_model = {name for name, function in public(inspect.isroutine).items() if takes_models(function)}
    assert takes_a_model
    assert takes_a_model == {name.split(",")[0] for name in OPERATIONS if "." not in name}  # methods beside


def takes_models(function: Any) -> bool:
    """Whether its first argument is one or more models, or may be one, or some argument is one."""
    kinds = {name: str(own.annotation) for name, own in inspect.signature(function).parameters.items()}
    first, kind = next(iter(kinds.items()), ("", ""))
    return first.startswith(("model", "tasks")) or kind.startswith("nn.Module |") or "nn.Module" in kinds.values()


@pytest.mark.parametrize(("kind", "table"), [(Method, METHODS), (PathFit, PATH_FITS)])
def test_every_method_has_a_row(kind: type, table: dict[str, Any]) -> None:
    rows = {type(method) for method in table.values()}
    assert list_kinds(kind, built_in=True) and set(list_kinds(kind, built_in=True).values()) <= rows


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_read_back_from_what_records_hold(name: str) -> None:
    """A user's too: its settings name the class in full."""
    plain = json.loads(json.dumps(METHODS[name].settings()))
    assert TypeAdapter(Annotated[Method, OneOf(Method)]).validate_python(plain) == METHODS[name]


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
