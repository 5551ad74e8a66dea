"""Between the host and a device without waiting: asynchronous copies, host copies of targets, checks at the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mechconn.core._checks import check_finite

PINNED_FOR = ("cuda",)
"""Devices that copies reach through pinned memory, without waiting."""
WAITING = 2**28
"""Bytes of results that may wait on a device until they are moved."""
_ON_HOST = WeakIdKeyDictionary()
"""Targets on a device -> the same on the host, where they came from; gone with the former."""


def move_tensor(tensor: Tensor, device: str | torch.device) -> Tensor:
    """A tensor on a device; from the host to CUDA through pinned memory, without waiting for what runs there."""
    device = torch.device(device)
    if device.type in PINNED_FOR and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def move_targets(targets: Tensor, device: torch.device) -> Tensor:
    """Targets on a device, whose values can be looked at on the host; see `find_host_copy`."""
    moved = move_tensor(targets, device)
    if moved is not targets and targets.device.type == "cpu":
        _ON_HOST[moved] = targets
    return moved


def find_host_copy(targets: Tensor) -> Tensor:
    """The same values on the host where these came from it, else the tensor itself: what checks of values read.

    A check of a tensor on a device waits until the device is done.
    """
    found = _ON_HOST.get(targets)
    return targets if found is None else found


def take_rows(tensor: Tensor, index: Tensor) -> Tensor:
    """Rows of a tensor by their numbers, which are moved to where it is."""
    return tensor[move_tensor(index, tensor.device)]


class FiniteCheck:
    """A check that batches are finite: at once on the host, and of those on a device together, when it is asked.

    Of each tensor on a device one bit a row is kept there, and all are moved at once.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._flags: list[Tensor] = []
        self._rows: list[Sequence[int] | Tensor] = []

    def add(self, tensor: Tensor, rows: Sequence[int] | Tensor) -> None:
        """Check a tensor of these rows, or note which of them are finite.

        Raises:
            ValueError: it is on the host and holds NaN or infinity; the first such row is named.
        """
        if tensor.device.type == "cpu":
            check_finite(self._name, tensor, rows)
        elif tensor.is_floating_point():
            finite = tensor.isfinite()
            self._flags.append(finite.flatten(1).all(1) if tensor.dim() > 1 else finite.reshape(-1))
            self._rows.append(rows)

    def finish(self) -> None:
        """Look at what was noted.

        Raises:
            ValueError: a row holds NaN or infinity.
        """
        if not self._flags:
            return
        flags, rows = torch.cat(self._flags).cpu(), self._rows
        for finite, numbers in zip(flags.split([len(part) for part in self._flags]), rows, strict=True):
            check_finite(self._name, torch.zeros(len(finite)).masked_fill(~finite, torch.nan), numbers)
        self._flags, self._rows = [], []


class HostParts:
    """Parts of one result, batch by batch: on a device they stay there and are moved together.

    What waits there is `WAITING` bytes at most.
    """

    def __init__(self) -> None:
        self._moved: list[Tensor] = []
        self._waiting: list[Tensor] = []
        self._bytes = 0

    def add(self, part: Tensor) -> None:
        """The next part."""
        if part.device.type == "cpu":
            self._flush()
            self._moved.append(part)
            return
        self._waiting.append(part)
        self._bytes += part.numel() * part.element_size()
        if self._bytes > WAITING:
            self._flush()

    def all(self) -> list[Tensor]:
        """All parts in their order, on the host; several may have become one."""
        self._flush()
        return self._moved

    def _flush(self) -> None:
        alike = {(part.device, part.dtype, part.shape[1:]) for part in self._waiting}
        together = [torch.cat(self._waiting)] if len(alike) == 1 else self._waiting
        self._moved.extend(part.cpu() for part in together)
        self._waiting, self._bytes = [], 0
