"""A pass waits for its device as often whatever the number of batches; no such device is needed to see it.

The device is a stand-in (`fake_device`): it counts what would wait, and refuses what CUDA refuses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from fake_device import DEVICE, device
from mechconn.core import isolate_rng
from mechconn.datasets import ImageSet, Normalised
from mechconn.losses import Binary, CrossEntropy, JoinedClasses, OverPositions

BATCH = 10


class Mean(nn.Module):
    """A small convolutional network with running statistics."""

    def __init__(self, outputs: int = 4, end: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(5, outputs)
        self.end = nn.Identity() if end is None else end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.head(self.inner(x).flatten(1)))


class Positions(nn.Module):
    """Three classes at each position of [N, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x[..., None])


def noise(rows: int, channels: int = 3) -> ImageSet:
    draw = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (rows, channels, 24, 24), generator=draw, dtype=torch.uint8)
    return ImageSet(x, torch.arange(rows) % 4, tuple("abcd"))


def pair(rows: int) -> tuple[Tensor, Tensor]:
    found = noise(rows)
    return found.inputs(torch.arange(rows)), found.y


def batches(rows: int) -> list[tuple[Tensor, Tensor]]:
    x, y = pair(rows)
    return list(zip(x.split(BATCH), y.split(BATCH), strict=True))


def cued(cue: mc.Cue) -> Callable[[int], Any]:
    def make(rows: int) -> Any:
        task = mc.datasets.cue_task(noise(rows), test=noise(rows), cue=cue)
        return task.suite["rand_cue"]

    return make


def tokens(rows: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(rows, 6, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6 * rows).view(rows, 6) % 3
    y[::3, 4:], y[1::7] = -100, -100
    return x, y


def several(rows: int) -> tuple[Tensor, Tensor]:
    return pair(rows)[0], torch.arange(4 * rows).view(rows, 4) % 3 % 2


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.square().mean(1)


def own_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


@dataclass
class Case:
    """Data of so many rows, and how they are evaluated."""

    data: Callable[[int], Any]
    model: Callable[[], nn.Module] = Mean
    how: dict[str, Any] = field(default_factory=dict)


CASES = {
    "bytes of images": Case(noise),
    "a pair of tensors": Case(pair),
    "batches of the user's": Case(batches),
    "a box drawn on them": Case(cued(mc.BoxCue())),
    "a coloured box": Case(cued(mc.HueBoxCue())),
    "normalised images": Case(lambda rows: Normalised(noise(rows), (0.5,), (0.2, 0.3, 0.4))),
    "dominoes": Case(cued(mc.DominoesCue(noise(20, channels=1)))),
    "rows that do not count": Case(pair, how={"loss": CrossEntropy(ignore_index=2)}),
    "a loss and a metric of the user's": Case(pair, how={"loss": own_loss, "metrics": {"squares": squares}}),
    "labels that are independent": Case(several, how={"loss": Binary()}),
    "positions": Case(tokens, Positions, {"loss": OverPositions(classes_at=-1)}),
    "joined classes": Case(
        lambda rows: (pair(rows)[0], torch.arange(rows) % 3), how={"loss": JoinedClasses(parts=((0,), (1, 3), (2,)))}
    ),
    "a network of probabilities": Case(noise, lambda: Mean(end=nn.Softmax(1))),
    "probabilities kept": Case(noise, how={"keep_probabilities": True}),
    "a regression": Case(
        lambda rows: (pair(rows)[0], torch.ones(rows, 4)), how={"loss": mc.losses.squared}
    ),
}  # fmt: skip


def build(case: Case) -> nn.Module:
    with isolate_rng(0):
        return case.model()


def read(case: Case, model: nn.Module, rows: int, where: Any) -> Any:
    suite = mc.Suite({"cue": case.data(rows)})
    evaluator = mc.Evaluator(model, suite, compute=mc.Compute(where, batch_size=BATCH), **case.how)
    return evaluator.outcomes()["cue"]


@pytest.mark.parametrize("name", CASES)
def test_a_pass_waits_as_often_whatever_the_number_of_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its outcomes are those of the CPU, to the last bit."""
    case, waits = CASES[name], []
    model = build(case)
    for rows in (40, 120):
        plain = read(case, model, rows, "cpu")
        with device(monkeypatch) as fake:
            found = read(case, model, rows, DEVICE)
        waits.append({what: count for what, count in fake.waits.items() if count})
        for what in ("loss", "targets", "counted", "class_probabilities"):
            a, b = getattr(found, what), getattr(plain, what)
            assert a is b if a is None or b is None else torch.equal(a, b), what
        assert found.probabilities == plain.probabilities
        assert (found.answers is None) == (plain.answers is None)
        for what in () if plain.answers is None else vars(plain.answers):
            a, b = getattr(found.answers, what), getattr(plain.answers, what)
            assert torch.equal(a, b) if isinstance(a, Tensor) else a == b, what
    assert waits[0] == waits[1]


def test_the_count_sees_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round: a loss that looks at its values waits once a batch."""

    def looking(outputs: Tensor, targets: Tensor) -> Tensor:
        return own_loss(outputs, targets) if float(outputs.sum()) else outputs[:, 0]

    case, waits = Case(pair, how={"loss": looking}), []
    for rows in (40, 120):
        with device(monkeypatch) as fake:
            read(case, build(case), rows, DEVICE)
        waits.append(sum(fake.waits.values()))
    assert waits[1] - waits[0] == 8


def test_images_travel_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    case, rows = CASES["bytes of images"], 120
    model = build(case)
    with device(monkeypatch) as fake:
        read(case, model, rows, DEVICE)
    held = sum(4 * p.numel() for p in (*model.parameters(), *model.buffers()))
    assert fake.uploaded[torch.uint8] == rows * 3 * 24 * 24
    assert fake.uploaded[torch.float32] <= 2 * held  # the point's own, loaded and its buffers apart


@pytest.mark.parametrize("kind", ["pair", "batches", "moving"])
def test_a_row_that_is_not_finite_is_named_as_on_the_cpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found at the end of the pass: what came before is dropped."""
    x, y = pair(60)
    x[37, 0, 0, 0] = torch.nan
    data: Any = (x, y) if kind == "pair" else list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    if kind == "moving":
        data = Moving(x, y)
    suite, model = mc.Suite({"cue": data}), build(CASES["a pair of tensors"])
    messages = []
    for where in ("cpu", DEVICE):
        with device(monkeypatch), pytest.raises(ValueError, match="row 37 holds NaN or infinity") as caught:
            mc.Evaluator(model, suite, compute=mc.Compute(where, batch_size=BATCH)).outcomes()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


class Moving:
    """A source of the user's that is held by the device."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def inputs(self, index: Tensor) -> Tensor:
        return self.x[index.to(self.x.device)]

    def to(self, where: Any) -> Moving:
        return Moving(self.x.to(where), self.y)


@pytest.mark.gpu
def test_bytes_are_scaled_on_a_gpu_to_the_bits_of_the_cpu() -> None:
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = ImageSet(x, torch.zeros(1, dtype=torch.int64), ("a",))
    there = images.to("cuda").inputs(torch.tensor([0]))
    assert torch.equal(there.cpu(), images.inputs(torch.tensor([0])))


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu_a_pass_waits_as_often_and_finds_the_same(name: str) -> None:
    """CUDA's own count: `set_sync_debug_mode` warns at every operation that waits."""
    case, counts = CASES[name], []
    model = build(case)
    for rows in (40, 120):
        read(case, model, rows, "cuda")  # what is made at a first call
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                found = read(case, model, rows, "cuda")
        finally:
            torch.cuda.set_sync_debug_mode("default")
        counts.append(len(seen))
        torch.testing.assert_close(found.loss, read(case, model, rows, "cpu").loss, rtol=1e-4, atol=1e-5)
    assert counts[0] == counts[1]
