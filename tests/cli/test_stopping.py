"""What scripts see of a run that is stopped, or that is noisy: the exit status, and one object on standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mechconn import paper
from mechconn.cli import main
from mechconn.cli._run_command import summarise_record
from run_records import fig13_record


def status(*words: str) -> object:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return stop.value.code


def test_an_interrupt_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(paper, "run_plan", interrupted)
    assert status("run", "quickstart", "--store", str(tmp_path), "--json") == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err.splitlines()[-1]) == ("", "mechconn: stopped")


def test_help_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("run", "--help") == 0 and "recipe" in capsys.readouterr().out.lower()


def test_what_libraries_print_is_not_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def noisy(*_: object) -> Any:
        sys.stdout.write("a worker died or was killed\n")
        return fig13_record()

    monkeypatch.setattr(paper, "run_plan", noisy)
    assert status("run", "quickstart", "--store", str(tmp_path), "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["run"] == fig13_record().id and "a worker died" in shown.err


def test_results_are_those_of_the_record() -> None:
    results = summarise_record(fig13_record())["results"]
    for pair in ("same_attribute", "different_attributes", "both_attributes"):
        assert set(results[pair]) >= {"barrier_before", "barrier_after", "pattern_agreement"}
    assert results["same_attribute"]["barrier_after"]["mean"] == 0.2 and results["cells"] == []
    assert results["same_attribute"]["by_width"]["16"]["pattern_agreement"]["interval"] == [0.8, 1.0]
    json.dumps(results, allow_nan=False)
