"""The recipes of the source: what `mechconn run` knows by name, one class for each figure and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

from mechconn.descent import Method
from mechconn.mechanisms import Relearning
from mechconn.paper._cells import run_path_cell
from mechconn.paper._claims import (
    Claim,
    judge_attribute_claims,
    judge_method_claims,
    judge_path_claims,
    judge_rate_claims,
    judge_term_claims,
)
from mechconn.paper._cue_recipe import (
    CueRecipe,
    TuningRecipe,
    choose_batch_size,
    choose_proportions,
    choose_seeds,
    make_base_settings,
)
from mechconn.paper._cue_result import CueResult
from mechconn.paper._fig13 import (
    FIG13_SCALES,
    Fig13,
    Fig13Summary,
    ReluCell,
    ReluResult,
    compute_relu_cell,
    list_relu_cells,
    summarise_fig13,
)
from mechconn.paper._published import (
    CLEAN,
    FIT,
    PUBLISHED_METHODS,
    TRAINING,
    find_method_accuracy,
    find_sample_accuracy,
    find_table_accuracy,
)
from mechconn.paper._recipe import Recipe, Scale
from mechconn.paper._run_record import RunRecord
from mechconn.paper._settings import Cell, PathSettings, TuningSettings
from mechconn.paper._steps import ExperimentContext
from mechconn.paths import BezierFit
from mechconn.store import StepOutput
from mechconn.tuning import CBFT, LPFT, LastLayerRetraining, NaiveFineTuning

PUBLISHED = (0.6, 0.7, 0.8, 0.9)
"""Cue proportions of the published table."""
HEAD_LR = 30.0
"""The source's rate of a new head, at paper scale; at the others it is the method's own."""
TABLE_SETTINGS: Mapping[str, Any] = {
    "training": TRAINING,
    "proportions": list(PUBLISHED),
    "clean_samples": [CLEAN],
    "seeds": 3,
    "methods": PUBLISHED_METHODS,
}


class Figure4(CueRecipe):
    """Paths between theta_C and theta_NC: linear, aligned, quadratic; on every split, for every cue proportion."""

    name = "fig4"
    about = "paths between theta_C and theta_NC"
    title = "Figure 4: paths between theta_C and theta_NC"
    question = "Which paths join them, and on which data?"
    stated: ClassVar[Mapping[str, Any] | None] = {"training": TRAINING, "proportions": [*PUBLISHED, 1.0], "fit": FIT}
    rule = staticmethod(judge_path_claims)

    def settings(self, scale: Scale, images: bool) -> PathSettings:
        """The fit is the source's at paper scale, shorter at the others."""
        fit = BezierFit() if scale == "paper" else BezierFit(epochs=4, lr=0.05, decay_every=3, batch_size=64)
        proportions = {"smoke": choose_proportions(images), "small": (0.6, 0.9), "paper": (*PUBLISHED, 1.0)}[scale]
        base = {name: value for name, value in make_base_settings(scale, images).items() if name != "clean_samples"}
        return PathSettings.model_validate({**base, "proportions": proportions, "fit": fit})

    def run_cell(self, context: ExperimentContext, settings: PathSettings, cell: Cell, root: str | None) -> CueResult:
        """Which paths join theta_C to theta_NC."""
        return run_path_cell(context, settings, cell, root)


class Figure5(TuningRecipe):
    """Fine-tuning on all clean data at three learning rates: is the result still linearly connected to theta_C?"""

    name = "fig5"
    about = "fine-tuning rates: connectivity to theta_C, and behaviour"
    title = "Figure 5: fine-tuning on all clean data"
    question = "Is the fine-tuned network still linearly connected to theta_C, and what does it rely on?"
    stated: ClassVar[Mapping[str, Any] | None] = {
        "training": TRAINING,
        "proportions": [*PUBLISHED, 1.0],
        "clean_samples": [None],
        "methods": {name: {**PUBLISHED_METHODS[name], "epochs": 100} for name in ("FT-S", "FT-M", "FT-L")},
    }
    rule = staticmethod(judge_rate_claims)

    def settings(self, scale: Scale, images: bool) -> TuningSettings:
        """All clean samples, and paths to every result."""
        epochs = {"smoke": 10, "small": 20, "paper": 100}[scale]
        proportions = {
            "smoke": (*choose_proportions(images), 1.0),
            "small": (0.6, 1.0),
            "paper": (*PUBLISHED, 1.0),
        }[scale]
        methods = make_naive_methods(epochs=epochs, batch_size=choose_batch_size(scale))
        own = {"clean_samples": (None,), "proportions": proportions, "methods": methods, "paths": True}
        return TuningSettings.model_validate(make_base_settings(scale, images) | own)


class Table1(TuningRecipe):
    """Every way of fine-tuning on 2,500 clean samples, for every cue proportion and seed."""

    name = "table1"
    about = "fine-tuning methods by cue proportion"
    title = "Table 1: ways of fine-tuning"
    question = (
        "Accuracy after fine-tuning theta_C on clean samples. A network that does not use the cue has NC = C = RC, and "
        "RI at chance."
    )
    stated = TABLE_SETTINGS
    rule = staticmethod(judge_method_claims)

    def settings(self, scale: Scale, images: bool) -> TuningSettings:
        """Two datasets at paper scale."""
        base = make_base_settings(scale, images) | choose_seeds(scale)
        if scale == "paper":
            base |= {"datasets": ("cifar10", "dominoes")}
        own = {
            "proportions": (0.6, 0.9) if scale == "smoke" else PUBLISHED,
            "methods": make_table_methods(choose_batch_size(scale), HEAD_LR if scale == "paper" else None),
            "relearn": Relearning(steps=(0, 25, 100), seeds=3) if scale == "smoke" else Relearning(),
        }
        return TuningSettings.model_validate(base | own)

    def find_published_accuracy(
        self, dataset: str, proportion: float, clean: int | None, model: str
    ) -> Mapping[str, float]:
        """Those of the table, and what is published for CIFAR-100."""
        return find_method_accuracy(dataset, proportion, clean, model)


class Table3(TuningRecipe):
    """CBFT without its barrier term, without its invariance term, and whole."""

    name = "table3"
    about = "ablation of CBFT"
    title = "Table 3: CBFT term by term"
    question = "CBFT whole, without its barrier term, and without its invariance term."
    stated = TABLE_SETTINGS
    rule = staticmethod(judge_term_claims)

    def settings(self, scale: Scale, images: bool) -> TuningSettings:
        """With paths to every result."""
        cbft: dict[str, Any] = {"batch_size": choose_batch_size(scale), "cued_proportion": 1.0}
        methods = {
            "CBFT": CBFT(**cbft),
            "CBFT without barrier": CBFT(**cbft, barrier=False),
            "CBFT without invariance": CBFT(**cbft, invariance=False),
        }
        own = {
            "proportions": choose_proportions(images) if scale == "smoke" else PUBLISHED,
            "methods": methods,
            "paths": True,
        }
        return TuningSettings.model_validate(make_base_settings(scale, images) | choose_seeds(scale) | own)

    def find_published_accuracy(
        self, dataset: str, proportion: float, clean: int | None, model: str
    ) -> Mapping[str, float]:
        """Those of table 1 for the methods that stand in both."""
        return find_table_accuracy(dataset, proportion, clean, model)


class Table4(TuningRecipe):
    """How many clean samples does each method need? Beside it, training on these samples alone."""

    name = "table4"
    about = "how many clean samples are needed"
    title = "Table 4: how many clean samples?"
    question = "Fine-tuning by the number of clean samples, beside training on them alone."
    stated: ClassVar[Mapping[str, Any] | None] = {
        "training": TRAINING,
        "clean_samples": [250, 500, 1000, 2500, 5000, 10000],
        "seeds": 3,
        "methods": PUBLISHED_METHODS,
    }
    by_samples = True

    def settings(self, scale: Scale, images: bool) -> TuningSettings:
        """One cue proportion, several numbers of clean samples."""
        samples = {"smoke": (100, 600), "small": (250, 2500), "paper": (250, 500, 1000, 2500, 5000, 10000)}[scale]
        batch = choose_batch_size(scale)
        methods: dict[str, Method] = {
            "FT-M": NaiveFineTuning(batch_size=batch),
            "CBFT": CBFT(batch_size=batch, cued_proportion=1.0),
        }
        scratch = NaiveFineTuning(lr=0.1, batch_size=batch, epochs=20 if scale == "smoke" else 100)
        proportions = choose_proportions(images) if scale == "smoke" else (0.8,)
        own = {"clean_samples": samples, "proportions": proportions, "methods": methods, "scratch": scratch}
        return TuningSettings.model_validate(make_base_settings(scale, images) | choose_seeds(scale) | own)

    def find_published_accuracy(
        self, dataset: str, proportion: float, clean: int | None, model: str
    ) -> Mapping[str, float]:
        """Those of table 1, for one number of clean samples."""
        return find_sample_accuracy(dataset, proportion, clean, model)


class Figure13(Recipe):
    """Networks of one hidden layer on synthetic data, on the processor whatever the device is."""

    name = "fig13"
    about = "one hidden layer: which networks connect, by the complexity of what they rely on"
    title = "Figure 13: attributes of different complexity"
    question = "Networks of one hidden layer on synthetic data: which connect once their units are matched?"

    def settings(self, scale: Scale, images: bool) -> Fig13:
        """More widths and seeds at larger scales."""
        return FIG13_SCALES[scale]

    def cells(self, settings: Fig13) -> Sequence[ReluCell]:
        """Every seed at every width."""
        return list_relu_cells(settings)

    def run_cell(self, context: ExperimentContext, settings: Fig13, cell: ReluCell, root: str | None) -> ReluResult:
        """One seed at one width, as a step."""
        context = replace(context, compute=replace(context.compute, device="cpu"))
        config = {**settings.model_dump(mode="json", exclude={"widths", "seeds"}), **asdict(cell)}
        made = context.step(
            "fig13",
            cell.name,
            config,
            {},
            lambda *_: StepOutput(compute_relu_cell(settings, cell.seed, cell.width).to_dict()),
        )
        return ReluResult.from_dict(made.numbers)

    def summarise(self, settings: Fig13, results: Sequence[ReluResult]) -> Fig13Summary:
        """Each pair's measures over the seeds."""
        return summarise_fig13(settings, results)

    def judge_claims(self, record: RunRecord) -> list[Claim]:
        """Which pairs of networks connect."""
        return judge_attribute_claims(record.summary) if isinstance(record.summary, Fig13Summary) else []


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
