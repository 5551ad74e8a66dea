"""The experiments of the source, one by one: what each asks, what is published of it, what it claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mechconn.paper._claims import (
    Claim,
    judge_attribute_claims,
    judge_by_place,
    judge_method_claims,
    judge_path_claims,
    judge_rate_claims,
    judge_term_claims,
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
from mechconn.store import RunRecord

PublishedAccuracy = Callable[[str, float, int | None, str], Mapping[str, float]]
"""(dataset, cue proportion, clean samples, model) -> split -> published accuracy in [0, 1]."""


def publish_nothing(dataset: str, proportion: float, clean: int | None, model: str) -> Mapping[str, float]:
    """No accuracy is published."""
    return {}


def claim_nothing(record: RunRecord) -> list[Claim]:
    """The source says nothing of it."""
    return []


@dataclass(frozen=True)
class Experiment:
    """What the report of a run says beside its numbers.

    Attributes:
        title: the heading.
        asks: the question.
        stated: setting -> what the source states, methods by their name; what it leaves open is not here. None where
            there is nothing to compare.
        accuracy: published accuracies.
        claims: the statements that the numbers bear on.
        path_end: the model at the end of every path, where it is one.
        by_samples: draw accuracy over the number of clean samples, where there are several.
    """

    title: str
    asks: str = ""
    stated: Mapping[str, Any] | None = None
    accuracy: PublishedAccuracy = publish_nothing
    claims: Callable[[RunRecord], list[Claim]] = claim_nothing
    path_end: str = ""
    by_samples: bool = False


PROPORTIONS = [0.6, 0.7, 0.8, 0.9]
TABLE_SETTINGS: Mapping[str, Any] = {
    "training": TRAINING,
    "proportions": PROPORTIONS,
    "clean_samples": [CLEAN],
    "seeds": 3,
    "methods": PUBLISHED_METHODS,
}

EXPERIMENTS: Mapping[str, Experiment] = {
    "quickstart": Experiment(
        "The story on digits",
        "Not an experiment of the paper: a shortcut is learned, the straight path to a clean model is walked, and two "
        "ways of fine-tuning are compared.",
        path_end="theta_NC",
    ),
    "fig4": Experiment(
        "Figure 4: paths between theta_C and theta_NC",
        "Which paths join them, and on which data?",
        stated={"training": TRAINING, "proportions": [*PROPORTIONS, 1.0], "fit": FIT},
        claims=judge_by_place(judge_path_claims),
        path_end="theta_NC",
    ),
    "fig5": Experiment(
        "Figure 5: fine-tuning on all clean data",
        "Is the fine-tuned network still linearly connected to theta_C, and what does it rely on?",
        stated={
            "training": TRAINING,
            "proportions": [*PROPORTIONS, 1.0],
            "clean_samples": [None],
            "methods": {name: {**PUBLISHED_METHODS[name], "epochs": 100} for name in ("FT-S", "FT-M", "FT-L")},
        },
        claims=judge_by_place(judge_rate_claims),
    ),
    "table1": Experiment(
        "Table 1: ways of fine-tuning",
        "Accuracy after fine-tuning theta_C on clean samples. A network that does not use the cue has NC = C = RC, and "
        "RI at chance.",
        stated=TABLE_SETTINGS,
        accuracy=find_method_accuracy,
        claims=judge_by_place(judge_method_claims),
    ),
    "table3": Experiment(
        "Table 3: CBFT term by term",
        "CBFT whole, without its barrier term, and without its invariance term.",
        stated=TABLE_SETTINGS,
        accuracy=find_table_accuracy,
        claims=judge_by_place(judge_term_claims),
    ),
    "table4": Experiment(
        "Table 4: how many clean samples?",
        "Fine-tuning by the number of clean samples, beside training on them alone.",
        stated={
            "training": TRAINING,
            "clean_samples": [250, 500, 1000, 2500, 5000, 10000],
            "seeds": 3,
            "methods": PUBLISHED_METHODS,
        },
        accuracy=find_sample_accuracy,
        by_samples=True,
    ),
    "fig13": Experiment(
        "Figure 13: attributes of different complexity",
        "Networks of one hidden layer on synthetic data: which connect once their units are matched?",
        claims=judge_attribute_claims,
    ),
}
"""Recipe -> experiment, in the order of the report."""


def find_experiment(record: RunRecord) -> Experiment:
    """The experiment of a run; of a recipe that is not known, its name alone."""
    return EXPERIMENTS.get(record.recipe) or Experiment(record.recipe)
