"""Slabs: labels, places, independence and interventions, against their definition."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechconn.theory import Slabs

complexities = st.integers(0, 5)
seeds = st.integers(0, 1000)


@given(complexity=complexities, seed=seeds)
def test_labels_alternate_from_one_downwards(complexity: int, seed: int) -> None:
    slabs = Slabs((complexity,), (1.5,), noise=0)
    assert slabs.labels(0).flip(0).tolist() == [float(i % 2 == 0) for i in range(complexity + 2)]
    places = slabs.places(0)
    torch.testing.assert_close(places.diff(), torch.full((complexity + 1,), 1.5, dtype=torch.float64), rtol=0, atol=0)
    assert float(places.sum()) == 0.0
    data = slabs.sample(40, seed)
    assert torch.equal(slabs.labels(0)[data.slabs[:, 0]], data.y)
    assert torch.equal(data.x[:, 0], places[data.slabs[:, 0]])


@given(complexity=complexities)
def test_the_complexity_is_the_number_of_knots_of_the_shortest_spline(complexity: int) -> None:
    """Slopes between neighbouring points differ at every inner point, so that each needs a knot, and no more do."""
    slabs = Slabs((complexity,), (1.0,))
    slopes = slabs.labels(0).diff() / slabs.places(0).diff()
    assert int((slopes.diff() != 0).sum()) == complexity


def test_inputs_are_attributes_noise_and_a_constant() -> None:
    slabs = Slabs((0, 4), (2.0, 1.0), noise=3)
    data = slabs.sample(50, seed=2)
    assert data.x.shape == (50, slabs.features) == (50, 6)
    assert torch.equal(data.x[:, 2:5], data.noise)
    assert bool((data.x[:, 5] == 1).all())
    assert float(data.y.mean()) == 0.5


def test_given_the_label_slabs_are_uniform_and_independent() -> None:
    rows = 24_000
    data = Slabs((1, 4), (1.0, 1.0), noise=0).sample(rows, seed=3)
    cells = {pair: 0 for pair in itertools.product(range(3), range(6))}
    for i, j in data.slabs.tolist():
        cells[i, j] += 1
    # Label 1: slabs 0, 2 and 1, 3, 5; label 0: slab 1 and 0, 2, 4. Each label has half of the rows.
    expected = {(i, j): rows / 2 / 6 for i in (0, 2) for j in (1, 3, 5)} | {(1, j): rows / 2 / 3 for j in (0, 2, 4)}
    for pair, count in cells.items():
        share = expected.get(pair, 0.0) / rows
        # Five standard deviations of a binomial count; where no row may lie, exactly none.
        assert abs(count - share * rows) <= 5 * (rows * share * (1 - share)) ** 0.5


def test_coupled_attributes_share_their_slab() -> None:
    data = Slabs((4, 4), (1.0, 2.0), coupled=True).sample(60, seed=1)
    assert torch.equal(data.slabs[:, 0], data.slabs[:, 1])
    assert torch.equal(2 * data.x[:, 0], data.x[:, 1])


@given(seed=seeds, attribute=st.integers(0, 1))
def test_an_intervention_changes_one_attribute_and_no_label(seed: int, attribute: int) -> None:
    data = Slabs().sample(60, seed)
    changed = data.randomised(attribute, seed)
    others = [i for i in range(data.x.shape[1]) if i != attribute]
    assert torch.equal(changed.x[:, others], data.x[:, others])
    assert torch.equal(changed.y, data.y)
    assert torch.equal(changed.slabs, data.randomised(attribute, seed).slabs)
    assert not torch.equal(changed.slabs, data.randomised(attribute, seed + 1).slabs)


def test_an_intervention_draws_every_slab_alike_whatever_the_label() -> None:
    data = Slabs((4,), (1.0,), noise=0).sample(12_000, seed=0).randomised(0, seed=5)
    for label in (0.0, 1.0):
        counts = data.slabs[data.y == label, 0].bincount(minlength=6).double()
        assert bool(((counts - 1000).abs() < 5 * (6000 * 5 / 36) ** 0.5).all())


def test_rows_that_one_attribute_alone_predicts() -> None:
    data = Slabs().sample(200, seed=4)
    rows = data.relying_on(1, seed=0)
    assert len(rows) == 400
    assert torch.equal(rows.x[:200], data.x)
    assert torch.equal(data.generator.labels(1)[rows.slabs[:, 1]], rows.y)
    wrong = data.generator.labels(0)[rows.slabs[200:, 0]] != rows.y[200:]
    assert 70 <= int(wrong.sum()) <= 130  # half of 200, four standard deviations


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"complexities": (0,)}, r"^spacing must give one distance for each attribute, got \(2.0, 1.0\) for 1 attrib"),
        ({"complexities": (0, -1)}, r"^complexities must be zero or more, got -1$"),
        ({"spacing": (1.0, 0.0)}, r"^spacing must be a number greater than zero, got 0.0$"),
        ({"noise": -1}, r"^noise must be zero or more, got -1$"),
        ({"coupled": True}, r"^coupled attributes share one slab, so they need one complexity, got \(0, 4\); use"),
    ],
)
def test_what_slabs_cannot_be(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Slabs(**wrong)  # pyright: ignore[reportArgumentType]


def test_an_attribute_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"^attribute must lie in \[0, 1\], got 2$"):
        Slabs().sample(4).randomised(2)
