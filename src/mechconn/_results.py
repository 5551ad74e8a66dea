"""Records of what was run and what came out: plain values that outlive the code that made them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from mechconn.losses import NATS, Each

SCHEMA_VERSION = 2
"""2: barriers have intervals, verdicts on paths three values, and effects what they were judged by."""

Verdict = Literal["connected", "not connected", "undetermined"]

SPLITS = {
    "no_cue": ("NC", "no cue"),
    "cue": ("C", "cue that agrees with the label"),
    "rand_cue": ("RC", "cue drawn at random"),
    "rand_image": ("RI", "random image under the label's cue"),
}
"""The four splits of a cue task: short name and meaning."""


def short_name(split: str) -> str:
    """NC, C, RC or RI; any other split keeps its name."""
    return SPLITS[split][0] if split in SPLITS else split


def loss_unit(settings: Mapping[str, Any]) -> str:
    """What the losses of a run with these settings are in."""
    return settings.get("loss_unit", NATS)


class Record(BaseModel):
    """A frozen, validated record that is JSON on disk; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Environment(Record):
    """What a run ran on."""

    versions: dict[str, str]
    system: str
    processor: str
    cores: int
    threads: int
    device: str


class Picture(Record):
    """An RGB image as bytes in base64, row by row."""

    height: int
    width: int
    data: str

    @classmethod
    def of(cls, pixels: Tensor) -> Picture:
        """From uint8 pixels of shape [H, W, 3]."""
        height, width, _ = pixels.shape
        data = base64.b64encode(pixels.contiguous().numpy().tobytes()).decode()
        return cls(height=height, width=width, data=data)

    def pixels(self) -> np.ndarray:
        """uint8 of shape [H, W, 3]."""
        flat = np.frombuffer(base64.b64decode(self.data), dtype=np.uint8)
        return flat.reshape(self.height, self.width, 3)


class PathRecord(Record):
    """A path's profile: per split, loss and accuracy in [0, 1] at each t, and the barrier in loss.

    Attributes:
        loss, accuracy: split -> means; None where they are not finite.
        barrier: split -> (height in the unit of the loss, t); None where the loss is not finite somewhere.
        barrier_interval: split -> 95 % interval of the height over samples; None where there is none.
        endpoint_minus_minimum: split -> the graded gap (L(A) + L(B)) / 2 - min over t of L, which decides nothing; None
            where the loss is not finite somewhere. Records of an earlier time do not hold it.
        connection: split -> whether the barrier is at most `tolerance`, by its interval; see `mechconn.Connection`.
        mechanistic_connection: the same over the reference and every intervention.
    """

    start: str
    end: str
    ts: list[float]
    loss: dict[str, list[float | None]]
    accuracy: dict[str, list[float | None]]
    barrier: dict[str, tuple[float, float] | None]
    barrier_interval: dict[str, tuple[float, float] | None]
    endpoint_minus_minimum: dict[str, float | None] = {}
    tolerance: float
    connection: dict[str, Verdict]
    mechanistic_connection: Verdict
    settings: dict[str, Any]


class ChangeRecord(Record):
    """How far a mean moves under an intervention; see `mechconn.Change`."""

    effect: float
    interval: tuple[float, float] | None
    samples: int


class EffectRecord(Record):
    """The effect of one intervention on one model; see `mechconn.Effect`."""

    split: str
    effect: float
    interval: tuple[float, float]
    verdict: Literal["invariant", "sensitive", "undetermined"]
    p_value: float
    adjusted_p_value: float
    adjusted_interval: tuple[float, float]
    confidence: float
    to_settle: int | None
    paired: bool
    samples: int
    draws: int = 1
    changed: float | None
    changed_interval: tuple[float, float] | None
    accuracy: ChangeRecord | None
    loss: ChangeRecord | None
    by_class: dict[int, ChangeRecord]
    observational: bool = False
    metrics: dict[str, ChangeRecord] = {}
    same_rows: bool = False
    caveat: str = ""


class InvarianceRecord(Record):
    """What one model is invariant to; see `mechconn.Invariance`."""

    reference: str
    interventions: list[str]
    margin: float
    on: str
    precision: str
    confidence: float
    effects: dict[str, EffectRecord]
    accuracy: dict[str, float]
    accuracy_interval: dict[str, tuple[float, float]]
    loss: dict[str, float | None]
    samples: dict[str, int]
    over: Literal["samples", "runs"]
    runs: int
    notes: list[str]
    each: Each = "rows"
    metrics: dict[str, dict[str, float]] = {}
    metrics_interval: dict[str, dict[str, tuple[float, float] | None]] = {}
    uninformative: str = ""


class DifferenceRecord(Record):
    """How far two models' effects lie apart; see `mechconn.Difference`."""

    effect: float
    interval: tuple[float, float]


class ComparisonRecord(Record):
    """Two models' mechanisms side by side; see `mechconn.Comparison`."""

    verdict: Literal["similar", "dissimilar", "undetermined"]
    why: str
    over: Literal["samples", "runs"]
    agreement: dict[str, str]
    a: InvarianceRecord
    b: InvarianceRecord
    differences: dict[str, DifferenceRecord]
    runs_a: list[InvarianceRecord]
    runs_b: list[InvarianceRecord]


class DiscrepancyRecord(Record):
    """How far two models' class probabilities lie apart; see `mechconn.OutputDiscrepancy`."""

    splits: dict[str, float]
    mean: float
    similarity: float
    transformations: list[str]


class AlignmentRecord(Record):
    """How one network was moved onto another; see `mechconn.Alignment`.

    Attributes:
        frozen: why some units may not be permuted.
    """

    permutations: dict[str, list[int]]
    coverage: float
    similarity_before: dict[str, float]
    similarity_after: dict[str, float]
    distance_before: float
    distance_after: float
    dead: dict[str, int]
    unseen: list[str]
    notes: list[str] = []
    frozen: list[str]
    settings: dict[str, Any]


class AuditRecord(Record):
    """An audit of two models; see `mechconn.Audit`."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["audit"] = "audit"
    names: tuple[str, str]
    comparison: ComparisonRecord
    discrepancy: DiscrepancyRecord | None
    paths: dict[str, PathRecord]
    alignment: AlignmentRecord | None
    blocks: dict[str, dict[str, float | None]] | None
    similarity: dict[str, float | None] | None
    left_out: dict[str, str] = {}
    notes: list[str]
    findings: list[str]
    settings: dict[str, Any]
    settings_hash: str
    seconds: float
    environment: Environment
    pictures: dict[str, Picture] = {}

    @classmethod
    def of(cls, plain: dict[str, Any], pictures: dict[str, Picture] | None = None) -> AuditRecord:
        """From what `Audit.to_record` gives, with this process's versions and hardware."""
        settings = plain["settings"]
        here = environment(str(settings["device"]))
        added = {"settings_hash": settings_hash(settings), "environment": here, "pictures": pictures or {}}
        return cls.model_validate({**plain, **added})

    def to_json(self) -> str:
        """The record as one line of JSON, without its pictures."""
        return self.model_dump_json(exclude={"pictures"})


class DemoRecord(Record):
    """The demo's story in numbers.

    Attributes:
        accuracy: model -> split -> accuracy in [0, 1]; models theta_C, theta_NC, FT-M and CBFT.
        pictures: split -> a strip of samples, the same rows in every split.
        findings: what the numbers say, in words.
        settings_hash: SHA-256 of the settings as sorted JSON.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["demo"] = "demo"
    seed: int
    seconds: float
    settings: dict[str, Any]
    settings_hash: str
    accuracy: dict[str, dict[str, float]]
    invariance: dict[str, InvarianceRecord]
    path: PathRecord
    findings: list[str]
    timings: dict[str, float]
    environment: Environment
    pictures: dict[str, Picture]

    def to_json(self) -> str:
        """The record as one line of JSON, without its pictures."""
        return self.model_dump_json(exclude={"pictures"})


def environment(device: str) -> Environment:
    """Versions and hardware of this process."""
    return Environment(
        versions={"python": platform.python_version()}
        | {package: version(package) for package in ("mechconn", "numpy", "scipy", "scikit-learn")}
        | {"torch": str(torch.__version__)},  # with its build, which the package's metadata may leave out
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if device.startswith("cuda") else device,
    )


def settings_hash(settings: dict[str, Any]) -> str:
    """SHA-256 of settings as JSON with sorted keys: equal settings have equal hashes."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
