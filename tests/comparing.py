"""A small task for every seed, and methods to compare on it."""

from __future__ import annotations

from typing import Any

from torch import nn

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
