"""Judging a transplant by effects and relearning, against tuning the other network itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    Relearned,
    RelearningComparison,
    RelearningTask,
    check_questions,
    compare_over_samples,
    compute_difference,
    measure_outcome,
    prepare_relearning,
)
from mechconn.merging._judged_transplant import JudgedTransplant
from mechconn.merging._merge_mechanisms import judge_together
from mechconn.merging._merge_parents import name_network
from mechconn.merging._merge_rows import list_shared
from mechconn.merging._merge_verdict import check_tolerance
from mechconn.merging._transplant import Transplant, add_change
from mechconn.merging._travelled import compute_share
from mechconn.network import (
    Network,
    NormPolicy,
    are_equal,
    as_points,
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
    loss: PerSampleLoss = cross_entropy,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> JudgedTransplant:
    r"""Does the fix travel? Effects of the network before, with the transplant, and tuned by the method itself.

    Of each effect that tuning moves, the share of the way is (e_transplanted - e_before) / (e_tuned - e_before). A fix
    travels where every such share is `least` or more, and the accuracy on `keep` falls by no more than `tolerance`.
    What is stated is right together with probability 95 % at least; the proof stands in `mechconn.merging._travelled`.

    Two controls are judged alike: the same change added as it is, without alignment, and a change of random direction
    that is as large tensor by tensor.

    Args:
        found: what `transplant` gave.
        onto: the network that got it, as it was. None of the networks is changed.
        suite: the splits: effects of its interventions are judged.
        tuned: the network tuned by the method itself, in the same way.
        keep: the split whose accuracy must be kept; default: "no_cue" where there is one, else the reference.
        least: the share of the way from which a fix is said to travel, above 0 and below 1.
        tolerance: how much accuracy may be lost on `keep`.
        margin: the largest effect that counts as none, in the networks' own verdicts and in relearning.
        norm: where the statistics of the controls come from; required when the models keep any. As in `transplant`.
        relearn: also measure whether the mechanism is gone or hidden in the transplanted network and in the tuned one,
            against a control that never met it, tuned alike.
        folder: where relearning writes checkpoints; None writes none.
        loss: one value per sample from (outputs, targets); see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`.
        seed: of the random direction, and of everything else that is drawn.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where each model is.
        progress: short for `Compute(progress=...)`; counts networks.

    Raises:
        ValueError: a suite without interventions, a split that it does not hold, networks that are not one module, a
            transplant that was read from a file, `norm` is missing, or as in `measure_invariance`.

    Source: the controls of Ilharco et al. 2023 (random direction) and Chijiwa 2024 (no permutation).
    """
    compute = resolve_compute(compute, device, progress)
    check_is("found", found, Transplant, "; pass what transplant(change, base, onto, ...) gave")
    check_questions(suite, margin, "accuracy", {})
    check_tolerance(tolerance, "accuracy")
    check_share("least", least)
    keep = _choose_kept(keep, suite)
    onto, tuned = unwrap_module(onto, "onto"), unwrap_module(tuned, "tuned")
    as_points(("onto", "tuned", "the transplanted network"), (onto, tuned, found.model))
    policy = resolve_norm(norm, Network(onto, compute))
    _check_onto(found, onto)
    models = _make_networks(found, onto, tuned, policy, seed, compute)
    outcomes = _measure_all(models, suite, loss, cluster, seed, compute)
    networks = judge_together(outcomes, suite, margin, "accuracy")
    judged = [name for name in models if name != "before"]
    moves = len(suite.interventions)
    intervals = len(judged) * (2 * moves + 1) - moves + (moves if "unaligned" in judged else 0)
    confidence = 1.0 - ALPHA / intervals
    moved = {name: _compare(outcomes["before"], outcomes[name], suite, confidence) for name in judged}
    tuned_way = moved["tuned"]
    effects = {"tuned": {split: compute_share(way, way, SAME) for split, way in tuned_way.items()}}
    for name in (name for name in judged if name != "tuned"):
        gaps = _compare(outcomes["tuned"], outcomes[name], suite, confidence)
        effects[name] = {split: compute_share(own, tuned_way[split], gaps[split]) for split, own in moved[name].items()}
    effects = {name: effects[name] for name in judged}
    gains = (
        _compare(outcomes["unaligned"], outcomes["transplanted"], suite, confidence) if "unaligned" in judged else {}
    )
    kept = {name: _compare_means(outcomes["before"], outcomes[name], keep, confidence) for name in judged}
    again = _relearn(relearn, models, networks, suite, margin, loss, cluster, folder, seed, compute)
    notes = tuple(_list_notes(found, policy, suite))
    log_warnings("transplant", notes)
    settings = {
        "reference": suite.reference, "interventions": list(suite.interventions), "keep": keep, "least": least,
        "tolerance": tolerance, "margin": margin, "norm": policy.describe(), "seed": seed,
        **next(iter(outcomes.values())).compute,
    }  # fmt: skip
    return JudgedTransplant(
        networks, effects, gains, kept, keep, least, tolerance, intervals, found, again, settings, notes
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
    """Every network that is judged, by its name."""
    models = {"before": onto, "transplanted": found.model}
    if found.is_moved:
        models["unaligned"] = add_change(onto, found.given, found.scale, norm, seed, compute)
    random = found.change.random_like(seed)
    return models | {"random": add_change(onto, random, found.scale, norm, seed, compute), "tuned": tuned}


def _measure_all(
    models: Mapping[str, nn.Module],
    suite: Suite,
    loss: PerSampleLoss,
    cluster: Clusters | None,
    seed: int,
    compute: Compute,
) -> dict[str, ModelOutcome]:
    found, clusters = {}, read_clusters(cluster, suite)
    for number, (name, model) in enumerate(models.items()):
        quiet = compute.without_progress()
        with name_network(f"the network {name!r}"):
            found[name] = measure_outcome(
                Evaluator(model, suite, loss=loss, cluster=clusters, seed=seed, compute=quiet), "accuracy"
            )
        compute.report("evaluating networks", number + 1, len(models))
    return found


def _compare(a: ModelOutcome, b: ModelOutcome, suite: Suite, confidence: float) -> dict[str, Difference]:
    found = compare_over_samples(a, b, suite, "accuracy", confidence)
    return {split: found[split] for split in suite.interventions}


def _compare_means(a: ModelOutcome, b: ModelOutcome, split: str, confidence: float) -> Difference:
    rows = [outcome.splits[split].rows("accuracy") for outcome in (a, b)]
    evidence = compute_difference(rows[0], rows[1], "accuracy", True, a.bounds_on("accuracy"))
    return Difference(evidence.effect, evidence.interval(confidence))


def _relearn(
    task: RelearningTask | None,
    models: Mapping[str, nn.Module],
    networks: Mapping[str, Invariance],
    suite: Suite,
    margin: float,
    loss: PerSampleLoss,
    cluster: Clusters | None,
    folder: str | Path | None,
    seed: int,
    compute: Compute,
) -> dict[str, Relearned]:
    """Gone or hidden, in the transplanted network and in the tuned one."""
    if task is None:
        return {}
    setup = prepare_relearning(
        task, suite, margin, loss=loss, cluster=cluster, folder=None if folder is None else Path(folder), seed=seed,
        compute=compute, copies=2 * len(RELEARNING),
    )  # fmt: skip
    asked = RelearningComparison(task, setup).check(models["before"])
    return {name: asked.measure(name, models[name], task.control, networks[name]) for name in RELEARNING}


def _list_notes(found: Transplant, norm: NormPolicy, suite: Suite) -> Iterator[str]:
    if shared := list_shared(getattr(norm, "data", None), suite):
        yield (
            f"normalisation statistics were taken on rows that judge the transplant, in {', '.join(shared)}; take "
            "training rows"
        )
    if shared := list_shared(found.matched_on, suite):
        where = ", ".join(shared)
        yield f"units were matched by the loss on rows that judge the transplant, in {where}; match on others"
    if found.statistics != norm.describe():
        yield "the controls' normalisation statistics came from another policy than the transplanted network's"
