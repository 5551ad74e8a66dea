"""What a training or fine-tuning method is: settings, a schedule of steps, and the objectives they descend."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from mechconn.core import (
    Buffers,
    Data,
    Inputs,
    Params,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
)
from mechconn.descent._schedule import CosineSchedule, Schedule
from mechconn.descent._workers import Workers
from mechconn.losses import Loss, explain_not_per_sample
from mechconn.network import (
    Network,
    explain_errors,
    extract_outputs,
    heeds_mask,
    inputs_to_memory_format,
    make_call_arguments,
)

EVALUATED = 250
"""Rows per batch where nothing is learned."""

Batch: TypeAlias = tuple[Inputs, Tensor]
"""(inputs, targets)."""


@dataclass(frozen=True)
class TrainingStep:
    """What one iteration works on.

    Attributes:
        number: iterations before it.
        epoch: epochs before it.
        clean: a batch of the clean data.
        cued: a batch of each source of data with a cue, for methods that use them.
        rows: numbers of the clean rows in their data, int64 of shape [N]; None where the data are no dataset.
        size: rows of the clean batch, over all processes that share it.
    """

    number: int
    epoch: int
    size: int
    clean: Batch
    cued: tuple[Batch, ...] = ()
    rows: Tensor | None = None


Records: TypeAlias = Sequence[Mapping[str, int | float]]
"""One record an epoch: its number, its last learning rate, the mean of each loss term, and the validation loss."""

Objective: TypeAlias = Callable[[TrainingStep], dict[str, Tensor]]
"""The terms of a loss at the current weights; their sum is what one optimiser step descends."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method may use to build its objectives.

    Attributes:
        model: the network that is trained, theta; a private copy in training mode.
        network: the same architecture as a function of weights.
        references: for each source of data with a cue the weights to keep apart from, frozen; the start where the
            user names no other.
        loss: one value per sample.
        head: name of the head where the user gave one.
        seed: of the method's own draws.
        clean: the clean data.
        cued: the sources of data with a cue that the method reads.
        validation: clean data to select an epoch by, where the user gave any.
        groups: number of the group of each clean row, int64 of shape [N], where the user gave groups.
        workers: the processes that share the work.
        kept: what objectives remember from one iteration to the next; part of every checkpoint.
        decided: settings that the method left to the run, such as a rate that the features give; part of the record.
        notes: plain sentences on where the run did nothing, for readers of its result.
    """

    model: nn.Module
    network: Network
    references: tuple[Params, ...]
    loss: Loss
    head: str | None
    seed: int
    clean: Data
    cued: tuple[Data, ...] = ()
    validation: Data | None = None
    groups: Tensor | None = None
    workers: Workers = field(default_factory=Workers)
    kept: dict[str, Tensor] = field(default_factory=dict)
    decided: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def outputs(self, inputs: Inputs) -> Tensor:
        """Outputs of theta; its running statistics move along, as in any training step."""

        def here() -> tuple[Params, Buffers]:
            return dict(self.model.named_parameters()), dict(self.model.named_buffers())

        def by_network(buffers: Buffers) -> Tensor:
            return self.network(here()[0], buffers, inputs, training=self.model.training)

        def by_itself(model: nn.Module) -> Tensor:
            return self._call(model, self.network.cast_inputs(inputs, here))

        if self.network.compiled.asked and self.network.compiled.stands_for(self.model, by_itself, by_network):
            return by_network(here()[1])
        if self.model.training:
            self.network.prepare_steps(self.network.cast_inputs(inputs, here), here)
        return by_itself(self.model)

    def _call(self, model: nn.Module, inputs: Inputs) -> Tensor:
        args, kwargs = make_call_arguments(inputs_to_memory_format(inputs, self.network.reduced))
        with self.network.computing(), self.network.steps.used(self.model.training), explain_errors(args, kwargs):
            found = model(*args, **kwargs)
        outputs = extract_outputs(found)
        return outputs if self.network.reduced is None else outputs.float()

    def outputs_at(self, point: Params, inputs: Inputs) -> Tensor:
        """Outputs of the network at other weights, in training mode; statistics move nowhere."""
        discarded = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        return self.network(point, discarded, inputs, training=True)

    @torch.no_grad()
    def move_buffers(self, *batches: Batch) -> None:
        """Let theta's running statistics see batches whose losses are taken elsewhere, as in a training step."""
        if any(True for _ in self.model.buffers()):
            for inputs, _ in batches:
                self.outputs(inputs)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of every row, float of shape [N].

        Raises:
            ValueError: the loss gives anything else.
        """
        values = self.loss(outputs, targets)
        if values.shape != targets.shape[:1]:
            raise ValueError(explain_not_per_sample("the loss", values, targets))
        return values

    def mean_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch."""
        return self.mean_of(self.losses(outputs, targets), targets)

    def mean_of(self, losses: Tensor, targets: Tensor) -> Tensor:
        """Mean of the losses of the rows that count."""
        counted = self.loss.counted(targets)
        if counted is None:
            return self.workers.mean(losses)
        return self.workers.total(losses[counted].sum()) / self.workers.total(counted.to(losses).sum()).clamp(min=1.0)

    def rows_counted(self, targets: Tensor) -> Tensor:
        """1.0 for each row that counts and 0.0 for the others, float of shape [N]."""
        counted = self.loss.counted(targets)
        return torch.ones(len(targets), device=targets.device) if counted is None else counted.float()

    def risk(self, batch: Batch) -> Tensor:
        """Mean loss of theta on a batch."""
        return self.mean_loss(self.outputs(batch[0]), batch[1])


@runtime_checkable
class Descend(Protocol):
    """Takes the steps of a schedule: the engine as a method calls it."""

    def __call__(
        self,
        schedule: Schedule,
        objectives: Sequence[Objective],
        module: nn.Module,
        clean: Data,
        cued: Sequence[Data] = (),
        validate: Callable[[], float] | None = None,
        factor: Callable[[int], float] | None = None,
        *,
        apply_transform: bool = True,
    ) -> Records:
        """Descend the objectives over the trainable weights of `module`; with `apply_transform=False` on features.

        `factor` multiplies the learning rate of an iteration.

        Returns the record of every epoch, also of those that were done before the run was interrupted.
        """
        ...


class Method(abc.ABC):
    """How the weights of a network are changed: base of every method, and of your own.

    A subclass gives `run` and `settings`; `Descent` is the base of methods that are one descent, and gives both. Where
    it is a dataclass that also extends `mechconn.core.MethodSettings`, as every `Schedule` does, `settings` are its
    fields, and configuration files name it: {method = "package.module:Class", lr = 0.01}. Random numbers come from
    `problem.seed`, so that a run is a function of its seed.
    """

    takes_groups: ClassVar[bool] = False
    """Whether the groups of the clean rows are of use to it."""
    mixes_weights: ClassVar[bool] = False
    """Whether it takes points between the network and where it started, which low-rank factors do not give."""

    @property
    def reads_clean_data(self) -> bool:
        """Whether its iterations take batches of the clean data; True by default."""
        return True

    @abc.abstractmethod
    def run(self, problem: Problem, descend: Descend) -> None:
        """Change `problem.model` in place, by calls of `descend` or directly.

        Args:
            problem: the network, a private copy in training mode, with the data and the loss.
            descend: takes the steps of a schedule; epochs, checkpoints, validation and processes are its part.
        """

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Name and every setting: plain values."""

    def explain_misfit(self, model: nn.Module) -> str:
        """Why it cannot fine-tune this network, in a line that is raised before any work; empty where it can."""
        return ""

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """The sources of data with a cue that this method reads beside the clean data; none by default."""
        return {}

    def passes(self, sources: int) -> int:
        """Forward and backward passes through the whole network in one iteration, given so many sources with a cue.

        Zero where the method trains the head alone.
        """
        return 0

    def whole_schedule(self) -> Schedule | None:
        """The schedule of the part that trains the whole network; None where there is no such part."""
        return None

    def with_epochs(self, epochs: int) -> Method:
        """The same method, training the whole network for so many epochs; itself where it trains the head alone."""
        return self


@dataclass(frozen=True, kw_only=True)
class Descent(CosineSchedule, Method):
    """A method that is one descent over all trainable weights: base of most methods, and of your own.

    A subclass gives `objectives` and is a dataclass, `@dataclass(frozen=True, kw_only=True)`: its fields are settings,
    beside those of the schedule. Where it reads data with a cue it gives `cued_data` and `passes` too.
    """

    @abc.abstractmethod
    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """What each iteration descends, in turn: one optimiser step per objective."""

    def passes(self, sources: int) -> int:
        """One, on the clean data."""
        return 1

    def whole_schedule(self) -> Schedule | None:
        """Its own."""
        return self

    def with_epochs(self, epochs: int) -> Method:
        """The same settings but for the number of epochs."""
        return replace(self, epochs=epochs)

    def run(self, problem: Problem, descend: Descend) -> None:
        """Descend the objectives over all weights, and note what had no effect."""
        validate = None if problem.validation is None else make_validation_loss(problem)
        records = descend(self, self.objectives(problem), problem.model, problem.clean, problem.cued, validate)
        problem.notes.extend(self.remarks(problem, records))

    def remarks(self, problem: Problem, records: Records) -> Sequence[str]:
        """Sentences on terms that had no effect, from the record of every epoch; none by default."""
        return ()


def find_taken_epoch(records: Records) -> int:
    """The epoch whose weights a descent ended with: the first of least validation loss, else the last."""
    losses = [record.get("validation") for record in records]
    found = [(loss, epoch) for epoch, loss in enumerate(losses) if loss is not None]
    return min(found)[1] if found else len(records) - 1


def compute_clean_loss(problem: Problem) -> Objective:
    """The objective "clean": mean loss of theta on the clean batch."""
    return lambda step: {"clean": problem.risk(step.clean)}


def require_cued_data(method: Method, cued: Mapping[str, Data]) -> Mapping[str, Data]:
    """The sources with a cue, after refusing none."""
    if not cued:
        raise ValueError(
            f"{type(method).__name__} needs data with the cue: pass cued=..., the data that the model was trained on"
        )
    return cued


def make_validation_loss(
    problem: Problem, measure: Callable[[Inputs, Tensor], Tensor] | None = None
) -> Callable[[], float]:
    """Mean loss of theta on the validation data, in evaluation mode; `measure` gives another value of each row."""
    held_out = problem.validation
    assert held_out is not None

    def validate() -> float:
        problem.model.eval()
        total, rows = 0.0, 0
        with torch.no_grad(), keep_generator_states(held_out), isolate_rng(problem.seed, "validation"):
            device, module = problem.network.device, problem.network.module
            rows_read = problem.network.compute.choose_batch_size(EVALUATED)
            trim = heeds_mask(problem.network, problem.outputs)
            batches = iterate_batches(
                "validation", held_out, batch_size=rows_read, device=device, model=module, trim=trim
            )
            for inputs, targets in batches:
                found = (
                    problem.losses(problem.outputs(inputs), targets) if measure is None else measure(inputs, targets)
                )
                values = found.double()
                total += float((values * problem.rows_counted(targets)).sum())
                rows += int(problem.rows_counted(targets).sum())
        problem.model.train(True)
        return total / max(rows, 1)

    return validate
