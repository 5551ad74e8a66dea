"""The verb: what is merged, evaluated and shown, before and after alignment, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.core import isolate_rng
from planted_merges import PARENTS, ROWS, judge, plant, right_on
from zoo import CLASSES, FEATURES, build, mlp, norm_mlp, rows

SUITE = mc.Suite({"cue": rows(40, 1), "rand_cue": (rows(40, 3)[0], rows(40, 1)[1]), "tint": rows(30, 4)})
SHALLOW = build(lambda: nn.Linear(FEATURES, CLASSES))
MODELS = {name: build(mlp, seed) for seed, name in enumerate("abc")}
PLANTED = mc.Suite({"cue": plant(right_on(900), right_on(800), right_on(700))}, reference="cue")


def above(limit: float) -> nn.Module:
    """Says 1 where the input is above a limit."""
    model = build(lambda: nn.Linear(1, 2))
    state = {"weight": torch.tensor([[0.0], [1.0]]), "bias": torch.tensor([0.0, -limit])}
    model.load_state_dict({name: tensor.double() for name, tensor in state.items()})
    return model


@pytest.mark.parametrize("limits", [(0.0, 1.6), (-1.0, 1.5), (0.25, 0.75)])
def test_the_mean_of_two_linear_classifiers_has_the_mean_limit(limits: tuple[float, float]) -> None:
    """Over x uniform on a grid the mean is right on all but |limit - (l1 + l2) / 2| of its length."""
    x = torch.linspace(-4.0, 4.0, 1601, dtype=torch.float64)[:, None]
    suite = mc.Suite({"rows": (x, (x[:, 0] > 0.5).long())}, reference="rows")
    found = mc.merge({"a": above(limits[0]), "b": above(limits[1])}, mc.Mean(), suite)
    wrong = [abs(0.5 - limit) / 8 for limit in (*limits, sum(limits) / 2)]
    expected = [own - wrong[2] for own in wrong[:2]]
    assert [pair.difference for pair in found.before.differences] == pytest.approx(expected, abs=2 / 1601)
    assert found.verdict == ("yes" if wrong[2] <= min(wrong[:2]) else "no")


def test_the_merged_network_is_that_of_the_method() -> None:
    found = mc.merge(MODELS, mc.Mean({"a": 1.0, "b": 2.0, "c": 1.0}), SUITE)
    expected = mc.soup(list(MODELS.values()), [1, 2, 1])
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor)
    measured = mc.measure_invariance(found.model, SUITE)
    assert found.before.invariance.accuracy == measured.accuracy
    assert {name: effect.effect for name, effect in found.before.invariance.items()} == {
        name: effect.effect for name, effect in measured.items()
    }
    assert found.names == tuple("abc") and found.method["method"] == "mean"
    for name, model in MODELS.items():
        assert found.parents[name].accuracy == mc.measure_invariance(model, SUITE).accuracy


def test_the_order_of_parents_changes_no_verdict() -> None:
    first, second = (mc.merge(dict(items), mc.Mean(), SUITE) for items in (MODELS.items(), reversed(MODELS.items())))
    assert first.verdict == second.verdict
    keyed = [{(p.parent, p.split): (p.difference, p.verdict) for p in f.before.differences} for f in (first, second)]
    assert keyed[0] == keyed[1]


class Counting(nn.Module):
    """An MLP that counts the rows it sees in evaluation."""

    seen = 0

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Counting.seen += len(x)
        return self.body(x)


def test_every_network_is_evaluated_once_on_every_split() -> None:
    """Two parents and the merged network, 110 rows; the rest is the example that shows them to be one module."""
    models = {"a": build(Counting, 0), "b": build(Counting, 1)}
    Counting.seen = 0
    mc.merge(models, mc.Mean(), SUITE)
    passes, rest = divmod(Counting.seen, 110)
    assert passes == 3 and rest <= 8


def test_statistics_are_those_of_the_policy() -> None:
    models = {"a": build(norm_mlp, 0).eval(), "b": build(norm_mlp, 1).eval()}
    norm = mc.Reestimate(rows(50, 7), label="other rows")
    found = mc.merge(models, mc.Mean(), SUITE, norm=norm)
    expected = mc.soup(list(models.values()), norm=norm)
    assert all(torch.equal(found.model.state_dict()[n], tensor) for n, tensor in expected.state_dict().items())
    (said,) = (section.text for section in found.sections() if section.anchor == "merged-before")
    assert found.norm["data"] == "other rows" and "from other rows" in said
    with pytest.raises(ValueError, match="norm"):
        mc.merge(models, mc.Mean(), SUITE)


# ---------------------------------------------------------------- alignment


def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """The same function with its units in another order."""
    symmetry = mc.symmetry_of(model, rows(4)[0])
    other = copy.deepcopy(model)
    other.load_state_dict(symmetry.apply(model.state_dict(), symmetry.random(seed)))
    return other


def trained(seed: int) -> nn.Module:
    with isolate_rng(seed, "wide"):
        model = nn.Sequential(nn.Linear(FEATURES, 24), nn.ReLU(), nn.Linear(24, CLASSES)).double()
    return mc.train(
        model, labelled(400, 5), mc.Training(epochs=20, batch_size=40, lr=0.05, milestones=()), seed=0
    ).model


def labelled(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = rows(count, seed)[0]
    return x, x[:, :CLASSES].argmax(1)


@pytest.fixture(scope="module")
def planted() -> tuple[dict[str, nn.Module], mc.Suite]:
    """One function three times, its units in three orders."""
    model = trained(0)
    models: dict[str, nn.Module] = {"a": model, "b": shuffled(model, 1), "c": shuffled(model, 2)}
    return models, mc.Suite({"cue": labelled(800, 8)}, reference="cue")


def test_one_function_in_three_orders_may_be_merged_after_alignment_and_not_before(
    planted: tuple[dict[str, nn.Module], mc.Suite],
) -> None:
    models, suite = planted
    ways: list[Any] = [mc.UniverseMatching(), mc.MergeMany(), (mc.WeightMatching(), "b")]
    ways.append(mc.align_many(models, mc.UniverseMatching(), mc.symmetry_of(models["a"], rows(4)[0])))
    for align in ways:
        found = mc.merge(models, mc.Mean(), suite, align=align)
        assert found.after is not None and (found.before.verdict, found.after.verdict) == ("no", "yes")
        assert found.verdict == "yes" and found.judged is found.after
        assert all(abs(pair.difference) < 1e-9 for pair in found.after.differences)
        assert "Yes after alignment" in found.headline and "No as they are" in found.headline
        assert mc.measure_invariance(found.model, suite).accuracy == found.after.invariance.accuracy
        assert found.alignment is not None and min(map(min, found.alignment.similarity_after)) > 0.999


def test_an_alignment_of_other_networks_is_refused(planted: tuple[dict[str, nn.Module], mc.Suite]) -> None:
    models, suite = planted
    two = {name: models[name] for name in "ab"}
    symmetry = mc.symmetry_of(models["a"], rows(4)[0])
    found = mc.align_many(two, mc.UniverseMatching(), symmetry)
    with pytest.raises(ValueError, match="networks of align"):
        mc.merge(models, mc.Mean(), suite, align=found)


def test_an_alignment_of_networks_with_other_weights_is_refused(
    planted: tuple[dict[str, nn.Module], mc.Suite], tmp_path: Path
) -> None:
    models, suite = planted
    symmetry = mc.symmetry_of(models["a"], rows(4)[0])
    own = mc.align_many(models, mc.UniverseMatching(), symmetry)
    own.save(tmp_path / "own.json")
    read: Any = mc.load_result(tmp_path / "own.json")
    assert mc.merge(models, mc.Mean(), suite, align=read).verdict == "yes"
    others = {name: trained(seed) for seed, name in enumerate("abc", 5)}
    renamed = {"a": models["b"], "b": models["c"], "c": models["a"]}
    for given in (others, renamed):
        for align in (own, read):
            with pytest.raises(ValueError, match=r"with other weights than these models; pass what align_many"):
                mc.merge(given, mc.Mean(), suite, align=align)
        again = mc.align_many(given, mc.UniverseMatching(), symmetry)
        assert mc.merge(given, mc.Mean(), suite, align=again).alignment is again


def test_a_method_of_two_says_how_to_name_the_parent_that_stays(
    planted: tuple[dict[str, nn.Module], mc.Suite],
) -> None:
    models, suite = planted
    with pytest.raises(ValueError, match="parent that stays") as caught:
        mc.merge(models, mc.Mean(), suite, align=mc.WeightMatching())
    assert "align=(WeightMatching(...), 'a'), or align=UniverseMatching()" in str(caught.value)
    for align in ((mc.WeightMatching(), "a"), mc.UniverseMatching()):
        assert mc.merge(models, mc.Mean(), suite, align=align).verdict == "yes"


def test_a_parent_that_was_moved_is_the_same_network(planted: tuple[dict[str, nn.Module], mc.Suite]) -> None:
    models, _ = planted
    few = mc.Suite({"cue": labelled(20, 8)}, reference="cue")
    for align in (mc.UniverseMatching(), (mc.WeightMatching(), "b")):
        found = mc.merge(models, mc.Mean({"a": 1.0, "b": 0.0, "c": 0.0}), few, align=align)
        assert found.after is not None
        for judged in (found.before, found.after):
            (own,) = [pair for pair in judged.differences if pair.parent == "a"]
            assert (own.same_network, own.judged_interval, own.verdict) == (True, (0.0, 0.0), "not worse")


def test_the_verdict_is_over_the_splits_that_are_asked_for() -> None:
    good, bad = plant(*[right_on(900)] * 3), plant(right_on(900), right_on(100), right_on(900))
    suite = mc.Suite({"cue": good, "rand_image": bad})
    found, part = (mc.merge(PARENTS, mc.Mean(), suite, splits=own) for own in (None, ("cue",)))
    assert (found.verdict, part.verdict) == ("no", "yes")
    assert (found.splits, part.splits) == (("cue", "rand_image"), ("cue",))
    assert part.before.fates["rand_image"] == found.before.fates["rand_image"]
    assert any("splits=" in said for said in found.findings) and not any("splits=" in said for said in part.findings)


# ---------------------------------------------------------------- rows that chose something


def test_rows_that_chose_the_parents_judge_nothing() -> None:
    x, y = rows(60, 1)
    suite = mc.Suite({"cue": (x, y)}, reference="cue")
    with pytest.raises(ValueError, match=r"GreedySoup chooses on rows that are in the suite \(cue\)"):
        mc.merge(MODELS, mc.GreedySoup((x, y)), suite)
    found = mc.merge(MODELS, mc.GreedySoup(rows(60, 2)), suite)
    assert any("greedy soup took" in note for note in found.notes)


def test_rows_of_the_statistics_and_of_the_alignment_are_noted() -> None:
    x, y = rows(60, 1)
    suite = mc.Suite({"cue": (x, y)}, reference="cue")
    models = {"a": build(norm_mlp, 0).eval(), "b": build(norm_mlp, 1).eval()}
    found = mc.merge(models, mc.Mean(), suite, norm=mc.Reestimate((x, y)))
    assert any("normalisation statistics were taken on rows that judge the merge, in cue" in n for n in found.notes)
    plain = {name: MODELS[name] for name in "ab"}
    seen = mc.merge(plain, mc.Mean(), suite, align=(mc.ActivationMatching((x, y)), "a"))
    assert any("the alignment was found on rows that judge the merge, in cue" in note for note in seen.notes)
    given = mc.align_many(plain, mc.ActivationMatching((x, y)), onto="a")
    assert any("rows that judge" in note for note in mc.merge(plain, mc.Mean(), suite, align=given).notes)
    other = mc.merge(plain, mc.Mean(), suite, align=(mc.ActivationMatching(rows(60, 2)), "a"))
    assert not any("rows that judge" in note for note in other.notes)


def test_a_base_that_lies_far_is_noted() -> None:
    near = {"a": above(0.0), "b": above(0.1)}
    found = mc.merge(near, mc.TaskArithmetic(0.5), line(), base=above(9.0))
    assert any("lies farther from the base" in note for note in found.notes)


def line() -> mc.Suite:
    x = torch.linspace(-1.0, 1.0, 400, dtype=torch.float64)[:, None]
    return mc.Suite({"rows": (x, (x[:, 0] > 0.0).long())}, reference="rows")


# ---------------------------------------------------------------- wrong input


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "one model": ({"models": {"a": MODELS["a"]}}, "a merge needs two models or more, got 1"),
    "no table": ({"models": [("a", MODELS["a"]), ("a", MODELS["b"])]}, "each name once"),
    "a taken name": ({"models": {"a": MODELS["a"], "merged": MODELS["b"]}}, "rename it"),
    "another architecture": (
        {"models": {"a": MODELS["a"], "b": SHALLOW}},
        "model 'a' and model 'b'",
    ),
    "no network": ({"models": {"a": MODELS["a"], "b": "b.safetensors"}}, "models['b']"),
    "no method": ({"method": "mean"}, "MergeMethod"),
    "no suite": ({"suite": {"cue": rows(9)}}, "Suite"),
    "a tolerance below zero": ({"tolerance": -0.1}, "tolerance"),
    "a tolerance of all": ({"tolerance": 1.0}, "0.01 is one point"),
    "no base": ({"method": mc.TaskArithmetic(0.5)}, "base"),
    "a base of another architecture": (
        {"method": mc.TaskArithmetic(0.5), "base": SHALLOW},
        "the base",
    ),
    "a base and an alignment": (
        {"method": mc.TaskArithmetic(0.5), "base": MODELS["c"], "align": mc.UniverseMatching()},
        "leave out align= or base=",
    ),
    "no way to align": ({"align": "auto"}, "UniverseMatching"),
    "nobody to stay": ({"align": mc.WeightMatching()}, "names no parent that stays"),
    "another to stay": ({"align": (mc.WeightMatching(), "d")}, "the parent in align"),
    "a metric without a direction": (
        {"metrics": {"own": lambda z, y: z[:, 0]}, "on": "own"},
        "say better='higher' or 'lower'",
    ),
    "accuracy the other way": ({"better": "lower"}, "better must be 'higher' on accuracy"),
    "an unknown measure": ({"on": "f1"}, "on"),
    "an unknown split": ({"splits": ("cue", "hue")}, "a split of splits"),
    "no split": ({"splits": ()}, "leave it out for all"),
    "weights for others": ({"method": mc.Mean({"a": 1.0, "d": 1.0})}, "weights"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_in_one_line(case: str) -> None:
    changes, words = WRONG[case]
    asked: dict[str, Any] = {"models": dict(list(MODELS.items())[:2]), "method": mc.Mean(), "suite": SUITE} | changes
    with pytest.raises((ValueError, TypeError)) as caught:
        mc.merge(asked.pop("models"), asked.pop("method"), asked.pop("suite"), **asked)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_parents_that_are_no_classifiers_are_named() -> None:
    models = {name: build(lambda: nn.Linear(FEATURES, 1), seed) for seed, name in enumerate("ab")}
    suite = mc.Suite({"rows": (rows(9)[0], torch.zeros(9, 1, dtype=torch.float64))}, reference="rows")
    with pytest.raises(ValueError, match=r"model 'a': .*on='accuracy' needs a classification.*use on='loss'"):
        mc.merge(models, mc.Mean(), suite, loss=mc.losses.squared)
    found = mc.merge(models, mc.Mean(), suite, loss=mc.losses.squared, on="loss", margin=1.0)
    assert found.better == "lower"


def test_a_merged_network_that_overflows_is_named() -> None:
    scaled: dict[str, nn.Module] = {name: _Scaled(1e308) for name in "ab"}
    with pytest.raises(ValueError, match="the merged network"):
        mc.merge(scaled, _Sum(), PLANTED)


class _Scaled(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * torch.stack([x[:, 0], x[:, 1]], 1) * 1e-308


class _Sum(mc.MergeMethod):
    """The sum of all, in place of the mean."""

    def merge(self, problem: Any) -> Any:
        points = [point.params for point in problem.parents.values()]
        return {name: sum(point[name] for point in points) for name in points[0]}

    def describe(self) -> dict[str, Any]:
        return {"method": "sum"}


# ---------------------------------------------------------------- what is shown


def test_a_saved_merge_says_the_same_and_holds_no_network(tmp_path: Path) -> None:
    found = judge(cue=plant(right_on(900), right_on(800), right_on(700)), rand_cue=plant(*[right_on(500)] * 3))
    found.save(tmp_path / "merge.json")
    again: Any = mc.load_result(tmp_path / "merge.json")
    assert str(again) == str(found) and again.rows() == found.rows() and again.verdict == "no"
    with pytest.raises(AttributeError, match=r"mechconn\.merge"):
        _ = again.model


def test_rows_hold_both_means_and_their_difference() -> None:
    found = judge(cue=plant(right_on(900), right_on(800), right_on(700)))
    first, second = found.rows()
    assert (first["network"], first["parent"], first["split"]) == ("before", "a", "cue")
    assert (first["parent_mean"], first["merged_mean"], second["parent_mean"]) == (0.9, 0.8, 0.7)
    assert first["merged_mean"] - first["parent_mean"] == pytest.approx(first["difference"])
    assert first["samples"] == ROWS


def test_the_picture_shows_every_difference_and_the_tolerance() -> None:
    found = judge(cue=plant(right_on(900), right_on(800), right_on(700)), tint=plant(*[right_on(500)] * 3))
    (axes,) = found.plot().axes
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()] if axes.figure.legends else []
    labels += axes.get_legend_handles_labels()[1]
    assert {"against a", "against b", "tolerance, 2"} <= set(labels)
    assert any([*map(float, np.asarray(line.get_ydata()))] == [-2.0, -2.0] for line in axes.lines)


def test_progress_counts_the_networks() -> None:
    told: list[Any] = []
    mc.merge(PARENTS, mc.Mean(), PLANTED, progress=told.append)
    assert [event.done for event in told if event.total == 3][-1] == 3
