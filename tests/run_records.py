"""Records of runs, made up by hand, for tests of what reads the store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from mechconn.connectivity import Barrier, EndMeans, Profile, compute_barrier
from mechconn.core import Environment, Picture, hash_settings
from mechconn.mechanisms import Change, Effect, Invariance, Relearned, RelearningCurve, RelearningRun
from mechconn.paper import CellPath, CellRecord, CueResult, Fig13Summary, RunRecord, SeedMean, resolve_settings
from mechconn.paper._fig13 import PairMeans, PairSummary

SPLITS = ("no_cue", "cue", "rand_cue", "rand_image")
HERE = Environment(versions={"torch": "2"}, system="Linux", processor="p", cores=2, threads=1, device="cpu")
SHORTCUT: dict[str, float] = dict(zip(SPLITS, (0.5, 0.99, 0.2, 0.8), strict=True))
FIXED: dict[str, float] = dict(zip(SPLITS, (0.75, 0.74, 0.73, 0.09), strict=True))
PLACE = ("digits", 0.8, None, 0)
NORM = {"policy": "reestimate", "data": "training data", "average": "cumulative"}


def effect(split: str, size: float, verdict: Any = "sensitive") -> Effect:
    change = Change(size, (size - 0.02, size + 0.02), 100)
    return Effect(
        interval=(size - 0.02, size + 0.02), verdict=verdict, p_value=0.01, adjusted_p_value=0.02,
        adjusted_interval=(size - 0.03, size + 0.03), confidence=0.975,
        to_settle=400 if verdict == "undetermined" else None,
        split=split, effect=size, paired=True, samples=100, draws=1, changed=abs(size), changed_interval=(0.0, 1.0),
        accuracy=change, loss=None, by_class={0: change},
    )  # fmt: skip


def model(
    accuracy: Mapping[str, float], margins: tuple[float, float] | None = (0.03, 0.02), **verdicts: Any
) -> Invariance:
    """Accuracies with intervals so far below and above them; None has no intervals. Verdicts by split."""
    low, high = margins or (0.0, 0.0)
    intervals = {split: (max(a - low, 0.0), min(a + high, 1.0)) for split, a in accuracy.items()}
    others = [split for split in accuracy if split != "cue" and "cue" in accuracy]
    return Invariance(
        effects={s: effect(s, accuracy[s] - accuracy["cue"], verdicts.get(s, "sensitive")) for s in others},
        accuracy=dict(accuracy), accuracy_interval=intervals if margins else {}, loss=dict.fromkeys(accuracy, 0.5),
        samples=dict.fromkeys(accuracy, 100), reference="cue", interventions=("rand_cue", "rand_image"), margin=0.05,
        on="accuracy",
    )  # fmt: skip


def path(height: float | None, spread: float = 0.0, end: str = "theta_NC", **fields: Any) -> CellPath:
    """A path with one barrier on every split; None is a loss that is not finite in the middle."""
    middle = math.inf if height is None else 0.1 + height
    barriers: dict[str, Barrier] = {}
    if height is not None:
        known = compute_barrier((0.0, 0.5, 1.0), (0.1, middle, 0.1), (height - spread, height + spread))
        barriers = dict.fromkeys(SPLITS, known)
    profile = Profile(
        ts=(0.0, 0.5, 1.0),
        loss={split: (0.1, middle, 0.1) for split in SPLITS},
        accuracy={split: (0.9, 0.4, 0.8) for split in SPLITS},
        samples=dict.fromkeys(SPLITS, 100),
        reference="cue",
        interventions=("rand_cue", "rand_image"),
        settings={"norm": NORM},
        names=("theta_C", end),
        barriers={"loss": barriers},
        samples_kept=True,
    )
    return CellPath(**{"kind": "linear", "profile": profile, **fields})


def shifted(height: float, ends: Mapping[str, Mapping[str, float]], end: str = "theta_NC") -> CellPath:
    """A path of whose ends some had another accuracy as saved: "A" or "B" -> split -> that accuracy."""
    found, here = path(height, end=end), {"A": 0.9, "B": 0.8}
    a, b = (
        EndMeans(dict.fromkeys(SPLITS, 0.1), {split: ends.get(which, {}).get(split, here[which]) for split in SPLITS})
        for which in "AB"
    )
    return replace(found, profile=replace(found.profile, saved=(a, b)))


def relearned(before: Invariance, verdict: Literal["gone", "hidden", "undetermined"], excess: float) -> Relearned:
    """Of one run: whether the cue is gone or hidden, at looks before and after 25 and 100 steps."""

    def curve(*means: float) -> RelearningCurve:
        steps = tuple((mean - 0.02, mean + 0.02) for mean in means)
        return RelearningCurve(0.01, (means,) * 3, steps, 0.1, ())

    at_start = before.accuracy["rand_image"] - 0.1
    run = RelearningRun(
        before=before, at_start=at_start, at_start_interval=(at_start - 0.02, at_start + 0.02), excess=excess,
        interval=(excess - 0.02, excess + 0.02), verdict=verdict,
        to_settle={"seeds": 9, "rows": 400} if verdict == "undetermined" else None,
        curve=curve(0.1 + at_start, 0.2 + excess, 0.3 + excess), against=curve(0.1, 0.2, 0.3),
    )  # fmt: skip
    return Relearned((run,), {}, (0, 25, 100), "rand_image", "rand_cue", 0.05, "control", {"seeds": 3})


def cue_result(
    place: tuple[Any, ...], models: Mapping[str, Invariance], paths: Sequence[CellPath] = (), **fields: Any
) -> CueResult:
    """The result of a cell at (dataset, proportion, clean samples, seed)."""
    return CueResult(*place, tolerance=0.05, models=models, paths=tuple(paths), **fields)


def run_record(recipe: str, results: Sequence[CueResult] = (), scale: str = "smoke", **changes: Any) -> RunRecord:
    """A run whose cells gave these results."""
    settings = resolve_settings(recipe, scale, root="no images here")[2].model_dump(mode="json") | {
        "device": "cpu",
        "threads": 1,
    }
    cells = tuple(
        CellRecord(
            f"{found.dataset} {found.proportion} {found.clean_samples} {found.seed}", "done", 2.0,
            {"train: theta_C": "k"}, 1, result=found,
        )
        for found in results
    )  # fmt: skip
    pixels = Picture.of(torch.zeros(4, 8, 3, dtype=torch.uint8))
    fields: dict[str, Any] = {
        "id": f"{recipe}-{scale}-0123abcd",
        "recipe": recipe,
        "scale": scale,
        "settings": settings,
        "settings_hash": hash_settings(settings),
        "inputs_hash": "ab",
        "seeds": tuple(sorted({found.seed for found in results})) or (0,),
        "engine": "inline",
        "workers": 1,
        "threads": 1,
        "status": "done",
        "seconds": 12.5,
        "started": "2026-01-02T03:04:05+00:00",
        "cells": cells,
        "planned": len(cells),
        "environment": HERE,
        "pictures": {"digits": dict.fromkeys(SPLITS, pixels)},
    }
    return RunRecord(**{**fields, **changes})


def table1_record(data: str = "digits", **changes: Any) -> RunRecord:
    """Two seeds, of which CBFT's accuracies lie 0.02 apart; FT-M's do not."""
    results = [
        cue_result(
            (data, 0.9, 600, seed),
            {
                "theta_C": model(SHORTCUT),
                "FT-M": model(SHORTCUT),
                "CBFT": model({split: share + 0.01 * (2 * seed - 1) for split, share in FIXED.items()}),
            },
            histories={
                "FT-M": ({"epoch": 0, "lr": 0.1, "loss": 2.0 + seed}, {"epoch": 1, "lr": 0.0, "loss": 1.0}),
                "CBFT": ({"epoch": 0, "lr": 0.1, "cross_entropy": 2.0, "barrier_term": 0.5},),
            },
        )
        for seed in (0, 1)
    ]
    return run_record("table1", results, **changes)


def fig4_paths(**heights: float | None) -> list[CellPath]:
    """The four paths of figure 4; barriers by path, 1 nat where nothing else is said."""
    return [
        path(heights.get("linear", 1.0)),
        path(heights.get("aligned", 1.0), kind="aligned"),
        path(heights.get("cued", 1.0), kind="fitted", fitted_on="cued"),
        path(heights.get("clean", 1.0), kind="fitted", fitted_on="clean"),
    ]


def fig4_record(**heights: float | None) -> RunRecord:
    """One seed of figure 4."""
    models = {"theta_C": model(SHORTCUT), "theta_NC": model(FIXED)}
    return run_record("fig4", [cue_result(PLACE, models, fig4_paths(**heights))])


def quickstart_record(**changes: Any) -> RunRecord:
    """The demo's record: one seed, four models, one path."""
    clean = dict.fromkeys(SPLITS[:3], 0.9) | {"rand_image": 0.1}
    models = {
        "theta_C": model(SHORTCUT),
        "theta_NC": model(clean, rand_cue="invariant"),
        "FT-M": model(SHORTCUT, rand_image="undetermined"),
        "CBFT": model(clean, rand_cue="undetermined"),
    }
    found: dict[str, Relearned] = {
        "theta_C": relearned(models["theta_C"], "hidden", 0.6),
        "theta_NC": relearned(models["theta_NC"], "gone", 0.0),
        "FT-M": relearned(models["FT-M"], "hidden", 0.5),
        "CBFT": relearned(models["CBFT"], "hidden", 0.2),
    }
    (place, paths) = (("digits", 0.8, 600, 3), [path(0.4)])
    return run_record("quickstart", [cue_result(place, models, paths, relearned=found)], **changes)


def fig13_record() -> RunRecord:
    """Two widths; the settings are not those of a recipe with a cue."""

    def measured(width: int, barrier: float) -> dict[str, SeedMean]:
        return {
            "barrier_before": SeedMean(2.0, (1.5, 2.5), 3),
            "barrier_after": SeedMean(barrier, (barrier - 0.1, barrier + 0.1), 3),
            "agreement_before": SeedMean(0.5, None, 3),
            "pattern_agreement": SeedMean(0.9 + width / 10000, (0.8, 1.0), 3),
        }

    def pair(barrier: float) -> PairSummary:
        by_width = {width: PairMeans(**measured(width, barrier)) for width in (16, 128)}
        return PairSummary(**measured(128, barrier), by_width=by_width)

    summary = Fig13Summary(pair(0.2), pair(1.2), pair(0.3), pair(0.4))
    record = run_record("quickstart", summary=summary, pictures={}, seeds=(0, 1, 2))
    plain = {"widths": [16, 128], "seeds": [0, 1, 2]}
    return replace(record, recipe="fig13", id="fig13-smoke-0123abcd", settings=plain)
