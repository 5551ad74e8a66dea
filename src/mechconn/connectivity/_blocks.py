"""Barriers block by block: one group of parameters moves from A to B while the rest stays at one end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import nn

from mechconn.connectivity._barrier import Barrier
from mechconn.connectivity._evaluate_path import check_grid, evaluate_line
from mechconn.connectivity._evaluator import Evaluator
from mechconn.connectivity._profile import Profile, make_table, write_table
from mechconn.connectivity._profile_page import make_barrier_cell, mark_barrier
from mechconn.core import Compute, PerSampleLoss, Progress, check_choice, check_count
from mechconn.datasets import Suite
from mechconn.losses import NATS, cross_entropy
from mechconn.network import Metric, NormPolicy, Point, PointLike, as_points, find_joined, resolve_norm
from mechconn.paths import LinearPath, refuse_ends
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_marks, print_table

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

BlockChoice: TypeAlias = int | str | Mapping[str, str]
"""A depth in the module tree, a regular expression, or names of blocks with one each."""


@dataclass(frozen=True, repr=False)
class BlockProfiles(Result, Mapping[str, Profile], kind="block_profiles"):
    """One profile for each block; `result["head"]` is that of the block "head". `print(result)` lists the barriers.

    Attributes:
        profiles: block -> the profile as this block alone goes from A (t = 0) to B (t = 1).
        parameters: block -> the names of its parameters.
        rest: where all other parameters stay: "a" or "b".
        left_out: parameters of no block; they stay where the rest stays.
    """

    profiles: Mapping[str, Profile]
    parameters: Mapping[str, tuple[str, ...]]
    rest: Literal["a", "b"]
    left_out: tuple[str, ...]

    def __getitem__(self, block: str) -> Profile:
        return self.profiles[block]

    def __iter__(self) -> Iterator[str]:
        return iter(self.profiles)

    def __len__(self) -> int:
        return len(self.profiles)

    def barriers(self, split: str, on: str = "loss", confidence: float = 0.95) -> dict[str, Barrier]:
        """Block -> its barrier on one split; see `Profile.barrier`.

        Raises:
            ValueError: as `Profile.barrier`; the block is named.
        """
        found = {}
        for block, profile in self.profiles.items():
            try:
                found[block] = profile.barrier(split, on, confidence)
            except ValueError as error:
                raise ValueError(f"block {block!r}: {error}") from None
        return found

    def plot(self, on: str = "loss", *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the barrier of every block on every split, with its interval where there is one.

        A block whose curve is not finite has no mark there.

        Raises:
            ValueError: `on` is neither "loss" nor "accuracy" nor a metric.
        """
        profiles = list(self.profiles.values())
        check_choice("on", on, ("loss", "accuracy", *profiles[0].metrics))
        return draw_marks(
            list(self.profiles),
            {split: [mark_barrier(profile, split, on) for profile in profiles] for split in profiles[0].loss},
            f"barrier in {'error rate' if on == 'accuracy' else on}",
            f"block that moves, the rest at {self.rest.upper()}",
            ax,
        )

    def __str__(self) -> str:
        lines = [f"barrier in loss as one block moves, the rest at {self.rest.upper()}", *print_table(self._tabulate())]
        return "\n".join(lines)

    def rows(self) -> list[dict[str, Any]]:
        """One record per block, t and split, as `Profile.rows` gives them, with the block in front."""
        return [row for block, profile in self.profiles.items() for row in make_table(profile, block=block)]

    def header(self) -> Header:
        """What was asked."""
        return Header("Barriers block by block", "Which parameters make the barrier?")

    def sections(self) -> list[Section]:
        """The barrier of every block on every split."""
        moving = f"one block moves, the rest stays at {self.rest.upper()}"
        figure = Drawing(self.plot, f"Barriers in loss by block: {moving}. The table below holds the numbers.")
        return [
            Section("Block by block", figures=(figure,), tables=(self._tabulate(),), note=f"Barriers while {moving}.")
        ]

    def _tabulate(self) -> Table:
        profiles, splits = list(self.profiles.values()), list(next(iter(self.profiles.values())).loss)
        form = ".3f" if profiles[0].unit == NATS else ".4g"
        rows = [
            (block, *(make_barrier_cell(profile, split, form) for split in splits))
            for block, profile in self.profiles.items()
        ]
        return Table(("block that moves", *splits), tuple(rows))

    def to_csv(self, file: str | FilePath) -> None:
        """Write one row per block, t and split, as `Profile.to_csv` does, with the block in front."""
        write_table(file, self.rows())


def evaluate_blocks(
    model: nn.Module,
    a: PointLike,
    b: PointLike,
    suite: Suite,
    blocks: BlockChoice = 1,
    rest: Literal["a", "b"] = "a",
    ts: int | Sequence[float] = 11,
    *,
    norm: NormPolicy | None = None,
    leave_out: str | None = None,
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    keep_samples: bool = False,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> BlockProfiles:
    r"""The profile along each block of parameters, the rest staying at A or at B.

    For a block k with the parameters P_k, and with the rest at A,

        gamma_k(t)[p] = (1 - t) theta_a[p] + t theta_b[p]  for p in P_k,        theta_a[p]  for every other p.

    The curves that rise show which layers make the barrier; the barriers of the blocks need not add up to that of the
    whole path. Every parameter belongs to one block, or is left out by name.

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
        ts: number of evenly spaced points, or the points themselves: increasing, from 0 to 1.
        norm: as in `evaluate_path`: statistics are re-estimated at every point of every block. `InterpolateNorm` is
            refused: a network with one block moved lies between A and B in no sense of its statistics.
        leave_out: a regular expression for parameters of no block, matched from the start of their names.
        ignore: buffers and attributes that are no part of what is computed; see `LinearPath.between`.
        loss: as in `evaluate_path`.
        metrics: as in `evaluate_path`.
        keep_samples: as in `evaluate_path`.
        seed: of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts points.

    Raises:
        ValueError: parameters in no block or in two, a pattern without a parameter or that is no regular expression
            (all are listed), or as in `evaluate_path`.

    Example:
        The output w_2 w_1 from (1, 1) to (3, 5), squared: with w_2 at 1, w_1 goes along (1 + 2 t)^2.

        >>> model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> ends = [{f"{i}.weight": torch.tensor([[w]]) for i, w in enumerate(ws)} for ws in ((1.0, 1.0), (3.0, 5.0))]
        >>> one = (torch.ones(1, 1), torch.zeros(1))
        >>> result = evaluate_blocks(model, *ends, Suite({"cue": one}), ts=3, loss=lambda f, y: f[:, 0] ** 2)
        >>> result["0"].loss["cue"]
        (1.0, 4.0, 9.0)

    Source: Adilova, Andriushchenko, Kamp, Fischer & Jaggi, *Layer-wise linear mode connectivity*, ICLR 2024.
    """
    check_choice("rest", rest, ("a", "b"))
    first, last = as_points(("a", "b"), (a, b), ignore, model)
    evaluator = Evaluator(
        find_joined(model, (first,)),
        suite,
        loss=loss,
        metrics=metrics,
        seed=seed,
        compute=compute,
        device=device,
        progress=progress,
    )
    grid, norm = check_grid(ts), resolve_norm(norm, evaluator.network)
    for name, point in (("a", first), ("b", last)):
        evaluator.network.check(name, point.params)
    return walk_blocks(evaluator, (first, last), blocks, rest, grid, norm, leave_out, keep_samples)


def walk_blocks(
    evaluator: Evaluator,
    ends: tuple[Point, Point],
    blocks: BlockChoice,
    rest: Literal["a", "b"],
    grid: tuple[float, ...],
    norm: NormPolicy,
    leave_out: str | None,
    keep: bool,
) -> BlockProfiles:
    """The profile along each block between two points of the evaluator's network, over a checked grid."""
    groups, left_out = group_parameters(list(evaluator.network.make_weightless_parameters()), blocks, leave_out)
    profiles: dict[str, Profile] = {}

    def report(done: int) -> None:
        evaluator.compute.report("evaluating the blocks", len(profiles) * len(grid) + done, len(grid) * len(groups))

    for block, names in groups.items():
        profile = evaluate_line(evaluator, _BlockPath(ends, names, rest), grid, norm, keep, report)
        profiles[block] = replace(profile, settings={**profile.settings, "block": block, "rest": rest})
    return BlockProfiles(profiles, groups, rest, left_out)


class _BlockPath(LinearPath):
    """The line along which one block goes from A to B, the rest staying at one of them."""

    def __init__(self, ends: tuple[Point, Point], names: Sequence[str], rest: Literal["a", "b"]) -> None:
        self._still, self._at = (ends[0], 0.0) if rest == "a" else (ends[1], 1.0)
        first, last = ({**self._still.params, **{name: end.params[name] for name in names}} for end in ends)
        super().__init__(first, last)
        self._models, self._whole = ends, set(names) == set(first)

    @property
    def ends(self) -> tuple[Point, Point]:
        """Refused: the curve lies between no two networks."""
        return refuse_ends()

    @property
    def sources(self) -> tuple[Point, ...]:
        """A and B, from which its buffers come."""
        return self._models

    def end_at(self, t: float) -> Point | None:
        """The network at which no block has moved; the other where the block is the whole."""
        if t == self._at:
            return self._still
        return self._models[int(1.0 - self._at)] if self._whole and t == 1.0 - self._at else None


def group_parameters(
    names: Sequence[str], blocks: BlockChoice, leave_out: str | None
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """(block -> its parameters, parameters left out), both in the order of `names`."""
    pattern = None if leave_out is None else _compile_pattern("leave_out", leave_out)
    left_out = tuple(name for name in names if pattern is not None and pattern.match(name))
    if pattern is not None and not left_out:
        raise ValueError(_explain_no_match("leave_out", repr(leave_out)))
    rest = [name for name in names if name not in left_out]
    owners = {name: _find_owners(name, blocks) for name in rest}
    without = [name for name, found in owners.items() if not found]
    twice = [f"{name} ({' and '.join(found)})" for name, found in owners.items() if len(found) > 1]
    if without:
        raise ValueError(
            f"these parameters belong to no block: {', '.join(without)}; add a pattern for them, or name them with "
            "leave_out='...'"
        )
    if twice:
        raise ValueError(
            f"these parameters belong to two blocks: {', '.join(twice)}; every parameter moves with one block only"
        )
    result: dict[str, tuple[str, ...]] = {block: () for block in blocks} if isinstance(blocks, Mapping) else {}
    for name, (block,) in owners.items():
        result[block] = (*result.get(block, ()), name)
    empty = [block for block, found in result.items() if not found]
    if empty or not result:
        raise ValueError(_explain_no_match("blocks", ", ".join(map(repr, empty)) or "none"))
    return result, left_out


def _find_owners(name: str, blocks: BlockChoice) -> list[str]:
    """The blocks that a parameter belongs to."""
    if isinstance(blocks, Mapping):
        return [block for block, pattern in blocks.items() if _compile_pattern(f"block {block!r}", pattern).match(name)]
    if isinstance(blocks, str):
        found = _compile_pattern("blocks", blocks).match(name)
        text = found and (found[1] if found.re.groups else found[0])
        return [text] if text else []
    parts = name.split(".")
    return [".".join(parts[:-1][: check_count("blocks", blocks)]) or name]


def _compile_pattern(what: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what}: {pattern!r} is no regular expression ({error})") from None


def _explain_no_match(what: str, patterns: str) -> str:
    return f"{what}: no parameter matches {patterns}; patterns are matched from the start of a parameter's name"
