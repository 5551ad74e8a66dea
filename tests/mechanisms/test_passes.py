"""What an audit computes: every forward pass once, on two working copies, and one verification of the symmetry."""

from __future__ import annotations

import copy
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

import mechconn as mc
from zoo import build


class Stages(nn.Module):
    """Three blocks as of a residual network: two with BatchNorm, and a classifier that no statistics depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.blocks = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
        self.classifier = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.classifier((x + self.blocks(x)).relu().mean((2, 3)))


SPLITS = {"cue": 41, "no_cue": 43, "rand_cue": 39}
STATISTICS, POINTS, BLOCKS = 47, 5, 3


class Batch:
    """Data of one batch."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self._batch = x, y

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._batch


def pairs(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, 3, 8, 8, generator=generator), torch.arange(rows) % 10


@dataclass
class Counted:
    """Forward passes by (rows, training); full copies of the model by what made them; verifications."""

    passes: Counter[tuple[int, bool]] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    verified: int = 0
    audit: Any = None


@pytest.fixture(scope="module")
def counted() -> Counted:
    """An audit of two networks with three splits, five points, three blocks and CKA."""
    a, b = (build(Stages, seed, dtype=torch.float32).eval() for seed in range(2))
    found, deepcopy, verify = Counted(), copy.deepcopy, mc.Symmetry.verify

    def note_pass(module: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> None:
        if type(module) is type(a):
            found.passes[len(inputs[0]), module.training] += 1

    def note_copy(value: Any, *more: Any) -> Any:
        if type(value) is type(a):
            callers = {entry.name for entry in traceback.extract_stack()}
            found.copies[
                "trial"  # structures without weights, on which a faster evaluation is tried and proved
                if not callers.isdisjoint({"make_plain_copy", "prove", "channels_last_in_training", "prepare_steps"})
                else "working"
                if "make_weightless_copy" in callers
                else "copy_with_state"
                if "copy_with_state" in callers
                else "symmetry"
            ] += 1
        return deepcopy(value, *more)

    def note_verification(symmetry: mc.Symmetry, *given: Any, **named: Any) -> None:
        found.verified += 1
        verify(symmetry, *given, **named)

    suite = mc.Suite({split: pairs(rows) for split, rows in SPLITS.items()}, reference="cue")
    norm = mc.Reestimate(Batch(*pairs(STATISTICS)))
    handle = register_module_forward_hook(note_pass)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy, "deepcopy", note_copy)
        patch.setattr(mc.Symmetry, "verify", note_verification)
        try:
            found.audit = mc.audit(a, b, suite, norm=norm, ts=POINTS, blocks=1, layers="all")
        finally:
            handle.remove()
    assert len(found.audit.blocks) == BLOCKS and list(found.audit.paths) == ["before", "after"]
    return found


def test_every_outcome_is_computed_once(counted: Counted) -> None:
    """Both models; a line; a line that shares both ends; blocks that share the end at A; both models once for CKA."""
    points = POINTS + (POINTS - 2) + BLOCKS * (POINTS - 1)
    passes = {split: counted.passes[rows, False] for split, rows in SPLITS.items()}
    assert passes == {"cue": 2 + points + 2, "no_cue": 2 + points, "rand_cue": 2 + points}
    assert sum(passes.values()) == 68


def test_statistics_are_estimated_where_they_can_differ(counted: Counted) -> None:
    """None depends on the classifier: those of its two ends serve the points between."""
    assert counted.passes[STATISTICS, True] == POINTS + (POINTS - 2) + 2 * (POINTS - 1) + 1 == 17


def test_two_working_copies_and_one_verification(counted: Counted) -> None:
    """Beside them: the aligned model, which is handed back, and what finding and proving the symmetry runs."""
    assert counted.copies["working"] == 2
    assert counted.copies["copy_with_state"] == 1
    assert counted.verified == 1


def test_what_is_shared_is_what_it_would_be(counted: Counted) -> None:
    """The second line's ends and the classifier's statistics, computed by themselves."""
    a = build(Stages, 0, dtype=torch.float32).eval()
    suite = mc.Suite({split: pairs(rows) for split, rows in SPLITS.items()}, reference="cue")
    norm, moved = mc.Reestimate(Batch(*pairs(STATISTICS))), counted.audit.alignment.model
    line = mc.evaluate_path(a, mc.LinearPath.between(a, moved), suite, 3, norm=norm)
    for split in SPLITS:
        shared = counted.audit.paths["after"].loss[split]
        assert (shared[0], shared[2], shared[4]) == pytest.approx(line.loss[split], rel=1e-5)
    head = {**mc.parameters_of(a), **{n: t for n, t in mc.parameters_of(moved).items() if n.startswith("classifier")}}
    only = mc.evaluate_path(a, mc.LinearPath(mc.parameters_of(a), head), suite, 3, norm=norm)
    for split in SPLITS:
        found = counted.audit.blocks["classifier"].loss[split]
        assert (found[0], found[2], found[4]) == pytest.approx(only.loss[split], rel=1e-6)
