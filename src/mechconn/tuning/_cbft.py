"""Connectivity-based fine-tuning (CBFT): fine-tuning that changes the mechanism."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from mechconn.core import (
    Data,
    Params,
    check_choice,
    check_fraction,
    check_non_negative,
    check_positive,
    check_whole,
)
from mechconn.datasets import CuedSet
from mechconn.descent import (
    Batch,
    Descent,
    Method,
    Objective,
    Problem,
    Records,
    TrainingStep,
    compute_clean_loss,
    find_head,
    find_taken_epoch,
    record_head_calls,
    require_cued_data,
)
from mechconn.losses import Loss
from mechconn.tuning._path_to_anchor import compute_path_loss, draw_path_t
from mechconn.tuning._point_toward_start import explain_short_distance, find_point


@dataclass(frozen=True, kw_only=True)
class CBFT(Descent):
    r"""Connectivity-based fine-tuning: leave the basin of theta_C, and become invariant to the cue.

    Minimises L(f(D_NC; theta), y) + L_B + L_I / K over theta, K classes, with

        L_B = E_t | margin - L(f(D_C; (1 - t) theta + t theta_C), y) |,
        L_I = sum_k || n(mean_k z(D_NC)) - n(mean_k z(D_C)) ||^2,

    theta_C the frozen start, D_NC clean data, D_C data with the cue, z the features that the head receives,
    mean_k over the samples of class k in a batch (classes present in both), n() scaling to unit length. The
    path's gradient reaches theta only, (1 - t) times the gradient at the interpolated point; BatchNorm on the
    path uses batch statistics and leaves no trace. Needs no pairs of samples with and without the cue.

    Of several sources of data with a cue, each with the reference model that relies on it, both terms are the means
    over the sources. A reference is one module with the model, with other parameters and statistics.

    With rho, L and L_I are taken at theta + rho (theta_C - theta) / |theta_C - theta| in place of theta, and their
    gradient there is applied to theta, as `PathAware` says; L_B is as without.

    Attributes:
        barrier_margin: lambda_B, the loss in nats to hold on the path; zero or more.
        barrier: False leaves L_B out (ablation).
        invariance: False leaves L_I out (ablation).
        update: "alternating" takes one step on L_B and then one on the rest; "joint" one step on the sum.
        t_sampling: "truncated" draws t from a Gaussian of mean 0.5 and deviation 0.5 truncated to [0, 1];
            "clipped" uses the authors' 0.5 + 0.5 clip(N(0, 1), -0.5, 0.5).
        warmup_epochs: first epochs without L_I.
        normalised_means: False leaves n() out of L_I, which then also pulls the lengths of the means together.
        cued_proportion: redraw the cue on this share of each class of D_C; None takes D_C as it is.
        rho: distance from theta towards theta_C at which L and L_I are taken; None takes them at theta.

    Source: Lubana et al. 2023, section 6.
    """

    mixes_weights: ClassVar[bool] = True

    barrier_margin: float = 1.0
    barrier: bool = True
    invariance: bool = True
    update: Literal["alternating", "joint"] = "alternating"
    t_sampling: Literal["truncated", "clipped"] = "truncated"
    warmup_epochs: int = 1
    normalised_means: bool = True
    cued_proportion: float | None = None
    rho: float | None = None

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
        if self.rho is not None:
            check_positive("rho", self.rho)

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """D_C, of every source."""
        cued = require_cued_data(self, cued)
        if self.cued_proportion is None:
            return cued
        redrawn = {}
        for name, source in cued.items():
            if not isinstance(source, CuedSet):
                raise TypeError(
                    f"cued_proportion needs a dataset that knows its cue, got {type(source).__name__}; pass "
                    "cued=task.train, or leave it unset"
                )
            redrawn[name] = source.with_proportion(self.cued_proportion, seed)
        return redrawn

    def passes(self, sources: int) -> int:
        """One on the clean data, and for each source one on the path and one for the invariance term.

        So it is after the warm-up, whose iterations have one less for each source.
        """
        return 1 + sources * (self.barrier + self.invariance)

    def with_epochs(self, epochs: int) -> Method:
        """The same settings but for the number of epochs, and a warm-up that leaves one of them."""
        return replace(self, epochs=epochs, warmup_epochs=min(self.warmup_epochs, epochs - 1))

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """[L_B, L + L_I / K], or their sum as one."""

        def barrier(step: TrainingStep) -> dict[str, Tensor]:
            t = float(self.draw_t(torch.tensor([step.number]), problem.seed))
            pairs = zip(problem.references, step.cued, strict=True)
            losses = torch.stack([self.path_loss(problem, start, batch, t) for start, batch in pairs])
            self._keep_shortfall(problem, step, losses.detach())
            return {"barrier": _mean_loss((self.barrier_margin - losses).abs().unbind())}

        mechanism = self._mechanism(problem) if self.invariance else self._clean_loss(problem)
        if not self.barrier:
            return [mechanism]
        if self.update == "joint":
            return [lambda step: barrier(step) | mechanism(step)]
        return [barrier, mechanism]

    def draw_t(self, step: Int[Tensor, " n"], seed: int) -> Float[Tensor, " n"]:
        """The path's t at each iteration: a pure function of (iteration, seed), float64."""
        return draw_path_t(step, seed, self.t_sampling)

    def barrier_loss(self, problem: Problem, reference: Params, batch: Batch, t: float) -> Tensor:
        """| margin - L(f(D_C; (1 - t) theta + t theta_C), y) | on one batch, differentiable in theta alone."""
        return (self.barrier_margin - self.path_loss(problem, reference, batch, t)).abs()

    def path_loss(self, problem: Problem, reference: Params, batch: Batch, t: float) -> Tensor:
        """L(f(D_C; (1 - t) theta + t theta_C), y) on one batch, differentiable in theta alone."""
        return compute_path_loss(problem, reference, batch, t)

    def _keep_shortfall(self, problem: Problem, step: TrainingStep, losses: Tensor) -> None:
        """Add max(margin - loss, 0) on the path to the sums of the step's epoch, and those of the first step."""
        shape = (2, self.epochs + 1)
        sums, counts = problem.kept.setdefault("shortfall", losses.new_zeros(shape, dtype=torch.float32))
        for place in (step.epoch, -1) if step.number == 0 else (step.epoch,):
            sums[place] += (self.barrier_margin - losses).clamp(min=0.0).mean()
            counts[place] += 1

    def remarks(self, problem: Problem, records: Records) -> Sequence[str]:
        """Where no barrier was built, and where the invariance term was never used.

        The first is said where max(margin - loss, 0) on the path, the part of L_B that a low loss makes, has before the
        weights that were taken at least STAYED of its value at the first step, as a mean over the epochs that hold the
        last ENOUGH steps: one t alone may lie near an end of the path.
        """
        epoch = find_taken_epoch(records)
        notes = [] if "shortfall" not in problem.kept else self._barrier_remarks(problem.kept["shortfall"], epoch)
        used = [record["invariance"] for record in records if "invariance" in record]
        if used and epoch < self.warmup_epochs:
            notes.append(
                f"CBFT gives the weights of epoch {epoch}, which validation data selected; the invariance term was "
                f"used from epoch {self.warmup_epochs} on. Leave validation out, or set warmup_epochs=0."
            )
        if used and not any(used):
            notes.append(
                "CBFT's invariance term was exactly zero in every epoch: no class was in a clean and a cued batch at "
                "once, or their features agree. Give batches that hold all classes, and cued data with a cue."
            )
        return [*notes, *explain_short_distance(self, problem, self.rho)]

    def _barrier_remarks(self, shortfall: Tensor, epoch: int) -> list[str]:
        sums, counts = shortfall.cpu().double()
        begin = max((e for e in range(epoch + 1) if counts[e : epoch + 1].sum() >= ENOUGH), default=0)
        last = float(sums[begin : epoch + 1].sum() / counts[begin : epoch + 1].sum())
        first = float(sums[-1] / counts[-1])
        if not 0.0 < STAYED * first <= last:
            return []
        return [
            f"CBFT's barrier term ended near its start: the loss on the path to the start was {first:.3g} below "
            f"barrier_margin={self.barrier_margin:g} at the first step and {last:.3g} in epochs {begin} to {epoch}, so "
            "the model did not leave the start's basin. At zero training loss gradients vanish: raise lr "
            f"(now {self.lr:g}) or epochs (now {self.epochs}), or start from a model that was trained for fewer epochs."
        ]

    def _clean_loss(self, problem: Problem) -> Objective:
        """L alone, at theta or at rho from it."""
        if (rho := self.rho) is None:
            return compute_clean_loss(problem)

        def clean(step: TrainingStep) -> dict[str, Tensor]:
            outputs = problem.outputs_at(find_point(problem, step, rho), step.clean[0])
            problem.move_buffers(step.clean)
            return {"clean": problem.mean_loss(outputs, step.clean[1])}

        return clean

    def _mechanism(self, problem: Problem) -> Objective:
        head, total = problem.head, problem.workers.total

        def with_invariance(step: TrainingStep) -> dict[str, Tensor]:
            nonlocal head
            clean, clean_y = step.clean
            head = head or find_head(problem.model, clean)
            cued = () if step.epoch < self.warmup_epochs else step.cued
            point = None if self.rho is None else find_point(problem, step, self.rho)
            with record_head_calls(problem.model if point is None else problem.network.module, head) as received:
                passes = [
                    problem.outputs(inputs) if point is None else problem.outputs_at(point, inputs)
                    for inputs, _ in (step.clean, *cued)
                ]
                features = [received.features(call, outputs) for call, outputs in enumerate(passes)]
            if len(received.calls) != len(passes):
                raise ValueError(
                    f"the invariance term compares what the head {head!r} receives once in each pass (here: passes "
                    f"{len(passes)}, calls {len(received.calls)}); name another layer with head=, or set "
                    "invariance=False"
                )
            if point is not None:
                problem.move_buffers(step.clean, *cued)
            labels, classes = _check_labels(problem.loss, passes, [y for _, y in (step.clean, *cued)])
            if not cued:
                return {"clean": problem.mean_loss(passes[0], clean_y)}
            if len(sizes := {z.shape[1] for z in features}) > 1:
                raise ValueError(
                    f"the head receives {' and '.join(map(str, sorted(sizes)))} numbers a row on the batches of "
                    "clean and cued data, and the invariance term compares them; give both batches one shape "
                    "(texts: pad to one length), or set invariance=False"
                )
            counted = [problem.rows_counted(y).bool() for _, y in (step.clean, *cued)]
            first, *others = (z[rows] for z, rows in zip(features, counted, strict=True))
            gaps = [
                compute_invariance_loss(first, labels[0], other, own, classes, self.normalised_means, total)
                for other, own in zip(others, labels[1:], strict=True)
            ]
            return {"clean": problem.mean_loss(passes[0], clean_y), "invariance": _mean_loss(gaps) / classes}

        return with_invariance


STAYED = 0.9
"""Share of its first value at which L_B counts as unmoved. On digits it ends at 0.2 to 0.5 of it where CBFT leaves the
basin, and at 0.95 or more where the rate is too low or the start was trained to a loss near zero."""
ENOUGH = 20
"""Steps whose mean shows whether there is a barrier, whatever their t."""


def compute_invariance_loss(
    clean: Float[Tensor, "n d"],
    clean_y: Int[Tensor, " n"],
    cued: Float[Tensor, "m d"],
    cued_y: Int[Tensor, " m"],
    classes: int,
    normalised: bool = True,
    total: Callable[[Tensor], Tensor] = lambda values: values,
) -> Tensor:
    """L_I = sum_k || n(mean_k clean) - n(mean_k cued) ||^2 over the classes present in both batches.

    The two batches need neither the same samples nor the same size; n() scales to unit length. `total` sums over
    the processes that share the batches.
    """
    exact = torch.promote_types(clean.dtype, torch.float32)
    means, counts = [], []
    for features, labels in ((clean, clean_y), (cued, cued_y)):
        members = one_hot(labels, classes).to(exact)
        counts.append(total(members.sum(0)))
        means.append(total(members.T @ features.to(exact)) / counts[-1].clamp(min=1.0)[:, None])
    shared = (counts[0] > 0) & (counts[1] > 0)
    first, second = (normalize(mean, dim=1) for mean in means) if normalised else means
    return (first - second).square().sum(1)[shared].sum()


def _check_labels(loss: Loss, passes: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[list[Tensor], int]:
    """Class labels of each batch and K, after refusing what is no classification of whole rows."""
    labels, classes = [], 0
    for outputs, y in zip(passes, targets, strict=True):
        found = loss.classify(outputs.detach(), y)
        if found is None or found.each != "rows":
            shapes = f"outputs {list(outputs.shape)} and {str(y.dtype).removeprefix('torch.')} {list(y.shape)}"
            raise ValueError(
                "the invariance term needs outputs [N, K] with K > 1 and whole-number targets [N], or one logit "
                f"with loss=mechconn.losses.binary, got {shapes}; set invariance=False for other tasks"
            )
        loss(outputs.detach(), y)  # refuses labels that name no output
        counted = loss.counted(y)
        classes = found.classes
        labels.append(found.labels if counted is None else found.labels[counted])
    return labels, classes


def _mean_loss(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean()
