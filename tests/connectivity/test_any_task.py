"""Any task, any form of batch, any metric; samples kept; what is not finite; one point in memory at a time."""

from __future__ import annotations

import gc
import math
import weakref
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.paths import Path
from reference import evaluated, loaded
from zoo import CLASSES, FEATURES, Named, TwoInputs, build, mlp, norm_mlp, rows, split


def line(factory: Callable[[], nn.Module]) -> mc.LinearPath:
    return mc.LinearPath(mc.parameters_of(build(factory, 1)), mc.parameters_of(build(factory, 2)))


def run(data: Any, factory: Callable[[], nn.Module] = mlp, **settings: Any) -> mc.Profile:
    return mc.evaluate_path(build(factory), line(factory), mc.Suite({"cue": data}), ts=3, **settings)


# ---------------------------------------------------------------- forms of batches


class Encoding(UserDict):
    """A mapping that is no dict, as tokenizers give."""


def test_mappings_in_and_logits_out() -> None:
    x, y = rows(9)
    ones = torch.ones(9, dtype=x.dtype)
    expected = [
        evaluated(loaded(build(Named), line(Named).at(t)).get_submodule("body"), [(x, y)]) for t in (0.0, 0.5, 1.0)
    ]
    for kind in (dict, Encoding):
        whole = [kind({"values": x[a:b], "scale": ones[a:b], "labels": y[a:b]}) for a, b in ((0, 5), (5, 9))]
        profile = run(whole, Named)
        assert profile.loss["cue"] == pytest.approx([loss for loss, _ in expected], rel=1e-12)
        assert profile.accuracy["cue"] == pytest.approx([accuracy for _, accuracy in expected], rel=1e-12)


def test_tuples_of_several_inputs() -> None:
    x, y = rows(9)
    whole = run([(x[:5], -x[:5] / 2, y[:5]), (x[5:], -x[5:] / 2, y[5:])], TwoInputs)
    body = loaded(build(TwoInputs), line(TwoInputs).at(0.5)).get_submodule("body")
    assert (whole.loss["cue"][1], whole.accuracy["cue"][1]) == pytest.approx(evaluated(body, [(x / 2, y)]), rel=1e-12)


# ---------------------------------------------------------------- tasks and metrics


def test_regression_has_no_accuracy() -> None:
    x, _ = rows(8)
    y = torch.sin(x)[:, :CLASSES]
    profile = run((x, y), loss=lambda f, target: (f - target).square().sum(1))
    middle = loaded(build(mlp), line(mlp).at(0.5)).requires_grad_(False)
    assert profile.loss["cue"][1] == pytest.approx(float((middle(x) - y).square().sum(1).mean()), rel=1e-12)
    assert profile.accuracy == {}
    with pytest.raises(ValueError) as caught:
        profile.barrier("cue", on="accuracy")
    assert str(caught.value) == (
        "split 'cue' has no accuracy: its task is no classification (whole-number targets [N], outputs [N, K]); "
        "ask with on='loss' or name a metric of your own"
    )
    assert "accuracy" not in str(profile)


def test_several_labels_a_sample() -> None:
    x, _ = rows(8)
    y = (x[:, :CLASSES] > 0).double()

    def exact(f: Tensor, target: Tensor) -> Tensor:
        return ((f > 0) == target.bool()).all(1)

    profile = run(
        (x, y),
        loss=lambda f, target: binary_cross_entropy_with_logits(f, target, reduction="none").sum(1),
        metrics={"exact match": exact, "margin": lambda f, target: f.abs().amin(1)},
    )
    outputs = loaded(build(mlp), line(mlp).at(1.0)).requires_grad_(False)(x)
    assert profile.metrics["exact match"]["cue"][2] == pytest.approx(float(exact(outputs, y).double().mean()))
    assert profile.metrics["margin"]["cue"][2] == pytest.approx(float(outputs.abs().amin(1).mean()), rel=1e-12)
    assert profile.accuracy == {}
    values = profile.metrics["margin"]["cue"]
    assert profile.barrier("cue", on="margin").height == pytest.approx(max(0, values[1] - (values[0] + values[2]) / 2))


def test_counts_predicted_by_one_output_are_no_classes() -> None:
    x, y = rows(8)
    model = build(lambda: nn.Linear(FEATURES, 1))
    ends = mc.LinearPath(mc.parameters_of(model), mc.parameters_of(model))
    profile = mc.evaluate_path(model, ends, mc.Suite({"cue": (x, y)}), 2, loss=lambda f, n: (f[:, 0] - n).square())
    assert profile.accuracy == {}


def test_metrics_that_cannot_be() -> None:
    with pytest.raises(
        ValueError, match=r"^metrics: 'loss' is the name of a column already; give the metric another name$"
    ):
        run(rows(4), metrics={"loss": lambda f, y: f[:, 0]})
    with pytest.raises(ValueError, match=r"^metric 'mean' must give one value per sample, shape \[4\], got \[\]; use"):
        run(rows(4), metrics={"mean": lambda f, y: f.mean()})


# ---------------------------------------------------------------- samples kept


def test_samples_are_kept_row_by_row() -> None:
    x, y = rows(7)
    profile = run(split((x, y), [4, 3]), keep_samples=True, metrics={"first": lambda f, _: f[:, 0]})
    for i, t in enumerate(profile.ts):
        here = loaded(build(mlp), line(mlp).at(t)).requires_grad_(False)
        for row in range(7):
            loss, accuracy = evaluated(here, [(x[row : row + 1], y[row : row + 1])])
            assert float(profile.per_sample["loss"]["cue"][i, row]) == pytest.approx(loss, rel=1e-12)
            assert bool(profile.per_sample["accuracy"]["cue"][i, row]) == bool(accuracy)
            first = float(here(x[row : row + 1])[0, 0])
            assert float(profile.per_sample["first"]["cue"][i, row]) == pytest.approx(first, rel=1e-12)
    for on in ("loss", "accuracy", "first"):
        interval = profile.barrier("cue", on).interval
        assert interval is not None and interval[0] <= profile.barrier("cue", on).height <= interval[1]
    assert run((x, y)).per_sample == {}


class Restless:
    """Batches in an order of its own at each pass."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches, self.passes = list(batches), 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return iter(self.batches[self.passes :] + self.batches[: self.passes])


def test_samples_in_pairs_need_one_order() -> None:
    source = TensorDataset(*rows(32))
    plain = run(DataLoader(source, 8, shuffle=True), keep_samples=True)  # the seed decides: one order at every t
    assert plain.samples == {"cue": 32}
    own = DataLoader(source, 8, shuffle=True, generator=torch.Generator().manual_seed(0))
    assert run(own, keep_samples=True).samples == {"cue": 32}  # it is put back after each pass
    with pytest.raises(ValueError) as caught:
        run(Restless(own), keep_samples=True)
    assert str(caught.value) == (
        "the rows of split 'cue' came in another order at t = 1 than before; samples are kept in pairs, so they must "
        "come in one order: turn shuffling off"
    )
    assert run(Restless(own)).samples == {"cue": 32}


# ---------------------------------------------------------------- NaN and infinity


class Broken(Path):
    """A line whose middle is NaN."""

    def at(self, t: float) -> dict[str, Tensor]:
        here = line(mlp).at(t)
        return {name: tensor * (math.nan if t == 0.5 else 1.0) for name, tensor in here.items()}

    def describe(self) -> dict[str, object]:
        return {"path": "broken"}


def test_what_is_not_finite_is_a_value_with_its_place() -> None:
    suite = mc.Suite({"cue": rows(6), "hue": rows(5, 3)})
    profile = mc.evaluate_path(build(mlp), Broken(), suite, 3, keep_samples=True)
    assert math.isfinite(profile.loss["cue"][0]) and math.isnan(profile.loss["cue"][1])
    assert math.isnan(profile.accuracy["hue"][1])  # no prediction, not a wrong one
    places = [("cue", "accuracy", 0.5), ("hue", "accuracy", 0.5), ("cue", "loss", 0.5), ("hue", "loss", 0.5)]
    assert [bad[:3] for bad in profile.not_finite] == places
    for ask in (profile.barrier, profile.connection, profile.endpoint_minus_minimum):
        with pytest.raises(
            ValueError, match=r"^the loss on 'hue' is nan at t = 0.5, so the path has no barrier there$"
        ):
            ask("hue")
    with pytest.raises(ValueError, match=r"^the accuracy on 'cue' is nan at t = 0.5, so"):
        profile.barrier("cue", on="accuracy")
    with pytest.raises(ValueError, match=r"^the loss on 'cue' is nan at t = 0.5"):
        profile.mechanistically_connected(1.0)
    told = str(profile)
    assert "not finite: loss on 'hue' is nan at t = 0.5" in told
    assert "no barrier: the loss is not finite on the path" in told


def test_infinity_is_named_as_infinity() -> None:
    profile = run(rows(4), loss=lambda f, y: torch.full((4,), math.inf))
    assert profile.not_finite[0] == ("cue", "loss", 0.0, math.inf)


def test_the_summary_of_a_sound_profile() -> None:
    told = str(run(rows(40), keep_samples=True)).splitlines()
    assert told[0] == "linear path, 3 points in float64; barrier in loss, by split"
    assert told[1].startswith("  cue    ") and told[1].endswith("; 40 samples")
    assert "95 % interval" in told[1] and "accuracy" in told[1]
    assert len(told) == 2


# ---------------------------------------------------------------- memory


class Watched(Path):
    """Counts how many of the points that it made are still held when the next one is asked for."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.points: list[weakref.ref[Tensor]] = []
        self.held: list[int] = []

    def at(self, t: float) -> dict[str, Tensor]:
        self.held.append(sum(point() is not None for point in self.points))
        made = {name: tensor.to(self.dtype) for name, tensor in line(norm_mlp).at(t).items()}
        self.points.append(weakref.ref(made["0.weight"]))
        return made

    def describe(self) -> dict[str, object]:
        return {"path": "watched"}


@pytest.mark.parametrize(("precision", "dtype"), [("model", torch.float64), ("auto", torch.float32)])
def test_no_point_outlives_its_evaluation(precision: Any, dtype: torch.dtype) -> None:
    path, data = Watched(dtype), rows(12, dtype=dtype)
    suite, model = mc.Suite({"cue": data, "hue": data}), build(norm_mlp, dtype=dtype)
    gc.disable()  # freed at once, not by a collection that comes some time
    try:
        mc.evaluate_path(
            model, path, suite, 5, norm=mc.Reestimate(data), compute=mc.Compute(precision=precision), keep_samples=True
        )
    finally:
        gc.enable()
    assert path.held == [0] * 5
