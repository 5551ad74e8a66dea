"""The recipe `transplant`: fixes found on one seed, moved onto another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mechconn.mechanisms import Relearning
from mechconn.paper._cue_recipe import choose_batch_size, make_base_settings
from mechconn.paper._recipe import Recipe, Scale
from mechconn.paper._run_record import RunRecord
from mechconn.paper._steps import ExperimentContext
from mechconn.paper._transplant_results import (
    TransplantResult,
    TransplantSummary,
    summarise_transplants,
    write_sentences,
)
from mechconn.paper._transplant_settings import TransplantCell, TransplantSettings, list_transplant_cells
from mechconn.paper._transplant_steps import run_transplant_cell
from mechconn.tuning import CBFT, NaiveFineTuning


class TransplantRecipe(Recipe):
    """What fine-tuning made of one seed's theta_C, moved through alignment onto another seed's."""

    name = "transplant"
    about = "fixes found on one seed, moved onto another"
    title = "Fixes that travel"
    question = (
        "What fine-tuning changed of one network is moved through alignment onto another that was trained alike from "
        "other weights. Does it do there what fine-tuning that network itself does?"
    )

    def settings(self, scale: Scale, images: bool) -> TransplantSettings:
        """A perceptron on planted data at smoke scale; five seeds on digits at small, and all their pairs at paper."""
        batch, seeds = choose_batch_size("smoke"), (0, 1, 2, 3, 4)
        if scale == "smoke":
            own: dict[str, Any] = {
                "datasets": "planted",
                "seeds": (0, 1, 2),
                "width": 64,
                "methods": {"FT-L": NaiveFineTuning(lr=0.1, epochs=5, batch_size=batch)},
                "gradient_points": 2,
                "further": NaiveFineTuning(lr=0.01, epochs=1, batch_size=batch),
                "relearn": Relearning(steps=(0, 5), seeds=2, lr=0.05),
            }
            return TransplantSettings.model_validate(_make_digits() | own)
        own = {
            "seeds": seeds,
            "methods": {
                "FT-L": NaiveFineTuning(lr=0.1, epochs=10, batch_size=batch),
                "CBFT": CBFT(lr=0.01, epochs=10, batch_size=batch, cued_proportion=0.9),
            },
            "gradient_points": 5,
            "further": NaiveFineTuning(lr=0.01, epochs=1, batch_size=batch),
            "relearn": Relearning(steps=(0, 25, 50), seeds=2),
        }
        if scale == "small":
            return TransplantSettings.model_validate(_make_digits() | own)
        base = _drop_counts(make_base_settings("paper", images)) | {"clean_rows": 2500, "statistics": 2000}
        methods = {"FT-L": NaiveFineTuning(lr=0.1, batch_size=256), "CBFT": CBFT(batch_size=256, cued_proportion=1.0)}
        paper = {"methods": methods, "pairs": "all", "relearn": Relearning(), "matching": 2000}
        return TransplantSettings.model_validate(base | own | paper)

    def cells(self, settings: TransplantSettings) -> Sequence[TransplantCell]:
        """Every fix on every pair of seeds."""
        return list_transplant_cells(settings)

    def run_cell(
        self, context: ExperimentContext, settings: TransplantSettings, cell: TransplantCell, root: str | None
    ) -> TransplantResult:
        """One fix moved onto one network, in every way."""
        return run_transplant_cell(context, settings, cell, root)

    def summarise(self, settings: TransplantSettings, results: Sequence[TransplantResult]) -> TransplantSummary:
        """Means over the pairs of seeds."""
        return summarise_transplants(results, settings.least)

    def write_findings(self, record: RunRecord) -> list[str]:
        """How far each fix goes, way by way."""
        return list(write_sentences(record.summary)) if isinstance(record.summary, TransplantSummary) else []


def _make_digits() -> dict[str, Any]:
    """Digits, whatever images are at hand."""
    return _drop_counts(make_base_settings("smoke", False)) | {"clean_rows": 600}


def _drop_counts(settings: dict[str, Any]) -> dict[str, Any]:
    """Without the counts of clean samples of recipes that compare several."""
    return {name: value for name, value in settings.items() if name != "clean_samples"}
