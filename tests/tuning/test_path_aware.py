"""PathAware, and CBFT on the way back: where gradients are taken, by hand and against slow implementations."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from mechconn.core import select_rows
from reference import SlowCBFT, SlowSGD, cosine, gradients, loaded
from zoo import build, mlp, norm_mlp, rows, split

CLEAN, CUED, OTHER = (split(rows(18, seed), [9, 9]) for seed in (1, 2, 3))


def norm_of(gaps: dict[str, Tensor]) -> float:
    return sum(float((gap.detach() ** 2).sum()) for gap in gaps.values()) ** 0.5


def point_by_hand(theta: nn.Module, start: nn.Module, rho: float, overshoot: bool = False) -> nn.Module:
    """A copy of theta at rho from it towards the start; at the start where that is nearer."""
    here, there = (dict(model.named_parameters()) for model in (theta, start))
    gaps = {name: (there[name] - here[name]).detach() for name in here}
    distance = norm_of(gaps)
    if distance == 0.0 or (distance < rho and not overshoot):
        return loaded(theta, {name: there[name].detach() for name in here}).train()
    return loaded(theta, {name: here[name].detach() + rho * gaps[name] / distance for name in here}).train()


# ---------------------------------------------------------------- on a line


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


@pytest.mark.parametrize("overshoot", [False, True])
def test_on_a_line_each_step_is_its_closed_form(overshoot: bool) -> None:
    """f(x) = w x: d loss / d w = mean 2 (p x - y) x at p = w + rho sign(w_C - w), and p = w_C where that is nearer."""
    model = build(lambda: nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model.get_parameter("weight").fill_(0.7)
    (x, y), (x_cued, y_cued) = ([1.0, 2.0], [3.0, 4.0]), ([1.0, -1.0, 3.0], [0.0, 1.0, 2.0])
    given = [[(torch.tensor(a).double()[:, None], torch.tensor(b).double())] for a, b in ((x, y), (x_cued, y_cued))]
    method = mc.PathAware(
        rho=0.3, cued_share=0.25, overshoot=overshoot, epochs=6, lr=0.05, momentum=0.0, weight_decay=0.0
    )
    found = mc.fine_tune(model, method, clean=given[0], cued=given[1], loss=squared)
    w, nearer, losses = 0.7, [], []
    for step in range(6):
        gap = 0.7 - w
        nearer.append(abs(gap) < 0.3)
        length = 0.0 if gap == 0 else 0.3 if overshoot or not nearer[-1] else abs(gap)
        p = w + (length if gap > 0 else -length)
        slopes = [
            sum(2 * (p * a - b) * a for a, b in zip(*rows, strict=True)) / len(rows[0])
            for rows in ((x, y), (x_cued, y_cued))
        ]
        losses.append(0.75 * sum((p * a - b) ** 2 for a, b in zip(x, y, strict=True)) / 2)
        w -= cosine(0.05, step, 6) * (0.75 * slopes[0] + 0.25 * slopes[1])
    assert nearer == [True, True, False, False, False, False]
    assert found.model.get_parameter("weight").item() == pytest.approx(w, rel=1e-12)
    assert [record["clean"] for record in found.history] == pytest.approx(losses, rel=1e-12)


# ---------------------------------------------------------------- whole runs


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_a_run_is_that_of_the_slow_implementation(factory: Any, sources: int) -> None:
    """Two sources have references of their own, which take turns; statistics are those of passes at theta."""
    model, other = build(factory), build(factory, 7)
    with torch.no_grad():
        for name, buffer in other.named_buffers():
            buffer.copy_(model.get_buffer(name))
    cued = {"box": CUED, "hue": OTHER} if sources == 2 else CUED
    references = {"hue": other} if sources == 2 else {}
    method = mc.PathAware(rho=0.05, cued_share=0.4, epochs=3, lr=0.1)
    tuned = mc.fine_tune(model, method, clean=CLEAN, cued=cued, references=references)
    theta, starts = copy.deepcopy(model).train(), [copy.deepcopy(model), other][:sources]
    optimiser, far = SlowSGD(theta, 0.9, 1e-4), 0
    for step in range(6):
        start = starts[step % sources]
        gaps = {n: p - start.get_parameter(n) for n, p in theta.named_parameters()}
        far += norm_of(gaps) > 0.05
        point, batches = point_by_hand(theta, start, 0.05), [data[step % 2] for data in (CLEAN, CUED, OTHER)]
        clean, *losses = [cross_entropy(point(x), y) for x, y in batches[: 1 + sources]]
        with torch.no_grad():
            for x, _ in batches[: 1 + sources]:
                theta(x)
        total = 0.6 * clean + 0.4 * sum(losses) / len(losses)
        optimiser.step(gradients(point, total), cosine(0.1, step, 6))
    assert far >= 3
    for name, tensor in tuned.model.state_dict().items():
        # A few iterations of float64, in another order than torch's.
        torch.testing.assert_close(tensor, theta.state_dict()[name], rtol=1e-9, atol=1e-10)


@dataclass
class SlowCBFTBack(SlowCBFT):
    """Its terms but the barrier at rho from theta."""

    rho: float = 0.05
    start: nn.Module | None = None

    def mechanism_gradients(self, theta: nn.Module, clean: Any, cued: Any, epoch: int) -> dict[str, Tensor]:
        assert self.start is not None
        point = point_by_hand(theta, self.start, self.rho)
        found = super().mechanism_gradients(point, clean, cued, epoch)
        with torch.no_grad():
            theta(clean[0])
            if epoch >= self.warmup:
                theta(cued[0])
        return found


@pytest.mark.parametrize("update", ["alternating", "joint"])
@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_cbft_on_the_way_back_is_that_of_the_slow_implementation(factory: Any, update: Any) -> None:
    model = build(factory)
    method = mc.CBFT(epochs=3, lr=0.1, update=update, rho=0.05)
    tuned = mc.fine_tune(model, method, clean=CLEAN, cued=CUED, seed=5)
    ts = method.draw_t(torch.arange(100), 5).tolist()
    slow = SlowCBFTBack(ts, epochs=3, update=update, lr=0.1, start=copy.deepcopy(model))
    expected = slow.run(model, CLEAN, CUED)
    for name, tensor in tuned.model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-9, atol=1e-10)


def test_without_its_terms_cbft_on_the_way_back_is_path_aware_on_clean_rows() -> None:
    model, shared = build(norm_mlp), {"epochs": 3, "lr": 0.1, "rho": 0.05}
    bare = mc.CBFT(barrier=False, invariance=False, **shared)  # pyright: ignore[reportArgumentType]
    first = mc.fine_tune(model, bare, clean=CLEAN, cued=CUED).model
    second = mc.fine_tune(model, mc.PathAware(cued_share=0.0, **shared), clean=CLEAN, cued=CUED).model  # pyright: ignore
    for name, tensor in first.named_parameters():
        # The weight of the other term is an exact zero.
        torch.testing.assert_close(tensor, second.get_parameter(name), rtol=1e-12, atol=1e-14)


def test_frozen_weights_stay_and_count_for_no_distance() -> None:
    model = build(mlp)
    model.get_submodule("0").requires_grad_(False)
    method = mc.PathAware(rho=0.01, epochs=2, lr=0.1)
    tuned = mc.fine_tune(model, method, clean=CLEAN, cued=CUED).model
    assert torch.equal(tuned.get_parameter("0.weight"), model.get_parameter("0.weight"))
    assert not torch.equal(tuned.get_parameter("2.weight"), model.get_parameter("2.weight"))


# ---------------------------------------------------------------- data, settings, notes


def test_data_that_know_their_cue_get_a_random_one_and_others_stay() -> None:
    task = mc.datasets.cue_task("planted", rows=60, test_rows=30)
    found: Any = mc.PathAware().cued_data({"box": task.train, "own": CUED}, 3)
    assert found["own"] is CUED and torch.equal(found["box"].y, task.train.y)
    expected = task.train.with_random_cue(3)
    assert torch.equal(found["box"].cue_values, expected.cue_values)
    assert not torch.equal(found["box"].cue_values, task.train.cue_values)


def test_scenes_inside_others_get_a_random_cue_too() -> None:
    """On another scale, and some rows of them."""
    content = mc.datasets.ImageSet(
        torch.full((30, 3, 9, 9), 128, dtype=torch.uint8), torch.arange(30) % 3, ("a", "b", "c")
    )
    scenes = mc.datasets.make_cued_set(content, mc.BoxCue(values=3))
    scaled, rows = mc.datasets.Normalised(scenes, (0.4,), (0.2,)), torch.arange(0, 30, 2)
    found: Any = mc.PathAware().cued_data({"scaled": scaled, "part": select_rows(scaled, rows)}, 3)
    expected = scaled.normalise(scenes.with_random_cue(3).inputs(torch.arange(30)))
    assert not torch.equal(expected, scaled.inputs(torch.arange(30)))
    assert torch.equal(found["scaled"].inputs(torch.arange(30)), expected)
    assert torch.equal(found["part"].inputs(torch.arange(15)), expected[rows])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mc.PathAware(rho=0.0), "rho must be a number greater than zero, got 0.0"),
        (lambda: mc.PathAware(cued_share=1.5), r"cued_share must lie in \[0, 1\], got 1.5"),
        (lambda: mc.CBFT(rho=-1.0), "rho must be a number greater than zero, got -1.0"),
    ],
)
def test_settings_are_checked(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_it_needs_data_with_the_cue() -> None:
    with pytest.raises(ValueError, match=r"^PathAware needs data with the cue: pass cued="):
        mc.fine_tune(build(mlp), mc.PathAware(), clean=CLEAN)


@pytest.mark.parametrize("method", [mc.PathAware(epochs=2, rho=50.0), mc.CBFT(epochs=2, rho=50.0, barrier=False)])
def test_a_run_that_stays_within_rho_is_noted(method: Any) -> None:
    (note,) = mc.fine_tune(build(mlp), method, clean=CLEAN, cued=CUED).notes
    assert note.startswith(f"{type(method).__name__} never was further than ") and "within rho=50" in note
    assert note.endswith("lower rho, or raise lr (now 0.01) or epochs (now 2).")
    changed = mc.fine_tune(build(mlp), type(method)(epochs=2, rho=1e-3), clean=CLEAN, cued=CUED)
    assert not any("within rho" in said for said in changed.notes)
