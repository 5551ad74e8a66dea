"""The experiments of the source as functions that return settings: what `mechconn run` knows by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mechconn.core import Config
from mechconn.descent import Method, Training
from mechconn.paper._cells import Numbers, run_path_cell, run_tuning_cell
from mechconn.paper._demo import DemoSettings
from mechconn.paper._fig13 import FIG13_SCALES, Fig13, ReluCell, compute_relu_cell, list_relu_cells, summarise_fig13
from mechconn.paper._settings import AnyCell, PathSettings, TuningSettings, list_cells
from mechconn.paper._steps import ExperimentContext
from mechconn.paths import BezierFit
from mechconn.store import StepOutput
from mechconn.tuning import CBFT, LPFT, LastLayerRetraining, NaiveFineTuning

Scale = Literal["smoke", "small", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "small", "paper")
PUBLISHED = (0.6, 0.7, 0.8, 0.9)
"""Cue proportions of the published table."""
HEAD_LR = 30.0
"""The source's rate of a new head, at paper scale; at the others it is the method's own."""


@dataclass(frozen=True)
class Recipe:
    """An experiment by name.

    Attributes:
        about: what it shows, in a line.
        kind: of its settings.
        settings: (scale, whether real images are at hand) -> settings.
        cells: settings -> its independent parts.
        cell: does one of them: (context, settings, cell, folder of the image sets) -> numbers.
        summary: (settings, numbers of every cell) -> what they say together; None where they stand for themselves.
        of_images: whether it is about images from files, for which the embedded digits stand in at smoke scale.
    """

    about: str
    kind: type[Config]
    settings: Callable[[Scale, bool], Any]
    cells: Callable[[Any], Sequence[AnyCell]]
    cell: Callable[[ExperimentContext, Any, Any, str | None], Numbers]
    summary: Callable[[Any, Sequence[Numbers]], Numbers] | None = None
    of_images: bool = True


def fig4(scale: Scale, images: bool) -> PathSettings:
    """Paths between theta_C and theta_NC: linear, aligned, quadratic; on every split, for every cue proportion."""
    fit = BezierFit() if scale == "paper" else BezierFit(epochs=4, lr=0.05, decay_every=3, batch_size=64)
    proportions = {"smoke": _choose_proportions(images), "small": (0.6, 0.9), "paper": (0.6, 0.7, 0.8, 0.9, 1.0)}[scale]
    base = {name: value for name, value in _make_base_settings(scale, images).items() if name != "clean_samples"}
    return PathSettings.model_validate({**base, "proportions": proportions, "fit": fit})


def fig5(scale: Scale, images: bool) -> TuningSettings:
    """Fine-tuning on all clean data at three learning rates: is the result still linearly connected to theta_C?"""
    epochs = {"smoke": 10, "small": 20, "paper": 100}[scale]
    proportions = {
        "smoke": (*_choose_proportions(images), 1.0),
        "small": (0.6, 1.0),
        "paper": (0.6, 0.7, 0.8, 0.9, 1.0),
    }[scale]
    methods = make_naive_methods(epochs=epochs, batch_size=_choose_batch_size(scale))
    own = {"clean_samples": (None,), "proportions": proportions, "methods": methods, "paths": True}
    return TuningSettings.model_validate(_make_base_settings(scale, images) | own)


def table1(scale: Scale, images: bool) -> TuningSettings:
    """Every way of fine-tuning on 2,500 clean samples, for every cue proportion and seed."""
    base = _make_base_settings(scale, images) | _choose_seeds(scale)
    if scale == "paper":
        base |= {"datasets": ("cifar10", "dominoes")}
    proportions = (0.6, 0.9) if scale == "smoke" else PUBLISHED
    own = {
        "proportions": proportions,
        "methods": make_table_methods(_choose_batch_size(scale), HEAD_LR if scale == "paper" else None),
    }
    return TuningSettings.model_validate(base | own)


def table3(scale: Scale, images: bool) -> TuningSettings:
    """CBFT without its barrier term, without its invariance term, and whole."""
    cbft: dict[str, Any] = {"batch_size": _choose_batch_size(scale), "cued_proportion": 1.0}
    methods = {
        "CBFT": CBFT(**cbft),
        "CBFT without barrier": CBFT(**cbft, barrier=False),
        "CBFT without invariance": CBFT(**cbft, invariance=False),
    }
    own = {
        "proportions": _choose_proportions(images) if scale == "smoke" else PUBLISHED,
        "methods": methods,
        "paths": True,
    }
    return TuningSettings.model_validate(_make_base_settings(scale, images) | _choose_seeds(scale) | own)


def table4(scale: Scale, images: bool) -> TuningSettings:
    """How many clean samples does each method need? Beside it, training on these samples alone."""
    samples = {"smoke": (100, 600), "small": (250, 2500), "paper": (250, 500, 1000, 2500, 5000, 10000)}[scale]
    batch = _choose_batch_size(scale)
    methods: dict[str, Method] = {
        "FT-M": NaiveFineTuning(batch_size=batch),
        "CBFT": CBFT(batch_size=batch, cued_proportion=1.0),
    }
    scratch = NaiveFineTuning(lr=0.1, batch_size=batch, epochs=20 if scale == "smoke" else 100)
    proportions = _choose_proportions(images) if scale == "smoke" else (0.8,)
    own = {"clean_samples": samples, "proportions": proportions, "methods": methods, "scratch": scratch}
    return TuningSettings.model_validate(_make_base_settings(scale, images) | _choose_seeds(scale) | own)


def quickstart(scale: Scale, images: bool) -> TuningSettings:
    """The demo on embedded digits, no files needed: the path from theta_C to theta_NC, and FT-M against CBFT."""
    seeds = {"smoke": (0,), "small": (0, 1, 2), "paper": (0, 1, 2, 3, 4)}[scale]
    demo = DemoSettings()
    methods: dict[str, Method] = {"FT-M": demo.naive, "CBFT": demo.cbft}
    return TuningSettings.model_validate(
        _make_base_settings("smoke", False)
        | {"seeds": seeds, "methods": methods, "clean_model": True, "draws": demo.draws}
    )


def make_naive_methods(**settings: Any) -> dict[str, Method]:
    """Naive fine-tuning at the source's small, medium and large learning rate."""
    rates = {"FT-S": 0.001, "FT-M": 0.01, "FT-L": 0.1}
    return {name: NaiveFineTuning(lr=lr, **settings) for name, lr in rates.items()}


def make_table_methods(batch_size: int, head_lr: float | None) -> dict[str, Method]:
    """The rows of the published table: a method joins it here."""
    head = LastLayerRetraining(lr=head_lr)
    return {
        **make_naive_methods(batch_size=batch_size),
        "LLRT": head,
        "LPFT": LPFT(probe=head, tuning=NaiveFineTuning(batch_size=batch_size)),
        "CBFT": CBFT(batch_size=batch_size, cued_proportion=1.0),
    }


def _make_tuning_recipe(
    about: str, settings: Callable[[Scale, bool], TuningSettings], of_images: bool = True
) -> Recipe:
    return Recipe(about, TuningSettings, settings, list_cells, run_tuning_cell, of_images=of_images)


def run_relu_cell(context: ExperimentContext, settings: Fig13, cell: ReluCell, root: str | None) -> Numbers:
    """One cell of figure 13 as a step, on the processor whatever the device is."""
    context = replace(context, compute=replace(context.compute, device="cpu"))
    config = {**settings.model_dump(mode="json", exclude={"widths", "seeds"}), **cell.place}
    made = context.step(
        "fig13", cell.name, config, {}, lambda *_: StepOutput(compute_relu_cell(settings, cell.seed, cell.width))
    )
    return dict(made.numbers)


RECIPES: Mapping[str, Recipe] = {
    "quickstart": _make_tuning_recipe("the demo on embedded digits; no files needed", quickstart, of_images=False),
    "fig4": Recipe("paths between theta_C and theta_NC", PathSettings, fig4, list_cells, run_path_cell),
    "fig5": _make_tuning_recipe("fine-tuning rates: connectivity to theta_C, and behaviour", fig5),
    "table1": _make_tuning_recipe("fine-tuning methods by cue proportion", table1),
    "table3": _make_tuning_recipe("ablation of CBFT", table3),
    "table4": _make_tuning_recipe("how many clean samples are needed", table4),
    "fig13": Recipe(
        "one hidden layer: which networks connect, by the complexity of what they rely on",
        Fig13,
        lambda scale, images: FIG13_SCALES[scale],
        list_relu_cells,
        run_relu_cell,
        summarise_fig13,
        of_images=False,
    ),
}


def _make_base_settings(scale: Scale, images: bool) -> dict[str, Any]:
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


def _choose_proportions(images: bool) -> tuple[float, ...]:
    """The cue proportion at smoke scale: one at which so short a training learns the cue."""
    return (0.9,) if images else (0.8,)


def _choose_seeds(scale: Scale) -> dict[str, Any]:
    """Three seeds at paper scale, as the published tables have."""
    return {"seeds": (0, 1, 2)} if scale == "paper" else {}


def _choose_batch_size(scale: Scale) -> int:
    """Rows per batch of fine-tuning: the source's, but for few samples."""
    return 60 if scale == "smoke" else 256
