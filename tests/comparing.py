"""Small tasks for every seed, and methods, losses and metrics to compare on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import build, norm_mlp, rows

METHODS: dict[str, Any] = {
    "FT": mc.NaiveFineTuning(epochs=2, batch_size=8, lr=0.1),
    "CBFT": mc.CBFT(epochs=2, batch_size=8, lr=0.1),
    "DFR": mc.DFR(draws=2),
}


def task(seed: int = 0, model: nn.Module | None = None, **changes: Any) -> mc.TuningTask:
    suite = mc.Suite({"cue": rows(30, seed + 10), "no_cue": rows(30, seed + 20), "rand_cue": rows(30, seed + 30)})
    own = {"clean": rows(24, seed), "suite": suite, "cued": rows(24, seed + 3), "seed": seed}
    return mc.TuningTask(build(norm_mlp, seed) if model is None else model, **{**own, **changes})


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Logit of the true class less the largest."""
    return outputs.gather(1, targets[:, None])[:, 0] - outputs.max(1).values


def regression(seed: int = 0) -> mc.TuningTask:
    """Targets that are real numbers."""
    splits = {name: real(30, seed + shift) for name, shift in (("cue", 10), ("no_cue", 20), ("rand_cue", 30))}
    return task(seed, clean=real(24, seed), cued=real(24, seed + 3), suite=mc.Suite(splits))


def real(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x, _ = rows(count, seed)
    return x, torch.stack([x.sum(1), x[:, 0], x[:, 1]], 1)


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(1)


def largest(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().max(1).values
