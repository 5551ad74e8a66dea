"""Neighbours in feature space against a slow reference; ties, chance, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import FEATURES, Shared, build, mlp, norm_conv, rows


def share_slowly(x: Tensor, values: list[int], k: int) -> float:
    """Row by row, in the order of cosine and then of row."""
    shared = 0
    for row, own in enumerate(x):
        cosines = [(-round(float(nn.functional.cosine_similarity(own, other, 0)), 9), j) for j, other in enumerate(x)]
        nearest = [j for _, j in sorted(pair for pair in cosines if pair[1] != row)][:k]
        shared += sum(values[j] == values[row] for j in nearest)
    return shared / (k * len(x))


@pytest.mark.parametrize("k", [1, 4, 39])
def test_it_is_the_slow_definition(k: int) -> None:
    model, (x, y) = build(mlp), rows(40)
    cue = [row % 2 for row in range(40)]
    found = mc.measure_neighbours(model, (x, y), {"label": "label", "cue": cue}, k=k)
    features = torch.tanh(model.get_submodule("0")(x)).detach()
    assert found["label"].share == pytest.approx(share_slowly(features, y.tolist(), k), abs=1e-12)
    assert found["cue"].share == pytest.approx(share_slowly(features, cue, k), abs=1e-12)
    pairs = [(i, j) for i in range(40) for j in range(40) if i != j]
    for name, values in (("label", y.tolist()), ("cue", cue)):
        chance = sum(values[i] == values[j] for i, j in pairs) / len(pairs)
        assert found[name].chance == pytest.approx(chance, abs=1e-12)
    assert (list(found), len(found), found.layer, found.units) == (["label", "cue"], 2, "input of 2", 5)
    if k == 39:  # all other rows
        assert found["cue"].share == pytest.approx(found["cue"].chance, abs=1e-12)


def test_blocks_of_rows_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows(50)
    whole = mc.measure_neighbours(build(mlp), data, {"label": "label"}, k=5)
    monkeypatch.setattr("mechconn.mechanisms._nearest_rows.ENTRIES", 150)
    assert mc.measure_neighbours(build(mlp), data, {"label": "label"}, k=5) == whole


def test_ties_share_the_last_places_and_zeros_are_near_to_none() -> None:
    x = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 0.0]])
    model = build(lambda: nn.Sequential(nn.Identity(), nn.Linear(2, 2)), dtype=torch.float32)
    data = (x, torch.zeros(5).long())
    # One place: each of rows 0 to 3 shares it among the other three, the row of zeros among all four.
    found = mc.measure_neighbours(model, data, {"group": [0, 1, 0, 0, 0]}, k=1)
    assert found["group"].share == pytest.approx((2 / 3 + 0 + 2 / 3 + 2 / 3 + 3 / 4) / 5, abs=1e-12)
    # Four places: rows 0 to 3 have each other and the row of zeros.
    found = mc.measure_neighbours(model, data, {"group": [0, 1, 0, 0, 0]}, k=4)
    assert found["group"].share == pytest.approx(found["group"].chance, abs=1e-12)


def test_features_that_are_all_alike_share_no_more_than_chance_in_any_order() -> None:
    model = build(lambda: nn.Sequential(nn.Identity(), nn.Linear(2, 2)), dtype=torch.float32)
    for y in ([0] * 6 + [1] * 4, [1, 0, 1, 0, 0, 1, 0, 0, 1, 0]):
        found = mc.measure_neighbours(model, (torch.ones(10, 2), torch.tensor(y)), {"label": "label"}, k=3)["label"]
        assert found.share == pytest.approx(found.chance, abs=1e-12)


def test_the_length_of_features_does_not_matter() -> None:
    model, (x, y) = build(lambda: nn.Sequential(nn.Identity(), nn.Linear(FEATURES, 2))), rows(30)
    short, own = (mc.measure_neighbours(model, (x * s, y), {"label": "label"}, k=4) for s in (2.0**-60, 1.0))
    assert short == own


def test_features_that_group_by_one_class_say_so() -> None:
    draw = torch.Generator().manual_seed(0)
    label, cue = (torch.randint(0, 3, (200,), generator=draw) for _ in range(2))
    x = torch.cat([nn.functional.one_hot(label, 3).double(), 3.0 * nn.functional.one_hot(cue, 3).double()], 1)
    x = x + 0.05 * torch.randn(200, 6, generator=draw, dtype=torch.float64)
    model = build(lambda: nn.Linear(6, 3))
    found = mc.measure_neighbours(model, (x, label), {"label": "label", "cue": cue}, k=5)
    assert found["cue"].share == 1.0 and found["label"].share > 0.9  # both, in nine groups
    blind = mc.measure_neighbours(model, (x * torch.tensor([0, 0, 0, 1, 1, 1]), label), {"label": label}, k=5)
    assert blind["label"].share == pytest.approx(blind["label"].chance, abs=0.08)


def test_a_layer_by_name() -> None:
    found = mc.measure_neighbours(build(mlp), rows(20), {"label": "label"}, k=3, layer="0")
    assert (found.layer, found.units, found.reduction) == ("0", 5, "")


class NoHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(FEATURES, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "a layer that is not there": (
        lambda: mc.measure_neighbours(build(norm_conv), rows(20), {"label": "label"}, layer="input of 6"),
        ValueError,
        "got 'input of 6'; did you mean 'input of 7'?",
    ),
    "a layer that runs twice": (
        lambda: mc.measure_neighbours(build(Shared), rows(20), {"label": "label"}, layer="first.0"),
        ValueError,
        "layer 'first.0' of model ran 2 times in one forward pass; name layers that run once",
    ),
    "no head": (
        lambda: mc.measure_neighbours(build(NoHead), rows(20), {"label": "label"}),
        ValueError,
        "the output does not come from exactly one linear layer, the head; name a layer, layer=",
    ),
    "as many neighbours as rows": (
        lambda: mc.measure_neighbours(build(mlp), rows(10), {"label": "label"}, k=10),
        ValueError,
        "k must be less than the number of rows, 10, got 10",
    ),
    "nothing by name": (
        lambda: mc.measure_neighbours(build(mlp), rows(20), {}),
        ValueError,
        "by names nothing that neighbours may share",
    ),
    "no mapping": (
        lambda: mc.measure_neighbours(build(mlp), rows(20), "label"),  # pyright: ignore
        TypeError,
        'by must be a Mapping, got str; pass {"label": "label", "cue": "cue"}, or a class for each row by name',
    ),
    "another number of rows": (
        lambda: mc.measure_neighbours(build(mlp), rows(20), {"group": [0, 1]}),
        ValueError,
        "by['group'] must have one value for each of 20 rows, got 2",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_refused_in_one_line(what: str) -> None:
    call, kind, text = WRONG[what]
    with pytest.raises(kind, match=re.escape(text)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_remedy_for_a_network_without_a_head_works() -> None:
    assert mc.measure_neighbours(build(NoHead), rows(20), {"label": "label"}, layer="", k=3).units == 3
