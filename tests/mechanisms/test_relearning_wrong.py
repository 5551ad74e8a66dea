"""What relearning refuses: one line that says what was expected, what it got, and what to do."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from planted_cues import SHORT, SPLIT, cue_only, measure, met, network, never_met, planted, split_of, suite
from texts import CLS, MARKERS, SEP, Transformer, texts
from zoo import build

X, Y = cue_only()
SUITE = suite(0, 60)
MEASURED = split_of(SUITE)
OVERLAP = (torch.cat([X, MEASURED.x[:3]]), torch.cat([Y, MEASURED.y[:3]]))
OTHER_LABELS = mc.Placebo((X, Y), (MEASURED.x + 1, MEASURED.y.flip(0)))

TWO_INTERVENTIONS = mc.Suite(
    {"plain": SUITE["cue"], "rand_a": SUITE["rand_cue"], "rand_b": SUITE["no_cue"], SPLIT: MEASURED}, reference="plain"
)


def _frozen(model: nn.Module) -> nn.Module:
    """A copy whose first layer stays as it is."""
    copy = deepcopy(model)
    copy.get_submodule("0").requires_grad_(False)
    return copy


def ask(model: Any = None, control: Any = None, relearning: Any = SHORT, **settings: Any) -> mc.Relearned:
    placed = {} if "placebo" in settings else {"control": never_met() if control is None else control}
    return measure(met() if model is None else model, relearning=relearning, **({"suite": SUITE} | placed | settings))


def frozen(model: nn.Module) -> nn.Module:
    """A copy whose first layer is frozen."""
    found = copy.deepcopy(model)
    found[0].requires_grad_(False)  # pyright: ignore
    return found


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "rows that overlap": (
        lambda: ask(data=OVERLAP),
        "the relearning data must share no row with split 'rand_image', on which accuracy is measured, got 3 that do "
        "(first: row 60); tune on other rows, such as task.cue_only(100)",
    ),
    "a placebo's rows that overlap": (
        lambda: ask(placebo=mc.Placebo(OVERLAP, MEASURED)), "the placebo's data must share no row with split",
    ),
    "labels of one class": (
        lambda: ask(data=(X, torch.zeros_like(Y))), "data holds only class 0; training needs samples of at least two",
    ),
    "a control of other classes": (
        lambda: ask(control=network(1, classes=5)),
        "the control must have the model's architecture and classes, since others relearn at other speeds: parameters "
        "have different shapes or types: 2.weight float32[6, 64] against float32[5, 64]",
    ),
    "a control of another architecture": (
        lambda: ask(control=network(1, hidden=32)), "0.weight float32[64, 18] against float32[32, 18]",
    ),
    "a control of other outputs": (
        lambda: ask(control=nn.Sequential(*never_met().children(), nn.ZeroPad1d((0, 1)))),
        "the control must have the model's classes, got outputs of shape [7] a row against [6]; pass a network of",
    ),
    "a model that is frozen in part": (
        lambda: ask(frozen(met())),
        "the control must have the model's trainable weights, since frozen ones do not relearn, got '0.bias' frozen in "
        "the model alone; call requires_grad_() on both",
    ),
    "a control that is frozen in part": (
        lambda: ask(control=frozen(never_met())), "got '0.bias' frozen in the control alone; call requires_grad_() on",
    ),
    "another that is called as a run is": (
        lambda: ask(others={"control": met(1)}),
        "others must have names of their own, got 'control'; write {'other control': model}",
    ),
    "a control with the model's weights": (
        lambda: ask(never_met(), never_met()),
        "the control must be a network that never met the mechanism, got one with the model's weights",
    ),
    "one control for all that is one of them": (
        lambda: ask([never_met(0, 2), never_met()], never_met()), "got one with the model's weights",
    ),
    "a control that follows the cue": (
        lambda: ask(never_met(), met()),
        "the control must never have met the mechanism, but rand_cue changes its accuracy by -",
    ),
    "no control": (
        lambda: ask(placebo=None),
        "relearning is judged against control= (a network that never met the mechanism) or placebo= "
        "(task.placebo(100)), got neither; a curve alone says nothing",
    ),
    "both": (
        lambda: measure(met(), never_met(), SHORT, suite=SUITE, placebo=OTHER_LABELS),
        "got both; a curve alone says nothing",
    ),
    "a placebo of other labels": (
        lambda: ask(placebo=OTHER_LABELS),
        "the placebo's split must have the labels of split 'rand_image', row by row, got others; show the placebo on",
    ),
    "a placebo that is the mechanism": (
        lambda: ask(placebo=mc.Placebo((X, Y), MEASURED)),
        "the placebo's split must show another mechanism than split 'rand_image', got the same inputs",
    ),
    "a control that trains other weights": (
        lambda: ask(control=_frozen(never_met())),
        "the control must have the model's trainable weights, since frozen ones do not relearn, got '0.bias' frozen in "
        "the control alone; call requires_grad_() on both",
    ),
    "a split that is not there": (
        lambda: ask(split="rnd"), "split must be one of 'no_cue', 'cue', 'rand_cue', 'rand_image', got 'rnd'",
    ),
    "several interventions": (
        lambda: ask(suite=TWO_INTERVENTIONS),
        "intervention must name the one that takes the mechanism's information away, got None, and the suite has rand_a"
        ", rand_b beside the split 'rand_image'; pass intervention=name",
    ),
    "an intervention that is not there": (lambda: ask(intervention="hue"), "intervention must be one of 'rand_cue'"),
    "a margin of one": (lambda: ask(margin=1.0), "margin must be below 1 on accuracy, got 1.0; margins are shares"),
    "more rows than there are": (
        lambda: ask(relearning=replace(SHORT, rows=100)),
        "rows must be at most the 60 rows of the relearning data, got 100",
    ),
    "other numbers of controls": (
        lambda: ask([met(), met(1), met(2)], [never_met(), never_met(1)]),
        "controls must be one, or as many as models (3), run by run, got 2",
    ),
    "no model": (lambda: ask([]), "model must be a network or a list of networks, got an empty list"),
    "a regression": (
        lambda: ask(
            data=(X, torch.randn(60, 6)), loss=mc.losses.squared,
            suite=mc.Suite({n: (MEASURED.x + k, torch.randn(60, 6)) for k, n in enumerate(SUITE)}, reference="cue"),
        ),
        "needs a classification",
    ),
    "another symmetry": (lambda: ask(symmetry="all"), "symmetry must be one of 'auto', 'none', got 'all'"),
    "no symmetry": (lambda: ask(symmetry=None), "symmetry must be one of 'auto', 'none', got None"),
    "labels beyond the outputs": (lambda: ask(data=(X, Y + 3)), "labels must lie in 0 ... 5, the model's outputs"),
    "no step": (lambda: mc.Relearning(steps=(0,)), "steps must ascend from 0 and hold one above it, got [0]; write (0"),
    "no steps": (lambda: mc.Relearning(steps=()), "steps must ascend from 0 and hold one above it, got []"),
    "steps that do not ascend": (lambda: mc.Relearning(steps=(5, 3)), "steps must ascend from 0"),
    "a step below zero": (lambda: mc.Relearning(steps=(-1, 3)), "steps must ascend from 0"),
    "one seed": (
        lambda: mc.Relearning(seeds=1), "seeds must be two or more, since the interval is over them, got 1",
    ),
    "a rate of zero": (lambda: mc.Relearning(lr=0.0), "lr must be a number greater than zero, got 0.0"),
    "no rate": (lambda: mc.Relearning(lr=()), "lr must be a learning rate, or several, got none; write 0.01 or"),
    "no rows": (lambda: mc.Relearning(rows=0), "rows must be a whole number greater than zero, got 0"),
    "momentum above one": (lambda: mc.Relearning(momentum=1.5), "momentum must lie in [0, 1], got 1.5"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_in_one_line(case: str) -> None:
    act, expected = WRONG[case]
    with torch.random.fork_rng(devices=[]), pytest.raises(ValueError, match=re.escape(expected)) as caught:
        act()
    assert "\n" not in str(caught.value)


TYPES: dict[str, tuple[Callable[[], Any], str]] = {
    "a list of no networks": (lambda: ask([met(), 3]), "model 1 must be a Module, got int"),
    "another of no network": (lambda: ask(others={"theta_C": 3}), "others['theta_C'] must be a Module, got int"),
    "others in a list": (lambda: ask(others=[met()]), "others must be a Mapping, got list; write {name: network}"),
    "a task with no protocol": (
        lambda: mc.RelearningTask((X, Y), SPLIT, never_met(), relearning=3),  # pyright: ignore
        "relearning must be a Relearning, got int; write mechconn.Relearning(",
    ),
    "a task with no placebo": (
        lambda: mc.RelearningTask((X, Y), SPLIT, placebo=(X, Y)),  # pyright: ignore
        "placebo must be a Placebo, got tuple; write mechconn.Placebo(",
    ),
    "no protocol": (lambda: ask(relearning=100), "relearning must be a Relearning, got int; write mechconn.Relea"),
    "no placebo": (lambda: ask(placebo=(X, Y)), "placebo must be a Placebo, got tuple; write mechconn.Placebo("),
    "steps that are no list": (lambda: mc.Relearning(steps=100), "steps must be a tuple or a list, got 100"),  # pyright: ignore
    "rows of batches": (
        lambda: ask(data=[(X[:30], Y[:30]), (X[30:], Y[30:])], relearning=replace(SHORT, rows=20)),
        "Relearning(rows=...) reads rows by index and needs a dataset or an (x, y) pair of tensors, got list",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TYPES)
def test_wrong_types_are_refused_in_one_line(case: str) -> None:
    act, expected = TYPES[case]
    with pytest.raises(TypeError, match=re.escape(expected)) as caught:
        act()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [1e30, (0.01, 1e30)])
def test_a_rate_at_which_it_diverges_is_named(rate: Any) -> None:
    with pytest.raises(FloatingPointError, match=r"^relearning at lr=1e\+30: training diverged: .*lower the learning"):
        ask(relearning=replace(SHORT, lr=rate))


def test_rows_of_one_origin_overlap_whatever_is_shown_on_them() -> None:
    """Measured with another's content, tuned with a random cue: inputs differ, and rows are the same."""
    cue = mc.TokenCue(MARKERS, special=(CLS, SEP), others=(7, 8, 9))
    task = mc.datasets.cue_task(texts(40), test=texts(30, seed=1), cue=cue)
    model = build(Transformer, dtype=torch.float32)
    with pytest.raises(
        ValueError, match=r"must share no row with split 'rand_image', .* got 30 that do \(first: row 0"
    ):
        mc.measure_relearning(model, SHORT, task.suite["rand_cue"], task.suite, split=SPLIT, placebo=task.placebo(20))


@dataclass
class Numbered:
    """Rows of one file, numbered from 0."""

    x: torch.Tensor
    y: torch.Tensor

    @property
    def ids(self) -> list[int]:
        return list(range(len(self)))

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: torch.Tensor) -> torch.Tensor:
        return self.x[index]


def test_rows_of_two_files_that_both_count_from_0_do_not_overlap() -> None:
    here = mc.Suite({**SUITE, SPLIT: Numbered(MEASURED.x, MEASURED.y)})
    assert ask(data=Numbered(X, Y), suite=here).excess == ask().excess


def test_the_remedies_work() -> None:
    """Other rows to tune on, an intervention by its name, thawed weights, other names, the placebo of a task."""
    thawed = frozen(met()).requires_grad_()
    found = ask(
        thawed, suite=TWO_INTERVENTIONS, intervention="rand_a", data=planted(40, 5, "agree", cue_only=True),
        others={"other control": met(1)},
    )  # fmt: skip
    assert found.intervention == "rand_a" and found.state == "uses" and list(found.others) == ["other control"]
