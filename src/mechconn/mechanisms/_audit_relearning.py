"""Relearning and probes beside an audit: both networks against one control, or each against a placebo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from mechconn.connectivity import Evaluator
from mechconn.core import Compute, PerSampleLoss, check_is, collect_errors, to_plain
from mechconn.datasets import Clusters, Suite
from mechconn.descent import count_samples
from mechconn.mechanisms._compare_relearning import prepare_relearning
from mechconn.mechanisms._comparison import Comparison
from mechconn.mechanisms._probe_result import Probe
from mechconn.mechanisms._probe_task import ProbeTask
from mechconn.mechanisms._probes import probe
from mechconn.mechanisms._relearned import Relearned
from mechconn.mechanisms._relearning import RelearningTask, draw_rows
from mechconn.mechanisms._relearning_checks import check_another
from mechconn.mechanisms._relearning_setup import RelearningSetup
from mechconn.network import check_classified, unwrap_module


@dataclass(eq=False)
class AuditRelearning:
    """Relearning of both networks of an audit.

    Attributes:
        task: what is asked.
        setup: what is the same for every network.
        names: what the two are called.
        control: the network that never met the mechanism; None with a placebo.
        rows: how many there are to tune on, once they were checked.
    """

    task: RelearningTask
    setup: RelearningSetup
    names: tuple[str, str]
    control: nn.Module | None
    rows: int = 0

    def check(self, models: tuple[nn.Module, nn.Module]) -> None:
        """Refuse, before the work, what cannot be relearned or compared; a line for each network."""
        setup, task = self.setup, self.task
        self.rows = count_samples("relearning data", setup.data, setup.seed, "relearning", models[0], setup.loss)
        draw_rows(setup.data, setup.relearning.rows, setup.seed)
        setup.check_rows(models[0], task.placebo)
        both = list(zip(self.names, models, strict=True))
        collect_errors(*(lambda n=name, m=model: self._check_fits(n, m) for name, model in both))
        collect_errors(*(lambda n=name, m=model: self._check_control(n, m) for name, model in both))

    def _check_fits(self, name: str, model: nn.Module) -> None:
        """Raise unless the network and the loss take the rows to tune on, and the task is a classification."""
        setup, data = self.setup, {"relearning data": self.setup.data}
        if self.task.placebo is not None:
            data["placebo data"] = self.task.placebo.data
        suite = Suite(data, "relearning data")
        found = Evaluator(model, suite, loss=setup.loss, seed=setup.seed, compute=setup.compute.without_progress())
        for outcomes in found.outcomes().values():
            check_classified(f"relearning of {name}", outcomes)

    def _check_control(self, name: str, model: nn.Module) -> None:
        """Raise where the control is none for this network; nothing with a placebo."""
        if self.control is not None:
            what = f"the control of {name}"
            self.setup.check_control(model, self.control, what)
            check_another(model, self.control, what)

    def measure(self, models: tuple[nn.Module, nn.Module], comparison: Comparison) -> dict[str, Relearned]:
        """Name -> whether the mechanism is gone or hidden. The control relearns once.

        Effects before relearning are those of the comparison where that is on accuracy.
        """
        setup, found = self.setup, {}
        sides = comparison.a, comparison.b
        befores = sides if comparison.a.on == "accuracy" else [setup.measure_before(model) for model in models]
        against = None if self.control is None else setup.relearn("control", self.control)
        shared = tuple(setup.notes)
        for name, model, before in zip(self.names, models, befores, strict=True):
            setup.notes[:] = shared
            curve = setup.relearn(f"model {name}", model)
            other = against or setup.relearn(f"placebo {name}", model, self.task.placebo)
            which = "placebo" if against is None else "control"
            found[name] = setup.make_result([setup.judge(before, curve, other)], {}, which)
        return found

    def settings(self) -> dict[str, Any]:
        """Everything needed to repeat it."""
        setup = self.setup
        against = "placebo" if self.control is None else "control"
        own = {"data_rows": self.rows, "split": setup.split, "intervention": setup.intervention}
        return {**setup.relearning.settings(), **own, "margin": setup.margin, "against": against}


def begin_relearning(
    task: RelearningTask | None,
    models: tuple[nn.Module, nn.Module],
    suite: Suite,
    margin: float,
    *,
    names: tuple[str, str],
    loss: PerSampleLoss,
    cluster: Clusters | None,
    seed: int,
    compute: Compute,
) -> AuditRelearning | None:
    """Relearning of two networks, after refusing what cannot be relearned or compared; None where it is not asked for.

    Raises:
        ValueError: as in `measure_relearning`; of the control for each network by itself.
    """
    if task is None:
        return None
    check_is("relearn", task, RelearningTask, "; write mechconn.RelearningTask(data, split, control=...)")
    setup = prepare_relearning(
        task, suite, margin, loss=loss, cluster=cluster, folder=None, seed=seed, compute=compute,
        copies=3 if task.placebo is None else 4,
    )  # fmt: skip
    control = None if task.control is None else unwrap_module(task.control, "the control")
    found = AuditRelearning(task, setup, names, control)
    found.check(models)
    return found


def measure_probes(
    task: ProbeTask | None,
    control: nn.Module | None,
    models: tuple[nn.Module, nn.Module],
    names: tuple[str, str],
    seed: int,
    compute: Compute,
) -> dict[str, Probe]:
    """Name -> what its features hold, beside the control; empty where it is not asked for."""
    if task is None:
        return {}
    check_is("probe", task, ProbeTask, "; write mechconn.ProbeTask(data, target)")
    beside = task.control or control
    return {
        name: probe(
            model, task.data, task.target, control=beside, layers=task.layers, cluster=task.cluster, seed=seed,
            compute=compute,
        )
        for name, model in zip(names, models, strict=True)
    }  # fmt: skip


def describe_probe(task: ProbeTask, found: Mapping[str, Probe]) -> dict[str, Any]:
    """Everything needed to repeat it."""
    first = next(iter(found.values()))
    return {"target": first.target, "layers": to_plain(task.layers), "networks": list(first.scores), "l2": first.l2}
