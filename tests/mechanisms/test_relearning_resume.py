"""Relearning that is stopped goes on, with the bits of one that was not; what another run wrote is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mechconn as mc
from mechconn.core import Progress
from planted_cues import SHORT, SPLIT, measure, met, never_met, suite

SUITE = suite(0, 60)
BOTH = {"suite": SUITE, "others": {"another": never_met(1, 2)}}
COPIES = 6
"""Three networks with two seeds each."""


class Stopped(Exception):  # noqa: N818
    """As a kill in the middle."""


def stop_after(copies: int) -> Progress:
    def report(event: mc.ProgressEvent) -> None:
        assert (event.stage, event.total) == ("relearning", COPIES)
        if event.done == copies:
            raise Stopped

    return report


@pytest.mark.parametrize("copies", [1, 5])
def test_a_measurement_that_is_stopped_goes_on_bit_for_bit(copies: int, tmp_path: Path) -> None:
    whole = measure(met(), never_met(), SHORT, **BOTH)
    with pytest.raises(Stopped):
        measure(met(), never_met(), SHORT, **BOTH, folder=tmp_path, progress=stop_after(copies))
    written = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(written) == copies
    seen: list[int] = []
    found = measure(met(), never_met(), SHORT, **BOTH, folder=tmp_path, progress=lambda event: seen.append(event.done))
    assert seen == list(range(1, COPIES + 1)) and len(list(tmp_path.iterdir())) == COPIES
    assert found.to_json() == whole.to_json()
    assert torch.equal(found.runs[0].curve.correct, whole.runs[0].curve.correct)
    assert torch.equal(found.runs[0].against.correct, whole.runs[0].against.correct)


CHANGED = {
    "other inputs to measure on": {"suite": mc.Suite(
        {n: d if n != SPLIT else (d.x + 1, d.y) for n, d in SUITE.items()}, reference="cue")},  # pyright: ignore
    "other labels to measure on": {"suite": mc.Suite(
        {n: d if n != SPLIT else (d.x, d.y.flip(0)) for n, d in SUITE.items()}, reference="cue")},  # pyright: ignore
    "another split": {"split": "no_cue"},
    "other models": {"model": met(1)},
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGED)
def test_what_was_measured_otherwise_is_refused(case: str, tmp_path: Path) -> None:
    measure(met(), never_met(), SHORT, suite=SUITE, folder=tmp_path)
    changed = {"model": met(), "suite": SUITE, **CHANGED[case]}
    with pytest.raises(ValueError, match=r"was written by another run .* name another file, or delete it") as caught:
        measure(changed.pop("model"), never_met(), SHORT, **changed, folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_other_seeds_have_files_of_their_own(tmp_path: Path) -> None:
    first, second = (measure(met(), never_met(), SHORT, suite=SUITE, folder=tmp_path, seed=seed) for seed in (0, 1))
    assert len(list(tmp_path.iterdir())) == 8
    assert not torch.equal(first.runs[0].curve.correct, second.runs[0].curve.correct)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot be written: its folder does not exist; make it first"):
        measure(met(), never_met(), SHORT, suite=SUITE, folder=tmp_path / "none")
