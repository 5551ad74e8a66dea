"""What an experiment's numbers depend on: frozen, validated, with every default written out."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

import mechconn.tuning  # noqa: F401 - its methods are registered where they are defined
from mechconn.core import (
    CommaSeparated,
    Config,
    OneOf,
    Precision,
    check_distinct,
    check_precision,
    did_you_mean,
    split_commas,
)
from mechconn.datasets import read_cue
from mechconn.descent import Method, Training, check_nameable
from mechconn.losses import AnyLoss, cross_entropy
from mechconn.mechanisms import Relearning
from mechconn.paths import BezierFit, PathFit

PLAIN = PlainSerializer(lambda method: method.settings())
NAMEABLE = AfterValidator(check_nameable)
"""Annotation of a field of settings whose optimizers must have names, since stored results are told apart by them."""
AnyMethod = Annotated[Method, OneOf(Method), NAMEABLE, PLAIN]
AnyFit = Annotated[PathFit, OneOf(PathFit), NAMEABLE, PLAIN]
PlainTraining = Annotated[Training, NAMEABLE, PLAIN]
PlainRelearning = Annotated[Relearning, NAMEABLE, PLAIN]


def _check_cue(value: Any) -> Any:
    """A cue as a configuration names it, after refusing what names none."""
    try:
        found, _ = read_cue(value)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if not is_dataclass(found):
        raise ValueError(f"the cue {value!r} must be a dataclass, whose fields tell stored results apart; decorate it")
    return value


AnyCue = Annotated[str | dict[str, Any], AfterValidator(_check_cue)]


class DataSettings(Config):
    """Where images come from, and the cue on them.

    Attributes:
        name: how results call it.
        source: "digits", "planted", "cifar10", "cifar100", "fashion_mnist", a folder, or with `download` an
            "owner/name" of the hub.
        cue: a name: "box" (place tells the class; with more than ten classes place and hue), "hue-box", "dominoes" (a
            Fashion-MNIST image on top), "planted" (that of planted data), or "package.module:Class" of your own; or a
            table such as {name = "box", size = 5}.
        size: side in pixels to which images are resized.
        rgb: give grey images three channels.
        download: fetch from the hub what is not there.
    """

    name: str
    source: str
    cue: AnyCue = "box"
    size: Annotated[int | None, Field(ge=1)] = None
    rgb: bool = False
    download: bool = False

    def __hash__(self) -> int:  # a cue may be a table
        return hash(self.model_dump_json())


PRESETS = {
    "digits": DataSettings(name="digits", source="digits"),
    "planted": DataSettings(name="planted", source="planted", cue="planted"),
    "cifar10": DataSettings(name="cifar10", source="cifar10"),
    "cifar100": DataSettings(name="cifar100", source="cifar100"),
    "dominoes": DataSettings(name="dominoes", source="cifar10", cue="dominoes"),
    "fashion_mnist": DataSettings(name="fashion_mnist", source="fashion_mnist"),
}


def _read_datasets(value: Any) -> Any:
    """Names of presets, and folders, as settings."""

    def named(item: Any) -> Any:
        if not isinstance(item, str):
            return item
        if item in PRESETS:
            return PRESETS[item]
        if "/" not in item and "." not in item:
            known = f"known are {', '.join(PRESETS)}, and folders: './{item}'"
            raise ValueError(f"no dataset {item!r}; {known}{did_you_mean(item, PRESETS)}")
        return DataSettings(name=item, source=item)

    return [named(item) for item in split_commas(value)]


Proportion = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=2)]


class Settings(Config):
    """What every recipe shares.

    Attributes:
        datasets: what to train and test on; names (digits, planted, cifar10, cifar100, dominoes, fashion_mnist),
            folders, or tables.
        proportions: shares of each class that carry the cue in training.
        seeds: of data, weights, order and counterfactuals; one cell each.
        rows: training samples; none takes all.
        test_rows: test samples; none takes all.
        draws: how often the random cue and the random image are drawn; effects are means over the draws.
        network: architecture; planted data always take the perceptron.
        width: channels of small_convnet's first convolution, hidden units of the perceptron.
        training: how theta_C and theta_NC are trained.
        points: points on each path.
        tolerance: the rise in nats that still counts as connected.
        loss: of training, fine-tuning, paths and measurements: a name such as "squared", a table such as
            {name = "cross_entropy", label_smoothing = 0.1}, or "package.module:name" of your own.
        statistics: at most so many training samples without cue for normalisation statistics; none takes all.
        precision: number type of the layers.
    """

    datasets: Annotated[tuple[DataSettings, ...], BeforeValidator(_read_datasets), Field(min_length=1)]
    proportions: Annotated[CommaSeparated[Proportion], Field(min_length=1)] = (0.8,)
    seeds: Annotated[CommaSeparated[Seed], Field(min_length=1)] = (0,)
    rows: Count | None = None
    test_rows: Count | None = None
    draws: Annotated[int, Field(ge=1)] = 1
    network: Literal["small_convnet", "vgg13", "resnet18"] = "small_convnet"
    width: Annotated[int, Field(ge=1)] = 24
    training: PlainTraining = Training()
    points: Annotated[int, Field(ge=2)] = 11
    tolerance: Annotated[float, Field(ge=0)] = 0.05
    loss: AnyLoss = cross_entropy
    statistics: Count | None = None
    precision: Annotated[Precision, BeforeValidator(check_precision)] = "model"

    @field_validator("datasets", "proportions", "seeds", "clean_samples", check_fields=False)
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        check_distinct([value.name if isinstance(value, DataSettings) else _print_value(value) for value in values])
        return values


def _print_value(value: Any) -> Any:
    """A value as the names of cells show it."""
    return f"{value:g}" if isinstance(value, float) else value


class PathSettings(Settings):
    """Paths between theta_C and theta_NC: linear, aligned, and fitted on data with the cue and without.

    Attributes:
        fit: how the fitted path is found.
        matching: at most so many training samples without cue to match units on; none takes all.
    """

    fit: AnyFit = BezierFit()
    matching: Count | None = 2000


class TuningSettings(Settings):
    """Fine-tuning theta_C on clean samples by several methods.

    Attributes:
        methods: name -> method.
        clean_samples: clean samples for fine-tuning, one cell each; none takes all training samples.
        paths: follow the straight line from theta_C to each result.
        scratch: also train on the clean samples alone, from fresh weights.
        clean_model: also train theta_NC, and follow the straight line to it from theta_C.
        margin: the largest effect on accuracy that counts as none, and the largest excess in relearning.
        relearn: also measure whether the cue is gone or hidden in every model, on so many rows in which the cue alone
            predicts as `rows` says (100 by default); none leaves it out. Each method's control is theta_NC tuned alike;
            that of theta_C and theta_NC is another theta_NC.
    """

    methods: Annotated[dict[str, AnyMethod], Field(min_length=1)]
    clean_samples: Annotated[CommaSeparated[Count | None], Field(min_length=1)] = (None,)
    paths: bool = False
    scratch: AnyMethod | None = None
    clean_model: bool = False
    margin: Annotated[float, Field(gt=0)] = 0.05
    relearn: PlainRelearning | None = None

    @model_serializer(mode="wrap")
    def _leave_out_relearning(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs without relearning have the settings, and so the ids, that they had before there was any."""
        plain = serialise(self)
        return plain if self.relearn is not None else {key: v for key, v in plain.items() if key != "relearn"}


@runtime_checkable
class AnyCell(Protocol):
    """One independent part of any experiment."""

    @property
    def name(self) -> str:
        """Its place in words; no two cells of a run have one name."""
        ...


@dataclass(frozen=True)
class Cell:
    """One independent part of an experiment.

    Attributes:
        data: images and cue.
        proportion: share of each class that carries the cue in training.
        seed: of everything that is drawn.
        clean_samples: clean samples for fine-tuning; None is all training samples.
    """

    data: DataSettings
    proportion: float
    seed: int
    clean_samples: int | None

    @property
    def name(self) -> str:
        """Its place in words."""
        clean = "" if self.clean_samples is None else f", {self.clean_samples} clean"
        return f"{self.data.name}, {self.proportion:g} cued{clean}, seed {self.seed}"


def list_cells(settings: Settings) -> list[Cell]:
    """Every combination, the seeds outermost, so that a run that is stopped has whole tables of the first seeds."""
    counts = settings.clean_samples if isinstance(settings, TuningSettings) else (None,)
    return [
        Cell(data, proportion, seed, clean)
        for seed in settings.seeds
        for data in settings.datasets
        for proportion in settings.proportions
        for clean in counts
    ]
