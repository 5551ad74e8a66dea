"""A small record of the demo, made up by hand, for tests of what shows it."""

from __future__ import annotations

import torch

from mechconn.core import Environment, Picture
from mechconn.mechanisms import EffectRecord, InvarianceRecord, PathRecord, PathVerdict
from mechconn.report import DemoRecord

SPLITS = ("no_cue", "cue", "rand_cue", "rand_image")


def effect(split: str, size: float, verdict: str) -> EffectRecord:
    change = {"effect": size, "interval": (size - 0.02, size + 0.02), "samples": 100}
    return EffectRecord.model_validate(
        {
            "split": split,
            "effect": size,
            "interval": change["interval"],
            "verdict": verdict,
            "p_value": 0.01,
            "adjusted_p_value": 0.02,
            "adjusted_interval": (size - 0.03, size + 0.03),
            "confidence": 0.975,
            "to_settle": 400 if verdict == "undetermined" else None,
            "paired": True,
            "samples": 100,
            "changed": abs(size),
            "changed_interval": (0.0, 1.0),
            "accuracy": change,
            "loss": None,
            "by_class": {0: change},
        }
    )


def invariance(accuracy: dict[str, float], rand_cue: str, rand_image: str) -> InvarianceRecord:
    effects = {
        "no_cue": effect("no_cue", accuracy["no_cue"] - accuracy["cue"], "sensitive"),
        "rand_cue": effect("rand_cue", accuracy["rand_cue"] - accuracy["cue"], rand_cue),
        "rand_image": effect("rand_image", accuracy["rand_image"] - accuracy["cue"], rand_image),
    }
    return InvarianceRecord(
        reference="cue",
        interventions=["rand_cue", "rand_image"],
        margin=0.05,
        on="accuracy",
        precision="float32",
        confidence=0.95,
        effects=effects,
        accuracy=accuracy,
        accuracy_interval={name: (max(a - 0.03, 0.0), min(a + 0.03, 1.0)) for name, a in accuracy.items()},
        loss=dict.fromkeys(accuracy, 0.5),
        samples=dict.fromkeys(accuracy, 100),
        over="samples",
        runs=1,
        notes=[],
    )


def path(verdict: PathVerdict = "not connected") -> PathRecord:
    height = 0.0 if verdict == "connected" else 0.4
    low = 0.01 if verdict == "undetermined" else height
    return PathRecord(
        start="theta_C",
        end="theta_NC",
        ts=[0.0, 0.5, 1.0],
        loss={name: [0.1, 0.1 + height, 0.1] for name in SPLITS},
        accuracy={name: [0.9, 0.8, 0.9] for name in SPLITS},
        barrier=dict.fromkeys(SPLITS, (height, 0.5)),
        barrier_interval=dict.fromkeys(SPLITS[1:], (low, height)) | {"no_cue": None},
        tolerance=0.05,
        connection=dict.fromkeys(SPLITS, verdict),
        mechanistic_connection=verdict,
        settings={"norm": {"policy": "reestimate", "data": "training data", "average": "cumulative"}},
    )


def demo_record(**changes: object) -> DemoRecord:
    shortcut = {"no_cue": 0.5, "cue": 0.99, "rand_cue": 0.2, "rand_image": 0.8}
    clean = dict.fromkeys(SPLITS[:3], 0.9) | {"rand_image": 0.1}
    models = {
        "theta_C": invariance(shortcut, "sensitive", "sensitive"),
        "theta_NC": invariance(clean, "invariant", "sensitive"),
        "FT-M": invariance(shortcut, "sensitive", "undetermined"),
        "CBFT": invariance(clean, "undetermined", "sensitive"),
    }
    fields = {
        "seed": 3,
        "seconds": 12.5,
        "settings": {"proportion": 0.8, "margin": 0.05, "test_samples": {"cue": 100}, "training": {"lr": 0.1}},
        "settings_hash": "0" * 64,
        "accuracy": {name: model.accuracy for name, model in models.items()},
        "invariance": models,
        "path": path(),
        "findings": ["A finding with <angle brackets> & an ampersand."],
        "timings": {"training theta_C": 1.0},
        "environment": Environment(
            versions={"torch": "2"}, system="Linux", processor="p", cores=2, threads=2, device="cpu"
        ),
        "pictures": {name: Picture.of(torch.zeros(4, 8, 3, dtype=torch.uint8)) for name in SPLITS},
    }
    return DemoRecord.model_validate({**fields, **changes})
