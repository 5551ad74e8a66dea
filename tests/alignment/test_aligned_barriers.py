"""Barriers before and after alignment: a planted permutation's barrier goes, and a null pair stands beside."""

from __future__ import annotations

import copy
import csv
from pathlib import Path

import pytest
import torch
from torch import nn

import mechconn as mc
from zoo import CLASSES, FEATURES, build, rows

EXAMPLE = torch.zeros(2, FEATURES, dtype=torch.float64)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def trained(seed: int) -> nn.Module:
    x, _ = rows(60)
    labels = x[:, :CLASSES].argmax(1)
    return mc.train(build(net, seed), (x, labels), mc.Training(epochs=30, batch_size=20, lr=0.2), seed=seed).model


def suite() -> mc.Suite:
    x, _ = rows(60)
    return mc.Suite({"cue": (x, x[:, :CLASSES].argmax(1)), "rand_cue": (-x, x[:, :CLASSES].argmax(1))})


def test_a_planted_permutation_leaves_no_barrier_after_alignment() -> None:
    a = trained(1)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    b = copy.deepcopy(a)
    b.load_state_dict(symmetry.apply(a.state_dict(), symmetry.random(1)))
    found = mc.evaluate_alignment(a, b, mc.WeightMatching(restarts=2), suite(), 5, symmetry=symmetry)
    assert list(found) == ["before", "after"] and len(found) == 2
    assert found.barriers("cue")["before"].height > 0.01
    # One function at every t; what is left is rounding of the interpolation.
    assert found.barriers("cue")["after"].height == pytest.approx(0.0, abs=1e-12)
    assert found.alignment.distance_after < 1e-12 * found.alignment.distance_before and found.null is None


def test_lines_are_those_of_evaluate_path(tmp_path: Path) -> None:
    a, b, c = trained(1), trained(2), trained(3)
    symmetry = mc.symmetry_of(a, EXAMPLE)
    method = mc.ActivationMatching(rows(60))
    found = mc.evaluate_alignment(a, b, method, suite(), 5, null=(b, c), symmetry=symmetry, keep_samples=True)
    assert list(found) == ["before", "after", "null before", "null after"]
    aligned = mc.align(b, c, method, symmetry)
    line = mc.LinearPath(mc.parameters_of(b), aligned.params)
    expected = mc.evaluate_path(b, line, suite(), 5).loss
    for split, values in found["null after"].loss.items():
        # At t = 1 the permuted network has the outcomes of the one before: the same sums in another order.
        assert values[:-1] == expected[split][:-1]
        assert values[-1] == pytest.approx(expected[split][-1], rel=1e-12)
    assert found.null is not None and found.null.distance_after == aligned.distance_after
    assert found.barriers("cue")["after"].interval is not None
    text = str(found)
    assert "barrier in loss, null before: cue" in text and "distance" in text
    assert all(f"  note: {note}" in text.splitlines() for note in found.alignment.notes)
    found.to_csv(tmp_path / "lines.csv")
    with (tmp_path / "lines.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["line"] for row in table] == [line for line in found for _ in range(10)]
    assert len(found.plot().axes) == 1


def test_a_policy_reads_the_ends_of_each_line() -> None:
    a, b = trained(1), trained(2)
    symmetry, data = mc.symmetry_of(a, EXAMPLE), rows(60)
    found = mc.evaluate_alignment(
        a,
        b,
        mc.WeightMatching(restarts=2),
        suite(),
        5,
        norm=mc.Repair(data),
        symmetry=symmetry,
    )
    for which, other in (("before", b), ("after", found.alignment.model)):
        expected = mc.evaluate_path(a, mc.LinearPath.between(a, other), suite(), 5, norm=mc.Repair(data)).loss
        for split, values in found[which].loss.items():
            assert values[:-1] == expected[split][:-1]
            # At t = 1 the permuted network has the outcomes of the one before: the same sums in another order.
            assert values[-1] == pytest.approx(expected[split][-1], rel=1e-12)
    assert found["after"].settings["norm"]["policy"] == "repair"
