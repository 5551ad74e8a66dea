"""UNDO: distil what a fine-tuned network says on clean data into weights that never met the cue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from mechconn.core import (
    Data,
    Inputs,
    OneOf,
    check_fraction,
    check_is,
    check_listed,
    check_positive,
)
from mechconn.descent import DefaultRate, Descend, Descent, Method, Objective, Problem, TrainingStep, draw_fresh_state
from mechconn.tuning._epoch_shares import share_epochs
from mechconn.tuning._fresh_start import check_perturbation, perturb, reset_buffers
from mechconn.tuning._naive_fine_tuning import NaiveFineTuning

TEACHER = "teacher/"
"""Prefix of the teacher's tensors in what checkpoints keep."""


@dataclass(frozen=True, kw_only=True)
class UNDO(Descent):
    r"""Unlearn, noise, distil on outputs: fresh weights learn what a fine-tuned theta_C says on clean data.

    The teacher is theta_C, fine-tuned by an inner method. The student starts at shrink theta_teacher + noise theta',
    theta' fresh weights (by default at theta' itself), and minimises on the clean data

        (1 - label_share) T^2 KL(p_teacher || p_student) + label_share L(f(D_NC; theta), y),
        p = softmax(outputs / T),

    the teacher computed without gradients in evaluation mode. Only clean rows are passed through it, so that of the cue
    the student learns no more than what the teacher's outputs on rows without the cue tell. One logit counts as two
    outputs, 0 and the logit. `transform` of `fine_tune` augments the inputs of both. Running statistics start anew, and
    frozen weights stay.

    Attributes:
        epochs: of the student.
        lr: of the student, as all settings of the schedule.
        teacher: how theta_C is fine-tuned first.
        shrink: share of the teacher's weights in the student's start, in [0, 1]; 0 starts at fresh weights.
        noise: what the fresh weights are multiplied by.
        temperature: T.
        label_share: weight of the true labels' loss, from 0 to below 1.
        keep: names of parameters in which the student starts at the teacher's values.

    Source: Lee et al. 2025, *Distillation robustifies unlearning*.
    """

    epochs: int = 100
    lr: float = DefaultRate(0.1)
    teacher: Annotated[Method, OneOf(Method)] = field(default_factory=NaiveFineTuning)
    shrink: float = 0.0
    noise: float = 1.0
    temperature: float = 1.0
    label_share: float = 0.0
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_is("teacher", self.teacher, Method)
        check_perturbation(self.shrink, self.noise)
        check_positive("temperature", self.temperature)
        if check_fraction("label_share", self.label_share) == 1.0:
            raise ValueError("label_share must be below 1, got 1.0: the student would never read the teacher's outputs")
        check_listed("keep", self.keep)

    def settings(self) -> dict[str, Any]:
        """Name and every setting, the teacher's under "teacher"."""
        return {**super().settings(), "teacher": self.teacher.settings()}

    def explain_misfit(self, model: nn.Module) -> str:
        """Why the teacher's method cannot fine-tune this network."""
        return self.teacher.explain_misfit(model)

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """What the teacher's method reads; the student reads none."""
        return self.teacher.cued_data(cued, seed)

    def passes(self, sources: int) -> int:
        """Those of the teacher's method, or the student's one where that has fewer."""
        return max(1, self.teacher.passes(sources))

    def with_epochs(self, epochs: int) -> Method:
        """The same settings with so many epochs in all: teacher and student keep their shares, one epoch each at least.

        A teacher that trains the head alone keeps its own.
        """
        schedule = self.teacher.whole_schedule()
        if schedule is None:
            return replace(self, epochs=epochs)
        first, second = share_epochs(epochs, schedule.epochs, self.epochs)
        return replace(self, teacher=self.teacher.with_epochs(first), epochs=second)

    def run(self, problem: Problem, descend: Descend) -> None:
        """Fine-tune the teacher, draw the student, then distil."""
        self.teacher.run(problem, descend)
        if problem.decided:
            decided = dict(problem.decided)
            problem.decided.clear()
            problem.decided["teacher"] = {**self.teacher.settings(), **decided}
        state = dict(problem.model.named_parameters()) | dict(problem.model.named_buffers())
        # A run that is resumed behind this point finds the teacher in its checkpoint.
        problem.kept.update({f"{TEACHER}{name}": tensor.detach().clone() for name, tensor in state.items()})
        params, buffers = draw_fresh_state(problem.model, problem.seed, "student", "name it in keep=", self.keep)
        perturb(problem.model, params, self.shrink, self.noise)
        reset_buffers(problem.model, buffers)
        super().run(problem, descend)

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """["distillation"], and "clean" where labels have a share."""

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            inputs, targets = step.clean
            outputs = problem.outputs(inputs)
            _check_classification(problem, outputs, targets)
            wanted = self._distribution(_ask_teacher(problem, inputs))
            gaps = kl_div(self._distribution(outputs), wanted, reduction="none", log_target=True).sum(1)
            weight = (1.0 - self.label_share) * self.temperature**2
            terms = {"distillation": weight * problem.mean_of(gaps, targets)}
            if self.label_share:
                terms["clean"] = self.label_share * problem.mean_loss(outputs, targets)
            return terms

        return [objective]

    def _distribution(self, outputs: Tensor) -> Tensor:
        """log p, [N, K]."""
        logits = outputs.reshape(len(outputs), -1)
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        return (logits / self.temperature).log_softmax(1)


@torch.no_grad()
def _ask_teacher(problem: Problem, inputs: Inputs) -> Tensor:
    """The teacher's outputs, in evaluation mode."""
    params, buffers = (
        {name: problem.kept[f"{TEACHER}{name}"] for name, _ in named}
        for named in (problem.model.named_parameters(), problem.model.named_buffers())
    )
    return problem.network(params, buffers, inputs, training=False)


def _check_classification(problem: Problem, outputs: Tensor, targets: Tensor) -> None:
    found = problem.loss.classify(outputs.detach(), targets)
    if found is None or found.each != "rows":
        kind = str(targets.dtype).removeprefix("torch.")
        raise ValueError(
            "UNDO distils the classes of whole rows: it needs whole-number targets [N] and outputs [N, K], or one "
            f"logit a row, got outputs {list(outputs.shape)} and targets {kind}{list(targets.shape)}"
        )
