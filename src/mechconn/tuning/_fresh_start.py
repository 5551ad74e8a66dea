"""Fine-tuning from weights that are drawn afresh in part: shrunk and perturbed, or the first or last blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mechconn.core import check_choice, check_count, check_fraction, check_listed, check_non_negative
from mechconn.descent import Descend, Descent, Objective, Problem, compute_clean_loss, draw_fresh_state


def perturb(model: nn.Module, fresh: Mapping[str, Tensor], shrink: float, noise: float) -> None:
    """theta <- shrink theta + noise fresh, in place, for the parameters that `fresh` names."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, drawn in fresh.items():
            added = drawn.to(own[name]) if noise == 1.0 else noise * drawn.to(own[name])
            own[name].copy_(added if shrink == 0.0 else shrink * own[name] + added)


def reset_buffers(model: nn.Module, fresh: Mapping[str, Tensor]) -> None:
    """Give the model these buffers, in place."""
    own = dict(model.named_buffers())
    with torch.no_grad():
        for name, drawn in fresh.items():
            own[name].copy_(drawn)


def check_perturbation(shrink: float, noise: float) -> None:
    """Raise unless shrink lies in [0, 1], noise is zero or more, and not both are zero."""
    check_fraction("shrink", shrink)
    check_non_negative("noise", noise)
    if shrink == 0.0 and noise == 0.0:
        raise ValueError("shrink and noise are both zero, so that every weight would be; set one of them above zero")


@dataclass(frozen=True, kw_only=True)
class ShrinkAndPerturb(Descent):
    """Shrink and perturb: theta <- shrink theta + noise theta', then cross-entropy on the clean data.

    theta' are fresh weights, as each module draws them, a function of the seed; those of normalisation layers are
    constants (one and zero). Running statistics start anew. Frozen weights stay. A weight that no module can draw is an
    error that names it; `keep` lets some stay as they are.

    Attributes:
        shrink: what the weights are multiplied by, in [0, 1].
        noise: what fresh weights are multiplied by before they are added.
        keep: names of parameters that stay as they are.

    Source: Ash & Adams 2020, *On warm-starting neural network training*.
    """

    shrink: float = 0.4
    noise: float = 0.1
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_perturbation(self.shrink, self.noise)
        check_listed("keep", self.keep)

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """Mean loss on the clean batch."""
        return [compute_clean_loss(problem)]

    def run(self, problem: Problem, descend: Descend) -> None:
        """Shrink and perturb, then train."""
        params, buffers = draw_fresh_state(
            problem.model, problem.seed, "shrink and perturb", "name it in keep=", self.keep
        )
        perturb(problem.model, params, self.shrink, self.noise)
        reset_buffers(problem.model, buffers)
        super().run(problem, descend)


@dataclass(frozen=True, kw_only=True)
class FreshBlocks(Descent):
    """The last (or first) blocks drawn afresh, then cross-entropy on the clean data over all weights.

    A block is a module that holds trainable parameters itself, a convolution or a BatchNorm, in the order in which the
    network's constructor registers them; a tied weight belongs to the first module that holds it. Each block draws its
    weights as its constructor does, a function of the seed, and its running statistics start anew; those of a module
    without trainable parameters go on from what they are. The result's settings name the blocks that were drawn.

    Attributes:
        blocks: how many; all of them is `Scratch`, with this schedule.
        which: "last", the blocks next to the output, or "first".

    Source: Zhou et al. 2022, *Fortuitous forgetting in connectionist networks* (later layers drawn again).
    """

    blocks: int = 1
    which: Literal["last", "first"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("blocks", self.blocks)
        check_choice("which", self.which, ("last", "first"))

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """Mean loss on the clean batch."""
        return [compute_clean_loss(problem)]

    def run(self, problem: Problem, descend: Descend) -> None:
        """Draw the blocks, then train.

        Raises:
            ValueError: the model has fewer blocks, or a weight of them cannot be drawn.
        """
        names = [name for name, parameter in problem.model.named_parameters() if parameter.requires_grad]
        blocks = list(dict.fromkeys(map(_find_block, names)))
        if self.blocks > len(blocks):
            named = ", ".join(name or "the model itself" for name in blocks) or "none"
            raise ValueError(
                f"FreshBlocks draws blocks={self.blocks}, but the model has {len(blocks)} modules with trainable "
                f"parameters: {named}; set blocks= to {max(len(blocks), 1)} or fewer"
            )
        drawn = blocks[-self.blocks :] if self.which == "last" else blocks[: self.blocks]
        kept = [name for name in names if _find_block(name) not in drawn]
        params, buffers = draw_fresh_state(problem.model, problem.seed, "fresh blocks", "draw other blocks", kept)
        perturb(problem.model, params, 0.0, 1.0)
        reset_buffers(problem.model, dict(_choose(buffers, drawn)))
        problem.decided["drawn"] = drawn
        super().run(problem, descend)


def _find_block(name: str) -> str:
    """The module that holds a tensor of this name."""
    return name.rpartition(".")[0]


def _choose(tensors: Mapping[str, Tensor], blocks: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in tensors.items() if _find_block(name) in blocks)
