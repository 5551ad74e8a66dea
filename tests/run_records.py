"""Records of runs, made up by hand, for tests of what reads the store."""

from __future__ import annotations

from typing import Any

import torch

from demo_record import SPLITS
from mechconn.core import Environment, Picture, hash_settings
from mechconn.paper import resolve_settings
from mechconn.store import CellRecord, RunRecord

HERE = Environment(versions={"torch": "2"}, system="Linux", processor="p", cores=2, threads=1, device="cpu")
SHORTCUT: dict[str, float] = dict(zip(SPLITS, (0.5, 0.99, 0.2, 0.8), strict=True))
FIXED: dict[str, float] = dict(zip(SPLITS, (0.75, 0.74, 0.73, 0.09), strict=True))


def model(accuracy: dict[str, float]) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "accuracy_interval": {split: [max(a - 0.03, 0.0), min(a + 0.02, 1.0)] for split, a in accuracy.items()},
    }


def path(height: float | None, spread: float = 0.0) -> dict[str, Any]:
    """A path with one barrier on every split; None is a loss that is not finite in the middle."""
    middle = None if height is None else 0.1 + height
    return {
        "ts": [0.0, 0.5, 1.0],
        "loss": {split: [0.1, middle, 0.1] for split in SPLITS},
        "accuracy": {split: [0.9, 0.4, 0.8] for split in SPLITS},
        "barrier": dict.fromkeys(SPLITS, None if height is None else [height, 0.5]),
        "barrier_interval": dict.fromkeys(SPLITS, None if height is None else [height - spread, height + spread]),
    }


def shifted(height: float, ends: dict[str, dict[str, float]]) -> dict[str, Any]:
    """A path of whose ends some had another accuracy as saved: end -> split -> that accuracy."""
    found, here = path(height), {"A": 0.9, "B": 0.8}
    saved = [{split: ends.get(end, {}).get(split, here[end]) for split in SPLITS} for end in "AB"]
    return found | {
        "saved": [{"loss": dict.fromkeys(SPLITS, 0.1), "accuracy": accuracy} for accuracy in saved],
        "shifted": [
            {"end": end, "split": split, "on": "accuracy", "saved": share, "evaluated": here[end]}
            for end, splits in ends.items()
            for split, share in splits.items()
        ],
    }


def run_record(
    recipe: str, numbers: dict[tuple[Any, ...], dict[str, Any]], scale: str = "smoke", **changes: Any
) -> RunRecord:
    """A run of (dataset, proportion, clean samples, seed) -> numbers."""
    settings = resolve_settings(recipe, scale, root="no images here")[2].model_dump(mode="json") | {
        "device": "cpu",
        "threads": 1,
    }
    cells = [
        CellRecord(
            name=" ".join(map(str, place)),
            dataset=place[0],
            proportion=place[1],
            clean_samples=place[2],
            seed=place[3],
            status="done",
            seconds=2.0,
            steps={"train: theta_C": "k"},
            computed=1,
        )
        for place in numbers
    ]
    pixels = Picture.of(torch.zeros(4, 8, 3, dtype=torch.uint8))
    fields: dict[str, Any] = {
        "id": f"{recipe}-{scale}-0123abcd",
        "recipe": recipe,
        "scale": scale,
        "settings": settings,
        "settings_hash": hash_settings(settings),
        "seeds": sorted({place[3] for place in numbers}) or [0],
        "engine": "inline",
        "workers": 1,
        "threads": 1,
        "status": "done",
        "seconds": 12.5,
        "started": "2026-01-02T03:04:05+00:00",
        "cells": cells,
        "planned": len(cells),
        "results": {cell.name: found for cell, found in zip(cells, numbers.values(), strict=True)},
        "notes": [],
        "environment": HERE,
        "pictures": {"digits": dict.fromkeys(SPLITS, pixels)},
    }
    return RunRecord.model_validate({**fields, **changes})


def table1_record(data: str = "digits", **changes: Any) -> RunRecord:
    """Two seeds, of which CBFT's accuracies lie 0.02 apart; FT-M's do not."""
    seeds = {
        seed: {
            "models": {
                "theta_C": model(SHORTCUT),
                "FT-M": model(SHORTCUT),
                "CBFT": model({split: share + 0.01 * (2 * seed - 1) for split, share in FIXED.items()}),
            },
            "paths": {},
            "histories": {
                "FT-M": [{"epoch": 0, "lr": 0.1, "loss": 2.0 + seed}, {"epoch": 1, "lr": 0.0, "loss": 1.0}],
                "CBFT": [{"epoch": 0, "lr": 0.1, "cross_entropy": 2.0, "barrier_term": 0.5}],
            },
        }
        for seed in (0, 1)
    }
    return run_record("table1", {(data, 0.9, 600, seed): found for seed, found in seeds.items()}, **changes)


def fig4_record(**heights: float | None) -> RunRecord:
    """One seed; barriers by path, 1 nat where nothing else is said."""
    names = {"linear": "linear", "aligned": "aligned", "cued": "fitted with cue", "clean": "fitted without cue"}
    paths = {name: path(heights.get(key, 1.0)) for key, name in names.items()}
    models = {"theta_C": model(SHORTCUT), "theta_NC": model(FIXED)}
    return run_record("fig4", {("digits", 0.8, None, 0): {"models": models, "paths": paths}})


def fig13_record() -> RunRecord:
    """Two widths, two pairs; the settings are not those of a recipe with a cue."""

    def measured(width: int, barrier: float) -> dict[str, Any]:
        return {
            "barrier_before": {"mean": 2.0, "interval": [1.5, 2.5]},
            "barrier_after": {"mean": barrier, "interval": [barrier - 0.1, barrier + 0.1]},
            "agreement_before": {"mean": 0.5, "interval": None},
            "pattern_agreement": {"mean": 0.9 + width / 10000, "interval": [0.8, 1.0]},
        }

    def pair(barrier: float) -> dict[str, Any]:
        return {**measured(128, barrier), "by_width": {str(width): measured(width, barrier) for width in (16, 128)}}

    summary = {"same_attribute": pair(0.2), "different_attributes": pair(1.2), "cells": []}
    record = run_record("quickstart", {}, summary=summary, pictures={}, seeds=[0, 1, 2])
    plain = {"widths": [16, 128], "seeds": [0, 1, 2]}
    return record.model_copy(update={"recipe": "fig13", "id": "fig13-smoke-0123abcd", "settings": plain})
