"""Fine-tuning: naively, or so that the mechanism changes (connectivity-based fine-tuning, CBFT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from mechconn import _errors
from mechconn._batches import as_data
from mechconn._checks import check_choice, check_fraction, check_is, check_non_negative, check_whole
from mechconn._evaluate import per_sample_cross_entropy
from mechconn._head import find_head, head_inputs
from mechconn._interventions import CuedSet
from mechconn._method import Method, Objective, Problem, Step, clean_loss
from mechconn._precision import Precision
from mechconn._rng import uniform_by_index
from mechconn._training import Trained, optimise
from mechconn._typing import Data, Inputs, PerSampleLoss, Progress


@dataclass(frozen=True, kw_only=True)
class NaiveFineTuning(Method):
    """All weights, cross-entropy on the clean data, cosine learning rate to 0.

    The source's FT-S, FT-M and FT-L are lr = 0.001, 0.01 and 0.1.

    Source: Lubana et al. 2023, section 5.
    """

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """Mean loss on the clean batch."""
        return [clean_loss(problem)]


@dataclass(frozen=True, kw_only=True)
class CBFT(Method):
    r"""Connectivity-based fine-tuning: leave the basin of theta_C, and become invariant to the cue.

    Minimises L(f(D_NC; theta), y) + L_B + L_I / K over theta, K classes, with

        L_B = E_t | margin - L(f(D_C; (1 - t) theta + t theta_C), y) |,
        L_I = sum_k || n(mean_k z(D_NC)) - n(mean_k z(D_C)) ||^2,

    theta_C the frozen start, D_NC clean data, D_C data with the cue, z the features that the head receives,
    mean_k over the samples of class k in a batch (classes present in both), n() scaling to unit length. The
    path's gradient reaches theta only, (1 - t) times the gradient at the interpolated point; BatchNorm on the
    path uses batch statistics and leaves no trace. Needs no pairs of samples with and without the cue.

    Attributes:
        barrier_margin: lambda_B, the loss in nats to hold on the path; zero or more.
        barrier: False leaves L_B out (ablation).
        invariance: False leaves L_I out (ablation).
        update: "alternating" takes one step on L_B and then one on the rest; "joint" one step on the sum.
        t_sampling: "truncated" draws t from a Gaussian of mean 0.5 and deviation 0.5 truncated to [0, 1];
            "clipped" uses the authors' 0.5 + 0.5 clip(N(0, 1), -0.5, 0.5).
        warmup_epochs: first epochs without L_I.
        cued_proportion: redraw the cue on this share of each class of D_C; None takes D_C as it is.

    Source: Lubana et al. 2023, section 6.
    """

    barrier_margin: float = 1.0
    barrier: bool = True
    invariance: bool = True
    update: Literal["alternating", "joint"] = "alternating"
    t_sampling: Literal["truncated", "clipped"] = "truncated"
    warmup_epochs: int = 1
    cued_proportion: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_non_negative("barrier_margin", self.barrier_margin)
        if self.invariance and not 0 <= check_whole("warmup_epochs", self.warmup_epochs) < self.epochs:
            raise ValueError(
                f"warmup_epochs must be zero or more and below epochs = {self.epochs}, got {self.warmup_epochs}; "
                "else the invariance term is never used (invariance=False says so)"
            )
        check_choice("update", self.update, ("alternating", "joint"))
        check_choice("t_sampling", self.t_sampling, ("truncated", "clipped"))
        if self.cued_proportion is not None:
            check_fraction("cued_proportion", self.cued_proportion)

    def cued_data(self, cued: Data | None, seed: int) -> Data:
        """D_C."""
        if cued is None:
            raise ValueError(_errors.CUED_NEEDED.format(method="CBFT"))
        if self.cued_proportion is None:
            return cued
        if not isinstance(cued, CuedSet):
            raise TypeError(_errors.NO_PROPORTION.format(type=type(cued).__name__))
        return cued.with_proportion(self.cued_proportion, seed)

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """[L_B, L + L_I / K], or their sum as one."""

        def barrier(step: Step) -> dict[str, Tensor]:
            inputs, targets = _cued(step)
            t = float(self.draw_t(torch.tensor([step.number]), problem.seed))
            return {"barrier": self.barrier_loss(problem, inputs, targets, t)}

        mechanism = self._mechanism(problem)
        if not self.barrier:
            return [mechanism]
        if self.update == "joint":
            return [lambda step: barrier(step) | mechanism(step)]
        return [barrier, mechanism]

    def draw_t(self, step: Int[Tensor, " n"], seed: int) -> Float[Tensor, " n"]:
        """The path's t at each iteration: a pure function of (iteration, seed), float64."""
        uniform = uniform_by_index(step, seed, "CBFT t").clamp_(1e-12, 1 - 1e-12)
        if self.t_sampling == "clipped":
            return 0.5 + 0.5 * torch.special.ndtri(uniform).clamp_(-0.5, 0.5)
        low, high = torch.special.ndtr(torch.tensor([-1.0, 1.0], dtype=torch.float64)).tolist()
        return (0.5 + 0.5 * torch.special.ndtri(low + uniform * (high - low))).clamp_(0.0, 1.0)

    def barrier_loss(self, problem: Problem, inputs: Inputs, targets: Tensor, t: float) -> Tensor:
        """| margin - L(f(D_C; (1 - t) theta + t theta_C), y) | on one batch, differentiable in theta alone."""
        theta = dict(problem.model.named_parameters())
        point = {name: (1.0 - t) * theta[name] + t * start for name, start in problem.start.items()}
        discarded = {name: buffer.clone() for name, buffer in problem.model.named_buffers()}
        outputs = problem.network(point, discarded, inputs, training=True)
        return (self.barrier_margin - problem.mean_loss(outputs, targets)).abs()

    def _mechanism(self, problem: Problem) -> Objective:
        plain, head = clean_loss(problem), problem.head

        def with_invariance(step: Step) -> dict[str, Tensor]:
            nonlocal head
            (clean, clean_y), (cued, cued_y) = step.clean, _cued(step)
            head = head or find_head(problem.model, clean)
            if step.epoch < self.warmup_epochs:
                return plain(step)
            with head_inputs(problem.model, head) as features:
                outputs = problem.outputs(clean)
                problem.outputs(cued)
            classes = outputs.shape[1]
            gap = invariance_loss(features[0], clean_y, features[-1], cued_y, classes)
            return {"clean": problem.mean_loss(outputs, clean_y), "invariance": gap / classes}

        return with_invariance if self.invariance else plain


def invariance_loss(
    clean: Float[Tensor, "n d"],
    clean_y: Int[Tensor, " n"],
    cued: Float[Tensor, "m d"],
    cued_y: Int[Tensor, " m"],
    classes: int,
) -> Tensor:
    """L_I = sum_k || n(mean_k clean) - n(mean_k cued) ||^2 over the classes present in both batches.

    The two batches need neither the same samples nor the same size; n() scales to unit length.
    """
    exact = torch.promote_types(clean.dtype, torch.float32)
    sums, counts = [], []
    for features, labels in ((clean, clean_y), (cued, cued_y)):
        members = one_hot(labels, classes).to(exact)
        sums.append(members.T @ features.to(exact))
        counts.append(members.sum(0))
    shared = (counts[0] > 0) & (counts[1] > 0)
    # A class mean and the sum over its members differ in length alone, which n() removes.
    gaps = (normalize(sums[0], dim=1) - normalize(sums[1], dim=1)).square().sum(1)
    return gaps[shared].sum()


def fine_tune(
    model: nn.Module,
    method: Method,
    *,
    clean: Data,
    cued: Data | None = None,
    loss: PerSampleLoss = per_sample_cross_entropy,
    head: str | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Trained:
    """Fine-tune a copy of `model` by `method`; the model itself stays as it is, bit for bit.

    Args:
        model: theta_C, where fine-tuning starts.
        method: `NaiveFineTuning` or `CBFT`.
        clean: samples without the cue.
        cued: samples with the cue, for methods that use them; they need not be the clean ones with a cue added.
        loss: one value per sample from (outputs, targets).
        head: name of the last linear layer; found where it is not named.
        seed: of the order of the data, dropout and the method's draws.
        device: where to compute; default: where the model is.
        precision: "float32" computes in the model's own type, "auto" in bfloat16 where the device is faster with it
            (weights and updates stay in their own type).
        progress: called with (message, epochs done, epochs in all).

    Raises:
        ValueError: the clean set is empty, of one class or not finite; the method needs `cued` and got none; the
            head cannot be found or is not a linear layer.
        TypeError: data that can be read only once.
        FloatingPointError: the loss became infinite or NaN; the step is named.
    """
    check_is("method", method, Method)
    clean = as_data("clean data", clean)
    cued = method.cued_data(None if cued is None else as_data("cued data", cued), seed)
    if head is not None:
        find_head(model, (), named=head)
    return optimise(
        model, method, clean, cued, what="fine-tuning", named="clean data",
        loss=loss, head=head, seed=seed, device=device, precision=precision, progress=progress,
    )  # fmt: skip


def _cued(step: Step) -> tuple[Inputs, Tensor]:
    assert step.cued is not None, "the engine pairs every clean batch with a cued one for methods that ask for it"
    return step.cued
