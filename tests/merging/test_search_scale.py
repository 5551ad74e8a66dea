"""Scales of a change of weights: counted by hand on linear networks, and on networks with statistics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.stats import bound_paired_difference, clopper_pearson
from planted_scales import ALWAYS, BASE, CUE, make_suite, plant, read, search, take
from zoo import build, images, norm_conv, norm_mlp, rows

STEADY = plant(until=[ALWAYS] * 200)


# ---------------------------------------------------------------- counted by hand


def test_every_mean_is_the_count_of_rows_and_every_interval_exact() -> None:
    until = [0.1] * 20 + [0.3] * 30 + [0.6] * 50 + [ALWAYS] * 100
    found = search(make_suite(kept=STEADY, target=plant(until)), scales=(-0.5, 0.25, 0.5, 0.75, 1.0))
    assert found.scales == (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0)
    curve = found.curves["target"]
    counts = [200, 200, 180, 150, 100, 100]
    assert curve.values == tuple(count / 200 for count in counts) == curve.choosing
    confidence = 1 - 0.05 / (2 * (2 * 6 - 1))
    assert curve.intervals == tuple(clopper_pearson(count, 200, confidence) for count in counts)
    assert found.curves["kept"].values == (1.0,) * 6 and all(found.kept)
    assert found.row_counts == {"kept": (200, 200), "target": (200, 200)}


def test_the_planted_weight_is_removed_at_its_scale() -> None:
    """The cue decides while (1 - s) > 0.45: beyond s = 0.55 the target is at 0."""
    found = search(make_suite(kept=STEADY, target=plant([0.55] * 200)), scales=[n / 10 for n in range(-5, 16)])
    assert (found.scale, found.verdict) == (0.6, "removes") and found.value("target") == 0.0
    assert [found.value("target", s) for s in (0.5, 0.6)] == [1.0, 0.0]
    weight = found.model.get_parameter("weight")
    assert torch.allclose(weight, torch.tensor([[0.0, 0.0], [1.0, 0.4]]))
    assert found.headline.startswith("At scale 0.6 the change removes 50 % or more of target and keeps the rest")


def test_claims_are_the_paired_differences_of_the_rows() -> None:
    suite = make_suite(kept=plant([ALWAYS] * 190 + [0.3] * 10), target=plant([0.3] * 40 + [ALWAYS] * 160))
    found = search(suite, scales=(0.5,), keep=("kept", 0.9))
    moves, removes, keeps = found.claims
    before, after = torch.ones(200, dtype=torch.bool), torch.arange(200) >= 40
    assert moves.excess == pytest.approx(0.2) and moves.standing == "shown"
    low, high = bound_paired_difference(before, after, 0.95)
    assert moves.interval == pytest.approx((-high, -low))
    assert removes.excess == pytest.approx(0.5 - 0.8) and removes.standing == "refuted"
    assert keeps.excess == pytest.approx(0.95 - 0.9) and found.verdict == "lowers"
    assert "target falls and kept keeps 90 % of the base's" in found.header().why
    assert "; that it loses 50 % or more of what it has is refuted" in found.header().why


def test_nothing_keeps_but_the_base() -> None:
    found = search(make_suite(kept=plant([0.1] * 200), target=plant([0.1] * 200)))
    assert (found.scale, found.verdict, found.random, found.claims) == (0.0, "no scale", (), ())
    assert found.kept == (True, False, False, False, False)
    assert "no scale but 0 keeps 95 % of kept" in found.headline and list(found.effects) == ["base"]
    still = search(make_suite(kept=STEADY, target=plant([ALWAYS] * 200)))
    assert still.scale == 0.0 and "no scale that keeps 95 % of kept lowers target towards 0" in str(still)
    # On rows that judge nothing was claimed, so that nothing is wrong with some probability.
    assert not any("wrong with" in said for said in (*found.findings, *still.findings))
    assert not any("wrong" in section.note for section in still.sections())
    assert still.header().verdict == "no scale" and still.to_settle is None


def test_how_a_scale_is_chosen() -> None:
    """The target is lowest from 0.3 on; 1 keeps 95 of 100, which is enough for the mean and too few to be shown."""
    suite = make_suite(kept=plant([ALWAYS] * 95 + [0.8] * 5), target=plant([0.3] * 80 + [ALWAYS] * 20))
    assert search(suite).scale == 0.5
    assert search(suite, choose="largest").scale == 1.0
    falling = make_suite(kept=take(suite, "kept"), target=plant([0.3] * 80 + [0.8] * 20))
    assert search(falling).scale == 1.0 and search(falling).verdict == "undetermined"
    sure = search(falling, choose="shown")
    assert (sure.scale, sure.verdict) == (0.5, "removes")
    assert any("choose='shown'" in said for said in search(falling).findings)


def test_below_chance_no_scale_is_better() -> None:
    """Half of the labels are 1: at 0.5 the target is at chance, at 1 the cue's rows are all wrong."""
    suite = make_suite(kept=STEADY, target=plant([0.3] * 100 + [0.8] * 100))
    found = search(suite, floor=None)
    assert (found.scale, found.floor, found.value("target"), found.verdict) == (0.5, 0.5, 0.5, "removes")
    assert "removes 50 % or more of target above its floor of 50.0 % and keeps the rest" in found.headline
    lowest = search(suite)
    assert (lowest.scale, lowest.value("target"), lowest.floor) == (1.0, 0.0, 0.0)
    for choose in ("largest", "best"):  # the only scale goes beyond chance
        one = search(suite, floor=None, scales=(1.0,), choose=choose)
        assert one.verdict == one.header().verdict == ("reverses" if choose == "largest" else "no scale")
    largest = search(suite, floor=None, choose="largest")
    assert largest.scale == 1.0 and "ends below 45.0 %, so that the network follows it in reverse" in largest.headline
    assert "removes" not in largest.headline


def test_a_base_at_its_floor_has_nothing_to_lose() -> None:
    suite = make_suite(kept=STEADY, target=plant([0.3] * 100 + [-1.0] * 100))
    found = search(suite, floor=0.5)
    assert (found.scale, found.verdict) == (0.0, "no scale") and "lowers target towards its floor, 50.0 %" in str(found)


def test_the_floor_is_chance_over_the_whole_split() -> None:
    """Ten balanced classes, 66 rows that choose: 10 %, not the share of the commonest among these."""
    model, other = (build(lambda: nn.Linear(10, 10), seed, torch.float32) for seed in range(2))
    labels = torch.arange(200) % 10
    data = (nn.functional.one_hot(labels, 10).float(), labels)
    suite, change = mc.Suite({"no_cue": data, "cue": data}), mc.weight_change(model, other)
    found = mc.search_scale(model, change, suite, lower="cue", keep=[], scales=(1.0,), draws=1, choosing=0.33)
    assert found.floor == pytest.approx(0.1)
    skewed = (data[0], labels.clamp(max=1))  # shares 0.1 and 0.9
    uneven = mc.search_scale(
        model, change, mc.Suite({"no_cue": data, "cue": skewed}), lower="cue", keep=[], scales=(1.0,), draws=1
    )
    assert uneven.floor == pytest.approx(0.1**2 + 0.9**2)


def test_a_lost_split_is_said_to_be_lost() -> None:
    suite = make_suite(kept=plant([0.6] * 40 + [ALWAYS] * 160), target=plant([0.3] * 200))
    found = search(suite, keep=[], scales=(1.0,))
    assert found.verdict == "removes" and "keeps" not in found.headline
    chooses = make_suite(kept=plant([ALWAYS] * 200), target=plant([0.3] * 200))
    lost = search(suite, scales=(1.0,), choosing=chooses)
    assert lost.verdict == "does not" and "kept does not keep 95 % of the base's" in lost.headline


# ---------------------------------------------------------------- negation, addition, analogy


def test_negation_addition_and_analogy_are_sums_of_vectors() -> None:
    half = mc.weight_change(read(1.0, 0.5), BASE)
    suite = make_suite(kept=STEADY, target=plant([0.55] * 200))
    assert search(suite, -(half + half)).curves == search(suite).curves  # 2 tau = the whole
    # Addition: the target is right from 0.55 on.
    rising = make_suite(kept=STEADY, target=plant(since=[0.55] * 200))
    found = search(rising, lower=None, higher="target", scales=(0.25, 0.5, 0.75, 1.0))
    assert (found.scale, found.verdict) == (0.75, "raises") and "raises target" in found.headline
    # Analogy: C + (B - A), the cue's weight read off two networks of other content.
    other = mc.weight_change(read(3.0, 2.0), read(3.0, 1.0))
    assert search(suite, other).curves == search(suite).curves


# ---------------------------------------------------------------- random changes


def test_random_changes_are_those_of_the_change_and_the_seed() -> None:
    suite = make_suite(kept=STEADY, target=plant([0.55] * 60 + [ALWAYS] * 140))
    found = search(suite, draws=2, seed=5, scales=(1.0, 4.0))
    x, y = take(suite, "target")
    for number, scale in enumerate(found.scales):
        means = [
            float((mc.with_change(BASE, (-CUE).random_like(5 + draw), scale)(x).argmax(1) == y).double().mean())
            for draw in range(2)
        ]
        assert found.curves["target"].random[number] == pytest.approx(sum(means) / 2)
        assert found.curves["target"].random_range[number] == pytest.approx((min(means), max(means)))


def test_what_a_random_change_does_is_judged_beside() -> None:
    """A row of zeros decides nothing: random changes of the other tensor alone are counted on rows far from 0."""
    far = plant([ALWAYS] * 400)
    suite = make_suite(kept=far, target=plant([0.3] * 400))
    found = search(suite, scales=(0.5,), draws=3, seed=1)
    (target, kept) = found.random
    assert (target.split, kept.split) == ("target", "kept")
    x, y = take(suite, "target")
    own = [
        float((mc.with_change(BASE, (-CUE).random_like(1 + draw), 0.5)(x).argmax(1) == y).double().mean()) - 1.0
        for draw in range(3)
    ]
    assert target.draws == pytest.approx(own) and target.effect == pytest.approx(sum(own) / 3)
    expected = tuple("moves" if abs(move) > 0.5 else "nothing" for move in own)  # all 400 rows are alike
    assert target.verdicts == expected and found.random_verdict == ("moves" if "moves" in expected else "nothing")
    assert ("move target too, by" in found.headline) == ("moves" in expected)
    assert kept.effect == 0.0 and kept.verdict == "nothing" and target.further == pytest.approx(1.0 + target.effect)
    assert found.effects["edited"].accuracy["target"] == 0.0 and set(found.effects) == {
        "base", "edited", "random change"
    }  # fmt: skip


# ---------------------------------------------------------------- other measures, clusters, statistics


def test_on_the_loss_lower_is_better_and_keeps_by_the_reciprocal() -> None:
    """Both splits are sure at scale 0; the target's loss rises as its cue is taken away."""
    suite = make_suite(kept=plant([5.0] * 40 + [6.0] * 40), target=plant([1.5] * 40 + [2.0] * 40))
    found = search(suite, on="loss", lower=None, higher="target", keep=[], scales=(0.5, 1.0))
    assert (found.scale, found.verdict, found.better) == (1.0, "raises", "lower")
    x, y = take(suite, "target")
    expected = nn.functional.cross_entropy(mc.with_change(BASE, -CUE, 1.0)(x).double(), y)
    assert found.value("target") == pytest.approx(float(expected), rel=1e-5)
    assert any("wrong with about 5 %, as far as Student's t holds" in said for said in found.findings)
    assert not any("5 % at most" in said for said in found.findings)
    kept = search(suite, on="loss", lower=None, higher="target", keep=("kept", 0.5), scales=(0.5, 1.0))
    assert kept.kept == (True, True, False)  # the loss grows like e^s: e^0.5 < 1 / 0.5 < e


def test_a_metric_has_bounds_and_a_direction() -> None:
    bounded = mc.Metric(lambda z, y: z.softmax(1).gather(1, y[:, None])[:, 0], (0.0, 1.0))
    suite = make_suite(kept=plant([6.0] * 80), target=plant([0.3] * 80))
    found = search(suite, on="sure", better="higher", metrics={"sure": bounded}, keep=("kept", 0.9), scales=(1.0,))
    assert found.curves["target"].values[1] < found.curves["target"].values[0] and found.verdict == "lowers"
    with pytest.raises(ValueError, match="better values are not known"):
        search(suite, on="sure", metrics={"sure": bounded})
    negative = mc.Metric(lambda z, y: -torch.ones(len(y)))
    with pytest.raises(ValueError, match="negative on rows of 'target'; measure on what is 0 or more"):
        search(suite, on="below", better="higher", metrics={"below": negative})


def test_clusters_make_intervals_wider() -> None:
    suite = make_suite(kept=STEADY, target=plant([0.3] * 100 + [ALWAYS] * 100))
    alone, together = search(suite), search(suite, cluster=[n // 5 for n in range(200)])
    assert alone.over == "rows" and together.over == "clusters" and alone.curves["target"].values == (
        together.curves["target"].values
    )  # fmt: skip
    widths = [found.curves["target"].intervals[-1] for found in (alone, together)]
    assert widths[1][0] < widths[0][0] and widths[1][1] > widths[0][1]


def normed() -> tuple[nn.Module, nn.Module]:
    return build(norm_mlp, 0).eval(), build(norm_mlp, 1).eval()


def test_statistics_have_to_be_asked_for() -> None:
    base, other = normed()
    suite, change = mc.Suite({"no_cue": rows(40), "cue": rows(40, 3)}), mc.weight_change(base, other)
    with pytest.raises(ValueError, match="the model keeps normalisation statistics"):
        mc.search_scale(base, change, suite, lower="cue")
    held = mc.search_scale(base, change, suite, lower="cue", norm=mc.KeepNorm(), scales=(1.0,), keep=[], draws=1)
    for name, buffer in held.model.named_buffers():
        assert torch.equal(buffer, dict(base.named_buffers())[name])
    assert any("those of the base" in said for said in held.findings)
    none = search(make_suite(kept=STEADY, target=plant([0.3] * 200)))
    assert none.norm == {} and not any("ormalisation statistics" in said for said in none.findings)
    again = mc.Reestimate(rows(64, 9), label="other rows")
    found = mc.search_scale(base, change, suite, lower="cue", norm=again, scales=(1.0,), keep=[], draws=1, margin=0.001)
    whole = mc.model_at(base, mc.LinearPath.between(base, base), 0.0, norm=again)
    share = [mc.measure_invariance(model, suite).accuracy["cue"] for model in (base, whole)]
    judged = mc.search_scale(
        base, change, mc.Suite({"no_cue": rows(40, 5), "cue": rows(40, 6)}), lower="cue", norm=again, scales=(1.0,),
        keep=[], draws=1, choosing=suite,
    )  # fmt: skip
    assert judged.curves["cue"].choosing is not None and judged.curves["cue"].choosing[0] == share[1]
    assert (abs(share[0] - share[1]) > 0.001) == any("statistics alone move the base" in note for note in found.notes)


def transformer() -> nn.Module:
    with isolate_rng(0, "weights"):
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        return nn.Sequential(nn.Unflatten(1, (2, 8)), layer, nn.Flatten(), nn.Linear(16, 3)).double().eval()


def test_a_transformer_and_a_convolution_with_statistics() -> None:
    model = transformer()
    change = mc.weight_change(
        model, mc.with_parameters(model, {n: p + 0.5 * p.abs() for n, p in model.named_parameters()})
    )
    data = {name: (rows_of(16, 60, seed)) for seed, name in enumerate(("no_cue", "cue"))}
    found = mc.search_scale(model, change, mc.Suite(data), lower="cue", scales=(-1.0, 1.0), draws=1)
    assert found.curves["cue"].values[1] == mc.measure_invariance(model, halves(found, data)).accuracy["cue"]
    conv, other = build(norm_conv, 0).eval(), build(norm_conv, 1).eval()
    suite = mc.Suite({"no_cue": images(40), "cue": images(40, 2)})
    moved = mc.search_scale(
        conv, mc.weight_change(conv, other), suite, higher="cue", norm=mc.Reestimate(images(40, 5)), scales=(0.5, 1.0)
    )
    assert moved.scales == (0.0, 0.5, 1.0) and len(moved.rows()) == 6


def rows_of(features: int, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, features, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (count,), generator=generator)


def halves(found: mc.ScaleSearch, data: dict[str, Any]) -> mc.Suite:
    """The rows that judge, which the evaluation of scale 0 is on."""
    from mechconn.connectivity import Evaluator
    from mechconn.mechanisms import measure_outcome
    from mechconn.merging._scale_rows import divide_rows

    suite = mc.Suite(data)
    sides = divide_rows(measure_outcome(Evaluator(transformer(), suite), "accuracy"), suite, None, 0.5, 0)
    assert {split: int((~own).sum()) for split, own in sides.items()} == {
        s: n for s, (_, n) in found.row_counts.items()
    }
    return mc.Suite({split: (x[~sides[split]], y[~sides[split]]) for split, (x, y) in data.items()})
