r"""Linear CKA, biased and unbiased, from sums over rows alone.

Let x_i in R^p and y_i in R^q be the n rows of both, K = X X' and L = Y Y' their Gram matrices, and H = I - 11'/n.

**Biased.** tr(K H L H) = ||X' H Y||_F^2, so CKA_b = ||X' H Y||^2 / (||X' H X|| ||Y' H Y||) needs X' Y, X' X, Y' Y and
the sums of x and y.

**Unbiased** (Song et al. 2012). Let K~ and L~ be K and L with zeros on the diagonal, and k_i = |x_i|^2, l_i = |y_i|^2.

    HSIC_1(K, L) = [ tr(K~ L~) + (1' K~ 1)(1' L~ 1) / ((n - 1)(n - 2)) - 2 / (n - 2) 1' K~ L~ 1 ] / (n (n - 3)).

Its mean over samples is the population's HSIC, which is 0 of independent rows. With s = X' 1, t = Y' 1 and C = X' Y,

    tr(K~ L~)   = tr(K L) - sum_i k_i l_i  =  ||C||_F^2 - sum_i k_i l_i
    1' K~ 1     = |s|^2 - sum_i k_i
    1' K~ L~ 1  = (K 1 - k)' (L 1 - l)  =  s' C t  -  s' (sum_i l_i x_i)  -  (sum_i k_i y_i)' t  +  sum_i k_i l_i,

since K 1 = X s has the entries x_i' s. So C, s, t, sum k, sum l, sum k l, sum l x and sum k y are enough: memory grows
with the widths and not with n. CKA_u = HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L)). HSIC_1 is the inner product of
U-centred matrices (Szekely & Rizzo 2014) over n (n - 3), so CKA_u is in [-1, 1]; U-centring removes a_i + a_j from all
entries (i, j), so a common shift of all rows changes nothing, and sums are taken around the first batch's means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LEAST_ROWS = 4
"""HSIC_1 divides by n - 3."""
ROUNDING = 1e-10
"""Of the biased HSIC: what rounding leaves of an unbiased one that is zero, such as that of rows at equal distances."""

UNDERFLOW = 1e-150
"""The square of a smaller second moment is 0 in float64."""


class Alike(NamedTuple):
    """Both estimates of CKA; None where a side does not vary, or rows are too few."""

    biased: float | None
    unbiased: float | None


@dataclass(eq=False)
class CrossSums:
    """Sums over rows of two activations around given shifts, in float64.

    Attributes:
        shifts: what is subtracted of x and of y.
        rows: how many there are so far.
    """

    shifts: tuple[Tensor, Tensor]
    rows: int = 0

    def __post_init__(self) -> None:
        x, y = self.shifts
        self._s, self._t, self._ky, self._lx = (torch.zeros_like(part) for part in (x, y, y, x))
        self._c = x.new_zeros(len(x), len(y))
        self._scalars = x.new_zeros(3)

    def add(self, x: Tensor, y: Tensor) -> None:
        """One batch, [n, p] and [n, q]."""
        x, y = x.double() - self.shifts[0], y.double() - self.shifts[1]
        k, m = x.square().sum(1), y.square().sum(1)
        self.rows += len(x)
        self._s += x.sum(0)
        self._t += y.sum(0)
        self._c += x.T @ y
        self._lx += m @ x
        self._ky += k @ y
        self._scalars += torch.stack([k.sum(), m.sum(), k @ m])

    @property
    def cross(self) -> Tensor:
        """X' H Y."""
        return self._c - torch.outer(self._s, self._t) / self.rows

    def unbiased(self) -> float:
        """HSIC_1 (n >= 4)."""
        n, s, t = self.rows, self._s, self._t
        k, m, km = self._scalars
        trace = self._c.square().sum() - km
        totals = (s @ s - k) * (t @ t - m) / ((n - 1) * (n - 2))
        between = s @ self._c @ t - s @ self._lx - self._ky @ t + km
        return float((trace + totals - 2 * between / (n - 2)) / (n * (n - 3)))


class WithinSums(CrossSums):
    """The same of one activation with itself."""

    def __init__(self, shift: Tensor) -> None:
        super().__init__((shift, shift))

    @property
    def is_constant(self) -> bool:
        """Whether it varies by no more than the rounding of float32 activations around their mean, or underflows."""
        shift = self.shifts[0]
        return float(self.cross.trace()) <= max(1e-12 * self.rows * float(shift @ shift), UNDERFLOW)


def compute_cka(a: WithinSums, b: WithinSums, both: CrossSums) -> Alike:
    """Both estimates from the sums of each side and of both."""
    if a.is_constant or b.is_constant:
        return Alike(None, None)
    within_a, within_b, between = (float(torch.linalg.matrix_norm(part.cross)) for part in (a, b, both))
    return Alike(min(1.0, between**2 / (within_a * within_b)), compute_unbiased(a, b, both))


def compute_unbiased(a: WithinSums, b: WithinSums, both: CrossSums) -> float | None:
    """HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L)); None of fewer than four rows, or where a side has none."""
    if both.rows < LEAST_ROWS:
        return None
    own, there = a.unbiased(), b.unbiased()
    for found, side in ((own, a), (there, b)):
        if found <= ROUNDING * float(torch.linalg.matrix_norm(side.cross) / side.rows) ** 2:
            return None
    return max(-1.0, min(1.0, both.unbiased() / math.sqrt(own * there)))
