"""How to compute is one value: what it holds, its shorthands, and what every result records of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import build, mlp, rows

SUITE = mc.Suite({"cue": rows(40), "rand_cue": rows(40, 2)})


def measured(**how: Any) -> mc.Invariance:
    return mc.measure_invariance(build(mlp), SUITE, **how)


def along(**how: Any) -> mc.Profile:
    path = mc.LinearPath(mc.parameters_of(build(mlp, 1)), mc.parameters_of(build(mlp, 2)))
    return mc.evaluate_path(build(mlp), path, SUITE, 3, **how)


@pytest.mark.parametrize("verb", [measured, along])
def test_shorthands_equal_the_value(verb: Callable[..., Any]) -> None:
    told: tuple[list[mc.ProgressEvent], list[mc.ProgressEvent]] = [], []
    short = verb(device="cpu", progress=told[0].append)
    whole = verb(compute=mc.Compute("cpu", progress=told[1].append))
    assert short == whole and told[0] == told[1] != []


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"compute": mc.Compute("cpu"), "device": "cpu"}, "device stand"),
        ({"compute": mc.Compute(progress=print), "progress": True}, "progress stand"),
        ({"compute": mc.Compute("cpu", progress=True), "device": "cpu", "progress": True}, "device and progress stand"),
    ],
)
def test_one_thing_given_twice_is_refused(how: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text} in compute=.* leave one of them out$"):
        measured(**how)


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({"precision": "float32"}, ValueError, "write 'model'"),
        ({"precision": "autp"}, ValueError, "must be one of 'model', 'auto', got 'autp'; did you mean 'auto'"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 2.5}, ValueError, "batch_size must be a whole number"),
        ({"progress": 3}, TypeError, "a function of one mechconn.ProgressEvent, True for a bar, or None, got int"),
    ],
)
def test_what_is_no_way_to_compute_is_refused(how: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        mc.Compute(**how)


def test_another_thing_in_place_of_the_value_is_refused() -> None:
    with pytest.raises(TypeError, match="compute"):
        measured(compute="auto")


SIZES: list[int] = []


class Counting(nn.Module):
    """A linear map that notes the sizes of its batches, also where it is copied."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        SIZES.append(len(x))
        return self.map(x)


def counted(batch_size: int | None, verb: Callable[..., Any]) -> tuple[Any, list[int]]:
    SIZES.clear()
    found = verb(build(Counting), mc.Compute(batch_size=batch_size))
    return found, list(SIZES)


VERBS: dict[str, Callable[[nn.Module, mc.Compute], Any]] = {
    "measure_invariance": lambda model, how: mc.measure_invariance(model, SUITE, compute=how).loss["cue"],
    "measure_groups": lambda model, how: mc.measure_groups(model, rows(40), [0, 1] * 20, compute=how).mean,
    "output_discrepancy": lambda model, how: mc.output_discrepancy(model, build(Counting, 5), SUITE, compute=how).mean,
    "representation_similarity": lambda model, how: mc.representation_similarity(
        model, build(Counting, 5), rows(40), compute=how
    )["map"],
    "probe": lambda model, how: (
        mc.probe(model, rows(40), layers=["map"], fresh=False, compute=how).scores["model"]["map"].fitted
    ),
    "measure_neighbours": lambda model, how: (
        mc.measure_neighbours(model, rows(40), {"label": "label"}, layer="map", compute=how)["label"].share
    ),
    "evaluate_path": lambda model, how: mc.evaluate_path(
        model, mc.LinearPath(mc.parameters_of(model), mc.parameters_of(build(Counting, 5))), SUITE, 2, compute=how
    ).loss["cue"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_batch_size_changes_the_batches_alone(verb: str) -> None:
    (whole, few), (parts, many) = counted(None, VERBS[verb]), counted(16, VERBS[verb])
    assert set(few) == {40} and set(many) == {16, 8} and sum(few) == sum(many) and len(many) == 3 * len(few)
    assert parts == pytest.approx(whole, rel=1e-12)  # sums of float64 in another order


def test_validation_is_read_in_batches_of_the_size_asked_for() -> None:
    def trained(model: nn.Module, how: mc.Compute) -> mc.Trained:
        method = mc.NaiveFineTuning(epochs=1, batch_size=40)
        return mc.fine_tune(model, method, clean=rows(40), validation=rows(30, 3), compute=how)

    (whole, few), (parts, many) = counted(None, trained), counted(16, trained)
    assert (few[-1:], many[-2:]) == ([30], [16, 14])
    assert whole.history[0]["validation"] == pytest.approx(parts.history[0]["validation"], rel=1e-12)
    assert parts.settings["batch_size"] == 40 and parts.settings["evaluation_batch_size"] == 16


def test_every_result_says_how_it_was_computed() -> None:
    a, b, how = build(mlp), build(mlp, 1), mc.Compute(batch_size=16)
    record = {"device": "cpu", "precision": "float64", "batch_size": 16}
    measured = mc.measure_invariance(a, SUITE, compute=how)
    found = [
        measured.compute,
        mc.compare_mechanisms(a, b, SUITE, compute=how).b.compute,
        mc.measure_groups(a, rows(40), [0, 1] * 20, compute=how).compute,
        mc.output_discrepancy(a, b, SUITE, compute=how).compute,
        mc.representation_similarity(a, b, rows(40), compute=how).compute,
        mc.probe(a, rows(40), control=b, compute=how).compute,
        mc.measure_neighbours(a, rows(40), {"label": "label"}, compute=how).compute,
        mc.mechanism_map({"a": a, "b": b}, SUITE, ts=3, compute=how).compute,
    ]
    assert found == [record] * len(found) and measured.to_dict()["compute"] == record
    whole = mc.audit(a, b, SUITE, ts=3, alignment="none", compute=how)
    symmetry = mc.symmetry_of(b, rows(2)[0])
    settings = [
        along(compute=how).settings,
        whole.settings,
        whole.paths["before"].settings,
        mc.align(a, b, mc.WeightMatching(1), symmetry, compute=how).settings,
    ]
    assert all({name: held[name] for name in record} == record for held in settings)
    assert "'batch_size': 16" in str(whole.to_dict()["comparison"]["a"]["compute"])


def test_training_reports_typed_events() -> None:
    told: list[mc.ProgressEvent] = []
    trained = mc.train(build(mlp), rows(20), mc.Training(epochs=2, batch_size=10), progress=told.append)
    assert [(event.stage, event.done, event.total) for event in told] == [("training", 1, 2), ("training", 2, 2)]
    assert [event.terms for event in told] == [{"clean": record["clean"]} for record in trained.history]
    assert str(told[0]) == f"training (clean {trained.history[0]['clean']:.3g})"


def test_true_writes_a_line_a_stage_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    along(progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and shown.err.endswith(" s  evaluating the path\n")
    along(progress=False)
    assert capsys.readouterr().err == ""


def test_true_draws_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    model, method = build(mlp), mc.Training(epochs=2, batch_size=10)
    mc.train(model, rows(20), method, compute=mc.Compute(progress=True))
    lines = capsys.readouterr().err.split("\r")
    assert [line.count("training (clean ") for line in lines] == [0, 1, 1]
    assert "1/2" in lines[1] and "2/2" in lines[2]
    assert "\n" not in lines[1] and lines[2].endswith("\n") and "?25l" not in "".join(lines)  # the cursor stays


def test_points_of_a_path_and_means_take_the_value() -> None:
    ends = [build(mlp, seed) for seed in (1, 2)]
    path = mc.LinearPath(*(mc.parameters_of(end) for end in ends))
    found = [
        mc.model_at(ends[0], path, 0.5, compute=mc.Compute("cpu")),
        mc.model_at(ends[0], path, 0.5, device="cpu"),
        mc.soup(ends, compute=mc.Compute("cpu")),
    ]
    states = [model.state_dict() for model in found]
    assert all(torch.equal(states[0][name], state[name]) for state in states for name in states[0])
