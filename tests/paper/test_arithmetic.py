"""The recipe `arithmetic`: a whole run on planted latents, its steps, its summary over seeds, and what it claims."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import t as student
from torch import nn

import mechconn as mc
from mechconn.datasets import CuedSet, cue_task
from mechconn.paper import (
    ArithmeticResult,
    ArithmeticSummary,
    CellEngine,
    RunPlan,
    find_recipe,
    resolve_settings,
    run_plan,
)
from mechconn.paper._arithmetic_result import summarise_arithmetic
from mechconn.paper._arithmetic_steps import divide_suite

TINY = (
    "datasets=planted", "rows=200", "test_rows=120", "width=8", "points=3", "training.epochs=3",
    "training.batch_size=20", "training.milestones=[2]", "tuning.epochs=4", "tuning.batch_size=20", "tuning_rows=60",
    "tuning.lr=0.05", "scales=-0.5,0.5,1", "seeds=0,1", "relearn.steps=[0,2]", "relearn.seeds=2",
    "relearn.batch_size=20", "random_changes=1",
)  # fmt: skip


def plan(store: Path, *changes: str) -> RunPlan:
    _, scale, settings, _ = resolve_settings("arithmetic", "smoke", [*TINY, *changes])
    return RunPlan("arithmetic", scale, settings, store, CellEngine("inline", 1, 1))


@pytest.mark.slow
def test_a_run_says_of_every_change_what_the_seeds_say(tmp_path: Path) -> None:
    record = run_plan(plan(tmp_path))
    assert record.status == "done" and isinstance(record.summary, ArithmeticSummary)
    (place, changes), *_ = record.summary.places.items()
    assert place == "planted, 0.8 cued" and list(changes) == ["minus cue only", "clean minus cued"]
    for name, change in changes.items():
        own = [result.changes[name] for result in record.summary.results]
        assert change.seeds == 2 == sum(change.verdicts.values()) == sum(change.random.values())
        assert change.scales == tuple(found.scale for found in own)
        values = [found.value("rand_image") for found in own]
        mean, margin = sum(values) / 2, student.ppf(0.975, 1) * abs(values[0] - values[1]) / 2
        assert change.target_after.mean == pytest.approx(mean)
        assert change.target_after.interval == pytest.approx((max(mean - margin, 0.0), min(mean + margin, 1.0)))
        assert all(found.row_counts["no_cue"] == (40, 80) for found in own)
    assert record.summary == mc.load_result(record.summary.to_dict()) or record.summary.rows()
    claims = find_recipe("arithmetic").judge_claims(record)
    assert {claim.verdict for claim in claims} <= {"holds", "does not hold", "undetermined"} and len(claims) >= 2
    found = find_recipe("arithmetic").write_findings(record)
    assert len(found) == 2 and found[0].startswith("planted, 0.8 cued, minus cue only: ")
    assert all(section.title for section in record.sections())
    again = run_plan(plan(tmp_path, "seeds=0"))
    assert sum(cell.computed for cell in again.cells) == 0  # every step of this seed was there


def test_relearning_is_on_rows_that_chose_no_scale_against_a_network_moved_alike(tmp_path: Path) -> None:
    record = run_plan(plan(tmp_path, "seeds=3", "changes=minus cue only", "keep=0.05", "margin=0.2"))
    (result,) = record.results
    assert isinstance(result, ArithmeticResult) and set(result.relearned) <= {"theta_C", *result.changes}
    (found,) = result.changes.values()
    if found.scale:
        relearned = result.relearned["minus cue only"]
        assert relearned.runs[0].before == found.effects["edited"] and relearned.compared_with == "control"
        steps = [title for cell in record.cells for title in cell.steps]
        assert any("move-at-random" in str(step) for step in steps)


def test_rows_that_choose_are_the_same_in_every_split_and_judge_nothing() -> None:
    task = cue_task("planted", rows=20, test_rows=90)
    choosing, judging = divide_suite(task, 0.33, 4)
    ids = [{split: set(part.ids.tolist()) for split, part in suite.items() if isinstance(part, CuedSet)}
           for suite in (choosing, judging)]  # fmt: skip
    assert all(len(own) == 4 and len(set(map(frozenset, own.values()))) == 1 for own in ids)
    first, second = ids[0]["cue"], ids[1]["cue"]
    assert (len(first), len(second)) == (30, 60) and not first & second
    assert choosing.reference == judging.reference == task.suite.reference
    rows = torch.arange(len(first))
    part = choosing["cue"]
    assert isinstance(part, CuedSet) and len(part.inputs(rows)) == 30


def test_what_seeds_say_is_counted(tmp_path: Path) -> None:
    record = run_plan(plan(tmp_path, "seeds=0", "changes=clean minus cued"))
    (one,) = record.results
    assert isinstance(one, ArithmeticResult)
    (found,) = one.changes.values()
    none = replace(found, scale=0.0, random=(), model=nn.Identity())
    two = replace(one, seed=1, changes={"clean minus cued": none}, relearned={"theta_C": one.relearned["theta_C"]})
    (change,) = summarise_arithmetic([one, two]).places["planted, 0.8 cued"].values()
    assert change.random.get("no scale") == (1 if found.scale else 2) and change.seeds == 2
    assert change.target_after.mean is not None and change.verdicts.get("does not", 0) >= 1
    assert sum(change.states.values()) == (1 if found.scale else 0)


def test_settings_of_every_scale_have_seeds_and_wrong_ones_are_refused() -> None:
    recipe = find_recipe("arithmetic")
    for scale, seeds in (("smoke", 2), ("small", 5), ("paper", 5)):
        assert len(recipe.cells(recipe.settings(scale, images=False))) == seeds  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="changes"):
        resolve_settings("arithmetic", "smoke", ["changes=nothing"])
    with pytest.raises(ValueError, match="keep"):
        resolve_settings("arithmetic", "smoke", ["keep=2"])
