"""Routing by confidence: temperatures in closed form, counts by hand, and where confidence does not tell right."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.core import make_generator
from mechconn.stats import bound_paired_difference, clopper_pearson
from zoo import CLASSES, build, mlp, norm_mlp, rows

ROWS = 400


def sure_on(sign: float) -> nn.Module:
    """For (|t|, t): says class 1 where t has the sign, surely, and is at a loss elsewhere, where it says class 0."""
    layer = build(lambda: nn.Linear(2, 2), dtype=torch.float32)
    with torch.no_grad():
        layer.get_parameter("weight").copy_(torch.tensor([[0.0, 0.0], [4.0, 4.0 * sign]]))
        layer.get_parameter("bias").copy_(torch.tensor([1e-3, 0.0]))
    return layer


def two_sides() -> tuple[Tensor, Tensor]:
    """Far to the left and right; nineteen rows in twenty are of class 1."""
    t = torch.linspace(1.0, 2.0, ROWS) * torch.where(torch.arange(ROWS) % 2 == 0, 1.0, -1.0)
    return torch.stack([t.abs(), t], 1), (torch.arange(ROWS) % 20 > 0).long()


@cache
def found() -> mc.Routed:
    models, data = {"right": sure_on(1.0), "left": sure_on(-1.0)}, two_sides()
    groups = {"third": torch.arange(ROWS) % 3}
    return mc.route(models, data, source=(data[0] * 1.01, data[1]), clusters=2, groups=groups, seed=3)


def judged() -> Tensor:
    """The rows that make no cluster; how they are drawn is looked up inside."""
    free = torch.ones(ROWS, dtype=torch.bool)
    free[torch.randperm(ROWS, generator=make_generator(3, "route", ROWS))[: ROWS // 2]] = False
    return free


def test_the_surest_network_answers_and_counts_are_those_by_hand() -> None:
    x, y = two_sides()
    right, left = (model(x).argmax(1) == y for model in (sure_on(1.0), sure_on(-1.0)))
    routed = torch.where(x[:, 1] > 0, right, left)
    assert found().routes["data"] == tuple("right" if t > 0 else "left" for t in x[:, 1].tolist())
    assert {own.chosen for own in found().clusters} == {"right", "left"} and len(found()) == 3
    assert sum(own.rows for own in found().clusters) == ROWS // 2
    together = 1 - 0.05 / 9, 1 - 0.05 / 12  # three groups: three candidates, and two times two pairs
    for number in range(3):
        group, rows_ = found()[f"third={number}"], judged() & (torch.arange(ROWS) % 3 == number)
        assert group.rows == int(rows_.sum())
        for name, own in {"routed": routed, "right": right, "left": left}.items():
            assert group.accuracy[name] == pytest.approx(float(own[rows_].double().mean()))
            assert group.intervals[name] == clopper_pearson(int(own[rows_].sum()), group.rows, together[0])
        bounds = [bound_paired_difference(routed[rows_], own[rows_], together[1]) for own in (right, left)]
        assert group.regrets["routed"].interval == tuple(max(ends) for ends in zip(*bounds, strict=True))
        gaps = [group.accuracy[name] - group.accuracy["routed"] for name in ("right", "left")]
        assert group.regrets["routed"].regret == pytest.approx(max(gaps)) and group.verdict == "keeps up"
        assert group.used["right"] == pytest.approx(float((x[rows_, 1] > 0).double().mean()))
        best = max(group.accuracy[name] for name in ("right", "left"))
        assert group.regrets["left"].regret == pytest.approx(best - group.accuracy["left"])
    regrets = [group.regrets["routed"] for group in found().values()]
    average = found().average["routed"]
    assert average.regret == pytest.approx(sum(own.regret for own in regrets) / 3)
    assert average.interval[1] == pytest.approx(sum(own.interval[1] for own in regrets) / 3)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_temperature_is_the_closed_form_of_outputs_of_any_size(outputs: int, size: float) -> None:
    """A logit of 3 or -3, times `size`, that is right on 80 % of the rows is worth log 4."""
    layer = build(lambda: nn.Linear(1, outputs, bias=False), dtype=torch.float32)
    with torch.no_grad():
        weight = torch.tensor([[3.0]]) if outputs == 1 else torch.tensor([[-1.5], [1.5]])
        layer.get_parameter("weight").copy_(size * weight)
    sign = torch.arange(200) % 2 * 2.0 - 1.0
    label = torch.where(torch.arange(200) % 10 < 8, sign > 0, sign < 0).long()
    loss: Any = mc.losses.binary if outputs == 1 else mc.losses.cross_entropy
    data = sign[:, None], label
    source = sign[:190, None], label[:190]
    made = mc.route({"a": layer, "b": layer}, data, source=source, clusters=2, loss=loss)
    assert made.temperatures["a"] == pytest.approx(3.0 * size / math.log(4.0), rel=1e-5) and not made.notes
    assert all(own.confidence["b"] == pytest.approx(0.8) and own.chosen == "a" for own in made.clusters)


def test_a_network_that_is_never_wrong_has_no_temperature_and_the_notes_say_so() -> None:
    x, y = two_sides()
    model, source = sure_on(1.0), (x[::2][y[::2] == 1], y[::2][y[::2] == 1])
    cold, hot = mc.route({"a": model, "b": sure_on(-1.0)}, (x, y), source=source, clusters=2).notes
    end = "the end of the range searched, since"
    assert cold == (
        f"The temperature of a is 0.01, {end} it is right on all rows of source; give source rows that it was not "
        "trained on."
    )
    assert hot.startswith(f"The temperature of b is 100, {end} its outputs tell nothing of the labels of source; give")
    assert not found().notes


def test_rows_that_judge_should_not_scale() -> None:
    x, y = two_sides()
    models, suite = {"right": sure_on(1.0), "left": sure_on(-1.0)}, mc.Suite({"cue": (x, y), "hue": (x + 1, y)})
    (note,) = mc.route(models, suite, source=(x, y), clusters=2).notes
    assert note.startswith("source holds the rows of cue, some of which are judged") and "other rows as source" in note
    assert not mc.route(models, suite, source=(x * 1.01, y), clusters=2).notes


def test_labels_judge_and_take_no_part() -> None:
    models, (x, y) = {"right": sure_on(1.0), "left": sure_on(-1.0)}, two_sides()
    other = mc.route(models, (x, 1 - y), source=(x * 1.01, y), clusters=2, seed=3)
    assert other.routes == found().routes and other.clusters == found().clusters
    assert other["all rows"].accuracy["routed"] < 0.2


def test_confidence_does_not_see_that_a_random_cue_misleads() -> None:
    """theta_C is as sure under a random cue as under the true one, so that it answers there too, and is wrong."""
    task = mc.datasets.cue_task("planted", rows=1600, test_rows=800)
    start = build(lambda: nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4)), dtype=torch.float32)
    method = mc.Training(epochs=6, lr=0.1, batch_size=50, milestones=())
    known, held = ([rows_ for rows_ in range(1600) if (rows_ % 4 == 3) == last] for last in (False, True))

    def part(data: Any, rows_: list[int]) -> tuple[Tensor, Tensor]:
        index = torch.tensor(rows_)
        return data.inputs(index), data.y[index]

    models = {
        name: mc.train(start, part(data, known), method).model for name, data in (("C", task.train), ("NC", task.clean))
    }
    made = mc.route(models, task.suite, source=part(task.train, held), clusters=8)
    assert made["cue"].used["C"] > 0.8 and made["cue"].verdict == "keeps up"
    assert made["rand_cue"].used["C"] > 0.8 and made["rand_cue"].verdict == "falls behind"
    assert made["rand_cue"].regrets["NC"].interval[1] < 0.05 < made["rand_cue"].regrets["routed"].interval[0]
    assert "falls behind in" in made.headline and "rand_cue" in made.headline
    assert str(made).splitlines()[0] == f"{made.headline} (margin 5 points of regret)"


def test_an_open_verdict_says_how_many_rows_would_settle_it() -> None:
    data = rows(60, 1)
    made = mc.route({"a": build(mlp), "b": build(mlp, 1)}, data, source=data, clusters=4, margin=0.1)["all rows"]
    assert made.verdict == "undetermined" and made.to_settle is not None and made.to_settle > made.rows


@pytest.mark.usefixtures("unchecked")
def test_what_it_refuses() -> None:
    data, suite = rows(24), mc.Suite({"cue": rows(24), "hue": rows(24, 2)})
    two = {"a": build(mlp), "b": build(norm_mlp)}
    shuffled = DataLoader(TensorDataset(*data), batch_size=8, shuffle=True)
    wide = build(lambda: nn.Linear(4, CLASSES + 1))
    broken = build(mlp)
    with torch.no_grad():
        broken.get_parameter("2.bias")[1] = torch.nan
    refused: list[tuple[Any, str]] = [
        (lambda: mc.route({"a": two["a"]}, data, source=data), "needs two or more, got 1; name another in models"),
        (lambda: mc.route(list(two.values()), data, source=data), r"write \{name: model, \.\.\.\}"),  # pyright: ignore
        (lambda: mc.route({**two, "routed": two["a"]}, data, source=data), "'routed' stands for the choice"),
        (lambda: mc.route(two, data, source=data, features="c"), "names none of the models; name one of a, b"),
        (lambda: mc.route(two, suite, source=data, groups=[0] * 24), "the splits of a suite are the groups; leave out"),
        (
            lambda: mc.route(two, shuffled, source=data, groups=[0] * 24),
            "the loader shuffles, so that groups cannot be",
        ),
        (lambda: mc.route(two, data, source=data, clusters=13), "different features that make them, 12, got 13; set"),
        (lambda: mc.route(two, data, source=data, clusters=2, groups=range(24)), "make clusters, and none is left"),
        (lambda: mc.route({**two, "c": wide}, data, source=data), "models must have the same classes, got"),
        (lambda: mc.route(two, data, source=(data[0], data[1] + 1)), "source: labels must lie in 0 ... 2, the model's"),
        (lambda: mc.route({**two, "c": broken}, data, source=data), "source: the outputs of 'c' on row 0 hold NaN or"),
        (
            lambda: mc.route(two, (data[0], data[1].double()), source=data, loss=lambda out, t: out[:, 0]),
            "data: route needs a classification of whole rows",
        ),
    ]
    for call, text in refused:
        with pytest.raises((ValueError, TypeError), match=text):
            call()
    mc.route(two, data, source=data, clusters=12)
    mc.route(two, suite["cue"], source=data, groups=[0, 1] * 12, clusters=2)
