"""Relearning beside a comparison of methods: each result against a control that the same method tuned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mechconn.core import Compute, PerSampleLoss, as_data, check_is
from mechconn.datasets import Clusters, Suite, read_clusters
from mechconn.losses import as_loss
from mechconn.mechanisms._effects import Invariance
from mechconn.mechanisms._relearned import Relearned
from mechconn.mechanisms._relearned_sentences import write_points
from mechconn.mechanisms._relearning import RelearningTask
from mechconn.mechanisms._relearning_checks import find_intervention, follows, has_same_weights
from mechconn.mechanisms._relearning_setup import RelearningSetup
from mechconn.network import unwrap_module

SAME = (
    "{name} gives the control the model's weights, bit for bit: what it ends with does not depend on where it starts, "
    "so the excess is zero by construction"
)
FOLLOWS = (
    "the control of {name} follows the mechanism itself ({effect.split} changes its accuracy by {amount}), so that "
    "gone would not say that the model lacks it, and is withheld"
)


def prepare_relearning(
    task: RelearningTask,
    suite: Suite,
    margin: float,
    *,
    loss: PerSampleLoss,
    cluster: Clusters | None,
    folder: Path | None,
    seed: int,
    compute: Compute,
    copies: int = 0,
) -> RelearningSetup:
    """What relearning needs, after refusing a task that has neither a control nor a placebo, or both.

    `copies` are the networks that will relearn, for progress; 0 reports none.
    """
    check_is("relearn", task, RelearningTask, "; write mechconn.RelearningTask(data, split, control=...)")
    if (task.control is None) == (task.placebo is None):
        got = "neither" if task.control is None else "both"
        raise ValueError(
            f"RelearningTask needs control= (a network that never met the mechanism) or placebo= (task.placebo(100)), "
            f"got {got}"
        )
    return RelearningSetup(
        task.relearning, as_data("relearning data", task.data), suite, task.split,
        find_intervention(suite, task.split, task.intervention), margin, as_loss(loss), read_clusters(cluster, suite),
        task.symmetry, folder, seed, compute if copies else compute.without_progress(),
        copies * len(task.relearning.rates) * task.relearning.seeds, task.until,
    )  # fmt: skip


@dataclass(eq=False)
class RelearningComparison:
    """Relearning of every method's result on one task.

    Attributes:
        task: what is asked.
        setup: what is the same for every network.
    """

    task: RelearningTask
    setup: RelearningSetup

    def check(self, start: nn.Module) -> RelearningComparison:
        """Itself, after refusing what cannot be compared, before anything is tuned."""
        model = unwrap_module(start)
        self.setup.check_rows(model, self.task.placebo)
        if self.task.control is not None:
            self.setup.check_control(model, unwrap_module(self.task.control, "the control"), "the control")
        return self

    def measure(
        self,
        name: str,
        model: nn.Module,
        control: nn.Module | None,
        before: Invariance | None = None,
        others: Mapping[str, nn.Module] | None = None,
    ) -> Relearned:
        """Gone or hidden: the result of a method, against the control that it tuned; None with a placebo.

        `before` are the effects on accuracy where they are known. A control that its tuning made follow the mechanism
        gets a note. `others` are drawn beside and decide nothing.
        """
        setup = self.setup
        setup.notes.clear()
        before = before or setup.measure_before(model)
        curve = setup.relearn(name, model)
        if control is None:
            against = setup.relearn(f"{name} placebo", model, self.task.placebo)
            return setup.make_result([setup.judge(before, curve, against)], {}, "placebo")
        if has_same_weights(model, control):
            setup.notes.append(SAME.format(name=name))
        if has_cue := follows(effect := setup.measure_control(control)):
            setup.notes.append(FOLLOWS.format(name=name, effect=effect, amount=write_points(effect.effect)))
        against = setup.relearn(f"{name} control", control)
        beside = {other: setup.relearn(f"{name} other {other}", own) for other, own in (others or {}).items()}
        return setup.make_result([setup.judge(before, curve, against, has_cue)], beside, "control")
