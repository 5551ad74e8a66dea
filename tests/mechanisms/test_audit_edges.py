"""Audits of data and models at the edge, and of tasks without classes: a result or one clear error, never NaN."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from mechconn.connectivity import describe_path
from zoo import CLASSES, FEATURES, Batch, build, mlp, rows


def data(count: int, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=draw, dtype=torch.float64)
    return x, x[:, :CLASSES].argmax(1)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, CLASSES))


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def constant(value: float) -> nn.Module:
    layer = build(lambda: nn.Linear(FEATURES, CLASSES))
    with torch.no_grad():
        layer.get_parameter("weight").zero_()
        layer.get_parameter("bias").copy_(torch.tensor([value, 0.0, -value]))
    return layer


class Sure(nn.Module):
    """Log-probabilities of a network that is certain: 0 for one class, minus infinity for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(torch.softmax(1e5 * self.layer(x), 1))


def both(factory: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    return build(factory, 1), build(factory, 2)


def one_class(count: int) -> Batch:
    return data(count)[0], torch.zeros(count, dtype=torch.long)


EDGES: dict[str, tuple[tuple[nn.Module, nn.Module], Batch]] = {
    "predictions never change": (both(linear), data(300)),
    "constant models": ((constant(1.0), constant(2.0)), data(300)),
    "the same constant model": ((constant(1.0), constant(1.0)), data(300)),
    "large outputs": ((constant(1e4), constant(-1e4)), data(300)),
    "probabilities of exactly zero": (both(Sure), data(300)),
    "one class": (both(net), one_class(300)),
    "five rows": (both(net), data(5)),
    "five rows of a constant model": ((constant(1.0), build(lambda: nn.Linear(FEATURES, CLASSES), 1)), data(5)),
    "100,000 rows": (both(linear), data(100_000)),
}


@pytest.mark.parametrize("alignment", ["auto", "none"])
@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.slow] if "100" in c else []) for c in EDGES])
def test_edges_give_a_result_and_no_nan(case: str, alignment: Any, tmp_path: Path) -> None:
    (a, b), rows = EDGES[case]
    moved = rows[0] if case == "predictions never change" else -rows[0]
    splits = mc.Suite({"cue": rows, "rand_cue": (moved, rows[1])})
    more: dict[str, Any] = {} if case == "100,000 rows" else {"layers": "all", "blocks": 1}
    found = mc.audit(a, b, splits, norm=mc.Reestimate(rows), ts=3, alignment=alignment, **more)
    record = json.loads(found.to_json(), parse_constant=lambda word: pytest.fail(f"{word} in the record"))
    mc.save_report(found, tmp_path / "edge.html")
    page = (tmp_path / "edge.html").read_text(encoding="utf-8").lower()
    assert [word for word in (">nan", " nan", ">inf<") if word in page + str(found).lower()] == []
    effect = found.comparison.a["rand_cue"]
    assert record["comparison"]["a"]["effects"]["rand_cue"]["verdict"] == effect.verdict
    if case in ("predictions never change", "constant models", "the same constant model", "large outputs"):
        assert (effect.effect, effect.verdict, found.verdict) == (0.0, "invariant", "similar")
    if case.startswith("five"):
        assert effect.to_settle is not None and found.verdict == "undetermined"


def test_losses_that_are_infinite_cannot_be_judged() -> None:
    rows = data(300)
    splits = mc.Suite({"cue": rows, "rand_cue": (-rows[0], rows[1])})
    with pytest.raises(ValueError, match=r"has no finite mean: it is inf on \d+ of 300 rows .*; use on='accuracy'"):
        mc.audit(*both(Sure), splits, ts=3, on="loss")


# ---------------------------------------------------------------- a task without classes


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


def numbers(seed: int, count: int = 400) -> Batch:
    x, _ = data(count, seed)
    return x, x[:, 0] - x[:, 1]


@pytest.fixture(scope="module")
def regression() -> mc.Audit:
    """Two networks that add two columns up by hand, with their units in another order, the second a little off."""

    def adder(order: list[int], scale: float) -> nn.Module:
        model = build(lambda: nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU(), nn.Linear(4, 1)))
        with torch.no_grad():
            ways = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]).double()[order]
            model.get_parameter("0.weight").copy_(torch.cat([ways, torch.zeros(4, 2)], 1))
            model.get_parameter("0.bias").zero_()
            model.get_parameter("2.weight").copy_(scale * torch.tensor([[1.0, -1, -1, 1]])[:, order])
            model.get_parameter("2.bias").zero_()
        return model

    x, y = numbers(1)
    last, first = x.clone(), x.clone()
    last[:, 3], first[:, 0] = numbers(2)[0][:, 3], numbers(2)[0][:, 0]
    suite = mc.Suite({"plain": (x, y), "last": (last, y), "first": (first, y)}, reference="plain")
    models = adder([0, 1, 2, 3], 1.0), adder([2, 3, 1, 0], 1.01)
    return mc.audit(*models, suite, ts=3, on="loss", loss=squared_error, blocks=1, layers="all")


def test_a_regression_is_audited_in_the_units_of_its_loss(regression: mc.Audit, tmp_path: Path) -> None:
    mc.save_report(regression, tmp_path / "audit.html")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert regression.verdict == "similar" and regression.discrepancy is None
    assert regression.settings["loss_unit"] == "loss units"
    for text in (str(regression), regression.to_json(), page):
        assert "nats" not in text and "loss units" in text
    assert "accuracy" not in str(regression).lower() and "is right on" not in str(regression)
    effect = regression.comparison.a["first"].effect
    assert "A is invariant to last (+0 loss units" in str(regression)
    assert f"is sensitive to first ({effect:+.3g} loss units" in str(regression)
    assert "the margin is 0.05 loss units. Its mean loss on plain is 0." in str(regression)


def test_its_figures_show_and_describe_the_loss_alone(regression: mc.Audit) -> None:
    path = regression.paths["before"]
    height = path.barrier("plain").height
    words = describe_path(path)
    assert words.startswith("Loss along the straight path from A to B: plain loss 0 at t = 0 and 0.000")
    assert f"largest rise in loss above the chord {height:.3g} loss units at t = 0.5" in words
    assert "accuracy" not in words


class Impossible(nn.Module):
    """A class that no row is given: its logit is -inf, and no loss is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.register_buffer("mask", torch.zeros(1).expand(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.mask).masked_fill(torch.tensor([False, False, True]), -float("inf"))


def test_models_with_probabilities_of_exactly_zero_are_joined() -> None:
    x, _ = rows(60)
    data = x, torch.arange(60) % 2
    suite = mc.Suite({"cue": data, "rand_cue": data})
    found = mc.audit(build(Impossible), build(Impossible, 1), suite, ts=3, alignment="none")
    assert list(found.paths) == ["before"] and found.notes == ()
    assert found.to_dict()["paths"]["before"]["barriers"]["loss"]["cue"]["height"] is not None


def test_verdicts_on_the_loss_are_called_approximate() -> None:
    suite = mc.Suite({"cue": rows(30), "rand_cue": rows(30)})
    told = [" ".join(mc.audit(build(mlp), build(mlp, 1), suite, ts=3, on=on).findings) for on in ("accuracy", "loss")]
    assert ["Student's t, which is approximate" in text for text in told] == [False, True]
    assert all("the lowest on the path, a graded score: " in text for text in told)


LOOSE: Any = mc
"""The library as those see it who check no types."""


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m, s: mc.audit(m, m, s, ts=2), ValueError, "an audit needs three points on the path or more, the ends"),
        (lambda m, s: LOOSE.audit(m, m, s, names=("x",)), ValueError, "names must be two, of A and of B, got 1"),
        (lambda m, s: LOOSE.audit(m, m, s, names=("", "b")), ValueError, "names must not be empty, got ('', 'b')"),
        (
            lambda m, s: LOOSE.mechanism_map([m, m], s),
            TypeError,
            "models must be a Mapping, got list; write {name: model",
        ),
        (
            lambda m, s: LOOSE.measure_groups(m, rows(6), None),
            TypeError,
            "groups must be a label for each row, or",
        ),
        (
            lambda m, s: LOOSE.compare_mechanisms(mc.parameters_of(m), m, s),
            TypeError,
            "model must be a Module, got dict",
        ),
        (
            lambda m, s: mc.measure_invariance(m, mc.Suite({n: (rows(6)[0], rows(6)[1].double()) for n in s})),
            ValueError,
            "split 'cue': labels of classes must be whole numbers (y.long()), got float64",
        ),
        (
            lambda m, s: mc.save_report(LOOSE.audit(m, m, s, ts=3), "no/such/a.html"),
            FileNotFoundError,
            "the folder of no/s",
        ),
    ],
)
def test_slips_are_told_in_one_line(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        call(build(mlp), mc.Suite({"cue": rows(6), "rand_cue": rows(6)}))
    assert text in str(caught.value) and "\n" not in str(caught.value)
