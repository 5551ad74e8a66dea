"""The curve of relearning is that of plain SGD at a constant rate, at every step that is looked at."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from planted_cues import SHORT, SPLIT, cue_only, measure, never_met, planted, split_of, suite

SMALL = {"suite": suite(0, 80), "symmetry": "none"}
A, B = never_met(), never_met(0, 2)
ONE_BATCH = mc.Relearning(steps=(0, 1, 4, 9), seeds=2, batch_size=60, lr=0.05)
"""Of all rows, so that their order does not matter."""


def right(model: nn.Module) -> Tensor:
    x, y = planted(80, 1000, "agree", cue_only=True)
    with torch.no_grad():
        return (model(x).argmax(1) == y).float()


def by_hand(model: nn.Module, relearning: mc.Relearning) -> list[Tensor]:
    """v = momentum v + (grad + weight_decay w); w = w - lr v, with a velocity that begins as the first gradient."""
    model, found = copy.deepcopy(model), []
    velocity: dict[str, Tensor] = {}
    (x, y), lr = cue_only(), relearning.rates[0]
    for step in range(relearning.steps[-1] + 1):
        if step in relearning.steps:
            found.append(right(model))
        grads = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
        with torch.no_grad():
            for (name, own), grad in zip(model.named_parameters(), grads, strict=True):
                change = grad + relearning.weight_decay * own
                velocity[name] = change + relearning.momentum * velocity[name] if name in velocity else change
                own -= lr * velocity[name]
    return found


@pytest.mark.parametrize(
    "changes", [{}, {"momentum": 0.0}, {"weight_decay": 0.1}, {"lr": 0.3}, {"steps": (2, 5)}], ids=str
)
def test_every_look_is_that_of_a_loop_by_hand(changes: dict[str, float]) -> None:
    relearning = replace(ONE_BATCH, **changes)
    (run,) = measure(A, B, relearning, **SMALL).runs
    for model, curve in ((A, run.curve), (B, run.against)):
        expected = by_hand(model, relearning)
        assert curve.correct.shape == (2, len(relearning.steps), 80)
        for number, at in enumerate(expected):  # the order of rows in a sum changes the last bits of a gradient alone
            assert torch.equal(curve.correct[0, number], at) and torch.equal(curve.correct[1, number], at)
            assert curve.accuracy[0][number] == pytest.approx(float(at.double().mean()), abs=1e-12)


def test_the_step_before_any_is_the_network_as_it_is() -> None:
    found = measure(A, B, replace(SHORT, steps=(3,)), suite=suite(0, 80))
    assert found.steps == (0, 3)
    assert torch.equal(found.runs[0].curve.correct[:, 0], right(A).repeat(2, 1))
    known = mc.measure_invariance(A, suite(0, 80)).accuracy[SPLIT]
    assert [accuracy[0] for accuracy in found.runs[0].curve.accuracy] == pytest.approx([known, known], abs=1e-7)
    assert found.runs[0].before.accuracy[SPLIT] == known


@pytest.mark.parametrize("batch_size", [7, 60])
def test_what_is_seen_at_a_step_does_not_depend_on_later_steps(batch_size: int) -> None:
    """Also where steps fill no whole epoch: 7 of 60 rows give 9 steps an epoch."""
    few, more, between = (
        measure(A, B, replace(SHORT, steps=steps, batch_size=batch_size), **SMALL).runs[0].curve.correct
        for steps in ((0, 10), (0, 10, 25), (0, 3, 10, 18, 25))
    )
    assert torch.equal(few, more[:, :2])
    assert torch.equal(more, between[:, [0, 2, 4]])
    assert not torch.equal(more[:, 1], more[:, 2])


def test_seeds_differ_in_order_and_all_networks_share_them() -> None:
    found = measure([A, B], [B, A], SHORT, **SMALL)
    first, second = found.runs
    assert torch.equal(first.curve.correct, second.against.correct)
    assert torch.equal(second.curve.correct, first.against.correct)
    assert not torch.equal(first.curve.correct[0, 2], first.curve.correct[1, 2])
    again = measure([A, B], [B, A], SHORT, **SMALL, seed=1)
    assert not torch.equal(again.runs[0].curve.correct, first.curve.correct)


def test_seeds_draw_rows_of_their_own_where_that_is_asked_for() -> None:
    all_rows, some = (measure(A, B, replace(SHORT, rows=rows), **SMALL).runs[0].curve.correct for rows in (60, 20))
    assert torch.equal(all_rows, measure(A, B, SHORT, **SMALL).runs[0].curve.correct)
    assert not torch.equal(all_rows, some)
    assert torch.equal(some, measure(A, B, replace(SHORT, rows=20), **SMALL).runs[0].curve.correct)


def test_the_excess_is_the_mean_over_steps_after_the_first() -> None:
    (run,) = measure(A, B, SHORT, **SMALL).runs
    difference = (run.curve.correct - run.against.correct).double()
    assert run.excess == pytest.approx(float(difference[:, 1:].mean()), abs=1e-12)
    assert run.at_start == pytest.approx(float(difference[0, 0].mean()), abs=1e-12)
    found = mc.stats.CrossedMean(difference[:, 1:].mean(1), (-1.0, 1.0))
    assert run.interval == pytest.approx(found.interval(0.95), abs=1e-12)
    means = torch.tensor(run.curve.accuracy, dtype=torch.float64).mean(0)
    assert run.curve.means == pytest.approx(tuple(means.tolist()), abs=1e-12)
    assert all(low <= mean <= high for mean, (low, high) in zip(run.curve.means, run.curve.interval, strict=True))


def test_of_several_rates_each_side_counts_with_its_strongest_attack() -> None:
    rates = (0.001, 0.02, 0.5)
    single = {rate: measure(A, B, replace(SHORT, lr=rate), **SMALL).runs[0] for rate in rates}
    (run,) = measure(A, B, replace(SHORT, lr=rates), **SMALL).runs
    for side in ("curve", "against"):
        own, alone = getattr(run, side), {rate: getattr(found, side) for rate, found in single.items()}
        best = max(rates, key=lambda rate: float(alone[rate].correct[:, 1:].double().mean()))
        assert own.lr == best and torch.equal(own.correct, alone[best].correct)


def test_rows_in_clusters_widen_the_interval() -> None:
    """Every row four times: as many rows, a quarter as many clusters."""
    copies = mc.Suite(
        {name: (d.x.repeat(4, 1), d.y.repeat(4)) for name in suite(0, 80) if (d := split_of(suite(0, 80), name))},
        reference="cue",
    )
    clusters = torch.arange(80).repeat(4)
    plain, clustered = (
        measure(A, B, SHORT, suite=copies, symmetry="none", cluster=given).runs[0] for given in (None, clusters)
    )
    assert clustered.excess == plain.excess
    width, narrow = (high - low for low, high in (clustered.interval, plain.interval))
    assert width > narrow
    assert set(clustered.to_settle or {"clusters": 0}) <= {"seeds", "clusters"}
