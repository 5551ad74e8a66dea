"""One reading of everything that users may pass as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from mechconn.core import as_data, count_batches, iterate_batches, read_targets, take_first_rows
from mechconn.core._batches import split_into_batches
from zoo import build, rows, split

CPU = torch.device("cpu")


def read(data: Any, batch_size: int = 4, shuffle: torch.Generator | None = None) -> list[tuple[Any, Tensor]]:
    checked = as_data("data", data)
    return list(iterate_batches("data", checked, batch_size=batch_size, device=CPU, shuffle=shuffle))


@dataclass
class Unsized:
    """Batches that can be read again and again, whose number nobody says."""

    parts: list[tuple[Tensor, Tensor]]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.parts)


@given(count=st.integers(1, 300), size=st.integers(1, 40))
def test_batches_cover_every_row_once(count: int, size: int) -> None:
    bounds = split_into_batches(count, size)
    assert [row for start, end in bounds for row in range(start, end)] == list(range(count))
    lengths = [end - start for start, end in bounds]
    assert all(length == size for length in lengths[:-1])
    assert 1 <= lengths[-1] <= size + 1
    if count > 1 and size > 1:
        assert lengths[-1] > 1  # one row alone has no batch statistics


def test_a_last_row_joins_the_batch_before() -> None:
    assert split_into_batches(9, 4) == [(0, 4), (4, 9)]
    assert split_into_batches(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert split_into_batches(1, 4) == [(0, 1)]


def test_a_pair_of_tensors_is_read_in_order() -> None:
    x, y = rows(10)
    found = read((x, y))
    assert [len(targets) for _, targets in found] == [4, 4, 2]
    assert torch.equal(torch.cat([inputs for inputs, _ in found]), x)
    assert torch.equal(torch.cat([targets for _, targets in found]), y)


def test_a_shuffle_is_a_permutation_of_the_rows_by_its_generator() -> None:
    x, _ = rows(50)
    y = torch.arange(50)
    one, same, other = (
        torch.cat([targets for _, targets in read((x, y), 8, torch.Generator().manual_seed(seed))])
        for seed in (1, 1, 2)
    )
    assert sorted(one.tolist()) == list(range(50))
    assert one.tolist() != list(range(50))
    assert torch.equal(one, same) and not torch.equal(one, other)
    for inputs, targets in read((x, y), 8, torch.Generator().manual_seed(1)):
        assert torch.equal(inputs, x[targets])


def test_iterables_keep_their_batches_and_their_order() -> None:
    parts = split(rows(10), [7, 1, 2])
    for data in (parts, Unsized(parts), [list(part) for part in parts]):
        found = read(data, 4, torch.Generator().manual_seed(1))
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(found, parts, strict=True))
        assert count_batches("data", as_data("data", data), 4) == 3
        assert torch.equal(read_targets("data", as_data("data", data)), torch.cat([y for _, y in parts]))


def test_loaders_and_pairs_are_counted() -> None:
    data = rows(10)
    assert count_batches("data", as_data("data", data), 4) == 3
    assert count_batches("data", as_data("data", data), 3) == 3  # 3, 3, 4
    assert count_batches("data", DataLoader(TensorDataset(*data), batch_size=4), 1) == 3
    assert torch.equal(read_targets("data", as_data("data", data)), data[1])


def test_a_batch_may_be_a_mapping_with_labels() -> None:
    x, y = rows(4)
    for key in ("labels", "label", "y", "target"):
        [(inputs, targets)] = read([{"a": x, key: y, "b": 2 * x}])
        assert list(inputs) == ["a", "b"]
        assert torch.equal(inputs["b"], 2 * x) and torch.equal(targets, y)


def test_what_is_no_tensor_passes_through() -> None:
    x, y = rows(4)
    [(inputs, _)] = read([{"a": x, "y": y, "training": False, "parts": (x, "text")}])
    assert inputs["training"] is False
    assert inputs["parts"][1] == "text" and torch.equal(inputs["parts"][0], x)


@pytest.mark.parametrize(
    ("batch", "kind"),
    [(torch.zeros(2), "a tensor [2]"), ((torch.zeros(2),), "a tuple of 1 parts"), (3, "a int")],
)
def test_what_is_no_batch(batch: Any, kind: str) -> None:
    with pytest.raises(TypeError) as caught:
        read([rows(2), batch])
    assert str(caught.value) == f"data: batch 1 must be a pair (inputs, targets), got {kind}"


@pytest.mark.parametrize("data", [[], Unsized([]), (torch.zeros(0, 2), torch.zeros(0).long())])
def test_no_samples(data: Any) -> None:
    with pytest.raises(ValueError, match=r"^data holds no samples; at least one is needed$"):
        read(data)
    if not isinstance(data, tuple):
        with pytest.raises(ValueError, match=r"^data holds no samples"):
            read_targets("data", data)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_data() -> None:
    with pytest.raises(TypeError) as caught:
        as_data("data", 3)  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == (
        "data must be an (x, y) pair of tensors, a dataset, or an iterable of (x, y) batches, got int"
    )
    for once in ((batch for batch in [rows(2)]), iter([rows(2)]), zip([1], [2], strict=True)):
        with pytest.raises(TypeError, match="that is used up after one pass; pass a list of batches, a DataLoader"):
            as_data("data", once)


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_row_is_named_by_its_place_in_the_data_also_when_shuffled(seed: int) -> None:
    x, y = rows(30)
    x[17, 1] = float("inf")
    with pytest.raises(ValueError, match=r"^data: row 17 holds NaN or infinity"):
        read((x, y), 4, torch.Generator().manual_seed(seed))
    with pytest.raises(ValueError, match=r"^data: row 17 holds NaN or infinity"):
        read(split((x, y), [9, 9, 12]))


def test_targets_and_every_part_of_the_inputs_are_looked_at() -> None:
    x, _ = rows(3)
    bad = x.clone()
    bad[2] = float("nan")
    for batch in ((x, bad[:, 0]), ({"a": x, "b": bad, "y": x[:, 0]}), ((x, bad), x[:, 0])):
        with pytest.raises(ValueError, match=r"^data: row 5 holds NaN or infinity"):
            read([(x, x[:, 0]), batch])


# ---------------------------------------------------------------- the first rows of a batch


def test_the_first_rows_of_every_tensor_of_a_batch() -> None:
    x, mask = torch.arange(20.0).view(10, 2), torch.ones(10)
    assert torch.equal(take_first_rows(x, 3), x[:3])  # pyright: ignore
    pair = take_first_rows((x, mask, torch.tensor(2.0), None, "mean"), 3)
    assert [part.shape if isinstance(part, Tensor) else part for part in pair] == [(3, 2), (3,), (), None, "mean"]
    named = take_first_rows({"x": x, "mask": mask, "scale": 2}, 3)
    assert isinstance(named, dict) and torch.equal(named["x"], x[:3]) and len(named["mask"]) == 3
    assert named["scale"] == 2


def test_a_batch_whose_rows_are_unclear_stays_whole() -> None:
    x = torch.ones(10, 2)
    for batch in ((x, torch.ones(1, 2)), {"x": x, "lengths": [1] * 10}, torch.tensor(1.0), (x, {"more": x}), ()):
        assert take_first_rows(batch, 3) is batch


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(2, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out(a - b)


def test_inputs_that_a_loader_made_a_list_of_are_arguments() -> None:
    """What torch's default collation makes of samples ((a, b), y)."""
    a, b, y = torch.ones(6, 2), torch.arange(12.0).view(6, 2), torch.arange(6) % 3
    samples: Any = [((a[i], b[i]), y[i]) for i in range(6)]
    model = build(Two, dtype=torch.float32)
    losses = [
        mc.measure_invariance(model, mc.Suite({"cue": data}, interventions=())).loss["cue"]
        for data in (DataLoader(samples, batch_size=4), [(a, b, y)])
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
