"""Baselines that weigh the clean data against the data with a cue: IRM, V-REx, GroupDRO, a convex combination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mechconn.core import Data, check_fraction, check_non_negative, check_positive
from mechconn.descent import Batch, Descent, Objective, Problem, Records, TrainingStep, require_cued_data


@dataclass(frozen=True, kw_only=True)
class EnvironmentMethod(Descent):
    """A method whose environments e are the clean data and every source of data with a cue, with risks R_e."""

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """Every source."""
        return require_cued_data(self, cued)

    def passes(self, sources: int) -> int:
        """One in each environment."""
        return 1 + sources


@dataclass(frozen=True, kw_only=True)
class PenalisedMethod(EnvironmentMethod):
    """The mean risk and a penalty on what tells the environments apart.

    Attributes:
        penalty: weight of the penalty.
    """

    term: ClassVar[str]
    """Name of the penalty in the history."""

    penalty: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_non_negative("penalty", self.penalty)

    def remarks(self, problem: Problem, records: Records) -> Sequence[str]:
        """Where the penalty that was asked for was zero throughout."""
        if self.penalty == 0 or any(record[self.term] for record in records):
            return ()
        name = type(self).__name__
        return (
            f"{name}'s {self.term} was exactly zero in every epoch, so that it descended the mean risk alone; check "
            "that the data with the cue are not the clean data, and that the loss depends on the scale of the outputs.",
        )


@dataclass(frozen=True, kw_only=True)
class IRM(PenalisedMethod):
    """Invariant risk minimisation: mean_e R_e + penalty mean_e (d R_e(w f) / d w at w = 1)^2.

    w is a dummy scale of the outputs: where its derivative is zero in every environment, no environment would want the
    outputs scaled differently.

    Attributes:
        penalty: lambda.

    Source: Arjovsky et al. 2019, IRMv1.
    """

    term = "penalty"

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """["risk" + "penalty"]."""

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            risks, slopes = zip(
                *(_compute_risk_and_slope(problem, batch) for batch in (step.clean, *step.cued)), strict=True
            )
            slope = torch.stack(slopes).square().mean()
            return {"risk": torch.stack(risks).mean(), "penalty": self.penalty * slope}

        return [objective]


@dataclass(frozen=True, kw_only=True)
class VREx(PenalisedMethod):
    """Risk extrapolation: mean_e R_e + penalty var_e(R_e), the population variance over environments.

    Attributes:
        penalty: beta.

    Source: Krueger et al. 2021, V-REx.
    """

    term = "variance"

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """["risk" + "variance"]."""

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            risks = torch.stack([problem.risk(batch) for batch in (step.clean, *step.cued)])
            return {"risk": risks.mean(), "variance": self.penalty * risks.var(correction=0)}

        return [objective]


@dataclass(frozen=True, kw_only=True)
class ConvexCombination(EnvironmentMethod):
    """weight x L(data with the cue) + (1 - weight) x L(clean data), both through the model that is trained.

    A simplified CBFT of a third-party summary, kept as a baseline under this name; of several sources the mean.

    Attributes:
        weight: of the data with the cue, in [0, 1].
    """

    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("weight", self.weight)

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """["clean" + "cued"]."""

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            clean = problem.risk(step.clean)
            cued = torch.stack([problem.risk(batch) for batch in step.cued]).mean()
            return {"clean": (1.0 - self.weight) * clean, "cued": self.weight * cued}

        return [objective]


@dataclass(frozen=True, kw_only=True)
class GroupDRO(EnvironmentMethod):
    """Distributionally robust optimisation over groups g: sum_g q_g R_g, q moving towards the worst group.

    At every batch q_g <- q_g exp(step_size R_g), scaled to sum 1, over the groups that the batch holds. The
    groups are those of the clean rows where `fine_tune` is given groups; else they are the environments, the clean
    data and every source of data with a cue.

    Attributes:
        step_size: eta, how fast q moves.

    Source: Sagawa et al. 2020, algorithm 1.
    """

    takes_groups = True

    step_size: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("step_size", self.step_size)

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """Every source; `fine_tune` passes none where it is given groups."""
        return cued

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """["worst case"]: the risks weighted by q, which is no part of the gradient."""
        if problem.groups is None and not problem.cued:
            raise ValueError(
                f"{type(self).__name__} needs groups: pass groups=..., a label for each clean row, or cued=..., "
                "data with the cue"
            )

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            risks, present = _compute_group_risks(problem, step)
            q = problem.kept.setdefault("q", torch.full_like(risks, 1.0 / len(risks)))
            moved = q * torch.where(present, (self.step_size * risks.detach()).exp(), 1.0)
            q.copy_(moved / moved.sum())
            return {"worst case": (q.clone() * risks).sum()}

        return [objective]

    def remarks(self, problem: Problem, records: Records) -> Sequence[str]:
        """Where there was one group alone."""
        if problem.groups is None or int(problem.groups.max()) > 0:
            return ()
        return ("GroupDRO had one group, so that no weight moved between groups; give groups= of two labels or more.",)


def _compute_group_risks(problem: Problem, step: TrainingStep) -> tuple[Tensor, Tensor]:
    """Mean loss of every group in the batch, zero where the batch holds none of it, and which it holds."""
    if problem.groups is None:
        risks = torch.stack([problem.risk(batch) for batch in (step.clean, *step.cued)])
        return risks, torch.ones_like(risks, dtype=torch.bool)
    assert step.rows is not None, "fine_tune lets groups through for data that are read by row alone"
    inputs, targets = step.clean
    losses = problem.losses(problem.outputs(inputs), targets)
    rows = step.rows[problem.workers.rank :: problem.workers.count]
    members = torch.nn.functional.one_hot(problem.groups[rows], int(problem.groups.max()) + 1)
    members = members.to(losses) * problem.rows_counted(targets).to(losses)[:, None]
    counts = problem.workers.total(members.sum(0))
    return problem.workers.total(members.T @ losses) / counts.clamp(min=1.0), counts > 0


def _compute_risk_and_slope(problem: Problem, batch: Batch) -> tuple[Tensor, Tensor]:
    """R_e, and its derivative with respect to a dummy scale of the outputs at 1, differentiable."""
    outputs = problem.outputs(batch[0])
    scale = torch.ones((), dtype=outputs.dtype, device=outputs.device, requires_grad=True)
    losses, counted = problem.losses(outputs * scale, batch[1]), problem.rows_counted(batch[1])
    (slope,) = torch.autograd.grad((losses * counted).sum(), scale, create_graph=True)
    rows = problem.workers.total(counted.to(slope).sum())
    return problem.mean_of(losses, batch[1]), problem.workers.total(slope) / rows.clamp(min=1.0)
