"""CBFT: its terms one by one, and whole runs against an implementation by the words of the method."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm, truncnorm
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import mechconn as mc
from mechconn.descent import Problem
from mechconn.network import Network
from mechconn.tuning._cbft import compute_invariance_loss
from reference import SlowCBFT, cosine, descended, gradients, invariance_term, loaded
from zoo import CLASSES, Shared, Tied, build, mlp, norm_mlp, rows, split

STEPS = torch.arange(100_000)


# ---------------------------------------------------------------- t


def test_t_is_a_truncated_gaussian() -> None:
    t = mc.CBFT().draw_t(STEPS, 0).numpy()
    law = truncnorm(-1, 1, loc=0.5, scale=0.5)
    # A fixed draw of 100,000: it passes once and then always.
    assert kstest(t, law.cdf).pvalue > 0.01
    assert 0.0 <= t.min() < 1e-3 and 1 - 1e-3 < t.max() <= 1.0
    # Five standard errors.
    assert t.mean() == pytest.approx(0.5, abs=5 * law.std() / 100_000**0.5)
    assert t.std() == pytest.approx(law.std(), abs=0.002)


def test_the_authors_t_stands_on_its_limits_in_three_draws_of_five() -> None:
    t = mc.CBFT(t_sampling="clipped").draw_t(STEPS, 0)
    assert (float(t.min()), float(t.max())) == (0.25, 0.75)
    for limit in (0.25, 0.75):
        share = float((t == limit).double().mean())
        # P(N(0, 1) > 0.5) = 0.3085; five standard errors of a share among 100,000.
        assert share == pytest.approx(norm.sf(0.5), abs=0.0075)
    inside = t[(t > 0.25) & (t < 0.75)].numpy()
    assert kstest(inside, truncnorm(-0.5, 0.5, loc=0.5, scale=0.5).cdf).pvalue > 0.01


@pytest.mark.parametrize("sampling", ["truncated", "clipped"])
def test_t_is_a_function_of_the_iteration_and_the_seed(sampling: Any) -> None:
    method = mc.CBFT(t_sampling=sampling)
    together = method.draw_t(torch.arange(50), 3)
    assert together.dtype == torch.float64
    assert together.tolist() == [float(method.draw_t(torch.tensor([step]), 3)) for step in range(50)]
    assert not torch.equal(together, method.draw_t(torch.arange(50), 4))


# ---------------------------------------------------------------- the barrier term


def problem(model: nn.Module, start: nn.Module, seed: int = 0) -> Problem:
    """Theta at `model` on its way from `start`."""
    theta = copy.deepcopy(model).train()
    return Problem(theta, Network(model), (mc.parameters_of(start),), mc.losses.cross_entropy, None, seed, rows(4))


@pytest.mark.parametrize("margin", [0.1, 9.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 0.85, 1.0])
@pytest.mark.parametrize("factory", [mlp, norm_mlp, Shared, Tied])
def test_the_barriers_gradient_is_that_of_the_point_times_one_minus_t(factory: Any, t: float, margin: float) -> None:
    """d/d theta | margin - L(point) | = sign(L - margin) (1 - t) grad L(point), margin below and above the loss."""
    theta, start, (x, y) = build(factory, 1), build(factory, 2), rows(9)
    here = problem(theta, start)
    term = mc.CBFT(barrier_margin=margin).barrier_loss(here, here.references[0], (x, y), t)
    found = gradients(here.model, term)
    a, b = mc.parameters_of(theta), here.references[0]
    point = loaded(theta, {name: (1 - t) * a[name] + t * b[name] for name in a}).train()
    loss = cross_entropy(point(x), y)
    assert term.item() == pytest.approx(abs(margin - loss.item()), rel=1e-12)
    sign = 1.0 if loss.item() > margin else -1.0
    assert sign == (1.0 if margin < 1 else -1.0)
    for name, gradient in gradients(point, loss).items():
        # Two backward passes through the same float64 operations.
        torch.testing.assert_close(found[name], sign * (1 - t) * gradient, rtol=1e-11, atol=1e-13)


def test_the_gradient_reaches_theta_only_and_batch_norm_leaves_no_trace() -> None:
    theta, start, (x, y) = build(norm_mlp, 1), build(norm_mlp, 2), rows(9)
    here = problem(theta, start)
    frozen, statistics = copy.deepcopy(here.references[0]), copy.deepcopy(dict(here.model.named_buffers()))
    mc.CBFT().barrier_loss(here, here.references[0], (x, y), 0.4).backward()
    assert all(parameter.grad is not None for parameter in here.model.parameters())
    for name, tensor in here.references[0].items():
        assert tensor.grad is None and not tensor.requires_grad
        assert torch.equal(tensor, frozen[name])
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in here.model.named_buffers())


# ---------------------------------------------------------------- the invariance term


@given(
    clean=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    cued=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
)
def test_the_invariance_term_is_a_sum_over_shared_classes(clean: list[int], cued: list[int], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(len(y), 3, generator=draw, dtype=torch.float64) for y in (clean, cued))
    arguments = (a, torch.tensor(clean), b, torch.tensor(cued), 5)
    found = compute_invariance_loss(*arguments)
    torch.testing.assert_close(found, invariance_term(*arguments), rtol=1e-9, atol=1e-12)  # sums in another order
    if not set(clean) & set(cued):
        assert float(found) == 0.0


def test_its_gradient_reaches_both_sides() -> None:
    draw = torch.Generator().manual_seed(0)
    sides = [torch.randn(6, 3, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(2)]
    labels = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 1, 1, 4, 4])
    found = torch.autograd.grad(compute_invariance_loss(sides[0], labels[0], sides[1], labels[1], 5), sides)
    expected = torch.autograd.grad(invariance_term(sides[0], labels[0], sides[1], labels[1], 5), sides)
    for gradient, witness, shared in zip(found, expected, ([0, 1, 2, 3], [0, 1, 2, 3]), strict=True):
        torch.testing.assert_close(gradient, witness, rtol=1e-9, atol=1e-12)
        assert bool((gradient[shared] != 0).any(1).all()) and bool((gradient[4:] == 0).all())


def test_opposite_and_equal_directions_are_the_extremes() -> None:
    x, y = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([0, 1])
    assert float(compute_invariance_loss(x, y, 7 * x, y, 2)) == pytest.approx(0.0, abs=1e-12)
    assert float(compute_invariance_loss(x, y, -2 * x, y, 2)) == pytest.approx(8.0, rel=1e-6)  # 4 a class, in float32


# ---------------------------------------------------------------- whole runs


def batches(sizes: list[int], seed: int) -> list[tuple[Tensor, Tensor]]:
    return split(rows(sum(sizes), seed), sizes)


CLEAN, CUED = batches([9, 8, 7], 1), batches([8, 9], 2)


def ts(method: mc.CBFT, seed: int) -> list[float]:
    return method.draw_t(torch.arange(100), seed).tolist()


def check_same_state(a: nn.Module, b: nn.Module) -> None:
    for name, tensor in a.state_dict().items():
        # A few iterations of float64, in another order than torch's.
        torch.testing.assert_close(tensor, b.state_dict()[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("update", ["alternating", "joint"])
@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_a_run_is_that_of_the_slow_implementation(factory: Any, update: Any, warmup: int) -> None:
    """Momentum, weight decay, cosine, the order of the running statistics and of the steps: all of it."""
    model = build(factory)
    method = mc.CBFT(epochs=2, lr=0.1, update=update, warmup_epochs=warmup, barrier_margin=0.8)
    tuned = mc.fine_tune(model, method, clean=CLEAN, cued=CUED, seed=5)
    slow = SlowCBFT(ts(method, 5), epochs=2, update=update, margin=0.8, lr=0.1, warmup=warmup)
    check_same_state(tuned.model, slow.run(model, CLEAN, CUED))
    assert [("invariance" in record) for record in tuned.history] == [epoch >= warmup for epoch in range(2)]
    # The shorter data end an epoch: two iterations, the last at three quarters of the cosine.
    assert tuned.history[-1]["lr"] == pytest.approx(cosine(0.1, 3, 4))


def test_running_statistics_see_the_clean_and_then_the_cued_batch() -> None:
    """With a vanishing rate the weights stand still, and only the order of the batches is left."""
    model = build(norm_mlp)
    method = mc.CBFT(epochs=1, lr=1e-300, warmup_epochs=0)
    tuned = mc.fine_tune(model, method, clean=CLEAN, cued=CUED).model
    expected = copy.deepcopy(model).train()
    for (clean, _), (cued, _) in zip(CLEAN, CUED, strict=False):
        expected(clean)
        expected(cued)
    assert torch.equal(tuned.get_buffer("1.running_mean"), expected.get_buffer("1.running_mean"))
    assert torch.equal(tuned.get_buffer("1.running_var"), expected.get_buffer("1.running_var"))
    assert int(tuned.get_buffer("1.num_batches_tracked")) == 4


def test_without_either_term_it_is_naive() -> None:
    model = build(norm_mlp)
    method = mc.CBFT(epochs=2, lr=0.1, barrier=False, invariance=False)
    tuned = mc.fine_tune(model, method, clean=CLEAN, cued=CUED)
    check_same_state(tuned.model, descended(model, CLEAN[:2], [cosine(0.1, step, 4) for step in range(4)]))
    assert set(tuned.history[-1]) == {"epoch", "lr", "clean"}


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({}, {"barrier", "clean", "invariance"}),
        ({"update": "joint"}, {"barrier", "clean", "invariance"}),
        ({"barrier": False}, {"clean", "invariance"}),
        ({"invariance": False}, {"barrier", "clean"}),
    ],
)
def test_ablations_leave_their_term_out(changes: dict[str, Any], terms: set[str]) -> None:
    tuned = mc.fine_tune(build(mlp), mc.CBFT(epochs=2, **changes), clean=CLEAN, cued=CUED)
    assert set(tuned.history[1]) == {"epoch", "lr", *terms}
    assert "invariance" not in tuned.history[0]


def test_history_holds_the_terms_as_they_were() -> None:
    """One iteration at a vanishing rate: each term is what the model's own start gives."""
    model, clean, cued = build(mlp), CLEAN[:1], CUED[:1]
    assert isinstance(model, nn.Sequential)
    method = mc.CBFT(epochs=1, lr=1e-300, warmup_epochs=0, barrier_margin=0.5)
    [record] = mc.fine_tune(model, method, clean=clean, cued=cued).history
    with torch.no_grad():
        (x, y), (x_cued, y_cued) = clean[0], cued[0]
        term = invariance_term(model[:-1](x), y, model[:-1](x_cued), y_cued, CLASSES)
        assert record["clean"] == pytest.approx(cross_entropy(model(x), y).item(), rel=1e-12)
        assert record["barrier"] == pytest.approx(abs(0.5 - cross_entropy(model(x_cued), y_cued).item()), rel=1e-12)
        assert record["invariance"] == pytest.approx(term.item() / CLASSES, rel=1e-9)


def test_the_defaults_are_those_of_the_published_table() -> None:
    method = mc.CBFT()
    assert (method.epochs, method.batch_size, method.lr, method.momentum, method.weight_decay) == (
        20,
        256,
        0.01,
        0.9,
        1e-4,
    )
    assert (method.barrier_margin, method.update, method.t_sampling) == (1.0, "alternating", "truncated")
    assert (method.warmup_epochs, method.cued_proportion, method.barrier, method.invariance) == (1, None, True, True)
    assert method.settings()["method"] == "CBFT"


def test_labels_of_any_whole_number_type() -> None:
    (x, y), cued = rows(20), rows(20, 3)
    expected, *others = (
        mc.fine_tune(build(norm_mlp), mc.CBFT(epochs=2), clean=(x, y.to(kind)), cued=cued).history
        for kind in (torch.int64, torch.int32, torch.uint8)
    )
    assert all(history == expected for history in others)


@pytest.mark.parametrize(
    ("clean", "cued", "text"),
    [
        (
            rows(20),
            (rows(20)[0], rows(20)[1] + 7),
            r"labels must lie in 0 \.\.\. 2, .* got 7 \.\.\. 9",
        ),
        (split(rows(20), [20]), [(rows(20)[0], rows(20)[1].double())], "the invariance term needs outputs"),
    ],
)
def test_the_invariance_term_refuses_labels_that_are_no_classes(clean: Any, cued: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        mc.fine_tune(build(norm_mlp), mc.CBFT(epochs=2, barrier=False), clean=clean, cued=cued)


class PerToken(nn.Module):
    """A head for every token, and a mean over them."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x)).mean(1)


def test_features_of_two_sizes_are_no_features_to_compare() -> None:
    clean, cued = ([(torch.arange(9 * n).reshape(9, n) % 20, torch.arange(9) % CLASSES)] for n in (5, 7))
    with pytest.raises(ValueError, match="the head receives 20 and 28 numbers a row"):
        mc.fine_tune(build(PerToken), mc.CBFT(epochs=2), clean=clean, cued=cued)
