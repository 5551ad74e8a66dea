"""Problems of merging that several tests share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mechconn.core import Compute
from mechconn.losses import cross_entropy
from mechconn.merging import MergeMethod, MergeProblem
from mechconn.network import point_of


def pose(parents: Mapping[str, nn.Module], base: nn.Module | None = None, **settings: Any) -> MergeProblem:
    """The problem of merging these networks."""
    given: dict[str, Any] = {"loss": cross_entropy, "seed": 0, "compute": Compute(), **settings}
    points = {name: point_of(model) for name, model in parents.items()}
    return MergeProblem(next(iter(parents.values())), points, None if base is None else point_of(base), **given)


def merge(method: MergeMethod, problem: MergeProblem) -> dict[str, Tensor]:
    """The parameters that a method returns."""
    return method.merge(problem)
