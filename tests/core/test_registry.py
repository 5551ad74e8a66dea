"""Classes that files name: found where they are defined, in this package and in modules of the user's."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

import mechconn as mc
from mechconn.alignment import AlignmentMethod
from mechconn.core import (
    Config,
    OneOf,
    Registered,
    _registry,
    build_named,
    find_kind,
    list_kinds,
    name_kind,
    read_config,
)
from mechconn.datasets import make_cued_set
from mechconn.datasets._cue import make_cue, read_cue  # reached by configurations alone
from mechconn.losses import read_loss
from mechconn.paper import PathSettings
from mechconn.paths import PathFit
from user_defined import SineFit
from zoo import build, mlp, rows

MATCHING = mc.WeightMatching()


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of this test alone, so that its wrong classes are found by no other; there is no public way."""
    monkeypatch.setattr(_registry, "_REGISTERED", dict(_registry._REGISTERED))


class Family(Registered, abc.ABC):
    @abc.abstractmethod
    def act(self) -> None: ...


class Own(Family, name="own"):
    def act(self) -> None: ...


class _Hidden(Family):
    def act(self) -> None: ...


class Partial(Family):
    """It leaves `act` to its subclasses."""


def test_subclasses_are_registered_where_they_are_defined() -> None:
    assert list_kinds(Family) == {"own": Own} and find_kind("kind", Family, "own") is Own
    assert {"BezierFit", "PolygonalFit", "SineFit"} <= set(list_kinds(PathFit))
    assert list(list_kinds(PathFit, built_in=True)) == ["BezierFit", "PolygonalFit"]


def test_a_class_that_is_defined_again_takes_the_place_of_the_first() -> None:
    def define() -> type[Family]:
        class Again(Family):
            def act(self) -> None: ...

        return Again

    first, second = define(), define()
    assert first is not second and list_kinds(Family)["Again"] is second


def test_our_own_class_keeps_its_name_and_others_of_that_name_are_named_in_full() -> None:
    class BezierFit(PathFit):
        """Nothing but the name."""

        def curve(self, a, b, controls, origin=None):
            raise NotImplementedError

    known = list_kinds(PathFit)
    assert known["BezierFit"] is mc.BezierFit
    assert known[f"{__name__}:{BezierFit.__qualname__}"] is BezierFit


@pytest.mark.usefixtures("own_registry")
def test_a_name_that_two_classes_of_the_users_share_is_ambiguous() -> None:
    def define(module: str) -> type[Family]:
        class Twice(Family, name="twice"):
            __module__ = module

            def act(self) -> None: ...

        return Twice

    for module in ("first_module", "second_module"):
        define(module)
    where = r"test_a_name\S*Twice"
    with pytest.raises(
        ValueError,
        match=rf"^kind 'twice' is ambiguous: first_module:{where} and second_module:{where} have this name; write the",
    ) as raised:
        find_kind("kind", Family, "twice")
    assert "\n" not in str(raised.value)
    names = [name for name, kind in list_kinds(Family).items() if kind.registered_name == "twice"]
    assert [find_kind("kind", Family, name).__module__ for name in names] == ["first_module", "second_module"]


@pytest.mark.usefixtures("own_registry")
def test_settings_without_a_dataclass_are_refused_where_they_are_first_used() -> None:
    class Bent(mc.BezierFit):
        strength: float = 1.0
        _kept: int = 0
        shared: ClassVar[int] = 3

    class Longer(mc.NaiveFineTuning):
        epochs: int = 40

    class WideBox(mc.BoxCue):
        width: int = 2

    class Steep(mc.losses.Squared):
        unit: str = "metres"  # pyright: ignore[reportIncompatibleVariableOverride]

        power: int = 4

    class Blur(mc.Rotate):
        radius: int = 2

    images = mc.datasets.digits().first(4)
    model, data = build(mlp), rows(12)
    first_uses: list[tuple[str, str, Callable[[], Any]]] = [
        ("Bent", "strength", lambda: Bent().settings()),
        (
            "Bent",
            "strength",
            lambda: TypeAdapter(Annotated[PathFit, OneOf(PathFit)]).validate_python({"method": "Bent"}),
        ),
        ("Longer", "epochs", lambda: mc.fine_tune(model, Longer(), clean=data)),
        ("WideBox", "width", lambda: make_cued_set(images, WideBox())),
        ("WideBox", "width", lambda: read_cue({"name": "WideBox", "width": 3})),
        ("Steep", "power", lambda: Steep().describe()),
        ("Steep", "power", lambda: read_loss({"name": "Steep", "power": 2})),
        ("Blur", "radius", lambda: Blur()(images)),
        ("Blur", "radius", lambda: mc.intervened(images, {"blur": {"name": "Blur", "radius": 3}})),
    ]
    for name, field, use in first_uses:
        with pytest.raises(ValueError) as raised:
            use()
        assert (
            f"{name} is no dataclass, so that {field} are no settings of it; write "
            "@dataclass(frozen=True, kw_only=True) above it"
        ) in str(raised.value)


@pytest.mark.usefixtures("own_registry")
def test_classes_that_make_their_instances_themselves_may_annotate_what_they_like() -> None:
    class Turned(mc.Intervention):
        angle: float

        def __init__(self, angle: float) -> None:
            self.angle = angle

        def draw(self, index: Tensor, seed: int) -> Tensor:
            return torch.zeros(len(index))

        def apply(self, x: Any, values: Tensor) -> Any:
            return x + self.angle

    found = mc.intervened(rows(5), {"turned": {"name": "Turned", "angle": 2.0}})
    assert torch.equal(found["turned"].inputs(torch.arange(5)), rows(5)[0] + 2.0)  # pyright: ignore


@pytest.mark.usefixtures("unchecked")
def test_a_class_in_the_place_of_an_instance_is_refused() -> None:
    model, method = build(mlp), cast(Any, mc.CBFT)
    wrong: list[tuple[str, Callable[[], Any]]] = [
        ("cue is the class BoxCue, not an instance; write BoxCue()", lambda: make_cue(mc.BoxCue, rows(3))),  # pyright: ignore
        ("cue must be a Cue, got the class BoxCue; write BoxCue()", lambda: make_cued_set(rows(3), mc.BoxCue)),  # pyright: ignore
        (
            "the loss is the class Squared, not an instance; write Squared()",
            lambda: read_loss(mc.losses.Squared),
        ),
        (
            "method must be a Method, got the class CBFT; write CBFT()",
            lambda: mc.fine_tune(model, method, clean=rows(4)),
        ),
    ]
    for text, use in wrong:
        with pytest.raises(TypeError) as raised:
            use()
        assert str(raised.value) == text


def test_an_instance_of_the_users_module_is_named_like_a_class() -> None:
    """Whether or not it can be called."""
    assert build_named("alignment", AlignmentMethod, f"{__name__}:MATCHING", data="not taken") is MATCHING
    with pytest.raises(ValueError, match=r"^alignment '.*:MATCHING' has no option 'restarts'; it has none$"):
        build_named("alignment", AlignmentMethod, {"name": f"{__name__}:MATCHING", "restarts": 2})
    with pytest.raises(ValueError, match=r"^alignment 'math:pi' must be a function or of class Align.*, it is a float"):
        build_named("alignment", AlignmentMethod, "math:pi")


def test_the_schema_calls_a_kind_by_its_registered_name() -> None:
    @dataclass(frozen=True)
    class Named(mc.BezierFit, name="short"):
        """A kind that is named otherwise than its class."""

    shown = TypeAdapter(Named).json_schema()["properties"]["method"]
    assert shown == {"const": "short", "default": "short"}
    assert TypeAdapter(Named).validate_python({"method": "short"}) == Named()


class Fits(Config):
    fit: Annotated[PathFit, OneOf(PathFit)] = mc.BezierFit()


@pytest.mark.parametrize("name", ["SineFit", "user_defined:SineFit"])
def test_a_configuration_names_a_class_of_the_users_module(name: str, tmp_path) -> None:
    file = tmp_path / "fits.toml"
    file.write_text(f'fit = {{method = "{name}", strength = 2.0, epochs = 3}}')
    found = read_config(file, Fits).fit
    assert found == SineFit(strength=2.0, epochs=3)
    # What a record holds is read back as the same settings.
    assert found.settings()["method"] == "user_defined:SineFit"
    assert Fits(fit=found.settings()).fit == found and Fits(fit=found).fit is found  # pyright: ignore


def test_names_of_our_own_are_short() -> None:
    assert mc.BezierFit().settings()["method"] == name_kind(mc.BezierFit) == "BezierFit"
    assert name_kind(Own) == f"{__name__}:Own"


WRONG = {
    "unknown": (
        '{method = "SinFit"}',
        "fit: method must be one of 'BezierFit', .*, or a class of your own as 'package.module:Class', got 'SinFit'; "
        "did you mean 'SineFit'",
    ),
    "no such module": ('{method = "user_defind:SineFit"}', "fit: method: there is no module 'user_defind'"),
    "no such class": ('{method = "user_defined:SinFit"}', "fit: method 'user_defined:SinFit': .* has no 'SinFit'"),
    "no fit": (
        '{method = "user_defined:SinePath"}',
        "fit: method 'user_defined:SinePath' must be a subclass of PathFit without abstract methods",
    ),
    "abstract": ('{method = "mechconn.paths:PathFit"}', "must be a subclass of PathFit without abstract methods"),
    "unknown key": ('{method = "user_defined:SineFit", strenght = 1.0}', "fit.strenght: unknown key; did you mean"),
    "wrong value": ('{method = "SineFit", strength = "much"}', "fit.strength: Input should be a valid number"),
    "bad value": ('{method = "SineFit", bends = 0}', "fit: bends must be a whole number greater than zero, got 0"),
    "no table": ("3", r"fit: expected a table of settings such as \{method = 'Name', lr = 0.01\}, got 3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_one_line(case: str, tmp_path) -> None:
    value, text = WRONG[case]
    (file := tmp_path / "fits.toml").write_text(f"fit = {value}")
    with pytest.raises(ValueError, match=text) as raised:
        read_config(file, Fits)
    assert len(str(raised.value).splitlines()) == 1


def test_the_schema_lists_our_own_kinds_and_allows_others() -> None:
    *own, other = PathSettings.model_json_schema()["properties"]["fit"]["anyOf"]
    assert [kind["$ref"].rpartition("/")[2] for kind in own] == ["BezierFit", "PolygonalFit"]
    assert other["properties"]["method"] == {"type": "string", "pattern": ":"}
