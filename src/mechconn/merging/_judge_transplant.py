"""Judging a transplant by effects and relearning, against tuning the other network itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from mechconn.connectivity import Evaluator
from mechconn.core import (
    Compute,
    PerSampleLoss,
    Progress,
    check_choice,
    check_is,
    check_share,
    log_warnings,
    resolve_compute,
)
from mechconn.datasets import Clusters, Suite, read_clusters
from mechconn.losses import cross_entropy
from mechconn.mechanisms import (
    ALPHA,
    Difference,
    Invariance,
    ModelOutcome,
    On,
    Relearned,
    RelearningComparison,
    RelearningTask,
    check_questions,
    choose_shift_margin,
    compare_over_samples,
    compare_with_mixture,
    compute_difference,
    measure_outcome,
    prepare_relearning,
)
from mechconn.merging._add_change import add_change
from mechconn.merging._judged_transplant import JudgedTransplant
from mechconn.merging._merge_mechanisms import judge_together
from mechconn.merging._merge_parents import name_network
from mechconn.merging._merge_rows import list_shared
from mechconn.merging._merge_verdict import Better, check_tolerance, choose_better
from mechconn.merging._transplant import Transplant, are_statistics_of
from mechconn.merging._travelled import (
    KeptLevel,
    MovedEffect,
    TravelQuestion,
    add_directions,
    compute_share,
    find_directions,
)
from mechconn.network import (
    Metric,
    Network,
    NormPolicy,
    WeightChange,
    are_equal,
    as_points,
    check_metrics,
    parameters_of,
    resolve_norm,
    unwrap_module,
    with_change,
)

NO_CUE = "no_cue"
SAME = Difference(0.0, (0.0, 0.0))
"""Between a network and itself."""
RELEARNING = ("transplanted", "tuned")
"""Networks that relearn."""


def judge_transplant(
    found: Transplant,
    onto: nn.Module,
    suite: Suite,
    *,
    tuned: nn.Module,
    keep: str | None = None,
    least: float = 0.5,
    tolerance: float = 0.05,
    margin: float = 0.05,
    norm: NormPolicy | None = None,
    relearn: RelearningTask | None = None,
    folder: str | Path | None = None,
    on: On = "accuracy",
    better: Better | None = None,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> JudgedTransplant:
    r"""Does the fix travel? Effects of the network before, with the transplant, and tuned by the method itself.

    Of each effect that tuning moves, the share of the way is (e_transplanted - e_before) / (e_tuned - e_before). A fix
    travels where every effect that tuning moves by more than `margin` goes `least` of the way or more, and what is
    measured on `keep` gets worse by no more than `tolerance`. The verdict on each network is wrong with probability 5 %
    at most, by itself; the proof stands in `mechconn.merging._travelled`. Moves, shares, gains and what is kept are
    shown with intervals that hold together with 95 %; so do the verdicts on effects, of all networks together. Each
    network's relearning holds by itself. These are separate statements: nothing is said of all of them at once.

    Two controls are judged alike: the same change added as it is, without alignment, and a change of random direction
    that is as large tensor by tensor. Where `norm` takes normalisation statistics anew, the network before has them
    too, so that what they change by themselves counts for nothing.

    Args:
        found: what `transplant` gave.
        onto: the network that got it, as it was. None of the networks is changed.
        suite: the splits: effects of its interventions are judged.
        tuned: the network tuned by the method itself, in the same way.
        keep: the split whose accuracy (or loss, or metric) must be kept; default: "no_cue" where there is one, else the
            reference.
        least: the share of the way from which a fix is said to travel, above 0 and below 1.
        tolerance: how much may be lost on `keep`.
        margin: the largest effect that counts as none, and the largest move of one by tuning, which decides nothing; in
            relearning the largest excess, 0.05 where effects are not on accuracy.
        norm: where the statistics of the controls come from; required when the models keep any. As in `transplant`.
        relearn: also measure whether the mechanism is gone or hidden in the transplanted network and in the tuned one,
            against a control that was trained without it and tuned alike.
        folder: where relearning writes checkpoints; None writes none.
        on: what effects are on: "accuracy", "loss" (as of a regression), or the name of a metric.
        better: of a metric, whether "higher" or "lower" values are better.
        loss: one value per sample from (outputs, targets); see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`.
        seed: of the random direction, and of everything else that is drawn.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where each model is.
        progress: short for `Compute(progress=...)`; counts networks.

    Raises:
        ValueError: a suite without interventions, a folder without relearning, a split that the suite does not hold,
            networks that are not one module (what the transplant was told to ignore is ignored), a transplant that was
            read from a file, `norm` is missing, or as in `measure_invariance`.

    Source: the controls of Ilharco et al. 2023 (random direction) and Chijiwa 2024 (no permutation).
    """
    compute = resolve_compute(compute, device, progress)
    check_is("found", found, Transplant, "; pass what transplant(change, base, onto, ...) gave")
    measured = check_metrics(metrics)
    check_questions(suite, margin, on, measured)
    check_tolerance(tolerance, on)
    check_share("least", least)
    keep = _choose_kept(keep, suite)
    if folder is not None and relearn is None:
        raise ValueError("folder is where relearning writes checkpoints; pass relearn= as well, or leave it out")
    question = TravelQuestion(keep, least, tolerance, margin, on, choose_better(on, better), len(suite.interventions))
    _check_whole(found)
    onto, tuned = unwrap_module(onto, "onto"), unwrap_module(tuned, "tuned")
    names = ("onto", "tuned", "the transplanted network")
    as_points(names, (onto, tuned, found.model), tuple(found.settings["ignore"]))
    policy = resolve_norm(norm, Network(onto, compute))
    _check_onto(found, onto)
    models = _make_networks(found, onto, tuned, policy, seed, compute)
    judging = _Judging(models, suite, question, loss, measured, cluster, seed, compute)
    judging.measure()
    networks = judge_together(judging.outcomes, suite, margin, on)
    again = judging.relearn(relearn, networks, folder)
    notes = tuple(_list_notes(found, onto, models, policy, suite))
    log_warnings("transplant", notes)
    settings = {
        "reference": suite.reference, "interventions": list(suite.interventions), "keep": keep, "least": least,
        "tolerance": tolerance, "margin": margin, "on": on, "better": question.better, "norm": policy.describe(),
        "ignore": list(found.settings["ignore"]), "metrics": {name: own.bounds for name, own in measured.items()},
        "seed": seed, **next(iter(judging.outcomes.values())).compute,
    }  # fmt: skip
    return JudgedTransplant(
        networks, judging.judge_effects(), judging.compare_gains(), judging.measure_kept(), question,
        judging.intervals, found, again, settings, notes,
    )  # fmt: skip


def _check_whole(found: Transplant) -> None:
    """Raise where networks and changes are missing, as in a file."""
    if not hasattr(found, "model"):
        raise ValueError(
            "found was read from a file, which holds neither networks nor changes; transplant it again with "
            "transplant(change, base, onto, ...)"
        )


def _check_onto(found: Transplant, onto: nn.Module) -> None:
    """Raise unless the network with the moved change is the one that was transplanted."""
    again, own = parameters_of(with_change(onto, found.change, found.scale)), parameters_of(found.model)
    if not all(are_equal(own[name], tensor) for name, tensor in again.items()):
        raise ValueError(
            "onto must be the network that got the transplant, got other weights; pass what transplant(change, base, "
            "onto, ...) was given"
        )


def _choose_kept(keep: str | None, suite: Suite) -> str:
    if not suite.interventions:
        raise ValueError(
            "judging a transplant needs interventions, got a suite without any; name them by Suite(..., "
            "interventions=...)"
        )
    if keep is None:
        return NO_CUE if NO_CUE in suite else suite.reference
    check_choice("keep", keep, tuple(suite))
    return keep


def _make_networks(
    found: Transplant, onto: nn.Module, tuned: nn.Module, norm: NormPolicy, seed: int, compute: Compute
) -> dict[str, nn.Module]:
    """Every network that is judged, by its name; the first without the change, with the statistics of the others."""

    def add(change: WeightChange, scale: float) -> nn.Module:
        return add_change(onto, change, scale, norm, seed, compute)

    models = {"before": add(found.change, 0.0), "transplanted": found.model}
    if found.is_moved:
        models["unaligned"] = add(found.given, found.scale)
    return models | {"random": add(found.change.random_like(seed), found.scale), "tuned": tuned}


@dataclass(eq=False)
class _Judging:
    """All networks, what is asked of them, and their outcomes once they are measured."""

    models: Mapping[str, nn.Module]
    suite: Suite
    question: TravelQuestion
    loss: PerSampleLoss
    metrics: Mapping[str, Metric]
    cluster: Clusters | None
    seed: int
    compute: Compute
    outcomes: dict[str, ModelOutcome] = field(default_factory=dict)

    def measure(self) -> None:
        """One pass of every network over every split."""
        clusters, quiet = read_clusters(self.cluster, self.suite), self.compute.without_progress()
        for number, (name, model) in enumerate(self.models.items()):
            with name_network(f"the network {name!r}"):
                evaluator = Evaluator(
                    model, self.suite, loss=self.loss, metrics=self.metrics, cluster=clusters, seed=self.seed,
                    compute=quiet,
                )  # fmt: skip
                self.outcomes[name] = measure_outcome(evaluator, self.question.on)
            self.compute.report("evaluating networks", number + 1, len(self.models))

    @property
    def judged(self) -> list[str]:
        """All networks but the one before."""
        return [name for name in self.models if name != "before"]

    @property
    def intervals(self) -> int:
        """How many are shown: of moves and of what is kept, of gaps to the tuned network, and of gains."""
        moves, count = len(self.suite.interventions), len(self.judged)
        return count * (2 * moves + 1) - moves + (moves if "unaligned" in self.models else 0)

    def judge_effects(self) -> dict[str, dict[str, MovedEffect]]:
        """Network -> intervention -> how far its effect was moved."""
        before, tuned = self.outcomes["before"], self.outcomes["tuned"]
        moved = {name: self._compare("before", name) for name in self.judged}
        confidence = 1.0 - 2.0 * self.question.tail
        way = self._compare("before", "tuned", confidence)
        directions = find_directions(way, self.question.margin)
        found = {}
        for name in self.judged:
            gaps = dict.fromkeys(way, SAME) if name == "tuned" else self._compare("tuned", name)
            shares = {
                split: compute_share(own, moved["tuned"][split], gaps[split]) for split, own in moved[name].items()
            }
            beyond = compare_with_mixture(
                before, tuned, self.outcomes[name], self.suite, self.question.on, self.question.least, confidence
            )
            found[name] = add_directions(shares, beyond, directions)
        return found

    def compare_gains(self) -> dict[str, Difference]:
        """Intervention -> effect on the transplanted network minus that on the unaligned one."""
        return self._compare("unaligned", "transplanted") if "unaligned" in self.models else {}

    def measure_kept(self) -> dict[str, KeptLevel]:
        """Network -> what is kept."""
        keep, on, shown = self.question.keep, self.question.on, 1.0 - ALPHA / self.intervals
        found, before = {}, self.outcomes["before"]
        for name in self.judged:
            rows = [outcome.splits[keep].rows(on) for outcome in (before, self.outcomes[name])]
            evidence = compute_difference(rows[0], rows[1], on, True, before.bounds_on(on))
            (low, _), (_, high) = (
                self.question.improve(evidence.interval(1.0 - 2.0 * tail)) for tail in (ALPHA, self.question.tail)
            )
            found[name] = KeptLevel(evidence.effect, evidence.interval(shown), (low, high))
        return found

    def _compare(self, a: str, b: str, confidence: float | None = None) -> dict[str, Difference]:
        """Intervention -> effect on b minus that on a."""
        confidence = 1.0 - ALPHA / self.intervals if confidence is None else confidence
        found = compare_over_samples(
            self.outcomes[a], self.outcomes[b], self.suite, self.question.on, confidence
        )  # fmt: skip
        return {split: found[split] for split in self.suite.interventions}

    def relearn(
        self, task: RelearningTask | None, networks: Mapping[str, Invariance], folder: str | Path | None
    ) -> dict[str, Relearned]:
        """Gone or hidden, in the transplanted network and in the tuned one."""
        if task is None:
            return {}
        on = self.question.on
        setup = prepare_relearning(
            task, self.suite, choose_shift_margin(on, self.question.margin), loss=self.loss, cluster=self.cluster,
            folder=None if folder is None else Path(folder), seed=self.seed, compute=self.compute,
            copies=2 * len(RELEARNING),
        )  # fmt: skip
        asked = RelearningComparison(task, setup).check(self.models["before"])
        known = networks if on == "accuracy" else {}
        return {name: asked.measure(name, self.models[name], task.control, known.get(name)) for name in RELEARNING}


def _list_notes(
    found: Transplant, onto: nn.Module, models: Mapping[str, nn.Module], norm: NormPolicy, suite: Suite
) -> Iterator[str]:
    if shared := list_shared(getattr(norm, "data", None), suite):
        yield (
            f"normalisation statistics were taken on rows that judge the transplant, in {', '.join(shared)}; take "
            "training rows"
        )
    if shared := list_shared(found.matched_on, suite):
        yield f"units were matched on rows that judge the transplant, in {', '.join(shared)}; match on others"
    if found.statistics != norm.describe():
        yield "the controls' normalisation statistics came from another policy than the transplanted network's"
    if not are_statistics_of(models["before"], onto):
        yield (
            "the network before has its normalisation statistics taken anew, as with the change; what they change by "
            "themselves is no part of any share"
        )
