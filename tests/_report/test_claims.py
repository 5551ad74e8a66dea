from typing import Any

import pytest

from mechconn._experiments._choose import chosen
from mechconn._report._claims import claims
from mechconn._report._departures import departures, sentence
from mechconn._report._published import CIFAR10, ORDER, published_accuracy
from run_records import FIXED, SHORTCUT, fig4_record, fig13_record, model, path, run_record, table1_record


def published_run() -> Any:
    """The published table as if it were a run."""
    cells = {
        ("cifar10", proportion, 2500, 0): {
            "models": {
                name: model(dict(zip(ORDER, (v / 100 for v in values), strict=True))) for name, values in rows.items()
            },
            "paths": {},
        }
        for proportion, rows in CIFAR10.items()
    }
    return run_record("table1", cells)


def test_the_published_table_keeps_to_every_claim():
    found = claims(published_run())
    assert len(found) == 4 * 10
    assert {claim.verdict for claim in found} == {"holds"}


def test_a_run_that_is_otherwise_does_not():
    swapped = {"models": {"CBFT": model(SHORTCUT), "FT-M": model(FIXED)}, "paths": {}}
    found = claims(run_record("table1", {("cifar10", 0.9, 2500, 0): swapped}))
    assert len(found) == 4 and {claim.verdict for claim in found} == {"does not hold"}


def verdicts(record: Any) -> dict[str, str]:
    return {claim.statement: claim.verdict for claim in claims(record)}


def test_paths_are_judged_by_their_intervals():
    found = verdicts(fig4_record(cued=0.0, clean=None))
    assert found["The straight path has a barrier (on C)"] == "holds"
    assert found["A curved path fitted with cue has none on such data (C)"] == "holds"
    assert found["A curved path fitted without cue has none on such data (NC)"] == "does not hold"
    assert found["No path holds on all counterfactual sets: fitted with cue"] == "does not hold"
    assert found["No path holds on all counterfactual sets: fitted without cue"] == "holds"
    wide = {"models": {}, "paths": {"linear": path(0.1, 0.1), "aligned": path(1.0)}}
    wide["paths"] |= {"fitted with cue": path(0.0), "fitted without cue": path(0.0)}
    wide["models"] = {"theta_C": model(SHORTCUT)}
    assert verdicts(run_record("fig4", {("digits", 0.8, None, 0): wide}))["The straight path has a barrier (on C)"] == (
        "undetermined"
    )


def test_rates_and_proportions_of_figure_5():
    def cell(rc: float) -> dict[str, Any]:
        models = {name: model({**SHORTCUT, "rand_cue": rc}) for name in ("FT-S", "FT-L")}
        return {"models": models, "paths": {"theta_C to FT-S": path(0.0), "theta_C to FT-L": path(1.0)}}

    some = verdicts(run_record("fig5", {("digits", 0.8, None, 0): cell(0.2)}))
    assert some["FT-S stays linearly connected to theta_C (on C)"] == "holds"
    assert some["FT-L is cut off from theta_C by a barrier on C (a large rate)"] == "holds"
    assert some["FT-L is invariant to the cue: RC within 6 points of C"] == "does not hold"
    all_cued = verdicts(run_record("fig5", {("digits", 1.0, None, 0): cell(0.98)}))
    assert all_cued["FT-S is invariant to the cue: RC within 6 points of C"] == "holds"
    assert all_cued["FT-S is cut off from theta_C by a barrier on C (a cue on every training image)"] == "does not hold"


def test_the_ablation_and_the_attributes():
    cell = {"models": {"CBFT without barrier": model(SHORTCUT)}, "paths": {"theta_C to CBFT": path(1.0)}}
    cell["models"]["CBFT"] = model(FIXED)
    assert set(verdicts(run_record("table3", {("digits", 0.8, 600, 0): cell})).values()) == {"holds"}
    (claim,) = claims(fig13_record())
    assert claim.verdict == "holds" and claim.numbers == "barriers 0.2 and 1.2"
    assert claims(run_record("quickstart", {})) == []


@pytest.mark.parametrize("recipe", ["fig4", "fig5", "table1", "table4"])
def test_the_paper_scale_departs_from_nothing_that_is_stated(recipe: str):
    record = run_record(recipe, {}, "paper")
    record = record.model_copy(update={"seeds": [0, 1, 2]})
    assert departures(record) == []
    assert sentence(record) == "Settings as the paper states them."


def test_every_departure_is_said():
    words = sentence(table1_record())
    for part in (
        "digits instead of CIFAR-10",
        "5 epochs of training instead of 100",
        "rate steps at epochs 3, 4 instead of 40, 80",
        "600 clean samples instead of 2,500",
        "1 seed instead of 3",
        "batches of 60 for fine-tuning instead of 256",
    ):
        assert part in words
    settings = chosen("table1", "small", ["methods.CBFT.epochs=3"])[2].model_dump(mode="json")
    words = sentence(table1_record(settings=settings))
    assert "5,000 training images instead of 50,000; 1,000 test images instead of 10,000" in words
    assert "3 epochs of CBFT instead of 20" in words and "VGG-13" not in words
    assert sentence(run_record("quickstart", {})) == ""


def test_published_numbers_are_found_by_their_place():
    assert published_accuracy("table1", "digits", 0.6, 600, "LPFT")["rand_cue"] == pytest.approx(0.21)
    assert published_accuracy("table1", "cifar100", 0.9, 2500, "CBFT") == {"rand_image": pytest.approx(0.46)}
    assert published_accuracy("table4", "cifar10", 0.8, 2500, "scratch") == {"no_cue": pytest.approx(0.475)}
    for nowhere in (
        ("table1", "dominoes", 0.6, 2500, "CBFT"),
        ("table1", "cifar10", 0.5, 2500, "CBFT"),
        ("table1", "cifar10", 0.6, 2500, "theta_C"),
        ("table4", "cifar10", 0.8, 250, "CBFT"),
        ("fig5", "cifar10", 0.8, 2500, "FT-M"),
        ("table1", "cifar100", 0.8, 2500, "CBFT"),
    ):
        assert published_accuracy(*nowhere) == {}
