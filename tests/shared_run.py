"""What test_workers.py runs in one process and in two: a file of its own, so that the processes can import it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import mechconn as mc
from mechconn._method import Method
from zoo import build, mlp, rows

PLAIN: dict[str, Any] = {"epochs": 1, "batch_size": 9, "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}
METHODS: dict[str, Method] = {
    "NaiveFineTuning": mc.NaiveFineTuning(**PLAIN),
    "CBFT": mc.CBFT(warmup_epochs=0, **PLAIN),
    "CBFT joint": mc.CBFT(update="joint", warmup_epochs=0, **PLAIN),
    "IRM": mc.IRM(**PLAIN),
    "VREx": mc.VREx(**PLAIN),
    "GroupDRO": mc.GroupDRO(**PLAIN),
    "ConvexCombination": mc.ConvexCombination(**PLAIN),
    "LastLayerRetraining": mc.LastLayerRetraining(**PLAIN),
}


def tuned(name: str, accelerator: Any) -> mc.Trained:
    """Nine rows in one batch: an odd number, so that the processes have different shares."""
    return mc.fine_tune(build(mlp), METHODS[name], clean=rows(9), cued=rows(9, 3), accelerator=accelerator)


def main() -> None:
    """Meet over a file, train every method, and write the weights."""
    import accelerate
    import torch.distributed
    from safetensors.torch import save_file

    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    accelerator = accelerate.Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    for name in METHODS:
        save_file(tuned(name, accelerator).model.state_dict(), folder / f"{name}-{rank}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
