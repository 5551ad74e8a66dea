"""Reading a path until its verdicts are settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mechconn.connectivity._path_verdict import MARGIN, TOLERANCE
from mechconn.connectivity._row_reader import RowReader
from mechconn.connectivity._settled_path import SettledPath
from mechconn.core import Compute, PerSampleLoss, Progress
from mechconn.datasets import Clusters, Suite
from mechconn.losses import cross_entropy
from mechconn.network import Metric, NormPolicy, Point
from mechconn.paths import Path


def settle_path(
    model: nn.Module,
    path: Path,
    suite: Suite,
    ts: int | Sequence[float] = 11,
    *,
    tolerance: float = TOLERANCE,
    on: str = "accuracy",
    norm: NormPolicy | None = None,
    margin: float = MARGIN,
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> SettledPath:
    """The verdicts of `evaluate_path` on accuracy, from as few rows and points as settle them."""
    raise NotImplementedError


def settle_lines(
    reader: RowReader,
    b: Point,
    aligned: Point | None,
    grid: tuple[float, ...],
    norm: NormPolicy,
    tolerance: float,
    on: str,
    margin: float,
) -> dict[str, SettledPath]:
    """The straight lines from the network as saved to B, "before" and, where B was aligned, "after", until settled.

    The counterpart of `walk_lines`.
    """
    raise NotImplementedError
