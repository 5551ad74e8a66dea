"""The function that builds a model: where it is found, how it is called, what is said when it cannot be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mechconn as mc
from zoo import build, mlp

SOURCE = """
import torch
from torch import nn
from my_parts import WIDTH

kept = nn.Linear(2, WIDTH)

def plain(width=WIDTH):
    return nn.Linear(2, width)

def needs(width):
    return nn.Linear(2, width)

def late():
    from my_late import make
    return make()

def same():
    return kept

def nothing():
    return "a model"

class Builders:
    @staticmethod
    def build():
        return nn.Linear(2, 5)
"""
DRAWING = "import random, torch\nrandom.random()\ntorch.rand(1)\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with modules of the user's in it."""
    files = {
        "my_factories": DRAWING + SOURCE,
        "my_parts": "WIDTH = 3",
        "my_late": "from torch import nn\ndef make():\n    return nn.Linear(2, 4)",
        "my_broken": "1 / 0",
        "my_lacking": "import no_such_library",
        "json": "raise RuntimeError('a file of the user in the place of a library')",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in files:
        if name.startswith("my_"):
            monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def outputs(model: nn.Module) -> int:
    return model(torch.zeros(1, 2)).shape[1]


@pytest.mark.usefixtures("here")
def test_a_function_in_the_working_directory_builds_the_model() -> None:
    path = list(sys.path)
    assert outputs(mc.load_model("my_factories:plain")) == 3
    assert outputs(mc.load_model("my_factories:plain", arguments={"width": 7})) == 7
    assert outputs(mc.load_model("my_factories:late")) == 4  # which imports while it runs
    assert outputs(mc.load_model("my_factories:Builders.build")) == 5
    assert sys.path == path


def test_a_file_called_like_a_library_is_not_run_in_its_place(here: Path) -> None:
    assert (here / "json.py").is_file()
    with pytest.raises(ValueError, match=r"must return an nn.Module, got dict"):
        mc.load_model("json:loads", arguments={"s": "{}"})


def test_installed_functions_classes_and_modules_build_models() -> None:
    assert mc.load_model("mechconn.models:small_convnet", arguments={"width": 4})(torch.zeros(1, 3, 8, 8)).shape == (
        1,
        10,
    )
    assert mc.load_model(nn.Linear, arguments={"in_features": 2, "out_features": 6}).weight.shape == (6, 2)
    assert not mc.load_model(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 3)), seed=3).training


def test_fresh_weights_are_a_function_of_the_seed() -> None:
    built = [mc.load_model(lambda: nn.Linear(2, 3), seed=seed) for seed in (0, 0, 1)]
    a, b, c = (mc.parameters_of(model)["weight"] for model in built)
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.usefixtures("here")
def test_modules_of_the_users_are_copied(tmp_path: Path) -> None:
    mine = build(mlp).train()
    before = mc.parameters_of(mine)
    torch.save(build(mlp, seed=1).state_dict(), tmp_path / "a.pt")
    loaded = mc.load_model(mine, tmp_path / "a.pt")
    assert mine.training and all(torch.equal(p, before[n]) for n, p in mine.named_parameters())
    assert not torch.equal(mc.parameters_of(loaded)["0.weight"], before["0.weight"])
    first, second = mc.load_model("my_factories:same"), mc.load_model("my_factories:same")
    assert first is not second and first.weight is not second.weight


WRONG = {
    "my_factories.plain": (
        "factory must be 'package.module:function', a function that returns an nn.Module, an nn.Module, or a folder "
        "that Transformers saved (config.json, model.safetensors), got 'my_factories.plain'"
    ),
    "my factories:plain": "the model's factory must be named as 'package.module:function', got 'my factories:plain'",
    "no_such_package.models:build": (
        "the model's factory: there is no module 'no_such_package', neither installed nor in {here}; "
        "check its name or change the folder"
    ),
    "my_lacking:build": (
        "the model's factory: the module 'my_lacking' cannot be imported (No module named 'no_such_library'); "
        "correct it, or install what it needs"
    ),
    "my_broken:build": (
        "the model's factory: the module 'my_broken' cannot be imported (ZeroDivisionError: division by zero); "
        "correct it, or install what it needs"
    ),
    "my_parts:build": (
        "the model's factory 'my_parts:build': {here}/my_parts.py has no 'build'; name a function that is defined there"
    ),
    "my_parts:WIDTH": "the model's factory 'my_parts:WIDTH' must be a function, it is a int; name a function",
    "my_factories:nothing": "the factory 'my_factories:nothing' must return an nn.Module, got str",
    "my_factories:needs": (
        "the factory 'my_factories:needs' cannot be called with no arguments "
        "(missing a required argument: 'width'); pass its keyword arguments: arguments={...}"
    ),
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("factory", WRONG)
def test_a_factory_that_cannot_be_used(factory: str) -> None:
    with pytest.raises(ValueError) as caught:
        mc.load_model(factory)
    assert str(caught.value) == WRONG[factory].replace("{here}", os.getcwd())


@pytest.mark.usefixtures("here", "unchecked")
def test_what_is_no_factory_at_all() -> None:
    with pytest.raises(ValueError, match=r"cannot be called with depth \(missing a required argument: 'width'\)"):
        mc.load_model("my_factories:needs", arguments={"depth": 2})
    with pytest.raises(TypeError, match=r"factory must be 'package.module:function', .*, got int"):
        mc.load_model(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="arguments= are for a function that builds the model, and Sequential is none"):
        mc.load_model(build(mlp), arguments={"bias": False})
    with pytest.raises(ValueError, match=r"the factory <lambda> must return an nn.Module, got dict"):
        mc.load_model(lambda: {})
