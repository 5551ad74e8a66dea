"""What users may hand to `fine_tune`: loaders of every kind, odd last batches, and mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import mechconn as mc
from zoo import build, mlp, norm_mlp, rows


class Stream(IterableDataset[Any]):
    """Samples that do not tell how many they are."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return iter(list(zip(*self.data, strict=True)))


@pytest.mark.parametrize("method", [mc.NaiveFineTuning(epochs=2, batch_size=8), mc.CBFT(epochs=2, batch_size=8)])
def test_a_loader_that_cannot_tell_its_length_is_read_to_its_end(method: Any) -> None:
    loaders: list[dict[str, Any]] = [
        {name: DataLoader(kind(rows(24, seed)), batch_size=8) for name, seed in (("clean", 0), ("cued", 3))}
        for kind in (Stream, lambda data: TensorDataset(*data))
    ]
    streamed, known = (mc.fine_tune(build(norm_mlp), method, **data) for data in loaders)
    assert streamed.history == known.history
    task = mc.TuningTask(build(norm_mlp), suite=mc.Suite({"cue": rows(8)}, interventions=()), **loaders[0])
    assert mc.compare_methods(task, {"a": method}, passes=9).runs[1].settings["epochs"] == 9 // method.passes(1) // 3


@pytest.mark.parametrize(("clean", "cued", "text"), [(17, 24, "of clean data has"), (24, 17, "of cued data 1 has")])
def test_a_batch_of_one_row_that_cannot_be_normalised_is_told_as_such(clean: int, cued: int, text: str) -> None:
    data: dict[str, Any] = {
        name: DataLoader(TensorDataset(*rows(count)), batch_size=8)
        for name, count in (("clean", clean), ("cued", cued))
    }
    method = mc.IRM(epochs=1)
    with pytest.raises(ValueError, match=rf"more than 1 value per channel.*{text} one row; .*drop_last=True"):
        mc.fine_tune(build(norm_mlp), method, **data)
    assert mc.fine_tune(build(mlp), method, **data).history
    labels = (rows(1)[0], torch.tensor([9]))
    with pytest.raises(ValueError, match=r"^labels must lie in 0 \.\.\. 2, the model's outputs, got 9 \.\.\. 9$"):
        mc.fine_tune(build(mlp), mc.IRM(epochs=1), clean=rows(8), cued=[labels])


WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "checkpoint": (
        lambda: mc.fine_tune(build(mlp), mc.NaiveFineTuning(), clean=rows(8), checkpoint="a.safetensors"),  # pyright: ignore
        TypeError,
        "checkpoint must be a Checkpoint, got str; write mechconn.Checkpoint(file)",
    ),
    "device": (
        lambda: mc.fine_tune(build(mlp), mc.NaiveFineTuning(), clean=rows(8), device="cuda"),
        ValueError,
        "device 'cuda' was asked for, but no CUDA device is here; use 'cpu'",
    ),
    "milestones": (
        lambda: mc.Training(milestones=3),  # pyright: ignore
        TypeError,
        "milestones must be a tuple or a list, got 3",
    ),
    "keep": (
        lambda: mc.Scratch(keep="0.weight"),  # pyright: ignore
        TypeError,
        "keep must be a tuple or a list, got '0.weight'",
    ),
    "probe": (
        lambda: mc.LPFT(probe=mc.NaiveFineTuning()),  # pyright: ignore
        TypeError,
        "probe must be a LastLayerRetraining, got NaiveFineTuning",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("what", WRONG)
def test_mistakes_are_told_in_one_line(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    call, error, text = WRONG[what]
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


def test_under_inference_mode_it_trains_all_the_same() -> None:
    expected = mc.fine_tune(build(mlp), mc.CBFT(epochs=2), clean=rows(24), cued=rows(24, 3))
    data = rows(24), rows(24, 3)
    with torch.inference_mode():
        found = mc.fine_tune(build(mlp), mc.CBFT(epochs=2), clean=data[0], cued=data[1])
    assert found.history == expected.history and not found.model.get_parameter("0.weight").is_inference()
