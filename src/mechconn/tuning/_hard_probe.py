"""Hardened linear probes: a new head that is trained under perturbed features, or as the mean of sparse heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import kl_div

from mechconn.core import check_choice, check_count, check_positive, make_generator
from mechconn.descent import Objective, Problem, TrainingStep, draw_fresh_state
from mechconn.network import extract_outputs
from mechconn.tuning._features import FrozenFeatures
from mechconn.tuning._last_layer import LastLayerRetraining, compute_mean_loss, find_largest_moment
from mechconn.tuning._row_labels import classify_rows, compute_log_probabilities

START = 0.01
"""Length of the step at whose end the gradient of the divergence is taken, in root mean square norms of features."""
END = "probe loss"
"""In what checkpoints keep: the loss that the probe ended with."""
OF_KIND = {"alpha": ("vat",), "steps": ("vat",), "eps": ("vat", "adversarial"), "heads": ("soup",)}
"""Setting -> the kinds that it is for."""


@dataclass(frozen=True, kw_only=True)
class HardProbe(LastLayerRetraining):
    r"""A new head that does not lean on few directions of the features: the first part of `LPFT`, or by itself.

    Of frozen features z with root mean square norm R = sqrt(mean_i |z_i|^2) over the clean rows, d entries each, it
    minimises by the schedule of `LastLayerRetraining` one of

        "vat":          L(f(z), y) + alpha KL(f(z) || f(z + r)),  |r| = eps R, r along the direction of most divergence,
        "adversarial":  L(f(z + r), y),  r = eps R / sqrt(d) sign(dL(f(z), y) / dz),
        "soup":         the mean over heads of L(f_j(z), y), each f_j on a part of its own of the features.

    f is the linear head. For "vat" r is sought as in virtual adversarial training: a random direction, normalised over
    all features of a row, then `steps` power steps, each the normalised gradient of the divergence a hundredth of R
    along it; f(z) in the divergence is held constant. The parts of "soup" are drawn by the seed, as equal as they go;
    the head becomes the mean of the sparse heads, whose logits are 1 / heads of theirs in size.

    With lr=None the rate is that of `LastLayerRetraining` with h lambda replaced by a bound of the hardened loss's
    Hessian: h lambda + alpha / 2 (sqrt(lambda) + eps R)^2, h (sqrt(lambda) + eps R)^2, and h lambda / heads.

    Published code differs: sizes are in units of the features and not of R; its "vat" starts at the features themselves
    where a random direction is meant and normalises over one axis, and its sparse heads are sparse at the start alone,
    since their zeros are trained too.

    Attributes:
        kind: "vat", "adversarial" or "soup".
        alpha: weight of the divergence.
        eps: size of the perturbation, in root mean squares of the features.
        steps: power steps.
        heads: how many sparse heads, at most one for each feature.

    Source: Trivedi, Koutra & Thiagarajan 2023, *A closer look at model adaptation using feature distortion and
    simplicity bias*; Miyato et al. 2018 (virtual adversarial training).
    """

    kind: Literal["vat", "adversarial", "soup"] = field(kw_only=False)
    alpha: float = 1.0
    eps: float = 0.1
    steps: int = 1
    heads: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("kind", self.kind, ("vat", "adversarial", "soup"))
        check_positive("alpha", self.alpha)
        check_positive("eps", self.eps)
        check_count("steps", self.steps)
        check_count("heads", self.heads)
        for name, kinds in OF_KIND.items():
            if self.kind not in kinds and getattr(self, name) != getattr(type(self), name):
                raise ValueError(
                    f"{name} is a setting of {' and '.join(kinds)}, got {name}={getattr(self, name)} with "
                    f"kind={self.kind!r}; leave it out"
                )

    def make_head(self, problem: Problem, frozen: FrozenFeatures) -> nn.Module:
        """A fresh layer of the head's shape; of "soup" the sparse heads."""
        if self.kind != "soup":
            return super().make_head(problem, frozen)
        head = SparseHeads(frozen.layer, _draw_parts(frozen.layer.in_features, self.heads, problem.seed))
        head.load_state_dict(draw_fresh_state(head, problem.seed, "head", "use another method")[0])
        return head

    def make_objective(self, problem: Problem, layer: nn.Module, z: Tensor, y: Tensor) -> Objective:
        """["head" + "divergence"], ["adversarial"] or ["heads"]."""
        norm = _find_norm(z[problem.rows_counted(y).bool()])

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            features, targets = step.clean
            assert isinstance(features, Tensor)
            if self.kind == "vat":
                return self._compute_vat(problem, layer, features, targets, norm)
            if self.kind == "adversarial":
                moved = self._move_against(problem, layer, features, targets, norm)
                return {"adversarial": problem.mean_loss(extract_outputs(layer(moved)), targets)}
            assert isinstance(layer, SparseHeads)
            losses = [problem.mean_loss(extract_outputs(own), targets) for own in layer.each(features)]
            return {"heads": torch.stack(losses).mean()}

        return objective

    def install_head(self, frozen: FrozenFeatures, layer: nn.Module) -> None:
        """Put the layer, or the mean of the sparse heads, in the head's place."""
        if isinstance(layer, SparseHeads):
            frozen.install(*layer.join())
        else:
            super().install_head(frozen, layer)

    def find_end_loss(
        self, problem: Problem, layer: nn.Module, z: Tensor, y: Tensor, record: Mapping[str, int | float]
    ) -> float:
        """The plain loss of the head that training ended with; a run resumed behind the probe has it in `kept`."""
        if problem.validation is not None:
            return record["validation"]
        if END not in problem.kept:
            problem.kept[END] = torch.tensor(compute_mean_loss(problem, layer, z, y), dtype=torch.float64)
        return float(problem.kept[END])

    def bound_curvature(self, problem: Problem, z: Float[Tensor, "n d"], biased: bool, curvature: float) -> float:
        """A bound of the largest eigenvalue of the hardened loss's Hessian, perturbations held constant."""
        own = find_largest_moment(z, biased)
        if self.kind == "soup":
            return curvature * own / self.heads
        moved = (math.sqrt(own) + self.eps * _find_norm(z)) ** 2
        return curvature * own + 0.5 * self.alpha * moved if self.kind == "vat" else curvature * moved

    def _compute_vat(
        self, problem: Problem, layer: nn.Module, z: Tensor, targets: Tensor, norm: float
    ) -> dict[str, Tensor]:
        outputs = extract_outputs(layer(z))
        classify_rows("HardProbe('vat')", problem, outputs, targets)
        wanted = compute_log_probabilities(outputs.detach())

        def diverge(moved: Tensor) -> Tensor:
            own = compute_log_probabilities(extract_outputs(layer(moved)))
            return kl_div(own, wanted, reduction="none", log_target=True).sum(1)

        direction = _normalise_rows(torch.randn_like(z))
        for _ in range(self.steps):
            step = (START * norm * direction).requires_grad_()
            (slope,) = torch.autograd.grad(diverge(z + step).sum(), step)
            direction = _normalise_rows(slope)
        moved = diverge(z + self.eps * norm * direction)
        return {
            "head": problem.mean_loss(outputs, targets),
            "divergence": self.alpha * problem.mean_of(moved, targets),
        }

    def _move_against(self, problem: Problem, layer: nn.Module, z: Tensor, targets: Tensor, norm: float) -> Tensor:
        """z + eps R / sqrt(d) times the signs of each row's slope of the loss."""
        moving = z.detach().requires_grad_()
        losses = problem.losses(extract_outputs(layer(moving)), targets)
        (slope,) = torch.autograd.grad(losses.sum(), moving)
        return z + self.eps * norm / math.sqrt(z.shape[1]) * slope.sign()


class SparseHeads(nn.Module):
    """Linear heads, each on a part of its own of the features; as a module their mean."""

    def __init__(self, layer: nn.Linear, parts: Sequence[Tensor]) -> None:
        super().__init__()
        self.parts, self.features = list(parts), layer.in_features
        kind = {"dtype": layer.weight.dtype, "device": layer.weight.device, "bias": layer.bias is not None}
        self.heads = nn.ModuleList(nn.utils.skip_init(nn.Linear, len(p), layer.out_features, **kind) for p in parts)

    def each(self, z: Tensor) -> list[Tensor]:
        """The outputs of every head."""
        return [head(z[:, part.to(z.device)]) for head, part in zip(self.heads, self.parts, strict=True)]

    def forward(self, z: Tensor) -> Tensor:
        """Mean of the heads' outputs."""
        return torch.stack(self.each(z)).mean(0)

    @torch.no_grad()
    def join(self) -> tuple[Tensor, Tensor | None]:
        """(weight, bias) of the one layer that gives this mean."""
        heads = [head for head in self.heads if isinstance(head, nn.Linear)]
        weight = heads[0].weight.new_zeros(heads[0].out_features, self.features)
        for head, part in zip(heads, self.parts, strict=True):
            weight[:, part.to(weight.device)] = head.weight / len(heads)
        biases: list[Tensor] = [head.bias for head in heads if head.bias is not None]
        return weight, torch.stack(biases).mean(0) if biases else None


def _draw_parts(features: int, heads: int, seed: int) -> list[Tensor]:
    if heads > features:
        raise ValueError(
            f"HardProbe('soup') gives each head features of its own, and {heads} heads are more than the {features} "
            f"features; set heads= to {features} or fewer"
        )
    order = torch.randperm(features, generator=make_generator(seed, "sparse heads"))
    return [part.sort().values for part in order.tensor_split(heads)]


def _find_norm(z: Float[Tensor, "n d"]) -> float:
    """sqrt(mean_i |z_i|^2)."""
    return math.sqrt(float(z.double().square().sum(1).mean()))


def _normalise_rows(values: Float[Tensor, "n d"]) -> Tensor:
    """Each row divided by its norm, in float64, which keeps tiny slopes; rows of zeros stay."""
    rows = values.detach().double()
    norm = rows.norm(dim=1, keepdim=True)
    return torch.where(norm > 0, rows / norm, rows).to(values.dtype)
