"""A fix found on one network, moved through alignment to another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from mechconn.alignment import Alignment, AlignmentMethod
from mechconn.core import NOT_SAVED, Compute, Data, Progress, log_warnings, resolve_compute
from mechconn.merging._move_change import Matched, Move, check_change, find_move
from mechconn.network import (
    Network,
    NormPolicy,
    WeightChange,
    parameters_of,
    point_of,
    resolve_norm,
    unwrap_module,
    with_change,
)
from mechconn.paths import Spot, model_at
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_marks, leave_out
from mechconn.symmetry import Symmetry

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

AGAIN = "transplant it again with mechconn.transplant"


@dataclass(frozen=True, eq=False, repr=False)
class Transplant(Result, kind="transplant"):
    """A change of one network, moved into another's order of units and added there.

    Attributes:
        scale: what the change was multiplied by.
        size: |tau|, the Euclidean norm of the change as it was given.
        moved_size: |g(tau)|: the same but for scales and linear maps.
        cosine: of the change as it was given and as it was moved: 1 where moving changed nothing.
        distance_before, distance_after: of the two networks, as saved and once the base is moved.
        coverage: share of the hidden axes all of whose units may be moved, in [0, 1].
        unmatched: share of |g(tau)|^2 in tensors with units that could not be matched, in [0, 1].
        norms: parameter -> Euclidean norm of what the moved change has there.
        alignment: the base moved onto the other network; None where the change was not moved, or through many networks.
        statistics: where normalisation statistics came from.
        settings: everything needed to repeat it.
        notes: what a reader must know of it.
        model: the other network with the moved change added, in evaluation mode. Files leave it out.
        change: g(tau), in the other network's order of units. Files leave it out.
        given: tau, as it was given. Files leave it out.
        matched_on: rows on whose loss units were matched, which judge nothing; None where there are none, and in files.
    """

    derived: ClassVar[tuple[str, ...]] = ("headline",)

    scale: float
    size: float
    moved_size: float
    cosine: float
    distance_before: float
    distance_after: float
    coverage: float
    unmatched: float
    norms: Mapping[str, float]
    alignment: Alignment | None
    statistics: Mapping[str, Any]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    model: nn.Module = field(default=leave_out("model", AGAIN), metadata=NOT_SAVED)
    change: WeightChange = field(default=leave_out("weight change", AGAIN), metadata=NOT_SAVED)
    given: WeightChange = field(default=leave_out("weight change", AGAIN), metadata=NOT_SAVED)
    matched_on: Data | None = field(default=None, metadata=NOT_SAVED)

    @property
    def is_moved(self) -> bool:
        """Whether the change was moved before it was added."""
        return self.settings["matching"]["method"] != "none"

    @property
    def headline(self) -> str:
        """What was done, in a sentence."""
        how = f"a change of norm {self.size:.4g} was added"
        if not self.is_moved:
            return f"As it is, {how} to a network {self.distance_before:.4g} away from its base."
        return (
            f"Moved by {self.settings['matching']['method']}, {how} to a network {self.distance_after:.4g} away from "
            f"the moved base ({self.distance_before:.4g} as saved)."
        )

    @property
    def findings(self) -> tuple[str, ...]:
        """The notes."""
        return self.notes

    def header(self) -> Header:
        """What was done."""
        return Header(self.headline, "What was added to the other network?")

    def rows(self) -> list[dict[str, Any]]:
        """One record for each parameter: the norm of what the moved change has there, and its share of |g(tau)|^2."""
        total = max(self.moved_size**2, torch.finfo(torch.float64).tiny)
        return [{"parameter": name, "norm": norm, "share": norm**2 / total} for name, norm in self.norms.items()]

    def sections(self) -> list[Section]:
        """The change parameter by parameter, then the alignment."""
        rows = tuple((r["parameter"], f"{r['norm']:.4g}", f"{100 * r['share']:.1f} %") for r in self.rows())
        table = Table(("parameter", "norm", "share"), rows, note="Share: of the squared norm of the moved change.")
        drawing = Drawing(self.plot, "Norm of the moved change, parameter by parameter; the table holds it.")
        own = Section("The change", "\n".join(_list_sentences(self)), figures=(drawing,), tables=(table,))
        return [own, *([] if self.alignment is None else self.alignment.sections())]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """Norm of the moved change, parameter by parameter."""
        marks = [(norm, norm, norm) for norm in self.norms.values()]
        return draw_marks(list(self.norms), {"moved change": marks}, "norm", "parameter", ax)

    def __str__(self) -> str:
        return "\n".join([self.headline, *(f"- {said}" for said in _list_sentences(self)), *_list_lines(self.notes)])


def _list_sentences(found: Transplant) -> Iterator[str]:
    yield f"Scale {found.scale:g}; cosine of the change as given and as moved {found.cosine:.3f}."
    if found.is_moved:
        yield (
            f"{100 * found.coverage:.1f} % of the hidden axes have units that may be moved; "
            f"{100 * found.unmatched:.1f} % of the change's squared norm lies in tensors with units that could not be "
            "matched."
        )


def _list_lines(notes: Sequence[str]) -> Iterator[str]:
    yield from (f"note: {note}" for note in notes)


@torch.inference_mode(False)  # the network it gives may be trained
def transplant(
    change: WeightChange,
    base: nn.Module,
    onto: nn.Module,
    matching: Matched,
    symmetry: Symmetry | None = None,
    *,
    scale: float = 1.0,
    norm: NormPolicy | None = None,
    ignore: Sequence[str] = (),
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Transplant:
    r"""Move a change of one network into another's order of units, and add it there: theta_onto + scale g(tau).

    g is the element that moves the base onto the other network (`align(onto, base, ...)`: `onto` stays as it is).
    Permutations, signs, scales, linear and orthogonal maps act on weights as matrices do, so that

        g(theta + tau) - g(theta) = g(tau):

    what moves weights moves their changes. Where the other network is a copy of the base with its units moved, it gets
    what tuning made of the base, moved alike: the same function. Elsewhere nothing is promised; `judge_transplant` says
    what came of it.

    Args:
        change: what tuning made of the base: `weight_change(base, tuned)`. None of the networks is changed.
        base: the network that the change was found on.
        onto: the network that gets it: one module with the base, with other parameters and statistics.
        matching: how the base's units are matched to those of `onto`: a method, such as `WeightMatching()` or
            `GradientMatching(data, change)`; an `Alignment` that `align(onto, base, ...)` found; what `align_many`
            found for networks with these two among them; or None: the change is added as it is.
        symmetry: as in `align`.
        scale: what the moved change is multiplied by.
        norm: where normalisation statistics come from; required when the models keep any. `KeepNorm()` leaves those of
            `onto`.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        seed: of the alignment.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where `onto` is.
        progress: short for `Compute(progress=...)`; counts the alignment's steps.

    Raises:
        ValueError: the change is none of the base's parameters, the networks are not one module, `norm` is missing, the
            scale is not finite, or as in `align`.

    Example:
        The other network is the base with its hidden units in another order.

        >>> import copy
        >>> from mechconn.alignment import WeightMatching
        >>> from mechconn.network import weight_change
        >>> from mechconn.symmetry import symmetry_of
        >>> base, tuned = (nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1)) for _ in range(2))
        >>> symmetry, other = symmetry_of(base, torch.ones(2, 1)), copy.deepcopy(base)
        >>> _ = other.load_state_dict(symmetry.apply(base.state_dict(), {"layer0": torch.tensor([2, 0, 1])}))
        >>> found = transplant(weight_change(base, tuned), base, other, WeightMatching(), symmetry)
        >>> x = torch.linspace(-1, 1, 5)[:, None]
        >>> torch.allclose(found.model(x), tuned(x), atol=1e-6)
        True

    Source: Chijiwa 2024 (a whole training run moved to another start); Ilharco et al. 2023 (changes as vectors).
    """
    compute = resolve_compute(compute, device, progress)
    base, onto = unwrap_module(base, "base"), unwrap_module(onto, "onto")
    check_change(change, base)
    policy = resolve_norm(norm, Network(onto, compute))
    move = find_move(base, onto, matching, symmetry, ignore, seed, compute)
    moved = move.apply(change)
    model = add_change(onto, moved, scale, policy, seed, compute)
    found = _make_result(change, moved, move, model, scale, policy, seed)
    chosen = matching.optimised_on() if isinstance(matching, AlignmentMethod) else None
    return replace(found, matched_on=chosen)


def add_change(
    onto: nn.Module, change: WeightChange, scale: float, norm: NormPolicy, seed: int, compute: Compute
) -> nn.Module:
    """The network at theta + scale tau with the statistics that a policy gives it, in evaluation mode."""
    params = parameters_of(with_change(onto, change, scale))
    spot = Spot(lambda: {name: tensor.clone() for name, tensor in params.items()}, [point_of(onto)], None, [1.0])
    return model_at(onto, spot, 0.5, norm=norm, seed=seed, compute=compute.without_progress())


def _make_result(
    given: WeightChange, moved: WeightChange, move: Move, model: nn.Module, scale: float, norm: NormPolicy, seed: int
) -> Transplant:
    norms, unmatched = moved.norms, move.list_unmatched()
    size = math.hypot(*norms.values())
    share = sum(norm**2 for name, norm in norms.items() if name in unmatched) / size**2 if size else 0.0
    notes = (*_note_doubts(move, share), *move.notes)
    log_warnings("transplant", notes)
    cosine = given.cosine(WeightChange({name: tensor.cpu() for name, tensor in moved.tensors.items()}))
    return Transplant(
        scale=float(scale),
        size=given.norm,
        moved_size=size,
        cosine=cosine,
        distance_before=move.before,
        distance_after=move.after,
        coverage=move.coverage,
        unmatched=share,
        norms=norms,
        alignment=move.alignment,
        statistics=norm.describe(),
        settings={"matching": dict(move.settings), "scale": float(scale), "norm": norm.describe(), "seed": seed},
        notes=notes,
        model=model,
        change=moved,
        given=given,
    )


def _note_doubts(move: Move, share: float) -> Iterator[str]:
    if move.symmetry is not None and move.coverage < 1.0:
        yield (
            f"{100 * (1 - move.coverage):.1f} % of the hidden axes have units that stay in their order; "
            f"{100 * share:.1f} % of the change's squared norm lies in such tensors"
        )
    dead = {} if move.alignment is None else move.alignment.dead
    if count := sum(dead.values()):
        yield f"{count} units are constant on the data, so that what the change has there is moved by chance"
