"""Rows that choose and rows that judge: one sample is on one side, and what judges is never seen by the choice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.connectivity import Evaluator
from mechconn.datasets import cue_task, read_clusters
from mechconn.mechanisms import measure_outcome

# What divides the rows is inner; that it never sees a judging row is shown through search_scale.
from mechconn.merging._scale_rows import divide_rows, select_judging
from planted_scales import ALWAYS, make_suite, plant, search, take
from zoo import build


def divide(
    suite: mc.Suite, model: nn.Module, share: float = 0.5, seed: int = 0, cluster: Any = None
) -> dict[str, Tensor]:
    labels = read_clusters(cluster, suite)
    outcome = measure_outcome(Evaluator(model, suite, cluster=labels), "accuracy")
    return divide_rows(outcome, suite, labels, share, seed)


def linear(features: int = 2) -> nn.Module:
    return build(lambda: nn.Linear(features, 10), dtype=torch.float32)


def test_the_same_scene_is_on_one_side_in_every_split() -> None:
    task = cue_task("planted", rows=20, test_rows=101)
    width = int(task.clean.inputs(torch.tensor([0])).shape[1])
    for share in (0.2, 0.5):
        sides = divide(task.suite, linear(width), share)
        first, *others = sides.values()
        assert all(torch.equal(first, other) for other in others) and len(sides) == 4
        assert abs(int(first.sum()) - share * 101) <= 1
    assert not torch.equal(sides["cue"], divide(task.suite, linear(width), 0.5, seed=1)["cue"])


def test_rows_of_equal_targets_correspond_by_place_and_others_by_identity() -> None:
    kept, target = plant([ALWAYS] * 60), plant([0.3] * 60)
    sides = divide(make_suite(kept=kept, target=target), linear())
    assert torch.equal(sides["kept"], sides["target"])
    # Rows of one dataset in another order: by identity.
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    from mechconn.core import as_data, select_rows

    source: Any = as_data("rows", kept)
    parts = mc.Suite({"all": source, "some": select_rows(source, order[:40])}, reference="all")
    sides = divide(parts, linear())
    assert torch.equal(sides["some"], sides["all"][order[:40]])


def test_clusters_stay_whole_within_and_between_splits() -> None:
    suite = make_suite(kept=plant([ALWAYS] * 60), target=plant([0.3] * 59))  # other rows
    labels = {"kept": [n // 4 for n in range(60)], "target": [n // 4 for n in range(59)]}
    sides = divide(suite, linear(), cluster=labels)
    for split, numbers in labels.items():
        for cluster in set(numbers):
            own = sides[split][torch.tensor(numbers) == cluster]
            assert len(set(own.tolist())) == 1
            assert bool(own[0]) == bool(sides["kept"][4 * cluster])


def test_the_choice_never_sees_what_judges() -> None:
    """Any labels of the judging rows, as long as they stay theirs in every split, leave the choice as it is."""
    kept, target = plant([ALWAYS] * 190 + [0.6] * 10), plant([0.3] * 100 + [0.9] * 100)
    suite = make_suite(kept=kept, target=target)
    found = search(suite, choosing=0.5, scales=(0.5, 1.0))
    sides = divide(suite, linear())
    judging = (~sides["kept"]).nonzero().flatten()
    assert found.row_counts["kept"] == (200 - len(judging), len(judging))
    for seed in range(2):
        order = judging[torch.randperm(len(judging), generator=torch.Generator().manual_seed(seed))]
        changed = {}
        for split in suite:
            x, y = take(suite, split)
            moved = y.clone()
            moved[judging] = 1 - y[order]
            changed[split] = (x, moved)
        other = search(make_suite(**changed), choosing=0.5, scales=(0.5, 1.0))
        assert (other.scale, other.kept) == (found.scale, found.kept)
        assert other.curves["target"].choosing == found.curves["target"].choosing
        assert other.curves["target"].values != found.curves["target"].values


def test_the_curve_is_on_the_rows_that_judge_alone() -> None:
    suite = make_suite(kept=plant([ALWAYS] * 100), target=plant([0.3] * 30 + [ALWAYS] * 70))
    judged = ~divide(suite, linear())["target"]
    found = search(suite, choosing=0.5, scales=(0.5,))
    lost = judged[:30].sum() / judged.sum()
    assert found.value("target", 0.5) == pytest.approx(float(1 - lost))
    assert found.effects["base"].samples["target"] == int(judged.sum())


def test_outcomes_of_the_judging_rows_are_those_of_a_suite_of_them() -> None:
    """Effects are read off outcomes that were computed once: as measured on these rows alone."""
    suite = make_suite(no_cue=plant([ALWAYS] * 60), cue=plant([-1.0] * 25 + [ALWAYS] * 35))
    model = linear()
    outcome = measure_outcome(Evaluator(model, suite), "accuracy")
    sides = divide_rows(outcome, suite, None, 0.5, 3)
    found = select_judging(outcome, sides)
    alone = mc.Suite({s: tuple(part[~sides[s]] for part in take(suite, s)) for s in suite}, suite.reference)
    expected = measure_outcome(Evaluator(model, alone), "accuracy")
    for split, result in expected.splits.items():
        own = found.splits[split]
        assert torch.equal(own.correct, result.correct) and torch.equal(own.loss, result.loss)
        assert own.answers.commonest == result.answers.commonest
        assert own.answers.constant == result.answers.constant and torch.equal(own.targets, result.targets)


def test_rows_that_choose_and_judge_are_refused_and_statistics_on_them_noted() -> None:
    suite = make_suite(kept=plant([ALWAYS] * 60), target=plant([0.3] * 60))
    with pytest.raises(ValueError, match="choosing= holds rows that are in the suite"):
        search(suite, choosing=make_suite(kept=take(suite, "kept"), target=plant([0.3] * 60)))
    base = build(lambda: nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)), dtype=torch.float32).eval()
    change = mc.weight_change(base, build(lambda: nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)), 1).float().eval())
    norm = mc.Reestimate(take(suite, "kept"))
    found = mc.search_scale(base, change, suite, lower="target", keep=[], norm=norm, scales=(1.0,), draws=1)
    assert any("normalisation statistics were taken on rows that judge" in note for note in found.notes)
