"""Cues, interventions and losses, ours and a user's: pure functions of (row, seed) that leave their inputs alone.

A new one joins by its row in tests/data_contract.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from data_contract import CUES, IDS, INTERVENTIONS, LOSSES, ROWS, assert_cue, assert_intervention, assert_loss, images
from mechconn.core import list_kinds, name_kind
from mechconn.datasets import Cue, CuedSet, make_cue, make_cue_suite, make_cued_set
from mechconn.interventions import Intervention
from mechconn.losses import Loss, as_loss, read_loss
from user_defined_data import Brighten, Pinball, StripeCue
from zoo import build


@pytest.mark.parametrize("name", CUES)
def test_a_cue_is_a_pure_function_of_row_and_seed(name: str) -> None:
    cue, data = CUES[name]
    assert_cue(cue, data)


@pytest.mark.parametrize("name", CUES)
def test_every_cue_makes_a_suite(name: str) -> None:
    cue, data = CUES[name]
    scenes = make_cued_set(data, cue)
    suite = make_cue_suite(scenes, seed=1, draws=2)
    assert list(suite) == ["no_cue", "cue", "rand_cue", "rand_image"]
    for split in suite.values():
        assert isinstance(split, CuedSet) and torch.equal(split.y, data.y)
    half = scenes.with_proportion(0.5, seed=1)
    agreeing = cue.agreeing(data.y, half.ids, 1)
    carries = (half.cue_values == agreeing).view(ROWS, -1).all(1)
    plain = (half.cue_values == cue.absent(ROWS)).view(ROWS, -1).all(1)
    assert bool((carries | plain).all()) and bool(carries.any())


@pytest.mark.parametrize("name", CUES)
def test_variants_and_the_placebo_are_cues_of_the_same_labels(name: str) -> None:
    cue, data = CUES[name]
    others = dict(cue.variants())
    if name not in ("PlantedCue", "TokenCue", "MarkCue"):
        others["placebo"] = cue.placebo()
        assert others["placebo"] not in (cue, *cue.variants().values()) or name == "TokenCue, other markers"
    assert others or name in ("PlantedCue", "MarkCue")
    plain = cue.render(data.inputs(torch.arange(ROWS)), cue.agreeing(data.y, IDS, 0))
    for other in others.values():
        assert type(other) is type(cue) and other != cue
        assert_cue(other, data)
        shown = other.render(data.inputs(torch.arange(ROWS)), other.agreeing(data.y, IDS, 0))
        first, second = (x["input_ids"] if isinstance(x, dict) else x for x in (plain, shown))
        assert first.shape == second.shape and not torch.equal(first, second)


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_an_intervention_is_a_pure_function_of_row_and_seed(name: str) -> None:
    intervention, data = INTERVENTIONS[name]
    assert_intervention(intervention, data)


def _has_no_default(part: Field[Any]) -> bool:
    return part.init and part.default is MISSING and part.default_factory is MISSING


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_an_intervention_is_the_same_by_its_name(name: str) -> None:
    """As a configuration names it, with the defaults of its options."""
    kind, data = type(INTERVENTIONS[name][0]), INTERVENTIONS[name][1]
    needed = {
        part.name: getattr(INTERVENTIONS[name][0], part.name)
        for part in fields(cast(Any, kind))
        if _has_no_default(part)
    }
    named = {"name": name_kind(kind), **needed}
    prepared = kind(**needed).prepare(data)
    # Rows that show something of each other are drawn once.
    draws = 2 if prepared.list_partners(prepared.draw(torch.arange(ROWS), 0)) is None else 1
    suites = [mc.intervened(data, {"moved": given}, seed=2, draws=draws) for given in (kind(**needed), named)]
    for first, second in zip(*(suite.draws_of("moved").values() for suite in suites), strict=True):
        assert isinstance(first, mc.IntervenedSet) and isinstance(second, mc.IntervenedSet)
        assert torch.equal(first.latents[0][1], second.latents[0][1])
        assert first.latents[0][0] == second.latents[0][0]


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_function_of_each_row(name: str) -> None:
    row = LOSSES[name]
    assert_loss(row.loss, row.outputs, row.targets)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_read_back_from_what_records_hold(name: str) -> None:
    row = LOSSES[name]
    again = read_loss(as_loss(row.loss).describe())
    assert torch.equal(again(row.outputs, row.targets), as_loss(row.loss)(row.outputs, row.targets))


@pytest.mark.parametrize("name", [name for name in LOSSES if "user" in name])
def test_verbs_take_a_users_loss(name: str) -> None:
    """Its mean falls where it is descended, and is what is measured."""
    row = LOSSES[name]
    x = row.outputs.float() + 1.0
    model = build(lambda: nn.Linear(x.shape[1], x.shape[1]), dtype=torch.float32)
    targets = row.targets if row.targets.dtype == torch.int64 else row.targets.float()
    trained = mc.train(model, (x, targets), mc.Training(epochs=5, lr=0.1), loss=row.loss).model
    suite = mc.Suite({"cue": (x, targets)}, interventions=())
    losses = [mc.measure_invariance(net, suite, on="loss", loss=row.loss).loss["cue"] for net in (model, trained)]
    assert losses[0] is not None and losses[1] is not None and losses[1] < losses[0]
    assert losses[0] == pytest.approx(as_loss(row.loss)(model(x), targets).mean().item(), rel=1e-5)


class _TwoShapes(StripeCue):
    def absent(self, count: int) -> Tensor:
        return torch.full((count, 2), -1)


class _OneRow(StripeCue):
    def render(self, x: Tensor, values: Tensor) -> Tensor:
        return x[:1]


class _OneStrength(Brighten):
    def draw(self, index: Tensor, seed: int) -> Tensor:
        return torch.zeros(1)


WRONG_PARTS: dict[str, tuple[Callable[[], object], str]] = {
    "random numbers of the global generator": (
        lambda: make_cued_set(images(), _GlobalDraw()),
        "_GlobalDraw.random gives other values when it is called again; draw by mechconn.core.draw_integers(index, ",
    ),
    "pictures that are written into": (
        lambda: make_cued_set(images(), _InPlace()),
        "_InPlace.render writes into its inputs; draw on a copy, x = x.clone()",
    ),
    "values of two shapes": (
        lambda: make_cued_set(images(), _TwoShapes()),
        "values of _TwoShapes must have one number type and one shape with a row for each sample, got agreeing [3] "
        "torch.int64, random [3] torch.int64, absent [3, 2] torch.int64",
    ),
    "other rows": (
        lambda: make_cued_set(images(), _OneRow()),
        "_OneRow.render must return the 3 rows that it got, got 1",
    ),
    "a strength too few": (
        lambda: _OneStrength()(images()),
        "_OneStrength.draw must return a strength for each of the 12 entries of index, in the first axis, got",
    ),
}


@pytest.mark.parametrize("what", WRONG_PARTS)
def test_a_users_part_that_breaks_the_contract_is_refused_where_it_is_used(what: str) -> None:
    call, text = WRONG_PARTS[what]
    with pytest.raises(ValueError) as raised:
        call()
    assert str(raised.value).startswith(text) and "\n" not in str(raised.value)


def test_objectives_are_a_list_of_functions_that_name_their_terms() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Own(mc.descent.Descent):
        found: Any = None

        def objectives(self, problem: Any) -> Any:
            return self.found(problem)

    data, model = (torch.ones(8, 2), torch.arange(8.0)), build(lambda: nn.Linear(2, 1), dtype=torch.float32)
    wrong = {
        "objectives must be a tuple or a list, got <function": lambda problem: lambda step: {},
        "what an objective returns must be a Mapping, got Tensor; return the terms of the loss by name": (
            lambda problem: [lambda step: problem.risk(step.clean)]
        ),
    }
    for text, found in wrong.items():
        with pytest.raises(TypeError) as raised:
            mc.fine_tune(model, Own(epochs=1, found=found), clean=data, loss=mc.losses.squared)
        assert str(raised.value).startswith(text)


# ---------------------------------------------------------------- by name


def test_a_users_cue_is_named_in_tasks_recipes_and_the_command_line_alike() -> None:
    name = "user_defined_data:StripeCue"
    assert name_kind(StripeCue) == name
    assert make_cue({"name": name, "brightness": 0.5}, images()) == StripeCue(brightness=0.5)
    task = mc.datasets.cue_task(images(), cue=name, test=images(), seed=0)
    test = task.suite["cue"]
    assert isinstance(test, CuedSet) and task.train.cue == test.cue == StripeCue()
    shown = test.inputs(torch.arange(ROWS))
    assert all(bool((shown[row, :, :, label] == 1.0).all()) for row, label in enumerate(images().y.tolist()))


WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "a cue that is not there": (
        lambda: make_cue("stripes", images()),
        ValueError,
        r"^cue must be one of .*'box', .*or a class of your own as 'package\.module:Class', got 'stripes'",
    ),
    "an option that is not there": (
        lambda: make_cue({"name": "box", "sise": 3}, images()),
        ValueError,
        r"^cue 'box' has no option 'sise'; it has size, colour, values, shift; did you mean 'size'\?$",
    ),
    "an option that is needed": (
        lambda: make_cue("token", images()),
        ValueError,
        r"^cue TokenCue needs tokens; write a table, \{name = \.\.\., tokens = \.\.\.\}$",
    ),
    "no cue at all": (
        lambda: make_cue("user_defined_data:Brighten", images()),
        TypeError,
        r"^cue 'Brighten' must be a subclass of mechconn\.Cue, got a ABCMeta$",
    ),
    "a cue for other data": (
        lambda: mc.datasets.cue_task(CUES["TokenCue"][1], cue="box"),
        TypeError,
        r"^BoxCue is drawn on images, but the training data are a TokenSet; texts take cue=TokenCue\(",
    ),
    "planted cues on images": (
        lambda: make_cue("planted", images()),
        TypeError,
        r"^PlantedCue is drawn on samples of a Planted generator, got ImageSet$",
    ),
    "a loss for an intervention": (
        lambda: mc.intervened(images(), {"blur": "user_defined_data:Pinball"}),
        ValueError,
        r"^the intervention 'blur' Pinball needs share",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_name_must_not_mean(what: str) -> None:
    call, error, text = WRONG[what]
    with pytest.raises(error, match=text):
        call()


# ---------------------------------------------------------------- the tables are complete, and the checks can fail


@pytest.mark.parametrize(("base", "rows"), [(Cue, CUES), (Intervention, INTERVENTIONS)])
def test_every_kind_has_a_row(base: type, rows: dict[str, tuple[Any, Any]]) -> None:
    kinds = {type(row) for row, _ in rows.values()}
    assert set(list_kinds(base, built_in=True).values()) <= kinds
    assert len(kinds) > len(list_kinds(base, built_in=True))


def test_every_loss_has_a_row() -> None:
    kinds = {type(as_loss(row.loss)) for row in LOSSES.values()}
    assert set(list_kinds(Loss, built_in=True).values()) <= kinds and Pinball in kinds


@dataclass(frozen=True)
class _GlobalDraw(StripeCue):
    def random(self, index: Tensor, seed: int) -> Tensor:
        return torch.randint(0, 3, (len(index),))


@dataclass(frozen=True)
class _InPlace(StripeCue):
    def render(self, x: Tensor, values: Tensor) -> Tensor:
        return x.mul_(2.0)


@dataclass(frozen=True)
class _BatchOrder(Brighten):
    def draw(self, index: Tensor, seed: int) -> Tensor:
        return torch.rand(len(index), generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class _OtherRows(Brighten):
    def apply(self, x: Tensor, values: Tensor) -> Tensor:
        return x - x.mean(0)


BROKEN: dict[str, Callable[[], None]] = {
    "a cue that draws from the global generator": lambda: assert_cue(_GlobalDraw(), images()),
    "a cue that writes into the images": lambda: assert_cue(_InPlace(), images()),
    "draws by place in the batch": lambda: assert_intervention(_BatchOrder(), images()),
    "rows that see each other": lambda: assert_intervention(_OtherRows(), images()),
    "one loss for a batch": lambda: assert_loss(lambda z, y: (z[:, 0] - y).square().mean(), *_squares()),
    "a loss that does not depend on outputs": lambda: assert_loss(lambda z, y: y * 1.0 + 0 * z[:, 0], *_squares()),
}


def _squares() -> tuple[Tensor, Tensor]:
    return LOSSES["Squared"].outputs, LOSSES["Squared"].targets


@pytest.mark.parametrize("what", BROKEN)
def test_the_contract_sees_what_breaks_it(what: str) -> None:
    with pytest.raises(AssertionError):
        BROKEN[what]()
