"""Hardened probes: a step against the worst change of the features by hand, and sparse heads that stay sparse."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

import mechconn as mc
from zoo import CLASSES, FEATURES, build, mlp, norm_mlp, rows

ONE_STEP: dict[str, Any] = {"epochs": 1, "batch_size": 50, "momentum": 0.0}
X, Y = rows(40, 1)


class Known(nn.Linear):
    """A head whose fresh weights are known, and exact in any precision."""

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.weight.copy_(torch.arange(self.weight.numel()).view_as(self.weight) % 5 / 4 - 0.5)
            self.bias.zero_()


def known(outputs: int) -> nn.Module:
    return build(lambda: nn.Sequential(nn.Identity(), Known(FEATURES, outputs)))


def test_a_step_of_the_adversarial_probe_by_hand() -> None:
    model = known(CLASSES)
    head = [tensor.detach().clone().requires_grad_() for tensor in model.parameters()]
    norm = math.sqrt(float(X.square().sum(1).mean()))
    moving = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(moving @ head[0].T + head[1], Y), moving)
    moved = X + 0.3 * norm / math.sqrt(FEATURES) * slope.sign()
    loss = cross_entropy(moved @ head[0].T + head[1], Y)
    slopes = torch.autograd.grad(loss, head)
    tuned = mc.fine_tune(model, mc.HardProbe("adversarial", eps=0.3, lr=0.2, **ONE_STEP), clean=(X, Y))
    assert tuned.history[0]["adversarial"] == pytest.approx(float(loss.detach()))
    for own, old, step in zip(tuned.model.parameters(), head, slopes, strict=True):
        torch.testing.assert_close(own, old - 0.2 * step, rtol=1e-12, atol=1e-14)


def test_the_vat_direction_is_that_of_the_hessian_from_a_random_start() -> None:
    """Two classes: the divergence's Hessian has one direction, w_1 - w_0, which one power step finds from anywhere."""
    model, x, y = known(2), X[:2], torch.tensor([0, 1])
    weight, bias = (tensor.detach() for tensor in model.parameters())
    along = weight[1] - weight[0]
    move = 0.5 * math.sqrt(float(x.square().sum(1).mean())) * along / along.norm()
    expected = []
    for signs in itertools.product((1.0, -1.0), repeat=2):
        moved = x + torch.tensor(signs)[:, None].double() * move
        before, after = ((z @ weight.T + bias).log_softmax(1) for z in (x, moved))
        expected.append(2.0 * float(kl_div(after, before, reduction="none", log_target=True).sum(1).mean()))
    seen = set()
    for seed in range(6):
        method = mc.HardProbe("vat", alpha=2.0, eps=0.5, lr=1e-9, **ONE_STEP)
        (record,) = mc.fine_tune(model, method, clean=(x, y), seed=seed).history
        assert record["head"] == pytest.approx(float(cross_entropy(x @ weight.T + bias, y)))
        near = [number for number, value in enumerate(expected) if record["divergence"] == pytest.approx(value)]
        assert near
        seen |= set(near)
    assert len(seen) > 1  # the start is random, and no function of the features


def test_sparse_heads_are_logistic_regression_each_on_its_part() -> None:
    """The head is their mean; a part's columns are found by fitting every pair of features."""
    draw = torch.Generator().manual_seed(0)
    logits = X.repeat(5, 1) @ torch.randn(FEATURES, 2, generator=draw, dtype=torch.float64)
    x, y = X.repeat(5, 1), torch.multinomial(logits.softmax(1), 1, generator=draw).flatten()
    method = mc.HardProbe("soup", heads=2, epochs=400, lr=5.0, batch_size=200)
    weight = mc.fine_tune(known(2), method, clean=(x, y)).model.get_parameter("1.weight").detach().numpy()
    slope, matches = weight[1] - weight[0], []
    for part in itertools.combinations(range(FEATURES), 2):
        fit = LogisticRegression(C=np.inf, tol=1e-10).fit(x.numpy()[:, part], y.numpy())
        matches += [part] if np.allclose(slope[list(part)], fit.coef_[0] / 2, atol=1e-3) else []
    assert len(matches) == 2 and sorted(sum(matches, ())) == list(range(FEATURES))


def test_one_sparse_head_is_last_layer_retraining() -> None:
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 16, "lr": 0.3}
    soup, plain = (
        mc.fine_tune(build(mlp), method, clean=(X, Y)).model.state_dict()
        for method in (mc.HardProbe("soup", heads=1, **settings), mc.LastLayerRetraining(**settings))
    )
    assert all(torch.equal(tensor, plain[name]) for name, tensor in soup.items())


@pytest.mark.parametrize("kind", ["vat", "adversarial", "soup"])
def test_the_rate_bounds_the_hardened_hessian(kind: Any) -> None:
    found = mc.fine_tune(build(norm_mlp), mc.HardProbe(kind, epochs=30), clean=(X, Y))
    with torch.no_grad():
        body: Any = build(norm_mlp).eval()
        z = body[:-1](X)
    own = float(torch.linalg.eigvalsh(moment(z))[-1])
    moved = (math.sqrt(own) + 0.1 * math.sqrt(float(z.square().sum(1).mean()))) ** 2
    bound = {"vat": 0.5 * own + 0.5 * moved, "adversarial": 0.5 * moved, "soup": 0.5 * own / 5}[kind]
    assert found.settings["lr"] == pytest.approx(min(30.0, 1 / bound))
    values = [sum(v for k, v in record.items() if k not in ("epoch", "lr")) for record in found.history]
    assert values[-1] < values[0] and not found.notes


def moment(z: Tensor) -> Tensor:
    """Mean of z z^T, each row with a 1 at its end."""
    rows_ = torch.cat([z, z.new_ones(len(z), 1)], 1)
    return rows_.T @ rows_ / len(rows_)


def test_lpft_takes_a_hardened_probe_first() -> None:
    clean, model = rows(24), build(norm_mlp)
    probe, tuning = mc.HardProbe("vat", epochs=2, batch_size=8), mc.NaiveFineTuning(epochs=1, batch_size=8)
    both = mc.fine_tune(model, mc.LPFT(probe=probe, tuning=tuning), clean=clean)
    first = mc.fine_tune(model, probe, clean=clean)
    second = mc.fine_tune(first.model, tuning, clean=clean)
    assert both.history == first.history + second.history
    assert all(torch.equal(t, second.model.state_dict()[name]) for name, t in both.model.state_dict().items())
    assert both.settings["probe"]["kind"] == "vat" and both.settings["probe"]["lr"] == first.settings["lr"]


class StoppedError(Exception):
    """Raised in the middle of a run."""


def test_a_run_resumed_behind_the_probe_has_its_notes(tmp_path: Path) -> None:
    """A rate that makes the head worse is noted, also where the probe is not trained again."""
    probe = mc.HardProbe("vat", epochs=2, batch_size=8, lr=20.0)
    method = mc.LPFT(probe=probe, tuning=mc.NaiveFineTuning(epochs=2, batch_size=8))
    seen = itertools.count()
    checkpoint = mc.Checkpoint(tmp_path / "run.safetensors", every=1)

    def stop(x: Any) -> Any:
        if next(seen) == 2:
            raise StoppedError
        return x

    settings: dict[str, Any] = {"clean": rows(24), "transform": stop}
    with pytest.raises(StoppedError):
        mc.fine_tune(build(mlp), method, checkpoint=checkpoint, **settings)
    resumed = mc.fine_tune(build(mlp), method, checkpoint=checkpoint, **settings)
    whole = mc.fine_tune(build(mlp), method, **settings)
    assert "training it made it worse" in whole.notes[0] and resumed.notes == whole.notes
    assert all(torch.equal(t, whole.model.state_dict()[name]) for name, t in resumed.model.state_dict().items())


def test_rows_that_do_not_count_do_not_scale_the_perturbation() -> None:
    method = mc.HardProbe("adversarial", lr=0.3, **ONE_STEP)
    marked = torch.cat([X, 100.0 * X[:8]]), torch.cat([Y, torch.full((8,), -1)])
    loss = mc.losses.CrossEntropy(ignore_index=-1)
    first, second = (
        mc.fine_tune(known(CLASSES), method, clean=clean, loss=loss).model.state_dict() for clean in ((X, Y), marked)
    )
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-12, atol=1e-14)  # sums in another order


@pytest.mark.usefixtures("unchecked")
def test_what_a_hard_probe_refuses() -> None:
    refused: list[tuple[Any, str]] = [
        (lambda: mc.HardProbe("mixup"), "kind must be one of"),  # pyright: ignore[reportArgumentType]
        (lambda: mc.HardProbe("vat", eps=0.0), "eps must be a number greater than zero"),
        (lambda: mc.HardProbe("vat", heads=2), "heads is a setting of soup, got heads=2 with kind='vat'"),
        (lambda: mc.HardProbe("soup", steps=2), "steps is a setting of vat, got steps=2 with kind='soup'"),
        (
            lambda: mc.fine_tune(
                build(mlp), mc.HardProbe("vat", epochs=1), clean=(X, Y.double()), loss=lambda out, t: out[:, 0] - t
            ),
            r"HardProbe\('vat'\) asks what whole rows are classified as",
        ),
    ]
    for call, text in refused:
        with pytest.raises(ValueError, match=text):
            call()
