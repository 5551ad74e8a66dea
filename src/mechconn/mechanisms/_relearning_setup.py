"""What relearning does to every network of one task: tunes copies, measures them, and judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mechconn.connectivity import Evaluator, Until, check_until, number_clusters, read_first_rows
from mechconn.core import (
    Compute,
    Data,
    Inputs,
    check_choice,
)
from mechconn.datasets import ClusterLabels, Placebo, Suite
from mechconn.losses import Loss
from mechconn.mechanisms._balanced import Balancer, Balancing
from mechconn.mechanisms._effects import Effect, Invariance
from mechconn.mechanisms._measure import make_invariance
from mechconn.mechanisms._outcomes import ModelOutcome, measure_outcome
from mechconn.mechanisms._relearned import (
    Against,
    Relearned,
    RelearningCurve,
    RelearningRun,
    explain_attack,
    have_learned,
    may_follow_already,
)
from mechconn.mechanisms._relearning import Attack, Looks, Relearning
from mechconn.mechanisms._relearning_checks import (
    check_architecture,
    check_classes,
    check_disjoint,
    check_never_met,
    check_placebo,
    has_one_order,
)
from mechconn.mechanisms._relearning_checks import follows as follows_mechanism
from mechconn.mechanisms._relearning_copies import KeptCopies, MeasuredCopies, TunedCopies
from mechconn.mechanisms._relearning_looks import ALL_ROWS, RelearningLooks, plan_relearning_looks
from mechconn.mechanisms._relearning_verdict import Excess, bound_steps, choose_rate, judge_excess
from mechconn.mechanisms._until_settled import measure_settled
from mechconn.network import resolve_device
from mechconn.symmetry import Symmetry

ONE_ORDER = (
    "the relearning data come in batches of one order, so that all relearning seeds share it, and the interval does "
    "not hold what another order changes; pass a dataset, or a loader that shuffles"
)


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
        until: whether all rows are measured at once, or as many as settle the verdict.
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
    until: Until = "end"
    notes: list[str] = field(default_factory=list)
    shared: tuple[str, ...] = ()
    _furthest: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.symmetry, Symmetry):
            check_choice("symmetry", self.symmetry, ("auto", "none"))
        self._done, self._balancer = 0, Balancer(self.symmetry)
        if check_until(self.until) == "settled" and len(self.relearning.rates) > 1:
            raise ValueError(
                f"until='settled' is for one learning rate, got {len(self.relearning.rates)}: of several the strongest "
                "attack is chosen on all rows; pass one lr, or until='end'"
            )

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
        if self.until == "settled":
            return measure_settled({"": evaluator}, self.margin, "accuracy", "")[""]
        return measure_outcome(evaluator, "accuracy")

    def relearn(self, name: str, model: nn.Module, placebo: Placebo | None = None) -> TunedCopies:
        """Copies of a network, balanced and tuned; of several rates those of the strongest attack."""
        attack = self._attack if placebo is None else self._make_attack(placebo.data, placebo.split)
        side = self._balancer.balance(model, self._read_example(model))
        self.notes += side.notes
        if self.until == "settled":
            (rate,) = self.relearning.rates
            states = attack.keep(name, side.model, rate, self._report)
            return KeptCopies(rate, side.groups, attack, states, self._looks)
        found = {rate: attack.relearn(name, side.model, rate, self._report) for rate in self.relearning.rates}
        rate = choose_rate({rate: looks.correct for rate, looks in found.items()})
        return MeasuredCopies(rate, side.groups, found[rate])

    @cached_property
    def _looks(self) -> RelearningLooks:
        """Which rows of the split come at each look."""
        if self.until == "end":
            return ALL_ROWS
        draws = self.suite.draws_of(self.split).values()
        return plan_relearning_looks(self.split, self.suite[self.split], draws, self.clusters, self.seed)

    def _number_clusters(self, looks: Looks, look: int) -> Tensor | None:
        """The number of the cluster of each row that was measured; None where rows are independent."""
        if self.until == "settled":
            return self._looks.clusters(look, looks.counted)
        draws = self.suite.draws_of(self.split).values()
        return number_clusters(self.split, draws, self.clusters, looks.correct.shape[2], looks.counted)

    def _make_curve(self, copies: TunedCopies, look: int) -> RelearningCurve:
        if look in copies.curves:
            return copies.curves[look]
        looks, share = copies.read(look), self._looks.share(look)
        means = tuple(tuple(steps) for steps in looks.correct.double().mean(2).tolist())
        bounds = bound_steps(looks.correct, self._number_clusters(looks, look), share)
        curve = RelearningCurve(copies.rate, means, bounds, looks.commonest, copies.balanced, looks.correct)
        return copies.curves.setdefault(look, curve)

    @cached_property
    def _attack(self) -> Attack:
        return self._make_attack(self.data, self.suite[self.split])

    def _make_attack(self, data: Data, measured: Data) -> Attack:
        return Attack(
            self.relearning,
            data,
            measured,
            self.split,
            self.loss,
            self.seed,
            self.compute,
            self.folder,
            self.until == "settled",
        )

    def _read_example(self, model: nn.Module) -> Inputs:
        return read_first_rows(self.suite, resolve_device(model, None), self.seed, model)[0]

    def _report(self) -> None:
        self._done += 1
        self.compute.report("relearning", self._done, self.total)

    def judge(
        self, before: Invariance, copies: TunedCopies, others: TunedCopies, follows: bool = False
    ) -> RelearningRun:
        """The verdict on one training run; `follows` says that the control follows the mechanism itself.

        "gone" is withheld where it would say nothing: against such a control, and where neither side learned. Where
        rows are measured until the verdict is settled, they are read here.
        """
        look, last = 0, self._looks.count - 1
        run = self._judge_at(look, before, copies, others, follows)
        while look < last and self._is_open(run, follows):
            look += 1
            run = self._judge_at(look, before, copies, others, follows)
        self._furthest = max(look, self._furthest)
        curve, against = run.curve, run.against
        assert curve.correct is not None and against.correct is not None
        self.notes += explain_attack(curve, against, Excess(curve.correct, against.correct).room, self.margin)
        if curve.balanced != against.balanced:
            own, other = (", ".join(side.balanced) or "none" for side in (curve, against))
            self.notes.append(f"the two sides were balanced in different units ({own}; {other}), so scales may differ")
        return run

    def _is_open(self, run: RelearningRun, follows: bool) -> bool:
        """Whether more rows may change what is said of a run."""
        if not follows_mechanism(run.before[self.intervention]) and may_follow_already(run, self.margin):
            return True
        if run.verdict != "undetermined":
            return False
        withheld = follows and judge_excess(run.interval, self.margin) == "gone"
        return not withheld

    def _judge_at(
        self, look: int, before: Invariance, copies: TunedCopies, others: TunedCopies, follows: bool
    ) -> RelearningRun:
        """The verdict from the rows read at a look."""
        curve, against = self._make_curve(copies, look), self._make_curve(others, look)
        assert curve.correct is not None and against.correct is not None
        clusters = self._number_clusters(copies.read(look), look)
        excess = Excess(curve.correct, against.correct, clusters, self._looks.share(look))
        start, start_interval = excess.at_start
        verdict = excess.judge(self.margin)
        if silent := verdict == "gone" and (follows or not have_learned(curve, against)):
            verdict = "undetermined"
        last = look == self._looks.count - 1
        return RelearningRun(
            before=before,
            at_start=start,
            at_start_interval=start_interval,
            excess=excess.after.mean,
            interval=excess.interval,
            verdict=verdict,
            to_settle=excess.plan(self.margin) if verdict == "undetermined" and not silent and last else None,
            curve=curve,
            against=against,
        )

    def make_result(
        self, runs: Sequence[RelearningRun], others: Mapping[str, TunedCopies], compared_with: Against
    ) -> Relearned:
        """The result of some runs."""
        settings = {**runs[0].before.compute, **_list_settings(self.relearning), "seed": self.seed}
        return Relearned(
            runs=tuple(runs),
            others={name: self._make_curve(own, self._furthest) for name, own in others.items()},
            steps=self.relearning.steps,
            split=self.split,
            intervention=self.intervention,
            margin=self.margin,
            compared_with=compared_with,
            settings=settings if self.until == "end" else {**settings, "until": self.until},
            notes=tuple(dict.fromkeys((*self._note_read(runs), *self.shared, *self.notes))),
        )

    def _note_read(self, runs: Sequence[RelearningRun]) -> Iterator[str]:
        """A note on how many rows were measured, where that went on until verdicts were settled."""
        if self.until == "end":
            return
        rows = sorted({run.curve.correct.shape[2] for run in runs if run.curve.correct is not None})
        few = f"{rows[0]:,}" if len(rows) == 1 else f"{rows[0]:,} to {rows[-1]:,}"
        total = self._looks.total
        biased = "" if rows[0] == total else "; estimates at stopping are biased, intervals hold whenever reading stops"
        yield f"rows of {self.split} were read as far as the verdict needed them: {few} of {total:,}{biased}"


def _list_settings(relearning: Relearning) -> dict[str, Any]:
    """The protocol, as files hold it."""
    plain = relearning.settings()
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
