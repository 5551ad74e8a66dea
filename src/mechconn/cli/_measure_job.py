"""One model and one split, read and checked: what `mechconn reliances` and `mechconn dose` measure on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mechconn.cli._audit_config import ImageConfig
from mechconn.cli._audit_cost import time_row
from mechconn.cli._audit_models import ModelLoader
from mechconn.cli._audit_text import check_texts, list_cut_texts
from mechconn.cli._image_options import read_preprocessing
from mechconn.cli._measured_data import CONFIGURATION, MeasuredConfig, MeasuredData, list_texts_told, load_measured
from mechconn.cli._model_checks import check_model_fits_data, find_highest_class, order_by_names, read_metrics
from mechconn.cli._text_config import TextConfig
from mechconn.connectivity import read_first_rows
from mechconn.core import Compute, collect_errors
from mechconn.datasets import ImageSet, Suite, find_tokenizer_folder, load_splits, read_tokenizer
from mechconn.losses import Loss, read_loss
from mechconn.models import check_weights_there
from mechconn.network import Metric, Network


@dataclass(frozen=True)
class MeasureRequest:
    """What the command line names.

    Attributes:
        weights: file or folder of the model.
        factory: "package.module:function"; None: the configuration's, or the folder holds the network.
        base: of an adapter.
        key: which state of a file is read where it holds several.
        named: interventions; none for all that suit the data; None: the configuration's.
        rows: how many rows, evenly spaced; None: all.
        root: the folder that holds the named sets.
        seed: of everything that is drawn.
    """

    weights: Path
    factory: str | None
    base: Path | None
    key: str | None
    named: Sequence[Any] | None
    rows: int | None
    root: Path | None
    seed: int


@dataclass(frozen=True, eq=False)
class MeasureJob:
    """Everything read and checked, ready to measure.

    Attributes:
        model: the network.
        found: the rows and the interventions that are named.
        loss: a value per sample.
        metrics: by name.
        clusters: a label for each row; None where rows are independent.
        notes: what was done to fit model and data, and what to know of them.
    """

    model: nn.Module
    found: MeasuredData
    loss: Loss
    metrics: dict[str, Metric]
    clusters: Sequence[Any] | None
    notes: tuple[str, ...]

    @property
    def asked(self) -> dict[str, Any]:
        """What both measurements take beside their own."""
        config = self.found.config
        return {"on": config.on, "loss": self.loss, "metrics": self.metrics, "cluster": self.clusters}

    def estimate_seconds(self, times: int, compute: Compute) -> tuple[int, float]:
        """(forward passes of one row, seconds) for measuring on all rows so many times."""
        passes = times * len(self.found.data)
        return passes, passes * time_row(Network(self.model, compute), self.model, self.found.data)


def prepare_measurement(request: MeasureRequest, config: MeasuredConfig, folder: Path) -> MeasureJob:
    """Read the model and the rows; mistakes in any of them are reported together, a line each.

    Args:
        request: what the command line names.
        config: what to measure on.
        folder: what its paths are relative to.

    Raises:
        ValueError, FileNotFoundError: files that are not there or cannot be read, a model and data that do not fit each
            other or the configuration.
    """
    said: list[str] = []
    weights, own = request.weights, config.model
    loader = ModelLoader(
        request.factory or own.factory,
        own.arguments,
        request.base,
        own.key if request.key is None else request.key,
        request.seed,
        said.append,
    )

    def tell_texts() -> Mapping[str, Any]:
        return list_texts_told(config, folder, (weights,), request.base, None)

    model, found, loss, metrics, *_ = collect_errors(
        lambda: loader.load(weights),
        lambda: load_measured(config, folder, request.named, tell_texts, request.root, request.seed, request.rows),
        lambda: read_loss(config.loss),
        lambda: read_metrics(config),
        lambda: loader.check_base([weights]),
        lambda: check_weights_there(weights),
    )
    suite = Suite({found.name: found.data}, found.name)
    named = [(weights.stem if weights.suffix else weights.name, model)]
    example, targets = read_first_rows(suite, torch.device("cpu"), request.seed)
    highest = find_highest_class(found.data, loss) if loss.classes_are_outputs else -1
    check_texts(named, suite, example)
    check_model_fits_data(*named[0], example, targets, highest, loss)
    ordered = order_by_names(config, named, suite, example, loss)
    measured = f"{weights} (SHA-256 {loader.hash_weights(weights)[:12]}) on {len(found.data):,} rows of {found.source}"
    notes = (measured, *dict.fromkeys(said), *list_cut_texts(found.read.read), *ordered, *_note_scale(found, config))
    return MeasureJob(model, found, loss, metrics, found.clusters, notes)


def _note_scale(found: MeasuredData, config: MeasuredConfig) -> list[str]:
    """A note where nothing says on which scale the network takes images."""
    if config.images.mean is not None or not isinstance(found.data, ImageSet):
        return []
    return [
        "images are in [-1, 1]; of a network that was trained with a mean and std pass --mean and --std, or as DATA an "
        "audit.toml with [images] mean = [...] and std = [...]"
    ]


def adopt_preprocessing(
    config: MeasuredConfig, source: str, weights: Path, base: Path | None, root: Path | None
) -> MeasuredConfig:
    """The configuration of data that were named by themselves, with the inputs that a saved classifier takes.

    A configuration in a file says itself what inputs are, and stays as it is.
    """
    if Path(source).suffix == CONFIGURATION or not weights.is_dir():
        return config
    (place,) = config.splits.values()
    tokenizer = None if _holds_tensors(place) else _find_tokenizer(weights, base)
    if tokenizer is not None:
        return config.model_copy(update={"text": TextConfig(max_length=read_tokenizer(tokenizer).limit)})
    scale = read_preprocessing(weights) or ({} if base is None else read_preprocessing(base))
    if not scale or not (_holds_images(place, root) if _holds_tensors(place) else True):
        return config
    coloured = len(scale.get("mean", ())) == 3  # grey images get as many channels
    return config.model_copy(update={"images": ImageConfig(**scale, rgb=coloured)})


def _holds_tensors(place: str) -> bool:
    return Path(place).suffix == ".safetensors"


def _holds_images(place: str, root: Path | None) -> bool:
    return Path(place).is_file() and isinstance(load_splits({"": place}, root=root)[""], ImageSet)


def _find_tokenizer(weights: Path, base: Path | None) -> Path | None:
    try:
        return find_tokenizer_folder(weights, base)
    except ValueError:
        return None


def note_on(result: Any, notes: Sequence[str]) -> Any:
    """A result with further notes, before its own."""
    return replace(result, notes=(*(note.removesuffix(".") for note in notes), *result.notes))
