"""Evaluation along a path, held against deep copies and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from reference import activations, evaluated, loaded, pooled_statistics
from zoo import Batch, Shared, Tied, build, images, mlp, norm_conv, norm_mlp, rows, split

# ---------------------------------------------------------------- evaluate_path


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


def parabola() -> tuple[nn.Module, mc.LinearPath, Batch, tuple[float, float, float]]:
    """A linear model, a path, data, and (c0, c1, c2) of the mean squared loss c0 + c1 t + c2 t^2."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=draw, dtype=torch.float64)
    y = torch.randn(50, generator=draw, dtype=torch.float64)
    model = build(lambda: nn.Linear(3, 1))
    a, b = mc.parameters_of(build(lambda: nn.Linear(3, 1), 1)), mc.parameters_of(build(lambda: nn.Linear(3, 1), 2))
    start = x @ a["weight"][0] + a["bias"] - y
    slope = x @ (b["weight"] - a["weight"])[0] + b["bias"] - a["bias"]
    coefficients = (start.square().mean(), 2 * (start * slope).mean(), slope.square().mean())
    return model, mc.LinearPath(a, b), (x, y), tuple(map(float, coefficients))  # pyright: ignore[reportReturnType]


def test_squared_loss_along_a_line_is_a_parabola() -> None:
    model, path, data, (c0, c1, c2) = parabola()
    profile = mc.evaluate_path(model, path, mc.Suite({"cue": data}), ts=21, loss=squared)
    for t, loss in zip(profile.ts, profile.loss["cue"], strict=True):
        assert loss == pytest.approx(c0 + c1 * t + c2 * t * t, rel=1e-12)
    assert profile.barrier("cue").height == 0.0  # convex: never above the chord


def test_the_barrier_of_a_concave_parabola_stands_in_the_middle() -> None:
    """-(c0 + c1 t + c2 t^2) lies c2 t (1 - t) above its chord."""
    model, path, data, (_, _, c2) = parabola()
    profile = mc.evaluate_path(model, path, mc.Suite({"cue": data}), loss=lambda outputs, y: -squared(outputs, y))
    barrier = profile.barrier("cue")
    assert barrier.t == 0.5
    assert barrier.height == pytest.approx(c2 / 4, rel=1e-11)


@pytest.mark.parametrize("factory", [mlp, norm_mlp, Shared, Tied])
def test_a_path_is_evaluated_as_deep_copies_are(factory: Callable[[], nn.Module]) -> None:
    model = build(factory)
    path = mc.LinearPath(mc.parameters_of(build(factory, 1)), mc.parameters_of(build(factory, 2)))
    splits = {"no_cue": split(rows(11, 5), [6, 4, 1]), "cue": split(rows(12, 6), [12])}
    profile = mc.evaluate_path(model, path, mc.Suite(splits), ts=(0.0, 0.2, 0.7, 1.0), norm=mc.KeepNorm())
    assert profile.ts == (0.0, 0.2, 0.7, 1.0)
    assert profile.samples == {"no_cue": 11, "cue": 12}
    for name, batches in splits.items():
        for i, t in enumerate(profile.ts):
            expected = evaluated(loaded(model, path.at(t)), batches)
            assert (profile.loss[name][i], profile.accuracy[name][i]) == pytest.approx(expected, rel=1e-12)


def test_statistics_are_reestimated_at_every_point() -> None:
    model, batches, test = build(norm_conv), split(images(15), [6, 5, 4]), split(images(9, 4), [5, 4])
    path = mc.LinearPath(mc.parameters_of(build(norm_conv, 1)), mc.parameters_of(build(norm_conv, 2)))
    profile = mc.evaluate_path(model, path, mc.Suite({"cue": test}), ts=3, norm=mc.Reestimate(batches))
    for i, t in enumerate(profile.ts):
        here = loaded(model, path.at(t))
        buffers = dict(here.named_buffers())
        for name, calls in activations(here, batches).items():
            mean, variance = pooled_statistics(calls)
            buffers[f"{name}.running_mean"].copy_(mean)
            buffers[f"{name}.running_var"].copy_(variance)
        expected = evaluated(here, test)
        assert (profile.loss["cue"][i], profile.accuracy["cue"][i]) == pytest.approx(expected, rel=1e-10)


def test_the_loss_is_a_mean_over_samples_whatever_the_batches() -> None:
    data = rows(13)
    path = mc.LinearPath(mc.parameters_of(build(mlp, 1)), mc.parameters_of(build(mlp, 2)))
    whole, parts = (
        mc.evaluate_path(build(mlp), path, mc.Suite({"cue": part}), ts=3) for part in (data, split(data, [9, 3, 1]))
    )
    assert parts.loss["cue"] == pytest.approx(whole.loss["cue"], rel=1e-13)
    assert parts.accuracy == whole.accuracy


def test_a_float32_model_is_evaluated_in_its_own_type() -> None:
    a, b = (build(mlp, seed, torch.float32) for seed in (1, 2))
    data = rows(10, dtype=torch.float32)
    profile = mc.evaluate_path(a, mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b)), mc.Suite({"cue": data}), 2)
    # float32 logits of order 1 carry errors of a few 1e-7.
    assert profile.loss["cue"] == pytest.approx([evaluated(model, [data])[0] for model in (a, b)], rel=1e-5)


def test_progress_and_settings_tell_the_whole_story() -> None:
    told: list[mc.ProgressEvent] = []
    path = mc.LinearPath(mc.parameters_of(build(mlp, 1)), mc.parameters_of(build(mlp, 2)))
    profile = mc.evaluate_path(build(mlp), path, mc.Suite({"cue": rows(4)}), ts=3, seed=7, progress=told.append)
    assert told == [mc.ProgressEvent("evaluating the path", done, 3) for done in (1, 2, 3)]
    expected = {"path": "linear", "norm": {"policy": "keep"}, "device": "cpu", "precision": "float64", "seed": 7}
    expected["batch_size"] = None
    assert {name: profile.settings[name] for name in expected} == expected


# ---------------------------------------------------------------- evaluate_path: errors


def run(model: nn.Module | None = None, data: Any = None, **changes: Any) -> mc.Profile:
    model = build(mlp) if model is None else model
    params = mc.parameters_of(model)
    path = changes.pop("path", mc.LinearPath(params, params))
    return mc.evaluate_path(model, path, mc.Suite({"cue": rows(4) if data is None else data}), **changes)


@pytest.mark.parametrize("ts", [[], [0.0], [0.0, 0.5], [0.5, 1.0], [0.0, 0.7, 0.3, 1.0], [0.0, 0.5, 0.5, 1.0]], ids=str)
def test_a_bad_grid(ts: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^ts must increase from 0 to 1, both included, got \[.*path_grid\(11\)"):
        run(ts=ts)


def test_a_grid_beyond_the_path() -> None:
    with pytest.raises(ValueError, match=r"^t must lie in \[0, 1\], got 1.2$"):
        run(ts=[0.0, 1.2])


def test_a_path_of_another_architecture() -> None:
    params = mc.parameters_of(build(norm_mlp))
    with pytest.raises(ValueError) as caught:
        run(path=mc.LinearPath(params, params))
    assert str(caught.value) == (
        "the path's parameters do not match: missing 2.weight, 2.bias; unexpected 1.weight, 1.bias, 3.weight, 3.bias"
    )


def test_statistics_must_come_from_somewhere() -> None:
    with pytest.raises(ValueError) as caught:
        run(build(norm_conv), images(4))
    assert str(caught.value) == (
        "the model keeps normalisation statistics (1, 4), and those of one endpoint are wrong elsewhere on the path; "
        "pass norm=Reestimate(training batches), or norm=KeepNorm() to use the model's own on purpose"
    )


def test_many_layers_with_statistics_are_counted() -> None:
    model = nn.Sequential(*(nn.BatchNorm1d(4) for _ in range(5)))
    with pytest.raises(ValueError, match=r"statistics \(0, 1, 2 and 2 more\), and"):
        run(model)


def test_instance_norm_with_statistics_needs_them_kept() -> None:
    model = build(lambda: nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.Flatten()))
    with pytest.raises(ValueError, match=r"the model keeps normalisation statistics \(0\)"):
        run(model, images(4))
    with pytest.raises(ValueError, match=r"^cannot re-estimate the running statistics of 0: only BatchNorm"):
        run(model, images(4), norm=mc.Reestimate(images(4)))
    assert run(model, images(4), norm=mc.KeepNorm()).samples == {"cue": 4}


def test_nan_in_the_data_is_named_by_split_and_row() -> None:
    x, y = rows(9)
    x[6, 2] = float("nan")
    for data in ((x, y), split((x, y), [4, 4, 1])):
        with pytest.raises(ValueError, match=r"^split 'cue': row 6 holds NaN or infinity; remove or repair it"):
            run(data=data)


def test_the_loss_must_be_one_value_per_sample() -> None:
    with pytest.raises(ValueError, match=r"^the loss must give one value per sample, shape \[4\], got \[\]; use reduc"):
        run(loss=lambda outputs, y: torch.nn.functional.cross_entropy(outputs, y))
