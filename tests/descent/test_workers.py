"""Several processes in one run: their gradients are those of one process on the whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import mechconn as mc
from shared_run import LONG, METHODS, tuned, tuned_long
from work import HANGING
from zoo import build, mlp, rows

pytest.importorskip("accelerate", reason="the extra `accelerate` is not installed")
FOLDER = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where two processes, which meet over a file and speak by gloo, wrote what they trained."""
    folder = tmp_path_factory.mktemp("together")
    environment = {
        "PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "GLOO_SOCKET_IFNAME": "lo", "PATH": os.environ["PATH"],
    }  # fmt: skip
    children = [
        subprocess.Popen(
            [sys.executable, str(FOLDER / "shared_run.py"), str(folder)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for child in children:
        _, errors = child.communicate(timeout=HANGING)
        assert child.returncode == 0, errors
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_do_what_one_does(name: str, together: Path) -> None:
    """One step of SGD without momentum is the gradient; every objective, also those that are no mean over rows."""
    alone = tuned(name, None).model.state_dict()
    for rank in range(2):
        found = load_file(together / f"{name}-{rank}.safetensors")
        for key, tensor in found.items():
            # Sums of float64 in another order.
            torch.testing.assert_close(tensor, alone[key], rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_several_steps_of_several_parts_too(name: str, together: Path) -> None:
    alone = tuned_long(name, None)
    for rank in range(2):
        told = json.loads((together / f"long-{name}-{rank}.json").read_text(encoding="utf-8"))
        assert told["selected"] == alone.settings["selected_epoch"]
        for ours, theirs in zip(told["history"], alone.history, strict=True):
            assert ours == pytest.approx(dict(theirs), rel=1e-9)
        for key, tensor in load_file(together / f"long-{name}-{rank}.safetensors").items():
            torch.testing.assert_close(tensor, alone.model.state_dict()[key], rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_processes_end_with_one_network(together: Path) -> None:
    """Statistics of BatchNorm are those of the first, before an epoch is chosen."""
    first, second = (load_file(together / f"long-normed-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    said = [json.loads((together / f"long-normed-{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]
    assert said[0] == said[1]


def test_other_ways_to_share_a_model_are_refused() -> None:
    sharded = SimpleNamespace(distributed_type="DistributedType.FSDP", device="cpu", process_index=0, num_processes=2)
    with pytest.raises(ValueError, match=r"with a replica each \(MULTI_CPU, MULTI_GPU\), got FSDP"):
        mc.fine_tune(build(mlp), mc.NaiveFineTuning(), clean=rows(8), accelerator=sharded)


def test_an_accelerator_alone_changes_nothing() -> None:
    import accelerate

    plain, wrapped = (tuned("CBFT", accelerator) for accelerator in (None, accelerate.Accelerator(cpu=True)))
    for name, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(tensor, wrapped.model.state_dict()[name], rtol=1e-12, atol=1e-14)
