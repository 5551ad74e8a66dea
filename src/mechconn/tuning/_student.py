"""A student in training: the objective of a distillation, and the maps that its contrastive term trains beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mechconn.core import Inputs, copy_inputs, isolate_rng, iterate_batches, keep_generator_states
from mechconn.descent import (
    Descend,
    Method,
    Problem,
    TrainingStep,
    find_trainable,
    make_validation_loss,
    record_head_calls,
)
from mechconn.losses import Binary, Loss
from mechconn.tuning._distillation import Distillation
from mechconn.tuning._distillation_terms import (
    as_two_outputs,
    compute_contrast,
    compute_direction_gaps,
    compute_soft_gaps,
    take_scores,
)
from mechconn.tuning._teacher import Teacher, name_head, read_features, read_gradients, watch_inputs

KNOWN_ROWS, LARGEST_BATCH = "rows with a direction", "rows of a batch"
"""What is kept from step to step: rows where the teacher's gradient was not zero, and the most rows of a batch."""


@dataclass(frozen=True, eq=False)
class Taught(Method):
    """The method of `distill`: its settings with the teacher.

    Attributes:
        how: the settings.
        teacher: the network that is asked.
        head: name of its head, where the user gave one.
        loss: of the labels; decides what is a classification, also where no label is read.
        transform: of the inputs, for both networks.
    """

    how: Distillation
    teacher: nn.Module
    head: str | None
    loss: Loss
    transform: Callable[[Inputs], Inputs] | None

    def settings(self) -> dict[str, Any]:
        """Those of `Distillation`."""
        return self.how.settings()

    def run(self, problem: Problem, descend: Descend) -> None:
        """Descend the terms over the student's weights, and over the maps where features are compared."""
        teacher = Teacher(self.teacher, self.head, problem.network.compute)
        lesson = _Lesson(self.how, self.loss, teacher, problem)
        module = problem.model
        if self.how.contrastive:
            find_trainable("distillation", problem.model.parameters())
            lesson.maps = self._draw_maps(lesson, problem)
            module = _WithMaps(problem.model, lesson.maps)
        validate = None if problem.validation is None else make_validation_loss(problem, lesson.measure)
        descend(self.how, [lesson.compute_terms], module, problem.clean, (), validate)
        problem.notes.extend(lesson.list_remarks())

    def _draw_maps(self, lesson: _Lesson, problem: Problem) -> nn.ModuleList:
        """Linear maps of the features of student and teacher, whose widths the first batch tells."""
        rows, network = self.how.batch_size, problem.network
        with torch.no_grad(), keep_generator_states(problem.clean), isolate_rng(problem.seed, "distillation", "maps"):
            first = iterate_batches("data", problem.clean, batch_size=rows, device=network.device, model=network.module)
            inputs, _ = next(first)
            inputs = inputs if self.transform is None else self.transform(copy_inputs(inputs))
            problem.model.eval()
            try:
                _, mine = lesson.ask_student(inputs)
            finally:
                problem.model.train(True)
            assert mine is not None
            _, theirs = lesson.teacher.ask_features(inputs)
            exact = torch.promote_types(mine.dtype, torch.float32)
            widths = (mine.shape[1], theirs.shape[1])
            maps = nn.ModuleList(nn.Linear(width, self.how.projection) for width in widths)
        return maps.to(network.device, exact)


class _WithMaps(nn.Module):
    """The student and the maps, as one set of weights."""

    def __init__(self, student: nn.Module, maps: nn.ModuleList) -> None:
        super().__init__()
        self.student, self.maps = student, maps


class _Lesson:
    """The terms of a distillation loss on a batch.

    Attributes:
        maps: of the features of student and teacher; None where these are not compared.
    """

    def __init__(self, how: Distillation, loss: Loss, teacher: Teacher, problem: Problem) -> None:
        self._how, self._loss, self.teacher, self._problem = how, loss, teacher, problem
        self._head, self._tried = problem.head, False
        self.maps: nn.ModuleList | None = None

    def compute_terms(self, step: TrainingStep) -> dict[str, Tensor]:
        """Those that have a weight: "distillation", "clean", "jacobian", "contrastive"."""
        (inputs, targets), how = step.clean, self._how
        watched, leaves = watch_inputs(inputs) if how.jacobian else (inputs, [])
        with _differentiable_twice() if how.jacobian else nullcontext():
            outputs, features = self.ask_student(watched)
            terms = self._compute_output_terms(inputs, outputs, targets)
            if how.jacobian:
                terms["jacobian"] = how.jacobian * self._compare_gradients(inputs, outputs, leaves, targets)
                self._try_second_derivatives(terms["jacobian"])
        if features is not None:
            terms["contrastive"] = how.contrastive * self._compare_features(inputs, outputs, features, targets)
        return terms

    def measure(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Label loss and soft targets of each row, weighted: what an epoch is chosen by."""
        outputs = self._problem.outputs(inputs)
        return torch.stack(list(self._compare_outputs(inputs, outputs, targets).values())).sum(0)

    def ask_student(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """(outputs, what the head receives where features are compared)."""
        problem = self._problem
        if not self._how.contrastive:
            return problem.outputs(inputs), None
        self._head = self._head or name_head("student", problem.model, inputs)
        with record_head_calls(problem.model, self._head) as received:
            outputs = problem.outputs(inputs)
        return outputs, read_features("student", received, outputs)

    def list_remarks(self) -> Iterator[str]:
        """Where a term had no effect."""
        kept = self._problem.kept
        if KNOWN_ROWS in kept and not float(kept[KNOWN_ROWS]):
            yield (
                "distillation's jacobian term was zero: the teacher's gradient in its inputs is zero on every row, so "
                "that it has no direction to match; set jacobian=0, or see whether the teacher depends on its inputs"
            )
        if LARGEST_BATCH in kept and float(kept[LARGEST_BATCH]) < 2:
            yield (
                "distillation's contrastive term was zero: every batch had one row, which has no others to be told "
                "from; raise batch_size, or set contrastive=0"
            )

    def _compute_output_terms(self, inputs: Inputs, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        found = self._compare_outputs(inputs, outputs, targets)
        return {name: self._problem.mean_of(values, targets) for name, values in found.items()}

    def _compare_outputs(self, inputs: Inputs, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Term -> its weighted value for each row."""
        share, terms = self._how.label_share, {}
        self._check_outputs("student", outputs)
        if share < 1.0:
            wanted = self.teacher.ask(copy_inputs(inputs))
            self._check_outputs("teacher", wanted)
            self._check_classes(outputs, wanted)
            terms["distillation"] = (1.0 - share) * compute_soft_gaps(outputs, wanted, self._how.temperature)
        if share:
            terms["clean"] = share * self._problem.losses(outputs, targets)
        return terms

    def _compare_gradients(self, inputs: Inputs, outputs: Tensor, leaves: list[Tensor], targets: Tensor) -> Tensor:
        """L_J: the mean over the rows where the teacher has a direction."""
        classes, wanted = self.teacher.ask_gradients(inputs)
        self._check_reach(classes, outputs)
        own = read_gradients(take_scores(outputs, classes), leaves, further=True)
        known = wanted.abs().amax(1) > 0
        counted = known.to(outputs) * self._problem.rows_counted(targets).to(outputs)
        self._keep(KNOWN_ROWS, counted.sum())
        total = self._problem.workers.total
        gaps = compute_direction_gaps(own, wanted).to(outputs) * counted
        return total(gaps.sum()) / total(counted.sum()).clamp(min=1.0)

    def _compare_features(self, inputs: Inputs, outputs: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        """L_C on this process's rows, the mean over all."""
        assert self.maps is not None
        _, theirs = self.teacher.ask_features(copy_inputs(inputs))
        mine, other = self.maps
        exact = next(mine.parameters()).dtype
        self._keep(LARGEST_BATCH, torch.tensor(float(len(features))))
        found = compute_contrast(mine(features.to(exact)), other(theirs.to(exact)), self._how.contrast_temperature)
        return self._problem.mean_of(found.to(outputs), targets)

    def _try_second_derivatives(self, term: Tensor) -> None:
        """Before the first step: raise in one line where the student's gradients have no gradients."""
        if self._tried or not term.requires_grad or self._problem.workers.count > 1:
            return
        self._tried = True
        try:
            term.backward(retain_graph=True)
        except RuntimeError as error:
            reason = str(error).splitlines()[0].partition(". ")[0]
            raise ValueError(
                f"jacobian needs second derivatives, which some layer of the student does not give ({reason}); set "
                "jacobian=0"
            ) from error
        finally:
            self._problem.model.zero_grad(set_to_none=True)

    def _check_outputs(self, who: str, outputs: Tensor) -> None:
        """Raise unless a network classifies whole rows."""
        shape = list(outputs.shape)
        several = who == "student" and isinstance(self._loss, Binary) and len(shape) == 2 and shape[1] > 1
        if len(shape) not in (1, 2) or several:
            what = "independent labels" if several else f"outputs {shape}"
            raise ValueError(
                f"distill teaches classes of whole rows, one of K outputs [N, K] or one logit, and the {who} gives "
                f"{what}; distil a network of whole rows, or train the student on the teacher's outputs as targets"
            )

    def _check_classes(self, outputs: Tensor, wanted: Tensor) -> None:
        mine, theirs = (as_two_outputs(own).shape for own in (outputs, wanted))
        if mine[1] != theirs[1]:
            raise ValueError(
                f"teacher and student must tell the same classes apart: the teacher gives {theirs[1]} and the student "
                f"{mine[1]}; build the student with {theirs[1]} outputs"
            )

    def _check_reach(self, classes: Tensor, outputs: Tensor) -> None:
        """As `_check_classes`, where soft targets were not asked for."""
        count = as_two_outputs(outputs).shape[1]
        if int(classes.max()) >= count:
            raise ValueError(
                f"teacher and student must tell the same classes apart: the teacher gives class {int(classes.max())} "
                f"and the student {count}; build the student with the teacher's outputs"
            )

    def _keep(self, name: str, value: Tensor) -> None:
        seen = self._problem.kept.setdefault(name, torch.zeros((), dtype=torch.float64))
        seen.fill_(max(float(seen), float(value)))


@contextmanager
def _differentiable_twice() -> Iterator[None]:
    """Context manager: attention by products alone, whose gradients have gradients."""
    with sdpa_kernel(SDPBackend.MATH):
        yield
