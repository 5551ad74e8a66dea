"""CBFT against several cues: a source and a reference for each."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from reference import SlowSGD, cosine, gradients, invariance_term, loaded
from zoo import CLASSES, build, mlp, norm_mlp, rows, split

CLEAN, BOX, HUE = (split(rows(16, seed), [8, 8]) for seed in (1, 2, 3))


def slow(model: nn.Module, other: nn.Module, epochs: int, ts: list[float], normalised: bool = True) -> nn.Module:
    """Alternating: the mean of the barrier terms over both sources, then the loss and the mean invariance term."""
    theta, references = copy.deepcopy(model).train(), [model, other]
    optimiser = SlowSGD(theta, 0.9, 1e-4)
    assert isinstance(theta, nn.Sequential)
    for step in range(2 * epochs):
        t, rate, offset = ts[step], cosine(0.1, step, 2 * epochs), step % 2
        away: dict[str, torch.Tensor] = {}
        for reference, source in zip(references, (BOX, HUE), strict=True):
            there, (x, y) = dict(reference.named_parameters()), source[offset]
            middle = {k: (1 - t) * w.detach() + t * there[k].detach() for k, w in theta.named_parameters()}
            point = loaded(theta, middle).train()
            loss = cross_entropy(point(x), y)
            sign = -1.0 if loss.item() < 1.0 else 1.0
            for name, grad in gradients(point, loss).items():
                away[name] = away.get(name, torch.zeros_like(grad)) + 0.5 * sign * (1 - t) * grad
        optimiser.step(away, rate)
        (x, y), body, head = CLEAN[offset], theta[:-1], theta[-1]
        features = body(x)
        loss = cross_entropy(head(features), y)
        for source in (BOX, HUE):
            other_x, other_y = source[offset]
            if normalised:
                term = invariance_term(features, y, body(other_x), other_y, CLASSES)
            else:
                term = plain_term(features, y, body(other_x), other_y)
            loss = loss + 0.5 * term / CLASSES
        optimiser.step(gradients(theta, loss), rate)
    return theta.eval()


def plain_term(clean: torch.Tensor, y: torch.Tensor, cued: torch.Tensor, cued_y: torch.Tensor) -> torch.Tensor:
    shared = [k for k in range(CLASSES) if k in y.tolist() and k in cued_y.tolist()]
    gaps = [clean[y == k].mean(0) - cued[cued_y == k].mean(0) for k in shared]
    return torch.stack([(gap**2).sum() for gap in gaps]).sum()


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_a_run_is_that_of_the_slow_implementation(factory: Any, normalised: bool) -> None:
    model, other = build(factory), build(factory, 5)
    method = mc.CBFT(epochs=2, lr=0.1, warmup_epochs=0, normalised_means=normalised)
    ts = method.draw_t(torch.arange(4), 5).tolist()
    tuned = mc.fine_tune(
        model, method, clean=CLEAN, cued={"box": BOX, "hue": HUE}, references={"hue": other}, seed=5
    )  # fmt: skip
    expected = slow(model, other, 2, ts, normalised).state_dict()
    for name, tensor in tuned.model.state_dict().items():
        # A few iterations of float64, in another order than torch's.
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-10)


def test_one_source_under_a_name_is_the_only_source() -> None:
    model, method = build(norm_mlp), mc.CBFT(epochs=2)
    first = mc.fine_tune(model, method, clean=CLEAN, cued=BOX)
    second = mc.fine_tune(model, method, clean=CLEAN, cued={"box": BOX}, references={"box": model})
    assert first.history == second.history


@pytest.mark.parametrize(
    ("references", "error", "text"),
    [
        (
            {"bix": build(mlp)},
            ValueError,
            "references names bix, which are no sources of data with a cue; sources are box",
        ),
        ({"box": build(norm_mlp)}, ValueError, "model and reference 'box' do not match: missing 2.weight, 2.bias; un"),
        (
            {"box": build(lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, CLASSES)))},
            ValueError,
            "the model and reference 'box' are not one module with different parameters and statistics: 1: Tanh and R",
        ),
    ],
)
def test_references_that_do_not_fit(references: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        mc.fine_tune(build(mlp), mc.CBFT(epochs=2), clean=CLEAN, cued={"box": BOX}, references=references)


def test_accumulated_gradients_are_those_of_one_large_batch() -> None:
    """Without batch statistics a mean loss does not tell how its rows came; parts count by their rows."""
    model, parts = build(mlp), split(rows(20), [9, 4, 7])
    whole = [(torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))]
    method = mc.NaiveFineTuning(epochs=3, lr=0.1, accumulate=3)
    found = mc.fine_tune(model, method, clean=parts)
    expected = mc.fine_tune(model, mc.NaiveFineTuning(epochs=3, lr=0.1), clean=whole)
    for name, tensor in found.model.state_dict().items():
        # Sums of float64 in another order.
        torch.testing.assert_close(tensor, expected.model.state_dict()[name], rtol=1e-12, atol=1e-13)
    assert found.history[-1]["clean"] == pytest.approx(expected.history[-1]["clean"], rel=1e-12)


def test_clipped_gradients_have_the_length_asked_for() -> None:
    model, batch = build(mlp), rows(20)
    method = mc.NaiveFineTuning(epochs=1, lr=0.1, momentum=0.0, weight_decay=0.0, clip_norm=0.01, batch_size=20)
    tuned = mc.fine_tune(model, method, clean=batch)
    before = dict(model.named_parameters())
    grads = gradients(model, cross_entropy(model(batch[0]), batch[1]))
    length = torch.cat([grad.flatten() for grad in grads.values()]).norm()
    assert length > 0.01
    for name, weight in tuned.model.named_parameters():
        moved = before[name] - weight
        torch.testing.assert_close(moved, 0.1 * 0.01 * grads[name] / length, rtol=1e-4, atol=1e-12)  # its own 1e-6
