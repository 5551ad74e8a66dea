"""One hidden layer of ReLU units with fixed output weights: the networks that the theorems speak of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechconn.core import Params, check_count, check_positive, check_same_shapes, make_generator
from mechconn.theory._slabs import Slabs


@dataclass(frozen=True, eq=False)
class ReluNet:
    r"""f(x; W) = (1/N) sum_j s_j relu(w_j' x), N units with trained weights w_j and fixed signs s_j.

    With s_j = 1 for all j this is the network of the theorems: non-negative, convex and positively homogeneous in x
    (with a constant among the inputs: convex in the others). With s_j = +-1 it fits any labels; that variant is ours
    (≠ the source), and says where it is used what of the theory survives.

    Attributes:
        weights: W, float64 of shape [inputs, N]; column j is w_j.
        signs: s, +1 or -1, float64 of shape [N].

    Example:
        >>> net = ReluNet(torch.tensor([[1.0, -1.0]]), torch.ones(2))
        >>> net(torch.tensor([[3.0], [-2.0]])).tolist()
        [1.5, 1.0]

    Source: Lubana et al. 2023, appendix F.
    """

    weights: Float[Tensor, "inputs units"]
    signs: Float[Tensor, " units"]

    def __post_init__(self) -> None:
        if self.weights.shape[1:] != self.signs.shape or not bool((self.signs.abs() == 1).all()):
            shapes = f"{list(self.weights.shape)} and {list(self.signs.shape)}"
            raise ValueError(
                f"weights must have the shape [inputs, units] and signs be +1 or -1 for each unit, got {shapes}; "
                "fresh_network(...) makes both"
            )

    def __call__(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, " n"]:
        """Outputs of the rows of x."""
        return self.preactivations(x).clamp_min(0) @ self.signs / self.units

    @property
    def units(self) -> int:
        """N."""
        return len(self.signs)

    @property
    def positive(self) -> bool:
        """Whether all output weights are positive, as the theorems need it."""
        return bool((self.signs > 0).all())

    @property
    def params(self) -> Params:
        """The weights by name, to save."""
        return {"weights": self.weights.clone(), "signs": self.signs.clone()}

    def preactivations(self, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "n units"]:
        """x W."""
        return x @ self.weights

    def loss(self, x: Float[Tensor, "n inputs"], y: Float[Tensor, " n"]) -> float:
        """Mean squared error."""
        return float((self(x) - y).square().mean())

    def permuted(self, permutation: Int[Tensor, " units"]) -> ReluNet:
        """The same function with unit permutation[j] at place j; units may only change places within their sign."""
        if not torch.equal(self.signs[permutation], self.signs):
            raise ValueError(
                f"the permutation {permutation.tolist()} moves units to places of the other output sign; "
                "match_units keeps them"
            )
        return replace(self, weights=self.weights[:, permutation])

    def towards(self, other: ReluNet, t: float) -> ReluNet:
        """(1 - t) W + t W_other: a point of the straight line, this network at t = 0."""
        return replace(self, weights=(1 - t) * self.weights + t * other.weights)


def check_pair(a: ReluNet, b: ReluNet) -> None:
    """Raise unless both have the same inputs, units and signs."""
    check_same_shapes("the two networks", a.params, b.params)
    if not torch.equal(a.signs, b.signs):
        raise ValueError(
            f"the networks have different output signs ({int((a.signs > 0).sum())} and {int((b.signs > 0).sum())} "
            "positive units); give both the same"
        )


def fresh_network(inputs: int, units: int, *, signed: bool = False, scale: float = 0.1, seed: int = 0) -> ReluNet:
    """A network with Gaussian weights.

    Args:
        inputs: length of x.
        units: N; even where signed.
        signed: the second half of the units has output weight -1/N (≠).
        scale: standard deviation of the weights; the smaller, the less of them is left after training.
        seed: of the weights.
    """
    check_count("inputs", inputs)
    check_count("units", units)
    check_positive("scale", scale)
    weights = scale * torch.randn((inputs, units), generator=make_generator(seed, "weights"), dtype=torch.float64)
    return ReluNet(weights, _make_signs(units, signed))


def spline_network(slabs: Slabs, attribute: int, units: int, *, signed: bool = False) -> ReluNet:
    """A network that reads one attribute and nothing else, and interpolates its labels exactly, in closed form.

    Signed, the output rises or falls on the middle half of the way between two slabs; with positive weights, which can
    only do K = 0 (a ramp) and K = 1 (a valley), on the outer half of the last way. No row has a pre-activation of zero,
    and units that are not needed are off on all data.

    Args:
        slabs: the data.
        attribute: the one that is read.
        units: N; at least K + 1 where all are positive, twice K + 2 where signed (even).
        signed: as in `fresh_network`.

    Example:
        >>> data = Slabs((1, 0), (1.0, 1.0)).sample(50)
        >>> spline_network(data.generator, 0, units=2).loss(data.x, data.y)
        0.0
    """
    signs, complexity = _make_signs(units, signed), slabs.complexities[slabs.checked(attribute)]
    ways = _make_steps(slabs, attribute) if signed else (_make_valley(slabs, attribute), [])
    halves = [(signs == sign).nonzero().flatten().tolist() for sign in (1.0, -1.0)]
    if (not signed and complexity > 1) or any(len(h) < len(w) for h, w in zip(halves, ways, strict=True)):
        raise ValueError(
            f"no spline of complexity {complexity} with units={units}, signed={signed}: positive weights reach K = "
            "0 and K = 1 with K + 1 units, signed ones any K with 2 (K + 2)"
        )
    weights = torch.zeros((slabs.features, units), dtype=torch.float64)
    weights[-1] = -1.0
    for half, ramps in zip(halves, ways, strict=True):
        for unit, (slope, offset) in zip(half, ramps, strict=False):
            weights[attribute, unit], weights[-1, unit] = units * slope, units * offset
    return ReluNet(weights, signs)


Ramp = tuple[float, float]
"""(slope, offset) of relu(slope z + offset)."""


def _make_valley(slabs: Slabs, attribute: int) -> list[Ramp]:
    """A ramp up to the last slab and, for K = 1, its mirror image."""
    last, slope = float(slabs.places(attribute)[-1]), 2.0 / slabs.spacing[attribute]
    offset = 1.0 - slope * last
    return [(slope, offset), (-slope, offset)][: slabs.complexities[attribute] + 1]


def _make_steps(slabs: Slabs, attribute: int) -> tuple[list[Ramp], list[Ramp]]:
    """Units that are added and units that are taken away: each change of the label is one of either."""
    width = slabs.spacing[attribute] / 2
    places, labels = slabs.places(attribute).tolist(), slabs.labels(attribute).tolist()
    added: list[Ramp] = [(0.0, 1.0)] if labels[0] == 1.0 else []
    taken: list[Ramp] = []
    for place, before, after in zip(places, labels, labels[1:], strict=False):
        start = place + width / 2
        first, second = (1 / width, -start / width), (1 / width, -(start + width) / width)
        added.append(first if after > before else second)
        taken.append(second if after > before else first)
    return added, taken


def _make_signs(units: int, signed: bool) -> Tensor:
    check_count("units", units)
    if signed and units % 2:
        raise ValueError(f"a signed network has as many positive as negative units, got units={units}; make it even")
    signs = torch.ones(units, dtype=torch.float64)
    if signed:
        signs[units // 2 :] = -1.0
    return signs
