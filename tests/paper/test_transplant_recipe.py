"""The recipe `transplant`: its cells, what pairs say together, and a run on planted data."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from mechconn.cli import main
from mechconn.paper import RunStore, TransplantRecipe, TransplantResult, summarise_transplants
from mechconn.paper._transplant_results import average_pairs
from mechconn.stats import jackknife_interval
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
    assert share.interval is None  # each of two networks is in both pairs
    assert means["random"].shares["rand_cue"] is None and means["before"].shares == {}
    assert means["weights"].verdicts == {"undetermined": 1, "travels": 1}
    assert means["before"].states == {"uses": 2} and means["tuned"].states == {"gone": 2}
    assert means["weights"].gains["random"]["accuracy on no_cue"].mean == pytest.approx(0.45)
    assert "moved by weights: 90 % of the way on rand_cue" in str(found)
    assert "no share is defined in all pairs; it travels in 0 of 2 pairs" in str(found)
    assert "jackknife over networks" in str(found)
    text = str([section for section in found.sections()])
    for title in ("What alignment adds", "How changes were moved", "Pair by pair"):
        assert title in text
    assert "never met" not in text


def test_intervals_leave_out_one_network_at_a_time() -> None:
    """Without network "a" the pairs ("b", "c") and ("c", "b") remain, and so on."""
    pairs = {(a, b): value for value, (a, b) in enumerate(permutations("abc", 2))}
    found = average_pairs({pair: float(value) for pair, value in pairs.items()})
    left = [fmean(value for pair, value in pairs.items() if unit not in pair) for unit in "abc"]
    assert found.mean == 2.5 and found.interval == jackknife_interval(2.5, left)
    assert average_pairs({("a", "b"): 1.0, ("b", "a"): 2.0}).interval is None


@pytest.mark.parametrize("kind", ["cycle", "all"])
@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_intervals_over_five_networks_hold_as_often_as_stated(kind: str, shared: float) -> None:
    """s_ij = a_i + b_j + noise, a_i and b_i correlated, so that Student's t over pairs would hold less often."""
    draw, runs = np.random.default_rng(0), 400
    every = [(i, j) for i in range(5) for j in range(5) if (j == (i + 1) % 5 if kind == "cycle" else i != j)]
    held = 0
    for _ in range(runs):
        gives, own = draw.standard_normal((2, 5))
        gets = shared * gives + (1 - shared**2) ** 0.5 * own
        values = {(str(i), str(j)): float(gives[i] + gets[j] + 0.5 * draw.standard_normal()) for i, j in every}
        interval = average_pairs(values).interval
        assert interval is not None
        held += interval[0] <= 0 <= interval[1]
    assert held / runs >= 0.93


def test_two_proportions_have_their_own_series() -> None:
    results = transplant_results()
    results += [replace(result, proportion=0.5) for result in results]
    _, names = summarise_transplants(results, 0.5).plot().axes[0].get_legend_handles_labels()
    assert len(names) == len(set(names)) == 4 and any("0.5 cued" in name for name in names)


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
    assert none.distance_before == none.distance_after and none.unmatched is None
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
