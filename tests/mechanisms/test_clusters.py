"""Rows in clusters: intervals over clusters in effects, comparisons, groups, paths and audits, and what says so."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp, ttest_ind
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from lookup import Copier, answers, outcomes
from mechconn.datasets import ClusterLabels, ImageSet, Normalised
from mechconn.mechanisms._over_clusters import (
    RowValues,
    make_evidence_over_clusters,
    make_evidence_over_clusters_within,
)
from mechconn.stats import MeanBounds, betting_interval, cluster_mean_interval, total_clusters
from zoo import Batch, build, mlp, rows

Y = torch.arange(120) % 3
CLUSTERS = (torch.arange(120) // 6).tolist()
"""Twenty clusters of six rows, each with two rows of every class."""


def right_in(share: float, seed: int, clusters: Any = CLUSTERS) -> Tensor:
    """Whether each row is right; the rows of a cluster agree."""
    draws = torch.rand(max(clusters) + 1, generator=torch.Generator().manual_seed(seed))
    return (draws < share)[torch.tensor(clusters)]


def split(right: Tensor, y: Tensor = Y) -> Batch:
    return answers(torch.where(right, y, (y + 1) % 3).tolist(), y.tolist())


def suite(paired: bool | None = None) -> mc.Suite:
    parts = {"cue": split(right_in(0.9, 0)), "rand_cue": split(right_in(0.6, 1)), "hue": split(right_in(0.9, 0))}
    return mc.Suite(parts, paired=paired)


def signs(x: Tensor, y: Tensor) -> Tensor:
    """A metric: 1 where the model is right, else -1."""
    return 2.0 * (x.argmax(1) == y) - 1.0


METRICS: dict[str, Any] = {"sign": mc.Metric(signs, (-1.0, 1.0)), "free": signs}


def without_rows(found: mc.Invariance) -> dict[str, Any]:
    """All that is found but the numbers of rows."""
    plain = asdict(found)
    for holder in (plain, *plain["effects"].values()):
        holder.pop("samples")
    for effect in plain["effects"].values():
        for change in (effect["accuracy"], effect["loss"], *effect["by_class"].values(), *effect["metrics"].values()):
            change.pop("samples")
    return plain


def flat(value: Any) -> Any:
    """Nested plain values with their paths."""
    if isinstance(value, dict):
        return {f"{key}/{path}": leaf for key, inner in value.items() for path, leaf in flat(inner).items()}
    if isinstance(value, list | tuple):
        return flat(dict(enumerate(value)))
    return {"": value}


def same(first: Any, second: Any) -> bool:
    one, two = flat(first), flat(second)
    numbers = [key for key, value in one.items() if isinstance(value, float)]
    assert {key: two.get(key) for key in numbers} == pytest.approx({key: one[key] for key in numbers}, rel=1e-6)
    return {**two, **{key: one[key] for key in numbers}} == one


def test_the_interval_of_an_effect_is_that_of_the_clusters_moves() -> None:
    found = mc.measure_invariance(Copier(), suite(), cluster=CLUSTERS, metrics=METRICS)
    effect = found["rand_cue"]
    moves = right_in(0.6, 1)[::6].double() - right_in(0.9, 0)[::6].double()
    assert effect.interval == betting_interval(moves.numpy(), (-1.0, 1.0))
    assert (effect.effect, effect.samples, effect.clusters) == (pytest.approx(float(moves.mean())), 120, 20)
    assert found.accuracy_interval["cue"] == betting_interval(right_in(0.9, 0)[::6].double().numpy(), (0.0, 1.0))
    expected = ttest_1samp(2 * moves.numpy(), 0).confidence_interval(0.95)
    assert effect.metrics["free"].interval == pytest.approx((expected.low, expected.high))
    assert effect.metrics["sign"].interval == pytest.approx([2 * bound for bound in effect.interval])
    assert (found.over, found.clusters) == ("clusters", {"cue": 20, "rand_cue": 20, "hue": 20})
    assert "intervals over 20 clusters" in str(found)
    plain = mc.measure_invariance(Copier(), suite())
    assert (plain.over, plain.clusters, plain["hue"].clusters) == ("samples", {}, None)
    assert plain["rand_cue"].effect == effect.effect and "clusters" not in str(plain)
    width, rows_width = (high - low for low, high in (effect.interval, plain["rand_cue"].interval))
    assert width > 2 * rows_width


@pytest.mark.parametrize("on", ["accuracy", "loss", "sign", "free"])
@pytest.mark.parametrize("paired", [True, False])
def test_copies_of_rows_in_one_cluster_count_once(on: str, paired: bool) -> None:
    """Also in p-values, what would settle it, classes and shares of changed predictions."""
    draw, how = torch.Generator().manual_seed(5), {"on": on, "margin": 0.1, "metrics": METRICS}
    once: dict[str, Batch] = {}
    for name, count, share in (("cue", 60, 0.9), ("rand_cue", 60 if paired else 45, 0.7)):
        y = torch.arange(count) % 3
        once[name] = split(torch.rand(count, generator=draw) < share, y)
    single = {
        name: list(range(len(y))) if paired else [f"{name} {i}" for i in range(len(y))] for name, (_, y) in once.items()
    }
    copies = {name: tuple(part.repeat_interleave(4, 0) for part in data) for name, data in once.items()}
    owners = {name: [label for label in labels for _ in range(4)] for name, labels in single.items()}
    here = mc.measure_invariance(Copier(), mc.Suite(once, paired=paired or None), cluster=single, **how)
    there = mc.measure_invariance(Copier(), mc.Suite(copies, paired=paired or None), cluster=owners, **how)
    assert same(without_rows(here), without_rows(there))
    assert there["rand_cue"].paired == paired
    ignored = mc.measure_invariance(Copier(), mc.Suite(copies, paired=paired or None), **how)["rand_cue"].interval
    assert ignored[1] - ignored[0] < there["rand_cue"].interval[1] - there["rand_cue"].interval[0]


@pytest.mark.parametrize("on", ["accuracy", "loss"])
def test_clusters_of_one_row_give_the_interval_of_rows_by_the_same_method(on: str) -> None:
    model, before, after = build(mlp), rows(40, 1), rows(40, 2)
    pair = mc.Suite({"cue": before, "hue": (after[0], before[1])})
    found = mc.measure_invariance(model, pair, on=on, cluster=range(40))["hue"]
    plain = mc.measure_invariance(model, pair, on="loss")["hue"]
    assert found.loss is not None and plain.loss is not None
    assert found.loss.interval == pytest.approx(plain.loss.interval, abs=1e-12)
    right = [model(x).argmax(1) == before[1] for x in (before[0], after[0])]
    assert found.accuracy is not None
    assert found.accuracy.interval == betting_interval((right[1].double() - right[0].double()).numpy(), (-1.0, 1.0))


NAMES: dict[str, Any] = {
    "tensor": torch.tensor(CLUSTERS),
    "array of text": np.array([f"patient {7 * c % 20}" for c in CLUSTERS]),
    "text of numbers": [str(c) for c in CLUSTERS],
    "floats": [float(c) for c in CLUSTERS],
    "a generator": iter(CLUSTERS),
    "a mapping": {"cue": CLUSTERS, "rand_cue": [str(c) for c in CLUSTERS], "hue": np.array(CLUSTERS)},
}


@pytest.mark.parametrize("kind", NAMES)
def test_labels_may_be_of_many_kinds_and_names_mean_nothing(kind: str) -> None:
    expected = mc.measure_invariance(Copier(), suite(True), cluster=CLUSTERS)
    assert mc.measure_invariance(Copier(), suite(True), cluster=NAMES[kind]) == expected


def test_what_few_clusters_cannot_settle() -> None:
    """Eight patients of 100 rows, all of whom a model is right on before and after, but for one."""
    y, owners = torch.arange(800) % 3, torch.arange(800) // 100
    moved = mc.Suite({"cue": split(y >= 0, y), "hue": split(owners != 7, y)})
    assert mc.measure_invariance(Copier(), moved)["hue"].verdict == "sensitive"
    found = mc.measure_invariance(Copier(), moved, cluster=owners)["hue"]
    assert (found.verdict, found.clusters) == ("undetermined", 8)
    assert found.to_settle is not None and 8 < found.to_settle < 2000
    assert f"about {found.to_settle:,} clusters would settle it" in str(found)


def test_splits_of_other_rows_have_bounds_of_their_own() -> None:
    y = torch.arange(90) % 3
    owners = [i // 9 for i in range(90)]
    here, there = right_in(0.9, 2), right_in(0.4, 3, owners)
    two = mc.Suite({"cue": split(here), "hue": split(there, y)})
    found = mc.measure_invariance(Copier(), two, cluster={"cue": CLUSTERS, "hue": owners})["hue"]
    bounds = [MeanBounds(side.double().numpy(), (0.0, 1.0)).interval(0.975) for side in (here[::6], there[::9])]
    assert (found.paired, found.clusters) == (False, 10)
    assert found.interval == pytest.approx((bounds[1][0] - bounds[0][1], bounds[1][1] - bounds[0][0]))


def losses_by_cluster(model: nn.Module, data: Batch, size: int) -> Any:
    loss = nn.functional.cross_entropy(model(data[0]), data[1], reduction="none").detach()
    return loss.reshape(-1, size).mean(1).numpy()


def test_losses_of_splits_that_share_clusters_are_combined_and_others_are_welchs() -> None:
    model, before, after = build(mlp), rows(60, 1), rows(90, 2)
    two = mc.Suite({"cue": before, "hue": after})
    owners = {"cue": [i // 3 for i in range(60)], "hue": [f"other {i // 5}" for i in range(90)]}
    found = mc.measure_invariance(model, two, on="loss", margin=1.0, cluster=owners)["hue"]
    here, there = losses_by_cluster(model, before, 3), losses_by_cluster(model, after, 5)
    expected = ttest_ind(there, here, equal_var=False).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))
    # Twelve of the same clusters with other numbers of rows, in another order: differences of clusters' means.
    after = rows(100, 2)
    owners = {"cue": [i // 3 for i in range(60)], "hue": [19 - i // 5 for i in range(100)]}
    shared = mc.Suite({"cue": before, "hue": after})
    found = mc.measure_invariance(model, shared, on="loss", margin=1.0, cluster=owners)["hue"]
    moves = losses_by_cluster(model, after, 5)[::-1] - here
    expected = ttest_1samp(moves, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))


def test_rows_of_other_clusters_are_not_paired() -> None:
    other = {"cue": CLUSTERS, "rand_cue": CLUSTERS, "hue": CLUSTERS[::-1]}
    found = mc.measure_invariance(Copier(), suite(), cluster=other)
    assert {name: effect.paired for name, effect in found.items()} == {"rand_cue": True, "hue": False}
    with pytest.raises(ValueError, match="targets or clusters differ; leave paired= out"):
        mc.measure_invariance(Copier(), suite(True), cluster=other)


def divided() -> tuple[dict[str, Any], dict[str, list[int]], Tensor]:
    """Rows that agree with a column and rows that conflict, the clusters of either, and whether each row is right."""
    column = ["land" if (i % 5 < 3) == (y != 1) else "sea" for i, y in enumerate(Y.tolist())]
    right = right_in(0.7, 4) | (torch.arange(120) % 6 < 2)
    found: Any = mc.split_by_agreement(split(right), column, agrees={0: "land", 1: "sea", 2: "land"})
    return found, {name: [CLUSTERS[row] for row in part.rows.tolist()] for name, part in found.items()}, right


@pytest.mark.parametrize("on", ["accuracy", "loss"])
def test_within_classes_every_cell_has_its_share_of_the_error(on: str) -> None:
    splits, owners, right = divided()
    parts = mc.Suite(splits, reference="agree")
    whole = mc.measure_invariance(Copier(), parts, on=on, margin=0.5, cluster=CLUSTERS)
    assert whole == mc.measure_invariance(Copier(), parts, on=on, margin=0.5, cluster=owners)
    effect, ends = whole["conflict"], [0.0, 0.0]
    x, y = split(right)
    values = right.double() if on == "accuracy" else nn.functional.cross_entropy(Copier()(x), y, reduction="none")
    for label in range(3):
        bounds = {}
        for name, part in splits.items():
            kept = [row for row in part.rows.tolist() if int(Y[row]) == label]
            totals = total_clusters(values[kept], torch.tensor(CLUSTERS)[kept])
            limits = (0.0, 1.0) if on == "accuracy" else None
            bounds[name] = cluster_mean_interval(totals, limits, 1.0, 1 - 0.05 / 6)
        ends[0] += (bounds["conflict"][0] - bounds["agree"][1]) / 3
        ends[1] += (bounds["conflict"][1] - bounds["agree"][0]) / 3
    assert effect.interval == pytest.approx(ends)
    assert effect.observational and effect.clusters == len(set(owners["conflict"]))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
@pytest.mark.parametrize("within", [True, False])
def test_coverage_where_both_splits_and_all_classes_share_clusters(
    within: bool, bounds: tuple[float, float] | None
) -> None:
    """200 data sets each; at a coverage of 95 % more than 21 misses have a probability below 1e-3."""
    rng, missed = np.random.default_rng(0), 0
    owners = [torch.arange(40).repeat_interleave(6), torch.arange(40).repeat_interleave(4)]
    labels = torch.arange(240) % 2, torch.arange(160) % 2
    for _ in range(200):
        level = torch.tensor(rng.random(40))
        sides = [RowValues((level[own] < 0.8 - 0.2 * split).double(), own) for split, own in enumerate(owners)]
        if within:
            evidence = make_evidence_over_clusters_within(sides[0], sides[1], labels, bounds, "the loss")
        else:
            evidence = make_evidence_over_clusters(sides[0], sides[1], False, bounds)
        low, high = evidence.interval(0.95)
        missed += not low <= -0.2 <= high
    assert missed <= 21


def test_means_over_draws_in_clusters() -> None:
    shares = [right_in(share, seed) for share, seed in ((0.9, 0), (0.6, 1), (0.7, 2))]
    cue, first, second = (split(right) for right in shares)
    drawn = mc.Suite({"cue": cue, "rand_cue": first}, redraws={"rand_cue": [second]})
    found = mc.measure_invariance(Copier(), drawn, cluster=CLUSTERS)["rand_cue"]
    moves = (shares[1].double() + shares[2].double()) / 2 - shares[0].double()
    assert found.draws == 2
    assert found.interval == pytest.approx(betting_interval(moves[::6].numpy(), (-1.0, 1.0)), abs=1e-12)


def test_labels_of_the_whole_reach_rows_on_another_scale() -> None:
    images = ImageSet(torch.zeros(8, 1, 2, 2, dtype=torch.uint8), torch.arange(8) % 2, ("a", "b"))
    splits = mc.split_by_group(images, list("xxyyyyyx"))
    scaled = {name: Normalised(part) for name, part in splits.items()}
    labels = ClusterLabels([0, 0, 1, 1, 2, 2, 3, 3], scaled)
    assert labels.of("x", 3).tolist() == [0, 0, 3] and labels.of("y", 5).tolist() == [1, 1, 2, 2, 3]
    with pytest.raises(ValueError, match="must have one label for each of 3 rows of split 'x', got 7"):
        ClusterLabels(range(7), scaled)


def test_groups_of_selected_rows_keep_their_clusters() -> None:
    groups = ["land" if i % 2 else "sea" for i in range(120)]
    splits = mc.split_by_group(split(right_in(0.8, 6)), groups)
    found = mc.measure_invariance(Copier(), mc.Suite(splits, reference="land"), cluster=CLUSTERS)
    assert found.clusters == {"land": 20, "sea": 20}


def test_two_models_differ_by_their_differences_within_rows() -> None:
    a, b, c, d = (right_in(share, seed) for share, seed in ((0.9, 0), (0.8, 1), (0.5, 2), (0.7, 3)))
    two = mc.Suite({"cue": outcomes(a, b), "rand_cue": outcomes(c, d)})
    found = mc.compare_mechanisms(Copier(0), Copier(1), two, cluster=CLUSTERS)
    moves = (d.double() - c.double() - b.double() + a.double())[::6]
    apart = found.differences["rand_cue"]
    assert apart.effect == pytest.approx(float(moves.mean()))
    assert apart.interval == pytest.approx(betting_interval(moves.numpy(), (-2.0, 2.0)), abs=1e-12)
    assert (found.over, found.a.clusters) == ("clusters", {"cue": 20, "rand_cue": 20})
    assert "intervals over 20 clusters" in str(found)
    loss = mc.compare_mechanisms(Copier(0), Copier(1), two, on="loss", cluster=CLUSTERS).differences["rand_cue"]
    expected = ttest_1samp(-10.0 * moves.numpy(), 0).confidence_interval(0.95)  # logits 10 and 0
    assert loss.interval == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_two_models_within_classes() -> None:
    splits, owners, _ = divided()
    parts = mc.Suite(splits, reference="agree")
    same_model = mc.compare_mechanisms(Copier(), Copier(), parts, cluster=CLUSTERS).differences["conflict"]
    assert same_model.effect == 0.0 and same_model.interval[0] < 0.0 < same_model.interval[1]
    assert mc.compare_mechanisms(Copier(), Copier(), parts, cluster=owners).differences["conflict"] == same_model


def test_over_runs_clusters_are_named_and_intervals_are_over_runs() -> None:
    columns = [right_in(0.9, seed) for seed in range(3)]
    two = mc.Suite({"cue": outcomes(*columns), "rand_cue": outcomes(*columns[::-1])})
    models = [Copier(k) for k in range(3)]
    found = mc.compare_mechanisms(models, models, two, cluster=CLUSTERS)
    assert (found.over, found.a.over, found.runs_a[0].over) == ("runs", "runs", "clusters")
    assert found.a["rand_cue"].clusters is None and "clusters" not in str(found)
    plain = mc.compare_mechanisms(models, models, two)
    assert found.a["rand_cue"].interval == pytest.approx(plain.a["rand_cue"].interval, abs=1e-12)
    still = mc.Suite({"cue": outcomes(columns[0], columns[0]), "rand_cue": outcomes(columns[0], columns[0])})
    missed, rows_missed = (
        mc.compare_mechanisms([Copier(0), Copier(1)], [Copier(0), Copier(1)], still, cluster=own).a["rand_cue"].interval
        for own in (CLUSTERS, None)
    )
    assert missed[1] > 4 * rows_missed[1]


def test_groups_over_clusters() -> None:
    right, names = right_in(0.7, 7), ["land" if i % 3 else "sea" for i in range(120)]
    found = mc.measure_groups(Copier(), split(right), names, metrics=METRICS, cluster=CLUSTERS)
    own = right[::6].double().numpy()
    assert found.clusters == {"land": 20, "sea": 20}
    assert found["sea"].interval == found.mean_interval == betting_interval(own, (0.0, 1.0))
    assert found["land"].simultaneous == betting_interval(own, (0.0, 1.0), 0.975)
    expected = ttest_1samp(2 * own - 1, 0).confidence_interval(0.95)
    assert found["land"].metrics["free"][1] == pytest.approx((expected.low, expected.high))
    assert "95 % intervals over 20 clusters" in str(found)
    plain = mc.measure_groups(Copier(), split(right), names)
    assert plain.clusters == {} and "(95 % intervals)" in str(plain) and plain.mean == found.mean
    with pytest.raises(TypeError, match="cluster must be a label for each row, got a mapping"):
        mc.measure_groups(Copier(), split(right), names, cluster={"data": CLUSTERS})


def line(cluster: Any, copies: int = 1, **named: Any) -> mc.Profile:
    a, b = build(mlp, 1), build(mlp, 2)
    x, y = (part.repeat_interleave(copies, 0) for part in rows(40, 3))
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    how = {"metrics": METRICS, "keep_samples": True, **named}
    return mc.evaluate_path(a, path, mc.Suite({"cue": (x, y)}), 5, cluster=cluster, **how)


@pytest.mark.parametrize("on", ["loss", "accuracy", "sign", "free"])
def test_barriers_over_clusters(on: str) -> None:
    single, copies, plain = line(range(40)), line([i // 3 for i in range(120)], 3), line(None)
    interval = single.barrier("cue", on).interval
    assert interval == pytest.approx(copies.barrier("cue", on).interval, abs=1e-9)
    if on != "accuracy":  # exact over rows, by betting over clusters
        assert interval == pytest.approx(plain.barrier("cue", on).interval, abs=1e-9)
    else:
        error = line(range(40), metrics={"wrong": mc.Metric(lambda f, y: 1.0 * (f.argmax(1) != y), (0.0, 1.0))})
        assert interval == pytest.approx(error.barrier("cue", "wrong").interval, abs=1e-9)
    assert (copies.clusters, plain.clusters) == ({"cue": 40}, {})
    assert "; intervals over 40 clusters" in str(copies) and "clusters" not in str(plain)
    assert copies.to_dict()["clusters"] == {"cue": 40}
    with pytest.raises(ValueError, match="pass keep_samples=True"):
        line(range(40), keep_samples=False)


def test_an_audit_says_what_its_intervals_are_over(tmp_path: Path) -> None:
    a, b = build(mlp, 1), build(mlp, 2)
    (x, y), other = rows(120, 3), rows(120, 4)[0]
    two = mc.Suite({"cue": (x, y), "rand_cue": (other, y)})
    found = mc.audit(a, b, two, ts=3, alignment="none", cluster=iter(CLUSTERS))
    assert found.comparison == mc.compare_mechanisms(a, b, two, cluster=CLUSTERS)
    path = mc.LinearPath(mc.parameters_of(a), mc.parameters_of(b))
    alone = mc.evaluate_path(a, path, two, 3, keep_samples=True, cluster=CLUSTERS)
    assert found.paths["before"].barrier("cue") == alone.barrier("cue")
    assert found.settings["clusters"] == {"cue": 20, "rand_cue": 20}
    assert any(sentence.startswith("Intervals over 20 clusters, not over rows") for sentence in found.findings)
    assert "clusters would settle it" in str(found) and "rows would settle it" not in str(found)
    loaded = mc.load_result(json.loads(found.to_json()))
    assert isinstance(loaded, mc.Audit)
    assert (loaded.comparison.over, loaded.comparison.a.clusters) == ("clusters", {"cue": 20, "rand_cue": 20})
    assert loaded.paths["before"].clusters == {"cue": 20, "rand_cue": 20}
    assert str(loaded) == str(found)
    mc.save_report(found, tmp_path / "audit.html")
    assert "over clusters of test samples" in (tmp_path / "audit.html").read_text(encoding="utf-8")
    plain = mc.audit(a, b, two, ts=3, alignment="none")
    assert "clusters" not in plain.settings and "clusters" not in str(plain)


def test_labels_of_batches_are_in_reading_order() -> None:
    data = {name: split(right_in(share, seed)) for name, share, seed in (("cue", 0.9, 0), ("hue", 0.6, 1))}
    loaders = {name: DataLoader(TensorDataset(*pair), batch_size=50) for name, pair in data.items()}
    expected = mc.measure_invariance(Copier(), mc.Suite(data), cluster=CLUSTERS)["hue"]
    assert mc.measure_invariance(Copier(), mc.Suite(loaders), cluster=CLUSTERS)["hue"].interval == expected.interval
    shuffled = {name: DataLoader(TensorDataset(*pair), shuffle=True) for name, pair in data.items()}
    with pytest.raises(ValueError, match="the loader of split 'cue' shuffles"):
        mc.measure_invariance(Copier(), mc.Suite(shuffled), cluster=CLUSTERS)
    with pytest.raises(ValueError, match="one label for each of 120 rows of split 'cue', got 119"):
        mc.measure_invariance(Copier(), mc.Suite(loaders), cluster=CLUSTERS[1:])


def test_rows_that_do_not_count_are_left_out_with_their_labels() -> None:
    loss = mc.losses.CrossEntropy(ignore_index=2)
    (x, y), (other, _) = split(right_in(0.9, 0)), split(right_in(0.6, 1))
    found = mc.measure_invariance(Copier(), mc.Suite({"cue": (x, y), "hue": (other, y)}), loss=loss, cluster=CLUSTERS)
    kept = y != 2
    fewer = mc.Suite({"cue": (x[kept], y[kept]), "hue": (other[kept], y[kept])})
    own = torch.tensor(CLUSTERS)[kept]
    expected = mc.measure_invariance(Copier(), fewer, loss=loss, cluster=own)
    assert same(asdict(replace(found, notes=())), asdict(replace(expected, notes=())))
    profile = line(range(40), loss=loss)
    assert 0 < profile.clusters["cue"] < 40


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "one cluster": ([0] * 120, ValueError, "split 'cue' has rows of one cluster, and an interval over clusters needs"),
    "too few": (CLUSTERS[:7], ValueError, "must have one label for each of 120 rows of split 'cue', got 7"),
    "a missing split": (
        {"cue": CLUSTERS, "hue": CLUSTERS, "huh": CLUSTERS},
        ValueError,
        "missing rand_cue; unexpected",
    ),
    "a text": ("patient", TypeError, "cluster must hold a value for each row, got 'patient'"),
    "a row without": ([None, *CLUSTERS[1:]], ValueError, "cluster: row 0 has no value"),
    "two columns": (torch.zeros(120, 2), ValueError, "must hold one number or text for each row"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_mistakes(kind: str) -> None:
    cluster, error, text = WRONG[kind]
    with pytest.raises(error, match=text) as found:
        mc.measure_invariance(Copier(), suite(), cluster=cluster)
    assert "\n" not in str(found.value)


def test_a_class_of_one_cluster_has_no_interval_of_the_loss() -> None:
    y = torch.tensor([0] * 6 + [1] * 4 + [2] * 2)
    owners = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    still = mc.Suite({"cue": split(y >= 0, y), "hue": split(y != 1, y)})
    effect = mc.measure_invariance(Copier(), still, on="loss", cluster=owners)["hue"]
    assert {label: change.interval is None for label, change in effect.by_class.items()} == {
        0: False,
        1: False,
        2: True,
    }
    splits: Any = mc.split_by_agreement(split(y >= 0, y), ["a", "b"] * 6, agrees={0: "a", 1: "b", 2: "a"})
    parts = mc.Suite(splits, reference="agree")
    with pytest.raises(ValueError, match="two clusters or more of every class on both sides, got one of class 2"):
        mc.measure_invariance(Copier(), parts, on="loss", cluster=owners)
    found = mc.measure_invariance(Copier(), parts, cluster=owners)["conflict"]
    assert found.loss is not None and found.loss.interval is None
