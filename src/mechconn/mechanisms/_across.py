"""A number over seeds: its mean and interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from mechconn.mechanisms._effects import Over
from mechconn.stats import Interval, compute_moments, t_interval


@dataclass(frozen=True)
class Across:
    """A number over seeds.

    Attributes:
        mean: over seeds; None where it is not finite for one of them.
        interval: at 95 %, of the mean over seeds by Student's t, kept within what an accuracy can be. For one seed that
            of the model over rows (or clusters of rows), as in `Invariance`. None where there is none, such as of a
            loss on one row.
        over: what the interval is over.
    """

    mean: float | None
    interval: Interval | None
    over: Over = "runs"


def take_off(effect: Across, other: Across) -> Across:
    """The difference of two effects on one model, which has no interval here."""
    if effect.mean is None or other.mean is None:
        return Across(None, None, effect.over)
    return Across(effect.mean - other.mean, None, effect.over)


def summarise_runs(runs: Sequence[Across], least: float, largest: float) -> Across:
    """The mean over seeds with Student's t interval, kept within what is possible; of one seed its number itself."""
    if len(runs) == 1:
        return runs[0]
    values = [run.mean for run in runs if run.mean is not None]
    if len(values) < len(runs):
        return Across(None, None)
    low, high = t_interval(compute_moments(torch.tensor(values, dtype=torch.float64)))
    return Across(fmean(values), (max(low, least), min(high, largest)))
