"""Values of the user's own beside loss and accuracy: one for each row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mechconn.core import PerSampleLoss
from mechconn.stats import Interval

OWN_NAMES = ("loss", "accuracy")
COLUMNS = ("t", "x", "y", "split", "samples", "block", "line")
"""What else the tables of results call their columns."""


@dataclass(frozen=True, eq=False)
class Metric:
    """A value of each row from (outputs, targets), and the range in which it is known to lie.

    A metric with bounds gets intervals that hold for every distribution within them (betting); one without gets
    Student's t intervals, which are approximate.

    Attributes:
        function: (outputs, targets) of N rows -> [N].
        bounds: (least, largest) possible value; None where there is no such range.

    Example:
        >>> import torch
        >>> brier = Metric(lambda z, y: (z.softmax(1)[:, 1] - y).square(), bounds=(0.0, 1.0))
        >>> brier(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.2500, 0.2500])
    """

    function: PerSampleLoss
    bounds: Interval | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"a metric must be a function of (outputs, targets), got {type(self.function).__name__}")
        if self.bounds is None:
            return
        low, high = self.bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"bounds of a metric must be (low, high), finite and low < high, got {self.bounds}")

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The values, [N].

        Raises:
            ValueError: a value lies outside the bounds.
        """
        values = self.function(outputs.clone(), targets.clone())  # it may write into them
        if self.bounds is None or not isinstance(values, Tensor) or not values.numel():
            return values
        low, high = self.bounds
        slack = 1e-6 * (high - low)
        if bool(((values < low - slack) | (values > high + slack)).any()):
            least, largest = float(values.min()), float(values.max())
            raise ValueError(
                f"a metric gave values in [{least:g}, {largest:g}], outside its bounds [{low:g}, {high:g}]"
            )
        return values.clamp(low, high)


def check_metrics(metrics: Mapping[str, PerSampleLoss | Metric] | None) -> dict[str, Metric]:
    """Metrics by name, after refusing names that tables use already."""
    found = {}
    for name, metric in (metrics or {}).items():
        if name in (*OWN_NAMES, *COLUMNS):
            raise ValueError(f"metrics: {name!r} is the name of a column already; give the metric another name")
        found[name] = metric if isinstance(metric, Metric) else Metric(metric)
    return found


def collect_bounds(metrics: Mapping[str, Metric]) -> dict[str, Interval]:
    """The ranges of the metrics that have one."""
    return {name: metric.bounds for name, metric in metrics.items() if metric.bounds is not None}
