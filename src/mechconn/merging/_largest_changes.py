"""The smallest of the largest entries of a change: of one tensor, or of all tensors without holding them together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mechconn.merging._changes import find_changes
from mechconn.merging._merge_method import NamedTensors

DIGIT = 16
"""Bits that one reading of all tensors decides."""
WHOLE = {torch.float32: (torch.int32, 32), torch.float64: (torch.int64, 64)}
"""Number type -> the whole numbers of its bits, which are in the order of its values of zero and more; and how many."""


def count_kept(density: float, entries: int) -> int:
    """floor(density * entries), one at least."""
    return max(1, int(density * entries))


def find_threshold(change: Tensor, density: float) -> float:
    """The size of the smallest entry that is kept where the largest `density` of the entries are; 0 of no entries."""
    if not change.numel():
        return 0.0
    sizes, kept = change.abs().flatten(), count_kept(density, change.numel())
    return float(sizes.kthvalue(sizes.numel() - kept + 1).values)


@dataclass
class _Selection:
    """The bits of a parent's threshold that are known, and how many of the entries that begin so are kept."""

    counts: Tensor
    bits: int = 0
    kept: int = 0

    def decide(self) -> None:
        """The next digit of the threshold: that of the entry of rank `kept` from the top."""
        above = self.counts.flip(0).cumsum(0)
        place = int((above < self.kept).sum())
        digit = len(self.counts) - 1 - place
        self.kept -= int(above[place] - self.counts[digit])
        self.bits = self.bits << DIGIT | digit
        self.counts = torch.zeros_like(self.counts)


def find_thresholds(tensors: NamedTensors, density: float) -> dict[str, float]:
    """Parent -> the size of the smallest entry of its whole change that is kept, exactly.

    The k-th largest of all sizes is found digit by digit from the counts of what begins alike: two readings of all
    tensors in float32, four in float64, and no more than one tensor held at a time.
    """
    kind = torch.float32
    while True:
        found = _select(tensors, density, kind)
        if found is not None:
            return found
        kind = torch.float64


def _select(tensors: NamedTensors, density: float, kind: torch.dtype) -> dict[str, float] | None:
    """The thresholds, from sizes in a number type; None where some sizes are of a wider one."""
    whole, bits = WHOLE[kind]
    chosen: dict[str, _Selection] = {}
    for shift in range(bits - DIGIT, -1, -DIGIT):
        entries = 0
        for name, parents, base in tensors():
            if not all(tensor.is_floating_point() for tensor in parents.values()):
                continue
            changes = find_changes(name, parents, base)[1]
            entries += next(iter(changes.values())).numel()
            for parent, change in changes.items():
                if change.dtype != kind and kind == torch.float32:
                    return None
                own = chosen.setdefault(parent, _Selection(torch.zeros(2**DIGIT, dtype=torch.int64)))
                _count(own, change.abs().to(kind).view(whole).flatten(), shift, first=shift == bits - DIGIT)
        for own in chosen.values():
            own.kept = own.kept or count_kept(density, entries)
            own.decide()
    return {parent: _read_bits(own.bits, kind) for parent, own in chosen.items()}


def _count(own: _Selection, sizes: Tensor, shift: int, first: bool) -> None:
    """Count the next digit of the entries that begin as the threshold does."""
    if not first:
        sizes = sizes[sizes >> (shift + DIGIT) == own.bits]
    digits = (sizes >> shift) & (2**DIGIT - 1)
    own.counts += torch.bincount(digits.cpu().long(), minlength=2**DIGIT)


def _read_bits(bits: int, kind: torch.dtype) -> float:
    return float(torch.tensor(bits, dtype=WHOLE[kind][0]).view(kind))
