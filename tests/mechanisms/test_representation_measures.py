"""Unbiased CKA, mutual neighbours, and pairs of layers of different names, each against its definition."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from reference_audit import cka_by_grams
from zoo import Batch, Shared, build, mlp, norm_mlp, rows, split


def hsic_slowly(k: Tensor, h: Tensor) -> float:
    """HSIC_1 as the U-statistic that it is: a mean over all ordered quadruples of different rows."""
    total, count = 0.0, 0
    for i, j, q, r in itertools.permutations(range(len(k)), 4):
        total += float(k[i, j] * (h[i, j] + h[q, r] - 2 * h[i, q]))
        count += 1
    return total / count


def unbiased_by_grams(x: Tensor, y: Tensor, hsic: Callable[[Tensor, Tensor], float]) -> float:
    k, h = x @ x.T, y @ y.T
    return hsic(k, h) / (hsic(k, k) * hsic(h, h)) ** 0.5


def hsic_by_grams(k: Tensor, h: Tensor) -> float:
    """The formula over Gram matrices without their diagonals."""
    n = len(k)
    k, h = (part - torch.diag(part.diag()) for part in (k, h))
    ones = torch.ones(n, dtype=k.dtype)
    total = torch.trace(k @ h) + ones @ k @ ones * (ones @ h @ ones) / ((n - 1) * (n - 2))
    return float((total - 2 / (n - 2) * (ones @ k @ h @ ones)) / (n * (n - 3)))


class Half(nn.Module):
    """A layer that gives the first or the last columns of its inputs."""

    def __init__(self, first: bool, columns: int) -> None:
        super().__init__()
        self.part = nn.Identity()
        self.first, self.columns = first, columns

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x[:, : self.columns] if self.first else x[:, self.columns :])


def compare(x: Tensor, y: Tensor, order: Tensor | None = None, **settings: Any) -> mc.RepresentationSimilarity:
    """Of two sets of features, which two networks read off the same rows."""
    both = torch.cat([x, y], 1)
    data = (both if order is None else both[order], torch.zeros(len(x)).long())
    return mc.representation_similarity(Half(True, x.shape[1]), Half(False, x.shape[1]), data, ["part"], **settings)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------- unbiased CKA


def test_unbiased_cka_is_the_mean_over_quadruples_and_needs_sums_alone() -> None:
    x, y = draw(6, 3) + 5.0, draw(6, 2, seed=1)
    y[:, 0] += x[:, 1]
    slow = unbiased_by_grams(x, y, hsic_slowly)
    assert slow == pytest.approx(unbiased_by_grams(x, y, hsic_by_grams), rel=1e-10)
    assert compare(x, y).unbiased["part"] == pytest.approx(slow, rel=1e-10)
    a, b, data = build(norm_mlp, 0), build(norm_mlp, 1), rows(30)
    found = mc.representation_similarity(a, b, split(data, [13, 16, 1]), layers=["0", "3"])
    for depth, layer in ((1, "0"), (4, "3")):
        here, there = (nn.Sequential(*list(model)[:depth]).eval()(data[0]).detach() for model in (a, b))  # pyright: ignore
        assert found.unbiased[layer] == pytest.approx(unbiased_by_grams(here, there, hsic_by_grams), rel=1e-9)
        assert found[layer] == pytest.approx(cka_by_grams(here, there), rel=1e-9)
    assert [row["unbiased_cka"] for row in found.rows()] == list(found.unbiased.values())


def test_its_mean_is_zero_where_rows_are_unrelated_and_wide() -> None:
    """Biased near 1 for few rows and wide layers."""
    found = [compare(draw(20, 400, seed=s), draw(20, 400, seed=100 + s)) for s in range(20)]
    biased = torch.tensor([own["part"] or 0.0 for own in found])
    unbiased = torch.tensor([own.unbiased["part"] or 0.0 for own in found])
    assert biased.min() > 0.9
    assert unbiased.mean().abs() < 3 * unbiased.std() / 20**0.5 and unbiased.abs().max() < 0.25
    same = compare(draw(20, 400), 3 * draw(20, 400) + 1.0)
    assert (same["part"], same.unbiased["part"]) == (pytest.approx(1.0), pytest.approx(1.0))


def test_there_is_none_of_three_rows_or_of_rows_at_equal_distances() -> None:
    assert compare(draw(3, 2), draw(3, 2, seed=1)).unbiased == {"part": None}
    found = compare(torch.eye(6, dtype=torch.float64), draw(6, 2))
    assert found["part"] is not None and found.unbiased == {"part": None}
    assert "unbiased none" in str(found) and found.rows()[0]["unbiased_cka"] is None


def test_features_whose_squares_underflow_do_not_vary_and_no_zero_has_a_sign() -> None:
    assert compare(1e-90 * draw(6, 2), draw(6, 2)).layers == {"part": None}
    small = compare(1e-30 * draw(6, 2), draw(6, 2, seed=1))
    assert small.layers["part"] == pytest.approx(compare(draw(6, 2), draw(6, 2, seed=1))["part"])
    assert "unbiased 0.000" in str(replace(small, unbiased={"part": -1e-5}))


def test_a_file_without_the_unbiased_estimate_still_loads(tmp_path: Path) -> None:
    found = mc.representation_similarity(build(mlp), build(mlp, 1), rows(12))
    new = ("measure", "unbiased", "pairs", "k", "clamp", "largest", "chance")
    old = mc.RepresentationSimilarity.from_dict({k: v for k, v in found.to_dict().items() if k not in new})
    assert (old.layers, old.unbiased, old.measure) == (found.layers, {}, "cka")
    old.check_whole()
    old.save(tmp_path / "old.json")
    assert mc.load_result(tmp_path / "old.json") == old and "unbiased" not in str(old)


# ---------------------------------------------------------------- mutual neighbours


def count_slowly(x: Tensor, y: Tensor, k: int, quantile: float) -> float:
    sides = []
    for side in (x, y):
        q = torch.stack([row.abs().quantile(quantile) for row in side]).mean()
        side = nn.functional.normalize(side.clamp(-q, q), dim=1)
        cosine = side @ side.T
        sides.append([set(sorted(set(range(len(x))) - {i}, key=lambda j: -cosine[i, j])[:k]) for i in range(len(x))])
    return sum(len(a & b) for a, b in zip(*sides, strict=True)) / (k * len(x))


@pytest.mark.parametrize(("k", "clamp"), [(1, 1.0), (4, 0.95), (24, 0.5)])
def test_mutual_neighbours_are_counted(k: int, clamp: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(25, 6), draw(25, 4, seed=1)
    y[:, :2] += 2 * x[:, :2]
    found = compare(x, y, measure="mutual_neighbours", k=k, clamp=clamp)
    assert found["part"] == pytest.approx(count_slowly(x, y, k, clamp), abs=1e-12)
    assert (found.k, found.chance, found.clamp) == (k, k / 24, clamp)
    assert found["part"] == 1.0 if k == 24 else found["part"] != found.chance
    monkeypatch.setattr("mechconn.mechanisms._nearest_rows.ENTRIES", 60)  # blocks of two rows
    assert compare(x, y, measure="mutual_neighbours", k=k, clamp=clamp) == found
    assert compare(x, 5 * x, measure="mutual_neighbours", k=k)["part"] == 1.0


def test_the_mean_over_all_orders_of_rows_is_chance_also_with_ties() -> None:
    x, y = draw(5, 3), draw(5, 3, seed=1)
    y[1], y[3] = y[0], y[0]  # three rows alike
    scores = [
        compare(x, y[list(order)], measure="mutual_neighbours", k=2)["part"] or 0.0
        for order in itertools.permutations(range(5))
    ]
    assert sum(scores) / len(scores) == pytest.approx(2 / 4, abs=1e-12)


def test_the_order_of_rows_does_not_matter_and_constants_have_none() -> None:
    x, y = draw(12, 2).sign(), draw(12, 3, seed=1).round()  # many ties, rows of zeros
    found = compare(x, y, measure="mutual_neighbours", k=3)
    for seed in range(3):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
        again = compare(x, y, order, measure="mutual_neighbours", k=3)
        assert again["part"] == pytest.approx(found["part"], abs=1e-12)
    assert compare(torch.ones(12, 2), y, measure="mutual_neighbours", k=3).layers == {"part": None}


# ---------------------------------------------------------------- pairs of layers


def test_layers_of_other_names_by_a_mapping_or_all_pairs() -> None:
    a, b, data = build(norm_mlp, 0), build(mlp, 1), rows(20)
    matrix = mc.representation_similarity(a, b, data, ["0", "3"], layers_b=["0", "2"])
    assert list(matrix) == ["0 / 0", "0 / 2", "3 / 0", "3 / 2"]
    mapped = mc.representation_similarity(a, b, data, {"0": "2", "3": ["0", "2"]})
    assert mapped.layers == {name: matrix[name] for name in ("0 / 2", "3 / 0", "3 / 2")}
    here, there = a[0](data[0]), b(data[0])  # pyright: ignore
    assert matrix["0", "2"] == mapped["0", "2"] == pytest.approx(cka_by_grams(here, there), rel=1e-9)
    one = mc.representation_similarity(a, b, data, ["0"])
    assert matrix["0", "0"] == one["0", "0"] == one["0"] and matrix.unbiased["0 / 0"] == one.unbiased["0"]
    everything = mc.representation_similarity(a, b, data, layers_b="all")
    assert list(everything) == ["0 / 0", "0 / 2", "3 / 0", "3 / 2"] and everything.layers == matrix.layers
    with pytest.raises(KeyError, match=re.escape("('1', '0')")):
        _ = matrix["1", "0"]
    left = mc.representation_similarity(build(mlp), build(Shared), data, layers_b="all")
    assert set(left.left_out) == {"first.0"} and "first.0" not in str(list(left))


def test_the_largest_stands_beside_what_it_is_by_chance() -> None:
    x = draw(60, 8)
    data: Batch = (torch.cat([x, draw(60, 8, seed=1)], 1), torch.zeros(60).long())
    wide = build(lambda: nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5)))
    for measure in ("cka", "mutual_neighbours"):
        how: Any = {"measure": measure, "k": 5, "permutations": 40}
        related = mc.representation_similarity(wide, wide, data, layers_b="all", **how).largest
        assert related is not None and related.p_value == 1 / 41 and related.value > 0.99 > related.upper
        assert related.chance < related.upper < related.value
        again = mc.representation_similarity(wide, wide, data, layers_b="all", **how).largest
        assert again == related
        alone = compare(x, draw(60, 8, seed=1), **how)
        assert alone.largest is not None and alone.largest.p_value > 0.05
        assert alone.largest.value == (alone.unbiased if measure == "cka" else alone.layers)["part"]
        if measure == "mutual_neighbours":  # one pair: the mean over orders is k / (N - 1)
            assert alone.largest.chance == pytest.approx(alone.chance, abs=0.02)
        assert "in random order" in str(alone) and "(part); the largest with B's rows" in alone.sections()[0].note


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "another measure": ({"measure": "knn"}, ValueError, "measure must be one of 'cka', 'mutual_neighbours', got 'knn'"),
    "as many neighbours as rows": (
        {"measure": "mutual_neighbours", "k": 12},
        ValueError,
        "k must be less than the number of rows, 12, got 12",
    ),
    "nothing left by the clamp": ({"clamp": 0.0}, ValueError, "clamp must be"),
    "fewer than no orders": ({"permutations": -1}, ValueError, "permutations must be 0 or more, got -1; write"),
    "a mapping and layers of B": (
        {"layers": {"0": "2"}, "layers_b": ["0"]},
        TypeError,
        "layers= is a mapping, which names the layers of B too; leave out layers_b=",
    ),
    "a layer that B lacks": ({"layers": {"0": "3"}}, ValueError, "a layer of model_b must be one of '0', '1', '2'"),
    "a number": ({"layers": {"0": 2}}, TypeError, "layers['0'] must be a list of names, got 2; they are those of"),
    "a text": (
        {"layers_b": "0"},
        TypeError,
        "layers_b must be a list of names, got the text '0'; write layers_b=['0']",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_measured_is_refused_in_one_line(what: str) -> None:
    settings, kind, text = WRONG[what]
    with pytest.raises(kind, match=re.escape(text)) as caught:
        mc.representation_similarity(build(mlp), build(mlp, 1), rows(12), **settings)
    assert "\n" not in str(caught.value)
    fits = {"permutations": 100, "measure": "mutual_neighbours", "k": 11, "layers": ["0"]}  # the remedies
    assert mc.representation_similarity(build(mlp), build(mlp, 1), rows(12), **fits)["0"] == 1.0
