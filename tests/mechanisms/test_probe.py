"""Probes against planted features, an independent fit, and exact intervals; what they refuse."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import beta
from torch import Tensor, nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

import mechconn as mc
from mechconn.datasets import make_cue_suite, make_cued_set
from texts import MARKERS, Transformer, texts
from zoo import CLASSES, FEATURES, Shared, build, images, mlp, norm_conv, rows

ROWS = 300


def planted(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(inputs, label, cue): two independent classes of three, each one-hot in its own three inputs, with noise."""
    draw = torch.Generator().manual_seed(seed)
    label, cue = (torch.randint(0, 3, (ROWS,), generator=draw) for _ in range(2))
    x = torch.cat([nn.functional.one_hot(own, 3).double() for own in (label, cue)], 1)
    return x + 0.1 * torch.randn(ROWS, 6, generator=draw, dtype=torch.float64), label, cue


def passing(block: int) -> nn.Module:
    """Features that hold one of the two classes and nothing of the other; a head on top."""
    model = build(lambda: nn.Sequential(nn.Linear(6, 3, bias=False), nn.ReLU(), nn.Linear(3, 3)))
    with torch.no_grad():
        weight = model.get_parameter("0.weight").zero_()
        weight[:, 3 * block : 3 * block + 3] = torch.eye(3, dtype=torch.float64)
    return model


def test_features_hold_what_was_planted_and_no_more() -> None:
    x, label, cue = planted()
    found = mc.probe(passing(1), (x, label), cue, control=passing(0), fresh=False)
    assert found.layers == ("0", "input of 2", "2")
    for layer in ("0", "input of 2"):
        own, other = found.scores["model"][layer], found.scores["control"][layer]
        assert own.accuracy == 1.0 and other.interval[0] < 1 / 3 < other.interval[1]
        assert own.ahead is None and other.ahead == pytest.approx(1.0 - other.accuracy)
        assert other.ahead_interval is not None and other.ahead_interval[0] > 0.4
    assert mc.probe(passing(1), (x, label), fresh=False, layers=["0"]).scores["model"]["0"].accuracy < 0.55
    assert mc.probe(passing(0), (x, label), fresh=False, layers=["0"]).scores["model"]["0"].accuracy == 1.0


def minimise_slowly(x: np.ndarray, y: np.ndarray, l2: float, classes: int) -> np.ndarray:
    """W and b of the stated problem by SciPy's optimiser, gradients by differences of none: the closed form."""

    def compute(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(classes, -1)
        z = x @ w[:, :-1].T + w[:, -1]
        z = z - z.max(1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        loss = -np.log(p[np.arange(len(y)), y]).mean() + l2 / 2 * (w[:, :-1] ** 2).sum()
        miss = p - np.eye(classes)[y]
        return float(loss), np.concatenate([miss.T @ x / len(x) + l2 * w[:, :-1], miss.mean(0)[:, None]], 1).ravel()

    done: Any = minimize(compute, np.zeros(classes * (x.shape[1] + 1)), jac=True, method="BFGS", tol=1e-9)
    return done.x.reshape(classes, -1)


@pytest.mark.parametrize("l2", [0.01, 1.0])
def test_a_probe_is_the_minimiser_of_the_stated_loss(l2: float) -> None:
    """Its predictions on both parts of the rows, from weights that an independent optimiser finds."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(120, 4, generator=draw, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.2, 1.0]).double() + 3.0
    x[:, 3] = 7.0  # constant
    y = (x[:, 0] + x[:, 2] * 5 + torch.randn(120, generator=draw).double()).argsort().argsort() * 3 // 120
    found = mc.probe(nn.Identity(), (x, y), layers=[""], fresh=False, l2=l2, held_out=0.25).scores["model"][""]
    held = held_out_rows(y, 0.25)
    mean, spread = x[~held].mean(0), x[~held].std(0, correction=0)
    z = ((x - mean) / torch.where(spread > 0, spread, 1.0)).numpy()
    w = minimise_slowly(z[~held], y[~held].numpy(), l2, 3)
    right = torch.from_numpy((z @ w[:, :-1].T + w[:, -1]).argmax(1)) == y
    assert found.accuracy == pytest.approx(float(right[held].double().mean()), abs=1e-12)
    assert found.fitted == pytest.approx(float(right[~held].double().mean()), abs=1e-12)
    assert 0.4 < found.accuracy < 1.0


def held_out_rows(y: Tensor, share: float, seed: int = 0) -> Tensor:
    """The rule as stated: of each class the rows of the smallest draws."""
    from mechconn.core import draw_uniform

    draws, held = draw_uniform(torch.arange(len(y)), seed, "probe", "rows"), torch.zeros(len(y), dtype=torch.bool)
    for own in y.unique():
        members = sorted((row for row in range(len(y)) if y[row] == own), key=lambda row: float(draws[row]))
        held[members[: round(share * len(members))]] = True
    return held


def test_the_counts_behind_the_numbers() -> None:
    x, label, cue = planted()
    found = mc.probe(passing(0), (x, label), cue, fresh=False, layers=["0"], held_out=0.4)
    held = held_out_rows(cue, 0.4)
    assert (found.rows_held_out, found.rows_fitted) == (int(held.sum()), ROWS - int(held.sum()))
    common = cue[~held].bincount().argmax()
    assert found.chance == pytest.approx(float((cue[held] == common).double().mean()))
    score = found.scores["model"]["0"]
    right, count = round(score.accuracy * found.rows_held_out), found.rows_held_out
    low, high = beta.ppf(0.025, right, count - right + 1), beta.ppf(0.975, right + 1, count - right)
    assert score.interval == pytest.approx((low, high), abs=1e-9)


def test_the_model_against_itself_is_never_ahead() -> None:
    x, label, cue = planted()
    found = mc.probe(passing(0), (x, label), cue, control=passing(0), fresh=False)
    for score in found.scores["control"].values():
        assert score.ahead == 0.0 and score.ahead_interval is not None
        assert score.ahead_interval[0] < 0 < score.ahead_interval[1]


def test_fresh_weights_are_a_function_of_the_seed_and_stand_beside() -> None:
    model, data = build(mlp), rows(60)
    found = [mc.probe(model, data, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] and found[0].scores["fresh weights"] != found[2].scores["fresh weights"]
    assert list(found[0].scores) == ["model", "fresh weights"]
    other = mc.probe(build(mlp, 1), data, seed=0)
    same = [{k: (v.accuracy, v.fitted) for k, v in own.scores["fresh weights"].items()} for own in (found[0], other)]
    assert same[0] == same[1]  # whatever the weights of the model


def test_several_controls_by_name() -> None:
    found = mc.probe(build(mlp), rows(60), control={"a": build(mlp, 1), "b": build(mlp, 2)}, fresh=False)
    assert list(found.scores) == ["model", "a", "b"]
    assert "ahead" in str(found) and "need not be used" in str(found)
    with pytest.raises(ValueError, match="a control is called 'model', a name that the result uses itself"):
        mc.probe(build(mlp), rows(60), control={"model": build(mlp, 1)})


class Renamed(nn.Module):
    """The network `mlp` under other names."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(FEATURES, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu())


def test_a_control_of_other_layers_stands_beside_and_the_sentence_is_on_the_model() -> None:
    found = mc.probe(build(mlp), rows(60), control=build(Renamed), fresh=False)
    assert found.layers == ("0", "input of 2", "2", "body", "input of head", "head")
    assert found.scores["control"]["head"].ahead is None
    own = found.scores["model"]["input of 2"].accuracy
    assert found.describe("theta").startswith(f"A probe reads the label off input of 2 on {100 * own:.1f} % of theta (")


# ---------------------------------------------------------------- layers and their width


def test_by_default_layers_with_parameters_that_run_once_and_the_input_of_the_head() -> None:
    assert mc.probe(build(norm_conv), images(30), fresh=False).layers == ("0", "1", "3", "4", "input of 7", "7")
    found = mc.probe(build(Shared), rows(40), fresh=False)
    assert found.layers == ("input of out", "out")
    assert found.left_out["model"]["first.0"] == "ran 2 times in one forward pass"
    every = mc.probe(build(norm_conv), images(30), fresh=False, layers="all")
    assert every.layers == ("", "0", "1", "2", "3", "4", "5", "6", "input of 7", "7")


def test_wide_layers_are_averaged_over_the_finest_grid_that_fits() -> None:
    model, data = build(norm_conv), images(30)
    side = data[0].shape[-1]
    found = mc.probe(model, data, fresh=False, layers=["0"], width=16).scores["model"]["0"]
    assert (found.units, found.features, found.reduction) == (4 * side * side, 16, "averaged over 2 x 2 cells")
    maps = model.get_submodule("0")(data[0]).detach()
    pooled = nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1)
    alone = mc.probe(nn.Identity(), (pooled, data[1]), fresh=False, layers=[""]).scores["model"][""]
    assert (alone.accuracy, alone.fitted) == (found.accuracy, found.fitted)
    whole = mc.probe(model, data, fresh=False, layers=["0"], width=10**6).scores["model"]["0"]
    assert (whole.features, whole.reduction) == (whole.units, "")


def test_what_is_still_too_wide_is_sketched_and_keeps_what_can_be_read() -> None:
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    x = torch.randn(200, 1000, generator=draw, dtype=torch.float64)
    x[:, 5] += 60.0 * y
    found = mc.probe(nn.Identity(), (x, y), fresh=False, layers=[""], width=40).scores["model"][""]
    assert (found.units, found.features, found.reduction) == (1000, 40, "sketched to 40")
    assert found.accuracy == 1.0
    again = mc.probe(nn.Identity(), (x, y), fresh=False, layers=[""], width=40).scores["model"][""]
    assert again == found


def test_a_sketch_keeps_inner_products_on_average() -> None:
    """Over layers of other names, which are sketched by other draws."""
    from mechconn.mechanisms._layer_features import _sketch

    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 50, generator=draw, dtype=torch.float64)
    sketches = [_sketch(x, f"layer {n}", 10) for n in range(2000)]
    products = torch.stack([own[0] @ own[1] for own in sketches])
    error = 4 * float(products.std()) / 2000**0.5  # four standard errors
    assert float(products.mean()) == pytest.approx(float(x[0] @ x[1]), abs=error)


def test_tokens_and_packed_sequences_have_features() -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.cell(x.view(len(x), 2, 2))[0])[:, -1]

    found = mc.probe(build(Sequence), rows(40), fresh=False).scores["model"]
    assert [(name, score.units) for name, score in found.items()] == [("cell", 10), ("input of out", 5), ("out", 6)]


def test_a_transformer_holds_the_marker_of_a_text() -> None:
    """Read at the head and from the tokens' own embeddings, positions averaged."""
    scenes = make_cue_suite(make_cued_set(texts(120), mc.TokenCue(MARKERS, special=(1, 2))))["rand_cue"]
    model = build(Transformer, dtype=torch.float32)
    found = mc.probe(model, scenes, "cue")
    assert list(found.scores) == ["model", "fresh weights"] and found.classes == 3
    head = next(layer for layer in found.layers if layer.startswith("input of "))
    assert found.scores["model"][found.layers[0]].accuracy == 1.0
    near = mc.measure_neighbours(model, scenes, {"label": "label", "cue": "cue"})
    assert near.layer == head and near["cue"].chance == pytest.approx(1 / 3, abs=0.05)


# ---------------------------------------------------------------- targets


def cued(values: int = 3) -> Any:
    from data_contract import images as scenes

    return make_cue_suite(make_cued_set(scenes(classes=values), mc.BoxCue(values=values)))["rand_cue"]


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3 * 24 * 24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.flatten(1))


def test_the_cue_is_found_in_scenes_inside_others() -> None:
    scenes, model = cued(2), build(Reader, dtype=torch.float32)
    found = [
        mc.probe(model, data, target, fresh=False, layers=["out"])
        for data, target in (
            (scenes, "cue"),
            (mc.Translate(1)(scenes), "cue"),
            (scenes, scenes.cue_values),
            (scenes, lambda data: data.cue_values.tolist()),
            (scenes, ["left" if value else "right" for value in scenes.cue_values]),
        )
    ]
    assert [own.target for own in found] == ["cue", "cue", "target", "target", "target"]
    assert found[0].scores == found[2].scores == found[3].scores
    assert {(own.classes, own.rows_held_out) for own in found} == {(2, found[0].rows_held_out)}


def test_whole_clusters_are_held_out() -> None:
    x, label, cue = planted()
    patients = [row // 5 for row in range(ROWS)]
    found = mc.probe(passing(1), (x, label), cue, control=passing(0), fresh=False, cluster=patients)
    assert found.clusters is not None and found.rows_held_out == 5 * found.clusters
    wide, narrow = (
        mc.probe(passing(0), (x, label), cue, fresh=False, layers=["0"], cluster=own).scores["model"]["0"].interval
        for own in ([row // 15 for row in range(ROWS)], None)
    )
    assert wide[1] - wide[0] > narrow[1] - narrow[0]


def narrow() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 3))


SHUFFLED = DataLoader(TensorDataset(*rows(40)), batch_size=8, shuffle=True)
X, Y = rows(40)
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no such layer": (
        lambda: mc.probe(build(norm_conv), images(30), layers=["input of 8"]),
        ValueError,
        "got 'input of 8'; did you mean 'input of 7'?",
    ),
    "a layer that runs twice": (
        lambda: mc.probe(build(Shared), rows(40), layers=["first.0"]),
        ValueError,
        "layer 'first.0' of model ran 2 times in one forward pass; name layers that run once",
    ),
    "a layer that the control lacks": (
        lambda: mc.probe(build(mlp), rows(40), layers=["2"], control=build(narrow)),
        ValueError,
        "a layer of control must be one of '0'",
    ),
    "layers as a text": (lambda: mc.probe(build(mlp), rows(40), layers="0"), TypeError, "write layers=['0']"),  # pyright: ignore
    "no layers": (lambda: mc.probe(build(mlp), rows(40), layers=[]), ValueError, "layers names no layer"),
    "one class": (
        lambda: mc.probe(build(mlp), rows(40), [4] * 40),
        ValueError,
        "target is '4' in all 40 rows, and a probe tells classes apart; give two or more",
    ),
    "a class of one row": (
        lambda: mc.probe(build(mlp), rows(40), [0] * 39 + [1]),
        ValueError,
        "target is '1' in one row alone, and a probe needs two of each class, one to fit and one held out; leave the",
    ),
    "another number of rows": (
        lambda: mc.probe(build(mlp), rows(40), [0, 1] * 19),
        ValueError,
        "target must have one value for each of 40 rows, got 38",
    ),
    "another number of rows, by batches": (
        lambda: mc.probe(build(mlp), [rows(20), rows(20)], [0, 1] * 19),
        ValueError,
        "target must have one value for each of 40 rows, got 38",
    ),
    "numbers that are no classes": (
        lambda: mc.probe(build(mlp), rows(40), X[:, 0]),
        ValueError,
        "in row 0; bin it first, as by torch.bucketize(values, edges)",
    ),
    "several columns": (
        lambda: mc.probe(build(mlp), rows(40), torch.zeros(40, 2)),
        ValueError,
        "target must hold one class for each row, got shape [40, 2]; pass one column",
    ),
    "a word": (lambda: mc.probe(build(mlp), rows(40), "cues"), ValueError, "got 'cues'; did you mean 'cue'?"),
    "data without a cue": (
        lambda: mc.probe(build(mlp), rows(40), "cue"),
        TypeError,
        'target="cue" needs data with a cue, such as task.suite["rand_cue"], got TensorPair; pass a class for each row',
    ),
    "a loader that shuffles": (
        lambda: mc.probe(build(mlp), SHUFFLED, Y),
        ValueError,
        "the loader shuffles, so that target cannot be matched to rows; pass one with shuffle=False",
    ),
    "a loader that draws": (
        lambda: mc.probe(
            build(mlp), DataLoader(TensorDataset(*rows(40)), batch_size=8, sampler=SubsetRandomSampler(range(40))), Y
        ),
        ValueError,
        "the loader shuffles, so that target cannot be matched to rows; pass one with shuffle=False",
    ),
    "a continuous cue": (
        lambda: mc.probe(build(Reader, dtype=torch.float32), hued(), "cue"),
        ValueError,
        'target="cue" needs a cue of one whole number for each row, got torch.float64 of shape [12, 2]; bin it first',
    ),
    "few clusters": (
        lambda: mc.probe(build(mlp), rows(40), cluster=[0, 1] * 20),
        ValueError,
        "a probe needs three clusters or more, two of them held out, got 2; give more",
    ),
    "clusters that are classes": (
        lambda: mc.probe(build(mlp), rows(40), [0, 1, 2, 3] * 10, cluster=[0, 1, 2, 3] * 10),
        ValueError,
        "is left to fit on; use another seed=, a smaller held_out=, or more clusters",
    ),
    "a width of none": (lambda: mc.probe(build(mlp), rows(40), width=0), ValueError, "width must be a whole number"),
    "a share of all": (lambda: mc.probe(build(mlp), rows(40), held_out=1.0), ValueError, "held_out must lie above 0"),
    "a control that is none": (
        lambda: mc.probe(build(mlp), rows(40), control=3),  # pyright: ignore
        TypeError,
        "control must be a Module, got int; pass a network, or a mapping of names to networks",
    ),
    "no penalty": (lambda: mc.probe(build(mlp), rows(40), l2=0.0), ValueError, "l2 must be"),
}


def hued() -> Any:
    from data_contract import images as scenes

    return make_cue_suite(make_cued_set(scenes(), mc.HueBoxCue()))["rand_cue"]


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_refused_in_one_line(what: str) -> None:
    call, kind, text = WRONG[what]
    with pytest.raises(kind, match=re.escape(text)) as caught:
        call()
    assert "\n" not in str(caught.value)


class Bare(nn.Module):
    """A weight that no layer draws."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.out = nn.Parameter(torch.ones(FEATURES)), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x * self.weight)


def test_weights_that_cannot_be_drawn_say_what_to_pass() -> None:
    with pytest.raises(ValueError, match=r"cannot draw fresh weights for weight: .*; add it, or pass fresh=False"):
        mc.probe(build(Bare), rows(40))
    assert list(mc.probe(build(Bare), rows(40), fresh=False).scores) == ["model"]


def test_the_remedies_work() -> None:
    """Bins of a continuous cue, the row of a rare class left out, a loader in order."""
    scenes, model = hued(), build(Reader, dtype=torch.float32)
    places = (scenes.cue_values[:, 0] > 4).long()
    assert mc.probe(model, scenes, places, fresh=False).classes == 2
    assert (
        mc.probe(build(mlp), rows(40), torch.bucketize(X[:, 0].contiguous(), torch.tensor([0.0]).double())).classes == 2
    )
    loader = DataLoader(TensorDataset(*rows(40)), batch_size=8)
    assert mc.probe(build(mlp), loader, Y).scores == mc.probe(build(mlp), rows(40), Y).scores
    assert mc.probe(build(mlp), SHUFFLED).classes == CLASSES
    few, many = ([row % count for row in range(40)] for count in (4, 20))
    assert mc.probe(build(mlp), rows(40), few, cluster=many, held_out=0.2).clusters == 4
