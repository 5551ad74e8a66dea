"""Means weighted by the diagonal Fisher information of each parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mechconn.core import (
    Buffers,
    Data,
    Inputs,
    Params,
    check_choice,
    check_count,
    check_non_negative,
    count_batches,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    make_generator,
)
from mechconn.losses import Loss, as_loss
from mechconn.merging._changes import check_weights, share_weights
from mechconn.merging._mean import Mean
from mechconn.merging._merge_method import MergeMethod, MergeProblem
from mechconn.merging._output_directions import draw_directions, list_directions
from mechconn.merging._parent_data import ParentData, take_row
from mechconn.network import Network, Point

HELD = 2**25
"""Entries of gradients that are held at once."""


@dataclass(frozen=True, eq=False)
class FisherMean(MergeMethod, name="fisher_mean"):
    r"""The mean of parents weighted entry by entry by how much each entry matters to its own network.

        theta = sum_i w_i F_i theta_i / sum_i w_i F_i,     F_i = E_x E_{y ~ p_i(y | x)} (d log p_i(y | x) / d theta_i)^2

    p_i is the distribution that the loss stands for: softmax of cross-entropy, a logit's of binary, a Gaussian of
    variance 1 of squared error. The expectation over y is exact, or over draws. Entries whose F is zero in all parents
    are averaged.

    It runs each row by itself, with as many backward passes as there are classes.

    Attributes:
        data: what x comes from: one data set for all parents, or {name of the parent: its data}.
        targets: "model": y from the network's own distribution, as in the paper; "labels": the data's labels, the
            empirical Fisher.
        draws: of y for each row; None: the exact expectation.
        weights: name of the parent -> w_i, zero or more; default: all alike.
        norm: "none"; or "unit": each F_i is divided by its Euclidean norm, as the authors' code can, so that a parent
            that is sure of itself does not count for less.
        floor: the least value of F, 0 or more; the authors' code has 1e-6.
        batch_size: rows that are read at a time.
        label: a name for the data, kept in the record.

    Raises:
        ValueError: a setting is out of range; when used: names in data or weights are not those of the parents, the
            loss stands for no distribution, or an exact expectation has too many terms.

    Source: Matena & Raffel 2022, *Merging models with Fisher-weighted averaging*.
    """

    data: Data | Mapping[str, Data]
    targets: Literal["model", "labels"] = "model"
    draws: int | None = None
    weights: Mapping[str, float] | None = None
    norm: Literal["none", "unit"] = "none"
    floor: float = 0.0
    batch_size: int = 125
    label: str = "unnamed data"
    _checked: ParentData = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("targets", self.targets, ("model", "labels"))
        check_choice("norm", self.norm, ("none", "unit"))
        check_non_negative("floor", self.floor)
        check_count("batch_size", self.batch_size)
        check_weights(self.weights)
        if self.draws is not None:
            check_count("draws", self.draws)
        object.__setattr__(self, "_checked", ParentData.read("data", self.data))

    def merge(self, problem: MergeProblem) -> Params:
        """The mean, weighted entry by entry."""
        parents = list(problem.parents)
        weights, data = share_weights(self.weights, parents), self._checked.of(parents)
        averaged = Mean(self.weights).merge(problem)
        names = [name for name, tensor in averaged.items() if tensor.is_floating_point()]
        moved = {name: torch.zeros_like(averaged[name], dtype=torch.float64) for name in names}
        total = {name: torch.zeros_like(tensor) for name, tensor in moved.items()}
        for parent, point in problem.parents.items():
            with isolate_rng(problem.seed, "fisher"), keep_generator_states(data[parent]):
                fisher = self._measure(problem, parent, point, data[parent], names)
            for name in names:
                share = fisher.pop(name).to(total[name].device).mul_(weights[parent])
                total[name] += share
                moved[name] += share * (point.params[name].to(total[name]) - averaged[name].double())
        for name in names:
            step = torch.where(total[name] > 0, moved[name] / total[name].masked_fill(total[name] <= 0, 1.0), 0.0)
            averaged[name] = (averaged[name].double() + step).to(averaged[name].dtype)
        return averaged

    def _measure(
        self, problem: MergeProblem, parent: str, point: Point, data: Data, names: Sequence[str]
    ) -> dict[str, Tensor]:
        """The diagonal Fisher information of one parent, float64."""
        network, loss = Network(problem.model, replace(problem.compute, precision="model")), as_loss(problem.loss)
        params = network.load(dict(point.params))
        leaves = {n: p.detach().requires_grad_() if n in set(names) else p for n, p in params.items()}
        buffers = {k: b.to(network.device, copy=True) for k, b in (point.buffers or network.buffers).items()}
        sums = {name: torch.zeros_like(params[name], dtype=torch.float64) for name in names}
        generator, rows = make_generator(problem.seed, "fisher", parent), 0
        count = count_batches("data", data, self.batch_size)
        batches = iterate_batches("data", data, batch_size=self.batch_size, device=network.device, model=problem.model)
        for number, (inputs, targets) in enumerate(batches):
            for row in _list_counted(loss, targets):
                outputs = self._run(network, leaves, buffers, take_row(inputs, row, len(targets)))
                target = targets[row : row + 1]
                self._add(sums, {name: leaves[name] for name in names}, outputs, target, loss, generator)
                rows += 1
            problem.compute.report(f"measuring the Fisher information of {parent}", number + 1, count)
        if not rows:
            raise ValueError(f"no row of the data of {parent!r} counts; every target is the one that the loss ignores")
        return self._finish({name: square / rows for name, square in sums.items()})

    def _run(self, network: Network, params: Params, buffers: Buffers, inputs: Inputs) -> Tensor:
        """The outputs of one row, with their graph; buffers stay as they are."""
        with torch.enable_grad():
            return network(params, buffers, inputs)

    def _add(
        self,
        sums: dict[str, Tensor],
        leaves: Params,
        outputs: Tensor,
        target: Tensor,
        loss: Loss,
        generator: torch.Generator,
    ) -> None:
        """Add the squares of one row's gradients."""
        if self.targets == "labels":
            with torch.enable_grad():
                value = loss(outputs, target).sum()
            directions, source = torch.ones((1,), dtype=value.dtype, device=value.device), value
        else:
            source = outputs
            if self.draws is None:
                directions = list_directions(loss, outputs.detach(), target)
            else:
                directions = draw_directions(loss, outputs.detach(), target, self.draws, generator)
        for name, gradients in _iterate_gradients(source, leaves, directions):
            sums[name] += gradients.double().square().sum(0)

    def _finish(self, fisher: dict[str, Tensor]) -> dict[str, Tensor]:
        """The information with a floor and in the norm that is asked for."""
        if self.floor:
            fisher = {name: values.clamp_min(self.floor) for name, values in fisher.items()}
        if self.norm == "none":
            return fisher
        length = float(sum(float(values.square().sum()) for values in fisher.values())) ** 0.5
        return {name: values / length if length else values for name, values in fisher.items()}

    def chosen_on(self) -> Data:
        """The rows that weighed the parents."""
        return self._checked.join(self.batch_size)

    def describe(self) -> dict[str, Any]:
        """{"method": "fisher mean", ...} and every setting."""
        return {
            "method": "fisher mean",
            "targets": self.targets,
            "draws": self.draws,
            "weights": None if self.weights is None else dict(self.weights),
            "norm": self.norm,
            "floor": self.floor,
            "data": self.label,
        }


def _list_counted(loss: Loss, targets: Tensor) -> list[int]:
    """The rows of a batch that count for the loss."""
    counted = loss.counted(targets)
    return list(range(len(targets))) if counted is None else counted.nonzero().flatten().tolist()


def _iterate_gradients(source: Tensor, leaves: Params, directions: Tensor) -> Iterator[tuple[str, Tensor]]:
    """(name, gradients [some directions, ...]) of <direction, source>, in parts that fit into memory."""
    if not source.requires_grad:  # what was trained does not reach the outputs
        return
    size = sum(tensor.numel() for tensor in leaves.values())
    for part in directions.split(max(1, HELD // max(1, size))):
        for name, gradients in zip(leaves, _differentiate(source, list(leaves.values()), part), strict=True):
            if gradients is not None:
                yield name, gradients


def _differentiate(source: Tensor, leaves: list[Tensor], directions: Tensor) -> Sequence[Tensor | None]:
    """The gradients of all directions at once; one after the other where an operation cannot be batched."""
    if len(directions) > 1:
        try:
            return torch.autograd.grad(
                source, leaves, directions, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        except RuntimeError:
            pass
    single = [torch.autograd.grad(source, leaves, one, retain_graph=True, allow_unused=True) for one in directions]
    return [None if parts[0] is None else torch.stack(parts) for parts in zip(*single, strict=True)]  # pyright: ignore
