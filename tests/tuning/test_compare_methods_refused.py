"""What `compare_methods` refuses, and when."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import mechconn as mc
from comparing import METHODS, task
from zoo import build, mlp, rows, split


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"methods": {}}, "needs a task and a method or more, got 1 tasks and 0 methods"),
        ({"tasks": []}, "needs a task and a method or more, got 0 tasks and 3 methods"),
        ({"tasks": [task(1), task(1)]}, r"tasks must have seeds of their own.*got seeds \[1, 1\]"),
        ({"tasks": [task(0), task(1, cued=None)]}, "CBFT needs data with the cue"),
        ({"methods": {"start": METHODS["FT"]}}, "the name 'start' stands for the model as it is"),
        ({"epochs": 2, "passes": 9}, "has one budget, got epochs=2 and passes=9; leave one of them out"),
        ({"epochs": 0}, "epochs must be a whole number greater than zero, got 0"),
        (
            {"selection": "validation", "validation_share": 2.0},
            "validation_share must lie above 0 and below 1, got 2.0",
        ),
        ({"validation_share": 1.0}, "validation_share must lie above 0 and below 1, got 1.0"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_trained(changes: dict[str, Any], text: str) -> None:
    told: list[str] = []
    arguments: dict[str, Any] = {"tasks": task(), "methods": METHODS, "epochs": 1, **changes}
    with pytest.raises(ValueError, match=text):
        mc.compare_methods(**arguments, progress=lambda message, *_: told.append(message))
    assert not told


@pytest.mark.usefixtures("unchecked")
def test_methods_are_a_mapping_of_methods() -> None:
    methods: Any = [mc.DFR()]
    with pytest.raises(TypeError, match=r"methods must be a Mapping, got list; write {name: method, \.\.\.}"):
        mc.compare_methods(task(), methods)
    methods = {"DFR": mc.DFR}
    with pytest.raises(TypeError, match="method 'DFR' must be a Method, got ABCMeta"):
        mc.compare_methods(task(), methods)


def test_validation_needs_rows_and_a_classification_is_needed() -> None:
    with pytest.raises(TypeError, match="selection='validation' reads rows by index and needs a dataset"):
        mc.compare_methods(task(clean=split(rows(24), [12, 12])), METHODS, selection="validation")
    suite = mc.Suite({"cue": (rows(8)[0], torch.zeros(8, dtype=torch.float64))}, interventions=())
    regression = task(suite=suite, model=build(mlp))
    with pytest.raises(ValueError, match="compare_methods needs a classification"):
        mc.compare_methods(regression, {"FT": METHODS["FT"]}, loss=lambda out, y: (out[:, 0] - y.double()) ** 2)
