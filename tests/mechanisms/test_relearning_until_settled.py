"""Relearning whose rows are read until its verdict is settled: copies that are kept, looks, the error, refusals."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.connectivity import draw_order
from mechconn.core import TensorPair

# Where looks end and what level they have is read off the inner plan; the rule by which reading stops likewise.
from mechconn.mechanisms._relearning_looks import plan_relearning_looks
from mechconn.mechanisms._relearning_verdict import Excess
from planted_cues import SHORT, SPLIT, cue_only, head_retrained, measure, met, never_met, split_of, suite

ROWS = 1500


@cache
def hidden(until: str) -> mc.Relearned:
    """Of a network whose head was retrained, which hides the cue."""
    return measure(head_retrained(met()), never_met(), suite=suite(0, ROWS), until=until)


def test_the_verdict_is_that_of_all_rows_from_fewer() -> None:
    whole, found = hidden("end"), hidden("settled")
    assert found.verdict == whole.verdict == "hidden" and found.state == whole.state
    (run,), (all_rows,) = found.runs, whole.runs
    assert run.curve.correct is not None and all_rows.curve.correct is not None
    rows = run.curve.correct.shape[2]
    assert rows in plan_relearning_looks(SPLIT, split_of(suite(0, ROWS)), [], None, 0).ends and rows < ROWS
    # The same copies on the first rows of the order: tuning is not another one.
    first = draw_order(ROWS, None, seed=0)[:rows]
    assert torch.equal(run.curve.correct, all_rows.curve.correct[:, :, first])
    assert run.before.available == dict.fromkeys(suite(0, ROWS), ROWS)
    (note,) = [note for note in found.notes if note.startswith(f"rows of {SPLIT} were read as far as")]
    assert f"needed them: {rows} of {ROWS:,}; estimates at stopping are biased" in note and note in str(found)
    assert found.settings["until"] == "settled" and "until" not in whole.settings


def test_where_nothing_settles_the_last_look_is_at_all_rows() -> None:
    """Two networks that never met the cue, judged at a margin that their excess is."""
    data: dict[str, Any] = {"relearning": SHORT, "suite": suite(0, 400)}
    whole = measure(never_met(0, 2), never_met(), **data)
    margin = max(whole.excess, 1e-3)
    found = measure(never_met(0, 2), never_met(), margin=margin, until="settled", **data)
    (run,), (all_rows,) = found.runs, whole.runs
    assert run.verdict == "undetermined" and run.excess == pytest.approx(all_rows.excess, abs=1e-9)
    low, high = run.interval
    assert low < all_rows.interval[0] < all_rows.interval[1] < high  # four fifths of the level
    assert not any("biased" in note for note in found.notes if note.startswith(f"rows of {SPLIT}"))


def test_one_control_is_read_as_far_as_each_run_takes() -> None:
    models = [head_retrained(met()), never_met(0, 2)]
    found = measure(models, never_met(), suite=suite(0, ROWS), until="settled")
    for run, model in zip(found.runs, models, strict=True):
        (alone,) = measure(model, never_met(), suite=suite(0, ROWS), until="settled").runs
        assert (run.verdict, run.interval, run.at_start) == (alone.verdict, alone.interval, alone.at_start)


def test_a_measurement_that_was_stopped_goes_on(tmp_path: Path) -> None:
    data: dict[str, Any] = {"relearning": SHORT, "suite": suite(0, 200), "until": "settled"}
    first = measure(met(), never_met(), folder=tmp_path, **data)
    files = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(files) == 2 * SHORT.seeds and all(name.endswith("-kept.safetensors") for name in files)
    again = measure(met(), never_met(), folder=tmp_path, **data)
    assert again.runs[0].interval == first.runs[0].interval
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files
    whole = measure(met(), never_met(), folder=tmp_path, **{**data, "until": "end"})  # not from these files
    assert whole.runs[0].curve.correct is not None and whole.runs[0].curve.correct.shape[2] == 200


def rows_of(count: int) -> TensorPair:
    return TensorPair(torch.zeros(count, 1), torch.zeros(count, dtype=torch.int64))


def test_looks_grow_and_their_shares_add_up_to_one() -> None:
    for rows in (30, 64, 100, 360, 10_000):
        looks = plan_relearning_looks("s", rows_of(rows), [], None, seed=1)
        assert sum(looks.share(look) for look in range(looks.count)) == pytest.approx(1.0)
        read = torch.cat([looks.list_rows(look) for look in range(looks.count)])
        assert read.sort().values.tolist() == list(range(rows)) and looks.ends[-1] == rows
        assert len(looks.ends) == 1 or looks.ends[0] >= 64


def judge_drawn(seed: int, excess: float, margin: float, rows: int = 1500, seeds: int = 5) -> str:
    """The verdict where every row and every seed has an effect of its own on the difference, look by look."""
    draw = torch.Generator().manual_seed(seed)
    by_row = torch.randn(rows, generator=draw).mul(0.1)
    by_seed = torch.randn(seeds, 1, generator=draw).mul(0.02)
    chance = (0.3 + excess + by_row + by_seed).clamp(0, 1)
    model = (torch.rand(seeds, rows, generator=draw) < chance).float()
    control = (torch.rand(seeds, rows, generator=draw) < 0.3).float()
    sides = [torch.stack([side, side], 1) for side in (model, control)]
    looks = plan_relearning_looks("s", rows_of(rows), [], None, seed)
    for look in range(looks.count):
        end = looks.ends[look]
        found = Excess(sides[0][:, :, :end], sides[1][:, :, :end], None, looks.share(look)).judge(margin)
        if found != "undetermined":
            return found
    return "undetermined"


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.005, -0.005])
def test_an_excess_on_or_near_the_margin_is_called_wrong_in_few_draws(shift: float) -> None:
    """Of 200 draws 5 % are 10; with that chance 18 or more come in about one of a hundred."""
    found = [judge_drawn(seed, 0.1 + shift, 0.1) for seed in range(200)]
    wrong = {0.0: ("gone", "hidden"), 0.005: ("gone",), -0.005: ("hidden",)}[shift]
    assert sum(verdict in wrong for verdict in found) <= 17


def test_an_excess_far_from_the_margin_is_settled() -> None:
    assert [judge_drawn(seed, 0.5, 0.1) for seed in range(5)] == ["hidden"] * 5
    assert [judge_drawn(seed, 0.0, 0.2) for seed in range(5)] == ["gone"] * 5


def test_what_cannot_be_settled_is_refused() -> None:
    with pytest.raises(ValueError, match=r"until='settled' is for one learning rate, got 2: .* or until='end'"):
        measure(met(), never_met(), mc.Relearning(steps=(2,), lr=(0.01, 0.1)), until="settled")
    x, y = split_of(suite(0, 100)).x, split_of(suite(0, 100)).y
    loader = DataLoader(TensorDataset(x, y), batch_size=50)  # pyright: ignore[reportArgumentType]
    loaded = mc.Suite({**{name: suite(0, 100)[name] for name in ("no_cue", "cue", "rand_cue")}, SPLIT: loader})
    with pytest.raises(ValueError, match="until='settled' reads rows by index, and split 'rand_image' is a DataLoader"):
        measure(met(), never_met(), SHORT, suite=loaded, until="settled")
    with pytest.raises(ValueError, match="until must be one of 'end', 'settled', got 'now'"):
        mc.RelearningTask(cue_only(), SPLIT, until="now")  # pyright: ignore[reportArgumentType]
