"""Models that are known to use exactly two latents are found invariant to exactly the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from lookup import Copier, outcomes
from mechconn.core import draw_uniform
from mechconn.datasets import Planted, PlantedSet

SPEC = Planted()
ROWS, DRAWS = 300, 20


def agreeing(seed: int) -> PlantedSet:
    """Every latent says the label, so that a model may rely on any of them."""
    drawn = SPEC.sample(ROWS, seed)
    return replace(drawn, latents=drawn.y[:, None].expand(-1, len(SPEC.names)).clone())


def reader_of(*latents: str) -> nn.Module:
    """A linear network that adds up the blocks of these latents, each at one strength, and sees no other."""
    model = nn.Linear(SPEC.features, SPEC.num_classes, bias=False, device="meta")  # draws no weights
    weight = torch.zeros(SPEC.num_classes, SPEC.features)
    for latent in latents:
        strength = SPEC.cue_strength if latent == "cue" else SPEC.content_strength
        weight[:, SPEC.block(latent)] = torch.eye(SPEC.num_classes) / strength
    model.weight = nn.Parameter(weight)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("used", [("content", "cue"), ("cue", "nuisance_0"), ("content", "nuisance_1")])
@pytest.mark.parametrize("on", ["accuracy", "loss"])
def test_reliance_is_found_exactly(used: tuple[str, str], on: Any) -> None:
    model, hits = reader_of(*used), 0
    others = tuple(name for name in SPEC.names if name not in used)
    for seed in range(DRAWS):
        data = agreeing(seed)
        counterfactuals = {name: data.randomised(name, seed) for name in SPEC.names}
        found = mc.measure_invariance(model, mc.Suite({"cue_agrees": data, **counterfactuals}, "cue_agrees"), on=on)
        hits += (found.invariant_to, found.sensitive_to) == (others, used)
    assert hits >= 0.95 * DRAWS


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_false_invariance_at_the_margin_in_simulation(paired: bool) -> None:
    """Three interventions cost exactly the margin, one costs nothing: 20 draws, a false "invariant" in 5 % at most."""
    rows, margin, draws, false = 400, 0.1, 20, 0
    for seed in range(draws):
        index = torch.arange(rows)
        before = draw_uniform(index, seed, "before") < 0.8
        splits = {"cue": outcomes(before)}
        for name in ("a", "b", "c"):
            flips = draw_uniform(index, seed, name)
            # Paired: gained on 3 % of all rows, lost on 13 %; unpaired: right on 70 % of other rows.
            after = torch.where(before, flips > 0.13 / 0.8, flips < 0.03 / 0.2) if paired else flips < 0.7
            splits[name] = outcomes(after if paired else after[:-1])
        splits["none"] = outcomes(before)
        found = mc.measure_invariance(Copier(), mc.Suite(splits), margin)
        assert found["a"].paired == paired
        false += any(found[name].verdict == "invariant" for name in ("a", "b", "c"))
    assert false <= 0.05 * draws
