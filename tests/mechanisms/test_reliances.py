"""What a model relies on, of networks that were built to read one thing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.interventions import SwapColumn
from raw_texts import load_rows, make_kind

SEEDS = range(20)


def table(rows: int, columns: int, seed: int, reads: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, (x[:, reads] > 0).long()


class Reader(nn.Module):
    """Class 1 where one column is positive."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(x)), x[:, self.column].float()], 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_column_is_found_and_the_rest_are_invariant(seed: int) -> None:
    column = seed % 5
    found = mc.reliances(Reader(column), table(1000, 5, seed, column), seed=seed)
    assert found.relies_on == (f"swap-column {column}",)
    assert set(found.invariant_to) == {f"swap-column {other}" for other in range(5) if other != column}
    assert next(iter(found)) == f"swap-column {column}"
    assert not found.left_out


def test_effects_are_those_of_a_suite_made_by_hand() -> None:
    data = table(400, 3, 0, 1)
    named: dict[str, Any] = {"first": SwapColumn(columns=0), "second": SwapColumn(columns=1)}
    found = mc.reliances(Reader(1), data, named, seed=5)
    by_hand = mc.measure_invariance(Reader(1), mc.intervened(data, named, seed=5), seed=5)
    assert list(found) == ["second", "first"]
    assert {name: found[name].effect for name in found} == {name: by_hand[name].effect for name in by_hand}
    assert all(found[name].adjusted_p_value == by_hand[name].adjusted_p_value for name in by_hand)
    assert [row["intervention"] for row in found.rows()] == ["second", "first"]


def test_what_changes_no_row_is_left_out_since_its_invariance_would_say_nothing() -> None:
    def nothing(x: Tensor, draws: mc.Draws) -> Tensor:
        return x.clone()

    x, y = table(200, 2, 0, 0)
    x[:, 1] = 3.0
    found = mc.reliances(Reader(0), (x, y), ["swap-column", nothing])
    assert found.left_out == {
        "swap-column 1": "it changes none of the 200 rows looked at",
        "nothing": "it changes none of the 200 rows looked at",
    }
    assert "left out: nothing (it changes none of the 200 rows looked at)" in str(found)
    with pytest.raises(ValueError, match="none of the interventions nothing changes any of the 200 rows looked at"):
        mc.reliances(Reader(0), (x, y), [nothing])


def test_it_says_on_how_many_rows_an_intervention_acts() -> None:
    def clipped(x: Tensor, draws: mc.Draws) -> Tensor:
        return x.clamp(max=0.0)

    x = (torch.arange(-50, 51) / 50.0)[:, None].repeat(1, 2)
    found = mc.reliances(Reader(0), (x, (x[:, 0] > 0).long()), [clipped])
    assert found.applied["clipped"].touched == 50 / 101
    assert "clipped (changes 50 % of rows)" in str(found)


class Marked(SwapColumn, name="marked"):
    """People give another label after it."""

    def explain_label_change(self, scenes: Any) -> str:
        return "a mirrored 2 is no digit"


def test_what_changes_the_label_for_people_is_left_out_unless_kept() -> None:
    data, named = table(300, 2, 0, 0), {"mirror": Marked(columns=0), "other": SwapColumn(columns=1)}
    found = mc.reliances(Reader(0), data, named)
    assert list(found) == ["other"]
    assert found.left_out == {"mirror": "it changes the label for people: a mirrored 2 is no digit"}
    kept = mc.reliances(Reader(0), data, named, label_changing="keep")
    assert set(kept) == {"mirror", "other"} and not kept.left_out
    assert "mirror changes the label for people, and is kept: a mirrored 2 is no digit" in str(kept)
    with pytest.raises(
        ValueError, match=r"no intervention is left to apply: mirror .* or keep those that change labels"
    ):
        mc.reliances(Reader(0), data, {"mirror": Marked(columns=0)})


def test_the_answer_names_what_it_relies_on() -> None:
    found = mc.reliances(Reader(1), table(1000, 3, 0, 1))
    assert found.header().title == (
        "The model relies on the value of a column (swap-column 1); is invariant to swap-column 0, swap-column 2"
    )
    assert found.header().question == "What does this model rely on?"
    assert "the value of a column" in str(found)


def test_a_model_that_always_gives_one_class_is_called_uninformative() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0]).expand(len(x), 2)

    found = mc.reliances(Constant(), table(500, 2, 0, 0))
    assert "the model gives one class on every row" in str(found)
    assert found.header().title.endswith(
        "; its invariance says nothing: the model gives one class on every row of 'unchanged'"
    )
    assert not found.relies_on


WRONG: dict[str, tuple[Any, str]] = {
    "an unknown name": (["swap-colum"], "did you mean 'swap-column'"),
    "a text": ("swap-column", "interventions must be a list such as"),
    "an unknown option": ([{"name": "swap-column", "column": 1}], "has no option 'column'"),
    "twice": ([{"name": "swap-column", "columns": 0}] * 2, "interventions name 'swap-column 0' twice"),
    "the name of the reference": ({"unchanged": SwapColumn(columns=0)}, "name the intervention otherwise"),
    "a number": ([3], "must be a function, an Intervention, or the name of one"),
    "an entry without a name": ([{"nam": "patch"}], "must have a name"),
    "a name that is no text": ({3: "swap-column"}, "interventions are named by texts"),
    "the name of data without a cue": (
        {"no_cue": SwapColumn(columns=0)},
        "'no_cue' is what rows without any change are called",
    ),
    "of images": (["rotate"], "Rotate needs images of shape [C, H, W], got inputs of shape [2]"),
    "a class": ([SwapColumn], "is the class SwapColumn, not an instance"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_interventions_are_one_line(name: str) -> None:
    given, text = WRONG[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        mc.reliances(Reader(0), table(20, 2, 0, 0), given)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        mc.reliances(Reader(0), table(20, 2, 0, 0), ["rotat", "swap-colum"])
    assert len(str(caught.value).splitlines()) == 2


def test_batches_are_refused_since_rows_are_drawn_by_index() -> None:
    with pytest.raises(TypeError, match="reliances reads rows by index and needs a dataset or an"):
        mc.reliances(Reader(0), [table(8, 2, 0, 0)])


def test_rows_of_wider_texts_are_touched_where_they_differ() -> None:
    """Half of the rows get a phrase, by which all of them have more padding."""
    data = load_rows([("a fine film", "", "no"), ("a slow film", "", "yes")] * 40, make_kind("words"), pairs=False)

    class First(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
            slow = (input_ids == int(data.input_ids[1, 2])).any(1).float()
            return torch.stack([-slow + 0.5, slow - 0.5], 1)

    phrase = {"name": "insert-phrase", "phrase": "no doubt", "strength": 0.5}
    found = mc.reliances(First(), data, [phrase])
    drawn = data.raw is not None and mc.intervened(data, {"phrase": phrase})["phrase"]
    assert isinstance(drawn, mc.IntervenedSet)
    longer = drawn.inputs(torch.arange(80))["attention_mask"].sum(1) > data.attention_mask.sum(1)
    assert 0.2 < float(longer.double().mean()) < 0.8
    seen = found.applied["insert-phrase"].touched
    assert 0.2 < seen < 0.8


def test_inputs_of_no_known_kind_are_told_so_and_take_functions() -> None:
    x = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0, 0] > 0).long()
    model = nn.Sequential(nn.Flatten(), Reader(0))
    with pytest.raises(ValueError, match="these inputs are neither images"):
        mc.reliances(model, (x, y))
    assert list(mc.reliances(model, (x, y), [lambda x, draws: -x])) == ["<lambda>"]


def test_data_that_show_an_intervention_already_do_not_lose_it() -> None:
    data = table(60, 2, 0, 0)
    swapped = SwapColumn(columns=0)(data, seed=1)
    with pytest.raises(
        ValueError, match=r"the data show SwapColumn.* already, which SwapColumn would replace; pass the"
    ):
        mc.reliances(Reader(0), swapped, [{"name": "swap-column", "columns": 0}])
    assert list(mc.reliances(Reader(0), swapped, [{"name": "swap-column", "columns": 1}])) == ["swap-column 1"]
    assert list(mc.reliances(Reader(0), data, ["swap-column"]))  # the data before it
