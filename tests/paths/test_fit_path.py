"""Fitted paths: the steps against a fit by hand, closed forms, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.descent import draw_fresh_state
from mechconn.paths._fit_path import draw_t
from reference import SlowPathFit, bernstein, hats, loaded
from zoo import Named, Recurrent, Shared, Tied, build, dropout_mlp, mlp, norm_conv, norm_mlp, rows, split


def bezier(**changes: Any) -> mc.BezierFit:
    return mc.BezierFit(**{"epochs": 2, "batch_size": 8, **changes})


def fitted(model: nn.Module, method: Any, data: Any, factory: Callable[[], nn.Module], **settings: Any) -> Any:
    """From the network of seed 1 to that of seed 2."""
    a, b = (mc.parameters_of(build(factory, seed)) for seed in (1, 2))
    return mc.fit_path(model, a, b, method, data, **settings)


def check_close(found: dict[str, Tensor], expected: nn.Module) -> None:
    """A dozen steps of float64, in another order than torch's."""
    for name, tensor in expected.named_parameters():
        torch.testing.assert_close(found[name], tensor.detach(), rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------- the steps


FAMILIES = {"bezier": (mc.BezierFit, bernstein), "polygonal": (mc.PolygonalFit, hats)}


@pytest.mark.parametrize("factory", [mlp, norm_mlp, Shared, Tied])
@pytest.mark.parametrize("bends", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_fitting_is_sgd_by_hand(family: str, bends: int, factory: Callable[[], nn.Module]) -> None:
    """Also where a polygon's t lies on segments that a control point has no part in: its momentum goes on."""
    kind, weights = FAMILIES[family]
    model, batches = build(factory), split(rows(25), [9, 9, 7])
    method = kind(bends=bends, epochs=4, decay_every=3, momentum=0.8, weight_decay=0.01)
    fit = fitted(model, method, batches, factory, seed=7)
    line = mc.LinearPath(*(mc.parameters_of(build(factory, seed)) for seed in (1, 2)))
    slow = SlowPathFit(
        ts=[draw_t(step, 7) for step in range(12)], rates=[0.1] * 9 + [0.01] * 3, weights=weights(bends),
        momentum=0.8, decay=0.01,
    )  # fmt: skip
    expected = slow.run([loaded(model, line.at(t)) for t in mc.path_grid(bends + 2)], batches)
    assert len(fit.path.points) == bends + 2
    for control, model_there in zip(fit.path.points[1:-1], expected, strict=True):
        check_close(control, model_there)
    assert [record["lr"] for record in fit.history] == pytest.approx([0.1, 0.1, 0.1, 0.01])


def test_the_authors_variant_is_sgd_by_hand() -> None:
    """It starts at a random network, and 2 t (1 - t) is on the rate: momentum adds up unweighted gradients."""
    model, batches = build(norm_mlp), split(rows(25), [9, 9, 7])
    fit = fitted(model, bezier(epochs=4, variant="authors"), batches, norm_mlp, seed=7)
    slow = SlowPathFit([draw_t(step, 7) for step in range(12)], [0.1] * 12, bernstein(1), unweighted=True)
    start = loaded(model, draw_fresh_state(model, 7, "random start", "")[0])
    check_close(fit.path.points[1], slow.run([build(norm_mlp, 1), start, build(norm_mlp, 2)], batches)[0])
    assert fit.settings["variant"] == "authors"
    assert {record["lr"] for record in fit.history} == {0.1}


@pytest.mark.parametrize("bends", [1, 2, 5])
@pytest.mark.parametrize("kind", [mc.BezierFit, mc.PolygonalFit])
def test_a_control_points_gradient_is_its_weight_times_that_at_the_point(kind: Any, bends: int) -> None:
    method = kind(bends=bends)
    a, *controls, b = ({"w": torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(i))}
                       for i in range(bends + 2))  # fmt: skip
    leaves = [control["w"].requires_grad_() for control in controls]
    path = method.curve(a, b, controls)
    for t in (0.0, 0.15, 0.5, 0.83):
        point = method.point(path, t)["w"]
        assert torch.equal(point, path.at(t)["w"]) or torch.allclose(point, path.at(t)["w"], rtol=0, atol=1e-15)
        outside = torch.autograd.grad(point.sin().sum(), [point, *leaves])
        for weight, found in zip(path.coefficients(t)[1:-1], outside[1:], strict=True):
            torch.testing.assert_close(found, weight * outside[0], rtol=1e-14, atol=1e-16)


def test_t_is_uniform_and_a_function_of_the_step_and_the_seed() -> None:
    ts = [draw_t(step, 0) for step in range(5000)]
    # A fixed draw: it passes once and then always.
    assert kstest(ts, "uniform").pvalue > 0.01
    assert ts[17] == draw_t(17, 0) != draw_t(17, 1)


def test_the_sources_schedule_is_the_default() -> None:
    for method in (mc.BezierFit(), mc.PolygonalFit()):
        settings = (method.bends, method.epochs, method.batch_size, method.lr, method.momentum, method.weight_decay)
        assert settings == (1, 15, 128, 0.1, 0.9, 1e-4)
        rates = [method.rate(0, 1, epoch) for epoch in (0, 9, 10, 14, 20)]
        assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


# ---------------------------------------------------------------- closed forms


class Place(nn.Module):
    """A point of the plane, whatever goes in; the losses below are functions of that place."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.place.expand(len(x), 2)


class DrawnPlace(Place):
    """A place that can be drawn anew."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.place)


def valley(outputs: Tensor, targets: Tensor) -> Tensor:
    """Two wells at (-1, 0) and (1, 0) with a ridge of height 1 between them, and a valley y = 1 - x^2 around it."""
    return (outputs[:, 1] - (1 - outputs[:, 0].square())).square()


def highest(path: Any) -> float:
    values = [valley(path.at(t)["place"][None], torch.zeros(1)) for t in mc.path_grid(101)]
    return max(float(value) for value in values)


# Without weight decay, which pulls the control point to zero.
@pytest.mark.parametrize("method", [mc.BezierFit(weight_decay=0.0), mc.BezierFit(weight_decay=0.0, variant="authors")])
def test_a_quadratic_path_goes_around_the_ridge(method: mc.BezierFit) -> None:
    """The curve with control point (0, 2) is the valley itself: x = 2 t - 1, y = 4 t (1 - t)."""
    a, b = ({"place": torch.tensor([x, 0.0], dtype=torch.float64)} for x in (-1.0, 1.0))
    data = [(torch.zeros(2, 1), torch.zeros(2)) for _ in range(100)]
    model = DrawnPlace() if method.variant == "authors" else Place()
    fit = mc.fit_path(model, a, b, method, data, loss=valley)
    torch.testing.assert_close(
        fit.path.points[1]["place"], torch.tensor([0.0, 2.0], dtype=torch.float64), rtol=0, atol=1e-3
    )
    assert highest(mc.LinearPath(a, b)) == 1.0
    assert highest(fit.path) < 1e-5
    assert fit.history[-1]["path"] < 1e-5 < fit.history[0]["path"]


def test_a_polygon_finds_its_way_too() -> None:
    a, b = ({"place": torch.tensor([x, 0.0], dtype=torch.float64)} for x in (-1.0, 1.0))
    data = [(torch.zeros(2, 1), torch.zeros(2)) for _ in range(100)]
    fit = mc.fit_path(Place(), a, b, mc.PolygonalFit(bends=3, lr=0.02, weight_decay=0.0), data, loss=valley)
    assert highest(fit.path) < 0.05 < highest(mc.LinearPath(a, b))


# ---------------------------------------------------------------- any module


def test_frozen_weights_stay_on_the_line() -> None:
    model = build(norm_mlp)
    model.get_submodule("0").requires_grad_(False)
    for method in (bezier(), bezier(variant="authors")):
        path = fitted(model, method, rows(20), norm_mlp).path
        mean = mc.LinearPath(path.points[0], path.points[-1]).at(0.5)
        assert torch.equal(path.points[1]["0.weight"], mean["0.weight"])
        assert not torch.equal(path.points[1]["3.weight"], mean["3.weight"])


def test_layers_and_inputs_of_any_kind() -> None:
    x, y = rows(24)
    ones = torch.ones(24, dtype=torch.float64)
    named = [{"values": x[part], "scale": ones[part], "labels": y[part]} for part in torch.arange(24).split(8)]
    for factory, data in ((Named, named), (Recurrent, (x, y)), (dropout_mlp, (x, y))):
        fit = fitted(build(factory), bezier(epochs=6), data, factory)
        assert fit.history[-1]["path"] < fit.history[0]["path"]


def test_on_data_the_curve_is_lower_than_the_line() -> None:
    data = rows(200)
    ends = [
        mc.train(build(mlp, seed), data, mc.Training(epochs=25, batch_size=20, milestones=())).model for seed in (1, 2)
    ]
    a, b = map(mc.parameters_of, ends)
    fit = mc.fit_path(ends[0], a, b, bezier(epochs=25, decay_every=20, batch_size=20), data)
    suite = mc.Suite({"cue": data})
    line, curve = (mc.evaluate_path(ends[0], path, suite) for path in (mc.LinearPath(a, b), fit.path))
    assert curve.barrier("cue").height < 0.5 * line.barrier("cue").height
    assert (curve.loss["cue"][0], curve.loss["cue"][-1]) == (line.loss["cue"][0], line.loss["cue"][-1])
    assert curve.settings["origin"] == fit.settings


# ---------------------------------------------------------------- what comes out


@pytest.mark.parametrize("method", [bezier(), bezier(variant="authors"), mc.PolygonalFit(epochs=2, bends=2)])
def test_a_seed_decides_everything(method: Any) -> None:
    first, again, other = (
        fitted(build(dropout_mlp), method, rows(40), dropout_mlp, seed=seed).path.points[1] for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_the_result_tells_how_it_came_about() -> None:
    told: list[mc.ProgressEvent] = []
    fit = fitted(
        build(norm_mlp), bezier(bends=2), rows(20), norm_mlp, seed=4, label="with cue",
        progress=told.append,
    )  # fmt: skip
    terms = [{"path": record["path"]} for record in fit.history]
    assert told == [mc.ProgressEvent("fitting the path", n + 1, 2, terms[n]) for n in range(2)]
    assert fit.settings == {
        "method": "BezierFit", "bends": 2, "epochs": 2, "batch_size": 8, "lr": 0.1, "momentum": 0.9,
        "weight_decay": 1e-4, "decay": 0.1, "decay_every": 10, "variant": "default",
        "accumulate": 1, "clip_norm": None,
        "seed": 4, "device": "cpu", "precision": "float64", "samples": 20, "data": "with cue",
    }  # fmt: skip
    assert fit.path.describe() == {"path": "bezier", "bends": 2, "origin": fit.settings}
    assert [set(record) for record in fit.history] == [{"epoch", "lr", "path"}] * 2
    assert fit.seconds > 0


def test_the_ends_are_the_endpoints_and_the_controls_are_plain_tensors() -> None:
    path = fitted(build(norm_conv, dtype=torch.float64), bezier(epochs=1), rows_of_images(), norm_conv).path
    for t, seed in ((0.0, 1), (1.0, 2)):
        expected = mc.parameters_of(build(norm_conv, seed))
        assert all(torch.equal(tensor, expected[name]) for name, tensor in path.at(t).items())
    for tensor in path.points[1].values():
        assert not tensor.requires_grad and tensor.grad is None and tensor.is_contiguous()


def rows_of_images() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(16, 3, 6, 6, generator=draw, dtype=torch.float64)
    return x, torch.arange(16) % 3


def test_a_random_start_is_an_untrained_network() -> None:
    model = build(norm_mlp)
    fresh = draw_fresh_state(model, 3, "random start", "")[0]
    with isolate_rng(0, "any"):
        expected = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    with isolate_rng(3, "random start"):
        for layer in expected:
            getattr(layer, "reset_parameters", lambda: None)()
    assert list(fresh) == [name for name, _ in expected.named_parameters()]
    assert all(torch.equal(tensor, expected.get_parameter(name)) for name, tensor in fresh.items())
    assert not torch.equal(fresh["0.weight"], draw_fresh_state(model, 4, "random start", "")[0]["0.weight"])
