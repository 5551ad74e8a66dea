"""Groups that overlap: each column of marks with each label, and intervals that hold for all together."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

import mechconn as mc

NAMES = ("male", "female", "lgbtq", "christian", "muslim", "other_religions", "black", "white")
"""The marks of CivilComments in WILDS."""


def answers(predicted: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of these predictions, with the labels."""
    return nn.functional.one_hot(predicted, 2).double(), y


def comments(
    rows: int = 400, share: float = 0.15, right: float = 0.8
) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
    """((predictions, labels), marks): rows that may have several marks, or none."""
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (rows,), generator=draw)
    hit = torch.rand(rows, generator=draw) < right
    marks = {name: (torch.rand(rows, generator=draw) < share).long() for name in NAMES}
    return answers(torch.where(hit, y, 1 - y), y), marks


def test_each_mark_with_each_label_is_a_group() -> None:
    (x, y), marks = comments()
    found = mc.measure_groups(nn.Identity(), (x, y), marks, overlapping=True)
    assert list(found) == [f"{name}=1, y={label}" for name in NAMES for label in (0, 1)]
    right = x.argmax(1) == y
    for name, mark in marks.items():
        for label in (0, 1):
            members = (mark == 1) & (y == label)
            group, hits = found[f"{name}=1, y={label}"], int(right[members].sum())
            assert (group.rows, group.accuracy) == (int(members.sum()), hits / int(members.sum()))
            for interval, confidence in ((group.interval, 0.95), (group.simultaneous, 1 - 0.05 / 16)):
                expected = binomtest(hits, group.rows).proportion_ci(confidence, "exact")
                assert interval == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert sum(group.rows for group in found.values()) != len(y)
    assert found.mean == float(right.double().mean())  # over all rows, also those without a mark
    ends = [found[name].simultaneous for name in found]
    assert found.worst_interval == (min(low for low, _ in ends), min(high for _, high in ends))


def test_marks_in_every_form_and_the_label_among_them() -> None:
    (x, y), marks = comments()
    plain = mc.measure_groups(nn.Identity(), (x, y), marks, overlapping=True)
    for forms in (
        {name: mark.bool() for name, mark in marks.items()},
        {name: (2 * mark - 1).tolist() for name, mark in marks.items()},
        {name: mark.double().numpy() for name, mark in marks.items()},
        {name: [str(int(value)) for value in mark] for name, mark in marks.items()},
        {"y": y, **marks},
    ):
        assert mc.measure_groups(nn.Identity(), (x, y), forms, overlapping=True) == plain
    named = mc.measure_groups(nn.Identity(), (x, y), {**marks, "toxic": y}, overlapping=True)
    assert list(named)[:2] == ["male=1, toxic=0", "male=1, toxic=1"] and len(named) == 16
    assert mc.measure_groups(nn.Identity(), (x, y), {**marks, "toxic": 2 * y - 1}, overlapping=True) == named
    with pytest.raises(ValueError, match=r"groups\['endless'\] must hold marks for overlapping=True, .* got inf; with"):
        mc.measure_groups(
            nn.Identity(), (x, y), {"endless": torch.where(marks["male"] == 1, torch.inf, 0.0)}, overlapping=True
        )


def test_marks_that_are_equal_to_the_labels() -> None:
    """One column names the labels; a mark that happens to be equal to them is a group of its own."""
    (x, y), marks = comments()
    alone = mc.measure_groups(nn.Identity(), (x, y), {"male": y}, overlapping=True)
    assert {name: group.rows for name, group in alone.items()} == {"male=1, y=1": int(y.sum())}
    both = mc.measure_groups(nn.Identity(), (x, y), {"toxic": y, "male": y, "white": marks["white"]}, overlapping=True)
    assert list(both) == ["male=1, toxic=1", "white=1, toxic=0", "white=1, toxic=1"]


def test_a_record_and_what_is_printed() -> None:
    pair, marks = comments()
    found = mc.measure_groups(nn.Identity(), pair, marks, overlapping=True)
    lines = str(found).splitlines()
    assert lines[0] == "accuracy by overlapping group (95 % intervals):"
    assert len(lines) == 1 + 16 + 2
    record = json.loads(found.to_json())
    assert record["overlapping"] is True and record["groups"]["male=1, y=0"]["rows"] == found["male=1, y=0"].rows
    assert mc.GroupAccuracies.from_dict(record) == found
    del record["overlapping"]  # as files of before
    assert not mc.GroupAccuracies.from_dict(record).overlapping


def test_intervals_of_groups_that_share_rows_hold_together() -> None:
    """Sixteen groups, each of the same rows as another: in 95 % of draws all intervals hold the truth, at least."""
    draws, holds, chance = 100, 0, np.random.default_rng(0)
    y = torch.arange(240) % 2
    marks = {str(k): torch.arange(240) // 30 == k // 2 for k in range(8)}
    for _ in range(draws):
        hit = torch.from_numpy(chance.random(240) < 0.8)
        pair = answers(torch.where(hit, y, 1 - y), y)
        found = mc.measure_groups(nn.Identity(), pair, marks, overlapping=True)
        holds += all(group.simultaneous[0] <= 0.8 <= group.simultaneous[1] for group in found.values())
    # At least 95 % by construction; Binomial(100, 0.95) falls below 89 with probability 0.4 %.
    assert holds >= 89


def test_clusters_and_rows_that_do_not_count() -> None:
    (x, y), marks = comments()
    clusters = (torch.arange(400) // 4).tolist()
    found = mc.measure_groups(nn.Identity(), (x, y), marks, overlapping=True, cluster=clusters)
    assert found.clusters["male=1, y=0"] <= found["male=1, y=0"].rows
    left = torch.where(torch.arange(400) < 50, -1, y)
    kept = mc.losses.CrossEntropy(ignore_index=-1)
    some = mc.measure_groups(nn.Identity(), (x, left), marks, overlapping=True, loss=kept)
    alone = {name: mark[50:] for name, mark in marks.items()}
    whole = mc.measure_groups(nn.Identity(), (x[50:], y[50:]), alone, overlapping=True)
    assert some.groups == whole.groups


def test_what_does_not_fit_is_said_in_a_line_for_each_column() -> None:
    (x, y), marks = comments()
    model = nn.Identity()
    place, share = ["land"] * 400, torch.rand(400, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError) as caught:
        mc.measure_groups(model, (x, y), {**marks, "place": place, "share": share, "few": [1]}, overlapping=True)
    assert [line.split(",")[0] for line in str(caught.value).splitlines()] == [
        "groups['place'] must hold marks for overlapping=True",
        "groups['share'] must hold groups",
        "groups['few'] must have one value for each of 400 rows",
    ]
    with pytest.raises(ValueError, match=r"groups\['code'\] must hold marks for overlapping=True, .* got 399; without"):
        mc.measure_groups(model, (x, y), {**marks, "code": torch.arange(400)}, overlapping=True)
    with pytest.raises(
        TypeError, match=r"overlapping=True needs columns of marks by name, \{name: marks\}, got Tensor"
    ):
        mc.measure_groups(model, (x, y), marks["male"], overlapping=True)
    for infinite in (float("inf"), "1e999"):
        with pytest.raises(
            ValueError, match=r"groups\['code'\] must hold marks for overlapping=True, .* got '?(inf|1e)"
        ):
            mc.measure_groups(model, (x, y), {"code": [infinite, *[1] * 399]}, overlapping=True)
    with pytest.raises(TypeError, match=r"needs columns of marks by name, \{name: marks\}, got no columns"):
        mc.measure_groups(model, (x, y), {}, overlapping=True)
    with pytest.raises(ValueError, match="no row has a mark in none; overlapping=True measures the rows marked 1"):
        mc.measure_groups(model, (x, y), {"none": torch.zeros(400)}, overlapping=True)
    with pytest.raises(ValueError, match="groups that overlap have no shares that add up to 1; leave out train_groups"):
        mc.measure_groups(model, (x, y), marks, train_groups=marks, overlapping=True)
    several = torch.zeros(400, 3), torch.zeros(400, 3)
    with pytest.raises(
        ValueError, match="overlapping=True takes each column with each label, and rows of this task have"
    ):
        mc.measure_groups(model, several, marks, overlapping=True, loss=mc.losses.binary)


def test_fractions_mixed_types_and_their_remedies() -> None:
    """A column of floats would be a group for every value; what the error advises is done here."""
    pair, _ = comments()
    share = torch.rand(400, generator=torch.Generator().manual_seed(0))
    for column in (share, share.tolist(), [f"{value:.3f}" for value in share.tolist()], {"male": share}):
        with pytest.raises(
            ValueError, match=r"must hold groups, got the fraction .* in row 0; cut the column at a thr"
        ):
            mc.measure_groups(nn.Identity(), pair, column)
    with pytest.raises(ValueError, match="column must hold groups, got the fraction"):
        mc.split_by_agreement(pair, share)
    assert list(mc.measure_groups(nn.Identity(), pair, share >= 0.5)) == ["False", "True"]
    assert list(mc.measure_groups(nn.Identity(), pair, ["0.5 mg", "1.5 mg"] * 200)) == ["0.5 mg", "1.5 mg"]
    with pytest.raises(
        ValueError, match=r"groups holds text and numbers \('a' in row 1, 1 in row 0\); give all rows one"
    ):
        mc.measure_groups(nn.Identity(), pair, [1, "a"] * 200)
