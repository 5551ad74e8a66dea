"""Recipes on data with a cue, and what their settings share by scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mechconn.descent import Training
from mechconn.paper._cells import run_tuning_cell
from mechconn.paper._claims import Claim, ClaimRule, judge_by_place
from mechconn.paper._cue_result import CueResult
from mechconn.paper._recipe import Recipe, Scale
from mechconn.paper._run_record import RunRecord
from mechconn.paper._settings import Cell, Settings, TuningSettings, list_cells
from mechconn.paper._steps import ExperimentContext


class CueRecipe(Recipe):
    """An experiment on data with a cue: a cell for every dataset, proportion, number of clean samples and seed."""

    rule: ClassVar[ClaimRule | None] = None
    """What the source says at every place of a run."""

    def cells(self, settings: Settings) -> Sequence[Cell]:
        """Every combination."""
        return list_cells(settings)

    def judge_claims(self, record: RunRecord) -> list[Claim]:
        """The statements of the rule, place by place."""
        rule = type(self).rule
        return [] if rule is None else judge_by_place(rule, record)


class TuningRecipe(CueRecipe):
    """Fine-tuning theta_C on clean samples."""

    def run_cell(self, context: ExperimentContext, settings: TuningSettings, cell: Cell, root: str | None) -> CueResult:
        """What theta_C relies on after each way of fine-tuning."""
        return run_tuning_cell(context, settings, cell, root)


def make_base_settings(scale: Scale, images: bool) -> dict[str, Any]:
    """Data, network and training by scale; digits where no real images are at hand, at smoke scale alone."""
    if scale == "paper":
        return {"datasets": "cifar10", "network": "vgg13", "clean_samples": (2500,), "precision": "auto"}
    if scale == "small":
        return {
            "datasets": "cifar10",
            "rows": 5000,
            "test_rows": 1000,
            "network": "vgg13",
            "training": Training(epochs=12, batch_size=128, lr=0.05, milestones=(8, 10)),
            "clean_samples": (2500,),
            "statistics": 2000,
            "precision": "auto",
        }
    if images:
        return {
            "datasets": "cifar10",
            "rows": 1200,
            "test_rows": 400,
            "width": 16,
            # As many steps as it takes to learn so small a box.
            "training": Training(epochs=16, batch_size=32, lr=0.1, milestones=(12, 14)),
            "clean_samples": (600,),
        }
    return {
        "datasets": "digits",
        "training": Training(epochs=5, batch_size=64, lr=0.1, milestones=(3, 4)),
        "clean_samples": (600,),
    }


def choose_proportions(images: bool) -> tuple[float, ...]:
    """The cue proportion at smoke scale: one at which so short a training learns the cue."""
    return (0.9,) if images else (0.8,)


def choose_seeds(scale: Scale) -> dict[str, Any]:
    """Three seeds at paper scale, as the published tables have."""
    return {"seeds": (0, 1, 2)} if scale == "paper" else {}


def choose_batch_size(scale: Scale) -> int:
    """Rows per batch of fine-tuning: the source's, but for few samples."""
    return 60 if scale == "smoke" else 256
