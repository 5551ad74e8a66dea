"""Normalisation statistics against a batch-by-batch witness of the formula."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng, make_generator
from mechconn.network import Network, NormPolicy, read_buffers
from reference import activations, evaluated, loaded, moving_statistics, pooled_statistics
from zoo import CLASSES, FEATURES, Batch, Shared, build, images, mlp, norm_conv, norm_mlp, rows, split, stay


def deep() -> nn.Module:
    """Two BatchNorm layers, the second with statistics of the first in its input, one without a momentum."""
    return nn.Sequential(
        nn.Linear(FEATURES, 6),
        nn.BatchNorm1d(6, momentum=None),
        nn.ReLU(),
        nn.Linear(6, 5),
        nn.BatchNorm1d(5, momentum=0.3, affine=False),
        nn.Linear(5, CLASSES),
    )


CASES = {
    "one": (norm_mlp, rows),
    "deep, momentum None": (deep, rows),
    "images": (norm_conv, images),
    "applied twice in one pass": (Shared, rows),
}
UNEVEN = [7, 4, 6]


def statistics(policy: NormPolicy, model: nn.Module, params: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(policy.point(Network(model), stay(model, params), 0.5).buffers)


def check_statistics(
    found: dict[str, Tensor], calls: dict[str, list[Tensor]], formula: Callable[[list[Tensor]], tuple[Tensor, Tensor]]
) -> None:
    assert calls
    for name, received in calls.items():
        mean, variance = formula(received)
        # The kernel and the witness add the same numbers in different orders.
        torch.testing.assert_close(found[f"{name}.running_mean"], mean, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(found[f"{name}.running_var"], variance, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_cumulative_average_is_the_formula(name: str) -> None:
    factory, data = CASES[name]
    model, params = build(factory, 0), mc.parameters_of(build(factory, 1))
    batches = split(data(sum(UNEVEN)), UNEVEN)
    found = statistics(mc.Reestimate(batches), model, params)
    check_statistics(found, activations(loaded(model, params), batches), pooled_statistics)


@pytest.mark.parametrize("name", CASES)
def test_exponential_average_moves_by_its_momentum(name: str) -> None:
    factory, data = CASES[name]
    model, params = build(factory, 0), mc.parameters_of(build(factory, 1))
    batches = split(data(sum(UNEVEN)), UNEVEN)
    found = statistics(mc.Reestimate(batches, average="exponential", momentum=0.1), model, params)
    calls = activations(loaded(model, params), batches)
    check_statistics(found, calls, lambda received: moving_statistics(received, 0.1))


def test_exponential_average_is_what_torch_keeps() -> None:
    model, batches = build(norm_mlp), split(rows(sum(UNEVEN)), UNEVEN)
    found = statistics(mc.Reestimate(batches, average="exponential"), model, mc.parameters_of(model))
    fresh = copy.deepcopy(model).train()
    layer = fresh.get_submodule("1")
    assert isinstance(layer, nn.BatchNorm1d)
    layer.reset_running_stats()
    for x, _ in batches:
        fresh(x)
    torch.testing.assert_close(found["1.running_mean"], layer.running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found["1.running_var"], layer.running_var, rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(2, 16), max_size=4))
def test_before_other_norms_the_batches_do_not_matter(seed: int, cuts: set[int]) -> None:
    """mean(var_b + mean_b^2) - mean^2 is the variance of all activations, whatever the batches."""
    model, data = build(norm_mlp), rows(18, seed)
    assert isinstance(model, nn.Sequential)
    edges = [0, *sorted(cut for cut in cuts if cut % 2 == 0), 18]  # even cuts: no batch of a single row
    batches = split(data, [b - a for a, b in pairwise(edges)])
    found = statistics(mc.Reestimate(batches), model, mc.parameters_of(model))
    hidden = model[0](data[0])
    # Sums of 18 float64 numbers in another order.
    torch.testing.assert_close(found["1.running_mean"], hidden.mean(0).detach(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found["1.running_var"], hidden.var(0).detach(), rtol=1e-11, atol=1e-12)


def test_a_large_mean_costs_no_precision() -> None:
    """In float32, activations around 1000 with deviation 0.1: the mean's square must not swallow the variance."""
    layer = nn.BatchNorm1d(2)
    x = torch.randn(600, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x32 = (1000 + 0.1 * x).float()
    found = statistics(mc.Reestimate((x32, torch.zeros(600).long()), batch_size=100), layer, mc.parameters_of(layer))
    # One float32 rounding at 1000 is 6e-5, against a deviation of 0.1.
    torch.testing.assert_close(found["running_var"], x32.double().var(0).float(), rtol=1e-3, atol=0)


def test_what_the_model_held_does_not_matter() -> None:
    model, spoilt = build(deep), build(deep)
    spoilt.get_buffer("1.running_mean").fill_(float("nan"))
    spoilt.get_buffer("4.running_var").fill_(float("inf"))
    for policy in (mc.Reestimate(rows(17)), mc.Reestimate(rows(17), average="exponential")):
        found, expected = (statistics(policy, held, mc.parameters_of(model)) for held in (spoilt, model))
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_rows_of_tensors_are_read_in_batches_of_the_given_size() -> None:
    model, data = build(deep), rows(17)
    params = mc.parameters_of(model)
    found = statistics(mc.Reestimate(data, batch_size=7), model, params)
    check_statistics(found, activations(model, split(data, [7, 7, 3])), pooled_statistics)


def test_a_last_batch_of_one_row_joins_the_one_before() -> None:
    model, data = build(deep), rows(15)
    found = statistics(mc.Reestimate(data, batch_size=7), model, mc.parameters_of(model))
    check_statistics(found, activations(model, split(data, [7, 8])), pooled_statistics)


def test_the_exponential_average_shuffles_by_its_seed() -> None:
    model, (x, y) = build(deep), rows(17)
    params = mc.parameters_of(model)

    def found(seed: int) -> dict[str, Tensor]:
        return statistics(mc.Reestimate((x, y), average="exponential", batch_size=7, seed=seed), model, params)

    order = torch.randperm(17, generator=make_generator(3, "norm order"))
    calls = activations(model, split((x[order], y[order]), [7, 7, 3]))
    check_statistics(found(3), calls, lambda received: moving_statistics(received, 0.1))
    assert all(torch.equal(a, b) for a, b in zip(found(3).values(), found(3).values(), strict=True))
    assert not torch.equal(found(3)["1.running_mean"], found(4)["1.running_mean"])


def test_nothing_but_the_statistics_is_replaced() -> None:
    class Idle(nn.Module):
        """A BatchNorm that no forward pass reaches, and a buffer that is no statistic."""

        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.BatchNorm1d(FEATURES), nn.BatchNorm1d(FEATURES)
            self.register_buffer("scale", torch.full((1,), 2.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) * self.get_buffer("scale")

    model = build(Idle)
    own = read_buffers(model)
    found = statistics(mc.Reestimate(rows(9)), model, mc.parameters_of(model))
    changed = {name for name in own if not torch.equal(own[name], found[name])}
    assert changed == {"used.running_mean", "used.running_var"}


@pytest.mark.parametrize("policy", [mc.KeepNorm(), mc.Reestimate(rows(9))])
@pytest.mark.parametrize("factory", [norm_mlp, mlp])
def test_buffers_are_copies_and_the_network_stays(policy: NormPolicy, factory: Callable[[], nn.Module]) -> None:
    model = build(factory)
    network, own = Network(model), read_buffers(model)
    momenta = {n: m.momentum for n, m in network.module.named_modules() if isinstance(m, nn.BatchNorm1d)}
    hooks = {n: len(m._forward_hooks) for n, m in network.module.named_modules()}
    found = policy.point(network, stay(model), 0.5).buffers
    assert list(found) == list(own)
    for buffer in found.values():
        buffer.zero_()
    for name, buffer in own.items():
        assert torch.equal(network.buffers[name], buffer)
        assert torch.equal(dict(model.named_buffers())[name], buffer)
    assert {n: m.momentum for n, m in network.module.named_modules() if isinstance(m, nn.BatchNorm1d)} == momenta
    assert {n: len(m._forward_hooks) for n, m in network.module.named_modules()} == hooks


def test_keeping_gives_the_models_own() -> None:
    model = build(norm_mlp)
    found = mc.KeepNorm().point(Network(model), stay(model), 0.5).buffers
    assert all(torch.equal(found[name], buffer) for name, buffer in model.named_buffers())


def test_endpoints_are_reestimated_too() -> None:
    """The statistics that the model holds say nothing: those of A and B come from the data as everywhere."""
    model, batches, test = build(norm_mlp, 0), split(rows(17), UNEVEN), rows(30, 5)
    a, b = mc.parameters_of(build(norm_mlp, 1)), mc.parameters_of(build(norm_mlp, 2))
    profile = mc.evaluate_path(
        model, mc.LinearPath(a, b), mc.Suite({"cue": test}), ts=2, norm=mc.Reestimate(batches, label="here")
    )
    for end, params in enumerate((a, b)):
        expected = expected_at(model, params, batches, test)
        assert (profile.loss["cue"][end], profile.accuracy["cue"][end]) == pytest.approx(expected, rel=1e-10)
    assert profile.settings["norm"] == mc.Reestimate(batches, label="here").describe()


def test_the_record_says_what_was_decided_here() -> None:
    """Of batches of the user's neither their size nor their number is this policy's."""
    told = {"policy": "reestimate", "average": "cumulative", "data": "here", "seed": 3}
    given = mc.Reestimate(split(rows(17), UNEVEN), batch_size=5, seed=3, label="here")
    assert given.describe() == told | {"batch_size": None, "samples": None}
    own = mc.Reestimate(rows(17), batch_size=5, seed=3, label="here", average="exponential", momentum=0.2)
    assert own.describe() == told | {"average": "exponential", "batch_size": 5, "samples": 17, "momentum": 0.2}


def expected_at(model: nn.Module, params: dict[str, Tensor], batches: list[Batch], test: Batch) -> tuple[float, float]:
    here = loaded(model, params)
    mean, variance = pooled_statistics(activations(here, batches)["1"])
    here.get_buffer("1.running_mean").copy_(mean)
    here.get_buffer("1.running_var").copy_(variance)
    return evaluated(here, [test])


def test_other_layers_with_statistics_are_named() -> None:
    model = nn.Sequential(nn.InstanceNorm1d(FEATURES, track_running_stats=True), nn.Flatten())
    with pytest.raises(ValueError) as caught:
        statistics(mc.Reestimate(rows(4)), model, mc.parameters_of(model))
    assert str(caught.value) == (
        "cannot re-estimate the running statistics of 0: only BatchNorm layers have a known formula; "
        "pass norm=KeepNorm()"
    )


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number greater than zero, got 0"),
        ({"momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1.5"),
        ({"average": "exponential", "momentum": 0}, "momentum must be a number greater than zero, got 0"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        mc.Reestimate(rows(4), **wrong)


def test_data_that_can_be_read_once_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^norm data must be data that can be read more than once, got a generator"):
        mc.Reestimate(batch for batch in [rows(4)])


class FrozenNorm(nn.Module):
    """A network whose own train() keeps its BatchNorm in evaluation mode, as is usual when backbones are frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.linear, self.free = nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, 4), nn.BatchNorm1d(4)

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.free(self.linear(self.frozen(x)))


def test_a_norm_that_the_model_keeps_frozen_keeps_its_statistics() -> None:
    with isolate_rng(0):
        model = FrozenNorm().double()
        x = torch.randn(20, FEATURES, dtype=torch.float64)
    model.train()
    model.frozen.running_mean = torch.full((FEATURES,), 3.0, dtype=torch.float64)
    network = Network(model)
    found = mc.Reestimate((x, torch.zeros(20))).point(network, stay(model), 0.5).buffers
    assert torch.equal(found["frozen.running_mean"], model.frozen.running_mean)
    with torch.no_grad():
        hidden = model.linear(model.frozen(x))
    assert torch.allclose(found["free.running_mean"], hidden.mean(0), rtol=1e-12)
    assert torch.allclose(found["free.running_var"], hidden.var(0), rtol=1e-12)


def test_frozen_statistics_that_differ_are_not_known_between_the_ends() -> None:
    def frozen(seed: int) -> nn.Module:
        return build(FrozenNorm, seed).requires_grad_(False).eval()

    a, b, data = frozen(1), frozen(2), rows(20)
    suite, norm = mc.Suite({"cue": (data[0], data[1])}), mc.Reestimate(data)
    path = mc.LinearPath.between(a, b)
    for t, end in ((0.0, a), (1.0, b)):
        found = mc.model_at(a, path, t, norm=norm)
        assert torch.equal(found.get_buffer("frozen.running_mean"), end.get_buffer("frozen.running_mean"))
        hidden = end.get_submodule("linear")(end.get_submodule("frozen")(data[0]))
        assert torch.allclose(found.get_buffer("free.running_mean"), hidden.mean(0), rtol=1e-12)
    with pytest.raises(ValueError) as caught:
        mc.evaluate_path(a, path, suite, 3, norm=norm)
    assert str(caught.value) == (
        "the model keeps frozen.running_mean, frozen.running_var frozen, so that they are not re-estimated, and the "
        "ends of the path differ in them; pass norm=InterpolateNorm()"
    )
    assert mc.evaluate_path(a, path, suite, 3, norm=mc.InterpolateNorm()).saved[1] is not None
    for name in ("running_mean", "running_var"):
        b.get_buffer(f"frozen.{name}").copy_(a.get_buffer(f"frozen.{name}"))
    middle = mc.model_at(frozen(3), mc.LinearPath.between(a, b), 0.5, norm=norm)
    assert torch.equal(middle.get_buffer("frozen.running_mean"), a.get_buffer("frozen.running_mean"))
