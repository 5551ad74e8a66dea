"""Groups in an audit: the numbers of `measure_groups` without a further pass, what it says and saves, and refusals."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc

ROWS = 240
Y = torch.arange(ROWS) % 2
PLACE = torch.where(torch.arange(ROWS) % 6 < 4, Y, 1 - Y)  # agrees with two labels of three
X = torch.stack([2.0 * Y - 1, 2.0 * PLACE - 1], 1)
COLUMNS = {"y": Y, "place": ["land" if own else "sea" for own in PLACE.tolist()]}
TRAIN = {"y": [0, 0, 0, 1, 1], "place": ["sea", "sea", "land", "land", "sea"]}
PATIENT = torch.arange(ROWS) // 3
SIDES = mc.split_by_agreement((X, Y), PLACE)
SUITE = mc.Suite(SIDES, reference="agree")
ROWS_APART = SIDES["conflict"].rows.tolist()
NAMES = ("by place", "by bird")
BOTH = ("agree", "conflict")


def reads(feature: int) -> nn.Module:
    """A network whose logits are minus and plus one feature."""
    weight = torch.zeros(2, 2)
    weight[:, feature] = torch.tensor([-1.0, 1.0])
    model = nn.Linear(2, 2)
    return mc.with_parameters(model, {"weight": weight, "bias": torch.zeros(2)})


A, B = reads(1), reads(0)


def audited(task: Any, suite: mc.Suite = SUITE, **more: Any) -> mc.Audit:
    return mc.audit(A, B, suite, ts=3, alignment="none", names=NAMES, groups=task, **more)


@pytest.fixture(scope="module")
def found() -> mc.Audit:
    return audited(mc.GroupTask(COLUMNS, BOTH, TRAIN))


def test_planted_truth_and_the_numbers_of_the_verb(found: mc.Audit) -> None:
    place, bird = (found.groups[name] for name in NAMES)
    right = {"y=0, place=land": 0.0, "y=0, place=sea": 1.0, "y=1, place=land": 1.0, "y=1, place=sea": 0.0}
    assert {name: own.accuracy for name, own in place.items()} == right
    assert {own.accuracy for own in bird.values()} == {1.0} and place.reweighted == pytest.approx(0.6)
    for name, model in zip(NAMES, (A, B), strict=True):
        alone = mc.measure_groups(model, (X, Y), COLUMNS, train_groups=TRAIN)
        assert found.groups[name].to_dict() == alone.to_dict()


METRIC = {"margin": mc.Metric(lambda z, y: (z.softmax(1)[:, 1] - y).square(), (0.0, 1.0))}
MARKS = {"land": PLACE, "wet": (torch.arange(ROWS) % 5 == 0).long(), "y": Y}
IGNORED = torch.where(torch.arange(ROWS) % 5 == 0, -100, Y)
LEAVES_OUT = {"loss": mc.losses.CrossEntropy(ignore_index=-100)}
WAYS: dict[str, tuple[mc.GroupTask, mc.Suite, Any, Any, dict[str, Any], dict[str, Any]]] = {
    "one split of the whole's labels": (
        mc.GroupTask(COLUMNS, "conflict"), SUITE, SIDES["conflict"],
        {"y": Y[ROWS_APART], "place": [COLUMNS["place"][row] for row in ROWS_APART]}, {}, {},
    ),
    "clusters, and a metric": (
        mc.GroupTask(COLUMNS, BOTH), SUITE, (X, Y), COLUMNS, {"cluster": PATIENT, "metrics": METRIC},
        {"cluster": PATIENT, "metrics": METRIC},
    ),
    "labels alone": (mc.GroupTask(PLACE), mc.Suite({"cue": (X, Y), "b": (X, Y)}), (X, Y), PLACE, {}, {}),
    "rows that do not count": (
        mc.GroupTask(PLACE), mc.Suite({"cue": (X, IGNORED), "b": (X, IGNORED)}), (X, IGNORED), PLACE,
        LEAVES_OUT, LEAVES_OUT,
    ),
    "marks that overlap": (
        mc.GroupTask(MARKS, BOTH, overlapping=True), SUITE, (X, Y), MARKS, {}, {"overlapping": True},
    ),
    "a loader": (
        mc.GroupTask(PLACE, "b"), mc.Suite({"cue": (X, Y), "b": DataLoader(TensorDataset(X, Y), 32)}), (X, Y), PLACE,
        {}, {},
    ),
    "what an intervention made": (
        mc.GroupTask(COLUMNS, "b"),
        mc.intervened((X, Y), {"b": lambda x, draws: x}, reference="cue"), (X, Y), COLUMNS, {}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_rows_are_those_of_the_split(way: str) -> None:
    task, suite, data, columns, here, there = WAYS[way]
    result = audited(task, suite, **here)
    for name, model in zip(NAMES, (A, B), strict=True):
        alone = mc.measure_groups(model, data, columns, **there).to_dict()
        assert result.groups[name].to_dict() == alone


def count_rows(act: Callable[[], object]) -> int:
    rows = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> None:
        nonlocal rows
        rows += len(inputs[0]) if isinstance(module, nn.Linear) else 0

    handle = register_module_forward_hook(note)
    try:
        act()
    finally:
        handle.remove()
    return rows


def test_it_costs_no_further_pass() -> None:
    without, with_groups = (count_rows(lambda task=task: audited(task)) for task in (None, mc.GroupTask(COLUMNS, BOTH)))
    assert without == with_groups > 0


def test_it_is_said_recorded_saved_and_shown(found: mc.Audit, tmp_path: Path) -> None:
    text = str(found)
    low, high = (f"{100 * bound:.1f}" for bound in found.groups["by place"].worst_interval)
    assert (
        "Of 4 groups, by place is right least often in y=0, place=land: on 0.0 % of 40 rows; the least accuracy of "
        f"all groups lies between {low} and {high} % (95 %, for all groups together). Its mean over rows is 66.7 %, "
        "and 60.0 % by the groups' shares of the training data." in text
    )
    assert found.settings["groups"] == {
        "splits": ["agree", "conflict"], "columns": ["y", "place"], "overlapping": False, "train_groups": True,
    }  # fmt: skip
    found.save(tmp_path / "audit.json")
    again = mc.load_result(tmp_path / "audit.json")
    assert again.to_dict() == found.to_dict() and str(again) == text
    (section,) = [own for own in again.sections() if own.title == "Accuracy by group"]
    assert len(section.figures) == 1 and section.figures[0].draw().axes[0].has_data()
    (table,) = section.tables
    assert [str(cell) for cell in table.rows[0]] == [
        "y=0, place=land",
        "40",
        "0.0 (0.0 to 8.8; the worst)",
        "100.0 (91.2 to 100.0; the worst)",
    ]
    mc.save_report(again, tmp_path / "audit.html")
    page = html.unescape((tmp_path / "audit.html").read_text(encoding="utf-8"))
    assert "Accuracy by group" in page and "by bird is right least often in" in page


def test_groups_that_overlap_are_called_so() -> None:
    text = str(audited(mc.GroupTask(MARKS, BOTH, overlapping=True)))
    assert "Of 4 overlapping groups, by place is right least often in land=1, y=0: on 0.0 % of 40 rows" in text


def test_an_audit_saved_before_has_none(found: mc.Audit) -> None:
    again = mc.load_result({key: value for key, value in found.to_dict().items() if key != "groups"})
    assert isinstance(again, mc.Audit) and again.groups == {}
    assert "Accuracy by group" not in [section.title for section in again.sections()]


SHUFFLED = DataLoader(TensorDataset(X, Y), 32, shuffle=True)
MISTAKES: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no task": (
        lambda: audited({"place": PLACE}), TypeError,
        "groups must be a GroupTask, got dict; write mechconn.GroupTask(groups, split)",
    ),
    "no such split": (
        lambda: audited(mc.GroupTask(PLACE, "agreed")), ValueError,
        "the split of groups must be one of 'agree', 'conflict', got 'agreed'; did you mean 'agree'?",
    ),
    "another number of labels": (
        lambda: audited(mc.GroupTask(PLACE[:7])), ValueError,
        "groups must have one label for each of 160 rows of split 'agree', got 7",
    ),
    "a training group that is not there": (
        lambda: audited(mc.GroupTask(PLACE, BOTH, [0, 1, 2])), ValueError,
        "the data hold no rows of these groups of the training data: 2; evaluate on data that have some",
    ),
    "a loader that shuffles": (
        lambda: audited(mc.GroupTask(PLACE, "b"), mc.Suite({"cue": (X, Y), "b": SHUFFLED}), on="loss"), ValueError,
        "the loader of split 'b' shuffles, so that groups cannot be matched to rows; pass one with shuffle=False",
    ),
    "a loader of other rows": (
        lambda: audited(mc.GroupTask(PLACE[:9], "b"), mc.Suite({"cue": (X, Y), "b": [(X, Y)]})), ValueError,
        "groups must have one label for each of 240 rows of split 'b', got 9",
    ),
    "no classification": (
        lambda: audited(mc.GroupTask(PLACE), mc.Suite({"cue": (X, X), "b": (X, X)}), loss=mc.losses.squared, on="loss"),
        ValueError, "accuracy by group needs a classification: ",
    ),
    "shares of what overlaps": (
        lambda: audited(mc.GroupTask(MARKS, BOTH, MARKS, overlapping=True)), ValueError,
        "groups that overlap have no shares that add up to 1; leave out train_groups, or overlapping",
    ),
    "one name for both": (
        lambda: mc.audit(A, B, SUITE, ts=3, names=("a", "a"), groups=mc.GroupTask(PLACE)), ValueError,
        "names must differ where relearning, probes or groups are asked for, got 'a' twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cannot_be_measured_is_refused_in_one_line(case: str) -> None:
    act, kind, text = MISTAKES[case]
    with pytest.raises(kind) as caught:
        act()
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)
