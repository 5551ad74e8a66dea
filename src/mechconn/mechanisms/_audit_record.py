"""The records of an audit: what came out, in plain values."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mechconn.core import SCHEMA_VERSION, Environment, Picture, Record, hash_settings, read_environment
from mechconn.losses import Each

PathVerdict = Literal["connected", "not connected", "undetermined"]


class EndRecord(Record):
    """A network at an end of a path as it was saved; see `mechconn.EndMeans`."""

    loss: dict[str, float | None]
    accuracy: dict[str, float | None]


class ShiftedEndRecord(Record):
    """An end of a path that is another network than the saved one; see `mechconn.ShiftedEnd`."""

    end: str
    split: str
    on: str
    saved: float | None
    evaluated: float | None


class PathRecord(Record):
    """A path's profile: per split, loss and accuracy in [0, 1] at each t, and the barrier in loss.

    Attributes:
        loss, accuracy: split -> means; None where they are not finite.
        barrier: split -> (height in the unit of the loss, t); None where the loss is not finite somewhere.
        barrier_interval: split -> 95 % interval of the height over samples; None where there is none.
        endpoint_minus_minimum: split -> the graded gap (L(A) + L(B)) / 2 - min over t of L, reported only; None
            where the loss is not finite somewhere. Records of an earlier time do not hold it.
        connection: split -> whether the barrier is at most `tolerance`, by its interval; see `mechconn.Connection`.
        mechanistic_connection: the same over the reference and every intervention, of the networks as saved:
            "undetermined" in place of "connected" where an end is shifted.
        evaluated_connection: the same of the networks that the path ends at; None in records of an earlier time.
        clusters: split -> number of clusters that the intervals are over; empty where rows are independent.
        saved: what both ends do as they were saved; None where that is not known.
        shifted: ends that are other networks than the saved ones, and by how much.
    """

    start: str
    end: str
    ts: list[float]
    loss: dict[str, list[float | None]]
    accuracy: dict[str, list[float | None]]
    barrier: dict[str, tuple[float, float] | None]
    barrier_interval: dict[str, tuple[float, float] | None]
    endpoint_minus_minimum: dict[str, float | None] = Field(default={})
    tolerance: float
    connection: dict[str, PathVerdict]
    mechanistic_connection: PathVerdict
    evaluated_connection: PathVerdict | None = None
    clusters: dict[str, int] = Field(default={})
    saved: list[EndRecord | None] = Field(default=[])
    shifted: list[ShiftedEndRecord] = Field(default=[])
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
    metrics: dict[str, ChangeRecord] = Field(default={})
    same_rows: bool = False
    caveat: str = ""
    clusters: int | None = None


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
    over: Literal["samples", "clusters", "runs"]
    runs: int
    notes: list[str]
    each: Each = "rows"
    metrics: dict[str, dict[str, float]] = Field(default={})
    metrics_interval: dict[str, dict[str, tuple[float, float] | None]] = Field(default={})
    uninformative: str = ""
    compute: dict[str, Any] = Field(default={})
    clusters: dict[str, int] = Field(default={})


class DifferenceRecord(Record):
    """How far two models' effects lie apart; see `mechconn.Difference`."""

    effect: float
    interval: tuple[float, float]


class ReductionRecord(Record):
    """How much less B relies on a split's change than A; see `mechconn.Reduction`."""

    split: str
    of: float
    amount: float
    interval: tuple[float, float]
    share: float


class ComparisonRecord(Record):
    """Two models' mechanisms side by side; see `mechconn.Comparison`.

    Attributes:
        same_invariances: None in records of an earlier time, whose `verdict` is what this is now.
        less: empty in records of an earlier time.
        headline: what was found, with the models called A and B; empty in records of an earlier time.
    """

    verdict: Literal["similar", "dissimilar", "undetermined"]
    why: str
    over: Literal["samples", "clusters", "runs"]
    agreement: dict[str, str]
    a: InvarianceRecord
    b: InvarianceRecord
    differences: dict[str, DifferenceRecord]
    runs_a: list[InvarianceRecord]
    runs_b: list[InvarianceRecord]
    same_invariances: Literal["similar", "dissimilar", "undetermined"] | None = None
    less: dict[str, ReductionRecord] = Field(default={})
    headline: str = ""


class DiscrepancyRecord(Record):
    """How far two models' class probabilities lie apart; see `mechconn.OutputDiscrepancy`."""

    splits: dict[str, float]
    mean: float
    similarity: float
    transformations: list[str]
    compute: dict[str, Any] = Field(default={})


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
    notes: list[str] = Field(default=[])
    frozen: list[str]
    settings: dict[str, Any]


class AuditRecord(Record):
    """An audit of two models; see `mechconn.Audit`.

    Attributes:
        headline: what was found, with the models' names; empty in records of an earlier time.
        theory: where the theory stands, from the root of the project; empty in records of an earlier time.
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["audit"] = "audit"
    names: tuple[str, str]
    comparison: ComparisonRecord
    discrepancy: DiscrepancyRecord | None
    paths: dict[str, PathRecord]
    alignment: AlignmentRecord | None
    blocks: dict[str, dict[str, float | None]] | None
    similarity: dict[str, float | None] | None
    left_out: dict[str, str] = Field(default={})
    notes: list[str]
    findings: list[str]
    settings: dict[str, Any]
    settings_hash: str
    seconds: float
    environment: Environment
    pictures: dict[str, Picture] = Field(default={})
    headline: str = ""
    theory: str = ""

    @classmethod
    def of(cls, plain: dict[str, Any], pictures: dict[str, Picture] | None = None) -> AuditRecord:
        """From what `Audit.to_record` gives, with this process's versions and hardware."""
        settings = plain["settings"]
        here = read_environment(str(settings["device"]))
        added = {"settings_hash": hash_settings(settings), "environment": here, "pictures": pictures or {}}
        return cls.model_validate({**plain, **added})

    def to_json(self) -> str:
        """The record as one line of JSON, without its pictures."""
        return self.model_dump_json(exclude={"pictures"})
