"""How much of what a teacher relies on its student relies on too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mechconn.connectivity import Evaluator
from mechconn.core import Compute, PerSampleLoss, Progress, check_is, check_share, log_warnings, resolve_compute
from mechconn.datasets import (
    Clusters,
    ModelOutputs,
    Suite,
    check_interventions,
    check_label_names,
    read_clusters,
    represent_on_suite,
)
from mechconn.losses import cross_entropy
from mechconn.mechanisms._compare import compare_effects, compare_over_samples
from mechconn.mechanisms._comparison import Difference
from mechconn.mechanisms._difference_evidence import DifferenceEvidence
from mechconn.mechanisms._effect_evidence import collect_evidence, join_sides
from mechconn.mechanisms._effect_moments import EffectMoments, TwoSides, compute_effect_moments
from mechconn.mechanisms._effects import Effect, On
from mechconn.mechanisms._judge import ALPHA
from mechconn.mechanisms._measure import check_questions, make_invariance
from mechconn.mechanisms._outcomes import ModelOutcome, SplitOutcome, measure_outcome
from mechconn.mechanisms._reduction import scale_outcome
from mechconn.mechanisms._transfer import Transfer, TransferredEffect, judge_gap
from mechconn.network import Metric, check_adapters_apart, check_metrics
from mechconn.stats import NEGLIGIBLE, Interval, RatioSet, bound_proportional, divide_intervals, find_ratio_set

FEW = 10
"""Fieller's set has a note where its variance comes from fewer rows or clusters than this."""


def measure_transfer(
    teacher: nn.Module | ModelOutputs,
    student: nn.Module | ModelOutputs,
    suite: Suite,
    margin: float = 0.05,
    on: On = "accuracy",
    *,
    least: float = 0.5,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Transfer:
    r"""Does what a teacher relies on come over? The student's effect of each intervention over the teacher's.

    With e_T and e_S the effects on teacher and student, the ratio e_S / e_T is 1 where the student responds as much as
    the teacher, 0 where it does not respond, and negative where it responds the other way. It is given where the
    teacher is sensitive; else it divides by what may be nothing. The verdict rests on c = sign(e_T) (e_S - least e_T),
    a difference within rows, which no quotient widens:

        transfers: c > 0,        does not transfer: c < 0,        else undetermined.

    Three statements, each at 95 % for all k interventions together (Bonferroni, decided before the data are seen, so
    that it does not matter for which of them the teacher comes out sensitive):

    - The bounds of c, and so the verdicts where the teacher's are right, which `measure_invariance` says of them with
      another 95 %. For every distribution (betting) on accuracy and metrics with bounds, Student's t on the loss.
    - `ratios`: Fieller's set of two dependent means, from the covariance of what both networks do on the same rows. It
      is an interval, or, where the data allow a teacher's effect of zero at that level, the complement of one or all
      ratios; it says which. Approximate (Student's t): on accuracy it needs tens of rows that change; a note
      says where its variance comes from fewer than ten.
    - `bounds`: quotients of the intervals of e_S, e_T and e_S - e_T, wider and as exact as these are.

    Where one effect is exactly a multiple of the other in the data, as of a copy, t would be certain. Then `ratios` is
    that multiple with what rows that were not drawn may add, as in `measure_invariance`.

    Args:
        teacher: the network that the ratio divides by, or the outputs of one (`load_outputs`).
        student: another network on the same rows, of any architecture with the same classes.
        suite: the reference and its counterfactuals, with rows that come in one order every time.
        margin: the largest effect that counts as none: it decides where the teacher is sensitive.
        on: "accuracy", "loss", or the name of a metric.
        least: the ratio from which an effect is said to transfer, above 0 and below 1.
        loss: one value per sample from (outputs, targets); see `measure_invariance`.
        metrics: name -> one value per sample, or a `Metric`; see `measure_invariance`.
        cluster: a label for each row where rows come in clusters; see `measure_invariance`.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where each network is.
        progress: short for `Compute(progress=...)`; counts passes over a split.

    Raises:
        ValueError: a suite without interventions, rows in another order for the student, or as in `measure_invariance`.

    Example:
        Under the intervention the teacher falls from 1 to 0, and the student stays at 1/2.

        >>> teacher, student = nn.Identity(), nn.Linear(2, 2)
        >>> student = student.requires_grad_(False)
        >>> _ = student.weight.zero_(), student.bias.copy_(torch.tensor([1.0, 0.0]))
        >>> y = torch.arange(400) % 2
        >>> suite = Suite({"cue": (torch.eye(2)[y], y), "rand_cue": (torch.eye(2)[1 - y], y)})
        >>> found = measure_transfer(teacher, student, suite)["rand_cue"]
        >>> found.of, found.effect, found.ratio, found.verdict
        (-1.0, 0.0, 0.0, 'does not transfer')

    Source: Wu et al. 2024 for the question; Fieller 1954 for the set.
    """
    compute = resolve_compute(compute, device, progress)
    check_questions(suite, margin, on, check_metrics(metrics))
    check_interventions("a transfer of mechanisms", suite.interventions)
    check_share("least", least)
    sides = {"teacher": teacher, "student": student}
    for name, model in sides.items():
        if not isinstance(model, ModelOutputs):
            check_is(name, model, nn.Module)
    check_adapters_apart([model for model in sides.values() if isinstance(model, nn.Module)])
    check_label_names(list(sides.items()), suite, loss)
    run: dict[str, Any] = {"loss": loss, "metrics": metrics, "seed": seed, "compute": compute}
    run["cluster"] = read_clusters(cluster, suite)
    outcomes = []
    for done, model in enumerate(sides.values()):
        own = Evaluator(*represent_on_suite(model, suite), **run)
        outcomes.append(
            measure_outcome(
                own,
                on,
                lambda splits, done=done: compute.report(
                    "measuring transfer", done * len(suite) + splits, 2 * len(suite)
                ),
            )
        )
    found = _measure_effects(outcomes[0], outcomes[1], suite, margin, on, least)
    log_warnings("transfer", found.notes)
    return found


def _measure_effects(
    teacher: ModelOutcome, student: ModelOutcome, suite: Suite, margin: float, on: On, least: float
) -> Transfer:
    """The result from both networks' outcomes."""
    invariances = [make_invariance(own, suite, margin, on) for own in (teacher, student)]
    level = ALPHA / len(suite.interventions)
    apart = compare_over_samples(teacher, student, suite, on, 1.0 - level / 3)
    known = [collect_evidence(own, suite, on) for own in (teacher, student)]
    pairs = [join_sides(own, suite) for own in (teacher, student)]
    effects, few = {}, []
    for name in suite.interventions:
        before, after = ((pairs[0][name][place], pairs[1][name][place]) for place in (0, 1))
        evidence = known[0][name], known[1][name]
        one = _Pair(invariances[0][name], evidence, before, after, teacher.bounds_on(on), on, level)
        effects[name] = one.transfer(apart[name], least)
        few += [name] if one.rests_on_few else []
    notes = tuple(_list_notes(effects, few, on, teacher))
    return Transfer(effects, invariances[0], invariances[1], least, 1.0 - level, notes)


class _Pair:
    """One intervention on teacher and student.

    Attributes:
        rests_on_few: whether Fieller's set is of so few rows that Student's t is too sure.
    """

    def __init__(
        self,
        effect: Effect,
        evidence: tuple[DifferenceEvidence, DifferenceEvidence],
        before: tuple[SplitOutcome, SplitOutcome],
        after: tuple[SplitOutcome, SplitOutcome],
        bounds: Interval | None,
        on: On,
        level: float,
    ) -> None:
        self._effect, self._evidence, self._before, self._after = effect, evidence, before, after
        self._bounds, self._on, self._level = bounds, on, level
        self.rests_on_few = False

    def transfer(self, apart: Difference, least: float) -> TransferredEffect:
        """The ratio with its sets and the verdict; the teacher's own verdict where it is not shown to be sensitive."""
        of, own = (one.effect for one in self._evidence)
        if self._effect.verdict != "sensitive":
            found = "teacher invariant" if self._effect.verdict == "invariant" else "teacher undetermined"
            return TransferredEffect(self._effect.split, of, own, found)
        ratio = own / of + 0.0  # no negative zero
        gap = self._measure_gap(least)
        moments = compute_effect_moments(_turn(self._before), _turn(self._after), self._on)
        ratios = RatioSet("line", -torch.inf, torch.inf) if moments is None else self._find_ratios(moments, ratio)
        verdict = judge_gap(gap.interval)
        return TransferredEffect(
            self._effect.split, of, own, verdict, ratio, ratios, self._bound_ratio(apart, ratio), gap
        )

    def _measure_gap(self, least: float) -> Difference:
        """c and its interval."""
        bounds = (0.0, 1.0) if self._on == "accuracy" else self._bounds
        before, after = ((scale_outcome(own[0], least, bounds), own[1]) for own in (self._before, self._after))
        found = compare_effects(before, after, self._on, bounds, 1.0 - self._level)
        low, high = found.interval
        return found if self._effect.effect > 0 else Difference(-found.effect, (-high, -low))

    def _bound_ratio(self, apart: Difference, ratio: float) -> Interval | None:
        """Quotients of three intervals that hold together; None where that of the teacher's effect holds zero."""
        of, own = (one.interval(1.0 - self._level / 3) for one in self._evidence)
        if of[0] <= 0.0 <= of[1]:
            return None
        (low, high), (less, more) = divide_intervals(own, of), divide_intervals(apart.interval, of)
        low, high = max(low, 1.0 + less), min(high, 1.0 + more)
        return min(low, ratio), max(high, ratio)

    def _find_ratios(self, moments: EffectMoments, ratio: float) -> RatioSet:
        """Fieller's set; where one effect is a multiple of the other on every row, what may have been missed."""
        largest = self._find_largest()
        units = min(count for _, count, _ in moments.cells)
        if moments.spread_of(ratio) * units**0.5 > NEGLIGIBLE * largest:
            self.rests_on_few = moments.count_effective(ratio) < FEW
            return find_ratio_set(moments.pair, 1.0 - self._level)
        bottom = self._evidence[0].interval(1.0 - self._level / 2)
        if bottom[0] <= 0.0 <= bottom[1]:
            return RatioSet("line", -torch.inf, torch.inf)
        missed = largest * (1.0 + abs(ratio)) * moments.bound_missed(1.0 - self._level / 2)
        return RatioSet("interval", *bound_proportional(ratio, missed, bottom))

    def _find_largest(self) -> float:
        """The most that a value may move: its range, else the largest seen, or 1 where that is larger."""
        if self._on == "accuracy":
            return 1.0
        if self._bounds is not None:
            return self._bounds[1] - self._bounds[0]
        every = (*self._before, *self._after)
        return max(1.0, *(float(own.values(self._on).abs().max()) for own in every))


def _turn(sides: TwoSides) -> TwoSides:
    """Student and teacher."""
    return sides[1], sides[0]


def _list_notes(
    effects: Mapping[str, TransferredEffect], few: Sequence[str], on: On, outcome: ModelOutcome
) -> Iterator[str]:
    """Which sets are none, and what they rest on."""
    wide = [name for name, own in effects.items() if own.ratios is not None and own.ratios.shape != "interval"]
    if wide:
        yield (
            f"the teacher's effect of {', '.join(wide)} is shown to differ from zero by its verdict, and not by the t "
            "interval of Fieller's set at this level, which therefore is no interval; more rows would narrow it"
        )
    if few:
        yield (
            f"Fieller's set of {', '.join(few)} is Student's t, and its variance comes from fewer than {FEW} rows or "
            "clusters, so that it may be too narrow; read the quotients of bounds"
        )
    if on != "accuracy" and outcome.bounds_on(on) is None:
        yield (
            f"every interval on {'the loss' if on == 'loss' else on} is Student's t, and so are the verdicts: "
            "approximate, and too narrow where values are heavy-tailed"
        )
