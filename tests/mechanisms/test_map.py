"""A map of several models, and their mean."""

from __future__ import annotations

import json
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import mechconn as mc
from mechconn.mechanisms._map_tree import make_tree
from zoo import FEATURES, build, mlp, norm_mlp, rows

HUE = rows(30, 3)[0], rows(30, 1)[1]
SUITE = mc.Suite({"cue": rows(30, 1), "no_cue": rows(30, 2), "hue": HUE, "tint": rows(20, 4)})
MODELS = {name: build(mlp, seed) for seed, name in enumerate("abcd")}


def test_every_pair_has_its_barrier_and_its_distance() -> None:
    found = mc.mechanism_map(MODELS, SUITE, ts=5)
    measured = {name: mc.measure_invariance(model, SUITE) for name, model in MODELS.items()}
    assert (found.names, found.invariance, found.aligned) == (tuple("abcd"), measured, False)
    for i, j in combinations(range(4), 2):
        a, b = (MODELS["abcd"[place]] for place in (i, j))
        path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
        barrier = mc.evaluate_path(a, path, SUITE, ts=5).barrier("cue").height
        assert found.barrier[i][j] == found.barrier[j][i] == barrier
        apart = [abs(measured["abcd"[i]][name].effect - measured["abcd"[j]][name].effect) for name in ("hue", "tint")]
        assert found.distance[i][j] == found.distance[j][i] == max(apart)
    assert [found.barrier[i][i] for i in range(4)] == [found.distance[i][i] for i in range(4)] == [0.0] * 4


def average_linkage(names: str, matrix: np.ndarray) -> list[tuple[set[str], float]]:
    """Again and again the two groups that are closest on average become one."""
    groups, steps = [{name} for name in names], []

    def apart(a: set[str], b: set[str]) -> float:
        return float(np.mean([matrix[names.index(x), names.index(y)] for x in a for y in b]))

    while len(groups) > 1:
        a, b = min(combinations(groups, 2), key=lambda pair: apart(*pair))
        steps.append((a | b, apart(a, b)))
        groups = [group for group in groups if group not in (a, b)] + [a | b]
    return steps


@pytest.mark.parametrize("seed", range(5))
def test_the_tree_is_that_of_the_slow_definition(seed: int) -> None:
    names = "abcdef"
    half = np.random.default_rng(seed).random((6, 6))
    matrix = (half + half.T) * (1 - np.eye(6))
    tree = make_tree(tuple(names), matrix)
    expected = average_linkage(names, matrix)
    assert [set(merge.left) | set(merge.right) for merge in tree.merges] == [group for group, _ in expected]
    assert [merge.height for merge in tree.merges] == pytest.approx([height for _, height in expected])
    for merge in tree.merges:  # groups are neighbours in the order of the leaves
        places = sorted(tree.order.index(name) for name in merge.left + merge.right)
        assert places == list(range(places[0], places[0] + len(places)))


def swapped(model: nn.Module, order: list[int]) -> nn.Module:
    """The same function with its hidden units in another order."""
    params = mc.parameters_of(model)
    first, second = params["0.weight"][order], params["2.weight"][:, order]
    return mc.with_parameters(
        model, {**params, "0.weight": first, "0.bias": params["0.bias"][order], "2.weight": second}
    )


def best_order(a: nn.Module, b: nn.Module) -> nn.Module:
    """B with its hidden units in the order that is nearest to A, by trying all."""
    target = mc.parameters_of(a)["0.weight"]

    def gap(order: Any) -> float:
        return float((mc.parameters_of(b)["0.weight"][list(order)] - target).norm())

    return swapped(b, list(min(permutations(range(5)), key=gap)))


def test_an_aligner_removes_the_barrier_between_two_orders_of_one_network() -> None:
    sharp = {name: 5 * tensor for name, tensor in mc.parameters_of(MODELS["a"]).items()}
    model = mc.with_parameters(MODELS["a"], sharp)
    own = {name: (x, model(x).argmax(1)) for name, (x, _) in (("cue", rows(30, 1)), ("hue", HUE))}  # it is always right
    suite = mc.Suite(own)
    pair = {"one": model, "other": swapped(model, [3, 0, 4, 1, 2])}
    plain = mc.mechanism_map(pair, suite, ts=5)
    aligned = mc.mechanism_map(pair, suite, ts=5, align=best_order)
    assert plain.barrier[0][1] > 0.1
    assert aligned.barrier[0][1] == pytest.approx(0.0, abs=1e-12)
    assert (aligned.aligned, plain.distance, aligned.distance) == (True, ((0.0, 0.0), (0.0, 0.0)), plain.distance)


@pytest.mark.parametrize("on", ["barrier", "distance"])
def test_the_picture_shows_the_matrix_in_the_order_of_the_tree(on: Any) -> None:
    found = mc.mechanism_map(MODELS, SUITE, ts=3)
    figure = found.plot(on)
    assert isinstance(figure, Figure)
    tree, picture = figure.axes[:2]
    order, matrix = found.trees[on].order, np.array(getattr(found, on))
    assert [label.get_text() for label in picture.get_yticklabels()] == list(order)
    places = ["abcd".index(name) for name in order]
    assert np.array_equal(np.asarray(picture.images[0].get_array()), matrix[np.ix_(places, places)])
    heights = sorted(float(np.asarray(line.get_ydata()).max()) for line in tree.lines)
    assert heights == pytest.approx(sorted(merge.height for merge in found.trees[on].merges))


def test_the_record_is_strict_json_and_progress_is_told() -> None:
    told: list[mc.ProgressEvent] = []
    found = mc.mechanism_map(MODELS, SUITE, ts=3, progress=told.append)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["distance"] == [list(row) for row in found.distance]
    assert record["trees"]["barrier"]["order"] == list(found.trees["barrier"].order)
    assert record["norm"] == {"policy": "keep"}
    assert told == [mc.ProgressEvent("mapping the models", n + 1, 10) for n in range(10)]


def exploding() -> nn.Module:
    model = build(mlp)
    return mc.with_parameters(model, {name: tensor * 1e308 for name, tensor in mc.parameters_of(model).items()})


WRONG: dict[str, tuple[Any, Any, str]] = {
    "one model": ({"a": MODELS["a"]}, SUITE, "a map needs two models or more, got 1"),
    "no interventions": (MODELS, mc.Suite({"cue": rows(4)}), "a map of mechanisms needs interventions, but the suite"),
    "other architectures": (
        {"a": MODELS["a"], "b": build(norm_mlp)},
        SUITE,
        "model 'a' and model 'b' are not one module with different parameters and statistics: 2.weight: only in model ",
    ),
    "no statistics": (
        {"a": build(norm_mlp), "b": build(norm_mlp, 1)},
        SUITE,
        "the model keeps normalisation statistics (1), and those of one endpoint",
    ),
    "no barrier": ({"a": MODELS["a"], "z": exploding()}, SUITE, "models 'a' and 'z': the loss on 'cue' is "),
}


@pytest.mark.parametrize("case", WRONG)
def test_models_that_cannot_be_mapped(case: str) -> None:
    models, suite, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        mc.mechanism_map(models, suite, ts=3)
    assert str(caught.value).startswith(text)


# ---------------------------------------------------------------- soups


def stacked(models: list[nn.Module], name: str) -> Tensor:
    return torch.stack([mc.parameters_of(model)[name] for model in models])


def test_a_soup_is_the_mean_of_the_parameters() -> None:
    models = [build(mlp, seed) for seed in range(3)]
    plain, weighted = mc.soup(models), mc.soup(models, weights=[1, 0, 3])
    for name, tensor in mc.parameters_of(plain).items():
        assert torch.allclose(tensor, stacked(models, name).mean(0), rtol=1e-12)
        shares = torch.tensor([0.25, 0.0, 0.75], dtype=torch.float64).view(3, *[1] * tensor.dim())
        expected = (shares * stacked(models, name)).sum(0)
        assert torch.allclose(mc.parameters_of(weighted)[name], expected, rtol=1e-12)
    assert not plain.training


def test_a_soup_of_two_is_the_middle_of_their_path_with_its_statistics() -> None:
    a, b, data = build(norm_mlp, 0), build(norm_mlp, 1), rows(40)
    norm = mc.Reestimate(data)
    middle = mc.model_at(a, mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b)), 0.5, norm=norm)
    mixed = mc.soup([a, b], norm=norm).state_dict()
    for name, tensor in middle.state_dict().items():
        assert torch.allclose(mixed[name], tensor, rtol=1e-12), name
    assert mc.measure_invariance(mc.soup([a, b], norm=norm), SUITE).runs == 1


SOUPS: dict[str, tuple[Any, Any, str]] = {
    "one model": ([MODELS["a"]], None, "a soup needs two models or more, got 1"),
    "too few weights": (list(MODELS.values()), [1.0], "weights must be one for each of the 4 models and not all zero"),
    "no weight": ([MODELS["a"], MODELS["b"]], [0, 0], "weights must be one for each of the 2 models and not all zero"),
    "a negative weight": ([MODELS["a"], MODELS["b"]], [2, -1], "weights must be zero or more, got -1"),
    "other architectures": (
        [MODELS["a"], build(lambda: nn.Linear(FEATURES, 3))],
        None,
        "models[0] and models[1] are not one module with different parameters and statistics: 0.weight: only in ",
    ),
}


@pytest.mark.parametrize("case", SOUPS)
def test_models_that_have_no_mean(case: str) -> None:
    models, weights, text = SOUPS[case]
    with pytest.raises(ValueError) as caught:
        mc.soup(models, weights)
    assert str(caught.value).startswith(text)
