"""`measure_relearning`: is a mechanism gone, or only hidden?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from mechconn.connectivity import Until
from mechconn.core import (
    Compute,
    Data,
    PerSampleLoss,
    Progress,
    as_data,
    check_is,
    check_share,
    log_warnings,
    resolve_compute,
)
from mechconn.datasets import Clusters, Placebo, Suite, read_clusters, show_examples
from mechconn.losses import as_loss, cross_entropy
from mechconn.mechanisms._balanced import Balancing
from mechconn.mechanisms._measure import check_questions
from mechconn.mechanisms._relearned import (
    Relearned,
)
from mechconn.mechanisms._relearning import Relearning
from mechconn.mechanisms._relearning_checks import (
    check_another,
    find_intervention,
)
from mechconn.mechanisms._relearning_setup import RelearningSetup
from mechconn.network import unwrap_module
from mechconn.plotting import Examples

Models: TypeAlias = nn.Module | Sequence[nn.Module]
"""One training run's network, or a list of several runs'."""

ONE_CONTROL = (
    "one control serves all runs, and how fast this one relearns is part of every excess, which intervals over runs do "
    "not hold; pass a control for each run"
)


def measure_relearning(
    model: Models,
    relearning: Relearning,
    data: Data,
    suite: Suite,
    *,
    split: str,
    control: Models | None = None,
    placebo: Placebo | None = None,
    others: Mapping[str, nn.Module] | None = None,
    margin: float = 0.05,
    intervention: str | None = None,
    symmetry: Balancing = "auto",
    loss: PerSampleLoss = cross_entropy,
    cluster: Clusters | None = None,
    folder: str | Path | None = None,
    until: Until = "end",
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
    samples: bool = True,
) -> Relearned:
    """Is a mechanism gone, or hidden? How fast does a network follow it again, against one that never met it?

    Copies of both are tuned on a few rows in which the mechanism is necessary, with the same rows, order, rate and
    steps. The excess is

        mean over steps after 0, relearning seeds and rows of (right(model) - right(control)),

    right in [0, 1] on the rows of `split`. The mechanism is "gone" where the upper bound of the excess is at most
    `margin`, "hidden" where the lower bound is above it, else "undetermined"; "gone" is withheld where it would say
    nothing, since the control leaves no room for an excess or neither side learned. The interval is over rows and
    relearning seeds, 95 % for each run by itself. Rows must be such that nothing but the mechanism predicts: mixed into
    rows whose content predicts too, nothing would force the network to follow it.

    How fast a network relearns is no property of its function: a hidden layer scaled up, the next one scaled down, and
    the same function relearns at once. So both sides are balanced first (`balance`), where their symmetry can be read.

    Args:
        model: the network in question, or one for each training run of a recipe. None is changed.
        relearning: steps, rate, seeds.
        data: the rows to tune on: `task.cue_only(100)`; for groups `column_only`; or your own.
        suite: what effects before relearning are measured on; it holds `split`.
        split: on which accuracy is measured while they relearn, such as "rand_image".
        control: a network that never met the mechanism and was tuned alike, of the same architecture; for several
            models as many, run by run, or one for all, whose own speed is then part of every excess. It decides.
        placebo: without a control: the same network relearns a mechanism that it never met, `task.placebo(100)`.
            Weaker, and labelled so: what helps to learn the one may help to learn the other.
        others: name -> another network, drawn beside and deciding nothing.
        margin: the largest excess that counts as none, a share: 0.05 is five points.
        intervention: of the suite, the one that takes the mechanism's information away: "rand_cue" where there is one,
            else the only one beside `split`. Its effect before relearning says whether the network uses the mechanism.
        symmetry: by which the networks are balanced; "auto" reads it off the model, "none" leaves balancing out.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`.
        folder: where relearning writes checkpoints, so that a measurement that is stopped goes on; None writes none.
        until: "end" measures on all rows; "settled" on as many as settle every verdict, with the same errors; see
            `measure_invariance`. Tuning is not shortened, and every copy is kept until then: steps x seeds states of
            each network in memory.
        seed: of the order of the rows, to tune on and to measure.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts relearned copies.
        samples: whether the result holds the first samples of every split, which its page and its files show; False
            where they are private.

    Raises:
        ValueError: neither a control nor a placebo, or both; another number of controls than models; until="settled"
            with several rates, or rows that cannot be read by index; rows that overlap with those measured, or of one
            class; a control of other classes, of another architecture, with other
            weights frozen, that is the model itself, or that follows the mechanism itself; others named as a run is.
        FloatingPointError: a rate at which relearning diverges.

    Source: the retuning attack of Min et al., NeurIPS 2024; equivalence by interval inclusion.
    """
    compute = resolve_compute(compute, device, progress)
    check_is("relearning", relearning, Relearning, "; write mechconn.Relearning(steps=(0, 10, 25, 50, 100))")
    check_questions(suite, margin, "accuracy", {})
    check_share("margin", margin)
    models = _list_models("model", model)
    controls = _list_controls(control, len(models), placebo)
    others = _list_others(others)
    which = find_intervention(suite, split, intervention)
    setup = RelearningSetup(
        relearning, as_data("relearning data", data), suite, split, which, margin,
        as_loss(loss), read_clusters(cluster, suite), symmetry, None if folder is None else Path(folder), seed, compute,
        (2 * len(models) + len(others)) * len(relearning.rates) * relearning.seeds, until,
    )  # fmt: skip
    if len(controls) < len(models) and controls:
        setup.notes.append(ONE_CONTROL)
    setup.check_rows(models[0], placebo)
    befores = [setup.measure_before(own) for own in models]
    for number, own in enumerate(controls):
        what = "the control" if len(controls) == 1 else f"control {number}"
        setup.check_control(models[number], own, what)
        for other in models if len(controls) == 1 else models[number : number + 1]:
            check_another(other, own, what)
    runs, shared = [], None
    for number, (own, before) in enumerate(zip(models, befores, strict=True)):
        curve = setup.relearn(f"model {number}", own)
        if placebo is not None:
            against = setup.relearn(f"placebo {number}", own, placebo)
        elif shared is None or len(controls) > 1:
            against = shared = setup.relearn(f"control {number}", controls[number])
        else:
            against = shared
        runs.append(setup.judge(before, curve, against))
    drawn = {name: setup.relearn(f"other {name}", other) for name, other in others.items()}
    found = setup.make_result(runs, drawn, "control" if placebo is None else "placebo")
    log_warnings("relearning", found.notes)
    return replace(found, examples=show_examples(suite) if samples else Examples())


def _list_models(name: str, models: Models) -> list[nn.Module]:
    found = [models] if isinstance(models, nn.Module) else list(models)
    if not found:
        raise ValueError(f"{name} must be a network or a list of networks, got an empty list")
    return [unwrap_module(own, f"{name} {number}") for number, own in enumerate(found)]


def _list_others(others: Mapping[str, nn.Module] | None) -> dict[str, nn.Module]:
    """The others, none under a name that a run or what it is compared with has."""
    others = {} if others is None else others
    check_is("others", others, Mapping, "; write {name: network}")
    for name in others:
        if re.fullmatch(r"(model|control|placebo)( \d+)?", name):
            raise ValueError(f"others must have names of their own, got {name!r}; write {{'other {name}': model}}")
    return {name: unwrap_module(own, f"others[{name!r}]") for name, own in others.items()}


def _list_controls(control: Models | None, runs: int, placebo: Placebo | None) -> list[nn.Module]:
    """As many as runs, or one for all; none with a placebo."""
    if (control is None) == (placebo is None):
        got = "neither" if control is None else "both"
        raise ValueError(
            f"relearning is judged against control= (a network that never met the mechanism) or placebo= "
            f"(task.placebo(100)), got {got}; a curve alone says nothing"
        )
    if control is None:
        check_is("placebo", placebo, Placebo, "; write mechconn.Placebo(data, split)")
        return []
    controls = _list_models("control", control)
    if len(controls) not in (1, runs):
        raise ValueError(f"controls must be one, or as many as models ({runs}), run by run, got {len(controls)}")
    return controls
