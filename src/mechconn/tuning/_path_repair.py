"""Path repair: a point of a curve between theta_C and its fine-tuned copy, fitted on clean data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from mechconn.core import (
    Data,
    Inputs,
    MethodSettings,
    Params,
    check_fraction,
    check_is,
    check_share,
    is_source,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    make_generator,
    select_rows,
)
from mechconn.descent import EVALUATED, Descend, Method, Problem, Schedule, TrainingStep
from mechconn.network import (
    KeepNorm,
    NormPolicy,
    Point,
    Reestimate,
    are_equal,
    find_statistics_layers,
    heeds_mask,
)
from mechconn.paths import BezierFit, BezierPath, LinearPath, PathObjective, draw_t
from mechconn.tuning._epoch_shares import share_epochs
from mechconn.tuning._naive_fine_tuning import NaiveFineTuning

TUNED = "tuned/"
"""Prefix of the fine-tuned copy's tensors in what checkpoints keep."""
GRID = tuple(number / 10 for number in range(1, 10))
"""Where on the curve t is looked for."""


@dataclass(frozen=True, kw_only=True)
class PathRepair(MethodSettings, Method):
    """Mode-connectivity repair: the network at t on a Bezier curve from theta_C (t = 0) to its fine-tuned copy (t = 1).

    Both the copy and the curve are fitted on clean data alone. In the source's experiments the points away from the
    ends keep the clean accuracy and not the backdoor. Running statistics at a point are re-estimated on the clean rows.

    With at=None t is chosen by clean data alone, by the one-standard-error rule: of t = 0.1, 0.2, ..., 0.9 the one
    nearest to 1/2 whose mean loss on the validation rows is within one standard error of the least. These rows are the
    `validation` of `fine_tune`, else a share of the clean rows, drawn by the seed, that neither part trains on. Where
    the clean data are batches, or one row, and none can be held out, they are the clean rows themselves, and the notes
    say so.
    The result's settings hold t as "at".

    Attributes:
        at: t in [0, 1]; None chooses it.
        held_out: share of the clean rows to choose t by.
        fit: how the curve is fitted, with its number of bends.
        tune: how the copy is fine-tuned.

    Source: Zhao et al. 2020, *Bridging mode connectivity in loss landscapes and adversarial robustness*; they take a t
    between 0.1 and 0.9 by clean accuracy.
    """

    mixes_weights: ClassVar[bool] = True

    at: float | None = None
    held_out: float = 0.2
    fit: BezierFit = field(default_factory=lambda: BezierFit(epochs=100, lr=0.01, decay_every=50))
    tune: NaiveFineTuning = field(default_factory=NaiveFineTuning)

    def __post_init__(self) -> None:
        if self.at is not None:
            check_fraction("at", self.at)
        check_share("held_out", self.held_out)
        check_is("fit", self.fit, BezierFit)
        check_is("tune", self.tune, NaiveFineTuning)

    def passes(self, sources: int) -> int:
        """One, on the clean data."""
        return 1

    def whole_schedule(self) -> Schedule | None:
        """That of the fit."""
        return self.fit

    def with_epochs(self, epochs: int) -> Method:
        """So many epochs in all: fine-tuning and fit keep their shares, one epoch each at least."""
        first, second = share_epochs(epochs, self.tune.epochs, self.fit.epochs)
        return replace(self, tune=replace(self.tune, epochs=first), fit=replace(self.fit, epochs=second))

    def run(self, problem: Problem, descend: Descend) -> None:
        """Fine-tune, fit the curve, and put the network at t in the model's place."""
        start = _copy_point(problem.model)
        train, chosen_by = self._split(problem)
        self.tune.run(replace(problem, clean=train), descend)
        tuned = _copy_point(problem.model)
        # A run that is resumed behind this point finds the copy in its checkpoint.
        problem.kept.update({f"{TUNED}{name}": t for name, t in {**tuned.params, **tuned.buffers}.items()})
        path = self._fit(problem, descend, start, train)
        if all(are_equal(start.params[name], tensor) for name, tensor in path.ends[1].params.items()):
            problem.notes.append(
                "PathRepair's fine-tuned copy has the bits of the start, so that its curve joins the start to itself; "
                f"raise the rate of tune (now {self.tune.lr:g})."
            )
        norm = Reestimate(train, seed=problem.seed) if find_statistics_layers(problem.network) else KeepNorm()
        t = self.at if self.at is not None else _choose_t(problem, path, norm, chosen_by)
        problem.decided["at"] = t
        _load(problem.model, norm.point(problem.network, path, t))

    def _split(self, problem: Problem) -> tuple[Data, Data]:
        """The clean data to train on, and the data to choose t by."""
        clean = problem.clean
        if self.at is not None or problem.validation is not None:
            return clean, clean if problem.validation is None else problem.validation
        if not is_source(clean) or len(clean) < 2:
            problem.notes.append(
                "PathRepair chose t by the clean rows that its curve was fitted on, since of batches, or of one row, "
                "none can be held out; give a dataset of more rows, validation=, or at=."
            )
            return clean, clean
        order = torch.randperm(len(clean), generator=make_generator(problem.seed, "held out"))
        count = min(max(round(self.held_out * len(clean)), 1), len(clean) - 1)
        held, kept = order[:count].sort().values, order[count:].sort().values
        return select_rows(clean, kept), select_rows(clean, held)

    def _fit(self, problem: Problem, descend: Descend, start: Point, train: Data) -> BezierPath:
        """The fitted curve."""
        fit, seed = self.fit, problem.seed
        controls = fit.start(problem.model, LinearPath(start, _read_tuned(problem)), seed)
        moving = [name for name, parameter in problem.model.named_parameters() if parameter.requires_grad]
        leaves = nn.ParameterList([nn.Parameter(control[name]) for control in controls for name in moving])
        trained: list[Params] = [
            {**control, **dict(zip(moving, leaves[place * len(moving) :], strict=False))}
            for place, control in enumerate(controls)
        ]
        made: list[PathObjective] = []

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            if not made:  # the copy of a resumed run is known by now
                path = fit.curve(start, _read_tuned(problem), trained)
                made.append(PathObjective(fit, path, problem.network, problem.mean_loss, seed))
            return made[0](step)

        descend(fit, [objective], leaves, train, factor=lambda step: fit.factor(draw_t(step, seed)))
        found = [{name: tensor.detach() for name, tensor in control.items()} for control in trained]
        end = _read_tuned(problem)
        frozen = {name: tensor for name, tensor in end.params.items() if name not in moving}
        return fit.curve(start, end, [{**control, **frozen} for control in found])


def _copy_point(model: nn.Module) -> Point:
    """Parameters and buffers as they are now."""
    params, buffers = ({name: t.detach().clone() for name, t in named} for named in _list_state(model))
    return Point(params, buffers)


def _list_state(model: nn.Module) -> tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]]:
    return list(model.named_parameters()), list(model.named_buffers())


def _read_tuned(problem: Problem) -> Point:
    """The fine-tuned copy."""
    state = _list_state(problem.model)
    params, buffers = ({name: problem.kept[f"{TUNED}{name}"] for name, _ in named} for named in state)
    return Point(params, buffers)


@torch.no_grad()
def _load(model: nn.Module, point: Point) -> None:
    """Put the model at a point, in place."""
    for named, values in zip(_list_state(model), (point.params, point.buffers), strict=True):
        for name, tensor in named:
            tensor.copy_(values[name])


def _choose_t(problem: Problem, path: BezierPath, norm: NormPolicy, data: Data) -> float:
    """The t nearest to 1/2 whose mean loss on the data is within one standard error of the least on the grid."""
    losses = [_compute_losses(problem, norm.point(problem.network, path, t), data) for t in GRID]
    means = [float(values.mean()) for values in losses]
    best = min(range(len(GRID)), key=means.__getitem__)
    rows = len(losses[best])
    error = float(losses[best].std(correction=1)) / math.sqrt(rows) if rows > 1 else 0.0
    return choose_middle(GRID, means, means[best] + error)


def choose_middle(grid: Sequence[float], losses: Sequence[float], limit: float) -> float:
    """The t nearest to 1/2 whose loss is at most the limit; of two equally near the one of less loss."""
    allowed = [(round(abs(t - 0.5), 9), loss, t) for t, loss in zip(grid, losses, strict=True) if loss <= limit]
    return min(allowed)[2]


@torch.no_grad()
def _compute_losses(problem: Problem, point: Point, data: Data) -> Tensor:
    """Loss of every row that counts at a point, in evaluation mode, float64 of shape [N]."""
    network, found = problem.network, []
    rows = network.compute.choose_batch_size(EVALUATED)

    def forward(inputs: Inputs) -> Tensor:
        return network(point.params, point.buffers, inputs)

    trim = heeds_mask(network, forward)
    with keep_generator_states(data), isolate_rng(problem.seed, "validation"):
        for inputs, targets in iterate_batches(
            "validation", data, batch_size=rows, device=network.device, model=network.module, trim=trim
        ):
            values = problem.losses(forward(inputs), targets)
            found.append(values[problem.rows_counted(targets).bool()].double())
    return torch.cat(found)
