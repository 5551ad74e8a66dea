"""Relearning and probes in an audit: planted truth, what it says and saves, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import build

ROWS = 400
NAMES = ("first", "second")
QUICK = mc.Relearning(steps=(0, 5, 15, 30), lr=0.05, seeds=2)


def draw(seed: int, rows: int, *, content: str = "own", cue: str = "own") -> tuple[Tensor, Tensor]:
    """Two columns of weak content and two of a strong cue; either may be drawn without regard to the label."""
    random = torch.Generator().manual_seed(seed)
    y, other_content, other_cue = torch.randint(0, 2, (3, rows), generator=random)
    shown = (y if content == "own" else other_content), (y if cue == "own" else other_cue)
    noise = torch.randn(rows, 4, generator=random) * torch.tensor([0.5, 0.5, 0.1, 0.1])
    signs = torch.stack([2.0 * shown[0] - 1, 1 - 2.0 * shown[0], 2.0 * shown[1] - 1, 1 - 2.0 * shown[1]], 1)
    return noise + signs, y


SUITE = mc.Suite(
    {"cue": draw(1, ROWS), "rand_cue": draw(2, ROWS, cue="random"), "rand_image": draw(3, ROWS, content="random")},
    reference="cue",
    interventions=("rand_cue",),
)
ONLY_CUE = draw(4, 60, content="random")


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))


def trained(start: nn.Module, seed: int, **how: Any) -> nn.Module:
    method = mc.Training(epochs=10, batch_size=50, lr=0.1, milestones=())
    return mc.train(start, draw(seed, 600, **how), method, seed=seed).model


@pytest.fixture(scope="module")
def models() -> tuple[nn.Module, nn.Module, nn.Module]:
    """One that uses the cue; its features under a head that was retrained on random cues; one that never met it."""
    uses = trained(build(net, 1), 10)
    head = mc.fine_tune(uses, mc.LastLayerRetraining(epochs=20, lr=0.1), clean=draw(11, 600, cue="random"), seed=0).model
    return uses, head, trained(build(net, 2), 12, cue="random")


def task(control: nn.Module | None, **more: Any) -> mc.RelearningTask:
    return mc.RelearningTask(ONLY_CUE, "rand_image", control, relearning=QUICK, **more)


if __name__ == "__main__":
    ms = models.__wrapped__() if hasattr(models, "__wrapped__") else models.__pytest_wrapped__.obj()
    a = mc.audit(ms[0], ms[1], SUITE, ts=3, names=NAMES, relearn=task(ms[2]), probe=mc.ProbeTask(SUITE["rand_image"]))
    print(a)
    for n, r in a.relearned.items():
        print(n, r, r.runs[0].curve.means, r.runs[0].against.means)
    mc.save_report(a, "/tmp/ar.html")
