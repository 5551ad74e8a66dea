"""Steps give what the library's verbs give, exactly, and their keys tell apart what gives other numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mechconn as mc
from mechconn.paper import PRESETS, Architecture, choose_architecture
from mechconn.paper._hashed_tasks import HashedTask, make_hashed_data, make_task
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
from mechconn.store import Store, StoredStep

QUICK = mc.Training(epochs=1, batch_size=32, lr=0.05, milestones=())
TUNED = mc.CBFT(epochs=2, batch_size=32)
FIT = mc.BezierFit(epochs=1, batch_size=32)
NET = Architecture("small_convnet", 10, (3, 28, 28), 4)


@pytest.fixture(scope="module")
def task() -> HashedTask:
    return make_task(PRESETS["digits"], 0.8, 0, 120, 60, None)


@pytest.fixture
def context(tmp_path: Path) -> ExperimentContext:
    return ExperimentContext(Store(tmp_path), threads=torch.get_num_threads(), architecture=NET)


@pytest.fixture
def ends(context: ExperimentContext, task: HashedTask) -> tuple[StoredStep, StoredStep]:
    return train_step(context, "C", task.train, QUICK, 0), train_step(context, "NC", task.clean, QUICK, 1)


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Bit for bit; files keep an order of their own."""
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_train_and_fine_tune(context: ExperimentContext, task: HashedTask, ends: tuple[StoredStep, StoredStep]) -> None:
    trained = mc.train(NET.build(0), task.train.data, QUICK, seed=0)
    assert same(ends[0].tensors[WEIGHTS], trained.model.state_dict())
    assert ends[0].numbers == {"history": [dict(epoch) for epoch in trained.history], "samples": 120}
    clean = task.clean.sample(60, 0)
    found = tune_step(context, "CBFT", ends[0], TUNED, clean, task.train, 3)
    tuned = mc.fine_tune(trained.model, TUNED, clean=clean.data, cued=task.train.data, seed=3)
    assert same(found.tensors[WEIGHTS], tuned.model.state_dict())


def test_measure(context: ExperimentContext, task: HashedTask, ends: tuple[StoredStep, StoredStep]) -> None:
    found = measure_step(context, "C", ends[0], task, 0.05).numbers
    direct = mc.measure_invariance(context.model(ends[0]), task.suite, 0.05)
    assert found["accuracy"] == direct.accuracy and found["loss"] == direct.loss
    assert found["effects"]["rand_cue"]["effect"] == direct["rand_cue"].effect


def test_paths(context: ExperimentContext, task: HashedTask, ends: tuple[StoredStep, StoredStep]) -> None:
    a, b = ends
    some = task.clean.sample_at_most(50, 0)
    norm = mc.Reestimate(some.data, label="clean")
    moved = align_step(context, "onto C", a, b, some, 0)
    fit = fit_step(context, "fitted", a, b, FIT, task.train, 2)
    aligned = mc.align(context.model(a), context.model(b), mc.ActivationMatching(some.data), seed=0)
    curve = mc.fit_path(context.model(a), context.model(a), context.model(b), FIT, task.train.data, seed=2).path
    expected = {
        "linear": (mc.LinearPath.between(context.model(a), context.model(b)), b, None),
        "aligned": (mc.LinearPath.between(context.model(a), aligned.model), moved, None),
        "fitted": (curve, b, (FIT, fit)),
    }
    losses = set()
    for name, (path, end, fitted) in expected.items():
        found = evaluate_step(context, name, a, end, task, some, 3, 0.05, fitted).numbers
        direct = mc.evaluate_path(context.model(a), path, task.suite, ts=3, norm=norm, keep_samples=True)
        assert found["loss"] == {split: list(values) for split, values in direct.loss.items()}
        assert found["barrier"]["cue"] == [direct.barrier("cue").height, direct.barrier("cue").t]
        saved = mc.measure_invariance(context.model(a), task.suite, 0.05)
        assert found["saved"][0]["accuracy"] == saved.accuracy
        assert [shift["end"] for shift in found["shifted"]] == [shift.end for shift in direct.shifted_ends()]
        losses.add(found["loss"]["cue"][1])
    assert len(losses) == 3


def test_a_step_is_known_by_everything_that_it_depends_on(
    context: ExperimentContext, task: HashedTask, tmp_path: Path
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


def test_data_are_known_by_their_content(task: HashedTask) -> None:
    again = make_task(PRESETS["digits"], 0.8, 0, 120, 60, "elsewhere")
    assert again is not task and again.train.input == task.train.input and again.suite_input == task.suite_input
    others = [
        make_task(PRESETS["digits"], 0.7, 0, 120, 60, None).train,
        make_task(PRESETS["digits"], 0.8, 1, 120, 60, None).train,
        make_task(PRESETS["digits"], 0.8, 0, 121, 60, None).train,
        task.clean,
        task.clean.sample(60, 0),
        task.clean.sample(60, 1),
    ]
    assert len({task.train.input.sha256, *(other.input.sha256 for other in others)}) == 7
    images = task.train.data.content
    assert isinstance(images, mc.datasets.ImageSet)
    changed = images.x.clone()
    changed[0, 0, 0, 0] ^= 1
    touched = mc.datasets.ImageSet(changed, images.y, images.classes)
    data = mc.datasets.cue_task(images, test=images, proportion=0.8).train
    other = mc.datasets.cue_task(touched, test=images, proportion=0.8).train
    assert make_hashed_data(data, "").input != make_hashed_data(other, "").input
    assert task.clean.sample_at_most(500, 0) is task.clean


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
    data = PRESETS["dominoes"].model_copy(update={"download": True})
    assert make_task(data, 0.8, 0, None, None, str(tmp_path)).shape == (3, 64, 32)
    wanted = {(name, split, True) for name in ("cifar10", "fashion_mnist") for split in ("train", "test")}
    assert set(asked) == wanted
