"""Inputs of other sizes than an example's, found by trying: longer and shorter texts, other images, other row counts.

A model may read more of a parameter where its input is longer. So an example is made larger and smaller, as far as the
model takes it: its values are repeated, or left out at the end, along the axes that may change together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from mechconn.core import Inputs, isolate_rng
from mechconn.network import make_call_arguments, set_mode
from mechconn.symmetry._module_copies import borrow, copy_with_tensors
from mechconn.symmetry._reads import Reads, alike
from mechconn.symmetry._recorded_runs import select_predictions, silence_export
from mechconn.symmetry._shape_only import ShapeOnly, hide_meta

LARGEST_INPUT = 2**21
"""Numbers in an example beyond which no larger one is tried, so that memory cannot run out."""
LONGEST = 2**10
"""The same for the longer inputs that are tried where some parameter is not read."""

Slot: TypeAlias = tuple[int, int]
"""Which value among an example's, and which of its axes."""


def make_other_sizes(model: nn.Module, example: Inputs) -> list[Inputs]:
    """The example made larger and made smaller along all axes along which the model takes it; none where it does not.

    Further lengths follow where one of them reads a parameter that none of the others does. The model is tried on the
    CPU, where an index beyond a table is an error that can be caught.
    """
    return [inputs for inputs, _ in _tried(model, example)]


def find_sizes_read_otherwise(model: nn.Module, example: Inputs) -> list[Inputs]:
    """Those of the other sizes at which the model reads its parameters in another way than on the example."""
    return [inputs for inputs, same in _tried(model, example) if not same]


def repeat_rows(example: Inputs, times: int) -> Inputs:
    """The example's rows several times: the first axis of every tensor that is as long as the first one's."""
    values, spec = tree_flatten(make_call_arguments(example))
    rows = [(i, 0) for i, t in enumerate(values) if isinstance(t, Tensor) and t.dim()]
    rows = [slot for slot in rows if len(values[slot[0]]) == len(values[rows[0][0]])]
    return _inputs(_resized(values, rows, times * len(values[rows[0][0]])) if rows else values, spec)


def accepts_example(model: nn.Module, example: Inputs) -> bool:
    """Whether the model runs on the example, on the CPU, and returns numbers."""
    return _try(model, example) is not None


def _tried(model: nn.Module, example: Inputs) -> Iterator[tuple[Inputs, bool]]:
    """(example of another size, whether the model reads its parameters alike at it)."""
    tried = _try(model, example)
    if tried is None:
        return
    trial, first = tried
    unread, changed = set(first.unread), set[Slot]()
    for larger in (True, False):
        values, reads = trial.changed(larger)
        if reads is not None:
            unread &= reads.unread
            changed |= _differing(trial.values, values)
            yield _inputs(values, trial.spec), alike(first, reads)
    for values, reads in trial.list_further(changed) if unread and changed else ():
        if not unread <= reads.unread:
            unread &= reads.unread
            yield _inputs(values, trial.spec), False


def _try(model: nn.Module, example: Inputs) -> tuple[_Trial, Reads] | None:
    """A trial of the model, and how it reads its parameters on the example; None where it does not run on that.

    Weights are not copied where it runs without.
    """
    for made in (borrow, _copied_to_cpu):
        try:
            trial = _Trial(model, example, made)
        except Exception:  # what cannot be copied to the CPU cannot be tried
            continue
        reads = trial.run(trial.values)
        if reads is not None:
            return trial, reads
    return None


class _Trial:
    """A model on the CPU, and the values of an example, to be run at other sizes."""

    def __init__(self, model: nn.Module, example: Inputs, made: Callable[[Tensor], Tensor]) -> None:
        self._module = copy_with_tensors(model, made)
        set_mode(self._module, False)
        self.values, self.spec = tree_flatten(make_call_arguments(example))

    def run(self, values: Sequence[Any]) -> Reads | None:
        """How the model reads its parameters on these values; None where it refuses them or returns no numbers."""
        on_cpu = [_copied_to_cpu(v) if isinstance(v, Tensor) else v for v in values]
        args, kwargs = tree_unflatten(on_cpu, self.spec)
        reads = Reads(self._module, on_cpu)
        try:
            with torch.no_grad(), isolate_rng(0, "sizes"), silence_export(), reads:
                found = select_predictions(self._module(*args, **kwargs))
        except Exception:  # any refusal: the model does not take this size
            return None
        made = [t for t in tree_leaves(found) if isinstance(t, Tensor)]
        return reads if made and all(t.numel() and not _has_nan(t) for t in made) else None

    def changed(self, larger: bool) -> tuple[list[Any], Reads | None]:
        """The example with every axis changed that the model lets change, and its reads; None where it lets none."""
        values, reads = list(self.values), None
        slots = [(i, axis) for i, t in enumerate(values) if isinstance(t, Tensor) for axis in range(t.dim())]
        for size in dict.fromkeys(values[i].shape[axis] for i, axis in slots):
            for parts in _partitions([slot for slot in slots if self.values[slot[0]].shape[slot[1]] == size]):
                before = reads
                for part in parts:
                    values, reads = self._taken(values, reads, part, _lengths(size, larger, part))
                if reads is not before:
                    break
        return values, reads

    def list_further(self, slots: set[Slot]) -> Iterator[tuple[list[Any], Reads]]:
        """More lengths along axes that may change, for parameters that only some lengths read: one more, one less.

        Then longer and longer ones, while the model takes them.
        """
        along = sorted(slot for slot in slots if slot[1] > 0) or sorted(slots)
        lengths = {(i, axis): self.values[i].shape[axis] for i, axis in along}
        for shift in (1, -1):
            reads = self._run_at({slot: length + shift for slot, length in lengths.items()})
            if reads is not None:
                yield reads
        times = 4
        while along and (reads := self._run_at({slot: times * length for slot, length in lengths.items()})) is not None:
            yield reads
            times *= 2

    def _run_at(self, lengths: Mapping[Slot, int]) -> tuple[list[Any], Reads] | None:
        """The example at these lengths, and its reads; None where the model does not take it, or it is long."""
        values = list(self.values)
        for slot, length in lengths.items():
            values = _resized(values, [slot], length)
        reads = self.run(values) if 0 < _numbers(values) <= LONGEST else None
        return None if reads is None else (values, reads)

    def _taken(
        self, values: list[Any], reads: Reads | None, part: list[Slot], lengths: list[int]
    ) -> tuple[list[Any], Reads | None]:
        """The values with some axes of the first of these lengths that the model takes; as they are where of none."""
        for length in lengths:
            trial = _resized(values, part, length)
            found = self.run(trial) if _numbers(trial) <= max(LARGEST_INPUT, _numbers(values)) else None
            if found is not None:
                return trial, found
        return values, reads


def _copied_to_cpu(tensor: Tensor) -> Tensor:
    return hide_meta(tensor) if tensor.is_meta else tensor.detach().to("cpu", copy=True)


def _has_nan(tensor: Tensor) -> bool:
    return not isinstance(tensor, ShapeOnly) and bool(tensor.isnan().any())


def _partitions(slots: list[Slot]) -> Iterator[list[list[Slot]]]:
    """All axes of one length together; else those that are at one place; else each alone."""
    by_axis: dict[int, list[Slot]] = {}
    for slot in slots:
        by_axis.setdefault(slot[1], []).append(slot)
    yield [slots]
    if len(by_axis) > 1:
        yield list(by_axis.values())
    if len(slots) > len(by_axis):
        yield [[slot] for slot in slots]


def _lengths(size: int, larger: bool, slots: list[Slot]) -> list[int]:
    """Lengths to try instead of `size`: half as much again, twice, one more; half, without one of p parts, one less.

    Some of them are multiples of what `size` is a multiple of, as patches and windows need.
    """
    rows = any(axis == 0 for _, axis in slots)
    if larger:
        return list(dict.fromkeys([size + 1, 2 * size] if rows else [size + max(size // 2, 1), 2 * size, size + 1]))
    fewer = dict.fromkeys((size // 2, *(size - size // p for p in _prime_factors(size)), size - 1))
    return [n for n in fewer if n >= (2 if rows else 1)]


def _prime_factors(number: int) -> list[int]:
    """The primes that divide a whole number, each once.

    Example:
        >>> _prime_factors(12), _prime_factors(49), _prime_factors(1)
        ([2, 3], [7], [])
    """
    found: list[int] = []
    p = 2
    while p * p <= number:
        if number % p == 0:
            found.append(p)
            while number % p == 0:
                number //= p
        p += 1
    return [*found, number] if number > 1 else found


def _resized(values: Sequence[Any], slots: Sequence[Slot], size: int) -> list[Any]:
    """The values with these axes of another length: their places again from the first on, or the first of them."""
    new = list(values)
    for i, axis in slots:
        places = torch.arange(size, device=new[i].device) % new[i].shape[axis]
        new[i] = new[i].index_select(axis, places)
    return new


def _differing(values: Sequence[Any], others: Sequence[Any]) -> set[Slot]:
    """The axes whose lengths differ."""
    pairs = [(i, t.shape, others[i].shape) for i, t in enumerate(values) if isinstance(t, Tensor)]
    return {(i, axis) for i, a, b in pairs for axis in range(len(a)) if a[axis] != b[axis]}


def _numbers(values: Sequence[Any]) -> int:
    return sum(t.numel() for t in values if isinstance(t, Tensor))


def _inputs(values: Sequence[Any], spec: Any) -> Inputs:
    args, kwargs = tree_unflatten(list(values), spec)
    return kwargs or args
