"""Losses of rows: closed forms, how targets are read, and what is a classification."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mechconn as mc
from mechconn.losses import as_loss, read_loss
from zoo import build

TYPES = [torch.float32, torch.float64]


def drawn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_cross_entropy_is_minus_the_log_of_the_softmax(dtype: torch.dtype) -> None:
    z, y = drawn(7, 3, dtype=dtype), torch.arange(7) % 3
    expected = torch.stack([z[i].exp().sum().log() - z[i, y[i]] for i in range(7)])
    torch.testing.assert_close(mc.losses.cross_entropy(z, y), expected)
    assert mc.losses.cross_entropy(z, y).dtype == dtype
    smoothed = mc.losses.CrossEntropy(label_smoothing=0.3)(z, y)
    uniform = z.exp().sum(1).log() - z.mean(1)
    torch.testing.assert_close(smoothed, 0.7 * expected + 0.3 * uniform)


@pytest.mark.parametrize("dtype", TYPES)
def test_cross_entropy_of_probabilities_is_their_mean_over_classes(dtype: torch.dtype) -> None:
    z, q = drawn(5, 4, dtype=dtype), drawn(5, 4, seed=1).softmax(1)
    expected = sum(q[:, k].to(dtype) * mc.losses.cross_entropy(z, torch.full((5,), k)) for k in range(4))
    torch.testing.assert_close(mc.losses.cross_entropy(z, q), expected)
    assert mc.losses.cross_entropy.classify(z, q) is None


@pytest.mark.parametrize("make", [lambda y: y[:, None], lambda y: F.one_hot(y, 3), lambda y: y.to(torch.uint8)])
def test_labels_are_read_in_every_form(make: Any) -> None:
    z, y = drawn(6, 3), torch.arange(6) % 3
    assert torch.equal(mc.losses.cross_entropy(z, make(y)), mc.losses.cross_entropy(z, y))
    found = mc.losses.cross_entropy.classify(z, make(y))
    assert found is not None and torch.equal(found.labels, y) and found.each == "rows"


def test_bool_labels_are_zero_and_one() -> None:
    z, y = drawn(6, 2), torch.arange(6) % 2
    assert torch.equal(mc.losses.cross_entropy(z, y > 0), mc.losses.cross_entropy(z, y))
    assert torch.equal(mc.losses.binary(z[:, :1], y > 0), mc.losses.binary(z[:, :1], y.float()))


@pytest.mark.parametrize("dtype", TYPES)
def test_binary_is_a_cross_entropy_of_two_classes(dtype: torch.dtype) -> None:
    """One logit z is the logits (0, z); several are the mean of so many tasks."""
    z, y = drawn(6, 4, dtype=dtype), torch.arange(24).view(6, 4) % 2
    each = [
        F.cross_entropy(torch.stack([torch.zeros(6), z[:, k]], 1).to(dtype), y[:, k], reduction="none")
        for k in range(4)
    ]
    for logit in (z[:, 0], z[:, :1]):
        for target in (y[:, 0], y[:, :1], y[:, 0].double(), y[:, 0] > 0):
            torch.testing.assert_close(mc.losses.binary(logit, target), each[0])
    torch.testing.assert_close(mc.losses.binary(z, y), torch.stack(each).mean(0))
    found = mc.losses.binary.classify(z, y)
    assert found is not None and found.each == "labels" and torch.equal(found.predicted, (z > 0).long())
    assert mc.losses.binary.classify(z, y * 0.5) is None


@pytest.mark.parametrize("dtype", TYPES)
def test_squared_and_absolute_errors_are_means_over_a_row(dtype: torch.dtype) -> None:
    f, y = drawn(5, 3, 2, dtype=dtype), drawn(5, 3, 2, dtype=dtype, seed=1)
    torch.testing.assert_close(mc.losses.squared(f, y), torch.stack([((f[i] - y[i]) ** 2).mean() for i in range(5)]))
    torch.testing.assert_close(mc.losses.absolute(f, y), torch.stack([(f[i] - y[i]).abs().mean() for i in range(5)]))
    one = f[:, 0, 0]
    for a, b in ((one[:, None], y[:, 0, 0]), (one, y[:, 0, :1])):  # never [N, N]
        torch.testing.assert_close(mc.losses.squared(a, b), (one - y[:, 0, 0]) ** 2)
    assert mc.losses.squared(torch.zeros(3, 1), torch.tensor([1, 2, 3])).tolist() == [1, 4, 9]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("last", [True, False])
def test_over_positions_is_the_mean_over_positions_that_count(last: bool, dtype: torch.dtype) -> None:
    z, y = drawn(4, 5, 6, 3, dtype=dtype), torch.arange(4 * 30).view(4, 5, 6) % 3
    y[0, 2:], y[1, :, 3] = -100, -100
    expected = []
    for i in range(4):
        kept = [(a, b) for a in range(5) for b in range(6) if y[i, a, b] != -100]
        expected.append(
            torch.stack([mc.losses.cross_entropy(z[i, a, b][None], y[i, a, b][None])[0] for a, b in kept]).mean()
        )
    outputs = z if last else z.movedim(-1, 1)
    torch.testing.assert_close(mc.losses.over_positions(outputs, y), torch.stack(expected))
    y[2] = -100
    assert mc.losses.over_positions(outputs, y)[2] == 0
    counted = mc.losses.over_positions.counted(y)
    assert counted is not None and counted.tolist() == [True, True, False, True]
    found = mc.losses.over_positions.classify(outputs, y)
    assert found is not None and found.counted is not None
    assert torch.equal(found.counted, y.flatten(1) != -100)
    assert torch.equal(found.predicted[found.counted], z.argmax(-1).flatten(1)[found.counted])


def test_positions_of_one_logit() -> None:
    z, y = drawn(3, 1, 4, 4), torch.arange(48).view(3, 4, 4) % 2
    loss = mc.losses.OverPositions(mc.losses.binary)
    expected = F.binary_cross_entropy_with_logits(z[:, 0], y.double(), reduction="none").flatten(1).mean(1)
    for outputs in (z, z[:, 0], z.movedim(1, -1)):
        torch.testing.assert_close(loss(outputs, y), expected)


def test_square_outputs_ask_where_the_classes_are() -> None:
    z, y = drawn(2, 3, 3), torch.arange(6).view(2, 3) % 3
    with pytest.raises(ValueError, match=r"pass loss=mechconn\.losses\.OverPositions\(classes_at=1\) or classes_at=-1"):
        mc.losses.over_positions(z, y)
    first, last = (mc.losses.OverPositions(classes_at=axis)(z, y) for axis in (1, -1))
    torch.testing.assert_close(first, F.cross_entropy(z, y, reduction="none").mean(1))
    torch.testing.assert_close(last, F.cross_entropy(z.movedim(-1, 1), y, reduction="none").mean(1))


REFUSED: list[tuple[tuple[int, ...], Tensor, str]] = [
    ((4, 1), torch.linspace(0.1, 0.9, 4)[:, None], "for a regression pass loss=mechconn.losses.squared"),
    ((4, 3), torch.full((4, 3), 1.5), "for a regression pass loss=mechconn.losses.squared"),
    ((4, 3), torch.tensor([[1.0, 1, 0]] * 4), "where 1 means yes and 0 no, pass loss=mechconn.losses.binary"),
    ((4, 3), torch.tensor([[1, 1, 0]] * 4), "where 1 means yes and 0 no, pass loss=mechconn.losses.binary"),
    ((4, 1), torch.tensor([0, 1, 0, 1]), "where 1 means yes and 0 no, pass loss=mechconn.losses.binary"),
    ((4, 3), torch.linspace(0.1, 0.9, 4), "labels of classes must be whole numbers (y.long()), got float32"),
    ((4, 9, 3), torch.zeros(4, 9).long(), "for a class at every position pass loss=mechconn.losses.over_positions"),
    ((4, 3, 8, 8), torch.zeros(4, 8, 8).long(), "for a class at every position pass loss=mechconn.losses.over"),
    ((4, 3), torch.tensor([0, 1, 2, 255]), "pass loss=mechconn.losses.CrossEntropy(ignore_index=255)"),
    ((4, 3), torch.tensor([0, 1, 2, 7, 8])[:4] - 1, "labels must lie in 0 ... 2"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_the_default_refuses_what_is_no_class_and_names_the_loss_to_pass(case: int) -> None:
    """Every remedy is followed: the loss that the line names takes these targets."""
    shape, y, text = REFUSED[case]
    z = drawn(*shape, dtype=torch.float32)
    with pytest.raises(ValueError) as caught:
        mc.losses.cross_entropy(z, y)
    assert text in str(caught.value) and "\n" not in str(caught.value)
    if "y.long()" in text:
        assert mc.losses.cross_entropy(z, y.long()).shape == (4,)
    if "loss=" in text:
        named = str(caught.value).split("loss=mechconn.")[1].split(" ")[0]
        values = eval(f"mc.{named}", {"mc": mc})(z, y)
        assert values.shape == (4,) and bool(values.isfinite().all())


def test_every_verb_refuses_what_is_no_class() -> None:
    x, y = drawn(40, 6, dtype=torch.float32), drawn(40, 1, dtype=torch.float32, seed=1)
    model, data = build(lambda: nn.Linear(6, 1), dtype=torch.float32), (x, y)
    ends = mc.parameters_of(model), mc.parameters_of(model)
    suite = mc.Suite({"cue": data, "r": (x.flip(1), y)}, reference="cue")
    path = mc.LinearPath(*ends)
    verbs: list[Any] = [
        lambda: mc.measure_invariance(model, suite, on="loss"),
        lambda: mc.compare_mechanisms(model, model, suite, on="loss"),
        lambda: mc.audit(model, model, suite, on="loss", ts=3),
        lambda: mc.mechanism_map({"a": model, "b": model}, suite, on="loss", ts=3),
        lambda: mc.evaluate_path(model, path, suite, ts=3),
        lambda: mc.evaluate_blocks(model, *ends, suite, ts=3),
        lambda: mc.fit_path(model, *ends, mc.BezierFit(epochs=1), data),
        lambda: mc.train(model, data, mc.Training(epochs=1)),
        lambda: mc.fine_tune(model, mc.NaiveFineTuning(epochs=1), clean=data),
        lambda: mc.fine_tune(model, mc.CBFT(epochs=2), clean=data, cued=data),
        lambda: mc.measure_groups(model, data, ["a", "b"] * 20),
    ]
    for verb in verbs:
        with pytest.raises(ValueError, match=r"pass loss=mechconn\.losses\.squared") as caught:
            verb()
        assert "\n" not in str(caught.value)


def test_losses_by_name_with_options() -> None:
    assert read_loss("cross_entropy") == mc.losses.cross_entropy == read_loss(None)
    table = {"name": "over_positions", "each": "binary", "ignore_index": 255}
    assert read_loss(table) == mc.losses.OverPositions(mc.losses.binary, 255)
    for loss in (mc.losses.squared, mc.losses.CrossEntropy(0.1), mc.losses.OverPositions(mc.losses.binary)):
        assert read_loss(loss.describe()) == loss


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("square", r"^the loss must be one of .*'cross_entropy', .*'package\.module:Class', got .*mean 'squared'\?$"),
        ({"name": "squared", "k": 1}, r"^the loss 'squared' has no option 'k'; it has none$"),
        (
            {"name": "cross_entropy", "smoothing": 1},
            r"has no option 'smoothing'; it has label_smoothing, ignore_index; did you mean 'label_smoothing'\?$",
        ),
        ({"label_smoothing": 0.1}, r"^the loss must have a name, as in \{name = \"\.\.\.\"\}, got "),
        ({"name": "over_positions", "each": {"ignore_index": 1}}, "^the loss must have a name"),
        (
            {"name": "user_defined_data:Pinball"},
            r"^the loss Pinball needs share; write a table, \{name = \.\.\., share",
        ),
        ("user_defined_data:CLASSES", "must be a function or of class Loss, it is a int; name one of these"),
        (3, "^the loss must be a name or a table, got 3$"),
        (object(), "^the loss must be a name or a table, got a object$"),
        (
            "user_defined_data:NoLoss",
            r"^the loss must be a function of \(outputs, targets\) or a subclass of mechconn\.losses\.Loss, got the "
            r"class NoLoss, whose instances cannot be called; write class NoLoss\(mechconn\.losses\.Loss\) with",
        ),
    ],
)
def test_what_names_no_loss_is_refused_in_a_line(value: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text) as raised:
        read_loss(value)
    assert "\n" not in str(raised.value) and " at 0x" not in str(raised.value)


@pytest.mark.usefixtures("unchecked")
def test_a_loss_is_called_before_it_is_passed() -> None:
    wrong: Any = mc.losses.Squared
    with pytest.raises(TypeError, match=r"got the class Squared; pass an instance, Squared\(\)$"):
        as_loss(wrong)
    nothing: Any = object()
    with pytest.raises(TypeError, match=r"that gives a value per row, got a object$"):
        as_loss(nothing)
    name: Any = "squared"
    with pytest.raises(TypeError, match=r"got 'squared'; pass mechconn\.losses\.squared$"):
        as_loss(name)


class Hinge(mc.losses.Loss):
    """A user's own: labels are -1 and 1."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (1 - outputs[:, 0] * targets).clamp(min=0)

    def classify(self, outputs: Tensor, targets: Tensor) -> mc.losses.Classified:
        return mc.losses.Classified((outputs[:, 0] > 0).long(), (targets > 0).long(), 2)


def test_a_users_loss_says_what_is_right() -> None:
    x = torch.tensor([[2.0], [-3.0], [0.5], [-0.5]])
    found = mc.measure_invariance(nn.Identity(), mc.Suite({"cue": (x, torch.tensor([1, -1, -1, -1]))}), loss=Hinge())
    assert (found.accuracy["cue"], found.loss["cue"]) == (0.75, pytest.approx((0 + 0 + 1.5 + 0.5) / 4))


# ---------------------------------------------------------------- what is left out, and what functions may do


def test_ignored_classes_of_one_hot_rows_do_not_count() -> None:
    y = torch.arange(9) % 3
    counted = mc.losses.CrossEntropy(ignore_index=0).counted(F.one_hot(y, 3))
    assert counted is not None and counted.tolist() == (y != 0).tolist()


def test_positions_to_leave_out_are_named_by_their_own_loss() -> None:
    """The remedy of the line works, also where the classes come first."""
    z, y = drawn(4, 5, 8, 8, dtype=torch.float32), torch.arange(256).view(4, 8, 8) % 5
    y[:, 0] = 255
    with pytest.raises(ValueError, match=r"255 marks positions to leave out, pass loss=mechconn\.losses\.Over"):
        mc.losses.over_positions(z, y)
    expected = F.cross_entropy(z, y.masked_fill(y == 255, -100), reduction="none").flatten(1).sum(1) / 56
    torch.testing.assert_close(mc.losses.OverPositions(ignore_index=255)(z, y), expected)
    with pytest.raises(ValueError, match=r"pass OverPositions\(ignore_index=255\)"):
        mc.losses.OverPositions(mc.losses.CrossEntropy(ignore_index=255))


def test_classes_counted_from_one_are_told() -> None:
    z, y = drawn(6, 3), torch.arange(6) % 3 + 1
    with pytest.raises(ValueError, match="numbered from 1, pass y - 1"):
        mc.losses.cross_entropy(z, y)
    assert mc.losses.cross_entropy(z, y - 1).shape == (6,)


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 5, 8, 8)])
def test_binary_pixels_are_told_a_loss_that_takes_them(shape: tuple[int, ...]) -> None:
    z, y = drawn(*shape), (drawn(*shape, seed=1) > 0).long()
    for loss in (mc.losses.cross_entropy, mc.losses.binary):
        with pytest.raises(ValueError, match=r"pass loss=mechconn\.losses\.OverPositions\(mechconn\.losses\.binary\)"):
            loss(z, y)
    expected = F.binary_cross_entropy_with_logits(z, y.double(), reduction="none").flatten(1).mean(1)
    torch.testing.assert_close(mc.losses.OverPositions(mc.losses.binary)(z, y), expected)


def doubled(part: Any) -> Any:
    """Writes into what it gets."""
    return part.mul_(2)


def test_functions_of_the_users_get_copies_and_answers_come_before_them() -> None:
    x, y = drawn(40, 4, dtype=torch.float32), torch.arange(40) % 3
    model, kept = build(lambda: nn.Linear(4, 3), dtype=torch.float32), (x.clone(), y.clone())
    suite = mc.Suite({"cue": [(x, y)]}, interventions=())
    plain = mc.measure_invariance(model, suite)
    found = mc.measure_invariance(
        model,
        suite,
        loss=lambda z, t: F.cross_entropy(z.mul_(1.0), t.add_(0), reduction="none"),
        metrics={"p": lambda z, t: z.mul_(-1)[:, 0] + t.mul_(2)},
    )
    assert found.accuracy == plain.accuracy and torch.equal(y, kept[1])
    mc.train(model, [(x, y)], mc.Training(epochs=2), transform=doubled)
    assert torch.equal(x, kept[0])


def test_rows_that_do_not_count_are_left_out_of_metrics_and_methods() -> None:
    x, y = drawn(60, 4, dtype=torch.float32), torch.arange(60) % 3
    holed = y.clone()
    holed[::4] = -1
    model, loss = (
        build(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), dtype=torch.float32),
        (mc.losses.CrossEntropy(ignore_index=-1)),
    )
    picked = {"picked": mc.Metric(lambda z, t: z.softmax(1).gather(1, t[:, None])[:, 0], bounds=(0.0, 1.0))}
    kept = holed >= 0
    found = mc.measure_invariance(model, mc.Suite({"cue": (x, holed)}, interventions=()), loss=loss, metrics=picked)
    expected = mc.measure_invariance(model, mc.Suite({"cue": (x[kept], y[kept])}, interventions=()), metrics=picked)
    assert found.metrics["picked"] == pytest.approx(expected.metrics["picked"])
    data: dict[str, Any] = {"clean": (x, holed), "cued": (x.flip(1), holed)}
    for method in (mc.DFR(draws=2), mc.CBFT(epochs=2, batch_size=60), mc.LastLayerRetraining(epochs=2)):
        tuned = mc.fine_tune(model, method, loss=loss, **data).model
        assert all(bool(p.isfinite().all()) for p in tuned.parameters())
    dfr = [mc.fine_tune(model, mc.DFR(draws=2), clean=c, loss=loss).model for c in ((x, holed), (x[kept], y[kept]))]
    for a, b in zip(*(m.parameters() for m in dfr), strict=True):
        torch.testing.assert_close(a, b)


def test_epochs_are_means_over_the_rows_that_count() -> None:
    """Whatever the batches, one of which holds no row that counts; at a rate that moves nothing."""
    x, y = drawn(60, 4, dtype=torch.float32), torch.arange(60) % 3
    y[:20] = -1
    model, loss = build(lambda: nn.Linear(4, 3), dtype=torch.float32), mc.losses.CrossEntropy(ignore_index=-1)
    expected = F.cross_entropy(model(x[20:]), y[20:]).item()
    method = mc.Training(epochs=1, lr=1e-9)
    for cuts in ([60], [30, 30], [20, 40]):
        batches = list(zip(x.split(cuts), y.split(cuts), strict=True))
        assert mc.train(model, batches, method, loss=loss).history[0]["clean"] == pytest.approx(expected, rel=1e-5)
