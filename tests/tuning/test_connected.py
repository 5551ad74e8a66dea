"""ConnectedFineTuning: closed forms, a slow implementation, and CBFT's barrier term with the other sign."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from mechconn.core import isolate_rng
from mechconn.paper import TuningSettings
from reference import SlowSGD, cosine, gradients, loaded
from zoo import build, mlp, norm_mlp, rows, split

CLEAN, CUED, OTHER = (split(rows(18, seed), [9, 9]) for seed in (1, 2, 3))
TIMES = mc.CBFT().draw_t(torch.arange(100), 0).tolist()


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


def at(weight: float) -> nn.Module:
    model = build(lambda: nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model.get_parameter("weight").fill_(weight)
    return model


def test_on_a_line_each_step_is_its_closed_form() -> None:
    """f(x) = w x, halfway to two anchors a: slope of the clean loss + weight / 2 sum_a 1/2 d l((w + a) / 2) / d w."""
    x, y = [1.0, 2.0], [3.0, 4.0]
    data = [(torch.tensor(x).double()[:, None], torch.tensor(y).double())]
    method = mc.ConnectedFineTuning(
        anchors=[at(0.2), at(-1.0)], weight=0.4, on="clean", update="joint", t_sampling="half",
        epochs=5, lr=0.05, momentum=0.0, weight_decay=0.0,
    )  # fmt: skip
    found = mc.fine_tune(at(0.7), method, clean=data, loss=squared)

    def slope(w: float) -> float:
        return sum(2 * (w * a - b) * a for a, b in zip(x, y, strict=True)) / 2

    w = 0.7
    for step in range(5):
        connect = 0.4 / 2 * sum(0.5 * slope((w + anchor) / 2) for anchor in (0.2, -1.0))
        w -= cosine(0.05, step, 5) * (slope(w) + connect)
    assert found.model.get_parameter("weight").item() == pytest.approx(w, rel=1e-12)


def slow_run(model: nn.Module, anchors: list[nn.Module], cued: list[Any], update: str) -> nn.Module:
    """Three epochs of two batches, on lines to every anchor and on every source, by copies of the network."""
    theta = copy.deepcopy(model).train()
    optimiser = SlowSGD(theta, 0.9, 1e-4)
    for step in range(6):
        rate, t, away = cosine(0.1, step, 6), TIMES[step], dict[str, Tensor]()
        for anchor in anchors:
            ends = dict(anchor.named_parameters())
            middle = {n: (1 - t) * w.detach() + t * ends[n].detach() for n, w in theta.named_parameters()}
            for data in cued:
                point = loaded(theta, middle).train()
                loss = 0.7 * cross_entropy(point(data[step % 2][0]), data[step % 2][1]) / len(anchors) / len(cued)
                for name, grad in gradients(point, loss).items():
                    away[name] = away.get(name, 0.0) + (1 - t) * grad
        if update == "alternating":
            optimiser.step(away, rate)
        x, y = CLEAN[step % 2]
        own = gradients(theta, cross_entropy(theta(x), y))
        optimiser.step(own if update == "alternating" else {n: own[n] + away[n] for n in own}, rate)
    return theta


@pytest.mark.parametrize("update", ["alternating", "joint"])
@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_a_run_is_that_of_the_slow_implementation(factory: Any, update: Any) -> None:
    """Statistics are those of the clean passes alone; two anchors and two sources make four lines."""
    model, anchors = build(factory), [build(factory, 5), build(factory, 6)]
    method = mc.ConnectedFineTuning(anchors=anchors, weight=0.7, update=update, epochs=3, lr=0.1)
    tuned = mc.fine_tune(model, method, clean=CLEAN, cued={"box": CUED, "hue": OTHER})
    by_hand = slow_run(model, anchors, [CUED, OTHER], update)
    alone = mc.fine_tune(model, replace(method, anchors=()), clean=CLEAN, cued=CUED)
    alone_by_hand = slow_run(model, [copy.deepcopy(model)], [CUED], update)
    for found, wanted in ((tuned, by_hand), (alone, alone_by_hand)):
        for name, tensor in found.model.state_dict().items():
            # A few iterations of float64, in another order than torch's.
            torch.testing.assert_close(tensor, wanted.state_dict()[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sampling", ["truncated", "clipped"])
@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_it_is_cbft_with_the_other_sign(factory: Any, sampling: Any) -> None:
    """Below the margin one step of each moves theta to opposite sides of where naive fine-tuning moves it."""
    model = build(factory)
    settings: dict[str, Any] = {"epochs": 1, "lr": 0.05, "momentum": 0.0, "weight_decay": 0.0}
    away = mc.CBFT(**settings, barrier_margin=1e6, invariance=False, update="joint", t_sampling=sampling)
    along = mc.ConnectedFineTuning(**settings, update="joint", t_sampling=sampling)
    ends = [
        mc.parameters_of(mc.fine_tune(model, method, clean=CLEAN[:1], cued=CUED[:1], seed=4).model)
        for method in (away, along, mc.NaiveFineTuning(**settings))
    ]
    for name, naive in ends[2].items():
        torch.testing.assert_close(ends[0][name] + ends[1][name], 2 * naive, rtol=1e-12, atol=1e-12)
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[2])


def test_it_stays_connected_where_naive_fine_tuning_leaves() -> None:
    """The loss halfway to the start, on data with the cue, after a rate that leaves the basin."""
    task = mc.datasets.cue_task("planted", rows=400, test_rows=400)
    with isolate_rng(0):
        fresh = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    start = mc.train(fresh, task.train, mc.Training(epochs=10, lr=0.1, batch_size=50, milestones=())).model
    settings: dict[str, Any] = {"epochs": 15, "batch_size": 50, "lr": 0.5}
    barriers = []
    for method in (mc.NaiveFineTuning(**settings), mc.ConnectedFineTuning(**settings)):
        tuned = mc.fine_tune(start, method, clean=task.clean.sample(200, seed=0), cued=task.train).model
        profile = mc.evaluate_path(tuned, mc.LinearPath.between(tuned, start), task.suite, ts=5)
        barriers.append(max(profile.loss["cue"]))
    assert barriers[1] < 0.5 * barriers[0]


def test_anchors_are_copied_and_known_by_their_weights() -> None:
    model, anchor = build(mlp), build(mlp, 5)
    first = mc.ConnectedFineTuning(anchors=[anchor], on="clean", epochs=1)
    before = mc.fine_tune(model, first, clean=CLEAN)
    with torch.no_grad():
        anchor.get_parameter("0.weight").add_(1.0)
    after = mc.fine_tune(model, first, clean=CLEAN)
    assert all(torch.equal(p, mc.parameters_of(after.model)[n]) for n, p in mc.parameters_of(before.model).items())
    (described,) = first.settings()["anchors"]
    assert described.startswith("sha256:")
    assert first == mc.ConnectedFineTuning(anchors=[build(mlp, 5)], on="clean", epochs=1)
    assert first != mc.ConnectedFineTuning(anchors=[anchor], on="clean", epochs=1)
    assert replace(first, epochs=2).settings()["anchors"] == (described,)


def test_a_file_names_it_without_anchors() -> None:
    def read(**settings: Any) -> TuningSettings:
        methods = {"kept": {"method": "ConnectedFineTuning", **settings}}
        return TuningSettings.model_validate({"datasets": ["digits"], "methods": methods})

    assert read(weight=0.1).methods["kept"] == mc.ConnectedFineTuning(weight=0.1)
    with pytest.raises(ValueError, match="configuration files name none"):
        read(anchors=["a.safetensors"])


def test_what_does_not_fit_is_told_before_any_work() -> None:
    wide = build(lambda: nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)))
    with pytest.raises(ValueError, match=r"the model and anchor 1 are not one module .*: pass the network that it was"):
        mc.fine_tune(build(mlp), mc.ConnectedFineTuning(anchors=[wide]), clean=CLEAN, cued=CUED)
    inner = mc.ConnectedFineTuning(anchors=[wide], on="clean")
    with pytest.raises(ValueError, match="anchor 1"):
        mc.fine_tune(build(mlp), mc.UNDO(teacher=inner), clean=CLEAN)
    with pytest.raises(ValueError, match=r"needs data with the cue: .* or on='clean'"):
        mc.fine_tune(build(mlp), mc.ConnectedFineTuning(), clean=CLEAN)
    kept = mc.fine_tune(build(mlp), mc.ConnectedFineTuning(on="clean", epochs=1), clean=CLEAN)
    assert "connection" in kept.history[0]
    with pytest.raises(ValueError, match="anchors must be networks, got a list with dict;"):
        mc.ConnectedFineTuning(anchors=[mc.parameters_of(build(mlp))])  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"anchors must be a list of networks, got Sequential; write anchors=\[model\]"):
        mc.ConnectedFineTuning(anchors=build(mlp))  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        broken = build(mlp)
        broken.get_parameter("0.bias")[0] = torch.nan
    with pytest.raises(ValueError, match=r"anchor 2 holds NaN or infinity in 0\.bias"):
        mc.ConnectedFineTuning(anchors=[build(mlp), broken])
    with pytest.raises(ValueError, match="weight must be"):
        mc.ConnectedFineTuning(weight=0.0)


def test_it_joins_a_comparison_of_methods() -> None:
    task = mc.TuningTask(build(mlp), CLEAN, mc.Suite({"cue": rows(8)}, interventions=()), cued=CUED)
    method = mc.ConnectedFineTuning(anchors=[build(mlp, 5), build(mlp, 6)], epochs=2)
    found = mc.compare_methods(task, {"connected": method, "CBFT": mc.CBFT(epochs=2)}, passes=12)
    assert method.passes(1) == 3
    assert found.runs[1].settings["epochs"] == 2
    wide = build(lambda: nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)))
    seen: list[Any] = []
    with pytest.raises(ValueError, match="method 'connected', seed 0: the model and anchor 1 are not one module"):
        mc.compare_methods(
            task,
            {"CBFT": mc.CBFT(epochs=2), "connected": mc.ConnectedFineTuning(anchors=[wide])},
            progress=seen.append,
        )
    assert not seen  # before any training
