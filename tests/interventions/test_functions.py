"""Functions as interventions: what they get, what they may draw, what is said when they are impure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mechconn as mc
from mechconn.core import SampleSource
from mechconn.datasets import Planted, PlantedCue, make_cued_set
from texts import texts
from zoo import build

ROWS = 40


def data(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand((rows, 3), generator=draw, dtype=torch.float32), torch.arange(rows) % 3


def shifted(x: Tensor, draws: mc.Draws) -> Tensor:
    return x + draws.uniform("shift")[:, None] + draws.integers(2, "side")[:, None]


def split(suite: mc.Suite, name: str) -> SampleSource:
    source = suite[name]
    assert isinstance(source, SampleSource)
    return source


def test_each_split_is_the_function_of_the_inputs_with_the_labels_as_they_are() -> None:
    x, y = data()
    suite = mc.intervened((x, y), {"negated": lambda x, draws: -x, "zero": lambda x, draws: 0 * x}, reference="natural")
    assert (list(suite), suite.reference) == (["natural", "negated", "zero"], "natural")
    assert suite.interventions == ("negated", "zero")
    index = torch.tensor([5, 2])
    assert torch.equal(split(suite, "natural").inputs(index), x[index])
    assert torch.equal(split(suite, "negated").inputs(index), -x[index])
    assert not split(suite, "zero").inputs(index).any()
    assert all(torch.equal(split(suite, name).y, y) for name in suite)


@given(seed=st.integers(0, 10_000), cut=st.integers(1, ROWS - 1))
def test_draws_belong_to_rows_whatever_the_batch_and_order(seed: int, cut: int) -> None:
    scenes = split(mc.intervened(data(), {"shifted": shifted}, seed=seed), "shifted")
    whole = scenes.inputs(torch.arange(ROWS))
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed))
    parts = torch.cat([scenes.inputs(order[:cut]), scenes.inputs(order[cut:])])
    assert torch.equal(parts, whole[order])


def test_draws_are_uniform_named_and_seeded() -> None:
    draws = mc.Draws(torch.arange(4000), seed=0)
    drawn = draws.uniform("a")
    assert drawn.dtype == torch.float32 and 0 <= float(drawn.min()) and float(drawn.max()) < 1
    # Five standard errors of the mean of 4,000 uniform numbers.
    assert abs(float(drawn.mean()) - 0.5) < 5 * (1 / 12 / 4000) ** 0.5
    counts = draws.integers(4, "a").bincount(minlength=4).double()
    assert len(counts) == 4 and bool(((counts - 1000).abs() < 5 * (4000 * 3 / 16) ** 0.5).all())
    assert torch.equal(draws.uniform("a"), drawn)
    for other in (draws.uniform("b"), mc.Draws(torch.arange(4000), seed=1).uniform("a")):
        assert abs(float(torch.corrcoef(torch.stack([drawn, other]))[0, 1])) < 5 / 4000**0.5


def test_two_functions_of_one_suite_draw_apart() -> None:
    suite = mc.intervened(data(), {"a": shifted, "b": shifted})
    index = torch.arange(ROWS)
    assert not torch.equal(split(suite, "a").inputs(index), split(suite, "b").inputs(index))


def test_a_model_is_measured_on_them() -> None:
    """It reads the first feature alone, so that another one may do what it likes."""
    x, _ = data(200)
    labels = (x[:, 0] > 0.5).long()

    def other(x: Tensor, draws: mc.Draws) -> Tensor:
        return torch.cat([x[:, :1], draws.uniform("other")[:, None], x[:, 2:]], 1)

    def first(x: Tensor, draws: mc.Draws) -> Tensor:
        return torch.cat([draws.uniform("first")[:, None], x[:, 1:]], 1)

    model = build(lambda: nn.Linear(3, 2), dtype=torch.float32)
    weight = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    model = mc.with_parameters(model, {"weight": weight, "bias": torch.tensor([0.5, -0.5])})
    found = mc.measure_invariance(model, mc.intervened((x, labels), {"first": first, "other": other}))
    assert found["other"].verdict == "invariant" and found["first"].verdict == "sensitive"
    assert found["other"].paired and found["other"].effect == 0.0
    assert found.invariant_to == ("other",)


def test_scenes_with_a_cue_texts_and_interventions_of_the_library() -> None:
    spec = Planted()
    scenes = make_cued_set(spec.sample(20), PlantedCue(spec)).with_cue()
    suite = mc.intervened(scenes.subset(torch.tensor([3, 9])), {"shifted": shifted})
    # Row 9 draws as row 9 wherever it stands.
    alone = mc.intervened(scenes.subset(torch.tensor([9])), {"shifted": shifted})
    index = torch.tensor([0])
    assert torch.equal(split(suite, "shifted").inputs(index + 1), split(alone, "shifted").inputs(index))

    def masked(x: dict[str, Tensor], draws: mc.Draws) -> dict[str, Tensor]:
        return {**x, "input_ids": x["input_ids"].clone().index_fill_(1, torch.tensor([2]), 33)}

    ids = split(mc.intervened(texts(5), {"masked": masked}), "masked").inputs(torch.arange(5))["input_ids"]
    assert ids[:, 2].tolist() == [33] * 5
    images = mc.datasets.digits().first(4)
    turned = mc.intervened(images, {"turned": mc.Rotate(30), "dark": lambda x, draws: x - 1.0})
    assert isinstance(turned["turned"], mc.IntervenedSet)
    assert torch.equal(split(turned, "dark").inputs(index), images.inputs(index) - 1.0)


def test_a_function_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_interventions.py").write_text("def negated(x, draws):\n    return -x\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_interventions", raising=False)
    suite = mc.intervened(data(), {"negated": "my_interventions:negated"})
    assert torch.equal(split(suite, "negated").inputs(torch.tensor([3])), -data()[0][[3]])
    with pytest.raises(ValueError, match=r"the intervention 'turned' 'my_interventions:turned': .* has no 'turned'"):
        mc.intervened(data(), {"turned": "my_interventions:turned"})
    with pytest.raises(
        ValueError, match=r"^the intervention 'turned' must be one of .*'rotate'.*, or a class of your own"
    ):
        mc.intervened(data(), {"turned": "turned"})


def global_draw(x: Tensor, draws: mc.Draws) -> Tensor:
    return x + torch.rand(len(x), 1)


WRONG: dict[str, tuple[Any, str]] = {
    "global randomness": (
        global_draw,
        "gives a row other values when it is asked again; take random numbers from its second argument, "
        "draws.uniform('angle'), and treat every row by itself",
    ),
    "rows that see each other": (lambda x, draws: x - x.mean(0), "other values when it is asked for one row alone"),
    "fewer rows": (lambda x, draws: x[:1], "must return inputs of the rows it got, inputs [3, 3], got inputs [1, 3]"),
    "a list": (lambda x, draws: [x], "must return inputs of the rows it got, tensors, got a list"),
    "other names": (lambda x, draws: {"x": x}, "must return inputs of the rows it got, inputs [3, 3], got x [3, 3]"),
    "writes": (lambda x, draws: x.mul_(2.0), "writes into its inputs; change a copy, x = x.clone()"),
    "one argument": (lambda x: x, "fails on the first rows (TypeError: "),
    "an error": (lambda x, draws: x @ x, "fails on the first rows (RuntimeError: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_functions_that_are_refused(case: str) -> None:
    function, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        mc.intervened((data()[0][:, :2].repeat(1, 2)[:, :3], data()[1]), {"mine": function})
    assert str(caught.value).startswith("the intervention 'mine' ") and "\n" not in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.usefixtures("unchecked")
def test_what_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"functions must name one split or more, .* 'data', got none; rename it"):
        mc.intervened(data(), {})
    with pytest.raises(ValueError, match="each other than the reference 'data', got data"):
        mc.intervened(data(), {"data": shifted})
    with pytest.raises(TypeError, match=r"intervened reads rows by index and needs a dataset or .*, got list"):
        mc.intervened([data()], {"shifted": shifted})
    with pytest.raises(TypeError, match=r"the intervention 'mine' must be a function, an Intervention, or .*, got int"):
        mc.intervened(data(), {"mine": 3})  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"functions must be a Mapping, got function; pass \{name: function, ...\}"):
        mc.intervened(data(), shifted)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        TypeError, match=r"^the intervention 'mine' is the class Rotate, not an instance; write Rotate\(\)$"
    ):
        mc.intervened(data(), {"mine": mc.Rotate})  # pyright: ignore[reportArgumentType]
