"""What an audit of two ResNet-18 computes: forward passes by split, passes for statistics, working copies, seconds.

python benchmarks/audit_passes.py, one thread; with PYTHONPATH set to another tree's src for a build before.
"""

from __future__ import annotations

import copy
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

import mechconn as mc

SPLITS, STATISTICS = {"cue": 101, "no_cue": 103, "rand_cue": 107}, 109


class Batch:
    """Data of one batch."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self._batch = x, y

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._batch


def pairs(rows: int) -> tuple[Tensor, Tensor]:
    """Images and labels, a function of their number."""
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, 3, 32, 32, generator=generator), torch.arange(rows) % 10


def main() -> None:
    """Three splits, five points, three blocks, CKA."""
    torch.set_num_threads(1)
    a, b = (mc.models.resnet18(num_classes=10, seed=seed).eval() for seed in range(2))
    passes: Counter[tuple[int, bool]] = Counter()
    copies, verified, deepcopy, verify = 0, 0, copy.deepcopy, mc.Symmetry.verify

    def note_pass(module: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> None:
        passes[len(inputs[0]), module.training] += type(module) is type(a)

    def note_copy(value: Any, *more: Any) -> Any:
        nonlocal copies
        if type(value) is type(a):
            copies += any(entry.name == "make_weightless_copy" for entry in traceback.extract_stack())
        return deepcopy(value, *more)

    def note_verification(symmetry: mc.Symmetry, *given: Any, **named: Any) -> None:
        nonlocal verified
        verified += 1
        verify(symmetry, *given, **named)

    suite = mc.Suite({split: pairs(rows) for split, rows in SPLITS.items()}, reference="cue")
    handle = register_module_forward_hook(note_pass)
    copy.deepcopy = note_copy
    mc.Symmetry.verify = note_verification  # pyright: ignore[reportAttributeAccessIssue]
    started = time.perf_counter()
    mc.audit(a, b, suite, norm=mc.Reestimate(Batch(*pairs(STATISTICS))), ts=5, blocks=1, layers="all")
    seconds = time.perf_counter() - started
    handle.remove()
    over_splits = sum(passes[rows, False] for rows in SPLITS.values())
    sys.stdout.write(
        f"passes over a split {over_splits}, for statistics {passes[STATISTICS, True]}, working copies {copies}, "
        f"verifications {verified}, {seconds:.1f} s\n"
    )


if __name__ == "__main__":
    main()
