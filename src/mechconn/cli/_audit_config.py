"""What a configuration file of an audit may hold."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, StrictInt, field_validator, model_validator

from mechconn.alignment import AlignmentMethod
from mechconn.cli._groups_config import GroupsConfig
from mechconn.cli._merge_config import MergeConfig
from mechconn.cli._named_settings import Named, show_names
from mechconn.cli._named_settings import read_name as read_name
from mechconn.cli._named_settings import reads_data as reads_data
from mechconn.cli._relearn_config import COLUMN_ONLY, ProbeConfig, RelearnConfig
from mechconn.cli._text_config import TextConfig
from mechconn.core import CUE, Config, check_choice, list_kinds, list_options
from mechconn.datasets import Layout, Quoting
from mechconn.interventions import Intervention
from mechconn.mechanisms import AGREE, CONFLICT
from mechconn.network import NormPolicy

PlainValue: TypeAlias = str | int
UNNAMED = ("auto", "none")
"""What stands for no method of alignment by name."""


class ModelConfig(Config):
    """How the network is made: `factory(**arguments)`."""

    factory: str | None = Field(
        default=None, description="package.module:function; --model comes first", examples=["my_models:build"]
    )
    arguments: dict[str, Any] = Field(
        default={}, description="keyword arguments of the factory", examples=[{"width": 8}]
    )
    key: str | None = Field(
        default=None,
        description="which state of files that hold several, such as state_dict_ema; --key comes first",
        examples=["state_dict_ema"],
    )
    label_names: Literal["check", "ignore"] = Field(
        default="check", description="outputs of saved classifiers are matched to classes by name (id2label), or not"
    )


class ImageConfig(Config):
    """How images become inputs; see `mechconn.datasets.load_splits`."""

    size: int | None = Field(
        default=None, gt=0, description="side in pixels to which images are resized", examples=[32]
    )
    rgb: bool = Field(default=False, description="give grey images three equal channels")
    mean: list[float] | None = Field(
        default=None,
        description="of each channel on [0, 1]; by default [-1, 1] is used",
        examples=[[0.485, 0.456, 0.406]],
    )
    std: list[float] | None = Field(default=None, description="goes with mean", examples=[[0.229, 0.224, 0.225]])
    image: str | None = Field(
        default=None, description="column of the images, where a file leaves the choice open", examples=["file"]
    )
    label: str | None = Field(default=None, description="column of the classes, likewise", examples=["label"])
    quoting: Quoting = Field(default="auto", description="of tables: marks quote (minimal), are text (none), or auto")
    folder: str | None = Field(
        default=None, description="where the images of tables are; by default beside the table", examples=["images"]
    )
    partition: str | None = Field(
        default=None,
        description="a second table, with the split of every image, such as list_eval_partition.txt",
        examples=["list_eval_partition.txt"],
    )
    threshold: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="of columns of fractions, labels and those named in this file, not clusters: 1 is this number or "
        "more, 0 less",
        examples=[0.5],
    )
    layout: Layout = Field(
        default="auto",
        description="folders in a folder are classes, domains with classes in them, or as they look (auto)",
    )
    download: bool = Field(default=False, description='fetch "owner/name#split" from the hub into --root')


class MetricConfig(Config):
    """A metric that is known to lie in a range; its intervals hold for every distribution."""

    function: str = Field(description="package.module:function, a value per sample of (outputs, targets)")
    bounds: tuple[float, float] = Field(description="least and largest possible value")


class NormConfig(Config):
    """Where normalisation statistics come from along the path; needed by networks with BatchNorm."""

    data: str | None = Field(default=None, description="training data, given like a split", examples=["train"])
    policy: Annotated[str | dict[str, Any], show_names(NormPolicy)] | None = Field(
        default=None,
        description="reestimate (default with data): one pass over the data at every point, also at both ends; "
        "interpolate: both ends as saved, means and variances mixed between them; keep: those of the first network "
        "everywhere; repair: for networks without statistics, units get the spread back that averaging weights took; "
        "package.module:Class, a NormPolicy of your own; or a table of such a name and options",
        examples=["reestimate"],
    )
    average: Literal["cumulative", "exponential"] = Field(
        default="cumulative", description="of the batches, where statistics are re-estimated"
    )

    @field_validator("policy")
    @classmethod
    def _has_data(cls, policy: Named | None, info: Any) -> Named | None:
        if policy is not None and reads_data("policy", NormPolicy, policy) and info.data.get("data", "wrong") is None:
            raise ValueError(f'{policy!r} reads training data; name them under [norm], data = "..."')
        return policy

    @field_validator("average")
    @classmethod
    def _goes_with_batches(cls, average: str, info: Any) -> str:
        policy = info.data.get("policy")
        if policy is not None and "average" not in list_options("policy", NormPolicy, policy):
            raise ValueError(f"goes with policy = 'reestimate', and policy = {policy!r} averages no batches")
        return average


class AuditConfig(Config):
    """What `audit.toml` may hold. Paths are relative to the file."""

    fewest_splits: ClassVar[int] = 2

    by: str | None = Field(
        default=None,
        description='a column of the one split: its rows become the splits "agree", the reference, and "conflict"',
        examples=["place"],
    )
    agrees: dict[str, PlainValue | list[PlainValue]] = Field(
        default={},
        description="with by: class -> the value that agrees with it, or a list; default: the majority's",
        examples=[{"gull": "sea", "owl": "land"}],
    )
    majority: str | None = Field(
        default=None,
        description="with by: the training data, given like a split, whose majority counts; default: the split",
        examples=["train.csv"],
    )
    cluster: str | None = Field(
        default=None,
        description="a column of every split: rows of one value may depend on each other (patients, scenes), and "
        "intervals are over clusters; default: rows are independent",
        examples=["patient"],
    )
    interventions: list[str] | dict[str, Annotated[Named, show_names(Intervention)]] | None = Field(
        default=None,
        description="a list: which splits are interventions (default: all but the reference and no_cue); or a table of "
        'splits to make from the reference, name -> "grey", {name = "rotate", max_degrees = 90}, or '
        "package.module:name of your own; a text in the place of side data names a column (within), other rows "
        "(donors), or masks",
        examples=[["rand_cue"]],
    )
    splits: dict[str, str] = Field(
        description="split -> a folder of class folders, a csv, tsv, jsonl, parquet or safetensors file; one with by "
        "or with a table of interventions, else more"
    )
    reference: str = Field(
        default=CUE, description='the split that the interventions start from; default with by: "agree"'
    )
    images: ImageConfig = ImageConfig()
    text: TextConfig | None = Field(default=None, description="the splits are tables of texts, tokenised as it says")
    margin: float = Field(default=0.05, gt=0, allow_inf_nan=False, description="the largest effect that counts as none")
    loss: str | dict[str, Any] | None = Field(
        default=None,
        description="cross_entropy (default), binary, squared, absolute, over_positions, or a table of such a name and "
        "options; or package.module:function, a value per sample",
        examples=["binary"],
    )
    metrics: dict[str, str | MetricConfig] = Field(
        default={},
        description="name -> package.module:function, or a table",
        examples=[{"brier": {"function": "my_models:brier", "bounds": [0, 1]}}],
    )
    on: str = Field(default="accuracy", description='"accuracy", "loss", or the name of a metric')
    paired: bool | None = Field(
        default=None,
        description="whether row i of every split shows the same sample; default: known of images in files of one name",
        examples=[True],
    )
    samples: bool = Field(default=True, description="false: neither page nor files show samples of the splits")
    tolerance: float = Field(
        default=0.05,
        ge=0,
        allow_inf_nan=False,
        description="the largest barrier that counts as none, in loss; until settled in what effects are measured on",
    )
    points: int = Field(default=11, ge=3, description="points on the path")
    alignment: Annotated[str | dict[str, Any], show_names(AlignmentMethod, *UNNAMED)] = Field(
        default="auto",
        description="auto: activations where statistics are re-estimated on data, else weights; package.module:Class, "
        "an AlignmentMethod of your own; or a table of a name and options",
    )
    blocks: StrictInt | str | None = Field(default=None, description="also the path block by block", examples=[1])
    layers: Literal["all"] | list[str] | None = Field(
        default=None, description="also linear CKA by layer", examples=["all"]
    )
    ignore: list[str] = Field(
        default=[],
        description="buffers that are no part of what is computed, such as a counter of steps",
        examples=[["steps"]],
    )
    norm: NormConfig = NormConfig()
    model: ModelConfig = ModelConfig()
    relearn: RelearnConfig | None = Field(default=None, description="also whether a mechanism is gone or hidden")
    probe: ProbeConfig | None = Field(default=None, description="also what the features of both networks hold")
    groups: GroupsConfig | None = Field(
        default=None, description="also how often both networks are right in each group of rows"
    )
    merge: MergeConfig | None = Field(
        default=None, exclude=True, description="how mechconn merge makes one network of several"
    )

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

    @field_validator("alignment")
    @classmethod
    def _is_known(cls, alignment: Named) -> Named:
        if isinstance(alignment, str) and ":" not in alignment:
            return check_choice("alignment", alignment, [*UNNAMED, *list_kinds(AlignmentMethod)])
        list_options("alignment", AlignmentMethod, alignment)
        return alignment

    @field_validator("norm")
    @classmethod
    def _is_read(cls, norm: NormConfig, info: Any) -> NormConfig:
        policy, alignment = norm.policy, info.data.get("alignment")
        if policy is None or alignment is None or norm.data is None or reads_data("policy", NormPolicy, policy):
            return norm
        if alignment in UNNAMED or not reads_data("alignment", AlignmentMethod, alignment):
            raise ValueError(
                f"policy = {policy!r} reads no data, and alignment = {alignment!r} does not either; leave out "
                f"data = {norm.data!r}, or set alignment = 'activations'"
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
        made = info.data.get("interventions")
        if by and len(splits) != 1:
            raise ValueError(f"by = {by!r} divides one split into {AGREE!r} and {CONFLICT!r}, got {len(splits)}")
        if by is None and len(splits) < cls.fewest_splits and not (splits and isinstance(made, dict) and made):
            fewest = "two splits or more are" if cls.fewest_splits > 1 else "one split or more is"
            raise ValueError(f'{fewest} needed, or by = "column" or [interventions] with one, got {len(splits)}')
        both = sorted({*splits, *((AGREE, CONFLICT) if by else ())} & {*(made if isinstance(made, dict) else ())})
        if both:
            raise ValueError(f"{', '.join(both)} stands under [interventions] too; give each split its own name")
        return splits

    @field_validator("relearn")
    @classmethod
    def _is_measured_on(cls, relearn: RelearnConfig | None, info: Any) -> RelearnConfig | None:
        """The split is one of the suite; with by it may be left out."""
        values = info.data
        if relearn is None or "splits" not in values or "by" not in values:
            return relearn
        by, made = values["by"], values.get("interventions")
        own = values["splits"] if by is None else (AGREE, CONFLICT, COLUMN_ONLY)
        if by is not None and isinstance(made, dict) and COLUMN_ONLY in made:
            raise ValueError(f"makes a split {COLUMN_ONLY!r}; give that under [interventions] another name")
        if by is not None and relearn.split is None:
            return relearn.model_copy(update={"split": COLUMN_ONLY})
        if relearn.split is None:
            raise ValueError('split = "..." is needed: the split in which nothing but the mechanism predicts')
        check_choice("split", relearn.split, [*own, *(made if isinstance(made, dict) else ())])
        return relearn

    @field_validator("probe")
    @classmethod
    def _is_read_from(cls, probe: ProbeConfig | None, info: Any) -> ProbeConfig | None:
        """The split is one that is read from files, or made of one."""
        splits, made = info.data.get("splits"), info.data.get("interventions")
        if probe is not None and probe.split is not None and splits is not None:
            check_choice("split", probe.split, [*splits, *(made if isinstance(made, dict) else ())])
        return probe

    @field_validator("groups")
    @classmethod
    def _is_grouped(cls, groups: GroupsConfig | None, info: Any) -> GroupsConfig | None:
        """The split is one that is read from files, made of one, or a side of the one that is divided."""
        splits, made, by = (info.data.get(key) for key in ("splits", "interventions", "by"))
        if groups is not None and groups.split is not None and splits is not None:
            sides = () if by is None else (AGREE, CONFLICT)
            check_choice("split", groups.split, [*splits, *sides, *(made if isinstance(made, dict) else ())])
        return groups

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits of the suite."""
        divided = (AGREE, CONFLICT) if self.relearn is None else (AGREE, CONFLICT, COLUMN_ONLY)
        return (*(self.splits if self.by is None else divided), *self.made_splits)

    @property
    def intervention_names(self) -> tuple[str, ...] | None:
        """Which splits are interventions, where that is not all but the reference and no_cue."""
        if isinstance(self.interventions, list):
            return tuple(self.interventions)
        return None if self.by is None or self.relearn is None else (CONFLICT, *self.made_splits)

    @property
    def made_splits(self) -> dict[str, str | dict[str, Any]]:
        """Name -> intervention, of the splits that are made from the reference."""
        return self.interventions if isinstance(self.interventions, dict) else {}
