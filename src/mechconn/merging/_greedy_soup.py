"""A greedy soup: parents join the mean one by one, as long as it does not get worse on validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from mechconn.core import Data, Params, as_data, check_choice, isolate_rng
from mechconn.losses import as_loss
from mechconn.merging._merge_method import MergeMethod, MergeProblem
from mechconn.network import (
    Inference,
    Network,
    Point,
    check_accuracy_measured,
    compute_outcomes,
    compute_weighted_mean,
    load_point,
    resolve_norm,
)
from mechconn.paths import Spot


@dataclass(frozen=True, eq=False)
class GreedySoup(MergeMethod, name="greedy_soup"):
    """The mean of the parents that are taken: best first, each one if with it the mean is not worse than without.

    Parents are sorted by their accuracy on validation rows, those of one accuracy by their loss and then by name. The
    best one is taken; each next one where the accuracy of the mean of all that are taken does not fall with it. Means
    have the normalisation statistics that the policy of the merge gives, parents their own.

    Attributes:
        data: validation rows, on which nothing may be judged afterwards.
        on: "accuracy", as in the paper, or "loss", which must not rise.
        label: a name for the data, kept in the record.

    Raises:
        ValueError: when used: on accuracy, and the task is no classification; or the merge has no policy for the
            statistics that the networks keep.

    Example:
        The worse of two networks would drag the mean across the boundary, and is left out.

        >>> from torch import nn
        >>> from mechconn.core import Compute
        >>> from mechconn.losses import cross_entropy
        >>> from mechconn.merging import MergeProblem, build_merged
        >>> from mechconn.network import point_of
        >>> layers = {name: nn.Linear(1, 2, bias=False).requires_grad_(False) for name in "ab"}
        >>> for layer, slope in zip(layers.values(), (1.0, -3.0)):
        ...     _ = layer.weight.copy_(torch.tensor([[-slope], [slope]]))
        >>> points = {name: point_of(layer) for name, layer in layers.items()}
        >>> problem = MergeProblem(layers["a"], points, None, cross_entropy, 0, Compute())
        >>> rows = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
        >>> build_merged(GreedySoup(rows), problem, None).weight.flatten().tolist(), problem.record.notes
        ([-1.0, 1.0], ['the greedy soup took a and left out b'])

    Source: Wortsman et al. 2022, *Model soups* (the greedy recipe).
    """

    data: Data
    on: Literal["accuracy", "loss"] = "accuracy"
    label: str = "unnamed data"
    _checked: Data = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("on", self.on, ("accuracy", "loss"))
        object.__setattr__(self, "_checked", as_data("validation data", self.data))

    def merge(self, problem: MergeProblem) -> Params:
        """The mean of the parents that are taken."""
        network = Network(problem.model, problem.compute)
        inference, steps = Inference(network), 2 * len(problem.parents) - 1

        def score(names: Sequence[str], step: int) -> tuple[float, float]:
            found = self._score(problem, network, inference, [problem.parents[name] for name in names])
            problem.compute.report("greedy soup", step + 1, steps)
            return found

        alone = {name: score([name], step) for step, name in enumerate(problem.parents)}
        best, *others = sorted(alone, key=lambda name: (*(-value for value in alone[name]), name))
        taken, reached = [best], alone[best]
        for step, name in enumerate(others):
            found = score([*taken, name], len(alone) + step)
            if found[0] >= reached[0]:
                taken, reached = [*taken, name], found
        share = 1.0 / len(taken)
        problem.record.shares.update({name: share if name in taken else 0.0 for name in problem.parents})
        left = [name for name in others if name not in taken]
        problem.record.notes.append(
            f"the greedy soup took {', '.join(taken)}" + (f" and left out {', '.join(left)}" if left else "")
        )
        return _average([problem.parents[name] for name in taken])

    def _score(
        self, problem: MergeProblem, network: Network, inference: Inference, points: Sequence[Point]
    ) -> tuple[float, float]:
        """What must not fall, and what decides between equals, of the mean of some parents: larger is better."""
        norm, shares = resolve_norm(problem.norm, network), [1.0 / len(points)] * len(points)
        with isolate_rng(problem.seed, "greedy soup"), torch.no_grad():
            spot = Spot.mean_of(points, shares)
            point = load_point(network, spot, 0.5) if len(points) == 1 else norm.point(network, spot, 0.5)
            outcomes = compute_outcomes(
                inference.at(dict(point.params), dict(point.buffers)),
                network,
                self._checked,
                "validation data",
                as_loss(problem.loss),
            )
        if self.on == "loss":
            return -outcomes.mean_loss, 0.0
        check_accuracy_measured("validation data", outcomes.answers is not None)
        return outcomes.accuracy, -outcomes.mean_loss

    def chosen_on(self) -> Data:
        """The validation rows."""
        return self._checked

    def describe(self) -> dict[str, Any]:
        """{"method": "greedy soup", "on": ..., "data": its name}."""
        return {"method": "greedy soup", "on": self.on, "data": self.label}


def _average(points: Sequence[Point]) -> Params:
    """The mean of some points; fresh tensors."""
    if len(points) == 1:
        return {name: tensor.detach().clone() for name, tensor in points[0].params.items()}
    return compute_weighted_mean([point.params for point in points], [1.0 / len(points)] * len(points))
