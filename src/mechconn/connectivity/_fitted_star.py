"""A star model and how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from mechconn.alignment import AlignmentMethod, WeightMatching
from mechconn.connectivity._measure_star import MEASURES, StarProblem, measure_star
from mechconn.connectivity._path_verdict import TOLERANCE
from mechconn.connectivity._star_barriers import StarBarriers
from mechconn.core import (
    NOT_SAVED,
    Compute,
    PerSampleLoss,
    Progress,
    check_choice,
    check_non_negative,
    resolve_compute,
)
from mechconn.datasets import Clusters, Suite
from mechconn.losses import cross_entropy
from mechconn.network import NormPolicy
from mechconn.plotting import DescentResult, leave_out
from mechconn.symmetry import Symmetry

LOAD_STAR = (
    "fit it again, or save its weights beside it, safetensors.torch.save_file(star.model.state_dict(), file), and put "
    "them back, dataclasses.replace(star, model=mechconn.load_model(factory, file)); a symmetry that was passed to "
    "fit_star is saved and put back alike, star.symmetry.save(file), symmetry=mechconn.load_result(file)"
)
"""What to do where a star is asked for that a file does not hold."""
WEIGHTS = WeightMatching()


@dataclass(frozen=True, eq=False, repr=False)
class FittedStar(DescentResult, kind="fitted_star"):
    """A star model and how it came about; `barriers` measures how near it is to runs that it was not fitted on.

    Attributes:
        history: one record per epoch: its number, its last learning rate, and the mean loss of its samples at the
            points drawn between star and sources ("line") and at the star ("own", where it has a weight), each times
            its weight.
        settings: the method with every setting, how units are matched, the kinds, groups and hash of the symmetry where
            sources were realigned, how many sources and the hash of all of them, the policy of the statistics, seed,
            device, number type, and the size of the data.
        seconds: wall-clock time.
        sources: name -> SHA-256 of the weights of each source, by which `barriers` knows it again.
        notes: plain sentences on what a reader must know.
        model: the star, a new module in evaluation mode. Files leave it out.
        symmetry: what may be moved, where sources were realigned. Files leave it out.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    model: nn.Module = field(default=leave_out("model", LOAD_STAR), metadata=NOT_SAVED)
    symmetry: Symmetry | None = field(default=None, metadata=NOT_SAVED)

    def list_notes(self) -> tuple[str, ...]:
        """The notes."""
        return self.notes

    def barriers(
        self,
        held_out: Mapping[str, nn.Module] | Sequence[nn.Module],
        suite: Suite,
        *,
        sources: Mapping[str, nn.Module] | Sequence[nn.Module] = (),
        align: AlignmentMethod | None = WEIGHTS,
        ts: int | Sequence[float] = 11,
        norm: NormPolicy | None = None,
        on: str = "loss",
        symmetry: Symmetry | None = None,
        tolerance: float = TOLERANCE,
        cluster: Clusters | None = None,
        between: StarBarriers | None = None,
        ignore: Sequence[str] = (),
        loss: PerSampleLoss = cross_entropy,
        seed: int = 0,
        compute: Compute | None = None,
        device: str | torch.device | None = None,
        progress: Progress | bool | None = None,
    ) -> StarBarriers:
        """The barriers from the star to runs that it was not fitted on, beside those between these runs.

        On every split, along the straight line from the star (t = 0) to a run (t = 1), and from one run to the other,
        once the second end's units were moved onto the first's. The runs must be of the sources' recipe, with other
        seeds: then the barriers to them say something of the recipe, and not of the networks that the star saw.

        Args:
            held_out: runs that are no sources, by name or in a row; two or more, and three for intervals.
            suite: the splits. Put the training data among them, `Suite({**suite, "train": data}, ...)`, for the
                barrier that the source reports.
            sources: sources to measure too, all or some.
            align: how units are matched before each line; None leaves all networks as they are.
            ts: number of evenly spaced points, or the points themselves: increasing, from 0 to 1.
            norm: where normalisation statistics come from on each line, ends included; required when the model keeps
                any.
            on: "loss", or "accuracy" for barriers of the error rate: what the result shows first; it holds both.
            symmetry: what may be moved; default: that of the fit, else permutations and signs of units, found on the
                first rows of the reference. A star from a file that was fitted under another needs it.
            tolerance: the largest excess of the star's own loss, or error rate, over the held-out runs' mean that
                counts as none; where it is larger the star is no solution as they are, and its barriers prove nothing.
            cluster: which rows belong together; see `measure_invariance`. The intervals of the star's own loss and
                accuracy are then over clusters; barriers are of the rows as they are.
            between: barriers of another star to the same runs on the same splits, whose lines between the runs are
                taken over and not walked again.
            ignore: buffers and attributes of layers that are no part of what is computed; see `LinearPath.between`.
            loss: one value per sample from (outputs, targets).
            seed: of the alignment, and of layers and loaders that draw from global generators.
            compute: how to compute; see `Compute`.
            device: short for `Compute(device=...)`; default: where the star is.
            progress: short for `Compute(progress=...)`; counts lines.

        Raises:
            ValueError: fewer than two runs, a run that is a source or that stands there twice, a source that is none,
                the star itself, networks that are not the star's module with other parameters and statistics, `norm` is
                missing, or the symmetry of the fit is, where it was not the default.

        Source: Sonthalia et al. 2025, section 4 (star, sources and held-out runs, on the training loss).
        """
        known = symmetry if symmetry is not None or align is None else self.symmetry
        problem = StarProblem(
            self.model, held_out, sources, self.sources, suite, align, ts, norm, known, tuple(ignore), loss, seed,
            resolve_compute(compute, device, progress), between, cluster, self.settings.get("symmetry"),
        )  # fmt: skip
        tolerance = check_non_negative("tolerance", tolerance)
        return measure_star(problem, check_choice("on", on, MEASURES), tolerance, self.settings)
