"""The table of methods: means with intervals over seeds or rows, on any loss or metric; what is saved and shown."""

from __future__ import annotations

import copy
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import ttest_1samp
from torch.nn.functional import cross_entropy

import mechconn as mc
from comparing import METHODS, largest, margin, regression, squared, task
from mechconn.core import SampleSource
from mechconn.stats import bound_paired_difference, clopper_pearson
from reference import evaluated
from zoo import build, norm_mlp, rows


def test_the_table_holds_means_and_t_intervals_over_seeds() -> None:
    found = mc.compare_methods([task(seed) for seed in (0, 1, 2)], {"FT": METHODS["FT"]})
    assert list(found) == ["start", "FT"] and len(found) == 2
    values = [run.accuracy["rand_cue"] for run in found.runs if run.method == "FT"]
    exact = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found["FT"]["rand_cue"].mean == pytest.approx(sum(values) / 3)
    assert found["FT"]["rand_cue"].interval == pytest.approx((exact.low, exact.high))
    gaps = [run.accuracy["rand_cue"] - run.accuracy["cue"] for run in found.runs if run.method == "FT"]
    exact = ttest_1samp(gaps, 0.0).confidence_interval(0.95)
    assert found.effects("FT")["rand_cue"].interval == pytest.approx((exact.low, exact.high))
    assert set(found.effects("FT", of="no_cue")) == {"cue", "rand_cue"}
    text = str(found).splitlines()
    assert text[0].startswith("Accuracy in %: mean over 3 seeds, with its 95 % interval")
    assert text[2] == "| method | cue | no_cue | rand_cue |" and len(text) == 6
    mean, interval = found["FT"]["rand_cue"].mean, found["FT"]["rand_cue"].interval
    assert mean is not None and interval is not None and interval[1] > interval[0]
    assert text[5].endswith(f"| {100 * mean:.1f} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f}) |")
    with pytest.raises(KeyError):
        found["CBFT"]


def test_intervals_over_two_seeds_stay_within_what_is_possible() -> None:
    """Shares of 13.3 and 36.7 %, where Student's t reaches from -123 to 173 %."""
    found = mc.compare_methods([task(0), task(1)], {"FT": METHODS["FT"]})
    assert found["start"]["cue"].interval == (0.0, 1.0)
    assert found.effects("start")["no_cue"].interval == (-1.0, 1.0)
    assert (found.table("loss")["start"]["cue"].interval or (0.0, 0.0))[1] > 1.0


def test_one_seed_has_the_intervals_of_its_rows() -> None:
    here = task()
    found = mc.compare_methods(here, {"FT": METHODS["FT"]}, metrics={"margin": margin})
    run = found.runs[1]
    measured = mc.measure_invariance(run.model, here.suite, metrics={"margin": margin})
    for on, own in (
        ("accuracy", measured.accuracy_interval), ("loss", measured.loss_interval),
        ("margin", measured.metrics_interval["margin"]),
    ):  # fmt: skip
        table = found.table(on)["FT"]
        assert {split: number.interval for split, number in table.items()} == own and None not in own.values()
        assert {number.over for number in table.values()} == {"samples"}
    effects = found.effects("FT")
    assert {split: (number.mean, number.interval) for split, number in effects.items()} == {
        split: (effect.effect, effect.interval) for split, effect in measured.items()
    }
    assert found.effects("FT", of="no_cue")["rand_cue"].interval is None
    low, high = (100 * bound for bound in measured.accuracy_interval["cue"])
    assert f"| FT | {100 * measured.accuracy['cue']:.1f} ({low:.1f} to {high:.1f}) |" in str(found)
    assert "95 % intervals over samples, of one seed" in str(found)


def test_rows_that_correspond_are_compared_within_rows() -> None:
    """Equal labels in one order."""
    x, y = rows(30)
    suite = mc.Suite({"cue": (x, y), "shuffled": (3 - x.flip(1), y)}, paired=True)
    start = mc.compare_methods(task(suite=suite), {"FT": METHODS["FT"]}).effects("start")["shuffled"]
    model = build(norm_mlp).eval()
    before, after = (model(inputs).argmax(1) == y for inputs in (x, 3 - x.flip(1)))
    assert start.interval == bound_paired_difference(before, after) and bool((before != after).any())


def test_means_over_draws_have_intervals_over_rows() -> None:
    (x, y), (other, _) = rows(30, 10), rows(30, 20)
    suite = mc.Suite({"cue": (x, y), "rand_cue": (x, y)}, redraws={"rand_cue": [(other, y)]})
    found = mc.compare_methods(task(suite=suite), {"FT": METHODS["FT"]})
    model = build(norm_mlp).eval()
    right = sum((model(inputs).argmax(1) == y).double() for inputs in (x, other)) / 2
    assert found["start"]["rand_cue"].interval == clopper_pearson(float(torch.as_tensor(right).sum()), 30)


def test_a_row_has_no_interval_of_the_loss() -> None:
    found = mc.compare_methods(task(suite=mc.Suite({"cue": rows(1)}, interventions=())), {"FT": METHODS["FT"]})
    assert found.table("loss")["FT"]["cue"].interval is None and found["FT"]["cue"].interval is not None
    assert found.effects("FT") == {}


def test_a_split_of_several_draws_counts_with_their_mean() -> None:
    (x, y), (other, _) = rows(30, 10), rows(30, 20)
    model, draws = build(norm_mlp), [(x, y), (other, y), (x + other, y)]
    suite = mc.Suite({"cue": (x, y), "rand_cue": draws[0]}, redraws={"rand_cue": draws[1:]})
    start = mc.compare_methods(task(model=model, suite=suite), {"FT": METHODS["FT"]}).runs[0]
    alone = [evaluated(model, [data]) for data in draws]
    assert start.loss["rand_cue"] == pytest.approx(sum(loss for loss, _ in alone) / 3, rel=1e-9)
    assert start.accuracy["rand_cue"] == pytest.approx(sum(accuracy for _, accuracy in alone) / 3, abs=1e-12)
    assert start.accuracy["cue"] == pytest.approx(alone[0][1], abs=1e-12)


def test_rows_of_one_cluster_count_as_one() -> None:
    labels = [row // 3 for row in range(30)]
    found = mc.compare_methods(task(cluster=labels), {"FT": METHODS["FT"]})
    alone = mc.measure_invariance(found.runs[1].model, task().suite, cluster=labels)
    assert found["FT"]["cue"] == mc.Across(alone.accuracy["cue"], alone.accuracy_interval["cue"], "clusters")
    assert "over clusters" in str(found)


# ---------------------------------------------------------------- any loss, any metric


def test_a_task_that_is_no_classification_is_compared_on_its_loss() -> None:
    tasks, methods = [regression(0), regression(1)], {"FT": METHODS["FT"]}
    found = mc.compare_methods(tasks, methods, loss=squared, metrics={"largest": largest})
    assert found.on == "loss" and [run.accuracy for run in found.runs] == [{}] * 4
    for run in found.runs:
        data = tasks[run.seed].suite["rand_cue"]
        assert isinstance(data, SampleSource)
        inputs, targets = data.inputs(torch.arange(len(data))), data.y
        with torch.no_grad():
            outputs = copy.deepcopy(run.model).eval()(inputs)
        assert run.loss["rand_cue"] == pytest.approx(float(squared(outputs, targets).mean()))
        assert run.invariance.metrics["largest"]["rand_cue"] == pytest.approx(float(largest(outputs, targets).mean()))
    values = [run.invariance["rand_cue"].effect for run in found.runs if run.method == "FT"]
    assert found.effects("FT")["rand_cue"].mean == pytest.approx(sum(values) / 2)
    gaps = found.effects("FT", on="largest")["rand_cue"].mean
    (one, other) = (run.invariance.metrics["largest"] for run in found.runs if run.method == "FT")
    assert gaps == pytest.approx((one["rand_cue"] - one["cue"] + other["rand_cue"] - other["cue"]) / 2)
    assert str(found).startswith("Mean loss: mean over 2 seeds")
    with pytest.raises(ValueError, match="on must be one of 'loss', 'largest', got 'accuracy'"):
        found.table("accuracy")


def test_effects_and_verdicts_are_on_what_is_asked() -> None:
    found = mc.compare_methods(task(), {"FT": METHODS["FT"]}, on="margin", margin=0.5, metrics={"margin": margin})
    measured = found.runs[1].invariance
    assert (measured.on, measured.margin, found.on) == ("margin", 0.5, "margin")
    assert found["FT"]["cue"].mean == measured.metrics["margin"]["cue"]
    assert found.effects("FT")["rand_cue"].mean == measured["rand_cue"].effect
    assert found.table("accuracy")["FT"]["cue"].mean == measured.accuracy["cue"]
    assert str(found).startswith("Mean margin, with 95 % intervals") and "Student's t, which is approximate" in str(
        found
    )


def test_shares_of_labels_are_called_so() -> None:
    def labelled(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, _ = rows(24, seed)
        return x, (x[:, :3] > 0).long()

    suite = mc.Suite({"cue": labelled(1), "rand_cue": labelled(2)})
    here = task(clean=labelled(3), cued=labelled(4), suite=suite)
    found = mc.compare_methods(here, {"FT": METHODS["FT"]}, loss=mc.losses.binary)
    assert found.runs[0].invariance.each == "labels"
    assert str(found).startswith("Accuracy in % (share of a row's labels that are right), with")


def test_a_loss_without_a_mean_has_none() -> None:
    """Of the probability of class 0, which is exactly 0 on rows of class 0."""

    def lost(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        values = cross_entropy(outputs, targets, reduction="none")
        return values if outputs.requires_grad else torch.where(targets == 0, torch.inf, values)

    found = mc.compare_methods([task(0), task(1)], {"FT": METHODS["FT"]}, loss=lost)
    assert found.table("loss")["FT"]["cue"] == mc.Across(None, None)
    assert found.effects("FT", on="loss", of="no_cue")["cue"] == mc.Across(None, None)
    assert "has no finite mean" in str(found)


# ---------------------------------------------------------------- what is saved and shown


def test_a_saved_comparison_comes_back_without_its_models(tmp_path: Path) -> None:
    found = mc.compare_methods([task(0), task(1)], METHODS, metrics={"margin": margin})
    found.save(tmp_path / "table.json")
    again = mc.load_result(tmp_path / "table.json")
    assert (
        isinstance(again, mc.MethodComparison)
        and again.to_dict() == found.to_dict()
        and again.to_dict()["kind"] == "method_comparison"
    )
    assert str(again) == str(found) and again.rows() == found.rows()
    for result, page in ((found, "live.html"), (again, "loaded.html")):
        mc.save_report(result, tmp_path / page)
    assert (tmp_path / "live.html").read_text() == (tmp_path / "loaded.html").read_text()
    assert {on: again.table(on) for on in ("accuracy", "loss", "margin")} == {
        on: found.table(on) for on in ("accuracy", "loss", "margin")
    }
    assert again.effects("CBFT", of="no_cue") == found.effects("CBFT", of="no_cue")
    with pytest.raises(AttributeError, match="this Trained was read from a file, and files hold no model"):
        _ = again.runs[1].model
    assert replace(again.runs[1].trained, model=found.runs[1].model).model is found.runs[1].model


def test_what_it_prints_in_a_notebook_is_short() -> None:
    found = mc.compare_methods(task(), {f"FT {number}": METHODS["FT"] for number in range(12)})
    shown = repr(found).splitlines()
    assert shown[0].startswith("MethodComparison: Accuracy in %, with 95 % intervals") and len(shown) == 12
    assert shown[-1] == "... 6 more lines: print the result"
    assert repr(found.runs[1]).startswith("TuningRun: 'FT 0', seed 0; NaiveFineTuning: 2 epochs")
    assert repr(found.runs[0]).startswith("TuningRun: 'start', seed 0; no training")


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_picture_has_a_mark_for_each_method_and_split(seeds: int) -> None:
    found = mc.compare_methods([task(seed) for seed in range(seeds)], METHODS)
    for on, scale, label in (("accuracy", 100.0, "accuracy (%)"), ("loss", 1.0, "loss")):
        (axes,) = found.plot(on).axes
        assert axes.get_ylabel() == label
        assert [text.get_text() for text in axes.get_xticklabels()] == ["start", *METHODS]
        table = found.table(on)
        drawn: Any = axes.containers
        for name, marks in zip(("cue", "no_cue", "rand_cue"), drawn, strict=True):
            line, _, (bars,) = marks.lines
            numbers = [row[name] for row in table.values()]
            assert [*map(float, line.get_ydata())] == pytest.approx([scale * (n.mean or 0.0) for n in numbers])
            ends = [float(y) for bar in bars.get_segments() for y in bar[:, 1]]
            assert ends == pytest.approx([scale * y for n in numbers for y in n.interval or ()])


def test_pages_show_means_effects_notes_and_runs() -> None:
    found = mc.compare_methods(task(), METHODS, metrics={"margin": margin})
    titles = [section.title for section in found.sections()]
    assert titles[:2] == ["Accuracy on every split", "Effects on the accuracy, against 'cue'"]
    assert titles[2:] == ["Mean loss", "Mean margin", "Notes", "Runs"]
    means, effects, *_ = found.tables()
    number, effect = found["CBFT"]["rand_cue"], found.runs[2].invariance["rand_cue"]
    assert number.mean is not None and number.interval is not None
    cell = means.cells[2][3]
    assert (cell.text, cell.small) == (
        f"{100 * number.mean:.1f}", f"{100 * number.interval[0]:.1f} to {100 * number.interval[1]:.1f}",
    )  # fmt: skip
    shown = effects.cells[2][2]
    assert shown.text == effect.verdict and shown.small.startswith(f"{100 * effect.effect:+.4g} (")
    two = mc.compare_methods([task(0), task(1)], {"FT": METHODS["FT"]})
    mean = two.effects("FT")["rand_cue"].mean
    assert mean is not None and two.tables()[1].cells[1][2].text == f"{100 * mean:+.1f}"
    assert found.header().title == "3 fine-tuning methods, 1 seed" and "<svg" in found._repr_html_()


def test_the_record_and_the_file_hold_every_run(tmp_path: Path) -> None:
    found = mc.compare_methods([task(0), task(1)], {"FT": METHODS["FT"]})
    how = {"device": "cpu", "precision": "float64", "batch_size": None}
    assert found.settings == {"seeds": [0, 1], "epochs": None, "passes": None, "selection": "last"} | how
    found.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == 2 * 2 * 3
    assert float(lines[0]["accuracy"]) == found.runs[0].accuracy["cue"]
    measured = found.runs[0].invariance
    assert float(lines[0]["loss_high"]) == (measured.loss_interval["cue"] or (0, 0))[1]
    assert float(lines[2]["effect"]) == measured["rand_cue"].effect and lines[2]["verdict"] == "undetermined"
    assert lines[0]["verdict"] == lines[0]["effect"] == ""  # of the reference
