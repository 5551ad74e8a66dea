"""The texts of the errors: one line each, in one voice. What each says is tested where it is raised."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import mechconn as mc
from zoo import build, mlp, rows

SOURCE = Path(mc.__file__).parent


def texts_raised(file: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of each error text in a file, at its raise or made by an `explain` function; places are {}."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    made = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and "explain" in node.name]
    returned = [node.value for function in made for node in ast.walk(function) if isinstance(node, ast.Return)]
    for value in [*raised, *returned]:
        text = value.args[0] if isinstance(value, ast.Call) and value.args else value
        if isinstance(text, ast.JoinedStr):
            yield text.lineno, "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in text.values)
        elif isinstance(text, ast.Constant) and text.value:
            yield text.lineno, str(text.value)


def test_a_text_is_one_line_that_is_no_sentence() -> None:
    texts = {f"{file.name}:{line}": text for file in SOURCE.rglob("*.py") for line, text in texts_raised(file)}
    assert len(texts) > 150
    assert {
        at: text
        for at, text in texts.items()
        if "\n" in text or text[-2:-1] != "." == text[-1:] or text.strip() != text
    } == {}


SUITE = mc.Suite({"cue": rows(6), "rand_cue": rows(6)})
WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "a method's name": (
        lambda: mc.fine_tune(build(mlp), "CBFT", clean=rows(6)),  # pyright: ignore[reportArgumentType]
        TypeError,
        "method must be a Method, got str",
    ),
    "a function for a model": (
        lambda: mc.measure_invariance(torch.relu, SUITE),  # pyright: ignore[reportArgumentType]
        TypeError,
        "model must be a Module, got builtin_function_or_method",
    ),
    "a mapping for a suite": (
        lambda: mc.measure_invariance(build(mlp), {"cue": rows(6)}),  # pyright: ignore[reportArgumentType]
        TypeError,
        "suite must be a Suite, got dict; build one with Suite({name: data, ...})",
    ),
    "data for a norm policy": (
        lambda: mc.evaluate_path(
            build(mlp),
            mc.LinearPath(mc.parameters_of(build(mlp)), mc.parameters_of(build(mlp))),
            SUITE,
            norm=rows(6),  # pyright: ignore[reportArgumentType]
        ),
        TypeError,
        "norm must be a NormPolicy, got tuple; pass Reestimate(data) or KeepNorm()",
    ),
    "the reference as an intervention": (
        lambda: mc.Suite({"cue": rows(6), "rand_cue": rows(6)}, interventions=("cue",)),
        ValueError,
        "interventions must be one of 'rand_cue', got 'cue'",
    ),
    "no splits": (lambda: mc.Suite({}), ValueError, "Suite expects at least one split, got none"),
    "an unknown device": (
        lambda: mc.measure_invariance(build(mlp), SUITE, device="gpu"),
        ValueError,
        "device must be one that torch knows, such as 'cpu' or 'cuda', got 'gpu'",
    ),
    "a fractional seed": (
        lambda: mc.models.small_convnet(seed=1.5),  # pyright: ignore[reportArgumentType]
        TypeError,
        "seed must be a whole number, got 1.5",
    ),
    "a label beyond the outputs": (
        lambda: mc.train(build(mlp), (rows(6)[0], torch.tensor([0, 1, 2, 3, 99, 0])), mc.Training(epochs=1)),
        ValueError,
        "labels must lie in 0 ... 2, the model's outputs, got 0 ... 99",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(case: str) -> None:
    call, kind, text = WRONG[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_are_numbers() -> None:
    assert mc.path_grid(np.int64(3)) == (0.0, 0.5, 1.0)  # pyright: ignore[reportArgumentType]
    task = mc.datasets.cue_task("planted", proportion=np.float64(0.5), rows=40, test_rows=20)
    assert int((task.train.cue_values >= 0).sum()) in range(18, 23)
