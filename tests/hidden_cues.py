"""Planted data with a cue, and networks that use it, hide it, or never met it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import mechconn as mc
from zoo import build

QUICK = mc.Relearning(steps=(0, 5, 15, 30), lr=0.05, seeds=2)


def draw_columns(
    seed: int, *, content: str = "own", cue: str = "own", mark: str = "none", rows: int = 400
) -> dict[str, Tensor]:
    """Two columns of weak content, two of a strong cue, two of a mark like it: of the label, at random, or absent."""
    random = torch.Generator().manual_seed(seed)
    names: list[str] = ["own", "content", "cue"]
    drawn = dict(zip(names, torch.randint(0, 2, (3, rows), generator=random), strict=True))
    noise = torch.randn(rows, 6, generator=random) * torch.tensor([0.5, 0.5, 0.1, 0.1, 0.1, 0.1])
    values = {name: drawn["own" if kind == "own" else name] for name, kind in (("content", content), ("cue", cue))}
    shown = [2.0 * value - 1 for value in values.values()] + [2.0 * drawn["own"] - 1]
    signs = [torch.zeros(rows) if kind == "none" else of for of, kind in zip(shown, (content, cue, mark), strict=True)]
    return {"x": noise + torch.stack([sign for of in signs for sign in (of, -of)], 1), "y": drawn["own"], **values}


def draw(seed: int, **how: Any) -> tuple[Tensor, Tensor]:
    """(inputs, labels) of `draw_columns`."""
    found = draw_columns(seed, **how)
    return found["x"], found["y"]


SPLITS: dict[str, dict[str, Any]] = {
    "cue": {"seed": 1},
    "rand_cue": {"seed": 2, "cue": "random"},
    "rand_image": {"seed": 3, "content": "random"},
}
TUNED: dict[str, Any] = {"seed": 4, "content": "random", "rows": 60}
PLACEBO: dict[str, dict[str, Any]] = {
    "placebo": {**TUNED, "cue": "none", "mark": "own"},
    "shown": {**SPLITS["rand_image"], "cue": "none", "mark": "own"},
}


def net(classes: int = 2, width: int = 16) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, classes))


def trained(start: nn.Module, seed: int, **how: Any) -> nn.Module:
    method = mc.Training(epochs=10, batch_size=50, lr=0.1, milestones=())
    return mc.train(start, draw(seed, rows=600, **how), method, seed=seed).model


def make_models() -> tuple[nn.Module, nn.Module, nn.Module]:
    """One that uses the cue; its features under a head retrained on random cues; one that never met the cue."""
    uses = trained(build(net, 1), 10)
    retrained = mc.LastLayerRetraining(epochs=20, lr=0.1)
    hides = mc.fine_tune(uses, retrained, clean=draw(11, rows=600, cue="random"), seed=0).model
    return uses, hides, trained(build(net, 2), 12, cue="random")


def save_files(folder: Path) -> None:
    """The data and the networks, and the module that builds them."""
    for name, how in {**SPLITS, "tuned": TUNED, **PLACEBO}.items():
        save_file({key: value.clone() for key, value in draw_columns(**how).items()}, folder / f"{name}.safetensors")
    for name, model in zip(("uses", "hides", "never"), make_models(), strict=True):
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    (folder / "cue_models.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))\n",
        encoding="utf-8",
    )
