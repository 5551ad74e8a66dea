"""The merged network as a module, with normalisation statistics that fit it."""

from __future__ import annotations

from torch import nn

from mechconn.merging._merge_method import MergeMethod, MergeProblem, check_merged
from mechconn.network import NormPolicy
from mechconn.paths import Spot, model_at


def build_merged(method: MergeMethod, problem: MergeProblem, norm: NormPolicy | None) -> nn.Module:
    """The network that a method makes of its parents: a new module in evaluation mode.

    Raises:
        ValueError: the method's own, what it returns does not fit, or `norm` is missing.
    """
    params = check_merged(method, problem, method.merge(problem))
    spot = Spot(lambda: dict(params), list(problem.parents.values()))
    return model_at(problem.model, spot, 0.5, norm=norm, seed=problem.seed, compute=problem.compute)
