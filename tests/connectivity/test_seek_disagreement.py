"""Models of equal loss that answer otherwise: the ellipsoid of a linear model, a planted choice, and the contract."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import CLASSES, FEATURES, Named, build, mlp, norm_mlp, rows

QUICK = mc.DisagreementSearch(steps=20, lr=0.02, batch_size=64, check_every=10)


def test_a_linear_model_reaches_the_end_of_its_ellipsoid() -> None:
    """Squared loss at its minimum rises by d' H d, H = X'X / n, so that an answer g'd moves by sqrt(tol g' H^-1 g)."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=draw, dtype=torch.float64) * torch.tensor([2.0, 1.0, 0.3])
    model, g = build(lambda: nn.Linear(3, 1, bias=False)), torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
    y = x @ model.get_parameter("weight").detach().T
    search = mc.DisagreementSearch(tolerance=0.04, steps=200, lr=0.02, batch_size=60, check_every=40)
    found = mc.seek_disagreement(model, (x, y), g, search, loss=mc.losses.squared)
    most = 0.04 * float(g @ torch.linalg.inv(x.T @ x / 60) @ g.T)
    assert 0.96 * most <= found.divergence <= most * (1 + 1e-9)
    assert found.loss_before == pytest.approx(0.0, abs=1e-20) and 0.039 <= found.loss_after <= 0.04
    moved = found.model(g) - model(g)
    assert float(moved.detach().square()) == pytest.approx(found.divergence, rel=1e-9)
    assert found.changed is None and set(found.pulls) == {"larger outputs", "smaller outputs"}
    assert found.pulls["larger outputs"] == pytest.approx(found.pulls["smaller outputs"], rel=0.05)


def planted(agree: float) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Two columns that both give the label, the second on some rows alone; and rows on which they contradict."""
    y = torch.arange(200) % 2
    first = 2.0 * y - 1.0
    second = torch.where(torch.arange(200) < 200 * agree, first, -first)
    return (torch.stack([first, second], 1).double(), y), torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()


def reader(first: float, second: float) -> nn.Module:
    model = build(lambda: nn.Linear(2, 2, bias=False))
    weights = {"weight": torch.tensor([[-first, -second], [first, second]]).double()}
    return mc.with_parameters(model, weights)


@pytest.mark.parametrize(("agree", "decided"), [(1.0, False), (0.5, True)])
def test_a_cue_that_the_data_do_not_tell_from_the_content_can_be_followed_at_equal_loss(
    agree: float, decided: bool
) -> None:
    """Where both columns agree on all rows, the other one may be read; where the data decide, it may not."""
    data, contradicting = planted(agree)
    search = mc.DisagreementSearch(tolerance=0.02, steps=80, lr=0.05, check_every=16)
    found = mc.seek_disagreement(reader(3.0, 0.0), data, contradicting, search, margin=0.05)
    assert found.toward == "runner-up" or decided
    assert found.loss_after <= found.loss_before + 0.02
    assert found.changed == (0.0 if decided else 1.0)
    assert (found.divergence > 0.5) != decided
    assert found.verdict == "connected"  # a convex loss has no barrier


def test_what_is_reported_is_measured_on_the_model_found() -> None:
    """Loss, divergence and path against plain passes; statistics and frozen parameters stay."""
    model, data, asked = build(norm_mlp), rows(60), rows(7, 3)
    model.get_parameter("0.bias").requires_grad_(False)
    found = mc.seek_disagreement(model, data, asked, QUICK, seed=3)
    first, other = model.eval(), found.model.eval()
    with torch.no_grad():
        losses = [float(nn.functional.cross_entropy(own(data[0]), data[1])) for own in (first, other)]
        p, q = (own(asked[0]).log_softmax(1) for own in (first, other))
    assert [found.loss_before, found.loss_after] == pytest.approx(losses, rel=1e-9)
    assert found.divergence == pytest.approx(float((p.exp() * (p - q)).sum(1).mean()), rel=1e-9)
    assert found.changed == float((p.argmax(1) != q.argmax(1)).double().mean())
    assert found.path.loss["data"][0] == pytest.approx(losses[0]) and found.path.loss["data"][-1] == pytest.approx(
        losses[1]
    )
    assert found.path.barrier("data").interval is not None and (found.rows_asked, found.samples) == (7, 60)
    for name, tensor in first.state_dict().items():
        stays = "running" in name or name == "0.bias"
        assert torch.equal(tensor, other.state_dict()[name]) == (stays or "num_batches" in name)
    assert found.divergence == max(found.pulls.values()) and list(found.pulls) == [
        "runner-up",
        "class 0",
        "class 1",
        "class 2",
    ]


def test_more_tolerance_never_finds_less_and_a_seed_is_a_seed() -> None:
    model, data, asked = build(mlp), rows(40), rows(3, 9)[0]
    small, large = (
        mc.seek_disagreement(model, data, asked, mc.DisagreementSearch(tolerance=tolerance, steps=20, lr=0.02))
        for tolerance in (0.001, 0.1)
    )
    assert small.divergence < large.divergence
    again = mc.seek_disagreement(model, data, asked, mc.DisagreementSearch(tolerance=0.1, steps=20, lr=0.02))
    assert again.to_dict() == large.to_dict()


def test_half_precision_is_searched_in_float32_and_measured_as_it_is_rounded() -> None:
    model, (x, y) = build(mlp, dtype=torch.bfloat16), rows(40, dtype=torch.float32)
    found = mc.seek_disagreement(model, (x, y), x[:3], mc.DisagreementSearch(steps=20, lr=0.05, tolerance=0.2))
    assert found.model.get_parameter("0.weight").dtype == torch.bfloat16 and found.divergence > 0.0
    assert found.loss_after <= found.loss_before + 0.2 and found.settings["master_weights"] == "float32"


def test_inputs_by_name_and_outputs_of_an_object() -> None:
    """As of networks of Transformers."""
    (x, y), ones = rows(30), torch.ones(30, dtype=torch.float64)
    data = {"values": x, "scale": ones}, y
    asked = {"values": x[:3], "scale": ones[:3]}, y[:3]
    named = mc.seek_disagreement(build(Named), data, asked, QUICK)
    plain = mc.seek_disagreement(cast(nn.Module, build(Named).body), rows(30), (x[:3], y[:3]), QUICK)
    assert named.divergence == pytest.approx(plain.divergence, rel=1e-9) and named.rows_asked == 3


def test_progress_counts_searches_and_a_verdict_has_three_words() -> None:
    told: list[mc.ProgressEvent] = []
    found = mc.seek_disagreement(build(mlp), rows(30), rows(2)[0], QUICK, progress=told.append)
    assert [event.done for event in told] == [1, 2, 3, 4] and told[0].total == 1 + CLASSES
    barrier = found.path.barrier("data").interval
    assert barrier is not None
    words = {}
    for margin in (barrier[0] / 2, (barrier[0] + barrier[1]) / 2, 2 * barrier[1]):
        own = mc.connectivity.judge_connection("data", found.path.barrier("data"), margin, False)
        words[margin] = own.verdict
    assert set(words.values()) <= {"connected", "undetermined", "not connected"}
    assert found.verdict in str(found) or "same basin" in str(found)
    loaded = cast(mc.Disagreement, mc.load_result(found.to_dict()))
    assert loaded.verdict == found.verdict
    with pytest.raises(AttributeError, match="files hold no model; seek it again"):
        _ = loaded.model


class Masked(nn.Module):
    """A class that is never answered, as heads of several tasks mask them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = build(mlp)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(x), torch.full((len(x), 1), -math.inf, dtype=x.dtype)], 1)


def test_a_class_without_probability_adds_nothing_to_the_divergence() -> None:
    masked, plain = (mc.seek_disagreement(model, rows(30), rows(3)[0], QUICK).pulls for model in (Masked(), build(mlp)))
    assert masked["class 0"] == pytest.approx(plain["class 0"], rel=1e-9) and masked["class 0"] > 0.0


def test_that_nothing_was_found_is_said() -> None:
    found = mc.seek_disagreement(build(mlp), rows(30), rows(3)[0], mc.DisagreementSearch(steps=2, lr=1e30))
    assert (found.divergence, found.loss_after) == (0.0, found.loss_before)
    assert "no model was found that answers otherwise" in str(found)
    assert found.header().title == "No model of equal loss was found that answers one of the rows otherwise"


def frozen() -> nn.Module:
    return build(mlp).requires_grad_(False)


def broken() -> nn.Module:
    model = build(mlp)
    model.get_parameter("0.bias").data[0] = math.nan
    return model


REFUSED: dict[str, tuple[Any, str]] = {
    "frozen": (lambda: mc.seek_disagreement(frozen(), rows(9), rows(2)), "every parameter of the model is frozen, so"),
    "broken": (
        lambda: mc.seek_disagreement(broken(), rows(9), rows(2)),
        "the model's loss on the data is nan, so that",
    ),
    "batches": (
        lambda: mc.seek_disagreement(build(mlp), [rows(9)], rows(2)),
        "seek_disagreement reads rows by index and needs a dataset or an (x, y) pair of tensors, got list",
    ),
    "no search": (
        lambda: mc.seek_disagreement(build(mlp), rows(9), rows(2), 3),  # pyright: ignore[reportArgumentType]
        "search must be a DisagreementSearch, got int",
    ),
    "no tolerance": (lambda: mc.DisagreementSearch(tolerance=0.0), "tolerance must be a number greater than zero"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said_in_one_line(case: str) -> None:
    call, text = REFUSED[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)
    assert FEATURES and mc.seek_disagreement(frozen().requires_grad_(), rows(9), rows(2), QUICK).pulls
