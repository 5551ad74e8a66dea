"""Relearning and probes in an audit: planted truth, what it says and saves, and what it refuses."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from hidden_cues import PLACEBO as SHOWN
from hidden_cues import QUICK, SPLITS, TUNED, draw, make_models, net, trained
from mechconn.plotting import Examples
from zoo import build

NAMES = ("first", "second")
MEASURED = draw(**SPLITS["rand_image"])
SUITE = mc.Suite(
    {**{name: draw(**how) for name, how in SPLITS.items()}, "rand_image": MEASURED},
    reference="cue",
    interventions=("rand_cue",),
)
ONLY_CUE = draw(**TUNED)
PLACEBO = mc.Placebo(*(draw(**how) for how in SHOWN.values()))


def task(control: nn.Module | None = None, **more: Any) -> mc.RelearningTask:
    return mc.RelearningTask(**{"data": ONLY_CUE, "split": "rand_image", "relearning": QUICK, **more}, control=control)


@pytest.fixture(scope="module")
def models() -> tuple[nn.Module, nn.Module, nn.Module]:
    return make_models()


@pytest.fixture(scope="module")
def found(models: tuple[nn.Module, nn.Module, nn.Module]) -> mc.Audit:
    uses, hides, never = models
    asked = mc.ProbeTask(MEASURED, layers=["0", "input of 2"])
    return mc.audit(uses, hides, SUITE, ts=3, names=NAMES, relearn=task(never), probe=asked)


def test_the_one_uses_and_the_other_hides(found: mc.Audit) -> None:
    assert {name: own.state for name, own in found.relearned.items()} == {"first": "uses", "second": "hidden"}
    assert found.headline.endswith("first uses the cue and second hides the cue.")
    assert found.headline.startswith(found.comparison.headline) and found.header().title == found.headline


def test_parts_are_those_of_the_verbs(models: tuple[nn.Module, nn.Module, nn.Module], found: mc.Audit) -> None:
    *audited, never = models
    for name, model in zip(NAMES, audited, strict=True):
        alone = mc.measure_relearning(model, QUICK, ONLY_CUE, SUITE, split="rand_image", control=never)
        assert found.relearned[name].to_dict() == replace(alone, examples=Examples()).to_dict()
        read = mc.probe(model, MEASURED, control=never, layers=["0", "input of 2"])
        assert found.probes[name].to_dict() == read.to_dict()


def test_sentences_say_what_the_numbers_are(found: mc.Audit) -> None:
    text = str(found)
    run = found.relearned["second"].runs[0]
    low, high = (f"{100 * bound:+.1f}" for bound in run.interval)
    assert f"its excess over its control is {100 * run.excess:+.1f} points ({low} to {high}): hidden." in text
    assert "another run of the same recipe may differ." in text and "lists of models" not in text
    score = found.probes["second"].scores["control"]["input of 2"]
    assert f"{100 * score.accuracy:.1f} % of control (" in text and "A probe reads the label off input of 2 on" in text
    assert "Whether it is used, interventions say." in text


def test_it_is_recorded_saved_and_shown(found: mc.Audit, tmp_path: Path) -> None:
    assert found.settings["relearning"] == {
        **QUICK.settings(), "data_rows": 60, "split": "rand_image", "intervention": "rand_cue", "margin": 0.05,
        "against": "control",
    }  # fmt: skip
    assert found.settings["probe"]["layers"] == ["0", "input of 2"]
    found.save(tmp_path / "audit.json")
    again = mc.load_result(tmp_path / "audit.json")
    assert again.to_dict() == found.to_dict() and str(again) == str(found)
    mc.save_report(again, tmp_path / "audit.html")
    page = html.unescape((tmp_path / "audit.html").read_text(encoding="utf-8"))
    for text in (
        found.headline,
        "Gone or hidden",
        "What the features of first hold",
        "What the features of second hold",
    ):
        assert text in page
    (section,) = [own for own in found.sections() if own.title == "Gone or hidden"]
    means = found.relearned["first"].runs[0].against.means
    assert section.tables[0].rows[0][-1] == f"{100 * means[-1]:.1f}" and "lists of models" not in section.text


def test_an_audit_saved_before_has_none(found: mc.Audit) -> None:
    saved = {key: value for key, value in found.to_dict().items() if key not in ("relearned", "probes")}
    again = mc.load_result(saved)
    assert isinstance(again, mc.Audit)
    assert (again.relearned, again.probes) == ({}, {}) and again.headline == found.comparison.headline


def test_one_that_never_met_the_cue_lacks_it(models: tuple[nn.Module, nn.Module, nn.Module]) -> None:
    lacks = trained(build(net, 3), 13, cue="random")
    found = mc.audit(models[1], lacks, SUITE, ts=3, alignment="none", names=NAMES, relearn=task(models[2]))
    assert {name: own.state for name, own in found.relearned.items()} == {"first": "hidden", "second": "gone"}
    assert found.headline.endswith("first hides the cue and second lacks the cue.")


def test_with_a_placebo_each_is_its_own_control(models: tuple[nn.Module, nn.Module, nn.Module]) -> None:
    """Of networks with 64 units a side, whose features of the cue are stronger than those of a mark never met."""
    asked = mc.RelearningTask(ONLY_CUE, "rand_image", placebo=PLACEBO, relearning=QUICK)
    found = mc.audit(models[0], models[1], SUITE, ts=3, alignment="none", names=NAMES, relearn=asked, on="loss")
    for name, model in zip(NAMES, models[:2], strict=True):
        alone = mc.measure_relearning(model, QUICK, ONLY_CUE, SUITE, split="rand_image", placebo=PLACEBO)
        assert found.relearned[name].to_dict() == replace(alone, examples=Examples()).to_dict()
    assert found.relearned["second"].compared_with == "placebo" and "weaker than a control" in str(found)
    (section,) = [own for own in found.sections() if own.title == "Gone or hidden"]
    assert "placebo" in section.text


def test_progress_counts_every_copy(models: tuple[nn.Module, nn.Module, nn.Module]) -> None:
    events: list[tuple[str, int, int | None]] = []
    mc.audit(
        *models[:2], SUITE, ts=3, alignment="none", relearn=task(models[2]), probe=mc.ProbeTask(MEASURED),
        progress=lambda event: events.append((event.stage, event.done, event.total)),
    )  # fmt: skip
    assert [event for event in events if event[0] == "relearning"] == [("relearning", n, 6) for n in range(1, 7)]
    assert any(stage.startswith("probing") for stage, *_ in events)


Case = tuple[Callable[[Any], dict[str, Any]], str]
MISTAKES: dict[str, Case] = {
    "rows that are measured": (
        lambda never: {"relearn": task(never, data=(MEASURED[0][:50], MEASURED[1][:50]))},
        "the relearning data must share no row with split 'rand_image', on which accuracy is measured, got 50",
    ),
    "rows of one class": (
        lambda never: {"relearn": task(never, data=(ONLY_CUE[0], torch.zeros(60, dtype=torch.long)))},
        "relearning data holds only class 0; training needs samples of at least two classes",
    ),
    "rows of other classes": (
        lambda never: {"relearn": task(never, data=(ONLY_CUE[0], ONLY_CUE[1] + 1))},
        "split 'relearning data': labels must lie in 0 ... 1, the model's outputs, got 1 ... 2",
    ),
    "more rows than there are": (
        lambda never: {"relearn": task(never, relearning=mc.Relearning(rows=90))},
        "rows must be at most the 60 rows of the relearning data, got 90",
    ),
    "no such split": (
        lambda never: {"relearn": task(never, split="rand_imag")},
        "split must be one of 'cue', 'rand_cue', 'rand_image', got 'rand_imag'; did you mean 'rand_image'?",
    ),
    "neither": (lambda _: {"relearn": task()}, "placebo= (task.placebo(100)), got neither"),
    "both": (lambda never: {"relearn": task(never, placebo=PLACEBO)}, "placebo= (task.placebo(100)), got both"),
    "one name": (
        lambda never: {"relearn": task(never), "names": ("a", "a")},
        "names must differ where relearning, probes or groups are asked for, got 'a' twice",
    ),
    "a layer that does not exist": (
        lambda _: {"probe": mc.ProbeTask(MEASURED, layers=["9"])},
        "a layer of model must be one of '0', '1', '2', 'input of 0', 'input of 2', got '9'",
    ),
    "a target of one class": (
        lambda _: {"probe": mc.ProbeTask(MEASURED, torch.zeros(400))},
        "target is '0' in all 400 rows, and a probe tells classes apart; give two or more",
    ),
    "a target of other rows": (lambda _: {"probe": mc.ProbeTask(MEASURED, [0, 1])}, "400"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_is_wrong_is_one_line_before_the_work(models: tuple[nn.Module, nn.Module, nn.Module], case: str) -> None:
    make, text = MISTAKES[case]
    stages: set[str] = set()
    with pytest.raises(ValueError) as raised:
        mc.audit(
            *models[:2], SUITE, **{"names": NAMES, **make(models[2])},
            progress=lambda event: stages.add(event.stage),
        )  # fmt: skip
    assert text in str(raised.value) and "\n" not in str(raised.value)
    assert not stages & {"comparing mechanisms", "relearning", "evaluating the path"}


CONTROLS: dict[str, tuple[Callable[[tuple[nn.Module, ...]], nn.Module], list[str]]] = {
    "B itself": (
        lambda models: models[1],
        ["the control of second must be a network that never met the mechanism, got one with the model's weights"],
    ),
    "one that uses the cue": (
        lambda models: models[0],
        [
            f"the control of {name} must never have met the mechanism, but rand_cue changes its accuracy by "
            for name in NAMES
        ],
    ),
    "one of other classes": (
        lambda _: build(lambda: net(classes=3), 0),
        [rf"the control of {name} must have the model's .*classes" for name in NAMES],
    ),
    "one of another width": (
        lambda _: build(lambda: net(width=5), 0),
        [rf"the control of {name} must .* the model's architecture" for name in NAMES],
    ),
}


@pytest.mark.parametrize("case", CONTROLS)
def test_a_control_is_refused_for_each_side_by_itself(
    models: tuple[nn.Module, nn.Module, nn.Module], case: str
) -> None:
    make, expected = CONTROLS[case]
    with pytest.raises(ValueError) as raised:
        mc.audit(*models[:2], SUITE, names=NAMES, relearn=task(make(models)))
    lines = str(raised.value).splitlines()
    assert len(lines) == len(expected) and all(map(re.match, expected, lines))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("asked", [{"relearn": ONLY_CUE}, {"probe": MEASURED}])
def test_another_type_is_refused(models: tuple[nn.Module, nn.Module, nn.Module], asked: dict[str, Any]) -> None:
    name = "RelearningTask" if "relearn" in asked else "ProbeTask"
    with pytest.raises(TypeError, match=rf"write mechconn\.{name}\("):
        mc.audit(*models[:2], SUITE, **asked)


def test_relearning_needs_a_classification() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    data = {name: (x + shift, x[:, :1]) for shift, name in enumerate(("cue", "rand_cue", "rand_image"))}
    pair = [build(lambda: net(classes=1), seed) for seed in range(2)]
    asked = mc.RelearningTask((x + 5, x[:, :1]), "rand_image", pair[1], relearning=QUICK)
    with pytest.raises(ValueError, match="relearning of A needs a classification"):
        mc.audit(pair[0], pair[1], mc.Suite(data, "cue"), on="loss", loss=mc.losses.squared, relearn=asked)
