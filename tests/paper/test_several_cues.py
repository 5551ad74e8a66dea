"""The recipes `poisons` and `contributors`: data that carry several cues, and runs on a few digits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mechconn as mc
from mechconn.datasets import CuedSet
from mechconn.paper import (
    Contributors,
    ContributorsCell,
    ExperimentContext,
    MarkCue,
    Poisons,
    PoisonsCell,
    RunPlan,
    RunStore,
    divide_among_cues,
    find_recipe,
    judge_cue,
    make_cues,
    make_cues_suite,
    resolve_settings,
    run_plan,
    summarise_contributors,
    summarise_poisons,
)
from mechconn.store import Store
from recipes import INLINE

TINY = (
    "cues=place,hue", "rows=120", "test_rows=20", "width=2", "training.epochs=1", "training.batch_size=60",
    "training.milestones=[1]",
)  # fmt: skip
POISONS = (
    *TINY, "clean_rows=40", "methods=FT-L,CBFT", "methods.FT-L.epochs=1", "methods.CBFT.epochs=2",
    "methods.CBFT.batch_size=40",
)  # fmt: skip
CONTRIBUTORS = (*TINY, "rounds=1", "tuning.epochs=1", "statistics=20")


@pytest.fixture(scope="module")
def scenes() -> CuedSet:
    return mc.datasets.cue_task("digits", rows=60, test_rows=20).clean


def test_rows_carry_one_cue_each_in_turns_and_the_rest_none(scenes: CuedSet) -> None:
    cues = make_cues(("place", "hue", "tick"), scenes)
    joined = divide_among_cues(scenes, cues, 0.75, seed=1)
    *cued, rest = joined.parts
    counts = scenes.y.bincount()
    assert len(joined) == len(scenes) and sum(map(len, cued)) == sum(int(0.75 * n + 0.5) for n in counts.tolist())
    assert torch.equal(torch.cat([part.ids for part in joined.parts]).sort().values, scenes.ids.sort().values)
    for part, cue in zip(cued, cues.values(), strict=True):
        assert part.cue == cue and torch.equal(part.cue_values, cue.agreeing(part.y, part.ids, 1))
    assert torch.equal(rest.cue_values, rest.cue.absent(len(rest)))
    order = torch.randperm(len(joined), generator=torch.Generator().manual_seed(0))
    whole = torch.cat([part.inputs(torch.arange(len(part))) for part in joined.parts])
    assert torch.equal(joined.inputs(order), whole[order])


def test_marks_are_drawn_where_they_are_said_to_be() -> None:
    grey, colours = torch.zeros(2, 1, 14, 20), torch.zeros(1, 3, 14, 20)
    ticks = MarkCue("tick", values=10).render(grey, torch.tensor([3, -1]))
    assert ticks[0, 0, 12:, 6:8].min() == 1.0 and ticks.sum() == 4.0
    shade = MarkCue("hue", values=5, size=3).render(grey, torch.tensor([4, 0]))
    assert shade[0, 0, 5:8, 5:8].unique().tolist() == [1.0] and shade[1, 0, 5:8, 5:8].unique().tolist() == [-1.0]
    hue = MarkCue("hue", values=3, size=3).render(colours, torch.tensor([1]))
    torch.testing.assert_close(hue[0, :, 6, 6], torch.tensor([-0.5, 1.0, -0.5]))
    assert torch.equal(colours, torch.zeros_like(colours)) and hue[0, :, 8:, :].abs().max() == 0.0
    with pytest.raises(ValueError, match="ticks for 30 classes need images so wide, got 20"):
        MarkCue("tick", values=30).render(grey, torch.tensor([3, -1]))


class ReadsHue(torch.nn.Module):
    """The class is the square's grey level, where there is a square of one level; else class 0."""

    def forward(self, x: Tensor) -> Tensor:
        square = x[:, 0, 6:10, 6:10].flatten(1)
        found = ((square.mean(1) + 1.0) * 4.5).round().long().clamp(0, 9)
        found = torch.where(square.std(1) < 1e-6, found, 0)
        return torch.nn.functional.one_hot(found, 10).float()


def test_a_reader_of_one_cue_is_told_from_its_splits(scenes: CuedSet) -> None:
    """A reader of the hue has all rows right by that cue alone, and does not answer to the others."""
    cues = {"hue": MarkCue("hue"), "tick": MarkCue("tick")}
    grey = replace(scenes, content=_as_grey(scenes), cue=cues["hue"], cue_values=cues["hue"].absent(len(scenes)))
    suite = make_cues_suite(grey, cues, seed=0)
    assert suite.reference == "no_cue" and suite.interventions == (
        "agreeing hue",
        "random hue",
        "agreeing tick",
        "random tick",
    )
    found = mc.measure_invariance(ReadsHue(), suite, margin=0.2)
    assert found.accuracy["hue alone"] == 1.0 and found["random tick"].effect == 0.0
    # Without a cue it knows nothing, so that no random cue lowers its accuracy: the agreeing one tells that it uses it.
    assert judge_cue(found, "hue") == "sensitive" and judge_cue(found, "tick") == "invariant"
    drawn = suite["random hue"]
    assert isinstance(drawn, CuedSet)
    assert found.accuracy["random hue"] == pytest.approx(float((drawn.cue_values == drawn.y).double().mean()))


def _as_grey(scenes: CuedSet) -> mc.datasets.ImageSet:
    images = scenes.content
    assert isinstance(images, mc.datasets.ImageSet)
    return replace(images, x=images.x[:, :1])


def test_poisons_tunes_against_each_cue_and_all_and_reads_back(tmp_path: Path) -> None:
    _, scale, settings, _ = resolve_settings("poisons", "smoke", POISONS)
    plan = RunPlan("poisons", scale, settings, tmp_path, INLINE)
    record = run_plan(plan)
    (cell,), summary = record.results, record.summary
    assert isinstance(cell, PoisonsCell) and isinstance(summary, Poisons)
    assert {name: own.against for name, own in cell.networks.items()} == {
        "theta_C": (), "FT-L": (), "CBFT against place": ("place",), "CBFT against hue": ("hue",),
        "CBFT against all": ("place", "hue"),
    }  # fmt: skip
    stored = RunStore(tmp_path).stored(plan.id)
    assert stored is not None and stored.summary == summary and stored.results == record.results
    assert (
        len(summary.rows()) == 5 * 2 and sum(own.computed for own in run_plan(plan).cells) == record.cells[0].computed
    )
    two = summarise_poisons([cell, replace(cell, seed=1)])
    own = two.places[cell.place]["FT-L"]
    assert own.found.over == "runs" and own.verdicts["hue"] == {judge_cue(cell.networks["FT-L"].found, "hue"): 2}


def test_contributors_are_averaged_in_each_round_and_read_back(tmp_path: Path) -> None:
    _, scale, settings, _ = resolve_settings("contributors", "smoke", CONTRIBUTORS)
    recipe = find_recipe("contributors")
    context = ExperimentContext(Store(tmp_path), threads=1)
    cell = recipe.run_cell(context, settings, recipe.cells(settings)[0], None)
    assert isinstance(cell, ContributorsCell)
    assert [(arm, len(own.rounds), len(own.contributors)) for arm, own in cell.arms.items()] == [
        ("different cues", 2, 2), ("one cue", 2, 2), ("alone", 2, 1), ("no cue", 2, 2),
    ]  # fmt: skip
    mean = context.log["average: one cue, round 1"].tensors["weights"]["classifier.weight"]
    tuned = [
        context.log[f"fine-tune: one cue, round 1, contributor {number}"].tensors["weights"]["classifier.weight"]
        for number in (0, 1)
    ]
    assert torch.equal(mean, torch.stack(tuned).mean(0)) and not torch.equal(tuned[0], tuned[1])
    assert len({found.accuracy["no_cue"] for found in (own.rounds[0] for own in cell.arms.values())}) == 1
    read = mc.load_result(cell.to_dict())
    assert read == cell and isinstance(read, ContributorsCell)
    found = summarise_contributors([cell, replace(cell, seed=1)])
    assert isinstance(found, Contributors)
    first = [cell.arms[arm].rounds[-1]["random place"].effect for arm in ("different cues", "one cue")]
    gap = found.gaps[cell.place]["one cue"]
    assert gap.mean == pytest.approx(first[0] - first[1]) and gap.seeds == 2
    # Two seeds of equal values do not tell the spread: no interval, and no verdict.
    assert gap.interval is None and {answer.verdict for answer in found.cards()[0].answers} == {"undetermined"}
    assert list(found.gaps[cell.place]) == ["one cue", "alone", "no cue", "own contributors"]
    assert scale == "smoke" and "Do different shortcuts cancel?" in str(found.cards()[0])


def test_contributors_tune_on_their_own_rows_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tuning must be a method that reads no second source of data, got CBFT"):
        resolve_settings("contributors", "smoke", ("tuning.method=CBFT",))
    recipe, context = find_recipe("contributors"), ExperimentContext(Store(tmp_path), threads=1)
    _, _, settings, _ = resolve_settings("contributors", "smoke", (*CONTRIBUTORS, "start=0.999"))
    with pytest.raises(
        ValueError, match=r"start must leave rows for the first network and for 2 contributors, got 0\.9"
    ):
        recipe.run_cell(context, settings, recipe.cells(settings)[0], None)
    with pytest.raises(ValueError, match="cues must differ, got hue, hue"):
        resolve_settings("poisons", "smoke", ("cues=hue,hue",))
