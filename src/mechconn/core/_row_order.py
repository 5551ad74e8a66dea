"""Whether rows stand class after class, as in folders of classes, so that a batch holds few of the classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mechconn.core._map_style import MapStyle, find_known_targets
from mechconn.core._sources import RowSubset, is_source


def find_listed_labels(data: Any) -> Tensor | None:
    """The labels of a source's rows where these are known without reading its samples, to see their order alone.

    Of torchvision's datasets the list `targets`, which a target_transform may change.
    """
    if isinstance(data, RowSubset):
        labels = find_listed_labels(data.source)
        return None if labels is None else labels[data.rows.to(labels.device)]
    if not isinstance(data, MapStyle):
        return data.y if is_source(data) else None
    known, listed = find_known_targets(data.samples), getattr(data.samples, "targets", None)
    plain = isinstance(listed, list) and len(listed) == len(data) and all(isinstance(label, int) for label in listed)
    return torch.tensor(listed) if known is None and plain else known


def stand_by_class(y: Tensor) -> bool:
    """Whether rows of a class stand together: the label changes less than half as often as in random order, or sorted.

    In random order n rows with n_c of class c are expected to change it n (1 - sum_c (n_c / n)^2) times. Rows of domain
    after domain, and class after class in each, are not sorted.

    Example:
        >>> y = torch.arange(40)
        >>> stand_by_class(y // 20), stand_by_class(y // 10 % 2), stand_by_class(y % 2)
        (True, True, False)
    """
    if y.dim() != 1 or y.is_floating_point() or len(y) < 2 or bool((y == y[0]).all()):
        return False
    if bool((y[1:] >= y[:-1]).all()):
        return True
    shares = y.unique(return_counts=True)[1].double() / len(y)
    return int((y[1:] != y[:-1]).sum()) < len(y) * (1.0 - float((shares**2).sum())) / 2
