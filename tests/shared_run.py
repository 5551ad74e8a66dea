"""What test_workers.py runs in one process and in two: a file of its own, so that the processes can import it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import mechconn as mc
from mechconn.descent import Method
from zoo import build, mlp, norm_mlp, rows

PLAIN: dict[str, Any] = {"epochs": 1, "batch_size": 9, "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}
METHODS: dict[str, Method] = {
    "NaiveFineTuning": mc.NaiveFineTuning(**PLAIN),
    "CBFT": mc.CBFT(warmup_epochs=0, **PLAIN),
    "CBFT joint": mc.CBFT(update="joint", warmup_epochs=0, **PLAIN),
    "CBFT rho": mc.CBFT(warmup_epochs=0, rho=0.1, **PLAIN),
    "PathAware": mc.PathAware(**{**PLAIN, "epochs": 2}),
    "ShrinkAndPerturb": mc.ShrinkAndPerturb(**PLAIN),
    "UNDO": mc.UNDO(teacher=mc.NaiveFineTuning(**PLAIN), label_share=0.3, temperature=2.0, **PLAIN),
    "PathRepair": mc.PathRepair(at=0.5, fit=mc.BezierFit(**{**PLAIN, "epochs": 2}), tune=mc.NaiveFineTuning(**PLAIN)),
    "LatentAdversarial": mc.LatentAdversarial(layer="1", **PLAIN),
    "IRM": mc.IRM(**PLAIN),
    "VREx": mc.VREx(**PLAIN),
    "GroupDRO": mc.GroupDRO(**PLAIN),
    "ConvexCombination": mc.ConvexCombination(**PLAIN),
    "LastLayerRetraining": mc.LastLayerRetraining(**PLAIN),
}

LONGER: dict[str, Any] = {"epochs": 2, "batch_size": 5, "accumulate": 2, "lr": 0.2}
"""Batches of five and of three rows in one step: parts of several sizes, shares of several sizes."""
LONG: dict[str, Method] = {
    "NaiveFineTuning": mc.NaiveFineTuning(**LONGER),
    "CBFT": mc.CBFT(**LONGER),
    "CBFT AdamW": mc.CBFT(**{**LONGER, "lr": 0.01}, optimizer="adamw", warmup=0.5, clip_norm=1.0),
}


def tuned(name: str, accelerator: Any) -> mc.Trained:
    """Nine rows in one batch: an odd number, so that the processes have different shares."""
    return mc.fine_tune(build(mlp), METHODS[name], clean=rows(9), cued=rows(9, 3), accelerator=accelerator)


def tuned_long(name: str, accelerator: Any) -> mc.Trained:
    """Two epochs, accumulated, with an epoch chosen by validation data."""
    return mc.fine_tune(
        build(mlp), LONG[name], clean=rows(8), cued=rows(8, 3), validation=rows(6, 5), accelerator=accelerator
    )


def normed(accelerator: Any) -> mc.Trained:
    """A network with BatchNorm, whose statistics are those of each process's own rows."""
    method = mc.NaiveFineTuning(epochs=2, batch_size=8, lr=0.2)
    return mc.fine_tune(build(norm_mlp), method, clean=rows(16), validation=rows(6, 5), accelerator=accelerator)


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
    for name, run in {**{n: tuned_long(n, accelerator) for n in LONG}, "normed": normed(accelerator)}.items():
        save_file(run.model.state_dict(), folder / f"long-{name}-{rank}.safetensors")
        told = {"history": run.history, "selected": run.settings["selected_epoch"]}
        (folder / f"long-{name}-{rank}.json").write_text(json.dumps(told), encoding="utf-8")
    torch.distributed.barrier()  # a process that ends while another still speaks to it is aborted now and then
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
