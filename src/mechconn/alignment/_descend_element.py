"""Descent of a trained element on the loss between two networks; the best element on rows kept back is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch
from torch import Tensor

from mechconn.alignment._interpolated_loss import MIDDLE, InterpolatedLoss, read_rows
from mechconn.alignment._matching import NetworkPair
from mechconn.alignment._order_search import OrderSearch
from mechconn.alignment._trained_element import ElementMover, TrainedElement
from mechconn.core import Inputs, SampleSource, draw_uniform, make_generator, select_rows
from mechconn.symmetry import Element

NEAR, FAR = 0.4, 0.6
"""Between which t is drawn at every step."""
JUDGED = 20
"""How many elements on the way are held against the rows kept back."""
FLAT = 1e-4
"""Barrier, as a share of the loss of the ends, that is rounding."""


@dataclass(frozen=True)
class Descent:
    """How an element is trained: Adam whose rate falls to zero as a cosine.

    Attributes:
        steps: of Adam.
        lr: rate at the start.
        batch_size: rows of a step.
    """

    steps: int
    lr: float
    batch_size: int


@dataclass
class Course:
    """What descent came to.

    Attributes:
        element: the best element, between the balanced networks.
        step: after which step it was seen; 0: the start.
        first, best: mean loss halfway on the rows kept back, of the start and of the best element.
        stopped: the step at which the loss or its gradient was not finite; None: at none.
        flat: whether the start left no barrier there, so that nothing was trained.
    """

    element: Element
    step: int
    first: float
    best: float
    stopped: int | None = None
    flat: bool = False


def split_rows(source: SampleSource, share: float, seed: int) -> tuple[SampleSource, SampleSource]:
    """(rows to learn from, rows kept back): at least one of each, drawn by the seed."""
    kept = min(max(round(share * len(source)), 1), len(source) - 1)
    order = torch.randperm(len(source), generator=make_generator(seed, "rows kept back"))
    return select_rows(source, order[kept:].sort().values), select_rows(source, order[:kept].sort().values)


def descend(
    how: Descent,
    pair: NetworkPair,
    trained: TrainedElement,
    mover: ElementMover,
    loss: InterpolatedLoss,
    search: OrderSearch,
    rows: tuple[SampleSource, SampleSource],
) -> Course:
    """Train an element from where it is, on the first rows; the best one on the second rows is what it came to."""

    def judge(t: float = MIDDLE) -> float:
        with torch.no_grad():
            return loss.judge(mover.move(trained.compute()), t, read_rows(rows[1], pair, how.batch_size))

    first, ends = judge(), (judge(0.0) + judge(1.0)) / 2
    course = Course(trained.read(), 0, first, first, flat=first <= ends + FLAT * abs(ends))
    if course.flat:
        return course
    smooth = trained.list_smooth()
    adam = torch.optim.Adam(smooth, how.lr) if smooth else None
    every = max(how.steps // JUDGED, 1)
    for step, batch in zip(range(1, how.steps + 1), _iterate_batches(how, pair, rows[0]), strict=False):
        rate = how.lr * (1 + math.cos(math.pi * (step - 1) / how.steps)) / 2
        trained.drop_gradients()
        value = loss(mover.move(trained.compute()), draw_place(step, pair.seed), *batch)
        value.backward()
        if not _is_finite(value, trained):
            course.stopped = step
            break
        if adam is not None:
            adam.param_groups[0]["lr"] = rate
            adam.step()
        search.step(step, partial(_compute_changed, trained, mover, loss, batch))
        if (step % every == 0 or step == how.steps) and (found := judge()) < course.best:
            course.element, course.step, course.best = trained.read(), step, found
        pair.compute.report("learning the matching", step, how.steps)
    return course


def _compute_changed(
    trained: TrainedElement,
    mover: ElementMover,
    loss: InterpolatedLoss,
    batch: tuple[Inputs, Tensor],
    instead: Element,
) -> tuple[Tensor, Tensor]:
    """(the loss of each row halfway, which rows count) where parts of the element are others."""
    return loss.compute_rows(mover.move(trained.compute(instead)), MIDDLE, *batch)


def _is_finite(value: Tensor, trained: TrainedElement) -> bool:
    """Whether a loss and its gradients are finite."""
    return all(bool(tensor.isfinite().all()) for tensor in (value.detach(), *trained.list_gradients()))


def draw_place(step: int, seed: int) -> float:
    """t ~ U[0.4, 0.6) of a step: a pure function of (step, seed)."""
    return NEAR + (FAR - NEAR) * float(draw_uniform(torch.tensor([step]), seed, "learned matching t"))


def _iterate_batches(how: Descent, pair: NetworkPair, source: SampleSource) -> Iterator[tuple[Inputs, Tensor]]:
    """Batches without end, in another order in every pass."""
    for number in count():
        shuffle = make_generator(pair.seed, "order of learned matching", number)
        yield from read_rows(source, pair, how.batch_size, shuffle)
