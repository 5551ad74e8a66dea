"""The planted generator: every latent can be read back, and set exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechconn.datasets import Planted, PlantedCue, PlantedSet, make_cued_set

specs = st.builds(
    Planted,
    num_classes=st.integers(2, 6),
    nuisances=st.integers(0, 3),
    content_strength=st.floats(0.5, 2),
    cue_strength=st.floats(0.5, 4),
    noise=st.just(0.0),
)
seeds = st.integers(0, 10_000)


def everything(data: PlantedSet) -> torch.Tensor:
    return data.inputs(torch.arange(len(data)))


@given(spec=specs, seed=seeds)
def test_latents_can_be_read_back(spec: Planted, seed: int) -> None:
    data = spec.sample(40, seed)
    assert torch.equal(spec.latents_of(everything(data)), data.latents)
    cued = data.randomised("cue", seed)
    assert torch.equal(spec.latents_of(everything(cued)), cued.latents)


@given(spec=specs, noise=st.floats(0, 2), seed=seeds, position=st.integers(0, 4))
def test_an_intervention_changes_one_block_and_no_other(spec: Planted, noise: float, seed: int, position: int) -> None:
    spec = replace(spec, noise=noise)
    latent = spec.names[position % len(spec.names)]
    data = spec.sample(40, seed)
    changed = data.randomised(latent, seed)
    before, after = everything(data), everything(changed)
    block, elsewhere = spec.block(latent), torch.ones(spec.features, dtype=torch.bool)
    elsewhere[block] = False
    assert torch.equal(after[:, elsewhere], before[:, elsewhere])
    # The noise is a latent of its own and stays; the block shows the new value.
    expected = spec.shown(latent, changed.latents[:, spec.names.index(latent)]) + data.noise[:, block]
    assert torch.equal(after[:, block], expected)
    assert torch.equal(changed.y, data.y)
    assert torch.equal(changed.ids, data.ids)


def test_a_closed_form() -> None:
    spec = Planted(num_classes=3, nuisances=1, content_strength=1.5, cue_strength=4.0, noise=0.0)
    latents = torch.tensor([[2, 0, 1], [0, -1, 2]])
    data = PlantedSet(spec, latents, torch.zeros(2, 9), latents[:, 0], torch.arange(2))
    assert everything(data).tolist() == [[0, 0, 1.5, 4, 0, 0, 0, 1.5, 0], [1.5, 0, 0, 0, 0, 0, 0, 0, 1.5]]
    assert (spec.names, spec.features, spec.block("cue")) == (("content", "cue", "nuisance_0"), 9, slice(3, 6))


def test_the_label_is_the_content_and_there_is_no_cue_yet() -> None:
    data = Planted().sample(100, seed=1)
    assert torch.equal(data.y, data.latents[:, 0])
    assert bool((data.latents[:, 1] == -1).all())
    assert torch.equal(data.ids, torch.arange(100))


def test_latents_are_uniform_and_independent() -> None:
    spec, rows = Planted(num_classes=3, nuisances=1), 27_000
    data = spec.sample(rows, seed=4).randomised("cue", seed=5)
    cells = data.latents @ torch.tensor([9, 3, 1])
    counts = cells.bincount(minlength=27).double()
    # Five standard deviations of Binomial(27000, 1/27) in each of the 27 combinations.
    assert bool(((counts - 1000).abs() < 5 * (1000 * 26 / 27) ** 0.5).all())


def test_noise_has_its_deviation_and_no_mean() -> None:
    noise = Planted(noise=0.5).sample(5000, seed=0).noise
    # 80,000 values: the mean is known to 0.002, the deviation to 0.00125 (one standard error).
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.std()) == pytest.approx(0.5, abs=0.007)


def test_seeds_decide() -> None:
    spec = Planted()
    a, b, c = everything(spec.sample(50, 1)), everything(spec.sample(50, 1)), everything(spec.sample(50, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    one, other = (spec.sample(50, 1).randomised("content", seed).latents for seed in (1, 2))
    assert not torch.equal(one, other)


@given(seed=seeds)
def test_the_random_cue_of_scenes_is_the_generators_own_intervention(seed: int) -> None:
    spec = Planted()
    data = spec.sample(60, seed)
    scenes = make_cued_set(data, PlantedCue(spec)).with_random_cue(seed)
    assert torch.equal(scenes.cue_values, data.randomised("cue", seed).latents[:, 1])
    # Noise and cue are added in another order: one rounding of numbers below 8.
    torch.testing.assert_close(
        scenes.inputs(torch.arange(60)), everything(data.randomised("cue", seed)), rtol=0, atol=1e-6
    )


def test_the_cue_of_scenes_adds_to_its_block_alone() -> None:
    spec = Planted(noise=0.3)
    data = spec.sample(60, 0)
    scenes = make_cued_set(data, PlantedCue(spec))
    index = torch.arange(60)
    assert torch.equal(scenes.without_cue().inputs(index), everything(data))
    added = scenes.with_cue().inputs(index) - everything(data)
    expected = torch.zeros(60, spec.features)
    expected[index, spec.block("cue").start + data.y] = spec.cue_strength
    # Adding 2 to noise and taking the noise away again loses its last bits.
    torch.testing.assert_close(added, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"num_classes": 0}, r"^num_classes must be a whole number greater than zero, got 0$"),
        ({"nuisances": -1}, r"^nuisances must be zero or more, got -1$"),
        ({"content_strength": 0.0}, r"^content_strength must be a number greater than zero, got 0.0$"),
        ({"cue_strength": -1.0}, r"^cue_strength must be a number greater than zero, got -1.0$"),
        ({"noise": float("nan")}, r"^noise must be zero or more, got nan$"),
    ],
)
def test_what_a_generator_cannot_be(wrong: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Planted(**wrong)  # pyright: ignore[reportArgumentType]


def test_unknown_latents_and_empty_samples() -> None:
    text = r"^latent must be one of 'content', 'cue', 'nuisance_0', 'nuisance_1', got 'colour'$"
    with pytest.raises(ValueError, match=text):
        Planted().sample(4).randomised("colour")
    with pytest.raises(ValueError, match=text):
        Planted().block("colour")
    with pytest.raises(ValueError, match=r"^rows must be a whole number greater than zero, got 0$"):
        Planted().sample(0)
