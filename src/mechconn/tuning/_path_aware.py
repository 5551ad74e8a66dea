"""Path-aware minimisation: fine-tuning whose gradients are taken on the way back to the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from mechconn.core import Data, check_fraction, check_positive
from mechconn.datasets import CuedSet
from mechconn.descent import Descent, Objective, Problem, Records, TrainingStep, require_cued_data
from mechconn.tuning._point_toward_start import explain_short_distance, find_point


@dataclass(frozen=True, kw_only=True)
class PathAware(Descent):
    r"""Path-aware minimisation (PAM): correct answers under a random cue, also on the way back to theta_C.

    Descends theta by the gradient that the loss

        (1 - cued_share) L(f(D_NC; .), y) + cued_share L(f(D_RC; .), y)

    has at the point theta + rho d / |d|, d = theta_C - theta, the direction taken as constant: theta_C the frozen
    start, D_NC clean data, D_RC data with a random cue and true labels, |d| the Euclidean norm over all trainable
    parameters. It is sharpness-aware minimisation whose ascent is replaced by a step towards the old model, so that
    what is learned holds on a stretch of the line back.

    Nearer than rho to theta_C the point is theta_C itself: beyond it the point would not lie between the two, and its
    gradient would say nothing of the line. So the first gradients are those at theta_C, and at the first step theta,
    theta_C and the point are one. The published code goes beyond; so does `overshoot=True`, but for the first step.
    Running statistics are theta's: where the network has buffers, a pass at theta without gradients follows.

    Data with a cue that know it (`task.train`, a `CuedSet`, also on another scale or in part) get a random one, a
    function of the seed, on every row; others are taken as they are: rows with a random cue. The loss on D_RC is the
    mean over its sources; of several references each iteration takes the next in turn.

    Attributes:
        rho: distance from theta at which gradients are taken, in weight space.
        cued_share: weight of the loss on data with a random cue, in [0, 1]; the source has a fifth of such rows in a
            batch.
        overshoot: True takes the gradient at rho from theta even where theta_C is nearer.

    Source: Min et al. 2024, *Uncovering, explaining, and mitigating the superficial safety of backdoor defense*, with
    the true cue in place of an estimate of it.
    """

    mixes_weights: ClassVar[bool] = True

    rho: float = 0.5
    cued_share: float = 0.2
    overshoot: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("rho", self.rho)
        check_fraction("cued_share", self.cued_share)

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """D_RC, of every source."""
        return {name: _draw_random_cue(source, seed) for name, source in require_cued_data(self, cued).items()}

    def passes(self, sources: int) -> int:
        """One on the clean data and one on each source."""
        return 1 + sources

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """["clean" + "cued"], at the point on the way back."""

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            point = find_point(problem, step, self.rho, self.overshoot)
            losses = [problem.mean_loss(problem.outputs_at(point, x), y) for x, y in (step.clean, *step.cued)]
            problem.move_buffers(step.clean, *step.cued)
            cued = torch.stack(losses[1:]).mean()
            return {"clean": (1.0 - self.cued_share) * losses[0], "cued": self.cued_share * cued}

        return [objective]

    def remarks(self, problem: Problem, records: Records) -> Sequence[str]:
        """Where theta never was further than rho from theta_C."""
        return () if self.overshoot else explain_short_distance(self, problem, self.rho)


def _draw_random_cue(source: Any, seed: int) -> Any:
    """Data with a random cue on every row, also where scenes with a cue lie inside others; else as they are."""
    if isinstance(source, CuedSet):
        return source.with_random_cue(seed)
    for part in ("scenes", "source"):
        inner = getattr(source, part, None)
        if inner is not None and (drawn := _draw_random_cue(inner, seed)) is not inner:
            return replace(source, **{part: drawn})
    return source
