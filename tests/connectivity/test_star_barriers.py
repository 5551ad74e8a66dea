"""Barriers around a star: against `evaluate_path` and the jackknife by hand, what they say, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from scipy.stats import t as student
from torch import nn

import mechconn as mc
from connectivity.star_nets import DATA, SUITE, fit, linear, permuted, squared, trained
from mechconn.connectivity import StarBarriers, StarDifference
from mechconn.core import iterate_batches
from mechconn.stats import betting_interval
from zoo import build, mlp, norm_mlp, rows

RUNS = {f"run {seed}": build(mlp, seed) for seed in range(3, 7)}
SOURCES = {f"source {seed}": build(mlp, seed) for seed in (1, 2)}
NORM = mc.Reestimate(DATA)


def make_star(**changes: Any) -> Any:
    return mc.fit_star(build(mlp), SOURCES, fit(**changes), DATA)


STAR = make_star()
FOUND = STAR.barriers(RUNS, SUITE, sources=SOURCES, ts=5)


# ---------------------------------------------------------------- the numbers


def walk(a: nn.Module, b: nn.Module) -> mc.Profile:
    """`evaluate_path` once the second network was moved onto the first by permutations and signs alone."""
    moved = mc.align(a, b, mc.WeightMatching(), STAR.symmetry).model
    return mc.evaluate_path(a, mc.LinearPath.between(a, moved), SUITE, 5)


def test_every_barrier_is_that_of_the_aligned_path() -> None:
    networks = {"star": STAR.model, **RUNS, **SOURCES}
    whole = mc.symmetry_of(STAR.model, DATA[0][:2])
    assert STAR.symmetry.sizes == whole.sizes and {action.kind for action in STAR.symmetry.actions} <= {"sign"}
    assert list(FOUND.heights("cue", "pair")) == list(combinations(RUNS, 2))
    assert list(FOUND.heights("cue", "held-out")) == [("star", name) for name in RUNS]
    for line in FOUND.lines:
        profile = walk(networks[line.a], networks[line.b])
        for split in SUITE:
            for on in ("loss", "accuracy"):
                height = FOUND.heights(split, line.group, on)[line.a, line.b]
                assert height == pytest.approx(profile.barrier(split, on).height, abs=1e-12)
            highest = max(profile.loss[split]), 1 - min(profile.accuracy[split])
            for on, value in zip(("loss", "accuracy"), highest, strict=True):
                assert FOUND.highest(split, line.group, on)[line.a, line.b] == pytest.approx(value, abs=1e-12)


def test_intervals_are_a_jackknife_over_runs() -> None:
    """Every run struck out of both means by hand; the t quantile has H - 1 degrees of freedom."""
    compared = FOUND.compare("cue")
    for found, of in ((compared.barrier, FOUND.heights), (compared.highest, FOUND.highest)):
        star = {run: value for (_, run), value in of("cue", "held-out").items()}
        pairs, deleted = of("cue", "pair"), []
        for out in RUNS:
            near = fmean(value for run, value in star.items() if run != out)
            far = fmean(value for pair, value in pairs.items() if out not in pair)
            deleted.append(near - far)
        check_difference(found, fmean(star.values()) - fmean(pairs.values()), deleted)
    own, losses = FOUND.star["cue"].loss, {name: run.loss["cue"] for name, run in FOUND.runs.items()}
    deleted = [own - fmean(loss for name, loss in losses.items() if name != out) for out in RUNS]
    check_difference(compared.excess, own - fmean(losses.values()), deleted)
    heights = torch.tensor(list(FOUND.heights("cue", "held-out").values()), dtype=torch.float64)
    margin = student.ppf(0.975, 3) * float(heights.std()) / 2
    mean = FOUND.mean("cue", "held-out")
    assert mean.interval == pytest.approx((mean.mean - margin, mean.mean + margin))
    assert FOUND.mean("cue", "source").interval is None
    wider, judged = FOUND.compare("cue", claims=30).barrier.judged_interval, compared.barrier.judged_interval
    assert wider is not None and judged is not None and wider[0] < judged[0]


def check_difference(found: StarDifference, value: float, deleted: list[float]) -> None:
    """At 95 % and at the level of three splits."""
    spread = math.sqrt(3 / 4 * sum((each - fmean(deleted)) ** 2 for each in deleted))
    assert found.value == pytest.approx(value)
    for interval, level in ((found.interval, 0.95), (found.judged_interval, 1 - 0.05 / 3)):
        margin = student.ppf((1 + level) / 2, 3) * spread
        assert interval == pytest.approx((value - margin, value + margin))


def test_runs_to_which_the_star_is_nearer_are_counted() -> None:
    pairs, star = FOUND.heights("cue", "pair"), FOUND.heights("cue", "held-out")
    own = {run: fmean(height for pair, height in pairs.items() if run in pair) for run in RUNS}
    assert FOUND.compare("cue").runs_nearer == sum(star["star", run] < own[run] for run in RUNS)


def test_claims_are_the_splits_that_have_the_measure() -> None:
    """A split without accuracies makes no claim on error rates, whatever the result is about."""
    lines = tuple(replace(line, accuracy={"cue": line.accuracy["cue"]}) for line in FOUND.lines)
    found = replace(FOUND, lines=lines)
    assert found.compare("cue", "accuracy") == found.compare("cue", "accuracy", claims=1)
    assert found.compare("cue") == found.compare("cue", claims=3)


def read(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = iterate_batches(split, SUITE[split], batch_size=100, device=torch.device("cpu"))
    assert isinstance(batch[0], torch.Tensor)
    return batch[0], batch[1]


def test_the_star_and_the_runs_stand_beside_as_they_are() -> None:
    for split in SUITE:
        x, y = read(split)
        with torch.no_grad():
            right = STAR.model(x).argmax(1) == y
            loss = float(nn.functional.cross_entropy(STAR.model(x), y))
        own, expected = FOUND.star[split], binomtest(int(right.sum()), len(y)).proportion_ci(method="exact")
        assert own.accuracy == float(right.double().mean())
        assert own.accuracy_interval == pytest.approx((expected.low, expected.high), abs=1e-8)
        assert own.loss == pytest.approx(loss)
        for name, run in RUNS.items():
            with torch.no_grad():
                expected_loss = float(nn.functional.cross_entropy(run(x), y))
            assert FOUND.runs[name].loss[split] == pytest.approx(expected_loss)


def test_verdicts_follow_the_interval() -> None:
    """On -|.|^2 a line rises by t (1 - t) |theta - phi|^2 above its chord: a star far from all runs is farther."""
    angles = torch.arange(6, dtype=torch.float64)
    runs = [linear(torch.stack([angle.cos(), angle.sin()])[None] * (1 + 0.1 * angle)) for angle in angles]
    eye = torch.eye(2, dtype=torch.float64)
    suite = mc.Suite({"plane": (eye, torch.zeros(2, 1, dtype=torch.float64))}, reference="plane")

    def ring(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -outputs.square().sum(1)

    star = mc.fit_star(
        linear(torch.tensor([[3.0, 0.0]])), runs[:1], fit(epochs=1, lr=1e-9, realign=False), (eye, eye[:, :1]),
        loss=squared,
    )  # fmt: skip
    found = star.barriers(runs[1:], suite, align=None, loss=ring)
    # At t = 1/2 a quarter of it, and a mean over two unit inputs.
    for (_, name), height in found.heights("plane", "held-out").items():
        run = runs[1 + int(name.split()[1])].get_parameter("weight").detach()
        gap = (run - star.model.get_parameter("weight").detach()).square().sum()
        assert height == pytest.approx(float(gap) / 8, abs=1e-6)
    assert found.verdicts == {"plane": "farther"}
    far = "In loss the star is farther from held-out runs than these are from each other on plane"
    assert found.headline == far
    assert found.settings["align"] == "none" and found.unit != "nats"


def test_lines_between_runs_are_walked_once_for_several_stars() -> None:
    other = make_star(realign=False)
    whole, taken = (
        other.barriers(RUNS, SUITE, ts=5, between=between, symmetry=STAR.symmetry) for between in (None, FOUND)
    )
    assert replace(whole, seconds=0.0).to_plain() == replace(taken, seconds=0.0).to_plain()
    for wrong, said in (
        ({"ts": 3}, "ts"),
        ({"align": None}, "align"),
        ({"held_out": list(RUNS.values())}, "held_out"),
        ({"suite": mc.Suite({**SUITE, "cue": rows(24, 8)}, reference="cue")}, "rows"),
        ({"symmetry": replace(STAR.symmetry, actions=())}, "symmetry"),
        ({"between": replace(FOUND, settings={**FOUND.settings, "ignore": ["clock"]})}, "ignore"),
    ):
        given: dict[str, Any] = {"held_out": RUNS, "suite": SUITE, "ts": 5, "between": FOUND, **wrong}
        with pytest.raises(ValueError, match=f"between holds lines of other {said}"):
            other.barriers(given.pop("held_out"), given.pop("suite"), **given)


def test_statistics_are_those_of_the_policy() -> None:
    """With BatchNorm, each line is that of `evaluate_path` under the same policy."""
    runs, sources = [build(norm_mlp, seed) for seed in (3, 4, 5)], [build(norm_mlp, 1)]
    star = mc.fit_star(build(norm_mlp), sources, fit(), DATA, norm=NORM)
    found = star.barriers(runs, SUITE, norm=NORM, ts=3)
    symmetry = star.symmetry
    moved = mc.align(star.model, runs[0], mc.WeightMatching(), symmetry).model
    line = mc.evaluate_path(star.model, mc.LinearPath.between(star.model, moved), SUITE, 3, norm=NORM)
    assert found.heights("cue", "held-out")["star", "run 0"] == pytest.approx(line.barrier("cue").height, abs=1e-12)
    assert any("run 0" in note for note in found.notes)  # the runs' own statistics are other than re-estimated ones
    with pytest.raises(ValueError, match="pass norm="):
        star.barriers(runs, SUITE)


def test_sources_in_a_row_have_their_names_of_the_fit() -> None:
    found = STAR.barriers(RUNS, SUITE, sources=[SOURCES["source 2"]], ts=5, between=FOUND)
    assert list(found.heights("cue", "source")) == [("star", "source 2")]
    key = ("star", "source 2")
    assert found.heights("cue", "source")[key] == FOUND.heights("cue", "source")[key]


# ---------------------------------------------------------------- what it says


def test_two_runs_have_barriers_and_no_verdict() -> None:
    found = STAR.barriers(dict(list(RUNS.items())[:2]), SUITE, ts=3)
    assert found.compare("cue").barrier.interval is None and found.mean("cue", "pair").interval is None
    assert set(found.verdicts.values()) == {"not shown"} and "hold out 3 or more" in found.notes[0]
    assert found.headline.startswith("It is not shown")


def test_permuted_copies_lie_at_no_distance_and_show_no_spread() -> None:
    copies = permuted(trained(3), 5)
    star = mc.fit_star(build(mlp), copies[:2], fit(), DATA)
    found = star.barriers(copies[2:], SUITE, ts=3)
    assert max(found.heights("cue", "pair").values()) < 1e-9
    (first, *others) = found.heights("cue", "held-out").values()
    assert others == pytest.approx([first] * 2, abs=1e-9)  # one network to the star, so no spread and no interval
    assert found.mean("cue", "held-out").interval is None and found.compare("cue").verdict in (
        "not shown",
        "no solution",
    )


def test_it_says_that_it_is_conditional_and_whether_the_star_is_a_solution() -> None:
    fine = {split: replace(own, loss=0.0) for split, own in FOUND.star.items()}
    said = str(replace(FOUND, star=fine))
    assert "conditional on this star, which is one draw" in said and "on the training rows that the runs share" in said
    assert "no solution" not in said and "approximately (Student's t)" in said
    lost = {**fine, "no_cue": replace(fine["no_cue"], loss=99.0)}
    assert "on no_cue it is above the mean of theirs by 97.9, more than 0.05" in str(replace(FOUND, star=lost))


def test_a_line_that_is_not_finite_shows_nothing() -> None:
    first = FOUND.lines[0]
    broken = replace(first, loss={**first.loss, "cue": (1.0, math.nan, 1.0, 1.0, 1.0)})
    found = replace(FOUND, lines=(broken, *FOUND.lines[1:]))
    assert found.mean("cue", "held-out").mean == math.inf and found.verdicts["cue"] == "not shown"
    assert StarBarriers.from_dict(found.to_dict()).mean("cue", "held-out").mean == math.inf
    assert found.sections() and "inf" in str(found)


def test_a_result_that_was_read_says_how_to_go_on(tmp_path: Path) -> None:
    STAR.save(tmp_path / "star.json")
    read = mc.load_result(tmp_path / "star.json")
    assert isinstance(read, mc.FittedStar) and read.sources == STAR.sources
    with pytest.raises(AttributeError, match=r"dataclasses\.replace\(star, model="):
        read.barriers(RUNS, SUITE)
    again = replace(read, model=STAR.model).barriers(RUNS, SUITE, sources=SOURCES, ts=5)
    assert again.to_plain()["lines"] == FOUND.to_plain()["lines"]


def relu() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def test_a_star_that_was_read_needs_the_symmetry_of_its_fit(tmp_path: Path) -> None:
    """The symmetry with scales is not the default; without it other barriers would be measured."""
    runs, sources = {str(seed): build(relu, seed) for seed in (3, 4)}, [build(relu, 1)]
    whole = mc.symmetry_of(sources[0], DATA[0][:2])
    star = mc.fit_star(build(relu), sources, fit(), DATA, symmetry=whole)
    assert star.settings["symmetry"]["kinds"] == ["permutation", "scale"]
    star.save(tmp_path / "star.json")
    assert star.symmetry is not None
    star.symmetry.save(tmp_path / "symmetry.json")
    saved = mc.load_result(tmp_path / "star.json")
    assert isinstance(saved, mc.FittedStar)
    read = replace(saved, model=star.model)
    with pytest.raises(ValueError, match=r"under a symmetry of its own \(permutation, scale\)"):
        read.barriers(runs, SUITE, ts=3)
    found = star.barriers(runs, SUITE, ts=3)
    kept = mc.load_result(tmp_path / "symmetry.json")
    assert isinstance(kept, mc.Symmetry)
    for again in (
        read.barriers(runs, SUITE, ts=3, symmetry=whole),
        replace(read, symmetry=kept).barriers(runs, SUITE, ts=3),
    ):
        assert again.lines == found.lines
    plain = read.barriers(runs, SUITE, ts=3, align=None)
    assert plain.settings["symmetry"] is None
    default = mc.fit_star(build(relu), sources, fit(), DATA)
    assert (
        replace(default, symmetry=None).barriers(runs, SUITE, ts=3).lines == default.barriers(runs, SUITE, ts=3).lines
    )
    with pytest.raises(ValueError, match="symmetry= has no effect with align=None"):
        star.barriers(runs, SUITE, align=None, symmetry=whole)


def test_rows_in_clusters_have_intervals_over_clusters() -> None:
    """Twelve clusters of two equal rows: the intervals are those of twelve rows, by betting and by t."""
    doubled = tuple(part.repeat_interleave(2, 0) for part in DATA)
    labels = torch.arange(24).repeat_interleave(2)
    found = STAR.barriers(RUNS, mc.Suite({"cue": doubled}, reference="cue"), cluster=labels, ts=3)
    single = FOUND.star["cue"]
    own = found.star["cue"]
    assert found.clusters == {"cue": 24} and own.samples == 48 and "over 24 clusters" in found.sections()[2].note
    assert own.loss_interval == pytest.approx(single.loss_interval, abs=1e-9)
    x, y = read("cue")
    with torch.no_grad():
        right = (STAR.model(x).argmax(1) == y).double().numpy()
    assert own.accuracy_interval == pytest.approx(betting_interval(right, (0.0, 1.0)), abs=1e-9)
    assert FOUND.clusters == {}


def test_without_classes_there_is_no_accuracy() -> None:
    x = rows(12)[0]
    suite = mc.Suite({"a": (x, x[:, :3]), "b": (x.flip(0), x[:, :3])}, reference="a")
    found = STAR.barriers(RUNS, suite, loss=squared, ts=3)
    assert found.splits == ("a", "b") and found.star["a"].accuracy is None and "nats" not in str(found.unit)
    assert found.sections()
    with pytest.raises(ValueError, match="on='loss'"):
        STAR.barriers(RUNS, suite, loss=squared, ts=3, on="accuracy")


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("held_out", "how", "said"),
    [
        ({"a": build(mlp, 3)}, {}, "two held-out runs or more, got 1"),
        ({**RUNS, "seen": SOURCES["source 1"]}, {}, "'seen' is the source 'source 1' of the star"),
        ([build(mlp, 3), build(mlp, 4), build(mlp, 3)], {}, "'run 0' and 'run 2' are one network"),
        ({**RUNS, "star": build(mlp, 9)}, {}, "held_out hold a network called 'star'"),
        (RUNS, {"sources": [build(mlp, 9)]}, "'source 0' is none of the networks"),
        (RUNS, {"sources": {"star": SOURCES["source 1"]}}, "sources hold a network called 'star'"),
        (RUNS, {"sources": {"source 2": SOURCES["source 1"]}}, "the source 'source 2' is 'source 1' of the fit"),
        (RUNS, {"sources": [SOURCES["source 1"]] * 2}, "the source 'source 1' stands there twice"),
        (RUNS, {"sources": {**SOURCES, "run 3": SOURCES["source 1"]}}, "'run 3' has the name of another network"),
        (RUNS, {"ts": 2}, "ts must have a point between both ends"),
        (RUNS, {"on": "f1"}, "on must be one of"),
        ([STAR.model, build(mlp, 3)], {}, "'run 0' is the star itself"),
        (RUNS, {"align": mc.Mean()}, "align must be a AlignmentMethod"),
        (RUNS, {"tolerance": -1.0}, "tolerance"),
        (RUNS, {"ts": (0.0, 0.5)}, "ts must increase from 0 to 1"),
        (RUNS, {"between": "before"}, "between must be a StarBarriers"),
        ([build(mlp, 3), build(norm_mlp, 4)], {}, "are not one module"),
    ],
)
def test_wrong_input_is_one_clear_line(held_out: Any, how: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        STAR.barriers(held_out, SUITE, **how)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("ask", [{"split": "none"}, {"group": "none"}, {"on": "none"}])
def test_unknown_questions_are_refused(ask: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        FOUND.mean(**{"split": "cue", "group": "pair", **ask})  # pyright: ignore[reportArgumentType]
