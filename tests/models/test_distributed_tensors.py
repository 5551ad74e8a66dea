"""Tensors that are spread over devices: whole ones are read, parts are one line; torch.distributed is not asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import mechconn as mc

WEIGHT = torch.arange(6.0).view(2, 3)


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """Two machines, one of which is this one, and the other is not there."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        yield init_device_mesh("cpu", (2,))
    finally:
        dist.destroy_process_group()


def save(file: Path, local: Tensor, mesh: DeviceMesh, placements: Sequence[Placement]) -> Path:
    spread = DTensor.from_local(local, mesh, placements, run_check=False)
    torch.save({"weight": nn.Parameter(spread), "bias": torch.zeros(2)}, file)
    return file


def build() -> nn.Module:
    return nn.Linear(3, 2)


def test_whole_tensors_are_read(tmp_path: Path, mesh: DeviceMesh) -> None:
    file = save(tmp_path / "a.pt", WEIGHT, mesh, [Replicate()])
    assert torch.equal(mc.load_model(build, file).weight, WEIGHT)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("placement", [Shard(0), Partial()])
def test_parts_are_one_line(tmp_path: Path, mesh: DeviceMesh, placement: Placement) -> None:
    shown = "[2, 3] of [4, 3]" if isinstance(placement, Shard) else "[2, 3] of [2, 3]"
    file = save(tmp_path / "a.pt", WEIGHT, mesh, [placement])
    with pytest.raises(ValueError) as caught:
        mc.load_model(build, file)
    name = type(placement).__name__.removeprefix("_")
    assert str(caught.value) == (
        f"{file} holds tensors that cannot be taken: weight is one device's part of a DTensor ({name}; {shown}); save "
        "the whole state as plain tensors (full_state_dict) where it was made"
    )
