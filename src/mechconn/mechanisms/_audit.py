"""The audit: what two models rely on, whether that is the same, and what joins them in weight space."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from mechconn.alignment import Alignment, AlignmentMethod
from mechconn.connectivity import (
    BlockChoice,
    BlockProfiles,
    NormChoice,
    Profile,
    evaluate_blocks,
    evaluate_path,
    group_parameters,
)
from mechconn.core import PerSampleLoss, Progress, check_choice, check_is, check_non_negative
from mechconn.datasets import Clusters, Suite, check_label_names, read_clusters
from mechconn.losses import as_loss, cross_entropy
from mechconn.mechanisms._audit_record import AuditRecord
from mechconn.mechanisms._audit_sentences import write_sentences
from mechconn.mechanisms._compare import Comparison, compare_mechanisms
from mechconn.mechanisms._discrepancy import OutputDiscrepancy, output_discrepancy
from mechconn.mechanisms._effects import On
from mechconn.mechanisms._endpoints import (
    Aligning,
    align_or_explain,
    can_join,
    compute_outputs,
    read_first_rows,
    resolve_policy,
)
from mechconn.mechanisms._measure import check_questions
from mechconn.mechanisms._representations import NoLayersError, RepresentationSimilarity, representation_similarity
from mechconn.network import (
    InterpolateNorm,
    KeepNorm,
    Metric,
    Network,
    NormPolicy,
    Precision,
    Repair,
    check_metrics,
    find_statistics_layers,
    parameters_of,
    resolve_device,
    resolve_norm,
    unwrap_module,
)
from mechconn.paths import LinearPath
from mechconn.symmetry import Symmetry


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found about two models. `print(result)` says it in sentences.

    Attributes:
        comparison: what each model is invariant to, and the verdict on their mechanisms.
        discrepancy: how far their class probabilities lie apart, a graded score; None where the task is no
            classification.
        lines: "before" and, where B could be aligned, "after" -> the profile of the straight path; empty where the
            models have different architectures.
        alignment: how B was moved onto A; None where it was not.
        blocks: the path block by block, where asked for.
        similarity: linear CKA by layer, where asked for.
        notes: what could not be done, and why.
        tolerance: the largest barrier in loss that counts as none (nats, for the default loss).
        names: what the two are called.
        settings: everything needed to repeat it.
        seconds: wall-clock time.
    """

    comparison: Comparison
    discrepancy: OutputDiscrepancy | None
    lines: Mapping[str, Profile]
    alignment: Alignment | None
    blocks: BlockProfiles | None
    similarity: RepresentationSimilarity | None
    notes: tuple[str, ...]
    tolerance: float
    names: tuple[str, str]
    settings: Mapping[str, Any] = field(repr=False)
    seconds: float

    @property
    def verdict(self) -> str:
        """Whether the two use the same mechanisms: "similar", "dissimilar" or "undetermined"; see `Comparison`."""
        return self.comparison.verdict

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers say, what follows from it and what does not, in plain sentences."""
        return tuple(write_sentences(self.to_plain()))

    def __str__(self) -> str:
        return "\n".join(f"- {sentence}" for sentence in self.findings)

    def to_plain(self) -> dict[str, Any]:
        """Plain values but for the sentences."""
        a, b = self.names
        return {
            "names": self.names,
            "comparison": self.comparison.to_record(),
            "discrepancy": self.discrepancy and self.discrepancy.to_record(),
            "paths": {which: line.to_record(a, b, self.tolerance) for which, line in self.lines.items()},
            "alignment": self.alignment and self.alignment.to_record(),
            "blocks": self.blocks and _collect_heights(self.blocks),
            "similarity": self.similarity and dict(self.similarity.layers),
            "left_out": {} if self.similarity is None else dict(self.similarity.left_out),
            "notes": list(self.notes),
            "settings": dict(self.settings),
            "seconds": self.seconds,
        }

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON: `mechconn.save_report` draws its page from these alone."""
        return {**self.to_plain(), "findings": list(self.findings)}

    def to_json(self) -> str:
        """The whole record as one line of JSON, as `mechconn audit --json` prints it; never NaN."""
        return AuditRecord.of(self.to_record()).to_json()


def audit(
    model_a: nn.Module,
    model_b: nn.Module,
    suite: Suite,
    norm: NormChoice = None,
    *,
    margin: float = 0.05,
    on: On = "accuracy",
    alignment: Aligning = "auto",
    symmetry: Symmetry | None = None,
    ts: int | Sequence[float] = 11,
    tolerance: float = 0.05,
    blocks: BlockChoice | None = None,
    layers: Sequence[str] | Literal["all"] | None = None,
    names: tuple[str, str] = ("A", "B"),
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Audit:
    """Do these two models use the same mechanisms, and what joins them?

    The verdict comes from the interventions alone (`compare_mechanisms`). The straight path between the two, before
    and after B's units were permuted onto A's, is evaluated on every split and judged with intervals over samples; what
    that proves and what it does not stands in `Audit.findings`.

    Args:
        model_a: t = 0; neither module is changed.
        model_b: t = 1. Where it is not A's module with other parameters and statistics, no path is walked, and the
            result says so.
        suite: the splits, with at least one intervention.
        norm: where normalisation statistics come from along the path, as in `evaluate_path`; required where the
            models keep any. Policies that hold an endpoint's state are given as functions of the two endpoints, as in
            `evaluate_alignment`; models that keep statistics cannot keep A's.
        margin: the largest effect that counts as none, in accuracy, in loss, or in the metric.
        on: "accuracy", "loss", or the name of a metric.
        alignment: how B is aligned; "auto" matches activations on the data of `norm` where it is a `Reestimate`, else
            weights; "none" leaves it out.
        symmetry: as in `align`; default: found on the first rows of the reference split.
        ts: number of points on the path, three or more, or the points themselves.
        tolerance: the largest barrier in loss that counts as none (nats, for the default loss).
        blocks: also the path block by block, as in `evaluate_blocks`; None leaves it out.
        layers: also linear CKA on the reference split: of these layers, or of "all" linear maps that run once; None
            leaves it out. It comes first, so that layers asked for in vain are refused before the work.
        names: what to call the two.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`; see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`. The intervals of effects
            and of barriers are then over clusters.
        seed: of everything that is drawn.
        device: where to compute; default: where model_a is.
        precision: "float32" or "auto".
        progress: called with (message, steps done, steps in all).

    Raises:
        ValueError: as in `compare_mechanisms` and `evaluate_path`.

    Source: Lubana et al. 2023, sections 2 and 3.
    """
    started = time.perf_counter()
    model_a, model_b = unwrap_module(model_a, "model_a"), unwrap_module(model_b, "model_b")
    check_non_negative("tolerance", tolerance)
    measured = check_metrics(metrics)
    check_questions(suite, margin, on, measured)
    clusters = read_clusters(cluster, suite)
    _check_form(ts, names)
    _check_request(model_a, model_b, norm, alignment, layers)
    named = [(f"model {name}", model) for name, model in zip(names, (model_a, model_b), strict=True)]
    check_label_names(named, suite)
    (example, _), notes = read_first_rows(suite, resolve_device(model_a, device), seed, model_a), []
    if not can_join(model_a, model_b, example):
        notes.append(
            f"{names[0]} and {names[1]} are not one module with different parameters and statistics (names, "
            "shapes, layers or other buffers differ), so that no path in weight space joins them"
        )
    elif blocks is not None:
        group_parameters(
            [name for name, _ in model_a.named_parameters()], blocks, None
        )  # before the work, not after it
    run: dict[str, Any] = {"seed": seed, "device": device, "precision": precision}
    loss = as_loss(loss)
    running = {**run, "loss": loss, "metrics": metrics, "progress": progress}
    similarity, unlike = (None, []) if layers is None else _compare_layers(model_a, model_b, suite, layers, run)
    comparison = compare_mechanisms(model_a, model_b, suite, margin, on, cluster=clusters, **running)
    same_classes = (
        bool(comparison.a.accuracy)
        and comparison.a.each == "rows"
        and compute_outputs(model_a, example).shape == compute_outputs(model_b, example).shape
    )
    lines: dict[str, Profile] = {}
    aligned: Alignment | None = None
    found: BlockProfiles | None = None
    if not notes:
        own, path_run = parameters_of(model_a), {**running, "keep_samples": True, "cluster": clusters}

        def line(end: nn.Module) -> Profile:
            path = LinearPath(own, parameters_of(end))
            return evaluate_path(model_a, path, suite, ts, resolve_policy(norm, model_a, end), **path_run)

        lines["before"] = line(model_b)
        aligned, why = align_or_explain(model_a, model_b, alignment, symmetry, example, norm, run, progress)
        notes += why
        end = model_b if aligned is None else aligned.model
        if aligned is not None:
            lines["after"] = line(end)
        if blocks is not None:
            policy = resolve_policy(norm, model_a, end)
            found = evaluate_blocks(model_a, own, parameters_of(end), suite, blocks, ts=ts, norm=policy, **running)
    return Audit(
        comparison=comparison,
        discrepancy=output_discrepancy(model_a, model_b, suite, loss=loss, **run) if same_classes else None,
        lines=lines,
        alignment=aligned,
        blocks=found,
        similarity=similarity,
        notes=(*notes, *unlike),
        tolerance=tolerance,
        names=names,
        settings={
            "reference": suite.reference,
            "interventions": list(suite.interventions),
            "margin": margin,
            "on": on,
            "tolerance": tolerance,
            "ts": list(lines["before"].ts) if lines else None,
            "alignment": "none" if aligned is None else dict(aligned.settings),
            "norm": lines["before"].settings["norm"] if lines else "none",
            "blocks": blocks if isinstance(blocks, int | str | None) else dict(blocks),
            "layers": layers if isinstance(layers, str | None) else list(layers),
            "loss": loss.describe(),
            "loss_unit": loss.unit,
            "metrics": {name: metric.bounds for name, metric in measured.items()},
            "samples": dict(comparison.a.samples),
            **({} if clusters is None else {"clusters": dict(comparison.a.clusters)}),
            "seed": seed,
            "device": str(resolve_device(model_a, device)),
            "precision": comparison.a.precision,
        },
        seconds=time.perf_counter() - started,
    )


def _check_form(ts: int | Sequence[float], names: tuple[str, str]) -> None:
    """Refuse a grid on which nothing could be settled, and names that are not two."""
    if (points := len(ts) if isinstance(ts, Sequence) else ts) < 3:
        raise ValueError(f"an audit needs three points on the path or more, the ends among them, got {points}")
    if len(names) != 2:
        raise ValueError(f"names must be two, of A and of B, got {len(names)}")


def _check_request(
    model_a: nn.Module, model_b: nn.Module, norm: NormChoice, alignment: Aligning, layers: Sequence[str] | str | None
) -> None:
    """Refuse before the work what would fail after it."""
    if isinstance(alignment, str):
        check_choice("alignment", alignment, ("auto", "none"))
    else:
        check_is("alignment", alignment, AlignmentMethod, "; pass ActivationMatching(data), WeightMatching() or 'none'")
    network = Network(model_a)
    if norm is None or isinstance(norm, NormPolicy):
        resolve_norm(norm, network)
    if isinstance(norm, InterpolateNorm | Repair) or (isinstance(norm, KeepNorm) and find_statistics_layers(network)):
        raise ValueError(
            f"{type(norm).__name__} would give B the statistics or weights of another endpoint; pass "
            "norm=Reestimate(training data), or a function of the two endpoints, as in norm=lambda a, b: "
            "InterpolateNorm(a.state_dict(), b.state_dict())"
        )
    for name in [] if layers is None or isinstance(layers, str) else layers:
        for model in (model_a, model_b):
            check_choice("layer", name, [n for n, _ in model.named_modules(remove_duplicate=False)])


def _compare_layers(
    model_a: nn.Module, model_b: nn.Module, suite: Suite, layers: Any, run: Mapping[str, Any]
) -> tuple[RepresentationSimilarity | None, list[str]]:
    """(linear CKA, []), or (None, [why there is none]) where none of the layers that were left to us has any."""
    try:
        return representation_similarity(model_a, model_b, suite[suite.reference], layers, **run), []
    except NoLayersError as error:
        return None, [f"No linear CKA: {error}."]


def _collect_heights(blocks: BlockProfiles) -> dict[str, dict[str, float | None]]:
    """Block -> split -> its barrier in loss; None where the loss is not finite."""
    found: dict[str, dict[str, float | None]] = {}
    for block, profile in blocks.items():
        bad = {value.split for value in profile.not_finite if value.on == "loss"}
        found[block] = {s: None if s in bad else profile.barrier(s).height for s in profile.loss}
    return found
