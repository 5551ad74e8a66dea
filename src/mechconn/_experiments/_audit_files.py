"""An audit of two files of weights on data in files, as a configuration describes it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from mechconn import _errors, datasets
from mechconn._align import ActivationMatching, WeightMatching
from mechconn._audit import audit
from mechconn._batches import all_targets, as_data, batches
from mechconn._config import Config
from mechconn._evaluate import ROWS_ON_CPU
from mechconn._experiments._samples import strips
from mechconn._interventions import CUE, Suite
from mechconn._loading import load_model
from mechconn._norm_stats import NormPolicy, Reestimate, keeps_statistics
from mechconn._params import Network, parameters_of
from mechconn._precision import Precision
from mechconn._results import AuditRecord
from mechconn._typing import Progress
from mechconn.datasets._load import NAMES

NORM = "data of the norm statistics"


class ModelConfig(Config):
    """How the network is made: `factory(**arguments)`."""

    factory: str | None = Field(default=None, description="package.module:function; --model comes first")
    arguments: dict[str, Any] = Field(default={}, description="keyword arguments of the factory")


class ImageConfig(Config):
    """How images become inputs; see `mechconn.datasets.load_splits`."""

    size: int | None = Field(default=None, gt=0, description="side in pixels to which images are resized")
    rgb: bool = Field(default=False, description="give grey images three equal channels")
    mean: list[float] | None = Field(default=None, description="of each channel on [0, 1]; by default [-1, 1] is used")
    std: list[float] | None = Field(default=None, description="goes with mean")
    image: str | None = Field(default=None, description="column of the images, where a file leaves the choice open")
    label: str | None = Field(default=None, description="column of the classes, likewise")


class NormConfig(Config):
    """Where normalisation statistics come from along the path; needed by networks with BatchNorm."""

    data: str | None = Field(default=None, description="training data, given like a split")
    average: Literal["cumulative", "exponential"] = "cumulative"


class AuditConfig(Config):
    """What `audit.toml` may hold. Paths are relative to the file."""

    splits: dict[str, str] = Field(
        min_length=2, description="split -> a folder of class folders, a parquet or safetensors file"
    )
    reference: str = Field(default=CUE, description="the split that the interventions start from")
    interventions: list[str] | None = Field(default=None, description="default: all but the reference and no_cue")
    images: ImageConfig = ImageConfig()
    margin: float = Field(default=0.05, gt=0, allow_inf_nan=False, description="the largest effect that counts as none")
    on: Literal["accuracy", "loss"] = "accuracy"
    tolerance: float = Field(
        default=0.05, ge=0, allow_inf_nan=False, description="the largest barrier in nats that counts as none"
    )
    points: int = Field(default=11, ge=2, description="points on the path")
    alignment: Literal["auto", "activations", "weights", "none"] = "auto"
    blocks: int | str | None = Field(default=None, description="also the path block by block")
    layers: Literal["all"] | list[str] | None = Field(default=None, description="also linear CKA by layer")
    norm: NormConfig = NormConfig()
    model: ModelConfig = ModelConfig()


@dataclass(frozen=True)
class Prepared:
    """Everything read and checked, ready to run."""

    config: AuditConfig
    models: tuple[nn.Module, nn.Module]
    names: tuple[str, str]
    suite: Suite
    hashes: dict[str, str]
    norm: NormPolicy | None
    training: Any


def prepared(
    weights: tuple[Path, Path],
    factory: str | None,
    config: AuditConfig,
    folder: Path,
    seed: int = 0,
    root: Path | None = None,
) -> Prepared:
    """Read both models and all data.

    Args:
        weights: files of the two models' weights.
        factory: "package.module:function"; default: the configuration's.
        config: what to do.
        folder: what its paths are relative to.
        seed: of the weights before the files fill them.
        root: the folder that holds the named image sets; see `mechconn.datasets.load`.
    """
    models = [_loaded(file, factory or config.model.factory, config.model.arguments, seed) for file in weights]
    places = config.splits if config.norm.data is None else {**config.splits, NORM: config.norm.data}
    sources = {name: _place(folder, place) for name, place in places.items()}
    sets = datasets.load_splits(sources, root=root, **config.images.model_dump())
    trained = sets.pop(NORM, None)
    interventions = None if config.interventions is None else tuple(config.interventions)
    norm = None if trained is None else Reestimate(trained, config.norm.average, label=str(config.norm.data))
    if norm is None and (layers := list(keeps_statistics(Network(models[0])))):
        raise ValueError(_errors.NORM_DATA.format(layers=", ".join(layers[:3])))
    if norm is None and config.alignment == "activations":
        raise ValueError(_errors.NO_ALIGNMENT_DATA.format(alignment=config.alignment))
    suite = Suite(sets, config.reference, interventions)
    names = _names(weights)
    hashes = {name: _hash(file) for name, file in zip(names, weights, strict=True)}
    return Prepared(config, (models[0], models[1]), names, suite, hashes, norm, trained)


def _place(folder: Path, source: str) -> str:
    """A source relative to the configuration's folder; the name of a known image set as it stands."""
    known = source.partition("#")[0] in NAMES and not (folder / source.partition("#")[0]).exists()
    return source if known else str(folder / source)


def _loaded(file: Path, factory: str | None, arguments: dict[str, Any], seed: int) -> nn.Module:
    if factory is not None:
        return load_model(factory, file, arguments=arguments, seed=seed)
    if not file.is_dir():
        raise ValueError(_errors.NO_NETWORK.format(file=file))
    return load_model(str(file))


def _hash(weights: Path) -> str:
    """SHA-256 of a file, or of a folder's files of weights, in the order of their names."""
    files = [weights] if weights.is_file() else sorted(weights.glob("*.safetensors"))
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def _names(weights: tuple[Path, Path]) -> tuple[str, str]:
    stems = [file.stem if file.suffix else file.name for file in weights]
    return (stems[0], stems[1]) if stems[0] != stems[1] else (str(weights[0]), str(weights[1]))


def estimated_seconds(job: Prepared, device: str, precision: Precision) -> tuple[int, float]:
    """(forward passes of one row, seconds) that the audit will take, from one timed batch.

    Passes: each model on each split twice (effects, discrepancy), and every point of the one or two paths (and of
    each block) on each split and once over the data of the statistics.
    """
    network = Network(job.models[0], device, precision)
    point = network.load(parameters_of(job.models[0]))
    data = job.suite[job.suite.reference]
    inputs, targets = next(batches("split", data, batch_size=ROWS_ON_CPU, device=network.device))
    with torch.no_grad():
        try:
            network(point, network.buffers, inputs)
        except RuntimeError as error:
            shape = list(inputs.shape) if isinstance(inputs, torch.Tensor) else type(inputs).__name__
            raise ValueError(_errors.UNFIT_INPUTS.format(shape=shape, why=str(error).splitlines()[0])) from error
        started = time.perf_counter()
        float(network(point, network.buffers, inputs).sum())  # waits for a device that works on its own
        each = (time.perf_counter() - started) / len(targets)
    rows = sum(_rows(job.suite[name]) for name in job.suite)
    statistics = _rows(job.training) if job.training is not None and keeps_statistics(network) else 0
    lines = 1 if job.config.alignment == "none" else 2
    if job.config.blocks is not None:
        lines += len({name.split(".")[0] for name in point})
    passes = 4 * rows + lines * job.config.points * (rows + statistics)
    return passes, passes * each


def _rows(data: Any) -> int:
    return len(all_targets("data", as_data("data", data)))


def run_audit(
    job: Prepared,
    *,
    seed: int = 0,
    device: str | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> AuditRecord:
    """Audit what was prepared; a record with samples of every split, for the page."""
    config = job.config
    found = audit(
        *job.models,
        job.suite,
        job.norm,
        margin=config.margin,
        on=config.on,
        alignment=_alignment(job),
        ts=config.points,
        tolerance=config.tolerance,
        blocks=config.blocks,
        layers=config.layers,
        names=job.names,
        seed=seed,
        device=device,
        precision=precision,
        progress=progress,
    )
    plain = found.to_record()
    plain["settings"] |= {"config": config.model_dump(mode="json"), "sha256 of the weights": job.hashes}
    return AuditRecord.of(plain, strips(job.suite))


def _alignment(job: Prepared) -> Any:
    if job.config.alignment == "weights":
        return WeightMatching()
    if job.config.alignment == "activations":
        return ActivationMatching(job.training, label=str(job.config.norm.data))
    return job.config.alignment
