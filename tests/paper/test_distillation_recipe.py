"""The recipe `distillation`: its cells, what seeds say together, and its claims on a small run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.paper import (
    DistillationRecipe,
    DistillationResult,
    DistillationSummary,
    RunPlan,
    RunRecord,
    resolve_settings,
    run_plan,
)
from mechconn.paper._distillation_claims import judge_distillation
from mechconn.paper._distillation_result import summarise_students
from mechconn.stats import PairMoments, find_ratio_set
from page import Page
from recipes import INLINE

TINY = (
    "datasets=planted", "seeds=0", "width=8", "student_width=3", "rows=60", "test_rows=40", "training.epochs=3",
    "training.batch_size=20", "training.milestones=[2]", "methods.KD.epochs=1",
    "on=clean",
)  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    _, scale, settings, _ = resolve_settings("distillation", "smoke", list(TINY))
    return run_plan(RunPlan("distillation", scale, settings, tmp_path_factory.mktemp("store"), INLINE))


def test_every_student_is_held_against_theta_c(record: RunRecord) -> None:
    (first,) = (cell.result for cell in record.cells)
    assert isinstance(first, DistillationResult)
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


def test_claims_and_sentences_name_every_student(record: RunRecord) -> None:
    recipe = DistillationRecipe()
    claims, said = recipe.judge_claims(record), recipe.write_findings(record)
    assert len(said) == 5 * 2 and len(claims) == 3 + 2 * 3
    assert {claim.verdict for claim in claims} == {"undetermined"}  # one seed


def seeds_of(effects: dict[str, list[float]], sensitive: bool = True) -> DistillationSummary:
    """Effects of a random cue on networks, seed by seed."""
    y = torch.arange(60) % 2
    suite = mc.Suite({"cue": (torch.eye(2)[y], y), "rand_cue": (torch.eye(2)[1 - y if sensitive else y], y)})
    known = mc.measure_transfer(nn.Identity(), nn.Identity(), suite)

    def invariance(effect: float) -> mc.Invariance:
        return replace(known.teacher, effects={"rand_cue": replace(known.teacher["rand_cue"], effect=effect)})

    def transfer(of: float, effect: float) -> mc.Transfer:
        return replace(known, effects={"rand_cue": replace(known["rand_cue"], of=of, effect=effect)})

    cells = []
    for seed, of in enumerate(effects["teacher"]):
        names = {"labels alone": "plain", "KD": "kd", "KD + Jacobian": "jacobian", "KD of theta_NC": "other"}
        students = {name: transfer(of, effects.get(key, effects["kd"])[seed]) for name, key in names.items()}
        teachers = {"theta_C": invariance(of), "theta_NC": invariance(0.0)}
        cells.append(DistillationResult("planted", 0.8, seed, teachers, {"clean": students}))
    return DistillationSummary(tuple(cells))


def test_ratios_over_seeds_are_fiellers() -> None:
    summary = seeds_of({"teacher": [-0.9, -0.7], "plain": [0.0, 0.0], "kd": [-0.5, -0.3]})
    one = next(own for own in summarise_students(summary.results) if own.student == "KD")
    wanted = find_ratio_set(PairMoments((-0.4, -0.8), (0.01, 0.01), 0.01, 1.0), 0.95)
    assert one.ratio == pytest.approx(0.5) and one.ratios is not None and one.ratios.shape == wanted.shape
    assert (one.ratios.low, one.ratios.high) == pytest.approx((wanted.low, wanted.high))
    alone, *_ = summarise_students(summary.results)
    assert (alone.student, alone.ratio, alone.ratios) == ("labels alone", 0.0, None)  # one ratio in every seed
    assert "labels alone, clean rows, RC: +0.0" in str(summary) and "ratio 0.00;" in str(summary)
    never = seeds_of({"teacher": [-0.01, 0.02], "kd": [-0.5, -0.3]}, sensitive=False)
    assert {(own.ratio, own.ratios) for own in summarise_students(never.results)} == {(None, None)}


def judged(**effects: list[float]) -> list[str]:
    """Verdicts: the cue comes over by KD, by gradients; KD lies between; gradients are nearer."""
    return [claim.verdict for claim in judge_distillation(seeds_of(effects))]


def test_claims_are_of_means_over_seeds() -> None:
    teacher, other = [-0.9, -0.88, -0.91], [0.01, 0.0, -0.01]
    kd, plain = [-0.5, -0.48, -0.53], [-0.1, -0.12, -0.09]
    assert judged(teacher=teacher, plain=plain, kd=kd, jacobian=[-0.8, -0.79, -0.82], other=other) == ["holds"] * 4
    assert judged(teacher=teacher, plain=[-0.7, -0.69, -0.72], kd=kd, jacobian=[-0.2, -0.22, -0.21], other=other) == [
        "holds", "holds", "does not hold", "does not hold",
    ]  # fmt: skip


def test_noise_lies_between_nothing_and_equal_seeds_settle_nothing() -> None:
    """Teacher, student and labels alone alike: seed by seed some are between the others, whichever are."""
    noise = [-0.3, 0.3, -0.25, 0.25, -0.28, 0.28, -0.31, 0.31]
    half = [value / 2 + 0.001 * place for place, value in enumerate(noise)]
    assert judged(teacher=noise, plain=[0.0] * 8, kd=half, jacobian=half)[2] == "undetermined"
    row = [-0.005] * 2  # the same row of 200 in both seeds
    assert set(judged(teacher=[0.0] * 2, plain=[0.0] * 2, kd=[0.0] * 2, jacobian=row, other=[0.0] * 2)) == {
        "undetermined"
    }


def test_the_page_shows_figures_and_cards(record: RunRecord, tmp_path: Path) -> None:
    from mechconn.paper import save_runs

    save_runs([record], tmp_path / "page.html")
    shown = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    for text in ("Distilled mechanisms", "Distilled on clean rows", "Does the cue come over?", "Wu et al."):
        assert text in shown.text
