"""The plane through three models, held against deep copies and closed forms."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from reference import evaluated, loaded
from zoo import build, mlp, norm_mlp, rows, split

Params = dict[str, Tensor]


def corners(factory: Any = mlp) -> list[Params]:
    return [mc.parameters_of(build(factory, seed)) for seed in (1, 2, 3)]


def run(three: list[Params] | None = None, factory: Any = mlp, **settings: Any) -> mc.Plane:
    suite = mc.Suite({"cue": rows(12), "hue": rows(9, 2)})
    return mc.evaluate_plane(build(factory), *(three or corners(factory)), suite=suite, **{"points": 3, **settings})


def flat(params: Params) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in params.values()])


def test_the_grid_is_evaluated_as_deep_copies_are() -> None:
    """The basis by Gram-Schmidt in one long vector; every point of the grid as a module of its own."""
    a, b, c = corners(norm_mlp)
    plane = run([a, b, c], norm_mlp, margin=0.3, norm=mc.KeepNorm())
    u, v = flat(b) - flat(a), flat(c) - flat(a)
    e1 = u / u.norm()
    w = v - (v @ e1) * e1
    e2 = w / w.norm()
    xs, ys = [0.0, float(u.norm()), float(v @ e1)], [0.0, 0.0, float(w.norm())]
    for axis, places in ((plane.x, xs), (plane.y, ys)):
        low, high = min(places), max(places)
        width = high - low
        expected = torch.linspace(low - 0.3 * width, high + 0.3 * width, 3, dtype=torch.float64)
        assert axis == pytest.approx(expected.tolist(), rel=1e-12)
    for j, y in enumerate(plane.y):
        for i, x in enumerate(plane.x):
            vector, point, start = flat(a) + x * e1 + y * e2, {}, 0
            for name, tensor in a.items():
                point[name] = vector[start : start + tensor.numel()].view_as(tensor)
                start += tensor.numel()
            expected = evaluated(loaded(build(norm_mlp), point), split(rows(9, 2), [9]))
            assert (plane.loss["hue"][j][i], plane.accuracy["hue"][j][i]) == pytest.approx(expected, rel=1e-9)
    assert [point.x for point in plane.models.values()] == pytest.approx(xs, rel=1e-12)
    assert [point.y for point in plane.models.values()] == pytest.approx(ys, rel=1e-12)


def test_the_three_models_have_their_own_values() -> None:
    three = corners()
    plane = run(three)
    for point, params in zip(plane.models.values(), three, strict=True):
        here = loaded(build(mlp), params)
        for name, data in {"cue": rows(12), "hue": rows(9, 2)}.items():
            assert (point.loss[name], point.accuracy[name]) == pytest.approx(evaluated(here, [data]), rel=1e-12)
    assert list(plane.models) == ["a", "b", "c"]
    assert plane.samples == {"cue": 12, "hue": 9}
    assert plane.settings["norm"] == {"policy": "keep"}


def test_the_models_are_met_bit_for_bit() -> None:
    three = [{k: v.float() for k, v in params.items()} for params in corners()]
    model, suite = build(mlp, dtype=torch.float32), mc.Suite({"cue": rows(9, dtype=torch.float32)})
    plane = mc.evaluate_plane(model, *three, suite=suite, points=2)
    for point, params in zip(plane.models.values(), three, strict=True):
        direct = mc.evaluate_path(model, mc.LinearPath(params, params), suite, 2)
        assert (point.loss["cue"], point.accuracy["cue"]) == (direct.loss["cue"][0], direct.accuracy["cue"][0])


def test_without_a_margin_the_models_stand_on_the_border() -> None:
    plane = run(margin=0)
    b, c = plane.models["b"], plane.models["c"]
    assert (plane.x[0], plane.x[-1]) == (min(0.0, c.x), max(b.x, c.x))
    assert (plane.y[0], plane.y[-1]) == (0.0, c.y)


def test_metrics_and_progress() -> None:
    told: list[mc.ProgressEvent] = []
    plane = run(points=2, metrics={"first": lambda f, _: f[:, 0]}, progress=told.append)
    assert told == [mc.ProgressEvent("evaluating the plane", done, 7) for done in range(1, 8)]
    with torch.no_grad():
        first = float(loaded(build(mlp), corners()[1])(rows(12)[0])[:, 0].mean())
    assert plane.models["b"].metrics["first"]["cue"] == pytest.approx(first, rel=1e-12)
    assert len(plane.metrics["first"]["cue"]) == len(plane.metrics["first"]["cue"][0]) == 2


def test_what_is_not_finite_is_a_value() -> None:
    plane = run(loss=lambda f, y: torch.full((len(y),), math.nan))
    assert math.isnan(plane.loss["cue"][1][1])


def test_three_points_that_span_no_plane() -> None:
    a, b, _ = corners()
    beyond = {k: a[k] + 2.5 * (b[k] - a[k]) for k in a}
    for three, reason in (
        ([a, a, b], "a and b are the same"),
        ([a, b, a], "a and c are the same"),
        ([a, b, b], "they lie on one line; choose another third model"),
        ([a, b, beyond], "they lie on one line; choose another third model"),
        ([a, b, {k: v * math.nan for k, v in b.items()}], "some parameters hold NaN or infinity"),
    ):
        with pytest.raises(ValueError) as caught:
            run(three)
        assert str(caught.value) == f"the three points do not span a plane: {reason}"


def test_one_line_is_seen_through_the_rounding_of_float32() -> None:
    """The gaps between the points are a thousandth of the weights, so rounding bends the line visibly."""
    a, b, _ = ({k: v.float() for k, v in params.items()} for params in corners())
    near = {k: a[k] + 1e-3 * b[k] for k in a}
    beyond = {k: a[k] + 2e-3 * b[k] for k in a}
    suite = mc.Suite({"cue": rows(4, dtype=torch.float32)})
    with pytest.raises(ValueError, match="they lie on one line"):
        mc.evaluate_plane(build(mlp, dtype=torch.float32), a, near, beyond, suite, 2)


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match=r"^a plane needs a grid of at least 2 x 2 points, got points=1$"):
        run(points=1)
    with pytest.raises(ValueError, match=r"^margin must be zero or more, got -0.1$"):
        run(margin=-0.1)
    three = corners()
    del three[2]["0.bias"]
    with pytest.raises(ValueError, match=r"^a and c do not match: missing 0.bias; unexpected none$"):
        run(three)
    with pytest.raises(ValueError, match=r"^the model keeps normalisation statistics \(1\)"):
        run(factory=norm_mlp)


def test_the_table_holds_every_point(tmp_path: Path) -> None:
    plane = run()
    plane.to_csv(tmp_path / "plane.csv")
    with open(tmp_path / "plane.csv", newline="", encoding="utf-8") as handle:
        table = list(csv.DictReader(handle))
    assert list(table[0]) == ["x", "y", "split", "loss", "accuracy", "samples"]
    assert len(table) == 2 * 9
    row = table[9 + 5]  # hue, second row from below, last column
    place = (float(row["x"]), float(row["y"]), row["split"], float(row["loss"]))
    assert place == (plane.x[2], plane.y[1], "hue", plane.loss["hue"][1][2])


def test_a_plane_of_a_linear_loss_is_flat() -> None:
    """With the loss w.x + b every row and every column of the grid is an even ladder."""
    three = [mc.parameters_of(build(lambda: nn.Linear(4, 1), seed)) for seed in (1, 2, 3)]
    model, suite = build(lambda: nn.Linear(4, 1)), mc.Suite({"cue": rows(5)})
    plane = mc.evaluate_plane(model, *three, suite=suite, points=4, loss=lambda f, _: f[:, 0])
    values = torch.tensor(plane.loss["cue"], dtype=torch.float64)
    assert float(values.diff(n=2, dim=0).abs().max()) < 1e-12
    assert float(values.diff(n=2, dim=1).abs().max()) < 1e-12


def test_statistics_between_two_ends_say_nothing_of_a_plane_or_of_one_block() -> None:
    model, suite = build(norm_mlp), mc.Suite({"cue": rows(6)})
    norm, (a, b, c) = mc.InterpolateNorm(), [build(norm_mlp, seed) for seed in (1, 2, 3)]
    for evaluate in (
        lambda: mc.evaluate_plane(model, a, b, c, suite, 2, norm=norm),
        lambda: mc.evaluate_blocks(model, a, b, suite, norm=norm),
    ):
        with pytest.raises(ValueError, match="the policy needs the two ends of a path, and this point lies on none"):
            evaluate()
    path = mc.LinearPath.between(a, b)
    assert mc.evaluate_path(model, path, suite, 2, norm=norm).settings["norm"]["policy"] == "interpolate"
