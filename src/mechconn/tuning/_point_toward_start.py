"""The point at a distance from theta on its way back to theta_C, where path-aware methods take their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mechconn.core import Params
from mechconn.descent import Problem, Schedule, TrainingStep


def find_point(problem: Problem, step: TrainingStep, rho: float, overshoot: bool = False) -> Params:
    """theta + rho d / |d|, d = theta_C - theta, where |d| > rho; its derivative with respect to theta is the identity.

    Nearer than that it is theta_C, or with `overshoot` the same formula, beyond theta_C; theta itself where d = 0.
    Of several references each iteration takes the next in turn.
    """
    start = problem.references[step.number % len(problem.references)]
    theta = dict(problem.model.named_parameters())
    gaps = _find_gaps(problem.model, start)
    length = _measure(gaps.values())
    problem.kept["distance"] = torch.tensor(max(length, float(problem.kept.get("distance", 0.0))), dtype=torch.float64)
    share = 0.0 if length == 0.0 else rho / length if overshoot else min(rho / length, 1.0)
    return {name: weight + share * gaps[name] if name in gaps else weight for name, weight in theta.items()}


def explain_short_distance(method: Schedule, problem: Problem, rho: float | None) -> Sequence[str]:
    """A sentence where theta stayed within rho of theta_C, so that no gradient was taken between the two."""
    if rho is None:
        return ()
    furthest = float(problem.kept.get("distance", 0.0))
    if not 0.0 < furthest <= rho:
        return ()
    name = type(method).__name__
    return (
        f"{name} never was further than {furthest:.3g} from its start, within rho={rho:g}, so that its gradients were "
        f"taken at the start and not on the way to it; lower rho, or raise lr (now {method.lr:g}) or epochs (now "
        f"{method.epochs}).",
    )


def _find_gaps(model: nn.Module, start: Params) -> dict[str, Tensor]:
    """theta_C - theta of the trainable parameters."""
    with torch.no_grad():
        return {name: start[name] - weight for name, weight in model.named_parameters() if weight.requires_grad}


def _measure(gaps: Iterable[Tensor]) -> float:
    """Euclidean norm over all of them, in float64."""
    return float(torch.stack([gap.double().square().sum() for gap in gaps]).sum().sqrt())
