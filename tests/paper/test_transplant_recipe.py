"""The recipe `transplant`: its cells, what pairs say together, and a run on planted data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mechconn.cli import main
from mechconn.paper import RunStore, TransplantRecipe, TransplantResult, summarise_transplants
from mechconn.stats import compute_moments, t_interval
from page import Page
from transplant_records import transplant_results


def test_every_fix_meets_every_pair() -> None:
    recipe = TransplantRecipe()
    settings = recipe.settings("small", images=False)
    cells = recipe.cells(settings)
    assert len(cells) == 5 * 2 and len({cell.name for cell in cells}) == 10
    pairs = {(cell.source, cell.target) for cell in cells}
    assert pairs == {(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)}
    every = recipe.cells(settings.model_copy(update={"pairs": "all"}))
    assert len(every) == 5 * 4 * 2 and all(cell.source != cell.target for cell in every)
    assert cells[0].name == "digits, 0.8 cued, FT-L, seed 0 onto 1"
    with pytest.raises(ValueError, match="seeds must be two or more to move a fix"):
        recipe.cells(settings.model_copy(update={"seeds": (3,)}))


def test_means_over_pairs_have_intervals_and_missing_shares_stay_missing() -> None:
    found = summarise_transplants(transplant_results(), 0.5)
    means = found.fixes["digits, 0.8 cued, <FT>"]
    share = means["weights"].shares["rand_cue"]
    assert share is not None and share.mean == pytest.approx(0.9)
    assert share.interval == pytest.approx(t_interval(compute_moments(torch.tensor([0.8, 1.0], dtype=torch.float64))))
    assert means["random"].shares["rand_cue"] is None and means["before"].shares == {}
    assert means["weights"].verdicts == {"undetermined": 1, "travels": 1}
    assert means["before"].states == {"uses": 2} and means["tuned"].states == {"gone": 2}
    assert "moved by weights: 90 % (-37 to 217) of the way on rand_cue" in str(found)
    assert "no share is defined in all pairs; it travels in 0 of 2 pairs" in str(found)
    assert "not independent" in str(found)


@pytest.mark.slow
def test_the_recipe_runs_and_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds, each onto the other, without gradients: the page holds all networks, and nothing is done twice."""
    command = ["run", "transplant", "--scale", "smoke", "--store", str(tmp_path), "--set", "ways=weights,none,random"]
    command += ["--set", "seeds=0,1"]
    with pytest.raises(SystemExit, match="0"):
        main(command)
    (record,) = RunStore(tmp_path).runs()
    results = record.results
    assert [type(result) for result in results] == [TransplantResult] * 2
    first = results[0]
    assert isinstance(first, TransplantResult)
    assert list(first.networks) == ["before", "weights", "none", "random", "tuned"]
    none = first.networks["none"]
    assert none.distance_before == none.distance_after and none.unmatched == 0.0
    assert first.networks["weights"].distance_after is not None and first.networks["weights"].verdict is not None
    assert first.networks["tuned"].verdict is None and first.networks["tuned"].further
    computed = [cell.computed for cell in record.cells]
    with pytest.raises(SystemExit, match="0"):
        main(command)
    (again,) = RunStore(tmp_path).runs()
    assert [cell.computed for cell in again.cells] == computed and again.summary == record.summary
    with pytest.raises(SystemExit, match="0"):
        main(["report", record.id, "--store", str(tmp_path), "-o", str(tmp_path / "page.html")])
    shown = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Share of the way" in shown.text and "After further tuning" in shown.text
    assert "Fixes that travel" in shown.text
    capsys.readouterr()
