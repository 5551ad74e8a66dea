"""Pro2: orthonormal directions, each logistic regression in the complement of those before, and a head on them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

import mechconn as mc
from zoo import build, rows

FEATURES = 6


def data(count: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows whose labels no linear map gives without mistakes."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=draw, dtype=torch.float64)
    noise = torch.randn(count, classes, generator=draw, dtype=torch.float64)
    return x, (x @ torch.arange(4 * classes).view(4, classes).double().sin() + 0.5 * noise).argmax(1)


def network(outputs: int) -> nn.Sequential:
    found = build(lambda: nn.Sequential(nn.Linear(4, FEATURES), nn.Tanh(), nn.Linear(FEATURES, outputs)))
    assert isinstance(found, nn.Sequential)
    return found


def body(model: nn.Sequential, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return model[:-1](x).numpy()


@pytest.mark.parametrize("classes", [2, 4])
def test_directions_are_orthonormal_and_the_head_reads_nothing_else(classes: int) -> None:
    model = network(classes)
    tuned = mc.fine_tune(model, mc.Pro2(dims=3), clean=data(40, classes, 1), cued=data(200, classes, 2))
    saved = json.loads(json.dumps(tuned.to_dict()))["settings"]["directions"]
    directions = np.array(saved)
    assert directions.shape == (3, FEATURES) and saved == tuned.settings["directions"]
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-12)
    head = tuned.model.get_parameter("2.weight").detach().numpy()
    np.testing.assert_allclose(head @ directions.T @ directions, head, atol=1e-12)
    assert all(torch.equal(tuned.model.get_parameter(k), v) for k, v in model.named_parameters() if k[0] == "0")


def test_each_direction_is_logistic_regression_in_the_complement_of_those_before() -> None:
    """By another way: in coordinates of the complement, a basis of the null space of the directions before."""
    model, (x, y) = network(2), data(300, 2, 2)
    tuned = mc.fine_tune(model, mc.Pro2(dims=3, source_strength=0.5), clean=data(40, 2, 1), cued=(x, y))
    z = body(model, x)
    z = (z - z.mean(0)) / np.sqrt(((z - z.mean(0)) ** 2).mean())
    found = np.array(tuned.settings["directions"])
    for number in range(3):
        basis = np.linalg.svd(found[:number], full_matrices=True)[2][number:] if number else np.eye(FEATURES)
        fit = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(z @ basis.T, y.numpy())
        slope = fit.coef_[0] @ basis
        np.testing.assert_allclose(found[number], slope / np.linalg.norm(slope), atol=1e-4)  # both solvers' tolerance


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_all_directions_and_no_penalty_are_logistic_regression_on_the_features(outputs: int) -> None:
    classes = max(outputs, 2)
    model, (x, y) = network(outputs), data(150, classes, 1)
    loss: Any = mc.losses.binary if outputs == 1 else mc.losses.cross_entropy
    tuned = mc.fine_tune(
        model, mc.Pro2(dims=FEATURES, strength=1e6), clean=(x, y), cued=data(200, classes, 2), loss=loss
    )
    exact = LogisticRegression(C=np.inf, max_iter=10_000, tol=1e-10).fit(body(model, x), y.numpy())
    with torch.no_grad():
        z = tuned.model(x)
        found = torch.cat([torch.zeros_like(z), z], 1).softmax(1) if outputs == 1 else z.softmax(1)
    np.testing.assert_allclose(found.numpy(), exact.predict_proba(body(model, x)), atol=2e-3)  # the solvers' tolerance


def test_few_directions_of_the_source_beat_all_features_where_clean_rows_are_few() -> None:
    """200 features, of which three predict the label; twelve clean rows. The claim of its authors, at small scale."""
    draw = torch.Generator().manual_seed(0)

    def made(count: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(count) % 2
        x = torch.randn(count, 200, generator=draw, dtype=torch.float64)
        x[:, :3] += 1.5 * (2 * y[:, None] - 1)
        return x, y

    cued, clean, (x, y) = made(1000), made(12), made(1000)
    start = build(lambda: nn.Sequential(nn.Identity(), nn.Linear(200, 2)))
    tuned = {dims: mc.fine_tune(start, mc.Pro2(dims=dims), clean=clean, cued=cued) for dims in (1, 40)}
    found = {dims: float(own.model(x).argmax(1).eq(y).double().mean()) for dims, own in tuned.items()}
    assert found[1] > 0.97 and found[40] < 0.93
    (note,) = tuned[40].notes
    named = int(note.split("set dims= to ")[1].split()[0])
    assert 1 < named < 40 and note.startswith(f"Pro2 found {named} directions that predict the label")
    directions = np.array(tuned[40].settings["directions"])
    np.testing.assert_allclose(directions @ directions.T, np.eye(40), atol=1e-6)
    assert not mc.fine_tune(start, mc.Pro2(dims=named), clean=clean, cued=cued).notes


def test_a_class_that_nothing_predicts_is_passed_over() -> None:
    """The features tell class 1 from class 2; of class 0 they know as much as of the others, its mean is theirs."""
    y = torch.arange(300) % 3
    x = torch.randn(300, FEATURES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x -= torch.stack([x[y == label].mean(0) for label in range(3)])[y]
    x[:, 2] += 2.0 * ((y == 1).double() - (y == 2).double())
    start = build(lambda: nn.Sequential(nn.Identity(), nn.Linear(FEATURES, 3)))
    tuned = mc.fine_tune(start, mc.Pro2(dims=1), clean=(x[:30], y[:30]), cued=(x, y))
    assert abs(tuned.settings["directions"][0][2]) > 0.95 and not tuned.notes
    x[:, 2] -= 2.0 * ((y == 1).double() - (y == 2).double())
    (note,) = mc.fine_tune(start, mc.Pro2(dims=1), clean=(x[:30], y[:30]), cued=(x, y)).notes
    assert note.startswith("Pro2 found no direction that predicts the label of the cued data")


def test_it_needs_data_with_the_cue_of_two_classes_and_clean_rows_of_all() -> None:
    x, y = data(40, 3, 0)
    with pytest.raises(ValueError, match="Pro2 finds directions of the features, and those of the cued data are all"):
        mc.fine_tune(network(3), mc.Pro2(dims=1), clean=(x, y), cued=(0.1 + 0 * x, y))
    with pytest.raises(ValueError, match="Pro2 needs data with the cue: pass cued="):
        mc.fine_tune(network(3), mc.Pro2(), clean=(x, y))
    with pytest.raises(ValueError, match="Pro2 needs cued data of two classes or more, got class 1 alone"):
        mc.fine_tune(network(3), mc.Pro2(), clean=(x, y), cued=(x[y == 1], y[y == 1]))
    with pytest.raises(ValueError, match="Pro2 fits a classifier of 3 classes to the clean data, which lack 2"):
        mc.fine_tune(network(3), mc.Pro2(), clean=(x[y != 2], y[y != 2]), cued=(x, y))
    with pytest.raises(ValueError, match="dims must be a whole number greater than zero"):
        mc.Pro2(dims=0)


def test_a_comparison_gives_it_the_data_that_all_get() -> None:
    suite = mc.Suite({"cue": rows(20, 3), "hue": rows(20, 4)})
    task = mc.TuningTask(network(3), rows(24), suite, cued=rows(30, 5))
    run = mc.compare_methods(task, {"Pro2": mc.Pro2(dims=2)}, passes=7).runs[1]
    assert run.settings["samples"] == 24 and np.array(run.settings["directions"]).shape == (2, FEATURES)
