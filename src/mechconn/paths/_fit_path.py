"""Fitting the control points of a path: curves of low loss between two networks, for any module."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from mechconn.core import (
    NOT_SAVED,
    Buffers,
    Compute,
    Data,
    Params,
    PerSampleLoss,
    Progress,
    as_data,
    check_is,
    draw_uniform,
    resolve_compute,
)
from mechconn.descent import DescentEngine, MasterWeights, TrainingStep, count_samples
from mechconn.losses import Loss, as_loss, cross_entropy
from mechconn.network import Network, Point, PointLike, as_points, find_buffers, find_joined, find_power_iterations
from mechconn.paths._curves import LinearPath, WeightedPath
from mechconn.paths._path import check_path
from mechconn.paths._path_fits import PathFit
from mechconn.plotting import DescentResult, leave_out

LOAD_POINTS = (
    "fit it again, or save its control points beside it, safetensors.torch.save_file(fitted.path.points[1], file), "
    "and read them into mechconn.BezierPath(a, b, [safetensors.torch.load_file(file)])"
)
"""What to do where a path is asked for that a file does not hold."""


@dataclass(frozen=True, eq=False, repr=False)
class FittedPath(DescentResult, kind="fitted_path"):
    """A path with fitted control points and how it came about.

    Attributes:
        history: one record per epoch: its number, its learning rate, and the mean loss of its samples at the points
            drawn ("path").
        settings: the method with every setting, seed, device, number type, and the name and size of the data;
            `master_weights` where the model holds bfloat16 or float16.
        seconds: wall-clock time.
        path: the curve from A to B; it describes itself with `settings` as its origin. Files leave it out.
    """

    path: WeightedPath = field(default=leave_out("path", LOAD_POINTS), metadata=NOT_SAVED)


@torch.inference_mode(False)  # as in training
def fit_path(
    model: nn.Module,
    a: PointLike,
    b: PointLike,
    method: PathFit,
    batches: Data,
    *,
    label: str = "unnamed data",
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> FittedPath:
    """Fit a curve of low loss from A to B: minimise E_{t ~ U[0, 1]} L(gamma(t)) over the control points.

    The endpoints stay as they are. Each step draws one t, a pure function of (step, seed), and evaluates the network
    as a function of gamma(t) in training mode: BatchNorm uses the batch's own statistics, and buffers that would
    move are discarded. Parameters that the model holds frozen stay on the line.

    While a step runs, memory holds per control point the point, its gradient and its momentum, and once gamma(t): at
    most four copies of the model per control point beside the endpoints and the activations (five with Adam or AdamW).

    Args:
        model: gives the architecture; it stays as it is.
        a: A, where t = 0: a network, a point, or parameters alone (of a network without other state than
            normalisation statistics).
        b: B, where t = 1, likewise.
        method: `BezierFit`, `PolygonalFit`, or a `PathFit` of your own.
        batches: the data of the loss L: an (x, y) pair, a dataset, or a re-iterable of batches.
        label: a name for the data, kept in the record.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        loss: one value per sample from (outputs, targets).
        seed: of t, the order of the data, dropout, and of a random start.
        compute: how to compute; see `Compute`. A model that holds bfloat16 or float16 is computed and updated as a
            float32 copy, and the control points are rounded to its types at the end.
        device: short for `Compute(device=...)`; default: where the model is. The path is where the endpoints are.
        progress: short for `Compute(progress=...)`; counts epochs.

    Raises:
        ValueError: the endpoints are not of this architecture (all differences are listed); the data are empty, of
            one class or not finite; every parameter is frozen; a random start cannot be drawn.
        TypeError: data that can be read only once, or a method that fits no path.
        FloatingPointError: the loss became infinite or NaN; the step is named.

    Source: Garipov et al. 2018, section 3; Lubana et al. 2023, appendix.

    Example: an output must be 1, and is 0 at both ends. The mean over t of (2 t (1 - t) theta - 1)^2 is least at
    theta = E[2 t (1 - t)] / E[4 t^2 (1 - t)^2] = (1 / 3) / (2 / 15) = 2.5.

        >>> from mechconn.paths import BezierFit
        >>> one, ends = nn.Linear(1, 1, bias=False), {"weight": torch.zeros(1, 1)}
        >>> data, method = (torch.ones(800, 1), torch.ones(800)), BezierFit(epochs=20, batch_size=8, weight_decay=0.0)
        >>> fit = fit_path(one, ends, ends, method, data, loss=lambda outputs, y: (outputs[:, 0] - y).square())
        >>> round(fit.path.points[1]["weight"].item(), 1)
        2.5
    """
    started, compute = time.perf_counter(), resolve_compute(compute, device, progress)
    if not isinstance(method, PathFit):
        raise TypeError(
            f"fit_path needs a PathFit, such as BezierFit(...) or PolygonalFit(...), got {type(method).__name__}"
        )
    data, ends = as_data("path data", batches), as_points(("a", "b"), (a, b), ignore, model)
    model = find_joined(model, ends)
    network = Network(model, compute)
    for name, end in zip(("a", "b"), ends, strict=True):
        network.check(name, end.params)
    masters = MasterWeights(model)
    if masters.types:
        network = Network(masters.module, compute)
    start, end = (_load_end(network, masters, point) for point in ends)
    controls = method.start(masters.module, LinearPath(start, end), seed)
    path = method.curve(start, end, controls)
    hint = "; return a subclass of mechconn.paths.WeightedPath, such as BezierPath(a, b, controls, origin)"
    check_is(f"what {type(method).__name__}.curve returns", path, WeightedPath, hint)
    check_path(path)
    for t in (0.0, 0.5):  # what cannot be a network on the path is refused before the work
        find_buffers(network, path, t, path.at(t))
    loss = as_loss(loss)
    samples = count_samples("path data", data, seed, "fitting the path", model, loss)
    engine = DescentEngine(network, seed, "fitting the path", "path data", loss=loss)
    with masters.explain_errors():
        engine.descend(
            method, [PathObjective(method, path, network, partial(_compute_mean, masters.loss(loss)), seed)],
            _as_leaves(network, controls), data,
            factor=lambda step: method.factor(draw_t(step, seed)),
        )  # fmt: skip
    settings = {
        **network.computed,
        **method.settings(),
        "seed": seed,
        "samples": samples,
        "data": label,
        **masters.settings,
    }
    found = [
        masters.round({k: t.detach().to(ends[0].params[k].device).contiguous() for k, t in control.items()})
        for control in controls
    ]
    curve = method.curve(ends[0], ends[1], found, origin=settings)
    return FittedPath(tuple(engine.history), settings, time.perf_counter() - started, curve)


def _load_end(network: Network, masters: MasterWeights, end: Point) -> Point:
    """An end of the path in the number types and on the device that it is computed in."""
    held = {name: tensor.to(network.device) for name, tensor in masters.load(end.buffers).items()}
    params = network.load(masters.load({name: tensor.detach() for name, tensor in end.params.items()}))
    return Point(params, held, joined=end.joined)


def draw_t(step: int, seed: int) -> float:
    """t ~ U[0, 1) of an iteration: a pure function of (iteration, seed)."""
    return float(draw_uniform(torch.tensor([step]), seed, "path t"))


def _compute_mean(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of the rows that count."""
    values, counted = loss(outputs, targets), loss.counted(targets)
    return values.mean() if counted is None else values[counted].sum() / counted.sum().clamp(min=1)


@dataclass(frozen=True, eq=False)
class PathObjective:
    """The mean loss of a batch at gamma(t), with the t of the iteration: what the control points descend.

    Attributes:
        method: gives gamma(t), differentiable.
        path: the curve, whose control points are the tensors that are trained.
        network: the architecture.
        mean: mean loss of a batch from (outputs, targets).
        seed: of t.
    """

    method: PathFit
    path: WeightedPath
    network: Network
    mean: Callable[[Tensor, Tensor], Tensor]
    seed: int

    @cached_property
    def _shared(self) -> Buffers | None:
        """The buffers all along the path, where none depends on the weights there."""
        if find_power_iterations(self.network.module):
            return None
        return find_buffers(self.network, self.path, 0.5, self.path.at(0.5))

    def __call__(self, step: TrainingStep) -> dict[str, Tensor]:
        inputs, targets = step.clean
        t = draw_t(step.number, self.seed)
        point = self.method.point(self.path, t)
        shared = self._shared
        discarded = (
            find_buffers(self.network, self.path, t, point)
            if shared is None
            else {name: buffer.clone() for name, buffer in shared.items()}
        )
        outputs = self.network(point, discarded, inputs, training=True)
        return {"path": self.mean(outputs, targets)}


def _as_leaves(network: Network, controls: Sequence[Params]) -> dict[str, Tensor]:
    """The tensors of the control points that the model does not hold frozen, now leaves that ask for gradients."""
    parameters = network.make_weightless_parameters()
    names = [name for name, parameter in parameters.items() if parameter.requires_grad]
    if not names:
        raise ValueError(
            f"all {len(parameters)} parameters of the model are frozen, so a path has nothing to fit; call "
            "requires_grad_() on some"
        )
    numbered = enumerate(controls)
    return {f"{number}.{name}": control[name].requires_grad_() for number, control in numbered for name in names}
