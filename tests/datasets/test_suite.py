"""A suite: named evaluation data with a reference, and what its splits measure on models whose mechanism is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import binom
from torch import nn

import mechconn as mc
from mechconn.datasets import Planted, PlantedCue, make_cue_suite, make_cued_set
from zoo import rows

SPLITS = ("no_cue", "cue", "rand_cue", "rand_image")
ROWS, CLASSES = 1200, 4


def planted_suite(noise: float = 0.0) -> tuple[Planted, mc.CuedSet, mc.Suite]:
    spec = Planted(num_classes=CLASSES, noise=noise)
    scenes = make_cued_set(spec.sample(ROWS, seed=0), PlantedCue(spec))
    return spec, scenes, make_cue_suite(scenes, seed=0)


def reads(spec: Planted, latent: str) -> nn.Module:
    """A linear model with planted weights: its logits are the block of one latent, and nothing else."""
    weight = torch.zeros(spec.num_classes, spec.features)
    weight[:, spec.block(latent)] = torch.eye(spec.num_classes)
    model = nn.Linear(spec.features, spec.num_classes, device="meta").to_empty(device="cpu")
    return mc.with_parameters(model, {"weight": weight, "bias": torch.zeros(spec.num_classes)})


def chance(rows: int, confidence: float = 0.999) -> tuple[float, float]:
    """Where the accuracy of guessing one of K classes falls, exactly."""
    low, high = binom.interval(confidence, rows, 1 / CLASSES)
    return low / rows, high / rows


def test_a_model_that_uses_only_the_cue() -> None:
    spec, _, suite = planted_suite()
    measured = mc.measure_invariance(reads(spec, "cue"), suite)
    assert (measured.accuracy["cue"], measured.accuracy["rand_image"]) == (1.0, 1.0)
    low, high = chance(ROWS)
    assert low <= measured.accuracy["rand_cue"] <= high
    random_cue = suite["rand_cue"]
    assert isinstance(random_cue, mc.CuedSet)
    agreeing = (random_cue.cue_values == random_cue.y).double().mean()
    assert measured.accuracy["rand_cue"] == float(agreeing)
    assert measured["rand_cue"].verdict == "sensitive"
    assert (measured["rand_image"].effect, measured["rand_image"].verdict) == (0.0, "invariant")
    assert measured.invariant_to == ("rand_image",)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_model_that_is_blind_to_the_cue(noise: float) -> None:
    """Its logits never see the cue's block, so nothing that happens there has any effect at all."""
    spec, _, suite = planted_suite(noise)
    model = reads(spec, "content")
    for on in ("accuracy", "loss"):
        measured = mc.measure_invariance(model, suite, on=on)
        assert measured.accuracy["no_cue"] == measured.accuracy["cue"] == measured.accuracy["rand_cue"]
        assert (measured["rand_cue"].effect, measured["rand_cue"].changed) == (0.0, 0.0)
        assert measured["rand_cue"].verdict == "invariant"
        assert measured["rand_image"].verdict == "sensitive"
        assert measured.invariant_to == ("rand_cue",)


def test_random_content_leaves_a_model_of_the_content_at_chance() -> None:
    spec, _, suite = planted_suite()
    measured = mc.measure_invariance(reads(spec, "content"), suite)
    assert measured.accuracy["cue"] == 1.0
    low, high = chance(ROWS)
    assert low <= measured.accuracy["rand_image"] <= high


@pytest.mark.parametrize("latent", ["nuisance_0", "nuisance_1"])
def test_a_model_of_a_nuisance_is_at_chance_everywhere(latent: str) -> None:
    spec, _, suite = planted_suite()
    low, high = chance(ROWS)
    accuracy = mc.measure_invariance(reads(spec, latent), suite).accuracy
    assert all(low <= accuracy[split] <= high for split in SPLITS)


# ---------------------------------------------------------------- the four splits


def test_the_four_splits_and_their_roles() -> None:
    _, scenes, suite = planted_suite()
    assert tuple(suite) == SPLITS
    assert (suite.reference, suite.interventions, len(suite)) == ("cue", ("rand_cue", "rand_image"), 4)
    for name in SPLITS:
        data = suite[name]
        assert isinstance(data, mc.CuedSet)
        assert torch.equal(data.y, scenes.y)  # the target of a random image is the original label


def test_splits_do_not_depend_on_the_cue_that_was_there() -> None:
    spec, scenes, suite = planted_suite()
    again = make_cue_suite(scenes.with_random_cue(5), seed=0)
    for name in SPLITS:
        a, b = suite[name], again[name]
        assert isinstance(a, mc.CuedSet) and isinstance(b, mc.CuedSet)
        index = torch.arange(len(a))
        assert torch.equal(a.inputs(index), b.inputs(index))
    assert spec.num_classes == CLASSES


def test_the_random_image_carries_the_cue_of_the_original_label() -> None:
    spec, scenes, suite = planted_suite()
    data = suite["rand_image"]
    assert isinstance(data, mc.CuedSet)
    latents = spec.latents_of(data.inputs(torch.arange(ROWS)))
    assert torch.equal(latents[:, 1], scenes.y)
    assert torch.equal(latents[:, 0], scenes.y[data.content_rows])


# ---------------------------------------------------------------- a user's own mapping


def test_interventions_are_all_but_the_reference_and_no_cue() -> None:
    data = rows(4)
    assert mc.Suite({"cue": data, "no_cue": data, "hue": data, "pose": data}).interventions == ("hue", "pose")
    assert mc.Suite({"plain": data, "cue": data}, reference="plain").interventions == ("cue",)
    chosen = mc.Suite({"cue": data, "no_cue": data, "hue": data}, interventions=("no_cue",))
    assert chosen.interventions == ("no_cue",)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"splits": {"a": rows(4)}},
            ValueError,
            "reference must be one of 'a', got 'cue'",
        ),
        (
            {"splits": {"cue": rows(4), "rand_cue": rows(4)}, "interventions": ("rand_que",)},
            ValueError,
            "interventions must be one of 'rand_cue', got 'rand_que'; did you mean 'rand_cue'?",
        ),
        (
            {"splits": {"cue": (torch.zeros(0, 4), torch.zeros(0).long())}},
            ValueError,
            "split 'cue' holds no samples; at least one is needed",
        ),
        (
            {"splits": {"cue": (torch.zeros(3, 4), torch.zeros(2).long())}},
            ValueError,
            "split 'cue': 3 inputs but 2 targets; every row needs one of each",
        ),
        ({"splits": [rows(4)]}, TypeError, "Suite expects a mapping of names to data, got list"),
        (
            {"splits": {"cue": iter([rows(4)])}},
            TypeError,
            "split 'cue' must be data that can be read more than once, got a list_iterator that is used up after one "
            "pass; pass a list of batches, a DataLoader, an (x, y) pair of tensors, or a dataset",
        ),
    ],
)
def test_what_is_no_suite(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        mc.Suite(**arguments)
    assert str(caught.value) == text
