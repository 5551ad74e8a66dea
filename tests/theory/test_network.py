"""The networks themselves, and the closed-form readers of one attribute."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechconn.theory import ReluNet, Slabs, fresh_network, join, spline_network
from theory.nets import random_pair, rows


@given(complexity=st.integers(0, 6), spacing=st.floats(0.3, 3), attribute=st.integers(0, 1), spare=st.integers(0, 3))
def test_a_signed_reader_interpolates_every_complexity(
    complexity: int, spacing: float, attribute: int, spare: int
) -> None:
    slabs = Slabs((complexity, complexity), (spacing, 2 * spacing))
    net = spline_network(slabs, attribute, 2 * (complexity + 2 + spare), signed=True)
    data = slabs.sample(60, seed=complexity)
    drawn = data.randomised(1 - attribute)
    for rows_ in (data, drawn):
        # Sums of products of size (K / spacing) in float64.
        torch.testing.assert_close(net(rows_.x), rows_.y, rtol=0, atol=1e-11)
        assert float(net.preactivations(rows_.x).abs().min()) > 0.1


@pytest.mark.parametrize(("complexity", "units"), [(0, 1), (0, 4), (1, 2), (1, 5)])
def test_a_positive_reader_interpolates_a_ramp_and_a_valley(complexity: int, units: int) -> None:
    slabs = Slabs((complexity,), (1.5,))
    net, data = spline_network(slabs, 0, units), slabs.sample(60)
    assert net.positive
    torch.testing.assert_close(net(data.x), data.y, rtol=0, atol=1e-14)


@given(seed=st.integers(0, 200), signed=st.booleans())
def test_an_allowed_permutation_leaves_the_function(seed: int, signed: bool) -> None:
    a, b = random_pair(6, seed, signed=signed)
    x = rows(seed)
    permutation = join(a, b, x, b(x)).permutation
    torch.testing.assert_close(b.permuted(permutation)(x), b(x), rtol=0, atol=1e-14)


def test_positive_networks_are_convex_and_homogeneous() -> None:
    net, _ = random_pair(5, 0)
    x, z = rows(0), rows(1)
    torch.testing.assert_close(net(3 * x), 3 * net(x), rtol=1e-12, atol=0)
    assert bool((net((x + z) / 2) <= (net(x) + net(z)) / 2 + 1e-15).all())


def test_ends_of_the_line_and_saved_weights() -> None:
    a, b = random_pair(4, 1)
    assert torch.equal(a.towards(b, 0.0).weights, a.weights)
    assert torch.equal(a.towards(b, 1.0).weights, b.weights)
    again = ReluNet(**a.params)
    assert torch.equal(again(rows(0)), a(rows(0)))
    again.params["weights"].zero_()
    assert torch.equal(again.weights, a.weights)


def test_fresh_weights_are_those_of_the_seed() -> None:
    nets = [fresh_network(300, 100, signed=True, scale=0.5, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(nets[0].weights, nets[1].weights) and not torch.equal(nets[0].weights, nets[2].weights)
    assert nets[0].signs.tolist() == [1.0] * 50 + [-1.0] * 50
    # 30,000 values: five standard errors of the deviation.
    assert float(nets[0].weights.std()) == pytest.approx(0.5, abs=0.5 * 5 / (2 * 30_000) ** 0.5)


def test_what_a_network_cannot_be() -> None:
    ones = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"signs be \+1 or -1 for each unit, got \[1, 2\] and \[2\]; fresh_network"):
        ReluNet(torch.ones(1, 2, dtype=torch.float64), 0.5 * ones)
    with pytest.raises(ValueError, match=r"^a signed network has as many positive as negative units, got units=3"):
        fresh_network(2, 3, signed=True)
    signed = fresh_network(2, 4, signed=True)
    with pytest.raises(ValueError, match=r"^the permutation \[2, 1, 0, 3\] moves units to places of the other output"):
        signed.permuted(torch.tensor([2, 1, 0, 3]))
    with pytest.raises(ValueError, match=r"^the networks have different output signs \(2 and 4 positive units\)"):
        join(signed, fresh_network(2, 4), torch.ones(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    with pytest.raises(ValueError, match="have different shapes"):
        join(signed, fresh_network(2, 6), torch.ones(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize(("units", "signed"), [(100, False), (8, True)])
def test_readers_that_do_not_exist(units: int, signed: bool) -> None:
    with pytest.raises(ValueError, match=rf"^no spline of complexity 4 with units={units}, signed={signed}: positive"):
        spline_network(Slabs((0, 4)), 1, units, signed=signed)
