"""Pictures of results: what is drawn is what was measured."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from torch import nn

import mechconn as mc

NAN = math.nan


def profile(values: tuple[float, ...] = (1.0, 2.0, 1.5), **changes: object) -> mc.Profile:
    fields = {
        "ts": (0.0, 0.5, 1.0), "loss": {"cue": values, "hue": (0.0, 0.5, 1.0)}, "accuracy": {"cue": (0.5, 0.25, 1.0)},
        "samples": {"cue": 4, "hue": 4}, "reference": "cue", "interventions": ("hue",), "settings": {},
    }  # fmt: skip
    return mc.Profile(**{**fields, **changes})  # pyright: ignore[reportArgumentType]


def test_a_profile_draws_every_measure() -> None:
    figure: Any = profile(metrics={"margin": {"cue": (1.0, 1.0, 2.0), "hue": (0.0, 0.0, 0.0)}}).plot()
    assert isinstance(figure, Figure)
    assert [axes.get_ylabel() for axes in figure.axes] == ["accuracy (%)", "loss", "margin"]
    curves = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in figure.axes[1].lines}
    assert curves == {"cue": [1.0, 2.0, 1.5], "hue": [0.0, 0.5, 1.0]}
    assert np.asarray(figure.axes[0].lines[0].get_ydata()).tolist() == [50.0, 25.0, 100.0]
    assert figure.axes[0].get_xlabel() == "t, from A (0) to B (1)"


def test_a_task_without_accuracy_has_no_panel_of_it() -> None:
    assert [axes.get_ylabel() for axes in profile(accuracy={}).plot().axes] == ["loss"]


@pytest.mark.parametrize("value", [NAN, math.inf])
def test_what_is_not_finite_is_a_gap_and_is_named(value: float) -> None:
    figure: Any = profile((1.0, value, 1.5)).plot()
    assert math.isnan(figure.axes[1].lines[0].get_ydata()[1])
    assert f"cue: {value} at t = 0.5" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_blocks_draw_their_barriers() -> None:
    profiles = {"stem": profile(), "head": profile((1.0, NAN, 1.0))}
    result = mc.BlockProfiles(profiles, {"stem": ("s",), "head": ("h",)}, "b", ())
    axes: Any = result.plot().axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["stem", "head"]
    assert axes.get_xlabel() == "block that moves, the rest at B"
    heights = {c.get_label(): np.asarray(c.lines[0].get_ydata()).tolist() for c in axes.containers}
    assert heights == {"cue": [0.75], "hue": [0.0, 0.0]}  # no mark where there is no barrier
    with pytest.raises(ValueError, match="on must be one of 'loss', 'accuracy', got 'los'"):
        result.plot("los")


def plane(**changes: object) -> mc.Plane:
    spot = {name: mc.PlanePoint(x, y, {"cue": 1.0}, {}) for name, x, y in (("a", 0, 0), ("b", 1, 0), ("c", 0.5, 2))}
    fields = {
        "x": (0.0, 1.0), "y": (0.0, 2.0), "loss": {"cue": ((1.0, 2.0), (NAN, 4.0)), "hue": ((0.0, 0.0), (0.0, 0.0))},
        "accuracy": {}, "models": spot, "samples": {"cue": 4, "hue": 4}, "settings": {},
    }  # fmt: skip
    return mc.Plane(**{**fields, **changes})  # pyright: ignore[reportArgumentType]


def test_a_plane_draws_a_panel_a_split_with_the_models_marked() -> None:
    figure: Any = plane().plot()
    cue, hue = figure.axes[:2]
    assert [axes.get_title() for axes in (cue, hue)] == ["cue", "hue"]
    mesh = cue.collections[0].get_array()
    assert np.ma.getmaskarray(mesh).tolist() == [[False, False], [True, False]]
    assert mesh.compressed().tolist() == [1.0, 2.0, 4.0]
    assert [text.get_text() for text in cue.texts] == [r"$\theta_{A}$", r"$\theta_{B}$", r"$\theta_{C}$"]
    assert [tuple(map(float, (*line.get_xdata(), *line.get_ydata()))) for line in hue.lines] == [
        (0, 0),
        (1, 0),
        (0.5, 2),
    ]


def test_a_plane_draws_accuracy_in_percent() -> None:
    figure: Any = plane(accuracy={"cue": ((0.5, 0.25), (NAN, 1.0))}).plot("accuracy")
    assert figure.axes[0].collections[0].get_array().compressed().tolist() == [50.0, 25.0, 100.0]
    assert figure.axes[-1].get_ylabel() == "accuracy (%)"
    assert plane().plot().axes[-1].get_ylabel() == "loss"


def test_many_splits_without_a_name_of_ours_are_told_apart() -> None:
    splits = {f"split {i}": (0.0, 0.5, 1.0) for i in range(20)}
    axes: Any = profile(loss=splits, accuracy={}, samples=dict.fromkeys(splits, 4)).plot().axes[0]
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 20


def test_a_plane_of_what_was_not_measured() -> None:
    with pytest.raises(ValueError, match=r"^split 'cue' has no accuracy"):
        plane().plot("accuracy")
    drawn = plane(loss={"cue": ((NAN, NAN), (NAN, NAN))}).plot()
    assert len(drawn.axes) == 2


def trained(*records: dict[str, float]) -> mc.Trained:
    return mc.Trained(records, {"method": "LPFT"}, 0.0, model=nn.Identity())


def test_a_training_draws_every_term_and_where_its_parts_meet() -> None:
    records = [
        {"epoch": 0, "lr": 1.0, "head": 3.0},
        {"epoch": 1, "lr": 0.5, "head": 2.0},
        {"epoch": 0, "lr": 0.1, "clean": 1.0, "validation": 4.0},
    ]
    panels: list[Any] = trained(*records).plot().axes
    (axes,) = panels
    lines = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert {name: [*map(float, line.get_ydata())] for name, line in lines.items()} == {
        "head": [3.0, 2.0], "clean": [1.0], "validation": [4.0],
    }  # fmt: skip
    assert [*map(float, lines["clean"].get_xdata())] == [3.0]
    (between,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert [*map(float, between.get_xdata())] == [2.5, 2.5]
    assert axes.get_title(loc="left") == "LPFT"


def test_a_method_without_epochs_has_no_picture() -> None:
    with pytest.raises(ValueError, match="LPFT has no epochs, so there is no history to draw"):
        trained().plot()
