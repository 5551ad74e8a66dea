"""Balancing a network: one choice among all rescalings of its units that leave its function as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mechconn.core import NOT_SAVED, Inputs, check_is, log_warnings, move_inputs
from mechconn.network import copy_with_state, resolve_device, set_mode, unwrap_module
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_marks, leave_out
from mechconn.symmetry._equalise import equalise
from mechconn.symmetry._find import symmetry_of
from mechconn.symmetry._probe import Probe
from mechconn.symmetry._scalings import Scaling, find_scalings, list_touched, scale_tensor
from mechconn.symmetry._symmetry import Symmetry
from mechconn.symmetry._verify import relative_error

if TYPE_CHECKING:
    from mechconn.plotting import Axes, Figure

BOUND = 1e-3
"""Largest relative change of the outputs at which units before a normalisation are rescaled."""
MARGINS = (1e2, 1e4)
"""By how many times the epsilon of a normalisation a unit's variance must exceed it; the second where the first is not
enough for the bound."""
HOMOGENEOUS, NORMALISED = "homogeneous", "before normalisation"
LISTED = 6
BALANCE_AGAIN = "balance the network again, mechconn.balance(model, symmetry)"


@dataclass(frozen=True)
class Rescaled:
    """Units that were rescaled.

    Attributes:
        group: of the symmetry; several are joined by " x " where each combination of their units has its own scale.
        kind: "homogeneous": what is multiplied and what is divided get equal norms; "before normalisation": what is
            multiplied gets norm 1.
        exact: whether the function stays as it is whatever the epsilon of normalisations.
        units: how many.
        held: how many of them keep their scale: of norm zero, or of a variance not large against epsilon.
        members: (tensor, axis, exponent e): entries of a unit with scale s were multiplied by s^e.
        largest: the largest of s and 1/s over the units.
    """

    group: str
    kind: str
    exact: bool
    units: int
    held: int
    members: tuple[tuple[str, int, float], ...]
    largest: float


@dataclass(frozen=True, eq=False, repr=False)
class Balanced(Result, kind="balanced"):
    """A network with its units rescaled to the one choice that all its rescaled copies share.

    Attributes:
        groups: what was rescaled.
        left: group -> why its units keep their scales.
        error: max |change| / max |output| of the outputs on the example, in float64 and evaluation mode.
        settings: everything needed to repeat it.
        notes: what the reader must know; mostly empty.
        model: the balanced network in evaluation mode. Files leave it out.
    """

    groups: tuple[Rescaled, ...]
    left: Mapping[str, str]
    error: float
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    model: nn.Module = field(default=leave_out("model", BALANCE_AGAIN), metadata=NOT_SAVED)

    @property
    def findings(self) -> tuple[str, ...]:
        """The notes."""
        return self.notes

    def rows(self) -> list[dict[str, Any]]:
        """One record for each rescaling: group, kind, units, those that keep their scale, and the largest factor."""
        return [
            {
                "group": group.group,
                "kind": group.kind,
                "exact": group.exact,
                "units": group.units,
                "held": group.held,
                "largest": group.largest,
            }
            for group in self.groups
        ]

    def header(self) -> Header:
        """What was asked."""
        return Header("A balanced network", "Which hidden units were rescaled?")

    def sections(self) -> list[Section]:
        """What was rescaled and by how much at most, and why the rest was not."""
        cells = tuple(
            (
                g.group,
                g.kind,
                "exact" if g.exact else "up to epsilon",
                str(g.units),
                str(g.held or ""),
                f"{g.largest:.3g}",
            )
            for g in self.groups
        )
        found = [Section("Rescaled units", f"{self._describe()}.")]
        if cells:
            headings = ("units of", "kind", "function", "number", "kept", "largest factor")
            drawing = Drawing(self.plot, "Largest factor of every rescaling. The table below holds the numbers.")
            tables = (Table(headings, cells, words=frozenset({0, 1, 2})),)
            found = [replace(found[0], figures=(drawing,), tables=tables)]
        if self.left:
            table = Table(("units of", "reason"), tuple(self.left.items()), words=frozenset({0, 1}))
            found.append(Section("Units that keep their scales", tables=(table,)))
        return found

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """The largest factor of every rescaling."""
        marks = [(g.largest, g.largest, g.largest) for g in self.groups]
        return draw_marks([f"{g.group}, {g.kind}" for g in self.groups], {"factor": marks}, "factor", "units", ax)

    def _describe(self) -> str:
        units = sum(group.units - group.held for group in self.groups)
        return (
            f"{len(self.groups)} rescaling{'s' * (len(self.groups) != 1)} of {units} units in all; the outputs change "
            f"by a relative {self.error:.1e}"
        )

    def __str__(self) -> str:
        lines = [self._describe()]
        lines += [
            f"  {g.group}: {g.units - g.held} units, {g.kind}{'' if g.exact else ', up to epsilon'}, by at most "
            f"{g.largest:.3g}"
            for g in self.groups[:LISTED]
        ]
        if len(self.groups) > LISTED:
            lines.append(f"  and {len(self.groups) - LISTED} more")
        lines += [f"  left alone, {group}: {reason}" for group, reason in self.left.items()]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def balance(
    model: nn.Module,
    symmetry: Symmetry | None = None,
    example_input: Inputs | None = None,
    *,
    seed: int = 0,
) -> Balanced:
    """Rescale hidden units so that networks which differ by rescalings alone become one; the function stays.

    Weights can be multiplied by s > 0 before a ReLU and divided by s behind it: the function is the same, and gradient
    descent is not. Of all such copies the one is returned whose weights have the smallest sum of squares, in which
    what is multiplied and what is divided have equal norms, unit by unit.

    What stands before a normalisation can be multiplied alone, up to its epsilon: a learning rate lr acts on its
    direction as lr / norm^2, so that its norm is a second learning rate. Here the norm becomes 1, running statistics go
    along, and `error` says how much the outputs change; where they would by more than a relative 1e-3, these units keep
    their scales.

    Which tensors are rescaled with a unit follows from derivatives, and is proved by running a float64 copy at random
    scales between 1/2 and 2, in evaluation and in training mode, and at scales 10,000 times larger and smaller.
    Activations that are not positively homogeneous (GELU,
    tanh, sigmoid, softmax), frozen parameters (requires_grad is False), and units of norm zero keep their scales.

    Args:
        model: it stays as it is.
        symmetry: of which units; default: `symmetry_of(model, example_input)`.
        example_input: one batch that the model accepts; default: the one that the symmetry was found on.
        seed: of the random scales and disturbances of the proof.

    Raises:
        ValueError: neither a symmetry nor an example is given, or the symmetry is not one of this model.

    Example:
        The weights 8 and 2 are multiplied and divided by 1/2.

        >>> model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False)).double()
        >>> with torch.no_grad():
        ...     _ = model[0].weight.fill_(8.0), model[2].weight.fill_(2.0)
        >>> symmetry = Symmetry.from_axes(model, {"0.weight": ["h", 1], "2.weight": [1, "h"]}, {"h": 1})
        >>> balanced = balance(model, symmetry, torch.ones(2, 1)).model
        >>> [round(balanced.get_parameter(name).item(), 9) for name in ("0.weight", "2.weight")]
        [4.0, 4.0]

    Source: Stock, Graham, Gribonval and Jégou, "Equi-normalization of neural networks", ICLR 2019.
    """
    model = unwrap_module(model)
    symmetry, example = _resolve(model, symmetry, example_input)
    scalings, left = find_scalings(model, example, symmetry, seed)
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    probe = Probe(model, example, seed, disturbed=False)
    chosen, logs, held = _rescale_within_bound(model, probe, own, scalings)
    state = {name: scale_tensor(name, own[name].detach().double(), chosen, logs) for name in list_touched(chosen)}
    result = copy_with_state(model, {name: t.to(own[name].dtype) for name, t in state.items()})
    set_mode(result, False)
    refused = [s for s in scalings if not any(s is other for other in chosen)]
    error = relative_error(probe.outputs(False)[0], Probe(result, example, seed, disturbed=False).outputs(False)[0])
    notes = tuple(_collect_notes(symmetry, refused))
    log_warnings("balance", notes)
    return Balanced(
        groups=tuple(_describe(s, log, kept) for s, log, kept in zip(chosen, logs, held, strict=True)),
        left=left,
        error=error,
        settings={"seed": seed, "bound": BOUND, "coverage": symmetry.coverage},
        notes=notes,
        model=result,
    )


def _resolve(model: nn.Module, symmetry: Symmetry | None, example: Inputs | None) -> tuple[Symmetry, Inputs]:
    """The symmetry and an example where the model is."""
    if symmetry is not None:
        check_is("symmetry", symmetry, Symmetry, "; pass symmetry_of(model, example_input)")
        example = symmetry.example_input if example is None else example
    if example is None:
        raise ValueError(
            f"balancing {type(model).__name__} needs an example input, one batch that it accepts, got none; pass "
            "example_input=, or symmetry=symmetry_of(model, example_input)"
        )
    moved: Inputs = move_inputs(example, resolve_device(model, None))
    symmetry = symmetry_of(model, moved) if symmetry is None else symmetry
    symmetry.check_model(model)
    return symmetry, moved


def _rescale_within_bound(
    model: nn.Module, probe: Probe, own: Mapping[str, Tensor], scalings: Sequence[Scaling]
) -> tuple[list[Scaling], list[Tensor], list[Tensor]]:
    """The scalings, logarithms of scales, and held units at which the outputs change by no more than the bound."""
    expected, _ = probe.outputs(False)
    attempts = [(list(scalings), margin) for margin in MARGINS]
    for some, margin in (*attempts, ([s for s in scalings if s.exact], 0.0)):
        logs, held = _find_scales(model, own, some, margin)
        got, _ = probe.outputs(False, list_touched(some), lambda n, t, s=some, w=logs: scale_tensor(n, t, s, w))
        if relative_error(expected, got) <= BOUND:
            return some, logs, held
    return [], [], []


def _find_scales(
    model: nn.Module, own: Mapping[str, Tensor], scalings: Sequence[Scaling], margin: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Logarithms of scales; units whose variance is not large against epsilon, before or after, keep theirs."""
    parameters = {name: own[name] for name, _ in model.named_parameters()}
    held = [_find_small_variances(model, own, s, torch.zeros(s.size), margin) for s in scalings]
    while True:
        logs = equalise(parameters, scalings, held)
        new = [
            before | _find_small_variances(model, own, s, log, margin)
            for s, log, before in zip(scalings, logs, held, strict=True)
        ]
        if all(torch.equal(a, b) for a, b in zip(held, new, strict=True)):
            return logs, held
        held = new


def _find_small_variances(
    model: nn.Module, own: Mapping[str, Tensor], scaling: Scaling, log: Tensor, margin: float
) -> Tensor:
    """Units whose running variance, rescaled, is at most `margin` times epsilon: bool of shape [size]."""
    small = torch.zeros(scaling.size, dtype=torch.bool)
    for member, exponent in zip(scaling.members, scaling.exponents, strict=True):
        part, _, name = member.tensor.rpartition(".")
        if name == "running_var":
            eps = float(getattr(model.get_submodule(part), "eps", 0.0))
            variance = own[member.tensor].detach().cpu().double() * member.spread((exponent * log).exp(), 1, 1.0)
            small |= member.sum_by_unit((variance <= margin * eps).double(), scaling.size) > 0
    return small


def _describe(scaling: Scaling, log: Tensor, held: Tensor) -> Rescaled:
    pairs = zip(scaling.members, scaling.exponents, strict=True)
    return Rescaled(
        group=scaling.name,
        kind=NORMALISED if scaling.open_ended else HOMOGENEOUS,
        exact=scaling.exact,
        units=scaling.size,
        held=int(held.sum()),
        members=tuple((member.tensor, member.axis, exponent) for member, exponent in pairs),
        largest=float(log.abs().max().exp()),
    )


def _collect_notes(symmetry: Symmetry, refused: Sequence[Scaling]) -> Iterator[str]:
    if not symmetry.sizes:
        yield "the symmetry holds no units: nothing was rescaled"
    if refused:
        yield (
            f"{len(refused)} rescalings were left out, the first of {refused[0].name}: they change the outputs by more "
            f"than a relative {BOUND:.0e}, as where the epsilon of a normalisation is not small against the variance"
        )
