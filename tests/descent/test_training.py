"""The training loop: what a step is, in which order rows come, and what comes out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mechconn as mc
from reference import descended, evaluated
from zoo import Named, Shared, Tied, TwoInputs, build, dropout_mlp, images, mlp, norm_conv, norm_mlp, rows, split


def quick(**changes: Any) -> mc.Training:
    return mc.Training(**{"epochs": 2, "batch_size": 8, "lr": 0.05, "milestones": (), **changes})


def check_same_weights(a: nn.Module, b: nn.Module, tolerance: float = 0.0) -> None:
    """Parameters and buffers of two models agree."""
    mine, other = a.state_dict(), b.state_dict()
    assert list(mine) == list(other)
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, other[name], rtol=tolerance, atol=tolerance)


def differ(a: nn.Module, b: nn.Module) -> bool:
    return any(not torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


# ---------------------------------------------------------------- the steps


@pytest.mark.parametrize("factory", [mlp, norm_mlp, Shared, Tied])
def test_training_is_sgd_by_hand(factory: Callable[[], nn.Module]) -> None:
    model, batches = build(factory), split(rows(25), [9, 9, 7])
    method = quick(epochs=4, lr=0.2, milestones=(1, 3), decay=0.5, momentum=0.8, weight_decay=0.01)
    trained = mc.train(model, batches, method)
    rates = [rate for rate in (0.2, 0.1, 0.1, 0.05) for _ in range(3)]
    # 24 float64 operations per weight, in another order than torch's.
    check_same_weights(trained.model, descended(model, batches, rates, momentum=0.8, decay=0.01), 1e-11)
    assert [record["lr"] for record in trained.history] == pytest.approx([0.2, 0.1, 0.1, 0.05])


def test_the_sources_schedule_is_the_default() -> None:
    method = mc.Training()
    assert (method.epochs, method.batch_size, method.lr, method.momentum, method.weight_decay) == (
        100,
        256,
        0.1,
        0.9,
        1e-4,
    )
    rates = [method.rate(0, 1, epoch) for epoch in (0, 39, 40, 79, 80, 99)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_a_cosine_runs_from_its_rate_to_zero() -> None:
    method = mc.NaiveFineTuning(lr=0.03)
    assert (method.rate(0, 50, 0), method.rate(50, 50, 0)) == (0.03, 0.0)
    assert method.rate(25, 50, 0) == pytest.approx(0.015)
    rates = [method.rate(step, 50, 0) for step in range(51)]
    assert rates == sorted(rates, reverse=True)


def test_batches_of_a_dataset_are_reshuffled_every_epoch() -> None:
    order: list[list[int]] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        order.append(targets.long().tolist())
        return (outputs[:, 0] - targets).square()

    x = rows(17)[0]
    mc.train(build(mlp), (x, torch.arange(17.0)), quick(epochs=3, lr=1e-6), loss=loss)
    assert [len(batch) for batch in order] == [8, 9] * 3  # the seventeenth row joins the batch before
    epochs = [order[i] + order[i + 1] for i in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(17)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_last_batch_of_one_row_does_not_stop_a_batch_norm() -> None:
    trained = mc.train(build(norm_mlp), rows(17), quick())
    assert trained.settings["samples"] == 17


# ---------------------------------------------------------------- seeds


def from_loader(model: nn.Module, seed: int) -> nn.Module:
    loader = DataLoader(TensorDataset(*rows(40)), batch_size=8, shuffle=True)
    return mc.train(model, loader, quick(), seed=seed).model


def from_rows(model: nn.Module, seed: int) -> nn.Module:
    return mc.train(model, rows(40), quick(), seed=seed).model


def from_batches(model: nn.Module, seed: int) -> nn.Module:
    """In a given order: only the dropout draws."""
    return mc.train(model, split(rows(40), [20, 20]), quick(), seed=seed).model


@pytest.mark.parametrize("train", [from_loader, from_rows, from_batches])
def test_a_seed_decides_everything(train: Callable[[nn.Module, int], nn.Module]) -> None:
    model = build(dropout_mlp)
    first = train(model, 3)
    torch.rand(7, generator=torch.Generator().manual_seed(1))
    check_same_weights(train(model, 3), first)
    assert differ(train(model, 4), first)


# ---------------------------------------------------------------- what goes in, what comes out


def test_the_result_is_a_new_model_in_evaluation_mode() -> None:
    model = build(norm_mlp).train()
    before = copy.deepcopy(model)
    trained = mc.train(model, rows(40), quick(), seed=5)
    check_same_weights(model, before)
    assert model.training and not any(part.training for part in trained.model.modules())
    assert differ(trained.model, model)
    assert all(parameter.grad is None for parameter in trained.model.parameters())
    assert trained.seconds > 0


def test_history_and_settings_tell_the_whole_story() -> None:
    model, data, told = build(mlp), rows(40), []
    trained = mc.train(model, data, quick(epochs=3), seed=5, progress=told.append)
    expected = [mc.ProgressEvent("training", n + 1, 3, {"clean": trained.history[n]["clean"]}) for n in range(3)]
    assert told == expected and str(told[0]) == f"training (clean {trained.history[0]['clean']:.3g})"
    assert [record["epoch"] for record in trained.history] == [0, 1, 2]
    assert set(trained.history[0]) == {"epoch", "lr", "clean"}
    for name, value in {
        "method": "Training", "epochs": 3, "batch_size": 8, "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4,
        "milestones": (), "decay": 0.1, "seed": 5, "device": "cpu", "samples": 40,
    }.items():  # fmt: skip
        assert trained.settings[name] == value


def test_history_holds_the_mean_of_the_samples_losses() -> None:
    model, batches = build(mlp), split(rows(20), [12, 8])
    trained = mc.train(model, batches, quick(epochs=1, lr=0.1))
    moved = descended(model, batches[:1], [0.1])
    losses = [evaluated(m, [batch])[0] for m, batch in zip((model, moved), batches, strict=True)]
    assert trained.history[0]["clean"] == pytest.approx((12 * losses[0] + 8 * losses[1]) / 20, rel=1e-12)


def test_frozen_weights_stay_and_stay_frozen() -> None:
    model = build(norm_mlp)
    frozen = model.get_submodule("0")
    frozen.requires_grad_(False)
    for method in (quick(), mc.NaiveFineTuning(epochs=1, batch_size=8)):
        trained = mc.train(model, rows(40), method).model
        assert torch.equal(trained.get_parameter("0.weight"), model.get_parameter("0.weight"))
        assert torch.equal(trained.get_parameter("0.bias"), model.get_parameter("0.bias"))
        assert not trained.get_parameter("0.weight").requires_grad
        assert not torch.equal(trained.get_parameter("3.weight"), model.get_parameter("3.weight"))


def test_tied_weights_stay_tied() -> None:
    trained = mc.train(build(Tied), rows(40), quick()).model
    assert isinstance(trained, Tied)
    assert trained.decode.weight is trained.encode.weight


def test_inputs_may_be_named_or_several_and_outputs_have_logits() -> None:
    x, y = rows(40)
    ones = torch.ones(40, dtype=torch.float64)
    plain = build(lambda: Named().body)
    named = [{"values": x[part], "scale": ones[part], "labels": y[part]} for part in torch.arange(40).split(20)]
    several = [(x[part] - 1, torch.ones_like(x[part]), y[part]) for part in torch.arange(40).split(20)]
    expected = mc.train(plain, split((x, y), [20, 20]), quick()).model
    for factory, batches in ((Named, named), (TwoInputs, several)):
        model = build(factory)
        model.get_submodule("body").load_state_dict(plain.state_dict())
        trained = mc.train(model, batches, quick()).model
        # x - 1 + 1 rounds once.
        check_same_weights(trained.get_submodule("body"), expected, 1e-12)


def test_any_loss_per_sample_is_descended() -> None:
    x = rows(60)[0]
    data, method = (x, x[:, 0] - 2 * x[:, 1]), quick(epochs=80, lr=0.05, momentum=0.5, weight_decay=0.0)
    model = build(lambda: nn.Linear(4, 1))
    trained = mc.train(model, data, method, loss=lambda outputs, z: (outputs[:, 0] - z).square())
    expected = torch.tensor([[1.0, -2.0, 0.0, 0.0]], dtype=torch.float64)
    # Least squares without noise: every batch agrees on the solution, and 560 steps come close to it.
    torch.testing.assert_close(trained.model.get_parameter("weight").detach(), expected, rtol=0, atol=1e-5)


def test_images_are_learned() -> None:
    x, y = images(60)
    x[torch.arange(60), y] += 2.0  # each class brightens a channel of its own
    trained = mc.train(build(norm_conv), (x, y), quick(epochs=30, lr=0.1))
    assert trained.history[-1]["clean"] < 0.2 < trained.history[0]["clean"]


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (rows(1), ValueError, "training data holds only class 2; training needs samples of at least two classes"),
        ((torch.zeros(4, 4), torch.zeros(4).long()), ValueError, "training data holds only class 0; training needs"),
        ((torch.zeros(0, 4), torch.zeros(0).long()), ValueError, "training data holds no samples"),
        ([], ValueError, "training data holds no samples"),
        (iter([rows(4)]), TypeError, "training data must be data that can be read more than once, got a list_iterator"),
    ],
)
def test_data_that_cannot_be_learned(data: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        mc.train(build(mlp), data, quick())
    assert str(caught.value).startswith(text)


def test_nan_in_the_data_is_named_by_its_row() -> None:
    x, y = rows(40)
    x[13, 1] = float("nan")
    for data in ((x, y), split((x, y), [10, 30])):
        with pytest.raises(ValueError, match=r"^training data: row 13 holds NaN or infinity; remove or repair it"):
            mc.train(build(mlp), data, quick())


def test_divergence_names_the_step() -> None:
    """Squared loss, rate 1e200: the second step's loss is beyond the largest float64."""
    data = [(x, y.double()) for x, y in split(rows(20), [10, 10])]
    with pytest.raises(FloatingPointError) as caught:
        mc.train(
            build(mlp), data, quick(epochs=3, lr=1e200), loss=lambda outputs, y: (outputs[:, 0] - y).square()
        )  # fmt: skip
    assert str(caught.value) == (
        "training diverged: clean is inf at step 1 of 6 (epoch 0); lower the learning rate"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "epochs must be a whole number greater than zero, got 0"),
        ({"batch_size": -1}, "batch_size must be a whole number greater than zero, got -1"),
        ({"lr": 0.0}, "lr must be a number greater than zero, got 0.0"),
        ({"momentum": -0.1}, "momentum must lie in [0, 1], got -0.1"),
        ({"weight_decay": float("nan")}, "weight_decay must be zero or more, got nan"),
        ({"decay": 0.0}, "decay must be a number greater than zero, got 0.0"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        quick(**wrong)
    assert str(caught.value) == text


def test_training_works_where_the_caller_has_switched_gradients_off() -> None:
    model, data = build(mlp), rows(8)
    method = mc.Training(epochs=1, lr=0.1)
    with torch.no_grad():
        inside = mc.train(model, data, method)
    outside = mc.train(model, data, method)
    assert all(torch.equal(a, b) for a, b in zip(inside.model.parameters(), outside.model.parameters(), strict=True))


def test_a_model_trained_in_reduced_precision_can_be_saved(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    data = torch.randn(16, 3, 28, 28, generator=draw), torch.arange(16) % 10
    method = mc.Training(epochs=1, batch_size=8)
    result = mc.train(mc.models.small_convnet(seed=0), data, method, compute=mc.Compute(precision="auto"))
    save_file(result.model.state_dict(), tmp_path / "model.safetensors")
    loaded = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in result.model.state_dict().items())
