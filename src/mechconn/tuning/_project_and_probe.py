"""Project and probe: orthonormal directions from many rows with the cue, and a head on them from few clean rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from mechconn.core import Data, MethodSettings, check_count, check_positive, isolate_rng
from mechconn.descent import Descend, Method, Problem, require_cued_data
from mechconn.tuning._features import FrozenFeatures
from mechconn.tuning._last_layer import ITERATIONS, make_two_outputs
from mechconn.tuning._row_labels import read_labels

NOTHING = 1e-3
"""Root mean square of a direction's logits below which it predicts nothing."""
ALIKE = 1e-12
"""Root mean square of the features' deviations, as a share of that of the features, at which they are rounding."""
EXHAUSTED = 1e-12
"""Share of the features' variance below which nothing of them is left."""


@dataclass(frozen=True, kw_only=True)
class Pro2(MethodSettings, Method):
    r"""Project and probe: a few directions that predict the label in data with the cue, and a new head on these alone.

    With frozen features z of the rows with the cue, computed once in evaluation mode, direction i = 1 ... dims is

        pi_i = argmin mean CE(a pi . z + b, y),   |pi| = 1,   pi orthogonal to pi_1 ... pi_(i - 1),   a, b free,

    logistic regression in the orthogonal complement of those before, at a small L2 penalty. Of K > 2 classes direction
    i asks for class (i - 1) mod K against the rest, by turns. A class that what is left of the features does not
    predict is passed over; where none is predicted any more, the directions of largest variance left are taken, and the
    notes say from which on. Then, on the clean rows,
    logistic regression on the `dims` numbers Pi z, each standardised, gives V, and the head becomes W = V Pi. Of two
    outputs, or one logit, as in `DFR`.

    Few directions leave little for few rows to overfit, at the price of what they lack; all of them are a head on all
    features. The result's settings hold Pi as "directions", `dims` rows of as many numbers as there are features.

    It reads the labels of both kinds of data and which rows are clean. It takes no steps, so that it has no history.
    The source descends all directions by gradient steps, projecting after each, and describes one label loss a
    direction; the minimum, and turns among several classes, are ours.

    Attributes:
        dims: how many directions, at most as many as the features span.
        strength: inverse of the penalty's weight in the head's regression (scikit-learn's C).
        source_strength: the same in the directions' regressions, over features divided by one number, the root mean
            square of their deviations.

    Source: Chen, Lee, Setlur, Levine & Finn 2024, *Project and probe: sample-efficient adaptation by interpolating
    orthogonal features*.
    """

    dims: int = 16
    strength: float = 1.0
    source_strength: float = 1.0

    def __post_init__(self) -> None:
        check_count("dims", self.dims)
        check_positive("strength", self.strength)
        check_positive("source_strength", self.source_strength)

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """Every source."""
        return require_cued_data(self, cued)

    def run(self, problem: Problem, descend: Descend) -> None:
        """Compute the features, find the directions, fit a layer on them, and put it in the head's place."""
        frozen = FrozenFeatures(type(self).__name__, problem)
        sources = [read_labels("Pro2", problem, frozen.layer, *frozen.of("cued data", data)) for data in problem.cued]
        z, y = (torch.cat([getattr(own, part) for own in sources]).cpu() for part in ("z", "y"))
        target = read_labels("Pro2", problem, frozen.layer, *frozen.of("clean data", problem.clean))
        target.check_classes("Pro2")
        directions, predictive = self.find_directions(z.double().numpy(), y.numpy(), problem.seed)
        if predictive < self.dims:
            problem.notes.append(self._describe_rest(predictive))
        biased = frozen.layer.bias is not None
        projected = target.z.double().cpu().numpy() @ directions.T
        weight, bias = self._fit_head(projected, target.y.cpu().numpy(), biased, problem.seed)
        if frozen.layer.out_features == 1:  # one logit: that of class 1 against class 0
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        frozen.install(torch.from_numpy(weight @ directions), torch.from_numpy(bias))
        problem.decided["directions"] = directions.tolist()

    def find_directions(
        self, z: Float[np.ndarray, "n d"], y: Int[np.ndarray, " n"], seed: int
    ) -> tuple[Float[np.ndarray, "k d"], int]:
        """(Pi, how many of its rows were chosen by the labels).

        Raises:
            ValueError: one class, features that are all alike, or more directions than they span.
        """
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(f"Pro2 needs cued data of two classes or more, got class {int(classes[0])} alone")
        asked = classes[1:] if len(classes) == 2 else classes
        left = z - z.mean(0)
        spread = np.sqrt((left**2).mean())
        if spread <= ALIKE * np.sqrt((z**2).mean()):
            raise ValueError(
                "Pro2 finds directions of the features, and those of the cued data are all alike; give rows that the "
                "network tells apart, or use another method"
            )
        left = left / spread
        found, turn, passed = np.zeros((0, z.shape[1])), 0, 0
        while len(found) < self.dims and passed < len(asked):
            wanted = y == asked[turn % len(asked)]
            slope = _fit_logistic(left, wanted, self.source_strength, True, seed)[0][0]
            turn, passed = turn + 1, passed + 1
            if np.sqrt(((left @ slope) ** 2).mean()) >= NOTHING:
                (found, left), passed = _add_direction(found, left, slope), 0
        predictive = len(found)
        while len(found) < self.dims:
            if (left**2).mean() < EXHAUSTED:
                raise ValueError(
                    f"Pro2 asks for dims={self.dims} directions, and the features of the cued data span {len(found)}; "
                    f"set dims= to {len(found)} or fewer"
                )
            found, left = _add_direction(found, left, np.linalg.svd(left, full_matrices=False)[2][0])
        return found, predictive

    def _describe_rest(self, predictive: int) -> str:
        """What stands for the directions that no label chose."""
        if not predictive:
            return (
                "Pro2 found no direction that predicts the label of the cued data; those of largest variance stand for "
                "them, which no label chose; check the labels of cued=, or use DFR, which reads the clean data alone."
            )
        return (
            f"Pro2 found {predictive} directions that predict the label of the cued data; the other "
            f"{self.dims - predictive} of dims={self.dims} are those of largest variance among what is left, which "
            f"no label chose; set dims= to {predictive} to leave them out."
        )

    def _fit_head(
        self, x: Float[np.ndarray, "n k"], y: np.ndarray, biased: bool, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(V, bias) over the projected features as they are."""
        centre, scale = x.mean(0) if biased else np.zeros(x.shape[1]), x.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        weight, bias = make_two_outputs(*_fit_logistic((x - centre) / scale, y, self.strength, biased, seed))
        return weight / scale, bias - (weight / scale) @ centre


def _add_direction(found: np.ndarray, left: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the directions and one more, what is left of the features)."""
    for _ in range(2):  # twice, so that rounding leaves them orthogonal
        slope = slope - (found @ slope) @ found
        slope = slope / np.linalg.norm(slope)
    return np.concatenate([found, slope[None]]), left - (left @ slope)[:, None] * slope


def _fit_logistic(
    x: np.ndarray, y: np.ndarray, strength: float, biased: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(weight, bias) of scikit-learn's logistic regression; of two classes one row."""
    with isolate_rng(seed, "scikit-learn"):  # the first import draws from Python's generator
        from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=strength, max_iter=ITERATIONS, tol=1e-6, fit_intercept=biased)
    regression.fit(x, y)
    weight = np.asarray(regression.coef_)
    return weight, np.broadcast_to(regression.intercept_, len(weight))
