"""Logistic regression on frozen features."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import isolate_rng

TOLERANCE = 1e-6
"""Largest entry of the gradient of the mean loss where the fit ends."""
STEPS = 10_000
NO_SPREAD = 1e-10
"""A feature whose standard deviation is below this share of its largest value is constant."""


def fit_and_predict(
    features: Float[Tensor, "n d"], classes: Int[Tensor, " n"], others: Float[Tensor, "m d"], l2: float
) -> tuple[Int[Tensor, " n"], Int[Tensor, " m"]]:
    """Predictions of a linear classifier on the rows that it was fitted on, and on others.

    It minimises in float64, over features x that are standardised by the rows fitted,

        (1 / n) sum_i -log softmax(W x_i + b)[y_i] + l2 / 2 |W|^2;

    of two classes, the logistic function of w x + b with one w.
    """
    with isolate_rng(0, "probe"):  # importing scikit-learn draws from Python's global generator
        from sklearn.linear_model import LogisticRegression  # a second to import: only those who probe pay for it

        x, z = standardise(features.double(), others.double())
        fit = LogisticRegression(C=1.0 / (l2 * len(x)), tol=TOLERANCE, max_iter=STEPS)
        fit.fit(x.numpy(), classes.numpy())
        return torch.from_numpy(fit.predict(x.numpy())), torch.from_numpy(fit.predict(z.numpy()))


def standardise(
    fitted: Float[Tensor, "n d"], others: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Both with the means and deviations of the rows fitted; features that are constant there become zero."""
    mean, spread = fitted.mean(0), fitted.std(0, correction=0)
    varies = spread > NO_SPREAD * fitted.abs().amax(0)
    scale = torch.where(varies, 1.0 / torch.where(varies, spread, 1.0), 0.0)
    return (fitted - mean) * scale, (others - mean) * scale
