"""The result of a training: what it prints and draws, and what of it a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import mechconn as mc
from zoo import build, mlp, rows

METHOD = mc.LPFT(
    probe=mc.LastLayerRetraining(epochs=2, batch_size=8, lr=0.1), tuning=mc.NaiveFineTuning(epochs=3, batch_size=8)
)


def tuned(method: Any = METHOD) -> mc.Trained:
    return mc.fine_tune(build(mlp), method, clean=rows(24), seed=5)


def test_print_says_what_was_trained_and_how_the_loss_fell() -> None:
    found = tuned()
    first, *terms = str(found).splitlines()
    assert first.startswith("LPFT: 5 epochs, 24 samples, seed 5, float64 on cpu, ") and first.endswith(" s")
    ends = {name: [r[name] for r in found.history if name in r] for name in ("head", "clean")}
    assert terms == [
        f"  {name}: {values[0]:.4g} in the first epoch, {values[-1]:.4g} in the last" for name, values in ends.items()
    ]
    assert repr(found) == f"Trained: {found}"


def test_notes_are_printed_and_no_epochs_are_none() -> None:
    still = tuned(mc.NaiveFineTuning(epochs=1, lr=1e-30))
    assert str(still).splitlines()[-1] == f"  note: {still.notes[0]}"
    assert str(tuned(mc.DFR(draws=2))).startswith("DFR: no epochs, 24 samples")


def test_rows_have_equal_keys() -> None:
    found = tuned()
    records = found.rows()
    assert [record["epoch"] for record in records] == [0, 1, 0, 1, 2]
    assert {tuple(record) for record in records} == {("epoch", "lr", "head", "clean")}
    assert records[0]["clean"] is None and records[4]["clean"] == found.history[4]["clean"]
    assert tuned(mc.DFR(draws=2)).rows() == []


def test_a_saved_training_comes_back_without_its_model(tmp_path: Path) -> None:
    found = tuned()
    found.save(tmp_path / "training.json")
    again = mc.load_result(tmp_path / "training.json")
    assert isinstance(again, mc.Trained) and again.to_dict() == found.to_dict() and str(again) == str(found)
    assert again.to_dict()["kind"] == "trained" and "model" not in again.to_dict()
    assert again.history == found.history
    text = r"this Trained was read from a file, and files hold no model; train it again, or save its weights beside it"
    with pytest.raises(AttributeError, match=text):
        _ = again.model


def test_weights_saved_beside_it_come_back(tmp_path: Path) -> None:
    """The advice of the error above."""
    trained = tuned()
    save_file(trained.model.state_dict(), tmp_path / "model.safetensors")
    model = mc.load_model(lambda: build(mlp, 3), tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, trained.model.state_dict()[name]) for name, tensor in model.state_dict().items())
    same = tuned()
    assert all(torch.equal(t, same.model.state_dict()[name]) for name, t in trained.model.state_dict().items())


def test_a_notebook_shows_the_history_and_the_notes() -> None:
    found = tuned()
    (history,) = found.sections()
    assert [row[0] for row in found.tables()[0].rows] == ["head", "clean"] and history.figures[0].draw().axes
    assert "<svg" in found._repr_html_() and found.header().title == str(found).splitlines()[0]
    bare = tuned(mc.DFR(draws=2))
    assert bare.sections() == [] and "<svg" not in bare._repr_html_()
    still = tuned(mc.NaiveFineTuning(epochs=1, lr=1e-30))
    assert still.sections()[1].text == still.notes[0]


def test_a_panel_may_be_given() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    assert tuned().plot(ax=axes) is figure and len(axes.lines) == 3  # two terms, and where the parts meet
