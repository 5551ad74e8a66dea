"""Latent adversarial training: fine-tuning under the worst small change of a layer's output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechconn.core import check_count, check_positive, did_you_mean
from mechconn.descent import Batch, Descent, Objective, Problem, Records, TrainingStep

STEP = 2.5
"""Length of all steps of the ascent together, in radii: it may go round an obstacle and still reach the boundary."""


@dataclass(frozen=True, kw_only=True)
class LatentAdversarial(Descent):
    r"""Latent adversarial training (LAT): minimise the clean loss under the worst change of one layer's output.

        min_theta mean_i max_{|delta_i| <= radius} L(g(h(x_i) + delta_i), y_i),   f = g o h, h up to the layer,

    |.| the Euclidean norm over all that the layer gives for row i. The maximum is sought by projected gradient ascent
    from delta = 0: `steps` steps of length 2.5 radius / steps along each row's normalised gradient, each followed by a
    projection onto the ball. The network is in training mode throughout; what the ascent does to running statistics is
    undone, and where the network has buffers a pass without perturbation follows, whose statistics are kept.

    It reads clean data alone, and the cue need not be known.

    Attributes:
        layer: name of a module, as in `model.named_modules()`, that runs once in a pass and gives one tensor [N, ...].
        radius: largest Euclidean norm of a row's perturbation, in units of the layer's output.
        steps: of the ascent.

    Source: Casper et al. 2024, *Defending against unforeseen failure modes with latent adversarial training*.
    """

    layer: str
    radius: float = 1.0
    steps: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("radius", self.radius)
        check_count("steps", self.steps)

    def passes(self, sources: int) -> int:
        """One for each step of the ascent, and one for the descent."""
        return 1 + self.steps

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """["perturbed"]."""
        names = [name for name, _ in problem.model.named_modules(remove_duplicate=False) if name]
        if self.layer not in names:
            near = did_you_mean(self.layer, names) or f"; name one of {', '.join(names)}"
            raise ValueError(f"layer={self.layer!r} is no module of this model{near}")

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            perturbation = _Perturbation(self.layer, len(step.clean[1]))
            for _ in range(self.steps):
                perturbation.ascend(problem, step.clean, STEP * self.radius / self.steps, self.radius)
            outputs = perturbation.compute_outputs(problem, step.clean)
            problem.move_buffers(step.clean)
            seen = problem.kept.setdefault("perturbed", torch.zeros((), dtype=torch.float64))
            seen.fill_(max(float(seen), float(perturbation.delta.detach().norm())))
            return {"perturbed": problem.mean_loss(outputs, step.clean[1])}

        return [objective]

    def remarks(self, problem: Problem, records: Records) -> Sequence[str]:
        """Where no perturbation was found."""
        if float(problem.kept["perturbed"]) > 0.0:
            return ()
        return (
            f"LatentAdversarial perturbed nothing: no loss depends on what {self.layer!r} gives, or its gradient is "
            "zero everywhere, so that the method was NaiveFineTuning; name another layer.",
        )


class _Perturbation:
    """What is added to a layer's output, row by row."""

    def __init__(self, layer: str, rows: int) -> None:
        self._layer, self._rows, self._calls = layer, rows, 0
        self._delta: Tensor | None = None

    @property
    def delta(self) -> Tensor:
        """The perturbation, once a pass was made."""
        assert self._delta is not None
        return self._delta

    def compute_outputs(self, problem: Problem, batch: Batch) -> Tensor:
        """The model's outputs with the perturbation; statistics move nowhere."""
        self._calls = 0
        with self._added(problem):
            outputs = problem.outputs_at(dict(problem.model.named_parameters()), batch[0])
        if not self._calls:
            raise self._explain("does not run")
        return outputs

    def ascend(self, problem: Problem, batch: Batch, length: float, radius: float) -> None:
        """One step of each row along its normalised gradient, and back onto the ball."""
        losses = problem.losses(self.compute_outputs(problem, batch), batch[1])
        (slope,) = torch.autograd.grad(losses.sum(), self.delta, allow_unused=True)
        if slope is None:
            return
        moved = self.delta.detach() + length * _scale_rows(slope, lambda norm: 1.0 / norm)
        inside = _scale_rows(moved, lambda norm: (radius / norm).clamp(max=1.0))
        self._delta = inside.requires_grad_()

    @contextmanager
    def _added(self, problem: Problem) -> Iterator[None]:
        """Context manager: the layer's output comes with the perturbation."""
        handle = problem.network.module.get_submodule(self._layer).register_forward_hook(self._add)
        try:
            yield
        finally:
            handle.remove()

    def _add(self, _: Any, __: Any, output: Any) -> Tensor:
        self._calls += 1
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise self._explain(f"gives {type(output).__name__}")
        if output.shape[:1] != (self._rows,):
            raise self._explain(f"gives shape {list(output.shape)}")
        if self._calls > 1:
            raise self._explain("runs several times")
        if self._delta is None:
            self._delta = torch.zeros_like(output, requires_grad=True)
        return output + self._delta

    def _explain(self, found: str) -> ValueError:
        return ValueError(
            f"LatentAdversarial perturbs a layer that runs once in a pass and gives one tensor [{self._rows}, ...] for "
            f"{self._rows} rows, and {self._layer!r} {found}; name another layer"
        )


def _scale_rows(values: Tensor, scale: Any) -> Tensor:
    """Each row times a function of its Euclidean norm, in float64, which keeps tiny slopes; rows of zeros stay."""
    flat = (values.detach().flatten(1) if values.dim() > 1 else values.detach()[:, None]).double()
    norm = flat.norm(dim=1, keepdim=True)
    return torch.where(norm > 0, flat * scale(norm), flat).view_as(values).to(values.dtype)
