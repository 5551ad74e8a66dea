"""`search_scale`: how much of a change of weights is to be added, and does it do what it is for?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from mechconn.core import (
    Compute,
    PerSampleLoss,
    Progress,
    check_choice,
    check_count,
    check_is,
    log_warnings,
    read_environment,
    resolve_compute,
)
from mechconn.datasets import Clusters, Suite, check_label_names, read_clusters
from mechconn.losses import cross_entropy
from mechconn.mechanisms import On, check_questions
from mechconn.merging._merge_rows import note_choosing_rows
from mechconn.merging._merge_verdict import Better
from mechconn.merging._scale_curves import make_curves
from mechconn.merging._scale_random import judge_random
from mechconn.merging._scale_request import (
    SCALES,
    Keep,
    check_choosing,
    check_reaches_up,
    check_splits,
    read_question,
    read_scales,
    refuse_unknown_clusters,
)
from mechconn.merging._scale_runs import ScaleRuns
from mechconn.merging._scale_search import ScaleSearch
from mechconn.merging._scale_verdict import Choose, choose_scale, judge_claims
from mechconn.network import Metric, NormPolicy, WeightChange, check_metrics, unwrap_module


@torch.inference_mode(False)  # the network it gives may be trained
def search_scale(
    base: nn.Module,
    change: WeightChange,
    suite: Suite,
    *,
    lower: str | None = None,
    higher: str | None = None,
    keep: Keep = ("no_cue", 0.95),
    scales: Iterable[float] = SCALES,
    choose: Choose = "best",
    choosing: float | Suite = 0.5,
    enough: float = 0.5,
    floor: float | None = None,
    draws: int = 3,
    norm: NormPolicy | None = None,
    margin: float = 0.05,
    on: On = "accuracy",
    better: Better | None = None,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> ScaleSearch:
    r"""Add a change of weights at many scales, choose one on some rows, and judge it on the others.

        theta(s) = theta_base + s tau

    Negation passes -tau and asks for a `lower` value, addition tau_1 + tau_2 and a `higher` one, an analogy
    theta_C + (theta_B - theta_A) the change weight_change(A, B) for the base C. At the chosen scale the verdict says
    whether the target moves, whether half (`1 - enough`) or more of what it has above the `floor` goes, and whether the
    rest is kept; it is wrong with probability 5 % at most. The proof, and the level of the curve's intervals, stand in
    `mechconn.merging._scale_verdict`. Random changes whose tensors have the same norms are a control: what they do at
    the same scale any change of that size does.

    Rows of one sample are on one side in every split, as far as this is known: from what rows were selected from
    (`select_rows`, cue tasks, files), from clusters, and of tensors where two splits hold equal targets in one order;
    tensors in which one sample stands at different places need `cluster=`. Rows that chose do not judge. The rows that
    the change was trained on are not known here: they must not be in the suite. Scale 0 is the base with statistics of
    the same `norm`, so that the curve shows what the change does; how far these move the base itself is noted.

    Args:
        base: the network that is edited; it stays as it is.
        change: tau, of the same names and shapes.
        suite: the splits. Every one has a curve.
        lower: the split whose value is to fall, such as "rand_image", where the cue alone tells the label; or
        higher: the split whose value is to rise.
        keep: (split, share): what must stay at `share` times the base's value or more; on a measure of which lower
            values are better, at 1 / share times or less. Several pairs may be listed, or none.
        scales: finite numbers; 0 is added. A scale at which the change or a random one of its norms takes a network so
            far that it cannot be evaluated (NaN) is left out, with a note.
        choose: "best", "largest" or "shown": of the scales that keep on the rows that choose, the one that moves the
            target furthest, with `lower` nearest to the floor; the largest, as the source does; or as "best", of those
            that are shown to keep.
        choosing: the share of rows that choose, or a suite of other rows with the target and the kept splits, which
            counts as independent rows.
        enough: with `lower`, what may be left: removed is a target that has that share, or less, of what the base's
            has above the floor.
        floor: with `lower`, the value at which nothing is left of the target: a network that is right less often than
            chance follows the mechanism in reverse. Default: on accuracy chance, the sum of the squared shares of the
            labels (1 / K of K balanced classes), else 0. Taken as known.
        draws: random changes, `change.random_like(seed)`, `(seed + 1)`, ...
        norm: where normalisation statistics come from; required when the model keeps any. `KeepNorm()` leaves the
            base's alone.
        margin: the largest move that counts as none; see `measure_invariance`.
        on: "accuracy", "loss", or the name of a metric, whose values must not be negative.
        better: of a metric, whether "higher" or "lower" values are better.
        loss: one value per sample from (outputs, targets); see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters, which are divided as wholes.
        seed: of the division of rows, the random changes, and everything that is drawn.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts networks.

    Raises:
        ValueError: neither lower nor higher or both, a split that is not there, a share outside (0, 1], a floor outside
            the range of values, scales that are not finite or all break the network, a change of other names or shapes,
            rows that choose and judge, a side of fewer than two rows, negative values of which a share is taken, or as
            in `measure_invariance`.

    Example:
        A linear classifier that adds a cue's weight, 2, to the content's, 1. Where they disagree the cue wins, until
        more than half of its weight is taken away.

        >>> import mechconn as mc
        >>> def read(content, cue):
        ...     model = nn.Linear(2, 2, bias=False).requires_grad_(False)
        ...     _ = model.weight.copy_(torch.tensor([[0.0, 0.0], [content, cue]]))
        ...     return model
        >>> y = torch.arange(400) % 2
        >>> sign, none = 2.0 * y - 1, torch.zeros(400)
        >>> suite = Suite({
        ...     "no_cue": (torch.stack([sign, none], 1), y),
        ...     "rand_image": (torch.stack([(-1.0) ** (torch.arange(400) // 2) * sign, sign], 1), y),
        ... }, reference="no_cue")
        >>> cue = mc.weight_change(read(1.0, 0.0), read(1.0, 2.0))
        >>> grid = [n / 10 for n in range(11)]
        >>> found = search_scale(read(1.0, 2.0), -cue, suite, lower="rand_image", scales=grid)
        >>> found.scale, found.verdict, found.value("no_cue")
        (0.6, 'removes', 1.0)

    Source: Ilharco et al. 2023, *Editing models with task arithmetic*.
    """
    started = time.perf_counter()
    compute = resolve_compute(compute, device, progress)
    measured = check_metrics(metrics)
    check_questions(suite, margin, on, measured)
    base = unwrap_module(base, "base")
    check_is("change", change, WeightChange, "; pass weight_change(base, tuned)")
    check_label_names([("the base", base)], suite, loss)
    bounds = (0.0, 1.0) if on == "accuracy" else measured[on].bounds if on in measured else None
    asked = read_question(lower, higher, keep, suite, on, better, enough, margin, floor, bounds)
    check_choice("choose", choose, ("best", "largest", "shown"))
    chooses = check_choosing(choosing, suite)
    if isinstance(chooses, Suite):
        check_splits(asked, chooses, "choosing=")
        refuse_unknown_clusters(choose, cluster)
    grid = read_scales(scales)
    check_reaches_up(choose, grid)
    own = {"loss": loss, "metrics": metrics, "cluster": read_clusters(cluster, suite), "seed": seed}
    runs = ScaleRuns(base, change, suite, chooses, grid, check_count("draws", draws), norm, on, own,
                     compute)  # fmt: skip
    asked = runs.measure(asked, floor)
    chosen, kept = choose_scale(asked, runs.choosing_values, choose)
    judging, draws_of = runs.judging_values, runs.random_draws
    notes = (*runs.list_notes(asked), *note_choosing_rows(None, norm, suite))
    log_warnings("scale search", notes)
    return ScaleSearch(
        scale=chosen,
        target=asked.target,
        direction=asked.direction,
        keep=asked.keep,
        on=on,
        better=asked.better,
        enough=asked.enough,
        floor=asked.floor,
        margin=margin,
        scales=runs.grid,
        kept=tuple(kept[scale] for scale in runs.grid),
        curves=make_curves(asked, runs),
        claims=judge_claims(asked, judging[0.0], judging[chosen]) if chosen else (),
        random=judge_random(asked, judging[0.0], judging[chosen], draws_of[chosen]) if chosen else (),
        effects=runs.judge_effects(chosen, margin),
        change_norm=change.norm,
        row_counts=runs.count_rows(),
        over="clusters" if any(rows.clusters is not None for rows in judging[0.0].values()) else "rows",
        norm=runs.describe_norm(),
        notes=notes,
        settings={**runs.describe(asked, measured), "choose": choose},
        seconds=time.perf_counter() - started,
        environment=read_environment(str(runs.first.settings["device"])),
        model=runs.build(change, chosen),
    )
