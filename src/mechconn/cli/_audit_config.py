"""What a configuration file of an audit may hold."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import Field, StrictInt, field_validator, model_validator

from mechconn.core import CUE, Config, check_choice
from mechconn.datasets import Quoting
from mechconn.mechanisms import AGREE, CONFLICT

PlainValue: TypeAlias = str | int


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


class MetricConfig(Config):
    """A metric that is known to lie in a range; its intervals hold for every distribution."""

    function: str = Field(description="package.module:function, a value per sample of (outputs, targets)")
    bounds: tuple[float, float] = Field(description="least and largest possible value")


class NormConfig(Config):
    """Where normalisation statistics come from along the path; needed by networks with BatchNorm."""

    data: str | None = Field(default=None, description="training data, given like a split")
    policy: Literal["reestimate", "interpolate", "keep", "repair"] | None = Field(
        default=None,
        description="reestimate (default with data): one pass over the data at every point, also at both ends; "
        "interpolate: both ends as saved, means and variances mixed between them; keep: those of the first network "
        "everywhere; repair: for networks without statistics, units get the spread back that averaging weights took",
    )
    average: Literal["cumulative", "exponential"] = Field(
        default="cumulative", description="of the batches, where statistics are re-estimated"
    )

    @field_validator("policy")
    @classmethod
    def _has_data(cls, policy: str | None, info: Any) -> str | None:
        if policy in ("reestimate", "repair") and info.data.get("data", "wrong") is None:
            raise ValueError(f'{policy!r} reads training data; name them under [norm], data = "..."')
        return policy

    @field_validator("average")
    @classmethod
    def _goes_with_batches(cls, average: str, info: Any) -> str:
        policy = info.data.get("policy")
        if policy not in (None, "reestimate"):
            raise ValueError(f"goes with policy = 'reestimate', and policy = {policy!r} averages no batches")
        return average


class AuditConfig(Config):
    """What `audit.toml` may hold. Paths are relative to the file."""

    by: str | None = Field(
        default=None,
        description='a column of the one split: its rows become the splits "agree", the reference, and "conflict"',
    )
    agrees: dict[str, PlainValue | list[PlainValue]] = Field(
        default={}, description="with by: class -> the value that agrees with it, or a list; default: the majority's"
    )
    majority: str | None = Field(
        default=None,
        description="with by: the training data, given like a split, whose majority counts; default: the split",
    )
    cluster: str | None = Field(
        default=None,
        description="a column of every split: rows of one value may depend on each other (patients, scenes), and "
        "intervals are over clusters; default: rows are independent",
    )
    splits: dict[str, str] = Field(
        description="split -> a folder of class folders, a csv, parquet or safetensors file; one with by, else more"
    )
    reference: str = Field(
        default=CUE, description='the split that the interventions start from; default with by: "agree"'
    )
    interventions: list[str] | None = Field(default=None, description="default: all but the reference and no_cue")
    images: ImageConfig = ImageConfig()
    margin: float = Field(default=0.05, gt=0, allow_inf_nan=False, description="the largest effect that counts as none")
    loss: str | dict[str, Any] | None = Field(
        default=None,
        description="cross_entropy (default), binary, squared, absolute, over_positions, or a table of such a name and "
        "options; or package.module:function, a value per sample",
    )
    metrics: dict[str, str | MetricConfig] = Field(
        default={}, description="name -> package.module:function, or a table"
    )
    on: str = Field(default="accuracy", description='"accuracy", "loss", or the name of a metric')
    paired: bool | None = Field(
        default=None,
        description="whether row i of every split shows the same sample; default: known of images in files of one name",
    )
    tolerance: float = Field(
        default=0.05, ge=0, allow_inf_nan=False, description="the largest barrier in loss that counts as none"
    )
    points: int = Field(default=11, ge=3, description="points on the path")
    alignment: Literal["auto", "activations", "weights", "none"] = "auto"
    blocks: StrictInt | str | None = Field(default=None, description="also the path block by block")
    layers: Literal["all"] | list[str] | None = Field(default=None, description="also linear CKA by layer")
    ignore: list[str] = Field(
        default=[], description="buffers that are no part of what is computed, such as a counter of steps"
    )
    norm: NormConfig = NormConfig()
    model: ModelConfig = ModelConfig()

    @model_validator(mode="before")
    @classmethod
    def _default_reference(cls, values: Any) -> Any:
        """Rows that agree are the reference where the data are divided by a column."""
        divided = isinstance(values, dict) and values.get("by") is not None
        return {"reference": AGREE, **values} if divided else values

    @field_validator("agrees", "majority")
    @classmethod
    def _with_by(cls, value: Any, info: Any) -> Any:
        if value and info.data.get("by", False) is None:
            raise ValueError('goes with by = "column", which is not set')
        return value

    @field_validator("norm")
    @classmethod
    def _fits_the_rest(cls, norm: NormConfig, info: Any) -> NormConfig:
        policy, alignment = norm.policy, info.data.get("alignment")
        if norm.data is not None and policy in ("interpolate", "keep") and alignment in ("auto", "weights", "none"):
            raise ValueError(
                f"policy = {policy!r} reads no data, and alignment = {alignment!r} does not either; leave out "
                f"data = {norm.data!r}, or set alignment = 'activations'"
            )
        if info.data.get("blocks") is not None and policy in ("interpolate", "repair"):
            raise ValueError(
                f"policy = {policy!r} needs a path between two networks, which a block that moves alone does not "
                "have; leave out blocks, or set policy = 'reestimate' or 'keep'"
            )
        return norm

    @field_validator("on")
    @classmethod
    def _is_measured(cls, on: str, info: Any) -> str:
        return check_choice("on", on, ("accuracy", "loss", *info.data.get("metrics", ())))

    @field_validator("splits")
    @classmethod
    def _as_many(cls, splits: dict[str, str], info: Any) -> dict[str, str]:
        by = info.data.get("by", False)  # False where it is wrong itself
        if by and len(splits) != 1:
            raise ValueError(f"by = {by!r} divides one split into {AGREE!r} and {CONFLICT!r}, got {len(splits)}")
        if by is None and len(splits) < 2:
            raise ValueError(f'two splits or more are needed, or by = "column" with one, got {len(splits)}')
        return splits

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits of the suite."""
        return tuple(self.splits) if self.by is None else (AGREE, CONFLICT)
