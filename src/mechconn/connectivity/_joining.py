"""Two networks of one module, and the straight lines between them, as they are and after alignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mechconn.connectivity._evaluate_path import evaluate_line
from mechconn.connectivity._evaluator import Evaluator
from mechconn.connectivity._profile import Profile
from mechconn.core import Inputs, isolate_rng, move_inputs
from mechconn.network import Network, NormPolicy, Point, explain_differences
from mechconn.paths import LinearPath


def explain_disjoint(
    models: tuple[nn.Module, nn.Module],
    first: Evaluator,
    second: Network,
    points: tuple[Point, Point],
    *,
    ignore: Sequence[str] = (),
    names: tuple[str, str] = ("A", "B"),
) -> str:
    """Why no path in weight space joins two networks; empty where one does.

    They must be one module with other parameters and statistics: the same names, shapes and state, and A's module with
    B's tensors gives B's outputs on the first rows of the reference.

    Args:
        models: A and B.
        first: evaluates A's module.
        second: B's module as a function of points.
        points: where A and B stand.
        ignore: buffers and attributes that are no part of what is computed.
        names: what to call the two.
    """

    def outputs() -> tuple[Tensor, Tensor]:
        return compute_outputs(first.network, points[1], first.example), compute_outputs(
            second, points[1], first.example
        )

    return explain_differences(*models, ignore=ignore, outputs=outputs, names=names)


@torch.no_grad()
def compute_outputs(network: Network, point: Point, example: Inputs) -> Tensor:
    """Predictions at a point in evaluation mode."""
    buffers = {name: tensor.to(network.device, copy=True) for name, tensor in point.buffers.items()}
    with isolate_rng(0, "example"):
        return network(network.load(point.params), buffers, move_inputs(example, network.device)).float().cpu()


def walk_lines(
    evaluator: Evaluator,
    b: Point,
    aligned: Point | None,
    grid: tuple[float, ...],
    norm: NormPolicy,
    keep: bool = True,
) -> dict[str, Profile]:
    """The profile of the line from the network as saved to B: "before" and, where B was aligned, "after".

    The second line shares both ends with the first, and where no weight moved it is the first.
    """
    first = evaluate_line(
        evaluator, LinearPath(evaluator.saved, b), grid, norm, keep, _report(evaluator, grid, "before")
    )
    if aligned is None:
        return {"before": first}
    if all(torch.equal(tensor.cpu(), b.params[name].cpu()) for name, tensor in aligned.params.items()):
        return {"before": first, "after": first}
    evaluator.take_for_same(aligned, b)
    line = LinearPath(evaluator.saved, aligned)
    return {
        "before": first,
        "after": evaluate_line(evaluator, line, grid, norm, keep, _report(evaluator, grid, "after")),
    }


def _report(evaluator: Evaluator, grid: tuple[float, ...], which: str) -> Callable[..., None]:
    return partial(evaluator.compute.report, f"evaluating the line {which} alignment", total=len(grid))
