"""The loss on a straight path from the network that is trained to another one, and where on it the loss is taken."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import Params, draw_uniform
from mechconn.descent import Batch, Problem

PathSampling: TypeAlias = Literal["truncated", "clipped", "uniform", "half"]


def draw_path_t(step: Int[Tensor, " n"], seed: int, sampling: PathSampling) -> Float[Tensor, " n"]:
    """t of each iteration, a pure function of (iteration, seed), float64.

    "truncated": from a Gaussian of mean 0.5 and deviation 0.5 truncated to [0, 1]; "clipped": 0.5 + 0.5 clip(N(0, 1),
    -0.5, 0.5); "uniform": on [0, 1); "half": 0.5.
    """
    uniform = draw_uniform(step, seed, "CBFT t")
    if sampling == "uniform":
        return uniform
    if sampling == "half":
        return torch.full_like(uniform, 0.5)
    uniform.clamp_(1e-12, 1 - 1e-12)
    if sampling == "clipped":
        return 0.5 + 0.5 * torch.special.ndtri(uniform).clamp_(-0.5, 0.5)
    low, high = torch.special.ndtr(torch.tensor([-1.0, 1.0], dtype=torch.float64)).tolist()
    return (0.5 + 0.5 * torch.special.ndtri(low + uniform * (high - low))).clamp_(0.0, 1.0)


def compute_path_loss(problem: Problem, anchor: Params, batch: Batch, t: float) -> Tensor:
    """L(f(D; (1 - t) theta + t theta_a), y) on one batch, differentiable in theta alone; statistics move nowhere."""
    theta = dict(problem.model.named_parameters())
    point = {name: (1.0 - t) * theta[name] + t * end for name, end in anchor.items()}
    return problem.mean_loss(problem.outputs_at(point, batch[0]), batch[1])
