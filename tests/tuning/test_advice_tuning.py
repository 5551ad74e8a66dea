"""Training, fine-tuning, fitting paths: each error is provoked, its advice followed to the letter, and it works."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import mechconn as mc
from advice import CBFT, CUED, Twin, tune
from advice_distillation import DISTILLATION_ADVICE
from advice_heads import HEADS
from advice_methods import METHODS_ADVICE
from advice_optimizers import OPTIMIZERS
from mechconn.core import read_with_note, write_safetensors
from zoo import build, mlp

ADVICE = {**HEADS, **METHODS_ADVICE, **OPTIMIZERS, **DISTILLATION_ADVICE}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ADVICE)
def test_advice_works_to_the_letter(name: str) -> None:
    advice = ADVICE[name]
    with pytest.raises((ValueError, TypeError, FileNotFoundError, FloatingPointError)) as caught:
        advice.call()
    assert advice.says in str(caught.value) and "\n" not in str(caught.value)
    for call in advice.follow:
        call()


def test_a_head_that_is_suggested_is_one_of_the_models() -> None:
    with pytest.raises(ValueError, match="lead to it side by side") as caught:
        tune(build(Twin), CBFT, cued=CUED)
    (named,) = re.findall(r"as in head='(\w+)'", str(caught.value))
    assert named in ("left", "right")
    tune(build(Twin), CBFT, cued=CUED, head=named)


@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_of_a_compiled_model_the_module_that_was_compiled() -> None:
    """It is seen through, and its layers have the names that they have in it."""
    compiled: Any = torch.compile(build(mlp), backend="eager")
    with pytest.raises(ValueError, match=r"head='_orig_mod\.2' is not a linear layer of this model; .* are: 0, 2"):
        tune(compiled, CBFT, cued=CUED, head="_orig_mod.2")
    tune(compiled, CBFT, cued=CUED, head="2")


# ---------------------------------------------------------------- checkpoints


@pytest.mark.usefixtures("unchecked")
def test_a_folder_is_made_first(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "run.safetensors"
    with pytest.raises(FileNotFoundError, match="its folder does not exist; make it first"):
        mc.Checkpoint(file)
    file.parent.mkdir()
    tune(checkpoint=mc.Checkpoint(file))
    with pytest.raises(TypeError, match=r"got str; write mechconn\.Checkpoint\(file\)"):
        tune(checkpoint=str(file))
    tune(checkpoint=mc.Checkpoint(str(file)))


def test_another_file_or_none_starts_another_run(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    tune(checkpoint=mc.Checkpoint(file))
    with pytest.raises(ValueError, match=r"was written by another run .* name another file, or delete it"):
        tune(checkpoint=mc.Checkpoint(file), seed=1)
    tune(checkpoint=mc.Checkpoint(tmp_path / "other.safetensors"), seed=1)
    file.unlink()
    tune(checkpoint=mc.Checkpoint(file), seed=1)


def test_a_file_that_was_changed_is_deleted_and_the_run_starts_afresh(tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    whole = tune(checkpoint=mc.Checkpoint(file))
    tensors, note = read_with_note(file)
    write_safetensors(file, {name: tensor + 1 for name, tensor in tensors.items()}, note)
    with pytest.raises(ValueError, match="was changed after it was written; delete it, and the run starts afresh"):
        tune(checkpoint=mc.Checkpoint(file))
    file.unlink()
    assert tune(checkpoint=mc.Checkpoint(file)).history == whole.history


# ---------------------------------------------------------------- none is left out


ROOMS = ("descent", "tuning", "paths")
ELSEWHERE = (
    "was written by another run", "was changed after it was written", "its folder does not exist",
    "or train model.float()", "let it cast to the type of its weights", "cannot be shared by", "but a hook computes",
    "a checkpoint holds ", "the checkpoint holds the state of",
    "controls must be a list of control points", "return copies of its parameters", "must return copies",
)  # fmt: skip
"""Followed above, or beside the tests of half precision, of several processes, of optimisers' states, of hooks,
and of curves of users."""


def advising_raises() -> Iterator[tuple[Path, range]]:
    """(file, lines) of each statement of these rooms that raises a text with an advice: that stands behind "; "."""
    for file in (file for room in ROOMS for file in (Path(mc.__file__).parent / room).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                parts = [part.value for part in ast.walk(node.exc.args[0]) if isinstance(part, ast.Constant)]
                text = "".join(map(str, parts))
                if "; " in text and not any(known in text for known in ELSEWHERE):
                    yield file, range(node.lineno, (node.end_lineno or node.lineno) + 1)


def raised_at(call: Callable[[], object]) -> set[tuple[Path, int]]:
    """(file, line) of every place that an error went through."""
    with pytest.raises((ValueError, TypeError, FileNotFoundError, FloatingPointError)) as caught:
        call()
    return {(Path(entry.path), entry.lineno + 1) for entry in caught.traceback}


@pytest.mark.usefixtures("unchecked")
def test_every_text_of_these_rooms_is_followed() -> None:
    seen = {place for advice in ADVICE.values() for place in raised_at(advice.call)}
    raises = list(advising_raises())
    assert len(raises) > 20
    assert [(file.name, lines) for file, lines in raises if not any((file, line) in seen for line in lines)] == []
