"""Rescalings of units that leave a network's function as it is: found by derivatives, proved by running it.

Unit u of a group is multiplied by s_u > 0 where it is made and divided by s_u where it is read: entry w of a member is
replaced by w s_u^e, with one exponent e for each member. A function F of the weights does not change exactly if
the sum over members of e * (sum over the unit's entries of w dF/dw) is 0, so that exponents are the null space of a
matrix with one column for each member.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mechconn.core import Inputs, make_generator
from mechconn.symmetry._normalising import FittingStatistics, Normalising
from mechconn.symmetry._probe import Probe
from mechconn.symmetry._sizes import accepts_example, repeat_rows
from mechconn.symmetry._symmetry import Symmetry
from mechconn.symmetry._unit_places import Member, Units, list_units
from mechconn.symmetry._verify import TOLERANCES, relative_error

LARGE, NO_EPS = 1e-3, 1e-12
"""Epsilon of normalisations, as a share of the mean variance, with which rescalings are found that hold whatever it is,
and those that hold without any."""
NULL = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest relative change that counts as none, by the narrowest type that the forward pass computes in; else 1e-2."""
ROWS = 4
"""Rows of the example, so that batch statistics vary; of fewer, each is repeated and disturbed by itself."""
LARGEST_COUNT = 16
"""Random sums of the outputs at most, for groups of few units and many members."""
AMPLIFIED = 1e3
"""By how much batch statistics may amplify rounding in training mode."""
NARROW, WIDE = 2.0, 1e4
"""Scales of the proof: at random up to this factor, then times or divided by the second, which an activation that is
homogeneous near zero alone (ReLU6) does not survive."""
PIVOT = 1e-5
"""Largest entry of a row that counts as zero."""


@dataclass(frozen=True)
class Scaling:
    """A rescaling of a group's units.

    Attributes:
        name: of the group; several are joined by " x " where every combination of their units has its own scale.
        size: number of units.
        members: what is multiplied by s_u to the power of its exponent.
        exponents: one for each member.
        exact: whether it holds for every epsilon of a normalisation.
        open_ended: nothing is divided, so that the scale cannot be set by equal norms.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    exponents: tuple[float, ...]
    exact: bool
    open_ended: bool


def scale_tensor(name: str, tensor: Tensor, scalings: Sequence[Scaling], logs: Sequence[Tensor]) -> Tensor:
    """A tensor with its units multiplied by exp(exponent * log)."""
    for scaling, log in zip(scalings, logs, strict=True):
        for member, exponent in zip(scaling.members, scaling.exponents, strict=True):
            if member.tensor == name:
                factors = (exponent * log.to(tensor.device, torch.float64)).exp()
                tensor = tensor * member.spread(factors, tensor.dim(), 1.0)
    return tensor


def list_touched(scalings: Sequence[Scaling]) -> list[str]:
    """Tensors that scalings change."""
    return list(dict.fromkeys(member.tensor for scaling in scalings for member in scaling.members))


def find_scalings(
    model: nn.Module, example: Inputs, symmetry: Symmetry, seed: int
) -> tuple[list[Scaling], dict[str, str]]:
    """Every rescaling of the symmetry's units that running the model confirms; group -> why it has none."""
    everything = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    found, proposed = _Finder(model, _with_rows(model, example), symmetry, seed), list[Scaling]()
    own = list(list_units(symmetry, frozen, {n for n, t in everything.items() if t.is_floating_point()}))
    for exact in (True, False) if own else ():
        if exact or found.normalises:
            for units in own:
                proposed += found.propose(units, exact, proposed)
    kept = found.prove(proposed)
    reasons = {}
    for group in symmetry.sizes:
        if not any(group in scaling.name.split(" x ") for scaling in kept):
            reasons[group] = _explain(group, symmetry, frozen, found, proposed)
    return kept, reasons


def _with_rows(model: nn.Module, example: Inputs) -> Inputs:
    """The example with its rows repeated, which the probe disturbs one by one, where the model takes that."""
    tensors = [t for t in tree_leaves(example) if isinstance(t, Tensor) and t.dim() and len(t)]
    if not tensors or len(tensors[0]) >= ROWS:
        return example
    more = repeat_rows(example, math.ceil(ROWS / len(tensors[0])))
    return more if accepts_example(model, more) else example


class _Finder:
    """Derivatives of a model at disturbed weights, and the rescalings that they allow."""

    def __init__(self, model: nn.Module, example: Inputs, symmetry: Symmetry, seed: int) -> None:
        self._model, self._example, self._symmetry, self._seed = model, example, symmetry, seed
        self._probe = Probe(model, example, seed)
        with suppress(ValueError):  # a model that cannot be run in training mode keeps the statistics that it has
            self._probe.run(FittingStatistics())
        _, self._narrowest = self._probe.outputs(False)
        self._tolerance = NULL.get(self._narrowest, 1e-2)
        self._found: dict[float, list[dict[str, Tensor]]] = {}
        self.normalises, self.curved, self.trains = False, set[str](), True
        self._expected: dict[tuple[bool, bool], list[Tensor]] = {}
        self.refused: dict[str, float] = {}

    def propose(self, units: Units, exact: bool, known: Sequence[Scaling]) -> Iterator[Scaling]:
        """The rescalings of these units that are none of those known, nor follow from them."""
        members = [
            m for m in units.members if not exact or m.tensor not in self._symmetry.buffers
        ]  # what moves with a running statistic holds without epsilon alone
        if not members:
            return
        matrix, shares = self._matrix(members, units.size, LARGE if exact else NO_EPS)
        # A sum of zero is a rescaling, as before a normalisation; entries that are all zero have no effect.
        useful = [i for i in range(len(members)) if len(shares) and float(shares[:, i].max()) > self._tolerance]
        members = [members[i] for i in useful]
        fixed = [row for scaling in known if (row := _as_row(scaling, units, members)) is not None]
        for row in _find_null_rows(matrix[:, useful], fixed, self._tolerance):
            chosen = [(m, e) for m, e in zip(members, row, strict=True) if e]
            parameters = [e for m, e in chosen if m.tensor not in self._symmetry.buffers]
            if parameters:
                yield Scaling(
                    units.name,
                    units.size,
                    tuple(m for m, _ in chosen),
                    tuple(e for _, e in chosen),
                    exact,
                    open_ended=min(parameters) > 0,
                )

    def _matrix(self, members: Sequence[Member], size: int, eps: float) -> tuple[Tensor, Tensor]:
        """A row for each unit, function and mode: derivatives with respect to the logarithms of scales.

        Both they and the sums of the absolute values that cancel in them are shares of the largest such sum of the row.
        """
        blocks, shares = [], []
        for found in self._derivatives(eps):
            columns = [_sum_or_zero(m, found.get(m.tensor), size) for m in members]
            weights = [
                _sum_or_zero(m, t if t is None else t.abs(), size) for m in members for t in [found.get(m.tensor)]
            ]
            masses = torch.stack(weights, 1)
            mass = masses.max(1).values
            seen = mass > torch.finfo(torch.float64).tiny ** 0.5
            blocks.append(torch.stack(columns, 1)[seen] / mass[seen, None])
            shares.append(masses[seen] / mass[seen, None])
        return torch.cat(blocks).cpu(), torch.cat(shares).cpu()

    def _derivatives(self, eps: float) -> list[dict[str, Tensor]]:
        """In evaluation mode; without epsilon also in training mode, where running statistics play no part."""
        if eps not in self._found:
            names = self._symmetry.touched_by(list(self._symmetry.sizes))
            groups = self._symmetry.groups
            needed = max((math.ceil(len(group.members) / group.size) for group in groups), default=1)
            self._found[eps] = [
                found
                for training in ((False,) if eps == LARGE else (False, True))
                for found in self._derive(training, names, eps, min(needed, LARGEST_COUNT))
            ]
        return self._found[eps]

    def _derive(self, training: bool, names: list[str], eps: float, count: int) -> list[dict[str, Tensor]]:
        mode = Normalising(eps)
        try:
            found = self._probe.derivatives(training, names, mode, count)
        except Exception:
            if not training:
                raise
            self.trains, found = False, []
        self.normalises |= bool(mode.norms)
        self.curved |= mode.curved
        return found

    def prove(self, proposed: Sequence[Scaling]) -> list[Scaling]:
        """Those under which the outputs stay, at random scales, together or else one by one."""
        kept = []
        for exact in (True, False):
            some = [scaling for scaling in proposed if scaling.exact == exact]
            if some and self._holds(some):
                kept += some
            else:
                kept += [scaling for scaling in some if self._holds([scaling])]
        return kept

    def _holds(self, scalings: Sequence[Scaling]) -> bool:
        exact = scalings[0].exact
        narrow = [self._draw("scale", n, scaling.size) * math.log(NARROW) for n, scaling in enumerate(scalings)]
        far = [math.copysign(math.log(WIDE), self._draw("side", n, 1).item()) for n in range(len(scalings))]
        runs = [(training, narrow) for training in ((False, True) if self.trains else (False,))]
        if self._narrowest in NULL:
            runs += [(False, [log + sign * shift for log, shift in zip(narrow, far, strict=True)]) for sign in (1, -1)]
        for training, logs in runs:
            bar = TOLERANCES[self._narrowest] * (AMPLIFIED if training or not exact else 1.0)
            error = relative_error(self._unscaled(training, exact), self._run(training, exact, scalings, logs))
            if error > bar:
                self.refused |= {scaling.name: error for scaling in scalings}
                return False
        return True

    def _draw(self, what: str, number: int, size: int) -> Tensor:
        """Uniform draws in [-1, 1)."""
        generator = make_generator(self._seed, what, number)
        return 2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1

    def _unscaled(self, training: bool, exact: bool) -> list[Tensor]:
        if (training, exact) not in self._expected:
            self._expected[training, exact] = self._run(training, exact, [], [])
        return self._expected[training, exact]

    def _run(self, training: bool, exact: bool, scalings: Sequence[Scaling], logs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs with units rescaled; without the epsilon of normalisations where it is not exact."""
        with nullcontext() if exact else Normalising(NO_EPS):
            return self._probe.outputs(
                training, list_touched(scalings), lambda name, t: scale_tensor(name, t, scalings, logs)
            )[0]


def _sum_or_zero(member: Member, values: Tensor | None, size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.float64) if values is None else member.sum_by_unit(values, size).cpu()


def _as_row(scaling: Scaling, units: Units, members: Sequence[Member]) -> list[float] | None:
    """The exponents of a known rescaling of the same or of finer units, for these members; None where it has others."""
    if not units.groups <= set(scaling.name.split(" x ")):
        return None
    known = {(m.tensor, m.axis, tuple((m.units < 0).tolist())): e for m, e in _pairs(scaling)}
    row = [known.pop((m.tensor, m.axis, tuple((m.units < 0).tolist())), 0.0) for m in members]
    return None if known else row


def _pairs(scaling: Scaling) -> Iterator[tuple[Member, float]]:
    return zip(scaling.members, scaling.exponents, strict=True)


def _find_null_rows(matrix: Tensor, fixed: Sequence[Sequence[float]], tolerance: float) -> list[list[float]]:
    """A basis of the null space in reduced echelon form, but for the span of the fixed rows.

    Example:
        >>> matrix = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
        >>> _find_null_rows(matrix, [], 1e-7)
        [[1.0, 1.0, -1.0]]
    """
    if not matrix.numel():
        return []
    _, values, basis = torch.linalg.svd(matrix, full_matrices=True)
    rank = int((values > tolerance * len(matrix) ** 0.5).sum())
    known = torch.tensor(fixed, dtype=torch.float64).reshape(-1, matrix.shape[1])
    solved, pivots = _reduce(known, [])
    rest, _ = _reduce(basis[rank:], [(row, pivot) for row, pivot in zip(solved, pivots, strict=True)])
    rounded = (2 * rest).round() / 2
    return [row.tolist() for row, exact in zip(rounded, rest, strict=True) if bool((row - exact).abs().max() < 1e-3)]


def _reduce(rows: Tensor, before: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, list[int]]:
    """Rows in reduced echelon form with zeros at the pivots of those before, and their pivots."""
    rows = rows.clone()
    for row, pivot in before:
        rows -= rows[:, pivot : pivot + 1] * row
    pivots: list[int] = []
    for column in range(rows.shape[1]):
        done = len(pivots)
        if done == len(rows):
            break
        place = done + int(rows[done:, column].abs().argmax())
        if float(rows[place, column].abs()) < PIVOT:
            continue
        rows[[done, place]] = rows[[place, done]]
        rows[done] = rows[done] / rows[done, column]
        others = [i for i in range(len(rows)) if i != done]
        rows[others] = rows[others] - rows[others, column : column + 1] * rows[done]
        pivots.append(column)
    return rows[: len(pivots)], pivots


def _explain(group: str, symmetry: Symmetry, frozen: set[str], found: _Finder, proposed: Sequence[Scaling]) -> str:
    """Why a group's units are not rescaled."""
    held = [name for name in symmetry.touched_by([group]) if name in frozen]
    errors = [found.refused[s.name] for s in proposed if group in s.name.split(" x ") and s.name in found.refused]
    if held:
        return f"{held[0]} is frozen (requires_grad is False)"
    if errors:
        return f"rescaling its units changes the outputs by a relative {max(errors):.0e}"
    named = f" ({', '.join(sorted(found.curved))})" if found.curved else ""
    return f"rescaling its units changes the outputs: what reads them is not positively homogeneous{named}"
