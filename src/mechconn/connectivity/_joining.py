"""The straight lines between two networks of one module, as they are and after alignment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from mechconn.connectivity._evaluate_path import evaluate_line
from mechconn.connectivity._evaluator import Evaluator
from mechconn.connectivity._profile import Profile
from mechconn.network import NormPolicy, Point
from mechconn.paths import LinearPath


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
