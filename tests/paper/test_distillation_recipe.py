"""The recipe `distillation`: its cells, what seeds say together, and its claims on a small run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mechconn.paper import (
    DistillationRecipe,
    DistillationResult,
    DistillationSummary,
    RunPlan,
    RunRecord,
    resolve_settings,
    run_plan,
)
from mechconn.stats import PairMoments, find_ratio_set
from page import Page
from recipes import INLINE

TINY = (
    "datasets=planted", "seeds=0,1", "width=8", "student_width=3", "rows=60", "test_rows=40", "training.epochs=3",
    "training.batch_size=20", "training.milestones=[2]", "methods.KD.epochs=1",
    "on=clean",
)  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    _, scale, settings, _ = resolve_settings("distillation", "smoke", list(TINY))
    return run_plan(RunPlan("distillation", scale, settings, tmp_path_factory.mktemp("store"), INLINE))


def test_every_student_is_held_against_theta_c(record: RunRecord) -> None:
    (first, second) = (cell.result for cell in record.cells)
    assert isinstance(first, DistillationResult) and isinstance(second, DistillationResult)
    assert set(first.students) == {"clean"} and set(first.teachers) == {"theta_C", "theta_NC"}
    for students in first.students.values():
        assert list(students) == ["labels alone", "KD", "KD + Jacobian", "KD + contrastive", "KD of theta_NC"]
        for found in students.values():
            assert found.teacher == first.teachers["theta_C"]
    names = [
        (row["on"], row["student"])
        for row in first.rows()
        if row["split"] == first.teachers["theta_C"].interventions[0]
    ]
    assert len(names) == len(set(names)) == 5


def test_ratios_over_seeds_are_fiellers(record: RunRecord) -> None:
    summary = record.summary
    assert isinstance(summary, DistillationSummary)
    pairs = [result.students["clean"]["KD"]["rand_cue"] for result in summary.results]
    (a, b), (c, d) = ((one.effect, one.of) for one in pairs)
    known = PairMoments(((a + c) / 2, (b + d) / 2), ((a - c) ** 2 / 4, (b - d) ** 2 / 4), (a - c) * (b - d) / 4, 1.0)
    wanted = find_ratio_set(known, 0.95)
    assert f"Fieller over seeds: {wanted.describe('.2f')}" in str(summary)


def test_claims_and_sentences_name_every_student(record: RunRecord) -> None:
    recipe = DistillationRecipe()
    claims, said = recipe.judge_claims(record), recipe.write_findings(record)
    assert len(said) == 5 * 2 and len(claims) == 3 + 2 * 3
    assert {claim.verdict for claim in claims} <= {"holds", "does not hold", "undetermined"}
    alone = replace(record, cells=record.cells[:1], summary=DistillationSummary(record.summary.results[:1]))  # pyright: ignore
    assert {claim.verdict for claim in recipe.judge_claims(alone)} == {"undetermined"}


def test_the_page_shows_figures_and_cards(record: RunRecord, tmp_path: Path) -> None:
    from mechconn.paper import save_runs

    save_runs([record], tmp_path / "page.html")
    shown = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    for text in ("Distilled mechanisms", "Distilled on clean rows", "Does the cue come over?", "Wu et al."):
        assert text in shown.text
