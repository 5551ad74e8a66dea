"""Methods that train the head alone, on features that are computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechconn.core import (
    MethodSettings,
    TensorPair,
    check_choice,
    check_count,
    check_positive,
    isolate_rng,
    make_generator,
)
from mechconn.descent import (
    CosineSchedule,
    Descend,
    Method,
    Objective,
    Problem,
    TrainingStep,
    draw_fresh_state,
    find_taken_epoch,
    settle_optimiser,
)
from mechconn.network import copy_module, extract_outputs
from mechconn.tuning._features import FrozenFeatures
from mechconn.tuning._row_labels import read_labels


@dataclass(frozen=True, kw_only=True)
class LastLayerRetraining(CosineSchedule, Method):
    r"""LLRT: a new linear head on frozen features, which are computed once, in evaluation mode.

    By default SGD with momentum 0.9, without weight decay, cosine learning rate to 0, 200 epochs. With lr=None the
    initial rate of SGD is

        min(30, c / lambda),   c = 1 / h,   lambda the largest eigenvalue of E[z z^T],

    the mean over the clean rows, z the features and a 1 for the head's bias, h the curvature of the loss in the
    outputs. For cross-entropy h = 1/2, as its Hessian is diag(p) - p p^T, so that c = 2. The head's Hessian is then at
    most L = h lambda. At a rate of 1 / L a step of gradient descent cannot raise the loss, and SGD with momentum is
    stable up to 2 (1 + momentum) / L, 3.8 times as much, which leaves room for batches whose second moment is larger
    than that of all rows. 30 is the source's rate; where features are large it leaves logits so large that `LPFT`
    destroys the features. For other losses h is the largest change of d loss / d outputs over a step of random signs
    from the fresh head's outputs, 1/2 at least (2 for squared error).

    The rule bounds a step along the gradient, so that it says nothing of other optimisers: with these lr=None is their
    own rate, 0.001 for Adam and AdamW.

    Attributes:
        lr: initial learning rate; None takes it from the rule above, and the result's settings hold what it gave.

    Source: Lubana et al. 2023, section 6 (rate 30); Kirichenko et al. 2022.
    """

    epochs: int = 200
    lr: float | None = None  # pyright: ignore[reportIncompatibleVariableOverride]  (a number where steps are taken)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        settle_optimiser(self)
        if self.lr is None:
            replace(self, lr=LARGEST_RATE)  # checks the other settings
        else:
            super().__post_init__()

    def run(self, problem: Problem, descend: Descend) -> None:
        """Compute the features, train a fresh layer on them, and put it in the head's place."""
        frozen = FrozenFeatures(type(self).__name__, problem)
        z, y = frozen.of("clean data", problem.clean)
        layer = self.make_head(problem, frozen)
        schedule, validate = self._schedule(problem, layer, z, y), self._validation(problem, frozen, layer)
        start = compute_mean_loss(problem, layer, z, y) if validate is None else validate()
        objective = self.make_objective(problem, layer, z, y)
        records = descend(schedule, [objective], layer, TensorPair(z, y), (), validate, apply_transform=False)
        self.install_head(frozen, layer)
        epoch = find_taken_epoch(records)
        end = self.find_end_loss(problem, layer, z, y, records[epoch])
        # An epoch's mean is of weights that move: a thousandth more is no harm.
        if end > start * (1 + 1e-3):
            advice = f"set lr below {schedule.lr:.3g}" + ("" if self.lr is None else ", or leave it out")
            problem.notes.append(
                f"The new head's loss{'' if validate is None else ' on the validation data'} is {end:.4g} in epoch "
                f"{epoch} and was {start:.4g} before the first step, so that training it made it worse; {advice}."
            )

    def make_head(self, problem: Problem, frozen: FrozenFeatures) -> nn.Module:
        """What is trained on the features: a fresh layer of the head's shape."""
        layer = copy_module(frozen.layer)
        assert isinstance(layer, nn.Linear)
        layer.load_state_dict(draw_fresh_state(layer, problem.seed, "head", "use another method")[0])
        return layer

    def make_objective(self, problem: Problem, layer: nn.Module, z: Tensor, y: Tensor) -> Objective:
        """["head"], the mean loss of a batch of features; z and y are those of all rows."""

        def head(step: TrainingStep) -> dict[str, Tensor]:
            features, targets = step.clean
            assert isinstance(features, Tensor)
            return {"head": problem.mean_loss(extract_outputs(layer(features)), targets)}

        return head

    def install_head(self, frozen: FrozenFeatures, layer: nn.Module) -> None:
        """Put what was trained in the head's place."""
        assert isinstance(layer, nn.Linear)
        frozen.install(layer.weight, layer.bias)

    def find_end_loss(
        self, problem: Problem, layer: nn.Module, z: Tensor, y: Tensor, record: Mapping[str, int | float]
    ) -> float:
        """The loss that training ended with, to be compared with that of the fresh head; on validation data if any."""
        return record["head" if problem.validation is None else "validation"]

    def bound_curvature(self, problem: Problem, z: Float[Tensor, "n d"], biased: bool, curvature: float) -> float:
        """The largest eigenvalue that the head's Hessian may have, h lambda."""
        return curvature * find_largest_moment(z, biased)

    def _schedule(self, problem: Problem, layer: nn.Module, z: Tensor, y: Tensor) -> LastLayerRetraining:
        """These settings with a rate."""
        if self.lr is not None:
            return self
        curvature = estimate_curvature(lambda outputs: problem.losses(outputs, y), layer(z).detach(), problem.seed)
        biased = any(name.endswith("bias") for name, _ in layer.named_parameters())
        bound = self.bound_curvature(problem, z[problem.rows_counted(y).bool()], biased, curvature)
        rate = problem.decided["lr"] = min(LARGEST_RATE, 1.0 / bound if bound > 0 else math.inf)
        return replace(self, lr=rate)

    def _validation(self, problem: Problem, frozen: FrozenFeatures, layer: nn.Module) -> Callable[[], float] | None:
        if problem.validation is None:
            return None
        z, y = frozen.of("validation", problem.validation)
        return lambda: compute_mean_loss(problem, layer, z, y)


@torch.no_grad()
def compute_mean_loss(problem: Problem, layer: nn.Module, z: Tensor, y: Tensor) -> float:
    """Mean loss of a head on features, over the rows that count."""
    values, counted = problem.losses(extract_outputs(layer(z)), y).double(), problem.rows_counted(y).double()
    return float((values * counted).sum() / counted.sum().clamp(min=1.0))


@dataclass(frozen=True, kw_only=True)
class DFR(MethodSettings, Method):
    """Deep feature reweighting: logistic regression on frozen features of a clean set, balanced over groups.

    Features are computed once, in evaluation mode, and standardised. Each draw takes from every group as many rows as
    the smallest group has, without replacement, and fits

        min_w  ||w||_p^p / (p strength) + sum_i CE(w z_i, y_i),   p = 1 or 2,

    the bias free of the penalty; the head becomes the mean over draws. Of two classes w is the difference between the
    two outputs, one vector, and each output gets a half of it; a head of one logit gets the whole. Groups are those
    that `fine_tune` is given, else the classes.

    Attributes:
        strength: inverse of the penalty's weight (scikit-learn's C).
        penalty: "l2", or the source's "l1", for which scikit-learn takes longer.
        draws: balanced subsets.

    Source: Kirichenko et al. 2022.
    """

    takes_groups = True

    strength: float = 1.0
    penalty: Literal["l1", "l2"] = "l2"
    draws: int = 10

    def __post_init__(self) -> None:
        check_positive("strength", self.strength)
        check_choice("penalty", self.penalty, ("l1", "l2"))
        check_count("draws", self.draws)

    def run(self, problem: Problem, descend: Descend) -> None:
        """Compute the features, fit, and put the mean layer in the head's place."""
        frozen = FrozenFeatures(type(self).__name__, problem)
        z, y = frozen.of("clean data", problem.clean)
        labelled = read_labels("DFR", problem, frozen.layer, z, y)
        labelled.check_classes("DFR")
        z, y, counted = labelled.z, labelled.y, labelled.counted
        groups = y if problem.groups is None else problem.groups.to(counted.device)[counted]
        if len(groups.unique()) == 1:
            problem.notes.append(
                "DFR had one group, so that its draws balance nothing; give groups= of two labels or more, or leave it "
                "out to balance the classes."
            )
        biased = frozen.layer.bias is not None
        weight, bias = self.fit(z.double().cpu().numpy(), y.cpu().numpy(), groups.cpu(), problem.seed, biased)
        if frozen.layer.out_features == 1:  # one logit: that of class 1 against class 0
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        frozen.install(torch.from_numpy(weight), torch.from_numpy(bias))

    def fit(
        self, z: Float[np.ndarray, "n d"], y: np.ndarray, groups: Tensor, seed: int, biased: bool
    ) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " k"]]:
        """(weight, bias) of a layer over the features as they are, the mean over draws; bias zero if not `biased`."""
        with isolate_rng(seed, "scikit-learn"):  # the first import draws from Python's generator
            from sklearn.linear_model import LogisticRegression

        centre, scale = z.mean(0) if biased else np.zeros(z.shape[1]), z.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        solver, ratio = ("saga", 1.0) if self.penalty == "l1" else ("lbfgs", 0.0)
        layers = []
        for draw in range(self.draws):
            rows = draw_balanced(groups, make_generator(seed, "DFR", draw)).numpy()
            if missing := sorted(set(y.tolist()) - set(y[rows].tolist())):
                least = int(groups.unique(return_counts=True)[1].min())
                raise ValueError(
                    f"DFR balances groups of {least} rows at least, and a balanced draw lacks class "
                    f"{', '.join(map(str, missing))}; give larger groups, or groups that hold every class"
                )
            regression = LogisticRegression(
                C=self.strength,
                l1_ratio=ratio,
                solver=solver,
                max_iter=ITERATIONS,
                tol=1e-4,
                random_state=draw,
                fit_intercept=biased,
            )
            regression.fit((z[rows] - centre) / scale, y[rows])
            layers.append(
                make_two_outputs(
                    np.asarray(regression.coef_), np.broadcast_to(regression.intercept_, len(regression.coef_))
                )
            )
        weight, bias = (np.mean(parts, axis=0) for parts in zip(*layers, strict=True))
        return weight / scale, bias - (weight / scale) @ centre


ITERATIONS = 1000
LARGEST_RATE = 30.0
"""The source's learning rate of a new head."""


def estimate_curvature(losses: Callable[[Tensor], Tensor], outputs: Float[Tensor, "n ..."], seed: int) -> float:
    """max |g(o + s) - g(o)|, g the gradient of each row's loss in its outputs o, s random signs; 1/2 at least.

    At most the mean over the step of the largest row sum of |Hessian|: 1/2 for cross-entropy, and just the second
    derivative of a loss that treats the outputs one by one.
    """

    def gradient(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        return torch.autograd.grad(losses(at).sum(), at)[0]

    signs = torch.randint(0, 2, outputs.shape, generator=make_generator(seed, "curvature")).to(outputs) * 2.0 - 1.0
    with torch.enable_grad():
        return max(0.5, float((gradient(outputs + signs) - gradient(outputs)).abs().max()))


def find_largest_moment(z: Float[Tensor, "n d"], biased: bool) -> float:
    """lambda, the largest eigenvalue of the mean of z z^T over the rows; with `biased` each row ends in a 1."""
    rows = z.detach().cpu().double()
    if biased:
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
    gram = rows.T @ rows if rows.shape[0] > rows.shape[1] else rows @ rows.T  # they share all eigenvalues but zeros
    return max(0.0, float(torch.linalg.eigvalsh(gram / len(rows))[-1]))


def draw_balanced(groups: Tensor, draw: torch.Generator) -> Tensor:
    """Rows of a random subset that holds as many of every group as the smallest group has."""
    members = [(groups == group).nonzero().flatten() for group in groups.unique()]
    least = min(map(len, members))
    return torch.cat([rows[torch.randperm(len(rows), generator=draw)[:least]] for rows in members])


def make_two_outputs(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A layer with an output for each class; of two classes scikit-learn gives the difference alone."""
    if len(weight) > 1:
        return weight, bias
    return np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
