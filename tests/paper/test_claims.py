from typing import Any

import pytest

from mechconn.mechanisms import Invariance
from mechconn.paper import CellPath, RunRecord, find_recipe, list_departures, resolve_settings, write_departures
from mechconn.paper._published import CIFAR10, CIFAR100_RI, SPLIT_ORDER
from run_records import (
    FIXED,
    PLACE,
    SHORTCUT,
    cue_result,
    fig4_record,
    fig13_record,
    model,
    path,
    run_record,
    shifted,
    table1_record,
)


def claims(record: RunRecord) -> list[Any]:
    """What is said of the statements that a run's numbers bear on."""
    return find_recipe(record.recipe).judge_claims(record)


def exact(accuracy: dict[str, float]) -> Invariance:
    """A model whose accuracies have no intervals, as the published have none."""
    return model(accuracy, None)


def published(values: Any) -> dict[str, float]:
    return dict(zip(SPLIT_ORDER, (value / 100 for value in values), strict=True))


def published_run() -> RunRecord:
    """The published table as if it were a run."""
    return run_record(
        "table1",
        [
            cue_result(("cifar10", proportion, 2500, 0), {name: exact(published(row)) for name, row in rows.items()})
            for proportion, rows in CIFAR10.items()
        ],
    )


def table1(models: dict[str, Invariance], data: str = "cifar10") -> RunRecord:
    return run_record("table1", [cue_result((data, 0.9, 2500, 0), models)])


def test_the_published_table_keeps_to_every_claim():
    found = claims(published_run())
    assert len(found) == 4 * 10
    assert {claim.verdict for claim in found} == {"holds"}


def test_claims_on_the_random_image_are_those_of_ten_classes():
    """CIFAR-100's published numbers: CBFT is at 46 % there, FT-S at 30.9 %."""
    models = {
        name: exact({**published(CIFAR10[0.9][name]), "rand_image": share / 100}) for name, share in CIFAR100_RI.items()
    }
    found = claims(table1(models, "cifar100"))
    assert len(found) == 3 and {claim.verdict for claim in found} == {"holds"}
    assert not any("RI" in claim.statement for claim in found)


def test_an_interval_that_holds_both_answers_settles_nothing():
    unsettled = "undetermined"
    for margin, *expected in (
        (0.01, "holds", "holds", "holds"),
        (0.05, unsettled, "holds", "holds"),
        (0.3, unsettled, unsettled, unsettled),
    ):
        near = (margin, margin)
        models = {"CBFT": model({**FIXED, "rand_image": 0.11}, near), "FT-M": model(SHORTCUT, near)}
        judged = verdicts(table1(models))
        statements = (
            "CBFT does not use the cue: NC, C and RC within 6 points",
            "CBFT's RI is near chance: at most 20\N{NO-BREAK SPACE}%",
            "FT-M still needs it: RC at least 15 points under NC",
        )
        assert [judged[statement] for statement in statements] == expected
    (claim, *_) = claims(table1({"CBFT": model(FIXED, (0.3, 0.2))}))
    assert "NC 75\N{NO-BREAK SPACE}% (45 to 95)" in claim.numbers


def test_a_run_that_is_otherwise_does_not():
    found = claims(table1({"CBFT": model(SHORTCUT), "FT-M": model(FIXED)}))
    assert len(found) == 4 and {claim.verdict for claim in found} == {"does not hold"}


def verdicts(record: Any) -> dict[str, str]:
    return {claim.statement: claim.verdict for claim in claims(record)}


def test_paths_are_judged_by_their_intervals():
    found = verdicts(fig4_record(cued=0.0, clean=None))
    assert found["The straight path has a barrier (on C)"] == "holds"
    assert found["A curved path fitted on cued data has none on such data (C)"] == "holds"
    assert found["A curved path fitted on clean data has none on such data (NC)"] == "does not hold"
    assert (
        found["No path holds on all counterfactual sets: theta_C to theta_NC, fitted on cued data"] == "does not hold"
    )
    assert found["No path holds on all counterfactual sets: theta_C to theta_NC, fitted on clean data"] == "holds"
    wide = run_record("fig4", [cue_result(PLACE, {}, [path(0.1, 0.1)])])
    assert verdicts(wide)["The straight path has a barrier (on C)"] == "undetermined"


def test_over_several_seeds_the_interval_is_over_them_and_judged_alike():
    """Barriers of 0 and 0.2 nats: their mean, 0.1, has an interval of 12.7 times 0.1 to both sides."""

    def judge(*heights: float) -> Any:
        results = [cue_result(("digits", 0.8, None, s), {}, [path(h)]) for s, h in enumerate(heights)]
        return next(claim for claim in claims(run_record("fig4", results)))

    unsettled, above, below = judge(0.0, 0.2), judge(1.0, 1.01), judge(0.01, 0.012)
    assert unsettled.verdict == "undetermined" and unsettled.numbers.startswith("barrier 0.10 nats (0.00 to 1.37)")
    assert (above.verdict, below.verdict) == ("holds", "does not hold")


def test_rates_and_proportions_of_figure_5():
    def fig5(rc: float, proportion: float) -> RunRecord:
        names = ("FT-S", "FT-L", "IRM", "scratch")
        models = {name: exact({**SHORTCUT, "rand_cue": rc}) for name in names}
        paths = [path(1.0 if name == "FT-L" else 0.0, end=name) for name in names]
        return run_record("fig5", [cue_result(("digits", proportion, None, 0), models, paths)])

    some = verdicts(fig5(0.2, 0.8))
    assert some["FT-S stays linearly connected to theta_C (on C)"] == "holds"
    assert some["FT-L is cut off from theta_C by a barrier on C (a large rate)"] == "holds"
    assert len(some) == 4 and not any("IRM" in claim for claim in some)
    assert some["FT-L is invariant to the cue: RC within 6 points of C"] == "does not hold"
    all_cued = verdicts(fig5(0.98, 1.0))
    assert all_cued["FT-S is invariant to the cue: RC within 6 points of C"] == "holds"
    assert all_cued["FT-S is cut off from theta_C by a barrier on C (a cue on every training image)"] == "does not hold"


def test_the_ablation_and_the_attributes():
    models = {"CBFT without barrier": model(SHORTCUT), "CBFT": model(FIXED)}
    paths = [path(1.0, end="CBFT"), path(0.0, end="CBFT without invariance")]
    found = verdicts(run_record("table3", [cue_result(("digits", 0.8, 600, 0), models, paths)]))
    assert set(found.values()) == {"holds"} and len(found) == 2  # what may be is no claim
    first, second = claims(fig13_record())
    assert (first.verdict, first.numbers) == ("holds", "barriers 0.2 and 1.2")
    assert (second.verdict, second.numbers) == ("holds", "barriers 0.3 and 1.2")
    assert claims(run_record("quickstart")) == []


@pytest.mark.parametrize("recipe", ["fig4", "fig5", "table1", "table3", "table4"])
def test_the_paper_scale_departs_from_nothing_that_is_stated(recipe: str):
    record = run_record(recipe, scale="paper", seeds=(0, 1, 2))
    assert list_departures(record) == []
    assert write_departures(record).startswith(
        "No difference from the paper's settings in what was compared: data, network"
    )


@pytest.mark.parametrize(
    ("recipe", "word", "expected"),
    [
        ("table1", "methods.CBFT.lr=5", "a rate of 5 for CBFT instead of 0.01"),
        ("table1", "methods.LLRT.epochs=2", "2 epochs of LLRT instead of 200"),
        ("table1", "methods.LPFT.tuning.lr=1", "tuning lr 1 for LPFT instead of 0.01"),
        ("table1", "methods.CBFT.barrier=false", "barrier False for CBFT instead of True"),
        ("table1", 'methods.FT-S={"method": "IRM"}', "method IRM for FT-S instead of NaiveFineTuning"),
        ("table3", "methods.CBFT without barrier.update=joint", "update joint for CBFT without barrier instead of alt"),
        ("table4", "training.momentum=0", "training momentum 0 instead of 0.9"),
        ("fig4", "fit.weight_decay=1", "fit weight decay 1 instead of 0.0001"),
        ("fig4", 'fit={"method": "PolygonalFit"}', "fit method PolygonalFit instead of BezierFit"),
        ("fig5", "methods.FT-L.clip_norm=2", "clip norm 2 for FT-L instead of none"),
    ],
)
def test_one_setting_at_paper_scale_is_a_departure(recipe: str, word: str, expected: str):
    settings = resolve_settings(recipe, "paper", [word])[2].model_dump(mode="json")
    (found,) = list_departures(run_record(recipe, scale="paper", settings=settings))
    assert found.startswith(expected)


def test_every_departure_is_said():
    words = write_departures(table1_record())
    for part in (
        "digits instead of CIFAR-10",
        "5 epochs of training instead of 100",
        "rate steps at epochs 3, 4 instead of 40, 80",
        "600 clean samples instead of 2,500",
        "1 seed instead of 3",
        "batches of 60 for fine-tuning instead of 256",
        "a rate of min(30, c / lambda) for LLRT instead of 30",
        "probe lr min(30, c / lambda) for LPFT instead of 30",
    ):
        assert part in words
    settings = resolve_settings("table1", "small", ["methods.CBFT.epochs=3"])[2].model_dump(mode="json")
    words = write_departures(table1_record(settings=settings))
    assert "5,000 training images instead of 50,000; 1,000 test images instead of 10,000" in words
    assert "3 epochs of CBFT instead of 20" in words and "VGG-13" not in words
    assert write_departures(run_record("quickstart")) == ""


def test_published_numbers_are_found_by_their_place():
    assert find_recipe("table1").find_published_accuracy("digits", 0.6, 600, "LPFT")["rand_cue"] == pytest.approx(0.21)
    assert find_recipe("table1").find_published_accuracy("cifar100", 0.9, 2500, "CBFT") == {
        "rand_image": pytest.approx(0.46)
    }
    assert find_recipe("table4").find_published_accuracy("cifar10", 0.8, 2500, "scratch") == {
        "no_cue": pytest.approx(0.475)
    }
    for nowhere in (
        ("table1", "dominoes", 0.6, 2500, "CBFT"),
        ("table1", "cifar10", 0.5, 2500, "CBFT"),
        ("table1", "cifar10", 0.6, 2500, "theta_C"),
        ("table4", "cifar10", 0.8, 250, "CBFT"),
        ("fig5", "cifar10", 0.8, 2500, "FT-M"),
        ("table1", "cifar100", 0.8, 2500, "CBFT"),
    ):
        assert find_recipe(nowhere[0]).find_published_accuracy(*nowhere[1:]) == {}


def test_connected_is_not_said_of_other_networks_without_saying_so():
    def judge(found: CellPath) -> Any:
        (claim,) = (
            claim
            for claim in claims(run_record("fig5", [cue_result(PLACE, {"FT-S": model(SHORTCUT)}, [found])]))
            if claim.statement == "FT-S stays linearly connected to theta_C (on C)"
        )
        return claim

    others = "between networks with other statistics than those saved"
    as_saved, on_another, here = (
        judge(path(0.0, end="FT-S")),
        judge(shifted(0.0, {"B": {"rand_cue": 0.1}}, "FT-S")),
        judge(shifted(0.0, {"B": {"cue": 0.1}}, "FT-S")),
    )
    assert as_saved.verdict == on_another.verdict == here.verdict == "holds"
    assert others not in as_saved.numbers and others not in on_another.numbers
    assert here.numbers == f"{as_saved.numbers}, {others}"
