"""The result of fitting a path: what it prints and draws, and what of it a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mechconn as mc
from zoo import build, mlp, rows

A, B = (mc.parameters_of(build(mlp, seed)) for seed in (0, 1))


def fitted() -> mc.FittedPath:
    method = mc.BezierFit(bends=1, epochs=3, batch_size=8)
    return mc.fit_path(build(mlp), A, B, method, rows(24), label="cued", seed=2)


def test_print_says_what_was_fitted_and_how_the_loss_fell() -> None:
    found = fitted()
    first, term = str(found).splitlines()
    assert first.startswith("BezierFit: 3 epochs, 24 samples of 'cued', seed 2, float64 on cpu, ")
    values = [record["path"] for record in found.history]
    assert term == f"  path: {values[0]:.4g} in the first epoch, {values[2]:.4g} in the last"
    assert repr(found) == f"FittedPath: {found}"
    assert found.rows() == [dict(record) for record in found.history]


def test_a_saved_fit_comes_back_without_its_path(tmp_path: Path) -> None:
    found = fitted()
    found.save(tmp_path / "fit.json")
    again = mc.load_result(tmp_path / "fit.json")
    assert isinstance(again, mc.FittedPath) and again.to_dict() == found.to_dict() and str(again) == str(found)
    assert again.to_dict()["kind"] == "fitted_path" and "path" not in again.to_dict()
    text = r"this FittedPath was read from a file, and files hold no path; fit it again, or save its control points"
    with pytest.raises(AttributeError, match=text):
        _ = again.path


def test_control_points_saved_beside_it_come_back(tmp_path: Path) -> None:
    """The advice of the error above."""
    found = fitted()
    save_file(found.path.points[1], tmp_path / "bend.safetensors")
    path = mc.BezierPath(A, B, [load_file(tmp_path / "bend.safetensors")])
    for one in (path, fitted().path):
        assert all(torch.equal(tensor, found.path.at(0.3)[name]) for name, tensor in one.at(0.3).items())


def test_a_notebook_shows_the_history() -> None:
    found = fitted()
    assert found.tables()[0].rows[0][0] == "path" and found.header().title == str(found).splitlines()[0]
    (axes,) = found.plot().axes
    (line,) = axes.lines
    drawn: Any = line.get_ydata()
    assert [*map(float, drawn)] == [record["path"] for record in found.history]
    assert axes.get_title(loc="left") == "BezierFit"
    assert "<svg" in found._repr_html_()
