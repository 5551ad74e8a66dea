"""Methods side by side: the same start, samples, budget and rule of selection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from comparing import METHODS, margin, regression, squared, task
from mechconn.core import SampleSource
from mechconn.descent import Descend, Method, Problem
from reference import evaluated
from world import World, model_in_use
from zoo import build, mlp, rows, split


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


def test_the_models_of_all_runs_are_returned() -> None:
    here = [task(0), task(1)]
    found = mc.compare_methods(here, METHODS)
    for run in found.runs:
        if run.method == "start":
            assert run.model is here[run.seed].model and not run.settings and not run.trained.history
            continue
        alone = mc.fine_tune(
            here[run.seed].model, METHODS[run.method], clean=here[run.seed].clean, cued=here[run.seed].cued,
            seed=run.seed,
        )  # fmt: skip
        assert run.trained.history == alone.history and run.settings == alone.settings
        assert all(torch.equal(t, alone.model.state_dict()[name]) for name, t in run.model.state_dict().items())


@dataclass(frozen=True, kw_only=True)
class Shrink(Method):
    """The weights of the head times a factor: a method of a user's own."""

    factor: float = 0.5

    def run(self, problem: Problem, descend: Descend) -> None:
        for name, parameter in problem.model.named_parameters():
            if name.startswith("3."):
                parameter.data.mul_(self.factor)

    def settings(self) -> dict[str, Any]:
        return {"factor": self.factor}


def test_a_method_may_be_the_users_own() -> None:
    found = mc.compare_methods(task(), {"half": Shrink(), **METHODS}, epochs=1)
    assert found.runs[1].settings["method"] == "Shrink" and found.runs[1].settings["factor"] == 0.5
    start, half = (run.model.state_dict() for run in found.runs[:2])
    moved = {name for name, tensor in start.items() if not torch.equal(tensor, half[name])}
    assert moved and all(torch.equal(half[name], 0.5 * start[name]) for name in moved)
    assert found["half"]["cue"].mean == found["start"]["cue"].mean  # the bias is halved too, so no argmax moves


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
        ({"tasks": [task(0), task(1, suite=mc.Suite({"cue": rows(8)}))]}, r"tasks must have suites of the same splits"),
        ({"on": "acuracy"}, "on must be one of 'accuracy', 'loss', got 'acuracy'; did you mean 'accuracy'"),
        ({"margin": 0.0}, "start, seed 0: margin must be a number greater than zero"),
        ({"metrics": {"loss": margin}}, "metrics: 'loss' is the name of a column already"),
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
    with pytest.raises(TypeError, match="method 'DFR' must be a Method, got the class DFR; write DFR"):
        mc.compare_methods(task(), methods)


def test_validation_needs_rows() -> None:
    with pytest.raises(TypeError, match="selection='validation' reads rows by index and needs a dataset"):
        mc.compare_methods(task(clean=split(rows(24), [12, 12])), METHODS, selection="validation")


def test_an_accuracy_that_is_asked_for_needs_a_classification() -> None:
    told: list[mc.ProgressEvent] = []
    with pytest.raises(ValueError, match=r"start, seed 0: split 'cue': on='accuracy' needs a classification"):
        mc.compare_methods(regression(), {"FT": METHODS["FT"]}, loss=squared, on="accuracy", progress=told.append)
    assert not told


@dataclass(frozen=True, kw_only=True)
class Failing(Shrink):
    """A method that stops with an error."""

    error: type[Exception] = ValueError

    def run(self, problem: Problem, descend: Descend) -> None:
        raise self.error("no weights left")


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, FloatingPointError])
def test_a_method_that_fails_is_named_with_the_seed(kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        mc.compare_methods([task(3), task(4)], {"FT": METHODS["FT"], "mine": Failing(error=kind)})
    assert str(raised.value) == "mine, seed 3: no weights left"


def test_a_training_that_diverges_names_its_method_and_seed() -> None:
    with pytest.raises(FloatingPointError, match=r"^fast, seed 1: training diverged: clean is .*; lower the") as raised:
        mc.compare_methods(task(1), {"fast": mc.NaiveFineTuning(epochs=20, batch_size=8, lr=1e300)})
    assert "\n" not in str(raised.value)
