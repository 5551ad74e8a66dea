"""The processes that share the work of one run: alone, or several that hold the same weights.

Several processes read the same batches and each takes its share of the rows. Means and sums over a batch are taken
over all processes, differentiably, so that every objective is that of the whole batch, also one that is no mean of
per-sample terms; and the gradients, which the processes average, are those of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Objectives = Sequence[Callable[[Any], dict[str, Tensor]]]


class Workers:
    """One process alone: every sum over the processes is the value itself."""

    rank, count = 0, 1
    device: torch.device | None = None

    def whole(self, module: nn.Module, objectives: Objectives) -> Objectives:
        """The objectives, so that their backward passes leave gradients averaged over the processes."""
        return objectives

    def share(self, batch: tuple[Any, Tensor]) -> tuple[Any, Tensor]:
        """This process's rows of a batch (inputs, targets)."""
        return batch

    def total(self, values: Tensor) -> Tensor:
        """Sum over the processes, differentiable."""
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the rows of all processes, differentiable."""
        return values.mean()

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values, in place: of what each keeps for itself, such as statistics."""


class SeveralWorkers(Workers):
    """The processes of an accelerate.Accelerator, each with a replica of the model.

    The objectives are wrapped as one module, because gradients are averaged only where the backward pass belongs to
    a forward pass through the wrapper.
    """

    def __init__(self, accelerator: Any) -> None:
        kind = str(getattr(accelerator, "distributed_type", "none")).rpartition(".")[2]
        if kind not in ("NO", "MULTI_CPU", "MULTI_GPU"):
            raise ValueError(
                "the accelerator must run alone or on several processes with a replica each (MULTI_CPU, "
                f"MULTI_GPU), got {kind}"
            )
        self._accelerator = accelerator
        self.rank, self.count = int(accelerator.process_index), int(accelerator.num_processes)
        self.device = torch.device(accelerator.device)

    def whole(self, module: nn.Module, objectives: Objectives) -> Objectives:
        """See `Workers.whole`."""
        whole = self._accelerator.prepare_model(_ObjectivesModule(module, objectives))

        def objective(which: int) -> Callable[[Any], dict[str, Tensor]]:
            return lambda step: whole(which, step)

        return [objective(which) for which in range(len(objectives))]

    def share(self, batch: tuple[Any, Tensor]) -> tuple[Any, Tensor]:
        """Every `count`-th row, beginning with this process's number."""
        rows = len(batch[1])
        if rows < self.count:
            raise ValueError(
                f"a batch of {rows} rows cannot be shared by {self.count} processes; give larger batches, or fewer "
                "processes"
            )
        own = slice(self.rank, None, self.count)
        return _take_own_rows(batch[0], rows, own), batch[1][own]

    def total(self, values: Tensor) -> Tensor:
        """See `Workers.total`."""
        return _SumOverProcesses.apply(values) if self.count > 1 else values  # pyright: ignore[reportReturnType]

    def mean(self, values: Tensor) -> Tensor:
        """See `Workers.mean`."""
        return self.total(values.sum()) / self.total(values.new_tensor(float(len(values))))

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """See `Workers.agree`."""
        if self.count > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)


class _ObjectivesModule(nn.Module):
    """All objectives of a run as one module over the weights that they train."""

    def __init__(self, module: nn.Module, objectives: Objectives) -> None:
        super().__init__()
        self.module = module
        self._objectives = tuple(objectives)

    def forward(self, which: int, step: Any) -> dict[str, Tensor]:
        return self._objectives[which](step)


class _SumOverProcesses(torch.autograd.Function):
    """Sum over processes; the gradient is summed likewise, since every process holds the same sum."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _sum_over_processes(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _SumOverProcesses.apply(gradients[0])  # pyright: ignore[reportReturnType]


def _sum_over_processes(values: Tensor) -> Tensor:
    result = values.detach().clone()
    torch.distributed.all_reduce(result)
    return result


def _take_own_rows(inputs: Any, rows: int, own: slice) -> Any:
    if isinstance(inputs, Tensor):
        return inputs[own] if inputs.dim() and len(inputs) == rows else inputs
    if isinstance(inputs, Mapping):
        return {name: _take_own_rows(value, rows, own) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(_take_own_rows(value, rows, own) for value in inputs)
    return inputs
