"""A path that is read until settled: its verdicts are right, and few rows at few points were read for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from connectivity.settling_nets import LINE, POINTS, READ, Stretch, make_rows, settle
from mechconn.connectivity._row_reader import draw_order  # the order of reading, of which nothing public tells
from mechconn.interventions import SwapColumn
from zoo import build, mlp, norm_mlp, rows


def one_line(act: object) -> str:
    with pytest.raises(ValueError) as caught:
        act()  # pyright: ignore[reportCallIssue]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_high_middle_is_seen_in_the_first_rows_of_the_middle() -> None:
    data = make_rows({0.5: 0.6}, 5000)
    READ.clear()
    found = mc.settle_path(Stretch(), LINE, mc.Suite({"cue": data, "same": data}), POINTS)
    assert found.verdict == "not connected" and found.seen("cue") == found.seen("same") == (0.0, 0.5, 1.0)
    assert found.read == {"cue": 64, "same": 64} and found.rows_read == 6 * 64
    assert sum(READ) == 6 * 64
    (point,) = found.points["cue"]
    first = draw_order(5000, None, 0)[:64]
    wrong = data[0][first][:, 0] > 0
    assert point.rise == point.mean == float(wrong.double().mean())
    assert point.interval[0] > 0.05 and point.verdict == "above"


def test_connected_needs_every_point_allowed() -> None:
    found = settle({}, 5000)
    assert found.verdict == "connected" and found.seen("s0") == POINTS
    assert all(point.verdict == "below" and point.rows == 144 for point in found.points["s0"])
    assert found.rows_read == 5 * 144
    text = " ".join(found.findings)
    assert "connected at these points" in text and "at t = 0, 0.25, 0.5, 0.75, 1" in text
    assert "between these points nothing is claimed" in text and "biased" in text


@pytest.mark.parametrize("t", [0.25, 0.75])
def test_a_rise_beside_the_middle_is_found(t: float) -> None:
    found = settle({t: 0.5}, 5000)
    assert found.verdict == "not connected" and found.barrier("s0").t == t
    assert found.rows_read < 5 * 144


def test_a_rise_between_the_points_is_not_seen_and_not_denied() -> None:
    found = settle({0.6: 0.9}, 2000)
    assert found.verdict == "connected" and 0.6 not in found.seen("s0")
    finer = mc.settle_path(Stretch(), LINE, mc.Suite({"s0": make_rows({0.6: 0.9}, 2000)}, "s0"), 11)
    assert finer.verdict == "not connected"


def test_each_split_is_read_by_itself() -> None:
    found = settle([{0.5: 0.6}, {}, {0.5: 0.1}, {0.25: 0.03}], 6000)
    assert dict(found.verdicts) == {"s0": "not connected", "s1": "connected", "s2": "not connected", "s3": "connected"}
    assert found.read["s0"] == 64 < found.read["s1"] < found.read["s3"] < 6000
    assert found.verdict == "not connected"
    judged = found.judge()
    assert (judged.verdict, judged.evaluated, judged.splits) == ("not connected", "not connected", found.verdicts)


def test_what_all_rows_leave_open_is_undetermined() -> None:
    found = settle({0.5: 0.06}, 200)
    assert found.verdict == "undetermined" and found.read == {"s0": 200} == found.samples
    middle = next(point for point in found.points["s0"] if point.t == 0.5)
    assert middle.rows == 200 and middle.verdict == "not settled"
    assert middle.interval[0] <= 0.05 < middle.interval[1]


def test_verdicts_are_those_of_the_full_evaluation() -> None:
    """Over many truths: never the opposite, and what the full evaluation settles is settled."""
    truths = [{t: share} for t in (0.25, 0.5) for share in (0.0, 0.01, 0.03, 0.08, 0.15, 0.3) for _ in range(3)]
    found = settle(truths, 600)
    data = {f"s{number}": make_rows(truth, 600, seed=number + 1) for number, truth in enumerate(truths)}
    full = mc.evaluate_path(Stretch(), LINE, mc.Suite(data, reference="s0"), POINTS, keep_samples=True)
    pairs = {split: (found.verdicts[split], full.connection(split, 0.05, "accuracy").verdict) for split in data}
    assert not {*pairs.values()} & {("connected", "not connected"), ("not connected", "connected")}
    assert {first for first, _ in pairs.values()} == {"connected", "not connected", "undetermined"}
    assert [split for split, (own, whole) in pairs.items() if own == "undetermined" != whole] == []
    assert found.rows_read < 0.7 * 5 * 600 * len(truths)


@pytest.mark.parametrize(
    ("truth", "wrong"),
    [
        (dict.fromkeys((0.25, 0.5, 0.75), 0.05), "not connected"),
        ({0.5: 0.05}, "not connected"),
        (dict.fromkeys((0.25, 0.5, 0.75), 0.0501), "connected"),
        ({0.75: 0.055}, "connected"),
        ({0.25: 0.04}, "not connected"),
        ({0.5: 0.08}, "connected"),
        ({0.25: 0.3}, "connected"),
        ({}, "not connected"),
    ],
)
def test_verdicts_are_wrong_in_five_of_a_hundred_at_most(truth: dict[float, float], wrong: str) -> None:
    """Forty draws, a split each; by the theory one on average at most. The larger run is a benchmark."""
    found = settle([truth] * 40, 300)
    assert list(found.verdicts.values()).count(wrong) <= 3  # pyright: ignore[reportArgumentType]


def test_the_order_is_drawn_anew_by_another_seed_and_is_the_same_by_the_same() -> None:
    first, again, other = (settle({0.5: 0.1}, 2000, seed=seed) for seed in (0, 0, 1))
    assert first == again and first.points != other.points
    assert first.verdict == other.verdict == "not connected"


def test_where_a_plan_needs_all_of_few_rows_they_are_read_at_once() -> None:
    """A point on the tolerance: 64 rows, then the rest, at the point and at both ends."""
    data = make_rows({0.5: 0.05}, 600, seed=2)
    READ.clear()
    found = mc.settle_path(Stretch(), LINE, mc.Suite({"cue": data}), (0.0, 0.5, 1.0))
    assert found.verdict == "undetermined" and found.read == {"cue": 600}
    assert sum(READ) == 3 * 600 and READ[:3] == [64] * 3 and min(READ[3:]) > 64  # 64 rows, and 536 in batches


def test_rows_whose_network_has_no_answer_settle_nothing() -> None:
    x, y = make_rows({}, 300)
    x[::7] = torch.tensor([0.3, 10.0], dtype=torch.float64)
    found = mc.settle_path(Stretch(), LINE, mc.Suite({"cue": (x, y), "whole": make_rows({0.5: 0.6}, 300)}), POINTS)
    assert dict(found.verdicts) == {"cue": "undetermined", "whole": "not connected"}
    assert {(bad.split, bad.t) for bad in found.undefined} == {("cue", 1.0)} and not found.points["cue"]
    assert any("has no accuracy at t = " in sentence for sentence in found.findings)


# ---------------------------------------------------------------- what is settled on


def off_by(outputs: Tensor, _: Tensor) -> Tensor:
    return outputs.softmax(1)[:, 1]


def test_a_metric_with_bounds_settles_and_one_without_is_refused() -> None:
    suite = mc.Suite({"cue": make_rows({0.5: 0.6}, 3000)})
    bounded = {"brier": mc.Metric(off_by, bounds=(0.0, 1.0))}
    found = mc.settle_path(Stretch(), LINE, suite, POINTS, metrics=bounded, on="brier", tolerance=0.2)
    assert found.verdict == "connected" and found.unit == "in brier"  # outputs so close to zero are far from certain
    full = mc.evaluate_path(Stretch(), LINE, suite, POINTS, metrics=bounded, keep_samples=True)
    assert full.connection("cue", 0.2, "brier").verdict == "connected"
    said = one_line(lambda: mc.settle_path(Stretch(), LINE, suite, metrics={"free": off_by}, on="free"))
    assert said.startswith("metric 'free' has no bounds, so that rows not yet read could change any verdict")
    said = one_line(lambda: mc.settle_path(Stretch(), LINE, suite, on="loss"))
    assert "a loss has no bounds" in said and "metrics={'brier': mc.Metric(function, bounds=(0.0, 1.0))}" in said
    assert "evaluate_path(..., keep_samples=True), audit(until='end')" in said  # the latter: `test_settled_lines`
    assert full.connection("cue", 0.05).verdict in ("connected", "not connected", "undetermined")
    assert "did you mean 'accuracy'" in one_line(lambda: mc.settle_path(Stretch(), LINE, suite, on="acuracy"))
    assert "three points or more" in one_line(lambda: mc.settle_path(Stretch(), LINE, suite, 2))
    assert mc.settle_path(Stretch(), LINE, suite, ts=11).verdict == "not connected"


def test_targets_that_are_no_classes_are_settled_by_a_metric() -> None:
    model, x = build(lambda: nn.Linear(3, 1), 0), torch.randn(300, 3, generator=torch.Generator().manual_seed(1))
    path = mc.LinearPath.between(model, build(lambda: nn.Linear(3, 1), 1))
    suite = mc.Suite({"cue": (x, x[:, :1])})
    errors = {"error": mc.Metric(lambda f, y: (f - y).abs()[:, 0].clamp(max=1.0), (0.0, 1.0))}

    def settled(on: str) -> mc.SettledPath:
        return mc.settle_path(model, path, suite, 3, on=on, metrics=errors, loss=lambda f, y: (f - y).square()[:, 0])

    assert "metrics={'error': mc.Metric(function, (low, high))}, on='error'" in one_line(lambda: settled("accuracy"))
    found = settled("error")
    network = mc.Evaluator(model, suite, metrics=errors, loss=lambda f, y: (f - y).square()[:, 0])
    means = [network.along(path, t, mc.KeepNorm())[0]["cue"].metrics["error"] for t in (0.0, 0.5, 1.0)]
    rise = [float(values.mean()) for values in means]
    assert found.points["cue"][0].interval[0] <= rise[1] - (rise[0] + rise[2]) / 2 <= found.points["cue"][0].interval[1]


# ---------------------------------------------------------------- data in other forms


def test_loaders_are_read_in_their_order() -> None:
    x, y = make_rows({0.25: 0.5}, 1000)
    loader = DataLoader(TensorDataset(x, y), batch_size=50)
    READ.clear()
    found = mc.settle_path(Stretch(), LINE, mc.Suite({"cue": loader}), POINTS)
    assert found.verdict == "not connected" and found.samples == {"cue": None}
    assert found.read["cue"] % 50 == 0 and sum(READ) < 5 * 1000
    quarter = next(point for point in found.points["cue"] if point.t == 0.25)
    assert quarter.mean == float((x[: quarter.rows, 0] > 0).double().mean())
    whole = mc.settle_path(Stretch(), LINE, mc.Suite({"cue": DataLoader(TensorDataset(x[:90], y[:90]), 50)}), POINTS)
    assert whole.read == whole.samples == {"cue": 90}
    shuffled = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=True)
    said = one_line(lambda: mc.settle_path(Stretch(), LINE, mc.Suite({"cue": shuffled})))
    assert "shuffles" in said and "to read until settled pass its dataset" in said and "until=" not in said
    assert mc.settle_path(Stretch(), LINE, mc.Suite({"cue": TensorDataset(x, y)}), POINTS).verdict == "not connected"
    said = one_line(lambda: mc.measure_invariance(Stretch(), mc.Suite({"cue": (x, y), "r": shuffled}), until="settled"))
    assert "to read until settled pass its dataset" in said and "a loader with shuffle=False" in said
    ordered = mc.Suite({"cue": (x, y), "r": DataLoader(TensorDataset(x, y), batch_size=50, shuffle=False)})
    assert mc.measure_invariance(Stretch(), ordered, until="settled").invariant_to == ("r",)


def test_clusters_are_read_whole_and_judged_over_clusters() -> None:
    """Ten copies of each row say no more than one."""
    x, y = make_rows({0.5: 0.5}, 600)
    copies, labels = x.repeat_interleave(10, 0), torch.arange(600).repeat_interleave(10)
    suite = mc.Suite({"cue": (copies, y.repeat_interleave(10))})
    found = mc.settle_path(Stretch(), LINE, suite, POINTS, cluster=labels)
    assert found.verdict == "not connected" and found.clusters["cue"] * 10 == found.read["cue"] > 64
    same = mc.settle_path(Stretch(), LINE, mc.Suite({"cue": make_rows({}, 600)}), POINTS, cluster=torch.arange(600))
    assert same.verdict == "connected"
    loader = mc.Suite({"cue": DataLoader(TensorDataset(copies, y.repeat_interleave(10)), batch_size=50)})
    said = one_line(lambda: mc.settle_path(Stretch(), LINE, loader, cluster={"cue": labels}))
    assert said.startswith("reading until settled with cluster= takes whole clusters by index, and split 'cue' is a Da")
    assert "pass its dataset, or an (x, y) pair of tensors" in said
    data = mc.Suite({"cue": TensorDataset(copies, y.repeat_interleave(10))})
    assert mc.settle_path(Stretch(), LINE, data, POINTS, cluster={"cue": labels}) == found


def test_rows_that_show_each_other_are_judged_over_their_links() -> None:
    model, data = build(mlp, 0), rows(300)
    swapped = SwapColumn(columns=0)(data)
    path = mc.LinearPath.between(model, build(mlp, 1))
    found = mc.settle_path(model, path, mc.Suite({"cue": data, "other": swapped}), 3)
    full = mc.evaluate_path(model, path, mc.Suite({"cue": data, "other": swapped}), 3, keep_samples=True)
    assert found.clusters.keys() == full.clusters.keys() == {"other"}
    own, whole = found.verdicts["other"], full.connection("other", 0.05, "accuracy").verdict
    assert {own, whole} != {"connected", "not connected"}


# ---------------------------------------------------------------- statistics and ends


def moved_statistics() -> tuple[nn.Module, nn.Module]:
    a, b = (build(norm_mlp, seed).eval() for seed in range(2))
    with torch.no_grad():
        for module in b.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.add_(5.0)  # pyright: ignore
    return a, b


def test_an_end_that_is_another_network_leaves_connected_undetermined() -> None:
    a, b = moved_statistics()
    line, suite, norm = mc.LinearPath.between(a, b), mc.Suite({"cue": rows(400)}), mc.Reestimate(rows(400))
    found = mc.settle_path(a, line, suite, 3, norm=norm, tolerance=1.0)
    assert [shift.end for shift in found.shifted if shift.end == "B"] == ["B"]
    assert found.verdict == "undetermined" and found.judge().evaluated == "connected"
    assert "Its ends are not the networks as saved" in found.findings[0]
    full = mc.evaluate_path(a, line, suite, 3, norm=norm)
    assert {shift.end for shift in full.shifted_ends()} == {shift.end for shift in found.shifted}
    kept = mc.settle_path(a, line, suite, 3, norm=mc.InterpolateNorm(), tolerance=1.0)
    assert kept.verdict == "connected" and not kept.shifted


class Counted:
    """Batches that count how often they are read."""

    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        self.data, self.passes = data, 0

    def __iter__(self):
        self.passes += 1
        yield self.data


def test_statistics_are_estimated_once_at_each_point() -> None:
    a, b = (build(norm_mlp, seed).eval() for seed in range(2))
    norm_data = Counted(rows(64))
    suite = mc.Suite({"cue": rows(900), "other": rows(900, 3)})
    found = mc.settle_path(a, mc.LinearPath.between(a, b), suite, 5, norm=mc.Reestimate(norm_data), tolerance=0.02)
    points = {t for split in suite for t in found.seen(split)}
    assert max(found.read.values()) > 64  # some point was read at several looks
    assert norm_data.passes == len(points)


def test_policies_that_change_weights_are_asked_at_every_reading() -> None:
    a, b = (build(mlp, seed) for seed in range(2))
    suite, norm = mc.Suite({"cue": rows(300)}), mc.Repair(rows(100))
    line = mc.LinearPath.between(a, b)
    found = mc.settle_path(a, line, suite, 5, norm=norm, tolerance=0.3)
    full = mc.evaluate_path(a, line, suite, 5, norm=norm, keep_samples=True)
    order = draw_order(300, None, 0)
    for point in found.points["cue"]:
        right = full.per_sample["accuracy"]["cue"][full.ts.index(point.t)][order[: point.rows]]
        assert point.mean == pytest.approx(1 - float(right.double().mean()))


def test_rises_are_those_of_the_full_evaluation_on_the_rows_read() -> None:
    a, b = (build(norm_mlp, seed).eval() for seed in range(2))
    suite, line = mc.Suite({"cue": rows(500), "other": rows(350, 3)}), mc.LinearPath.between(a, b)
    found = mc.settle_path(a, line, suite, 9, norm=mc.Reestimate(rows(64)), tolerance=0.02, seed=3)
    full = mc.evaluate_path(a, line, suite, 9, norm=mc.Reestimate(rows(64)), keep_samples=True)
    assert any(len(points) > 1 for points in found.points.values())
    for split, points in found.points.items():
        order, right = draw_order(len(full.per_sample["accuracy"][split][0]), None, 3), full.per_sample["accuracy"]
        for point in points:
            wrong = [1 - right[split][i][order[: point.rows]].double() for i in (0, full.ts.index(point.t), -1)]
            first, here, last = (float(values.mean()) for values in wrong)
            assert point.rise == pytest.approx(here - (1 - point.t) * first - point.t * last, abs=1e-12)


def test_the_interval_of_the_barrier_is_over_all_points_allowed() -> None:
    found = settle([{0.5: 0.6}, {}], 2000)
    low, high = found.barrier("s0").interval or (0.0, 0.0)
    assert 0.05 < low < 0.6 and high == 1.0  # the quarters were not visited
    low, high = found.barrier("s1").interval or (1.0, 1.0)
    assert low == 0.0 and high == max(point.interval[1] for point in found.points["s1"]) <= 0.05
    assert np.isclose(found.barrier("s1").height, 0.0)
