"""Relearning: copies of a network are tuned on rows in which a mechanism is necessary, and measured on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mechconn.connectivity import Until, check_until
from mechconn.core import (
    ADDED_LATER,
    Buffers,
    Compute,
    Data,
    MethodSettings,
    Params,
    check_by_index,
    check_count,
    check_is,
    check_listed,
    check_positive,
    check_whole,
    count_batches,
    derive_seed,
    hash_content,
    isolate_rng,
    keep_generator_states,
    make_generator,
    select_rows,
)
from mechconn.datasets import Placebo
from mechconn.descent import (
    AnyOptimizer,
    Checkpoint,
    ConstantSchedule,
    DefaultRate,
    Descend,
    Method,
    Problem,
    TrainingStep,
    drop_momentum,
    settle_optimiser,
    train,
)
from mechconn.losses import Loss
from mechconn.mechanisms._balanced import Balancing
from mechconn.mechanisms._relearning_checks import hash_rows
from mechconn.mechanisms._slug import make_slug
from mechconn.network import Inference, Network, check_classified, check_predictions, compute_outcomes


@dataclass(frozen=True, kw_only=True)
class Relearning(MethodSettings):
    """How copies are tuned, and when they are measured: by default SGD, at a constant rate on all trainable weights.

    The rate is constant after the warm-up, whose length is a number of steps, so that the accuracy at step k is that of
    a run of k steps.

    Attributes:
        steps: numbers of steps after which accuracy is measured, ascending. Step 0, before any, is always among them.
        lr: learning rate, or several: each side then counts with the rate at which its mean accuracy after step 0 is
            highest, the strongest attack. The default is SGD's; another optimiser takes its own, see `Schedule`.
        seeds: how often it is done, two or more: each seed has its own order of rows (and rows, see `rows`). The same
            for every network. Batches of a loader have the loader's order; a note says where all seeds share it.
        rows: how many rows each seed draws from the data; None: all.
        batch_size: rows of a step, where the data are a dataset or a pair of tensors.
        momentum: of SGD; other optimisers refuse another than the default.
        weight_decay: of the optimiser.
        optimizer: "sgd", "adam", "adamw", `Adam(...)`, `AdamW(...)`, or a factory, as of a `Schedule`.
        warmup: steps in which the rate rises from near 0 to lr.
        weight_decay_on: "all" parameters, or "matrices", those of two axes or more.
        clip_norm: largest Euclidean norm of a step's gradient, beyond which it is scaled down; None leaves it.

    Raises:
        ValueError: no step after 0, steps that do not ascend, fewer than two seeds, a rate of zero or less, a warm-up
            that is no number of steps or longer than all, settings that have no effect.

    Example:
        >>> Relearning(steps=(25, 100)).steps
        (0, 25, 100)

    Source: the retuning attack of Min et al., *Uncovering, explaining, and mitigating the superficial safety of
    backdoor defense*, NeurIPS 2024, on rows in which nothing but the mechanism predicts.
    """

    steps: tuple[int, ...] = (0, 10, 25, 50, 100)
    lr: float | tuple[float, ...] = DefaultRate(0.01)
    seeds: int = 5
    rows: int | None = None
    batch_size: int = 20
    momentum: float = 0.9
    weight_decay: float = 0.0
    optimizer: AnyOptimizer = field(default="sgd", metadata=ADDED_LATER)
    warmup: int = field(default=0, metadata=ADDED_LATER)
    weight_decay_on: Literal["all", "matrices"] = field(default="all", metadata=ADDED_LATER)
    clip_norm: float | None = field(default=None, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        check_listed("steps", self.steps)
        steps = tuple(check_whole("steps", step) for step in self.steps)
        if any(a >= b for a, b in pairwise(steps)) or min(steps, default=0) < 0 or not any(steps):
            raise ValueError(
                f"steps must ascend from 0 and hold one above it, got {list(self.steps)}; write (0, 10, 25, 50, 100)"
            )
        object.__setattr__(self, "steps", steps if steps[0] == 0 else (0, *steps))
        settle_optimiser(self)
        if isinstance(self.warmup, float) or self.warmup > steps[-1]:
            raise ValueError(f"warmup must be a number of steps, at most the last ({steps[-1]}), got {self.warmup}")
        if not isinstance(self.lr, int | float):
            check_listed("lr", self.lr)
            if not self.lr:
                raise ValueError("lr must be a learning rate, or several, got none; write 0.01 or (0.01, 0.1)")
        for rate in self.rates:
            check_positive("lr", rate)
        if check_count("seeds", self.seeds) < 2:
            raise ValueError(f"seeds must be two or more, since the interval is over them, got {self.seeds}")
        if self.rows is not None:
            check_count("rows", self.rows)
        check_count("batch_size", self.batch_size)

    def list_fields(self) -> dict[str, Any]:
        """Every setting that has an effect: see `MethodSettings.list_fields`."""
        return drop_momentum(self, super().list_fields())

    @property
    def rates(self) -> tuple[float, ...]:
        """Every learning rate."""
        return (self.lr,) if isinstance(self.lr, int | float) else tuple(self.lr)


@dataclass(frozen=True, eq=False)
class RelearningTask:
    """What relearning is asked of other verbs: `audit`, `compare_methods`. See `measure_relearning`.

    Attributes:
        data: the rows in which the mechanism is necessary.
        split: the split of the suite on which accuracy is measured.
        control: a network that never met the mechanism; for `compare_methods` the one that every method tunes alike.
        placebo: in place of a control, rows with a mechanism of the same kind that no network met.
        relearning: steps, rate, seeds.
        intervention: the intervention that takes the mechanism's information away; found where it is not named.
        symmetry: by which the networks are balanced; see `measure_relearning`.
        until: "end" measures on all rows, "settled" on as many as settle the verdict; see `measure_relearning`.
    """

    data: Data
    split: str
    control: nn.Module | None = None
    placebo: Placebo | None = None
    relearning: Relearning = Relearning()
    intervention: str | None = None
    symmetry: Balancing = "auto"
    until: Until = "end"

    def __post_init__(self) -> None:
        check_until(self.until)
        check_is("relearning", self.relearning, Relearning, "; write mechconn.Relearning(steps=(0, 10, 25, 50, 100))")
        if self.placebo is not None:
            check_is("placebo", self.placebo, Placebo, "; write mechconn.Placebo(data, split)")


@dataclass(frozen=True, eq=False)
class Looks:
    """What was measured while a network relearned.

    Attributes:
        correct: how right each row is, float32 of shape [steps, rows], or [seeds, steps, rows].
        commonest: the share of the commonest label.
        counted: which rows of the data count, bool; None where all do.
    """

    correct: Tensor
    commonest: float
    counted: Tensor | None


@dataclass(frozen=True, eq=False)
class KeptStates:
    """A network while it relearned with one seed, so that it can be measured later.

    Attributes:
        network: its architecture.
        fixed: name -> parameters that do not change.
        changed: step by step, ("param" or "buffer", name) -> value, on the CPU.
    """

    network: Network
    fixed: Mapping[str, Tensor]
    changed: tuple[Mapping[tuple[str, str], Tensor], ...]

    def load(self, step: int, fixed: Mapping[str, Tensor], device: torch.device) -> tuple[Params, Buffers]:
        """Copies of the parameters and buffers at a step, with those that do not change."""
        own = {key: tensor.to(device, copy=True) for key, tensor in self.changed[step].items()}
        params = {name: tensor.to(device, copy=True) for name, tensor in fixed.items()}
        params |= {name: tensor for (kind, name), tensor in own.items() if kind == PARAM}
        return params, {name: tensor for (kind, name), tensor in own.items() if kind == BUFFER}


@dataclass(frozen=True, eq=False)
class Attack:
    """One way of relearning, the same for every network: the data, the protocol, and what is measured.

    Attributes:
        data: the rows to tune on.
        measured: the rows to measure on.
        split: what errors call these.
        folder: where runs write checkpoints; None writes none.
        keeps: whether networks are kept at every step and measured later; else they are measured on the way.
    """

    relearning: Relearning
    data: Data
    measured: Data
    split: str
    loss: Loss
    seed: int
    compute: Compute
    folder: Path | None = None
    keeps: bool = False

    def relearn(self, name: str, model: nn.Module, rate: float, report: Callable[[], None]) -> Looks:
        """How right a copy of the network is on every row, at every step and with every seed."""
        found = [method.looks for method in self._tune(name, model, rate, report)]
        return Looks(torch.stack([look.correct for look in found]), found[0].commonest, found[0].counted)

    def keep(self, name: str, model: nn.Module, rate: float, report: Callable[[], None]) -> list[KeptStates]:
        """The network at every step, with every seed; what does not change is held once."""
        first, *others = (method.states for method in self._tune(name, model, rate, report))
        return [first, *(replace(own, network=first.network, fixed={}) for own in others)]

    def _tune(self, name: str, model: nn.Module, rate: float, report: Callable[[], None]) -> Iterator[_Relearn]:
        for number in range(self.relearning.seeds):
            seed = derive_seed(self.seed, "relearning", number)
            method = _Relearn(self, rate)
            kept = "-kept" if self.keeps else ""
            known = f"{make_slug(name)}-{self.seed}-{rate:g}-{number}{kept}.safetensors"
            file = None if self.folder is None else self.folder / known
            try:
                train(
                    model, self._draw_rows(seed), method, loss=self.loss, seed=seed,
                    compute=self.compute.without_progress(), checkpoint=None if file is None else Checkpoint(file),
                )  # fmt: skip
            except FloatingPointError as error:
                raise FloatingPointError(f"relearning at lr={rate:g}: {error}") from error
            report()
            yield method

    @cached_property
    def measured_hash(self) -> str:
        """A hash of the rows that are measured, inputs and targets."""
        return hash_content(hash_rows(self.measured, f"split {self.split!r}", None, self.seed, targets=True))

    def _draw_rows(self, seed: int) -> Data:
        return draw_rows(self.data, self.relearning.rows, seed)


def draw_rows(data: Data, count: int | None, seed: int) -> Data:
    """Some rows of the data, drawn by seed, in their order; None: the data themselves.

    Raises:
        ValueError: more rows than there are.
        TypeError: rows of data that do not hand them out by index.
    """
    if count is None:
        return data
    source = check_by_index("Relearning(rows=...)", data)
    if count > len(source):
        raise ValueError(f"rows must be at most the {len(source)} rows of the relearning data, got {count}")
    order = torch.randperm(len(source), generator=make_generator(seed, "rows"))
    return select_rows(source, order[:count].sort().values)


class _Relearn(Method):
    """Tuning at a constant rate that measures accuracy on the way.

    Attributes:
        looks: what was measured, once it was run.
        states: or the network at every step, where it is measured later.
    """

    looks: Looks
    states: KeptStates

    def __init__(self, attack: Attack, rate: float) -> None:
        self._attack, self._rate = attack, rate

    def settings(self) -> dict[str, Any]:
        """The protocol at one rate, and what tells the measured rows from others."""
        attack = self._attack
        own = attack.relearning.list_fields() | {"lr": self._rate, "split": attack.split}
        measured = "kept" if attack.keeps else attack.measured_hash
        return {"method": "Relearning", **own, "measured": measured}

    def run(self, problem: Problem, descend: Descend) -> None:
        """Tune, and look before each of the steps that are asked for, and after the last."""
        relearning, kept = self._attack.relearning, problem.kept
        look = self._keep if self._attack.keeps else self._look

        def relearn(step: TrainingStep) -> dict[str, Tensor]:
            if step.number in relearning.steps:
                look(problem, step.number)
            return {"relearning": problem.risk(step.clean)}

        with keep_generator_states(problem.clean), isolate_rng(problem.seed, "count"):
            count = count_batches("relearning data", problem.clean, relearning.batch_size)
        schedule = ConstantSchedule(
            epochs=math.ceil(relearning.steps[-1] / max(count, 1)),
            batch_size=relearning.batch_size,
            lr=self._rate,
            momentum=relearning.momentum,
            weight_decay=relearning.weight_decay,
            optimizer=relearning.optimizer,
            warmup=relearning.warmup,
            weight_decay_on=relearning.weight_decay_on,
            clip_norm=relearning.clip_norm,
            steps=relearning.steps[-1],
        )
        descend(schedule, [relearn], problem.model, problem.clean)
        look(problem, relearning.steps[-1])
        if self._attack.keeps:
            self.states = self._read_states(problem)
            return
        correct = torch.stack([kept[_name_look(step)].cpu() for step in relearning.steps])
        self.looks = Looks(correct, float(kept["commonest"]), kept.get("counted"))

    def _keep(self, problem: Problem, step: int) -> None:
        """Keep the network as it is now, but for parameters that are not trained."""
        named = {(PARAM, name): p for name, p in problem.model.named_parameters() if p.requires_grad}
        named |= {(BUFFER, name): buffer for name, buffer in problem.model.named_buffers()}
        problem.kept.update(
            {
                f"{_name_look(step)} {kind} {name}": tensor.detach().cpu().clone()
                for (kind, name), tensor in named.items()
            }
        )

    def _read_states(self, problem: Problem) -> KeptStates:
        """What was kept, which leaves the run."""
        changed: list[dict[tuple[str, str], Tensor]] = []
        for step in self._attack.relearning.steps:
            prefix = f"{_name_look(step)} "
            own = {name: problem.kept.pop(name) for name in list(problem.kept) if name.startswith(prefix)}
            keys = {name: tuple(name.removeprefix(prefix).split(" ", 1)) for name in own}
            changed.append({(keys[name][0], keys[name][1]): tensor.cpu() for name, tensor in own.items()})
        fixed = {name: p.detach() for name, p in problem.model.named_parameters() if not p.requires_grad}
        return KeptStates(problem.network, fixed, tuple(changed))

    def _look(self, problem: Problem, step: int) -> None:
        """Measure how right each row is now; the network and the global generators stay as they are."""
        own = (problem.model.named_parameters(), problem.model.named_buffers())
        params, buffers = ({name: tensor.detach().clone() for name, tensor in named} for named in own)
        what = f"split {self._attack.split!r}"
        with isolate_rng(self._attack.seed, "look"):  # one order of rows, also of loaders that shuffle
            forward = Inference(problem.network).at(params, buffers)
            found = compute_outcomes(forward, problem.network, self._attack.measured, what, problem.loss)
        answers = check_classified(what, found)
        check_predictions(what, answers)
        problem.kept[_name_look(step)] = answers.right.float()
        problem.kept["commonest"] = torch.tensor(answers.commonest, dtype=torch.float64)
        if found.counted is not None:
            problem.kept["counted"] = found.counted


PARAM, BUFFER = "param", "buffer"


def _name_look(step: int) -> str:
    return f"step {step}"
