"""Two models' mechanisms: verdicts, agreement, and how far effects lie apart."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
import torch
from scipy.stats import ttest_1samp, ttest_ind
from torch import Tensor, nn

import mechconn as mc
from lookup import Copier, outcomes
from mechconn.mechanisms._difference_evidence import compare_accuracy_effects
from zoo import build, mlp, rows

ROWS = 400
A, B = Copier(0), Copier(1)


def right(share: float, count: int = ROWS) -> Tensor:
    return torch.arange(count) < round(share * count)


def suite_of(**shares: tuple[float, float]) -> mc.Suite:
    """Accuracy of A and of B on each split."""
    return mc.Suite({name: outcomes(right(a), right(b)) for name, (a, b) in shares.items()})


CASES: dict[str, tuple[dict[str, tuple[float, float]], str, str]] = {
    "the same": (
        {"rand_cue": (0.9, 0.91), "rand_image": (0.1, 0.2)},
        "similar",
        "both are invariant to rand_cue; both are sensitive to rand_image",
    ),
    "in opposite directions": (
        {"rand_cue": (0.5, 1.0)},
        "dissimilar",
        "both are sensitive to rand_cue, in opposite directions",
    ),
    "a shortcut on A": (
        {"rand_cue": (0.3, 0.9), "rand_image": (0.1, 0.1)},
        "dissimilar",
        "A is sensitive to rand_cue and B is invariant to it",
    ),
    "one settled difference is enough": (
        {"rand_cue": (0.9, 0.3), "rand_image": (0.86, 0.1)},
        "dissimilar",
        "A is invariant to rand_cue and B is sensitive to it",
    ),
    "not settled": (
        {"rand_cue": (0.86, 0.9), "rand_image": (0.86, 0.94)},
        "undetermined",
        "rand_cue is undetermined on A; rand_image is undetermined on A and B",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_verdicts_and_their_reasons(case: str) -> None:
    splits, verdict, why = CASES[case]
    suite = suite_of(cue=(0.9, 0.9), no_cue=(0.2, 0.9), **splits)
    found = mc.compare_mechanisms(A, B, suite)
    assert (found.verdict, found.why.split("; what ")[0], found.over) == (verdict, why, "samples")
    assert found.a == mc.measure_invariance(A, suite) and found.b == mc.measure_invariance(B, suite)
    assert (found.runs_a, found.runs_b) == ((found.a,), (found.b,))
    assert list(found.agreement) == list(splits)  # no_cue decides nothing
    assert list(found.differences) == ["no_cue", *splits]
    mirrored = mc.compare_mechanisms(B, A, suite)
    assert mirrored.verdict == verdict
    for name, apart in found.differences.items():
        assert mirrored.differences[name].effect == pytest.approx(-apart.effect)
        low, high = apart.interval
        assert mirrored.differences[name].interval == pytest.approx((-high, -low))
        (a, b), (reference_a, reference_b) = ({"no_cue": (0.2, 0.9), **splits})[name], (0.9, 0.9)
        assert apart.effect == pytest.approx((b - reference_b) - (a - reference_a))
        assert low <= apart.effect <= high


def test_a_model_is_similar_to_itself_where_enough_rows_say_what_it_does() -> None:
    suite = suite_of(cue=(0.9, 0.9), rand_cue=(0.9, 0.9))
    assert mc.compare_mechanisms(A, A, suite).verdict == "similar"
    few = mc.Suite({"cue": outcomes(right(1.0, 5)), "rand_cue": outcomes(right(1.0, 5))})
    assert mc.compare_mechanisms(A, A, few).verdict == "undetermined"


# ---------------------------------------------------------------- how far effects lie apart


def multinomials(count: int, cells: int) -> list[tuple[int, ...]]:
    """All ways to spread `count` rows over cells."""
    if cells == 1:
        return [(count,)]
    return [(first, *rest) for first in range(count + 1) for rest in multinomials(count - first, cells - 1)]


def spread(counts: tuple[int, ...]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Rows that move by -2, -1, 0, 1, 2: the correctness under (A, B), before and after."""
    cells = {-2: (0, 1, 1, 0), -1: (0, 0, 1, 0), 0: (1, 1, 1, 1), 1: (0, 0, 0, 1), 2: (1, 0, 0, 1)}
    table = [cells[move] for move, n in zip(range(-2, 3), counts, strict=True) for _ in range(n)]
    a, b, c, d = torch.tensor(table, dtype=torch.bool).unbind(1)
    return (a, b), (c, d)


def test_a_difference_of_differences_is_covered_for_every_truth() -> None:
    """Enumerated: every outcome of 4 rows, at every truth on a grid of probabilities."""
    count = 4
    found = {
        counts: compare_accuracy_effects(*spread(counts), paired=True, confidence=0.95)
        for counts in multinomials(count, 5)
    }
    for counts, (effect, _) in found.items():
        assert effect == pytest.approx(sum(move * n for move, n in zip(range(-2, 3), counts, strict=True)) / count)
    for truth in multinomials(6, 5):
        p = [n / 6 for n in truth]
        mean = sum(move * share for move, share in zip(range(-2, 3), p, strict=True))
        covered = sum(
            math.factorial(count) * math.prod(q**n / math.factorial(n) for q, n in zip(p, counts, strict=True))
            for counts, (_, (low, high)) in found.items()
            if low - 1e-12 <= mean <= high + 1e-12
        )
        assert covered >= 0.95 - 1e-12


def test_rows_of_both_models_are_kept_together() -> None:
    """B is wrong on 12 rows more than A on one split, all else equal: narrower than two effects side by side."""
    before, after = right(0.8, 1000), right(0.5, 1000)
    other = after.clone()
    other[:12] = False
    suite = mc.Suite({"cue": outcomes(before, before), "rand_cue": outcomes(after, other)})
    found = mc.compare_mechanisms(A, B, suite)
    low, high = found.differences["rand_cue"].interval
    assert low < -0.012 < high
    apart = sum(side["rand_cue"].interval[1] - side["rand_cue"].interval[0] for side in (found.a, found.b))
    assert high - low < 0.035 < apart / 3


def test_other_rows_in_the_counterfactual_split() -> None:
    """Unpaired: an exact interval from two independent splits."""
    suite = mc.Suite({"cue": outcomes(right(0.9), right(0.9)), "hue": outcomes(right(0.3, 300), right(0.9, 300))})
    apart = mc.compare_mechanisms(A, B, suite).differences["hue"]
    assert apart.effect == pytest.approx(0.6)
    assert 0.45 < apart.interval[0] < 0.6 < apart.interval[1] < 0.75


@pytest.mark.parametrize("paired", [True, False])
def test_on_the_loss_it_is_a_t_interval(paired: bool) -> None:
    models, before = [build(mlp, seed) for seed in (0, 1)], rows(40, 1)
    after = (rows(40, 2)[0], before[1]) if paired else rows(50, 2)
    suite = mc.Suite({"cue": before, "hue": after})
    apart = mc.compare_mechanisms(models[0], models[1], suite, on="loss").differences["hue"]
    cross_entropy = nn.functional.cross_entropy
    losses = [[cross_entropy(m(x), y, reduction="none").detach() for m in models] for x, y in (before, after)]
    gaps = [(b - a).numpy() for a, b in losses]
    if paired:
        expected = ttest_1samp(gaps[1] - gaps[0], 0).confidence_interval(0.95)
    else:
        expected = ttest_ind(gaps[1], gaps[0], equal_var=False).confidence_interval(0.95)
    assert apart.effect == pytest.approx(gaps[1].mean() - gaps[0].mean())
    assert apart.interval == pytest.approx((expected.low, expected.high), rel=1e-6)


# ---------------------------------------------------------------- over training runs

SHARES = {
    "cue": (0.9, 0.92, 0.88, 0.9, 0.91),
    "rand_cue": (0.9, 0.9, 0.3, 0.25, 0.33),
    "hue": (0.9, 0.91, 0.87, 0.9, 0.9),
}


def runs() -> tuple[list[nn.Module], list[nn.Module], mc.Suite]:
    """Two runs of A and three of B, by their columns in SHARES."""
    suite = mc.Suite({name: outcomes(*map(right, shares)) for name, shares in SHARES.items()})
    return [Copier(0), Copier(1)], [Copier(2), Copier(3), Copier(4)], suite


def effects(name: str) -> list[float]:
    return [share - before for share, before in zip(SHARES[name], SHARES["cue"], strict=True)]


def test_several_runs_are_judged_over_runs() -> None:
    a, b, suite = runs()
    found = mc.compare_mechanisms(a, b, suite, margin=0.1)
    assert (found.over, found.a.over, found.b.runs) == ("runs", "runs", 3)
    assert [run.accuracy["rand_cue"] for run in found.runs_b] == pytest.approx(SHARES["rand_cue"][2:])
    assert found.runs_a[1] == mc.measure_invariance(a[1], suite, margin=0.1)
    for name in ("rand_cue", "hue"):
        mine = effects(name)[2:]
        expected = ttest_1samp(mine, 0).confidence_interval(0.95)
        assert found.b[name].effect == pytest.approx(sum(mine) / 3)
        assert found.b[name].interval == pytest.approx((expected.low, expected.high), rel=1e-6)
        between = ttest_ind(mine, effects(name)[:2], equal_var=False).confidence_interval(0.95)
        assert found.differences[name].interval == pytest.approx((between.low, between.high), rel=1e-6)
    assert found.b["rand_cue"].verdict == "sensitive"
    assert found.b.accuracy["cue"] == pytest.approx((0.88 + 0.9 + 0.91) / 3)
    assert found.b["hue"].loss is not None and found.b["hue"].by_class == {}
    assert found.verdict == "undetermined"  # two runs say little of A
    assert found.a["rand_cue"].to_settle is not None


def test_runs_that_agree_to_the_last_row_are_not_taken_for_certain() -> None:
    """Three runs without any effect on 400 rows: +- what 400 rows may have missed, and not zero."""
    suite = mc.Suite({"cue": outcomes(right(0.9)), "hue": outcomes(right(0.9))})
    found = mc.compare_mechanisms([A, A, A], [A, A], suite)
    bound = 1 - 0.025 ** (1 / ROWS)
    assert found.a["hue"].interval == pytest.approx((-bound, bound))
    assert found.differences["hue"].interval == pytest.approx((-bound, bound))
    assert found.verdict == "similar"


# ---------------------------------------------------------------- records and errors


@pytest.mark.parametrize("several", [False, True])
def test_the_record_is_strict_json_and_print_sums_it_up(several: bool) -> None:
    a, b, suite = runs()
    found = mc.compare_mechanisms(a if several else a[0], b if several else b[0], suite)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (record["verdict"], record["why"], record["over"]) == (found.verdict, found.why, found.over)
    assert record["a"]["effects"]["hue"]["effect"] == found.a["hue"].effect
    assert len(record["runs_b"]) == (3 if several else 1)
    said = str(found).splitlines()
    assert said[:2] == [found.headline, f"{found.verdict}: {found.why}"]
    assert said[2].startswith(f"  rand_cue: A {found.a['rand_cue'].effect:+.4g} ")
    assert (record["headline"], record["same_invariances"]) == (found.headline, found.same_invariances)
    assert record["less"] == {}  # A is sensitive to nothing


def test_progress_counts_every_pass() -> None:
    a, b, suite = runs()
    told: list[mc.ProgressEvent] = []
    mc.compare_mechanisms(a, b, suite, progress=told.append)
    assert told == [mc.ProgressEvent("comparing mechanisms", n + 1, 15) for n in range(15)]


WRONG: dict[str, tuple[Any, Any, str]] = {
    "one against several": (
        A,
        [A, B],
        "got 1 of model_a and 2 of model_b; pass one model a side (judged over samples)",
    ),
    "none": ([], [A, B], "got 0 of model_a and 2 of model_b"),
}


@pytest.mark.parametrize("case", WRONG)
def test_sides_that_cannot_be_compared(case: str) -> None:
    model_a, model_b, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        mc.compare_mechanisms(model_a, model_b, suite_of(cue=(1.0, 1.0), rand_cue=(1.0, 1.0)))
    assert str(caught.value).startswith(text)


def test_a_suite_without_interventions() -> None:
    with pytest.raises(ValueError, match=r"^a comparison of mechanisms needs interventions, but the suite has none"):
        mc.compare_mechanisms(A, B, suite_of(cue=(1.0, 1.0)))


class Turning:
    """Data that come backwards at every second reading."""

    def __init__(self) -> None:
        self.rows = itertools.cycle([torch.arange(5), torch.arange(5).flip(0)])

    def __iter__(self) -> Any:
        yield torch.zeros(5, 2, dtype=torch.float64), next(self.rows) % 3


def test_rows_that_come_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^the rows of split 'cue' came in another order at model_b than before"):
        mc.compare_mechanisms(A, B, mc.Suite({"cue": Turning(), "hue": Turning()}))


class Growing:
    """Data that have one row more at every reading."""

    def __init__(self) -> None:
        self.rows = itertools.count(5)

    def __iter__(self) -> Any:
        count = next(self.rows)
        yield torch.zeros(count, 2, dtype=torch.float64), torch.zeros(count, dtype=torch.int64)


def test_rows_that_are_not_as_many_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^split 'cue' gave another number of rows at model_b than before"):
        mc.compare_mechanisms(A, B, mc.Suite({"cue": Growing(), "hue": Growing()}))
