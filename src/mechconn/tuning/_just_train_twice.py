"""Just train twice: find the rows that a briefly trained network gets wrong, and train with these weighted up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mechconn.core import (
    Data,
    Inputs,
    check_choice,
    check_non_negative,
    check_positive,
    check_whole,
    isolate_rng,
    iterate_batches,
    keep_generator_states,
)
from mechconn.descent import (
    EVALUATED,
    Descend,
    Descent,
    Method,
    Objective,
    Problem,
    Records,
    TrainingStep,
    draw_fresh_state,
)
from mechconn.tuning._chosen_data import CHOICES, On, list_data, take_cued_data
from mechconn.tuning._epoch_shares import share_epochs
from mechconn.tuning._fresh_start import perturb, reset_buffers
from mechconn.tuning._row_labels import classify_rows

FIRST, ROWS, ERRORS = "first/", "rows", "errors"
"""In what checkpoints keep: prefix of the first network's tensors, numbers of rows, and of those that it gets wrong."""


@dataclass(frozen=True, kw_only=True)
class JTT(Descent):
    r"""Just train twice: all weights, the rows that a first network gets wrong weighted up, without group labels.

    The first network is fresh weights, trained by the same schedule over `identify_epochs` epochs on all the rows that
    the method reads; E are the rows that it classifies wrongly, in evaluation mode. Then all weights descend

        sum_i w_i L(f(x_i; theta), y_i) / sum_i w_i,   w_i = upweight for i in E, else 1,

    over the same rows. A network that is trained briefly learns the shortcut first, so that rows which the shortcut
    gets wrong are most of E. That needs some such rows: where every row follows the cue, E is no group. Trained for
    too long the first network is right on all rows, and E is empty, which the notes say.

    It asks for no groups: "both" reads clean rows and rows with the cue as one heap, not knowing which is which; of
    several sources an iteration takes a batch of each, weighed by their rows. With `transform` of `fine_tune` rows are
    weighed as they are shown, and counted, for sum_i w_i, as they are. The result's settings hold the number of rows in
    E as "errors".

    Attributes:
        epochs: of the second training.
        on: what it reads: "cued", the data with the cue; "clean", the clean rows, which may be any labelled rows; or
            "both".
        upweight: how often a row of E counts.
        identify_epochs: epochs of the first network; 0 asks the model itself, as it is, which rows it gets wrong.
        start: where the second training starts: at the "model", or at "fresh" weights, as the source has it, whose two
            networks start alike.

    Source: Liu et al. 2021, *Just train twice: improving group robustness without training group information*.
    """

    on: On = "cued"
    upweight: float = 20.0
    identify_epochs: int = 5
    start: Literal["model", "fresh"] = "model"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("on", self.on, CHOICES)
        check_positive("upweight", self.upweight)
        check_non_negative("identify_epochs", check_whole("identify_epochs", self.identify_epochs))
        check_choice("start", self.start, ("model", "fresh"))

    @property
    def reads_clean_data(self) -> bool:
        """Unless it reads the data with the cue alone."""
        return self.on != "cued"

    def cued_data(self, cued: Mapping[str, Data], seed: int) -> Mapping[str, Data]:
        """Every source, where it reads them."""
        return take_cued_data(self, self.on, cued)

    def passes(self, sources: int) -> int:
        """One on each of the data that it reads."""
        return self.reads_clean_data + sources

    def with_epochs(self, epochs: int) -> Method:
        """The same settings with so many epochs in all: both networks keep their shares, one epoch each at least."""
        if not self.identify_epochs:
            return replace(self, epochs=epochs)
        first, second = share_epochs(epochs, self.identify_epochs, self.epochs)
        return replace(self, identify_epochs=first, epochs=second)

    def run(self, problem: Problem, descend: Descend) -> None:
        """Train the first network, find its errors, then train with these weighted up."""
        read = list_data(self.on, problem)
        problem = replace(problem, clean=read[0][1], cued=tuple(data for _, data in read[1:]))
        problem.kept[ROWS] = _count_rows(problem, read)
        start = {name: tensor.detach().clone() for name, tensor in _list_state(problem).items()}
        if self.identify_epochs:
            self._draw(problem, "first network", "set identify_epochs=0")
            plain = _make_objective(problem, "identification", _read_counts(problem), lambda *_: 1.0)
            schedule = replace(self, epochs=self.identify_epochs)
            descend(schedule, [plain], problem.model, problem.clean, problem.cued)
        # A run that is resumed behind this point finds the first network in its checkpoint.
        problem.kept.update({f"{FIRST}{name}": t.detach().clone() for name, t in _list_state(problem).items()})
        with torch.no_grad():
            for name, tensor in _list_state(problem).items():
                tensor.copy_(start[name])
        if self.start == "fresh":
            self._draw(problem, "second network", "set start='model'")
        super().run(problem, descend)
        problem.decided["errors"] = [int(count) for count in problem.kept[ERRORS]]

    def objectives(self, problem: Problem) -> Sequence[Objective]:
        """["reweighted"]; `problem` holds the data that are read."""
        read = self._name_data(problem)
        rows, made = _read_counts(problem), list[Objective]()

        def weigh(inputs: Inputs, targets: Tensor) -> Tensor:
            return 1.0 + (self.upweight - 1.0) * _find_errors(problem, inputs, targets).double()

        def objective(step: TrainingStep) -> dict[str, Tensor]:
            if not made:  # the first network of a resumed run is known by now
                if ERRORS not in problem.kept:
                    problem.kept[ERRORS] = _count_errors(problem, read)
                total = sum(rows) + (self.upweight - 1.0) * float(problem.kept[ERRORS].sum())
                made.append(_make_objective(problem, "reweighted", rows, weigh, total))
            return made[0](step)

        return [objective]

    def remarks(self, problem: Problem, records: Records) -> Sequence[str]:
        """Where the errors are none, or all rows."""
        errors = int(problem.kept[ERRORS].sum())
        rows = sum(_read_counts(problem))
        if 0 < errors < rows:
            return ()
        what, change, otherwise = (
            ("every row", "raise", "check the labels")
            if errors
            else ("no row", "lower", "give rows that it was not trained on")
        )
        change = f"{change} identify_epochs" if self.identify_epochs else "set identify_epochs to one or more"
        return (
            f"JTT's first network gets {what} of {rows} wrong, so that all count alike; {change}, or {otherwise} "
            f"(identify_epochs is now {self.identify_epochs}).",
        )

    def _name_data(self, problem: Problem) -> list[tuple[str, Data]]:
        """(what errors call it, data) of a problem that holds the data that are read."""
        first = "cued data" if self.on == "cued" else "clean data"
        return [(first, problem.clean), *(("cued data", data) for data in problem.cued)]

    def _draw(self, problem: Problem, stream: str, otherwise: str) -> None:
        """Draw the model's weights afresh, in place."""
        params, buffers = draw_fresh_state(problem.model, problem.seed, stream, otherwise)
        perturb(problem.model, params, 0.0, 1.0)
        reset_buffers(problem.model, buffers)


def _list_state(problem: Problem) -> dict[str, Tensor]:
    return dict(problem.model.named_parameters()) | dict(problem.model.named_buffers())


def _count_rows(problem: Problem, read: Sequence[tuple[str, Data]]) -> Tensor:
    """How many rows of each of the data count; a row that is not finite is refused by the name of its data."""
    network, counts = problem.network, []
    with keep_generator_states(*(data for _, data in read)), isolate_rng(problem.seed, "JTT"):
        for name, data in read:
            size = network.compute.choose_batch_size(EVALUATED)
            batches = iterate_batches(name, data, batch_size=size, device=network.device, model=network.module)
            counts.append(sum(int(problem.rows_counted(targets).sum()) for _, targets in batches))
    return torch.tensor(counts, dtype=torch.float64, device=network.device)


def _read_counts(problem: Problem) -> list[int]:
    """What `_count_rows` found."""
    return [int(count) for count in problem.kept[ROWS]]


def _make_objective(
    problem: Problem,
    term: str,
    rows: Sequence[int],
    weigh: Callable[[Inputs, Tensor], Tensor | float],
    total: float | None = None,
) -> Objective:
    """The weighted sum of the losses over all rows, divided by `total`, estimated from a batch of each of the data."""
    whole = sum(rows) if total is None else total

    def objective(step: TrainingStep) -> dict[str, Tensor]:
        parts = []
        for count, (inputs, targets) in zip(rows, (step.clean, *step.cued), strict=True):
            losses = problem.losses(problem.outputs(inputs), targets)
            weights = weigh(inputs, targets)
            weighted = losses * (weights.to(losses) if isinstance(weights, Tensor) else weights)
            parts.append(count / whole * problem.mean_of(weighted, targets))
        return {term: torch.stack(parts).sum()}

    return objective


@torch.no_grad()
def _find_errors(problem: Problem, inputs: Inputs, targets: Tensor) -> Tensor:
    """Which rows of a batch the first network gets wrong, in evaluation mode."""
    params, buffers = (
        {name: problem.kept[f"{FIRST}{name}"] for name, _ in named}
        for named in (problem.model.named_parameters(), problem.model.named_buffers())
    )
    outputs = problem.network(params, buffers, inputs, training=False)
    found = classify_rows("JTT", problem, outputs, targets)
    return (found.predicted != found.labels) & problem.rows_counted(targets).bool()


def _count_errors(problem: Problem, read: Sequence[tuple[str, Data]]) -> Tensor:
    """How many rows of each of the data the first network gets wrong."""
    network, counts = problem.network, []
    with keep_generator_states(*(data for _, data in read)), isolate_rng(problem.seed, "JTT"):
        for name, data in read:
            size = network.compute.choose_batch_size(EVALUATED)
            batches = iterate_batches(name, data, batch_size=size, device=network.device, model=network.module)
            counts.append(sum(int(_find_errors(problem, inputs, targets).sum()) for inputs, targets in batches))
    return torch.tensor(counts, dtype=torch.float64, device=network.device)
