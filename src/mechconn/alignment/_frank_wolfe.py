"""Frank-Wolfe ascent of the inner products of several moved networks, all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mechconn.alignment._balanced_networks import BalancedNetworks
from mechconn.alignment._soft_elements import Part, Soft, SoftElements

RISE = 1e-6
"""Smallest rise of the objective, as a share of it, that counts."""
PATIENCE = 5
"""Steps in a row without a rise after which the ascent ends."""
GAP = 1e-9
"""Largest gain to first order, as a share of the objective, at which the ascent has converged."""


@dataclass(frozen=True)
class Ascent:
    """Where an ascent ended.

    Attributes:
        elements: of each network, rounded to one that leaves its function as it is.
        steps: how many were taken.
        converged: whether it ended before the last step that was allowed.
    """

    elements: list[dict[str, Tensor]]
    steps: int
    converged: bool


class FrankWolfe:
    r"""Maximise f = sum_(p<q) <U^p, U^q> over soft elements, U^p the balanced network p moved by its own.

    With S = sum_p U^p, f = (|S|^2 - sum_p |U^p|^2) / 2, and the gradient of f in U^p is S - U^p: all networks together
    cost what N moves cost, not N^2. Each step solves an assignment for every group of every network at its gradient,
    and goes to X + alpha (V - X), V the elements found. Along it each tensor of U^p is a polynomial in alpha whose
    degree d is the number of matrices that multiply it, so f is one of degree 2 d, known from d + 1 points: the best
    alpha in [0, 1] is a root of its derivative, or 1.

    Args:
        networks: balanced.

    Source: Crisostomi et al. 2024, C2M3 (Frank-Wolfe over all models at once).
    """

    def __init__(self, networks: BalancedNetworks) -> None:
        self._params = networks.params
        self._soft = SoftElements(networks.symmetry, networks.params[0], frozenset(networks.basis.gains))

    def ascend(self, steps: int, report_progress: Callable[[int], None]) -> Ascent:
        """From where no unit moves, until f rises no more."""
        found = [self._soft.make_present() for _ in self._params]
        waited = done = 0
        value = float("-inf")
        while done < steps and waited < PATIENCE and self._soft.degrees:
            now, gradients = self._differentiate(found)
            waited = waited + 1 if now - value <= RISE * abs(now) else 0
            value = max(value, now)
            ends = [self._soft.choose(own)[1] for own in gradients]
            gains = zip(gradients, ends, found, strict=True)
            gap = sum(float((g[p] * (v[p] - x[p])).sum()) for g, v, x in gains for p in x)
            if gap <= GAP * abs(now):
                break
            alpha = self._search_line(found, ends)
            found = [_go(own, end, alpha) for own, end in zip(found, ends, strict=True)]
            done += 1
            report_progress(done)
        return Ascent([self._soft.choose(own)[0] for own in found], done, done < steps)

    def _differentiate(self, found: Sequence[Soft]) -> tuple[float, list[Soft]]:
        """(f but for what nothing moves, its gradient in every matrix), tensor by tensor."""
        leaves = [{part: matrix.detach().requires_grad_() for part, matrix in own.items()} for own in found]
        total = 0.0
        for name in self._soft.degrees:
            with torch.enable_grad():
                moved = [self._soft.move(name, p[name], own) for p, own in zip(self._params, leaves, strict=True)]
            whole = torch.stack([tensor.detach() for tensor in moved]).sum(0)
            total += _square(whole) - sum(_square(tensor.detach()) for tensor in moved)
            torch.autograd.backward(moved, [whole - tensor.detach() for tensor in moved])
        gradients = [
            {part: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for part, leaf in own.items()}
            for own in leaves
        ]
        return total / 2, gradients

    @torch.no_grad()
    def _search_line(self, found: Sequence[Soft], ends: Sequence[Soft]) -> float:
        """The best step towards the ends, in (0, 1]."""
        degree = max(self._soft.degrees.values())
        places = (1 - np.cos(np.pi * np.arange(degree + 1) / degree)) / 2
        on_line = [[_go(own, end, float(at)) for at in places] for own, end in zip(found, ends, strict=True)]
        products = np.zeros((degree + 1, degree + 1))
        for name in self._soft.degrees:
            whole = 0.0
            for params, line in zip(self._params, on_line, strict=True):
                moved = torch.stack([self._soft.move(name, params[name], soft) for soft in line]).flatten(1)
                products -= (moved.double() @ moved.double().mT).cpu().numpy()
                whole = whole + moved.double()
            assert isinstance(whole, Tensor)
            products += (whole @ whole.mT).cpu().numpy()
        return find_largest(products, places)


def find_largest(products: np.ndarray, places: np.ndarray) -> float:
    """The alpha in (0, 1] at which sum_jk L_j(alpha) L_k(alpha) products[j, k] is largest, L_j those of Lagrange.

    Example:
        A curve through 0, 3 / 4 and 1 that is 2 alpha - alpha^2: its square is largest at the end.

        >>> at = np.array([0.0, 0.5, 1.0])
        >>> values = 2 * at - at**2
        >>> float(find_largest(np.outer(values, values), at))
        1.0
    """
    lagrange = [
        np.poly1d(np.poly(np.delete(places, j)) / np.prod(places[j] - np.delete(places, j))) for j in range(len(places))
    ]
    curve = sum(
        (products[j, k] * lagrange[j] * lagrange[k] for j in range(len(places)) for k in range(len(places))),
        np.poly1d([0.0]),
    )
    roots = curve.deriv().roots
    inside = [float(root.real) for root in roots if abs(root.imag) < 1e-9 and 0 < root.real < 1]
    return max([1.0, *inside], key=lambda alpha: float(curve(alpha)))


def _go(start: Mapping[Part, Tensor], end: Mapping[Part, Tensor], alpha: float) -> Soft:
    return {part: torch.lerp(matrix, end[part], alpha) for part, matrix in start.items()}


def _square(tensor: Tensor) -> float:
    return float(tensor.square().sum(dtype=torch.float64))
