"""What a probe is asked of two networks of an audit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mechconn.core import Data
from mechconn.datasets import Clusters
from mechconn.mechanisms._layer_features import Layers
from mechconn.mechanisms._row_classes import Target


@dataclass(frozen=True, eq=False)
class ProbeTask:
    """What probes read in `audit`: the same rows, class and layers in both networks. See `probe`.

    Attributes:
        data: what to read, such as `task.suite["rand_image"]`.
        target: "label"; "cue", of data with one; or a class for each row.
        layers: names of modules; None: those that own parameters, and the features.
        control: a network to compare with; None: that of the relearning, where there is one.
        cluster: a label for each row where rows come in clusters.
    """

    data: Data
    target: Target = "label"
    layers: Layers = None
    control: nn.Module | None = None
    cluster: Clusters | None = None
