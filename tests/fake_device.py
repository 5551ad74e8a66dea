"""A device that is none: tensors that say they are on "meta", computed on the CPU; what would wait for it is counted.

Operations are refused where CUDA refuses them: tensors of the host beside tensors of the device, but for single
numbers and what is copied or indexed by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten
READS = {
    aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default, aten.nonzero.default,
    aten.masked_select.default, aten.bincount.default, aten._unique2.default, aten.unique_dim.default,
    aten.unique_consecutive.default, aten.repeat_interleave.Tensor,
}  # fmt: skip
"""Operations whose result, or the shape of it, the host waits for."""


class Held(Tensor):
    """A tensor of the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Held:
        found = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        found.held = held
        return found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the device's block")


class FakeDevice(TorchDispatchMode):
    """While it lasts, the device is there. `waits` counts the operations that wait for it, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.uploaded: Counter[torch.dtype] = Counter()
        """Bytes that were copied to the device, by number type."""
        self.pinned: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        there = [leaf for leaf in leaves if isinstance(leaf, Held)]
        asked = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
        if not there and asked != DEVICE.type:
            return func(*args, **kwargs)
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        if func is aten._to_copy.default and asked == DEVICE.type and not there:
            self._note_upload(args[0], kwargs.pop("non_blocking", False))
        downward = func is aten._to_copy.default and asked == "cpu"
        self._note(func, args, leaves, there, downward)
        plain_args, plain_kwargs = tree_map(lambda x: x.held if isinstance(x, Held) else x, (args, kwargs))
        if func is aten._to_copy.default:
            plain_kwargs.pop("device", None)
        out = func(*plain_args, **plain_kwargs)
        if downward:
            return out.clone() if out is plain_args[0] else out
        own = {id(leaf.held): leaf for leaf in there}
        return tree_map(lambda x: own[id(x)] if id(x) in own else Held(x) if isinstance(x, Tensor) else x, out)

    def _note_upload(self, tensor: Tensor, non_blocking: bool) -> None:
        self.uploaded[tensor.dtype] += tensor.numel() * tensor.element_size()
        if not (non_blocking and id(tensor) in self.pinned):
            self.waits["copy to the device"] += 1

    def _note(self, func: Any, args: Any, leaves: list[Tensor], there: list[Held], downward: bool) -> None:
        if downward and there:
            self.waits["copy to the host"] += 1
        if func in READS:
            self.waits[str(func)] += 1
        here = [leaf for leaf in leaves if not isinstance(leaf, Held)]
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            indices = [part for part in args[1] if part is not None]
            self.waits["a mask as index"] += any(part.dtype == torch.bool for part in indices)
            self.waits["an index of the host"] += any(not isinstance(part, Held) for part in indices)
        elif func is aten.copy_.default:
            self.waits["copy"] += bool(here)
        elif there and any(leaf.dim() for leaf in here):
            raise AssertionError(f"{func} mixes tensors of the host and of the device")


@contextmanager
def device(patch: pytest.MonkeyPatch) -> Iterator[FakeDevice]:
    """A block in which the device is there."""
    fake = FakeDevice()

    def pin(tensor: Tensor) -> Tensor:
        found = tensor.clone()
        fake.pinned.add(id(found))
        kept.append(found)
        return found

    kept: list[Tensor] = []
    with patch.context() as own, fake:
        own.setattr("mechconn.core._device_moves.PINNED_FOR", (DEVICE.type,))
        own.setattr(Tensor, "pin_memory", pin)
        yield fake
