"""What the source published: numbers and settings, as data to hold our own results against.

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
SPLIT_ORDER = (NO_CUE, CUE, RAND_CUE, RAND_IMAGE)

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


def find_table_accuracy(dataset: str, proportion: float, clean: int | None, model: str) -> Mapping[str, float]:
    """Split -> published accuracy in [0, 1] of a table's cell; empty where there is none.

    Data other than CIFAR-100 and Dominoes stand beside the numbers for CIFAR-10, from which they cannot be subtracted.
    """
    if dataset in ("cifar100", "dominoes"):
        return {}
    if model == "scratch":
        return {NO_CUE: SCRATCH_NC / 100}
    values = CIFAR10.get(proportion, {}).get(model, ())
    return dict(zip(SPLIT_ORDER, (value / 100 for value in values), strict=False))


def find_method_accuracy(dataset: str, proportion: float, clean: int | None, model: str) -> Mapping[str, float]:
    """As `find_table_accuracy`, and what is published for CIFAR-100.

    Example:
        >>> find_method_accuracy("cifar10", 0.8, 2500, "CBFT")["no_cue"]
        0.7
    """
    if dataset == "cifar100" and proportion == 0.9 and model in CIFAR100_RI:
        return {RAND_IMAGE: CIFAR100_RI[model] / 100}
    return find_table_accuracy(dataset, proportion, clean, model)


def find_sample_accuracy(dataset: str, proportion: float, clean: int | None, model: str) -> Mapping[str, float]:
    """As `find_table_accuracy`, published for one number of clean samples alone."""
    return find_table_accuracy(dataset, proportion, clean, model) if clean == CLEAN else {}


LEFT_OUT: Mapping[str, Any] = {"optimizer": "sgd", "warmup": 0, "weight_decay_on": "all"}
"""Settings that records leave out at these values."""
SGD: Mapping[str, Any] = {"momentum": 0.9, "weight_decay": 1e-4, "accumulate": 1, "clip_norm": None, **LEFT_OUT}
HEAD: Mapping[str, Any] = {**SGD, "epochs": 200, "batch_size": 256, "lr": 30.0, "weight_decay": 0.0}
TUNING: Mapping[str, Any] = {**SGD, "epochs": 20, "batch_size": 256}
CBFT_SETTINGS: Mapping[str, Any] = {
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


def _make_naive_settings(lr: float, **changes: Any) -> Mapping[str, Any]:
    return {**TUNING, "method": "NaiveFineTuning", "lr": lr, **changes}


PUBLISHED_METHODS: Mapping[str, Mapping[str, Any]] = {
    "FT-S": _make_naive_settings(0.001),
    "FT-M": _make_naive_settings(0.01),
    "FT-L": _make_naive_settings(0.1),
    "LLRT": {**HEAD, "method": "LastLayerRetraining"},
    "LPFT": {"method": "LPFT", "probe": HEAD, "tuning": {**TUNING, "lr": 0.01}},
    "CBFT": CBFT_SETTINGS,
    "CBFT without barrier": {**CBFT_SETTINGS, "barrier": False},
    "CBFT without invariance": {**CBFT_SETTINGS, "invariance": False},
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
ROWS, TEST_ROWS = 50_000, 10_000
IMAGES = ("cifar10", "cifar100", "dominoes")
NETWORKS = ("vgg13", "resnet18")

STARS: Mapping[int, tuple[float, float]] = {
    4: (0.368, 0.089),
    8: (0.261, 0.117),
    16: (0.312, 0.111),
    32: (0.193, 0.063),
    64: (0.049, 0.021),
    128: (0.015, 0.008),
    256: (0.006, 0.003),
}
"""Hidden units -> mean barrier on training loss between runs, and from a star to held-out runs; MNIST perceptrons.

Source: Sonthalia et al. 2025, the results in their repository.
"""
