"""Verdicts on stars: what a low barrier does not show, and that networks which learned nothing are never nearer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from matplotlib.colors import to_hex
from sklearn.datasets import load_digits
from torch import nn

import mechconn as mc
from connectivity.star_nets import DATA, SUITE, fit
from mechconn.connectivity import BarrierSummary, StarBarriers, mark_barrier
from mechconn.core import isolate_rng
from zoo import build, mlp

RUNS = {f"run {seed}": build(mlp, seed) for seed in range(3, 7)}
STAR = mc.fit_star(build(mlp), [build(mlp, 1)], fit(), DATA)
FOUND = STAR.barriers(RUNS, SUITE, ts=5)


def with_held_out(found: StarBarriers, change: Any) -> StarBarriers:
    """The same with other losses on the lines from the star."""
    lines = (
        replace(line, loss={split: change(values) for split, values in line.loss.items()})
        if line.group == "held-out"
        else line
        for line in found.lines
    )
    return replace(found, lines=tuple(lines))


def test_nearer_needs_a_solution_and_a_lower_line() -> None:
    """A low barrier alone is nothing: the star must be as good as the runs, and the line low without its chord."""
    runs = {name: replace(run, loss={s: v + 0.001 * k for s, v in run.loss.items()})
            for k, (name, run) in enumerate(FOUND.runs.items())}  # fmt: skip
    least = {split: min(run.loss[split] for run in runs.values()) for split in SUITE}
    base = replace(FOUND, runs=runs, star={s: replace(own, loss=least[s]) for s, own in FOUND.star.items()})
    lines = tuple(  # between runs the loss rises from 0 by 1, a little less with each run
        replace(line, loss=dict.fromkeys(SUITE, (0.0, 0.5, 1.0 + 0.01 * n, 0.5, 0.0)))
        for n, line in enumerate(base.lines)
    )
    base = replace(base, lines=lines)
    low = with_held_out(base, lambda values: (0.0, 0.1, 0.2 * values[2], 0.1, 0.0))
    assert set(low.verdicts.values()) == {"nearer"}
    assert low.headline == "In loss the star is nearer to held-out runs than these are to each other, on every split"
    lifted = with_held_out(base, lambda values: (2.0, 1.6, 1.0 + 0.2 * values[2], 0.6, 0.0))  # a chord from 2 to 0
    assert lifted.compare("cue").barrier.judged_interval == pytest.approx(low.compare("cue").barrier.judged_interval)
    assert set(lifted.verdicts.values()) == {"not shown"}
    worse = replace(low, star={**low.star, "no_cue": replace(low.star["no_cue"], loss=9.0)})
    assert worse.verdicts == {"cue": "nearer", "no_cue": "no solution", "rand_cue": "nearer"}
    assert worse.headline.startswith("In loss the star is no solution as the held-out runs are on no_cue, and nearer")
    lost = replace(low, star={**low.star, "cue": replace(low.star["cue"], loss=9.0)})
    assert set(lost.verdicts.values()) == {"no solution"} and "no solution" in lost.headline.split(",")[0]
    assert set(replace(lost, tolerance=99.0).verdicts.values()) == {"nearer"}
    gone = replace(low, star={**low.star, "cue": replace(low.star["cue"], loss=math.nan)})
    assert set(gone.verdicts.values()) == {"no solution"}


def test_where_most_barriers_are_zero_nothing_is_judged() -> None:
    flat = with_held_out(FOUND, lambda values: (0.0,) * 5)
    flat = replace(flat, star={split: replace(own, loss=0.0) for split, own in flat.star.items()})
    compared = flat.compare("cue")
    assert compared.mostly_zero and compared.verdict == "not shown"
    assert "mostly zero" in str(flat) and "Most barriers are zero" in " ".join(flat.findings)


def test_the_page_shows_the_verdict_first_and_one_colour_for_each_group() -> None:
    part, curves, own = FOUND.sections()
    barriers, evidence = part.tables
    assert [cell.text for cell in barriers.headings][:2] == ["split", "verdict"]
    assert "all splits of this star hold together with 95 %, approximately (Student's t)" in barriers.note
    assert "reading both doubles the claims" in barriers.note and "runs nearer" in str(evidence.headings[1])
    assert "exact where rows are right or not" in own.note
    marks, lines = part.figures[0].draw(), curves.figures[0].draw()
    by_mark = {text.get_text(): colour for text, colour in list_legend(marks)}
    by_line = {text.get_text(): colour for text, colour in list_legend(lines)}
    assert by_mark == by_line and len(set(by_mark.values())) == 2


def list_legend(figure: Any) -> list[Any]:
    """(text, colour) of every entry."""
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    handles = [handle for legend in legends for handle in legend.legend_handles]
    colours = [to_hex(h.get_color() if hasattr(h, "get_color") else h.lines[0].get_color()) for h in handles]
    return list(zip([text for legend in legends for text in legend.get_texts()], colours, strict=True))


def test_marks_are_cut_off_at_zero_and_captions_say_what_they_are() -> None:
    assert mark_barrier(BarrierSummary(0.1, 0.0, 0.2, 4, (-0.1, 0.3))) == (0.1, 0.0, 0.3)
    assert mark_barrier(BarrierSummary(math.inf, 0.0, math.inf, 4, None)) is None
    two = replace(
        FOUND, runs=dict(list(FOUND.runs.items())[:2]),
        lines=tuple(line for line in FOUND.lines if {line.a, line.b} <= {"star", "run 3", "run 4"}),
    )  # fmt: skip
    assert "Mean barriers with the range over lines." in two.sections()[0].figures[0].description
    assert "Mean barriers with 95 % intervals" in FOUND.sections()[0].figures[0].description
    assert "in error rate the star" in replace(FOUND, on="accuracy", tolerance=1.0).headline.lower()


# ---------------------------------------------------------------- networks that learned nothing


PIXELS, LABELS = load_digits(return_X_y=True)
X, Y = torch.tensor(PIXELS / 16, dtype=torch.float32), torch.tensor(LABELS)
TRAIN, TEST = (X[:600], Y[:600]), (X[800:1200], Y[800:1200])
WRONG = (TEST[0], TEST[1].roll(1))
"""Labels of other rows: all runs lose more on them than a network that learned nothing."""
DIGIT_SUITE = mc.Suite({"test": TEST, "wrong": WRONG, "train": TRAIN}, reference="test")
HOW = mc.Training(epochs=15, batch_size=50, lr=0.1, milestones=(10,))


def perceptron(seed: int) -> nn.Module:
    with isolate_rng(seed, "star verdicts"):
        return nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


@pytest.fixture(scope="module")
def runs() -> list[nn.Module]:
    return [mc.train(perceptron(seed), TRAIN, HOW, seed=seed).model for seed in range(6)]


@pytest.fixture(scope="module")
def known(runs: list[nn.Module]) -> tuple[mc.FittedStar, StarBarriers]:
    """A star that was hardly fitted, for the lines between the runs."""
    star = mc.fit_star(perceptron(99), runs[5:], mc.StarFit(epochs=1, realign=False), TRAIN)
    return star, star.barriers(runs[:5], DIGIT_SUITE, ts=5)


@pytest.mark.slow
def test_a_fitted_star_is_a_solution(runs: list[nn.Module], known: tuple[mc.FittedStar, StarBarriers]) -> None:
    more = [mc.train(perceptron(seed), TRAIN, HOW, seed=seed).model for seed in (6, 7, 8)]
    star = mc.fit_star(perceptron(99), [runs[5], *more], mc.StarFit(epochs=40, batch_size=50, lr=0.1), TRAIN)
    found = star.barriers(runs[:5], DIGIT_SUITE, ts=5, between=known[1])
    assert "no solution" not in {found.verdicts[split] for split in ("test", "train")}
    assert found.compare("train").highest.value < 0


@pytest.mark.parametrize("which", ["untrained", "zero"])
@pytest.mark.parametrize("on", ["loss", "accuracy"])
def test_a_network_that_learned_nothing_is_never_nearer(
    which: str, on: str, runs: list[nn.Module], known: tuple[mc.FittedStar, StarBarriers]
) -> None:
    """Its barriers are below those between runs, since it lifts its own chord."""
    star, before = known
    empty = perceptron(99)
    if which == "zero":
        with torch.no_grad():
            for p in empty.parameters():
                p.zero_()
    found = replace(star, model=empty).barriers(runs[:5], DIGIT_SUITE, ts=5, on=on, between=before)
    below = found.compare("train", "loss").barrier.interval
    assert below is not None and below[1] < 0.0
    assert found.compare("train").highest.value > 0.0
    assert set(found.verdicts.values()) == {"no solution"}
    assert found.headline.startswith("The star is no solution as the held-out runs are, and its barriers prove nothing")
