"""What recipes measure, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from mechconn.paper import CellEngine, RunPlan, TuningSettings, run_plan
from recipes import small_plan

SPLITS = {"cue", "no_cue", "rand_cue", "rand_image"}


@pytest.mark.parametrize(
    ("recipe", "models", "paths"),
    [
        (
            "fig4",
            {"theta_C", "theta_NC"},
            ["theta_NC linear", "theta_NC aligned", "theta_NC fitted cued", "theta_NC fitted clean"],
        ),
        ("fig5", {"theta_C", "FT-S", "FT-M", "FT-L"}, ["FT-S linear", "FT-M linear", "FT-L linear"]),
        ("table4", {"theta_C", "FT-M", "CBFT", "scratch"}, []),
        ("quickstart", {"theta_C", "theta_NC", "FT-M", "CBFT"}, ["theta_NC linear"]),
    ],
)
def test_a_cell_measures_its_models_and_paths(recipe: str, models: set[str], paths: list[str], tmp_path: Path) -> None:
    changes = {
        "fig5": ["proportions=0.8", *(f"methods.{name}.epochs=1" for name in ("FT-S", "FT-M", "FT-L"))],
        "table4": ["clean_samples=20,40", "scratch.epochs=1"],
    }.get(recipe, [])
    record = run_plan(small_plan(tmp_path, CellEngine("inline", 1, 1), *changes, recipe=recipe))
    assert record.status == "done"
    for result in record.cue_results:
        assert set(result.models) == set(result.histories) == models and result.tolerance == 0.05
        assert paths == [" ".join(filter(None, (path.end, path.kind, path.fitted_on))) for path in result.paths]
        for model in result.models.values():
            assert set(model.accuracy) == set(model.loss) == SPLITS and set(model) == SPLITS - {"cue"}
            for split, (low, high) in model.accuracy_interval.items():
                assert low <= model.accuracy[split] <= high
            assert {effect.verdict for effect in model.values()} <= {"invariant", "sensitive", "undetermined"}
        histories = [*result.histories.values(), *(path.history for path in result.paths if path.kind == "fitted")]
        assert all(epochs[0]["epoch"] == 0 and epochs[0]["lr"] > 0 for epochs in histories)
        for path in result.paths:
            profile = path.profile
            assert profile.ts == (0.0, 0.5, 1.0) and set(profile.loss) == SPLITS
            assert profile.names == ("theta_C", path.end) and bool(path.history) == (path.kind == "fitted")
            assert all(profile.barrier(split).interval is not None for split in SPLITS)
            saved, _ = profile.saved
            assert saved is not None
            for split in ("no_cue", "cue"):  # of the others a model's accuracy is the mean over draws
                assert saved.accuracy[split] == result.models["theta_C"].accuracy[split]
    if recipe == "table4":
        assert [result.clean_samples for result in record.cue_results] == [20, 40]
        shared = [cell.steps["train: theta_C"] for cell in record.cells]
        assert shared[0] == shared[1]


def test_a_path_that_two_runs_share_has_the_names_of_each(tmp_path: Path) -> None:
    """The step is stored once; what its ends are called is no part of it."""
    one = run_plan(small_plan(tmp_path, CellEngine("inline", 1, 1), "proportions=0.6", "paths=true", "methods=CBFT"))
    plan = small_plan(tmp_path, CellEngine("inline", 1, 1), "proportions=0.6", "paths=true", "methods=CBFT")
    assert isinstance(plan.settings, TuningSettings)
    mine = plan.settings.model_copy(update={"methods": {"mine": plan.settings.methods["CBFT"]}})
    two = run_plan(RunPlan(plan.recipe, plan.scale, mine, plan.store, plan.engine))
    assert [cell.computed for cell in two.cells] == [0]
    (first,), (second,) = one.cue_results[0].paths, two.cue_results[0].paths
    assert (first.end, second.end) == ("CBFT", "mine") and first.profile.loss == second.profile.loss


def test_the_tolerance_decides_verdicts_and_no_step(tmp_path: Path) -> None:
    inline, paths = CellEngine("inline", 1, 1), ("proportions=0.6", "clean_model=true", "methods=CBFT")
    run_plan(small_plan(tmp_path, inline, *paths))
    wide = run_plan(small_plan(tmp_path, inline, *paths, "tolerance=1000"))
    assert [cell.computed for cell in wide.cells] == [0]
    (path,) = wide.cue_results[0].paths
    assert set(path.profile.judge(wide.cue_results[0].tolerance).splits.values()) == {"connected"}
