"""Barriers block by block: one group of parameters moves from A to B while the rest stays at one end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mechconn.connectivity._block_profiles import WHOLE, BlockProfiles
from mechconn.connectivity._evaluate_path import check_clusters, check_grid, evaluate_line
from mechconn.connectivity._evaluator import Evaluator
from mechconn.connectivity._group_parameters import BlockChoice, BlockOrder, accumulate_blocks, group_parameters
from mechconn.connectivity._profile import Profile
from mechconn.core import Compute, Params, PerSampleLoss, Progress, check_choice, check_count, make_generator
from mechconn.datasets import Clusters, Suite
from mechconn.losses import cross_entropy
from mechconn.network import Metric, NormPolicy, Point, PointLike, as_points, find_joined, resolve_norm
from mechconn.paths import LinearPath, refuse_ends


def evaluate_blocks(
    model: nn.Module,
    a: PointLike,
    b: PointLike,
    suite: Suite,
    blocks: BlockChoice = 1,
    rest: Literal["a", "b"] = "a",
    ts: int | Sequence[float] = 11,
    *,
    cumulative: BlockOrder | None = None,
    control: Literal["random"] | None = None,
    draws: int = 5,
    norm: NormPolicy | None = None,
    leave_out: str | None = None,
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    keep_samples: bool = False,
    cluster: Clusters | None = None,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> BlockProfiles:
    r"""The profile along each block of parameters, the rest staying at A or at B.

    For a block k with the parameters P_k, and with the rest at A,

        gamma_k(t)[p] = (1 - t) theta_a[p] + t theta_b[p]  for p in P_k,        theta_a[p]  for every other p.

    The curves that rise show which layers make the barrier; the barriers of the blocks need not add up to that of the
    whole path, which is evaluated beside them. Every parameter belongs to one block, or is left out by name. Two
    barriers are in use, that against the ends of the block's own path and that against the two models:
    `BlockProfiles.barriers`.

    With `cumulative`, blocks join one after another: the k-th profile moves P_1 and ... and P_k together, and the last
    one is the whole path where nothing is left out.

    A random direction of a block has the length of the block's own way: with g normal, independent in all entries,

        u = g ||theta_b[P_k] - theta_a[P_k]|| / ||g||,        theta_a[P_k] + t u,

    at the same t, and with the rest at B theta_b[P_k] + (1 - t) u. It says how much of a rise is due to the distance
    alone. Both are rounded to the parameters' own type; in bfloat16 a short way over many weights may round to nothing.

    Args:
        model: gives the architecture, the statistics that `KeepNorm` uses, and the buffers where parameters alone
            are given; it stays as it is.
        a: A, t = 0: a network, a point, or parameters alone.
        b: B, t = 1, likewise.
        suite: the splits.
        blocks: a depth: parameters whose modules share the first `depth` parts of their names (1: the children of
            the model); a regular expression, matched from the start of a parameter's name: its first group (or,
            without a group, the matched text) names the block; or a mapping of blocks' names to regular expressions.
        rest: where the other parameters stay, "a" or "b".
        ts: number of evenly spaced points, or the points themselves: increasing, from 0 to 1. The barrier against the
            models needs 0.5 among them.
        cumulative: None: each block moves by itself. "forward": blocks join in the model's order, "backward": in the
            reverse, or the names of all blocks in the order in which they join.
        control: "random" also evaluates random directions, of what moves in each profile; it multiplies the work by
            1 + draws.
        draws: random directions for each block.
        norm: as in `evaluate_path`: statistics are re-estimated at every point of every block. `InterpolateNorm` is
            refused: a network with one block moved lies between A and B in no sense of its statistics.
        leave_out: a regular expression for parameters of no block, matched from the start of their names.
        ignore: buffers and attributes that are no part of what is computed; see `LinearPath.between`.
        loss: as in `evaluate_path`.
        metrics: as in `evaluate_path`.
        keep_samples: as in `evaluate_path`.
        cluster: as in `evaluate_path`; intervals against the models are over clusters too.
        seed: of random directions, and of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts points.

    Raises:
        ValueError: parameters in no block or in two, a pattern without a parameter or that is no regular expression
            (all are listed), an order that does not name every block once, or as in `evaluate_path`.

    Example:
        The output w_2 w_1 from (1, 1) to (3, 5), squared: with w_2 at 1, w_1 goes along (1 + 2 t)^2.

        >>> model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> ends = [{f"{i}.weight": torch.tensor([[w]]) for i, w in enumerate(ws)} for ws in ((1.0, 1.0), (3.0, 5.0))]
        >>> one = (torch.ones(1, 1), torch.zeros(1))
        >>> result = evaluate_blocks(model, *ends, Suite({"cue": one}), ts=3, loss=lambda f, y: f[:, 0] ** 2)
        >>> result["0"].loss["cue"]
        (1.0, 4.0, 9.0)
        >>> result.barriers("cue")["0"].height, result.barriers("cue", against="models")["0"].height
        (0.0, -109.0)

    Source: Adilova, Andriushchenko, Kamp, Fischer & Jaggi, *Layer-wise linear mode connectivity*, ICLR 2024.
    """
    check_choice("rest", rest, ("a", "b"))
    if control is not None:
        check_choice("control", control, ("random",))
    check_count("draws", draws)
    first, last = as_points(("a", "b"), (a, b), ignore, model)
    evaluator = Evaluator(
        find_joined(model, (first,)),
        suite,
        loss=loss,
        metrics=metrics,
        cluster=cluster,
        seed=seed,
        compute=compute,
        device=device,
        progress=progress,
    )
    grid, norm = check_grid(ts), resolve_norm(norm, evaluator.network)
    check_clusters(evaluator, keep_samples)
    for name, point in (("a", first), ("b", last)):
        evaluator.network.check(name, point.params)
    walk = BlockWalk(evaluator, (first, last), rest, grid, norm, keep_samples)
    return walk.evaluate(blocks, leave_out, cumulative, draws if control is not None else 0, seed)


class BlockWalk:
    """Profiles of blocks between two points of an evaluator's network, over a checked grid."""

    def __init__(
        self,
        evaluator: Evaluator,
        ends: tuple[Point, Point],
        rest: Literal["a", "b"],
        grid: tuple[float, ...],
        norm: NormPolicy,
        keep: bool,
    ) -> None:
        self._evaluator, self._ends = evaluator, ends
        self._rest: Literal["a", "b"] = rest
        self._grid, self._norm, self._keep = grid, norm, keep

    def evaluate(
        self,
        blocks: BlockChoice,
        leave_out: str | None = None,
        cumulative: BlockOrder | None = None,
        draws: int = 0,
        seed: int = 0,
        whole: Profile | None = None,
    ) -> BlockProfiles:
        """The profile along each block, along its random directions, and along the line where it is not known yet."""
        groups, left_out = group_parameters(
            list(self._evaluator.network.make_weightless_parameters()), blocks, leave_out
        )
        if WHOLE in groups:
            raise ValueError(f"a block is called {WHOLE!r}, which stands for the line from A to B; name it otherwise")
        if cumulative is not None:
            groups = accumulate_blocks(groups, cumulative)
        order = "" if cumulative is None else cumulative if isinstance(cumulative, str) else "given"
        found = self._walk(
            self._iterate_paths(groups, order, draws, seed, whole is None), len(groups) * (1 + draws) + (whole is None)
        )
        whole = found.pop() if whole is None else whole
        by_block = {block: tuple(found[i * (1 + draws) : (i + 1) * (1 + draws)]) for i, block in enumerate(groups)}
        return BlockProfiles(
            {block: own for block, (own, *_) in by_block.items()},
            groups,
            self._rest,
            left_out,
            whole,
            order,
            {block: tuple(others) for block, (_, *others) in by_block.items()} if draws else {},
        )

    def _iterate_paths(
        self, groups: Mapping[str, Sequence[str]], order: str, draws: int, seed: int, line: bool
    ) -> Iterator[tuple[Mapping[str, Any], LinearPath]]:
        """(what it is, path): each block before its random directions, of which one is held at a time; the line last.

        What cannot be evaluated block by block is then refused before the work.
        """
        for block, names in groups.items():
            about: dict[str, Any] = {"block": block, "rest": self._rest} | ({"cumulative": order} if order else {})
            yield about, _BlockPath(self._ends, names, self._rest)
            for number in range(draws):
                way = _draw_direction(self._ends, names, (seed, block, number))
                yield {**about, "random": number + 1}, _RandomPath(self._ends, way, self._rest)
        if line:
            yield {}, LinearPath(*self._ends)

    def _walk(self, paths: Iterable[tuple[Mapping[str, Any], LinearPath]], count: int) -> list[Profile]:
        """The profile of each of `count` paths, with what it is in its settings."""
        points, found = len(self._grid), list[Profile]()
        report = partial(self._evaluator.compute.report, "evaluating the blocks", total=points * count)
        for about, path in paths:
            profile = evaluate_line(
                self._evaluator, path, self._grid, self._norm, self._keep, _add(report, points * len(found))
            )
            found.append(replace(profile, settings={**profile.settings, **about}))
        return found


def _add(report: Callable[..., None], before: int) -> Callable[..., None]:
    return lambda done: report(done=before + done)


class _StillPath(LinearPath):
    """A line along which some parameters move, the rest staying at A or at B."""

    def __init__(self, ends: tuple[Point, Point], rest: Literal["a", "b"], first: Params, last: Params) -> None:
        self._still, self._at = (ends[0], 0.0) if rest == "a" else (ends[1], 1.0)
        super().__init__({**self._still.params, **first}, {**self._still.params, **last})
        self._models = ends

    @property
    def ends(self) -> tuple[Point, Point]:
        """Refused: the curve lies between no two networks."""
        return refuse_ends()

    @property
    def sources(self) -> tuple[Point, ...]:
        """A and B, from which its buffers come."""
        return self._models

    def end_at(self, t: float) -> Point | None:
        """The network at which nothing has moved."""
        return self._still if t == self._at else None


class _BlockPath(_StillPath):
    """The line along which one block goes from A to B."""

    def __init__(self, ends: tuple[Point, Point], names: Sequence[str], rest: Literal["a", "b"]) -> None:
        super().__init__(ends, rest, *({name: end.params[name] for name in names} for end in ends))
        self._whole = set(names) == set(self._still.params)

    def end_at(self, t: float) -> Point | None:
        """The network at which no block has moved; the other where the block is the whole."""
        return self._models[int(t)] if self._whole and t == 1.0 - self._at else super().end_at(t)


class _RandomPath(_StillPath):
    """The line along which a block goes a given way from where the rest stays."""

    def __init__(self, ends: tuple[Point, Point], way: Params, rest: Literal["a", "b"]) -> None:
        still = (ends[0] if rest == "a" else ends[1]).params
        here = {name: still[name] for name in way}
        there = {name: (here[name].to(step.dtype) + step).to(here[name].dtype) for name, step in way.items()}
        super().__init__(ends, rest, *((here, there) if rest == "a" else (there, here)))


def _draw_direction(ends: tuple[Point, Point], names: Sequence[str], stream: tuple[int, str, int]) -> dict[str, Tensor]:
    """Normal entries, scaled to the length of the block's way from A to B; of the parameters' device."""
    seed, block, number = stream
    generator = make_generator(seed, "random direction", block, number)
    drawn, length, own = {}, 0.0, 0.0
    with torch.no_grad():
        for name in names:
            a, b = (_widen(end.params[name]) for end in ends)
            drawn[name] = torch.randn(a.shape, dtype=a.dtype, generator=generator).to(a.device)
            length += float((b - a).abs().square().sum())
            own += float(drawn[name].abs().square().sum())
    return {name: step * (length / own) ** 0.5 if own else step for name, step in drawn.items()}


def _widen(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
