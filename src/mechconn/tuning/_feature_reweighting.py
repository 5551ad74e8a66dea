"""Automatic feature reweighting: the head again, on rows weighted by how little the model believes their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import Data, MethodSettings, check_choice, check_non_negative, check_positive
from mechconn.descent import Descend, Method, Problem
from mechconn.tuning._chosen_data import CHOICES, On, list_data, take_cued_data
from mechconn.tuning._features import FrozenFeatures
from mechconn.tuning._row_labels import compute_log_probabilities, read_labels

ITERATIONS = 2000
EVEN = 1.05
"""Weights of one class whose largest and smallest are nearer than this tell no rows apart."""


@dataclass(frozen=True, kw_only=True)
class AFR(MethodSettings, Method):
    r"""Automatic feature reweighting: the last layer again, without group labels, on rows that the model is unsure of.

    Over all rows i that it reads, with frozen features z, phi_0 the model's own head and p_i its probability of the
    right class, it minimises exactly

        sum_i mu_i CE(phi z_i, y_i) + pull |phi - phi_0|^2,   mu_i proportional to exp(-gamma p_i) / n_(y_i),

    with sum mu_i = 1, n_k rows of class k, |phi|^2 over weight and bias. Rows that follow the cue are those that a
    model with a shortcut is sure of, so that the others get weight. That needs rows *like those that the model learned
    from* (most with the cue, some without) *that it was not trained on*: of rows that it fits p is 1 for all, and the
    weights are even, which the notes say.

    It asks for no groups: "both" reads clean rows and rows with the cue as one heap, not knowing which is which.

    Attributes:
        on: what it reads: "cued", the data with the cue; "clean", the clean rows, which may be any labelled rows; or
            "both".
        gamma: how steeply weights fall with p; 0 balances the classes.
        pull: weight of the pull to the head as it was, above zero.

    Source: Qiu, Potapczynski, Izmailov & Wilson 2023, *Simple and fast group robustness by automatic feature
    reweighting*, who take gradient steps where this goes to the minimum.
    """

    on: On = "cued"
    gamma: float = 4.0
    pull: float = 0.1

    def __post_init__(self) -> None:
        check_choice("on", self.on, CHOICES)
        check_non_negative("gamma", self.gamma)
        check_positive("pull", self.pull)

    @property
    def reads_clean_data(self) -> bool:
        """Unless it reads the data with the cue alone."""
        return self.on != "cued"

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """Every source, where it reads them."""
        return take_cued_data(self, self.on, cued)

    def run(self, problem: Problem, descend: Descend) -> None:
        """Compute the features, weigh the rows, and descend to the minimum."""
        frozen = FrozenFeatures(type(self).__name__, problem)
        read = [
            read_labels("AFR", problem, frozen.layer, *frozen.of(name, data))
            for name, data in list_data(self.on, problem)
        ]
        z, y = (torch.cat([getattr(own, part) for own in read]) for part in ("z", "y"))
        z = z.double()
        head = [tensor.detach().double() for tensor in frozen.layer.parameters()]
        weights, spread = self.weigh_rows(_apply(head, z).gather(1, y[:, None])[:, 0].exp(), y)
        if self.gamma > 0 and spread < EVEN:
            problem.notes.append(
                f"AFR's weights of rows of one class differ by a factor of {spread:.3f} at most, since the model is as "
                "sure of all of them, so that it balances the classes and no more; give rows that the model was not "
                f"trained on, or raise gamma (now {self.gamma:g})."
            )
        found = _minimise(head, z, y, weights, self.pull)
        frozen.install(found[0], found[1] if len(found) > 1 else None)

    def weigh_rows(self, p: Float[Tensor, " n"], y: Int[Tensor, " n"]) -> tuple[Float[Tensor, " n"], float]:
        """mu of every row, and the largest ratio of two weights in one class."""
        raw = (-self.gamma * (p - p.min())).exp()
        spread = max(float(raw[y == label].max() / raw[y == label].min()) for label in y.unique())
        mu = raw / y.bincount()[y]
        return mu / mu.sum(), spread


def _apply(head: list[Tensor], z: Tensor) -> Tensor:
    """log p of every class, [N, K]."""
    return compute_log_probabilities(z @ head[0].T + (head[1] if len(head) > 1 else 0.0))


def _minimise(start: list[Tensor], z: Tensor, y: Tensor, weights: Tensor, pull: float) -> list[Tensor]:
    """The head of least weighted loss and pull: a strictly convex function, so that there is one."""
    from scipy.optimize import minimize

    shapes, sizes = [tensor.shape for tensor in start], [tensor.numel() for tensor in start]

    def split(values: np.ndarray) -> list[Tensor]:
        flat = torch.from_numpy(values).to(z.device).split(sizes)
        return [part.view(shape) for part, shape in zip(flat, shapes, strict=True)]

    def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
        head = [part.clone().requires_grad_() for part in split(values)]
        with torch.enable_grad():
            fit = -(weights * _apply(head, z).gather(1, y[:, None])[:, 0]).sum()
            moved = torch.stack([(own - old).square().sum() for own, old in zip(head, start, strict=True)]).sum()
            total = fit + pull * moved
        slopes = torch.autograd.grad(total, head)
        return float(total.detach()), torch.cat([slope.flatten() for slope in slopes]).cpu().numpy()

    first = torch.cat([tensor.flatten() for tensor in start]).cpu().numpy()
    options = {"maxiter": ITERATIONS, "ftol": 0.0, "gtol": 1e-9, "maxcor": 20}
    return split(minimize(evaluate, first, jac=True, method="L-BFGS-B", options=options).x)
