"""The training loop: one engine for training from fresh weights, every fine-tuning method and the fitting of paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from mechconn.core import (
    Data,
    Inputs,
    check_is,
    check_listed,
    check_samples,
    copy_inputs,
    count_batches,
    find_generators,
    is_source,
    isolate_rng,
    iterate_numbered_batches,
    keep_generator_states,
    make_generator,
    seed_globally,
)
from mechconn.descent._checkpoint import CheckpointFile, RunState
from mechconn.descent._method import Objective, Records, TrainingStep, find_taken_epoch
from mechconn.descent._optimiser_state import collect_state, restore_state
from mechconn.descent._schedule import Schedule
from mechconn.descent._workers import Workers
from mechconn.losses import Loss
from mechconn.network import Network


def explain_one_row(error: ValueError, step: TrainingStep, data: Sequence[Data], named: str, processes: int) -> str:
    """The error of a layer that cannot normalise one row, with the data it came from and what to do; else nothing.

    Args:
        error: what the layer raised.
        step: what the iteration worked on.
        data: the clean data and every source of data with a cue, which its batches were read from.
        named: what errors call the clean data.
        processes: how many share each batch.
    """
    names = (named, *(f"cued data {number}" for number, _ in enumerate(data[1:], start=1)))
    read = zip(names, (step.clean, *step.cued), data, strict=False)
    single = {name: _advise_two_rows(source, processes) for name, (_, y), source in read if len(y) == 1}
    if not single or "more than 1 value per channel" not in str(error):
        return ""
    advice = " and ".join(dict.fromkeys(single.values()))
    return (
        f"{error} (a batch of {' and '.join(single)} has one row; layers that normalise over a batch need two: "
        f"{advice})"
    )


def _advise_two_rows(source: Data, processes: int) -> str:
    if processes > 1:
        return "give larger batches, or fewer processes"
    if is_source(source):
        return "set batch_size= to two or more" if len(source) > 1 else "give two rows or more"
    return "leave that batch out, as drop_last=True does in a loader, or give the dataset itself"


def find_trainable(what: str, tensors: Iterable[Tensor]) -> list[Tensor]:
    """The weights that are not frozen.

    Raises:
        ValueError: there are none.
    """
    weights = [tensor for tensor in tensors if tensor.requires_grad]
    if not weights:
        raise ValueError(
            f"{what} finds no trainable weights: all of them are frozen; call requires_grad_() on those to change"
        )
    return weights


def note_selection(records: Records, what: str) -> Iterator[str]:
    """A note where validation data rejected all epochs but the first."""
    if len(records) > 1 and "validation" in records[0] and find_taken_epoch(records) == 0:
        least = min(record["validation"] for record in records[1:])
        yield (
            f"Validation data selected the first of {len(records)} epochs of {what}: their loss is "
            f"{records[0]['validation']:.4g} there and {least:.4g} or more in every later one."
        )


@dataclass(eq=False)
class DescentEngine:
    """Takes the steps of one run, which may be several descents one after the other.

    Whatever an iteration draws is a function of (seed, iteration): the order of the rows, dropout, the loaders' own
    draws. So a resumed run draws what an uninterrupted one draws.

    Attributes:
        network: how to compute; its forward pass decides how batches are read.
        seed: of everything that is drawn.
        what: what progress and errors call the run.
        named: what errors call the clean data.
        transform: applied to the inputs of every batch of the descents over a model's own data.
        workers: the processes that share the work.
        keeper: reads and writes the checkpoint.
        loss: which rows count; None where all do.
        kept: what objectives remember between iterations.
        history: a record for each epoch done, of all descents.
        selected: epoch whose weights were taken, where they were chosen by validation data.
        notes: plain sentences on what had no effect.
    """

    network: Network
    seed: int
    what: str
    named: str
    transform: Callable[[Inputs], Inputs] | None = None
    workers: Workers = field(default_factory=Workers)
    keeper: CheckpointFile | None = None
    loss: Loss | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    selected: int | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._saved = None if self.keeper is None else self.keeper.read()
        steps = self.network.steps
        if self.workers.count > 1:  # each process would decide by rows of its own
            steps.resume(False)
        if self._saved is not None:  # also for what comes behind descents that are done and not repeated
            steps.resume(self._saved.kernels)
            self.kept.update({name: tensor.to(self.network.device) for name, tensor in self._saved.kept.items()})
        self._part, self._begun = -1, 0

    def descend(
        self,
        schedule: Schedule,
        objectives: Sequence[Objective],
        module: nn.Module | Mapping[str, Tensor],
        clean: Data,
        cued: Sequence[Data] = (),
        validate: Callable[[], float] | None = None,
        factor: Callable[[int], float] | None = None,
        *,
        apply_transform: bool = True,
    ) -> Records:
        """Take a schedule's steps on the trainable tensors of a module, or of a mapping; returns its epochs' records.

        With `validate`, the weights are in the end those of the epoch where it gave the least value. `factor`
        multiplies the learning rate of an iteration; the history keeps the schedule's own rate, warm-up included. With
        `apply_transform=False` the data are precomputed features.

        Raises:
            ValueError: nothing is trainable, or data are empty.
            FloatingPointError: a loss term, a weight or the validation loss became infinite or NaN.
        """
        check_listed("objectives", objectives)
        self._part, begun = self._part + 1, self._begun
        self._begun += schedule.epochs
        if self._saved is not None and self._saved.part > self._part:
            return self._noted(self._saved.history[begun : self._begun])  # the state of a later descent has what came
        if isinstance(module, nn.Module):
            objectives = self.workers.whole(module, objectives)
            module = dict(module.named_parameters()) | dict(module.named_buffers())
        weights = find_trainable(self.what, module.values())
        with isolate_rng(self.seed, self.what, "optimizer"):
            optimiser = schedule.make_optimiser(weights)
        if self.keeper is not None:
            collect_state(optimiser, weights)  # what a checkpoint cannot hold is refused before the first step
        data = (clean, *cued)
        with keep_generator_states(*data):  # around all epochs: each reads the rows in its own order
            with isolate_rng(self.seed, self.what, "targets"):
                counts = [count_batches(self.named, source, schedule.batch_size) for source in data]
            check_samples(self.named if not counts[0] else "cued data", min(counts))
            transform = self.transform if apply_transform else None
            _Run(
                self, schedule, objectives, module, weights, optimiser, data, validate, factor, transform, min(counts)
            ).all_epochs(self._saved)
        self._saved = None
        optimiser.zero_grad(set_to_none=True)
        return self._noted(self.history[begun:])

    def _noted(self, records: Records) -> Records:
        """The records of a descent, after a note on the epoch that validation data selected."""
        self.notes.extend(note_selection(records, self.what))
        return records


@dataclass(eq=False)
class _Run:
    """One descent under way."""

    engine: DescentEngine
    schedule: Schedule
    objectives: Sequence[Objective]
    state: Mapping[str, Tensor]
    weights: Sequence[Tensor]
    optimiser: torch.optim.Optimizer
    data: tuple[Data, ...]
    validate: Callable[[], float] | None
    factor: Callable[[int], float] | None
    transform: Callable[[Inputs], Inputs] | None
    batches: int

    def __post_init__(self) -> None:
        self.now = RunState(part=self.engine._part, history=self.engine.history, kept=self.engine.kept)
        self.steps = math.ceil(self.batches / self.schedule.accumulate)
        self.total = self.schedule.count_steps(self.schedule.epochs * self.steps)
        self.schedule.count_warmup(self.total)

    def all_epochs(self, saved: RunState | None) -> None:
        """Every epoch that is not done, then the weights that were chosen."""
        if saved is not None:
            self._restore(saved)
        for epoch in range(self.now.epoch, self.schedule.epochs):
            with torch.enable_grad(), isolate_rng(self.engine.seed, self.engine.what, epoch):
                record = self._epoch(epoch)
            self._finish(record)
        if self.now.best is not None:
            self.engine.selected = self.now.best[1]
            self._put(self.now.chosen)

    def _epoch(self, epoch: int) -> dict[str, float]:
        """The iterations of an epoch that are not done; the mean of each term over the rows, and the last rate."""
        now, rate, total = self.now, self.schedule.lr, self.total
        own = [order for source in self.data for order in find_generators(source)]
        for number, order in enumerate(own):
            if now.offset:
                order.set_state(now.orders[str(number)])
        now.orders = {str(number): order.get_state() for number, order in enumerate(own)}
        for offset, parts in enumerate(self._read(epoch)):
            rate = self.schedule.warmed_rate(epoch * self.steps + offset, total, epoch)
            if offset < now.offset:
                continue
            self._iterate(parts, rate, total)
            now.offset = offset + 1
            self._keep(epoch * self.steps + now.offset)
        means = {name: value / max(now.rows, 1) for name, value in now.sums.items()}
        return {"epoch": epoch, "lr": rate} | means

    def _keep(self, done: int) -> None:
        """Write a checkpoint where it is time; after the first iteration see that there can be one."""
        if (keeper := self.engine.keeper) is None:
            return
        if done % keeper.checkpoint.every == 0:
            self._check_weights()
            self._write(keeper)
        elif done == 1:
            collect_state(self.optimiser, self.weights)

    def _iterate(self, parts: list[TrainingStep], rate: float, total: int) -> None:
        """One optimiser step for each objective, its gradient summed over the parts by their rows."""
        total_rows = sum(part.size for part in parts)
        for group in self.optimiser.param_groups:
            group["lr"] = rate if self.factor is None else rate * self.factor(parts[0].number)
        for objective in self.objectives:
            self.optimiser.zero_grad(set_to_none=True)
            for part in parts:
                terms = self._terms(objective, part)
                self._add(terms, part, total)
                loss = torch.stack(list(terms.values())).sum()
                (loss if len(parts) == 1 else loss * (part.size / max(total_rows, 1))).backward()
            if self.schedule.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.weights, self.schedule.clip_norm)
            self.optimiser.step()
        self.now.rows += total_rows

    def _terms(self, objective: Objective, step: TrainingStep) -> dict[str, Tensor]:
        """The objective's terms; where normalisation refuses a batch of one row, the error names the data."""
        try:
            terms = objective(step)
        except ValueError as error:
            if text := explain_one_row(error, step, self.data, self.engine.named, self.engine.workers.count):
                raise ValueError(text) from error
            raise
        check_is("what an objective returns", terms, Mapping, '; return the terms of the loss by name, {"clean": loss}')
        return terms

    def _add(self, terms: Mapping[str, Tensor], step: TrainingStep, total: int) -> None:
        """Count the terms in, after refusing NaN and infinity."""
        for name, term in terms.items():
            value = float(term.detach())
            if not math.isfinite(value):
                raise self._diverged(name, value, step.number, total, step.epoch)
            self.now.sums[name] = self.now.sums.get(name, 0.0) + step.size * value

    def _finish(self, record: dict[str, float]) -> None:
        """Close an epoch: validation, history, checkpoint at the end of all, progress."""
        now, engine = self.now, self.engine
        engine.workers.agree([tensor for tensor in self.state.values() if not tensor.requires_grad])
        self._check_weights()
        if self.validate is not None:
            record["validation"] = value = self.validate()
            if not math.isfinite(value):
                raise self._broken("validation", value)
            if now.best is None or value < now.best[0]:
                now.best = value, now.epoch
                now.chosen = {name: tensor.detach().clone() for name, tensor in self.state.items()}
        now.history.append(record)
        now.epoch, now.offset, now.rows, now.sums = now.epoch + 1, 0, 0, {}
        if engine.keeper is not None and now.epoch == self.schedule.epochs:
            self._write(engine.keeper)
        terms = {name: value for name, value in record.items() if name not in ("epoch", "lr")}
        engine.network.compute.report(engine.what, now.epoch, self.schedule.epochs, terms)

    def _read(self, epoch: int) -> Iterator[list[TrainingStep]]:
        """For each iteration its batches, as many as the shortest data give."""
        engine = self.engine

        def stream(which: int) -> Iterator[tuple[Inputs, Tensor, Tensor | None]]:
            key = "clean" if which == 0 else "cued" if which == 1 else f"cued {which}"
            return iterate_numbered_batches(
                engine.named if which == 0 else "cued data",
                self.data[which],
                batch_size=self.schedule.batch_size,
                device=engine.network.device,
                shuffle=make_generator(engine.seed, "order", key, epoch),
                model=engine.network.module,
                trim=True,
            )

        streams = islice(zip(*map(stream, range(len(self.data))), strict=False), self.batches)
        for offset in range(min(self.steps, self.total - epoch * self.steps)):
            number = epoch * self.steps + offset
            seed_globally(engine.seed, engine.what, self.now.part, number)
            parts = [
                TrainingStep(
                    number, epoch, self._counted(clean[1]), self._given(clean), tuple(map(self._given, cued)), clean[2]
                )
                for clean, *cued in islice(streams, self.schedule.accumulate)
            ]
            if not parts:
                return  # data that gave fewer batches than their length
            if engine.workers.rank:
                seed_globally(engine.seed, engine.what, self.now.part, number, engine.workers.rank)
            yield parts

    def _counted(self, targets: Tensor) -> int:
        """Rows of a batch that count for the loss."""
        counted = None if self.engine.loss is None else self.engine.loss.counted(targets)
        return len(targets) if counted is None else int(counted.sum())

    def _given(self, batch: tuple[Inputs, Tensor, Tensor | None]) -> tuple[Inputs, Tensor]:
        """A batch as the objectives see it: transformed, this process's rows of it."""
        inputs, targets, _ = batch
        if self.transform is not None:
            inputs = self.transform(copy_inputs(inputs))  # it may write into them
        return self.engine.workers.share((inputs, targets))

    def _write(self, keeper: CheckpointFile) -> None:
        """Write a checkpoint; the weights were checked."""
        held, self.now.optimizer = collect_state(self.optimiser, self.weights)
        self.now.kernels = self.engine.network.steps.settings.get("training_kernels")
        self.now.state = held | {f"weights/{name}": tensor for name, tensor in self.state.items()}
        if self.engine.workers.rank == 0:
            keeper.write(self.now)

    @torch.no_grad()
    def _restore(self, saved: RunState) -> None:
        """Stand where a checkpoint stood."""
        self._put({name.removeprefix("weights/"): t for name, t in saved.state.items() if name.startswith("weights/")})
        restore_state(self.optimiser, self.weights, saved.state, saved.optimizer)
        self.engine.history.extend(saved.history)
        self.engine.kept.update({name: tensor.to(self.engine.network.device) for name, tensor in saved.kept.items()})
        self.now = saved
        self.now.history, self.now.kept = self.engine.history, self.engine.kept

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self.state.items():
            tensor.copy_(values[name])

    def _check_weights(self) -> None:
        """Refuse trained weights that hold NaN or infinity; buffers may, such as masks of attention."""
        for name, tensor in self.state.items():
            if tensor.requires_grad and not bool(torch.isfinite(tensor).all()):
                raise self._broken(name, math.nan)

    def _broken(self, term: str, value: float) -> FloatingPointError:
        """What is not finite after the last iteration that was done."""
        number = self.now.epoch * self.steps + self.now.offset
        return self._diverged(term, value, number, self.total, self.now.epoch)

    def _diverged(self, term: str, value: float, step: int, steps: int, epoch: int) -> FloatingPointError:
        text = (
            f"training diverged: {term} is {value} at step {step} of {steps} (epoch {epoch}); lower the learning rate"
        )
        if self.engine.keeper is not None:
            file = Path(self.engine.keeper.checkpoint.file)
            text += f"; last good state: {file}" if file.is_file() else f"; nothing was written to {file} before it"
        return FloatingPointError(text)
