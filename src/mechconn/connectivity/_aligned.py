"""Barriers before and after alignment, and those between two seeds of one recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mechconn.alignment import (
    Alignment,
    AlignmentMethod,
    check_method,
    check_no_adapters,
    note_same_rows,
    prove_and_match,
)
from mechconn.connectivity._barrier import Barrier
from mechconn.connectivity._evaluate_path import check_grid
from mechconn.connectivity._evaluator import Evaluator
from mechconn.connectivity._joining import walk_lines
from mechconn.connectivity._profile import Profile, make_table, write_table
from mechconn.connectivity._profile_page import make_barrier_cell, make_path_section, mark_barrier
from mechconn.core import (
    Compute,
    PerSampleLoss,
    Progress,
    check_choice,
    resolve_compute,
)
from mechconn.datasets import Suite
from mechconn.losses import NATS, cross_entropy
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
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_marks
from mechconn.symmetry import Symmetry

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure


@dataclass(frozen=True, eq=False, repr=False)
class AlignedProfiles(Result, Mapping[str, Profile], kind="aligned_profiles"):
    """The straight line between two networks before and after the symmetries of their units were removed.

    `result["before"]` and `result["after"]` are profiles; with a null pair, `result["null before"]` and
    `result["null after"]` too.

    Attributes:
        alignment: how B was moved onto A.
        profiles: which line -> its profile.
        null: the alignment of the null pair: two runs of one recipe, which differ by their seeds alone.
    """

    alignment: Alignment
    profiles: Mapping[str, Profile]
    null: Alignment | None = None

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
        a, form = self.alignment, self._form
        lines = [f"distance {a.distance_before:.4g} before alignment, {a.distance_after:.4g} after ({a.share})"]
        if len(a.distance_by_kind) > 1:
            lines.append(f"  the weights are {a.distances}")
        for which, profile in self.profiles.items():
            found = (f"{split} {make_barrier_cell(profile, split, form)}" for split in profile.loss)
            lines.append(f"  barrier in loss, {which}: {', '.join(found)}")
        for which, profile in self.profiles.items():
            lines += [f"  other ends, {which}: {shift}" for shift in profile.shifted_ends()]
        lines += [f"  note: {note}" for note in a.notes]
        return "\n".join(lines)

    @property
    def findings(self) -> tuple[str, ...]:
        """The verdict on every line, and the notes on the alignments."""
        lines = (f"{which.capitalize()}: {said}" for which, profile in self.items() for said in profile.findings)
        null = () if self.null is None else (f"Null pair: {note}" for note in self.null.notes)
        return (*lines, *self.alignment.notes, *null)

    def rows(self) -> list[dict[str, Any]]:
        """One record per line, t and split, as `Profile.rows` gives them, with the line in front."""
        return [row for which, profile in self.profiles.items() for row in make_table(profile, line=which)]

    def header(self) -> Header:
        """What was asked."""
        return Header(
            "Barriers before and after alignment",
            "Does a barrier only reflect the order or the scales of hidden units?",
        )

    def sections(self) -> list[Section]:
        """The barrier of every line, each line by itself, and the alignments."""
        form, splits = self._form, list(self["before"].loss)
        rows = [
            (which, *(make_barrier_cell(profile, split, form) for split in splits)) for which, profile in self.items()
        ]
        table = Table(("line", *splits), tuple(rows))
        figure = Drawing(self.plot, "Barriers in loss on every line and split. The table below holds the numbers.")
        return [
            Section("Barriers before and after alignment", figures=(figure,), tables=(table,)),
            *(
                make_path_section(profile, f"The straight path, {which}", profile.judge())
                for which, profile in self.items()
            ),
            *self.alignment.sections(),
            *(
                []
                if self.null is None
                else (replace(part, title=f"Null pair: {part.title}") for part in self.null.sections())
            ),
        ]

    @property
    def _form(self) -> str:
        """How barriers are written: thousandths of nats, four digits of a loss that may have any scale."""
        return ".3f" if self["before"].unit == NATS else ".4g"

    def plot(self, on: str = "loss", *, ax: Axes | None = None) -> Figure:
        """A matplotlib Figure: the barrier of every line on every split, with its interval where there is one.

        A line whose curve is not finite has no mark there.

        Raises:
            ValueError: `on` is neither "loss" nor "accuracy" nor a metric.
        """
        check_choice("on", on, ("loss", "accuracy", *self["before"].metrics))
        heights = {
            split: [mark_barrier(profile, split, on) for profile in self.values()] for split in self["before"].loss
        }
        marked = [f"{which}*" if profile.shifted_ends() else which for which, profile in self.profiles.items()]
        note = "; *between networks with other statistics than those saved" if marked != list(self.profiles) else ""
        return draw_marks(
            marked, heights, f"barrier in {'error rate' if on == 'accuracy' else on}", f"straight line{note}", ax
        )

    def to_csv(self, file: str | FilePath) -> None:
        """Write one row per line, t and split, as `Profile.to_csv` does, with the line in front."""
        write_table(file, self.rows())


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
    """The straight line from A to B before and after B was moved onto A.

    A barrier that alignment removes only reflected the order, signs or scales of the units: how much each of them
    changed the distance stands in `alignment.distance_by_kind`. One that remains may still do so: matching finds a good
    permutation, not provably the best. The null is the barrier that two runs of the same recipe keep after
    the same alignment; only what exceeds it is evidence of different solutions.

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
    check_method(method)
    grid, profiles, alignments = check_grid(ts), dict[str, Profile](), list[Alignment]()
    for name, pair in (("", (model_a, model_b)), ("null ", null)):
        if pair is None:
            continue
        names = ("null[0]", "null[1]") if name else ("model_a", "model_b")
        first, second = _as_modules(names, pair)
        check_no_adapters(second)
        evaluator = Evaluator(first, suite, loss=loss, metrics=metrics, seed=seed, compute=how)
        policy, b = resolve_norm(norm, evaluator.network), point_of(second)
        networks = evaluator.network, Network(second, how)
        ends = evaluator.saved, b
        check_joined((first, second), networks, ends, lambda own=evaluator: own.example, ignore=ignore, names=names)
        found = note_same_rows(prove_and_match(first, second, method, symmetry, seed, how), method, suite)
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
