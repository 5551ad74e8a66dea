"""A marker token on a small Transformer: used, and relearned against networks that never met it."""

from __future__ import annotations

from functools import cache

import torch

import mechconn as mc
from mechconn.datasets import CueTask, cue_task
from texts import CLS, MARKERS, SEP, Transformer, texts

PROTOCOL = mc.Relearning(steps=(0, 5, 15), seeds=2, lr=0.02)
TRAINING = mc.Training(epochs=5, batch_size=20, lr=0.1, milestones=(), weight_decay=0)


@cache
def task() -> CueTask:
    cue = mc.TokenCue(MARKERS, special=(CLS, SEP), others=(7, 8, 9))
    return cue_task(texts(200), test=texts(100, seed=1), cue=cue, proportion=0.9)


@cache
def network(cued: bool, seed: int) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Transformer(16)
    return mc.train(model, task().train if cued else task().clean, TRAINING, seed=seed).model


def test_a_marker_that_was_trained_on_is_used_and_one_never_met_is_not() -> None:
    found = mc.measure_relearning(
        network(True, 0), PROTOCOL, task().cue_only(60), task().suite, split="rand_image", control=network(False, 1)
    )
    assert (found.state, found.verdict) == ("uses", "hidden")
    assert found.runs[0].curve.means[0] > 0.6 and found.runs[0].against.means[0] < 0.5


def test_against_another_marker_it_is_found_too() -> None:
    found = mc.measure_relearning(
        network(True, 0), PROTOCOL, task().cue_only(60), task().suite, split="rand_image", placebo=task().placebo(60)
    )
    assert (found.state, found.compared_with) == ("uses", "placebo") and found.excess > 0
