"""The whole story on one page: a shortcut is learned, the path to a clean model is walked, fine-tuning is tried."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import nn

from mechconn import datasets, models
from mechconn.connectivity import Profile, evaluate_path
from mechconn.core import (
    Compute,
    Config,
    Data,
    Precision,
    Progress,
    ProgressEvent,
    check_precision,
    hash_settings,
    raise_mistakes_as_lines,
    read_environment,
)
from mechconn.datasets import DATASET_NAMES
from mechconn.descent import Method, Trained, Training, train
from mechconn.mechanisms import Invariance, InvarianceRecord, PathRecord, measure_invariance
from mechconn.network import Reestimate
from mechconn.paper._demo_findings import write_findings
from mechconn.paths import LinearPath
from mechconn.report import DemoRecord, make_strips
from mechconn.tuning import CBFT, NaiveFineTuning, fine_tune


class DemoSettings(Config):
    """Everything that the demo's numbers depend on, beside the machine; the defaults are those of the digits."""

    seed: Annotated[int, Field(ge=0, description="of data, weights, order and counterfactuals")] = 0
    data: Annotated[str, Field(description="name of an image set, or the path of its folder")] = "digits"
    rows: Annotated[int | None, Field(ge=2, description="training samples; none takes all")] = None
    test_rows: Annotated[int | None, Field(ge=2, description="test samples; none takes all")] = None
    draws: Annotated[int, Field(ge=1, description="how often the random cue and the random image are drawn")] = 5
    proportion: Annotated[float, Field(ge=0, le=1, description="share of each class with the cue in training")] = 0.8
    network: Annotated[Literal["small_convnet", "vgg13"], Field(description="architecture")] = "small_convnet"
    width: Annotated[int, Field(ge=1, description="channels of small_convnet's first convolution")] = 24
    clean_samples: Annotated[
        int | None, Field(ge=2, description="clean samples for fine-tuning; none takes half of the training samples")
    ] = 600
    training: Training = Training(epochs=5, batch_size=64, lr=0.1, milestones=(3, 4))
    naive: NaiveFineTuning = NaiveFineTuning(lr=0.01, epochs=20, batch_size=60)
    cbft: CBFT = CBFT(lr=0.01, epochs=20, batch_size=60, cued_proportion=0.9)
    points: Annotated[int, Field(ge=2, description="points on the path")] = 11
    tolerance: Annotated[float, Field(ge=0, description="rise in nats that still counts as connected")] = 0.05
    margin: Annotated[float, Field(gt=0, description="largest effect on accuracy that counts as none")] = 0.05
    precision: Annotated[
        Precision, BeforeValidator(check_precision), Field(description="number type of the layers")
    ] = "model"


@raise_mistakes_as_lines(DemoSettings)
def choose_demo_settings(data: str, seed: int) -> DemoSettings:
    """The settings that suit an image set: the defaults for the digits, else VGG-13.

    Of the large named sets the demo takes 5,000 training and 1,000 test images; of a set given by its folder, all.
    """
    if data == "digits":
        return DemoSettings(seed=seed)
    if data == "planted":
        raise ValueError("planted data are no images; give --data digits, another image set or its folder")
    named = data in DATASET_NAMES
    return DemoSettings(
        seed=seed,
        data=data,
        rows=5000 if named else None,
        test_rows=1000 if named else None,
        network="vgg13",
        clean_samples=2500 if named else None,
        training=Training(epochs=12, batch_size=128, lr=0.05, milestones=(8, 10)),
        naive=NaiveFineTuning(lr=0.01),
        cbft=CBFT(lr=0.01),
        precision="auto",
    )


def run_demo(
    settings: DemoSettings,
    *,
    root: str | Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> DemoRecord:
    """Train with and without the cue, walk the path between, fine-tune twice, and say what each model relies on.

    Args:
        settings: what to do; see `choose_demo_settings`.
        root: the folder that holds the image sets; see `mechconn.datasets.load`.
        device: where to compute; default: the CPU.
        progress: called with the steps done of each stage.
    """
    stages = _StageTimer(progress, total=8)
    with stages.stage("reading the data"):
        task = datasets.cue_task(
            settings.data,
            proportion=settings.proportion,
            seed=settings.seed,
            root=root,
            rows=settings.rows,
            test_rows=settings.test_rows,
            draws=settings.draws,
        )
        fresh = _make_network(settings, task)
        clean = task.clean.sample(settings.clean_samples or len(task.clean) // 2, settings.seed)
    run = Compute(device, settings.precision)

    def trained(name: str, data: Data) -> nn.Module:
        with stages.stage(f"training {name}") as shown:
            result = train(fresh, data, settings.training, seed=settings.seed, compute=run, progress=shown)
        return result.model

    def tuned(name: str, method: Method) -> Trained:
        with stages.stage(f"fine-tuning by {name}") as shown:
            how = replace(run, progress=shown)
            return fine_tune(theta_c, method, clean=clean, cued=task.train, seed=settings.seed, compute=how)

    theta_c, theta_nc = trained("theta_C", task.train), trained("theta_NC", task.clean)
    with stages.stage("walking the straight path") as shown:
        profile = evaluate_path(
            fresh,
            LinearPath.between(theta_c, theta_nc),
            task.suite,
            ts=settings.points,
            norm=Reestimate(task.clean, label="training data without the cue"),
            keep_samples=True,
            compute=run,
            progress=shown,
        )
    by_name = {
        "theta_C": theta_c,
        "theta_NC": theta_nc,
        "FT-M": tuned("FT-M", settings.naive).model,
        "CBFT": tuned("CBFT", settings.cbft).model,
    }
    with stages.stage("measuring invariance") as shown:
        measured: dict[str, Invariance] = {}
        for number, (name, model) in enumerate(by_name.items()):
            measured[name] = measure_invariance(model, task.suite, settings.margin, compute=run)
            shown(ProgressEvent(name, number + 1, len(by_name)))
    with stages.stage("drawing samples"):
        pictures = make_strips(task.suite)
    path = PathRecord.model_validate(profile.to_record("theta_C", "theta_NC", settings.tolerance))
    invariance = {name: InvarianceRecord.model_validate(value.to_record()) for name, value in measured.items()}
    plain = _to_plain_settings(settings, task, len(clean), fresh, profile)
    return DemoRecord(
        seed=settings.seed,
        seconds=stages.seconds(),
        settings=plain,
        settings_hash=hash_settings(plain),
        accuracy={name: value.accuracy for name, value in invariance.items()},
        invariance=invariance,
        path=path,
        findings=write_findings(invariance, path),
        timings=stages.timings,
        environment=read_environment(str(profile.settings["device"])),
        pictures=pictures,
    )


def _make_network(settings: DemoSettings, task: datasets.CueTask) -> nn.Module:
    """Fresh weights, a function of the seed."""
    channels = task.clean.inputs(torch.tensor([0])).shape[1]
    if settings.network == "vgg13":
        return models.vgg13(task.num_classes, channels=channels, seed=settings.seed)
    return models.small_convnet(task.num_classes, settings.width, channels=channels, seed=settings.seed)


class _StageTimer:
    """Numbers and times the stages of a run, and reports their names as progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._number = progress, total, 0
        self._started = time.perf_counter()
        self.timings: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """One stage; gives what its own progress is reported through."""
        self._number += 1
        label, started = f"[{self._number}/{self._total}] {name}", time.perf_counter()

        def shown(event: ProgressEvent) -> None:
            if self._progress is not None:
                self._progress(replace(event, stage=label))

        shown(ProgressEvent(label, 0, 1))
        yield shown
        self.timings[name] = time.perf_counter() - started

    def seconds(self) -> float:
        """Wall-clock time since the start."""
        return time.perf_counter() - self._started


def _to_plain_settings(
    settings: DemoSettings, task: datasets.CueTask, clean_samples: int, model: nn.Module, profile: Profile
) -> dict[str, Any]:
    return {
        **settings.model_dump(mode="json"),
        "number_type": profile.settings["precision"],
        "train_samples": len(task.train),
        "clean_samples": clean_samples,
        "test_samples": dict(profile.samples),
        "parameters": sum(p.numel() for p in model.parameters()),
        "norm": profile.settings["norm"],
        "path": "straight line over all parameters, not aligned",
    }
