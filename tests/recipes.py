"""Recipes made so small that a whole run takes a second."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mechconn.paper import CellEngine, RunPlan, resolve_settings

INLINE = CellEngine("inline", 1, 1)

TINY = (
    "datasets=planted", "rows=80", "test_rows=40", "width=8", "points=3", "training.epochs=2", "training.batch_size=20",
    "training.milestones=[1]",
)  # fmt: skip
TUNING = (
    "clean_samples=40", "methods=FT-M,CBFT", "methods.FT-M.epochs=2", "methods.CBFT.epochs=2",
    "methods.FT-M.batch_size=20", "methods.CBFT.batch_size=20",
    "relearn=none",
)  # fmt: skip


def small_plan(store: Path, engine: CellEngine = INLINE, *changes: str, recipe: str = "table1") -> RunPlan:
    """A run of a recipe on planted latents, two cells as a rule."""
    own = ("fit.epochs=1",) if recipe == "fig4" else () if recipe in ("fig5", "table3") else TUNING
    _, scale, settings, _ = resolve_settings(recipe, "smoke", [*TINY, *own, *changes])
    return RunPlan(recipe, scale, settings, store, engine)


def computed(said: Iterable[str]) -> int:
    """How many steps a run computed, by what it said of its cells, of six steps each."""
    cells = [line for line in said if re.match(r"\[\d+/\d+\] .* s", line)]
    there = [re.search(r"(\d+) of 6 steps were there", line) for line in cells]
    return sum(6 - int(found[1]) if found else 6 for found in there)
