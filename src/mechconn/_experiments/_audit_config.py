"""What a configuration file of an audit may hold."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, StrictInt

from mechconn._config import Config
from mechconn._interventions import CUE
from mechconn.datasets._delimited import Quoting


class ModelConfig(Config):
    """How the network is made: `factory(**arguments)`."""

    factory: str | None = Field(default=None, description="package.module:function; --model comes first")
    arguments: dict[str, Any] = Field(default={}, description="keyword arguments of the factory")
    label_names: Literal["check", "ignore"] = Field(
        default="check", description="outputs of saved classifiers are matched to classes by name (id2label), or not"
    )


class ImageConfig(Config):
    """How images become inputs; see `mechconn.datasets.load_splits`."""

    size: int | None = Field(default=None, gt=0, description="side in pixels to which images are resized")
    rgb: bool = Field(default=False, description="give grey images three equal channels")
    mean: list[float] | None = Field(default=None, description="of each channel on [0, 1]; by default [-1, 1] is used")
    std: list[float] | None = Field(default=None, description="goes with mean")
    image: str | None = Field(default=None, description="column of the images, where a file leaves the choice open")
    label: str | None = Field(default=None, description="column of the classes, likewise")
    quoting: Quoting = Field(default="auto", description="of tables: marks quote (minimal), are text (none), or auto")
    download: bool = Field(default=False, description='fetch "owner/name#split" from the hub into --root')


class NormConfig(Config):
    """Where normalisation statistics come from along the path; needed by networks with BatchNorm."""

    data: str | None = Field(default=None, description="training data, given like a split")
    average: Literal["cumulative", "exponential"] = "cumulative"


class AuditConfig(Config):
    """What `audit.toml` may hold. Paths are relative to the file."""

    splits: dict[str, str] = Field(
        min_length=2, description="split -> a folder of class folders, a csv, parquet or safetensors file"
    )
    reference: str = Field(default=CUE, description="the split that the interventions start from")
    interventions: list[str] | None = Field(default=None, description="default: all but the reference and no_cue")
    images: ImageConfig = ImageConfig()
    margin: float = Field(default=0.05, gt=0, allow_inf_nan=False, description="the largest effect that counts as none")
    on: Literal["accuracy", "loss"] = "accuracy"
    loss: str | None = Field(default=None, description="package.module:function, a value per sample; default: nats")
    tolerance: float = Field(
        default=0.05, ge=0, allow_inf_nan=False, description="the largest barrier in loss that counts as none"
    )
    points: int = Field(default=11, ge=3, description="points on the path")
    alignment: Literal["auto", "activations", "weights", "none"] = "auto"
    blocks: StrictInt | str | None = Field(default=None, description="also the path block by block")
    layers: Literal["all"] | list[str] | None = Field(default=None, description="also linear CKA by layer")
    norm: NormConfig = NormConfig()
    model: ModelConfig = ModelConfig()
