"""The demo: the recipe quickstart, and what it changes for other images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mechconn as mc
from image_files import write_set
from mechconn.paper import RunPlan, RunRecord, RunWatcher, choose_demo_changes, resolve_settings, run_plan
from recipes import INLINE

QUICK = {
    "width": 2, "clean_samples": (64,), "points": 3, "training": mc.Training(epochs=1, batch_size=128),
    "methods": {"FT-M": mc.NaiveFineTuning(epochs=1, batch_size=32), "CBFT": mc.CBFT(epochs=2, batch_size=32)},
}  # fmt: skip


def run(store: Path, data: str, seed: int, changes: dict[str, object], watch: RunWatcher | None = None) -> RunRecord:
    name, scale, settings, _ = resolve_settings("quickstart", "smoke", [choose_demo_changes(data, seed), changes])
    return run_plan(RunPlan(name, scale, settings, store, INLINE), watch)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return run(tmp_path_factory.mktemp("store"), "digits", 1, QUICK)


def test_it_is_whole_and_repeats_exactly(record: RunRecord, tmp_path: Path) -> None:
    seen: list[mc.ProgressEvent] = []
    again = run(tmp_path, "digits", 1, QUICK, RunWatcher(seen.append))
    assert again.results == record.results and again.settings_hash == record.settings_hash
    (result,) = record.cue_results
    assert list(dict.fromkeys(event.stage for event in seen)) == [
        "train: theta_C", "train: theta_NC", "evaluate: theta_C to theta_NC, linear", "fine-tune: FT-M",
        "fine-tune: CBFT", "train: theta_NC, control", "fine-tune: FT-M, control", "fine-tune: CBFT, control",
        *(f"measure: {name}" for name in result.models), *(f"relearn: {name}" for name in result.models),
    ]  # fmt: skip
    assert list(result.models) == ["theta_C", "theta_NC", "FT-M", "CBFT"] and result.seed == 1
    assert {effect.draws for name in ("rand_cue", "rand_image") for effect in (result.models["CBFT"][name],)} == {5}
    (path,) = result.paths
    assert path.profile.ts == (0.0, 0.5, 1.0)
    assert path.profile.settings["norm"]["data"] == "1,200 training rows without a cue"
    for split in path.profile.loss:
        barrier = path.profile.barrier(split)
        assert barrier.interval is not None and barrier.interval[0] <= barrier.height <= barrier.interval[1]
    states, *others = record.findings
    assert states.startswith("theta_C ") and all(f"{name} " in states for name in result.models)
    assert sum(sentence.startswith(("theta_C", "theta_NC", "FT-M", "CBFT")) for sentence in others) >= 4


def test_it_is_what_the_verbs_give(record: RunRecord) -> None:
    """Without a store: the same task, trainings, path and measurements by the library's own functions."""
    task = mc.datasets.cue_task("digits", proportion=0.8, seed=1, draws=5)
    fresh = mc.models.small_convnet(10, 2, channels=3, seed=1)
    theta_c, theta_nc = (
        mc.train(fresh, data, mc.Training(epochs=1, batch_size=128), seed=1).model for data in (task.train, task.clean)
    )
    clean = task.clean.sample(64, 1)
    tuned = mc.fine_tune(theta_c, mc.CBFT(epochs=2, batch_size=32), clean=clean, cued=task.train, seed=1).model
    (result,) = record.cue_results
    for name, model in (("theta_C", theta_c), ("theta_NC", theta_nc), ("CBFT", tuned)):
        assert result.models[name] == mc.measure_invariance(model, task.suite)
    line = mc.LinearPath.between(theta_c, theta_nc)
    profile = mc.evaluate_path(fresh, line, task.suite, ts=3, norm=mc.Reestimate(task.clean), keep_samples=True)
    assert result.paths[0].profile.loss == profile.loss
    assert all(result.paths[0].profile.barrier(split) == profile.barrier(split) for split in profile.loss)


def test_pictures_show_the_box_where_the_cue_is_and_only_there(record: RunRecord) -> None:
    strips = record.pictures["digits"]
    pictures = {name: torch.from_numpy(picture.pixels().copy()).long() for name, picture in strips.items()}
    green = torch.tensor([128, 255, 128])
    boxes = {name: int((pixels == green).all(2).sum()) for name, pixels in pictures.items()}
    assert boxes["cue"] >= 9 and boxes["cue"] % 9 == 0
    assert boxes["rand_image"] == boxes["cue"] and boxes["no_cue"] == 0


def test_of_a_folder_it_takes_all_images_and_half_of_the_training_samples(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "mine", train=40, test=12, classes=2, channels=1)
    quick = {
        "training": mc.Training(epochs=1, batch_size=16), "points": 2, "network": "small_convnet", "width": 2,
        "methods": {name: mc.NaiveFineTuning(epochs=1, batch_size=16) for name in ("FT-M", "CBFT")},
    }  # fmt: skip
    record = run(tmp_path / "store", str(folder), 0, quick)
    assert record.settings["clean_samples"] == [20] and record.settings["rows"] is None
    (strips,) = record.pictures.values()
    assert set(strips) == {"no_cue", "cue", "rand_cue", "rand_image"}


@pytest.mark.slow
def test_the_shape_of_the_paper_on_digits(tmp_path: Path) -> None:
    """Of one seed, without paths and relearning; benchmarks/mechanisms_over_seeds.py has more."""
    (result,) = run(tmp_path, "digits", 0, {"relearn": None, "points": 2, "draws": 1, "clean_model": False}).cue_results
    points = {n: {split: 100 * share for split, share in m.accuracy.items()} for n, m in result.models.items()}
    assert points["theta_C"]["rand_image"] >= 60
    naive, cbft = points["FT-M"], points["CBFT"]
    assert naive["rand_image"] >= 35
    assert naive["rand_cue"] <= naive["no_cue"] - 15
    assert cbft["rand_image"] <= 20
    assert abs(cbft["no_cue"] - cbft["rand_cue"]) <= 6
    assert cbft["no_cue"] >= naive["no_cue"] - 8
