"""Scales read off activations, kept near those that balance both networks."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from mechconn.alignment._matching import Matching, NetworkPair
from mechconn.symmetry import Action, find_balanced_scales

WIDEST = 2.0
"""By how many times at most the scale of a unit differs from the one at which balanced weights meet."""


def bound_scales(pair: NetworkPair, matched: Matching) -> Matching:
    """The matching with each scale s_u of activations within [1/2, 2] of beta[p(u)] / alpha[u].

    alpha and beta are the scales that balance A and B; see `find_balanced_scales`. Copies that differ by scales alone
    have that ratio exactly. Without the bound a unit that hardly moves on the data would get any scale: its weights
    would become huge on one side and vanish on the other, and the line to A would lead through neither network.
    """
    wide = [
        action
        for action in pair.symmetry.actions
        if action.kind == "scale" and _is_wide(matched.factors.get(action.name))
    ]
    if not wide:
        return matched
    continuous = [action for action in pair.symmetry.actions if action.kind != "sign"]
    of_a, of_b = (find_balanced_scales(p, continuous, pair.symmetry.sizes) for p in (pair.params_a, pair.params_b))
    bounded = {
        action.name: _bound(matched, action, of_a[action.name], of_b[action.name]).view(
            action.shape(pair.symmetry.sizes)
        )
        for action in wide
    }
    return replace(matched, factors={**matched.factors, **bounded})


def _is_wide(scales: Tensor | None) -> bool:
    return scales is not None and bool((scales.log().abs() > math.log(WIDEST)).any())


def _bound(matched: Matching, action: Action, of_a: Tensor, of_b: Tensor) -> Tensor:
    moved = of_b
    for dim, unit in enumerate(action.units):
        if unit in matched.permutations:
            moved = moved.index_select(dim, matched.permutations[unit].to(moved.device))
    found = matched.factors[action.name].double().cpu()
    wanted = (moved / of_a).cpu()
    ratio = (found / wanted).clamp(1 / WIDEST, WIDEST)
    return torch.where(found == 1.0, found, ratio * wanted)  # a unit that is constant on the data keeps its scale
