"""Data and labels by which an answer about reliance would be wrong or missing in silence."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.datasets import Normalised, TokenSet


class Bright(nn.Module):
    """Class 1 where the mean is above 0; one output for every position with `each`."""

    def __init__(self, each: bool = False) -> None:
        super().__init__()
        self.each = each

    def forward(self, x: Tensor) -> Tensor:
        mean = x.float().mean(1) if self.each else x.float().flatten(1).mean(1)
        return torch.stack([-mean, mean], 1)


def draw_images(rows: int = 40, side: int = 12) -> tuple[Tensor, Tensor]:
    x = torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return x, torch.arange(rows) % 2


def test_labels_of_positions_do_not_move_with_the_pixels() -> None:
    x, _ = draw_images()
    data, names = (x, (x.mean(1) > 0).long()), ["flip", "rotate", "translate", "patch-shuffle", "grey"]
    found = mc.reliances(Bright(each=True), data, names, loss=mc.losses.over_positions)
    assert set(found.left_out) == {"flip", "rotate", "translate", "patch-shuffle"} and list(found) == ["grey"]
    assert "labels are of positions, [12, 12] a row" in found.left_out["flip"]
    kept = mc.reliances(Bright(True), data, ["flip"], loss=mc.losses.over_positions, label_changing="keep")
    assert kept.relies_on == ("flip",) and "labels are of positions" in str(kept)
    assert not mc.reliances(Bright(), draw_images(), names).left_out


def test_labels_of_tokens_do_not_move_with_them() -> None:
    class Tags(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return nn.functional.one_hot(input_ids % 2).float()

    ids = torch.randint(5, 50, (30, 6), generator=torch.Generator().manual_seed(0))
    shuffle = {"name": "word-shuffle", "special": (), "pad_id": 0}
    data = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ids % 2
    with pytest.raises(ValueError, match=r"labels are of positions, \[6\] a row, and do not move with the tokens"):
        mc.reliances(Tags(), data, [shuffle], loss=mc.losses.over_positions)
    texts = TokenSet(ids, torch.ones_like(ids), ids[:, 0] % 2, ("even", "odd"), special=(), pad_id=0)
    assert not mc.interventions.WordShuffle().explain_label_change(texts)


class Augmented(Dataset[Any]):
    """Rows that are mirrored by chance whenever they are read."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        x, y = draw_images()
        return (x[row].flip(-1) if float(torch.rand(())) < 0.5 else x[row]), int(y[row])


def test_data_that_are_drawn_anew_at_every_read_are_refused() -> None:
    for ask in (
        lambda: mc.reliances(Bright(), Augmented(), ["blur"]),
        lambda: mc.measure_dose_response(Bright(), Augmented(), "blur", 3),
    ):
        refused = pytest.raises(
            ValueError, match="give a row other inputs when it is read again, as random augmentation"
        )
        with isolate_rng(0), refused:
            ask()


def test_images_in_any_order_of_memory_are_compared() -> None:
    x, y = draw_images()
    found = mc.reliances(Bright(), (x.contiguous(memory_format=torch.channels_last), y), ["blur", "grey"])
    same = mc.reliances(Bright(), (x, y), ["blur", "grey"])
    assert found.rows() == same.rows()


def test_small_changes_of_large_values_are_changes() -> None:
    draw = torch.randn(2, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.stack([1.7e9 + 1e3 * draw[0], 1e-9 * draw[1]], 1)  # seconds, and a tiny unit

    class Later(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = (x[:, 0] - 1.7e9) / 1e3 + 1e9 * x[:, 1]
            return torch.stack([-score, score], 1)

    found = mc.reliances(Later(), (x, (draw.sum(0) > 0).long()))
    assert set(found.relies_on) == {"swap-column 0", "swap-column 1"} and not found.left_out


def test_bytes_are_refused_by_every_intervention_on_images() -> None:
    x, y = draw_images()
    for name in ("rotate", "translate", "colour-shift", "grey"):
        with pytest.raises(ValueError, match=r"needs images of floating point in \[-1, 1\], got uint8; .*ImageSet"):
            mc.reliances(Bright(), ((x * 127 + 128).to(torch.uint8), y), [name])


def test_the_scale_of_zero_to_one_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    x, y = draw_images()
    data = x / 2 + 0.5, y
    with caplog.at_level(logging.WARNING, "mechconn"):
        found = mc.reliances(Bright(), data, ["blur", "grey", "contrast"])
    assert sum("as images in [0, 1] do" in record.message for record in caplog.records) == 1
    assert sum("as images in [0, 1] do" in note for note in found.invariance.notes) == 1
    dose = mc.measure_dose_response(Bright(), data, "contrast", 3)
    assert sum("as images in [0, 1] do" in note for note in dose.notes) == 1
    told = mc.reliances(Bright(), Normalised.of(data, 0, 1), ["blur", "grey", "contrast"])  # the remedy
    assert not any("as images in [0, 1] do" in note for note in told.invariance.notes)


def test_not_a_number_is_called_so() -> None:
    x, y = draw_images()
    x[3, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"^Blur needs images in \[-1, 1\], got NaN in 40 rows looked at"):
        mc.reliances(Bright(), (x, y), ["blur"])


def test_rows_in_one_chain_leave_out_what_shows_other_rows() -> None:
    x, y = draw_images()
    few = mc.reliances(Bright(), (x[:3], y[:3]))
    assert few.left_out["texture"] == "rows of the data stand in for each other; give more data" and "blur" in list(few)
    people = torch.arange(40) // 8
    found = mc.reliances(Bright(), (x, y), cluster=people)
    assert "within=" in found.left_out["texture"] and "blur" in list(found)
    with isolate_rng(0):
        columns, linear = (x.flatten(1)[:, :3], y), nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"rows of these stand in for each other; leave cluster= out, or .* within="):
        mc.reliances(linear, columns, cluster=people)
    named = {"name": "swap-column", "within": people}
    assert len(mc.reliances(linear, columns, [named], cluster=people)) == 3  # the remedy
    with pytest.raises(ValueError, match=r"or are of one cluster, and an interval needs .* or within= the clusters"):
        mc.reliances(linear, columns, ["swap-column"], cluster=people)


def test_a_dose_that_changes_nothing_says_so() -> None:
    x, y = torch.full((20, 3, 8, 8), 0.25), torch.arange(20) % 2
    found = mc.measure_dose_response(Bright(), (x, y), "blur", 3)
    assert "strength 1.0 changes none of the 20 rows looked at, so that every model is invariant to it" in found.notes
    assert not mc.measure_dose_response(Bright(), draw_images(), "blur", 3).notes
    with pytest.raises(ValueError, match="needs two rows or more for its intervals, got 1"):
        mc.measure_dose_response(Bright(), (x[:1], y[:1]), "blur", 3)


def test_a_name_in_other_case_is_suggested() -> None:
    with pytest.raises(ValueError, match="got 'adamW'; did you mean 'adamw'"):
        mc.NaiveFineTuning(optimizer="adamW")
    with pytest.raises(TypeError, match=r"words must be the name of a list, a mapping, or a group .*, got 3"):
        mc.interventions.SwapWords(words=3)  # pyright: ignore
