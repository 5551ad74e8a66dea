"""May it take its parents' place? The verdict, its errors by brute force and by simulation, and what rows can show."""

from __future__ import annotations

import math
from itertools import product
from statistics import NormalDist

import pytest
import torch
from scipy.stats import multinomial

import mechconn as mc
from mechconn.mechanisms import DifferenceEvidence, RowValues, compute_difference

# The inner functions take evidence of any kind, such as normal estimates, whose errors have a closed form.
from mechconn.merging._merge_verdict import Question, join_pairs, judge_pairs
from mechconn.stats import Interval, bound_paired_difference
from planted_merges import PARENTS, ROWS, Reader, judge, plant, right_on

# ---------------------------------------------------------------- planted outcomes


def test_a_network_that_is_worse_by_a_planted_amount_is_refused() -> None:
    found = judge(cue=plant(right_on(900), right_on(800), right_on(700)))
    assert found.verdict == "no" and found.after is None
    against_a, against_b = found.before.differences
    assert (against_a.difference, against_a.verdict) == (pytest.approx(-0.1), "worse")
    assert (against_b.difference, against_b.verdict) == (pytest.approx(0.1), "not worse")
    assert found.before.worse == (against_a,) and found.before.open == ()
    assert "No: 10.00 points worse than a on cue." in found.headline


def test_it_may_be_better() -> None:
    found = judge(cue=plant(right_on(700), right_on(950), right_on(700, first=200)))
    assert found.verdict == "yes" and [pair.difference for pair in found.before.differences] == [0.25, 0.25]


def test_without_a_tolerance_it_has_to_be_better() -> None:
    better, alike = (plant(right_on(700), right_on(count), right_on(700)) for count in (760, 700))
    assert judge(cue=better, tolerance=0.0).verdict == "yes"
    found = judge(cue=alike, tolerance=0.0)
    (power,) = found.power
    assert found.verdict == "undetermined" and found.before.to_settle is power.units_for_yes is None
    assert any("not worse at a tolerance of 0.00 points takes a tolerance of" in said for said in found.findings)


def test_one_bad_split_is_enough_and_one_open_pair_keeps_it_open() -> None:
    good = plant(right_on(900), right_on(900), right_on(900))
    bad = plant(right_on(900), right_on(900), right_on(990))
    close = plant(right_on(900), right_on(885), right_on(900))
    assert judge(cue=good, other=bad).verdict == "no"
    found = judge(cue=good, other=close)
    assert found.verdict == "undetermined" and {pair.split for pair in found.before.open} == {"other"}
    assert found.before.to_settle == max(pair.to_settle or 0 for pair in found.before.open) > ROWS


def test_intervals_are_the_exact_ones_of_paired_rows() -> None:
    a, merged, b = right_on(900), right_on(880, first=40), right_on(500)
    first, second = judge(cue=plant(a, merged, b)).before.differences
    assert first.interval == bound_paired_difference(a, merged, 0.95)
    assert first.judged_interval == (
        bound_paired_difference(a, merged, 0.9)[0],
        bound_paired_difference(a, merged, 1 - 2 * 0.05 / 2)[1],
    )
    assert second.interval == bound_paired_difference(b, merged, 0.95)


def test_about_as_many_rows_as_are_said_settle_it() -> None:
    """The same rates on as many rows as `to_settle` give a verdict; on the tenth part fewer they give none."""
    pair = judge(cue=plant(right_on(900), right_on(883), right_on(883))).before.differences[0]
    assert pair.verdict == "undetermined" and pair.to_settle is not None
    for rows, expected in ((round(1.1 * pair.to_settle), "not worse"), (round(0.9 * pair.to_settle), "undetermined")):
        less, more = round(0.883 * rows), round(0.9 * rows)
        again = judge(cue=plant(right_on(more, rows), right_on(less, rows), right_on(less, rows)))
        assert again.before.differences[0].verdict == expected


def test_where_it_leans_to_worse_the_fewest_rows_that_show_one_pair_are_named() -> None:
    found = judge(cue=plant(right_on(900), right_on(870), right_on(890)))
    first, second = found.before.differences
    assert found.verdict == "undetermined" and first.leans_worse and not second.leans_worse
    assert found.before.to_settle == first.to_settle


def test_identical_parents_may_be_merged_on_any_number_of_rows() -> None:
    """The mean of two equal tensors is that tensor, so that the difference is known and no interval is needed."""
    few = plant(right_on(3, 5), right_on(3, 5), right_on(3, 5))
    found = judge(cue=few, models={"a": Reader(1.0), "b": Reader(1.0)})
    assert found.verdict == "yes"
    for pair in found.before.differences:
        assert (pair.difference, pair.interval, pair.judged_interval) == (0.0, (0.0, 0.0), (0.0, 0.0))
        assert pair.same_network
    assert any("answers exactly as a parent on all rows not worse" in said for said in found.findings)


def test_networks_that_answer_alike_on_few_rows_may_still_differ() -> None:
    few = plant(right_on(3, 50), right_on(3, 50), right_on(3, 50))
    found = judge(cue=few)
    (power,) = found.power
    assert found.verdict == "undetermined" and power.least_tolerance > found.tolerance
    assert power.units_for_yes == found.before.to_settle
    assert judge(cue=few, tolerance=power.least_tolerance).verdict == "yes"


def test_a_better_network_may_need_fewer_rows_than_one_that_answers_as_a_parent() -> None:
    rows = 100
    found = judge(cue=plant(right_on(80, rows), right_on(95, rows), right_on(80, rows)), tolerance=0.01)
    (power,) = found.power
    assert found.verdict == "yes" and power.units_for_yes is not None and power.units_for_yes > rows
    (said,) = [sentence for sentence in found.findings if f"{power.units_for_yes:,} rows" in sentence]
    assert "answers exactly as a parent on all rows" in said and said.endswith("one that is better may need fewer.")


def test_on_a_loss_rows_are_counted_for_equal_losses_and_t_may_need_fewer() -> None:
    """Losses that differ have a spread: t then says yes on rows that are too few for a network of equal losses."""
    rows = 400
    found = mc.merge(
        PARENTS,
        mc.Mean(),
        mc.Suite({"cue": plant(right_on(200, rows), right_on(200, rows, 1), right_on(200, rows))}, reference="cue"),
        on="loss",
        tolerance=0.065,
    )
    (power,) = found.power
    assert power.units_for_yes is not None and power.units_for_yes > rows and found.verdict == "yes"
    (said,) = [sentence for sentence in found.findings if f"{power.units_for_yes:,} rows" in sentence]
    assert "with exactly a parent's loss" in said and said.endswith("judged by Student's t, which may need fewer.")


def test_the_smallest_loss_is_the_first_that_is_called_worse() -> None:
    found = judge(cue=plant(right_on(ROWS), right_on(ROWS), right_on(ROWS)))
    (power,) = found.power
    assert power.smallest_loss is not None
    lost = round(power.smallest_loss * ROWS)
    for count, expected in ((lost, "no"), (lost - 1, "undetermined")):
        kept = right_on(ROWS - count)
        assert judge(cue=plant(right_on(ROWS), kept, kept)).verdict == expected
    assert power.least_tolerance == -bound_paired_difference(right_on(ROWS), right_on(ROWS), 0.9)[0]


def test_parents_with_a_loss_are_judged_in_the_other_direction() -> None:
    suite = mc.Suite({"cue": plant(right_on(900), right_on(800), right_on(700))}, reference="cue")
    found = mc.merge(PARENTS, mc.Mean(), suite, on="loss", tolerance=0.1)
    first, second = found.before.differences
    # A row costs log(1 + exp(-10)) where it is right and 10 more where it is wrong.
    assert (first.difference, second.difference) == (pytest.approx(1.0), pytest.approx(-1.0))
    assert (first.verdict, second.verdict, found.better) == ("worse", "not worse", "lower")
    assert any("Student's t" in said for said in found.findings)


@pytest.mark.parametrize(
    ("better", "verdicts"), [("higher", ["worse", "not worse"]), ("lower", ["not worse", "worse"])]
)
def test_a_metric_has_the_direction_that_is_said(better: str, verdicts: list[str]) -> None:
    suite = mc.Suite({"cue": plant(right_on(900), right_on(800), right_on(700))}, reference="cue")
    share = mc.Metric(lambda z, y: (z.argmax(1) == y).double(), (0.0, 1.0))
    found = mc.merge(PARENTS, mc.Mean(), suite, on="share", metrics={"share": share}, better=better)  # pyright: ignore
    assert [pair.verdict for pair in found.before.differences] == verdicts
    (power,) = found.power
    assert power.smallest_loss is not None and 0.01 < power.smallest_loss < 0.1


def test_rows_in_clusters_are_fewer_than_they_look() -> None:
    """Two rows that are one count as one; clusters of a hundred leave ten independent draws."""
    a, merged = right_on(900), right_on(960)
    suite = mc.Suite({"cue": plant(a, merged, a)}, reference="cue")
    alone = mc.merge(PARENTS, mc.Mean(), suite, tolerance=0.02)
    together = mc.merge(PARENTS, mc.Mean(), suite, tolerance=0.02, cluster=[row // 100 for row in range(ROWS)])
    pair = together.before.differences[0]
    assert (alone.verdict, together.verdict, pair.units, pair.samples) == ("yes", "undetermined", 10, ROWS)
    assert pair.difference == pytest.approx(alone.before.differences[0].difference)
    assert pair.interval[0] < alone.before.differences[0].interval[0]


# ---------------------------------------------------------------- the errors


def planted_evidence(gained: int, lost: int, rows: int) -> DifferenceEvidence:
    """What rows say of which some are right under the merged network alone, some under the parent alone."""
    before = torch.arange(rows) < lost
    after = (torch.arange(rows) >= lost) & (torch.arange(rows) < lost + gained)
    return compute_difference(RowValues(before, None), RowValues(after, None), "accuracy", True, None)


@pytest.mark.parametrize(("rows", "tolerance"), [(14, 0.25), pytest.param(20, 0.2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pairs", [1, 3])
def test_neither_verdict_is_wrong_more_often_than_said_by_brute_force(rows: int, tolerance: float, pairs: int) -> None:
    """Every pair of counts with its probability, at truths on the margin, however many rows change.

    At d = -tolerance the merged network counts as not worse, so that "worse" is wrong; just below, "not worse" is, and
    its probability is a continuous function of d.
    """
    asked = Question("accuracy", "higher", tolerance, pairs)
    counts = [(g, lost) for g, lost in product(range(rows + 1), repeat=2) if g + lost <= rows]
    verdicts = {pair: asked.judge(planted_evidence(*pair, rows))[0] for pair in counts}
    assert {"not worse", "worse", "undetermined"} <= set(verdicts.values()) or rows == 14
    for changed in (tolerance, 0.3, 0.5, 0.75, 1.0):
        up, down = (changed - tolerance) / 2, (changed + tolerance) / 2
        mass = multinomial(rows, [up, down, 1 - changed])
        chance: dict[str, float] = dict.fromkeys(("not worse", "worse", "undetermined"), 0.0)
        for (gained, lost), verdict in verdicts.items():
            chance[verdict] += float(mass.pmf([gained, lost, rows - gained - lost]))
        assert chance["not worse"] <= 0.05 and chance["worse"] <= 0.05 / pairs


def normal(effect: float, error: float, units: int = 100) -> DifferenceEvidence:
    """A normal estimate of known standard error."""

    def bounds(confidence: float, n: float) -> Interval:
        half = NormalDist().inv_cdf((1 + confidence) / 2) * error * math.sqrt(units / n)
        return effect - half, effect + half

    return DifferenceEvidence(effect, units, bounds)


@pytest.mark.parametrize("correlation", [-0.3, 0.0, 0.9])
@pytest.mark.parametrize(
    ("truth", "wrong"),
    [((-1.0, -1.0, -1.0, -1.0), "no"), ((-1.0, 3.0, 3.0, 3.0), "no"), ((-1.0001, 9.0, 9.0, 9.0), "yes")],
)
def test_wrong_verdicts_are_rare_at_the_margin(truth: tuple[float, ...], wrong: str, correlation: float) -> None:
    """3,000 draws of correlated normal estimates with differences on the margin; at most 5 % of verdicts are wrong."""
    draws, error, count = 3000, 0.5, len(truth)
    shared = torch.full((count, count), correlation) + (1 - correlation) * torch.eye(count)
    noise = torch.randn(draws, count, generator=torch.Generator().manual_seed(0)) @ torch.linalg.cholesky(shared).T
    asked = Question("accuracy", "higher", 1.0, count)
    places = [("parent", str(number)) for number in range(count)]
    found = 0
    for row in noise.tolist():
        estimates = [d + error * z for d, z in zip(truth, row, strict=True)]
        evidence = {place: normal(d, error) for place, d in zip(places, estimates, strict=True)}
        every = [asked.judge(own)[0] for own in evidence.values()]
        verdict = "no" if "worse" in every else "yes" if set(every) == {"not worse"} else "undetermined"
        found += verdict == wrong
    # Three standard errors of the share of 3,000 draws.
    assert found / draws <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


def test_levels_are_those_of_the_closed_form() -> None:
    """ "not worse" at z of 95 % by itself, "worse" at z of 95 % among all pairs."""
    asked = Question("accuracy", "higher", 1.0, 4)
    one, all_four = NormalDist().inv_cdf(0.95), NormalDist().inv_cdf(1 - 0.05 / 4)
    for d, expected in (
        (-1.0 + one + 1e-6, "not worse"),
        (-1.0 + one - 1e-6, "undetermined"),
        (-1.0 - all_four + 1e-6, "undetermined"),
        (-1.0 - all_four - 1e-6, "worse"),
    ):
        verdict, judged = asked.judge(normal(d, 1.0))
        assert verdict == expected and judged == pytest.approx((d - one, d + all_four))
        # The same of a loss, where lower is better.
        other, mirrored = Question("loss", "lower", 1.0, 4).judge(normal(-d, 1.0))
        assert other == expected and mirrored == pytest.approx((-d - all_four, -d + one))


def test_pairs_are_joined_as_the_proof_says() -> None:
    asked = Question("accuracy", "higher", 1.0, 2)
    places = [("a", "cue"), ("b", "cue")]

    def verdict(*effects: float) -> str:
        evidence = {place: normal(effect, 0.1) for place, effect in zip(places, effects, strict=True)}
        return join_pairs(judge_pairs(evidence, dict.fromkeys(places, 10), {"a": False, "b": False}, asked))

    assert verdict(0.0, 0.0) == "yes"
    assert verdict(0.0, -5.0) == "no"
    assert verdict(0.0, -1.0) == "undetermined"
    assert verdict(-1.0, -5.0) == "no"
