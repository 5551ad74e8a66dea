"""Maps whose rows are read until every verdict is settled: the same verdicts, their joint error, what is refused."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.connectivity import Evaluator

# The joint error is that of the inner reading, on outcomes whose truth is planted.
from mechconn.mechanisms._map_settled import judge_difference
from mechconn.mechanisms._settled_differences import compare_read_effects
from mechconn.mechanisms._until_settled import ModelReading
from mechconn.report import save_report
from zoo import Batch

ROWS = 4000
PARTS = {"cue": (0.95,) * 3, "rand_cue": (0.55, 0.55, 0.95), "hue": (0.95,) * 3}
"""Split -> the chance of each model to be right."""


class Told(nn.Module):
    """Answers right on a row where its own column says so."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column, self.unused = column, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot((x[:, self.column] < 0.5).long(), 2).float()


def told(seed: int, *shares: float, rows: int = ROWS) -> Batch:
    """Rows of class 0 on which each model is right with a chance of its own, models independent of each other."""
    draw = torch.rand(rows, len(shares), generator=torch.Generator().manual_seed(seed))
    return (draw < torch.tensor(shares)).float(), torch.zeros(rows, dtype=torch.int64)


def make_suite(seed: int = 0, rows: int = ROWS) -> mc.Suite:
    """Models 0 and 1 lose 40 points to `rand_cue`, model 2 none; `hue` costs nobody anything."""
    return mc.Suite({name: told(3 * seed + k, *own, rows=rows) for k, (name, own) in enumerate(PARTS.items())})


MODELS: dict[str, nn.Module] = {name: Told(place) for place, name in enumerate("abc")}


def test_the_verdicts_are_those_of_all_rows_from_fewer(tmp_path: Path) -> None:
    suite = make_suite()
    whole = mc.mechanism_map(MODELS, suite, margin=0.1, barriers="none")
    found = mc.mechanism_map(MODELS, suite, margin=0.1, barriers="none", until="settled")
    assert [pair.verdict for pair in found.pairs] == [pair.verdict for pair in whole.pairs]
    assert [pair.verdict for pair in found.pairs] == ["agree", "differ", "differ"]
    for name, own in found.invariance.items():
        assert own.invariant_to == whole.invariance[name].invariant_to
        assert own.sensitive_to == whole.invariance[name].sensitive_to
        assert max(own.samples.values()) < ROWS and set(own.available.values()) == {ROWS}
    assert found.groups == whole.groups
    for pair in found.pairs:
        assert pair.distance_interval[0] <= pair.distance <= pair.distance_interval[1]
    (note,) = [
        note for note in found.notes if note.startswith("rows were read as far as the verdicts needed them: cue ")
    ]
    assert "of 4,000" in note and note.endswith(
        "estimates at stopping are biased, intervals hold whenever reading stops"
    )
    assert note in str(found)
    save_report(found, tmp_path / "map.html")
    assert "estimates at stopping are biased" in (tmp_path / "map.html").read_text(encoding="utf-8")


def test_a_pair_is_compared_on_the_rows_that_were_read_of_both() -> None:
    """The distance is that of the first rows of one order, as many as were read of the model that was read less."""
    suite = make_suite()
    found = mc.mechanism_map(MODELS, suite, margin=0.1, barriers="none", until="settled", seed=3)
    reader = ModelReading(Evaluator(MODELS["a"], suite, seed=3), "accuracy").reader
    order = torch.cat([reader.list_rows("cue", look) for look in range(reader.looks)])
    assert sorted(order.tolist()) == list(range(ROWS))
    right = {split: told(k, *PARTS[split])[0] for k, split in enumerate(suite)}
    for pair in found.pairs:
        sides = [found.invariance[name].samples for name in (pair.a, pair.b)]
        gaps = []
        for split in ("rand_cue", "hue"):
            rows = order[: min(side[split] for side in sides)]
            effects = [
                (right[split][rows, "abc".index(n)] - right["cue"][rows, "abc".index(n)]).double().mean()
                for n in (pair.a, pair.b)
            ]
            gaps.append(abs(float(effects[1] - effects[0])))
        assert pair.distance == pytest.approx(max(gaps), abs=1e-12)


def test_where_nothing_settles_all_rows_are_read() -> None:
    rows = 300
    found = mc.mechanism_map(MODELS, make_suite(rows=rows), margin=0.001, barriers="none", until="settled")
    assert all(set(own.samples.values()) == {rows} for own in found.invariance.values())
    whole = mc.mechanism_map(MODELS, make_suite(rows=rows), margin=0.001, barriers="none")
    assert np.allclose(found.distance, whole.distance)
    assert not any("biased" in note for note in found.notes)


def test_a_split_shorter_than_the_reference_is_compared_with_all_of_it() -> None:
    suite = mc.Suite({"cue": told(0, 0.9, 0.9), "hue": told(1, 0.9, 0.88, rows=500)})
    models = {name: MODELS[name] for name in "ab"}
    found = mc.mechanism_map(models, suite, margin=0.02, barriers="none", until="settled")
    assert [own.samples for own in found.invariance.values()] == [{"cue": ROWS, "hue": 500}] * 2
    whole = mc.mechanism_map(models, suite, margin=0.02, barriers="none")
    assert np.allclose(found.distance, whole.distance)
    for pair, same in zip(found.pairs, whole.pairs, strict=True):  # half of the level is that of all rows
        assert pair.distance_interval[1] >= same.distance_interval[1]


def test_rows_of_one_cluster_are_read_together() -> None:
    suite = make_suite()
    labels = torch.arange(ROWS) // 4
    found = mc.mechanism_map(MODELS, suite, margin=0.2, barriers="none", until="settled", cluster=labels)
    assert [pair.verdict for pair in found.pairs] == ["agree", "differ", "differ"]
    assert all(rows % 4 == 0 for own in found.invariance.values() for rows in own.samples.values())


def simulate(seed: int, margin: float) -> list[tuple[str, float]]:
    """(place, rows) of the difference of a and b on `rand_cue`, whose truth is 0.1, once it is settled."""
    suite = mc.Suite({"cue": told(2 * seed, 0.9, 0.9, rows=1000), "rand_cue": told(2 * seed + 1, 0.8, 0.7, rows=1000)})
    readings = [ModelReading(Evaluator(MODELS[name], suite), "accuracy") for name in "ab"]
    for look in range(readings[0].reader.looks):
        for reading in readings:
            reading.read(list(suite), look)
        a, b = (reading.outcome for reading in readings)
        place = judge_difference(compare_read_effects(a, b, "cue", "rand_cue", "accuracy"), margin, 0.025)
        if place != "open":
            return [(place, len(a.splits["cue"].loss))]
    return []


@pytest.mark.slow
@pytest.mark.parametrize(("margin", "wrong"), [(0.1, ("beyond", "within")), (0.11, ("beyond",)), (0.09, ("within",))])
def test_a_difference_on_or_near_the_margin_is_called_wrong_in_few_draws(margin: float, wrong: tuple[str, ...]) -> None:
    """Of 40 draws 5 % are 2; with that chance 7 or more come in one of three hundred."""
    found = [place for seed in range(40) for place, _ in simulate(seed, margin)]
    assert sum(place in wrong for place in found) <= 6


def test_a_difference_far_from_the_margin_is_settled_soon() -> None:
    for seed in range(10):
        ((place, rows),) = simulate(seed, 0.4)
        assert place == "within" and rows < 1000


def test_what_cannot_be_settled_is_refused() -> None:
    suite = make_suite(rows=100)
    with pytest.raises(ValueError, match="barriers in loss need all; pass barriers='none', or until='end'"):
        mc.mechanism_map(MODELS, suite, until="settled", norm=mc.KeepNorm())
    with pytest.raises(ValueError, match="the loss has no bounds; use on='accuracy' or a metric with bounds"):
        mc.mechanism_map(MODELS, suite, on="loss", barriers="none", until="settled")
    with pytest.raises(ValueError, match="until must be one of 'end', 'settled', got 'soon'"):
        mc.mechanism_map(MODELS, suite, barriers="none", until="soon")  # pyright: ignore[reportArgumentType]
    assert len(list(combinations(MODELS, 2))) == len(mc.mechanism_map(MODELS, suite, barriers="none").pairs)
