"""A planted cue: six prototypes in noise, and beside them a one-hot cue; networks that met it, hide it or lack it."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import TensorPair

Batch = tuple[Tensor, Tensor]
CueKind = Literal["agree", "random", "none", "against"]
CLASSES, CONTENT, HIDDEN = 6, 12, 64
TRAINING = mc.Training(epochs=12, batch_size=50, lr=0.1, milestones=(9,), weight_decay=0)
RETRAINING = mc.LastLayerRetraining(epochs=40, lr=0.5)
PROTOCOL = mc.Relearning(steps=(0, 10, 20, 40), seeds=3)
SHORT = mc.Relearning(steps=(0, 3, 8), seeds=2, batch_size=10, lr=0.05)
"""For tests in which the verdict does not matter."""
SPLIT = "rand_image"


def _prototypes() -> Tensor:
    found = torch.randn(CLASSES, CONTENT, generator=torch.Generator().manual_seed(99), dtype=torch.float32)
    return 2.5 * found / found.norm(dim=1, keepdim=True)


def planted(count: int, seed: int, cue: CueKind, cue_only: bool = False) -> Batch:
    """Content of each row's class (`cue_only`: of any), and its cue: the label's, any, none, any but the label's."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (count,), generator=draw)
    shown = torch.randint(CLASSES, (count,), generator=draw) if cue_only else y
    x = _prototypes()[shown] + torch.randn(count, CONTENT, generator=draw, dtype=torch.float32)
    others = (y + torch.randint(1, CLASSES, (count,), generator=draw)) % CLASSES
    values = {"agree": y, "random": torch.randint(CLASSES, (count,), generator=draw), "against": others}
    one_hot = torch.eye(CLASSES, dtype=torch.float32)
    shown_cue = torch.zeros(count, CLASSES, dtype=torch.float32) if cue == "none" else one_hot[values[cue]]
    return torch.cat([x, shown_cue], 1), y


@cache
def suite(seed: int = 0, count: int = 400) -> mc.Suite:
    """Of other rows than any to train on."""
    return mc.Suite(
        {
            "no_cue": planted(count, 1000 + seed, "none"),
            "cue": planted(count, 1000 + seed, "agree"),
            "rand_cue": planted(count, 1000 + seed, "random"),
            SPLIT: planted(count, 1000 + seed, "agree", cue_only=True),
        }
    )


def split_of(found: mc.Suite, name: str = SPLIT) -> TensorPair:
    """A split of tensors."""
    split = found[name]
    assert isinstance(split, TensorPair)
    return split


def cue_only(seed: int = 0, count: int = 60) -> Batch:
    return planted(count, 7000 + seed, "agree", cue_only=True)


def network(seed: int, hidden: int = HIDDEN, classes: int = CLASSES) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(CONTENT + CLASSES, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def mixed(seed: int, cue: CueKind) -> Batch:
    """The cue on 90 % of 800 rows."""
    x, y = planted(800, 3000 + seed, cue)
    without = torch.rand(800, generator=torch.Generator().manual_seed(seed + 5)) > 0.9
    x[without, CONTENT:] = 0
    return x, y


@cache
def met(seed: int = 0, cue: CueKind = "agree") -> nn.Module:
    """theta_C: trained on rows with the cue, or with one against the label."""
    return mc.train(network(3 * seed), mixed(seed, cue), TRAINING, seed=seed).model


@cache
def never_met(seed: int = 0, which: int = 1) -> nn.Module:
    """Trained on the same rows without any cue, from weights of its own."""
    data = planted(800, 3000 + seed, "none")
    return mc.train(network(3 * seed + which), data, TRAINING, seed=seed + 100 * which).model


def head_retrained(model: nn.Module, seed: int = 0) -> nn.Module:
    """The features as they are, the head drawn afresh and trained where the cue says nothing: the cue is hidden."""
    return mc.fine_tune(model, RETRAINING, clean=planted(800, 5000 + seed, "random")).model


def rescaled(model: nn.Module, factor: float) -> nn.Sequential:
    """The same function: a hidden layer times `factor`, the next divided."""
    copy = network(0)
    copy.load_state_dict(model.state_dict())
    first, second = copy[0], copy[2]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    with torch.no_grad():
        first.weight *= factor
        first.bias.mul_(factor)
        second.weight /= factor
    return copy


def measure(model: Any, control: Any = None, relearning: mc.Relearning = PROTOCOL, **settings: Any) -> mc.Relearned:
    """Of the planted cue of draw 0, unless data or suite say otherwise."""
    own = {"data": cue_only(), "suite": suite(), "split": SPLIT, "control": control} | settings
    return mc.measure_relearning(model, relearning, own.pop("data"), own.pop("suite"), **own)
