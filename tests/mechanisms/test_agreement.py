"""Natural data with a place that goes with the class: rows where they agree against rows where they conflict.

The witness is built so that every rate is known: so many rows of each class at either place, so many read right.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from lookup import Copier
from mechconn.core import CUE

PLACE, OBJECT = 0, 1
CELLS = {("land", 0): (3000, 2970), ("sea", 0): (600, 594), ("land", 1): (200, 180), ("sea", 1): (800, 720)}
"""(place, class) -> (rows, rows whose object is read right): class 0 is large and easy, class 1 small and hard."""


def birds(cells: dict[tuple[str, int], tuple[int, int]] = CELLS) -> tuple[tuple[torch.Tensor, torch.Tensor], list[str]]:
    """((what the place says, what the object looks like), class) for each row, and the places; rows are mixed."""
    x, y, places = [], [], []
    for (place, label), (count, right) in cells.items():
        for number in range(count):
            x.append([float(place == "sea"), float(label if number < right else 1 - label)])
            y.append(label)
            places.append(place)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0)).tolist()
    pair = torch.tensor([x[row] for row in order], dtype=torch.float64), torch.tensor([y[row] for row in order])
    return pair, [places[row] for row in order]


def suite_of(cells: dict[tuple[str, int], tuple[int, int]] = CELLS, **named: Any) -> mc.Suite:
    return mc.Suite(mc.split_by_agreement(*birds(cells), **named), reference="agree")


def test_a_network_that_reads_the_place_alone() -> None:
    """As right on land as at sea, so a split for each place calls it invariant; and it is wrong in every conflict."""
    even = {("land", 0): (2700, 2700), ("sea", 0): (300, 300), ("land", 1): (300, 300), ("sea", 1): (2700, 2700)}
    by_place = mc.measure_invariance(Copier(PLACE), mc.Suite(mc.split_by_group(*birds(even)), reference="land"))
    assert (by_place.accuracy["land"], by_place["sea"].effect, by_place["sea"].verdict) == (0.9, 0.0, "invariant")
    assert by_place["sea"].observational and not by_place["sea"].paired
    (note,) = by_place.notes
    assert note.startswith("'sea' against 'land': observational: the two splits hold other rows")
    assert "equal accuracy does not show that the group is not used" in note and "split_by_agreement" in note
    for cells in (even, CELLS):
        found = mc.measure_invariance(Copier(PLACE), suite_of(cells))
        effect = found["conflict"]
        assert (effect.effect, effect.verdict, found.sensitive_to) == (-1.0, "sensitive", ("conflict",))
        assert effect.interval[0] == -1.0 and effect.interval[1] < -0.97
        assert {label: change.effect for label, change in effect.by_class.items()} == {0: -1.0, 1: -1.0}


def test_a_network_that_reads_the_object_alone() -> None:
    """Invariant, though the classes differ in size and difficulty: a comparison of all rows says otherwise."""
    found = mc.measure_invariance(Copier(OBJECT), suite_of())
    effect = found["conflict"]
    assert effect.effect == pytest.approx(0.0, abs=1e-12)
    assert (effect.verdict, effect.paired, effect.observational, effect.changed) == ("invariant", False, True, None)
    assert found.accuracy["agree"] == pytest.approx(3690 / 3800) and found.accuracy["conflict"] == 774 / 800
    assert found.samples == {"agree": 3800, "conflict": 800}
    uneven = {**CELLS, ("sea", 0): (60, 59), ("land", 1): (700, 630), ("sea", 1): (900, 810)}
    found = mc.measure_invariance(Copier(OBJECT), suite_of(uneven))
    assert found.accuracy["conflict"] - found.accuracy["agree"] < -0.05  # beyond the margin
    assert abs(found["conflict"].effect) < 0.005
    assert found["conflict"].by_class[1].effect == pytest.approx(0.0, abs=1e-12)


def test_rows_are_unpaired_where_labels_come_in_one_order_by_chance() -> None:
    even = {("land", 0): (50, 50), ("sea", 0): (50, 50), ("land", 1): (50, 50), ("sea", 1): (50, 50)}
    (x, y), places = birds(even)
    order = torch.tensor(sorted(range(200), key=lambda row: (int(y[row]), places[row] != ("land", "sea")[int(y[row])])))
    pair, sorted_places = (x[order], y[order]), [places[row] for row in order.tolist()]
    splits = mc.split_by_agreement(pair, sorted_places, agrees={0: "land", 1: "sea"})
    assert torch.equal(splits["agree"].y, splits["conflict"].y)
    effect = mc.measure_invariance(Copier(PLACE), mc.Suite(splits, reference="agree"))["conflict"]
    assert (effect.effect, effect.paired, effect.changed) == (-1.0, False, None)
    groups = mc.Suite(mc.split_by_group(pair, sorted_places), reference="land")
    assert not mc.measure_invariance(Copier(PLACE), groups)["sea"].paired


def test_an_intervention_on_such_rows_is_paired_and_no_observation() -> None:
    splits = mc.split_by_agreement(*birds())
    agree = splits["agree"]
    moved = agree.inputs(torch.arange(len(agree))).flip(1), agree.y
    effect = mc.measure_invariance(Copier(OBJECT), mc.Suite({CUE: agree, "swapped": moved}, paired=True))["swapped"]
    assert effect.paired and not effect.observational and effect.changed is not None


def test_the_effect_on_the_loss_is_within_classes_too() -> None:
    found = mc.measure_invariance(Copier(OBJECT), suite_of(), margin=0.5, on="loss")
    assert found["conflict"].effect == pytest.approx(0.0, abs=1e-9) and found["conflict"].verdict == "invariant"
    assert found.notes[1] == "intervals of the loss within classes are Welch's t, which is approximate: 'conflict'"
    reads = mc.measure_invariance(Copier(PLACE), suite_of(), margin=0.5, on="loss")["conflict"]
    assert (reads.effect, reads.verdict) == (pytest.approx(10.0, abs=1e-3), "sensitive")
    assert reads.accuracy is not None and reads.accuracy.effect == -1.0
    both = mc.measure_invariance(Copier(OBJECT), suite_of())["conflict"]
    assert both.loss is not None and both.loss.effect == pytest.approx(0.0, abs=1e-9)
    few = {**CELLS, ("sea", 0): (1, 1)}
    with pytest.raises(ValueError, match="needs two rows or more of every class on both sides"):
        mc.measure_invariance(Copier(OBJECT), suite_of(few), on="loss")
    one = mc.measure_invariance(Copier(OBJECT), suite_of(few))["conflict"]
    assert one.loss is not None and one.loss.interval is None and one.verdict == "undetermined"


def test_two_models_and_several_runs() -> None:
    found = mc.compare_mechanisms(Copier(PLACE), Copier(OBJECT), suite_of())
    assert (found.verdict, found.why) == ("dissimilar", "A is sensitive to conflict and B is invariant to it")
    apart = found.differences["conflict"]
    assert apart.effect == pytest.approx(1.0) and apart.interval[0] < 1.0 < apart.interval[1]
    assert str(found).splitlines()[-1].startswith("  note: 'conflict' against 'agree': observational: ")
    runs = mc.compare_mechanisms([Copier(PLACE)] * 3, [Copier(OBJECT)] * 3, suite_of())
    assert runs.a["conflict"].effect == -1.0 and runs.b["conflict"].effect == pytest.approx(0.0, abs=1e-12)
    assert runs.differences["conflict"].effect == pytest.approx(1.0)
    assert runs.a.notes == found.a.notes and len(runs.a.notes) == 1
    assert mc.compare_mechanisms(Copier(OBJECT), Copier(OBJECT), suite_of(), on="loss", margin=2.0).verdict == "similar"


def test_classes_whose_effects_cancel_are_told() -> None:
    """Class 1 is mostly on land as class 0 is, and the network takes the sea for it."""
    assert len(mc.measure_invariance(Copier(PLACE), suite_of()).notes) == 1
    three = {("land", 0): (200, 200), ("sea", 0): (100, 100), ("land", 1): (200, 200), ("sea", 1): (100, 100)}
    (x, y), places = birds({**three, ("hill", 2): (50, 50), ("sea", 2): (40, 40)})
    suite = mc.Suite(mc.split_by_agreement((x, y), places), reference="agree")
    found = mc.measure_invariance(Copier(PLACE), suite)
    assert found["conflict"].effect == pytest.approx(0.0, abs=1e-12)
    assert found.notes[1].startswith(
        "'conflict' against 'agree': the effect is positive in class 1 and negative in class 0"
    )


def test_records_sentences_and_methods_say_the_same() -> None:
    found = mc.audit(Linear(PLACE), Linear(OBJECT), suite_of(), ts=3, alignment="none")
    assert found.verdict == "dissimilar"
    (said,) = [sentence for sentence in found.findings if "observational" in sentence]
    assert said.startswith("Of both: 'conflict' against 'agree': observational: ") and said.endswith("weight.")
    record = json.loads(found.to_json())
    assert record["comparison"]["a"]["effects"]["conflict"]["observational"] is True
    assert record["comparison"]["a"]["effects"]["conflict"]["effect"] == -1.0
    task = mc.TuningTask(Linear(OBJECT), birds()[0], suite_of())
    table = mc.compare_methods(task, {"FT": mc.NaiveFineTuning(epochs=1, lr=1e-9)})
    assert table.effects("start")["conflict"].mean == pytest.approx(0.0, abs=1e-12)


class Linear(nn.Module):
    """Reads one column by a linear map."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self.out = nn.Linear(2, 2, device="meta", dtype=torch.float64)
        weight = torch.zeros(2, 2, dtype=torch.float64)
        weight[:, column] = torch.tensor([-4.0, 4.0])
        self.out.weight = nn.Parameter(weight)
        self.out.bias = nn.Parameter(torch.tensor([2.0, -2.0], dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x)
