"""Every two models of a map, judged together: intervals of distances, verdicts, groups, basins, a plane."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn

import mechconn as mc
from mechconn.mechanisms._map_pairs import (
    SHARPEST,
    bound_count_difference_quickly,
    choose_confidence,
    choose_paths,
)
from mechconn.mechanisms._map_tree import cut_tree, embed_distances, find_components, find_shortest_tree, make_tree
from mechconn.stats import bound_count_difference
from zoo import build, mlp, rows

SUITE = mc.Suite({"cue": rows(90, 1), "no_cue": rows(30, 2), "hue": rows(90, 1), "tint": rows(70, 4)})
MODELS = {name: build(mlp, seed) for seed, name in enumerate("abcd")}


def answers(n: int, right: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of which so many, the first, have their label as the larger of two inputs."""
    y = torch.arange(n) % 2
    shown = torch.where(torch.arange(n) < right, y, 1 - y)
    return torch.eye(2)[shown], y


def constant(label: int) -> nn.Module:
    return affine(torch.zeros(2, 2), torch.eye(2)[label])


def affine(weight: torch.Tensor, bias: torch.Tensor) -> nn.Module:
    model = build(lambda: nn.Linear(weight.shape[1], len(weight)), dtype=torch.float32)
    return mc.with_parameters(model, {"weight": weight, "bias": bias})


# ---------------------------------------------------------------- intervals and verdicts


def test_intervals_are_those_of_the_differences_at_the_joint_level() -> None:
    """The distance lies in [max low, max high] of |difference| on each intervention, at 1 - 0.05 / (pairs x those)."""
    found = mc.mechanism_map(MODELS, SUITE, barriers="none", margin=0.3)
    correct = {
        name: {split: own.correct for split, own in mc.Evaluator(model, SUITE).outcomes().items()}
        for name, model in MODELS.items()
    }
    each = 1 - 0.05 / (6 * 2)
    assert len(found.pairs) == 6 and choose_confidence(12) == each
    for pair in found.pairs:
        a, b = correct[pair.a], correct[pair.b]
        gap = {split: b[split].double() - a[split].double() for split in SUITE}
        # "hue" has the labels of "cue" row by row: differences within rows, in {-2, ..., 2}.
        moved, half = gap["hue"] - gap["cue"], (1 + each) / 2
        inner = moved.clamp(-1, 1)
        parts = [
            bound_count_difference(int((part > 0).sum()), int((part < 0).sum()), 90, half)
            for part in (inner, moved - inner)
        ]
        hue = parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]
        two = [
            bound_count_difference(int((gap[split] > 0).sum()), int((gap[split] < 0).sum()), len(gap[split]), half)
            for split in ("cue", "tint")
        ]
        tint = two[1][0] - two[0][1], two[1][1] - two[0][0]
        bounds = [(max(low, -high, 0.0), max(high, -low)) for low, high in (hue, tint)]
        assert pair.distance_interval == (max(low for low, _ in bounds), max(high for _, high in bounds))
        low, high = pair.distance_interval
        assert pair.verdict == ("differ" if low > 0.3 else "agree" if high <= 0.3 else "undetermined")
        assert low <= pair.distance <= high


def test_planted_verdicts() -> None:
    """Two readers of the input and two networks that always give one answer."""
    n = 4000
    suite = mc.Suite({"cue": answers(n, n), "rand_cue": answers(n, n // 2)})
    models = {"r1": affine(torch.eye(2), torch.zeros(2)), "c0": constant(0)}
    models |= {"r2": affine(2 * torch.eye(2), torch.zeros(2)), "c1": constant(1)}
    found = mc.mechanism_map(models, suite, ts=3)
    verdicts = {(pair.a, pair.b): pair.verdict for pair in found.pairs}
    assert {pair for pair, verdict in verdicts.items() if verdict == "agree"} == {("r1", "r2"), ("c0", "c1")}
    assert {verdict for pair, verdict in verdicts.items() if pair[0][0] != pair[1][0]} == {"differ"}
    assert {frozenset(group) for group in found.groups} == {frozenset({"r1", "r2"}), frozenset({"c0", "c1"})}
    assert all(pair.farthest == "rand_cue" for pair in found.pairs)


@pytest.mark.parametrize("n", [6, 15])
def test_the_quick_bound_errs_as_seldom_as_it_says(n: int) -> None:
    """By all outcomes of n rows: gains and losses are trinomial."""
    alpha = 0.1
    for gain, loss in ((0.1, 0.1), (0.5, 0.2), (0.0, 0.4), (0.7, 0.3), (0.05, 0.0)):
        wrong = 0.0
        for changed in range(n + 1):
            for gained in range(changed + 1):
                share = gain / (gain + loss)
                chance = binom.pmf(changed, n, gain + loss) * binom.pmf(gained, changed, share)
                low, high = bound_count_difference_quickly(gained, changed - gained, n, 1 - alpha)
                wrong += chance * (not low <= gain - loss + 1e-12 or not gain - loss - 1e-12 <= high)
        assert wrong <= alpha


def test_the_quick_bound_is_as_much_wider_as_is_said() -> None:
    wider = []
    for gained, lost, n in (
        (3, 9, 400),
        (60, 10, 600),
        (200, 210, 5000),
        (0, 0, 500),
        (10, 10, 1000),
        (500, 500, 1000),
    ):
        sharp, quick = (
            bound(gained, lost, n, 0.9999) for bound in (bound_count_difference, bound_count_difference_quickly)
        )
        assert quick[0] <= sharp[0] + 1e-7 and sharp[1] <= quick[1] + 1e-7
        wider.append((quick[1] - quick[0]) / (sharp[1] - sharp[0]))
    assert 1.0 < min(wider) < 1.1 and 1.4 < max(wider) <= 1.6


def test_beyond_so_many_differences_the_quick_bound_is_used() -> None:
    many = {f"m{number:02d}": build(mlp, number) for number in range(24)}
    found = mc.mechanism_map(many, SUITE, barriers="none")
    assert 2 * len(found.pairs) > SHARPEST
    pair = found.pairs[0]
    assert pair.distance_interval[0] <= pair.distance <= pair.distance_interval[1]
    few = mc.mechanism_map({"m00": many["m00"], "m01": many["m01"]}, SUITE, barriers="none").pairs[0]
    assert pair.distance == few.distance
    assert (
        pair.distance_interval[0] <= few.distance_interval[0] <= few.distance_interval[1] <= pair.distance_interval[1]
    )


@pytest.mark.parametrize("on", ["loss", "brier"])
def test_other_measures_have_joint_intervals_too(on: str) -> None:
    def brier(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (outputs.softmax(1) - torch.nn.functional.one_hot(y, outputs.shape[1])).square().sum(1)

    metrics = {"brier": mc.Metric(brier, (0.0, 2.0))}
    found = mc.mechanism_map(MODELS, SUITE, 0.2, on, barriers="none", metrics=metrics)
    alone = mc.compare_mechanisms(MODELS["a"], MODELS["b"], SUITE, 0.2, on, metrics=metrics).differences
    low, high = found.pairs[0].distance_interval
    intervals = [alone[name].interval for name in ("hue", "tint")]
    assert (
        low
        <= max(max(one, -two, 0.0) for one, two in intervals)
        <= max(max(-one, two) for one, two in intervals)
        <= high
    )


def test_rows_may_come_in_clusters() -> None:
    suite = mc.Suite({"cue": rows(120, 1), "hue": rows(120, 1)})
    loose = mc.mechanism_map(MODELS, suite, barriers="none")
    tight = mc.mechanism_map(MODELS, suite, barriers="none", cluster=torch.arange(120) // 4)
    assert tight.invariance["a"].over == "clusters" and tight.distance == loose.distance
    for one, other in zip(tight.pairs, loose.pairs, strict=True):
        assert one.distance_interval[1] > other.distance_interval[1]


# ---------------------------------------------------------------- which paths, and basins


def test_a_tree_of_paths_and_pairs_that_are_named() -> None:
    whole = mc.mechanism_map(MODELS, SUITE, ts=3)
    tree = mc.mechanism_map(MODELS, SUITE, ts=3, barriers="tree")
    walked = [(pair.a, pair.b) for pair in tree.pairs if pair.path is not None]
    assert walked == find_shortest_tree("abcd", np.array(whole.distance))
    named = mc.mechanism_map(MODELS, SUITE, ts=3, barriers=[("d", "a"), ("b", "c")])
    assert [(pair.a, pair.b) for pair in named.pairs if pair.path is not None] == [("a", "d"), ("b", "c")]
    heights = {(pair.a, pair.b): pair.barrier for pair in whole.pairs}
    for found in (tree, named):
        assert all(pair.barrier in (None, heights[pair.a, pair.b]) for pair in found.pairs)
        assert math.isnan(found.barrier[0][1]) or found.barrier[0][1] == whole.barrier[0][1]
        assert list(found.trees) == ["distance"]
        with pytest.raises(ValueError, match="not every path was walked"):
            found.plot("barrier")
    assert list(mc.mechanism_map(MODELS, SUITE, ts=3, barriers="all").trees) == ["barrier", "distance"]  # the remedy
    none = mc.mechanism_map(MODELS, SUITE, barriers="none")
    assert none.basins == () and none.distance == whole.distance
    assert all("basin" not in sentence or "nothing is said" in sentence for sentence in none.findings)


def test_without_paths_models_may_be_of_any_kind() -> None:
    other = build(lambda: nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3)))
    found = mc.mechanism_map({"a": MODELS["a"], "other": other}, SUITE, barriers="none")
    apart = mc.compare_mechanisms(MODELS["a"], other, SUITE).differences
    assert found.distance[0][1] == pytest.approx(max(abs(apart[name].effect) for name in ("hue", "tint")))


def test_outputs_stand_for_models_where_no_path_is_walked(tmp_path: Any) -> None:
    suite = mc.Suite({"cue": rows(60, 1), "hue": rows(60, 3)})
    files = mc.save_outputs(MODELS["a"], suite, tmp_path)
    found = mc.mechanism_map({"a": mc.load_outputs(files), "b": MODELS["b"]}, suite, barriers="none")
    assert found.distance == mc.mechanism_map({n: MODELS[n] for n in "ab"}, suite, barriers="none").distance


def planted_basins() -> tuple[dict[str, nn.Module], mc.Suite]:
    """Three thresholds of one input at -4 and at 4: in between the loss is large."""
    x = torch.linspace(-1, 1, 400)[:, None]
    y = (x[:, 0] > 0).long()

    def reader(sign: float, shift: float) -> nn.Module:
        model = build(lambda: nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)), dtype=torch.float32)
        weights = {
            "0.weight": torch.tensor([[float(sign)]]),
            "0.bias": torch.zeros(1),
            "2.weight": sign * torch.tensor([[-20.0], [20.0]]),
            "2.bias": sign * torch.tensor([shift, -shift]),
        }
        return mc.with_parameters(model, weights)

    return {"p1": reader(1, 2.0), "n1": reader(-1, 2.0), "p2": reader(1, 2.5), "n2": reader(-1, 2.5)}, mc.Suite(
        {"cue": (x, y), "flip": (-x, y)}
    )


def test_basins_by_single_linkage() -> None:
    models, suite = planted_basins()
    found = mc.mechanism_map(models, suite, ts=3)
    assert found.basins == (("p1", "p2"), ("n1", "n2"))
    assert found.basin_range == (2, 2)
    assert {pair.path for pair in found.pairs if pair.a[0] == pair.b[0]} == {"connected"}
    assert {pair.path for pair in found.pairs if pair.a[0] != pair.b[0]} == {"not connected"}
    for pair in found.pairs:
        assert pair.barrier_interval is not None
        assert pair.barrier_interval[0] <= (pair.barrier or 0.0) <= pair.barrier_interval[1]
    wide = mc.mechanism_map(models, suite, ts=3, tolerance=100.0)
    assert len(wide.basins) == 1
    one = mc.mechanism_map(models, suite, ts=3, barriers=[("p1", "p2")])
    assert one.basins == (("p1", "p2"), ("n1",), ("n2",)) and one.basin_range == (1, 3)
    assert "at most 3 basins" in one.header().title


def test_the_barriers_intervals_are_those_of_the_paths_at_the_joint_level() -> None:
    models, suite = planted_basins()
    found = mc.mechanism_map(models, suite, ts=5)
    for pair in found.pairs:
        line = mc.LinearPath.between(models[pair.a], models[pair.b])
        path = mc.evaluate_path(models["p1"], line, suite, 5, keep_samples=True)
        own = path.connection("cue", 0.05, confidence=1 - 0.05 / 6)
        assert (pair.barrier, pair.barrier_interval, pair.path) == (
            own.barrier.height,
            own.barrier.interval,
            own.verdict,
        )


def test_the_intervals_of_a_tree_allow_for_the_choice_of_its_pairs() -> None:
    """Its pairs follow from the rows that judge them: each interval has the level of all pairs, not of those walked."""
    models, suite = planted_basins()
    whole = {(pair.a, pair.b): pair for pair in mc.mechanism_map(models, suite, ts=3).pairs}
    walked = [pair for pair in mc.mechanism_map(models, suite, ts=3, barriers="tree").pairs if pair.path is not None]
    assert len(walked) == 3
    for pair in walked:
        assert pair.barrier_interval == whole[pair.a, pair.b].barrier_interval


# ---------------------------------------------------------------- trees and planes by their definitions


def count_groups(names: str, pairs: list[tuple[str, str]]) -> set[frozenset[str]]:
    """Again and again, groups that a pair joins become one."""
    groups = {frozenset(name) for name in names}
    for _ in names:
        for a, b in pairs:
            one, two = (next(group for group in groups if name in group) for name in (a, b))
            groups = (groups - {one, two}) | {one | two}
    return groups


@pytest.mark.parametrize("seed", range(5))
def test_components_and_shortest_trees_are_those_of_the_slow_definitions(seed: int) -> None:
    names, draw = "abcde", np.random.default_rng(seed)
    pairs = [pair for pair in combinations(names, 2) if draw.random() < 0.25]
    assert {frozenset(group) for group in find_components(names, pairs)} == count_groups(names, pairs)
    half = draw.random((5, 5))
    matrix = (half + half.T) * (1 - np.eye(5))

    def length(chosen: Any) -> float:
        return sum(matrix[names.index(a), names.index(b)] for a, b in chosen)

    spanning = [
        chosen for chosen in combinations(combinations(names, 2), 4) if len(count_groups(names, list(chosen))) == 1
    ]
    assert length(find_shortest_tree(names, matrix)) == pytest.approx(min(map(length, spanning)))
    tree = make_tree(tuple(names), matrix)
    for height in (0.3, 0.8, 2.0):
        joined = [merge for merge in tree.merges if merge.height <= height]
        largest = {frozenset(merge.left + merge.right) for merge in joined}
        expected = {group for group in largest if not any(group < other for other in largest)}
        found = {frozenset(group) for group in cut_tree(tree, height)}
        assert {group for group in found if len(group) > 1} == expected


def test_points_of_a_plane_are_found_again() -> None:
    points = np.random.default_rng(0).normal(size=(9, 2))
    apart = np.sqrt(np.square(points[:, None] - points[None]).sum(-1))
    found = embed_distances(apart)
    again = np.array(found.points)
    assert np.sqrt(np.square(again[:, None] - again[None]).sum(-1)) == pytest.approx(apart)
    assert (found.explained, found.stress) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-7))
    assert np.abs(again.mean(0)).max() < 1e-12


def test_what_a_plane_cannot_hold_is_said() -> None:
    """Four points at distance 1 from each other: three equal eigenvalues of 1/2."""
    found = embed_distances(1.0 - np.eye(4))
    assert found.explained == pytest.approx(2 / 3)
    again = np.array(found.points)
    apart = np.sqrt(np.square(again[:, None] - again[None]).sum(-1))
    gaps = [(1 - apart[i, j]) ** 2 for i, j in combinations(range(4), 2)]
    assert found.stress == pytest.approx(math.sqrt(sum(gaps) / 6)) and found.stress > 0.1
    same = embed_distances(np.zeros((3, 3)))
    assert (same.points, same.explained, same.stress) == (((0.0, 0.0),) * 3, 1.0, 0.0)


def test_a_path_that_is_not_walked_tells_nothing() -> None:
    found = mc.mechanism_map(MODELS, SUITE, ts=3, barriers="tree", tolerance=0.0)
    assert "Paths that were not walked may join more of them." in str(found)
    assert choose_paths("tree", list("ab"), {("a", "b"): 1.0}) == [("a", "b")]
    assert replace(found, pairs=()).rows()[0]["verdict"] is None


WRONG: dict[str, tuple[Any, str]] = {
    "no such choice": ({"barriers": "most"}, "barriers must be one of 'all', 'tree', 'none', got 'most'"),
    "no such model": ({"barriers": [("a", "e")]}, "a model of barriers must be one of 'a', 'b', 'c', 'd', got 'e'"),
    "one twice": ({"barriers": [("a", "a")]}, "barriers must be all, tree, none or pairs of two names, got the pair"),
    "no tolerance": ({"tolerance": -1.0}, "tolerance must be zero or more, got -1.0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_questions_that_cannot_be_asked(case: str) -> None:
    options, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        mc.mechanism_map(MODELS, SUITE, ts=3, **options)
    assert str(caught.value).startswith(text)
