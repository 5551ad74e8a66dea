"""A small network and its weights as tests of checkpoints save them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import build, norm_mlp


def network() -> nn.Module:
    return build(norm_mlp, seed=1, dtype=torch.float32)


def fresh() -> nn.Module:
    return build(norm_mlp, seed=2, dtype=torch.float32)


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def prefixed(prefix: str, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """A state with something before each of its names."""
    return {prefix + name: t for name, t in (network().state_dict() if state is None else state).items()}


def others() -> dict[str, Tensor]:
    """A state of the same names and shapes with other values."""
    return dict(fresh().state_dict())


def load(file: Path, **given: Any) -> tuple[nn.Module, list[str]]:
    """The network of a file and what was noted, with FILE for the file's path."""
    notes: list[str] = []
    model = mc.load_model(fresh, file, note=notes.append, **given)
    return model, [note.replace(str(file), "FILE") for note in notes]
