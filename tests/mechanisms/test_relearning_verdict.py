"""Verdicts at their bounds, what would settle them, and training runs as the unit."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from statistics import fmean

import pytest
import torch
from scipy.stats import beta, ttest_1samp

import mechconn as mc
from mechconn.core import TensorPair
from mechconn.stats import CrossedMean
from planted_cues import PROTOCOL, SHORT, cue_only, head_retrained, measure, met, never_met, suite


@cache
def hidden() -> mc.Relearned:
    """A cue that is relearned at once, by a protocol that takes little time."""
    return with_margin(0.05)


def with_margin(margin: float) -> mc.Relearned:
    return measure(head_retrained(met()), never_met(), replace(PROTOCOL, seeds=2), suite=suite(0, 100), margin=margin)


def crossed(found: mc.Relearned) -> CrossedMean:
    (run,) = found.runs
    return CrossedMean((run.curve.correct - run.against.correct)[:, 1:].double().mean(1), (-1.0, 1.0))


def test_the_verdict_at_each_bound_of_the_interval() -> None:
    """gone: the upper bound is at most the margin; hidden: the lower bound is above it."""
    low, high = hidden().runs[0].interval
    assert 0 < low < high
    verdicts = [
        (high, "gone"), (math.nextafter(high, 0), "undetermined"), (low, "undetermined"),
        (math.nextafter(low, 0), "hidden"),
    ]  # fmt: skip
    for margin, verdict in verdicts:
        found = with_margin(margin)
        assert (found.verdict, found.margin, found.runs[0].interval) == (verdict, margin, (low, high))
        assert (found.runs[0].to_settle is None) == (verdict != "undetermined")


def test_so_many_seeds_and_rows_of_the_same_spread_settle_it_and_fewer_do_not() -> None:
    (low, high), mean = hidden().runs[0].interval, hidden().runs[0].excess
    for margin in (low + 0.3 * (mean - low), high - 0.3 * (high - mean), (mean + high) / 2):
        found = with_margin(margin)
        plan, spread = found.runs[0].to_settle, crossed(found)
        assert found.verdict == "undetermined" and plan is not None

        def is_open(seeds: int, rows: int, spread: CrossedMean = spread, margin: float = margin) -> bool:
            below, above = spread.interval(0.95, seeds, rows)
            return below <= margin < above

        seeds, rows = plan["seeds"], plan["rows"]
        assert not is_open(seeds, rows)
        assert is_open(seeds - 1, rows) if rows == 100 else is_open(seeds, rows - 1) if seeds == 2 else True
        assert re.search(rf"About {seeds:,} relearning seeds and {rows:,} rows would settle it\.", str(found))


def test_nothing_settles_an_excess_that_is_the_margin() -> None:
    found = with_margin(hidden().runs[0].excess)
    assert found.verdict == "undetermined" and found.runs[0].to_settle is None
    assert "would settle it" not in str(found)


def test_where_the_control_leaves_no_room_for_an_excess_nothing_is_gone() -> None:
    """Whatever the network holds, an excess over a control that is always right is none."""
    (run,) = with_margin(0.95).runs
    assert run.interval[1] < 0.95 and 1 - fmean(run.against.means[1:]) < 0.95
    assert run.verdict == "undetermined" and run.to_settle is None
    assert "no excess could be above the margin of 95 points; measure earlier steps, or lower lr" in str(
        with_margin(0.95)
    )
    assert not any("no excess" in note for note in hidden().notes)


def test_a_relearning_that_teaches_neither_side_says_so() -> None:
    weak = measure(never_met(0, 2), never_met(), replace(SHORT, lr=1e-6), suite=suite(0, 100))
    assert any("taught neither of them the mechanism" in note and "raise lr" in note for note in weak.notes)
    assert not any("taught neither" in note for note in hidden().notes)


def test_units_that_frozen_weights_keep_from_being_balanced_are_told() -> None:
    pair = [deepcopy(never_met(0, which)) for which in (2, 1)]
    for model in pair:
        model.get_submodule("0").requires_grad_(False)
    found = measure(pair[0], pair[1], SHORT, suite=suite(0, 60))
    expected = "1 group of hidden units keeps its scale, since 0.weight is frozen (requires_grad is False), which may "
    assert [note for note in found.notes if "frozen" in note] == [f"{expected}decide how fast they relearn"]


def test_rows_on_which_the_control_is_right_before_any_step_are_told() -> None:
    """Where content predicts too, following the cue costs accuracy, and less of it would count as gone."""
    found = measure(never_met(0, 2), never_met(), SHORT, suite=suite(0, 60), split="no_cue", intervention="rand_cue")
    assert found.runs[0].against.means[0] > 0.5
    assert any("content predicts there too" in note and "measure rows in which" in note for note in found.notes)
    assert not any("content predicts there too" in note for note in hidden().notes)


# ---------------------------------------------------------------- the unit is the training run


@cache
def three() -> mc.Relearned:
    return measure([met(), never_met(0, 2), never_met(1, 2)], never_met(), SHORT, suite=suite(0, 60))


def made_up(verdicts: Sequence[str], excess: Sequence[float] | None = None) -> mc.Relearned:
    own = excess or [0.1] * len(verdicts)
    run = three().runs[1]
    runs = [replace(run, verdict=verdict, excess=value) for verdict, value in zip(verdicts, own, strict=True)]  # pyright: ignore[reportArgumentType]
    return replace(three(), runs=tuple(runs))


def test_every_run_has_its_verdict_and_one_control_serves_all() -> None:
    found, data = three(), {"relearning": SHORT, "suite": suite(0, 60)}
    assert len(found.runs) == 3 and found.runs[0].against is found.runs[1].against is found.runs[2].against
    for run, model in zip(found.runs, (met(), never_met(0, 2), never_met(1, 2)), strict=True):
        (alone,) = measure(model, never_met(), **data).runs
        assert torch.equal(run.curve.correct, alone.curve.correct) and run.interval == alone.interval
        assert (run.verdict, run.before) == (alone.verdict, alone.before)
    assert found.excess == pytest.approx(fmean(run.excess for run in found.runs), abs=1e-12)
    assert any(note.startswith("one control serves all runs") for note in found.notes)


def test_runs_have_controls_of_their_own_where_there_are_as_many() -> None:
    models, controls = [met(), met(1)], [never_met(), never_met(1)]
    found = measure(models, controls, SHORT, suite=suite(0, 60))
    for run, model, control in zip(found.runs, models, controls, strict=True):
        (alone,) = measure(model, control, SHORT, suite=suite(0, 60)).runs
        assert torch.equal(run.against.correct, alone.against.correct) and run.excess == alone.excess
    assert found.notes == ()


def test_how_many_runs_are_hidden_has_an_exact_interval_with_undetermined_ones_on_either_side() -> None:
    found = made_up(["hidden"] * 3 + ["gone"] * 4 + ["undetermined"])
    assert [found.count(verdict) for verdict in ("hidden", "gone", "undetermined")] == [3, 4, 1]
    for verdict, count in (("hidden", 3), ("gone", 4)):
        low, high = float(beta.ppf(0.025, count, 8 - count + 1)), float(beta.ppf(0.975, count + 2, 8 - count - 1))
        assert found.share_interval(verdict) == pytest.approx((low, high), abs=1e-9)  # pyright: ignore[reportArgumentType]
    low, high = (f"{100 * bound:.0f}" for bound in found.share_interval("hidden"))
    assert str(found).startswith(
        f"Relearning finds the mechanism hidden in 3 of 8 training runs (95 % interval of the share: {low} to {high} %)"
    )
    assert found.verdict == found.state == "undetermined"
    alike = made_up(["gone"] * 4)
    assert alike.verdict == "gone" and alike.share_interval("hidden")[0] == 0


def test_the_mean_excess_is_students_t_over_runs() -> None:
    values = [0.1, 0.22, 0.05, 0.3]
    found = made_up(["hidden"] * 4, values)
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.mean_excess == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.excess == pytest.approx(fmean(values), abs=1e-12)
    assert "(Student's t over training runs)" in str(found)
    assert made_up(["gone", "hidden"], [-0.5, 0.9]).mean_excess == (-1.0, 1.0)


def test_of_one_run_the_text_says_that_it_is_one() -> None:
    assert hidden().mean_excess is None
    assert "This is a statement about one training run: another run of the same recipe may differ." in str(hidden())


def test_avoiding_runs_are_counted_by_what_relearning_says() -> None:
    found = made_up(["gone", "hidden"])
    assert found.count("gone") == found.count("hidden") == 1 and found.count("undetermined") == 0
    assert three().count("uses") == three().states.count("uses")


def test_a_loaded_result_says_what_the_live_one_says() -> None:
    loaded = mc.load_result(hidden().to_dict())
    assert isinstance(loaded, mc.Relearned)
    assert (loaded.state, loaded.states, loaded.verdict) == (hidden().state, hidden().states, hidden().verdict)
    assert str(loaded) == str(hidden()) and loaded.runs[0].curve.means == hidden().runs[0].curve.means
    with pytest.raises(AttributeError, match="files hold means, not the values of every row"):
        _ = loaded.runs[0].curve.correct.shape


def test_data_of_a_placebo_are_checked_once_and_kept_as_sources() -> None:
    x, y = cue_only()
    found = mc.Placebo((x, y), (x, y))
    assert isinstance(found.data, TensorPair) and torch.equal(found.data.x, x)
