"""The recipe `clockpizza`: a run of untrained networks, what pairs say together, a copy that alignment brings back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from mechconn.paper import (
    AdditionPair,
    ClockPizza,
    ExperimentContext,
    RunPlan,
    RunRecord,
    RunStore,
    find_recipe,
    resolve_settings,
    run_plan,
    summarise_clockpizza,
)
from mechconn.stats import jackknife_interval
from mechconn.store import Store
from recipes import INLINE

TINY = (
    "modulus=3", "width=2", "heads=1", "seeds=0,1", "training.epochs=2", "training.milestones=[1]", "training.warmup=0",
    "points=3",
    "ways=as saved",
)  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> RunPlan:
    _, scale, settings, _ = resolve_settings("clockpizza", "smoke", TINY)
    return RunPlan("clockpizza", scale, settings, tmp_path_factory.mktemp("store"), INLINE)


@pytest.fixture(scope="module")
def record(plan: RunPlan) -> RunRecord:
    return run_plan(plan)


def test_every_seed_meets_the_next_of_its_kind_and_the_other_kind(record: RunRecord) -> None:
    assert [cell.name for cell in record.cells] == [
        "pizza and clock, seed 0 and 0", "pizza and clock, seed 1 and 1", "two pizzas, seed 0 and 1",
        "two clocks, seed 0 and 1", "pizza and its copy, seed 0", "clock and its copy, seed 0",
    ]  # fmt: skip
    for found in record.results:
        assert isinstance(found, AdditionPair) and found.lines["as saved"].ts == (0.0, 0.5, 1.0)
        first, middle, last = found.lines["as saved"].loss
        assert found.lines["as saved"].barrier == pytest.approx(max(middle - (first + last) / 2, 0.0))
    cells = {found.pair: found for found in record.results if isinstance(found, AdditionPair)}
    copy = cells["clock and its copy"]
    assert copy.networks[1].loss == pytest.approx(copy.networks[0].loss, rel=1e-4)
    assert copy.lines["as saved"].distance > 0.1


def test_a_run_is_found_again_and_reads_back(plan: RunPlan, record: RunRecord) -> None:
    again = run_plan(plan)
    stored = RunStore(plan.store).stored(plan.id)
    assert stored is not None and isinstance(stored.summary, ClockPizza)
    assert stored.summary == again.summary == record.summary and stored.results == record.results
    text = " ".join(stored.findings)
    assert "Networks trained as a pizza: gradient symmetricity" in text and "Pizza and clock: as saved: " in text


def test_alignment_brings_a_copy_back_and_the_line_is_flat(tmp_path: Path) -> None:
    """The control whose answer is known: the same function, moved by a random element of its symmetry."""
    _, _, settings, _ = resolve_settings("clockpizza", "smoke", (*TINY, "ways=weights"))
    recipe = find_recipe("clockpizza")
    context = ExperimentContext(Store(tmp_path), threads=1)
    found = recipe.run_cell(context, settings, list(recipe.cells(settings))[-1], None)
    assert isinstance(found, AdditionPair) and found.judge("weights") == "connected"
    assert found.lines["weights"].distance < 1e-2 and found.lines["weights"].barrier < 1e-4


def test_verdicts_are_on_means_over_seeds_with_intervals_that_hold_together(record: RunRecord) -> None:
    template = next(found for found in record.results if isinstance(found, AdditionPair) and found.pair == "two clocks")
    line = template.lines["as saved"]
    pairs = [
        replace(template, seeds=seeds, names=(f"clock {seeds[0]}", f"clock {seeds[1]}"),
                lines={"as saved": replace(line, loss=(0.0, height, 0.0))})
        for seeds, height in (((0, 1), 1.0), ((1, 2), 1.2), ((2, 0), 1.4))
    ]  # fmt: skip
    others = [found for found in record.results if isinstance(found, AdditionPair) and found.pair != "two clocks"]
    found = summarise_clockpizza([*pairs, *others])
    own = found.lines["two clocks"]["as saved"]
    assert own.mean == pytest.approx(fmean((1.0, 1.2, 1.4))) and (own.connected, own.pairs) == (0, 3)
    low, high = jackknife_interval(1.2, [1.2, 1.4, 1.0], 1 - 0.05 / 3) or (0.0, 0.0)
    assert own.interval == pytest.approx((max(low, 0.0), high)) and own.verdict == "undetermined"
    tight = [replace(pair, lines={"as saved": replace(line, loss=(0.0, 1 + number / 100, 0.0))})
             for number, pair in enumerate(pairs)]  # fmt: skip
    assert summarise_clockpizza([*tight, *others]).lines["two clocks"]["as saved"].verdict == "not connected"
    assert found.lines["two pizzas"]["as saved"].interval is None  # of two seeds
    assert found.lines["two pizzas"]["as saved"].verdict == "undetermined"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seeds=3", "seeds must be two or more to pair networks"),
        ("modulus=6", "modulus must be odd"),
        ("heads=3", "heads must divide the width of 2, got 3"),
        ("share=0.01", "share must leave a pair to train on, of 9, got 0.01; use 0.8"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_any_work(change: str, message: str) -> None:
    _, _, settings, _ = resolve_settings("clockpizza", "smoke", (*TINY, change))
    with pytest.raises(ValueError, match=message):
        find_recipe("clockpizza").cells(settings)


def test_the_published_settings_stand_at_paper_scale() -> None:
    _, _, settings, _ = resolve_settings("clockpizza", "paper")
    plain = settings.model_dump()
    assert (plain["modulus"], plain["width"], plain["heads"], plain["share"]) == (59, 128, 4, 0.8)
    training = settings.training  # pyright: ignore[reportAttributeAccessIssue]
    assert (training.epochs, training.lr, training.weight_decay, training.milestones) == (20_000, 1e-3, 2.0, ())
