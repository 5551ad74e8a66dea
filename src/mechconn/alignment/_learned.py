"""Learned matching: the element of the symmetry trained on the loss halfway between A and the moved B."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mechconn.alignment._assignment import search_element
from mechconn.alignment._descend_element import JUDGED, Course, Descent, descend, split_rows
from mechconn.alignment._interpolated_loss import InterpolatedLoss
from mechconn.alignment._matching import AlignmentMethod, Matching, NetworkPair, read_example
from mechconn.alignment._order_search import ASKED, EVERY, OrderSearch
from mechconn.alignment._sign_basis import SignBasis
from mechconn.alignment._trained_element import ElementMover, TrainedElement
from mechconn.alignment._weight_scores import WeightScores
from mechconn.core import (
    Data,
    Inputs,
    PerSampleLoss,
    SampleSource,
    as_data,
    check_by_index,
    check_count,
    check_positive,
    check_share,
    isolate_rng,
    keep_generator_states,
)
from mechconn.losses import Loss, as_loss, cross_entropy
from mechconn.symmetry import Element, Symmetry


@dataclass(frozen=True, eq=False)
class LearnedMatching(AlignmentMethod, name="learned"):
    r"""Minimise E_{t ~ U[0.4, 0.6]} L((1 - t) theta_A + t g(theta_B)) over elements g of the symmetry, by Adam.

    It optimises what a barrier then reports. A barrier that is gone after it is weaker evidence than one that is gone
    after matching without the data, and it must be judged on other rows than `data`; the alignment's notes say so.

    It starts from weight matching, between balanced networks. Linear maps are free matrices, orthogonal ones the
    orthogonal matrices nearest to free ones (polar projection), and scales exponentials. Every few steps a group of
    units may get another permutation: an assignment by the gradient in the permutation's matrix, or the one that is
    best by weights at what was learned so far, with its signs. It does where the loss of a batch falls by two standard
    errors or more. A share of the rows is kept back: of the start and 20 elements on the way of descent, that of the
    smallest loss halfway, t = 1/2, on these rows is taken. Where that is the start, or the start leaves no barrier on
    these rows, B is aligned by weight matching, and a note says so.

    Networks that keep running statistics run in training mode, with the statistics of each batch and with dropout;
    others run in evaluation mode.

    Attributes:
        data: rows to learn from, read by index; by convention training data.
        steps: of Adam; the rate falls to zero over them as a cosine.
        lr: rate at the start.
        batch_size: rows of a step.
        judge: share of the rows that is kept back, drawn by the seed.
        restarts: number of starts of the weight matching.
        loss: of each row, as in `evaluate_path`.
        label: a name for the data, kept in the record.

    Raises:
        TypeError: data that are not read by index.
        ValueError: fewer than two rows; when used: the networks have spectral norm, or differ in buffers that no rule
            renews.

    Source: Theus et al. 2025, generalized linear mode connectivity for Transformers. Theirs takes assignments by
    scores that descend along the straight-through gradient, and rotations of heads; here a batch decides on each
    permutation, and heads get every linear map.
    """

    data: Data
    steps: int = 200
    lr: float = 0.03
    batch_size: int = 64
    judge: float = 0.2
    restarts: int = 8
    loss: PerSampleLoss = cross_entropy
    label: str = "unnamed data"
    _checked: SampleSource = field(init=False, repr=False)
    _loss: Loss = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "restarts"):
            check_count(name, getattr(self, name))
        check_positive("lr", self.lr)
        check_share("judge", self.judge)
        object.__setattr__(self, "_loss", as_loss(self.loss))
        source = check_by_index("LearnedMatching", as_data("alignment data", self.data))
        if len(source) < 2:
            raise ValueError(
                "LearnedMatching needs two rows of data or more, one to learn from and one to keep back, got "
                f"{len(source)}; pass more rows"
            )
        object.__setattr__(self, "_checked", source)

    @torch.inference_mode(False)
    def match(self, pair: NetworkPair) -> Matching:
        """The element, the cosine similarity of each group's balanced weights, and what was optimised on which rows."""
        similarity = WeightScores(pair.symmetry, pair.params_a, pair.params_b)

        def report_progress(done: int) -> None:
            pair.compute.report("matching weights", done, self.restarts)

        start = search_element(similarity, self.restarts, pair.seed, report_progress)
        start |= similarity.reader.undo_orientation(start)
        similarity = WeightScores(
            pair.symmetry, pair.params_a, pair.params_b, basis=SignBasis.of_actions(pair.symmetry)
        )
        trained = TrainedElement(pair.symmetry, start, next(iter(pair.params_b.values())))
        if not (trained.scores or trained.list_smooth()):
            return _make_matching(pair.symmetry, similarity, start)
        learned, kept = split_rows(self._checked, self.judge, pair.seed)
        with isolate_rng(pair.seed, "learned matching"), keep_generator_states(self._checked), torch.enable_grad():
            at_start = {name: order for name, order in start.items() if name in pair.symmetry.sizes}
            loss = InterpolatedLoss(pair, self._loss, at_start | similarity.reader.undo_balance(start))
            mover = ElementMover(pair.symmetry, pair.params_a, pair.params_b)
            how, search = Descent(self.steps, self.lr, self.batch_size), OrderSearch(trained, similarity)
            course = descend(how, pair, trained, mover, loss, search, (learned, kept))
        notes = tuple(self._list_notes(course, len(learned), len(kept), loss.by_batch))
        return _make_matching(pair.symmetry, similarity, course.element if course.step else start, notes)

    def describe(self) -> dict[str, Any]:
        """Method, what it optimises, and every setting."""
        return {
            "method": "learned matching",
            "optimises": "the loss between the networks, t in [0.4, 0.6], which a barrier reports",
            "data": self.label,
            "loss": self._loss.describe(),
            "steps": self.steps,
            "lr": self.lr,
            "batch_size": self.batch_size,
            "judge": self.judge,
            "restarts": self.restarts,
        }

    def example(self, device: torch.device, model: nn.Module) -> Inputs:
        """The first two rows of the data, to find and prove a symmetry on."""
        return read_example(self._checked, device, model)

    def optimised_on(self) -> Data:
        """The data, rows kept back among them."""
        return self._checked

    def count_passes(self, rows: int) -> int:
        """Forward passes of one row that it makes at most, of so many rows of data; a backward pass counts as two."""
        judged = (min(JUDGED, self.steps) + 3) * max(round(self.judge * rows), 1)
        return (3 * self.steps + ASKED * (self.steps // EVERY)) * self.batch_size + judged

    def _list_notes(self, course: Course, learned: int, kept: int, by_batch: bool) -> Iterator[str]:
        """That the barrier was optimised, or that the start stayed, and what else differs from the evaluation."""
        if course.step:
            yield (
                f"the barrier of this alignment was optimised, by {course.step} steps of descent on {learned} rows of "
                f"{self.label}: on {kept} rows kept back, the loss halfway is {course.best:.4g}, after weight matching "
                f"{course.first:.4g}. That is weaker evidence than matching without the data; judge the barrier on "
                "other rows"
            )
        elif course.flat:
            yield (
                f"learned matching had nothing to learn: weight matching left no barrier on {kept} rows kept back of "
                f"{self.label}"
            )
        else:
            yield (
                f"learned matching found nothing better than its start on {kept} rows kept back, of a loss halfway of "
                f"{course.first:.4g}: B was aligned by weight matching"
            )
        if course.stopped is not None:
            yield (
                f"the descent of learned matching ended at step {course.stopped} of {self.steps}, where the loss was "
                "not finite; a smaller lr may go on"
            )
        if by_batch:
            yield "learned matching ran the networks with the normalisation statistics of each batch, not with theirs"


def _make_matching(
    symmetry: Symmetry, similarity: WeightScores, found: Element, notes: tuple[str, ...] = ()
) -> Matching:
    """What was found between the balanced networks, for the networks as saved."""
    scales = {action.name for action in symmetry.actions if action.kind == "scale"}
    moves = {name: value for name, value in found.items() if name not in scales}
    before, after = similarity.cosines(similarity.make_present(), moves)
    factors = similarity.reader.undo_balance(moves)
    for name in scales & found.keys():
        factors[name] = factors[name] * found[name] if name in factors else found[name]
    orders = {group: found[group] for group in symmetry.sizes}
    return Matching(orders, before, after, factors=factors, notes=notes)
