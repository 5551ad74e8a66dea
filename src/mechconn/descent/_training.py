"""Training: from fresh weights, and what every run of a method on a network has in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.core import (
    NOT_SAVED,
    Compute,
    Data,
    Inputs,
    Params,
    PerSampleLoss,
    Progress,
    as_data,
    check_is,
    check_listed,
    check_positive,
    check_whole,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
    log_warnings,
    read_targets,
    resolve_compute,
)
from mechconn.descent._checkpoint import Checkpoint, CheckpointFile, compute_identity
from mechconn.descent._loop import DescentEngine
from mechconn.descent._master_weights import MasterWeights
from mechconn.descent._method import EVALUATED, Descent, Method, Objective, Problem, compute_clean_loss
from mechconn.descent._schedule import DefaultRate
from mechconn.descent._workers import SeveralWorkers, Workers
from mechconn.losses import Loss, as_loss, cross_entropy
from mechconn.network import (
    Network,
    copy_with_state,
    parameters_of,
    read_buffers,
    set_mode,
    unwrap_module,
)
from mechconn.plotting import DescentResult, leave_out

LOAD_WEIGHTS = (
    "train it again, or save its weights beside it, safetensors.torch.save_file(trained.model.state_dict(), file), "
    "and read them with mechconn.load_model(factory, file)"
)
"""What to do where a model is asked for that a file does not hold."""


@dataclass(frozen=True, kw_only=True)
class Training(Descent):
    """Plain training: cross-entropy, by default SGD, the learning rate cut by `decay` at each of `milestones`.

    The defaults are the source's for CIFAR-10: 100 epochs at 0.1, cut tenfold at epochs 40 and 80.

    Source: Lubana et al. 2023, appendix.
    """

    epochs: int = 100
    lr: float = DefaultRate(0.1)
    milestones: tuple[int, ...] = (40, 80)
    decay: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("decay", self.decay)
        check_listed("milestones", self.milestones)
        for milestone in self.milestones:
            check_whole("milestones", milestone)

    def with_epochs(self, epochs: int) -> Method:
        """The same settings over so many epochs; the milestones move along."""
        moved = {max(round(milestone * epochs / self.epochs), 1) for milestone in self.milestones}
        return replace(self, epochs=epochs, milestones=tuple(sorted(moved)))

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """lr x decay^(number of milestones passed)."""
        return self.lr * self.decay ** sum(epoch >= milestone for milestone in self.milestones)

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """Mean loss on the data."""
        return [compute_clean_loss(problem)]


@dataclass(frozen=True, eq=False, repr=False)
class Trained(DescentResult, kind="trained"):
    """A trained model and how it came about.

    Attributes:
        history: one record per epoch: its number, its last learning rate, and the mean of each loss term, every
            iteration weighted by its rows of clean data; the loss on validation data where there are any.
        settings: the method with every setting, how it was computed, seed, number of samples, and the epoch that
            validation data selected; `batch_size` is that of the steps, `evaluation_batch_size` that of `Compute`;
            `master_weights` where the model holds bfloat16 or float16.
        seconds: wall-clock time.
        notes: plain sentences on what the method did not do, such as a term that had no effect; empty where all of it
            worked.
        model: a new module in evaluation mode. Files leave it out.
    """

    notes: tuple[str, ...] = ()
    model: nn.Module = field(default=leave_out("model", LOAD_WEIGHTS), metadata=NOT_SAVED)

    def list_notes(self) -> tuple[str, ...]:
        """The notes."""
        return self.notes


def train(
    model: nn.Module,
    data: Data,
    method: Method | None = None,
    *,
    loss: PerSampleLoss = cross_entropy,
    validation: Data | None = None,
    transform: Callable[[Inputs], Inputs] | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Any = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Trained:
    """Train a copy of `model` on `data`; the model itself stays as it is.

    Args:
        model: where training starts.
        data: what to train on.
        method: by default `Training()`, the source's schedule.
        loss: one value per sample from (outputs, targets), or one of `mechconn.losses`.
        validation: data to choose the epoch by: the weights are those of the epoch with the least mean loss on them,
            in evaluation mode; without, those of the last step.
        transform: of the inputs of every batch, such as an augmentation; what it draws from torch's global generator
            is a function of the seed.
        checkpoint: where to write how far the run is; a run that finds its file goes on from there.
        accelerator: an accelerate.Accelerator, for several processes in one run: every process calls with the same
            arguments and works on its share of each batch; BatchNorm sees that share alone.
        seed: of the order of the data, dropout and the method's draws.
        compute: how to compute; see `Compute`. A model that holds bfloat16 or float16 is computed and updated as a
            float32 copy, which is rounded to its types at the end.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts epochs, with the loss terms of each.

    Raises:
        ValueError: the data are empty, of one class or not finite; the checkpoint is damaged or of another run.
        FloatingPointError: the loss became infinite or NaN; the step is named, and the last good checkpoint stays.
    """
    return optimise(
        model, method or Training(), as_data("training data", data), {}, what="training", named="training data",
        loss=loss, validation=validation, transform=transform, checkpoint=checkpoint, accelerator=accelerator,
        seed=seed, compute=resolve_compute(compute, device, progress),
    )  # fmt: skip


@torch.inference_mode(False)  # what a caller has switched off would leave nothing to descend
def optimise(
    model: nn.Module,
    method: Method,
    clean: Data,
    cued: Mapping[str, Data],
    *,
    what: str,
    named: str,
    loss: PerSampleLoss,
    seed: int,
    compute: Compute,
    validation: Data | None = None,
    transform: Callable[[Inputs], Inputs] | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Any = None,
    head: str | None = None,
    references: Mapping[str, Params] | None = None,
    groups: Tensor | None = None,
    identity: Mapping[str, Tensor] | None = None,
) -> Trained:
    """Run a method on a copy of a model; see `train` and `fine_tune`. `named` is what errors call the clean data.

    `identity` are further tensors that make a run another one, such as a teacher's.
    """
    started = time.perf_counter()
    model = unwrap_module(model)
    check_is("method", method, Method)
    workers = Workers() if accelerator is None else SeveralWorkers(accelerator)
    start, masters, loss = parameters_of(model), MasterWeights(model), as_loss(loss)
    compute = compute if compute.device is not None else replace(compute, device=workers.device)
    network = Network(masters.module, compute)
    samples = count_samples(named, clean, seed, what, model, loss)
    held_out = None if validation is None else as_data("validation", validation)
    settings = {
        **network.computed,
        "method": type(method).__name__,
        **method.settings(),
        "seed": seed,
        "evaluation_batch_size": compute.batch_size,
    }
    settings |= {"samples": samples, "processes": workers.count, **masters.settings}
    keeper = None
    if checkpoint is not None:
        check_is("checkpoint", checkpoint, Checkpoint, "; write mechconn.Checkpoint(file)")
        described = {
            "what": what,
            **_drop_default_batches({name: value for name, value in settings.items() if name != "compile"}),
            "head": head,
            "sources": list(cued),
            "transform": transform is not None,
        }
        described["trained"] = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        held = {**start, **read_buffers(model), **_iterate_contents({named: clean, **cued}, network.device, model)}
        held |= {} if held_out is None else _iterate_contents({"validation": held_out}, network.device, model)
        held |= ({} if groups is None else {"groups": groups}) | dict(identity or {})
        held |= {f"{name} {key}": t for name, point in (references or {}).items() for key, t in point.items()}
        keeper = CheckpointFile(checkpoint, compute_identity(described, held.items()))
    trained = _copy_for_training(masters.module, network)
    engine = DescentEngine(network, seed, what, named, transform, workers, keeper, loss)
    own = network.load(masters.load(start))
    points = {name: network.load(masters.load(point)) for name, point in (references or {}).items()}
    problem = Problem(
        model=trained,
        network=network,
        references=tuple(points.get(name, own) for name in cued),
        loss=masters.loss(loss),
        head=head,
        seed=seed,
        clean=clean,
        cued=tuple(cued.values()),
        validation=held_out,
        groups=groups,
        workers=workers,
        kept=engine.kept,
        notes=engine.notes,
    )
    with masters.explain_errors():
        method.run(problem, engine.descend)
    if network.reduced is not None:  # in the layout that files and other code expect
        trained.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    masters.write_back(trained)
    settings |= problem.decided
    settings |= network.compiled.settings | network.steps.settings
    if engine.selected is not None:
        settings["selected_epoch"] = engine.selected
    notes = (*engine.notes, *_note_unmoved(trained, start, settings["method"]))
    set_mode(trained, False)
    log_warnings(what, notes)
    seconds = time.perf_counter() - started
    return Trained(tuple(engine.history), settings, seconds, notes, copy_with_state(trained, {}))


def _copy_for_training(model: nn.Module, network: Network) -> nn.Module:
    """A copy of the model in training mode, on the network's device and in its layout."""
    copied = copy_with_state(model, {}).to(network.device)
    set_mode(copied, True)
    for module in copied.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if 0 in buffer.stride():  # expanded: its elements share memory, so it could not be written to
                setattr(module, name, buffer.contiguous())
    if network.reduced is not None:
        copied.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return copied


def _drop_default_batches(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without batch sizes left to the library: runs go on from checkpoints that were written without them."""
    return {name: value for name, value in settings.items() if value is not None or not name.endswith("batch_size")}


def _note_unmoved(trained: nn.Module, start: Params, method: str) -> Iterator[str]:
    """A note where every trainable weight is what it was."""
    weights = ((name, tensor.detach()) for name, tensor in trained.named_parameters() if tensor.requires_grad)
    if all(torch.equal(tensor.to(start[name].device), start[name]) for name, tensor in weights):
        yield (
            f"{method} changed no weight: each trainable one of the result has the bits of the start's. The gradients "
            "were zero, or the steps too small for the type of the weights; raise lr, or check the loss at the start."
        )


def count_samples(name: str, data: Data, seed: int, what: str, model: nn.Module, loss: Loss) -> int:
    """Number of samples, after refusing empty data and data of one class."""
    with keep_generator_states(data), isolate_rng(seed, what, "targets"):
        targets = read_targets(name, data, model)
    labels = loss.takes_labels and not targets.is_floating_point() and targets.numel() == len(targets)
    counted = loss.counted(targets) if labels else None
    counting = targets if counted is None else targets[counted]
    if labels and len(counting.unique()) == 1:
        raise ValueError(
            f"{name} holds only class {int(counting.flatten()[0])}; training needs samples of at least two classes"
        )
    return len(targets)


def _iterate_contents(sources: Mapping[str, Data], device: torch.device, model: nn.Module) -> dict[str, Tensor]:
    """What tells data from other data: all targets, and the inputs of a first batch."""
    held = {}
    with keep_generator_states(*sources.values()), isolate_rng(0, "targets"):
        for name, data in sources.items():
            held[f"targets {name}"] = read_targets(name, data, model)
            first, _ = next(iterate_batches(name, data, batch_size=EVALUATED, device=device, model=model))
            parts = first if isinstance(first, tuple) else first.values() if isinstance(first, Mapping) else (first,)
            held |= {f"inputs {name} {i}": part for i, part in enumerate(parts) if isinstance(part, Tensor)}
    return held
