"""Interventions on columns of tables: donors' values, and means of bins."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

import mechconn as mc
from mechconn.core import select_rows
from mechconn.interventions import BinColumn, SwapColumn

ROWS = 60
EVERY = torch.arange(ROWS)


def table(columns: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.randn(ROWS, columns, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(ROWS) % 4


def shown(intervention: mc.Intervention, data: Any, seed: int = 0, strength: float | None = None) -> Any:
    return intervention(data, seed, strength).inputs(EVERY)


def find_donors(x: Tensor, changed: Tensor, column: int) -> list[int]:
    """Of each row, the row whose value it shows."""
    return [int((x[:, column] == value).nonzero()) for value in changed[:, column]]


def test_a_column_gets_the_value_of_another_row_and_the_rest_stays() -> None:
    x, y = table()
    changed = shown(SwapColumn(columns=1), (x, y))
    assert torch.equal(changed[:, [0, 2]], x[:, [0, 2]])
    donors = find_donors(x, changed, 1)
    assert all(donor != row for row, donor in enumerate(donors))
    assert not torch.equal(changed, shown(SwapColumn(columns=1), (x, y), seed=1))
    assert torch.equal(changed, shown(SwapColumn(columns=1), (x, y)))


def test_every_other_row_is_as_likely_a_donor() -> None:
    x, y = torch.tensor([[0.5], [1.5], [2.5], [3.5]]), torch.zeros(4, dtype=torch.int64)
    found = Counter[tuple[int, int]]()
    for seed in range(1200):
        changed = SwapColumn(columns=0)((x, y), seed).inputs(torch.arange(4))
        found.update(enumerate(find_donors(x, changed, 0)))
    assert len(found) == 12
    assert all(300 < count < 500 for count in found.values())  # 400 expected, standard deviation 16


def test_several_columns_come_from_one_donor_or_each_from_its_own() -> None:
    x, y = table()
    together = shown(SwapColumn(columns=(0, 2)), (x, y))
    assert find_donors(x, together, 0) == find_donors(x, together, 2)
    apart = shown(SwapColumn(columns=(0, 2), together=False), (x, y))
    assert find_donors(x, apart, 0) != find_donors(x, apart, 2)


@pytest.mark.parametrize("within", ["class", "groups", "names"])
def test_donors_stay_within_a_class_or_a_group(within: str) -> None:
    x, y = table()
    groups = {"class": y, "groups": EVERY % 7, "names": EVERY // 20}[within]
    given: Any = {"class": "class", "groups": EVERY % 7, "names": [f"g{int(g)}" for g in groups]}[within]
    donors = find_donors(x, shown(SwapColumn(columns=0, within=given), (x, y)), 0)
    assert groups[donors].tolist() == groups.tolist()
    assert all(donor != row for row, donor in enumerate(donors))


def test_donors_may_be_other_data_of_the_same_classes() -> None:
    x, y = table()
    other = table()[0] + 100.0, torch.arange(ROWS) % 4
    changed = shown(SwapColumn(columns=0, donors=other, within="class"), (x, y))
    donors = find_donors(other[0], changed, 0)
    assert (torch.tensor(donors) % 4).tolist() == y.tolist()


def test_a_column_of_fractions_moves_toward_the_donor_and_whole_numbers_jump() -> None:
    x, y = table()
    whole = shown(SwapColumn(columns=1), (x, y))
    half = shown(SwapColumn(columns=1), (x, y), strength=0.5)
    torch.testing.assert_close(half[:, 1], (x[:, 1] + whole[:, 1]) / 2)
    categories = torch.arange(ROWS).float()[:, None]
    jumped = [shown(SwapColumn(columns=0), (categories, y), strength=s)[:, 0] for s in (0.25, 0.75, 1.0)]
    moved = [found != categories[:, 0] for found in jumped]
    assert bool(moved[2].all()) and not bool((moved[0] & ~moved[1]).any())  # rows of a smaller strength stay changed
    assert 5 <= int(moved[0].sum()) <= 25 and 35 <= int(moved[1].sum()) <= 55  # 15 and 45 expected
    assert all(torch.equal(found[m], jumped[2][m]) for found, m in zip(jumped, moved, strict=True))


def test_columns_by_name() -> None:
    data = {"age": table()[0][:, 0], "job": torch.arange(ROWS)}, torch.arange(ROWS) % 2
    changed = shown(SwapColumn(columns="job"), data)
    assert torch.equal(changed["age"], data[0]["age"]) and changed["job"].dtype == torch.int64
    assert bool((changed["job"] != data[0]["job"]).all())


def test_values_move_to_the_mean_of_their_bin() -> None:
    x, y = table()
    order = x[:, 2].argsort()
    expected = torch.empty(ROWS)
    for part in order.split(ROWS // 5):  # five bins of twelve rows
        expected[part] = x[part, 2].mean()
    changed = shown(BinColumn(columns=2, bins=5), (x, y))
    torch.testing.assert_close(changed[:, 2], expected)
    assert torch.equal(changed[:, :2], x[:, :2])
    torch.testing.assert_close(changed[:, 2].mean(), x[:, 2].mean())


def test_one_bin_is_the_mean_and_as_many_bins_as_values_change_nothing() -> None:
    x, y = table()
    assert shown(BinColumn(columns=0, bins=1), (x, y))[:, 0].unique().numel() == 1
    assert torch.equal(shown(BinColumn(columns=0, bins=ROWS), (x, y)), x)
    tied = torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0]).repeat(ROWS // 5)[:, None]
    assert shown(BinColumn(columns=0, bins=3), (tied, y)).unique().tolist() == [0.0, 1.5]  # ties are in one bin


IMAGES = torch.zeros(ROWS, 1, 4, 4), table()[1]
WRONG: dict[str, tuple[Any, Any, str]] = {
    "images": (
        SwapColumn(columns=0),
        IMAGES,
        "SwapColumn needs a table, inputs [N, D] or a mapping of names to columns, got inputs [1, 1, 4, 4]",
    ),
    "no such column": (SwapColumn(columns=3), table(), "SwapColumn has column 3, and the table has 0 ... 2; name one"),
    "a name": (SwapColumn(columns="age"), table(), "SwapColumn has column 'age', and the table has 0 ... 2; name one"),
    "another number of groups": (
        SwapColumn(columns=0, within=[0, 1]),
        table(),
        "within of SwapColumn must have one label for each of 60 rows, got 2",
    ),
    "an unknown word": (
        SwapColumn(columns=0, within="place"),
        table(),
        "within of SwapColumn must be None, 'class', or a group for each row, got 'place'",
    ),
    "a group of one row": (
        SwapColumn(columns=0, within=[0, *[1] * 59]),
        table(),
        "SwapColumn has no other row of its group to take for row 0; give more data, or leave it out",
    ),
    "labels that are no classes": (
        SwapColumn(columns=0, within="class"),
        (table()[0], table()[0][:, 0]),
        "within = 'class' of SwapColumn needs a class for each row, got labels torch.float32 of shape [60]; pass",
    ),
    "bins of categories": (
        BinColumn(columns=0),
        (torch.zeros(ROWS, 2, dtype=torch.int64), table()[1]),
        "BinColumn takes means and needs columns [N] of floating-point numbers, got column 0 of torch.int64 [1]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_in_one_line(name: str) -> None:
    intervention, data, text = WRONG[name]
    with pytest.raises(ValueError) as caught:
        intervention(data)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [1.5, -0.1, (0.5, 0.2), (0.5, 1.5)])
def test_a_strength_lies_in_0_to_1(given: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="strength must"):
        SwapColumn(columns=0, strength=given)


def test_a_range_of_strengths_is_drawn_by_row() -> None:
    x, y = table(1)
    found = SwapColumn(columns=0, strength=(0.25, 0.75))((x, y), seed=3)
    drawn = found.latents[0][1][:, 0]
    assert 0.25 <= float(drawn.min()) < 0.3 and 0.7 < float(drawn.max()) < 0.75
    full = SwapColumn(columns=0)((x, y), seed=3).inputs(EVERY)
    torch.testing.assert_close(found.inputs(EVERY)[:, 0], x[:, 0] + drawn.float() * (full - x)[:, 0])


def test_an_intervention_without_a_strength_says_so() -> None:
    class Plain(mc.Intervention):
        def draw(self, index: Tensor, seed: int) -> Tensor:
            return torch.ones(len(index))

        def apply(self, x: Tensor, values: Tensor) -> Tensor:
            return x + 1.0

    with pytest.raises(ValueError, match="Plain has no strength that can be set; extend"):
        Plain()(table(), strength=0.5)
    with pytest.raises(ValueError, match=r"strength must lie in \[0, 1\]|strength must be"):
        SwapColumn(columns=0)(table(), strength=2.0)


@pytest.mark.parametrize("hole", [float("nan"), float("inf")])
def test_missing_values_move_as_others_do(hole: float) -> None:
    x, y = table()
    x[::7, 0] = hole
    split = SwapColumn(columns=0)((x, y), seed=1)
    donors = split.latents[0][1][:, 2].long()
    torch.testing.assert_close(split.inputs(EVERY)[:, 0], x[donors, 0], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(shown(SwapColumn(columns=0), (x, y), 1, 0.0), x, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ValueError, match=r"^BinColumn takes means over rows, and column 0 is not finite in 9 of them"):
        BinColumn(columns=0)((x, y))


def test_other_columns_are_other_latents_and_the_same_one_is_set_anew() -> None:
    x, y = table()
    first = SwapColumn(columns=0)((x, y), seed=1)
    both = SwapColumn(columns=1)(first, seed=2).inputs(EVERY)
    assert torch.equal(both[:, 0], first.inputs(EVERY)[:, 0])
    assert torch.equal(both[:, 1], shown(SwapColumn(columns=1), (x, y), seed=2)[:, 1])
    again = SwapColumn(columns=0)(first, seed=3).inputs(EVERY)
    assert torch.equal(again, shown(SwapColumn(columns=0), (x, y), seed=3))


def test_rows_may_be_named_by_texts() -> None:
    """Draws follow the names, not the places, of data of the user's own."""

    class Named:
        def __init__(self, ids: list[str]) -> None:
            self.ids, self.y = ids, torch.zeros(len(ids), dtype=torch.int64)

        def __len__(self) -> int:
            return len(self.ids)

        def inputs(self, index: Tensor) -> Tensor:
            return torch.zeros(len(index), 1)

    names = [f"patient {number}" for number in range(20)]
    functions: Any = {"noise": lambda x, draws: x + draws.uniform("noise")[:, None]}
    there, back = (mc.intervened(Named(ids), functions, seed=1)["noise"] for ids in (names, names[::-1]))
    index = torch.arange(20)
    assert torch.equal(there.inputs(index), back.inputs(index).flip(0))  # pyright: ignore[reportAttributeAccessIssue]
    assert len(there.inputs(index).unique()) == 20  # pyright: ignore[reportAttributeAccessIssue]
    moved = SwapColumn(columns=0)(Named(names), seed=1)
    assert sorted(moved.latents[0][1][:, 2].tolist()) == list(range(20))
    assert len(select_rows(Named(names), torch.tensor([3, 5])).ids) == 2
