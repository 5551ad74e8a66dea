"""Data and models at the edge: a result or one clear error, never NaN in a record."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from lookup import Copier, answers, outcomes
from zoo import Batch, build, mlp, rows


class Constant(nn.Module):
    """The same outputs whatever comes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([0.5, 0.0, -1.0], dtype=x.dtype).expand(len(x), 3)


class Certain(nn.Module):
    """Log-probabilities of a network that is certain of the class in the input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(nn.functional.one_hot(x[:, 0].long(), 3).to(x.dtype))


def read_back(measured: mc.Invariance) -> mc.Invariance:
    """Through strict JSON, which has no NaN and no infinity."""
    loaded = mc.load_result(json.loads(measured.to_json()))
    assert isinstance(loaded, mc.Invariance) and loaded == measured
    return loaded


def big(count: int) -> Batch:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=draw, dtype=torch.float64), torch.arange(count) % 3


CASES: dict[str, tuple[Callable[[], nn.Module], Batch, Batch]] = {
    "predictions never change": (lambda: build(mlp), rows(300), rows(300)),
    "a constant model": (Constant, rows(200, 1), (rows(200, 2)[0], rows(200, 1)[1])),
    "a constant model, five samples": (Constant, rows(5, 1), (rows(5, 2)[0], rows(5, 1)[1])),
    "one class": (Copier, answers([0] * 40, [0] * 40), answers([0] * 30 + [1] * 10, [0] * 40)),
    "one class, unpaired": (Copier, answers([0] * 40, [0] * 40), answers([1] * 30, [1] * 30)),
    "five samples": (Copier, answers([0, 1, 2, 0, 1], [0, 1, 2, 0, 1]), answers([0, 1, 2, 0, 0], [0, 1, 2, 0, 1])),
    "100,000 samples": (lambda: build(mlp), big(100_000), (big(100_000)[0].flip(0), big(100_000)[1])),
}


@pytest.mark.parametrize("on", ["accuracy", "loss"])
@pytest.mark.parametrize("case", CASES)
def test_a_result_without_nan(case: str, on: Any) -> None:
    factory, before, after = CASES[case]
    measured = mc.measure_invariance(factory(), mc.Suite({"cue": before, "hue": after}), on=on)
    loaded = read_back(measured)
    assert loaded.effects["hue"].verdict == measured["hue"].verdict
    assert loaded.effects["hue"].loss is not None and loaded.notes == ()


@pytest.mark.parametrize("on", ["accuracy", "loss"])
@pytest.mark.parametrize(("count", "verdict"), [(5, "undetermined"), (1000, "invariant")])
def test_what_never_moves_is_invariant_where_enough_rows_say_so(count: int, verdict: str, on: Any) -> None:
    """Few rows without a change are no evidence; on the loss t would be certain of them."""
    x, y = rows(count)
    effect = mc.measure_invariance(Constant(), mc.Suite({"cue": (x, y), "hue": (x + 1, y)}, paired=True), on=on)["hue"]
    assert (effect.effect, effect.changed, effect.verdict) == (0.0, 0.0, verdict)
    assert (effect.to_settle is None) == (verdict == "invariant")


def test_a_loss_that_never_moves_has_the_interval_of_what_was_not_seen() -> None:
    """+- b s: s = 1 - (alpha / 2)^(1 / n) is the largest share that may move unseen, b the largest loss."""
    x, y = rows(50)
    loss = torch.full((50,), 2.5, dtype=torch.float64)
    suite = mc.Suite({"cue": (x, y), "hue": (x, y)})
    effect = mc.measure_invariance(Constant(), suite, on="loss", loss=lambda f, t: loss[: len(t)])["hue"]
    bound = 2.5 * (1 - 0.025 ** (1 / 50))
    assert effect.interval == pytest.approx((-bound, bound), rel=1e-12)


def test_probabilities_of_exactly_zero_leave_the_accuracy_and_a_note() -> None:
    y = [0, 1, 2, 0, 1, 2]
    suite = mc.Suite({"cue": answers(y, y), "hue": answers([0, 1, 2, 0, 2, 1], y)})
    measured = mc.measure_invariance(Certain(), suite)
    loaded = read_back(measured)
    said = "the loss on split 'hue' has no finite mean: it is inf on 2 of 6 rows (first: row 4)"
    assert (loaded.loss, loaded.notes) == ({"cue": 0.0, "hue": None}, (said,))
    assert (loaded.effects["hue"].loss, loaded.effects["hue"].effect) == (None, pytest.approx(-1 / 3))
    assert f"note: {said}" in str(measured)
    with pytest.raises(ValueError) as caught:
        mc.measure_invariance(Certain(), suite, on="loss")
    assert str(caught.value) == (
        f"{said}; a probability of exactly 0 for the true class gives inf; use on='accuracy', or a loss that is bounded"
    )


def test_one_row_gives_no_interval_of_the_loss() -> None:
    one = mc.Suite({"cue": answers([0], [0]), "hue": answers([0], [0])})
    effect = mc.measure_invariance(Copier(), one)["hue"]
    assert (effect.verdict, effect.loss) == ("undetermined", mc.Change(0.0, None, 1))
    assert read_back(mc.measure_invariance(Copier(), one)).effects["hue"].samples == 1
    with pytest.raises(ValueError) as caught:
        mc.measure_invariance(Copier(), one, on="loss")
    assert str(caught.value) == (
        "an interval of the loss on 'hue' needs two rows or more; use on='accuracy' or more data"
    )


def test_a_suite_of_the_reference_alone_has_no_effects() -> None:
    measured = mc.measure_invariance(Copier(), mc.Suite({"cue": answers([0], [0])}))
    assert (dict(measured), measured.invariant_to, measured.sensitive_to) == ({}, (), ())


def test_many_rows_narrow_the_interval_of_the_share() -> None:
    right = torch.arange(100_000) % 10 > 0
    effect = mc.measure_invariance(Copier(), mc.Suite({"cue": outcomes(right), "hue": outcomes(~right)}))["hue"]
    assert effect.effect == pytest.approx(-0.8) and effect.adjusted_p_value == 1e-12
    low, high = effect.interval
    assert high - low < 0.01 and not math.isnan(low)
