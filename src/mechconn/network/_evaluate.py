"""What a network does on data: one loss per sample, any other per-sample values, and predictions of a classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mechconn.core import Data, iterate_batches, keep_generator_states
from mechconn.losses import Loss
from mechconn.network._cache_rows import PassRows
from mechconn.network._inference import Forward, PointForward
from mechconn.network._metrics import Metric
from mechconn.network._outcome_tally import OutcomeTally
from mechconn.network._padding import heeds_mask
from mechconn.network._params import Network
from mechconn.network._row_outcomes import Answers, Outcomes
from mechconn.stats import Interval, betting_interval, mean_interval

CLASSIFICATION = (
    "whole-number targets [N], outputs [N, K], or a loss that says what is right, as mechconn.losses.binary does"
)
"""What makes a task a classification, in errors."""


def check_same_rows(what: str, first: Tensor, targets: Tensor) -> None:
    """Raise unless another draw of a split has the targets of the first."""
    if not torch.equal(first, targets):
        raise ValueError(
            f"{what} has {len(targets)} rows and the split {len(first)}, or labels in another order; a draw is of "
            "the same rows as the split, with one latent drawn anew"
        )


@torch.no_grad()
def compute_outcomes(
    forward: Forward,
    network: Network,
    data: Data,
    name: str,
    loss: Loss,
    metrics: Mapping[str, Metric] | None = None,
    *,
    keep_probabilities: bool = False,
) -> Outcomes:
    """One pass over `data` through a network at one point of weight space; see `Inference.at`.

    The network says where, how many rows at a time, and by its signature how batches of several parts are read.

    Raises:
        ValueError: the data are empty or not finite, targets are not of the loss, or the loss or a metric is not one
            value per sample.
        TypeError: the network does not take the inputs as they were read.
    """
    tally = OutcomeTally(name, loss, metrics or {}, keep_probabilities)
    with keep_generator_states(data):
        for outputs, target in iterate_outputs(forward, network, data, name):
            tally.add(outputs, target)
    return tally.all()


def iterate_outputs(forward: Forward, network: Network, data: Data, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs and targets of one pass, batch by batch; a fast network is proved anew on the first rows."""
    if isinstance(forward, PointForward):
        forward.begin_pass()
    rows = PassRows(network, data, forward)
    for inputs, target in iterate_batches(
        name,
        data,
        batch_size=rows.first,
        device=network.device,
        model=network.module,
        trim=heeds_mask(network, forward),
        at_end=True,
        further=rows.further,
    ):
        yield rows.run(inputs), target


def compute_mean_with_interval(
    values: Tensor, bounds: Interval | None, confidence: float
) -> tuple[float, Interval | None]:
    """The mean of a value of each row, with its interval: betting within bounds, else Student's t of two rows."""
    values = values.double()
    if bounds is not None:
        return float(values.mean()), betting_interval(values.numpy(), bounds, confidence)
    interval = mean_interval(values, max(1.0, float(values.abs().max())), confidence) if len(values) > 1 else None
    return float(values.mean()), interval


def check_classified(what: str, result: Outcomes) -> Answers:
    """What is right on every row.

    Raises:
        ValueError: the task is no classification.
    """
    if result.answers is None:
        raise ValueError(f"{what} needs a classification: {CLASSIFICATION}")
    return result.answers


def check_predictions(name: str, answers: Answers | None) -> None:
    """Raise ValueError where a row's outputs tell no class."""
    if answers is not None and answers.undefined is not None:
        row = answers.undefined
        raise ValueError(f"{name}: the model's outputs on row {row} hold NaN, so it has no prediction there")


def check_row_count(split: str, where: str, before: int, count: int) -> None:
    """Raise ValueError where a split gave another number of rows than before."""
    if count != before:
        raise ValueError(
            f"split {split!r} gave another number of rows at {where} than before; use data that stay the same"
        )


def check_row_order(split: str, where: str, same: bool) -> None:
    """Raise ValueError unless a split's rows came in the order of before."""
    if not same:
        raise ValueError(
            f"the rows of split {split!r} came in another order at {where} than before; samples are kept in pairs, so "
            "they must come in one order: turn shuffling off"
        )


def check_accuracy_measured(split: str, measured: bool) -> None:
    """Raise ValueError unless a split has an accuracy, or a metric that was asked for."""
    if not measured:
        raise ValueError(
            f"split {split!r} has no accuracy: its task is no classification (whole-number targets [N], outputs "
            "[N, K]); ask with on='loss' or name a metric of your own"
        )
