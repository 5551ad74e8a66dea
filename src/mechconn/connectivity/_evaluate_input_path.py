"""Evaluating a network along paths between inputs, straight and bent."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.connectivity._evaluate_path import check_grid
from mechconn.connectivity._input_bend import InputBend, round_range
from mechconn.connectivity._input_losses import InputLosses, Pieces, add_near_peak, mix
from mechconn.connectivity._input_profiles import InputCurve, InputProfile, InputProfiles
from mechconn.core import (
    Compute,
    PerSampleLoss,
    Progress,
    check_is,
    check_lengths,
    check_non_negative,
    check_whole,
    hash_content,
    isolate_rng,
    list_first,
    log_warnings,
    resolve_compute,
)
from mechconn.losses import NATS, as_loss, cross_entropy
from mechconn.network import Network, parameters_of, unwrap_module

BENT_AT_ONCE = 128
"""Pieces that are bent together where no batch size is asked for."""
EVERY_PAIR = "all pairs"


@torch.inference_mode(False)  # bends need gradients
def evaluate_input_path(
    model: nn.Module,
    x_a: Tensor,
    x_c: Tensor,
    labels: Any,
    bends: int = 0,
    *,
    ts: int | Sequence[float] = 101,
    refine: int = 0,
    bend: InputBend | None = None,
    groups: Sequence[Any] | None = None,
    threshold: float | None = None,
    loss: PerSampleLoss = cross_entropy,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> InputProfiles:
    r"""The loss of one network along paths between pairs of inputs, straight and bent.

    With l(x) the loss of the network at an input x and the pair's label, on the straight path x(t) = (1 - t) a + t c

        barrier = max_t l(x(t)),        gap = barrier - max(l(a), l(c)),

    each over the points evaluated, and so a lower bound of that of the path; `rise` is mechconn's own barrier, the
    largest rise above the chord from l(a) to l(c). A bent path has straight pieces from a over bends to c. In each
    round every piece, the highest first, is bent at its highest point, until there are `bends` bends: 1 and 3 are the
    source's first and second round. A bend is kept where it lowers the highest point of its piece, so that the barrier
    of a bent path, over the points evaluated, is never above that of the straight one; nor are pieces bent whose
    highest point is an end.

    Shares of pairs and quantiles over pairs have exact intervals where no input stands in two pairs of a group:
    `InputProfiles.share_above` and `quantile`. `pair_inputs` draws such pairs from the splits of a suite.

    Args:
        model: any network of one floating-point tensor of inputs; it stays as it is.
        x_a: where paths begin, [N, ...]; with a single label one input [...].
        x_c: where they end, row by row.
        labels: the target of each pair, as the loss takes it; a single number for one pair.
        bends: the most bends of a path; 0 evaluates the straight path alone.
        ts: number of evenly spaced points of each straight piece, or the points themselves: increasing, from 0 to 1.
        refine: number of further points between the neighbours of the highest one of each piece.
        bend: how bends are found; default: `InputBend()`.
        groups: a name for each pair, such as its splits or its class; intervals are of each group.
        threshold: for shares of pairs above it; default: log 2 of a loss in nats, above which the label has less than
            half of the probability, else none.
        loss: one value per row from (outputs, labels).
        seed: of layers that draw from global generators.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts rounds.

    Raises:
        TypeError: inputs that are no floating-point tensor, as token ids and mappings, between which no path exists.
        ValueError: other numbers of inputs, labels or names; inputs that are not finite, or outside `InputBend.clip`; a
            grid that is not from 0 to 1; a loss that is not one value per row.

    Example:
        A network of one unit that answers "no" between its two ends: l = log(1 + exp(4 t (1 - t))) with the label 0.

        >>> class Between(nn.Module):
        ...     def forward(self, x):
        ...         return torch.cat([torch.zeros_like(x), 4 * x * (1 - x)], 1)
        >>> found = evaluate_input_path(Between(), torch.tensor([0.0]), torch.tensor([1.0]), 0, ts=5)
        >>> round(found[0].barrier, 4), round(found[0].gap, 4)  # log(1 + e), log((1 + e) / 2)
        (1.3133, 0.6201)

    Source: Vrabel et al. 2025, *Input space mode connectivity in deep neural networks*; intervals: Clopper & Pearson
    1934, Thompson 1936.
    """
    compute = resolve_compute(compute, device, progress)
    model, grid, bend = unwrap_module(model), check_grid(ts), InputBend() if bend is None else bend
    check_is("bend", bend, InputBend)
    for name, count in (("bends", bends), ("refine", refine)):
        check_non_negative(name, check_whole(name, count))
    if threshold is not None:
        check_non_negative("threshold", threshold)
    pairs = _read_pairs(x_a, x_c, labels, groups)
    if bend.clip is not None:
        pairs.check_range(bend.clip)
    function, network = as_loss(loss), Network(model, compute)
    with isolate_rng(seed, "input path"):
        walk = _Walk(pairs, InputLosses(network, parameters_of(model), function), grid, refine)
        walk.begin()
        compute.report("evaluating input paths", 1, 1 + bends)
        for number in range(bends):
            is_open = walk.bend_once(bends, bend, compute.choose_batch_size(BENT_AT_ONCE))
            compute.report("evaluating input paths", 2 + number if is_open else 1 + bends, 1 + bends)
            if not is_open:
                break
    shared = pairs.find_shared()
    notes = tuple(
        f"no intervals of {group}: {list_first(rows)} stand in several pairs, which then depend on each other"
        for group, rows in shared.items()
    )
    log_warnings("input paths", notes)
    chosen = threshold if threshold is not None else math.log(2.0) if function.unit == NATS else None
    settings = {
        "points": len(grid), "refine": refine, "bends": bends, **({"bend": bend.settings()} if bends else {}),
        "loss": function.describe(), "loss_unit": function.unit, **network.computed, "seed": seed,
    }  # fmt: skip
    return InputProfiles(
        tuple(walk.list_profiles(bends > 0)), chosen, tuple(shared), settings, notes, walk.list_bends()
    )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of inputs, checked."""

    starts: Tensor
    ends: Tensor
    labels: Tensor
    groups: tuple[str, ...]

    def check_range(self, clip: tuple[float, float]) -> None:
        """Raise unless every entry is within the range that bends are clipped to."""
        least = min(float(part.min()) for part in (self.starts, self.ends))
        largest = max(float(part.max()) for part in (self.starts, self.ends))
        low, high = round_range(clip, self.starts.dtype)
        if least < low or largest > high:
            raise ValueError(
                f"the inputs lie in {least:.9g} ... {largest:.9g}, beyond clip={clip!r} of InputBend; widen it, or "
                "leave it out"
            )

    def find_shared(self) -> dict[str, list[str]]:
        """Group -> pairs of which an input also stands in another pair of the group."""
        holders: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, group in enumerate(self.groups):
            both = {hash_content([part[number].cpu()]) for part in (self.starts, self.ends)}
            for content in both:
                holders[group, content].append(number)
        found: dict[str, set[int]] = defaultdict(set)
        for (group, _), numbers in holders.items():
            if len(numbers) > 1:
                found[group] |= {*numbers}
        return {group: [f"pair {number}" for number in sorted(numbers)] for group, numbers in found.items()}


def _read_pairs(x_a: Any, x_c: Any, labels: Any, groups: Sequence[Any] | None) -> _Pairs:
    starts, ends = (_read_inputs(name, x) for name, x in (("x_a", x_a), ("x_c", x_c)))
    wide = torch.promote_types(starts.dtype, ends.dtype)
    starts, ends, targets = starts.to(wide), ends.to(wide), _read_labels(labels)
    if targets.dim() == 0:
        starts, ends, targets = starts[None], ends[None], targets[None]
    if starts.shape != ends.shape:
        raise ValueError(
            f"x_a and x_c must be pairs row by row, got the shapes {list(starts.shape)} and {list(ends.shape)}"
        )
    check_lengths("x_a and labels", len(starts), len(targets))
    if not len(targets):
        raise ValueError("x_a holds no inputs; give one pair or more")
    for name, x in (("x_a", starts), ("x_c", ends)):
        bad = (~torch.isfinite(x)).flatten(1).any(1) if x.dim() > 1 else ~torch.isfinite(x)
        if bool(bad.any()):
            raise ValueError(f"{name}: row {int(bad.nonzero()[0])} holds NaN or infinity; leave its pair out")
    names = (EVERY_PAIR,) * len(targets) if groups is None else tuple(str(name) for name in _to_list(groups))
    check_lengths("labels and groups", len(targets), len(names))
    return _Pairs(starts, ends, targets.detach(), names)


def _read_labels(labels: Any) -> Tensor:
    try:
        return torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        kind = type(labels).__name__
    raise TypeError(
        f"labels must be the targets of the pairs as one tensor, or a single number for one pair, got {kind} that is "
        "no numbers; number the classes from 0"
    )


def _to_list(groups: Any) -> list[Any]:
    return groups.tolist() if hasattr(groups, "tolist") else list(groups)


def _read_inputs(name: str, x: Any) -> Tensor:
    """Inputs as floating point of at least 32 bits."""
    if isinstance(x, Mapping):
        floats = [key for key, part in x.items() if isinstance(part, Tensor) and part.is_floating_point()]
        hint = f"pass {name}[{floats[0]!r}] where the model takes it alone" if floats else "embed token ids first"
        raise TypeError(
            f"{name} must be one floating-point tensor, got a mapping of {list_first([*map(str, x)])}; {hint}"
        )
    x = x if isinstance(x, Tensor) else torch.as_tensor(x) if hasattr(x, "__array__") else x
    check_is(name, x, Tensor, "; pass the inputs of all pairs as one tensor [N, ...]")
    if not x.is_floating_point():
        raise TypeError(
            f"{name} must hold floating-point numbers, got {str(x.dtype).removeprefix('torch.')}: no path joins whole "
            "numbers such as token ids; pass what the model takes after embedding them, or images as floats"
        )
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


@dataclass(eq=False)
class _Piece:
    """A straight piece of one pair's path, with its losses.

    Attributes:
        pair: its number.
        start: P.
        end: Q.
        ts: places evaluated, from 0 to 1.
        loss: there.
        tried: whether it was bent in vain.
    """

    pair: int
    start: Tensor
    end: Tensor
    ts: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    tried: bool = False

    @property
    def highest(self) -> float:
        """The largest loss, infinite where one is NaN."""
        return max(math.inf if math.isnan(value) else value for value in self.loss)

    @property
    def can_bend(self) -> bool:
        """Whether its highest point is finite, and none of its ends."""
        return not self.tried and math.isfinite(self.highest) and self.highest > max(self.loss[0], self.loss[-1])

    @property
    def top(self) -> Tensor:
        """Its highest point."""
        place = self.ts[max(range(len(self.loss)), key=self.loss.__getitem__)]
        return mix(self.start[None], self.end[None], torch.tensor([place]))[0]

    @property
    def length(self) -> float:
        """|Q - P|."""
        return float((self.end.double() - self.start.double()).norm())


@dataclass(eq=False)
class _Walk:
    """The paths of all pairs, straight and bent."""

    pairs: _Pairs
    losses: InputLosses
    grid: tuple[float, ...]
    refine: int
    straight: list[_Piece] = field(default_factory=list)
    paths: list[list[_Piece]] = field(default_factory=list)

    def begin(self) -> None:
        """Evaluate the straight paths."""
        ends = zip(self.pairs.starts, self.pairs.ends, strict=True)
        self.straight = [_Piece(number, a, c) for number, (a, c) in enumerate(ends)]
        self._evaluate(self.straight)
        self.paths = [[piece] for piece in self.straight]

    def bend_once(self, bends: int, bend: InputBend, at_once: int) -> bool:
        """One round over all pairs; whether any piece was to be bent."""
        chosen = [piece for path in self.paths for piece in _choose_pieces(path, bends)]
        for first in range(0, len(chosen), at_once):
            self._bend(chosen[first : first + at_once], bend)
        return bool(chosen)

    def _bend(self, pieces: list[_Piece], bend: InputBend) -> None:
        numbers = torch.tensor([piece.pair for piece in pieces])
        tops, starts, ends = (
            torch.stack([getattr(piece, part) for piece in pieces]) for part in ("top", "start", "end")
        )
        labels = self.pairs.labels[numbers.to(self.pairs.labels.device)]
        device = self.losses.device
        found = bend.move(self.losses.make_slope(labels), tops.to(device), (ends - starts).to(device)).to(tops.device)
        fine = torch.isfinite(found).flatten(1).all(1) if found.dim() > 1 else torch.isfinite(found)
        found = torch.where(fine.view(-1, *[1] * (found.dim() - 1)), found, tops)  # no lower than where it began
        halves = [
            (_Piece(piece.pair, piece.start, middle), _Piece(piece.pair, middle, piece.end))
            for piece, middle in zip(pieces, found, strict=True)
        ]
        self._evaluate([half for both in halves for half in both])
        for piece, both in zip(pieces, halves, strict=True):
            if max(half.highest for half in both) < piece.highest:
                path = self.paths[piece.pair]
                path[path.index(piece) : path.index(piece) + 1] = both
            else:
                piece.tried = True

    def _evaluate(self, pieces: list[_Piece]) -> None:
        """The losses of pieces at the grid, and nearer to the highest point where that is asked for."""
        grid = torch.tensor(self.grid, dtype=torch.float64).expand(len(pieces), -1)
        for piece, values in zip(pieces, self._measure(pieces, grid), strict=True):
            piece.ts, piece.loss = list(self.grid), values
        if not self.refine:
            return
        further = [add_near_peak(piece.loss, piece.ts, self.refine) for piece in pieces]
        found = self._measure(pieces, torch.tensor(further, dtype=torch.float64))
        for piece, ts, values in zip(pieces, further, found, strict=True):
            both = sorted(zip([*piece.ts, *ts], [*piece.loss, *values], strict=True), key=lambda point: point[0])
            piece.ts, piece.loss = [t for t, _ in both], [value for _, value in both]

    def _measure(self, pieces: list[_Piece], places: Tensor) -> list[list[float]]:
        numbers = torch.tensor([piece.pair for piece in pieces])
        starts, ends = (torch.stack([getattr(piece, part) for piece in pieces]) for part in ("start", "end"))
        labels = self.pairs.labels[numbers.to(self.pairs.labels.device)]
        return self.losses.along(Pieces(starts, ends, labels, places)).tolist()

    def list_profiles(self, bent: bool) -> Iterator[InputProfile]:
        """One for each pair."""
        for number, (straight, path) in enumerate(zip(self.straight, self.paths, strict=True)):
            profile = InputProfile(
                self.pairs.groups[number],
                self.pairs.labels[number].tolist(),
                InputCurve(tuple(straight.ts), tuple(straight.loss)),
                distance=straight.length,
            )
            if bent:
                length = sum(piece.length for piece in path)
                profile = replace(profile, bent=_join_curves(path), bends=len(path) - 1, length=length)
            yield profile

    def list_bends(self) -> tuple[Tensor, ...]:
        """The bends of each pair, [bends, ...]."""
        return tuple(
            torch.stack([piece.end for piece in path[:-1]]) if len(path) > 1 else path[0].end[None][:0]
            for path in self.paths
        )


def _choose_pieces(path: list[_Piece], bends: int) -> list[_Piece]:
    """The pieces of a path that are bent in a round, the highest first, as many as there may be further bends."""
    open_ones = sorted((piece for piece in path if piece.can_bend), key=lambda piece: -piece.highest)
    return open_ones[: bends - (len(path) - 1)]


def _join_curves(path: list[_Piece]) -> InputCurve:
    """The losses along a bent path; t is the share of its length."""
    whole = sum(piece.length for piece in path) or 1.0
    ts, loss, before = [], [], 0.0
    for piece in path:
        first = 1 if ts else 0  # where two pieces meet stands once
        ts += [(before + t * piece.length) / whole for t in piece.ts[first:]]
        loss += piece.loss[first:]
        before += piece.length
    ts[-1] = 1.0
    return InputCurve(tuple(ts), tuple(loss))
