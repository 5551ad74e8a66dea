"""A dozen families of benchmarks/architectures.py: they export, are covered as the page says, keep their functions."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc

ROOT = Path(__file__).parents[2]
COVERAGE = {
    "ALBERT": 1.0,
    "ESM": 0.82,
    "SqueezeBERT": 1.0,
    "GPT-NeoX": 1.0,
    "Falcon, rotary": 0.9,
    "Qwen3": 0.78,
    "Mamba": 1.0,
    "BART": 0.99,
    "BiT": 1.0,
    "SegFormer": 1.0,
    "PoolFormer": 1.0,
    "Hiera": 1.0,
}
"""At least so much of the hidden axes may be permuted."""
SLOW = ("BART", "Mamba", "SqueezeBERT")
CASES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in COVERAGE]


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Name -> family."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    architectures = importlib.import_module("architectures")
    return {family.name: family for suite in architectures.SUITES for family in architectures.load_families(suite)}


def build_generic(family: Any) -> nn.Module:
    """A model with noise on every parameter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = importlib.import_module("architectures").build_model(family)
        return importlib.import_module("architecture_measure").make_generic(model, family.inputs(0))


@pytest.mark.parametrize("name", CASES)
def test_a_family_keeps_its_function_at_two_sizes(name: str, families: dict[str, Any]) -> None:
    """The script's own comparison, without `verify`: noise on every parameter, all kinds moved, float64."""
    measuring = importlib.import_module("architecture_measure")
    examples = [families[name].inputs(0), families[name].inputs(1)]
    model = build_generic(families[name])
    symmetry = mc.symmetry_of(model, examples[0])
    found = measuring.measure_changes(model, examples, symmetry)
    assert found["type"] == "float64"
    assert max(found["errors"]) < 1e-12
    assert len(found["unseen"]) < found["tried"] / 4
    assert symmetry.coverage >= COVERAGE[name]


def test_the_comparison_sees_an_element_that_is_none(families: dict[str, Any]) -> None:
    """Negative control: one tensor that stays where it was, while the others move, changes the outputs."""
    measuring = importlib.import_module("architecture_measure")
    inputs = families["BERT"].inputs(0)
    model = build_generic(families["BERT"])
    symmetry = mc.symmetry_of(model, inputs)
    compared = measuring.Compared(model, torch.float64)
    state = compared.state
    moved = symmetry.apply(state, symmetry.random(1))
    name = "bert.encoder.layer.0.output.dense.weight"
    expected = compared.run(inputs)
    assert measuring.compute_change(expected, compared.run(inputs, moved)) < 1e-12
    assert measuring.compute_change(expected, compared.run(inputs, {**moved, name: state[name]})) > 1e-3


def test_every_row_of_the_page_is_a_family_that_the_script_knows(families: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "architectures.md").read_text(encoding="utf-8")
    kinds = {name.partition(" (t")[0] for name in families}
    rows = [re.match(r"\| ([^|]+) \| `(\w+)` \|", line) for line in page.splitlines()]
    names = [row[1].removesuffix(" °") for row in rows if row]
    assert len(names) >= 100
    assert set(names) <= kinds
    assert "Wrong:" not in page
