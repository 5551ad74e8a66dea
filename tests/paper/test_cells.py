"""What recipes measure, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pytest

import mechconn as mc
from mechconn.core import read_environment
from mechconn.paper import PRESETS, CellEngine, DemoSettings, RunPlan, TuningSettings, run_demo, run_plan
from recipes import small_plan

SPLITS = {"cue", "no_cue", "rand_cue", "rand_image"}


@pytest.mark.parametrize(
    ("recipe", "models", "paths"),
    [
        ("fig4", {"theta_C", "theta_NC"}, {"linear", "aligned", "fitted with cue", "fitted without cue"}),
        (
            "fig5",
            {"theta_C", "FT-S", "FT-M", "FT-L"},
            {"theta_C to FT-S", "theta_C to FT-M", "theta_C to FT-L"},
        ),
        ("table4", {"theta_C", "FT-M", "CBFT", "scratch"}, set()),
        ("quickstart", {"theta_C", "theta_NC", "FT-M", "CBFT"}, {"theta_C to theta_NC"}),
    ],
)
def test_a_cell_measures_its_models_and_paths(recipe: str, models: set[str], paths: set[str], tmp_path: Path) -> None:
    changes = {
        "fig5": ["proportions=0.8", *(f"methods.{name}.epochs=1" for name in ("FT-S", "FT-M", "FT-L"))],
        "table4": ["clean_samples=20,40", "scratch.epochs=1"],
    }.get(recipe, [])
    record = run_plan(small_plan(tmp_path, CellEngine("inline", 1, 1), *changes, recipe=recipe))
    assert record.status == "done"
    for cell in record.cells:
        numbers = record.results[cell.name]
        assert set(numbers["models"]) == models and set(numbers["paths"]) == paths
        for model in numbers["models"].values():
            assert set(model["accuracy"]) == set(model["loss"]) == SPLITS
            for split, (low, high) in model["accuracy_interval"].items():
                assert low <= model["accuracy"][split] <= high
            assert set(model["effect"]) == SPLITS - {"cue"}
            assert set(model) == {"accuracy", "accuracy_interval", "loss", "samples", "effect"}
        fits = {name for name in paths if name.startswith("fitted")}
        assert set(numbers["histories"]) == models | fits
        assert all(record["epoch"] == 0 and record["lr"] > 0 for (record, *_) in numbers["histories"].values())
        for path in numbers["paths"].values():
            assert path["ts"] == [0.0, 0.5, 1.0] and set(path["loss"]) == SPLITS == set(path["barrier"])
            for split in ("no_cue", "cue"):  # of the others a model's accuracy is the mean over draws
                assert path["saved"][0]["accuracy"][split] == numbers["models"]["theta_C"]["accuracy"][split]
            for shift in path["shifted"]:
                place = "AB".index(shift["end"])
                assert shift["saved"] == path["saved"][place][shift["on"]][shift["split"]]
                assert shift["evaluated"] == path[shift["on"]][shift["split"]][-place]
    if recipe == "table4":
        assert [cell.clean_samples for cell in record.cells] == [20, 40]
        shared = [cell.steps["train: theta_C"] for cell in record.cells]
        assert shared[0] == shared[1]


def test_quickstart_is_the_demo(tmp_path: Path) -> None:
    """Two ways to the same numbers: the demo without a store, and cached steps, with the same settings."""
    settings = mc.Training(epochs=1, batch_size=64, lr=0.1, milestones=())
    naive = mc.NaiveFineTuning(epochs=1, batch_size=60)
    cbft = mc.CBFT(epochs=2, batch_size=60, cued_proportion=0.9)
    common = {"rows": 200, "test_rows": 100, "width": 4, "points": 3, "training": settings}
    demo = run_demo(DemoSettings.model_validate({**common, "clean_samples": 60, "naive": naive, "cbft": cbft}))
    own = TuningSettings.model_validate(
        {
            **common,
            "datasets": [PRESETS["digits"]],
            "clean_samples": (60,),
            "methods": {"FT-M": naive, "CBFT": cbft},
            "clean_model": True,
            "draws": DemoSettings().draws,
        }
    )
    threads = read_environment("cpu").threads
    record = run_plan(RunPlan("quickstart", "smoke", own, tmp_path, CellEngine("inline", 1, threads)))
    (found,) = record.results.values()
    assert {name: model["accuracy"] for name, model in found["models"].items()} == demo.accuracy
    path = found["paths"]["theta_C to theta_NC"]
    assert path["loss"] == demo.path.loss and path["ts"] == demo.path.ts
    assert {s: b and tuple(b) for s, b in path["barrier"].items()} == demo.path.barrier
    assert path["saved"] == [end and end.model_dump() for end in demo.path.saved]
    assert len(path["shifted"]) == len(demo.path.shifted)
    assert record.pictures["digits"] == demo.pictures
