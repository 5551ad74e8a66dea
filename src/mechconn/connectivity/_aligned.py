"""Barriers before and after alignment, side by side, and beside those between two seeds of one recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import nn

from mechconn.alignment import Alignment, AlignmentMethod, prove_and_match
from mechconn.connectivity._barrier import Barrier
from mechconn.connectivity._evaluate_path import check_grid
from mechconn.connectivity._evaluator import Evaluator
from mechconn.connectivity._joining import walk_lines
from mechconn.connectivity._profile import Profile, make_table, write_table
from mechconn.core import Compute, PerSampleLoss, Progress, check_is, resolve_compute
from mechconn.datasets import Suite
from mechconn.losses import cross_entropy
from mechconn.network import (
    Metric,
    Network,
    NormPolicy,
    Point,
    as_points,
    check_joined,
    copy_with_state,
    point_of,
    resolve_norm,
    share_ignored,
    unwrap_module,
)
from mechconn.plotting import draw_bars
from mechconn.symmetry import Symmetry


@dataclass(frozen=True, eq=False)
class AlignedProfiles(Mapping[str, Profile]):
    """The straight line between two networks before and after the permutations of units were removed.

    `result["before"]` and `result["after"]` are profiles; with a null pair, `result["null before"]` and
    `result["null after"]` too.

    Attributes:
        alignment: how B was moved onto A.
        profiles: which line -> its profile.
        null: the alignment of the null pair: two runs of one recipe, which differ by their seeds alone.
    """

    alignment: Alignment
    profiles: Mapping[str, Profile]
    null: Alignment | None = field(default=None)

    def __getitem__(self, which: str) -> Profile:
        return self.profiles[which]

    def __iter__(self) -> Iterator[str]:
        return iter(self.profiles)

    def __len__(self) -> int:
        return len(self.profiles)

    def barriers(self, split: str, on: str = "loss", confidence: float = 0.95) -> dict[str, Barrier]:
        """Which line -> its barrier on one split; see `Profile.barrier`."""
        return {which: profile.barrier(split, on, confidence) for which, profile in self.profiles.items()}

    def __str__(self) -> str:
        a = self.alignment
        lines = [
            f"distance {a.distance_before:.4g} before alignment, {a.distance_after:.4g} after "
            f"({100 * a.coverage:.1f} % of the parameters have units that may be permuted)"
        ]
        for which, profile in self.profiles.items():
            found = (f"{split} {profile.barrier(split).height:.3f}" for split in profile.loss)
            lines.append(f"  barrier in loss, {which}: {', '.join(found)}")
        for which, profile in self.profiles.items():
            lines += [f"  other ends, {which}: {shift}" for shift in profile.shifted_ends()]
        return "\n".join(lines)

    def plot(self, on: str = "loss") -> Any:
        """A matplotlib Figure: the barrier of every line on every split, with its interval where there is one."""
        heights = {
            split: [
                (barrier.height, *(barrier.interval or (barrier.height, barrier.height)))
                for barrier in self.barriers(split, on).values()
            ]
            for split in self["before"].loss
        }
        marked = [f"{which}*" if profile.shifted_ends() else which for which, profile in self.profiles.items()]
        note = "; *between networks with other statistics than those saved" if marked != list(self.profiles) else ""
        return draw_bars(blocks=marked, heights=heights, on=on, moving=f"straight line{note}")

    def to_csv(self, file: str | FilePath) -> None:
        """Write one row per line, t and split, as `Profile.to_csv` does, with the line in front."""
        rows = [row for which, profile in self.profiles.items() for row in make_table(profile, line=which)]
        write_table(file, rows)


def evaluate_alignment(
    model_a: nn.Module,
    model_b: nn.Module | Point,
    method: AlignmentMethod,
    suite: Suite,
    ts: int | Sequence[float] = 11,
    *,
    norm: NormPolicy | None = None,
    symmetry: Symmetry | None = None,
    null: tuple[nn.Module, nn.Module | Point] | None = None,
    ignore: Sequence[str] = (),
    loss: PerSampleLoss = cross_entropy,
    metrics: Mapping[str, PerSampleLoss | Metric] | None = None,
    keep_samples: bool = False,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> AlignedProfiles:
    """The straight line from A to B before and after B was permuted onto A.

    A barrier that alignment removes was one of names of units, not of functions. One that stays has no such reading:
    matching finds a good permutation, not provably the best. The null says how much barrier two runs of the same
    recipe keep after the same alignment; only what exceeds it speaks of different solutions.

    Args:
        model_a: t = 0; neither module is changed.
        model_b: t = 1: one module with A, with other parameters and statistics; or a point of A's module
            (`mechconn.point_of`).
        method: how to align, as in `align`.
        suite: the splits.
        ts: number of evenly spaced points, or the points themselves: increasing, from 0 to 1.
        norm: as in `evaluate_path`.
        symmetry: as in `align`.
        null: two models of one recipe with different seeds, of the same architecture; the second may be a point.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        loss: as in `evaluate_path`.
        metrics: as in `evaluate_path`.
        keep_samples: as in `evaluate_path`.
        seed: of the alignment, and of layers and loaders that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where model_a is.
        progress: short for `Compute(progress=...)`; counts points.

    Raises:
        ValueError: the models are not one module with other parameters and statistics; or as in `align` and
            `evaluate_path`.
        TypeError: A is no network, B neither a network nor a point, or `method` no way to align.

    Source: Entezari et al. 2022; Lubana et al. 2023, section 3.
    """
    how = resolve_compute(compute, device, progress)
    check_is("method", method, AlignmentMethod, "; pass ActivationMatching(data) or WeightMatching()")
    grid, profiles, alignments = check_grid(ts), dict[str, Profile](), list[Alignment]()
    for name, pair in (("", (model_a, model_b)), ("null ", null)):
        if pair is None:
            continue
        names = ("null[0]", "null[1]") if name else ("model_a", "model_b")
        first, second = _as_modules(names, pair)
        evaluator = Evaluator(first, suite, loss=loss, metrics=metrics, seed=seed, compute=how)
        policy, b = resolve_norm(norm, evaluator.network), point_of(second)
        networks = evaluator.network, Network(second, how)
        ends = evaluator.saved, b
        check_joined((first, second), networks, ends, lambda own=evaluator: own.example, ignore=ignore, names=names)
        found = prove_and_match(first, second, method, symmetry, seed, how)
        alignments.append(found)
        symmetry = alignments[0].symmetry
        b, moved = (share_ignored(point, evaluator.saved, ignore) for point in (b, point_of(found.model)))
        lines = walk_lines(evaluator, b, moved, grid, policy, keep_samples)
        profiles |= {f"{name}{which}": profile for which, profile in lines.items()}
    return AlignedProfiles(alignments[0], profiles, alignments[1] if null is not None else None)


def _as_modules(names: tuple[str, str], pair: tuple[nn.Module, nn.Module | Point]) -> tuple[nn.Module, nn.Module]:
    """Two networks without wrappers: a point as the second is the first one's module with that state."""
    if isinstance(pair[0], Point):
        raise TypeError(
            f"{names[0]} must be a network, got a Point, which has no module to run; pass the network itself, and a "
            f"point as {names[1]} alone"
        )
    first, given = unwrap_module(pair[0], names[0]), pair[1]
    if not isinstance(given, Point):
        return first, unwrap_module(given, names[1])
    _, point = as_points(names, (point_of(first), given))
    return first, copy_with_state(first, {**point.params, **point.buffers})
