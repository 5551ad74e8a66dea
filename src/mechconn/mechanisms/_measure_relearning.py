"""`measure_relearning`: is a mechanism gone, or only hidden?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.connectivity import Evaluator, number_clusters, read_first_rows
from mechconn.core import (
    Compute,
    Data,
    Inputs,
    PerSampleLoss,
    Progress,
    as_data,
    check_choice,
    check_is,
    check_share,
    log_warnings,
    resolve_compute,
)
from mechconn.datasets import ClusterLabels, Clusters, Placebo, Suite, read_clusters
from mechconn.losses import Loss, as_loss, cross_entropy
from mechconn.mechanisms._balanced import Balancer, Balancing
from mechconn.mechanisms._effects import CONFIDENCE, Effect, Invariance
from mechconn.mechanisms._measure import check_questions, make_invariance
from mechconn.mechanisms._outcomes import ModelOutcome, measure_outcome
from mechconn.mechanisms._relearned import (
    Against,
    Relearned,
    RelearningCurve,
    RelearningRun,
    explain_attack,
    have_learned,
)
from mechconn.mechanisms._relearning import Attack, Looks, Relearning
from mechconn.mechanisms._relearning_checks import (
    check_another,
    check_architecture,
    check_classes,
    check_disjoint,
    check_never_met,
    check_placebo,
    find_intervention,
    has_one_order,
)
from mechconn.mechanisms._relearning_verdict import Excess, bound_steps, choose_rate
from mechconn.network import resolve_device, unwrap_module
from mechconn.symmetry import Symmetry

Models: TypeAlias = nn.Module | Sequence[nn.Module]
"""One training run's network, or a list of several runs'."""

ONE_CONTROL = (
    "one control serves all runs, and how fast this one relearns is part of every excess, which intervals over runs do "
    "not hold; pass a control for each run"
)
ONE_ORDER = (
    "the relearning data come in batches of one order, so that all relearning seeds share it, and the interval does "
    "not hold what another order changes; pass a dataset, or a loader that shuffles"
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
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
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
        seed: of the order of the rows.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts relearned copies.

    Raises:
        ValueError: neither a control nor a placebo, or both; another number of controls than models; rows that overlap
            with those measured, or of one class; a control of other classes, of another architecture, with other
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
        (2 * len(models) + len(others)) * len(relearning.rates) * relearning.seeds,
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
    return found


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


@dataclass(eq=False)
class RelearningSetup:
    """What is the same for every network of one task: the attack, what is measured, and how it is judged.

    Attributes:
        relearning: steps, rate, seeds.
        data: the rows to tune on.
        suite: of effects before relearning.
        split: on which accuracy is measured.
        intervention: the one that takes the mechanism's information away.
        margin: the largest excess that counts as none.
        symmetry: by which networks are balanced.
        folder: where checkpoints are written; None writes none.
        total: copies to relearn, for progress.
        notes: what could not be done.
        shared: notes on what every network shares.
    """

    relearning: Relearning
    data: Data
    suite: Suite
    split: str
    intervention: str
    margin: float
    loss: Loss
    clusters: ClusterLabels | None
    symmetry: Balancing
    folder: Path | None
    seed: int
    compute: Compute
    total: int
    notes: list[str] = field(default_factory=list)
    shared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.symmetry, Symmetry):
            check_choice("symmetry", self.symmetry, ("auto", "none"))
        self._done, self._balancer = 0, Balancer(self.symmetry)
        self._row_clusters: Tensor | None = None

    def check_rows(self, model: nn.Module, placebo: Placebo | None) -> None:
        """Refuse rows that are also measured, and a placebo of other labels."""
        measured = self.suite[self.split]
        check_disjoint(self.data, measured, "the relearning data", self.split, model, self.seed)
        if has_one_order(self.data, model, self.seed):
            self.shared = (ONE_ORDER,)
        if placebo is not None:
            check_disjoint(placebo.data, placebo.split, "the placebo's data", self.split, model, self.seed)
            check_placebo(placebo, measured, self.split, model, self.seed)

    def measure_before(self, model: nn.Module) -> Invariance:
        """What a network relies on as it is."""
        return make_invariance(self._measure(model, self.suite), self.suite, self.margin, "accuracy")

    def check_control(self, model: nn.Module, control: nn.Module, what: str) -> None:
        """Refuse a control of other classes or architecture, and one that follows the mechanism."""
        check_architecture(model, control, what)
        outcomes = [self._measure(own, self._compared) for own in (model, control)]
        check_classes([outcome.splits[self.suite.reference].draws[0].row_shape for outcome in outcomes], what)
        check_never_met(self._find_effect(outcomes[1]), what)

    def measure_control(self, control: nn.Module) -> Effect:
        """What it costs a control that the mechanism's information is taken away."""
        return self._find_effect(self._measure(control, self._compared))

    @cached_property
    def _compared(self) -> Suite:
        """The reference and the intervention."""
        names = (self.suite.reference, self.intervention)
        splits = {name: self.suite[name] for name in names}
        return Suite(splits, names[0], (self.intervention,), paired=self.suite.paired)

    def _find_effect(self, outcome: ModelOutcome) -> Effect:
        return make_invariance(outcome, self._compared, self.margin, "accuracy")[self.intervention]

    def _measure(self, model: nn.Module, suite: Suite) -> ModelOutcome:
        evaluator = Evaluator(
            model, suite, loss=self.loss, cluster=self.clusters, seed=self.seed,
            compute=self.compute.without_progress(),
        )  # fmt: skip
        return measure_outcome(evaluator, "accuracy")

    def relearn(self, name: str, model: nn.Module, placebo: Placebo | None = None) -> RelearningCurve:
        """The curve of a network, balanced; of several rates that of the strongest attack."""
        attack = self._attack if placebo is None else self._make_attack(placebo.data, placebo.split)
        side = self._balancer.balance(model, self._read_example(model))
        self.notes += side.notes
        found = {rate: attack.relearn(name, side.model, rate, self._report) for rate in self.relearning.rates}
        rate = choose_rate({rate: looks.correct for rate, looks in found.items()})
        looks, measured = found[rate], self.suite.draws_of(self.split).values()
        self._row_clusters = number_clusters(self.split, measured, self.clusters, looks.correct.shape[2], looks.counted)
        return _make_curve(rate, found[rate], side.groups, self._row_clusters)

    @cached_property
    def _attack(self) -> Attack:
        return self._make_attack(self.data, self.suite[self.split])

    def _make_attack(self, data: Data, measured: Data) -> Attack:
        return Attack(self.relearning, data, measured, self.split, self.loss, self.seed, self.compute, self.folder)

    def _read_example(self, model: nn.Module) -> Inputs:
        return read_first_rows(self.suite, resolve_device(model, None), self.seed, model)[0]

    def _report(self) -> None:
        self._done += 1
        self.compute.report("relearning", self._done, self.total)

    def judge(
        self, before: Invariance, curve: RelearningCurve, against: RelearningCurve, follows: bool = False
    ) -> RelearningRun:
        """The verdict on one training run; `follows` says that the control follows the mechanism itself.

        "gone" is withheld where it would say nothing: against such a control, and where neither side learned.
        """
        excess = Excess(curve.correct, against.correct, self._row_clusters)
        start, start_interval = excess.at_start
        verdict = excess.judge(self.margin)
        if silent := verdict == "gone" and (follows or not have_learned(curve, against)):
            verdict = "undetermined"
        self.notes += explain_attack(curve, against, excess.room, self.margin)
        if curve.balanced != against.balanced:
            own, others = (", ".join(side.balanced) or "none" for side in (curve, against))
            self.notes.append(f"the two sides were balanced in different units ({own}; {others}), so scales may differ")
        return RelearningRun(
            before=before,
            at_start=start,
            at_start_interval=start_interval,
            excess=excess.after.mean,
            interval=excess.after.interval(CONFIDENCE),
            verdict=verdict,
            to_settle=excess.plan(self.margin) if verdict == "undetermined" and not silent else None,
            curve=curve,
            against=against,
        )

    def make_result(
        self, runs: Sequence[RelearningRun], others: Mapping[str, RelearningCurve], compared_with: Against
    ) -> Relearned:
        """The result of some runs."""
        return Relearned(
            runs=tuple(runs),
            others=dict(others),
            steps=self.relearning.steps,
            split=self.split,
            intervention=self.intervention,
            margin=self.margin,
            compared_with=compared_with,
            settings={**runs[0].before.compute, **_list_settings(self.relearning), "seed": self.seed},
            notes=tuple(dict.fromkeys((*self.shared, *self.notes))),
        )


def _list_settings(relearning: Relearning) -> dict[str, Any]:
    """The protocol, as files hold it."""
    plain = relearning.settings()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _make_curve(rate: float, looks: Looks, balanced: tuple[str, ...], clusters: Tensor | None) -> RelearningCurve:
    means = tuple(tuple(steps) for steps in looks.correct.double().mean(2).tolist())
    return RelearningCurve(rate, means, bound_steps(looks.correct, clusters), looks.commonest, balanced, looks.correct)
