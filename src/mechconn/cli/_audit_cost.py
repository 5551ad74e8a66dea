"""How long an audit will take, from what it will do and a few timed batches."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import torch

from mechconn.cli._audit_files import AuditJob
from mechconn.connectivity import group_parameters
from mechconn.core import Compute, as_data, iterate_batches, read_targets
from mechconn.network import ROWS_ON_CPU, Network, find_statistics_layers, point_of

BATCHES = 5
"""How many batches are timed: one alone may take twice as long as the next."""
WATCHED = 2
"""A row costs so many passes where its activations are looked at: each operation runs by itself, and products of
activations are added up (measured: 1.5 to 2.5 from small_convnet to ResNet-18)."""
SYMMETRY_SECONDS = 3.0
"""Reading off the symmetry, proving it, and matching weights: 3 s for small_convnet, of which 2 are the first export
of a process. Networks with which it takes longer (25 s for ResNet-18) are slow on the data too."""


def estimate_seconds(job: AuditJob, compute: Compute) -> tuple[int, float]:
    """(forward passes of one row, seconds) that the audit will take, from a few timed batches.

    Passes: each model on each split twice (effects, discrepancy), and every point of the one or two paths (and of
    each block) on each split and once over the data of the statistics; both models' watched passes over these data
    where units are matched by activations, and over the reference for CKA.
    """
    network = Network(job.models[0], compute)
    rows = sum(_count_rows(job.suite[name]) for name in job.suite)
    training = 0 if job.training is None else _count_rows(job.training)
    statistics = training if find_statistics_layers(network) else 0
    lines = 1 if job.config.alignment == "none" else 2
    if job.config.blocks is not None:
        lines += len(
            group_parameters([name for name, _ in job.models[0].named_parameters()], job.config.blocks, None)[0]
        )
    passes = 4 * rows + lines * job.config.points * (rows + statistics)
    if job.config.alignment in ("auto", "activations"):
        passes += 2 * WATCHED * training
    if job.config.layers is not None:
        passes += 2 * WATCHED * _count_rows(job.suite[job.suite.reference])
    fixed = 0.0 if job.config.alignment == "none" else SYMMETRY_SECONDS
    return passes, passes * _time_row(network, job) + fixed


@torch.no_grad()
def _time_row(network: Network, job: AuditJob) -> float:
    """One forward pass of one row of the reference, the first batch not counted."""
    point = network.load(point_of(job.models[0]).params)
    data = iterate_batches("split", job.suite[job.suite.reference], batch_size=ROWS_ON_CPU, device=network.device)
    first = list(islice(data, BATCHES))
    network(point, network.buffers, first[0][0])
    started = time.perf_counter()
    for inputs, _ in first:
        float(network(point, network.buffers, inputs).sum())  # waits for a device that works on its own
    return (time.perf_counter() - started) / sum(len(targets) for _, targets in first)


def _count_rows(data: Any) -> int:
    return len(read_targets("data", as_data("data", data)))
