"""What a model is invariant to: effects, intervals and the verdict by equivalence."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from scipy.stats import ttest_1samp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from lookup import Copier, answers
from mechconn.stats import (
    bound_paired_difference,
    bound_paired_mean,
    bound_unpaired_difference,
    bound_unpaired_mean,
    clopper_pearson,
)
from reference import evaluated
from zoo import build, mlp, norm_mlp, rows, split

Y = [0, 1, 2, 0, 1, 2, 0, 1]
RIGHT = list(Y)
TWO_WRONG = [0, 1, 2, 0, 1, 2, 1, 0]


def test_a_paired_effect() -> None:
    suite = mc.Suite({"cue": answers(TWO_WRONG, Y), "rand_cue": answers(RIGHT, Y)}, paired=True)
    effect = mc.measure_invariance(Copier(), suite)["rand_cue"]
    before, after = torch.tensor(TWO_WRONG) == torch.tensor(Y), torch.ones(8, dtype=torch.bool)
    assert (effect.effect, effect.paired, effect.samples, effect.changed) == (0.25, True, 8, 0.25)
    assert effect.interval == bound_paired_difference(before, after)
    assert effect.verdict == "undetermined"  # eight rows are few


def test_an_unpaired_effect() -> None:
    """Other labels in the second split: rows do not correspond."""
    suite = mc.Suite({"cue": answers(TWO_WRONG, Y), "rand_cue": answers([0, 0, 1, 1], [0, 0, 1, 2])})
    effect = mc.measure_invariance(Copier(), suite)["rand_cue"]
    before, after = torch.tensor(TWO_WRONG) == torch.tensor(Y), torch.tensor([True, True, True, False])
    assert (effect.effect, effect.paired, effect.samples, effect.changed) == (0.0, False, 4, None)
    assert effect.interval == bound_unpaired_difference(before, after)


@pytest.mark.parametrize("rows_after", [20, 30])
def test_effects_on_the_loss_are_in_nats(rows_after: int) -> None:
    model, before, after = build(mlp), rows(20, 1), rows(rows_after, 2)
    if rows_after == 20:
        after = (after[0], before[1])
    measured = mc.measure_invariance(model, mc.Suite({"cue": before, "hue": after}), margin=0.01, on="loss")
    here, there = (nn.functional.cross_entropy(model(x), y, reduction="none").detach() for x, y in (before, after))
    interval = (bound_paired_mean if rows_after == 20 else bound_unpaired_mean)(here, there)
    assert measured["hue"].paired == (rows_after == 20)
    assert measured["hue"].effect == pytest.approx(float(there.mean() - here.mean()), abs=1e-12)
    assert measured["hue"].interval == pytest.approx(interval, abs=1e-12)
    assert (measured.on, measured.margin) == ("loss", 0.01)


def test_accuracy_and_loss_are_those_of_the_model_with_its_own_statistics() -> None:
    model, data = build(norm_mlp), split(rows(17), [9, 8])
    measured = mc.measure_invariance(model, mc.Suite({"cue": data, "no_cue": data}))
    loss, accuracy = evaluated(model, data)
    assert measured.loss["cue"] == pytest.approx(loss, rel=1e-12)
    assert measured.accuracy["cue"] == accuracy
    assert measured.accuracy_interval["cue"] == clopper_pearson(round(17 * accuracy), 17)


def test_the_loss_has_an_interval_over_rows() -> None:
    model, data = build(mlp), rows(20, 1)
    measured = mc.measure_invariance(model, mc.Suite({"cue": data, "one": (data[0][:1], data[1][:1])}))
    losses = nn.functional.cross_entropy(model(data[0]), data[1], reduction="none").detach()
    exact = ttest_1samp(losses.numpy(), 0.0).confidence_interval(0.95)
    assert measured.loss_interval == {"cue": pytest.approx((exact.low, exact.high), rel=1e-9), "one": None}
    pairs = [row // 2 for row in range(20)]
    clustered = mc.measure_invariance(model, mc.Suite({"cue": data}), cluster=pairs).loss_interval["cue"]
    exact = ttest_1samp(losses.view(10, 2).mean(1).numpy(), 0.0).confidence_interval(0.95)
    assert clustered == pytest.approx((exact.low, exact.high), rel=1e-9)
    never = mc.measure_invariance(model, mc.Suite({"cue": data}), loss=lambda z, y: torch.full_like(z[:, 0], torch.inf))
    assert never.loss == never.loss_interval == {"cue": None}


def test_interventions_decide_and_no_cue_is_reported_beside_them() -> None:
    many = answers(RIGHT * 30, Y * 30)
    wrong = answers([(value + 1) % 3 for value in RIGHT * 30], Y * 30)
    suite = mc.Suite({"no_cue": many, "cue": many, "rand_cue": many, "rand_image": wrong})
    measured = mc.measure_invariance(Copier(), suite)
    assert dict(measured) == measured.effects
    assert (list(measured), len(measured)) == (["no_cue", "rand_cue", "rand_image"], 3)
    assert {name: effect.verdict for name, effect in measured.items()} == {
        "no_cue": "invariant", "rand_cue": "invariant", "rand_image": "sensitive",
    }  # fmt: skip
    assert measured.invariant_to == ("rand_cue",)
    assert measured["rand_image"].effect == -1.0


def test_a_loader_that_shuffles_keeps_rows_together() -> None:
    """Every split is read in the same order, so rows still correspond."""
    (x, y), model = rows(60), build(mlp)
    loaders = {
        name: DataLoader(TensorDataset(x + shift, y), batch_size=7, shuffle=True)
        for name, shift in (("cue", 0.0), ("hue", 0.5))
    }
    shuffled = mc.measure_invariance(model, mc.Suite(loaders))["hue"]
    plain = mc.measure_invariance(model, mc.Suite({"cue": (x, y), "hue": (x + 0.5, y)}))["hue"]
    assert shuffled.paired
    assert (shuffled.effect, shuffled.interval, shuffled.changed) == (plain.effect, plain.interval, plain.changed)


def test_the_record_is_plain_json() -> None:
    measured = mc.measure_invariance(Copier(), mc.Suite({"cue": answers(RIGHT, Y), "hue": answers(TWO_WRONG, Y)}))
    record = json.loads(json.dumps(measured.to_dict()))
    assert record["effects"]["hue"]["effect"] == -0.25
    assert tuple(record["effects"]["hue"]["interval"]) == measured["hue"].interval
    assert record["accuracy"] == {"cue": 1.0, "hue": 0.75}
    assert (record["reference"], record["interventions"], record["confidence"]) == ("cue", ["hue"], 0.95)


def test_progress_is_told() -> None:
    told: list[mc.ProgressEvent] = []
    suite = mc.Suite({"cue": answers(RIGHT, Y), "hue": answers(RIGHT, Y)})
    mc.measure_invariance(Copier(), suite, progress=told.append)
    assert told == [mc.ProgressEvent("measuring invariance", n, 2) for n in (1, 2)]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"margin": 0.0}, "margin must be a number greater than zero, got 0.0"),
        ({"margin": float("nan")}, "margin must be a number greater than zero, got nan"),
        ({"on": "acuracy"}, "on must be one of 'accuracy', 'loss', got 'acuracy'; did you mean 'accuracy'?"),
    ],
)
def test_questions_that_have_no_answer(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        mc.measure_invariance(Copier(), mc.Suite({"cue": answers(RIGHT, Y)}), **wrong)
    assert str(caught.value) == text


def test_nan_in_the_data_is_named_by_split_and_row() -> None:
    x, y = rows(9)
    bad = x.clone()
    bad[4, 0] = float("nan")
    with pytest.raises(ValueError, match=r"^split 'hue': row 4 holds NaN or infinity"):
        mc.measure_invariance(build(mlp), mc.Suite({"cue": (x, y), "hue": (bad, y)}))


def test_both_measures_are_there_whatever_decides() -> None:
    model, before = build(mlp), rows(40, 1)
    after = rows(40, 2)[0], before[1]
    suite = mc.Suite({"cue": before, "hue": after})
    by_accuracy = mc.measure_invariance(model, suite)["hue"]
    by_loss = mc.measure_invariance(model, suite, on="loss")["hue"]
    assert by_accuracy.accuracy == by_loss.accuracy == mc.Change(by_accuracy.effect, by_accuracy.interval, 40)
    assert by_accuracy.loss == by_loss.loss == mc.Change(by_loss.effect, by_loss.interval, 40)


def test_the_share_of_changed_predictions_has_its_exact_interval() -> None:
    """2 of 8 predictions change; with a third, right and wrong stay apart, so the accuracy does not show it."""
    moved = list(RIGHT)
    moved[6], moved[7], moved[2] = 1, 0, 0
    suite = mc.Suite({"cue": answers(TWO_WRONG, Y), "rand_cue": answers(moved, Y)}, paired=True)
    effect = mc.measure_invariance(Copier(), suite)["rand_cue"]
    assert (effect.changed, effect.changed_interval) == (1 / 8, clopper_pearson(1, 8))
    assert effect.effect == -1 / 8


@pytest.mark.parametrize("on", ["accuracy", "loss"])
@pytest.mark.parametrize("paired", [True, False])
def test_classes_are_measured_by_themselves(on: Any, paired: bool) -> None:
    """Against a suite that holds one class only."""
    model, (x, y), (z, w) = build(mlp), rows(50, 1), rows(60, 2)
    if paired:
        z, w = z[:50], y
    measured = mc.measure_invariance(model, mc.Suite({"cue": (x, y), "hue": (z, w)}), on=on)["hue"]
    assert list(measured.by_class) == sorted(set(y.tolist()) & set(w.tolist()))
    for label, change in measured.by_class.items():
        alone = mc.Suite({"cue": (x[y == label], y[y == label]), "hue": (z[w == label], w[w == label])})
        expected = mc.measure_invariance(model, alone, on=on)["hue"]
        if expected.paired == paired:  # classes of equal size look paired when they stand alone
            assert change.effect == pytest.approx(expected.effect, abs=1e-12)
            assert change.interval == pytest.approx(expected.interval, abs=1e-12)
        assert change.samples == int((w == label).sum())


def test_a_result_sums_itself_up() -> None:
    splits = {"no_cue": answers(RIGHT, Y), "cue": answers(RIGHT, Y), "hue": answers(TWO_WRONG, Y)}
    suite = mc.Suite(splits, paired=True)
    said = str(mc.measure_invariance(Copier(), suite)).splitlines()
    assert said[0].startswith(
        "accuracy, 8 rows: no_cue 100.0% (63.1% to 100.0%), cue 100.0% (63.1% to 100.0%), hue 75.0%"
    )
    assert said[1] == "effects on the accuracy, against 'cue'; margin 0.05"
    assert said[2].startswith("  no_cue: +0 (95 % interval -0.37")
    assert said[2].endswith("(reported only)")
    assert said[3].startswith("  hue: -0.25 (95 % interval ")
    assert "undetermined, adjusted p = 0.36, about " in said[3]
    assert said[3].endswith("would settle it; predictions change on 25.0%")
