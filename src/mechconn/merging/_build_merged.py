"""The merged network as a module, with normalisation statistics that fit it."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from mechconn.merging._merge_method import MergeMethod, MergeProblem, check_merged, check_problem
from mechconn.network import NormPolicy, Point, are_equal
from mechconn.paths import Spot, model_at


def build_merged(method: MergeMethod, problem: MergeProblem, norm: NormPolicy | None) -> nn.Module:
    """The network that a method makes of its parents: a new module in evaluation mode.

    Statistics are re-estimated by `norm`. `Repair` gives units the mean of the parents' statistics, by the shares that
    the method wrote down, else all alike. Where the method returns one of the parents, it keeps its own state.

    Raises:
        ValueError: fewer than two parents, other names, no base where one is needed; the method's own, what it returns
            does not fit, or `norm` is missing.
    """
    check_problem(method, problem)
    problem = replace(problem, norm=norm)
    params = check_merged(method, problem, method.merge(problem))
    shares = problem.record.shares or dict.fromkeys(problem.parents, 1.0 / len(problem.parents))
    end = next((p for p in problem.parents.values() if _is_at(p, params)), None)
    spot = Spot(
        lambda: dict(params), list(problem.parents.values()), end, [shares[parent] for parent in problem.parents]
    )
    return model_at(problem.model, spot, 0.5, norm=norm, seed=problem.seed, compute=problem.compute)


def _is_at(point: Point, params: object) -> bool:
    """Whether these parameters are the point's, bit for bit."""
    assert isinstance(params, dict)
    return all(are_equal(tensor, params[name]) for name, tensor in point.params.items())
