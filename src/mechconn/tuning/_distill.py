"""`distill`: what a teacher says, taught to another network of any architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mechconn.core import LABEL_KEYS, Compute, Data, Inputs, PerSampleLoss, Progress, as_data, check_is, resolve_compute
from mechconn.descent import Checkpoint, Trained, find_head, optimise
from mechconn.losses import Loss, as_loss, cross_entropy
from mechconn.network import fix_device, parameters_of, read_buffers, unwrap_module
from mechconn.tuning._distillation import Distillation
from mechconn.tuning._student import Taught


def distill(
    teacher: nn.Module,
    student: nn.Module,
    method: Distillation,
    data: Data | Inputs,
    *,
    loss: PerSampleLoss = cross_entropy,
    validation: Data | None = None,
    head: str | None = None,
    teacher_head: str | None = None,
    transform: Callable[[Inputs], Inputs] | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Any = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Trained:
    r"""Train a copy of `student` to say what `teacher` says on `data`; both networks stay as they are.

    `Distillation` states the loss. The teacher is asked batch by batch, in evaluation mode with its own statistics; its
    weights and the student's may be of any two architectures that take the same inputs and give the same classes, one
    logit counting as two classes. The student starts where it is: fresh weights, or trained ones.

    Args:
        teacher: what is to be learned.
        student: where training starts.
        method: such as `Distillation(temperature=4.0)`, with `jacobian=1.0` or `contrastive=1.0`.
        data: (x, y) or any data that `train` takes. With `label_share=0` no label is read: any y will do, and a tensor
            of inputs, or named ones, may stand alone.
        loss: of the true labels: one value per sample from (outputs, targets), or one of `mechconn.losses`, of a
            classification of whole rows.
        validation: data to choose the epoch by: the weights are those of the epoch where label loss and soft targets,
            weighted as in training, are least, in evaluation mode; without, those of the last step.
        head: name of the student's last linear layer, whose input `contrastive` compares; found where not named.
        teacher_head: the teacher's.
        transform: of the inputs of every batch, such as an augmentation, for both networks alike; what it draws from
            torch's global generator is a function of the seed.
        checkpoint: where to write how far the run is; a run that finds its file goes on from there.
        accelerator: an accelerate.Accelerator, for several processes in one run; see `train`.
        seed: of the order of the data, dropout and the maps of `contrastive`.
        compute: how to compute; see `Compute`. A student that holds bfloat16 or float16 is computed and updated as a
            float32 copy, which is rounded to its types at the end.
        device: short for `Compute(device=...)`; default: where the student is.
        progress: short for `Compute(progress=...)`; counts epochs, with the loss terms of each.

    Raises:
        ValueError: other numbers of classes, a task that is no classification of whole rows, inputs without gradients
            for `jacobian`, no head for `contrastive`; data or checkpoint as in `train`.
        TypeError: no `Distillation`, or data that can be read only once.
        FloatingPointError: the loss became infinite or NaN; the step is named, and the last good checkpoint stays.

    Example:
        A linear student recovers a linear teacher from unlabelled inputs.

        >>> from mechconn.core import isolate_rng
        >>> with isolate_rng(0):
        ...     teacher, student, x = nn.Linear(3, 2), nn.Linear(3, 2), torch.randn(64, 3)
        >>> method = Distillation(label_share=0.0, temperature=1.0, epochs=200, lr=1.0, weight_decay=0.0)
        >>> found = distill(teacher, student, method, x).model
        >>> gaps = [net.weight[1] - net.weight[0] for net in (teacher, found)]
        >>> bool((gaps[0] - gaps[1]).abs().max() < 1e-3)
        True

    Source: Hinton et al. 2015; Wu et al. 2024, *What mechanisms does knowledge distillation distill?*
    """
    check_is("teacher", teacher, nn.Module)
    check_is("student", student, nn.Module)
    check_is("method", method, Distillation, "; write mechconn.Distillation(temperature=4.0)")
    teacher, student, own = unwrap_module(teacher), unwrap_module(student), as_loss(loss)
    compute = resolve_compute(compute, device, progress)
    _check_task(own, method, compute)
    for model, name in ((student, head), (teacher, teacher_head)):
        if name is not None:
            find_head(model, (), named=name)
    compute = compute if accelerator is not None else fix_device(compute, student)
    state = parameters_of(teacher) | read_buffers(teacher)
    return optimise(
        student, Taught(method, teacher, teacher_head, own, transform), as_data("data", _read_data(data, method)), {},
        what="distillation", named="data", loss=own if method.label_share else NoLabels(),
        validation=None if validation is None else _read_data(validation, method), transform=transform,
        checkpoint=checkpoint, accelerator=accelerator, head=head, seed=seed, compute=compute,
        identity={f"teacher {teacher_head or ''} {name}": tensor for name, tensor in state.items()},
    )  # fmt: skip


class NoLabels(Loss, name="_no_labels"):
    """The loss of a run that reads no label: zero."""

    takes_labels = False

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """0 of each row."""
        return outputs.new_zeros(len(outputs))


def _check_task(loss: Loss, method: Distillation, compute: Compute) -> None:
    """Refuse what cannot be distilled before anything is computed."""
    if not loss.takes_labels:
        raise ValueError(
            f"distill teaches the probabilities of classes, and {loss.name} is no loss of a classification; use "
            "loss=mechconn.losses.cross_entropy or another, or train the student on the teacher's outputs as targets"
        )
    if compute.compile and method.jacobian:
        raise ValueError(
            "jacobian needs second derivatives, which a compiled network does not give; leave compile=True out, or set "
            "jacobian=0"
        )


def _read_data(data: Any, method: Distillation) -> Any:
    """Data with targets of zeros where inputs stand alone."""
    named = isinstance(data, Mapping) and not {*LABEL_KEYS} & {*data}
    if not named and not isinstance(data, Tensor | np.ndarray):
        return data
    if len(data) == 0:
        raise ValueError("data holds no samples; at least one is needed")
    if method.label_share:
        raise ValueError(
            f"data are inputs alone, and labels have a share, label_share={method.label_share:g}; pass (inputs, "
            "labels), or set label_share=0"
        )
    rows = len(next(iter(data.values()))) if isinstance(data, Mapping) else len(data)
    return data, torch.zeros(rows, dtype=torch.long)
