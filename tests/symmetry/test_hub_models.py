"""Models of the transformers library without weights: the same check, and the groups that they must have."""

from __future__ import annotations

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
    # Distances are gathered, an operation without a rule, which freezes the heads; then the pooler.
    "deberta": [16, 8, 8, 20, 8, 8, 20, 16, 16],
    "deberta_v2": [16, 8, 8, 20, 8, 8, 20, 16, 16],
    # Rotary positions tie each dimension of queries and keys to its own angle.
    "llama": [16, 2, 2, 4, 20, 2, 2, 4, 20],
    "t5": [2, 6, 6, 20, 6, 6, 20],  # heads share one table of relative positions; the stream is the output
    "hf_vit": [16, *LAYER, *LAYER],
    "hf_convnext": [8, 32, 12, 48],
    "hf_resnet": [8, 8, 12, 12],
}
# What may be permuted of the hidden axes; in the others the heads or the rotary pairs stay, which `print` says.
COVERAGE = {"deberta": 0.72, "deberta_v2": 0.65, "llama": 0.88}
CASES = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in MODELS]


@pytest.mark.parametrize("name", CASES)
def test_permuting_the_units_found_changes_nothing(name: str) -> None:
    factory, inputs = MODELS[name]
    model = built(factory)
    symmetry = mc.symmetry_of(model, inputs)
    # LLaMA's and DeBERTa's norms compute in float32.
    assert largest_change(model, inputs, symmetry) <= (1e-6 if name in ("llama", "deberta") else 1e-9)
    symmetry.verify(model)
    assert symmetry.coverage >= COVERAGE.get(name, 1.0)
    assert (symmetry.coverage == 1.0) == ("missing: " not in str(symmetry))
    if name in EXPECTED:
        assert sorted(symmetry.sizes.values()) == sorted(EXPECTED[name])
