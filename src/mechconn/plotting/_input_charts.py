"""Pictures of paths between inputs: values of all pairs in order, and the losses along one pair's paths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mechconn.plotting._charts import choose_line_style, make_panels, place_legend, strip_axes
from mechconn.plotting._labels import escape_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_sorted(
    curves: Mapping[str, Sequence[float]], label: str, threshold: float | None = None, ax: Axes | None = None
) -> Figure:
    """Values in order against the share of values that do not exceed them, a curve for each name.

    Args:
        curves: name -> values; what is not finite is left out of the picture.
        label: of the vertical axis.
        threshold: a dotted line.
        ax: the panel; default: a new figure.
    """
    figure, (axes,) = make_panels(1, (7.0, 3.8), ax)
    for number, (name, values) in enumerate(curves.items()):
        finite = sorted(value for value in values if math.isfinite(value))
        shares = [100 * (place + 1) / len(values) for place in range(len(finite))]
        axes.plot(shares, finite, **choose_line_style(name, number))
    if threshold is not None:
        axes.axhline(threshold, linestyle=":", color="gray", label=f"{threshold:.3g}")
    axes.set_xlabel("share of pairs that are at most as high (%)")
    axes.set_ylabel(escape_label(label))
    strip_axes(axes)
    place_legend(figure, axes, ax is None)
    return figure


def draw_paths(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], label: str, ax: Axes | None = None
) -> Figure:
    """Values along several paths by the share of each one's length: name -> (places, values)."""
    figure, (axes,) = make_panels(1, (7.0, 3.8), ax)
    for number, (name, (places, values)) in enumerate(curves.items()):
        axes.plot(places, values, **{**choose_line_style(name, number), "marker": ""})
    axes.set_xlabel("share of the path's length")
    axes.set_ylabel(escape_label(label))
    strip_axes(axes)
    place_legend(figure, axes, ax is None)
    return figure
