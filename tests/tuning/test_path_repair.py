"""Path repair: its parts one by one, the choice of t, and statistics at the point that is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import mechconn as mc
from mechconn.core import make_generator
from mechconn.tuning._path_repair import choose_middle
from stopping import Counting, StoppedError
from zoo import build, mlp, norm_mlp, rows, split

DATA = rows(40)
TUNE = mc.NaiveFineTuning(epochs=2, batch_size=8, lr=0.2)
FIT = mc.BezierFit(epochs=2, batch_size=8, lr=0.2)


def parts(model: Any, data: Any, seed: int, fit: Any = FIT) -> mc.BezierPath:
    """The same by the public verbs: the copy, and the curve to it."""
    copy = mc.fine_tune(model, TUNE, clean=data, seed=seed).model
    path: Any = mc.fit_path(model, model, copy, fit, data, seed=seed).path
    return path


@pytest.mark.parametrize("variant", ["default", "authors"])
@pytest.mark.parametrize("factory", [mlp, norm_mlp])
def test_it_is_fine_tuning_a_fitted_curve_and_a_point_on_it(factory: Any, variant: Any) -> None:
    """Batches in their order, so that both ways of it read them alike."""
    model, data, fit = build(factory), split(DATA, [8] * 5), mc.BezierFit(epochs=2, lr=0.2, variant=variant)
    tuned = mc.fine_tune(model, mc.PathRepair(at=0.3, fit=fit, tune=TUNE), clean=data, seed=3)
    path = parts(model, data, 3, fit)
    expected = mc.model_at(model, path, 0.3, norm=mc.Reestimate(data, seed=3) if factory is norm_mlp else None)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(tuned.model.state_dict()[name], tensor, rtol=1e-12, atol=1e-14)
    assert tuned.settings["at"] == 0.3
    assert [sorted(set(record) - {"epoch", "lr"}) for record in tuned.history] == [["clean"]] * 2 + [["path"]] * 2


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_the_ends_are_the_start_and_its_copy(t: float) -> None:
    model = build(mlp)
    tuned = mc.fine_tune(model, mc.PathRepair(at=t, fit=FIT, tune=TUNE), clean=DATA).model
    expected = model if t == 0.0 else mc.fine_tune(model, TUNE, clean=DATA).model
    assert all(torch.equal(a, b) for a, b in zip(tuned.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize("given", [True, False])
def test_t_is_the_nearest_to_the_middle_within_one_standard_error(given: bool) -> None:
    """On the validation rows that are given, else on a fifth of the clean rows, on which nothing is trained."""
    model, held = build(norm_mlp), rows(30, 9)
    method = mc.PathRepair(fit=FIT, tune=TUNE)
    if given:
        tuned = mc.fine_tune(model, method, clean=DATA, validation=held, seed=3)
        copy = mc.fine_tune(model, TUNE, clean=DATA, validation=held, seed=3).model
        train = DATA
    else:
        order = torch.randperm(40, generator=make_generator(3, "held out"))
        kept, out = order[8:].sort().values, order[:8].sort().values
        train, held = (DATA[0][kept], DATA[1][kept]), (DATA[0][out], DATA[1][out])
        tuned = mc.fine_tune(model, method, clean=DATA, seed=3)
        copy = mc.fine_tune(model, TUNE, clean=train, seed=3).model
    path: Any = mc.fit_path(model, model, copy, FIT, train, seed=3).path
    losses = {}
    for number in range(1, 10):
        point = mc.model_at(model, path, number / 10, norm=mc.Reestimate(train, seed=3))
        with torch.no_grad():
            losses[number / 10] = cross_entropy(point(held[0]), held[1], reduction="none")
    best = min(losses, key=lambda t: float(losses[t].mean()))
    limit = float(losses[best].mean()) + float(losses[best].std()) / len(held[1]) ** 0.5
    near = [t for t, values in losses.items() if float(values.mean()) <= limit]
    assert tuned.settings["at"] == min(near, key=lambda t: (round(abs(t - 0.5), 9), float(losses[t].mean())))


def test_of_two_equally_near_the_one_of_less_loss() -> None:
    grid = [0.2, 0.4, 0.6, 0.8]
    assert choose_middle(grid, [0.1, 0.3, 0.2, 0.9], 0.3) == 0.6
    assert choose_middle(grid, [0.1, 0.3, 0.2, 0.9], 0.1) == 0.2
    assert choose_middle(grid, [0.1, 0.2, 0.3, 0.9], 0.3) == 0.4


def test_batches_of_which_no_rows_can_be_held_out_are_noted() -> None:
    (note,) = mc.fine_tune(build(mlp), mc.PathRepair(fit=FIT, tune=TUNE), clean=split(DATA, [20, 20])).notes
    assert note.startswith("PathRepair chose t by the clean rows that its curve was fitted on")
    for changed in ({"clean": DATA}, {"clean": split(DATA, [20, 20]), "validation": rows(20, 5)}):
        assert mc.fine_tune(build(mlp), mc.PathRepair(fit=FIT, tune=TUNE), **changed).notes == ()  # pyright: ignore


def test_one_row_is_not_held_out() -> None:
    one = DATA[0][:1], DATA[1][:1].double()
    found = mc.fine_tune(
        build(mlp), mc.PathRepair(fit=FIT, tune=TUNE), clean=one, loss=lambda outputs, y: (outputs[:, 0] - y).square()
    )
    assert "of one row, none can be held out" in found.notes[0] and 0.0 < found.settings["at"] < 1.0


def test_a_copy_that_did_not_move_is_noted() -> None:
    method = mc.PathRepair(at=0.5, fit=FIT, tune=mc.NaiveFineTuning(epochs=1, lr=1e-30))
    (note,) = mc.fine_tune(build(mlp), method, clean=DATA).notes
    assert note.startswith("PathRepair's fine-tuned copy has the bits of the start") and "now 1e-30" in note


def test_frozen_weights_stay() -> None:
    model = build(mlp)
    model.get_submodule("0").requires_grad_(False)
    tuned = mc.fine_tune(model, mc.PathRepair(at=0.5, fit=FIT, tune=TUNE), clean=DATA).model
    assert torch.equal(tuned.get_parameter("0.weight"), model.get_parameter("0.weight"))
    assert not torch.equal(tuned.get_parameter("2.weight"), model.get_parameter("2.weight"))


def test_a_run_that_was_stopped_within_the_fit_chooses_the_same_t(tmp_path: Path) -> None:
    method, place = mc.PathRepair(fit=FIT, tune=TUNE), mc.Checkpoint(tmp_path / "run.safetensors", every=1)
    # Four batches of 32 rows in each of two epochs of fine-tuning; the eleventh is of the fit.
    with pytest.raises(StoppedError):
        mc.fine_tune(build(norm_mlp), method, clean=DATA, loss=Counting(11), checkpoint=place)
    resumed = mc.fine_tune(build(norm_mlp), method, clean=DATA, checkpoint=place)
    whole = mc.fine_tune(build(norm_mlp), method, clean=DATA)
    assert resumed.settings["at"] == whole.settings["at"] and resumed.history == whole.history
    assert all(torch.equal(t, whole.model.state_dict()[name]) for name, t in resumed.model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"at": 1.5}, r"at must lie in \[0, 1\], got 1.5"),
        ({"held_out": 1.0}, "held_out must"),
        ({"fit": mc.PolygonalFit()}, "fit must be a BezierFit"),
        ({"tune": mc.CBFT()}, "tune must be a NaiveFineTuning"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        mc.PathRepair(**settings)


def test_a_budget_is_shared_by_tuning_and_fit() -> None:
    method: Any = mc.PathRepair(fit=mc.BezierFit(epochs=30), tune=mc.NaiveFineTuning(epochs=10)).with_epochs(8)
    assert (method.tune.epochs, method.fit.epochs) == (2, 6) and method.passes(1) == 1
