"""The descent of a star: at each step the loss between it and a source, sources realigned when an epoch begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.alignment import AlignmentMethod, WeightMatching, make_pair
from mechconn.connectivity._star_fit import StarFit, draw_place, draw_source
from mechconn.connectivity._star_networks import describe_symmetry
from mechconn.core import Buffers, Inputs, Params, hash_content
from mechconn.descent import Descend, Method, Problem, TrainingStep
from mechconn.network import (
    Point,
    compute_weighted_mean,
    copy_with_state,
    find_buffers,
    find_power_iterations,
    point_of,
    set_mode,
)
from mechconn.paths import LinearPath
from mechconn.symmetry import Symmetry


@dataclass(frozen=True, eq=False)
class StarDescent(Method):
    """The descent of a star as a method of training: what `optimise` runs.

    Attributes:
        fit: the settings.
        sources: the sources, in the order of their hashes.
        hashes: of the sources, in this order.
        align: how sources are matched.
        symmetry: what may be moved; None where sources stay.
    """

    fit: StarFit
    sources: Sequence[Point]
    hashes: Sequence[str]
    align: AlignmentMethod = field(default_factory=WeightMatching)
    symmetry: Symmetry | None = None

    def run(self, problem: Problem, descend: Descend) -> None:
        """Descend the loss between star and sources."""
        descend(self.fit, [StarObjective(self, problem)], problem.model, problem.clean)

    def settings(self) -> dict[str, Any]:
        """Those of the fit, how units are matched and which may be moved, and which sources there are."""
        symmetry = None if self.symmetry is None else describe_symmetry(self.symmetry)
        matched = {"align": self.align.describe(), "symmetry": symmetry} if self.fit.realign else {}
        return {
            **self.fit.settings(),
            **matched,
            "sources": len(self.sources),
            "sources_hash": hash_content(list(self.hashes)),
        }


class StarObjective:
    """The mean loss of a batch between the star and the source of the iteration, and that of the star where asked for.

    What moves each source in the epoch under way is part of every checkpoint, so that a run that goes on in the middle
    of an epoch has the sources where they were.
    """

    def __init__(self, descent: StarDescent, problem: Problem) -> None:
        self._descent, self._problem = descent, problem
        self._modules = [_copy_source(problem.model, source) for source in descent.sources]
        self._epoch: int | None = None
        self._moved = [dict(_detach(module)) for module in self._modules]
        buffers = problem.network.buffers
        self._lines = [
            LinearPath(Point(_detach(problem.model), dict(buffers)), point_of(module)) for module in self._modules
        ]
        self._renew = bool(list(find_power_iterations(problem.network.module)))
        self._shared = [self._find_buffers(number, self._moved[number]) for number in range(len(self._modules))]

    def __call__(self, step: TrainingStep) -> dict[str, Tensor]:
        """The terms "line" and, where the star's own loss has a weight, "own", each times its weight."""
        fit, problem = self._descent.fit, self._problem
        if self._descent.symmetry is not None and self._epoch != step.epoch:
            self._realign(step.epoch, self._descent.symmetry)
        number = draw_source(len(self._modules), step.number, problem.seed)
        t = draw_place(fit.t, step.number, problem.seed)
        theta: dict[str, Tensor] = dict(problem.model.named_parameters())
        inputs, targets = step.clean
        point = compute_weighted_mean((self._moved[number], theta), (t, 1.0 - t))
        weight = 1.0 / (1.0 + fit.own_loss)
        terms = {"line": weight * self._mean_loss(point, number, inputs, targets)}
        if fit.own_loss:
            own = problem.mean_loss(problem.outputs_at(theta, inputs), targets)
            terms["own"] = weight * fit.own_loss * own
        return terms

    def _mean_loss(self, point: Params, number: int, inputs: Inputs, targets: Tensor) -> Tensor:
        shared = self._find_buffers(number, point) if self._renew else self._shared[number]
        discarded = {name: buffer.clone() for name, buffer in shared.items()}
        outputs = self._problem.network(point, discarded, inputs, training=True)
        return self._problem.mean_loss(outputs, targets)

    def _find_buffers(self, number: int, point: Params) -> Buffers:
        """The buffers between the star and a source.

        Raises:
            ValueError: they differ in one that no rule renews.
        """
        return find_buffers(self._problem.network, self._lines[number], 0.5, point)

    @torch.no_grad()
    def _realign(self, epoch: int, symmetry: Symmetry) -> None:
        """Move every source onto the star as it is now; as it was when the epoch began, where the run goes on in it."""
        problem, kept = self._problem, self._problem.kept
        if int(kept.get("star epoch", torch.tensor(-1))) != epoch:
            star = copy_with_state(problem.model, {})
            set_mode(star, False)
            quiet = problem.network.compute.without_progress()
            for name in [name for name in kept if name.startswith("source ")]:
                del kept[name]
            for number, module in enumerate(self._modules):
                pair = make_pair(star, module, symmetry, problem.seed, quiet)
                element = self._descent.align.match(pair).element
                kept.update({f"source {number}/{name}": torch.as_tensor(part) for name, part in element.items()})
            kept["star epoch"] = torch.tensor(epoch)
        for number, module in enumerate(self._modules):
            front = f"source {number}/"
            element = {name.removeprefix(front): part for name, part in kept.items() if name.startswith(front)}
            moved = symmetry.apply(_detach(module), element)
            self._moved[number] = {name: tensor.to(problem.network.device) for name, tensor in moved.items()}
        self._epoch = epoch


def _copy_source(model: nn.Module, source: Point) -> nn.Module:
    """A source as a module in evaluation mode, in the number types and on the device of the star."""
    copied = copy_with_state(model, {**source.params, **source.buffers})
    set_mode(copied, False)
    return copied


def _detach(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in module.named_parameters()}
