"""Models of the transformers library without weights: the same check, and the groups that they must have."""

from __future__ import annotations

from typing import Any

import pytest

import mechconn as mc
from symmetry.check import built, largest_change
from symmetry.hub_models import MODELS

FAST = ("bert", "gpt2", "llama")
LAYER = [2, 8, 8, 20]  # heads, dimensions of queries and keys, of values, hidden units
EXPECTED = {
    "bert": [16, *LAYER, *LAYER, 16],  # the stream, two layers, the pooler
    "bert_lm": [16, *LAYER, *LAYER],
    "roberta": [16, *LAYER, *LAYER, 16],
    "distilbert": [16, *LAYER, *LAYER, 16],
    "gpt2": [16, 2, 8, 8, 64, 2, 8, 8, 64],
    "opt": [16, *LAYER, *LAYER],
    # The stream, that of the table of distances, two layers, the pooler.
    "deberta": [16, 16, *LAYER, *LAYER, 16],
    "deberta_v2": [16, 16, *LAYER, *LAYER, 16],
    "xlnet": [16, *LAYER, *LAYER, 16],
    "funnel": [16, *LAYER, *LAYER, 16],
    "bloom": [16, 8, 8, 64, 8, 8, 64],  # each head has its own slope
    # Rotary positions tie each dimension of queries and keys to its own angle.
    "falcon": [16, 4, 4, 64],
    "falcon_one_key": [16, 4, 4, 64],
    "falcon_groups": [16, 2, 2, 4, 64],
    "falcon_slopes": [16, 4, 4, 64],  # dimensions of queries and keys, and of values: each head has its own slope
    "mixtral": [16, 2, 2, 4, 4, 20],  # groups, queries of each, dimensions of values, experts, hidden units of each
    "qwen2_moe": [16, 2, 2, 4, 4, 8, 12],
    "gpt_oss": [16, 2, 2, 4, 4, 20],
    "deepseek": [16, 4, 3, 7, 5, 2, 4, 8, 8],  # heads, their dimensions, the latent spaces, groups, experts in each
    "llama": [16, 2, 2, 4, 20, 2, 2, 4, 20],
    "t5": [2, 6, 6, 20, 6, 6, 20],  # heads share one table of relative positions; the stream is the output
    "hf_vit": [16, *LAYER, *LAYER],
    "hf_convnext": [8, 32, 12, 48],
    "hf_resnet": [8, 8, 12, 12],
}
# What may be permuted of the hidden axes; in the others the heads or the rotary pairs stay, which `print` says.
COVERAGE = {"deberta": 0.98, "xlnet": 0.82, "funnel": 0.94, "bloom": 0.83, "llama": 0.88}
COVERAGE |= {"falcon": 0.92, "falcon_one_key": 0.92, "falcon_groups": 0.93, "falcon_slopes": 0.84}
COVERAGE |= {"mixtral": 0.9, "qwen2_moe": 0.87, "gpt_oss": 0.86, "deepseek": 0.9}
FLOAT32 = ("llama", "deberta", "mixtral", "qwen2_moe", "gpt_oss", "deepseek")
GROUPED = ("mixtral", "qwen2_moe", "gpt_oss", "deepseek")
"""Grouped products refuse float64."""
CASES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in MODELS]


@pytest.mark.parametrize("name", CASES)
def test_permuting_the_units_found_changes_nothing(name: str) -> None:
    factory, inputs = MODELS[name]
    model: Any = built(factory)
    symmetry = mc.symmetry_of(model, inputs)
    proof = symmetry.verify(model)
    if name in GROUPED:
        assert proof.dtype == "float32" and proof.error < 1e-5
        model.set_experts_implementation("batched_mm")  # another way to the same function, which takes float64
    # Norms, or routers, compute in float32.
    assert largest_change(model, inputs, symmetry) <= (1e-6 if name in FLOAT32 else 1e-9)
    assert symmetry.coverage >= COVERAGE.get(name, 1.0)
    assert (symmetry.coverage == 1.0) == ("missing: " not in str(symmetry))
    if name in EXPECTED:
        assert sorted(symmetry.sizes.values()) == sorted(EXPECTED[name])
