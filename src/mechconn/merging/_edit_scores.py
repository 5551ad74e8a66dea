"""Which weights matter to rows: SNIP scores of linear maps, and the directions of what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import (
    Compute,
    Data,
    Inputs,
    Params,
    PerSampleLoss,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    make_generator,
)
from mechconn.losses import as_loss
from mechconn.merging._input_products import InputProducts, Layout
from mechconn.merging._parent_data import take_row
from mechconn.network import Network, parameters_of

READ = 125
"""Rows that are read at a time."""


@dataclass(frozen=True, eq=False)
class EditProblem:
    """What an edit is searched for.

    Attributes:
        model: the network that is edited.
        cue: rows whose answers rest on what is to go.
        clean: rows whose answers rest on what is to stay.
        loss: one value per sample.
        reference: name of a parameter -> what it is set to; None: zero.
        layers: names of modules or weights that may be edited; None: all linear maps.
        seed: of the rows that are drawn.
        compute: how to compute.
    """

    model: nn.Module
    cue: Data
    clean: Data
    loss: PerSampleLoss
    reference: Params | None
    layers: tuple[str, ...] | None
    seed: int
    compute: Compute

    @property
    def sides(self) -> dict[str, Data]:
        """Both kinds of rows, by what errors call them."""
        return {"cue": self.cue, "clean": self.clean}

    def set_to(self, name: str, weight: Tensor) -> Tensor:
        """What a weight is set to, float64."""
        if self.reference is None:
            return torch.zeros_like(weight, dtype=torch.float64)
        return self.reference[name].to(weight.device).double()


class EditReader:
    """The network of a problem, run on rows."""

    def __init__(self, problem: EditProblem) -> None:
        self.problem = problem
        self.network = Network(problem.model, replace(problem.compute, precision="model"))
        self.params = self.network.load(parameters_of(problem.model))
        self.layouts = self._find_layouts()

    def _find_layouts(self) -> dict[str, Layout]:
        """Weight of a linear map that may be edited -> how it is one, in the order of the parameters.

        Raises:
            ValueError: there is none, or a layer that was asked for has none.
        """
        finder = _LayoutFinder(self.params)
        for data in self.problem.sides.values():
            with keep_generator_states(data), isolate_rng(self.problem.seed, "edit"), finder, torch.no_grad():
                inputs, _ = next(self._batches("cue", data))
                self._run(self.params, inputs)
        found = {name: finder.layouts[name] for name in self.params if name in finder.layouts}
        if not found:
            raise ValueError("the model has no linear map that runs on the rows of cue= and clean=, so nothing to edit")
        if self.problem.layers is None:
            return found
        for layer in self.problem.layers:
            if not any(_belongs(name, layer) for name in found):
                raise ValueError(f"layers= names {layer!r}, which holds no linear map; they are {', '.join(found)}")
        return {name: own for name, own in found.items() if any(_belongs(name, part) for part in self.problem.layers)}

    def _batches(self, name: str, data: Data, shuffle: torch.Generator | None = None) -> Iterator[tuple[Any, Tensor]]:
        network = self.network
        return iterate_batches(
            name, data, batch_size=READ, device=network.device, shuffle=shuffle, model=network.module
        )  # fmt: skip

    def _run(self, params: Params, inputs: Inputs) -> Tensor:
        buffers = {name: buffer.to(self.network.device, copy=True) for name, buffer in self.network.buffers.items()}
        return self.network(params, buffers, inputs)

    def score(self, side: str, rows: int) -> dict[str, Tensor]:
        """Weight -> mean over rows of |(w - w_ref) dL/dw|, float64 on the CPU; every row has its own slope.

        Of a data set so many rows drawn by seed, of an iterable the first.
        """
        data, loss = self.problem.sides[side], as_loss(self.problem.loss)
        leaves = {
            name: p.detach().clone().requires_grad_() if name in self.layouts else p for name, p in self.params.items()
        }
        wanted = [leaves[name] for name in self.layouts]
        sums = {name: torch.zeros_like(leaves[name], dtype=torch.float64) for name in self.layouts}
        draw, done = make_generator(self.problem.seed, "edit", side), 0
        with keep_generator_states(data), isolate_rng(self.problem.seed, "edit", side), torch.enable_grad():
            for inputs, targets in self._batches(side, data, draw):
                for row in _list_counted(loss, targets)[: rows - done]:
                    outputs = self._run(leaves, take_row(inputs, row, len(targets)))
                    value = loss(outputs, targets[row : row + 1]).sum()
                    for name, slope in zip(sums, _differentiate(value, wanted), strict=True):
                        sums[name] += 0.0 if slope is None else slope.double().abs()
                    done += 1
                if done >= rows:
                    break
        if not done:
            raise ValueError(f"no row of {side}= counts; every target is the one that the loss ignores")
        self.problem.compute.report("scoring weights", 1 + (side == "clean"), 2)
        moves = {name: (self.params[name].double() - self.problem.set_to(name, self.params[name])) for name in sums}
        return {name: (moves[name].abs() * total / done).cpu() for name, total in sums.items()}

    @torch.no_grad()
    def read_products(self, side: str) -> InputProducts:
        """X' X of what the linear maps read, over all rows."""
        seen = InputProducts({name: self.params[name] for name in self.layouts})
        data = self.problem.sides[side]
        with keep_generator_states(data), isolate_rng(self.problem.seed, "edit", side):
            for inputs, _ in self._batches(side, data):
                with seen:
                    self._run(self.params, inputs)
        self.problem.compute.report("reading layers", 1 + (side == "clean"), 2)
        return seen


class _LayoutFinder(InputProducts):
    """Which weights are linear maps, without their products."""

    def _add(self, weight: Tensor, layout: Layout, blocks: Callable[[], Iterator[Tensor]]) -> None:
        name = self.find_name(weight)
        if name is not None and weight.dim() >= 2:
            self.layouts[name] = layout


def _belongs(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


def _list_counted(loss: Any, targets: Tensor) -> list[int]:
    counted = loss.counted(targets)
    return list(range(len(targets))) if counted is None else counted.nonzero().flatten().tolist()


def _differentiate(value: Tensor, leaves: list[Tensor]) -> tuple[Tensor | None, ...]:
    if not value.requires_grad:
        return (None,) * len(leaves)
    return torch.autograd.grad(value, leaves, allow_unused=True)
