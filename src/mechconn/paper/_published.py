"""What the source published: numbers, settings and statements, as data to hold our own results against.

Source: Lubana et al. 2023 (arXiv 2211.08422), and the authors' poster for the table of accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mechconn.core import CUE, NO_CUE, RAND_CUE, RAND_IMAGE

SOURCE = (
    "Published: Lubana et al. 2023 and their poster; CIFAR-10 with the box cue, test accuracy, mean of three seeds, "
    "2,500 clean samples, the cue on every sample of the tests. The architecture is not stated beside the table."
)
ORDER = (NO_CUE, CUE, RAND_CUE, RAND_IMAGE)

# Accuracy in %: cue proportion -> method -> NC, C, RC, RI.
CIFAR10: Mapping[float, Mapping[str, tuple[float, float, float, float]]] = {
    0.6: {
        "FT-M": (75.7, 98.4, 23.6, 83.4),
        "FT-S": (75.8, 98.7, 17.5, 90.1),
        "LLRT": (71.6, 95.1, 36.3, 57.1),
        "LPFT": (70.6, 88.1, 21.0, 70.7),
        "CBFT": (74.1, 71.5, 73.4, 8.75),
    },
    0.7: {
        "FT-M": (75.8, 98.6, 27.7, 78.6),
        "FT-S": (74.9, 98.8, 16.3, 91.1),
        "LLRT": (70.9, 95.8, 29.9, 65.8),
        "LPFT": (69.6, 87.3, 18.7, 72.5),
        "CBFT": (73.2, 69.2, 72.3, 8.60),
    },
    0.8: {
        "FT-M": (71.3, 97.7, 37.6, 63.6),
        "FT-S": (69.9, 98.4, 15.7, 90.9),
        "LLRT": (65.1, 81.8, 27.0, 53.2),
        "LPFT": (64.4, 63.8, 18.8, 48.0),
        "CBFT": (70.0, 70.0, 69.5, 9.68),
    },
    0.9: {
        "FT-M": (67.2, 95.4, 49.6, 46.6),
        "FT-S": (64.7, 97.9, 15.3, 90.7),
        "LLRT": (59.3, 70.7, 24.6, 40.7),
        "LPFT": (59.7, 56.6, 19.8, 37.8),
        "CBFT": (67.9, 72.5, 68.1, 13.1),
    },
}
CIFAR100_RI = {"CBFT": 46.0, "FT-S": 30.9, "LPFT": 19.6}
"""Accuracy in % on the random image, CIFAR-100, cue proportion 0.9."""
SCRATCH_NC = 47.5
"""Accuracy in % without cue of a network trained on the 2,500 clean samples alone, CIFAR-10."""
CLEAN = 2500


def published_accuracy(
    recipe: str, dataset: str, proportion: float, clean: int | None, model: str
) -> Mapping[str, float]:
    """Split -> published accuracy in [0, 1] of the corresponding cell of a table; empty where there is none.

    Data other than CIFAR-100 and Dominoes stand beside the numbers for CIFAR-10, from which they cannot be subtracted.

    Example:
        >>> published_accuracy("table1", "cifar10", 0.8, 2500, "CBFT")["no_cue"]
        0.7
    """
    if recipe not in ("table1", "table3", "table4") or dataset == "dominoes":
        return {}
    if dataset == "cifar100":
        known = recipe == "table1" and proportion == 0.9 and model in CIFAR100_RI
        return {RAND_IMAGE: CIFAR100_RI[model] / 100} if known else {}
    if recipe == "table4" and clean != CLEAN:
        return {}
    if model == "scratch":
        return {NO_CUE: SCRATCH_NC / 100}
    values = CIFAR10.get(proportion, {}).get(model, ())
    return dict(zip(ORDER, (value / 100 for value in values), strict=False))


TITLES: Mapping[str, tuple[str, str]] = {
    "quickstart": (
        "The story on digits",
        "Not an experiment of the paper: a shortcut is learned, the straight path to a clean model is walked, and two "
        "ways of fine-tuning are compared.",
    ),
    "fig4": ("Figure 4: paths between theta_C and theta_NC", "Which paths join them, and on which data?"),
    "fig5": (
        "Figure 5: fine-tuning on all clean data",
        "Is the fine-tuned network still linearly connected to theta_C, and what does it rely on?",
    ),
    "table1": (
        "Table 1: ways of fine-tuning",
        "Accuracy after fine-tuning theta_C on clean samples. A network that does not use the cue has NC = C = RC, and "
        "RI at chance.",
    ),
    "table3": ("Table 3: CBFT term by term", "CBFT whole, without its barrier term, and without its invariance term."),
    "table4": (
        "Table 4: how many clean samples?",
        "Fine-tuning by the number of clean samples, beside training on them alone.",
    ),
    "fig13": (
        "Figure 13: attributes of different complexity",
        "Networks of one hidden layer on synthetic data: which connect once their units are matched?",
    ),
}
"""Recipe -> heading, and what it asks."""

SGD: Mapping[str, Any] = {"momentum": 0.9, "weight_decay": 1e-4, "accumulate": 1, "clip_norm": None}
HEAD: Mapping[str, Any] = {**SGD, "epochs": 200, "batch_size": 256, "lr": 30.0, "weight_decay": 0.0}
TUNING: Mapping[str, Any] = {**SGD, "epochs": 20, "batch_size": 256}
CBFT: Mapping[str, Any] = {
    **TUNING,
    "method": "CBFT",
    "lr": 0.01,
    "barrier_margin": 1.0,
    "barrier": True,
    "invariance": True,
    "update": "alternating",
    "warmup_epochs": 1,
    "cued_proportion": 1.0,
}


def _naive(lr: float, **changes: Any) -> Mapping[str, Any]:
    return {**TUNING, "method": "NaiveFineTuning", "lr": lr, **changes}


METHODS: Mapping[str, Mapping[str, Any]] = {
    "FT-S": _naive(0.001),
    "FT-M": _naive(0.01),
    "FT-L": _naive(0.1),
    "LLRT": {**HEAD, "method": "LastLayerRetraining"},
    "LPFT": {"method": "LPFT", "probe": HEAD, "tuning": {**TUNING, "lr": 0.01}},
    "CBFT": CBFT,
    "CBFT without barrier": {**CBFT, "barrier": False},
    "CBFT without invariance": {**CBFT, "invariance": False},
}
TRAINING: Mapping[str, Any] = {
    **SGD,
    "epochs": 100,
    "batch_size": 256,
    "lr": 0.1,
    "milestones": [40, 80],
    "decay": 0.1,
}
FIT: Mapping[str, Any] = {
    **SGD,
    "method": "BezierFit",
    "epochs": 15,
    "batch_size": 128,
    "lr": 0.1,
    "bends": 1,
    "decay": 0.1,
    "decay_every": 10,
}
STATED: Mapping[str, Mapping[str, Any]] = {
    "fig4": {"training": TRAINING, "proportions": [0.6, 0.7, 0.8, 0.9, 1.0], "fit": FIT},
    "fig5": {
        "training": TRAINING,
        "proportions": [0.6, 0.7, 0.8, 0.9, 1.0],
        "clean_samples": [None],
        "methods": {name: {**METHODS[name], "epochs": 100} for name in ("FT-S", "FT-M", "FT-L")},
    },
    "table1": {
        "training": TRAINING,
        "proportions": [0.6, 0.7, 0.8, 0.9],
        "clean_samples": [CLEAN],
        "seeds": 3,
        "methods": METHODS,
    },
    "table3": {
        "training": TRAINING,
        "proportions": [0.6, 0.7, 0.8, 0.9],
        "clean_samples": [CLEAN],
        "seeds": 3,
        "methods": METHODS,
    },
    "table4": {
        "training": TRAINING,
        "clean_samples": [250, 500, 1000, 2500, 5000, 10000],
        "seeds": 3,
        "methods": METHODS,
    },
}
"""Recipe -> setting -> what the source states, by the name of the method; what it leaves open is not here."""
ROWS, TEST_ROWS = 50_000, 10_000
IMAGES = ("cifar10", "cifar100", "dominoes")
NETWORKS = ("vgg13", "resnet18")
