"""A fix found on one network, moved through alignment to another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from mechconn.alignment import Alignment, GradientMatching
from mechconn.core import NOT_SAVED, Compute, Data, Progress, log_warnings, resolve_compute
from mechconn.merging._add_change import add_change
from mechconn.merging._move_change import Matched, Move, check_change, find_move
from mechconn.network import (
    Network,
    NormPolicy,
    WeightChange,
    are_equal,
    find_statistics_layers,
    refuse_adapters,
    resolve_norm,
    unwrap_module,
)
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_marks, leave_out
from mechconn.symmetry import Symmetry

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

AGAIN = "transplant it again with mechconn.transplant"
BARRIER = "a barrier on the line"
"""In notes of an alignment that are on paths, of which there are none here."""
RESIZED = 2.0
"""A factor by which moving may change the norm of a parameter's change without a note."""


@dataclass(frozen=True, eq=False, repr=False)
class Transplant(Result, kind="transplant"):
    """A change of one network, moved into another's order of units and added there.

    Attributes:
        scale: what the change was multiplied by.
        size: |tau|, the Euclidean norm of the change as it was given.
        moved_size: |g(tau)|: the same but for scales and linear maps.
        cosine: of the change as it was given and as it was moved: 1 where moving changed nothing; None of a change that
            is zero.
        distance_before, distance_after: of the two networks, as saved and once the base is moved.
        coverage: share of the hidden axes all of whose units may be moved, in [0, 1]; None where nothing was matched.
        unmatched: share of |g(tau)|^2 in tensors with units that could not be matched, in [0, 1]; None where nothing
            was matched.
        norms: parameter -> Euclidean norm of what the moved change has there.
        alignment: the base moved onto the other network; None where the change was not moved, or through many networks.
        statistics: where normalisation statistics came from.
        settings: everything needed to repeat it.
        notes: what a reader must know of it.
        model: the other network with the moved change added, in evaluation mode. Files leave it out.
        change: g(tau), in the other network's order of units. Files leave it out.
        given: tau, as it was given. Files leave it out.
        matched_on: rows on which units were matched, which judge nothing; None where there are none, and in files.
    """

    derived: ClassVar[tuple[str, ...]] = ("headline", "added_size")

    scale: float
    size: float
    moved_size: float
    cosine: float | None
    distance_before: float
    distance_after: float
    coverage: float | None
    unmatched: float | None
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
    def added_size(self) -> float:
        """|scale| |g(tau)|, the norm of what was added."""
        return abs(self.scale) * self.moved_size

    @property
    def headline(self) -> str:
        """What was done, in a sentence."""
        how = f"a change of norm {self.added_size:.4g} ({self.size:.4g} as given) was added"
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
    turned = "undefined, as the change is zero" if found.cosine is None else f"{found.cosine:.3f}"
    yield f"Scale {found.scale:g}; cosine of the change as given and as moved {turned}."
    if found.coverage is not None and found.unmatched is not None:
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
    the weights that tuning made of the base's, moved alike: the same function where no normalisation statistics are
    kept. Those are no part of a change: with `KeepNorm()` they are `onto`'s, which tuning did not change. Elsewhere
    nothing is promised; `judge_transplant` says what came of it.

    Args:
        change: what tuning made of the base: `weight_change(base, tuned)`. None of the networks is changed.
        base: the network that the change was found on.
        onto: the network that gets it: one module with the base, with other parameters and statistics.
        matching: how the base's units are matched to those of `onto`: a method, such as `WeightMatching()` or
            `GradientMatching(data, change)`; an `Alignment` that `align(onto, base, ...)` found; what `align_many`
            found for networks with these two among them; or None: the change is added as it is.
        symmetry: as in `align`; beside a method alone.
        scale: what the moved change is multiplied by.
        norm: where normalisation statistics come from; required when the models keep any. `Reestimate(data)` fits them
            to the new weights; `KeepNorm()` leaves those of `onto`, which a fix that moved them may need otherwise.
        ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
        seed: of the alignment.
        compute: how to compute; see `Compute`.
        device: short for `Compute(device=...)`; default: where `onto` is.
        progress: short for `Compute(progress=...)`; counts the alignment's steps.

    Raises:
        ValueError: the change is none of the base's parameters, the networks are not one module, `norm` is missing, the
            scale is not finite, a symmetry beside no method, or as in `align`.

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
    refuse_adapters("base", base)
    refuse_adapters("onto", onto)
    check_change(change, base, scale)
    if broken := [name for name, p in onto.named_parameters() if not bool(p.detach().isfinite().all())]:
        raise ValueError(f"onto holds NaN or infinity in {', '.join(broken[:3])}; take an earlier checkpoint")
    policy = resolve_norm(norm, Network(onto, compute))
    move = find_move(base, onto, matching, symmetry, ignore, seed, compute)
    moved = move.apply(change)
    model = add_change(onto, moved, scale, policy, seed, compute)
    notes = (
        *_note_doubts(move, change, moved),
        *_note_other_change(matching, change),
        *_note_statistics(model, onto),
        *(note for note in move.notes if BARRIER not in note),
    )
    log_warnings("transplant", notes)
    settings = {
        "matching": dict(move.settings), "scale": float(scale), "norm": policy.describe(), "ignore": list(ignore),
        "seed": seed,
    }  # fmt: skip
    cosine = change.cosine(WeightChange({name: tensor.cpu() for name, tensor in moved.tensors.items()}))
    return Transplant(
        scale=float(scale),
        size=change.norm,
        moved_size=moved.norm,
        cosine=None if math.isnan(cosine) else cosine,
        distance_before=move.before,
        distance_after=move.after,
        coverage=move.coverage,
        unmatched=move.measure_unmatched(moved),
        norms=moved.norms,
        alignment=move.alignment,
        statistics=policy.describe(),
        settings=settings,
        notes=notes,
        model=model,
        change=moved,
        given=change,
        matched_on=move.rows,
    )


def are_statistics_of(model: nn.Module, onto: nn.Module) -> bool:
    """Whether a network has another's buffers."""
    own = dict(onto.named_buffers())
    return all(are_equal(buffer, own[name]) for name, buffer in model.named_buffers())


def _note_doubts(move: Move, given: WeightChange, moved: WeightChange) -> Iterator[str]:
    share = move.measure_unmatched(moved)
    if move.symmetry is not None and not move.symmetry.sizes:
        yield "the network has no hidden units that may be moved: the change is added as it is"
        return
    if share is not None and move.coverage is not None and move.coverage < 1.0:
        yield (
            f"{100 * (1 - move.coverage):.1f} % of the hidden axes have units that stay in their order; "
            f"{100 * share:.1f} % of the change's squared norm lies in such tensors"
        )
    dead = {} if move.alignment is None else move.alignment.dead
    if count := sum(dead.values()):
        yield f"{count} units are constant on the data, so that what the change has there is moved by chance"
    sizes = ((name, before, moved.norms[name]) for name, before in given.norms.items())
    resized = [f"{name} ({before:.3g} to {after:.3g})" for name, before, after in sizes if _is_resized(before, after)]
    if resized:
        yield (
            f"matching scales of units changed the norm of the change by more than a factor of {RESIZED:g} in "
            f"{', '.join(resized)}: the networks are saved at other scales there"
        )


def _is_resized(before: float, after: float) -> bool:
    return after > RESIZED * before or before > RESIZED * after


def _note_other_change(matching: Matched, change: WeightChange) -> Iterator[str]:
    """That gradients were matched along another change than the one that is moved."""
    along = matching.change if isinstance(matching, GradientMatching) else None
    if not isinstance(along, WeightChange) or set(along.tensors) != set(change.tensors):
        return
    if not all(
        are_equal(along.tensors[name], tensor.to(along.tensors[name])) for name, tensor in change.tensors.items()
    ):
        yield "gradients were matched along another change than the one that was moved; pass GradientMatching that one"


def _note_statistics(model: nn.Module, onto: nn.Module) -> Iterator[str]:
    if find_statistics_layers(Network(model)) and are_statistics_of(model, onto):
        yield (
            "normalisation statistics are those of onto, without the fix: where tuning moved them, even a copy of the "
            "base does not become what tuning made of it; pass norm=Reestimate(training batches)"
        )
