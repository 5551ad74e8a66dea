"""What `[relearn]` and `[probe]` of a configuration file of an audit may hold."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from mechconn.core import Config
from mechconn.descent import AnyOptimizer, describe_optimiser
from mechconn.mechanisms import Relearning

COLUMN_ONLY = "column_only"
"""With by: the split in which nothing but the column predicts the label."""


class PlaceboConfig(Config):
    """A mechanism of the same kind that no network met."""

    data: str = Field(
        description="rows to tune on, given like a split: those of [relearn] data with the placebo",
        examples=["placebo/train"],
    )
    split: str = Field(
        description="rows to measure on, given like a split: those of [relearn] split with the placebo",
        examples=["placebo/test"],
    )


class RelearnConfig(Config):
    """Gone or hidden: copies of both networks are tuned on rows in which a mechanism is necessary."""

    data: str = Field(
        description="rows in which nothing but the mechanism predicts, given like a split and none of those measured; "
        "with by any rows, of which such are drawn in which the column predicts the label and nothing else does",
        examples=["relearn/train"],
    )
    rows: int | None = Field(
        default=None, gt=0, description="how many of them are tuned on; default: all", examples=[100]
    )
    split: str | None = Field(
        default=None,
        description="the split on which accuracy is measured meanwhile, where nothing but the mechanism predicts; "
        f'with by: "{COLUMN_ONLY}", made of the one split, and the default',
        examples=["rand_image"],
    )
    control: str | None = Field(
        default=None,
        description="weights of a network that never met the mechanism, tuned alike: a file or a saved folder, read "
        "as A and B are",
        examples=["never.safetensors"],
    )
    placebo: PlaceboConfig | None = Field(
        default=None, description="in place of a control, and weaker: each network relearns another mechanism"
    )
    intervention: str | None = Field(
        default=None,
        description="the split that takes the mechanism's information away; default: rand_cue, or the only one",
        examples=["rand_cue"],
    )
    steps: list[int] = Field(
        default=list(Relearning().steps), description="steps after which accuracy is measured, from 0, ascending"
    )
    lr: float | list[float] = Field(
        default=0.01,
        description="learning rate; of a list each network counts with its best, the strongest attack; default: 0.01, "
        "and with another optimizer its own",
    )
    seeds: int = Field(default=5, description="orders of the rows, two or more; the interval is over them too")
    batch_size: int = Field(default=20, description="rows of a step")
    optimizer: AnyOptimizer = Field(
        default="sgd",
        description='"sgd", "adam", "adamw", a table {name = "adamw", betas = [0.9, 0.98]}, or package.module:name',
    )
    warmup: int = Field(default=0, description="steps in which the learning rate rises to lr")

    @field_validator("steps", "lr", "seeds", "batch_size")
    @classmethod
    def _is_setting(cls, value: Any, info: Any) -> Any:
        setting: dict[str, Any] = {info.field_name: tuple(value) if isinstance(value, list) else value}
        Relearning(**setting)
        return value

    @model_validator(mode="after")
    def _is_protocol(self) -> RelearnConfig:
        assert self.relearning
        return self

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Records of SGD without warm-up are what they were before there was anything else."""
        plain = serialise(self)
        own = {"optimizer": describe_optimiser(self.optimizer), "warmup": self.warmup}
        return {key: own.get(key, v) for key, v in plain.items() if own.get(key) not in ("sgd", 0)}

    @model_validator(mode="after")
    def _is_compared(self) -> RelearnConfig:
        if (self.control is None) == (self.placebo is None):
            got = "neither" if self.control is None else "both"
            raise ValueError(
                'needs control = "weights of a network that never met the mechanism" or '
                f'placebo = {{data = "...", split = "..."}}, got {got}'
            )
        return self

    @property
    def relearning(self) -> Relearning:
        """The protocol; how many rows are tuned on is settled where the data are read."""
        names = self.model_fields_set & {"steps", "lr", "seeds", "batch_size", "optimizer", "warmup"}
        values = ((name, getattr(self, name)) for name in names)
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values}
        return Relearning(**given)


class ProbeConfig(Config):
    """What the frozen features of both networks hold, layer by layer, by logistic regression."""

    target: str = Field(default="label", description='"label", or a column of the split, such as "cue"')
    split: str | None = Field(
        default=None,
        description="the split that is read; default: the reference, with by the one that is divided",
        examples=["test"],
    )
    layers: Literal["all"] | list[str] | None = Field(
        default=None,
        description='names, or "all"; default: those that own parameters, and the features',
        examples=["all"],
    )
    control: str | None = Field(
        default=None, description="as under [relearn], and by default that of [relearn]", examples=["never.safetensors"]
    )
