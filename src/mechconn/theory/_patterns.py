"""Activation patterns on data, and which unit of one network is which of another."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechconn.alignment import solve_assignment
from mechconn.core import check_choice
from mechconn.theory._relu_network import ReluNet, check_pair

By = Literal["patterns", "activations", "weights"]
WAYS: tuple[By, ...] = ("patterns", "activations", "weights")


def activation_patterns(net: ReluNet, x: Float[Tensor, "n inputs"]) -> Bool[Tensor, "n units"]:
    """Which units are on in which rows: w_j' x > 0.

    Example:
        >>> net = ReluNet(torch.tensor([[1.0, -1.0]]), torch.ones(2))
        >>> activation_patterns(net, torch.tensor([[3.0], [-2.0]])).tolist()
        [[True, False], [False, True]]
    """
    return net.preactivations(x) > 0


def compute_agreements(a: ReluNet, b: ReluNet, x: Float[Tensor, "n inputs"]) -> Float[Tensor, "units units"]:
    """[u, v]: the share of rows in which A's unit u and B's unit v are both on or both off."""
    of_a, of_b = (activation_patterns(net, x).double() for net in (a, b))
    return (of_a.T @ of_b + (1 - of_a).T @ (1 - of_b)) / len(x)


def match_units(a: ReluNet, b: ReluNet, x: Float[Tensor, "n inputs"], by: By = "patterns") -> Int[Tensor, " units"]:
    """The permutation p that puts B's unit p(u) at A's place u, the best of all by an additive score.

    By "patterns" it maximises the entries (row, unit) in which both patterns agree; by "activations" the inner product
    of the units' outputs on the data, that is, the least squared distance between them; by "weights" that of the
    weights. Each score is a sum over pairs of units, so the assignment problem gives the exact optimum; units change
    places only within their output sign.

    Args:
        a: the network that stays.
        b: the network whose units are permuted.
        x: the data.
        by: what is compared.
    """
    check_pair(a, b)
    check_choice("by", by, WAYS)
    if by == "patterns":
        scores = compute_agreements(a, b, x)
    elif by == "activations":
        scores = a.preactivations(x).clamp_min(0).T @ b.preactivations(x).clamp_min(0)
    else:
        scores = a.weights.T @ b.weights
    return assign_within_signs(a.signs, scores)


def assign_within_signs(signs: Float[Tensor, " units"], scores: Float[Tensor, "units units"]) -> Int[Tensor, " units"]:
    """The permutation of largest total score among those that keep every unit's sign."""
    found = torch.arange(len(signs))
    for sign in (1.0, -1.0):
        places = (signs == sign).nonzero().flatten().cpu()
        if len(places):
            found[places] = places[solve_assignment(scores.cpu()[places][:, places])]
    return found.to(signs.device)


def pattern_agreement(
    a: ReluNet, b: ReluNet, x: Float[Tensor, "n inputs"], permutation: Int[Tensor, " units"] | None = None
) -> float:
    """The share of entries (row, unit) in which A's and the permuted B's patterns agree, in [0, 1].

    Without a permutation: the largest share over all of them, exactly.
    """
    check_pair(a, b)
    found = match_units(a, b, x) if permutation is None else permutation
    return float(compute_agreements(a, b, x).gather(1, found[:, None]).mean())
