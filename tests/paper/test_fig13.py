"""Figure 13: the three observations, and a summary that is one of its cells."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError
from scipy.stats import t as student

import mechconn as mc
from mechconn.paper import CellEngine, Fig13, RunPlan, find_recipe, run_plan
from mechconn.paper._fig13 import FIG13_SCALES, PAIRS, ReluCell, compute_relu_cell, run_fig13, summarise_fig13
from mechconn.paper._steps import ExperimentContext
from mechconn.store import Store

QUICK = Fig13(widths=(6, 8), seeds=(0, 1), rows=24, steps=60, polish=3)


def test_a_summary_is_one_of_its_cells() -> None:
    seen: list[mc.ProgressEvent] = []
    cells = run_fig13(QUICK, progress=seen.append)
    assert [event.done for event in seen] == [0, 1, 2, 3, 4] and {event.total for event in seen} == {4}
    assert [(cell.width, cell.seed) for cell in cells] == [(6, 0), (6, 1), (8, 0), (8, 1)]
    others = [compute_relu_cell(QUICK, seed, width) for seed, width in ((1, 8), (0, 6), (1, 6), (0, 8))]
    results = summarise_fig13(QUICK, cells)
    assert summarise_fig13(QUICK, others) == results == mc.load_result(json.loads(json.dumps(results.to_dict())))
    for pair in PAIRS:
        for measure in ("barrier_before", "barrier_after", "pattern_agreement"):
            first, second = (getattr(cell.pairs[pair], measure) for cell in cells[2:])
            found = getattr(getattr(results, pair), measure)
            mean, margin = (first + second) / 2, student.ppf(0.975, 1) * abs(first - second) / 2
            assert found.mean == pytest.approx(mean, abs=1e-15)
            assert found.interval == pytest.approx((mean - margin, mean + margin), abs=1e-9)
            assert getattr(getattr(results, pair).by_width[8], measure) == found
            assert all(math.isfinite(bound) for bound in found.interval)


def test_of_one_seed_there_is_no_interval() -> None:
    one = Fig13(widths=(6,), seeds=(3,), rows=24, steps=20, polish=0)
    assert summarise_fig13(one, run_fig13(one)).both_attributes.barrier_after.interval is None


@pytest.mark.parametrize(
    "wrong",
    [{"widths": (7,)}, {"widths": ()}, {"seeds": ()}, {"seeds": (1, 1)}, {"widths": (6, 6)}, {"lr": 0.0}, {"width": 8}],
)
def test_what_is_no_configuration(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Fig13(**wrong)  # pyright: ignore[reportArgumentType]


def test_scales_grow() -> None:
    sizes = [len(FIG13_SCALES[name].seeds) * sum(FIG13_SCALES[name].widths) for name in ("smoke", "small", "paper")]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3


def test_it_computes_on_the_processor_whatever_the_device_is(tmp_path: Path) -> None:
    one = Fig13(widths=(6,), seeds=(3,), rows=24, steps=20, polish=0)
    records = []
    for device in ("cpu", "cuda"):
        plan = RunPlan("fig13", "smoke", one, tmp_path / device, CellEngine("inline", 1, 1), device)
        assert (plan.plain["device"], plan.plain["threads"]) == ("cpu", 1)
        records.append(run_plan(plan))
    first, second = records
    assert first.id == second.id and first.cells[0].steps == second.cells[0].steps
    assert second.environment.device == "cpu"
    context = ExperimentContext(Store(tmp_path / "store"), mc.Compute("cuda"), threads=1)
    find_recipe("fig13").run_cell(context, one, ReluCell(3, 6), None)
    assert {title: found.record.key for title, found in context.log.items()} == first.cells[0].steps


@pytest.mark.slow
def test_the_three_published_observations() -> None:
    cells = run_fig13(FIG13_SCALES["smoke"])
    results = summarise_fig13(FIG13_SCALES["smoke"], cells)

    def low(pair: str, what: str) -> float:
        return getattr(getattr(results, pair), what).interval[0]

    def high(pair: str, what: str) -> float:
        return getattr(getattr(results, pair), what).interval[1]

    # The same attribute: connected after permutation, not before.
    assert high("same_attribute", "barrier_after") < low("same_attribute", "barrier_before")
    # Attributes of different complexity: a barrier stays, clear of both others; and fewer patterns agree.
    for pair in ("same_attribute", "both_attributes"):
        assert high(pair, "barrier_after") < low("different_attributes", "barrier_after")
        assert low(pair, "pattern_agreement") > high("different_attributes", "pattern_agreement")
    assert high("both_attributes", "barrier_after") < low("both_attributes", "barrier_before")
    for found in (cell.networks for cell in cells if cell.width == 128):
        assert all(net.loss_on_data < 1e-3 for net in found.values())
        # Simplicity: trained on both, it relies on the simple one.
        simple, hard = found["both"].effects
        assert simple > 0.3 and hard < 0.03
        assert found["complex"].effects[0] < 0.03 < 0.3 < found["complex"].effects[1]
