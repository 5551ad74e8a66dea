"""From results of cells to rows of tables: one result for each place and model, over the seeds where there are several.

A value of one seed is as it was measured, with its interval and verdict. Of several seeds it is their mean, its
interval is Student's t over the seeds, and the verdict is what the same rules say of that interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from mechconn.connectivity import Barrier, ConnectionVerdict, ShiftedEnd, judge_connection
from mechconn.core import SPLITS
from mechconn.mechanisms import Invariance, Relearned, combine_training_runs, join_relearned
from mechconn.stats import NEGLIGIBLE, Interval, compute_moments, t_interval

if TYPE_CHECKING:
    from mechconn.paper._cue_result import CellPath, CueResult


class CellPlace(NamedTuple):
    """Where a number stands in an experiment with a cue; clean None is all clean samples."""

    dataset: str
    proportion: float
    clean: int | None

    @property
    def words(self) -> str:
        """The place in a line."""
        clean = "" if self.clean is None else f", {self.clean:,} clean samples"
        return f"{self.dataset}, cue on {100 * self.proportion:g}\N{NO-BREAK SPACE}%{clean}"


def name_dataset_kind(data: Mapping[str, Any]) -> str:
    """What a dataset's settings describe, whatever it is called: "cifar10" is CIFAR-10 with the box cue."""
    kind = "dominoes" if (data["source"], data["cue"]) == ("cifar10", "dominoes") else str(data["source"])
    return kind if data["size"] is None else f"{kind} at {data['size']} pixels"


@dataclass(frozen=True)
class SeedMean:
    """A mean with its 95 % interval.

    Attributes:
        mean: None where a number is not finite.
        interval: over the seeds (Student's t) where there are two or more, else over the test samples; None where
            there is none.
        seeds: number of seeds.
    """

    mean: float | None
    interval: Interval | None
    seeds: int


@dataclass(frozen=True)
class BarrierMean(SeedMean):
    """The barrier of a path.

    Attributes:
        verdict: whether it is at most the tolerance.
        shifted: whether an end of some seed's path is another network on this split than the saved one.
    """

    verdict: ConnectionVerdict
    shifted: bool


ValueTable = Mapping[CellPlace, Mapping[str, Mapping[str, SeedMean]]]
"""Place -> model or path -> split -> value."""
BarrierTable = Mapping[CellPlace, Mapping[str, Mapping[str, BarrierMean]]]
"""Place -> path -> split -> barrier."""
Found = TypeVar("Found")


def combine_models(results: Sequence[CueResult]) -> dict[CellPlace, dict[str, Invariance]]:
    """Place -> model -> what it is invariant to: as it was measured on one seed, or over the seeds."""
    found = _group((result, name, model) for result in results for name, model in result.models.items())
    return {
        place: {
            name: models[0] if len(models) == 1 else combine_training_runs(models) for name, models in named.items()
        }
        for place, named in found.items()
    }


def combine_relearned(results: Sequence[CueResult]) -> dict[CellPlace, dict[str, Relearned]]:
    """Place -> model -> whether the cue is gone or hidden, the runs of every seed one after the other."""
    found = _group((result, name, own) for result in results for name, own in result.relearned.items())
    return {place: {name: join_relearned(runs) for name, runs in named.items()} for place, named in found.items()}


def tabulate_accuracies(results: Sequence[CueResult]) -> ValueTable:
    """Accuracy in [0, 1] of every model."""
    return {
        place: {
            name: {
                split: SeedMean(model.accuracy[split], model.accuracy_interval.get(split), model.runs)
                for split in sort_splits(model.accuracy)
            }
            for name, model in models.items()
        }
        for place, models in combine_models(results).items()
    }


def group_paths(results: Sequence[CueResult]) -> dict[CellPlace, dict[str, list[CellPath]]]:
    """Place -> path -> that of every seed."""
    return _group((result, path.label, path) for result in results for path in result.paths)


def tabulate_barriers(results: Sequence[CueResult]) -> BarrierTable:
    """Barrier in nats of every path, and whether it is at most the tolerance of its results.

    Raises:
        ValueError: seeds of one path have different tolerances.
    """
    tolerances = _group((result, path.label, result.tolerance) for result in results for path in result.paths)
    return {
        place: {
            name: {
                split: _combine_barriers(paths, split, _take_tolerance(place, name, tolerances[place][name]))
                for split in sort_splits(paths[0].profile.loss)
            }
            for name, paths in named.items()
        }
        for place, named in group_paths(results).items()
    }


def _take_tolerance(place: CellPlace, name: str, tolerances: Sequence[float]) -> float:
    if len(set(tolerances)) > 1:
        listed = " and ".join(f"{tolerance:g}" for tolerance in sorted(set(tolerances)))
        raise ValueError(
            f"the seeds of one path must have one tolerance, got {listed} for {name}, {place.words}; give all cells of "
            "a place the same"
        )
    return tolerances[0]


def _combine_barriers(paths: Sequence[CellPath], split: str, tolerance: float) -> BarrierMean:
    profiles = [path.profile for path in paths]
    verdicts = [profile.judge(tolerance) for profile in profiles]
    shifted = any(end.split == split for verdict in verdicts for end in verdict.shifted)
    broken = {
        verdict.splits[split]
        for profile, verdict in zip(profiles, verdicts, strict=True)
        if not all(map(math.isfinite, profile.loss[split]))
    }
    if broken:
        found: ConnectionVerdict = "not connected" if "not connected" in broken else "undetermined"
        return BarrierMean(None, None, len(paths), found, shifted)
    barriers = [profile.barrier(split) for profile in profiles]
    if len(barriers) == 1:
        return BarrierMean(barriers[0].height, barriers[0].interval, 1, verdicts[0].splits[split], shifted)
    mean = average_seeds([barrier.height for barrier in barriers], least=0.0)
    assert mean.mean is not None
    whole = Barrier(mean.mean, math.nan, math.nan, mean.interval)
    verdict = judge_connection(split, whole, tolerance, by_height=False).verdict
    return BarrierMean(mean.mean, mean.interval, mean.seeds, verdict, shifted)


def average_differing_seeds(values: Sequence[float], confidence: float = 0.95) -> SeedMean:
    """`average_seeds` at a confidence, without an interval where no value differs: then the spread is not known."""
    if max(values) - min(values) <= NEGLIGIBLE * max(map(abs, values)):
        return SeedMean(_average(values), None, len(values))
    return average_seeds(values, confidence=confidence)


def average_seeds(values: Sequence[float], least: float = -math.inf, confidence: float = 0.95) -> SeedMean:
    """A mean over seeds, with an interval where there are several, its lower bound at `least` or above."""
    if len(values) == 1:
        return SeedMean(values[0], None, 1)
    low, high = t_interval(compute_moments(torch.tensor(values, dtype=torch.float64)), confidence)
    return SeedMean(_average(values), (max(low, least), high), len(values))


# ---------------------------------------------------------------- curves and ends of paths, means over the seeds


def average_curves(paths: Sequence[CellPath]) -> dict[str, dict[str, list[float]]]:
    """Measure -> split -> means over the seeds at each t."""
    first = paths[0].profile
    measures = {on: sort_splits(first.measured()[on]) for on in ("accuracy", "loss") if on in first.measured()}
    return {
        on: {
            split: [_average(at) for at in zip(*(path.profile.measured()[on][split] for path in paths), strict=True)]
            for split in splits
        }
        for on, splits in measures.items()
    }


def average_shifts(paths: Sequence[CellPath]) -> list[ShiftedEnd]:
    """The ends of a path that are other networks than the saved ones for some seed, with means over the seeds."""
    which = {(end.end, end.split, end.on): None for path in paths for end in path.profile.shifted_ends()}
    return [_average_end(paths, *one) for one in which]


def list_saved_ends(paths: Sequence[CellPath]) -> list[tuple[str, str, float, float]]:
    """(split, measure, t, value as saved) of the ends that are shifted on some split."""
    return [
        (split, on, float("AB".index(end)), _average_end(paths, end, split, on).saved)
        for end in sorted({shift.end for shift in average_shifts(paths)})
        for on in ("accuracy", "loss")
        for split in paths[0].profile.measured().get(on, ())
    ]


def _average_end(paths: Sequence[CellPath], end: str, split: str, on: str) -> ShiftedEnd:
    index = "AB".index(end)
    pairs = [
        (getattr(saved, on)[split], path.profile.measured()[on][split][-index])
        for path in paths
        if (saved := path.profile.saved[index]) is not None
    ]
    saved, evaluated = (_average(values) for values in zip(*pairs, strict=True))
    return ShiftedEnd(end, split, on, saved, evaluated)


def combine_histories(results: Sequence[CueResult]) -> dict[CellPlace, dict[str, list[dict[str, float]]]]:
    """Place -> training or fit -> a record for each epoch, every number the mean over the seeds."""
    found = _group(
        (result, name, history)
        for result in results
        for name, history in {**result.histories, **{path.label: path.history for path in result.paths}}.items()
        if history
    )
    return {
        place: {
            name: [
                {term: _average([record[term] for record in epoch]) for term in epoch[0]}
                for epoch in zip(*seeds, strict=True)
            ]
            for name, seeds in trainings.items()
        }
        for place, trainings in found.items()
    }


def _group(found: Iterable[tuple[CueResult, str, Found]]) -> dict[CellPlace, dict[str, list[Found]]]:
    """Place -> name -> what was found for every seed, in the order of places."""
    grouped: dict[CellPlace, dict[str, list[Found]]] = {}
    for result, name, value in found:
        place = CellPlace(result.dataset, result.proportion, result.clean_samples)
        grouped.setdefault(place, {}).setdefault(name, []).append(value)
    return dict(sorted(grouped.items(), key=lambda item: (item[0][:2], item[0].clean or 0)))


def _average(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def sort_splits(splits: Iterable[str]) -> list[str]:
    """NC, C, RC and RI first, then what else there is."""
    found = list(dict.fromkeys(splits))
    return [*(split for split in SPLITS if split in found), *(split for split in found if split not in SPLITS)]
