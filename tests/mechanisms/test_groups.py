"""Accuracy by group: counts by hand, exact intervals, coverage of the worst group's, stated means."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

import mechconn as mc
from mechconn.datasets import Planted
from zoo import build, mlp, rows

GROUPS = {"land": (50, 40), "sea": (10, 5), "sky": (20, 20)}  # name -> (rows, right)


class Given(nn.Module):
    """A lookup: the input is the prediction."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x.long().flatten(), 2).float()


def data(groups: dict[str, tuple[int, int]] = GROUPS) -> tuple[tuple[Tensor, Tensor], list[str]]:
    """((predictions, labels), names) with so many right in every group; the rows of the groups are mixed."""
    names = [name for name, (count, _) in groups.items() for _ in range(count)]
    hits = torch.cat([(torch.arange(count) < right).long() for count, right in groups.values()])
    labels = torch.arange(len(names)) % 2
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))
    x = torch.where(hits == 1, labels, 1 - labels)
    return (x[order][:, None].float(), labels[order]), [names[row] for row in order.tolist()]


def test_counts_and_exact_intervals_of_every_group() -> None:
    pair, names = data()
    found = mc.measure_groups(Given(), pair, names)
    assert list(found) == ["land", "sea", "sky"]
    for name, (count, right) in GROUPS.items():
        group = found[name]
        assert (group.rows, group.accuracy) == (count, right / count)
        for interval, confidence in ((group.interval, 0.95), (group.simultaneous, 1 - 0.05 / 3)):
            expected = binomtest(right, count).proportion_ci(confidence, "exact")
            assert interval == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.worst == "sea"
    assert found.worst_interval == (found["sea"].simultaneous[0], found["sea"].simultaneous[1])
    assert found.mean == 65 / 80
    expected = binomtest(65, 80).proportion_ci(0.95, "exact")
    assert found.mean_interval == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.weights, found.reweighted, found.reweighted_interval) == (None, None, None)


def test_the_mean_by_shares_of_the_training_data() -> None:
    pair, names = data()
    found = mc.measure_groups(Given(), pair, names, train_groups=["sea"] * 3 + ["land"])
    assert found.weights == {"land": 0.25, "sea": 0.75, "sky": 0.0}
    assert found.reweighted == 0.25 * 0.8 + 0.75 * 0.5
    assert found.reweighted_interval is not None
    low, high = found.reweighted_interval
    assert low == pytest.approx(0.25 * found["land"].simultaneous[0] + 0.75 * found["sea"].simultaneous[0])
    assert high == pytest.approx(0.25 * found["land"].simultaneous[1] + 0.75 * found["sea"].simultaneous[1])
    same = mc.measure_groups(Given(), pair, names, train_groups=names)
    assert same.reweighted == pytest.approx(same.mean)


def test_the_worst_group_is_biased_and_its_interval_is_not() -> None:
    """Ten groups of 20 rows, all right with probability 0.8: the least share is far below, the interval holds."""
    draws, holds, least = 100, 0, 0.0
    chance = np.random.default_rng(0)
    for _ in range(draws):
        groups = {f"g{k}": (20, int(chance.binomial(20, 0.8))) for k in range(10)}
        pair, names = data(groups)
        found = mc.measure_groups(Given(), pair, names)
        least += found[found.worst].accuracy / draws
        holds += found.worst_interval[0] <= 0.8 <= found.worst_interval[1]
    assert least < 0.72  # the truth is 0.8
    # At least 95 % by construction; Binomial(100, 0.95) falls below 89 with probability 0.4 %.
    assert holds >= 89


def test_labels_may_be_tensors_arrays_lists_and_several_columns() -> None:
    (x, y), names = data()
    codes = torch.tensor([["land", "sea", "sky"].index(name) for name in names])
    by_code = mc.measure_groups(Given(), (x, y), codes)
    assert list(by_code) == ["0", "1", "2"]
    assert mc.measure_groups(Given(), (x, y), codes.numpy()) == by_code
    assert mc.measure_groups(Given(), (x, y), codes.tolist()) == by_code
    both = mc.measure_groups(Given(), (x, y), {"y": y, "place": names})
    assert list(both)[:3] == ["y=0, place=land", "y=0, place=sea", "y=0, place=sky"]
    assert sum(both[name].rows for name in both if name.endswith("land")) == 50
    many = mc.measure_groups(Given(), (x, y), torch.arange(80) % 12)
    assert list(many) == list(map(str, range(12)))  # by number, not by letter


def test_batches_and_a_record() -> None:
    (x, y), names = data()
    whole = mc.measure_groups(Given(), (x, y), names, train_groups=names)
    parts = [(x[:30], y[:30]), (x[30:], y[30:])]
    assert mc.measure_groups(Given(), parts, names, train_groups=names) == whole
    record = json.loads(json.dumps(whole.to_dict()))
    assert record["worst"] == "sea" and record["groups"]["sea"]["accuracy"] == 0.5 and record["confidence"] == 0.95
    lines = str(whole).splitlines()
    assert lines[0] == "accuracy by group (95 % intervals):"
    assert lines[2].startswith("  sea: 0.500 (0.187 ... 0.813), 10 rows")
    assert lines[4].startswith("worst: sea, 0.500 (") and lines[6].startswith("mean by the groups' shares of the train")


def test_edges_one_group_one_row_and_models_that_are_always_wrong() -> None:
    (x, y), _ = data()
    one = mc.measure_groups(Given(), (x, y), [0] * 80)
    assert one["0"].interval == one["0"].simultaneous == one.worst_interval == one.mean_interval
    single = mc.measure_groups(Given(), (x[:1], y[:1]), ["a"], train_groups=["a"])
    assert single["a"].rows == 1 and single.reweighted == single.mean
    wrong = mc.measure_groups(Given(), (1 - y[:, None].float(), y), [0, 1] * 40)
    assert wrong.worst == "0" and wrong.worst_interval[0] == 0.0 and wrong.mean == 0.0


def test_data_as_one_split_per_group() -> None:
    (x, y), names = data()
    splits = mc.split_by_group((x, y), names)
    assert {name: len(split) for name, split in splits.items()} == {"land": 50, "sea": 10, "sky": 20}
    for name, split in splits.items():
        own = torch.tensor([row for row, known in enumerate(names) if known == name])
        assert torch.equal(split.y, y[own])
        assert torch.equal(split.inputs(torch.tensor([3, 0])), x[own[[3, 0]]])
        assert torch.equal(split.to("cpu").ids, own)
    found = mc.measure_invariance(Given(), mc.Suite(splits, reference="land"))
    assert found.accuracy == {"land": 0.8, "sea": 0.5, "sky": 1.0}
    assert not found["sea"].paired
    planted = Planted().sample(12)
    (half,) = mc.split_by_group(planted, ["a"] * 12).values()
    assert torch.equal(half.inputs(torch.arange(12)), planted.inputs(torch.arange(12)))


class TwoParts(nn.Module):
    """Its forward pass takes two parts of a sample, so that the third is the target."""

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        return Given()(x + shift)


@pytest.mark.usefixtures("unchecked")  # the check of a protocol reads the targets before a forward pass is known
def test_samples_of_several_parts_are_read_as_the_forward_pass_takes_them() -> None:
    (x, y), names = data()
    samples = torch.utils.data.TensorDataset(x, torch.zeros(len(y), 1), y)
    assert mc.measure_groups(TwoParts(), samples, names)["sea"].accuracy == 0.5
    suite = mc.Suite(mc.split_by_group(samples, names), reference="land")
    assert mc.measure_invariance(TwoParts(), suite).accuracy == {"land": 0.8, "sea": 0.5, "sky": 1.0}
    listed = [samples[row] for row in range(len(samples))]
    named = [{"x": a, "shift": b, "labels": c} for a, b, c in listed]
    splits = mc.split_by_agreement(named, [(int(c) + k // 60) % 2 for k, (_, _, c) in enumerate(listed)])
    assert {name: len(split) for name, split in splits.items()} == {"agree": 60, "conflict": 20}


def test_the_model_stays_as_it_is() -> None:
    model = build(mlp).train()
    before = mc.parameters_of(model)
    mc.measure_groups(model, rows(6), [0, 1, 0, 1, 0, 1])
    assert model.training and all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_what_does_not_fit_is_said() -> None:
    (x, y), names = data()
    with pytest.raises(ValueError, match="groups must have one label for each of 80 rows, got 79"):
        mc.measure_groups(Given(), (x, y), names[1:])
    with pytest.raises(ValueError, match="groups must have one label for each of 80 rows, got 80 and 3"):
        mc.measure_groups(Given(), (x, y), {"a": names, "b": [0, 1, 2]})
    with pytest.raises(ValueError, match="groups must have one label for each of 80 rows, got no columns"):
        mc.split_by_group((x, y), {})
    with pytest.raises(ValueError, match="train_groups must have one label for each of its rows, got 0"):
        mc.measure_groups(Given(), (x, y), names, train_groups=[])
    with pytest.raises(ValueError, match="hold no rows of these groups of the training data: cave; moon; evaluate on"):
        mc.measure_groups(Given(), (x, y), names, train_groups=[*names, "moon", "cave"])
    with pytest.raises(ValueError, match="measure_groups needs a classification"):
        mc.measure_groups(build(lambda: nn.Linear(1, 1), dtype=torch.float32), (x, x), names, loss=mc.losses.squared)
    with pytest.raises(ValueError, match="the model's outputs on row 3 hold NaN"):
        mc.measure_groups(NotANumber(), (x, y), names)
    with pytest.raises(TypeError, match=r"split_by_group reads rows by index and needs a dataset or .*, got list"):
        mc.split_by_group([(x, y)], names)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), shuffle=True)
    with pytest.raises(
        ValueError, match="the loader shuffles, so that groups cannot be matched to rows; pass one with"
    ):
        mc.measure_groups(Given(), loader, names)


class NotANumber(Given):
    """Its outputs on the fourth row are no numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).index_fill(0, torch.tensor([3]), float("nan"))
