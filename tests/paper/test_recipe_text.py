"""What a user's recipe finds published stays in the record; pages of such runs do not speak of the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mechconn.core import Config
from mechconn.paper import Claim, Recipe, RunPlan, RunRecord, run_plan, save_runs, tabulate_barriers
from mechconn.plotting import Cell, Section
from mechconn.report import load_result
from recipes import INLINE
from run_records import SHORTCUT, cue_result, model, path, table1_record


def section_of(record: RunRecord, title: str) -> Section:
    (found,) = (section for section in record.sections() if section.title == title)
    return found


@dataclass(frozen=True)
class CleanCell:
    clean: int

    @property
    def name(self) -> str:
        return f"{self.clean} clean"


class Samples(Config):
    clean_samples: tuple[int, ...] = (30, 60)
    fails: bool = False


def define() -> type[Recipe]:
    class Other(Recipe):
        """Made-up results of two cells."""

        name = "other_source"
        by_samples = True

        def settings(self, scale: Any, images: bool) -> Samples:
            return Samples()

        def cells(self, settings: Samples) -> list[Any]:
            return [CleanCell(count) for count in settings.clean_samples]

        def run_cell(self, context: Any, settings: Samples, cell: Any, root: Any) -> Any:
            if settings.fails:
                raise ValueError("first line\n  second line")
            paths = [path(0.1, 0.02, end="FT")]
            result = cue_result(("digits", 0.8, cell.clean, 0), {"FT": model(SHORTCUT)}, paths)
            return replace(result, tolerance=0.05 if cell.clean == 30 else 0.5)

        def find_published_accuracy(self, dataset: str, proportion: float, clean: Any, model: str) -> dict[str, float]:
            return {"cue": 0.25} if clean == 60 else {}

        def judge_claims(self, record: RunRecord) -> list[Claim]:
            return [Claim("More helps", "everywhere", "two", "holds")]

    return Other


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("mechconn.paper._recipe.Recipe.registered", dict(Recipe.registered))
    define()
    yield


def run(folder: Path, **settings: Any) -> RunRecord:
    return run_plan(RunPlan("other_source", "smoke", Samples(**settings), folder / "store", INLINE))


def test_what_is_found_published_is_shown_where_the_recipe_is_not_imported(tmp_path: Path) -> None:
    record = run(tmp_path)
    assert record.status == "done" and record.text is not None
    (found,) = record.text.published
    assert (found.clean_samples, found.model, found.accuracy) == (60, "FT", {"cue": 0.25}) and record.text.by_samples
    record.save(tmp_path / "run.json")
    live = record._repr_html_()
    save_runs([record], tmp_path / "live.html")
    del Recipe.registered["other_source"]
    again = load_result(tmp_path / "run.json")
    assert isinstance(again, RunRecord) and again == record and again._repr_html_() == live
    (table,) = section_of(again, "Accuracy in %").tables
    few, more = (cell.small for row in table.rows if isinstance(cell := row[2], Cell))
    assert "source" not in few and more.endswith("source 25.0\n+74.0")
    assert "CIFAR" not in table.note and "paper" not in table.note and table.note.endswith("points, ours minus it.")
    (figure,) = section_of(again, "Accuracy by clean samples: digits, cue on 80 %").figures
    assert "(published 25 %)" in figure.description
    save_runs([again], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "live.html").read_bytes()


def test_the_page_speaks_of_the_paper_where_all_recipes_are_ours(tmp_path: Path) -> None:
    record = run(tmp_path)
    heading = "<h1>The paper's experiments, as they were run here</h1>"
    for records, ours in (([table1_record()], True), ([record], False), ([table1_record(), record], False)):
        save_runs(records, tmp_path / "runs.html")
        text = (tmp_path / "runs.html").read_text(encoding="utf-8").replace("&#39;", "'")
        assert (heading in text, "<h1>Runs</h1>" in text) == (ours, not ours)
    (table,) = section_of(record, "What the source says, and this run").tables
    assert table.columns[0] == "the source"
    (table,) = section_of(table1_record(), "What the paper says, and this run").tables
    assert table.columns[0] == "the paper"


def test_a_cell_error_of_several_lines_is_one_line(tmp_path: Path) -> None:
    record = run(tmp_path, fails=True)
    assert [cell.why for cell in record.cells] == ["ValueError: first line second line"] * 2
    assert record.findings[0] == "Failed: 30 clean: ValueError: first line second line"


def test_every_barrier_is_judged_by_the_tolerance_of_its_own_result(tmp_path: Path) -> None:
    record = run(tmp_path)
    verdicts = [named["theta_C to FT"]["cue"].verdict for named in tabulate_barriers(record.cue_results).values()]
    assert verdicts == ["not connected", "connected"]
    (table,) = section_of(record, "Barriers in nats").tables
    assert "the whole interval is at most its place's tolerance, 0.05 or 0.5 nats" in table.note


def test_seeds_of_one_path_have_one_tolerance() -> None:
    results = [cue_result(("digits", 0.8, None, seed), {}, [path(0.1)]) for seed in (0, 1)]
    with pytest.raises(
        ValueError,
        match=r"^the seeds of one path must have one tolerance, got 0\.05 and 0\.5 for theta_C to theta_NC, ",
    ) as raised:
        tabulate_barriers([results[0], replace(results[1], tolerance=0.5)])
    assert "\n" not in str(raised.value)
