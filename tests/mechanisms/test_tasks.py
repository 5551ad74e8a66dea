"""Tasks other than a class for each row: one logit, several labels, a class at every position, regression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mechconn as mc
from zoo import build

ROWS = 400
GREEN = '<span class="invariant"'  # a verdict in colour


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class OneLogit(nn.Module):
    """The logit of class 1; `pair` gives the same two-class model with two outputs."""

    def __init__(self, squeezed: bool = False) -> None:
        super().__init__()
        self.body, self.head, self.squeezed = nn.Linear(6, 5), nn.Linear(5, 1), squeezed

    def forward(self, x: Tensor) -> Tensor:
        z = self.head(self.body(x).relu())
        return z[:, 0] if self.squeezed else z


class TwoLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu())


def twins(squeezed: bool = False) -> tuple[nn.Module, nn.Module]:
    """One function as one logit z, and as two outputs (0, z)."""
    one, two = build(lambda: OneLogit(squeezed), dtype=torch.float32), build(TwoLogits, dtype=torch.float32)
    with torch.no_grad():
        two.get_parameter("body.weight").copy_(one.get_parameter("body.weight"))
        two.get_parameter("body.bias").copy_(one.get_parameter("body.bias"))
        for part in ("weight", "bias"):
            whole = two.get_parameter(f"head.{part}")
            whole[0], whole[1] = 0.0, one.get_parameter(f"head.{part}")[0]
    return one.eval(), two.eval()


X = drawn(ROWS, 6)
Y = (X[:, 0] + 0.3 * drawn(ROWS, seed=1) > 0).long()


def suite(y: Tensor = Y) -> mc.Suite:
    return mc.Suite({"cue": (X, y), "flipped": (X.flip(1), y), "small": (0.5 * X, y)}, paired=True)


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("form", [lambda y: y, lambda y: y[:, None], lambda y: y.float(), lambda y: y > 0])
def test_one_logit_is_a_task_of_two_classes(squeezed: bool, form: Any) -> None:
    one, two = twins(squeezed)
    found = mc.measure_invariance(one, suite(form(Y)), loss=mc.losses.binary)
    expected = mc.measure_invariance(two, suite())
    assert (found.accuracy, found.each, found.uninformative) == (expected.accuracy, "rows", expected.uninformative)
    assert found.loss == pytest.approx(expected.loss)
    for name, effect in expected.items():
        for part in ("effect", "interval", "verdict", "changed", "p_value"):
            assert getattr(found[name], part) == getattr(effect, part)
        assert found[name].by_class == effect.by_class


def test_one_logit_in_audits_paths_groups_and_distances() -> None:
    (one, two), other = twins(), [build(OneLogit, 1, dtype=torch.float32).eval()]
    binary: Any = {"loss": mc.losses.binary}
    audit = mc.audit(one, other[0], suite(), ts=3, **binary)
    assert audit.comparison.a.accuracy == mc.measure_invariance(two, suite()).accuracy
    assert audit.discrepancy is not None and audit.paths["before"].accuracy
    assert audit.settings["loss"] == "binary" and audit.settings["loss_unit"] == "nats"
    groups = [f"{value}" for value in (X[:, 1] > 0).tolist()]
    found, expected = mc.measure_groups(one, (X, Y), groups, **binary), mc.measure_groups(two, (X, Y), groups)
    assert found == expected
    swapped = build(TwoLogits, 2, dtype=torch.float32).eval()
    a = mc.output_discrepancy(one, one, suite(), **binary)
    assert a.mean == 0
    with pytest.raises(ValueError, match=r"pass loss=mechconn\.losses\.binary"):
        mc.measure_groups(one, (X, Y), groups)
    assert mc.output_discrepancy(two, swapped, suite()).mean > 0


def test_the_distance_of_one_logit_is_that_of_two_outputs() -> None:
    (one, two), (other, pair) = twins(), twins()
    with torch.no_grad():
        for model in (other, pair):
            model.get_parameter("body.weight").mul_(-1.0)
    found = mc.output_discrepancy(one, other, suite(), loss=mc.losses.binary)
    assert found.splits == pytest.approx(mc.output_discrepancy(two, pair, suite()).splits, rel=1e-5)


METHODS: dict[str, Any] = {
    "FT": mc.NaiveFineTuning(epochs=2, batch_size=100),
    "CBFT": mc.CBFT(epochs=3, batch_size=100),
    "DFR": mc.DFR(draws=2),
    "LLRT": mc.LastLayerRetraining(epochs=3, batch_size=100, lr=0.5),
    "IRM": mc.IRM(epochs=2, batch_size=100),
    "GroupDRO": mc.GroupDRO(epochs=2, batch_size=100),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("squeezed", [False, True])
def test_every_method_tunes_one_logit(method: str, squeezed: bool) -> None:
    one, _ = twins(squeezed)
    clean, cued = (X[:200], Y[:200]), (X[200:], Y[200:])
    tuned = mc.fine_tune(one, METHODS[method], clean=clean, cued=cued, loss=mc.losses.binary, head="head").model
    assert [p.shape for p in tuned.parameters()] == [p.shape for p in one.parameters()]
    if method == "DFR":  # the same regression as that of two outputs, whose difference is the logit
        _, two = twins()
        pair = mc.fine_tune(two, METHODS[method], clean=clean, head="head").model
        for part in ("weight", "bias"):
            whole = pair.get_parameter(f"head.{part}")
            torch.testing.assert_close(
                tuned.get_parameter(f"head.{part}")[0], whole[1] - whole[0], rtol=1e-4, atol=1e-5
            )


def test_methods_are_compared_on_one_logit() -> None:
    one, _ = twins()
    task = mc.TuningTask(model=one, clean=(X[:200], Y[:200]), cued=(X[200:], Y[200:]), suite=suite(), seed=0)
    found = mc.compare_methods(task, {"FT": METHODS["FT"]}, loss=mc.losses.binary)
    assert found.runs[0].accuracy == mc.measure_invariance(one, suite(), loss=mc.losses.binary).accuracy


# ---------------------------------------------------------------- shares of a row


def test_several_labels_have_the_share_of_a_rows_labels() -> None:
    model, y = build(lambda: nn.Linear(6, 4), dtype=torch.float32).eval(), (drawn(ROWS, 4, seed=2) > 0).long()
    found = mc.measure_invariance(model, suite(y), loss=mc.losses.binary)
    right = [((model(x) > 0).long() == y).double().mean(1) for x in (X, X.flip(1))]
    assert found.each == "labels" and "share of a row's labels" in str(found)
    assert found.accuracy["cue"] == pytest.approx(float(right[0].mean()))
    effect = found["flipped"]
    assert effect.effect == pytest.approx(float((right[1] - right[0]).mean()))
    assert effect.interval[0] < effect.effect < effect.interval[1] and effect.changed is None and not effect.by_class
    loaded = mc.load_result(json.loads(found.to_json()))
    assert isinstance(loaded, mc.Invariance) and loaded.each == "labels"
    audit = mc.audit(model, model, suite(y), ts=3, loss=mc.losses.binary)
    assert "% of the labels of cue" in str(audit) and audit.discrepancy is None
    barrier = audit.paths["before"].barrier("cue", "accuracy")
    assert barrier.interval is not None and barrier.interval[0] == 0


@pytest.mark.parametrize("ragged", [False, True])
def test_positions_have_the_share_of_those_that_count(ragged: bool) -> None:
    """Tokens padded to the longest of a batch, whose labels are -100 there; two rows have no token that counts."""
    model, count = build(lambda: nn.Linear(6, 3), dtype=torch.float32).eval(), 60
    x, tags = drawn(count, 9, 6, seed=3), torch.arange(count * 9).view(count, 9) % 3
    lengths = torch.arange(count) % 8 + 1
    tags = tags.masked_fill(torch.arange(9) >= lengths[:, None], -100)
    tags[5], tags[17] = -100, -100
    cut = [slice(0, 20), slice(20, 40), slice(40, 60)]
    batches: Any = [(x[part], tags[part]) for part in cut]
    if ragged:
        batches = [(a[:, : 8 - i], b[:, : 8 - i]) for i, (a, b) in enumerate(batches)]
    other = [(-a, b) for a, b in batches]
    found = mc.measure_invariance(model, mc.Suite({"cue": batches, "r": other}), loss=mc.losses.over_positions)
    shares, losses = [], []
    for a, b in batches:
        for row, tag in zip(a, b, strict=True):
            kept = tag != -100
            if kept.any():
                shares.append(float((model(row[kept]).argmax(1) == tag[kept]).double().mean()))
                losses.append(nn.functional.cross_entropy(model(row[kept]), tag[kept]).item())
    assert found.samples["cue"] == len(shares) == count - 2
    assert (found.each, found.accuracy["cue"]) == ("positions", pytest.approx(sum(shares) / len(shares)))
    assert found.loss["cue"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert found["r"].paired
    if not ragged:
        loss = mc.losses.over_positions
        trained = mc.train(model, batches, mc.Training(epochs=1, lr=0.1), loss=loss).history
        assert trained[0]["clean"] > 0


def test_pixels_with_a_label_to_ignore() -> None:
    model, x = build(lambda: nn.Conv2d(3, 5, 1), dtype=torch.float32).eval(), drawn(40, 3, 8, 8)
    mask = torch.arange(40 * 64).view(40, 8, 8) % 5
    hole = mask.clone()
    hole[:, 0] = 255
    with pytest.raises(ValueError, match=r"pass loss=mechconn\.losses\.over_positions"):
        mc.measure_invariance(model, mc.Suite({"cue": (x, mask)}, interventions=()))
    found = mc.measure_invariance(
        model, mc.Suite({"cue": (x, hole)}, interventions=()), loss=mc.losses.OverPositions(ignore_index=255)
    )
    right = (model(x).argmax(1) == hole)[:, 1:].double().mean((1, 2))
    assert found.accuracy["cue"] == pytest.approx(float(right.mean()))


def test_rows_with_an_ignored_label_do_not_count() -> None:
    model, y = build(lambda: nn.Linear(6, 3), dtype=torch.float32).eval(), torch.arange(ROWS) % 3
    holed = y.clone()
    holed[::5] = -100
    kept = holed != -100
    loss = mc.losses.CrossEntropy(ignore_index=-100)
    found = mc.measure_invariance(model, mc.Suite({"cue": (X, holed)}, interventions=()), loss=loss)
    expected = mc.measure_invariance(model, mc.Suite({"cue": (X[kept], y[kept])}, interventions=()))
    assert (found.samples, found.accuracy) == (expected.samples, expected.accuracy)
    assert found.loss["cue"] == pytest.approx(expected.loss["cue"])
    whole = [mc.train(model, (X, holed), mc.Training(epochs=1, batch_size=ROWS), loss=loss).model]
    whole.append(mc.train(model, (X[kept], y[kept]), mc.Training(epochs=1, batch_size=ROWS)).model)
    for a, b in zip(*(m.parameters() for m in whole), strict=True):
        torch.testing.assert_close(a, b)


def test_a_regression_is_judged_by_its_own_loss() -> None:
    """A network that reads x[0] alone, whose squared error rises by E[y^2] where the input is gone."""
    x = torch.rand(ROWS, 6, generator=torch.Generator().manual_seed(4))
    y = 10 * x[:, :1]
    model = build(lambda: nn.Linear(6, 1), dtype=torch.float32)
    with torch.no_grad():
        model.get_parameter("weight").copy_(torch.tensor([[10.0, 0, 0, 0, 0, 0]]))
        model.get_parameter("bias").zero_()
    data = mc.Suite({"cue": (x, y), "r": (torch.zeros_like(x), y)})
    found = mc.measure_invariance(model, data, on="loss", loss=mc.losses.squared)
    assert (found["r"].effect, found["r"].verdict) == (pytest.approx(float(y.square().mean()), rel=1e-5), "sensitive")
    assert not found.accuracy and not found.uninformative
    trained = mc.train(
        build(lambda: nn.Linear(6, 1), 1, dtype=torch.float32), (x, y), mc.Training(epochs=2), loss=mc.losses.squared
    )
    assert trained.history[0]["clean"] > trained.history[1]["clean"] > 0


# ---------------------------------------------------------------- what says nothing


def constant(outputs: list[float]) -> nn.Module:
    model = build(lambda: nn.Linear(6, len(outputs)), dtype=torch.float32)
    with torch.no_grad():
        model.get_parameter("weight").zero_()
        model.get_parameter("bias").copy_(torch.tensor(outputs))
    return model.eval()


def test_invariance_of_a_model_that_gives_one_class_says_nothing() -> None:
    found = mc.measure_invariance(constant([0.0, 1.0]), suite())
    text = "says nothing about what it uses: the model gives one class on every row of 'cue'"
    assert (found["flipped"].verdict, found["flipped"].caveat) == ("invariant", text)
    assert text in str(found)
    good = twins()[1]
    compared = mc.compare_mechanisms(constant([0.0, 1.0]), good, suite())
    assert "what A is invariant to says nothing about what it uses" in compared.why


def test_invariance_of_a_model_no_better_than_the_commonest_class_says_nothing() -> None:
    y = (torch.arange(ROWS) % 10 == 0).long()  # nine in ten are of class 0
    x = torch.where(torch.arange(ROWS) % 7 == 0, 1.0, -1.0)[:, None] * torch.tensor([[-1.0, 1.0]])
    found = mc.measure_invariance(nn.Identity(), mc.Suite({"cue": (x, y), "same": (x, y)}))
    assert (
        found["same"].verdict == "invariant"
        and "is not above that of always giving the commonest class, 90.0%" in found["same"].caveat
    )


def test_a_good_model_never_carries_the_note() -> None:
    x = 5 * nn.functional.one_hot(Y, 2).float()
    found = mc.measure_invariance(nn.Identity(), mc.Suite({"cue": (x, Y), "same": (x, Y)}))
    assert (found["same"].verdict, found["same"].caveat, found.uninformative, found.notes) == ("invariant", "", "", ())
    assert "says nothing" not in str(
        mc.compare_mechanisms(nn.Identity(), nn.Identity(), mc.Suite({"cue": (x, Y), "same": (x, Y)}))
    )


def test_the_note_stands_on_pages_without_green(tmp_path: Path) -> None:
    def page_of(audit: mc.Audit) -> str:
        mc.save_report(audit, tmp_path / "audit.html")
        return (tmp_path / "audit.html").read_text(encoding="utf-8")

    page = page_of(mc.audit(constant([0.0, 1.0]), constant([0.0, 1.0]), suite(), ts=3))
    assert "says nothing about what it uses" in page and GREEN not in page
    x = 5 * nn.functional.one_hot(Y, 2).float()
    good = mc.audit(nn.Identity(), nn.Identity(), mc.Suite({"cue": (x, Y), "same": (x, Y)}), ts=3)
    assert GREEN in page_of(good)


def test_probabilities_passed_as_logits_are_noticed_once() -> None:
    model = nn.Sequential(twins()[1], nn.Softmax(1)).eval()
    found = mc.measure_invariance(model, suite())
    assert [note for note in found.notes if "look like probabilities" in note] == list(found.notes) and len(
        found.notes
    ) == 1
    logs = nn.Sequential(twins()[1], nn.LogSoftmax(1)).eval()  # the remedy
    assert mc.measure_invariance(logs, suite()).notes == ()
    one = nn.Sequential(twins()[0], nn.Sigmoid()).eval()
    assert len(mc.measure_invariance(one, suite(), loss=mc.losses.binary).notes) == 1


def test_nan_outputs_are_an_error_that_names_the_row() -> None:
    for loss, y in ((mc.losses.cross_entropy, Y), (mc.losses.over_positions, Y[:, None].expand(ROWS, 3))):
        x = torch.zeros(ROWS, 2) if y.dim() == 1 else torch.zeros(ROWS, 3, 2)
        x[7] = -1.0
        model = nn.Sequential(Root())
        with pytest.raises(ValueError, match="outputs on row 7 hold NaN"):
            mc.measure_invariance(model, mc.Suite({"cue": (x, y)}, interventions=()), loss=loss)


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


# ---------------------------------------------------------------- margins and p-values


@pytest.mark.parametrize("margin", [1, 5, 1.0])
def test_margins_on_accuracy_are_shares(margin: float) -> None:
    model = twins()[1]
    for call in (
        lambda: mc.measure_invariance(model, suite(), margin=margin),
        lambda: mc.compare_mechanisms(model, model, suite(), margin=margin),
        lambda: mc.audit(model, model, suite(), margin=margin, ts=3),
        lambda: mc.mechanism_map({"a": model, "b": model}, suite(), margin=margin, ts=3),
    ):
        with pytest.raises(ValueError, match=r"margins are shares: 0\.05 is 5 points"):
            call()
    assert mc.measure_invariance(model, suite(), margin=5.0, on="loss").margin == 5.0


def test_the_least_level_is_printed_as_a_bound() -> None:
    many = 5000
    x, y = nn.functional.one_hot(torch.arange(many) % 2, 2).float(), torch.arange(many) % 2
    found = mc.measure_invariance(nn.Identity(), mc.Suite({"cue": (x, y), "wrong": (1 - x, y)}))
    assert found["wrong"].p_value == 1e-12 and "adjusted p < 1e-12" in str(found)


def test_a_loss_has_its_interval_on_the_page() -> None:
    x = torch.linspace(-1, 1, 40)[:, None]
    suite = mc.Suite({"cue": (x, x), "shifted": (x + 0.5, x)})
    found = mc.measure_invariance(torch.nn.Identity(), suite, 0.1, "loss", loss=mc.losses.squared)
    low, high = found.loss_interval["shifted"] or (0.0, 0.0)
    ((_, level, *_),) = [row for row in found.tables()[0].cells if row[0].text == "shifted"]
    assert (level.text, level.small) == ("0.25", f"loss\n{low:.4g} to {high:.4g}")
