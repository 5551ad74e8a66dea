"""Cross-entropy on the clean data alone: from theta_C, or from fresh weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mechconn.core import check_listed
from mechconn.descent import Descend, Descent, Objective, Problem, Training, compute_clean_loss, draw_fresh_state
from mechconn.tuning._fresh_start import perturb, reset_buffers


@dataclass(frozen=True, kw_only=True)
class NaiveFineTuning(Descent):
    """All weights, cross-entropy on the clean data, cosine learning rate to 0.

    The source's FT-S, FT-M and FT-L are lr = 0.001, 0.01 and 0.1.

    Source: Lubana et al. 2023, section 5.
    """

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """Mean loss on the clean batch."""
        return [compute_clean_loss(problem)]


@dataclass(frozen=True, kw_only=True)
class Scratch(Training):
    """Fresh weights, trained on the clean data alone, by the schedule of `Training`: what the clean data can teach.

    Each module draws its weights by `reset_parameters`; running statistics start anew with them. A weight that no
    module can draw is an error that names it, since it would keep what the model learned with the cue; `keep`
    lets some stay on purpose. Frozen weights stay.

    Attributes:
        keep: names of parameters that stay as they are.

    Source: Lubana et al. 2023, section 6 (a baseline of its table).
    """

    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_listed("keep", self.keep)

    def run(self, problem: Problem, descend: Descend) -> None:
        """Draw the weights, then train."""
        params, buffers = draw_fresh_state(problem.model, problem.seed, "scratch", "name it in keep=", self.keep)
        perturb(problem.model, params, 0.0, 1.0)
        reset_buffers(problem.model, buffers)
        super().run(problem, descend)
