"""Whether two networks are one module with other parameters and statistics, also as functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mechconn.core import Inputs, isolate_rng, move_inputs
from mechconn.network._one_module import explain_differences, say_not_one_module
from mechconn.network._params import Network
from mechconn.network._points import Point, share_ignored


def check_joined(
    models: tuple[nn.Module, nn.Module],
    networks: tuple[Network, Network],
    points: tuple[Point, Point],
    example: Callable[[], Inputs],
    *,
    ignore: Sequence[str] = (),
    names: tuple[str, str] = ("A", "B"),
) -> None:
    """Raise unless a path in weight space joins two networks; see `explain_disjoint`.

    Raises:
        ValueError: they are not one module with other parameters and statistics; what differs is named.
    """
    if why := explain_disjoint(models, networks, points, example, ignore=ignore, names=names):
        raise ValueError(say_not_one_module(names, why))


def explain_disjoint(
    models: tuple[nn.Module, nn.Module],
    networks: tuple[Network, Network],
    points: tuple[Point, Point],
    example: Callable[[], Inputs],
    *,
    ignore: Sequence[str] = (),
    names: tuple[str, str] = ("A", "B"),
) -> str:
    """Why no path in weight space joins two networks; empty where one does.

    They must be one module with other parameters and statistics: the same names, shapes and state, and A's module with
    B's tensors gives B's outputs on an example.

    Args:
        models: A and B.
        networks: their modules as functions of points.
        points: where A and B stand.
        example: makes inputs; called where B's tensors fit into A's module.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        names: what to call the two.
    """

    def outputs() -> tuple[Tensor, Tensor]:
        inputs = example()
        filled = share_ignored(points[1], points[0], ignore)
        return compute_outputs(networks[0], filled, inputs), compute_outputs(networks[1], points[1], inputs)

    return explain_differences(*models, ignore=ignore, outputs=outputs, names=names)


@torch.no_grad()
def compute_outputs(network: Network, point: Point, example: Inputs) -> Tensor:
    """Predictions at a point in evaluation mode."""
    buffers = {name: tensor.to(network.device, copy=True) for name, tensor in point.buffers.items()}
    with isolate_rng(0, "example"):
        return network(network.load(point.params), buffers, move_inputs(example, network.device)).float().cpu()
