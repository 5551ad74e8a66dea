"""Balancing a network: one choice among all rescalings of its units that leave its function as it is."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mechconn.core import NOT_SAVED, Inputs, check_is, log_warnings, move_inputs
from mechconn.network import copy_with_state, resolve_device, set_mode, unwrap_module
from mechconn.plotting import Drawing, Header, Result, Section, Table, draw_marks, leave_out
from mechconn.symmetry._action import Action, Element
from mechconn.symmetry._balanced_element import find_balanced_scales
from mechconn.symmetry._find import symmetry_of
from mechconn.symmetry._pattern import list_groups
from mechconn.symmetry._probe import Probe
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

    Which scales a network has is read off its symmetry: the scales in `symmetry.actions` and `symmetry.approximate`,
    and those among its linear maps, unit by unit. How much the outputs change is measured by running a float64 copy.
    What reads units by an activation that is not positively homogeneous (GELU, tanh, sigmoid, softmax), frozen
    parameters (requires_grad is False), and units of norm zero keep their scales.

    Args:
        model: it stays as it is.
        symmetry: of which units; default: `symmetry_of(model, example_input)`.
        example_input: one batch that the model accepts; default: the one that the symmetry was found on.
        seed: of random choices of the forward pass, where it makes some.

    Raises:
        ValueError: neither a symmetry nor an example is given, or the symmetry is not one of this model.

    Example:
        The weights 8 and 2 are multiplied and divided by 1/2.

        >>> model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False)).double()
        >>> with torch.no_grad():
        ...     _ = model[0].weight.fill_(8.0), model[2].weight.fill_(2.0)
        >>> axes = {"0.weight": ["h", 1], "2.weight": [1, "h"]}
        >>> scale = Action("h:scale", "scale", ["h"], [["0.weight", axes["0.weight"], 1], ["2.weight", [1, "h"], -1]])
        >>> symmetry = Symmetry.from_axes(model, axes, {"h": 1}, actions=[scale])
        >>> balanced = balance(model, symmetry, torch.ones(2, 1)).model
        >>> [round(balanced.get_parameter(name).item(), 9) for name in ("0.weight", "2.weight")]
        [4.0, 4.0]

    Source: Stock, Graham, Gribonval and Jégou, "Equi-normalization of neural networks", ICLR 2019.
    """
    model = unwrap_module(model)
    symmetry, example = _resolve(model, symmetry, example_input)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    every = _list_scales(symmetry)
    scales = [scale for scale in every if not any(member.tensor in frozen for member in scale.action.members)]
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    probe = Probe(model, example, seed, disturbed=False)
    chosen, element, held = _rescale_within_bound(model, probe, own, scales, symmetry.sizes)
    state = {
        name: _multiply(name, own[name].detach().double(), chosen, element, symmetry.sizes)
        for name in _list_touched(chosen)
    }
    result = copy_with_state(model, {name: t.to(own[name].dtype) for name, t in state.items()})
    set_mode(result, False)
    refused = [scale for scale in scales if scale not in chosen]
    error = relative_error(probe.outputs(False)[0], Probe(result, example, seed, disturbed=False).outputs(False)[0])
    notes = tuple(_collect_notes(model, symmetry, scales, refused))
    log_warnings("balance", notes)
    return Balanced(
        groups=tuple(_describe(scale, element[scale.name], held[scale.name]) for scale in chosen),
        left=_find_left(symmetry, every, scales, frozen),
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


@dataclass(frozen=True)
class _Scale:
    """A scale of units.

    Attributes:
        action: what it does; of linear maps those that multiply unit by unit.
        exact: whether it holds for every epsilon of a normalisation.
    """

    action: Action
    exact: bool

    @property
    def name(self) -> str:
        return self.action.name


def _list_scales(symmetry: Symmetry) -> list[_Scale]:
    exact = [replace(action, kind="scale") for action in symmetry.actions if action.kind != "sign"]
    found = [*(_Scale(action, True) for action in exact), *(_Scale(action, False) for action in symmetry.approximate)]
    return [s for s in found if any(member.tensor not in symmetry.buffers for member in s.action.members)]


def _list_touched(scales: Sequence[_Scale]) -> list[str]:
    """Tensors that scales change."""
    return list(dict.fromkeys(member.tensor for scale in scales for member in scale.action.members))


def _multiply(
    name: str, tensor: Tensor, scales: Sequence[_Scale], element: Element, sizes: Mapping[str, int]
) -> Tensor:
    for scale in scales:
        tensor = scale.action.multiply(name, tensor, sizes, element[scale.name])
    return tensor


def _rescale_within_bound(
    model: nn.Module, probe: Probe, own: Mapping[str, Tensor], scales: Sequence[_Scale], sizes: Mapping[str, int]
) -> tuple[list[_Scale], Element, dict[str, Tensor]]:
    """The scales, and which are held, at which the outputs change by no more than the bound."""
    expected, _ = probe.outputs(False)
    attempts = [(list(scales), margin) for margin in MARGINS]
    for some, margin in (*attempts, ([scale for scale in scales if scale.exact], 0.0)):
        element, held = _find_element(model, own, some, sizes, margin)
        got, _ = probe.outputs(False, _list_touched(some), lambda n, t, s=some, e=element: _multiply(n, t, s, e, sizes))
        if relative_error(expected, got) <= BOUND:
            return some, element, held
    return [], {}, {}


def _find_element(
    model: nn.Module, own: Mapping[str, Tensor], scales: Sequence[_Scale], sizes: Mapping[str, int], margin: float
) -> tuple[Element, dict[str, Tensor]]:
    """The scales; units whose variance is not large against epsilon, before or after, keep theirs."""
    parameters, actions = {name: own[name] for name, _ in model.named_parameters()}, [scale.action for scale in scales]
    element: Element = {a.name: torch.ones(a.shape(sizes), dtype=torch.float64) for a in actions}
    held = {a.name: _find_small_variances(model, own, a, sizes, element[a.name], margin) for a in actions}
    while True:
        element = find_balanced_scales(parameters, actions, sizes, held)
        new = {
            a.name: held[a.name] | _find_small_variances(model, own, a, sizes, element[a.name], margin) for a in actions
        }
        if all(torch.equal(held[name], new[name]) for name in held):
            return element, held
        held = new


def _find_small_variances(
    model: nn.Module,
    own: Mapping[str, Tensor],
    action: Action,
    sizes: Mapping[str, int],
    scales: Tensor,
    margin: float,
) -> Tensor:
    """Units whose running variance, rescaled, is at most `margin` times epsilon: bool of the shape of the scales."""
    small = torch.zeros(scales.numel() + 1, dtype=torch.bool)
    for member in action.members:
        part, _, name = member.tensor.rpartition(".")
        if name == "running_var":
            eps = float(getattr(model.get_submodule(part), "eps", 0.0))
            variance = action.multiply(member.tensor, own[member.tensor].detach().cpu().double(), sizes, scales)
            small[action.locate(member, sizes).flatten()[variance.flatten() <= margin * eps] + 1] = True
    return small[1:].view(scales.shape)


def _find_left(
    symmetry: Symmetry, every: Sequence[_Scale], scales: Sequence[_Scale], frozen: Container[str]
) -> dict[str, str]:
    """Group -> why its units keep their scales."""
    left = {}
    for group in symmetry.sizes:
        held = [m.tensor for s in every if group in s.action.units for m in s.action.members if m.tensor in frozen]
        if not any(group in scale.action.units for scale in scales):
            reason = symmetry.without.get(f"{group}:scale", "the symmetry names no scale of its units")
            left[group] = f"{held[0]} is frozen (requires_grad is False)" if held else reason
    return left


def _describe(scale: _Scale, values: Tensor, held: Tensor) -> Rescaled:
    action = scale.action
    places = [
        (member.tensor, axis, float(member.exponent))
        for member in action.members
        for axis, pattern in enumerate(member.axes)
        if any(list_groups(pattern))
    ]
    return Rescaled(
        group=" x ".join(action.units),
        kind=HOMOGENEOUS if min(member.exponent for member in action.members) < 0 else NORMALISED,
        exact=scale.exact,
        units=values.numel(),
        held=int(held.sum()),
        members=tuple(places),
        largest=float(values.log().abs().max().exp()),
    )


def _collect_notes(
    model: nn.Module, symmetry: Symmetry, scales: Sequence[_Scale], refused: Sequence[_Scale]
) -> Iterator[str]:
    if not symmetry.sizes:
        yield "the symmetry holds no units: nothing was rescaled"
    elif not (symmetry.actions or symmetry.approximate or symmetry.without):
        yield (
            "the symmetry was written without scales: nothing was rescaled; pass symmetry_of(model, example_input), or "
            "write them, symmetry.with_actions([Action(...)])"
        )
    apart = [scale.action for scale in scales if len(scale.action.units) > 1]
    grouped = [name for name, module in model.named_modules() if _is_grouped(module)]
    if alike := [name for name in grouped if not any(action.touches(f"{name}.weight") for action in apart)]:
        yield (
            f"units of grouped convolutions ({', '.join(alike[:LISTED])}) whose blocks keep their order are rescaled "
            "alike in every block"
        )
    if refused:
        yield (
            f"{len(refused)} rescalings were left out, the first of {' x '.join(refused[0].action.units)}: they change "
            f"the outputs by more than a relative {BOUND:.0e}, as where the epsilon of a normalisation is not small "
            "against the variance"
        )


def _is_grouped(module: nn.Module) -> bool:
    """Whether a convolution has several groups of several channels."""
    groups = getattr(module, "groups", 1)
    return isinstance(groups, int) and 1 < groups < getattr(module, "in_channels", 0)
