"""Rows read until verdicts are settled: against a slow reading of the procedure, rows counted by a hook, and errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.connectivity._row_reader import draw_order, list_looks
from mechconn.core import isolate_rng
from mechconn.stats import MeanBounds, choose_designs

ROWS, MARGIN, ALPHA = 3000, 0.05, 0.05
Moves = tuple[float, float]


def draw_moves(gain: float, loss: float, seed: int, rows: int = ROWS) -> Tensor:
    """1 where a row is gained, -1 where it is lost, else 0."""
    u = torch.rand(rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (u < gain).long() - ((u >= gain) & (u < gain + loss)).long()


def show(predicted: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs that an identity classifies so; labels are half 0 and half 1."""
    y = torch.arange(len(predicted)) % 2
    return torch.eye(2)[(predicted + y) % 2], y


def make_suite(*truths: Moves, seed: int = 0, rows: int = ROWS) -> mc.Suite:
    """A reference that is right on most rows, and interventions that gain and lose some."""
    moves = [draw_moves(gain, loss, 100 * seed + place, rows) for place, (gain, loss) in enumerate(truths)]
    wrong = (torch.stack(moves) > 0).any(0)
    splits = {"cue": show(wrong.long())}
    for place, move in enumerate(moves):
        after = torch.where(move > 0, 0, torch.where((move < 0) & ~wrong, 1, wrong.long()))
        splits[f"r{place}"] = show(after)
    return mc.Suite(splits)


def count_rows(call: Callable[[], Any]) -> tuple[Any, int]:
    """(what a call gives, rows that went through identities in it)."""
    rows = 0

    def note(module: nn.Module, inputs: tuple[Any, ...], _: Any) -> None:
        nonlocal rows
        rows += len(inputs[0]) if isinstance(module, nn.Identity) else 0

    handle = register_module_forward_hook(note)
    try:
        return call(), rows
    finally:
        handle.remove()


# ---------------------------------------------------------------- the procedure, slowly


def slow_looks(suite: mc.Suite, seed: int) -> dict[str, int]:
    """Split -> rows at which it was settled, by the definitions: bets, looks, Holm's step on each side."""
    order, ends = draw_order(ROWS, None, seed), list_looks(ROWS)
    right = {s: (x.argmax(1) == y)[order].double() for s, (x, y) in ((s, (suite[s].x, suite[s].y)) for s in suite)}  # pyright: ignore
    stopped: dict[str, int] = {}
    for end in ends:
        known = {
            s: MeanBounds(
                (right[s] - right["cue"])[: stopped.get(s, end)].numpy(), (-1.0, 1.0), designs=choose_designs(ROWS)
            )
            for s in suite.interventions
        }
        low, high = (hold_levels(known, side) for side in (1, -1))
        for s, bounds in known.items():
            lower, upper = bounds.lower.value(low[s] / 2), -bounds.upper.value(high[s] / 2)
            if lower > MARGIN or upper < -MARGIN or (-MARGIN <= lower and upper <= MARGIN):
                stopped.setdefault(s, end)
        if len(stopped) == len(known):
            break
    return {s: stopped.get(s, ROWS) for s in suite.interventions}


def hold_levels(known: dict[str, MeanBounds], side: int) -> dict[str, float]:
    """The tail level at which each bound of one side is judged."""
    settled: dict[str, float] = {}
    while len(settled) < len(known):
        level = ALPHA / 2 / (len(known) - len(settled))
        bounds = {s: (b.lower if side > 0 else b.upper) for s, b in known.items() if s not in settled}
        new = [s for s, b in bounds.items() if b.value(level / 2) > MARGIN]
        if not new:
            return settled | dict.fromkeys(bounds, level)
        settled |= dict.fromkeys(new, level)
    return settled


@pytest.mark.parametrize("seed", range(3))
def test_against_a_slow_reading_of_the_procedure(seed: int) -> None:
    suite = make_suite((0.02, 0.02), (0.02, 0.3), (0.01, 0.2), (0.06, 0.06), seed=seed)
    found = mc.measure_invariance(nn.Identity(), suite, MARGIN, until="settled", seed=seed)
    assert {s: found.samples[s] for s in suite.interventions} == slow_looks(suite, seed)
    assert found.samples["cue"] == max(found.samples[s] for s in suite.interventions)


def test_rows_read_are_those_that_went_through_the_network() -> None:
    suite = make_suite((0.01, 0.01), (0.0, 0.6))
    found, rows = count_rows(lambda: mc.measure_invariance(nn.Identity(), suite, MARGIN, until="settled"))
    assert 0 <= rows - sum(found.samples.values()) <= 70 and rows < 0.3 * 3 * ROWS  # trials of a few rows
    assert found.available == dict.fromkeys(suite, ROWS)
    assert found.invariant_to == ("r0",) and found.sensitive_to == ("r1",)
    assert any("rows were read as far as" in note and "biased" in note for note in found.notes)
    assert mc.load_result(found.to_dict()).to_dict() == found.to_dict()


def test_intervals_hold_and_the_loss_has_none() -> None:
    suite = make_suite((0.01, 0.01), (0.0, 0.6))
    found, whole = (mc.measure_invariance(nn.Identity(), suite, MARGIN, until=u) for u in ("settled", "end"))
    for split, effect in found.items():
        low, high = effect.interval
        assert low <= whole[split].effect <= high
        assert effect.loss is not None and effect.loss.interval is None
        assert effect.accuracy is not None and effect.accuracy.interval == effect.interval
    assert set(found.loss_interval.values()) == {None}
    assert whole.available == {} and all(whole.loss_interval.values())


def test_where_nothing_settles_all_rows_are_read_once() -> None:
    suite = make_suite((0.08, 0.03), rows=400)
    found, rows = count_rows(lambda: mc.measure_invariance(nn.Identity(), suite, MARGIN, until="settled"))
    assert found["r0"].verdict == "undetermined" and found["r0"].to_settle is not None
    assert 800 <= rows <= 870 and dict(found.samples) == {"cue": 400, "r0": 400}
    assert all("biased" not in note for note in found.notes)


def test_few_rows_are_judged_as_ever() -> None:
    """One look: the whole level is for all rows."""
    suite = make_suite((0.0, 0.7), (0.1, 0.1), rows=60)
    found, whole = (mc.measure_invariance(nn.Identity(), suite, MARGIN, until=u) for u in ("settled", "end"))
    assert [vars(found[s]) for s in suite.interventions] != []
    for split in suite.interventions:
        assert found[split].adjusted_interval == whole[split].adjusted_interval
        assert found[split].verdict == whole[split].verdict


@pytest.mark.slow
@pytest.mark.parametrize("truth", [(0.075, 0.025), (0.0751, 0.0249)])
def test_error_with_the_truth_on_the_margin(truth: Moves) -> None:
    """Two interventions at once; of 20 more than 5 wrong have a probability below 1e-3 at 5 %.

    `benchmarks/rows_to_settle.py` draws 400.
    """
    wrong_verdict = "sensitive" if truth[0] - truth[1] <= MARGIN else "invariant"
    wrong = 0
    for seed in range(20):
        suite = make_suite(truth, truth, seed=seed, rows=400)
        found = mc.measure_invariance(nn.Identity(), suite, MARGIN, until="settled", seed=seed)
        wrong += any(effect.verdict == wrong_verdict for effect in found.values())
    assert wrong <= 5


# ---------------------------------------------------------------- data and tasks of other kinds


class Batches:
    """Batches of a size, as a loader gives them."""

    def __init__(self, data: Any, size: int) -> None:
        self.x, self.y, self.size = data.x, data.y, size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.x.split(self.size), self.y.split(self.size), strict=True)


def test_batches_are_read_in_their_order_with_a_caution() -> None:
    suite = make_suite((0.01, 0.01), (0.0, 0.6))
    sizes = (50, 70, 130)
    loaders = mc.Suite({s: Batches(suite[s], size) for s, size in zip(suite, sizes, strict=True)})
    found = mc.measure_invariance(nn.Identity(), loaders, MARGIN, until="settled")
    assert found.invariant_to == ("r0",) and found.sensitive_to == ("r1",)
    assert found.samples["r1"] == 130 and found.available["r1"] is None
    assert any("order of the loader" in note for note in found.notes)
    x, y = suite["cue"].x, suite["cue"].y  # pyright: ignore
    shuffled = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True)
    with pytest.raises(ValueError, match="the loader of split 'cue' shuffles"):
        mc.measure_invariance(nn.Identity(), mc.Suite({"cue": shuffled, "r0": suite["r0"]}), until="settled")


def test_clusters_and_reported_splits() -> None:
    suite = make_suite((0.01, 0.01), (0.0, 0.9))
    found = mc.measure_invariance(nn.Identity(), suite, MARGIN, until="settled", cluster=[i // 3 for i in range(ROWS)])
    assert found.over == "clusters" and found.sensitive_to == ("r1",) and found.samples["r1"] < 500
    assert all(samples % 3 == 0 for samples in found.samples.values())
    reported = mc.Suite({s: suite[s] for s in suite}, interventions=("r1",))
    few = mc.measure_invariance(nn.Identity(), reported, MARGIN, until="settled")
    assert few.samples["r0"] == few.samples["r1"] == 64  # read no longer than the family


def test_splits_of_other_rows() -> None:
    x, y = make_suite((0.0, 0.5))["r0"].x[:1000], make_suite((0.0, 0.5))["r0"].y[:1000]  # pyright: ignore
    suite = mc.Suite({"cue": make_suite((0.0, 0.5))["cue"], "r0": (x, y)})
    found = mc.measure_invariance(nn.Identity(), suite, MARGIN, until="settled")
    assert not found["r0"].paired and found.sensitive_to == ("r0",) and found.samples["r0"] < 200


def test_comparisons_within_classes_read_all_rows() -> None:
    with isolate_rng(0):
        y = torch.arange(400) % 2
        group = torch.where(torch.rand(400) < 0.7, y, 1 - y)
    data = (torch.eye(2)[group], y)
    suite = mc.Suite(mc.split_by_agreement(data, group.tolist()), "agree")
    found = mc.measure_invariance(nn.Identity(), suite, until="settled")
    whole = mc.measure_invariance(nn.Identity(), suite)
    assert found.samples == whole.samples and found.sensitive_to == whole.sensitive_to != ()
    assert found["conflict"].interval == whole["conflict"].interval


def test_metrics_with_bounds_and_several_labels() -> None:
    with isolate_rng(0):
        x = torch.randn(2000, 3)
    y = (x > 0).float()
    suite = mc.Suite({"cue": (3 * x, y), "same": (4 * x, y), "flipped": (-3 * x, y)})
    brier = mc.Metric(lambda f, t: (f.sigmoid() - t).square().mean(1), bounds=(0.0, 1.0))
    asked: dict[str, Any] = {"loss": mc.losses.binary, "metrics": {"brier": brier, "free": lambda f, t: f[:, 0]}}
    for on in ("accuracy", "brier"):
        found = mc.measure_invariance(nn.Identity(), suite, 0.1, on, until="settled", **asked)
        assert (found.invariant_to, found.sensitive_to) == (("same",), ("flipped",)), on
        assert found.samples["cue"] < 700 and found.each == "labels"
        assert found["same"].metrics["brier"].interval is not None
        assert found["same"].metrics["free"].interval is None
    with pytest.raises(ValueError, match=r"the metric 'free' has no bounds.*until='end'"):
        mc.measure_invariance(nn.Identity(), suite, 0.1, "free", until="settled", **asked)


def test_several_draws() -> None:
    suite = make_suite((0.01, 0.01), (0.0, 0.6))
    more = mc.Suite({s: suite[s] for s in suite}, redraws={"r1": [suite["r1"], suite["cue"]]})
    found = mc.measure_invariance(nn.Identity(), more, MARGIN, until="settled")
    assert found["r1"].draws == 3 and found["r1"].effect == pytest.approx(-0.4, abs=0.1)
    assert found.sensitive_to == ("r1",) and found.samples["r1"] < 200


# ---------------------------------------------------------------- two models


def test_two_models_are_compared_on_the_rows_read_of_both() -> None:
    suite = make_suite((0.01, 0.01), (0.0, 0.6))
    with isolate_rng(0):
        other = nn.Linear(2, 2).requires_grad_(False)
    other.weight.zero_()
    asked = partial(mc.compare_mechanisms, nn.Identity(), other, suite, MARGIN, until="settled")
    found, rows = count_rows(asked)
    whole = mc.compare_mechanisms(nn.Identity(), other, suite, MARGIN)
    assert found.verdict == whole.verdict == "dissimilar" and found.agreement == whole.agreement
    for split, apart in found.differences.items():
        low, high = apart.interval
        assert low <= whole.differences[split].effect <= high
    assert 0 <= rows - sum(found.a.samples.values()) <= 70 and rows < ROWS
    assert found.a.samples["r1"] < found.b.samples["r1"]
    assert found.less["r1"].interval[0] > 0


@pytest.mark.parametrize("asked", [{"on": "loss"}, {"until": "often"}])
def test_what_cannot_be_settled(asked: dict[str, Any]) -> None:
    suite = make_suite((0.01, 0.01), rows=100)
    told = "until='settled' needs values with a least and a largest, and the loss" if "on" in asked else "until must be"
    with pytest.raises(ValueError, match=told):
        mc.measure_invariance(nn.Identity(), suite, **{"until": "settled", **asked})


def test_training_runs_are_refused() -> None:
    suite = make_suite((0.01, 0.01), rows=100)
    runs: Sequence[nn.Module] = [nn.Identity(), nn.Identity()]
    with pytest.raises(ValueError, match=r"one model a side, got 2 and 2.*use until='end'"):
        mc.compare_mechanisms(runs, runs, suite, until="settled")
    assert math.isfinite(mc.compare_mechanisms(runs, runs, suite, until="end").differences["r0"].effect)
