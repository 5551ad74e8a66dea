"""Gradient matching: the element of the symmetry at which A is pulled as B was, along what changed of B."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from mechconn.alignment._assignment import search_element
from mechconn.alignment._balanced_networks import BalancedNetworks
from mechconn.alignment._many_distances import map_through
from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair, read_example
from mechconn.alignment._network_gradients import GradientReader, add_axis, find_gain_signs, make_dual
from mechconn.alignment._readings import SNAPPED
from mechconn.alignment._sign_basis import SignBasis
from mechconn.alignment._weight_scores import WeightScores
from mechconn.core import (
    Data,
    Inputs,
    Params,
    PerSampleLoss,
    SampleSource,
    as_data,
    check_by_index,
    check_count,
    check_is,
    check_same_keys,
    check_same_shapes,
    isolate_rng,
    keep_generator_states,
    make_generator,
    select_rows,
)
from mechconn.losses import Loss, as_loss, cross_entropy
from mechconn.network import WeightChange, parameters_of
from mechconn.symmetry import Symmetry, compose_elements

Trajectory: TypeAlias = WeightChange | Sequence[nn.Module]
"""What changed of B: as a whole, or the networks that its training went through, in their order."""

TIE = 1e-3
"""Norm of a tensor's weights beside that of its gradients, by which units that get no gradient are told apart."""


@dataclass(frozen=True, eq=False)
class GradientMatching(AlignmentMethod, name="gradients"):
    r"""Maximise sum_s w_s <grad L(theta_A + g(tau_s)), g grad L(theta_B + tau_s)> over elements g of the symmetry.

    tau_s is what of a change of B is made by the point s = 0, ..., T - 1: s / T of the whole, or what a checkpoint has
    of it. The weights w_s = 1 + cos(pi s / T) fall from 2 towards 0. So A, with B's change moved onto it, is pulled
    by the data as B was: what a transplant of the change needs. Without a change, gradients at the networks themselves
    are compared, T = 1.

    Sequential: the points are taken in turn. The gradient at theta_A + g(tau_s) is taken at the g of the points before;
    it joins the sum, and g is chosen anew by the coordinate ascent of weight matching, with gradients in the place of
    weights: from several starts at the first and the last point, and from the g of the point before. With
    `moving=False` A's gradients are taken at theta_A throughout, and g is chosen once, at the end; where all points
    have the same rows (no more than a batch), A's gradient is taken once too.

    Gradients of all points are held, in the networks' type (float32 at least), and an ascent over T points costs about
    T times one of weight matching: with T = 5, one start and 2 million parameters in float32, 180 bytes a parameter and
    73 seconds on one core, where weight matching took 4.

    Gradients move against weights: grad L(g(theta)) = G^-T grad L(theta), G the matrix of g. Where units have scales or
    linear maps, the sum above would depend on the scale at which a network happens to be saved. So both networks are
    balanced first, as in `WeightMatching`, their gradients moved along; there g is left permutations, signs and
    rotations, which move gradients as they move weights. Then A's balancing is undone. Signs that the gain of a
    normalisation layer has too are told by the weights: both networks' gains are made positive.

    A unit that gets no gradient in either network is matched by its weights, which count a millionth for the others,
    tensor by tensor.

    Networks that keep running statistics normalise by those of each batch. Dropout is off.

    Attributes:
        data: rows to take gradients on, read by index; by convention training data.
        change: what changed of B: a `WeightChange`, cut into `points` equal parts; or the networks that its training
            went through after B, in their order, the last of which has the whole change; or None, as for `align_many`,
            where each network in turn is B.
        points: T, of a `WeightChange`.
        moving: whether A's gradients are taken at theta_A + g(tau_s), or all at theta_A.
        batch_size: rows at each point, drawn by the seed, the same for both networks; two or more where networks keep
            running statistics.
        restarts: number of starts of the first and of the last ascent.
        loss: of each row, as in `evaluate_path`.
        label: a name for the data, kept in the record.

    Raises:
        TypeError: data that are not read by index, or a change that is none.
        ValueError: when used: a change of other parameters than B's, networks with spectral norm, or batches of one row
            where running statistics are kept.

    Example:
        Hidden units of the same gradients are the same units, whatever their weights.

        >>> from mechconn.alignment import align
        >>> from mechconn.symmetry import symmetry_of
        >>> import copy
        >>> a = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
        >>> x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).double()
        >>> symmetry, b = symmetry_of(a, x), copy.deepcopy(a)
        >>> order = {"layer0": torch.tensor([2, 0, 1])}
        >>> _ = b.load_state_dict(symmetry.apply(a.state_dict(), order))
        >>> found = align(a, b, GradientMatching((x, (x[:, 0] > 0).long())), symmetry)
        >>> found.permutations["layer0"].tolist(), found.distance_after
        ([1, 2, 0], 0.0)

    Source: Chijiwa 2024, *Transferring learning trajectories of neural networks* (ICLR): T = 10, the weights, and one
    batch for each point. Not taken from there: balancing, signs and rotations, several starts at every point, weights
    for units without gradient. Not verified against its code: whether both networks there see the same rows, and what
    its fast variant, FGMT, puts in the place of moving gradients, so that `moving=False` need not be it.
    """

    data: Data
    change: Trajectory | None = None
    points: int = 10
    moving: bool = True
    batch_size: int = 250
    restarts: int = 4
    loss: PerSampleLoss = cross_entropy
    label: str = "unnamed data"
    _checked: SampleSource = field(init=False, repr=False)
    _loss: Loss = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("points", "batch_size", "restarts"):
            check_count(name, getattr(self, name))
        check_is("moving", self.moving, bool)
        object.__setattr__(self, "_loss", as_loss(self.loss))
        object.__setattr__(self, "_checked", check_by_index("GradientMatching", as_data("alignment data", self.data)))
        if self.change is not None and not isinstance(self.change, WeightChange):
            check_is("change", self.change, Sequence, "; pass weight_change(base, tuned), or a list of checkpoints")
            for number, model in enumerate(self.change):
                check_is(f"change[{number}]", model, nn.Module, "; pass the networks that training went through")
            if not self.change:
                raise ValueError("change must hold one checkpoint or more, got an empty list; leave it out for none")

    @torch.inference_mode(False)
    def match(self, pair: NetworkPair) -> Matching:
        """The element, and the cosine similarity of each group's gradients before and after."""
        steps = self._list_steps(pair)
        with isolate_rng(pair.seed, "gradient matching"), keep_generator_states(self._checked):
            course = _Course(pair, self._loss, self.moving)
            for number, (tau, weight) in enumerate(steps):
                course.add(self._draw_rows(pair.seed, number), tau, weight)
                is_last = number + 1 == len(steps)
                if self.moving or is_last:
                    course.choose(self.restarts if is_last or number == 0 else 0)
                pair.compute.report("matching gradients", number + 1, len(steps))
        return course.make_matching()

    def _draw_rows(self, seed: int, number: int) -> SampleSource:
        """The rows of one point: all of them where there are no more than a batch."""
        count = len(self._checked)
        if count <= self.batch_size:
            return self._checked
        order = torch.randperm(count, generator=make_generator(seed, "gradient rows", number))
        return select_rows(self._checked, order[: self.batch_size].sort().values)

    def _list_steps(self, pair: NetworkPair) -> list[tuple[Params | None, float]]:
        """tau_s and w_s, point by point; None where nothing is changed."""
        if self.change is None:
            return [(None, 1.0)]
        if isinstance(self.change, WeightChange):
            whole = _fit_change(self.change.tensors, pair)
            parts = ({n: t * (s / self.points) for n, t in whole.items()} for s in range(1, self.points))
            taus: list[Params | None] = [None, *parts]
        else:
            own = {name: tensor.double() for name, tensor in pair.params_b.items()}
            states = (_fit_change(parameters_of(model), pair) for model in self.change[:-1])
            taus = [None, *({name: t - own[name] for name, t in state.items()} for state in states)]
        return [(tau, 1.0 + math.cos(math.pi * s / len(taus))) for s, tau in enumerate(taus)]

    def describe(self) -> dict[str, Any]:
        """Method and every setting."""
        change = {"change": None} if self.change is None else {"change": "whole, in equal parts", "points": self.points}
        if self.change is not None and not isinstance(self.change, WeightChange):
            change = {"change": "checkpoints", "points": len(self.change)}
        return {
            "method": "gradient matching",
            **change,
            "moving": self.moving,
            "data": self.label,
            "loss": self._loss.describe(),
            "batch_size": self.batch_size,
            "restarts": self.restarts,
        }

    def example(self, device: torch.device, model: nn.Module) -> Inputs:
        """The first two rows of the data, to find and prove a symmetry on."""
        return read_example(self._checked, device, model)

    def optimised_on(self) -> Data:
        """The data: units are matched by the loss on them."""
        return self._checked

    def count_passes(self, rows: int) -> int:
        """Forward passes of one row that it makes at most, of so many rows of data; a backward pass counts as two."""
        points = self.points if isinstance(self.change, WeightChange) else len(self.change or "1")
        return 3 * 2 * points * min(self.batch_size, rows)


def _fit_change(tensors: Mapping[str, Tensor], pair: NetworkPair) -> Params:
    """A change, or weights, of B's names and shapes in float64 where B is."""
    what, own = "parameters of B and of the change that gradients are matched along", pair.params_b
    check_same_keys(what, own, tensors)
    check_same_shapes(what, own, {name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})
    return {name: tensors[name].detach().to(own.device).double() for name, own in pair.params_b.items()}


class _Course:
    """What is known after some points: the balanced networks' gradients at each, and the element that fits them best.

    Args:
        pair: A and B.
        loss: of each row.
        moving: whether A's gradients are taken where the change moves it.
    """

    def __init__(self, pair: NetworkPair, loss: Loss, moving: bool) -> None:
        self._pair, self._moving = pair, moving
        self._readers = [GradientReader(pair, model, loss) for model in (pair.model_a, pair.model_b)]
        self._balanced = BalancedNetworks(pair.symmetry, [pair.params_a, pair.params_b])
        self._dual = make_dual(pair.symmetry)
        self._signs = find_gain_signs(self._balanced.symmetry, pair.model_a, self._balanced.params)
        known = {*self._signs[0], *self._balanced.basis.gains}
        free = tuple(action for action in self._balanced.symmetry.actions if action.name not in known)
        self._free = replace(self._balanced.symmetry, actions=free)
        self._moves = [self._balanced.complete(number, self._signs[number]) for number in (0, 1)]
        self._found: list[tuple[Params, Params]] = []
        self._chosen: dict[str, Tensor] = {}
        self._still: tuple[SampleSource, Params] | None = None

    def add(self, rows: SampleSource, tau: Params | None, weight: float) -> None:
        """The gradients of both networks at one point, of this weight."""
        if not self._moving:
            if self._still is None or self._still[0] is not rows:
                self._still = rows, self._measure(0, rows, None)
            first = self._still[1]
        else:
            first = self._measure(0, rows, None if tau is None else self._move(tau))
        sides = (first, self._measure(1, rows, tau))
        first, second = ({n: math.sqrt(weight) * gradient for n, gradient in side.items()} for side in sides)
        self._found.append((first, second))

    def _measure(self, number: int, rows: SampleSource, change: Params | None) -> Params:
        """The gradient of one balanced network, its weights changed, in its own type but float32 at least."""
        params, move = (self._pair.params_a, self._pair.params_b)[number], self._moves[number]
        at = params if change is None else {n: (p.double() + change[n]).to(p.dtype) for n, p in params.items()}
        own = self._readers[number].measure(at, rows)
        return {n: self._dual.moved(n, t.double(), move).to(_widen(t.dtype)) for n, t in own.items()}

    def _move(self, tau: Params) -> Params:
        element = self.element
        return {name: self._pair.symmetry.moved(name, tensor, element) for name, tensor in tau.items()}

    def choose(self, restarts: int) -> None:
        """The element of balanced networks that fits all points so far best, from the last and from other starts."""
        self._chosen = search_element(self._score(TIE), restarts, self._pair.seed, known=self._chosen or None)

    def _score(self, tie: float) -> WeightScores:
        """Inner products of the gradients of all points, side by side, and of the weights of small norm."""
        sides = [self._stack(number, tie) for number in (0, 1)]
        count = len(self._found) + bool(tie)
        symmetry = add_axis(self._free, count)
        return WeightScores(symmetry, sides[0], sides[1], basis=SignBasis.of_actions(symmetry))

    def _stack(self, number: int, tie: float) -> Params:
        parts = [point[number] for point in self._found]
        if tie:
            parts = [*parts, self._make_ties(number, tie, parts)]
        return {name: torch.stack([part[name] for part in parts], -1) for name in parts[0]}

    def _make_ties(self, number: int, tie: float, parts: Sequence[Params]) -> Params:
        """The weights, in each tensor of this norm beside its gradients; where they are zero, beside the least."""
        own = self._balanced.move(number, self._signs[number])
        sizes = {name: _measure_norm([{name: part[name]} for part in parts]) for name in own}
        least = min((size for size in sizes.values() if size), default=1.0)
        found = {}
        for name, weights in own.items():
            norm = max(_measure_norm([{name: weights}]), torch.finfo(torch.float32).tiny)
            found[name] = (tie * (sizes[name] or least) / norm * weights.double()).to(parts[0][name].dtype)
        return found

    @property
    def element(self) -> dict[str, Tensor]:
        """The element that moves B onto A as saved; without what moves nothing."""
        symmetry = self._pair.symmetry
        chosen = compose_elements(self._balanced.symmetry, self._signs[1], self._chosen)
        found = map_through(symmetry, self._balanced.complete(1, chosen), self._moves[0])
        orders = {group: found.get(group, torch.arange(size)) for group, size in symmetry.sizes.items()}
        return orders | {name: value for name, value in found.items() if _moves(symmetry, name, value)}

    def make_matching(self) -> Matching:
        """The element, with how alike gradients are by it."""
        scores, element = self._score(0.0), self.element
        before, after = scores.cosines(scores.make_present(), self._chosen)
        orders = {group: element.pop(group) for group in self._pair.symmetry.sizes}
        return Matching(orders, before, after, factors=element, notes=tuple(self._list_notes()))

    def _list_notes(self) -> Iterator[str]:
        if self._readers[0].by_batch:
            yield "gradients were taken with the normalisation statistics of each batch, not with the networks' own"
        norms = [_measure_norm([point[number] for point in self._found]) for number in (0, 1)]
        if min(norms) == 0.0:
            yield (
                "the gradients of one network are zero on these rows, so that its units were matched by their weights; "
                "pass rows that it does not fit, or WeightMatching()"
            )


def _widen(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _measure_norm(parts: Sequence[Mapping[str, Tensor]]) -> float:
    return math.hypot(*(float(torch.linalg.vector_norm(t.double())) for part in parts for t in part.values()))


def _moves(symmetry: Symmetry, name: str, value: Tensor) -> bool:
    """Whether a factor differs from 1 by more than rounding."""
    action = next((action for action in symmetry.actions if action.name == name), None)
    if action is None:
        return False
    none = torch.eye(value.shape[-1], dtype=torch.float64) if action.mixes else torch.ones(())
    return float((value - none).abs().max()) >= SNAPPED
