"""Outputs of layers that are no plain [N, units]: what linear CKA makes of them, against the slow definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import mechconn as mc
from mechconn.core import isolate_rng
from reference_audit import cka_by_grams
from zoo import CLASSES, FEATURES, Batch, Recurrent, build, images, rows

with isolate_rng(0, "import"):
    import transformers

hf: Any = transformers
STEPS, WIDTH = 5, 6


def cka(factory: Callable[[], nn.Module], data: Any, **settings: Any) -> mc.RepresentationSimilarity:
    return mc.representation_similarity(build(factory, 0).eval(), build(factory, 1).eval(), data, **settings)


def sequences(count: int = 12) -> Batch:
    x, y = rows(count * STEPS)
    return x.view(count, STEPS, FEATURES), y[:count]


@dataclass
class Output:
    hidden: Tensor
    other: Tensor


class Wraps(nn.Module):
    """Its inner layer's output comes in a wrapping."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.wrap = nn.Linear(FEATURES, 5), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.inner(x))


class Holds(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.part, self.head = Wraps(wrap), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.part(x)
        return self.head(x)


WRAPPINGS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda z: (z, -z.sum()),
    "list within a tuple": lambda z: ([z, z.sum()], "text"),
    "mapping": lambda z: {"hidden": z, "more": None},
    "dataclass": lambda z: Output(z, z.sum()),
    "output of transformers": lambda z: hf.modeling_outputs.BaseModelOutput(last_hidden_state=z, hidden_states=(z, z)),
}


@pytest.mark.parametrize("kind", WRAPPINGS)
def test_outputs_of_several_parts_give_their_first(kind: str) -> None:
    found = cka(lambda: Holds(WRAPPINGS[kind]), rows(12), layers=["part", "part.inner"])
    assert found["part"] == found["part.inner"] is not None


def test_one_number_a_row_is_one_unit() -> None:
    found = cka(lambda: Holds(lambda z: z[:, 0]), rows(12), layers=["part"])
    x, _ = rows(12)
    units = [build(lambda: Holds(lambda z: z), seed).get_submodule("part")(x)[:, :1] for seed in (0, 1)]
    assert found["part"] == pytest.approx(cka_by_grams(*units), rel=1e-9)
    assert found.widths["part"] == (1, 1)
    whole = cka(lambda: Holds(lambda z: z.argmax(1)), rows(12), layers=["part"])
    assert whole.widths["part"] == (1, 1)


class Steps(nn.Module):
    """Sequences through an LSTM, in one of three layouts."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.cell, self.layout = nn.LSTM(FEATURES, WIDTH, batch_first=layout == "rows first"), layout
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if self.layout == "packed":
            packed = pack_padded_sequence(x, lengths(len(x)), batch_first=True, enforce_sorted=False)
            return self.head(self.cell(packed)[1][0][0])
        if self.layout == "rows first":
            return self.head(self.cell(x)[0][:, -1])
        return self.head(self.cell(x.transpose(0, 1))[0][-1])


def lengths(count: int) -> Tensor:
    return torch.tensor([2, 5, 3, 1, 4, 5])[torch.arange(count) % 6]


@pytest.mark.parametrize("layout", ["rows first", "steps first", "packed"])
def test_steps_of_a_recurrent_layer_are_averaged_row_by_row(layout: str) -> None:
    (x, y) = sequences()
    found = cka(lambda: Steps(layout), (x, y), layers=["cell"])["cell"]
    units = []
    for seed in (0, 1):
        cell: Any = build(lambda: Steps(layout), seed).cell
        cell.batch_first = True
        long = lengths(12) if layout == "packed" else [STEPS] * 12
        units.append(torch.stack([cell(row[None, :n])[0][0].mean(0) for row, n in zip(x, long, strict=True)]))
    assert found == pytest.approx(cka_by_grams(*units), rel=1e-9)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_sequences_that_a_padding_mask_makes() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.TransformerEncoder(nn.TransformerEncoderLayer(FEATURES, 2, 8, batch_first=True), 1)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.arange(STEPS) >= 1 + torch.arange(len(x))[:, None] % 5
            return self.block(x, src_key_padding_mask=hidden).mean(1)

    x, y = sequences()
    found = cka(Masked, (x, y))["block.layers.0.linear1"]
    units = []
    for seed in (0, 1):
        masked: Any = build(Masked, seed).eval()
        layer = masked.block.layers[0]
        seen: list[Tensor] = []
        layer.linear1.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out[0].mean(0)))
        for number, row in enumerate(x):
            layer(row[None, : 1 + number % 5])
        units.append(torch.stack(seen))
    assert found == pytest.approx(cka_by_grams(*units), rel=1e-9)


def test_what_a_later_layer_writes_into_an_activation_is_not_seen() -> None:
    plain, written = (lambda inplace=i: nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(inplace)) for i in (False, True))
    assert cka(written, rows(12)).layers == cka(plain, rows(12)).layers


def test_a_layer_of_two_widths() -> None:
    (x, y), (z, _) = sequences(6), sequences(6)
    batches = [(x, y), (z[:, :3], y)]
    with pytest.raises(ValueError, match=r"^layer 'part' of model_a gives 5 units on one batch and 3 on another; name"):
        cka(lambda: Holds(lambda z: z.mean(2)), batches, layers=["part"])


def test_transposed_convolutions_and_recurrent_cells() -> None:
    up = lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.Flatten(), nn.LazyLinear(3))  # noqa: E731

    def built() -> nn.Module:
        model = up()
        model(images(1)[0].float())
        return model

    x, y = images(12)
    found = cka(built, (x, y))
    assert list(found) == ["0", "2"]
    here, there = (build(built, seed).get_submodule("0")(x).flatten(2).mean(2) for seed in (0, 1))
    assert found["0"] == pytest.approx(cka_by_grams(here, there), rel=1e-9)
    assert cka(Recurrent, rows(12), layers=["cell"]).widths == {"cell": (5, 5)}
