"""Fine-tuning: the naive method against a loop by hand, and what every method asks for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import mechconn as mc
from mechconn.datasets import Planted, PlantedCue, make_cued_set
from mechconn.descent import Method
from operations import ON_NORM_MLP as EVERY
from reference import cosine, descended
from zoo import Shared, Tied, build, mlp, norm_mlp, rows, split


def cbft(**changes: Any) -> mc.CBFT:
    return mc.CBFT(**{"epochs": 2, "batch_size": 8, **changes})


# ---------------------------------------------------------------- naive fine-tuning


@pytest.mark.parametrize("factory", [mlp, norm_mlp, Shared, Tied])
def test_naive_fine_tuning_is_sgd_with_a_cosine_by_hand(factory: Callable[[], nn.Module]) -> None:
    model, batches = build(factory), split(rows(25), [9, 9, 7])
    tuned = mc.fine_tune(model, mc.NaiveFineTuning(epochs=3, lr=0.1), clean=batches)
    expected = descended(model, batches, [cosine(0.1, step, 9) for step in range(9)])
    for name, tensor in tuned.model.state_dict().items():
        # 9 steps of float64, in another order than torch's.
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=1e-11, atol=1e-11)
    assert tuned.history[-1]["lr"] == pytest.approx(cosine(0.1, 8, 9), rel=1e-12)


def test_naive_fine_tuning_has_the_sources_defaults() -> None:
    method = mc.NaiveFineTuning()
    settings = (method.epochs, method.batch_size, method.lr, method.momentum, method.weight_decay)
    assert settings == (20, 256, 0.01, 0.9, 1e-4)
    assert method.settings()["method"] == "NaiveFineTuning"


def test_naive_fine_tuning_reads_no_cued_data() -> None:
    model, clean = build(mlp), rows(20)
    method = mc.NaiveFineTuning(epochs=1, batch_size=8)
    alone, beside = (mc.fine_tune(model, method, clean=clean, cued=cued).model for cued in (None, rows(20, 3)))
    assert all(torch.equal(p, q) for p, q in zip(alone.parameters(), beside.parameters(), strict=True))


def test_the_result_tells_how_it_came_about() -> None:
    told: list[mc.ProgressEvent] = []
    tuned = mc.fine_tune(
        build(norm_mlp), mc.NaiveFineTuning(epochs=2, batch_size=8), clean=rows(20), seed=4,
        progress=told.append,
    )  # fmt: skip
    terms = [{"clean": record["clean"]} for record in tuned.history]
    assert told == [mc.ProgressEvent("fine-tuning", n + 1, 2, terms[n]) for n in range(2)]
    assert tuned.settings["method"] == "NaiveFineTuning"
    assert (tuned.settings["seed"], tuned.settings["samples"]) == (4, 20)
    assert not any(part.training for part in tuned.model.modules())


# ---------------------------------------------------------------- every method


METHODS = [mc.NaiveFineTuning(epochs=2, batch_size=8), cbft(), cbft(update="joint")]


@pytest.mark.parametrize("method", METHODS)
def test_theta_c_is_unchanged_bit_for_bit(method: mc.NaiveFineTuning | mc.CBFT) -> None:
    model = build(norm_mlp)
    before = copy.deepcopy(model.state_dict())
    tuned = mc.fine_tune(model, method, clean=rows(20), cued=rows(24, 3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), tuned.model.parameters(), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_decides_everything(method: mc.NaiveFineTuning | mc.CBFT) -> None:
    model, clean, cued = build(norm_mlp), rows(20), rows(24, 3)
    first, again, other = (
        mc.fine_tune(model, method, clean=clean, cued=cued, seed=seed).model.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
def test_frozen_weights_stay(method: Method) -> None:
    model = build(norm_mlp)
    model.get_submodule("0").requires_grad_(False)
    tuned = mc.fine_tune(model, method, clean=rows(20), cued=rows(24, 3)).model
    assert torch.equal(tuned.get_parameter("0.weight"), model.get_parameter("0.weight"))
    assert not torch.equal(tuned.get_parameter("3.weight"), model.get_parameter("3.weight"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
def test_the_number_type_is_the_models(method: Method, dtype: torch.dtype) -> None:
    model = build(norm_mlp, dtype=dtype)
    clean, cued = ((x.to(dtype), y) for x, y in (rows(20), rows(24, 3)))
    tuned = mc.fine_tune(model, method, clean=clean, cued=cued).model
    assert all(tensor.dtype == dtype for tensor in tuned.parameters())


@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
def test_a_last_batch_of_one_row_does_not_stop_a_batch_norm(method: Method) -> None:
    tuned = mc.fine_tune(build(norm_mlp), method, clean=rows(25), cued=rows(33, 3))
    assert all(bool(tensor.isfinite().all()) for tensor in tuned.model.parameters())


# ---------------------------------------------------------------- errors


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    wanted = targets if targets.dim() == 2 else nn.functional.one_hot(targets, 3)
    return (outputs - wanted).square().mean(1)


def bad_rows() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = rows(20)
    x[11, 0] = float("inf")
    return x, y


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"clean": (torch.zeros(0, 4), torch.zeros(0).long())},
            ValueError,
            "clean data holds no samples; at least one",
        ),
        ({"clean": []}, ValueError, "clean data holds no samples; at least one is needed"),
        (
            {"clean": (torch.zeros(5, 4), torch.full((5,), 2))},
            ValueError,
            "clean data holds only class 2; training needs samples of at least two classes",
        ),
        (
            {"clean": iter([rows(4)])},
            TypeError,
            "clean data must be data that can be read more than once, got a list_iterator",
        ),
        (
            {"cued": (batch for batch in [rows(4)])},
            TypeError,
            "cued data must be data that can be read more than once, got a generator",
        ),
        ({"clean": 7}, TypeError, "clean data must be an (x, y) pair of tensors, a dataset, or an iterable of"),
        ({"clean": bad_rows()}, ValueError, "clean data: row 11 holds NaN or infinity; remove or repair it"),
        ({"cued": bad_rows()}, ValueError, "cued data: row 11 holds NaN or infinity; remove or repair it"),
        ({"cued": []}, ValueError, "cued data holds no samples; at least one is needed"),
        (
            {"cued": None},
            ValueError,
            "CBFT needs data with the cue: pass cued=..., the data that the model was trained on",
        ),
        (
            {"method": cbft(cued_proportion=1.0)},
            TypeError,
            "cued_proportion needs a dataset that knows its cue, got TensorPair; pass cued=task.train, or leave it",
        ),
        (
            {"head": "fc"},
            ValueError,
            "head='fc' is not a linear layer of this model; its linear layers are: 0, 3",
        ),
        (
            {"loss": nn.functional.cross_entropy},
            ValueError,
            "the loss must give one value per sample, shape [8], got []; use reduction='none'",
        ),
        (
            {"clean": (rows(20)[0], rows(20)[0][:, :3]), "loss": squared},
            ValueError,
            "the invariance term needs outputs [N, K] with K > 1 and whole-number targets [N], or one logit with "
            "loss=mechconn.losses.binary, got outputs [8, 3] "
            "and float64 [8, 3]; set invariance=False for other tasks",
        ),
    ],
)
def test_what_cannot_be_fine_tuned(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments: dict[str, Any] = {"method": cbft(), "clean": rows(20), "cued": rows(20, 3), **changes}
    with pytest.raises(error) as caught:
        mc.fine_tune(build(norm_mlp), **arguments)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"barrier_margin": -1.0}, "barrier_margin must be zero or more, got -1.0"),
        (
            {"warmup_epochs": -1},
            "warmup_epochs must be zero or more and below epochs = 20, got -1; else the invariance term is never used "
            "(invariance=False says so)",
        ),
        ({"update": "jont"}, "update must be one of 'alternating', 'joint', got 'jont'; did you mean 'joint'?"),
        (
            {"t_sampling": "cliped"},
            "t_sampling must be one of 'truncated', 'clipped', got 'cliped'; did you mean 'clipped'?",
        ),
        ({"cued_proportion": 1.5}, "cued_proportion must lie in [0, 1], got 1.5"),
        ({"lr": -0.1}, "lr must be a number greater than zero, got -0.1"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        mc.CBFT(**wrong)
    assert str(caught.value) == text


def test_a_head_that_cannot_be_told_is_asked_for() -> None:
    class SideBySide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.left(x) + self.right(x)

    model, clean, cued = build(SideBySide), rows(20), rows(20, 3)
    with pytest.raises(ValueError, match=r"^cannot tell which linear layer is the head \(.* lead to it side by side\)"):
        mc.fine_tune(model, cbft(), clean=clean, cued=cued)
    assert mc.fine_tune(model, cbft(), clean=clean, cued=cued, head="left").settings["method"] == "CBFT"


def test_a_head_that_is_called_twice_in_a_pass_has_no_invariance_term() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x)) + self.head(self.body(x.flip(1)))

    arguments: dict[str, Any] = {"clean": rows(20), "cued": rows(20, 3), "head": "head"}
    with pytest.raises(ValueError, match=r"'head' receives once in each pass \(here: passes 1, calls 2\)"):
        mc.fine_tune(build(Twice), cbft(), **arguments)
    assert mc.fine_tune(build(Twice), cbft(invariance=False), **arguments).history


def test_a_model_without_trainable_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="fine-tuning finds no trainable weights: all of them are frozen"):
        mc.fine_tune(build(mlp).requires_grad_(False), mc.NaiveFineTuning(), clean=rows(20))


def test_divergence_names_the_term_and_the_step() -> None:
    with pytest.raises(
        FloatingPointError, match=r"^training diverged: barrier is (nan|inf) at step 1 of 6 \(epoch 0\)"
    ):
        mc.fine_tune(build(mlp), cbft(lr=1e300), clean=rows(24), cued=rows(24, 3))


# ---------------------------------------------------------------- the cue's proportion in D_C


def test_the_cued_data_may_be_redrawn_at_another_proportion() -> None:
    spec = Planted()
    scenes = make_cued_set(spec.sample(60), PlantedCue(spec)).with_proportion(0.5, seed=1)
    method = cbft(cued_proportion=1.0)
    redrawn = method.cued_data({"cued": scenes}, 0)["cued"]
    assert isinstance(redrawn, mc.CuedSet)
    assert torch.equal(redrawn.cue_values, scenes.y)
    assert cbft().cued_data({"cued": scenes}, 0)["cued"] is scenes
    model = build(lambda: nn.Sequential(nn.Linear(spec.features, 6), nn.Tanh(), nn.Linear(6, 4)), dtype=torch.float32)
    clean = scenes.without_cue()
    direct, told, not_told = (
        mc.fine_tune(model, cbft(cued_proportion=p), clean=clean, cued=cued).model.get_parameter("0.weight")
        for p, cued in ((None, scenes.with_cue()), (1.0, scenes), (None, scenes))
    )
    assert torch.equal(direct, told)
    assert not torch.equal(told, not_told)
