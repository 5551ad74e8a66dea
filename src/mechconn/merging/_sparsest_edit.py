"""`sparsest_edit`: how few weights, or ranks, carry what a network answers by?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mechconn.core import (
    Compute,
    Data,
    Params,
    PerSampleLoss,
    Progress,
    as_data,
    check_count,
    check_is,
    check_same_keys,
    check_same_shapes,
    hash_content,
    log_warnings,
    read_environment,
    resolve_compute,
    share_known_rows,
)
from mechconn.datasets import Clusters, Suite, check_label_names, read_clusters
from mechconn.losses import cross_entropy
from mechconn.mechanisms import ALPHA, RowValues, check_questions
from mechconn.merging._edit_methods import Edit, EditMethod, RankDifference, SetDifference
from mechconn.merging._edit_scores import EditProblem
from mechconn.merging._edit_search import EditSearch
from mechconn.merging._edit_verdict import judge_edit
from mechconn.merging._merge_rows import note_choosing_rows
from mechconn.merging._scale_request import Keep, check_choosing, check_splits, read_question
from mechconn.merging._scale_verdict import ScaleQuestion, Values, bound_mean
from mechconn.merging._sparsest_edit_result import EditedLayer, EditedSplit, SparsestEdit
from mechconn.network import NormPolicy, parameters_of, unwrap_module


@torch.inference_mode(False)  # the network it gives may be trained
def sparsest_edit(
    model: nn.Module,
    cue: Data,
    clean: Data,
    suite: Suite,
    method: EditMethod | None = None,
    *,
    lower: str = "rand_image",
    keep: Keep = ("no_cue", 0.95),
    reference: nn.Module | None = None,
    choosing: float | Suite = 0.5,
    floor: float | None = None,
    draws: int = 3,
    norm: NormPolicy | None = None,
    margin: float = 0.05,
    loss: PerSampleLoss = cross_entropy,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> SparsestEdit:
    r"""The edit of fewest weights that brings a cue to chance and keeps the accuracy without it.

    By default weights score by how much the loss moves where they are set to the reference, to first order:

        s_ij = mean over rows of |(w_ij - w_ref,ij) dL/dw_ij|,      w_ref = 0 without a reference.

    The edit of (q, p) sets to the reference the weights of each layer among its top share q on rows with the `cue`,
    less those among its top share p on `clean` rows. `RankDifference()` takes directions of outputs instead,
    W <- W - (I - P_u) P_s (W - W_ref). See `mechconn.merging._edit_methods`.

    Edits are evaluated from the fewest changes on, on the rows that choose, until one is shown to bring the target
    `lower` to chance, within the `margin`, and to keep the rest. The verdict is over the other rows, with exact bounds,
    and wrong with probability 5 % at most; its proof stands in `mechconn.merging._edit_verdict`. Random edits of as
    many weights, or ranks, in every layer are the control.

    It is the sparsest of this family: a sparser edit may exist.

    Args:
        model: the network that is edited; it stays as it is.
        cue: rows whose answers rest on what is to go, such as `task.cue_only(500)`, in which the cue alone tells the
            label.
        clean: rows whose answers rest on what is to stay, such as `task.clean`.
        suite: the splits `lower` and those of `keep`; others are not read.
        method: `SetDifference()`, the default, or `RankDifference()`.
        lower: the split whose accuracy is to fall to chance, one in which the cue alone tells the label.
        keep: (split, share): what must stay at `share` times the model's accuracy or more. Several pairs may be listed,
            or none.
        reference: a network of the same names and shapes whose weights are taken where they are edited, such as the one
            before fine-tuning; default: zero.
        choosing: the share of rows that choose the edit, or a suite of other rows with these splits.
        floor: chance on the target; default: the sum of the squared shares of its labels, 1 / K of K balanced classes.
        draws: random edits, by seed, seed + 1, ...
        norm: where normalisation statistics come from; required when the model keeps any. `KeepNorm()` leaves the
            model's alone.
        margin: how far from chance counts as chance, in accuracy.
        loss: one value per sample from (outputs, targets), whose slopes score; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters, which are divided as wholes. Clusters of the rows of
            a suite that chooses are not known: the edit is then chosen by means alone.
        seed: of the rows that score, the division of rows, random edits, and everything that is drawn.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts edits.

    Raises:
        ValueError: rows that score are in the suite, a split that is not there, no linear map to edit, a reference of
            other names or shapes, shares outside their range or that change nothing, rows that choose and judge, a
            side of fewer than two rows, or as in `measure_invariance`.
        TypeError: a method that is none of the two.

    Example:
        A linear classifier that adds a cue's weight, 3, to the content's, 1: both weights of the cue, and no others.

        >>> import mechconn as mc
        >>> model = nn.Linear(2, 2, bias=False).requires_grad_(False)
        >>> _ = model.weight.copy_(torch.tensor([[-1.0, -3.0], [1.0, 3.0]]))
        >>> def rows(count, content, cue):
        ...     y = torch.arange(count) % 2
        ...     sign, other = 2.0 * y - 1, (-1.0) ** (torch.arange(count) // 2)
        ...     return torch.stack([sign if content else other * sign, cue * sign], 1), y
        >>> suite = Suite({"no_cue": rows(4000, True, 0), "rand_image": rows(4000, False, 1)}, reference="no_cue")
        >>> family = SetDifference(cue_shares=(0.25, 0.5), clean_shares=(0.0, 0.5))
        >>> found = sparsest_edit(model, rows(40, False, 1), rows(40, True, 0), suite, family)
        >>> found.verdict, found.edited, found.model.weight.tolist()
        ('brought to chance', 2, [[-1.0, 0.0], [1.0, 0.0]])

    Source: Wei et al. 2024, *Assessing the brittleness of safety alignment via pruning and low-rank modifications*;
    Lee, Ajanthan & Torr 2019 (SNIP).
    """
    started = time.perf_counter()
    compute = resolve_compute(compute, device, progress)
    model, method = unwrap_module(model, "model"), SetDifference() if method is None else method
    if not isinstance(method, SetDifference | RankDifference):
        raise TypeError(f"method must be SetDifference() or RankDifference(), got {type(method).__name__}")
    check_questions(suite, margin, "accuracy", {})
    asked = read_question(lower, None, keep, suite, "accuracy", None, 0.5, margin, floor, (0.0, 1.0))
    chooses = check_choosing(choosing, suite)
    if isinstance(chooses, Suite):
        check_splits(asked, chooses, "choosing=")
    suite = _select_splits(suite, asked)
    check_label_names([("the model", model)], suite, loss)
    sides = {"cue": as_data("cue", cue), "clean": as_data("clean", clean)}
    _refuse_scored_rows(sides, suite, chooses)
    problem = EditProblem(
        model, sides["cue"], sides["clean"], loss, _read_reference(model, reference), method.names, seed, compute
    )
    own = {"loss": loss, "cluster": read_clusters(cluster, suite), "seed": seed}
    search = EditSearch(model, suite, chooses, norm, own, compute)
    asked = search.start(asked, floor, method, problem)
    described = {"method": method.describe(), "reference": _identify(problem.reference)}
    return _report(search, asked, search.choose(asked), check_count("draws", draws), started, described)


def _report(
    search: EditSearch,
    asked: ScaleQuestion,
    chosen: Edit | None,
    draws: int,
    started: float,
    described: Mapping[str, Any],
) -> SparsestEdit:
    """What the rows that judge say of the chosen edit and of random ones."""
    family, base = search.family, search.judge_base()
    model, edited, random = search.build(None), None, list[Values]()
    if chosen is not None:
        model = search.build_edit(chosen)
        edited = search.judge("the edited network", model)
        random = [search.judge(f"random edit {n}", search.build_edit(chosen, n)) for n in range(draws)]
    notes = (*search.notes, *(f"{name} is not edited: {why}" for name, why in family.left_out.items()),
             *note_choosing_rows(None, search.norm, search.suite))  # fmt: skip
    log_warnings("sparsest edit", notes)
    counts = {} if chosen is None else chosen.counts
    return SparsestEdit(
        unit=family.unit,
        target=asked.target,
        keep=asked.keep,
        floor=asked.floor,
        margin=asked.margin,
        layers={name: EditedLayer(counts.get(name, 0), total) for name, total in family.totals.items()},
        parameters=sum(p.numel() for p in parameters_of(search.model).values()),
        splits=_bound_splits(base, edited, random),
        claims=() if edited is None else judge_edit(asked, base, edited),
        chosen=None if chosen is None else search.place(chosen),
        tried=tuple(search.tried),
        row_counts=search.count_rows(),
        over="clusters" if any(rows.clusters is not None for rows in base.values()) else "rows",
        norm=search.describe_norm(),
        notes=notes,
        settings={**described, "draws": draws, **search.describe(asked)},
        seconds=time.perf_counter() - started,
        environment=read_environment(str(search.evaluator.settings["device"])),
        model=model,
    )


def _bound_splits(base: Values, edited: Values | None, random: list[Values]) -> dict[str, EditedSplit]:
    """Accuracies with intervals that cover together."""
    confidence = 1 - ALPHA / (len(base) * (1 + (edited is not None) + len(random)))

    def bound(rows: RowValues) -> tuple[float, tuple[float, float]]:
        return float(rows.values.double().mean()), bound_mean(rows, (0.0, 1.0), "accuracy", confidence)

    found = {}
    for split, rows in base.items():
        after = (None, None) if edited is None else bound(edited[split])
        drawn = [bound(values[split]) for values in random]
        found[split] = EditedSplit(
            *bound(rows), *after, tuple(mean for mean, _ in drawn), tuple(interval for _, interval in drawn)
        )
    return found


def _select_splits(suite: Suite, asked: ScaleQuestion) -> Suite:
    """The target and what is to be kept; nothing else is read."""
    names = dict.fromkeys((*(split for split, _ in asked.keep), asked.target))
    first = suite.reference if suite.reference in names else next(iter(names))
    others = tuple(name for name in names if name != first)
    redraws = {name: draws for name, draws in suite.redraws.items() if name in others}
    return Suite({name: suite[name] for name in names}, first, others, redraws, suite.paired)


def _read_reference(model: nn.Module, reference: nn.Module | None) -> Params | None:
    if reference is None:
        return None
    check_is("reference", reference, nn.Module)
    theta, other = parameters_of(model), parameters_of(unwrap_module(reference, "reference"))
    check_same_keys("parameters of the model and the reference", theta, other)
    check_same_shapes("the model and the reference", theta, other)
    return other


def _identify(reference: Params | None) -> str | None:
    """A hash of the reference's weights; None without one."""
    return None if reference is None else hash_content([part for pair in reference.items() for part in pair])


def _refuse_scored_rows(sides: Mapping[str, Data], suite: Suite, choosing: float | Suite) -> None:
    """Raise where rows that score are known to judge or to choose."""
    judged = {
        **suite,
        **({f"{name} of choosing=": data for name, data in choosing.items()} if isinstance(choosing, Suite) else {}),
    }
    for name, data in sides.items():
        shared = [split for split, own in judged.items() if share_known_rows(data, as_data(split, own))]
        if shared:
            raise ValueError(
                f"{name}= holds rows that are in the suite ({', '.join(shared)}), so that they would judge what they "
                f"scored; pass training rows, {name}=task.{'cue_only(500)' if name == 'cue' else 'clean'}"
            )
