"""The star recipe: its settings, a run of two small cells, and what they say together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mechconn.connectivity import StarBarriers
from mechconn.paper import RunPlan, RunRecord, StarCell, StarSettings, StarSummary, resolve_settings, run_plan
from recipes import INLINE

TINY = (
    "datasets=planted", "widths=2,8", "sources=2", "held_out=3", "rows=80", "test_rows=40", "points=3",
    "training.epochs=2", "training.batch_size=20", "training.milestones=[1]", "fit.epochs=2", "fit.batch_size=20",
)  # fmt: skip


def make_plan(store: Path, *changes: str) -> RunPlan:
    _, scale, settings, _ = resolve_settings("star", "smoke", [*TINY, *changes])
    return RunPlan("star", scale, settings, store, INLINE)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> RunPlan:
    return make_plan(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def record(plan: RunPlan) -> RunRecord:
    return run_plan(plan)


def test_every_cell_has_both_stars_and_lines_between_runs_once(record: RunRecord) -> None:
    cells = [cell.result for cell in record.cells]
    assert len(cells) == 2
    for cell, width in zip(cells, (2, 8), strict=True):
        assert isinstance(cell, StarCell) and cell.width == width
        realigned, plain = cell.barriers["realigned"], cell.barriers["as they are"]
        assert realigned.settings["fit"]["realign"] and not plain.settings["fit"]["realign"]
        assert realigned.splits == ("no_cue", "cue", "rand_cue", "rand_image", "train")
        for split in realigned.splits:
            assert realigned.heights(split, "pair") == plain.heights(split, "pair")
            assert len(realigned.heights(split, "held-out")) == 3 and len(plain.heights(split, "source")) == 2
        assert {"star, realigned", "star, as they are", "run 0"} <= set(cell.invariance)
        assert realigned.settings["fit"]["sources"] == 2


def test_the_summary_judges_all_rows_together(record: RunRecord) -> None:
    summary = record.summary
    assert isinstance(summary, StarSummary)
    assert summary.claims == len(summary.rows()) == 2 * 2 * 5
    row, found = summary.rows()[0], summary.cells[0].barriers["realigned"]
    compared = found.compare("no_cue", claims=20)
    assert (row["difference"], row["verdict"]) == (compared.barrier.value, compared.verdict)
    assert row["intervals_clear"] is False or row["star_high"] < row["runs_low"]
    text = " ".join(summary.findings)
    assert "Of 20 comparisons the star is nearer in" in text
    assert "no solution as the runs are in" in text and "right with 95 %, approximately (Student's t)" in text
    assert "each by itself, over 20 rows" in text
    (beside,) = (part for part in summary.sections() if part.title == "Beside the published barriers")
    ((_, width, between, star, *_),) = beside.tables[0].cells
    assert (width.text, between.text, star.text) == ("8", "0.261", "0.117") and "other images" in beside.note
    shown = summary.sections()[1]
    assert len(shown.tables[0].rows) == 20 and len(shown.figures) == 5


def test_a_run_is_found_again_without_a_step(plan: RunPlan, record: RunRecord) -> None:
    again = run_plan(plan)
    assert record.summary is not None and again.summary is not None
    assert record.summary.to_dict() == again.summary.to_dict()
    assert [cell.result for cell in again.cells] == [cell.result for cell in record.cells]


def test_the_published_widths_stand_at_the_larger_scales() -> None:
    for scale in ("small", "paper"):
        _, _, settings, _ = resolve_settings("star", scale)
        assert isinstance(settings, StarSettings)
        assert settings.widths == (4, 8, 16, 32, 64, 128, 256)
        assert [data.name for data in settings.datasets] == ["fashion_mnist"]
        assert settings.sources >= 10 and settings.held_out >= 5
    assert resolve_settings("star", "small")[2].rows == 5000


@pytest.mark.parametrize("wrong", ["network=vgg13", "width=8", "tolerance=0.1", "widths=4,4", "held_out=1", "points=2"])
def test_settings_that_have_no_effect_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong.split("=")[0]):
        resolve_settings("star", "smoke", [wrong])


def test_clear_intervals_are_those_that_lie_below(record: RunRecord) -> None:
    """A star that is farther, or no solution, is clear of nothing."""
    assert isinstance(record.summary, StarSummary)
    cell = record.summary.cells[0]
    fine = {split: replace(own, loss=0.0) for split, own in cell.barriers["realigned"].star.items()}
    base = replace(cell.barriers["realigned"], star=fine)

    def move(height: float, by: float) -> StarBarriers:
        lines = [
            replace(line, loss=dict.fromkeys(line.loss, (0.0, 1.0 + 0.01 * n, 0.0)))
            if line.group == "pair"
            else replace(line, loss=dict.fromkeys(line.loss, (0.0, height + by * n, 0.0)))
            for n, line in enumerate(base.lines)
        ]
        return replace(base, lines=tuple(lines))

    for height, found, clear in ((9.0, "farther", False), (0.1, "nearer", True)):
        moved = move(height, 0.001)
        summary = StarSummary((replace(cell, barriers={"realigned": moved, "as they are": moved}),))
        assert {row["verdict"] for row in summary.rows()} == {found}
        assert {row["intervals_clear"] for row in summary.rows()} == {clear}
        none = "Nowhere does the star's 95 % interval lie wholly below that of the runs."
        assert (none in summary.findings[1]) == (not clear)
    lost = replace(moved, star={split: replace(own, loss=99.0) for split, own in fine.items()})
    summary = StarSummary((replace(cell, barriers={"realigned": lost, "as they are": lost}),))
    assert {row["verdict"] for row in summary.rows()} == {"no solution"}
    assert not any(row["intervals_clear"] for row in summary.rows())
