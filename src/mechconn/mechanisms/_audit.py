"""The audit: what two models rely on, whether that is the same, and what joins them in weight space."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn

from mechconn.alignment import Alignment, AlignmentMethod, note_same_rows
from mechconn.connectivity import (
    BlockChoice,
    BlockProfiles,
    BlockWalk,
    Evaluator,
    PathVerdict,
    Profile,
    SettledPath,
    Until,
    check_grid,
    group_parameters,
)
from mechconn.core import (
    Compute,
    Environment,
    PerSampleLoss,
    Progress,
    check_choice,
    check_is,
    check_non_negative,
    hash_settings,
    log_warnings,
    read_environment,
    resolve_compute,
    to_plain,
)
from mechconn.datasets import Clusters, Suite, check_interventions, check_label_names, read_clusters, show_examples
from mechconn.losses import cross_entropy
from mechconn.mechanisms._amounts import choose_shift_margin
from mechconn.mechanisms._audit_cards import NO_PATH, list_audit_cards
from mechconn.mechanisms._audit_groups import describe_group_task, measure_audit_groups
from mechconn.mechanisms._audit_migration import migrate_audit
from mechconn.mechanisms._audit_page import make_audit_sections
from mechconn.mechanisms._audit_relearning import begin_relearning, describe_probe, measure_probes
from mechconn.mechanisms._audit_sentences import write_sentences
from mechconn.mechanisms._audit_steps import (
    check_blocks,
    check_settles_all,
    compare_audit_layers,
    compare_pair,
    walk_audit_lines,
)
from mechconn.mechanisms._comparison import Comparison
from mechconn.mechanisms._discrepancy import OutputDiscrepancy
from mechconn.mechanisms._effects import On
from mechconn.mechanisms._endpoints import Aligning, align_or_explain
from mechconn.mechanisms._group_task import GroupTask
from mechconn.mechanisms._groups import GroupAccuracies
from mechconn.mechanisms._measure import check_questions
from mechconn.mechanisms._probe_result import Probe
from mechconn.mechanisms._probe_task import ProbeTask
from mechconn.mechanisms._relearned import Relearned
from mechconn.mechanisms._relearned_sentences import describe_states
from mechconn.mechanisms._relearning import RelearningTask
from mechconn.mechanisms._representation_result import RepresentationSimilarity
from mechconn.network import (
    Metric,
    NormPolicy,
    check_metrics,
    explain_disjoint,
    fix_device,
    join_networks,
    point_of,
    resolve_norm,
    say_not_one_module,
    share_ignored,
    unwrap_module,
)
from mechconn.plotting import Card, Examples, Header, Result, Section
from mechconn.symmetry import Symmetry

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure


@dataclass(frozen=True, eq=False, repr=False)
class Audit(Result, kind="audit"):
    """What was found about two models. `print(result)` says it in sentences.

    Attributes:
        comparison: what each model is invariant to, and the verdict on their mechanisms.
        discrepancy: how far their class probabilities lie apart, a graded score; None where the task is no
            classification.
        paths: "before" and, where B could be aligned, "after" -> the profile of the straight path; empty where the
            models have different architectures.
        alignment: how B was moved onto A; None where it was not.
        blocks: the path block by block, where asked for.
        similarity: linear CKA by layer, where asked for.
        notes: what could not be done, and why.
        tolerance: the largest barrier that counts as none: in loss of `paths` (nats, for the default loss); of
            `settled_paths` in the error rate, or in the units of the metric that effects are measured on.
        settings: everything needed to repeat it.
        seconds: wall-clock time.
        environment: versions and hardware.
        examples: the first samples of every split, for its page.
        relearned: name of a network -> whether the mechanism is gone from it or hidden; empty where not asked for.
        probes: name of a network -> what its features hold; empty where not asked for.
        groups: name of a network -> how often it is right in each group of rows; empty where not asked for.
        settled_paths: in the place of `paths` where they were read until settled, judged in what effects are measured
            on: the error rate, or a metric with bounds.
    """

    derived: ClassVar[tuple[str, ...]] = ("names", "headline", "verdict", "findings", "connections", "settings_hash")

    comparison: Comparison
    discrepancy: OutputDiscrepancy | None
    paths: Mapping[str, Profile]
    alignment: Alignment | None
    blocks: BlockProfiles | None
    similarity: RepresentationSimilarity | None
    notes: tuple[str, ...]
    tolerance: float
    settings: Mapping[str, Any]
    seconds: float
    environment: Environment
    examples: Examples = field(default_factory=Examples)
    relearned: Mapping[str, Relearned] = field(default_factory=dict)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    groups: Mapping[str, GroupAccuracies] = field(default_factory=dict)
    settled_paths: Mapping[str, SettledPath] = field(default_factory=dict)

    @classmethod
    def migrate(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """Plain values of release 0.1.0 as those of today; a note says what they lack."""
        return migrate_audit(plain)

    @property
    def names(self) -> tuple[str, str]:
        """What the two are called."""
        return self.comparison.names

    @property
    def verdict(self) -> str:
        """Whether the two use the same mechanisms: "similar", "dissimilar" or "undetermined"; see `Comparison`."""
        return self.comparison.verdict

    @property
    def headline(self) -> str:
        """What the interventions showed, with the names of the two; then what each does with what was relearned."""
        return " ".join([self.comparison.headline, *describe_states(self.relearned)])

    @property
    def connections(self) -> Mapping[str, PathVerdict]:
        """The verdicts on each path, at the tolerance.

        An end counts as shifted beyond the margin where effects are in accuracy, else beyond 0.05, in accuracy or loss;
        on a path that was read until settled beyond the margin, in what effects are measured on.
        """
        margin = choose_shift_margin(self.comparison.a.on, self.comparison.a.margin)
        walked = {which: path.judge(self.tolerance, margin) for which, path in self.paths.items()}
        return walked | {which: path.judge() for which, path in self.settled_paths.items()}

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings as sorted JSON."""
        return hash_settings(dict(self.settings))

    def header(self) -> Header:
        """The headline, the question, and the verdict with its reason."""
        return replace(self.comparison.header(), title=self.headline)

    def cards(self) -> list[Card]:
        """The questions that it answers, a card for each."""
        return list(list_audit_cards(self))

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers say, what follows from it and what does not, in plain sentences."""
        return tuple(write_sentences(self))

    def __str__(self) -> str:
        return "\n".join([self.headline, *(f"- {sentence}" for sentence in self.findings)])

    def rows(self) -> list[dict[str, Any]]:
        """One record per model and split, as `Comparison.rows` gives them."""
        return self.comparison.rows()

    def sections(self) -> list[Section]:
        """What each model relies on, the paths, and what else was asked for."""
        return list(make_audit_sections(self))

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the effects on A and B side by side, with their 95 % intervals, and the margin."""
        return self.comparison.plot(ax=ax)


def audit(
    model_a: nn.Module,
    model_b: nn.Module,
    suite: Suite,
    *,
    norm: NormPolicy | None = None,
    margin: float = 0.05,
    on: On = "accuracy",
    alignment: Aligning = "auto",
    symmetry: Symmetry | None = None,
    ts: int | Sequence[float] = 11,
    tolerance: float = 0.05,
    blocks: BlockChoice | None = None,
    layers: Sequence[str] | Literal["all"] | None = None,
    names: tuple[str, str] = ("A", "B"),
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    relearn: RelearningTask | None = None,
    probe: ProbeTask | None = None,
    groups: GroupTask | None = None,
    until: Until = "end",
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
    samples: bool = True,
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
            models keep any. Where it makes an end another network than the saved one, the sentences say so.
        margin: the largest effect that counts as none, in accuracy, in loss, or in the metric.
        on: "accuracy", "loss", or the name of a metric.
        alignment: how B is aligned; "auto" matches activations on the data of `norm` where it is a `Reestimate`, else
            weights; "none" leaves it out.
        symmetry: as in `align`; default: found on the first rows of the reference split.
        ts: number of points on the path, three or more, or the points themselves.
        tolerance: the largest barrier that counts as none: in loss (nats, for the default loss); with until="settled"
            in the error rate, where 0.05 is five points, or in the units of the metric that `on` names.
        blocks: also the path block by block, as in `evaluate_blocks`; None leaves it out.
        layers: also linear CKA on the reference split: of these layers, or of "all" that run once; None
            leaves it out. It comes first, so that layers asked for in vain are refused before the work.
        names: what to call the two.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`; see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`. The intervals of effects
            and of barriers are then over clusters.
        relearn: also whether a mechanism is gone or hidden: both networks relearn it, against the task's control, or
            each against its own placebo; see `measure_relearning`. Its margin is that of effects on accuracy, and how
            far its rows are read the task says itself.
        probe: also what the features of both networks hold, beside the control where there is one; see `probe`.
        groups: also how often both networks are right in each group of rows, and the worst group of each; see
            `measure_groups`. It costs no further pass.
        until: "end" reads all rows at all points, "settled" as many as settle every verdict; see `measure_invariance`
            and `settle_path`. Paths are then judged in what effects are measured on, the error rate or a metric with
            bounds, since a loss cannot be settled early, at a `tolerance` and a `margin` in its units:
            `Audit.settled_paths`.
        seed: of everything that is drawn.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where model_a is.
        progress: short for `Compute(progress=...)`; counts steps.
        samples: whether the result holds the first samples of every split, which its page and its files show; False
            where they are private.

    Raises:
        ValueError: as in `compare_mechanisms` and `evaluate_path`; with `relearn` as in `measure_relearning`, of the
            control for each network by itself; with `probe` as there; with `groups` as in `measure_groups`.

    Source: Lubana et al. 2023, sections 2 and 3.
    """
    started = time.perf_counter()
    given = unwrap_module(model_a, "model_a"), unwrap_module(model_b, "model_b")
    first, second = (found.module for found in join_networks(given))
    models, by_name = (first, second), any(task is not None for task in (relearn, probe, groups))
    grid, measured = _check_form(ts, names, tolerance, by_name), check_metrics(metrics)
    check_questions(suite, margin, on, measured, until)
    check_interventions("an audit", suite.interventions)
    _check_request(models, alignment, layers)
    check_settles_all(until, {"blocks": blocks, "groups": groups, "layers": layers})
    check_label_names([(f"model {name}", model) for name, model in zip(names, given, strict=True)], suite, loss)
    compute, clusters = fix_device(resolve_compute(compute, device, progress), models[0]), read_clusters(cluster, suite)
    a, b = (
        Evaluator(
            model,
            suite,
            loss=loss,
            metrics=metrics,
            cluster=clusters,
            keep_probabilities=True,
            seed=seed,
            compute=compute,
        )
        for model in models
    )
    policy = resolve_norm(norm, a.network)
    relearning = begin_relearning(
        relearn, given, suite, choose_shift_margin(on, margin), names=names, loss=loss, cluster=cluster, seed=seed,
        compute=compute,
    )  # fmt: skip
    why = explain_disjoint(
        models, (a.network, b.network), (a.saved, b.saved), lambda: a.example, ignore=ignore, names=names
    )
    if blocks is not None and not why:  # before the work, not after it
        group_parameters(list(a.network.make_weightless_parameters()), blocks, None)
        check_blocks(policy)
    notes = [f"{say_not_one_module(names, why)}. {NO_PATH}"] if why else []
    by_group = measure_audit_groups(groups, (a, b), names)
    similarity, unlike = (None, []) if layers is None else compare_audit_layers(a, b, layers)
    probes = measure_probes(probe, None if relearn is None else relearn.control, given, names, seed, compute)
    comparison, discrepancy, reader = compare_pair(a, b, margin, on, until)
    lines, settled = dict[str, Profile](), dict[str, SettledPath]()
    aligned: Alignment | None = None
    found: BlockProfiles | None = None
    if not why:
        aligned, unaligned = align_or_explain(*models, alignment, symmetry, a.example, policy, seed, compute)
        notes += unaligned
        aligned = None if aligned is None else note_same_rows(aligned, alignment, suite)
        end = share_ignored(b.saved, a.saved, ignore)
        moved = None if aligned is None else share_ignored(point_of(aligned.model), a.saved, ignore)
        lines, settled = walk_audit_lines((a, reader), end, moved, grid, policy, (tolerance, on, margin))
        if blocks is not None:
            walk = BlockWalk(a, (a.saved, moved or end), "a", grid, policy, keep=False)
            found = walk.evaluate(blocks, whole=list(lines.values())[-1])
    log_warnings("audit", (*notes, *unlike))
    relearned = {} if relearning is None else relearning.measure(given, comparison)
    return Audit(
        comparison=replace(comparison, names=names),
        discrepancy=discrepancy,
        paths={which: replace(line, names=names) for which, line in lines.items()},
        settled_paths={which: replace(line, names=names) for which, line in settled.items()},
        alignment=aligned,
        blocks=found,
        similarity=similarity,
        notes=(*notes, *unlike),
        tolerance=tolerance,
        settings={
            "reference": suite.reference,
            "interventions": list(suite.interventions),
            "margin": margin,
            "on": on,
            "tolerance": tolerance,
            "until": until,
            "ts": list(grid) if lines or settled else None,
            "alignment": "none" if aligned is None else dict(aligned.settings),
            "norm": policy.describe() if lines or settled else "none",
            "blocks": to_plain(blocks),
            "layers": to_plain(layers),
            "metrics": {name: metric.bounds for name, metric in measured.items()},
            "samples": dict(comparison.a.samples),
            **({"clusters": dict(comparison.a.clusters)} if comparison.a.clusters else {}),
            **({} if relearning is None else {"relearning": relearning.settings()}),
            **({} if probe is None else {"probe": describe_probe(probe, probes)}),
            **({} if groups is None else {"groups": describe_group_task(groups, suite)}),
            **a.settings,
        },
        seconds=time.perf_counter() - started,
        environment=read_environment(str(a.settings["device"])),
        relearned=relearned,
        probes=probes,
        groups=by_group,
        examples=show_examples(suite) if samples else Examples(),
    )


def _check_form(
    ts: int | Sequence[float], names: tuple[str, str], tolerance: float, by_name: bool
) -> tuple[float, ...]:
    """The grid, after refusing one on which nothing could be settled, and names that are not two, or one `by_name`."""
    check_non_negative("tolerance", tolerance)
    if (points := len(ts) if isinstance(ts, Sequence) else ts) < 3:
        raise ValueError(f"an audit needs three points on the path or more, the ends among them, got {points}")
    if len(names) != 2:
        raise ValueError(f"names must be two, of A and of B, got {len(names)}")
    if not all(names):
        raise ValueError(f"names must not be empty, got {names!r}; pass what the two are called, or leave names out")
    if by_name and names[0] == names[1]:
        raise ValueError(f"names must differ where relearning, probes or groups are asked for, got {names[0]!r} twice")
    return check_grid(ts)


def _check_request(
    models: tuple[nn.Module, nn.Module], alignment: Aligning, layers: Sequence[str] | str | None
) -> None:
    """Refuse before the work what would fail after it."""
    if isinstance(alignment, str):
        check_choice("alignment", alignment, ("auto", "none"))
    else:
        check_is("alignment", alignment, AlignmentMethod, "; pass ActivationMatching(data), WeightMatching() or 'none'")
    for name in [] if layers is None or isinstance(layers, str) else layers:
        for model in models:
            check_choice("layer", name, [n for n, _ in model.named_modules(remove_duplicate=False)])
