"""How far two models' class probabilities lie apart."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from lookup import Copier, answers
from zoo import CLASSES, FEATURES, Shared, build, mlp, rows, split

KEPT = 1e-6
"""Class probabilities are kept as float32, which rounds each at 6e-8 of its size."""


def by_hand(models: list[nn.Module], x: Tensor) -> float:
    """Row by row, class by class."""
    total = 0.0
    for row in x:
        a, b = (torch.softmax(model(row[None])[0], 0).tolist() for model in models)
        total += sum(abs(p - q) for p, q in zip(a, b, strict=True))
    return total / len(x)


def test_it_is_the_mean_over_interventions_of_the_mean_over_rows() -> None:
    models = [build(mlp, 0), build(mlp, 1)]
    data = {name: rows(count, count) for name, count in (("cue", 9), ("no_cue", 7), ("rand_cue", 11), ("hue", 5))}
    suite = mc.Suite({**data, "rand_cue": split(data["rand_cue"], [8, 3])})
    found = mc.output_discrepancy(models[0], models[1], suite)
    expected = {name: by_hand(models, x) for name, (x, _) in data.items()}
    assert dict(found.splits) == pytest.approx(expected, rel=KEPT)
    assert found.transformations == ("rand_cue", "hue")
    assert found.mean == pytest.approx((expected["rand_cue"] + expected["hue"]) / 2, rel=KEPT)
    assert found.similarity == pytest.approx(1 / (found.mean + 1e-8), rel=1e-12)
    mirrored = mc.output_discrepancy(models[1], models[0], suite)
    assert mirrored.mean == pytest.approx(found.mean, rel=KEPT)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["mean"] == found.mean


def test_a_split_of_several_draws_counts_with_their_mean() -> None:
    models = [build(mlp, 0), build(mlp, 1)]
    data, (x, _) = rows(9, 1), rows(9, 2)
    y = data[1]
    suite = mc.Suite({"cue": data, "hue": data}, redraws={"hue": [(x, y), (x + 1, y)]})
    found = mc.output_discrepancy(models[0], models[1], suite)
    assert found.mean == pytest.approx(sum(by_hand(models, inputs) for inputs in (data[0], x, x + 1)) / 3, rel=KEPT)
    assert found.splits["cue"] == pytest.approx(by_hand(models, data[0]), rel=KEPT)
    fewer = mc.Suite({"cue": data, "hue": data}, redraws={"hue": [rows(3, 2)]})
    with pytest.raises(ValueError, match="draw 2 of split 'hue' has 3 rows and the split 9"):
        mc.output_discrepancy(models[0], models[1], fewer)
    with pytest.raises(ValueError, match="draw 2 of split 'hue' has 3 rows and the split 9"):
        mc.compare_methods(mc.TuningTask(models[0], data, fewer), {"FT": mc.NaiveFineTuning(epochs=1)})


def test_one_model_is_as_similar_as_the_score_goes() -> None:
    model = build(mlp)
    found = mc.output_discrepancy(model, model, mc.Suite({"cue": rows(5), "hue": rows(6)}))
    assert (found.mean, found.similarity) == (0.0, 1e8)


def test_certain_models_that_never_agree_are_two_apart() -> None:
    suite = mc.Suite({name: answers([0, 1, 2], [0, 1, 2]) for name in ("cue", "hue")})

    class Next(Copier):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x + 1) % 3)

    found = mc.output_discrepancy(Copier(), Next(), suite)
    p, rest = (math.exp(10) / (math.exp(10) + 2), 1 / (math.exp(10) + 2))
    assert found.mean == pytest.approx(2 * (p - rest), rel=KEPT)


class Undefined(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x), CLASSES), float("nan"), dtype=x.dtype)


WRONG: dict[str, tuple[Any, Any, str]] = {
    "no interventions": (mlp, ("cue",), "an output discrepancy needs interventions, but the suite has none"),
    "other classes": (
        lambda: nn.Linear(FEATURES, 5),
        ("cue", "hue"),
        "split 'cue': outputs must be [N, K] with the same K > 1 for both models, got [4, 3] of model_a and [4, 5]",
    ),
    "no probabilities": (Undefined, ("cue", "hue"), "split 'cue': outputs hold NaN or +inf, so they are no class"),
}


@pytest.mark.parametrize("case", WRONG)
def test_outputs_that_cannot_be_compared(case: str) -> None:
    factory, splits, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        mc.output_discrepancy(build(mlp), build(factory), mc.Suite({name: rows(4) for name in splits}))
    assert str(caught.value).startswith(text)


def test_a_model_of_another_architecture_is_welcome() -> None:
    found = mc.output_discrepancy(build(mlp), build(Shared), mc.Suite({"cue": rows(4), "hue": rows(4)}))
    assert 0 < found.mean < 2
