"""Methods compared by relearning: each result against the control that the same method tuned."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import mechconn as mc
from planted_cues import SHORT, SPLIT, cue_only, met, never_met, planted, suite

SUITE = suite(0, 60)
CLEAN = planted(60, 11, "none")
METHODS: dict[str, Any] = {
    "FT": mc.NaiveFineTuning(epochs=2, batch_size=20, lr=0.05),
    "Scratch": mc.Scratch(epochs=2, batch_size=20, lr=0.05),
}


def task(seed: int = 0, **changes: Any) -> mc.TuningTask:
    asked = mc.RelearningTask(cue_only(), SPLIT, control=never_met(seed), relearning=SHORT)
    own: dict[str, Any] = {"model": met(seed), "clean": CLEAN, "suite": SUITE, "seed": seed, "relearn": asked}
    return mc.TuningTask(**own | changes)


@cache
def compared() -> mc.MethodComparison:
    return mc.compare_methods([task(0), task(1)], METHODS)


def test_each_run_is_measured_against_the_control_that_the_method_tuned() -> None:
    for name, seed in (("FT", 0), ("as it is", 1)):
        models = met(seed), never_met(seed)
        if name in METHODS:
            models = tuple(mc.fine_tune(model, METHODS[name], clean=CLEAN, seed=seed).model for model in models)
        expected = mc.measure_relearning(models[0], SHORT, cue_only(), SUITE, split=SPLIT, control=models[1], seed=seed)
        found = next(run.relearned for run in compared().runs if (run.method, run.seed) == (name_of(name), seed))
        assert found is not None
        (own,), (other,) = found.runs, expected.runs
        assert torch.equal(own.curve.correct, other.curve.correct)
        assert torch.equal(own.against.correct, other.against.correct)
        assert (own.excess, own.interval, own.verdict, found.state) == (
            other.excess, other.interval, other.verdict, expected.state,
        )  # fmt: skip


def name_of(name: str) -> str:
    return next(iter(compared())) if name == "as it is" else name


def test_a_method_that_forgets_its_start_has_no_excess_and_says_why() -> None:
    found = compared().relearned["Scratch"]
    assert [run.excess for run in found.runs] == [0.0, 0.0] and "hidden" not in found.states
    assert found.notes[0] == (
        "Scratch gives the control the model's weights, bit for bit: what it ends with does not depend on where it "
        "starts, so the excess is zero by construction"
    )
    assert compared().relearned["FT"].notes == ()


def test_tables_and_records_hold_states_and_excess() -> None:
    rows = compared().rows()
    assert {(row["method"], row["seed"]) for row in rows} == {(n, s) for n in compared() for s in (0, 1)}
    for row in rows:
        (run,) = next(r.relearned for r in compared().runs if (r.method, r.seed) == (row["method"], row["seed"])).runs  # pyright: ignore
        assert (row["relearning"], row["excess"]) == (run.verdict, run.excess)
        assert (row["excess_low"], row["excess_high"]) == run.interval
        assert row["state"] in ("uses", "avoids", "hidden", "gone", "undetermined")
    section = next(section for section in compared().sections() if section.title == "Gone or hidden")
    assert [row[0] for row in section.tables[0].rows] == list(compared())
    assert "Scratch: Relearning finds the mechanism hidden in 0 of 2 training runs" in str(compared())


def test_without_relearning_records_are_as_they_were() -> None:
    plain = mc.compare_methods(task(relearn=None), {"FT": METHODS["FT"]})
    assert plain.relearned == {} and not {"state", "relearning", "excess"} & set(plain.rows()[0])
    with_it = mc.compare_methods(task(), {"FT": METHODS["FT"]})
    assert [run.invariance for run in plain.runs] == [run.invariance for run in with_it.runs]


def test_a_control_that_its_tuning_made_follow_the_cue_is_named() -> None:
    compare = {"FT": replace(METHODS["FT"], epochs=20, lr=0.1)}
    found = mc.compare_methods(task(clean=planted(300, 21, "agree")), compare)
    note = "the control of FT follows the mechanism itself (rand_cue changes its accuracy by -"
    assert [text.startswith(note) for text in found.relearned["FT"].notes] == [True]
    assert found.relearned[next(iter(found))].notes == ()
    assert f"FT: note: {note}" in str(found)
    section = next(section for section in found.sections() if section.title == "Gone or hidden")
    assert section.note.startswith(f"Note on FT: {note}")


def test_relearning_tells_its_progress() -> None:
    told: list[mc.ProgressEvent] = []
    mc.compare_methods(task(), {"FT": METHODS["FT"]}, progress=told.append)
    assert [(event.done, event.total) for event in told if event.stage == "relearning"] == [
        (done, 8) for done in range(1, 9)
    ]  # both sides of the start and of the method, with two seeds


def test_against_a_placebo_no_control_is_tuned() -> None:
    placebo = mc.Placebo(planted(60, 12, "against", cue_only=True), planted(60, 1000, "against", cue_only=True))
    asked = mc.RelearningTask(cue_only(), SPLIT, placebo=placebo, relearning=SHORT)
    (start, tuned) = mc.compare_methods(task(relearn=asked), {"FT": METHODS["FT"]}).runs
    for run in (start, tuned):
        assert run.relearned is not None and run.relearned.compared_with == "placebo"


def test_a_comparison_that_is_stopped_goes_on_with_every_seeds_own_files(tmp_path: Path) -> None:
    class Stopped(Exception):  # noqa: N818
        pass

    def stop(event: mc.ProgressEvent) -> None:
        if event.done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        mc.compare_methods([task(0), task(1)], METHODS, folder=tmp_path, progress=stop)
    assert list(tmp_path.iterdir())
    found = mc.compare_methods([task(0), task(1)], METHODS, folder=tmp_path)
    for own, other in zip(found.runs, compared().runs, strict=True):
        assert own.relearned is not None and other.relearned is not None
        assert own.relearned.to_json() == other.relearned.to_json()


WRONG: dict[str, tuple[Any, str]] = {
    "some with and some without": (
        lambda: [task(0), task(1, relearn=None)],
        "tasks must all have relearn=, or none of them, got some of each",
    ),
    "neither": (
        lambda: task(relearn=mc.RelearningTask(cue_only(), SPLIT)),
        r"RelearningTask needs control= \(a network that never met the mechanism\) or placebo= .*, got neither",
    ),
    "a control that follows": (
        lambda: task(relearn=mc.RelearningTask(cue_only(), SPLIT, control=met(1), relearning=SHORT)),
        "the control must never have met the mechanism, but rand_cue changes its accuracy by -",
    ),
    "a control that is the model": (
        lambda: task(model=never_met(), relearn=asked()),
        "the control must be a network that never met the mechanism, got one with the model's weights",
    ),
    "rows that overlap": (
        lambda: task(relearn=replace(asked(), data=planted(60, 1000, "agree", cue_only=True))),
        "the relearning data must share no row with split 'rand_image'",
    ),
}


def asked() -> mc.RelearningTask:
    found = task().relearn
    assert found is not None
    return found


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_in_one_line_before_anything_is_tuned(case: str) -> None:
    make, expected = WRONG[case]
    with pytest.raises(ValueError, match=expected) as caught:
        mc.compare_methods(make(), METHODS)
    assert "\n" not in str(caught.value)


def test_relearn_is_a_task() -> None:
    with pytest.raises(TypeError, match=r"relearn must be a RelearningTask, got int; write mechconn\.RelearningTask\("):
        mc.compare_methods(task(relearn=3), METHODS)
