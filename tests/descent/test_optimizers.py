"""Optimisers: each takes the steps of its equations, and every setting of a step does what it says."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from comparing import task
from mechconn.descent import ConstantSchedule, Schedule
from mechconn.descent._optimisers import SGD
from mechconn.paths import draw_t
from operations import METHODS, PATH_FITS, beside
from reference import Tensors, adam_steps, loaded
from stopping import run
from zoo import build, mlp, norm_mlp, rows

DATA = rows(24)
FOUR: dict[str, Any] = {"epochs": 4, "batch_size": 24, "lr": 0.05}
"""Four steps on all rows."""


def gradients_of(model: nn.Module, clip: float = math.inf) -> Any:
    def gradients(point: Tensors) -> Tensors:
        own = loaded(model, point)
        cross_entropy(own(DATA[0]), DATA[1]).backward()
        found = {name: weight.grad for name, weight in own.named_parameters()}
        norm = math.sqrt(sum(float(g.square().sum()) for g in found.values() if g is not None))
        return {name: g * min(clip / norm, 1.0) for name, g in found.items() if g is not None}

    return gradients


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_and_adamw_take_the_steps_of_their_equations(decoupled: bool) -> None:
    model, kind = build(mlp), mc.AdamW if decoupled else mc.Adam
    method = mc.Training(optimizer=kind((0.8, 0.95), 1e-6), weight_decay=0.3, milestones=(2,), clip_norm=0.1, **FOUR)
    found = mc.train(model, DATA, method)
    assert [record["lr"] for record in found.history] == pytest.approx([0.05, 0.05, 0.005, 0.005])
    expected = adam_steps(
        mc.parameters_of(model), gradients_of(model, 0.1), [0.05, 0.05, 0.005, 0.005], (0.8, 0.95), 1e-6, 0.3, decoupled
    )
    for name, tensor in found.model.named_parameters():
        # Clipping divides by the norm + 1e-6.
        torch.testing.assert_close(tensor.detach(), expected[name], rtol=1e-4, atol=1e-7)


def test_without_clipping_to_the_last_digits() -> None:
    model = build(mlp)
    found = mc.train(model, DATA, mc.NaiveFineTuning(optimizer="adamw", weight_decay=0.1, warmup=2, **FOUR))
    cosine = [0.05 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    expected = adam_steps(
        mc.parameters_of(model), gradients_of(model), [cosine[0] / 2, *cosine[1:]], weight_decay=0.1, decoupled=True
    )
    for name, tensor in found.model.named_parameters():
        torch.testing.assert_close(tensor.detach(), expected[name], rtol=1e-9, atol=1e-12)


def test_a_factory_makes_the_steps_that_its_optimizer_makes() -> None:
    model, method = build(mlp), mc.NaiveFineTuning(optimizer=torch.optim.NAdam, **FOUR)
    own = loaded(model, mc.parameters_of(model))
    optimiser = torch.optim.NAdam(own.parameters(), lr=0.05, weight_decay=1e-4)
    for step in range(4):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / 4)) / 2
        optimiser.zero_grad()
        cross_entropy(own(DATA[0]), DATA[1]).backward()
        optimiser.step()
    for name, tensor in mc.train(model, DATA, method).model.named_parameters():
        torch.testing.assert_close(tensor, own.get_parameter(name), rtol=1e-9, atol=1e-12)


def test_sgd_by_any_name_is_the_default_bit_for_bit() -> None:
    default = mc.CBFT(epochs=2, batch_size=8)
    factory = functools.partial(torch.optim.SGD, momentum=0.9)
    plain, *named = (
        run(method).model.state_dict()
        for method in (default, replace(default, optimizer="sgd"), replace(default, lr=0.01, optimizer=factory))
    )
    assert all(torch.equal(tensor, plain[name]) for found in named for name, tensor in found.items())


# ---------------------------------------------------------------- one parameter: closed forms


class Slope(nn.Module):
    """theta and a bias b: the output is theta x + b."""

    def __init__(self) -> None:
        super().__init__()
        self.theta, self.b = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.theta + self.b


ONES = torch.ones(12, 1, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)


def descended(method: Any, loss: Any) -> tuple[float, float]:
    """(theta, b) after training on twelve ones, from (1, 1)."""
    model = mc.train(Slope().double(), ONES, method, loss=loss).model
    return model.get_parameter("theta").item(), model.get_parameter("b").item()


def height(outputs: Tensor, _: Tensor) -> Tensor:
    """Its gradient is 1 in theta and in b."""
    return outputs[:, 0]


def nothing(outputs: Tensor, _: Tensor) -> Tensor:
    return 0.0 * outputs[:, 0]


TWELVE: dict[str, Any] = {"epochs": 3, "batch_size": 3, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
"""Twelve steps, four in each epoch."""
COSINES = [(1 + math.cos(math.pi * k / 12)) / 2 for k in range(12)]


@pytest.mark.parametrize("warmup", [5, 0.4])
@pytest.mark.parametrize(
    ("method", "factors"),
    [
        (mc.NaiveFineTuning(**TWELVE), COSINES),
        (mc.Training(**TWELVE, milestones=(1, 2)), [1.0] * 4 + [0.1] * 4 + [0.01] * 4),
        (mc.Training(**TWELVE, milestones=()), [1.0] * 12),
    ],
)
def test_the_warm_up_rises_to_the_rate_of_every_schedule(method: Any, factors: list[float], warmup: float) -> None:
    """A constant slope of 1: theta falls by the sum of the rates. 0.4 of twelve steps are five."""
    theta, b = descended(replace(method, warmup=warmup), height)
    fallen = 0.1 * sum(factor * min((k + 1) / 5, 1.0) for k, factor in enumerate(factors))
    assert (theta, b) == pytest.approx((1 - fallen, 1 - fallen), rel=1e-12)


def test_the_history_holds_the_rates_that_were_taken() -> None:
    found = mc.train(Slope().double(), ONES, mc.Training(**TWELVE, milestones=(), warmup=8), loss=height)
    assert [record["lr"] for record in found.history] == pytest.approx([0.05, 0.1, 0.1])


@pytest.mark.parametrize("warmup", [0, 3, 0.5])
def test_so_it_does_where_paths_are_fitted(warmup: float) -> None:
    """The height at a polygon's middle point: at t its slope is the point's weight there, 1 - |2 t - 1|."""
    method = mc.PolygonalFit(epochs=2, batch_size=3, lr=0.1, momentum=0.0, weight_decay=0.0, warmup=warmup)
    a, b = ({"theta": torch.zeros(1, 1).double(), "b": torch.zeros(1).double()} for _ in range(2))
    found = mc.fit_path(Slope().double(), a, b, method, ONES, loss=height, seed=4)
    count = {0: 1, 3: 3, 0.5: 4}[warmup]
    fallen = [0.1 * min((k + 1) / count, 1.0) * (1 - abs(2 * draw_t(k, 4) - 1)) for k in range(8)]
    assert found.path.points[1]["theta"].item() == pytest.approx(-sum(fallen), rel=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_on_matrices_leaves_biases(optimizer: str) -> None:
    """A slope of zero: theta shrinks by (1 - lr w) a step, and b with it only where decay is on all."""
    method = replace(mc.Training(**TWELVE, milestones=()), momentum=0.9, weight_decay=0.5, optimizer=optimizer)
    method = replace(method, momentum=0.0) if optimizer == "sgd" else method
    shrunk = (1 - 0.1 * 0.5) ** 12
    assert descended(method, nothing) == pytest.approx((shrunk, shrunk), rel=1e-12)
    assert descended(replace(method, weight_decay_on="matrices"), nothing) == pytest.approx((shrunk, 1.0), rel=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_a_gradient_is_clipped_once_it_is_whole(accumulate: int) -> None:
    """Of norm sqrt(2), clipped to 1/2, whatever parts make it."""
    method = mc.Training(**TWELVE, milestones=(), accumulate=accumulate, clip_norm=0.5)
    fallen = 0.1 * 12 / accumulate * 0.5 / math.sqrt(2)
    assert descended(method, height) == pytest.approx((1 - fallen, 1 - fallen), rel=1e-5)  # + 1e-6 in the norm


def test_adam_steps_by_the_rate_whatever_the_scale_of_the_gradient() -> None:
    """With a constant gradient m / sqrt(v) is 1 at every step."""
    method = mc.Training(**{**TWELVE, "momentum": 0.9}, milestones=(), optimizer="adam")
    for scale in (1e-3, 1.0, 1e3):
        theta, _ = descended(method, lambda outputs, y, scale=scale: scale * height(outputs, y))
        assert theta == pytest.approx(1 - 0.1 * 12, abs=2e-5)  # eps is 1e-8 beside 1e-3


# ---------------------------------------------------------------- every method


STEPPING = {name: method for name, method in METHODS.items() if isinstance(method, Schedule)}


@pytest.mark.parametrize("name", STEPPING)
def test_every_method_runs_with_adamw_and_says_so(name: str) -> None:
    method = replace(STEPPING[name], optimizer="adamw", warmup=0.25, clip_norm=1.0)
    found = run(method)
    assert found.settings["optimizer"] == "adamw" and found.settings["warmup"] == 0.25
    assert "momentum" not in found.settings
    other = run(replace(method, optimizer="sgd")).model.state_dict()
    assert any(not torch.equal(tensor, other[key]) for key, tensor in found.model.state_dict().items())


@pytest.mark.parametrize("name", PATH_FITS)
def test_so_does_every_fit_of_a_path(name: str) -> None:
    model, method = build(mlp), replace(PATH_FITS[name], optimizer=mc.AdamW((0.9, 0.98)))
    ends = mc.parameters_of(model), beside(model)[1]
    found = mc.fit_path(model, *ends, method, DATA)
    assert found.settings["optimizer"] == {"name": "adamw", "betas": [0.9, 0.98], "eps": 1e-8}
    assert found.settings["lr"] == 0.001 and len(found.history) == 2


def test_methods_of_two_parts_have_an_optimizer_each() -> None:
    found = run(METHODS["LPFT, Adam and RMSprop"]).settings
    assert found["probe"]["optimizer"] == {"name": "adam", "betas": [0.8, 0.9], "eps": 1e-8}
    assert found["probe"]["lr"] == 0.001  # the rule for SGD is none for Adam
    assert found["tuning"]["optimizer"] == "torch.optim.rmsprop:RMSprop" and found["tuning"]["lr"] == 0.01
    adamw = mc.NaiveFineTuning(epochs=2, batch_size=8, optimizer="adamw")
    undo = run(mc.UNDO(epochs=2, batch_size=8, teacher=adamw, optimizer="adam")).settings
    assert (undo["optimizer"], undo["teacher"]["optimizer"], undo["lr"]) == ("adam", "adamw", 0.001)
    repaired = run(mc.PathRepair(at=0.5, fit=mc.BezierFit(epochs=1, optimizer="adamw"), tune=adamw)).settings
    assert repaired["fit"]["optimizer"] == repaired["tune"]["optimizer"] == "adamw"


def test_methods_compared_under_one_budget_keep_their_optimizers() -> None:
    plain = mc.CBFT(epochs=3, batch_size=8, warmup_epochs=0)
    found = mc.compare_methods(task(), {"sgd": plain, "adamw": replace(plain, optimizer="adamw", warmup=0.5)}, epochs=1)
    _, sgd, adamw = found.runs
    assert "optimizer" not in sgd.settings and sgd.settings["lr"] == 0.01
    assert (adamw.settings["optimizer"], adamw.settings["lr"], adamw.settings["epochs"]) == ("adamw", 0.001, 1)


def test_a_factory_that_draws_leaves_the_users_generators_alone_and_draws_by_seed() -> None:
    def drawing(groups: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr, betas=(float(torch.rand(())), 0.9))

    before = torch.get_rng_state()
    first, again = (run(mc.NaiveFineTuning(epochs=1, lr=0.1, optimizer=drawing)).history for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before) and first == again


def test_objectives_in_turn_share_one_state() -> None:
    """CBFT takes two steps an iteration: the running means count both."""
    made: list[torch.optim.Optimizer] = []

    def watched(groups: Any, lr: float) -> torch.optim.Optimizer:
        made.append(torch.optim.Adam(groups, lr))
        return made[-1]

    run(mc.CBFT(epochs=2, batch_size=8, lr=0.001, optimizer=watched), model=build(norm_mlp))
    (only,) = made
    assert {float(state["step"]) for state in only.state.values()} == {12.0}  # two of each of six iterations


# ---------------------------------------------------------------- rates and settings


def test_a_rate_that_is_not_given_is_the_optimizers_own() -> None:
    plain = mc.Training()
    assert (plain.lr, replace(plain, optimizer="adamw").lr) == (0.1, 0.001)
    assert replace(replace(plain, optimizer="adamw"), optimizer="sgd").lr == 0.1
    assert replace(replace(plain, optimizer="adamw"), optimizer=torch.optim.NAdam).lr == 0.002
    assert mc.Training(lr=0.1, optimizer="adamw").lr == 0.1  # given, so it stays
    assert replace(mc.Training(lr=0.3), optimizer="adamw").lr == 0.3
    assert mc.LastLayerRetraining(optimizer="adam").lr == 0.001
    assert replace(mc.LastLayerRetraining(optimizer="adam"), optimizer="sgd").lr is None
    assert (mc.Relearning(optimizer="adam").lr, mc.Relearning(lr=(0.1, 1.0), optimizer="adam").lr) == (
        0.001,
        (0.1, 1.0),
    )


def test_settings_name_what_is_not_the_default_and_are_otherwise_those_of_before() -> None:
    assert mc.NaiveFineTuning().settings() == {
        "method": "NaiveFineTuning", "epochs": 20, "batch_size": 256, "lr": 0.01, "momentum": 0.9,
        "weight_decay": 1e-4, "accumulate": 1, "clip_norm": None,
    }  # fmt: skip
    assert mc.NaiveFineTuning(optimizer=mc.AdamW()).settings() == mc.NaiveFineTuning(optimizer="adamw").settings()
    partial = functools.partial(torch.optim.RMSprop, alpha=0.9)
    assert mc.VREx(optimizer=partial).settings()["optimizer"] == {"name": "torch.optim.rmsprop:RMSprop", "alpha": 0.9}
    local = mc.VREx(lr=0.1, optimizer=lambda groups, lr: torch.optim.SGD(groups, lr)).settings()["optimizer"]
    assert local == "a local function, test_settings_name_what_is_not_the_default_and_are_otherwise_those_of_before" \
        ".<locals>.<lambda>"  # fmt: skip
    assert "optimizer" not in mc.Relearning().settings()
    assert mc.Relearning(optimizer="adam", warmup=5).settings()["warmup"] == 5


def own(groups: Any, lr: float = 0.25, momentum: float = 0.5) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr, momentum)


def test_a_table_names_a_function_of_the_users_with_options() -> None:
    method = mc.NaiveFineTuning(optimizer={"name": "torch.optim:RMSprop", "alpha": 0.5})
    assert method == mc.NaiveFineTuning(optimizer=functools.partial(torch.optim.RMSprop, alpha=0.5))
    named = mc.NaiveFineTuning(optimizer=f"{__name__}:own")
    assert named == mc.NaiveFineTuning(optimizer=own) and named.lr == 0.25
    assert mc.NaiveFineTuning(optimizer={"name": "adamw", "betas": [0.9, 0.98]}).optimizer == mc.AdamW((0.9, 0.98))


@pytest.mark.parametrize("side", [1, 3, 4])
@pytest.mark.parametrize("layouts", [(True, False, False), (False, True, True), (False, False, True)])
def test_steps_of_sgd_are_the_plain_ones_whatever_the_layout_and_size(layouts: tuple[bool, ...], side: int) -> None:
    """A momentum keeps the layout of the first gradient: the fused kernel reads both in the order of memory."""
    draw, found = torch.Generator().manual_seed(0), []
    start, gradient = (torch.randn(4, 3, side, side, generator=draw) for _ in range(2))
    for make in (SGD().make, _make_plain_sgd):
        weight = nn.Parameter(start.clone())
        optimiser = make([{"params": [weight], "weight_decay": 0.0}], 0.1, 0.9)
        for last in layouts:
            weight.grad = gradient.clone(memory_format=torch.channels_last if last else torch.contiguous_format)
            optimiser.step()
        found.append(weight.detach())
    assert torch.equal(*found)


def _make_plain_sgd(groups: Any, lr: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, fused=False)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"optimizer": "adamww"},
            "optimizer must be one of 'adam', 'adamw', 'sgd', .* got 'adamww'; did you mean 'ada",
        ),
        ({"optimizer": mc.AdamW}, r"optimizer is the class AdamW, not an instance; write AdamW\(\)"),
        ({"optimizer": 3}, "optimizer must be a name or a table, got 3"),
        ({"optimizer": {"betas": [0.9, 0.99]}}, "optimizer must have a name"),
        ({"optimizer": {"name": "adamw", "beta": 1}}, "'adamw' has no option 'beta'; it has betas, eps"),
        ({"optimizer": "torch.optim:Nope"}, "has no 'Nope'"),
        ({"optimizer": "adamw", "momentum": 0.5}, "momentum is a setting of SGD, got momentum=0.5 with optimizer='ada"),
        ({"warmup": -1}, "warmup must be a number of iterations from 0 on, or a share .* got -1; write 100 or 0.05"),
        ({"warmup": 1.0}, "warmup must be a number of iterations from 0 on, or a share of them below 1, got 1.0"),
        ({"warmup": math.nan}, "warmup must be a number"),
        ({"weight_decay_on": "biases"}, "weight_decay_on must be one of 'all', 'matrices', got 'biases'"),
        ({"clip_norm": 0.0}, "clip_norm must be"),
    ],
)
def test_settings_that_say_nothing_are_refused_in_one_line(settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text) as caught:
        mc.NaiveFineTuning(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("betas", [(0.9, 1.0), (-0.1, 0.9), (0.9,), (0.9, "0.99")])
def test_so_are_options_out_of_range(betas: Any) -> None:
    with pytest.raises(ValueError, match=r"betas must be two numbers from 0 to below 1, got .*; write"):
        mc.AdamW(betas=betas)
    with pytest.raises(ValueError, match="eps must be"):
        mc.Adam(eps=0.0)


def test_a_warm_up_longer_than_the_run_is_refused_before_the_first_step() -> None:
    mc.train(build(mlp), DATA, mc.Training(epochs=2, batch_size=8, warmup=6))
    with pytest.raises(ValueError, match="warmup must be at most the iterations of the run, 6, got 7"):
        mc.train(build(mlp), DATA, mc.Training(epochs=2, batch_size=8, warmup=7))
    with pytest.raises(ValueError, match=r"warmup must be a number of steps, at most the last \(100\), got 101"):
        mc.Relearning(warmup=101)
    with pytest.raises(ValueError, match=r"warmup must be a number of steps, at most the last \(100\), got 0.1"):
        mc.Relearning(warmup=0.1)  # pyright: ignore[reportArgumentType]


def test_a_schedule_of_ones_own_is_warmed_up_too() -> None:
    schedule = ConstantSchedule(lr=0.2, warmup=4)
    assert [schedule.warmed_rate(k, 10, 0) for k in range(5)] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2])
