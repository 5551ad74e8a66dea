"""The element that balances a network: what its scales and linear maps multiply and what they divide get equal norms.

Over the logarithms of all scales the weights' sum of squares is convex, and so it is along geodesics over matrices: it
is minimised by one action after the other, each in closed form, until none moves (Stock, Graham, Gribonval and Jegou,
"Equi-normalization of neural networks", ICLR 2019). The minimum is one for all copies of a network that differ by
scales; by matrices, one up to rotations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mechconn.symmetry._action import Action, Member, list_places
from mechconn.symmetry._pattern import list_groups, locate_coordinates

SETTLED = 1e-12
"""Largest |log s| of a sweep over all scales at which the iteration ends."""
SWEEPS, ROUNDS = 20_000, 200
WIDEST, HALVINGS = 60.0, 80
"""Largest |log s| of one step where an action has several exponents, found by bisection, and its steps."""
BLOCK = 2**18
"""Entries that are squared at once."""
SINGULAR = 1e-10
"""Smallest share of the largest eigenvalue at which a matrix of inner products has an inverse."""


def find_balanced_scales(
    params: Mapping[str, Tensor],
    actions: Sequence[Action],
    sizes: Mapping[str, int],
    held: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Scales and matrices at which the parameters' sum of squares is smallest, by the names of their actions.

    Of each scale, sum_e e A_e s^(2 e) = 0 over its exponents e, A_e the sum of squares at its places of exponent e;
    where nothing is divided, A s^(2 e) = 1. Units of norm zero, above or below, keep 1. A matrix M makes the Gram
    matrices of what it multiplies and what it divides equal; where one has no inverse it is the identity.

    Args:
        params: the parameters by name; members that are none of these (running statistics) have no norm.
        actions: of a symmetry; signs are left out.
        sizes: of its groups.
        held: action -> which of its scales stay 1, bool of their shape.

    Example:
        8 and 2 become 4 and 4.

        >>> action = Action("h:scale", "scale", ("h",), [["0.weight", ["h", 1], 1], ["2.weight", [1, "h"], -1]])
        >>> params = {"0.weight": torch.tensor([[8.0]]), "2.weight": torch.tensor([[2.0]])}
        >>> round(find_balanced_scales(params, [action], {"h": 1})["h:scale"].item(), 9)
        0.5
    """
    scales = [action for action in actions if action.kind == "scale"]
    linear = [action for action in actions if action.kind == "linear"]
    found = {action.name: torch.ones(action.shape(sizes), dtype=torch.float64) for action in scales}
    found |= {a.name: torch.eye(sizes[a.units[-1]]).double().expand(a.shape(sizes)).clone() for a in linear}
    mixed = [name for name in params if any(action.touches(name) for action in linear)]
    own = dict(params)
    for _ in range(ROUNDS):
        found |= _equalise(own, scales, sizes, found, held or {})
        largest = max((_equalise_grams(params, action, actions, sizes, found) for action in linear), default=0.0)
        if largest < SETTLED:
            break
        own |= {name: _multiply(name, params[name].double(), linear, sizes, found) for name in mixed}
    return found


def _multiply(
    name: str, tensor: Tensor, actions: Sequence[Action], sizes: Mapping[str, int], element: Mapping[str, Tensor]
) -> Tensor:
    for action in actions:
        if action.name in element:
            tensor = action.multiply(name, tensor, sizes, element[action.name])
    return tensor


# ---------------------------------------------------------------- scales


@dataclass(frozen=True)
class _Factor:
    """A member of a scale in a table of squares: the number of the scale at each place, -1 where there is none."""

    action: str
    exponent: int
    numbers: Tensor

    def spread(self, logs: Mapping[str, Tensor], rows: slice | None = None) -> Tensor:
        """What the squares are multiplied by."""
        factors = (2 * self.exponent * logs[self.action]).exp()
        numbers = self.numbers if rows is None or self.numbers.shape[0] == 1 else self.numbers[rows]
        return torch.cat([factors.new_ones(1), factors])[numbers + 1]


@dataclass(frozen=True)
class _Squares:
    """Squares of a tensor's entries: summed over places of the same scales, or the tensor itself, squared in blocks."""

    values: Tensor
    squared: bool
    factors: tuple[_Factor, ...]

    def sum_by_unit(self, own: _Factor, count: int, logs: Mapping[str, Tensor]) -> Tensor:
        """Sums of scaled squares over the places of each scale of a member."""
        total = torch.zeros(count + 1, dtype=torch.float64)
        for rows in _iterate_rows(self.values):
            values = self.values[rows].to("cpu", torch.float64)
            values = values if self.squared else values.square()
            for factor in self.factors:
                values = values * factor.spread(logs, rows)
            numbers = own.numbers if own.numbers.shape[0] == 1 else own.numbers[rows]
            alone = [axis for axis, length in enumerate(numbers.shape) if length == 1]
            values = values.sum(alone, keepdim=True) if alone else values
            total.index_add_(0, numbers.flatten() + 1, values.flatten())
        return total[1:]


def _iterate_rows(tensor: Tensor) -> Iterator[slice]:
    step = max(BLOCK // max(tensor[:1].numel(), 1), 1)
    yield from (slice(start, start + step) for start in range(0, len(tensor), step))


def _equalise(
    params: Mapping[str, Tensor],
    actions: Sequence[Action],
    sizes: Mapping[str, int],
    found: Mapping[str, Tensor],
    held: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    logs = {action.name: found[action.name].log().flatten() for action in actions}
    tables = _collect_squares(params, actions, sizes)
    order = [*actions, *reversed(actions)]
    for _ in range(SWEEPS):
        largest = 0.0
        for action in order:
            step = _solve(action, tables, logs)
            if action.name in held:
                step = step.masked_fill(held[action.name].flatten(), 0.0)
            logs[action.name] = logs[action.name] + step
            largest = max(largest, float(step.abs().max()))
        if largest < SETTLED:
            break
    return {action.name: logs[action.name].exp().view(action.shape(sizes)) for action in actions}


def _solve(action: Action, tables: Mapping[str, _Squares], logs: Mapping[str, Tensor]) -> Tensor:
    """By how much the logarithms of one action's scales move."""
    count = len(logs[action.name])
    sums: dict[int, Tensor] = {}
    for table in tables.values():
        for factor in table.factors:
            if factor.action == action.name:
                found = table.sum_by_unit(factor, count, logs)
                sums[factor.exponent] = sums.get(factor.exponent, 0.0) + found
    none = torch.zeros(count, dtype=torch.float64)
    up, down = (sum((abs(e) * a for e, a in sums.items() if e * sign > 0), none) for sign in (1, -1))
    free = up.isfinite() & down.isfinite()
    if len({abs(e) for e in sums}) > 1 and any(e > 0 for e in sums) and any(e < 0 for e in sums):
        return torch.where(free & (up > 0) & (down > 0), _bisect(sums), 0.0)
    rate = max(map(abs, sums), default=1)
    if not any(e < 0 for e in sums):
        return torch.where(free & (up > 0), -(up / rate).log() / (2 * rate), 0.0)
    if not any(e > 0 for e in sums):
        return torch.where(free & (down > 0), (down / rate).log() / (2 * rate), 0.0)
    return torch.where(free & (up > 0) & (down > 0), (down / up).log() / (4 * rate), 0.0)


def _bisect(sums: Mapping[int, Tensor]) -> Tensor:
    low, high = (torch.full_like(next(iter(sums.values())), end) for end in (-WIDEST, WIDEST))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = torch.stack([e * a * (2 * e * middle).exp() for e, a in sums.items()]).sum(0) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def _collect_squares(
    params: Mapping[str, Tensor], actions: Sequence[Action], sizes: Mapping[str, int]
) -> dict[str, _Squares]:
    tables = {}
    for name in params:
        own = [(action, member) for action in actions for member in action.members if member.tensor == name]
        if own:
            tables[name] = _reduce(params[name].detach(), own, sizes)
    return tables


def _reduce(tensor: Tensor, own: Sequence[tuple[Action, Member]], sizes: Mapping[str, int]) -> _Squares:
    """Squares summed over places that have the same scales, where that is smaller than the tensor."""
    kinds, first = [], []
    for axis, length in enumerate(tensor.shape):
        rows = [
            locate_coordinates(unit, member.axes[axis], sizes)
            for _, member in own
            for unit in dict.fromkeys(list_groups(member.axes[axis]))
        ]
        where = torch.zeros(length, dtype=torch.long)
        if rows:
            where = torch.stack(rows).unique(dim=1, return_inverse=True)[1]
        kinds.append(where)
        first.append(torch.zeros(int(where.max()) + 1, dtype=torch.long).scatter_(0, where, torch.arange(length)))
    shape = [len(places) for places in first]
    numbers = [(action.name, member.exponent, action.locate(member, sizes)) for action, member in own]
    if 8 * math.prod(shape) > tensor.numel() * tensor.element_size():
        return _Squares(tensor, False, tuple(_Factor(*parts) for parts in numbers))
    values = torch.zeros(shape, dtype=torch.float64)
    for rows in _iterate_rows(tensor):
        block = tensor[rows].to("cpu", torch.float64).square()
        for axis in range(1, tensor.dim()):
            block = block.new_zeros([*block.shape[:axis], shape[axis], *block.shape[axis + 1 :]]).index_add_(
                axis, kinds[axis], block
            )
        values.index_add_(0, kinds[0][rows], block)
    return _Squares(values, True, tuple(_Factor(n, e, _pick(found, first)) for n, e, found in numbers))


def _pick(numbers: Tensor, places: Sequence[Tensor]) -> Tensor:
    """The numbers at one place of each kind."""
    for axis, own in enumerate(places):
        numbers = numbers if numbers.shape[axis] == 1 else numbers.index_select(axis, own)
    return numbers


# ---------------------------------------------------------------- linear maps


def _equalise_grams(
    params: Mapping[str, Tensor],
    action: Action,
    actions: Sequence[Action],
    sizes: Mapping[str, int],
    found: dict[str, Tensor],
) -> float:
    """Change one action's matrices so that both Gram matrices are equal; by how much they moved."""
    shape = action.shape(sizes)
    count, width = math.prod(shape[:-2]), shape[-1]
    above, below = (torch.zeros(count, width, width, dtype=torch.float64) for _ in range(2))
    for member in action.members:
        if member.tensor not in params:
            continue
        tensor = _multiply(member.tensor, params[member.tensor].double(), actions, sizes, found).cpu()
        places = list_places(action.locate(member, sizes).flatten(), count)
        rows = tensor.movedim(action.find_axis(member), 0)[places].view(count, width, -1)
        (above if member.exponent > 0 else below).add_(rows @ rows.mT)
    steps = torch.stack([_equalise_pair(*pair) for pair in zip(above, below, strict=True)])
    found[action.name] = steps.view(shape) @ found[action.name]
    return float((steps - torch.eye(width)).abs().max())


def _equalise_pair(above: Tensor, below: Tensor) -> Tensor:
    """The symmetric S with S P S = S^-1 Q S^-1: S^2 is the geometric mean of the inverse of P and Q."""
    if not _has_inverse(above) or not _has_inverse(below):
        return torch.eye(len(above), dtype=torch.float64)
    root, inverse = _power(above, 0.5), _power(above, -0.5)
    return _power(inverse @ _power(root @ below @ root, 0.5) @ inverse, 0.5)


def _has_inverse(gram: Tensor) -> bool:
    if not bool(gram.isfinite().all()):
        return False
    values = torch.linalg.eigvalsh(gram)
    return float(values[0]) > SINGULAR * float(values[-1])


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return (vectors * values.clamp_min(torch.finfo(torch.float64).tiny) ** exponent) @ vectors.mT
