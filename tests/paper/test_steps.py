"""Steps give what the library's verbs give, exactly, and their keys tell apart what gives other numbers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mechconn as mc
from data_contract import images
from mechconn.datasets import CueTask, _cues
from mechconn.paper import PRESETS, Architecture, choose_architecture
from mechconn.paper._steps import (
    WEIGHTS,
    ExperimentContext,
    align_step,
    evaluate_step,
    fit_step,
    measure_step,
    train_step,
    tune_step,
)
from mechconn.paper._tasks import describe_rows, find_input_shape, identify, load_task, sample_at_most
from mechconn.store import Store, StoredStep
from user_defined_data import StripeCue

QUICK = mc.Training(epochs=1, batch_size=32, lr=0.05, milestones=())
TUNED = mc.CBFT(epochs=2, batch_size=32)
FIT = mc.BezierFit(epochs=1, batch_size=32)
NET = Architecture("small_convnet", 10, (3, 28, 28), 4)


@pytest.fixture(scope="module")
def task() -> CueTask:
    return load_task(PRESETS["digits"], 0.8, 0, 120, 60, None)


@pytest.fixture
def context(tmp_path: Path) -> ExperimentContext:
    return ExperimentContext(Store(tmp_path), threads=torch.get_num_threads(), architecture=NET)


@pytest.fixture
def ends(context: ExperimentContext, task: CueTask) -> tuple[StoredStep, StoredStep]:
    return train_step(context, "C", task.train, QUICK, 0), train_step(context, "NC", task.clean, QUICK, 1)


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Bit for bit; files keep an order of their own."""
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_train_and_fine_tune(context: ExperimentContext, task: CueTask, ends: tuple[StoredStep, StoredStep]) -> None:
    trained = mc.train(NET.build(0), task.train, QUICK, seed=0)
    assert same(ends[0].tensors[WEIGHTS], trained.model.state_dict())
    assert ends[0].numbers == {"history": [dict(epoch) for epoch in trained.history], "samples": 120}
    clean = task.clean.sample(60, 0)
    found = tune_step(context, "CBFT", ends[0], TUNED, clean, task.train, 3)
    tuned = mc.fine_tune(trained.model, TUNED, clean=clean, cued=task.train, seed=3)
    assert same(found.tensors[WEIGHTS], tuned.model.state_dict())


def test_measure(context: ExperimentContext, task: CueTask, ends: tuple[StoredStep, StoredStep]) -> None:
    found = measure_step(context, "C", ends[0], task.suite, 0.05)
    assert found == mc.measure_invariance(context.model(ends[0]), task.suite, 0.05)
    assert found == measure_step(context, "C", ends[0], task.suite, 0.05)


def test_paths(context: ExperimentContext, task: CueTask, ends: tuple[StoredStep, StoredStep]) -> None:
    a, b = ends
    some = sample_at_most(task.clean, 50, 0)
    norm = mc.Reestimate(some, label="clean")
    moved = align_step(context, "onto C", a, b, some, 0)
    fit = fit_step(context, "fitted", a, b, FIT, task.train, 2)
    aligned = mc.align(context.model(a), context.model(b), mc.ActivationMatching(some), seed=0)
    curve = mc.fit_path(context.model(a), context.model(a), context.model(b), FIT, task.train, seed=2).path
    expected = {
        "linear": (mc.LinearPath.between(context.model(a), context.model(b)), b, None),
        "aligned": (mc.LinearPath.between(context.model(a), aligned.model), moved, None),
        "fitted": (curve, b, (FIT, fit)),
    }
    losses = set()
    for name, (path, end, fitted) in expected.items():
        found = evaluate_step(context, name, a, end, task.suite, some, 3, fitted)
        direct = mc.evaluate_path(context.model(a), path, task.suite, ts=3, norm=norm, keep_samples=True)
        assert found.loss == direct.loss and found.accuracy == direct.accuracy and found.saved == direct.saved
        assert all(found.barrier(split) == direct.barrier(split) for split in direct.loss)
        assert found.judge(0.05) == direct.judge(0.05)
        saved, _ = found.saved
        assert saved is not None
        assert saved.accuracy == mc.measure_invariance(context.model(a), task.suite, 0.05).accuracy
        losses.add(found.loss["cue"][1])
    assert len(losses) == 3


def test_a_step_is_known_by_everything_that_it_depends_on(
    context: ExperimentContext, task: CueTask, tmp_path: Path
) -> None:
    base = train_step(context, "C", task.train, QUICK, 0)
    assert not train_step(context, "another name", task.train, QUICK, 0).computed
    wide = replace(context, architecture=Architecture("small_convnet", 10, (3, 28, 28), 5))
    threads = replace(context, threads=99)
    others = [
        train_step(context, "C", task.clean, QUICK, 0),
        train_step(context, "C", task.train, QUICK, 1),
        train_step(context, "C", task.train, mc.Training(epochs=1, batch_size=32, lr=0.06, milestones=()), 0),
        train_step(wide, "C", task.train, QUICK, 0),
        train_step(threads, "C", task.train, QUICK, 0),
    ]
    assert all(other.computed for other in others)
    assert len({base.record.key, *(other.record.key for other in others)}) == 6


def test_data_are_known_by_their_content(task: CueTask) -> None:
    again = load_task(PRESETS["digits"], 0.8, 0, 120, 60, "elsewhere")
    assert again is not task and identify(again.train) == identify(task.train)
    assert identify(again.suite) == identify(task.suite) != identify(again.train)
    others = [
        load_task(PRESETS["digits"], 0.7, 0, 120, 60, None).train,
        load_task(PRESETS["digits"], 0.8, 1, 120, 60, None).train,
        load_task(PRESETS["digits"], 0.8, 0, 121, 60, None).train,
        task.clean,
        task.clean.sample(60, 0),
        task.clean.sample(60, 1),
    ]
    assert len({identify(task.train).sha256, *(identify(other).sha256 for other in others)}) == 7
    images = task.train.content
    assert isinstance(images, mc.datasets.ImageSet)
    changed = images.x.clone()
    changed[0, 0, 0, 0] ^= 1
    touched = mc.datasets.ImageSet(changed, images.y, images.classes)
    data = mc.datasets.cue_task(images, test=images, proportion=0.8).train
    other = mc.datasets.cue_task(touched, test=images, proportion=0.8).train
    assert identify(data) != identify(other)
    assert sample_at_most(task.clean, 500, 0) is sample_at_most(task.clean, None, 0) is task.clean
    assert identify(task.clean.sample(len(task.clean), 0)) == identify(task.clean)


def test_options_that_came_later_count_where_they_are_set() -> None:
    """At their defaults they leave keys as a release without them wrote them, which test_old_runs.py holds us to."""
    cues = [mc.BoxCue(), *mc.BoxCue().variants().values(), mc.BoxCue().placebo()]
    keys = {identify(mc.datasets.cue_task("digits", cue=cue, rows=30, test_rows=10).train).sha256 for cue in cues}
    assert len(keys) == len(cues) == 6


def test_cues_of_one_name_from_two_files_are_told_apart() -> None:
    kinds = [type("Stripe", (StripeCue,), {"__module__": module}) for module in ("mine", "mine", "yours")]
    mine, again, yours = (
        identify(mc.datasets.cue_task(images(), test=images(), cue=kind(), seed=0).train).sha256 for kind in kinds
    )
    assert mine == again != yours


def test_the_identity_of_data_does_not_keep_them_in_memory() -> None:
    data = mc.datasets.cue_task("planted", rows=10).train
    gone = weakref.ref(data)
    assert identify(data).key is None
    del data
    gc.collect()
    assert gone() is None


def test_records_call_data_what_they_are(task: CueTask) -> None:
    assert describe_rows(task.clean) == "120 training rows without a cue"
    drawn = int((task.train.cue_values != 9).sum())
    assert describe_rows(task.train) == f"120 training rows with a cue on {drawn} of them"


@pytest.mark.parametrize("network", ["small_convnet", "vgg13", "resnet18"])
def test_architectures_are_functions_of_the_seed(network: str) -> None:
    found = choose_architecture(network, 4, 10, (1, 16, 16))
    one, same_seed, other = (found.build(seed).state_dict() for seed in (0, 0, 1))
    assert same(one, same_seed) and not same(one, other)
    held = found.build_with_state(one)
    assert not held.training and same(held.state_dict(), one)
    assert held(torch.zeros(2, 1, 16, 16)).shape == (2, 10)


def test_inputs_that_are_no_images_get_a_perceptron() -> None:
    found = choose_architecture("vgg13", 8, 4, (16,))
    assert found.name == "perceptron" and found.build(0)(torch.zeros(3, 16)).shape == (3, 4)


def test_dominoes_fetch_both_image_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, bool]] = []

    def load(name: str, *, split: str = "train", download: bool = False, **_: object) -> mc.datasets.ImageSet:
        asked.append((name, split, download))
        pixels = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(20, 3, 32, 32).contiguous()
        return mc.datasets.ImageSet(pixels, torch.arange(20) % 10, tuple("abcdefghij"))

    monkeypatch.setattr(mc.datasets, "load", load)
    monkeypatch.setattr(_cues, "load", load)
    data = PRESETS["dominoes"].model_copy(update={"download": True})
    assert find_input_shape(load_task(data, 0.8, 0, None, None, str(tmp_path))) == (3, 64, 32)
    wanted = {(name, split, True) for name in ("cifar10", "fashion_mnist") for split in ("train", "test")}
    assert set(asked) == wanted


def test_notes_of_an_alignment_are_kept_for_the_record_of_the_run(
    context: ExperimentContext, task: CueTask, ends: tuple[StoredStep, StoredStep]
) -> None:
    same_end = align_step(context, "onto itself", ends[0], ends[0], task.clean, 0)
    assert same_end.numbers["notes"] == ["matching found no better order than the present one: B was not changed"]
    (note,) = align_step(context, "onto C", *ends, task.clean, 0).numbers["notes"]
    assert note.startswith(
        "B's units got A's signs and scales, which puts the weights farther apart, from a distance of "
    )
