r"""Families of edits that take out what rows with a cue need and rows without it do not.

**Set difference.** Weights score by s_ij = mean over rows of |(w_ij - w_ref,ij) dL/dw_ij|, on rows with the cue and on
rows without (SNIP; the reference w_ref is zero or another network's weight). The edit of (q, p) sets to the reference
the weights that are among the top share q with the cue and not among the top share p without it. A weight of score 0 is
in no top share.

**Ranks.** Of a linear map W [out, in] with inputs X, the outputs X W' without bias have the moments S = W X'X W'. Let
P_s project on the top s of the directions of S on rows with the cue, and P_u on the top u of S on rows without it. The
edit of (q, p), s = q R and u = p R with R = min(out, in), is

    W <- W - (I - P_u) P_s (W - W_ref),

which takes rank((I - P_u) P_s) <= s ranks. All maps are read in the network as it is; the authors' code reads each one
behind those that it edited before.

Source: Wei et al. 2024, *Assessing the brittleness of safety alignment via pruning and low-rank modifications*.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from mechconn.core import Params, check_choice, check_count, hash_content, make_generator
from mechconn.merging._edit_scores import EditProblem, EditReader
from mechconn.merging._input_products import Layout
from mechconn.network import WeightChange, parameters_of

SHARES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
KEPT = (0.0, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4)
RANKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
RANKS_KEPT = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
Unit: TypeAlias = Literal["weights", "ranks"]


@dataclass(frozen=True)
class Edit:
    """One edit of a family.

    Attributes:
        cue_share: q, of what rows with the cue need most.
        clean_share: p, of what rows without it need most.
        counts: weight -> entries that change, or ranks that are taken out; those with none are left out.
    """

    cue_share: float
    clean_share: float
    counts: Mapping[str, int]

    @property
    def count(self) -> int:
        """Over all weights."""
        return sum(self.counts.values())


class EditFamily(abc.ABC):
    """Edits of one network.

    Attributes:
        unit: what is counted.
        totals: weight -> entries, or ranks.
        left_out: weight -> why it is not edited.
    """

    unit: Unit

    def __init__(self, problem: EditProblem, reader: EditReader) -> None:
        self.problem, self.layouts = problem, reader.layouts
        self.weights = {name: reader.params[name].detach().cpu() for name in reader.layouts}
        self.totals: dict[str, int] = {}
        self.left_out: dict[str, str] = {}

    @abc.abstractmethod
    def list_edits(self) -> list[Edit]:
        """All edits that differ, fewest changes first, without those that change nothing."""

    @abc.abstractmethod
    def make_moves(self, edit: Edit) -> Params:
        """Weight -> what is added to it, float64."""

    @abc.abstractmethod
    def draw_moves(self, edit: Edit, seed: int) -> Params:
        """The same of a random edit of as many entries or ranks of every weight."""

    def make_change(self, moves: Params) -> WeightChange:
        """Moves as a change of all parameters."""
        theta = parameters_of(self.problem.model)
        return WeightChange(
            {
                name: moves[name].to(p.device) if name in moves else torch.zeros_like(p, dtype=torch.float64)
                for name, p in theta.items()
            }
        )

    def find_move(self, name: str) -> Tensor:
        """w_ref - w, float64."""
        weight = self.weights[name]
        return self.problem.set_to(name, weight) - weight.double()


@dataclass(frozen=True)
class SetDifference:
    """Weights that rows with the cue need most, less those that rows without it need most; see `sparsest_edit`.

    Attributes:
        cue_shares: q, in (0, 1].
        clean_shares: p, in [0, 1].
        within: "layer": shares of each weight matrix, as in the source; "network": of all of them together.
        rows: that score, of either kind; 128 in the source.
        layers: names of modules or weights that may be edited; None: all linear maps that run.

    Example:
        >>> SetDifference(cue_shares=(0.01, 0.1)).describe()["cue_shares"]
        [0.01, 0.1]
    """

    cue_shares: Iterable[float] = SHARES
    clean_shares: Iterable[float] = KEPT
    within: Literal["layer", "network"] = "layer"
    rows: int = 128
    layers: Iterable[str] | None = None

    def __post_init__(self) -> None:
        _read_settings(self)
        check_choice("within", self.within, ("layer", "network"))
        check_count("rows", self.rows)

    def describe(self) -> dict[str, Any]:
        """Everything needed to repeat it."""
        return {"method": "set difference", **_describe(self), "within": self.within, "rows": self.rows}

    @property
    def names(self) -> tuple[str, ...] | None:
        """The layers, as they were given."""
        return None if self.layers is None else tuple(self.layers)

    def prepare(self, problem: EditProblem) -> EditFamily:
        """Its edits of a network."""
        return _Masks(problem, self)


@dataclass(frozen=True)
class RankDifference:
    """Directions of outputs that rows with the cue have most, less those that rows without it have; `sparsest_edit`.

    Attributes:
        cue_shares: q, of the ranks of each linear map, in (0, 1].
        clean_shares: p, in [0, 1].
        layers: names of modules or weights that may be edited; None: all linear maps that run.

    Example:
        >>> RankDifference(cue_shares=[0.5]).describe()["method"]
        'rank difference'
    """

    cue_shares: Iterable[float] = RANKS
    clean_shares: Iterable[float] = RANKS_KEPT
    layers: Iterable[str] | None = None

    def __post_init__(self) -> None:
        _read_settings(self)

    def describe(self) -> dict[str, Any]:
        """Everything needed to repeat it."""
        return {"method": "rank difference", **_describe(self)}

    @property
    def names(self) -> tuple[str, ...] | None:
        """The layers, as they were given."""
        return None if self.layers is None else tuple(self.layers)

    def prepare(self, problem: EditProblem) -> EditFamily:
        """Its edits of a network."""
        return _Projections(problem, self)


EditMethod: TypeAlias = SetDifference | RankDifference


def _read_settings(method: EditMethod) -> None:
    for name, zero in (("cue_shares", False), ("clean_shares", True)):
        given: Any = getattr(method, name)
        values = [given] if isinstance(given, int | float) else list(given)
        for value in values:
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not (0 if zero else 1e-12) <= value <= 1
            ):
                raise ValueError(
                    f"{name} must be shares in {'[' if zero else '('}0, 1], got {value!r}; write {name}=(0.01, 0.1)"
                )
        if not values:
            raise ValueError(f"{name} must hold one share or more, got none; write {name}=(0.01, 0.1)")
        object.__setattr__(method, name, tuple(sorted({float(value) for value in values})))
    if method.layers is not None:
        if isinstance(method.layers, str) or not (layers := tuple(method.layers)):
            raise ValueError(f"layers must be a list of names, got {method.layers!r}; leave it out for all linear maps")
        object.__setattr__(method, "layers", layers)


def _describe(method: EditMethod) -> dict[str, Any]:
    layers = None if method.layers is None else list(method.layers)
    return {"cue_shares": list(method.cue_shares), "clean_shares": list(method.clean_shares), "layers": layers}


def _take(share: float, total: int) -> int:
    """How many of so many a share is, rounded down."""
    return int(share * total + 1e-9)


class _Masks(EditFamily):
    """Edits of `SetDifference`."""

    unit: Unit = "weights"

    def __init__(self, problem: EditProblem, method: SetDifference) -> None:
        reader = EditReader(problem)
        super().__init__(problem, reader)
        self._method = method
        self.totals = {name: weight.numel() for name, weight in self.weights.items()}
        self._ranks = {side: self._rank(reader.score(side, method.rows)) for side in problem.sides}

    def _rank(self, scores: dict[str, Tensor]) -> dict[str, Tensor]:
        """The place of each weight by its score, 0 the highest; far behind all where the score is 0."""
        parts = {name: score.flatten() for name, score in scores.items()}
        if self._method.within == "network":
            joint = _place(torch.cat(list(parts.values())))
            return dict(zip(parts, joint.split([len(part) for part in parts.values()]), strict=True))
        return {name: _place(part) for name, part in parts.items()}

    def _mask(self, q: float, p: float) -> dict[str, Tensor]:
        whole = sum(self.totals.values())
        masks = {}
        for name, total in self.totals.items():
            of = whole if self._method.within == "network" else total
            needed, kept = self._ranks["cue"][name] < _take(q, of), self._ranks["clean"][name] < _take(p, of)
            masks[name] = needed & ~kept & (self.find_move(name).flatten() != 0)
        return masks

    def list_edits(self) -> list[Edit]:
        found: dict[str, Edit] = {}
        for q in self._method.cue_shares:
            for p in self._method.clean_shares:
                masks = self._mask(q, p)
                counts = {name: int(mask.sum()) for name, mask in masks.items() if mask.any()}
                if counts:
                    found.setdefault(
                        hash_content([part for pair in masks.items() for part in pair]), Edit(q, p, counts)
                    )
        return sorted(found.values(), key=lambda edit: edit.count)

    def make_moves(self, edit: Edit) -> Params:
        masks = self._mask(edit.cue_share, edit.clean_share)
        return {name: self.find_move(name) * mask.view_as(self.weights[name]) for name, mask in masks.items()}

    def draw_moves(self, edit: Edit, seed: int) -> Params:
        moves = {}
        for name, count in edit.counts.items():
            able = (self.find_move(name).flatten() != 0).nonzero().flatten()
            drawn = able[torch.randperm(len(able), generator=make_generator(seed, "random edit", name))[:count]]
            mask = torch.zeros(self.totals[name], dtype=torch.bool)
            mask[drawn] = True
            moves[name] = self.find_move(name) * mask.view_as(self.weights[name])
        return moves


def _place(scores: Tensor) -> Tensor:
    order = scores.argsort(descending=True, stable=True)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    return torch.where(scores > 0, places, torch.iinfo(torch.int64).max)


class _Projections(EditFamily):
    """Edits of `RankDifference`."""

    unit: Unit = "ranks"

    def __init__(self, problem: EditProblem, method: RankDifference) -> None:
        reader = EditReader(problem)
        super().__init__(problem, reader)
        self._method = method
        seen = {side: reader.read_products(side) for side in problem.sides}
        self._directions: dict[str, dict[str, list[Tensor]]] = {side: {} for side in seen}
        for name in list(self.weights):
            sums = [products.sums.get(name) for products in seen.values()]
            if any(own is None or own.dim() < 3 for own in sums):
                self.left_out[name] = "it is too wide, or does not run on both kinds of rows"
                continue
            maps = self._maps(name, self.weights[name])
            self.totals[name] = len(maps) * min(maps.shape[1:])
            for side, own in zip(seen, sums, strict=True):
                assert own is not None
                self._directions[side][name] = [_find_directions(w, x.cpu()) for w, x in zip(maps, own, strict=True)]
        if not self.totals:
            raise ValueError("no linear map has ranks that can be read; take SetDifference(), which needs slopes alone")

    def _maps(self, name: str, tensor: Tensor) -> Tensor:
        return self.layouts[name].to_maps(tensor)

    def _list_reduced(self, name: str, q: float, p: float) -> list[tuple[Tensor, Tensor]]:
        """Of every block ((I - P_u) V_s, V_s)."""
        found = []
        of = self.totals[name] // len(self._directions["cue"][name])
        for cue, clean in zip(self._directions["cue"][name], self._directions["clean"][name], strict=True):
            top, kept = cue[:, : _take(q, of)], clean[:, : _take(p, of)]
            found.append((top - kept @ (kept.T @ top), top))
        return found

    def list_edits(self) -> list[Edit]:
        found: dict[str, Edit] = {}
        moving = {name: [bool(part.any()) for part in self._maps(name, self.find_move(name))] for name in self.totals}
        for q in self._method.cue_shares:
            for p in self._method.clean_shares:
                takes, counts = list[str](), dict[str, int]()
                for name in self.totals:
                    reduced = self._list_reduced(name, q, p)
                    rank = sum(
                        _count_ranks(left) * moves for (left, _), moves in zip(reduced, moving[name], strict=True)
                    )
                    takes.append(f"{name} {[(top.shape[1], rank) for _, top in reduced]}")
                    counts |= {name: rank} if rank else {}
                if counts:
                    found.setdefault(f"{takes} {self._count_kept(p)}", Edit(q, p, counts))
        return sorted(found.values(), key=lambda edit: edit.count)

    def _count_kept(self, p: float) -> list[int]:
        return [_take(p, total // len(self._directions["clean"][name])) for name, total in self.totals.items()]

    def make_moves(self, edit: Edit) -> Params:
        moves = {}
        for name in edit.counts:
            maps = self._maps(name, self.find_move(name))
            reduced = self._list_reduced(name, edit.cue_share, edit.clean_share)
            moved = [left @ (top.T @ part) for (left, top), part in zip(reduced, maps, strict=True)]
            moves[name] = self._to_weight(name, moved)
        return moves

    def _to_weight(self, name: str, blocks: list[Tensor]) -> Tensor:
        layout: Layout = self.layouts[name]
        return layout.to_weight(torch.stack(blocks), self.weights[name].double())

    def draw_moves(self, edit: Edit, seed: int) -> Params:
        moves = {}
        for name in edit.counts:
            draw, blocks = make_generator(seed, "random edit", name), []
            reduced = self._list_reduced(name, edit.cue_share, edit.clean_share)
            for (left, _), part in zip(reduced, self._maps(name, self.find_move(name)), strict=True):
                drawn = torch.randn(len(part), _count_ranks(left), generator=draw, dtype=torch.float64)
                basis = torch.linalg.qr(drawn).Q
                blocks.append(basis @ (basis.T @ part))
            moves[name] = self._to_weight(name, blocks)
        return moves


def _find_directions(weight: Tensor, products: Tensor) -> Tensor:
    """Directions of the outputs, the one with the largest moment first, [out, those with any]."""
    moments = weight @ products @ weight.T
    sizes, directions = torch.linalg.eigh((moments + moments.T) / 2)
    sizes, directions = sizes.flip(0), directions.flip(1)
    return directions[:, sizes > 1e-10 * sizes[0].clamp(min=0)]


def _count_ranks(left: Tensor) -> int:
    """Columns that are linearly independent, to a part in a million of a direction of length 1."""
    return int((torch.linalg.svdvals(left) > 1e-6).sum()) if left.numel() else 0
