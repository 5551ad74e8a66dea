"""JTT and AFR: rows weighted up that a model gets wrong, or is unsure of, by hand; and what they read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from zoo import CLASSES, FEATURES, build, mlp, norm_mlp, rows

CLEAN, CUED = rows(24), rows(40, 3)
ONE_STEP: dict[str, Any] = {"epochs": 1, "batch_size": 50, "lr": 0.3, "momentum": 0.0, "weight_decay": 0.0}


def joined(*data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    return x, y


# ---------------------------------------------------------------- JTT


@pytest.mark.parametrize("on", ["cued", "clean", "both"])
def test_a_step_of_jtt_by_hand(on: Any) -> None:
    """The model itself says which rows are wrong; of several data the heap of all their rows."""
    model = build(mlp)
    x, y = {"cued": CUED, "clean": CLEAN, "both": joined(CLEAN, CUED)}[on]
    wrong = model(x).argmax(1) != y
    weights = torch.where(wrong, 5.0, 1.0).double()
    loss = (weights * cross_entropy(model(x), y, reduction="none")).sum() / weights.sum()
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    method = mc.JTT(on=on, upweight=5.0, identify_epochs=0, **ONE_STEP)
    tuned = mc.fine_tune(model, method, clean=CLEAN, cued=CUED)
    assert 0 < int(wrong.sum()) < len(y) and sum(tuned.settings["errors"]) == int(wrong.sum())
    assert tuned.history[0]["reweighted"] == pytest.approx(float(loss.detach()))
    for (name, old), slope in zip(model.named_parameters(), slopes, strict=True):
        torch.testing.assert_close(tuned.model.get_parameter(name), old - 0.3 * slope, rtol=1e-12, atol=1e-14)


def test_the_first_network_is_fresh_weights_trained_on_the_same_rows() -> None:
    """Its errors are those of `Scratch` by the same steps, up to the draw of the fresh weights: here there is none."""

    class Zeroed(nn.Linear):
        def reset_parameters(self) -> None:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)

    x, y = CUED
    model = build(lambda: Zeroed(FEATURES, CLASSES))
    with torch.no_grad():
        model.get_parameter("weight").normal_(generator=torch.Generator().manual_seed(1))
    start = mc.with_parameters(model, {name: torch.zeros_like(t) for name, t in mc.parameters_of(model).items()})
    first = mc.fine_tune(start, mc.NaiveFineTuning(**ONE_STEP), clean=CUED).model
    found = mc.fine_tune(model, mc.JTT(identify_epochs=1, **ONE_STEP), clean=CLEAN, cued=CUED)
    assert found.settings["errors"] == [int((first(x).argmax(1) != y).sum())]
    assert [list(record)[2] for record in found.history] == ["identification", "reweighted"]
    fresh = mc.fine_tune(model, mc.JTT(identify_epochs=1, start="fresh", **ONE_STEP), clean=CLEAN, cued=CUED)
    assert fresh.history[1]["reweighted"] == pytest.approx(np.log(CLASSES))  # zeros know nothing


def test_jtt_lifts_the_rows_that_a_shortcut_gets_wrong() -> None:
    """Nine rows in ten follow a strong cue; without group labels the others are found, and weighted up."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 2
    follows = torch.arange(400) % 20 < 18
    x = torch.randn(400, FEATURES, generator=draw, dtype=torch.float64)
    x[:, 0] = 3.0 * torch.where(follows, 2 * y - 1, 1 - 2 * y)
    x[:, 1] += 1.0 * (2 * y - 1)
    start = build(lambda: nn.Linear(FEATURES, 2))
    settings: dict[str, Any] = {"epochs": 20, "batch_size": 50, "lr": 0.1}
    plain = mc.fine_tune(start, mc.NaiveFineTuning(**settings), clean=(x, y)).model
    found = mc.fine_tune(start, mc.JTT(on="clean", identify_epochs=1, upweight=9.0, **settings), clean=(x, y))
    right = [float(model(x[~follows]).argmax(1).eq(y[~follows]).double().mean()) for model in (plain, found.model)]
    assert found.settings["errors"] == [40] and right[0] < 0.6 and right[1] > 0.8, right


def test_jtt_notes_that_nothing_is_wrong_and_its_advice_works() -> None:
    x = torch.eye(FEATURES, dtype=torch.float64).repeat(10, 1)
    y = torch.arange(FEATURES).repeat(10) % CLASSES
    model = build(lambda: nn.Linear(FEATURES, CLASSES))
    settings: dict[str, Any] = {"on": "clean", "epochs": 1, "batch_size": 40, "lr": 1.0}
    (note,) = mc.fine_tune(model, mc.JTT(identify_epochs=20, **settings), clean=(x, y)).notes
    assert note == (
        "JTT's first network gets no row of 40 wrong, so that all count alike; lower identify_epochs, or give rows "
        "that it was not trained on (identify_epochs is now 20)."
    )
    assert not mc.fine_tune(model, mc.JTT(identify_epochs=1, **settings), clean=(x, y)).notes
    wrong: Any = x, (model(x).argmax(1) + 1) % CLASSES
    (note,) = mc.fine_tune(model, mc.JTT(identify_epochs=0, **settings), clean=wrong).notes
    assert "gets every row of 40 wrong" in note and "set identify_epochs to one or more, or check the labels" in note
    assert not mc.fine_tune(model, mc.JTT(identify_epochs=2, **settings), clean=wrong).notes


def test_a_budget_counts_what_jtt_reads() -> None:
    """40 rows with the cue in batches of 10, whatever the clean rows are; half of the epochs find the errors."""
    suite = mc.Suite({"cue": rows(20, 3), "hue": rows(20, 4)})
    task = mc.TuningTask(build(norm_mlp), rows(24), suite, cued=CUED)
    method = mc.JTT(epochs=5, identify_epochs=5, batch_size=10)
    budgets: list[tuple[dict[str, Any], int]] = [({"passes": 24}, 3), ({"epochs": 4}, 2)]
    for budget, count in budgets:
        settings = mc.compare_methods(task, {"JTT": method}, **budget).runs[1].settings
        assert (settings["identify_epochs"], settings["epochs"]) == (count, count)
    assert (mc.JTT(on="both").passes(2), mc.JTT().passes(1), mc.JTT(on="clean").passes(0)) == (3, 1, 1)
    assert mc.JTT(identify_epochs=0).with_epochs(3) == mc.JTT(identify_epochs=0, epochs=3)


# ---------------------------------------------------------------- AFR


@pytest.mark.parametrize("on", ["cued", "clean", "both"])
@pytest.mark.parametrize("outputs", [1, CLASSES])
def test_afr_ends_at_the_minimum_that_it_states(on: Any, outputs: int) -> None:
    """The gradient of its objective, written anew, is zero there, and nothing but the head moved."""
    data: dict[str, Any] = {"clean": CLEAN, "cued": CUED}
    data = {name: (x, y % 2 if outputs == 1 else y) for name, (x, y) in data.items()}
    model = build(lambda: nn.Sequential(nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, outputs)))
    x, y = joined(*data.values()) if on == "both" else data[on]
    loss: Any = mc.losses.binary if outputs == 1 else mc.losses.cross_entropy
    tuned = mc.fine_tune(model, mc.AFR(on=on, gamma=3.0, pull=0.05), loss=loss, **data).model

    def logits(network: nn.Module) -> Tensor:
        z = network(x)
        return torch.cat([torch.zeros_like(z), z], 1) if outputs == 1 else z

    p = logits(model).softmax(1)[torch.arange(len(y)), y].detach()
    mu = (-3.0 * p).exp() / torch.stack([(y == label).sum() for label in y])
    head, old = (list(network.parameters())[-2:] for network in (tuned, model))
    fit = (mu / mu.sum() * cross_entropy(logits(tuned), y, reduction="none")).sum()
    slopes = torch.autograd.grad(
        fit + 0.05 * sum(((a - b.detach()) ** 2).sum() for a, b in zip(head, old, strict=True)), head
    )
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-6
    assert all(
        torch.equal(a, b) for a, b in zip(list(tuned.parameters())[:-2], list(model.parameters())[:-2], strict=True)
    )


def test_afr_notes_even_weights_and_stays_at_a_strong_pull() -> None:
    """A model that is as sure of all rows; and where gamma is 0 even weights are what was asked for."""
    x, y = CUED
    model = build(mlp)
    with torch.no_grad():
        model.get_parameter("2.weight").mul_(1e-3)
        model.get_parameter("2.bias").zero_()
    (note,) = mc.fine_tune(model, mc.AFR(), clean=CLEAN, cued=CUED).notes
    assert note.startswith("AFR's weights of rows of one class differ by a factor of 1.00") and "(now 4)." in note
    assert not mc.fine_tune(model, mc.AFR(gamma=400.0), clean=CLEAN, cued=CUED).notes
    assert not mc.fine_tune(model, mc.AFR(gamma=0.0), clean=CLEAN, cued=CUED).notes
    held = mc.fine_tune(model, mc.AFR(pull=1e9), clean=CLEAN, cued=CUED).model
    torch.testing.assert_close(held(x), model(x), atol=1e-6, rtol=0)
    assert len(y) == 40


@pytest.mark.usefixtures("unchecked")
def test_what_they_refuse() -> None:
    refused: list[tuple[Any, str]] = [
        (lambda: mc.AFR(pull=0.0), "pull must be a number greater than zero"),
        (lambda: mc.AFR(gamma=-1.0), "gamma must be"),
        (lambda: mc.JTT(upweight=0.0), "upweight must be a number greater than zero"),
        (lambda: mc.JTT(identify_epochs=-1), "identify_epochs must be zero or more"),
        (lambda: mc.fine_tune(build(mlp), mc.AFR(), clean=CLEAN, cued=(CUED[0], CUED[1] + 1)), "labels must lie in 0"),
        (lambda: mc.JTT(on="all"), "on must be one of"),  # pyright: ignore[reportArgumentType]
        (lambda: mc.fine_tune(build(mlp), mc.JTT(), clean=CLEAN), "JTT needs data with the cue: pass cued="),
        (lambda: mc.fine_tune(build(mlp), mc.AFR(on="both"), clean=CLEAN), "AFR needs data with the cue: pass cued="),
    ]
    for call, text in refused:
        with pytest.raises(ValueError, match=text):
            call()
    broken = CUED[0].clone(), CUED[1]
    broken[0][3, 1] = torch.nan
    for method in (mc.JTT(), mc.AFR()):
        with pytest.raises(ValueError, match="cued data: row 3 holds NaN or infinity"):
            mc.fine_tune(build(mlp), method, clean=CLEAN, cued=broken)
    squared: Any = {"clean": (CLEAN[0], CLEAN[1].double()), "loss": lambda out, t: (out[:, 0] - t) ** 2}
    for method in (mc.AFR(on="clean"), mc.JTT(on="clean", **ONE_STEP)):
        with pytest.raises(ValueError, match=r"needs whole-number targets \[N\]"):
            mc.fine_tune(build(mlp), method, **squared)
