"""How long an audit will take, from what it will do and a few timed batches."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any, cast

import torch
from torch import nn

from mechconn.alignment import AlignmentMethod, GradientMatching, LearnedMatching
from mechconn.cli._audit_config import UNNAMED, reads_data
from mechconn.cli._audit_files import AuditJob, make_alignment
from mechconn.connectivity import group_parameters
from mechconn.core import Compute, as_data, iterate_batches, read_targets
from mechconn.mechanisms import find_intervention
from mechconn.network import (
    ROWS_ON_CPU,
    InterpolateNorm,
    KeepNorm,
    Network,
    Reestimate,
    Repair,
    find_statistics_layers,
    point_of,
)

BATCHES = 5
"""How many batches are timed: one alone may take twice as long as the next."""
WATCHED = 2
"""A row costs so many passes where its activations are looked at: each operation runs by itself, and products of
activations are added up (measured: 1.5 to 2.5 from small_convnet to ResNet-18)."""
TRAINED = 3
"""A row of a step costs so many passes: one forward, and a backward pass of twice that."""
FIT_SECONDS = 4e-8
"""Of a probe, for a row, a feature and a class (measured: 1e-8 to 7e-8, 400 to 20,000 rows of 64 and 512 features)."""
FEATURES = 512
"""Most features of a probe."""
SYMMETRY_SECONDS = 3.0
"""Reading off the symmetry, proving it, and matching weights: 3 s for small_convnet, of which 2 are the first export
of a process. Networks with which it takes longer (25 s for ResNet-18) are slow on the data too."""


def estimate_seconds(job: AuditJob, compute: Compute) -> tuple[int, float]:
    """(forward passes of one row, seconds) that the audit will take at most, from a few timed batches.

    With R rows in all splits, R_0 in the reference, S in the data of the policy where they are read at every point
    (none without normalisation statistics), M in those that units are matched on, P points, and K blocks, it makes

        2 R                      both models on every split, once: effects, discrepancy, ends as saved
        (P - 2) (R + S)          inner points of the line, and again after alignment
        E (R + S)                ends with other statistics than those saved: both where they are re-estimated, B where
                                 A's are kept; both lines share them, but for kept ones, which no permutation moves
        K (P - 1) (R + S)        every block: its still end is the network as saved, or that of the line
        2 W M + 2 W R_0          watched passes of both models: matching by activations, one pass for CKA

    passes (learned and gradient matching: `count_passes`), W = `WATCHED`. With N networks that relearn (both
    and the control, or both twice), each at every rate and by every seed, L steps of B rows and looks at R_s rows of
    the measured split; and n networks a side that are probed on R_p rows (the model, fresh weights, the control), it
    makes

        N rates seeds (T L B + looks R_s)      relearning, T = `TRAINED`
        4 (R_0 + R_i)                          whether the control suits both, R_i of the intervention
        2 W n R_p                              features of all layers

    more, and fits a probe for every layer and network. REPAIR reads its data at inner points alone, and at each end
    once, where the first batch is read once more. It makes fewer passes where matching moves no unit, and where a
    block's statistics do not depend on what moves.
    """
    config, network = job.config, Network(job.models[0], compute)
    rows, reference = (sum(map(count_rows, of)) for of in (job.suite.values(), [job.suite[job.suite.reference]]))
    training = 0 if job.training is None else count_rows(job.training)
    passes = 2 * rows + _count_path_passes(job, bool(find_statistics_layers(network)), rows, training)
    passes += _count_matching_passes(job, training)
    if config.layers is not None:
        passes += 2 * WATCHED * reference
    passes += _count_relearning_passes(job) + 2 * WATCHED * _count_probed_networks(job) * _count_probed_rows(job)
    balanced = job.relearn is not None and job.relearn.symmetry == "auto"
    fixed = SYMMETRY_SECONDS * ((config.alignment != "none") + balanced) + _estimate_fits(job)
    return passes, passes * time_row(network, job.models[0], job.suite[job.suite.reference]) + fixed


def _count_relearning_passes(job: AuditJob) -> int:
    """Passes of one row for relearning; see `estimate_seconds`."""
    if (task := job.relearn) is None:
        return 0
    method, rows = task.relearning, count_rows(task.data)
    batch = min(method.batch_size, rows if method.rows is None else min(method.rows, rows))
    steps, looks = TRAINED * method.steps[-1] * batch, len(method.steps) * count_rows(job.suite[task.split])
    controlled = task.control is not None
    compared = (job.suite.reference, find_intervention(job.suite, task.split, task.intervention))
    checks = 4 * sum(count_rows(job.suite[name]) for name in compared) if controlled else 0
    return (3 if controlled else 4) * len(method.rates) * method.seeds * (steps + looks) + checks


def _count_probed_networks(job: AuditJob) -> int:
    """Networks a side: the model, fresh weights, and the control where there is one."""
    if job.probe is None:
        return 0
    controls = (job.probe.control, job.relearn and job.relearn.control)
    return 2 + any(control is not None for control in controls)


def _count_probed_rows(job: AuditJob) -> int:
    return 0 if job.probe is None else count_rows(job.probe.data)


def _estimate_fits(job: AuditJob) -> float:
    """Seconds for the probes of both sides: at most so many features, all layers that own parameters and the head."""
    if job.probe is None:
        return 0.0
    layers, target = job.probe.layers, job.probe.target
    modules = list(job.models[0].modules())
    owning = sum(any(True for _ in part.parameters(recurse=False)) for part in modules) + 1
    count = owning if layers is None else len(modules) + 1 if isinstance(layers, str) else len(layers)
    named = read_targets("data", as_data("data", job.probe.data)).tolist() if isinstance(target, str) else target
    classes = len({str(value) for value in list(cast(Any, named))})
    fits = 2 * _count_probed_networks(job) * count
    return fits * FIT_SECONDS * _count_probed_rows(job) * FEATURES * classes


def _count_path_passes(job: AuditJob, has_statistics: bool, rows: int, training: int) -> int:
    """Passes of one row for one or two lines and for the blocks; see `estimate_seconds`."""
    config, norm = job.config, job.norm
    inner, lines = config.points - 2, 1 if config.alignment == "none" else 2
    if isinstance(norm, Repair):
        measured = training + min(training, norm.batch_size)
        return lines * inner * (rows + training) + (lines + 1) * measured
    known: dict[type, tuple[int, int]] = {InterpolateNorm: (0, 0), KeepNorm: (0, lines), Reestimate: (training, 2)}
    reads, ends = (0, 0) if norm is None else known.get(type(norm), (training, 2 * lines))  # of others at most
    if type(norm) in known and not has_statistics:
        reads, ends = 0, 0
    return (rows + reads) * (lines * inner + ends + _count_blocks(job) * (config.points - 1))


def _count_blocks(job: AuditJob) -> int:
    if job.config.blocks is None:
        return 0
    names = [name for name, _ in job.models[0].named_parameters()]
    return len(group_parameters(names, job.config.blocks, None)[0])


def _count_matching_passes(job: AuditJob, training: int) -> int:
    """Passes of one row for matching on the training data, by methods that read them or where policies re-estimate."""
    chosen = job.config.alignment
    if chosen in UNNAMED:
        return 2 * WATCHED * training if chosen == "auto" and isinstance(job.norm, Reestimate) else 0
    if not reads_data("alignment", AlignmentMethod, chosen):
        return 0
    method = make_alignment(job)
    counted = isinstance(method, LearnedMatching | GradientMatching)
    return method.count_passes(training) if counted else 2 * WATCHED * training


@torch.no_grad()
def time_row(network: Network, model: nn.Module, data: Any) -> float:
    """Seconds for one forward pass of one row of the data, the first batch not counted."""
    point = network.load(point_of(model).params)
    first = list(
        islice(iterate_batches("split", data, batch_size=ROWS_ON_CPU, device=network.device, trim=True), BATCHES)
    )
    network(point, network.buffers, first[0][0])
    started = time.perf_counter()
    for inputs, _ in first:
        float(network(point, network.buffers, inputs).sum())  # waits for a device that works on its own
    return (time.perf_counter() - started) / sum(len(targets) for _, targets in first)


def count_rows(data: Any) -> int:
    """How many there are."""
    return len(read_targets("data", as_data("data", data)))
