"""Notes: where a method did nothing, or harm, a result says so in a sentence whose advice works; else it has none."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from operations import METHODS, ON_NORM_MLP
from stopping import Counting, StoppedError
from zoo import CLASSES, build, mlp, norm_mlp, rows, split

CLEAN, CUED = rows(48), rows(48, 3)
OPPOSED = CLEAN[0], (CLEAN[1] + 1) % CLASSES
"""Learning makes the loss on these larger."""


def one_note(tuned: mc.Trained, begins: str) -> str:
    (found,) = [note for note in tuned.notes if note.startswith(begins)]
    assert "\n" not in found and found.endswith(".")
    return found


def numbers(note: str) -> list[float]:
    return [float(found.rstrip(".")) for found in re.findall(r"\d+[\d.]*(?:e[+-]\d+)?", note)]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_works_has_nothing_to_note(name: str) -> None:
    """But for CBFT, whose two epochs here are too few to leave the basin."""
    notes = mc.fine_tune(build(norm_mlp), ON_NORM_MLP[name], clean=CLEAN, cued=CUED).notes
    assert [note for note in notes if not note.startswith("CBFT's barrier term ended near its start")] == []


# ---------------------------------------------------------------- CBFT


@cache
def start(epochs: int = 150) -> nn.Module:
    """A network whose loss on the data with the cue is near zero, 0.0008; after 20 epochs 0.009."""
    method = mc.Training(epochs=epochs, batch_size=16, lr=0.3, milestones=(), weight_decay=0.0)
    return mc.train(build(mlp), CUED, method).model


def cbft(model: nn.Module, lr: float, **changes: Any) -> mc.Trained:
    settings: dict[str, Any] = {"epochs": 30, "batch_size": 16, "invariance": False, **changes}
    return mc.fine_tune(model, mc.CBFT(lr=lr, **settings), clean=CLEAN, cued=CUED)


def test_cbft_notes_that_its_barrier_term_stayed_and_larger_rates_and_more_epochs_move_it() -> None:
    """A start of near zero loss, and a rate that is too low: the loss on the path stays as far below the margin."""
    model = start()
    still = cbft(model, 0.0003)
    note = one_note(still, "CBFT's barrier term ended near its start")
    assert numbers(note)[:5] == [0.999, 1.0, 0.999, 23.0, 29.0]  # three steps an epoch, so that 7 hold the last 20
    assert [round(record["barrier"], 3) for record in still.history[23:]] == [0.999] * 7
    assert "raise lr (now 0.0003) or epochs (now 30), or start from a model that was trained for fewer epochs" in note
    assert cbft(model, 0.02).notes == ()
    assert cbft(model, 0.002, epochs=30).notes and cbft(model, 0.002, epochs=200).notes == ()


def test_a_start_that_was_trained_for_fewer_epochs_leaves_its_basin() -> None:
    assert cbft(start(150), 0.005).notes and not cbft(start(5), 0.005).notes


def test_a_loss_above_the_margin_is_a_barrier_and_no_term_has_no_note() -> None:
    model = build(norm_mlp, 4)
    with torch.no_grad():
        assert float(cross_entropy(build(norm_mlp, 4).train()(CUED[0]), CUED[1])) > 0.5
    assert cbft(model, 1e-5, barrier_margin=0.1).notes == ()
    assert cbft(start(20), 1e-5, barrier=False).notes == ()
    assert cbft(start(20), 1e-5, barrier_margin=0.0).notes == ()


def test_weights_from_the_warm_up_are_noted() -> None:
    settings: dict[str, Any] = {"clean": CLEAN, "cued": CUED, "validation": OPPOSED}
    tuned = mc.fine_tune(build(mlp), mc.CBFT(epochs=4, lr=0.1, batch_size=16), **settings)
    assert tuned.settings["selected_epoch"] == 0
    note = one_note(tuned, "CBFT gives the weights of epoch 0, which validation data selected")
    assert note.endswith("used from epoch 1 on. Leave validation out, or set warmup_epochs=0.")
    changed = [
        mc.fine_tune(build(mlp), mc.CBFT(epochs=4, lr=0.1, batch_size=16, warmup_epochs=0), **settings),
        mc.fine_tune(build(mlp), mc.CBFT(epochs=4, lr=0.1, batch_size=16), clean=CLEAN, cued=CUED),
    ]
    assert not any("which validation data selected" in note for found in changed for note in found.notes)


def test_an_invariance_term_that_compares_nothing_is_noted() -> None:
    """Clean batches of classes 0 and 1, cued batches of class 2; then batches that hold all classes."""
    x, y = rows(60)
    clean, cued = [(x[y < 2], y[y < 2])], [(x[y == 2], y[y == 2])]
    method = mc.CBFT(epochs=2, barrier=False)
    tuned = mc.fine_tune(build(mlp), method, clean=clean, cued=cued)
    assert tuned.history[-1]["invariance"] == 0.0
    note = one_note(tuned, "CBFT's invariance term was exactly zero in every epoch")
    assert note.endswith("Give batches that hold all classes, and cued data with a cue.")
    assert mc.fine_tune(build(mlp), method, clean=[(x, y)], cued=[rows(60, 3)]).notes == ()


# ---------------------------------------------------------------- a new head


def head_loss(method: mc.LastLayerRetraining) -> float:
    tuned = mc.fine_tune(build(mlp), method, clean=CLEAN)
    with torch.no_grad():
        return float(cross_entropy(tuned.model(CLEAN[0]), CLEAN[1]))


@pytest.mark.parametrize("held_out", [None, OPPOSED], ids=["last", "validation"])
def test_a_head_that_ends_above_its_start_is_noted(held_out: Any) -> None:
    """The start is what a vanishing rate leaves; the end is the last epoch's mean, or the loss that selected."""
    method = mc.LastLayerRetraining(epochs=3, lr=300.0)
    tuned = mc.fine_tune(build(mlp), method, clean=CLEAN, validation=held_out)
    still = mc.fine_tune(build(mlp), mc.LastLayerRetraining(epochs=1, lr=1e-300), clean=CLEAN).model
    x, y = CLEAN if held_out is None else held_out
    with torch.no_grad():
        begun = float(cross_entropy(still(x), y))
    epoch = tuned.settings.get("selected_epoch", 2)
    ended = tuned.history[epoch]["head" if held_out is None else "validation"]
    note = one_note(tuned, "The new head's loss")
    # Four digits are printed.
    assert numbers(note)[:3] == [pytest.approx(ended, rel=1e-3), epoch, pytest.approx(begun, rel=1e-3)]
    assert note.endswith("set lr below 300, or leave it out.")
    for better in (mc.LastLayerRetraining(epochs=3), mc.LastLayerRetraining(epochs=3, lr=1.0)):
        assert mc.fine_tune(build(mlp), better, clean=CLEAN).notes == ()


def test_lpft_notes_it_of_its_probe_also_when_it_is_resumed_behind_it(tmp_path: Path) -> None:
    probe = mc.LastLayerRetraining(epochs=3, lr=300.0, batch_size=16)
    method = mc.LPFT(probe=probe, tuning=mc.NaiveFineTuning(epochs=2, batch_size=16))
    place = mc.Checkpoint(tmp_path / "run.safetensors", every=1)
    whole = mc.fine_tune(build(mlp), method, clean=CLEAN)
    with pytest.raises(StoppedError):
        mc.fine_tune(build(mlp), method, clean=CLEAN, loss=Counting(1 + 9 + 4), checkpoint=place)
    resumed = mc.fine_tune(build(mlp), method, clean=CLEAN, checkpoint=place)
    assert resumed.notes == whole.notes and one_note(whole, "The new head's loss")


# ---------------------------------------------------------------- any method


@pytest.mark.parametrize(("kind", "low"), [(torch.float64, 1e-30), (torch.float32, 1e-12), (torch.bfloat16, 1e-6)])
def test_weights_that_did_not_move_are_noted(kind: torch.dtype, low: float) -> None:
    """Rates below the resolution of each type; of bfloat16 that of the result, whose masters do move."""
    model, clean = build(mlp, dtype=kind), rows(48, dtype=kind)
    still, moved = (mc.fine_tune(model, mc.NaiveFineTuning(lr=lr), clean=clean) for lr in (low, 0.1))
    assert "raise lr" in one_note(still, "NaiveFineTuning changed no weight") and moved.notes == ()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in still.model.state_dict().items())


def test_a_selection_of_the_first_epoch_is_noted() -> None:
    method = mc.NaiveFineTuning(epochs=3, lr=0.1)
    tuned = mc.fine_tune(build(mlp), method, clean=CLEAN, validation=OPPOSED)
    losses = [record["validation"] for record in tuned.history]
    assert losses[0] == min(losses)
    note = one_note(tuned, "Validation data selected the first of 3 epochs of fine-tuning")
    assert numbers(note)[1:] == [pytest.approx(losses[0], rel=1e-3), pytest.approx(min(losses[1:]), rel=1e-3)]
    assert mc.fine_tune(build(mlp), method, clean=CLEAN, validation=CLEAN).notes == ()


def test_a_penalty_that_is_zero_throughout_is_noted() -> None:
    batches = split(CLEAN, [16, 16, 16])
    same = mc.fine_tune(build(mlp), mc.VREx(epochs=2), clean=batches, cued=batches)
    note = one_note(same, "VREx's variance was exactly zero in every epoch")
    assert note.endswith(
        "the data with the cue are not the clean data, and that the loss depends on the scale of the outputs."
    )
    assert mc.fine_tune(build(mlp), mc.VREx(epochs=2), clean=batches, cued=split(CUED, [16, 16, 16])).notes == ()
    assert mc.fine_tune(build(mlp), mc.VREx(epochs=2, penalty=0.0), clean=batches, cued=batches).notes == ()
    flat = mc.fine_tune(build(mlp), mc.IRM(epochs=2), clean=CLEAN, cued=CUED, loss=lambda outputs, _: 0 * outputs[:, 0])
    assert one_note(flat, "IRM's penalty was exactly zero in every epoch")


@pytest.mark.parametrize("method", [mc.GroupDRO(epochs=2, batch_size=16), mc.DFR(draws=2)])
def test_one_group_is_noted(method: Any) -> None:
    name = type(method).__name__
    alone = mc.fine_tune(build(mlp), method, clean=CLEAN, groups=["all"] * 48)
    assert "give groups= of two labels or more" in one_note(alone, f"{name} had one group")
    assert mc.fine_tune(build(mlp), method, clean=CLEAN, groups=[row // 24 for row in range(48)]).notes == ()


def test_a_comparison_shows_the_notes_under_its_table() -> None:
    suite = mc.Suite({"cue": CUED, "rand_cue": rows(48, 5)}, reference="cue")
    task = mc.TuningTask(build(mlp), CLEAN, suite, groups=["all"] * 48, seed=7)
    table = mc.compare_methods(task, {"robust": METHODS["GroupDRO"], "plain": METHODS["NaiveFineTuning"]})
    text, (note,) = str(table).splitlines(), table.runs[1].notes
    assert text[-2:] == ["", f"robust, seed 7: {note}"] and note.startswith("GroupDRO had one group")
    assert table.runs[0].notes == table.runs[2].notes == ()
    assert [run["trained"]["notes"] for run in table.to_dict()["runs"]] == [[], [note], []]
