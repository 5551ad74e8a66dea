from dataclasses import replace

from mechconn.paper import CellPath
from mechconn.paper._findings import write_findings
from run_records import PLACE, cue_result, model, path, quickstart_record


def test_each_verdict_has_its_own_words():
    said = dict(zip(("theta_C", "theta_NC", "FT-M", "CBFT", "path", "caveat"), told(), strict=True))
    assert said["theta_C"].startswith("theta_C relies on the cue")
    assert said["theta_NC"].startswith("theta_NC is invariant to the cue")
    assert said["CBFT"].startswith("CBFT may or may not rely on the cue")
    assert "margin 5; about 400 samples like these would settle it)" in said["CBFT"]
    assert "margin 5)" in said["theta_NC"]
    assert "Whether it reads the image is not settled" in said["FT-M"]
    assert "from 99.0\N{NO-BREAK SPACE}% to 20.0\N{NO-BREAK SPACE}% (-79.0 points" in said["theta_C"]


def test_a_model_that_a_random_cue_helps_is_not_said_to_rely_on_it():
    shunning = {"no_cue": 0.8, "cue": 0.5, "rand_cue": 0.7, "rand_image": 0.05}
    sentence, *_ = write_findings(cue_result(PLACE, {"CBFT": model(shunning)}))
    assert sentence.startswith("CBFT responds to the cue, but is not helped by it")
    assert "+20.0 points" in sentence


def test_a_barrier_is_named_with_its_place_and_is_no_proof():
    *_, walked, caveat = told()
    assert "is not mechanistically connected" in walked
    assert (
        "0.40 nats on NC (t = 0.5, 95 % interval 0.40 to 0.40), 0.40 nats on C (t = 0.5, 95 % interval 0.40 to 0.40)"
        in walked
    )
    assert "conjecture" in caveat


def test_what_is_not_settled_is_said_to_be_so():
    *_, walked, caveat = told(path(0.205, 0.195))
    assert "may or may not be mechanistically connected" in walked
    assert "0.20 nats on C (t = 0.5, 95 % interval 0.01 to 0.40)" in walked
    assert "conjecture" in caveat


def test_no_barrier_is_no_proof_either():
    *_, walked, caveat = told(path(0.0))
    assert "none on NC" in walked
    assert "mechanistically connected at these points: on the cue data and on every intervention" in walked
    assert "does not prove one mechanism" in caveat


def told(found: CellPath | None = None) -> list[str]:
    (result,) = quickstart_record().cue_results
    return write_findings(replace(result, paths=(found or path(0.4),), relearned={}))
