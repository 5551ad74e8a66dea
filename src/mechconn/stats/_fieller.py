r"""Fieller's set: the ratio of two dependent means, such as of two effects measured on the same rows.

Let m = (m_1, m_2) estimate (mu_1, mu_2) with covariance V, and rho = mu_1 / mu_2. Then m_1 - rho m_2 has mean zero and
variance V_11 - 2 rho V_12 + rho^2 V_22, so that at confidence 1 - alpha, with t the 1 - alpha / 2 quantile of Student's
t, the set of ratios that are not rejected is

    { r : (m_1 - r m_2)^2 <= t^2 (V_11 - 2 r V_12 + r^2 V_22) }  =  { r : a r^2 - 2 b r + c <= 0 },

    a = m_2^2 - t^2 V_22,      b = m_1 m_2 - t^2 V_12,      c = m_1^2 - t^2 V_11.

Where a > 0, mu_2 is shown to differ from zero at that level, and the set is the interval between the roots. Else the
data allow ratios of any size: the set is all but an open interval, or the whole line. No bounded interval holds as
often as stated whatever mu_2 is (Gleser & Hwang 1987). Fieller's set holds exactly where the estimates are normal and V
is estimated from as many degrees of freedom as t has; of other values approximately, the better the more rows.

Source: Fieller 1954, *Some problems in interval estimation*; Gleser & Hwang 1987, *The nonexistence of 100(1 - alpha) %
confidence sets of finite expected diameter in errors-in-variables and related models*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from scipy.special import stdtrit

from mechconn.stats._exact import Interval

RatioShape: TypeAlias = Literal["interval", "complement", "line"]


class PairMoments(NamedTuple):
    """Two dependent means: what they are, their variances and covariance, and the degrees of freedom of these."""

    means: tuple[float, float]
    variances: tuple[float, float]
    covariance: float
    freedom: float


@dataclass(frozen=True)
class RatioSet:
    """The ratios that the data allow, closed.

    Attributes:
        shape: "interval": [low, high]; "complement": all but the open (low, high); "line": every ratio.
        low: -inf of the whole line.
        high: inf of the whole line.
    """

    shape: RatioShape
    low: float
    high: float

    def holds(self, ratio: float) -> bool:
        """Whether a ratio is in it."""
        if self.shape == "complement":
            return ratio <= self.low or ratio >= self.high
        return self.low <= ratio <= self.high

    def describe(self, form: str = ".3g") -> str:
        """In words.

        Example:
            >>> RatioSet("interval", 0.5, 0.75).describe(), RatioSet("complement", -1.0, 2.0).describe()
            ('0.5 to 0.75', 'below -1 or above 2')
        """
        if self.shape == "line":
            return "any ratio"
        if self.shape == "complement":
            return f"below {self.low:{form}} or above {self.high:{form}}"
        return f"{self.low:{form}} to {self.high:{form}}"


def find_ratio_set(pair: PairMoments, confidence: float) -> RatioSet:
    """Fieller's set of mean 1 over mean 2.

    Example:
        Independent means 1 and 2 of variance 0.01, many degrees of freedom: the second is far from zero.

        >>> found = find_ratio_set(PairMoments((1.0, 2.0), (0.01, 0.01), 0.0, 1e9), 0.95)
        >>> found.shape, round(found.low, 3), round(found.high, 3)
        ('interval', 0.395, 0.615)
        >>> find_ratio_set(PairMoments((1.0, 0.0), (0.01, 0.01), 0.0, 1e9), 0.95).shape
        'complement'
        >>> find_ratio_set(PairMoments((0.0, 0.0), (0.01, 0.01), 0.0, 1e9), 0.95).shape
        'line'
    """
    (first, second), (own, other) = pair.means, pair.variances
    squared = float(stdtrit(pair.freedom, (1.0 + confidence) / 2.0)) ** 2
    a, b, c = second**2 - squared * other, first * second - squared * pair.covariance, first**2 - squared * own
    inside = b * b - a * c
    if a > 0.0:  # the estimate itself is in the set, so that there are roots but for rounding
        root = math.sqrt(max(inside, 0.0))
        return RatioSet("interval", (b - root) / a, (b + root) / a)
    if a < 0.0 and inside > 0.0:
        root = math.sqrt(inside)
        return RatioSet("complement", (b + root) / a, (b - root) / a)
    return RatioSet("line", -math.inf, math.inf)


def bound_proportional(ratio: float, top: float, bottom: Interval) -> Interval:
    """The ratio where one mean is exactly `ratio` times the other in the data: ratio -+ top / |bottom|.

    `top` bounds what rows that were not drawn may add to mean 1 - ratio x mean 2; `bottom`, of one sign, bounds mean 2.

    Example:
        >>> bound_proportional(1.0, 0.1, (0.5, 0.8))
        (0.8, 1.2)
    """
    reach = top / min(abs(bottom[0]), abs(bottom[1]))
    return ratio - reach, ratio + reach


def divide_intervals(top: Interval, bottom: Interval) -> Interval:
    """The smallest and the largest quotient of two intervals, the second of one sign.

    Example:
        >>> divide_intervals((1.0, 2.0), (-4.0, -2.0))
        (-1.0, -0.25)
    """
    corners = [above / below for above in top for below in bottom]
    return min(corners), max(corners)
