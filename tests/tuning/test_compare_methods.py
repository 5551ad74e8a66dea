"""Methods side by side: the same start, samples, budget and rule of selection, and a table with t intervals."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import ttest_1samp
from torch import nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from comparing import METHODS, task
from mechconn.core import SampleSource
from reference import evaluated
from world import World, model_in_use
from zoo import build, mlp, norm_mlp, rows, split


def test_every_run_is_that_of_fine_tune_evaluated() -> None:
    tasks = [task(seed) for seed in (0, 1)]
    found = mc.compare_methods(tasks, METHODS)
    assert [(run.method, run.seed) for run in found.runs] == [
        (name, seed) for seed in (0, 1) for name in ("start", *METHODS)
    ]
    for run in found.runs:
        here, model = tasks[run.seed], tasks[run.seed].model
        if run.method != "start":
            method = METHODS[run.method]
            model = mc.fine_tune(model, method, clean=here.clean, cued=here.cued, seed=run.seed).model
        for split_name, data in here.suite.items():
            assert isinstance(data, SampleSource)
            loss, accuracy = evaluated(model, [(data.inputs(torch.arange(len(data))), data.y)])
            assert run.accuracy[split_name] == pytest.approx(accuracy, abs=1e-12)
            assert run.loss[split_name] == pytest.approx(loss, rel=1e-9)


def test_the_table_holds_means_and_t_intervals_over_seeds() -> None:
    found = mc.compare_methods([task(seed) for seed in (0, 1, 2)], {"FT": METHODS["FT"]})
    assert list(found) == ["start", "FT"] and len(found) == 2
    values = [run.accuracy["rand_cue"] for run in found.runs if run.method == "FT"]
    exact = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found["FT"]["rand_cue"].mean == pytest.approx(sum(values) / 3)
    assert found["FT"]["rand_cue"].interval == pytest.approx((exact.low, exact.high))
    gaps = [run.accuracy["rand_cue"] - run.accuracy["cue"] for run in found.runs if run.method == "FT"]
    exact = ttest_1samp(gaps, 0.0).confidence_interval(0.95)
    assert found.effects("FT")["rand_cue"].interval == pytest.approx((exact.low, exact.high))
    assert set(found.effects("FT", of="no_cue")) == {"cue", "rand_cue"}
    text = str(found).splitlines()
    assert text[0] == "| method | cue | no_cue | rand_cue |" and len(text) == 4
    half = 100 * (exact.high - exact.low) / 2
    assert half > 0 and f"{100 * found['FT']['cue'].mean:.1f} ± " in text[3]
    with pytest.raises(KeyError):
        found["CBFT"]


def test_one_seed_has_no_interval() -> None:
    found = mc.compare_methods(task(), {"FT": METHODS["FT"]})
    assert found["FT"]["cue"].interval is None and "±" not in str(found)


def test_a_split_of_several_draws_counts_with_their_mean() -> None:
    (x, y), (other, _) = rows(30, 10), rows(30, 20)
    model, draws = build(norm_mlp), [(x, y), (other, y), (x + other, y)]
    suite = mc.Suite({"cue": (x, y), "rand_cue": draws[0]}, redraws={"rand_cue": draws[1:]})
    start = mc.compare_methods(task(model=model, suite=suite), {"FT": METHODS["FT"]}).runs[0]
    alone = [evaluated(model, [data]) for data in draws]
    assert start.loss["rand_cue"] == pytest.approx(sum(loss for loss, _ in alone) / 3, rel=1e-9)
    assert start.accuracy["rand_cue"] == pytest.approx(sum(accuracy for _, accuracy in alone) / 3, abs=1e-12)
    assert start.accuracy["cue"] == pytest.approx(alone[0][1], abs=1e-12)


def test_the_record_and_the_file_hold_every_run(tmp_path: Path) -> None:
    found = mc.compare_methods([task(0), task(1)], {"FT": METHODS["FT"]})
    record = found.to_record()
    assert record["accuracy"]["FT"]["cue"]["mean"] == found["FT"]["cue"].mean
    assert record["runs"][1]["settings"]["method"] == "NaiveFineTuning"
    how = {"device": "cpu", "precision": "float64", "batch_size": None}
    assert record["settings"] == {"seeds": [0, 1], "epochs": None, "passes": None, "selection": "last"} | how
    found.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 2 * 2 * 3
    assert float(lines[0]["accuracy"]) == found.runs[0].accuracy["cue"]


# ---------------------------------------------------------------- budgets


def epochs_of(found: mc.MethodComparison) -> dict[str, int]:
    return {run.method: run.settings["epochs"] for run in found.runs if "epochs" in run.settings}


def test_one_number_of_epochs_for_all() -> None:
    methods = {**METHODS, "LLRT": mc.LastLayerRetraining(epochs=4, lr=0.1)}
    assert epochs_of(mc.compare_methods(task(), methods, epochs=3)) == {"FT": 3, "CBFT": 3, "LLRT": 4}
    assert epochs_of(mc.compare_methods(task(), methods)) == {"FT": 2, "CBFT": 2, "LLRT": 4}
    both = mc.LPFT(probe=mc.LastLayerRetraining(epochs=4, lr=0.1), tuning=mc.NaiveFineTuning(batch_size=8))
    found = mc.compare_methods(task(), {"LPFT": both}, epochs=3).runs[1].settings
    assert (found["probe"]["epochs"], found["tuning"]["epochs"]) == (4, 3)


def test_one_number_of_passes_for_all() -> None:
    """24 rows in batches of 8: three iterations an epoch, of one pass for FT, two for IRM and three for CBFT."""
    methods = {"FT": METHODS["FT"], "IRM": mc.IRM(batch_size=8), "CBFT": METHODS["CBFT"]}
    found = mc.compare_methods(task(), methods, passes=54)
    assert epochs_of(found) == {"FT": 18, "IRM": 9, "CBFT": 6}
    both = mc.LPFT(probe=mc.LastLayerRetraining(epochs=4, lr=0.1), tuning=mc.NaiveFineTuning(batch_size=8))
    assert mc.compare_methods(task(), {"LPFT": both}, passes=54).runs[1].settings["tuning"]["epochs"] == 18
    dro = {"DRO": mc.GroupDRO(batch_size=8)}
    assert epochs_of(mc.compare_methods(task(groups=[0, 1] * 12), dro, passes=54)) == {"DRO": 18}
    assert epochs_of(mc.compare_methods(task(), dro, passes=54)) == {"DRO": 9}


def test_a_small_budget_leaves_one_epoch_of_everything() -> None:
    """CBFT's warm-up gives way, and Scratch's milestones move along."""
    methods = {"CBFT": METHODS["CBFT"], "scratch": mc.Scratch(batch_size=8)}
    found = mc.compare_methods(task(), methods, epochs=1)
    assert epochs_of(found) == {"CBFT": 1, "scratch": 1}
    settings = {run.method: run.settings for run in found.runs}
    assert settings["CBFT"]["warmup_epochs"] == 0
    assert mc.Scratch().with_epochs(20) == mc.Scratch(epochs=20, milestones=(8, 16))


class Passing(nn.Module):
    """Counts its passes in training mode."""

    passes = 0

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        type(self).passes += self.training
        return self.body(x)


@pytest.mark.parametrize(
    "method",
    [
        mc.NaiveFineTuning(epochs=1, batch_size=8),
        mc.CBFT(epochs=1, batch_size=8, warmup_epochs=0),
        mc.CBFT(epochs=1, batch_size=8, warmup_epochs=0, barrier=False),
        mc.CBFT(epochs=1, batch_size=8, invariance=False),
        mc.IRM(epochs=1, batch_size=8),
        mc.VREx(epochs=1, batch_size=8),
        mc.ConvexCombination(epochs=1, batch_size=8),
        mc.GroupDRO(epochs=1, batch_size=8),
        mc.Scratch(epochs=1, batch_size=8),
    ],
)
@pytest.mark.parametrize("sources", [1, 2])
def test_passes_are_counted_as_they_are_made(method: Any, sources: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Passing, "passes", 0)
    cued = {"box": rows(24, 3), "hue": rows(24, 4)} if sources == 2 else {"box": rows(24, 3)}
    mc.fine_tune(build(Passing), method, clean=rows(24), cued=cued, head="body.2")
    read = len(method.cued_data(cued, 0))
    assert Passing.passes == 3 * method.passes(read)


# ---------------------------------------------------------------- selection


def test_validation_holds_the_same_rows_out_for_every_method() -> None:
    seen: dict[str, set[int]] = {}
    x, _ = rows(40)
    y = torch.arange(40) % 3
    x[:, 0] = torch.arange(40.0)

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(outputs, targets, reduction="none")

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp()

        def forward(self, rows_in: torch.Tensor) -> torch.Tensor:
            seen.setdefault("train" if self.training else "held out", set()).update(rows_in[:, 0].int().tolist())
            return self.body(rows_in * 0.1)

    suite = mc.Suite({"cue": (torch.full((4, 4), 100.0).double(), torch.arange(4) % 3)}, interventions=())
    here = mc.TuningTask(build(Watching), (x, y), suite, seed=5)
    methods = {"a": mc.NaiveFineTuning(epochs=2, batch_size=8), "b": mc.NaiveFineTuning(epochs=1, batch_size=8, lr=0.1)}
    found = mc.compare_methods(here, methods, selection="validation", validation_share=0.25, loss=loss)
    held_out = seen["held out"] - {100}
    assert len(held_out) == 10 and len(seen["train"]) == 30
    assert held_out | seen["train"] == set(range(40)) and not held_out & seen["train"]
    assert found.settings["validation_share"] == 0.25
    assert "selected_epoch" in found.runs[1].settings


def test_groups_lose_the_rows_held_out() -> None:
    here = task(groups=["a", "b"] * 12)
    found = mc.compare_methods(here, {"DRO": mc.GroupDRO(epochs=1, batch_size=8)}, selection="validation")
    assert found.runs[1].settings["samples"] == 19  # 24 less a fifth
    columns = task(groups={"place": ["a", "b"] * 12})
    assert (
        mc.compare_methods(columns, {"DRO": METHODS["DFR"]}, selection="validation").runs[1].settings["samples"] == 19
    )


# ---------------------------------------------------------------- stopping, the user's world, wrong input


class StoppedError(Exception):
    pass


def test_a_comparison_that_is_stopped_goes_on(tmp_path: Path) -> None:
    calls = 0

    def stopping(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise StoppedError
        return cross_entropy(outputs, targets, reduction="none")

    def same(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return cross_entropy(outputs, targets, reduction="none")

    with pytest.raises(StoppedError):
        mc.compare_methods(task(), METHODS, folder=tmp_path, loss=stopping)
    assert [file.name[:3] for file in tmp_path.iterdir()] == ["ft-"]
    counts, results = [], []
    for folder in (tmp_path, None):
        calls = 0
        results.append(mc.compare_methods(task(), METHODS, folder=folder, loss=same))
        counts.append(calls)
    assert [run.loss for run in results[0].runs] == [run.loss for run in results[1].runs]
    assert counts[0] <= counts[1] - 6  # FT's six iterations were there


def test_names_that_differ_in_signs_have_files_of_their_own(tmp_path: Path) -> None:
    mc.compare_methods(task(), {name: METHODS["FT"] for name in ("CBFT", "CBFT+", "\u03bb", "\u03b2")}, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_users_models_stay_as_they_are() -> None:
    model = model_in_use()
    world = World.of(model)
    suite = mc.Suite({"cue": rows(12, 1), "no_cue": rows(12, 2)})
    mc.compare_methods(mc.TuningTask(model, rows(24), suite, cued=rows(24, 3)), METHODS, selection="validation")
    world.check_unchanged(model)


def test_it_tells_how_far_it_is() -> None:
    told: list[mc.ProgressEvent] = []
    mc.compare_methods(task(), {"FT": METHODS["FT"]}, progress=told.append)
    assert [(step.done, step.total) for step in told] == [(0, 1), (0, 1), (1, 1)]
    assert str(told[1]).startswith("comparing methods: FT, seed 0 (epoch 2, clean ")


# ---------------------------------------------------------------- what `compare_methods` refuses, and when


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"methods": {}}, "needs a task and a method or more, got 1 tasks and 0 methods"),
        ({"tasks": []}, "needs a task and a method or more, got 0 tasks and 3 methods"),
        ({"tasks": [task(1), task(1)]}, r"tasks must have seeds of their own.*got seeds \[1, 1\]"),
        ({"tasks": [task(0), task(1, cued=None)]}, "CBFT needs data with the cue"),
        ({"methods": {"start": METHODS["FT"]}}, "the name 'start' stands for the model as it is"),
        ({"epochs": 2, "passes": 9}, "has one budget, got epochs=2 and passes=9; leave one of them out"),
        ({"epochs": 0}, "epochs must be a whole number greater than zero, got 0"),
        (
            {"selection": "validation", "validation_share": 2.0},
            "validation_share must lie above 0 and below 1, got 2.0",
        ),
        ({"validation_share": 1.0}, "validation_share must lie above 0 and below 1, got 1.0"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_trained(changes: dict[str, Any], text: str) -> None:
    told: list[mc.ProgressEvent] = []
    arguments: dict[str, Any] = {"tasks": task(), "methods": METHODS, "epochs": 1, **changes}
    with pytest.raises(ValueError, match=text):
        mc.compare_methods(**arguments, progress=told.append)
    assert not told


@pytest.mark.usefixtures("unchecked")
def test_methods_are_a_mapping_of_methods() -> None:
    methods: Any = [mc.DFR()]
    with pytest.raises(TypeError, match=r"methods must be a Mapping, got list; write {name: method, \.\.\.}"):
        mc.compare_methods(task(), methods)
    methods = {"DFR": mc.DFR}
    with pytest.raises(TypeError, match="method 'DFR' must be a Method, got ABCMeta"):
        mc.compare_methods(task(), methods)


def test_validation_needs_rows_and_a_classification_is_needed() -> None:
    with pytest.raises(TypeError, match="selection='validation' reads rows by index and needs a dataset"):
        mc.compare_methods(task(clean=split(rows(24), [12, 12])), METHODS, selection="validation")
    suite = mc.Suite({"cue": (rows(8)[0], torch.zeros(8, dtype=torch.float64))}, interventions=())
    regression = task(suite=suite, model=build(mlp))
    with pytest.raises(ValueError, match="compare_methods needs a classification"):
        mc.compare_methods(regression, {"FT": METHODS["FT"]}, loss=lambda out, y: (out[:, 0] - y.double()) ** 2)
