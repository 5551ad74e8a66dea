"""The group that a symmetry's elements form: one after the other, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from mechconn.symmetry._action import Action, Element
from mechconn.symmetry._symmetry import Symmetry


def compose_elements(symmetry: Symmetry, first: Element, second: Element) -> dict[str, Tensor]:
    """The element that does what `first` and then `second` do: apply(theta, it) = apply(apply(theta, first), second).

    With permutations p and q, place i of the result holds p[q[i]]. Signs and scales s of the first lie at s[q[i]] by
    then, and are multiplied by those of the second; matrices M of the first have their units in the order q, and those
    of the second multiply them from the left.

    Args:
        symmetry: whose elements.
        first: what it leaves out does not move; on the CPU.
        second: likewise.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> symmetry = Symmetry.from_axes(model, {"0.weight": ["h", 1], "0.bias": ["h"], "2.weight": [1, "h"]})
        >>> around = {"h": torch.tensor([1, 2, 0])}
        >>> compose_elements(symmetry, around, around)
        {'h': tensor([2, 0, 1])}
    """
    orders = {name: order for name, order in first.items() if name in symmetry.sizes}
    found = {name: order[second[name]] if name in second else order for name, order in orders.items()}
    found |= {name: order for name, order in second.items() if name in symmetry.sizes and name not in first}
    for action in symmetry.actions:
        moved = _reorder(action, first[action.name], second) if action.name in first else None
        then = second.get(action.name)
        if moved is None and then is not None:
            found[action.name] = then.double()
        elif moved is not None:
            found[action.name] = moved if then is None else _combine(action, moved, then.double())
    return found


def invert_element(symmetry: Symmetry, element: Element) -> dict[str, Tensor]:
    """The element that undoes another: apply(apply(theta, element), it) = theta.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> symmetry = Symmetry.from_axes(model, {"0.weight": ["h", 1], "0.bias": ["h"], "2.weight": [1, "h"]})
        >>> invert_element(symmetry, {"h": torch.tensor([1, 2, 0])})
        {'h': tensor([2, 0, 1])}
    """
    back = {name: torch.argsort(order) for name, order in element.items() if name in symmetry.sizes}
    found = dict(back)
    for action in symmetry.actions:
        if action.name in element:
            factors = element[action.name].double()
            inverse = torch.linalg.inv(factors) if action.mixes else 1.0 / factors
            found[action.name] = _reorder(action, inverse, back)
    return found


def _reorder(action: Action, factors: Tensor, element: Element) -> Tensor:
    """Signs, scales or matrices of units that were put into a new order."""
    found = factors.double()
    axes = [*enumerate(action.units), *([(len(action.units), action.units[-1])] if action.mixes else [])]
    for axis, unit in axes:
        if unit in element:
            found = found.index_select(axis, element[unit])
    return found


def _combine(action: Action, first: Tensor, then: Tensor) -> Tensor:
    return then @ first if action.mixes else then * first
