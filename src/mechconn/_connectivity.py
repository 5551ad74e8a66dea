"""Evaluating networks along a path, and what the profile says about connectivity."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import nn

from mechconn import _errors
from mechconn._checks import check_choice, check_fraction, check_is, check_non_negative
from mechconn._evaluate import outcomes, per_sample_cross_entropy
from mechconn._inference import Inference
from mechconn._interventions import Suite
from mechconn._norm_stats import KeepNorm, NormPolicy, keeps_statistics
from mechconn._params import Network
from mechconn._paths import Path, path_grid
from mechconn._precision import Precision
from mechconn._rng import isolated
from mechconn._typing import PerSampleLoss, Progress


@dataclass(frozen=True)
class Barrier:
    """The largest rise above the chord between the endpoints.

    Attributes:
        height: max over t of L(gamma(t)) - [(1 - t) L(theta_a) + t L(theta_b)], in the units of L; never below 0.
        t: where on the grid it stands.
    """

    height: float
    t: float


@dataclass(frozen=True)
class Profile:
    """Loss and accuracy along a path, per split.

    Attributes:
        ts: the grid; 0 is A, 1 is B.
        loss: split -> mean loss at each t (nats for cross-entropy), a true mean over samples.
        accuracy: split -> accuracy at each t, in [0, 1].
        samples: split -> number of samples.
        reference: the split that the interventions start from.
        interventions: the splits that are unit interventions.
        settings: path, normalisation policy with its data, device and number type.
    """

    ts: tuple[float, ...]
    loss: Mapping[str, tuple[float, ...]]
    accuracy: Mapping[str, tuple[float, ...]]
    samples: Mapping[str, int]
    reference: str
    interventions: tuple[str, ...]
    settings: Mapping[str, Any]

    def barrier(self, split: str, on: str = "loss") -> Barrier:
        """The barrier on one split: max over t of L(gamma(t)) - [(1 - t) L(theta_a) + t L(theta_b)].

        With on="accuracy" L is the error rate, 1 - accuracy. A barrier does not change when a constant is added
        to L, and swapping the endpoints mirrors its place.

        Raises:
            ValueError: no such split, `on` is neither "loss" nor "accuracy", or L is not finite somewhere.
        """
        values = self._values(split, on)
        gaps = [value - ((1 - t) * values[0] + t * values[-1]) for t, value in zip(self.ts, values, strict=True)]
        highest = max(range(len(gaps)), key=gaps.__getitem__)
        return Barrier(max(gaps[highest], 0.0), self.ts[highest])

    def endpoint_minus_minimum(self, split: str) -> float:
        """The graded gap (L(theta_a) + L(theta_b)) / 2 - min over t of L(gamma(t)), in the units of the loss.

        A third party's summary score, offered beside the barrier and never as a verdict.
        """
        values = self._values(split, "loss")
        return (values[0] + values[-1]) / 2 - min(values)

    def mode_connected(self, split: str, tolerance: float = 0.0) -> bool:
        """Whether L(gamma(t)) <= (1 - t) L(theta_a) + t L(theta_b) + tolerance for every t of the grid."""
        return self.barrier(split).height <= check_non_negative("tolerance", tolerance)

    def mechanistically_connected(self, tolerance: float = 0.0) -> bool:
        """Whether the path is mode connected on the reference *and* on every intervention.

        Source: Lubana et al. 2023, definition of mechanistic connectivity.
        """
        return all(self.mode_connected(split, tolerance) for split in (self.reference, *self.interventions))

    def to_csv(self, file: str | FilePath) -> None:
        """Write one row per t and split: t, split, loss, accuracy, samples."""
        with open(file, "w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["t", "split", "loss", "accuracy", "samples"])
            for split in self.loss:
                for t, loss, accuracy in zip(self.ts, self.loss[split], self.accuracy[split], strict=True):
                    writer.writerow([t, split, loss, accuracy, self.samples[split]])

    def _values(self, split: str, on: str) -> list[float]:
        check_choice("split", split, tuple(self.loss))
        check_choice("on", on, ("loss", "accuracy"))
        values = list(self.loss[split]) if on == "loss" else [1 - a for a in self.accuracy[split]]
        for t, value in zip(self.ts, values, strict=True):
            if not abs(value) < float("inf"):
                raise ValueError(f"the {on} on {split!r} is {value} at t = {t:g}, so the path has no barrier there")
        return values


def evaluate_path(
    model: nn.Module,
    path: Path,
    suite: Suite,
    ts: int | Sequence[float] = 11,
    norm: NormPolicy | None = None,
    *,
    loss: PerSampleLoss = per_sample_cross_entropy,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> Profile:
    """Loss and accuracy of the network at points of a path, on every split of a suite.

    Args:
        model: gives the architecture and the buffers; it stays as it is.
        path: the curve, t = 0 is A and t = 1 is B.
        suite: the splits.
        ts: number of evenly spaced points, or the points themselves: increasing, from 0 to 1.
        norm: where normalisation statistics come from at each t, endpoints included; required when the model
            keeps any. One re-estimation per t serves all splits.
        loss: one value per sample from (outputs, targets).
        seed: of layers and loaders that draw from global generators.
        device: where to compute; default: where the model is.
        precision: "float32" computes in the model's own type, "auto" in bfloat16 where the device is faster with it.
        progress: called with (message, points done, points in all).

    Raises:
        ValueError: the path is not of this architecture, the grid is not from 0 to 1, `norm` is missing, or
            data are not finite.
    """
    check_is("suite", suite, Suite, "; build one with Suite({name: data, ...})")
    network = Network(model, device, precision)
    inference = Inference(network)
    grid = path_grid(ts) if isinstance(ts, int) else _checked_grid(ts)
    if norm is None:
        if layers := keeps_statistics(network):
            raise ValueError(_errors.NEEDS_NORM.format(layers=_few(list(layers))))
        norm = KeepNorm()
    check_is("norm", norm, NormPolicy, "; pass Reestimate(data) or KeepNorm()")
    losses: dict[str, list[float]] = {name: [] for name in suite}
    accuracies: dict[str, list[float]] = {name: [] for name in suite}
    samples: dict[str, int] = {}
    for number, t in enumerate(grid):
        params = path.at(t)
        network.check("the path's parameters", params)
        params = network.load(params)
        with isolated(seed, "evaluate_path"):
            forward = inference.at(params, norm.buffers(network, params, t))
            for name, data in suite.items():
                result = outcomes(forward, network.device, data, f"split {name!r}", loss)
                losses[name].append(result.mean_loss)
                accuracies[name].append(result.accuracy)
                samples[name] = len(result.loss)
        if progress is not None:
            progress("evaluating the path", number + 1, len(grid))
    return Profile(
        ts=grid,
        loss={name: tuple(values) for name, values in losses.items()},
        accuracy={name: tuple(values) for name, values in accuracies.items()},
        samples=samples,
        reference=suite.reference,
        interventions=suite.interventions,
        settings={
            **path.describe(),
            "norm": norm.describe(),
            "device": str(network.device),
            "precision": network.number_type,
            "seed": seed,
        },
    )


def _checked_grid(ts: Sequence[float]) -> tuple[float, ...]:
    grid = tuple(check_fraction("t", t) for t in ts)
    ordered = all(a < b for a, b in pairwise(grid))
    if len(grid) < 2 or grid[0] != 0.0 or grid[-1] != 1.0 or not ordered:
        raise ValueError(
            f"ts must increase from 0 to 1, both included, got {list(grid)}; mechconn.path_grid(11) gives such a grid"
        )
    return grid


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
