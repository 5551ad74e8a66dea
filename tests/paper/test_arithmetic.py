"""The recipe `arithmetic`: a whole run on planted latents, its steps, its summary over seeds, and what it claims."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import t as student
from torch import nn

import mechconn as mc
from mechconn.datasets import CuedSet, cue_task
from mechconn.merging import ScaleClaim, ScaleSearch
from mechconn.paper import (
    ArithmeticResult,
    ArithmeticSummary,
    CellEngine,
    Claim,
    RunPlan,
    find_recipe,
    resolve_settings,
    run_plan,
)
from mechconn.paper._arithmetic_result import describe_change, summarise_arithmetic
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
    assert {claim.verdict for claim in claims} <= {"holds", "does not hold", "undetermined"} and len(claims) == 4
    searched = [own for result in record.summary.results for own in result.changes.values()]
    assert all(own.settings["choose"] == "shown" for own in searched)
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
        assert any("move-at-random" in str(step) for step in steps) and any("add-change" in str(step) for step in steps)


def test_the_control_of_relearning_is_never_cued_and_changed_alike(tmp_path: Path) -> None:
    """At scale 1 "plus clean" is fine-tuning: its control is theta_NC as fine-tuned, and relearns as that does."""
    record = run_plan(plan(tmp_path, "seeds=3", "changes=plus clean", "keep=0.05", "scales=1", "margin=0.9",
                           "choose=largest"))  # fmt: skip
    (result,) = record.results
    assert isinstance(result, ArithmeticResult) and result.changes["plus clean"].scale == 1.0
    records = [json.loads(file.read_text())["record"] for file in (tmp_path / "steps").glob("*/record.json")]
    (control,) = (own for own in records if own["step"] == "add-change")
    (tuned,) = (own for own in records if own["key"] == control["inputs"]["tuned on clean"]["key"])
    start = control["inputs"]["network"]
    assert start in tuned["inputs"].values()  # tuned from the network that it is added to: theta_NC
    assert start != next(own["inputs"]["base"] for own in records if own["step"] == "search-scale")
    added, whole = (load_file(tmp_path / "steps" / own["key"] / "weights.safetensors") for own in (control, tuned))
    assert all(torch.allclose(added[name], tensor, atol=1e-6) for name, tensor in whole.items())
    relearned = result.relearned["plus clean"]
    beside = relearned.others["theta_NC moved at random"]
    own = [sum(curve.means[1:]) / len(curve.means[1:]) for curve in (relearned.runs[0].curve, beside)]
    (row,) = result.rows()
    assert row["excess_over_random"] == pytest.approx(own[0] - own[1])
    (change,) = record.summary.places["planted, 0.8 cued"].values()  # pyright: ignore
    assert change.excess_over_random.mean == pytest.approx(own[0] - own[1]) and change.excess.seeds == 1


def test_what_is_open_refutes_no_claim(tmp_path: Path) -> None:
    """A seed that lowers the target and leaves open whether half of it goes is no seed in which it does not."""
    record = run_plan(plan(tmp_path, "seeds=0", "changes=clean minus cued", "keep=0.9"))
    (one,) = record.results
    assert isinstance(one, ArithmeticResult)
    recipe = find_recipe("arithmetic")

    def claim(name: Any, split: str, standing: Any) -> ScaleClaim:
        return ScaleClaim(name, split, 0.0, (0.0, 0.0), 0.0, standing)

    def judge(removes: Any, *more: ScaleSearch) -> tuple[Claim, Claim]:
        claims = (claim("moves", "rand_image", "shown"), claim("removes", "rand_image", removes),
                  claim("keeps", "no_cue", "shown"))  # fmt: skip
        named = replace(one.changes["clean minus cued"], scale=0.5, model=nn.Identity(), claims=claims)
        cells = [replace(one, seed=n, changes={"clean minus cued": own}) for n, own in enumerate((named, *more))]
        target, random = recipe.judge_claims(replace(record, summary=summarise_arithmetic(cells)))
        return target, random

    assert [judge(standing)[0].verdict for standing in ("shown", "open", "refuted")] == [
        "holds", "undetermined", "does not hold",
    ]  # fmt: skip
    assert judge("open")[0].numbers.startswith("lowers in 1") and "90 % of the control" in judge("open")[0].statement
    none = replace(one.changes["clean minus cued"], scale=0.0, claims=(), random=(), model=nn.Identity())
    target, random = judge("shown", none)  # one seed has no scale: both claims are there, and neither is settled
    assert target.verdict == random.verdict == "undetermined" and "no scale in 1 of 2 seeds" in random.numbers


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
    none = replace(found, scale=0.0, claims=(), random=(), model=nn.Identity())
    two = replace(one, seed=1, changes={"clean minus cued": none}, relearned={"theta_C": one.relearned["theta_C"]})
    (change,) = summarise_arithmetic([one, two]).places["planted, 0.8 cued"].values()
    assert change.random.get("no scale") == (1 if found.scale else 2) and change.seeds == 2
    assert change.target_after.mean is not None and change.verdicts.get("no scale", 0) >= 1
    assert sum(change.states.values()) == (1 if found.scale else 0)
    if found.scale:
        assert change.excess is not None and change.excess.seeds == 1
        assert " in 1 of 2 seeds" in describe_change(change)


def test_settings_of_every_scale_have_seeds_and_wrong_ones_are_refused() -> None:
    recipe = find_recipe("arithmetic")
    for scale, seeds in (("smoke", 2), ("small", 5), ("paper", 5)):
        assert len(recipe.cells(recipe.settings(scale, images=False))) == seeds  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="changes"):
        resolve_settings("arithmetic", "smoke", ["changes=nothing"])
    for scales in ("0", "nan", "1,inf"):  # before anything is trained
        with pytest.raises(ValueError, match="scales must be finite numbers, one of them not 0"):
            resolve_settings("arithmetic", "smoke", [f"scales={scales}"])
    with pytest.raises(ValueError, match="keep"):
        resolve_settings("arithmetic", "smoke", ["keep=2"])
